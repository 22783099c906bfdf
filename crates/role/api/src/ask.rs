//! Questions to nodes, and why there is no answer in the contract's words.

use nv_model::name::NodeId;
use nv_model::question::{Answer, AnswerError, Question};
use nv_role_controller::AskError;

use crate::call::Call;
use crate::error::{ApiError, Code};

impl Call {
    /// Asks the enforcer of a node, at most 5 seconds.
    ///
    /// # Errors
    /// Code 7 when the node does not have what is asked for, code 21 when it does not answer.
    pub(crate) async fn ask(&self, node: &NodeId, question: Question) -> Result<Answer, ApiError> {
        self.app.controller.ask(node, question).await.map_err(|error| match &error {
            AskError::Node { source: AnswerError::UnknownWorkload | AnswerError::UnknownCapture, .. } => {
                ApiError::new(Code::ObjectNotFound, error.to_string())
            }
            _ => ApiError::new(Code::Enforcer, error.to_string()),
        })
    }
}

/// An answer to something else than was asked.
pub(crate) fn strange() -> ApiError {
    ApiError::new(Code::Enforcer, "the enforcer answered another question")
}
