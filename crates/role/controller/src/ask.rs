//! Questions to nodes: what is looked up when someone wants to see it.

use std::time::Duration;

use nv_model::name::NodeId;
use nv_model::question::{Answer, AnswerError, Question};
use tokio::sync::{mpsc, oneshot};

use crate::Controller;
use crate::hub::Message;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// No enforcer of this node is linked to this controller.
    #[error("node {node} is out of touch")]
    NotConnected {
        /// Which node.
        node: NodeId,
    },
    /// Too many questions wait; ask again later.
    #[error("too many questions wait for node {node}; ask again later")]
    Busy {
        /// Which node.
        node: NodeId,
    },
    /// The link was lost before the answer came.
    #[error("the link to node {node} was lost before it answered")]
    Lost {
        /// Which node.
        node: NodeId,
    },
    /// No answer came in time.
    #[error("node {node} did not answer within {} seconds", DEADLINE.as_secs())]
    Late {
        /// Which node.
        node: NodeId,
    },
    /// The node cannot say.
    #[error("node {node}: {source}")]
    Node {
        /// Which node.
        node: NodeId,
        /// Why.
        source: AnswerError,
    },
    /// The controller is stopping.
    #[error("the controller is stopping")]
    Stopping,
}

impl Controller {
    /// Asks the enforcer of a node, and waits for its answer, at most 5 seconds.
    ///
    /// # Errors
    /// [`AskError`]. Nothing waits on when this returns or its future is dropped.
    pub async fn ask(&self, node: &NodeId, question: Question) -> Result<Answer, AskError> {
        let (reply, answer) = oneshot::channel();
        let named = || node.clone();
        let message = Message::Ask { node: named(), question, reply };
        self.inner.hub.try_send(message).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => AskError::Busy { node: named() },
            mpsc::error::TrySendError::Closed(_) => AskError::Stopping,
        })?;
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_dropped)) => Err(AskError::Lost { node: named() }),
            Err(_elapsed) => Err(AskError::Late { node: named() }),
        }
    }
}
