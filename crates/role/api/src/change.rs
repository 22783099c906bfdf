//! Changes through the controller, and its refusals as the contract's.

use axum::http::StatusCode;
use nv_model::mode::{Baseline, Fault, Mode};
use nv_role_controller::{Change, ChangeError, Planner};

use crate::call::Call;
use crate::error::{ApiError, Code};

impl Call {
    /// Has the controller make a change.
    ///
    /// # Errors
    /// What the controller refuses, with the contract's code.
    pub(crate) async fn change(&self, change: Change) -> Result<(), ApiError> {
        self.app.controller.change(change).await.map(drop).map_err(refused)
    }
    /// Has the controller make a change that has no word of its own.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub(crate) async fn transact(&self, planner: Planner) -> Result<(), ApiError> {
        self.app.controller.transact(planner).await.map(drop).map_err(refused)
    }
}

pub(crate) fn refused(error: ChangeError) -> ApiError {
    let message = error.to_string();
    match error {
        ChangeError::NotFound { .. } => ApiError::new(Code::ObjectNotFound, message),
        ChangeError::Duplicate { .. } => ApiError::new(Code::Duplicate, message),
        ChangeError::Invalid { .. } => ApiError::format(message),
        ChangeError::ReadOnly { rules, .. } if !rules.is_empty() => {
            ApiError::new(Code::ReadOnlyRules, message).with_rules(rules)
        }
        ChangeError::ReadOnly { .. } => ApiError::new(Code::NotAllowed, message),
        ChangeError::InUse { .. } => ApiError::new(Code::InUse, message),
        ChangeError::Conflict { .. } => {
            ApiError::new(Code::WriteFailed, message).with_status(StatusCode::CONFLICT)
        }
        ChangeError::Unavailable { .. } => {
            ApiError::new(Code::WriteFailed, message).with_status(StatusCode::SERVICE_UNAVAILABLE)
        }
        ChangeError::Store(error) => crate::accounts::store_failed(&error),
        _ => ApiError::new(Code::Server, message),
    }
}

/// Reads a mode; an absent one stays as it is.
///
/// # Errors
/// Code 6 for a word that is none, the empty one included.
pub(crate) fn mode(what: &str, raw: Option<&str>) -> Result<Option<Mode>, ApiError> {
    raw.map(|raw| {
        Mode::parse(raw)
            .ok_or_else(|| ApiError::format(format!("{what} is none of Discover, Monitor and Protect")))
    })
    .transpose()
}

/// Reads what holds without a verdict; an absent one stays as it is.
///
/// # Errors
/// Code 6 for a word that is none.
pub(crate) fn fault(raw: Option<&str>) -> Result<Option<Fault>, ApiError> {
    raw.map(|raw| {
        Fault::parse(raw).ok_or_else(|| ApiError::format("the fail mode is neither open nor closed"))
    })
    .transpose()
}

/// Reads a baseline; an absent one stays as it is.
///
/// # Errors
/// Code 6 for a word that is none.
pub(crate) fn baseline(raw: Option<&str>) -> Result<Option<Baseline>, ApiError> {
    raw.map(|raw| {
        Baseline::parse(raw).ok_or_else(|| ApiError::format("the baseline is neither basic nor zero-drift"))
    })
    .transpose()
}
