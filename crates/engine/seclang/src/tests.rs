//! What rules of the language do to a transaction, each by a small rule of our own.

use std::sync::Arc;

use crate::{Action, File, Peers, Reason, Refused, RuleSet, Settings, Severity, Transaction};

fn compile(text: &str) -> (RuleSet, Vec<Refused>) {
    let words = File { name: "lists/words.data", text: b"forbidden\n" };
    RuleSet::compile(&[File { name: "rules.conf", text: text.as_bytes() }, words], Settings::default())
        .unwrap()
}

fn begin(text: &str) -> Transaction {
    let (set, refused) = compile(text);
    assert_eq!(refused, []);
    Transaction::new(Arc::new(set), Peers { client: "192.0.2.1", ..Peers::default() })
}

/// A request with a body of a type, through all phases.
fn request(text: &str, target: &str, kind: &str, body: &str) -> Transaction {
    let mut transaction = begin(text);
    transaction.request_line(if body.is_empty() { b"GET" } else { b"POST" }, target.as_bytes(), b"HTTP/1.1");
    transaction.request_header(b"Host", b"shop.example");
    transaction.request_header(b"Cookie", b"sid=42; theme=dark");
    if !kind.is_empty() {
        transaction.request_header(b"Content-Type", kind.as_bytes());
    }
    transaction.request_headers_end();
    for piece in body.as_bytes().chunks(3) {
        transaction.request_body(piece);
    }
    transaction.request_end();
    transaction.response_line(b"HTTP/1.1", 500);
    transaction.response_header(b"Content-Type", b"text/html; charset=utf-8");
    transaction.response_headers_end();
    transaction.response_body(b"stack ");
    transaction.response_body(b"trace");
    transaction.response_end();
    transaction.finish();
    transaction
}

fn get(text: &str, target: &str) -> Transaction {
    request(text, target, "", "")
}

fn ids(transaction: &Transaction) -> Vec<u32> {
    transaction.matches().iter().map(|found| found.rule).collect()
}

#[test]
fn each_variable_is_what_its_name_says() {
    const FORM: &str = "application/x-www-form-urlencoded";
    for (rule, target, kind, body) in [
        ("ARGS:a \"@streq 1 2\"", "/?a=1+2", "", ""),
        ("ARGS_NAMES \"@streq b\"", "/?a=1&b=2", "", ""),
        ("ARGS \"@streq x\"", "/", FORM, "c=x"),
        ("ARGS_GET|ARGS_POST:c \"@streq x\"", "/?q=y", FORM, "c=x"),
        ("&ARGS \"@eq 3\"", "/?a=1&a=2", FORM, "c=x"),
        ("&ARGS:/^a/ \"@eq 2\"", "/?a=1&ab=2&b=3", "", ""),
        ("ARGS|!ARGS:a \"@streq 2\"", "/?a=1&b=2", "", ""),
        ("ARGS_COMBINED_SIZE \"@eq 4\"", "/?a=1&b=2", "", ""),
        ("REQUEST_COOKIES:sid \"@eq 42\"", "/", "", ""),
        ("REQUEST_COOKIES_NAMES \"@streq theme\"", "/", "", ""),
        ("REQUEST_HEADERS:host \"@streq shop.example\"", "/", "", ""),
        ("REQUEST_HEADERS_NAMES \"@streq Cookie\"", "/", "", ""),
        ("REQUEST_LINE \"@streq GET /x HTTP/1.1\"", "/x", "", ""),
        ("REQUEST_METHOD \"@streq GET\"", "/", "", ""),
        ("REQUEST_URI \"@streq /a?b\"", "http://shop.example/a?b", "", ""),
        ("REQUEST_URI_RAW \"@beginsWith http://\"", "http://shop.example/a?b", "", ""),
        ("REQUEST_FILENAME \"@streq /a b/c.php\"", "/a%20b/c.php?d#e", "", ""),
        ("REQUEST_BASENAME \"@streq c.php\"", "/a%20b/c.php?d", "", ""),
        ("QUERY_STRING \"@streq d%20e\"", "/?d%20e", "", ""),
        ("REQUEST_BODY \"@streq c=%41\"", "/", FORM, "c=%41"),
        ("REQUEST_BODY_LENGTH \"@eq 5\"", "/", FORM, "c=%41"),
        ("REQBODY_PROCESSOR \"@streq JSON\"", "/", "application/json", "{}"),
        ("ARGS:json.a.b \"@streq x\"", "/", "application/json", "{\"a\":{\"b\":[\"x\"]}}"),
        ("REQBODY_ERROR \"@eq 1\"", "/", "application/json", "{"),
        ("XML:/* \"@contains text\"", "/", "text/xml", "<a b='c'>text</a>"),
        ("XML://@* \"@streq c\"", "/", "text/xml", "<a b='c'>text</a>"),
        ("REMOTE_ADDR \"@ipMatch 192.0.2.0/24\"", "/", "", ""),
        ("RESPONSE_STATUS \"@eq 500\"", "/", "", ""),
        ("RESPONSE_HEADERS:Content-Type \"@contains html\"", "/", "", ""),
        ("RESPONSE_BODY \"@contains stack trace\"", "/", "", ""),
    ] {
        let text =
            format!("SecRule {rule} \"id:1,phase:{},t:none\"", if rule.contains("RESPONSE") { 4 } else { 2 });
        assert_eq!(ids(&request(&text, target, kind, body)), [1], "{rule}");
    }
    let parts =
        "--x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.php\"\r\n\r\nbody\r\n--x--\r\n";
    for rule in [
        "FILES:f \"@endsWith .php\"",
        "FILES_NAMES \"@streq f\"",
        "FILES_COMBINED_SIZE \"@eq 4\"",
        "MULTIPART_PART_HEADERS:f \"@contains filename\"",
    ] {
        let text = format!("SecRule {rule} \"id:1,phase:2,t:none\"");
        assert_eq!(ids(&request(&text, "/", "multipart/form-data; boundary=x", parts)), [1], "{rule}");
    }
}

