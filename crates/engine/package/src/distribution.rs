//! Which distribution a root file system is.

use serde::{Deserialize, Serialize};

use crate::read::lines;

/// A distribution and its release, as `os-release` names them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Distribution {
    /// `ID`, in lower case: `debian`, `ubuntu`, `alpine`, `rhel`, `almalinux`.
    pub id: String,
    /// `VERSION_ID`: `12`, `22.04`, `3.20.3`, `9.4`; empty for a rolling release.
    pub version: String,
    /// `ID_LIKE`: what it descends from, the nearest first.
    pub like: Vec<String>,
    /// `VERSION_CODENAME`, or the name in brackets of `VERSION`.
    pub codename: String,
    /// `PRETTY_NAME`.
    pub pretty: String,
}

/// Reads `etc/os-release` or `usr/lib/os-release` (os-release(5)); none where there is no `ID`.
pub fn parse_os_release(bytes: &[u8]) -> Option<Distribution> {
    let mut found = Distribution::default();
    for (_, line) in lines(bytes) {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let value = unquote(value.trim());
        match key {
            "ID" => found.id = value.to_ascii_lowercase(),
            "VERSION_ID" => found.version = value,
            "ID_LIKE" => found.like = value.split_ascii_whitespace().map(str::to_ascii_lowercase).collect(),
            "VERSION_CODENAME" => found.codename = value,
            "VERSION" if found.codename.is_empty() => {
                let inside = value.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
                if let Some((name, _)) = inside {
                    found.codename = name.to_ascii_lowercase();
                }
            }
            "PRETTY_NAME" => found.pretty = value,
            _ => {}
        }
    }
    (!found.id.is_empty()).then_some(found)
}

/// Reads `etc/redhat-release` of releases that have no `os-release`: `CentOS release 6.10 (Final)`.
pub fn parse_red_hat_release(bytes: &[u8]) -> Option<Distribution> {
    let (_, line) = lines(bytes).next()?;
    let line = line.trim();
    let (name, rest) = line.split_once(" release ")?;
    let id = match name {
        "CentOS" | "CentOS Linux" => "centos",
        _ if name.starts_with("Red Hat") => "rhel",
        "AlmaLinux" => "almalinux",
        "Rocky Linux" => "rocky",
        "Scientific Linux" => "scientific",
        "Fedora" => "fedora",
        _ => return None,
    };
    Some(Distribution {
        id: id.to_owned(),
        version: rest.split(' ').next().unwrap_or_default().to_owned(),
        like: vec!["rhel".to_owned()],
        codename: String::new(),
        pretty: line.to_owned(),
    })
}

fn unquote(value: &str) -> String {
    let inside = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)));
    match inside {
        Some(inside) => inside.replace("\\\"", "\"").replace("\\$", "$").replace("\\\\", "\\"),
        None => value.to_owned(),
    }
}

impl Distribution {
    /// The first number of the release: `9` of `9.4`.
    pub fn major(&self) -> &str {
        self.version.split('.').next().unwrap_or_default()
    }

    /// The first two numbers of the release: `3.20` of `3.20.3`.
    pub fn major_minor(&self) -> String {
        self.version.split('.').take(2).collect::<Vec<_>>().join(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_os_release_names_the_distribution() {
        let found = parse_os_release(
            b"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nVERSION=\"12 (bookworm)\"\nID=debian\n",
        )
        .unwrap();
        assert_eq!((&*found.id, &*found.version, &*found.codename), ("debian", "12", "bookworm"));
        let found =
            parse_os_release(b"ID='almalinux'\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"").unwrap();
        assert_eq!(found.like, ["rhel", "centos", "fedora"]);
        assert_eq!((found.major(), found.major_minor()), ("9", "9.4".to_owned()));
        assert_eq!(parse_os_release(b"NAME=nothing\n\xff\xfe"), None);
        let found = parse_red_hat_release(b"CentOS release 6.10 (Final)\n").unwrap();
        assert_eq!((&*found.id, found.major()), ("centos", "6"));
        assert_eq!(parse_red_hat_release(b"Plan 9 release 4\n"), None);
    }
}
