//! Any text is compiled or refused, and what it becomes runs.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use nv_seclang::{File, Peers, RuleSet, Settings, Transaction};

fuzz_target!(|text: &[u8]| {
    let files = [File { name: "fuzz.conf", text }, File { name: "fuzz.data", text: b"alpha\nbeta\n" }];
    let settings = Settings { steps: 100_000, ..Settings::default() };
    let Ok((rules, _)) = RuleSet::compile(&files, settings) else { return };
    let mut transaction =
        Transaction::new(Arc::new(rules), Peers { client: "192.0.2.1", ..Peers::default() });
    transaction.request_line(b"POST", b"/a%20b/c.php?x=1&y=%3Cscript%3E", b"HTTP/1.1");
    transaction.request_header(b"Host", b"shop.example");
    transaction.request_header(b"Cookie", b"a=b; c=d");
    transaction.request_header(b"Content-Type", b"application/x-www-form-urlencoded");
    transaction.request_headers_end();
    transaction.request_body(b"z=' or 1=1 --");
    transaction.request_end();
    transaction.response_line(b"HTTP/1.1", 200);
    transaction.response_header(b"Content-Type", b"text/html");
    transaction.response_headers_end();
    transaction.response_body(b"<html>error at line 1</html>");
    transaction.response_end();
    transaction.finish();
});
