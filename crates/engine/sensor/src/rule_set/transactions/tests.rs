use std::io::Write as _;

use nv_dpi::content::{Body, Coding};
use nv_dpi::key::{Endpoint, Transport};
use nv_seclang::File;

use super::*;

/// As the Core Rule Set does it: rules add to a score, and one decides by it.
const RULES: &str = "
SecRule ARGS|REQUEST_BODY \"@rx (?i)union\\s+select\" \"id:942100,phase:2,pass,t:none,t:urlDecodeUni,severity:CRITICAL,\\
    msg:'SQL injection',setvar:tx.score=+5\"
SecRule REQUEST_HEADERS:User-Agent \"@pm scanner\" \"id:913100,phase:1,pass,severity:NOTICE,msg:'Scanner',setvar:tx.score=+2\"
SecRule TX:score \"@ge 5\" \"id:949110,phase:2,deny,status:403,msg:'Score %{tx.score}'\"
SecRule RESPONSE_BODY \"@contains stack trace\" \"id:950100,phase:4,deny,severity:ERROR,msg:'Leak'\"
SecRule REQUEST_HEADERS:Host \"@streq evil.example\" \"id:920100,phase:1,deny,msg:'Host'\"
";

fn named() -> Named {
    let file = File { name: "rules.conf", text: RULES.as_bytes() };
    let (rules, refused) = RuleSet::compile(&[file], live_settings()).unwrap();
    assert_eq!(refused, []);
    Named { sensor: "crs".into(), rules: Arc::new(rules) }
}

fn ends() -> Endpoints {
    let end = |last: u8, port| Endpoint { address: [10, 0, 0, last].into(), port };
    Endpoints { transport: Transport::Tcp, client: end(1, 40_000), server: end(2, 80) }
}

const LIMITS: Limits = Limits { exchanges: 4, of_session: 2, bytes: 1 << 20 };

struct Play {
    named: Named,
    transactions: Transactions,
    told: Vec<(u32, String, String, bool)>,
}

impl Play {
    fn new() -> Self {
        Self { named: named(), transactions: Transactions::new(LIMITS), told: Vec::new() }
    }
    fn say(&mut self, session: u64, side: Side, part: Part<'_>) {
        let Self { named, transactions, told } = self;
        let content =
            Content { at: 1, session: SessionId(session), endpoints: ends(), side, transaction: 0, part };
        transactions.content(&content, || vec![&*named], &mut |found| {
            assert_eq!(found.sensor, "crs");
            told.push((found.rule, found.message.to_owned(), found.variable.to_owned(), found.decides));
        });
    }
    fn request(&mut self, session: u64, line: &str, headers: &[&str]) {
        self.say(session, Side::Client, Part::Url(line.as_bytes()));
        for header in headers {
            self.say(session, Side::Client, Part::Header(header.as_bytes()));
        }
    }
    fn rules(&self) -> Vec<(u32, bool)> {
        self.told.iter().map(|(rule, _, _, decides)| (*rule, *decides)).collect()
    }
}

#[test]
fn what_reaches_the_score_is_decided_at_the_end_of_the_request_and_told_without_what_was_sent() {
    let mut play = Play::new();
    play.request(1, "GET /items?id=1+UNION+SELECT+secret HTTP/1.1\r\n", &["Host: shop\r\n"]);
    assert_eq!(play.told, [], "the request is not over");
    play.say(1, Side::Client, Part::End);
    let told = |rule, message: &str, variable: &str, decides| {
        (rule, message.to_owned(), variable.to_owned(), decides)
    };
    let want = [told(949_110, "Score 5", "TX:score", true), told(942_100, "SQL injection", "ARGS:id", false)];
    assert_eq!(play.told, want);
    play.say(1, Side::Server, Part::Url(b"HTTP/1.1 200 OK\r\n"));
    play.say(1, Side::Server, Part::End);
    assert_eq!((play.told.len(), play.transactions.in_use()), (2, (0, 0)), "told once, and over");
}

