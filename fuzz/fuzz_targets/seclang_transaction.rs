//! Any request and response come through rules with every variable, transformation and operator, and a body says the
//! same however it is cut.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use nv_seclang::{File, OPERATORS, Peers, RuleSet, Settings, Transaction, Transform, VARIABLES};

/// What of the language the rules of a set go through.
#[derive(Clone, Copy)]
enum Part {
    Variables,
    Transforms,
    Operators,
}

/// A set with a rule for each variable, one for each transformation, and one for each operator. An input goes through one
/// of them: through all it would take three times as long.
static RULES: LazyLock<[Arc<RuleSet>; 3]> =
    LazyLock::new(|| [Part::Variables, Part::Transforms, Part::Operators].map(rules));

fn rules(part: Part) -> Arc<RuleSet> {
    let mut text = String::from("SecRuleEngine DetectionOnly\n");
    let mut id = 0;
    let mut rule = |targets: &str, operator: &str, actions: &str| {
        for phase in [1, 2, 4] {
            id += 1;
            text.push_str(&format!(
                "SecRule {targets} \"{operator}\" \"id:{id},phase:{phase},t:none,{actions}setvar:'tx.n_%{{MATCHED_VAR_NAME}}=+1'\"\n"
            ));
        }
    };
    match part {
        Part::Variables => {
            for variable in VARIABLES {
                rule(variable, "@rx (a|b)[^a]{1,3}(.)", "capture,logdata:'%{TX.1}',");
            }
        }
        Part::Transforms => {
            for transform in Transform::ALL {
                let chain = format!("t:urlDecodeUni,t:{},multiMatch,", transform.name());
                let targets = "ARGS|ARGS_NAMES|REQUEST_HEADERS|REQUEST_BODY|XML:/*|XML://@*|FILES";
                rule(targets, "@rx a.?b", &chain);
            }
        }
        Part::Operators => {
            for operator in OPERATORS {
                let argument = match *operator {
                    "ipMatch" => "192.0.2.0/24",
                    "ipMatchF" | "ipMatchFromFile" => "nets.data",
                    "pmf" | "pmFromFile" => "words.data",
                    "validateByteRange" => "9,10,13,32-126",
                    _ => "ab",
                };
                let targets = "ARGS|REQUEST_COOKIES|REQUEST_LINE|RESPONSE_BODY|&ARGS";
                rule(targets, &format!("@{operator} {argument}"), "");
            }
        }
    }
    let files = [
        File { name: "fuzz.conf", text: text.as_bytes() },
        File { name: "words.data", text: b"alpha\nab\n" },
        File { name: "nets.data", text: b"192.0.2.0/24\n" },
    ];
    let settings = Settings { steps: 5_000_000, ..Settings::default() };
    let (rules, refused) = RuleSet::compile(&files, settings).expect("the rules are few");
    assert_eq!(refused, []);
    Arc::new(rules)
}

fn run(rules: &Arc<RuleSet>, cut: usize, parts: &[&[u8]]) -> Vec<(u32, String)> {
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    let mut transaction =
        Transaction::new(Arc::clone(rules), Peers { client: "192.0.2.1", ..Peers::default() });
    transaction.request_line(b"POST", part(1), b"HTTP/1.1");
    let kind: &[u8] = match part(0).first().map(|byte| byte % 5) {
        Some(0) => b"application/x-www-form-urlencoded",
        Some(1) => b"multipart/form-data; boundary=x",
        Some(2) => b"text/xml",
        Some(3) => b"application/json",
        _ => part(2),
    };
    transaction.request_header(b"Content-Type", kind);
    transaction.request_header(b"Cookie", part(2));
    transaction.request_header(part(3), part(2));
    transaction.request_headers_end();
    part(4).chunks(cut).for_each(|piece| transaction.request_body(piece));
    transaction.request_end();
    transaction.response_line(b"HTTP/1.1", 200);
    transaction.response_header(b"Content-Type", b"text/html");
    transaction.response_headers_end();
    part(5).chunks(cut).for_each(|piece| transaction.response_body(piece));
    transaction.response_end();
    transaction.finish();
    transaction.matches().iter().map(|found| (found.rule, found.data.clone())).collect()
}

// Which rules, then parts between bytes of 255.
fuzz_target!(|input: &[u8]| {
    let Some((which, input)) = input.split_first() else { return };
    let rules = &RULES[usize::from(*which) % RULES.len()];
    let parts: Vec<&[u8]> = input.splitn(6, |byte| *byte == 0xFF).collect();
    assert_eq!(run(rules, usize::MAX, &parts), run(rules, 1, &parts));
});