#[test]
fn a_match_says_which_rule_where_and_what() {
    let transaction = get(
        "SecRule ARGS \"@rx (b)(.)\" \"id:7,phase:1,capture,severity:CRITICAL,tag:one,tag:two,msg:'found %{TX.1}-%{tx.2}',logdata:'%{MATCHED_VAR} in %{MATCHED_VAR_NAME}'\"",
        "/?x=abc",
    );
    let found = &transaction.matches()[0];
    assert_eq!((found.rule, found.phase, found.severity), (7, 1, Some(Severity::Critical)));
    assert_eq!((found.message.as_str(), found.data.as_str()), ("found b-c", "abc in ARGS:x"));
    assert_eq!((found.variable.as_str(), found.tags.len()), ("ARGS:x", 2));
}

#[test]
fn a_denied_request_runs_no_later_rule_but_those_of_the_last_phase() {
    let rules = "SecRule ARGS:a \"@eq 1\" \"id:1,phase:1,deny,status:418\"\nSecAction \"id:2,phase:2\"\nSecAction \"id:3,phase:5\"";
    let transaction = get(rules, "/?a=1");
    assert_eq!(ids(&transaction), [1, 3]);
    let decision = transaction.decision().unwrap();
    assert_eq!((decision.rule, decision.enforced), (1, true));
    assert_eq!(decision.action, Action::Deny { status: 418 });
    let only_detects = get(&format!("SecRuleEngine DetectionOnly\n{rules}"), "/?a=1");
    assert_eq!(ids(&only_detects), [1, 2, 3]);
    assert!(!only_detects.decision().unwrap().enforced);
    assert!(get(&format!("SecRuleEngine Off\n{rules}"), "/?a=1").matches().is_empty());
}

#[test]
fn block_does_what_the_default_action_of_the_phase_says() {
    let rule = "SecRule ARGS \"@eq 1\" \"id:1,phase:2,block\"";
    assert_eq!(get(rule, "/?a=1").decision(), None);
    let denied = get(&format!("SecDefaultAction \"phase:2,deny,status:406,t:lowercase\"\n{rule}"), "/?a=1");
    assert_eq!(denied.decision().unwrap().action, Action::Deny { status: 406 });
    let redirected = get("SecAction \"id:1,phase:1,redirect:'https://x/%{REQUEST_METHOD}'\"", "/");
    assert_eq!(
        redirected.decision().unwrap().action,
        Action::Redirect { status: 302, to: "https://x/GET".to_owned() }
    );
}

#[test]
fn a_chain_matches_when_all_its_links_do() {
    let rules = "SecRule ARGS:a \"@rx (.)x\" \"id:1,phase:2,capture,chain,msg:'%{MATCHED_VAR}'\"\n  SecRule MATCHED_VARS \"@contains y\" \"chain\"\n    SecRule TX:1 \"@streq y\" \"setvar:tx.score=+5\"\nSecRule TX:score \"@ge 5\" \"id:2,phase:2\"";
    assert_eq!(ids(&get(rules, "/?a=yx")), [1, 2]);
    assert_eq!(ids(&get(rules, "/?a=zx")), []);
}

