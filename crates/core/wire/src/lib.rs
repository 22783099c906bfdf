//! The wire between an enforcer and a controller.
//!
//! [`enforcer::v1`] is what `protoc` makes of `proto/neuvector/enforcer/v1/enforcer.proto`. Everything else turns those
//! messages into the types of `nv_model` and back: `TryFrom<proto> for model` checks every length, number and word and
//! names the field that is wrong ([`WireError`]); `From<model> for proto` always gives a message that the other side
//! accepts: free text that is too long is cut there, names and policy are never cut.
//!
//! Both sides hold [`bounds::MAX_MESSAGE_BYTES`] as gRPC's limit, so that no peer can make the other allocate more.

pub mod bounds;
mod error;
mod file;
mod hello;
mod inventory;
mod observation;
mod policy;
mod question;
mod read;
#[cfg(test)]
mod tests;
mod vitals;

pub use error::{Problem, WireError};
pub use hello::{Greeting, JoinRequest};
pub use observation::batch;
pub use question::{answered, asked};
pub use vitals::heartbeat;

/// Enforcer and controller.
pub mod enforcer {
    /// First version of the contract.
    #[expect(
        missing_docs,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated code; the contract and nv-model document every field"
    )]
    pub mod v1 {
        tonic::include_proto!("neuvector.enforcer.v1");
    }
}
