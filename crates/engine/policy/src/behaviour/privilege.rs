//! The rights of root that a process did not have before.

use nv_model::behaviour::Behaviour;

use super::{Exec, Finding};

/// The finding of an exec by which a process has become root.
pub(super) fn gained(exec: &Exec<'_>) -> Option<Finding> {
    let (uid, euid) = exec.before?;
    // What had them, or was on the way back from a program with the set-id bit, has gained nothing.
    if uid == 0 || euid == 0 || exec.euid != 0 {
        return None;
    }
    if exec.uid == 0 {
        let what =
            format!("user {uid} has become root without a program that may do so, and runs {}", exec.path);
        return Some(Finding::new(Behaviour::Escalation, what));
    }
    // The kernel made it root for the file's set-id bit. Programs of the image that do so (sudo, su, ping) are what
    // the profile knows; those that came later, or that the profile does not allow, are someone's way up.
    let unknown = exec.verdict.is_violation() || (exec.container && exec.drifted);
    unknown.then(|| {
        let what = format!("user {} runs {} as root by its set-id bit", exec.uid, exec.path);
        Finding::new(Behaviour::SetIdEscalation, what)
    })
}

#[cfg(test)]
mod tests {
    use nv_model::verdict::Verdict;

    use super::super::testing::{exec, found};
    use super::*;

    const USER: Option<(u32, u32)> = Some((1000, 1000));

    #[test]
    fn root_from_nowhere_is_an_escalation() {
        assert_eq!(found(&Exec { before: USER, ..exec() }), [Behaviour::Escalation]);
        for before in [Some((0, 0)), Some((1000, 0)), Some((0, 1000)), None] {
            assert_eq!(found(&Exec { before, ..exec() }), [], "{before:?}");
        }
        assert_eq!(found(&Exec { before: USER, uid: 1000, euid: 1000, ..exec() }), []);
    }

    #[test]
    fn a_set_id_program_is_told_when_the_profile_does_not_know_it_or_it_is_new() {
        let sudo = Exec { before: USER, uid: 1000, euid: 0, ..exec() };
        for verdict in [Verdict::Learn, Verdict::Allow, Verdict::Open] {
            assert_eq!(found(&Exec { verdict, ..sudo }), [], "{verdict:?}");
        }
        assert_eq!(found(&Exec { verdict: Verdict::Deny, ..sudo }), [Behaviour::SetIdEscalation]);
        assert_eq!(
            found(&Exec { drifted: true, ..sudo }),
            [Behaviour::SetIdEscalation, Behaviour::NewExecutable]
        );
        assert_eq!(found(&Exec { drifted: true, container: false, ..sudo }), [], "a host has no image");
    }
}