#[test]
fn what_stays_below_the_score_is_told_and_decides_nothing() {
    let mut play = Play::new();
    play.request(1, "GET / HTTP/1.1\r\n", &["User-Agent: scanner\r\n"]);
    play.say(1, Side::Client, Part::End);
    assert_eq!(play.rules(), [(913_100, false)]);
}

#[test]
fn bodies_are_looked_at_whole_wherever_they_are_cut_and_without_their_compression() {
    let form = b"note=x&id=1%20union%20select%20y".as_slice();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(form).unwrap();
    let gzip = gzip.finish().unwrap();
    for (coding, body) in [(None, form), (Some(Coding::Gzip), &gzip)] {
        for cut in 1..body.len() {
            let mut play = Play::new();
            play.request(1, "POST / HTTP/1.1\r\n", &["Content-Type: application/x-www-form-urlencoded\r\n"]);
            for piece in [&body[..cut], &body[cut..]] {
                play.say(1, Side::Client, Part::Body(Body { coding, ..Body::default() }, piece));
            }
            play.say(1, Side::Client, Part::End);
            let rules: Vec<u32> = play.told.iter().map(|told| told.0).collect();
            assert!(rules.contains(&949_110) && rules.contains(&942_100), "{coding:?} {cut} {rules:?}");
        }
    }
}

#[test]
fn answers_are_looked_at_and_a_host_counts_that_http2_says_beside_the_header() {
    let mut play = Play::new();
    play.request(1, "GET / HTTP/1.1\r\n", &[]);
    play.say(1, Side::Server, Part::Url(b"HTTP/1.1 500 No\r\n"));
    play.say(1, Side::Server, Part::Header(b"Content-Type: text/html\r\n"));
    play.say(1, Side::Server, Part::Body(Body::default(), b"a stack "));
    play.say(1, Side::Server, Part::Body(Body::default(), b"trace"));
    play.say(1, Side::Server, Part::End);
    assert_eq!(play.rules(), [(950_100, true)]);
    let mut play = Play::new();
    play.transactions.host(SessionId(2), 0, b"evil.example");
    play.request(2, "GET /", &["accept", ": ", "*/*", "\r\n"]);
    play.say(2, Side::Client, Part::End);
    assert_eq!(play.rules(), [(920_100, true)]);
}

#[test]
fn an_exchange_that_made_room_for_others_is_told_as_unjudged_when_its_session_goes_on() {
    let mut play = Play::new();
    for session in 0..5 {
        play.request(session, "POST / HTTP/1.1\r\n", &["Host: a\r\n"]);
    }
    assert_eq!((play.transactions.in_use().0, play.transactions.counters().left), (4, 1));
    assert_eq!(play.told, []);
    play.say(0, Side::Client, Part::Body(Body::default(), b"x"));
    assert_eq!(play.rules(), [(0, true)], "nobody knows what it says");
    // Bytes are bounded as their number is.
    let mut play = Play::new();
    for session in 0..3 {
        play.request(session, "POST / HTTP/1.1\r\n", &["Host: a\r\n"]);
        for _ in 0..200 {
            play.say(session, Side::Client, Part::Header(&[b'a'; 4000]));
        }
    }
    assert!(play.transactions.in_use().1 <= LIMITS.bytes && play.transactions.counters().cut > 0);
    for session in 0..3 {
        play.transactions.closed(SessionId(session), 2, &mut |_| {});
    }
    assert_eq!(play.transactions.in_use(), (0, 0));
}

#[test]
fn an_exchange_whose_work_is_used_up_is_told_as_unjudged() {
    let file = File { name: "rules.conf", text: RULES.as_bytes() };
    let (rules, _) = RuleSet::compile(&[file], Settings { steps: 50, ..live_settings() }).unwrap();
    let mut play = Play::new();
    play.named.rules = Arc::new(rules);
    play.request(1, &format!("GET /?a={} HTTP/1.1\r\n", "x".repeat(500)), &["Host: a\r\n"]);
    play.say(1, Side::Client, Part::End);
    assert_eq!(play.rules(), [(0, true)]);
    assert_eq!(play.transactions.counters().exhausted, 1);
}
