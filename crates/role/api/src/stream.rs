//! `GET /v1/stream`: records of the logs as server-sent events, from a place in the log or from now on.
//!
//! ```text
//! Last-Event-ID ─► EventLog::since, page by page ─► caught up ─► subscription ─► lagged? ─► since again
//! ```
//!
//! Each event is named after its topic, its id is the record's sequence, its data the record. Besides the logs' topics
//! there are `workload`, `group` and `policy`: hints that something of the kind has changed and is worth asking for.
//! A stream is no use of its session, and ends with it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use nv_identity::permission::Category;
use nv_model::record::{Record, Topic};
use nv_role_controller::View;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::answer::Raw;
use crate::app::TOKEN;
use crate::call::{Call, Caller};
use crate::error::{ApiError, Code};
use crate::route::Route;
use crate::routes::log::visible;

/// Most streams at one time.
pub(crate) const MAX_STREAMS: usize = 256;
/// A comment is sent this often, so that both sides notice a dead connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Hints of changes come no more often than this.
const HINT_PAUSE: Duration = Duration::from_secs(1);
/// Events that wait for a slow client; the log itself is the queue behind it.
const QUEUE: usize = 64;
/// Records that are read at one time.
const PAGE: usize = 256;

pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get("/v1/stream", Category::AnyUser, "Follow logs and changes as server-sent events", follow)]
}

#[derive(Clone, Debug, Default)]
struct Wanted {
    topics: Vec<Topic>,
    workload: bool,
    group: bool,
    policy: bool,
}

fn wanted(raw: &str) -> Result<Wanted, ApiError> {
    if raw.is_empty() {
        return Ok(Wanted { topics: Topic::ALL.to_vec(), ..Wanted::default() });
    }
    let mut wanted = Wanted::default();
    for word in raw.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "workload" => wanted.workload = true,
            "group" => wanted.group = true,
            "policy" => wanted.policy = true,
            word => match Topic::ALL.into_iter().find(|topic| topic.as_str() == word) {
                Some(topic) => wanted.topics.push(topic),
                None => return Err(ApiError::format(format!("topic {word:?} does not exist"))),
            },
        }
    }
    Ok(wanted)
}

