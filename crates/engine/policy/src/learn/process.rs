//! Profiles from programs.

use std::collections::BTreeMap;

use nv_model::condition::Conditions;
use nv_model::group::Origin;
use nv_model::name::GroupName;
use nv_model::profile::{PathPattern, ProcessProfile, ProcessRule};
use nv_model::time::Timestamp;
use nv_model::verdict::{Action, Verdict};
use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::decide::is_loader;
use crate::state::State;

/// Programs that are never learned by themselves: someone has to allow them. `sshd` only counts in containers.
pub const SUSPICIOUS: &[&str] = &[
    "nmap", "nc", "ncat", "netcat", "ssh", "scp", "sshd", "telnet", "iodine", "iodined", "dnscat", "dnscat2",
    "dns2tcp", "dns2tcpc", "dns2tcpd", "socat",
];

/// More learned paths of one file name than these become one line for the folder that they share.
pub const MAX_PATHS_OF_NAME: usize = 20;

/// Most lines that learning puts into one profile.
pub const MAX_ENTRIES: usize = 4096;

/// A program that was run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Program {
    /// The group whose profile was asked: a learned one, or `nodes`.
    pub group: GroupName,
    /// Absolute path in the workload.
    pub path: String,
    /// It is in memory only, so it has no path to be learned by.
    pub fileless: bool,
    /// What was decided; [`Verdict::Learn`] is learned.
    pub verdict: Verdict,
}

/// Whether a program of this file name is never learned in this group.
#[must_use]
pub fn is_suspicious(group: &GroupName, name: &str) -> bool {
    let suspicious = SUSPICIOUS.contains(&name) && !(name == "sshd" && *group == GroupName::nodes());
    // A loader that is listed runs whatever it is given.
    suspicious || is_loader(name)
}

/// What the programs add to the profiles. `uuid` gives the id of a new line; it is asked once a line.
#[must_use]
pub fn processes(
    state: &State,
    programs: &[Program],
    now: Timestamp,
    mut uuid: impl FnMut() -> String,
) -> Vec<Change> {
    let mut drafts: BTreeMap<&GroupName, ProcessProfile> = BTreeMap::new();
    for program in programs {
        let Some((name, path)) = learnable(program) else { continue };
        let draft = drafts.entry(&program.group).or_insert_with(|| {
            state.profiles.get(&program.group).cloned().unwrap_or_else(|| ProcessProfile {
                group: program.group.clone(),
                rules: Vec::new(),
                alert_disabled: false,
                hash_enabled: false,
            })
        });
        // A line that speaks of it, allowing or denying, stands; but what is denied in some cases may be learned for the
        // others.
        let stands = |rule: &ProcessRule| {
            rule.matches(&program.path) && (rule.conditions.is_empty() || rule.action == Action::Allow)
        };
        if draft.rules.len() >= MAX_ENTRIES || draft.rules.iter().any(stands) {
            continue;
        }
        draft.rules.push(ProcessRule {
            uuid: uuid(),
            name: name.to_owned(),
            path,
            action: Action::Allow,
            origin: Origin::Learned,
            allow_update: false,
            conditions: Conditions::default(),
            created: now,
            modified: now,
        });
        collapse(&mut draft.rules, name, now);
    }
    drafts
        .into_values()
        .filter(|draft| {
            state.profiles.get(&draft.group).map_or(!draft.rules.is_empty(), |held| held != draft)
        })
        .map(|draft| Change::PutProfile(Box::new(draft)))
        .collect()
}

fn learnable(program: &Program) -> Option<(&str, PathPattern)> {
    let known = program.group.is_learned() || program.group == GroupName::nodes();
    if program.verdict != Verdict::Learn || program.fileless || !known || !program.path.starts_with('/') {
        return None;
    }
    let name = program.path.rsplit('/').next().filter(|name| !name.is_empty() && !name.contains('*'))?;
    if is_suspicious(&program.group, name) {
        return None;
    }
    match program.path.parse() {
        Ok(path @ PathPattern::Exact(_)) => Some((name, path)),
        _ => None,
    }
}

/// Joins the learned paths of one file name when there are too many: programs that unpack themselves under a new name
/// each time would fill the profile. The first of the lines keeps its id.
fn collapse(rules: &mut Vec<ProcessRule>, name: &str, now: Timestamp) {
    let ours = |rule: &ProcessRule| {
        rule.name == name
            && rule.origin == Origin::Learned
            && rule.action == Action::Allow
            && !rule.allow_update
            && rule.conditions.is_empty()
    };
    let paths: Vec<&str> = rules
        .iter()
        .filter(|rule| ours(rule))
        .filter_map(|rule| match &rule.path {
            PathPattern::Exact(path) => Some(path.as_str()),
            PathPattern::Any | PathPattern::Prefix(_) => None,
        })
        .collect();
    if paths.len() <= MAX_PATHS_OF_NAME {
        return;
    }
    let folder = common_folder(&paths);
    let pattern = if folder == "/" { PathPattern::Any } else { PathPattern::Prefix(folder) };
    let mut first = true;
    rules.retain_mut(|rule| {
        if !ours(rule) || !matches!(rule.path, PathPattern::Exact(_)) {
            return true;
        }
        if first {
            rule.path = pattern.clone();
            rule.modified = now;
        }
        std::mem::take(&mut first)
    });
}