#[test]
fn variables_count_up_for_each_value_and_anomaly_scores_are_told() {
    let rules = "SecAction \"id:1,phase:1,nolog,setvar:tx.step=3\"\nSecRule ARGS \"@rx ^b\" \"id:2,phase:2,setvar:'tx.blocking_inbound_anomaly_score=+%{tx.step}',setvar:'tx.seen_%{MATCHED_VAR_NAME}=1'\"\nSecAction \"id:3,phase:2,nolog,setvar:tx.step=-1,setvar:!tx.gone\"";
    let transaction = get(rules, "/?x=b1&y=b2&z=c");
    assert_eq!(transaction.anomaly().inbound, 6);
    assert_eq!(transaction.variable("SEEN_args:y"), Some(&b"1"[..]));
    assert_eq!(transaction.variable("step"), Some(&b"2"[..]));
    assert_eq!(ids(&transaction), [2]);
}

#[test]
fn markers_and_counts_pass_over_rules_and_allow_ends_what_it_says() {
    let skip_after = "SecAction \"id:1,phase:1,nolog,skipAfter:END\"\nSecAction \"id:2,phase:1\"\nSecMarker END\nSecAction \"id:3,phase:1\"";
    assert_eq!(ids(&get(skip_after, "/")), [3]);
    let skip =
        "SecAction \"id:1,phase:1,nolog,skip:1\"\nSecAction \"id:2,phase:1\"\nSecAction \"id:3,phase:1\"";
    assert_eq!(ids(&get(skip, "/")), [3]);
    for (scope, want) in [("allow:phase", vec![4, 5]), ("allow:request", vec![5]), ("allow", vec![])] {
        let rules = format!(
            "SecAction \"id:1,phase:1,nolog,{scope}\"\nSecAction \"id:2,phase:1\"\nSecAction \"id:4,phase:2\"\nSecAction \"id:5,phase:3\""
        );
        assert_eq!(ids(&get(&rules, "/")), want, "{scope}");
    }
}

#[test]
fn transformations_come_one_after_the_other_and_multi_match_looks_at_each() {
    let plain = "SecRule ARGS \"@streq <\" \"id:1,phase:2,t:none,t:urlDecodeUni,t:htmlEntityDecode\"";
    assert_eq!(ids(&get(plain, "/?a=%2526lt;")), [1]);
    let multi = "SecRule ARGS \"@rx [A-Z]|b\" \"id:1,phase:2,t:none,t:lowercase,t:removeWhitespace,multiMatch,setvar:tx.n=+1\"";
    assert_eq!(get(multi, "/?a=A").variable("n"), Some(&b"1"[..]));
    assert_eq!(get(multi, "/?a=B").variable("n"), Some(&b"2"[..]));
}

#[test]
fn rules_change_other_rules_for_the_rest_of_the_transaction() {
    for control in [
        "ruleRemoveById=2-3",
        "ruleRemoveByTag=^noisy",
        "ruleRemoveByMsg=loud",
        "ruleRemoveTargetById=2;ARGS:a",
        "ruleRemoveTargetByTag=noisy;ARGS",
        "ruleEngine=Off",
    ] {
        let rules = |control: &str| {
            format!(
                "SecAction \"id:1,phase:1,nolog,ctl:{control}\"\nSecRule ARGS \"@rx x\" \"id:2,phase:2,tag:noisy,msg:'loud'\""
            )
        };
        assert_eq!(ids(&get(&rules(control), "/?a=x")), [], "{control}");
        assert_eq!(ids(&get(&rules("auditEngine=Off"), "/?a=x")), [2]);
    }
    let body = "SecAction \"id:1,phase:1,nolog,ctl:requestBodyProcessor=JSON\"\nSecRule ARGS:json.a \"@eq 1\" \"id:2,phase:2\"";
    assert_eq!(ids(&request(body, "/", "text/plain", "{\"a\":1}")), [2]);
}

#[test]
fn later_directives_change_and_remove_rules() {
    let rule = "SecRule ARGS \"@rx x\" \"id:2,phase:2,tag:noisy,msg:'loud'\"\n";
    for (directive, want) in [
        ("SecRuleRemoveById 1-5", vec![]),
        ("SecRuleRemoveByTag noisy", vec![]),
        ("SecRuleRemoveByMsg loud", vec![]),
        ("SecRuleUpdateTargetById 2 \"!ARGS:a\"", vec![]),
        ("SecRuleUpdateTargetByTag noisy \"!ARGS:/^[a-c]$/\"", vec![]),
        ("SecRuleUpdateTargetByMsg loud \"QUERY_STRING\" \"ARGS\"", vec![2]),
        ("SecRuleUpdateActionById 2 \"nolog\"", vec![]),
        ("SecRuleRemoveById 7", vec![2]),
    ] {
        assert_eq!(ids(&get(&format!("{rule}{directive}"), "/?a=x")), want, "{directive}");
    }
}

