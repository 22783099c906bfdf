//! The file rules of a workload: which one covers a path, what it decides, and the built-in watch list behind them.

use std::sync::LazyLock;

use nv_model::file::{FileBehavior, FileOperation, FileRule};
use nv_model::group::Origin;
use nv_model::mode::Mode;
use nv_model::name::GroupName;
use nv_model::profile::EffectiveProfile;
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;

/// Filters of the built-in watch list, and whether they reach below their folders. Changes are reported, in every mode
/// and group, and never stopped. The list is the contract's.
const WATCHED: [(&str, bool); 23] = [
    ("/var/lib/dpkg/status", false),
    ("/var/lib/rpm/Packages", false),
    ("/var/lib/rpm/Packages.db", false),
    ("/var/lib/rpm/rpmdb.sqlite", false),
    ("/lib/apk/db/installed", false),
    ("/usr/lib/apk/db/installed", false),
    ("/etc/hosts", false),
    ("/etc/passwd", false),
    ("/etc/shadow", false),
    ("/etc/resolv.conf", false),
    ("/home/*/.ssh/*", false),
    ("/lib/ld-linux*", true),
    ("/lib/libc.*", true),
    ("/lib/libpthread*", true),
    ("/lib64/ld-linux*", true),
    ("/lib64/libc.*", true),
    ("/lib64/libpthread*", true),
    ("/bin/*", true),
    ("/sbin/*", true),
    ("/usr/bin/*", true),
    ("/usr/sbin/*", true),
    ("/usr/local/bin/*", true),
    ("/usr/local/sbin/*", true),
];

/// Filters of [`WATCHED`] that are lists of installed packages.
const PACKAGE_DATABASES: usize = 6;

static PREDEFINED: LazyLock<Vec<FileRule>> = LazyLock::new(|| {
    WATCHED
        .iter()
        .filter_map(|(filter, recursive)| {
            Some(FileRule {
                filter: filter.parse().ok()?,
                recursive: *recursive,
                behavior: FileBehavior::MonitorChange,
                applications: Vec::new(),
                origin: Origin::SystemDefined,
                created: Timestamp::NEVER,
                modified: Timestamp::NEVER,
            })
        })
        .collect()
});

/// The built-in watch list.
#[must_use]
pub fn predefined() -> &'static [FileRule] {
    &PREDEFINED
}

/// Whether the path is a list of installed packages: once it changes, what was found about the workload is out of date.
#[must_use]
pub fn is_package_database(path: &str) -> bool {
    WATCHED.iter().take(PACKAGE_DATABASES).any(|(filter, _)| *filter == path)
}

/// Every rule that holds under a profile, in order, with its group: the profile's own, then the built-in ones as the
/// profile's group's.
pub fn rules(profile: &EffectiveProfile) -> impl Iterator<Item = (&GroupName, &FileRule)> {
    let own = profile.files.iter().map(|(group, rule)| (group, rule));
    own.chain(predefined().iter().map(|rule| (&profile.group, rule)))
}

/// The rule that decides about a path: the first that covers it.
#[must_use]
pub fn covering<'a>(profile: &'a EffectiveProfile, path: &str) -> Option<(&'a GroupName, &'a FileRule)> {
    rules(profile).find(|(_, rule)| rule.filter.covers(path, rule.recursive))
}

/// What a rule says of a program that does something to a file that the rule covers. `application` is the absolute path
/// of the program's executable in the workload.
///
/// A watched file that changes is always a violation, and one that is read never. A blocked file is for the rule's
/// applications; for others the mode decides.
#[must_use]
pub fn decide(rule: &FileRule, mode: Mode, operation: FileOperation, application: &str) -> Verdict {
    match rule.behavior {
        FileBehavior::MonitorChange if operation.changes() => Verdict::Violate,
        FileBehavior::MonitorChange => Verdict::Allow,
        FileBehavior::BlockAccess if rule.applications.iter().any(|allowed| allowed == application) => {
            Verdict::Allow
        }
        FileBehavior::BlockAccess => match mode {
            Mode::Discover => Verdict::Learn,
            Mode::Monitor => Verdict::Violate,
            Mode::Protect => Verdict::Deny,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(filter: &str, behavior: FileBehavior, applications: &[&str]) -> FileRule {
        FileRule {
            filter: filter.parse().unwrap(),
            recursive: false,
            behavior,
            applications: applications.iter().map(|&path| path.to_owned()).collect(),
            origin: Origin::UserCreated,
            created: Timestamp::NEVER,
            modified: Timestamp::NEVER,
        }
    }
    fn profile(files: Vec<FileRule>) -> EffectiveProfile {
        let group: GroupName = "nv.web.shop".parse().unwrap();
        EffectiveProfile {
            group: group.clone(),
            mode: Mode::Protect,
            baseline: nv_model::mode::Baseline::Basic,
            rules: Vec::new(),
            files: files.into_iter().map(|rule| (group.clone(), rule)).collect(),
            alert_disabled: false,
            fault: nv_model::mode::Fault::Open,
        }
    }

    #[test]
    fn every_built_in_filter_is_one() {
        assert_eq!(predefined().len(), WATCHED.len());
        assert!(is_package_database("/var/lib/dpkg/status") && !is_package_database("/etc/hosts"));
    }

    #[test]
    fn a_users_rule_stands_before_the_built_in_one() {
        let own = rule("/etc/shadow", FileBehavior::BlockAccess, &["/usr/bin/passwd"]);
        let profile = profile(vec![own.clone()]);
        assert_eq!(covering(&profile, "/etc/shadow").map(|(_, rule)| rule), Some(&own));
        let built_in = covering(&profile, "/home/ann/.ssh/id_rsa").map(|(_, rule)| rule.behavior);
        assert_eq!(built_in, Some(FileBehavior::MonitorChange));
        assert_eq!(covering(&profile, "/srv/data"), None);
    }

    #[test]
    fn a_blocked_file_is_for_its_applications_and_for_others_the_mode_decides() {
        use FileOperation::{Delete, Modify, Open};
        let blocked = rule("/etc/shadow", FileBehavior::BlockAccess, &["/usr/bin/passwd"]);
        let watched = rule("/etc/hosts", FileBehavior::MonitorChange, &[]);
        for (rule, mode, operation, application, want) in [
            (&blocked, Mode::Protect, Open, "/usr/bin/passwd", Verdict::Allow),
            (&blocked, Mode::Protect, Open, "/tmp/passwd", Verdict::Deny),
            (&blocked, Mode::Protect, Delete, "/bin/rm", Verdict::Deny),
            (&blocked, Mode::Monitor, Open, "/bin/cat", Verdict::Violate),
            (&blocked, Mode::Discover, Open, "/bin/cat", Verdict::Learn),
            (&watched, Mode::Protect, Open, "/bin/cat", Verdict::Allow),
            (&watched, Mode::Discover, Modify, "/bin/sh", Verdict::Violate),
        ] {
            assert_eq!(decide(rule, mode, operation, application), want, "{} {operation:?}", rule.filter);
        }
    }
}
