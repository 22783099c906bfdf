//! First contact: joining, and the greeting that opens a link.

use std::fmt;

use nv_model::name::NodeId;
use nv_model::node::{Capabilities, Node};
use nv_model::observation::Sequence;
use nv_model::policy::Revision;
use nv_model::time::Timestamp;
use nv_model::workload::Workload;

use crate::bounds::{MAX_CERTIFICATE_BYTES, MAX_TOKEN_BYTES, MAX_WORD_BYTES, MAX_WORKLOADS};
use crate::enforcer::v1 as proto;
use crate::error::WireError;
use crate::read::{Read, length, list, parse, required, text, time};

/// A request to join, checked. The token is a secret: it is not in the `Debug` form.
pub struct JoinRequest {
    /// One-time token.
    pub token: String,
    /// The node that asks.
    pub node: NodeId,
    /// Certificate signing request, DER.
    pub signing_request: Vec<u8>,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest").field("node", &self.node).finish_non_exhaustive()
    }
}

impl TryFrom<proto::JoinRequest> for JoinRequest {
    type Error = WireError;
    fn try_from(raw: proto::JoinRequest) -> Read<Self> {
        length("signing_request", raw.signing_request.len(), MAX_CERTIFICATE_BYTES)?;
        Ok(Self {
            token: text("token", raw.token, MAX_TOKEN_BYTES)?,
            node: parse("node_id", &raw.node_id)?,
            signing_request: raw.signing_request,
        })
    }
}

/// What an enforcer says first (`Hello`), checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Greeting {
    /// Product version.
    pub version: String,
    /// Its node.
    pub node: Node,
    /// What the node's kernel allows.
    pub capabilities: Capabilities,
    /// When the enforcer's process started.
    pub started: Timestamp,
    /// The policy that the node enforces now; 0 for none.
    pub held_revision: Revision,
    /// Content hash of that policy.
    pub held_digest: String,
    /// Every workload that runs now; one that is missing here is gone.
    pub workloads: Vec<Workload>,
    /// Oldest observation that the node still holds.
    pub oldest_sequence: Sequence,
    /// Changes when the numbers start again.
    pub stream_id: String,
}

impl TryFrom<proto::Hello> for Greeting {
    type Error = WireError;
    fn try_from(raw: proto::Hello) -> Read<Self> {
        let node = required("node", raw.node)?.try_into().map_err(|error: WireError| error.under("node"))?;
        let capabilities = raw
            .capabilities
            .unwrap_or_default()
            .try_into()
            .map_err(|error: WireError| error.under("capabilities"))?;
        if raw.stream_id.is_empty() {
            return Err(WireError::missing("stream_id"));
        }
        Ok(Self {
            version: text("version", raw.version, MAX_WORD_BYTES)?,
            node,
            capabilities,
            started: time(raw.started),
            held_revision: Revision(raw.held_revision),
            held_digest: text("held_digest", raw.held_digest, MAX_WORD_BYTES)?,
            workloads: list("workloads", raw.workloads, MAX_WORKLOADS)?,
            oldest_sequence: Sequence(raw.oldest_sequence),
            stream_id: text("stream_id", raw.stream_id, MAX_WORD_BYTES)?,
        })
    }
}

impl From<Greeting> for proto::Hello {
    fn from(model: Greeting) -> Self {
        Self {
            version: model.version,
            node: Some(model.node.into()),
            capabilities: Some(model.capabilities.into()),
            started: model.started.nanos(),
            held_revision: model.held_revision.0,
            held_digest: model.held_digest,
            workloads: model.workloads.into_iter().take(MAX_WORKLOADS).map(Into::into).collect(),
            oldest_sequence: model.oldest_sequence.0,
            stream_id: model.stream_id,
        }
    }
}
