//! The items on images of the CIS Docker benchmark (1.6, section 4, "Container Images and Build File Configuration"), as
//! far as an image itself shows them.

use crate::item::{Item, Judged, Level};

/// Most pieces of evidence of one item.
const MAX_EVIDENCE: usize = 100;

const fn item(
    number: &'static str,
    profile: &'static str,
    scored: bool,
    description: &'static str,
    remediation: &'static str,
) -> Item {
    Item {
        number,
        category: "docker",
        kind: "image",
        profile,
        scored,
        automated: true,
        description,
        remediation,
    }
}

static USER: Item = item(
    "I.4.1",
    "Level 1",
    true,
    "Ensure that the image runs as a user other than root",
    "Make a user in the build file and name it with USER",
);
static HEALTH: Item = item(
    "I.4.6",
    "Level 1",
    true,
    "Ensure that the image says how its health is checked",
    "Add HEALTHCHECK to the build file",
);
static SET_ID: Item = item(
    "I.4.8",
    "Level 2",
    false,
    "Ensure that no file in the image runs as another user or group",
    "Take the set-uid and set-gid bits away (chmod a-s), or remove the files",
);
static ADD: Item = item(
    "I.4.9",
    "Level 1",
    false,
    "Ensure that files are put into the image with COPY instead of ADD",
    "Use COPY in the build file: ADD fetches addresses and unpacks archives",
);
static SECRETS: Item = item(
    "I.4.10",
    "Level 1",
    false,
    "Ensure that no secret is in the image",
    "Take secrets out of the build file and the files, change them, and give them to the container when it starts",
);

/// What an image shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageUnderTest<'a> {
    /// The user that it runs as, `user` or `user:group`; empty for root.
    pub user: &'a str,
    /// Whether its health is checked by a command.
    pub health_check: bool,
    /// The commands that made it, the first first.
    pub history: Vec<&'a str>,
    /// Files with the set-uid or set-gid bit.
    pub set_ids: Vec<&'a str>,
    /// Where secrets were found; none where none were looked for.
    pub secrets: Option<Vec<&'a str>>,
}

/// Judges every item that can be judged, in the order of their numbers.
#[must_use]
pub fn judge_image(image: &ImageUnderTest<'_>) -> Vec<Judged> {
    let mut judged = Vec::new();
    let mut judge = |item: &'static Item, found: Vec<String>| {
        let level = if found.is_empty() { Level::Pass } else { Level::Warn };
        judged.push(Judged { item, level, evidence: found.into_iter().take(MAX_EVIDENCE).collect() });
    };
    let said = |found: bool, text: String| if found { vec![text] } else { Vec::new() };
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    judge(
        &USER,
        said(
            is_root(image.user),
            format!("runs as {}", if image.user.is_empty() { "root" } else { image.user }),
        ),
    );
    judge(&HEALTH, said(!image.health_check, "no HEALTHCHECK".to_owned()));
    judge(&SET_ID, texts(&image.set_ids));
    // An image that is built on none gets its root file system by an ADD, which COPY cannot replace.
    let later = image.history.iter().skip(1);
    judge(&ADD, later.filter(|command| is_add(command)).map(|command| (*command).to_owned()).collect());
    if let Some(secrets) = &image.secrets {
        judge(&SECRETS, texts(secrets));
    }
    judged
}

/// Whether an image's `User` is root, by name or number.
fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    name.is_empty() || name == "root" || name.parse::<u64>() == Ok(0)
}

/// Whether a step was an ADD: Docker's own builder writes `/bin/sh -c #(nop) ADD file:… in /x`, BuildKit `ADD x /x #
/// buildkit`.
fn is_add(command: &str) -> bool {
    let command = command.split_once("#(nop)").map_or(command, |(_, rest)| rest);
    command.trim_start().split_ascii_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("ADD"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(image: &ImageUnderTest<'_>) -> Vec<(&'static str, usize)> {
        let judged = judge_image(image);
        judged
            .into_iter()
            .filter(|one| one.level == Level::Warn)
            .map(|one| (one.item.number, one.evidence.len()))
            .collect()
    }

    #[test]
    fn an_image_that_keeps_to_all_items_passes_all() {
        let image = ImageUnderTest {
            user: "app:app",
            health_check: true,
            history: vec![
                "/bin/sh -c #(nop) ADD file:0a in / ",
                "COPY app /app # buildkit",
                "RUN addgroup add",
            ],
            secrets: Some(Vec::new()),
            ..ImageUnderTest::default()
        };
        assert_eq!(warned(&image), []);
        assert_eq!(judge_image(&image).len(), 5);
        let unsearched = ImageUnderTest { secrets: None, ..image };
        assert_eq!(judge_image(&unsearched).len(), 4, "what was not looked for is not passed");
    }

    #[test]
    fn each_item_tells_what_is_against_it() {
        let image = ImageUnderTest {
            user: "0:0",
            history: vec![
                "ADD rootfs.tar.xz / # buildkit",
                "ADD https://x.example/y /y # buildkit",
                "/bin/sh -c #(nop) ADD multi:1 in /opt",
            ],
            set_ids: vec!["usr/bin/su", "usr/bin/passwd"],
            secrets: Some(vec!["app/.env"]),
            ..ImageUnderTest::default()
        };
        let want = [("I.4.1", 1), ("I.4.6", 1), ("I.4.8", 2), ("I.4.9", 2), ("I.4.10", 1)];
        assert_eq!(warned(&image), want);
        for root in ["", "root", "0", "root:wheel", "00"] {
            assert!(is_root(root), "{root:?}");
        }
        assert!(!is_root("1000") && !is_root("nobody:0"));
    }
}
