//! Applications of file rules from the programs that opened the files.

use std::collections::BTreeMap;

use nv_model::file::{FileBehavior, FilePattern, FileProfile};
use nv_model::name::GroupName;
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;
use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::state::State;
use crate::validate::MAX_FILE_APPLICATIONS;

/// A program that opened a file under a rule that blocks others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileAccess {
    /// The group whose rule it is.
    pub group: GroupName,
    /// The rule's filter.
    pub filter: FilePattern,
    /// The program's executable, absolute in the workload.
    pub application: String,
    /// What was decided; [`Verdict::Learn`] is learned.
    pub verdict: Verdict,
}

/// What the accesses add to the rules that they fell under. The rules of a custom resource or the federation stay.
#[must_use]
pub fn files(state: &State, accesses: &[FileAccess], now: Timestamp) -> Vec<Change> {
    let mut drafts: BTreeMap<&GroupName, FileProfile> = BTreeMap::new();
    for access in accesses {
        if access.verdict != Verdict::Learn || !access.application.starts_with('/') {
            continue;
        }
        let Some(held) = state.files.get(&access.group) else { continue };
        let draft = drafts.entry(&access.group).or_insert_with(|| held.clone());
        let Some(rule) = draft.rules.iter_mut().find(|rule| rule.filter == access.filter) else { continue };
        let open = rule.behavior == FileBehavior::BlockAccess
            && matches!(rule.origin, nv_model::group::Origin::UserCreated | nv_model::group::Origin::Learned)
            && rule.applications.len() < MAX_FILE_APPLICATIONS;
        if open && !rule.applications.contains(&access.application) {
            rule.applications.push(access.application.clone());
            rule.modified = now;
        }
    }
    drafts
        .into_iter()
        .filter(|(group, draft)| state.files.get(*group) != Some(draft))
        .map(|(_, draft)| Change::PutFiles(Box::new(draft)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{name, state, workload};
    use nv_model::file::FileRule;
    use nv_model::group::Origin;

    #[test]
    fn an_opener_seen_in_discover_becomes_an_application_of_the_rule_once() {
        let mut state = state(&[workload("w", "n", "web", "shop")]);
        let group = name("nv.web.shop");
        let filter: FilePattern = "/etc/shadow".parse().unwrap();
        let rule = FileRule {
            filter: filter.clone(),
            recursive: false,
            behavior: FileBehavior::BlockAccess,
            applications: vec!["/usr/bin/passwd".into()],
            origin: Origin::UserCreated,
            created: Timestamp::NEVER,
            modified: Timestamp::NEVER,
        };
        state.files.insert(group.clone(), FileProfile { group: group.clone(), rules: vec![rule] });
        let access = |application: &str, verdict| FileAccess {
            group: group.clone(),
            filter: filter.clone(),
            application: application.into(),
            verdict,
        };
        let seen = [
            access("/bin/su", Verdict::Learn),
            access("/bin/su", Verdict::Learn),
            access("/bin/cat", Verdict::Violate),
        ];
        let changes = files(&state, &seen, Timestamp::from_seconds(5));
        state.apply_all(&changes);
        assert_eq!(state.files[&group].rules[0].applications, ["/usr/bin/passwd", "/bin/su"]);
        assert_eq!(files(&state, &seen, Timestamp::from_seconds(6)), []);
    }
}