/// The deepest folder, with `/` at its end, that all paths lie in.
fn common_folder(paths: &[&str]) -> String {
    let mut folders = paths.iter().map(|path| path.split_inclusive('/').collect::<Vec<_>>());
    let mut common = folders.next().unwrap_or_default();
    common.pop();
    for parts in folders {
        let same = common.iter().zip(&parts).take_while(|(a, b)| a == b).count();
        common.truncate(same);
    }
    common.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{name, process, state, workload};
    use proptest::prelude::*;

    fn program(group: &str, path: &str) -> Program {
        Program { group: name(group), path: path.into(), fileless: false, verdict: Verdict::Learn }
    }

    fn learn(state: &mut State, programs: &[Program]) -> Vec<Change> {
        let mut next = state.profiles.values().map(|profile| profile.rules.len()).sum::<usize>();
        let changes = processes(state, programs, Timestamp::from_seconds(5), || {
            next += 1;
            format!("uuid-{next}")
        });
        state.apply_all(&changes);
        changes
    }

    fn lines(state: &State, group: &str) -> Vec<String> {
        let rules = state.profiles.get(&name(group)).map(|profile| profile.rules.clone()).unwrap_or_default();
        rules.iter().map(|rule| format!("{} {}", rule.name, rule.path)).collect()
    }

    fn shop() -> State {
        state(&[workload("w", "n", "web", "shop")])
    }

    #[test]
    fn a_program_is_learned_once_by_name_and_path() {
        let mut state = shop();
        let seen = [program("nv.web.shop", "/usr/sbin/nginx"), program("nv.web.shop", "/usr/sbin/nginx")];
        learn(&mut state, &seen);
        assert_eq!(lines(&state, "nv.web.shop"), ["nginx /usr/sbin/nginx"]);
        assert_eq!(learn(&mut state, &seen), []);
    }

    #[test]
    fn suspicious_programs_are_never_learned() {
        for (group, path, learned) in [
            ("nv.web.shop", "/usr/bin/nmap", false),
            ("nv.web.shop", "/bin/nc", false),
            ("nv.web.shop", "/usr/sbin/sshd", false),
            ("nodes", "/usr/sbin/sshd", true),
            ("nodes", "/usr/bin/socat", false),
            ("nv.web.shop", "/lib64/ld-linux-x86-64.so.2", false),
            ("nv.web.shop", "/usr/bin/curl", true),
        ] {
            let mut state = shop();
            learn(&mut state, &[program(group, path)]);
            assert_eq!(!lines(&state, group).is_empty(), learned, "{group} {path}");
        }
    }

    #[test]
    fn what_was_not_let_through_or_has_no_path_is_not_learned() {
        for program in [
            Program { verdict: Verdict::Violate, ..program("nv.web.shop", "/a") },
            Program { fileless: true, ..program("nv.web.shop", "/memfd:x (deleted)") },
            program("nv.web.shop", "relative"),
            program("nv.web.shop", "/a/"),
            program("nv.web.shop", "/a/../b"),
            program("nv.web.shop", "/a*"),
            program("nv.ip.web", "/a"),
            program("my-group", "/a"),
        ] {
            assert_eq!(learn(&mut shop(), std::slice::from_ref(&program)), [], "{program:?}");
        }
    }

    #[test]
    fn a_denial_survives_learning() {
        let mut state = shop();
        let held = ProcessProfile {
            group: name("nv.web.shop"),
            rules: vec![process("d", "curl", "*", Action::Deny)],
            alert_disabled: false,
            hash_enabled: false,
        };
        state.profiles.insert(held.group.clone(), held);
        assert_eq!(learn(&mut state, &[program("nv.web.shop", "/usr/bin/curl")]), []);
    }

    #[test]
    fn a_program_that_is_denied_in_some_cases_is_learned_and_one_allowed_in_some_is_not() {
        for (action, learned) in [(Action::Deny, 1), (Action::Allow, 0)] {
            let mut state = shop();
            let mut line = process("d", "curl", "*", action);
            line.conditions.uid = Some(0);
            let held = ProcessProfile {
                group: name("nv.web.shop"),
                rules: vec![line],
                alert_disabled: false,
                hash_enabled: false,
            };
            state.profiles.insert(held.group.clone(), held);
            assert_eq!(
                learn(&mut state, &[program("nv.web.shop", "/usr/bin/curl")]).len(),
                learned,
                "{action:?}"
            );
        }
    }

    #[test]
    fn many_paths_of_one_name_become_the_folder_they_share() {
        let mut state = shop();
        let seen: Vec<Program> =
            (0..=20).map(|n| program("nv.web.shop", &format!("/tmp/build-{n}/cc1"))).collect();
        learn(&mut state, &seen);
        assert_eq!(lines(&state, "nv.web.shop"), ["cc1 /tmp/*"]);
        assert_eq!(learn(&mut state, &[program("nv.web.shop", "/tmp/build-99/cc1")]), []);
    }

    proptest! {
        #[test]
        fn learning_is_idempotent_and_what_was_learned_is_allowed(
            paths in prop::collection::vec("(/[ab]){0,2}/(x|y|sh)", 0..60),
        ) {
            let mut state = shop();
            let seen: Vec<Program> = paths.iter().map(|path| program("nv.web.shop", path)).collect();
            learn(&mut state, &seen);
            prop_assert_eq!(learn(&mut state, &seen), vec![]);
            for path in &paths {
                prop_assert!(state.profiles[&name("nv.web.shop")].rules.iter().any(|rule| rule.matches(path)));
            }
        }
    }
}
