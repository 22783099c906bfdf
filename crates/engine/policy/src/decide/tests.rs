use std::collections::BTreeMap;

use super::*;
use crate::testing::{name, process as line};
use nv_model::mode::Mode::{Discover, Monitor, Protect};
use nv_model::policy::NodeSettings;

fn identity(kind: IdentityKind, mode: Option<Mode>) -> Identity {
    Identity { kind, group: name("nv.x"), mode, names: Vec::new() }
}

fn policy(client: Option<Mode>, server: Option<Mode>, strict: bool, rules: Vec<ResolvedRule>) -> NodePolicy {
    NodePolicy {
        identities: BTreeMap::from([
            (IdentityId(16), identity(IdentityKind::Workload, client)),
            (IdentityId(17), identity(IdentityKind::Workload, server)),
        ]),
        rules,
        settings: NodeSettings { strict_group_mode: strict, ..NodeSettings::default() },
        ..NodePolicy::default()
    }
}

fn rule(id: u32, action: Action, learned: bool) -> ResolvedRule {
    ResolvedRule {
        id: RuleId(id),
        from: vec![IdentityId(16)],
        to: vec![IdentityId(17)],
        ports: "tcp/80".parse().unwrap(),
        applications: vec![],
        action,
        learned,
    }
}

fn flow() -> Flow {
    Flow {
        client: IdentityId(16),
        server: IdentityId(17),
        protocol: Protocol::Tcp,
        port: 80,
        application: None,
        quarantined: false,
    }
}

#[test]
fn the_verdict_follows_the_matrix_of_modes() {
    use Verdict::{Allow, Deny, Learn, Violate};
    // client, server, then [no rule, allow, learned allow, deny], each basic and strict.
    for (client, server, basic, strict) in [
        (Discover, Discover, [Learn, Allow, Learn, Violate], [Learn, Allow, Learn, Violate]),
        (Discover, Monitor, [Learn, Allow, Learn, Violate], [Violate, Allow, Allow, Violate]),
        (Discover, Protect, [Learn, Allow, Learn, Violate], [Deny, Allow, Allow, Deny]),
        (Monitor, Monitor, [Violate, Allow, Allow, Violate], [Violate, Allow, Allow, Violate]),
        (Monitor, Protect, [Violate, Allow, Allow, Violate], [Deny, Allow, Allow, Deny]),
        (Protect, Protect, [Deny, Allow, Allow, Deny], [Deny, Allow, Allow, Deny]),
    ] {
        for (one, other) in [(client, server), (server, client)] {
            for (is_strict, want) in [(false, basic), (true, strict)] {
                let rules = [
                    vec![],
                    vec![rule(1, Action::Allow, false)],
                    vec![rule(10_001, Action::Allow, true)],
                    vec![rule(1, Action::Deny, false)],
                ];
                for (rules, want) in rules.into_iter().zip(want) {
                    let policy = policy(Some(one), Some(other), is_strict, rules.clone());
                    let got = connection(&policy, flow());
                    assert_eq!(got.verdict, want, "{one:?}->{other:?} strict={is_strict} {rules:?}");
                    assert_eq!(got.rule, rules.first().map_or(RuleId::DEFAULT, |rule| rule.id));
                }
            }
        }
    }
}

#[test]
fn an_end_without_mode_leaves_the_others_and_two_of_them_are_not_judged() {
    for (client, server, want) in [
        (Some(Protect), None, Verdict::Deny),
        (None, Some(Monitor), Verdict::Violate),
        (Some(Discover), None, Verdict::Learn),
        (None, None, Verdict::Open),
    ] {
        for strict in [false, true] {
            let got = connection(&policy(client, server, strict, vec![]), flow()).verdict;
            assert_eq!(got, want, "{client:?} {server:?} {strict}");
        }
    }
}

#[test]
fn a_host_is_never_cut_off() {
    let mut policy = policy(Some(Protect), Some(Protect), false, vec![rule(1, Action::Deny, false)]);
    policy.identities.insert(IdentityId(17), identity(IdentityKind::Node, Some(Protect)));
    let got = connection(&policy, flow());
    assert_eq!((got.verdict, got.spared), (Verdict::Violate, true));
}

#[test]
fn what_stands_above_rules() {
    let mut policy = policy(Some(Protect), Some(Protect), false, vec![rule(1, Action::Deny, false)]);
    let icmp = Flow { protocol: Protocol::Icmp, ..flow() };
    assert_eq!(connection(&policy, icmp).reason, Reason::Icmp);
    let cut = Flow { quarantined: true, ..icmp };
    assert_eq!(connection(&policy, cut).verdict, Verdict::Deny);
    policy.settings.network_policy_disabled = true;
    assert_eq!(connection(&policy, flow()).verdict, Verdict::Open);
    assert_eq!(connection(&policy, cut).verdict, Verdict::Deny);
}

#[test]
fn the_first_matching_rule_decides_and_applications_wait_until_they_are_known() {
    let mut http = rule(1, Action::Allow, false);
    http.applications = vec![ApplicationId(1001)];
    let mut no_redis = rule(2, Action::Deny, false);
    no_redis.applications = vec![ApplicationId(2002)];
    let policy =
        policy(Some(Protect), Some(Protect), false, vec![no_redis, http, rule(3, Action::Deny, false)]);
    for (application, want, waits) in
        [(None, 1, true), (Some(1001), 1, false), (Some(2002), 2, false), (Some(1003), 3, false)]
    {
        let got = connection(&policy, Flow { application: application.map(ApplicationId), ..flow() });
        assert_eq!((got.rule.0, got.awaits_application), (want, waits), "{application:?}");
    }
}

