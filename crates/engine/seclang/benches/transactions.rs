//! WAF rules on one core, as ratios of CPU time in one run: `cargo bench -p nv-seclang`.
//!
//! 430 rules made here, of the kinds that the Core Rule Set has and in its proportions (four of five patterns have a
//! literal), on plain requests and on answers of 64 KiB; against each pattern run on each value. With `NV_RULES=<folder of a rule set>` also that set, at paranoia levels 1 and 4. Both ways must find
//! the same, or the figures mean nothing.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench prints, and stops when its data is wrong"
)]

use std::hint::black_box;
use std::sync::Arc;

use nv_seclang::{File, Pattern, Peers, RuleSet, Settings, Transaction};

/// Rounds of each measurement; the best counts, because other work on the machine only ever adds.
const ROUNDS: usize = 5;
const RULES: usize = 430;
const PLAIN: &[(&str, &str)] = &[
    ("Host", "shop.example.com"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Referer", "https://shop.example.com/items"),
    ("Cookie", "session=7f3c1b2a9d8e4f60; theme=dark; lang=en"),
];
const ARGUMENTS: &[(&str, &str)] =
    &[("category", "books"), ("page", "3"), ("sort", "price_asc"), ("q", "rust programming for everyone")];

/// A word of its own for each number.
fn word(number: usize) -> String {
    const PARTS: [&str; 16] = [
        "ka", "ro", "mi", "ste", "lo", "vun", "der", "pa", "xi", "gor", "tel", "ban", "qui", "fra", "zo",
        "hem",
    ];
    [number / 256, number / 16, number].map(|at| PARTS[at % 16]).concat()
}

/// Patterns of many kinds; the fifth of each five has no literal.
fn patterns() -> Vec<String> {
    let kinds: [fn(usize) -> String; 5] = [
        |at| format!("(?i)\\b{}[\\s\\x0b]*\\(", word(at)),
        |at| format!("(?i)(?:{}|{})[^a-z0-9]+{}", word(at), word(at + 500), word(at + 900)),
        |at| format!("<{}[^>]{{0,40}}on[a-z]+=", word(at)),
        |at| format!("\\.\\./(?:{}|{})(?:\\.php)?$", word(at), word(at + 700)),
        |at| format!("^[0-9]{{{}}}[^a-z0-9]+[a-z]{{3}}$", 4 + at % 9),
    ];
    (0..RULES).map(|at| kinds[at % 5](at)).collect()
}

fn rules(patterns: &[String]) -> RuleSet {
    let chains =
        ["", "t:lowercase", "t:urlDecodeUni,t:lowercase", "t:urlDecodeUni,t:htmlEntityDecode,t:jsDecode"];
    let text: String = patterns
        .iter()
        .enumerate()
        .map(|(at, pattern)| {
            let (phase, targets) = if of_answers(at) {
                (4, "RESPONSE_BODY")
            } else {
                (2, "ARGS|ARGS_NAMES|REQUEST_HEADERS|REQUEST_COOKIES")
            };
            let chain = if phase == 4 { "" } else { chains[at % chains.len()] };
            format!("SecRule {targets} \"@rx {pattern}\" \"id:{},phase:{phase},t:none,{chain}\"\n", at + 1)
        })
        .collect();
    let (set, refused) =
        RuleSet::compile(&[File { name: "made.conf", text: text.as_bytes() }], Settings::default()).unwrap();
    assert_eq!(refused, []);
    set
}

/// CPU time of this thread, in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Memory of this process that is resident, in KiB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The best CPU time of a run, and what it found.
fn best(runs: usize, mut run: impl FnMut() -> usize) -> (f64, usize) {
    let mut found = run();
    let times = (0..ROUNDS).map(|_| {
        let begun = cpu();
        for _ in 0..runs {
            found = run();
        }
        (cpu() - begun) / f64::from(u32::try_from(runs).unwrap())
    });
    (times.fold(f64::MAX, f64::min), found)
}

fn transaction(set: &Arc<RuleSet>, level: Option<&str>, answer: &[u8]) -> usize {
    let mut transaction =
        Transaction::new(Arc::clone(set), Peers { client: "192.0.2.1", ..Peers::default() });
    if let Some(level) = level {
        transaction.set("blocking_paranoia_level", level);
    }
    let query: Vec<String> =
        ARGUMENTS.iter().map(|(name, value)| format!("{name}={}", value.replace(' ', "+"))).collect();
    transaction.request_line(b"GET", format!("/items?{}", query.join("&")).as_bytes(), b"HTTP/1.1");
    for (name, value) in PLAIN {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    transaction.request_headers_end();
    transaction.request_end();
    transaction.response_line(b"HTTP/1.1", 200);
    transaction.response_header(b"Content-Type", b"text/html");
    transaction.response_headers_end();
    answer.chunks(1460).for_each(|piece| transaction.response_body(piece));
    transaction.response_end();
    transaction.finish();
    assert!(!transaction.is_exhausted());
    transaction.matches().len()
}

/// Whether a rule looks at answers: those without a literal look at small fields only, as in the Core Rule Set.
fn of_answers(at: usize) -> bool {
    at.is_multiple_of(3) && at % 5 != 4
}

/// The same rules without anything shared: each pattern on each value that its rule looks at, transformations left out.
fn each_alone(patterns: &[Pattern], answer: &[u8]) -> usize {
    let values: Vec<&str> = ARGUMENTS
        .iter()
        .flat_map(|(name, value)| [*name, *value])
        .chain(PLAIN.iter().map(|(_, value)| *value))
        .chain(["7f3c1b2a9d8e4f60", "dark", "en"])
        .collect();
    let finds = |at: usize, pattern: &Pattern| {
        if of_answers(at) {
            pattern.is_match(answer)
        } else {
            values.iter().any(|value| pattern.is_match(value.as_bytes()))
        }
    };
    patterns.iter().enumerate().filter(|(at, pattern)| finds(*at, pattern)).count()
}

fn main() {
    let texts = patterns();
    let compiled: Vec<Pattern> =
        texts.iter().map(|text| Pattern::compile(text.as_bytes()).unwrap()).collect();
    let begun = cpu();
    let set = Arc::new(rules(&texts));
    let (with, all) = set.prefiltered();
    println!("{RULES} rules compiled in {:.0} ms, {with} of {all} found by literals", (cpu() - begun) * 1e3);
    let page = "<p class=\"text\">An item that many people like, and what they say of it: five stars (of five).</p>\n";
    let answer = page.repeat(65_536 / page.len());
    for (name, answer, runs) in
        [("plain request", &b"ok"[..], 200), ("answer of 64 KiB", answer.as_bytes(), 20)]
    {
        let (ours, found) = best(runs, || transaction(&set, None, black_box(answer)));
        let (alone, found_alone) = best(runs, || each_alone(&compiled, black_box(answer)));
        assert_eq!(found, found_alone, "{name}: both ways find the same");
        let speed = f64::from(u32::try_from(answer.len()).unwrap()) / ours / 1e6;
        println!(
            "{name}: {:.0} us, {:.1}x faster than each pattern alone, {speed:.0} MB/s of the answer",
            ours * 1e6,
            alone / ours
        );
    }
    if let Some(folder) = std::env::var_os("NV_RULES") {
        user_rules(std::path::Path::new(&folder), answer.as_bytes());
    }
}

/// A rule set of the user's.
fn user_rules(folder: &std::path::Path, answer: &[u8]) {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The set-up comes before the rules.
    paths.sort_by_key(|path| (!path.to_string_lossy().contains("crs-setup"), path.clone()));
    let read: Vec<(String, Vec<u8>)> = paths
        .iter()
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .collect();
    let files: Vec<File<'_>> = read.iter().map(|(name, text)| File { name, text }).collect();
    let (begun, before) = (cpu(), resident());
    let (set, refused) = RuleSet::compile(&files, Settings::default()).unwrap();
    println!(
        "{} rules of {} compiled in {:.0} ms, {} refused, {} KiB resident for them",
        set.len(),
        folder.display(),
        (cpu() - begun) * 1e3,
        refused.len(),
        resident() - before
    );
    println!("{}", set.memory().map(|(what, bytes)| format!("{what} {} KiB", bytes / 1024)).join(", "));
    let set = Arc::new(set);
    for level in ["1", "4"] {
        for (name, answer, runs) in [("plain request", &b"ok"[..], 100), ("answer of 64 KiB", answer, 20)] {
            let (took, found) = best(runs, || transaction(&set, Some(level), answer));
            println!("paranoia level {level}, {name}: {:.0} us, {found} matches", took * 1e6);
        }
    }
    println!("{} KiB resident for rules and transactions", resident() - before);
}
