//! What users do, as records of the event log.

use axum::http::Method;
use nv_identity::session::Session;
use nv_model::record::{Event, Level, LogCommon, Record};
use serde_json::Value;

use crate::app::App;
use crate::call::{Call, roles_by_domain};
use crate::route::Route;

/// Longest part of a body that is kept, in bytes.
const MAX_BODY: usize = 1_024;
/// What stands for a secret.
const MASK: &str = "******";
/// Parts of keys whose values are secrets, in lower case.
const SECRET_KEYS: [&str; 10] = [
    "access_key",
    "password",
    "secret",
    "token",
    "apikey",
    "private_key",
    "signing_key",
    "json_key",
    "x509_cert",
    "credential",
];

fn event(app: &App, name: &str, level: Level, category: &str) -> Event {
    let now = app.clock.now();
    // The controller fills itself and the cluster in.
    Event {
        common: LogCommon {
            name: name.to_owned(),
            level,
            reported_at: now.rfc3339(),
            reported_timestamp: now.seconds(),
            ..LogCommon::default()
        },
        category: category.to_owned(),
        ..Event::default()
    }
}

/// A request is not refused because its event could not be kept; that it could not is told.
fn log(app: &App, event: Event) {
    if let Err(error) = app.controller.log(Record::Event(Box::new(event))) {
        tracing::error!(%error, "an event could not be logged");
    }
}

fn by_caller(event: &mut Event, call: &Call) {
    event.user = call.caller.name().to_owned();
    event.user_roles = call.caller.roles();
    event.user_addr = call.peer.to_string();
    event.user_session = call.caller.session_id().to_owned();
}

/// Something that a user did or failed to do at the door: login, logout, a block, a password.
pub(crate) fn auth(call: &Call, name: &str, level: Level, user: &str, address: &str, message: &str) {
    let mut event = event(&call.app, name, level, "AUTH");
    by_caller(&mut event, call);
    event.user = user.chars().take(128).collect();
    if !address.is_empty() {
        event.user_addr = address.to_owned();
    }
    if let Some(held) = call.app.accounts.book().users.get(user) {
        event.user_roles = roles_by_domain(&held.value.assignment);
    }
    message.clone_into(&mut event.message);
    log(&call.app, event);
}

/// A session that ended by itself.
pub(crate) fn timed_out(app: &App, session: &Session) {
    let mut event = event(app, "User.Timeout", Level::Info, "AUTH");
    session.user.as_str().clone_into(&mut event.user);
    session.address.clone_into(&mut event.user_addr);
    session.id.clone_into(&mut event.user_session);
    log(app, event);
}

/// A request that was refused for want of rights. Requests that the console makes by itself are left out.
pub(crate) fn access_denied(call: &Call, method: &Method, path: &str) {
    if call.headers.contains_key("x-nv-page") {
        return;
    }
    let mut event = event(&call.app, "User.Resource.Access.Denied", Level::Warning, "AUTH");
    by_caller(&mut event, call);
    event.rest_method = method.to_string();
    event.rest_request = path.chars().take(MAX_BODY).collect();
    event.message = "Access denied".to_owned();
    log(&call.app, event);
}

/// A write that was done.
pub(crate) fn written(call: &Call, route: &Route, path: &str, body: &[u8]) {
    let mut event = event(&call.app, "RESTful.Write", Level::Info, "RESTFUL");
    by_caller(&mut event, call);
    event.rest_method = route.method.to_string();
    event.rest_request = path.chars().take(MAX_BODY).collect();
    event.rest_body = masked(body);
    route.summary.clone_into(&mut event.message);
    log(&call.app, event);
}

/// A body with its secrets masked, cut; nothing of what is not JSON.
fn masked(body: &[u8]) -> String {
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else { return String::new() };
    mask(&mut value, false);
    let mut text = value.to_string();
    if text.len() > MAX_BODY {
        let end = (0..=MAX_BODY).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// The parser bounded the depth, so this recursion is bounded.
fn mask(value: &mut Value, secret: bool) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.to_ascii_lowercase();
                let text_is_secret = secret || SECRET_KEYS.iter().any(|word| key.contains(word));
                mask(value, text_is_secret);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, secret)),
        Value::String(text) if secret && !text.is_empty() => MASK.clone_into(text),
        Value::Number(_) if secret => *value = Value::String(MASK.to_owned()),
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_of_a_body_are_masked_wherever_they_stand() {
        let body = br#"{"config":{"name":"x","New_Password":"p1","auth":{"aws_key":{"secret_access_key":["p2",3]},"username":"u"}},"token":"p3"}"#;
        let text = masked(body);
        for secret in ["p1", "p2", "p3"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.contains(r#""name":"x""#) && text.contains(r#""username":"u""#), "{text}");
    }

    #[test]
    fn what_is_not_json_is_not_kept_and_what_is_long_is_cut() {
        assert_eq!(masked(b"password=p1"), "");
        assert!(masked(format!("{{\"a\":\"{}\"}}", "ü".repeat(2_000)).as_bytes()).len() <= MAX_BODY);
    }

    proptest! {
        #[test]
        fn no_string_below_a_secret_key_survives(secret in "[a-z]{8,12}", depth in 0_usize..5) {
            let mut value = Value::String(secret.clone());
            for _ in 0..depth {
                value = serde_json::json!({"inner": [value]});
            }
            let body = serde_json::json!({"outer": {"API_Secret": value}}).to_string();
            prop_assert!(!masked(body.as_bytes()).contains(&secret));
        }
    }
}
