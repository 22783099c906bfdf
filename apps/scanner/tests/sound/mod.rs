//! A package that is vulnerable and lies where it should, as every scan has to find it whatever is wrong beside it.

/// Its distribution's `/etc/os-release`.
pub(crate) const RELEASE: &str = "ID=alpine\nVERSION_ID=3.18.4\n";
/// Its entry in `/lib/apk/db/installed`.
pub(crate) const APK: &str = "P:busybox\nV:1.36.1-r5\nA:x86_64\n\n";
/// The feed that calls it vulnerable, by CVE-2023-42363.
pub(crate) const SECDB: &str = "---\ndistroversion: v3.18\nreponame: main\narchs:\n  - x86_64\npackages:\n  - pkg:\n      name: busybox\n      secfixes:\n        1.36.1-r6:\n          - CVE-2023-42363\n";
