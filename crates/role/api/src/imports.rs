//! Imports: one at a time, in the background; whoever started one asks how far it is by its number.

use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use nv_model::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::{Answer, Described};
use crate::error::{ApiError, Code};

/// Header with the number of an import.
pub(crate) const TRANSACTION: &str = "x-transaction-id";

/// How far an import is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImportTask {
    /// Its number.
    pub tid: String,
    /// The controller that does it.
    pub ctrler_id: String,
    /// When something of it changed last.
    pub last_update_time: String,
    /// How much of it is done.
    pub percentage: u8,
    /// Who started it.
    pub triggered_by: String,
    /// `preparing`, `importing`, `done`, `no_response` where nothing was heard of it for 30 seconds, or why it failed.
    pub status: String,
    /// Keys that could not be decrypted; there are none in what is imported here.
    pub fail_to_decrypt_key_fields: Option<std::collections::BTreeMap<String, Vec<String>>>,
}

/// How far an import is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImportTaskData {
    /// The import.
    pub data: ImportTask,
}

/// What an import came to.
#[derive(Clone, Debug)]
enum End {
    Running {
        /// When something was heard of it last.
        since: Timestamp,
    },
    Done,
    /// What was sent makes no sense.
    Refused,
}

/// After how many seconds without a word an import does not keep another one from beginning.
const SILENCE_SECONDS: i64 = 30;

/// The import that was started last.
#[derive(Debug, Default)]
pub(crate) struct Imports(Mutex<Option<(ImportTask, End)>>);

/// An answer about an import: 206 while it goes on.
#[derive(Debug)]
pub(crate) struct Progress {
    task: ImportTask,
    partial: bool,
}

impl Progress {
    /// The import's number.
    pub(crate) fn tid(&self) -> &str {
        &self.task.tid
    }
}

impl Answer for Progress {
    fn respond(self) -> Response<Body> {
        let body = serde_json::to_vec(&ImportTaskData { data: self.task }).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = if self.partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
    fn describe() -> Option<(&'static str, Described)> {
        Some(("application/json", Described::of::<ImportTaskData>()))
    }
}

impl Imports {
    fn lock(&self) -> MutexGuard<'_, Option<(ImportTask, End)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one.
    ///
    /// # Errors
    /// While another one goes on.
    pub(crate) fn begin(&self, controller: &str, by: &str, now: Timestamp) -> Result<Progress, ApiError> {
        let mut last = self.lock();
        if let Some((task, End::Running { since })) = &*last
            && now.seconds().saturating_sub(since.seconds()) <= SILENCE_SECONDS
        {
            return Err(ApiError::new(Code::Import, "another import is ongoing")
                .with_status(StatusCode::CONFLICT)
                .with_import(task.clone()));
        }
        let task = ImportTask {
            tid: uuid::Uuid::new_v4().simple().to_string(),
            ctrler_id: controller.to_owned(),
            last_update_time: now.rfc3339(),
            percentage: 3,
            triggered_by: by.to_owned(),
            status: "preparing".to_owned(),
            fail_to_decrypt_key_fields: None,
        };
        *last = Some((
            ImportTask { status: "importing".to_owned(), ..task.clone() },
            End::Running { since: now },
        ));
        Ok(Progress { task, partial: true })
    }

    /// An import that goes on has ended.
    pub(crate) fn end(&self, tid: &str, outcome: Result<(), ApiError>, now: Timestamp) {
        let mut last = self.lock();
        let Some((task, end)) = last.as_mut().filter(|(task, _)| task.tid == tid) else { return };
        task.last_update_time = now.rfc3339();
        match outcome {
            Ok(()) => {
                (task.percentage, *end) = (100, End::Done);
                "done".clone_into(&mut task.status);
            }
            Err(error) => {
                *end = End::Refused;
                task.status = error.message().to_owned();
            }
        }
    }

    /// How far one is.
    ///
    /// # Errors
    /// When it failed, or is not the last one.
    pub(crate) fn progress(&self, tid: &str, now: Timestamp) -> Result<Progress, ApiError> {
        let last = self.lock();
        let Some((task, end)) = last.as_ref().filter(|(task, _)| task.tid == tid) else {
            return Err(ApiError::format("there is no such import, or another one came after it")
                .with_status(StatusCode::GONE));
        };
        match end {
            End::Running { .. } => Ok(Progress { task: end.told(task, now), partial: true }),
            End::Done => Ok(Progress { task: task.clone(), partial: false }),
            End::Refused => Err(ApiError::new(Code::Import, task.status.clone()).with_import(task.clone())),
        }
    }

    /// The last one, whoever asks; `done` and without a number when there was none.
    pub(crate) fn last(&self, now: Timestamp) -> Progress {
        let last = self.lock();
        let none = || ImportTask { status: "done".to_owned(), ..ImportTask::default() };
        let task = last.as_ref().map_or_else(none, |(task, end)| end.told(task, now));
        Progress { task, partial: false }
    }
}

impl End {
    /// The task as it is told: one of which nothing is heard says so.
    fn told(&self, task: &ImportTask, now: Timestamp) -> ImportTask {
        let mut task = task.clone();
        if let Self::Running { since } = self
            && now.seconds().saturating_sub(since.seconds()) > SILENCE_SECONDS
        {
            "no_response".clone_into(&mut task.status);
        }
        task
    }
}
