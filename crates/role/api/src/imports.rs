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
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct ImportTask {
    /// Its number.
    pub(crate) tid: String,
    /// The controller that does it.
    pub(crate) ctrler_id: String,
    /// When something of it changed last.
    pub(crate) last_update_time: String,
    /// How much of it is done.
    pub(crate) percentage: u8,
    /// Who started it.
    pub(crate) triggered_by: String,
    /// `preparing`, `importing`, `done`, or why it failed.
    pub(crate) status: String,
    /// Keys that could not be decrypted; there are none in what is imported here.
    pub(crate) fail_to_decrypt_key_fields: Option<std::collections::BTreeMap<String, Vec<String>>>,
}

/// How far an import is.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct ImportTaskData {
    /// The import.
    pub(crate) data: ImportTask,
}

/// What an import came to.
#[derive(Clone, Debug)]
enum End {
    Running,
    Done,
    /// What was sent makes no sense.
    Refused,
}

/// The import that was started last.
#[derive(Debug, Default)]
pub(crate) struct Imports(Mutex<Option<(ImportTask, End)>>);

/// An answer about an import: 206 while it goes on.
#[derive(Debug)]
pub(crate) struct Progress {
    task: ImportTask,
    partial: bool,
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
        if matches!(*last, Some((_, End::Running))) {
            return Err(
                ApiError::new(Code::Import, "another import is ongoing").with_status(StatusCode::CONFLICT)
            );
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
        *last = Some((ImportTask { status: "importing".to_owned(), ..task.clone() }, End::Running));
        Ok(Progress { task, partial: true })
    }

    /// The import that goes on has ended.
    pub(crate) fn end(&self, outcome: Result<(), ApiError>, now: Timestamp) {
        let mut last = self.lock();
        let Some((task, end)) = last.as_mut() else { return };
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
    pub(crate) fn progress(&self, tid: &str) -> Result<Progress, ApiError> {
        let last = self.lock();
        let Some((task, end)) = last.as_ref().filter(|(task, _)| task.tid == tid) else {
            return Err(ApiError::format("there is no such import, or another one came after it")
                .with_status(StatusCode::GONE));
        };
        match end {
            End::Running => Ok(Progress { task: task.clone(), partial: true }),
            End::Done => Ok(Progress { task: task.clone(), partial: false }),
            End::Refused => Err(ApiError::new(Code::Import, task.status.clone())),
        }
    }
}
