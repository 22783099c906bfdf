//! What operators change, and what they are told when it cannot be.

use nv_model::group::{Criterion, CriterionOp, Group, GroupKind, Origin};
use nv_model::mode::Mode;
use nv_model::port::Ports;
use nv_model::profile::{PathPattern, ProcessRule};
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::system::SystemConfig;
use nv_model::time::Timestamp;
use nv_model::verdict::Action;
use nv_policy::order::Place;

use super::sim::Running;
use crate::{Change, ChangeError};

fn group(name: &str) -> Group {
    Group {
        name: name.parse().unwrap(),
        comment: String::new(),
        origin: Origin::UserCreated,
        kind: GroupKind::Container,
        domain: None,
        criteria: vec![Criterion { key: "image".into(), value: "nginx*".into(), op: CriterionOp::Equal }],
        modes: None,
        not_scored: false,
        monitor_metric: false,
        session_limit: 0,
        session_rate_limit: 0,
        bandwidth_limit_mbps: 0,
    }
}

fn rule(id: u32, from: &str, to: &str) -> NetworkRule {
    NetworkRule {
        id: RuleId(id),
        comment: String::new(),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        ports: Ports::Any,
        applications: vec![],
        action: Action::Deny,
        origin: Origin::UserCreated,
        disabled: false,
        priority: 0,
        created: Timestamp::NEVER,
        modified: Timestamp::NEVER,
    }
}

#[tokio::test]
async fn groups_and_rules_are_made_changed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let controller = &running.controller;
    controller.change(Change::CreateGroup(Box::new(group("front")))).await.unwrap();
    let twice = controller.change(Change::CreateGroup(Box::new(group("front")))).await;
    assert!(matches!(twice, Err(ChangeError::Duplicate { .. })), "{twice:?}");

    let rules = vec![rule(0, "front", "external"), rule(0, "front", "nodes")];
    controller.change(Change::InsertRules { rules, place: Place::Last }).await.unwrap();
    controller.change(Change::MoveRule { id: RuleId(2), place: Place::First }).await.unwrap();
    let ids = || controller.view().state.rules.iter().map(|rule| rule.id.0).collect::<Vec<_>>();
    assert_eq!(ids(), [2, 1]);
    let in_use = controller.change(Change::DeleteGroup("front".parse().unwrap())).await;
    assert!(matches!(in_use, Err(ChangeError::InUse { .. })), "{in_use:?}");

    let replaced = Change::ReplaceRules {
        rules: vec![rule(1, "front", "external"), rule(0, "nodes", "front")],
        delete: vec![],
    };
    controller.change(replaced).await.unwrap();
    assert_eq!(ids(), [1, 3]);
    controller.change(Change::DeleteRules(vec![RuleId(1), RuleId(3)])).await.unwrap();
    controller.change(Change::DeleteGroup("front".parse().unwrap())).await.unwrap();
    assert!(ids().is_empty() && !controller.view().state.groups.contains_key("front"));

    for (change, what) in [
        (Change::DeleteGroup("nodes".parse().unwrap()), "read-only"),
        (Change::DeleteGroup("nothing".parse().unwrap()), "not found"),
        (Change::DeleteRules(vec![RuleId(9)]), "not found"),
        (Change::InsertRules { rules: vec![rule(0, "nothing", "nodes")], place: Place::Last }, "invalid"),
    ] {
        let refused = controller.change(change).await.unwrap_err();
        let kind = match &refused {
            ChangeError::NotFound { .. } => "not found",
            ChangeError::ReadOnly { .. } => "read-only",
            ChangeError::Invalid { .. } => "invalid",
            _ => "other",
        };
        assert_eq!(kind, what, "{refused}");
    }
}

#[tokio::test]
async fn profiles_and_configuration_are_changed_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let line = |name: &str, action| ProcessRule {
        uuid: String::new(),
        name: name.into(),
        path: PathPattern::Any,
        action,
        origin: Origin::UserCreated,
        allow_update: false,
        conditions: Default::default(),
        created: Timestamp::NEVER,
        modified: Timestamp::NEVER,
    };
    let update = |set: Vec<ProcessRule>, delete: Vec<ProcessRule>| Change::UpdateProfile {
        group: "nodes".parse().unwrap(),
        set,
        delete,
        alert_disabled: None,
        hash_enabled: None,
    };
    let controller = &running.controller;
    controller
        .change(update(vec![line("sh", Action::Allow), line("nc", Action::Allow)], vec![]))
        .await
        .unwrap();
    controller.change(update(vec![line("nc", Action::Deny)], vec![line("sh", Action::Allow)])).await.unwrap();
    let gone = controller.change(update(vec![], vec![line("sh", Action::Allow)])).await;
    assert!(matches!(gone, Err(ChangeError::NotFound { .. })));

    let mut config: SystemConfig = (*controller.view().config).clone();
    assert_eq!(config.cluster_name, "test");
    config.new_service_policy_mode = Mode::Monitor;
    controller.change(Change::SetConfig(Box::new(config.clone()))).await.unwrap();
    config.unused_group_aging = 200;
    let refused = controller.change(Change::SetConfig(Box::new(config))).await;
    assert!(matches!(refused, Err(ChangeError::Invalid { .. })));

    running.kill().await;
    let running = Running::start(folder.path()).await;
    let view = running.controller.view();
    let rules = &view.state.profiles["nodes"].rules;
    assert_eq!((rules.len(), rules[0].name.as_str(), rules[0].action), (1, "nc", Action::Deny));
    assert_eq!(view.state.settings.new_service.network, Mode::Monitor);
}

#[tokio::test]
async fn changes_that_meet_one_another_all_happen() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let begin = std::time::Instant::now();
    let changes = (0..50).map(|number| {
        let controller = running.controller.clone();
        async move { controller.change(Change::CreateGroup(Box::new(group(&format!("g{number}"))))).await }
    });
    for outcome in futures::future::join_all(changes).await {
        outcome.unwrap();
    }
    println!("50 concurrent changes took {:?}", begin.elapsed());
    assert_eq!(running.controller.view().state.groups.len(), 53);
}