async fn follow(call: Call) -> Result<Raw, ApiError> {
    let wanted = wanted(call.query.others.get("topics").map(String::as_str).unwrap_or_default())?;
    let given = call.headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let given = given.or(call.query.others.get("last_event_id").map(String::as_str));
    let after = match given {
        Some(raw) => {
            Some(raw.parse::<u64>().map_err(|_error| ApiError::format("Last-Event-ID is no number"))?)
        }
        None => None,
    };
    let Ok(permit) = Arc::clone(&call.app.streams).try_acquire_owned() else {
        return Err(ApiError::new(Code::Server, "there are too many streams")
            .with_status(StatusCode::SERVICE_UNAVAILABLE));
    };
    let (events, queue) = mpsc::channel::<Bytes>(QUEUE);
    tokio::spawn(async move {
        // The client has gone when nothing can be sent any more.
        drop(Follower { call, wanted, events }.run(after).await);
        drop(permit);
    });
    let body = futures::stream::unfold(queue, |mut queue| async move {
        queue.recv().await.map(|event| (Ok::<_, Infallible>(event), queue))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(Raw(response))
}

struct Follower {
    call: Call,
    wanted: Wanted,
    events: mpsc::Sender<Bytes>,
}

/// The client has gone.
struct Gone;

impl Follower {
    async fn send(&self, text: String) -> Result<(), Gone> {
        self.events.send(text.into()).await.map_err(|_closed| Gone)
    }

    async fn record(&self, sequence: u64, record: &Record) -> Result<(), Gone> {
        if !self.wanted.topics.contains(&record.topic()) || !visible(&self.call, record) {
            return Ok(());
        }
        let Ok(data) = serde_json::to_string(record) else { return Ok(()) };
        // JSON has no line breaks of its own, so the data is one line.
        self.send(format!("id: {sequence}\nevent: {}\ndata: {data}\n\n", record.topic().as_str())).await
    }

    /// Everything behind `after` that is in the log; the last sequence that was looked at.
    async fn catch_up(&self, mut after: u64) -> Result<u64, Gone> {
        loop {
            let page = match self.call.app.controller.events().since(after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "the log could not be read for a stream");
                    return Err(Gone);
                }
            };
            let Some((last, _)) = page.last() else { return Ok(after) };
            if let Some((first, _)) = page.first()
                && *first > after.saturating_add(1)
            {
                self.send(format!("event: gap\ndata: {{\"after\":{after},\"next\":{first}}}\n\n")).await?;
            }
            after = *last;
            for (sequence, record) in &page {
                self.record(*sequence, record).await?;
            }
        }
    }

    /// The session, or the key, still holds, with the rights of now.
    fn refresh(&mut self) -> bool {
        let app = &self.call.app;
        let book = app.accounts.book();
        match &mut self.call.caller {
            Caller::Nobody => false,
            Caller::User { user, access, session } => {
                let token = self.call.headers.get(TOKEN).and_then(|token| token.to_str().ok());
                let held =
                    token.is_some_and(|token| app.sessions().peek(token, app.clock.monotonic()).is_some());
                let Some(now) = book.users.get(&session.user).filter(|_| held) else { return false };
                *user = Arc::clone(now);
                *access = Arc::new(book.access(&now.value.assignment));
                true
            }
            Caller::Key { name, assignment, access } => {
                let Some(key) = book.keys.get(name) else { return false };
                let end = key.value.expires();
                if end != nv_model::time::Timestamp::NEVER && end <= app.clock.now() {
                    return false;
                }
                assignment.clone_from(&key.value.assignment);
                *access = Arc::new(book.access(assignment));
                true
            }
        }
    }

    /// Which kinds of things differ between two views.
    async fn hint(&self, before: &View, now: &View) -> Result<(), Gone> {
        let (old, new) = (&before.state, &now.state);
        if Arc::ptr_eq(old, new) {
            return Ok(());
        }
        let kinds = [
            (
                "workload",
                self.wanted.workload
                    && (old.workloads != new.workloads || old.quarantined != new.quarantined),
            ),
            ("group", self.wanted.group && old.groups != new.groups),
            ("policy", self.wanted.policy && (old.rules != new.rules || old.profiles != new.profiles)),
        ];
        for (kind, _) in kinds.into_iter().filter(|(_, changed)| *changed) {
            self.send(format!("event: {kind}\ndata: {{\"revision\":{}}}\n\n", now.revision)).await?;
        }
        Ok(())
    }

    async fn run(mut self, after: Option<u64>) -> Result<(), Gone> {
        let controller = self.call.app.controller.clone();
        let shutdown = self.call.app.shutdown.clone();
        // First the subscription, then the past: nothing falls between them.
        let mut live = controller.events().subscribe();
        let mut changes = controller.view_changes();
        let hints = self.wanted.workload || self.wanted.group || self.wanted.policy;
        let mut shown = controller.view();
        self.send("retry: 1000\n: connected\n\n".to_owned()).await?;
        let mut last = match after {
            Some(after) => self.catch_up(after).await?,
            None => controller.events().last_sequence(),
        };
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_hint = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = self.events.closed() => return Err(Gone),
                _ = heartbeat.tick() => {
                    if !self.refresh() {
                        return self.send("event: end\ndata: {}\n\n".to_owned()).await;
                    }
                    self.send(": heartbeat\n\n".to_owned()).await?;
                }
                received = live.recv() => match received {
                    Ok((sequence, record)) if sequence > last => {
                        last = sequence;
                        self.record(sequence, &record).await?;
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => last = self.catch_up(last).await?,
                    Err(RecvError::Closed) => return Ok(()),
                },
                changed = async {
                    tokio::time::sleep_until(next_hint).await;
                    changes.changed().await
                }, if hints => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    next_hint = Instant::now() + HINT_PAUSE;
                    let now = controller.view();
                    self.hint(&shown, &now).await?;
                    shown = now;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_named_one_by_one_and_the_logs_are_the_usual_ones() {
        assert_eq!(wanted("").unwrap().topics, Topic::ALL);
        let some = wanted("incident, workload,violation,").unwrap();
        assert_eq!(some.topics, [Topic::Incident, Topic::Violation]);
        assert!(some.workload && !some.group && !some.policy);
        assert!(wanted("incidents").is_err());
    }
}