#[test]
fn what_cannot_be_had_is_refused_with_the_rule_and_the_rest_stands() {
    let (set, refused) = compile(
        "SecRule ARGS \"@rx (?=a)\" \"id:1,phase:2,chain\"\n  SecRule ARGS \"@rx b\" \"t:none\"\nSecRule ARGS \"@rx (\" \"id:2\"\nSecRule GEO:x \"@rx a\" \"id:3\"\nSecRule ARGS \"@geoLookup\" \"id:4\"\nSecAction \"id:5,exec:/bin/true\"\nSecAction \"id:6,t:unheard\"\nSecAction \"pass\"\nSecAction \"id:7\"\nSecAction \"id:7\"\nSecUnheard x\nSecRule ARGS \"@pmFromFile gone.data\" \"id:8\"\nSecRule ARGS \"@pmFromFile words.data\" \"id:9\"\nSecRule ARGS \"@rx a\" \"id:10,chain\"",
    );
    assert_eq!(set.ids().collect::<Vec<_>>(), [7, 9]);
    let rules: Vec<_> = refused.iter().map(|one| one.rule).collect();
    assert_eq!(
        rules,
        [Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), None, Some(7), None, Some(8), Some(10)]
    );
    assert!(matches!(refused[0].reason, Reason::Pattern(_)) && refused[0].line == 1);
    assert_eq!(refused[0].to_string(), "rules.conf:1: rule 1: pattern: look-ahead is not supported");
    assert!(matches!(refused[7].reason, Reason::Twice));
}

#[test]
fn bodies_beyond_the_limit_are_cut_and_told() {
    let rules = "SecRequestBodyLimit 10\nSecRule INBOUND_DATA_ERROR \"@eq 1\" \"id:1,phase:2\"\nSecRule ARGS:b \"@rx .\" \"id:2,phase:2\"\nSecRule REQUEST_BODY_LENGTH \"@eq 20\" \"id:3,phase:2\"";
    let transaction = request(rules, "/", "application/x-www-form-urlencoded", "a=1111111111&b=22222");
    assert_eq!(ids(&transaction), [1, 3]);
}

#[test]
fn a_transaction_that_has_used_up_its_steps_stops_and_says_so() {
    let text = "SecRule ARGS \"@rx a.*b\" \"id:1,phase:2,t:none,t:lowercase,t:urlDecode\"".to_owned();
    let settings = Settings { steps: 100, ..Settings::default() };
    let file = File { name: "rules.conf", text: text.as_bytes() };
    let (set, _) = RuleSet::compile(&[file], settings).unwrap();
    let mut transaction = Transaction::new(Arc::new(set), Peers::default());
    transaction.request_line(b"GET", format!("/?x={}ab", "y".repeat(500)).as_bytes(), b"HTTP/1.1");
    transaction.request_headers_end();
    transaction.request_end();
    assert!(transaction.is_exhausted());
    assert!(transaction.matches().is_empty());
}

#[test]
fn a_rule_is_found_whether_its_literals_are_looked_for_or_not() {
    for (pattern, value, want) in [
        ("(?i)union[^a-z]+select", "UNION%20ALL", false),
        ("(?i)union[^a-z]+select", "x%20UNION%20%20seLect", true),
        ("[0-9]{3}", "a123", true),
        ("a|b", "xb", true),
    ] {
        let rule = format!(
            "SecRule ARGS \"@rx {pattern}\" \"id:1,phase:2\"\nSecRule ARGS \"!@rx {pattern}\" \"id:2,phase:2\""
        );
        let want = if want { [1] } else { [2] };
        assert_eq!(ids(&get(&rule, &format!("/?v={value}"))), want, "{pattern} on {value}");
    }
}

#[test]
fn a_transaction_may_move_to_another_thread() {
    fn moves<T: Send>(_: &T) {}
    moves(&begin("SecAction \"id:1\""));
}

#[test]
fn a_title_has_scores_in_it_and_nothing_else_of_what_was_sent() {
    let rules = "SecRule ARGS:n \"@rx (.+)\" \"id:1,phase:2,pass,capture,setvar:tx.score=15,\\
        msg:'total %{TX.score} of %{MATCHED_VAR}, %{TX.1}'\"";
    let transaction = request(rules, "/?n=secret", "", "");
    let [found] = transaction.matches() else { panic!("{:?}", transaction.matches()) };
    let told = (found.message.as_str(), found.title.as_str());
    assert_eq!(told, ("total 15 of secret, secret", "total 15 of *, *"));
}