#[test]
fn a_program_is_judged_by_list_baseline_and_mode() {
    use ProcessReason::{Drifted, DriftedDespiteRule, FromImage, Loader, NotInProfile, Rule};
    use Verdict::{Allow, Deny, Learn, Violate};
    let mut update = line("3", "pip", "*", Action::Allow);
    update.allow_update = true;
    let rules: Vec<_> =
        [line("1", "sh", "/bin/sh", Action::Deny), line("2", "*", "/usr/bin/*", Action::Allow), update]
            .into_iter()
            .map(|rule| (name("nv.x"), rule))
            .collect();
    for (baseline, path, drifted, reason, verdicts) in [
        (Baseline::Basic, "/bin/sh", false, Rule, [Violate, Violate, Deny]),
        (Baseline::Basic, "/usr/bin/ls", true, Rule, [Allow, Allow, Allow]),
        (Baseline::Basic, "/tmp/x", false, NotInProfile, [Learn, Violate, Deny]),
        (Baseline::ZeroDrift, "/bin/sh", false, Rule, [Violate, Violate, Deny]),
        (Baseline::ZeroDrift, "/tmp/x", false, FromImage, [Allow, Allow, Allow]),
        (Baseline::ZeroDrift, "/tmp/x", true, Drifted, [Learn, Violate, Deny]),
        (Baseline::ZeroDrift, "/usr/bin/ls", true, DriftedDespiteRule, [Learn, Violate, Deny]),
        (Baseline::ZeroDrift, "/opt/pip", true, Rule, [Allow, Allow, Allow]),
        (Baseline::ZeroDrift, "/lib64/ld-linux-x86-64.so.2", false, Loader, [Learn, Violate, Deny]),
        (Baseline::ZeroDrift, "/usr/bin/ld.so", false, Rule, [Allow, Allow, Allow]),
        (Baseline::ZeroDrift, "/sbin/ldconfig", false, FromImage, [Allow, Allow, Allow]),
    ] {
        for (mode, want) in [Discover, Monitor, Protect].into_iter().zip(verdicts) {
            let profile = EffectiveProfile {
                group: name("nv.x"),
                mode,
                baseline,
                rules: rules.clone(),
                files: Vec::new(),
                alert_disabled: false,
                fault: Default::default(),
            };
            let got = process(&profile, path, ProgramFacts { drifted, ..ProgramFacts::default() });
            assert_eq!((got.verdict, got.reason), (want, reason), "{baseline:?} {path} {drifted} {mode:?}");
        }
    }
}

#[test]
fn under_zero_drift_a_process_that_is_not_of_the_containers_family_runs_only_what_somebody_has_allowed() {
    let facts = ProgramFacts { stranger: true, ..ProgramFacts::default() };
    let learned = ProcessRule { origin: Origin::Learned, ..line("2", "cat", "/bin/cat", Action::Allow) };
    let written = ProcessRule { origin: Origin::UserCreated, ..line("1", "ls", "/bin/ls", Action::Allow) };
    let rules = vec![(name("nv.x"), written), (name("nv.x"), learned)];
    for (mode, baseline, path, verdict, reason) in [
        (Protect, Baseline::ZeroDrift, "/bin/sh", Verdict::Deny, ProcessReason::NotFamily),
        (Monitor, Baseline::ZeroDrift, "/bin/sh", Verdict::Violate, ProcessReason::NotFamily),
        (Discover, Baseline::ZeroDrift, "/bin/sh", Verdict::Violate, ProcessReason::NotFamily),
        (Protect, Baseline::ZeroDrift, "/bin/cat", Verdict::Deny, ProcessReason::NotFamily),
        (Protect, Baseline::ZeroDrift, "/bin/ls", Verdict::Allow, ProcessReason::Rule),
        (Protect, Baseline::Basic, "/bin/cat", Verdict::Allow, ProcessReason::Rule),
    ] {
        let profile = EffectiveProfile {
            group: name("nv.x"),
            mode,
            baseline,
            rules: rules.clone(),
            files: Vec::new(),
            alert_disabled: false,
            fault: Default::default(),
        };
        let got = process(&profile, path, facts);
        assert_eq!((got.verdict, got.reason), (verdict, reason), "{mode:?} {baseline:?} {path}");
        assert_eq!(got.rule.is_none(), reason == ProcessReason::NotFamily, "{path}");
    }
}

#[test]
fn a_script_needs_no_line_but_is_denied_by_one_and_by_its_origin() {
    let profile = |baseline, rules: Vec<_>| EffectiveProfile {
        group: name("nv.x"),
        mode: Protect,
        baseline,
        rules,
        files: Vec::new(),
        alert_disabled: false,
        fault: Default::default(),
    };
    let deny = vec![(name("nv.x"), line("1", "job", "/opt/job", Action::Deny))];
    for (baseline, rules, drifted, want) in [
        (Baseline::Basic, vec![], true, Verdict::Open),
        (Baseline::Basic, deny.clone(), false, Verdict::Deny),
        (Baseline::ZeroDrift, vec![], false, Verdict::Allow),
        (Baseline::ZeroDrift, vec![], true, Verdict::Deny),
        (Baseline::ZeroDrift, deny, false, Verdict::Deny),
    ] {
        let facts = ProgramFacts { drifted, script: true, ..ProgramFacts::default() };
        let got = process(&profile(baseline, rules), "/opt/job", facts);
        assert_eq!(got.verdict, want, "{baseline:?} drifted={drifted}");
    }
}
