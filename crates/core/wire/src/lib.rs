//! The wires between an enforcer and a controller, and between a scanner and a controller.
//!
//! [`enforcer::v1`] and [`scanner::v1`] are what `protoc` makes of the contracts in `proto/`. Everything else turns those
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
mod scan;
mod sensor;
#[cfg(test)]
mod tests;
mod vitals;

pub use error::{Problem, WireError};
pub use hello::{Greeting, JoinRequest};
pub use observation::batch;
pub use question::{answered, asked};
pub use scan::{
    DatabaseChange, ScanTask, ScanWork, ScannerGreeting, ScannerJoin, failed_scan, layer_cache, scan_failed,
};
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

/// Scanner and controller.
pub mod scanner {
    /// First version of the contract.
    #[expect(
        missing_docs,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated code; the contract and nv-model document every field"
    )]
    pub mod v1 {
        tonic::include_proto!("neuvector.scanner.v1");
    }
}
