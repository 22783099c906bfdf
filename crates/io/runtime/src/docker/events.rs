//! The daemon's events: one JSON object a line, for as long as the connection lives.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio::sync::mpsc;

use crate::cgroup;
use crate::docker::answer::Named;
use crate::docker::http::Client;
use crate::watch::Hint;

/// Longest event that is read, in bytes: it has all labels of its container.
const LINE_BYTES: usize = 1024 * 1024;
/// What may change of a container that matters here. Commands that are run in one, health checks among them, are events
/// as well, and many; the daemon is asked to leave them out.
const CONTAINER: [&str; 9] =
    ["create", "start", "restart", "die", "pause", "unpause", "rename", "update", "destroy"];
/// What may change of a network; the container is named in the attributes.
const NETWORK: [&str; 2] = ["connect", "disconnect"];

/// What is read of an event.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Event {
    r#type: String,
    action: String,
    actor: Actor,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: Option<BTreeMap<String, String>>,
}

/// Follows the events and gives each as a hint of what to look at, until the stream ends.
///
/// A daemon drops events for a reader that does not keep up, so the lists that the watcher makes now and then stay
/// what counts.
pub(crate) async fn follow(client: Client, hints: mpsc::Sender<Hint>) {
    let ended = match client.stream("follow Docker's events", &path()).await {
        Ok(mut stream) => {
            let mut lines = Lines::default();
            loop {
                match stream.next().await {
                    Some(Ok(bytes)) => {
                        for hint in lines.take(&bytes) {
                            if hints.send(hint).await.is_err() {
                                return;
                            }
                        }
                    }
                    Some(Err(message)) => break message,
                    None => break "end of stream".to_owned(),
                }
            }
        }
        Err(error) => error.to_string(),
    };
    // Nobody listens any more: then nobody needs to know.
    hints.send(Hint::Ended(ended)).await.unwrap_or_default();
}

/// Path of the events that matter, and no others.
fn path() -> String {
    let events: Vec<&str> = CONTAINER.into_iter().chain(NETWORK).collect();
    let filters = serde_json::json!({ "type": ["container", "network"], "event": events }).to_string();
    let mut path = "/events?filters=".to_owned();
    for byte in filters.bytes() {
        if byte.is_ascii_alphanumeric() {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

/// Puts lines together from pieces.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    /// The line that is coming is too long to be kept.
    skipping: bool,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Vec<Hint> {
        let mut hints = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = part.last() == Some(&b'\n');
            if !self.skipping {
                self.begun.extend_from_slice(part);
            }
            if self.begun.len() > LINE_BYTES {
                self.begun = Vec::new();
                self.skipping = true;
            }
            if ends {
                // Whatever it was that cannot be read: the list tells.
                let hint = if self.skipping { Some(Hint::List) } else { hint(&self.begun) };
                hints.extend(hint);
                self.begun.clear();
                self.skipping = false;
            }
        }
        hints
    }
}

fn hint(line: &[u8]) -> Option<Hint> {
    let mut event: Event = serde_json::from_slice(line).ok()?;
    let is_new = event.r#type == "container" && event.action == "create";
    // Name, image and all labels.
    let created = event.actor.attributes.take_if(|_| is_new);
    let id = match event.r#type.as_str() {
        "container" if CONTAINER.contains(&event.action.as_str()) => event.actor.id,
        "network" if NETWORK.contains(&event.action.as_str()) => {
            event.actor.attributes?.remove("container")?
        }
        _ => return None,
    };
    // It becomes part of a path.
    cgroup::container_id(&id)?;
    let created = created.and_then(|mut attributes| {
        let mut take = |key| attributes.remove(key).unwrap_or_default();
        let (name, image) = (take("name"), take("image"));
        Named::new(id.clone(), &name, image, attributes)
    });
    Some(created.map_or_else(|| Hint::Look { namespace: String::new(), id }, Hint::Created))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "30096ded6a8042e915108c59e719df59286b04435faccda7a7fbf5a81569bb1f";

    fn event(kind: &str, action: &str, id: &str) -> String {
        format!(
            "{{\"status\":\"{action}\",\"id\":\"{id}\",\"Type\":\"{kind}\",\"Action\":\"{action}\",\
             \"Actor\":{{\"ID\":\"{id}\",\"Attributes\":{{\"container\":\"{ID}\"}}}},\"timeNano\":1}}\n"
        )
    }

    fn looked_at(lines: &mut Lines, bytes: &str) -> Vec<String> {
        let name = |hint| match hint {
            Hint::Look { id, .. } => id,
            Hint::Created(named) => named.id,
            other => format!("{other:?}"),
        };
        lines.take(bytes.as_bytes()).into_iter().map(name).collect()
    }

    #[test]
    fn what_changes_a_container_is_looked_at_and_nothing_else() {
        for (kind, action, id, want) in [
            ("container", "create", ID, true),
            ("container", "rename", ID, true),
            ("container", "unpause", ID, true),
            ("network", "connect", "n1", true),
            ("container", "exec_start: /bin/sh", ID, false),
            ("container", "health_status: healthy", ID, false),
            ("network", "create", "n1", false),
            ("image", "tag", ID, false),
            ("container", "start", "../../images/json", false),
        ] {
            let found = looked_at(&mut Lines::default(), &event(kind, action, id));
            assert_eq!(found, if want { vec![ID.to_owned()] } else { vec![] }, "{kind} {action} {id}");
        }
    }

    #[test]
    fn a_new_container_comes_with_its_name_image_and_labels() {
        let line = format!(
            r#"{{"Type":"container","Action":"create","Actor":{{"ID":"{ID}","Attributes":
            {{"app":"x","image":"shop/web:1","name":"cart"}}}}}}"#
        );
        let labels = BTreeMap::from([("app".to_owned(), "x".to_owned())]);
        let want = Named { id: ID.into(), name: "cart".into(), image: "shop/web:1".into(), labels };
        match hint(line.as_bytes()) {
            Some(Hint::Created(named)) => assert_eq!(named, want),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_come_in_pieces_and_broken_ones_are_passed_over() {
        let mut lines = Lines::default();
        let text =
            format!("{}{{broken\n\n{}", event("container", "die", ID), event("container", "start", ID));
        let (first, second) = text.split_at(50);
        assert_eq!(looked_at(&mut lines, first), [""; 0]);
        assert_eq!(looked_at(&mut lines, second), [ID, ID]);
    }

    #[test]
    fn a_line_without_end_is_not_kept_and_makes_a_list() {
        let mut lines = Lines::default();
        for _ in 0..3 {
            assert_eq!(looked_at(&mut lines, &"x".repeat(LINE_BYTES)), [""; 0]);
            assert!(lines.begun.len() <= LINE_BYTES);
        }
        let rest = format!("x\n{}", event("container", "start", ID));
        assert_eq!(looked_at(&mut lines, &rest), ["List", ID]);
    }

    #[test]
    fn the_daemon_is_asked_for_these_events_only() {
        let path = path();
        assert!(path.contains("%22rename%22") && path.contains("%22disconnect%22"), "{path}");
        assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/?=%".contains(&byte)), "{path}");
    }

    proptest! {
        #[test]
        fn reading_is_total(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8)) {
            let mut lines = Lines::default();
            for piece in pieces {
                lines.take(&piece);
            }
        }
    }
}
