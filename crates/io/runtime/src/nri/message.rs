//! Messages of ttrpc (containerd/ttrpc, `PROTOCOL.md`) and of NRI (containerd/nri, `pkg/api/api.proto`, v1alpha1), as far
//! as the plug-in reads or writes them; fields that it does not need are skipped.

/// Service that the runtime calls.
pub(super) const PLUGIN_SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";
/// Service that the plug-in calls.
pub(super) const RUNTIME_SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";
/// `Event.START_CONTAINER`.
pub(super) const START_CONTAINER: i32 = 6;

/// A call.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(string, tag = "1")]
    pub(super) service: String,
    #[prost(string, tag = "2")]
    pub(super) method: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) payload: Vec<u8>,
    /// Nanoseconds that the caller waits; 0 when it does not say.
    #[prost(int64, tag = "4")]
    pub(super) timeout_nano: i64,
}

/// The answer to a call.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) payload: Vec<u8>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    /// gRPC's code; 0 is success.
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// `RegisterPluginRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Register {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) index: String,
}

/// `ConfigureRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Configure {
    #[prost(string, tag = "2")]
    pub(super) runtime_name: String,
    #[prost(string, tag = "3")]
    pub(super) runtime_version: String,
}

/// `ConfigureResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Configured {
    /// Bit n - 1 asks for event n.
    #[prost(int32, tag = "2")]
    pub(super) events: i32,
}

/// `SynchronizeRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Synchronize {
    #[prost(message, repeated, tag = "2")]
    pub(super) containers: Vec<Container>,
    /// More of the list follows in another call.
    #[prost(bool, tag = "3")]
    pub(super) more: bool,
}

/// `SynchronizeResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Synchronized {
    /// The plug-in takes lists in parts.
    #[prost(bool, tag = "2")]
    pub(super) more: bool,
}

/// `StateChangeEvent`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StateChange {
    #[prost(int32, tag = "1")]
    pub(super) event: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) container: Option<Container>,
}

/// `StartContainerRequest`, of runtimes that have a call of its own for it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StartContainer {
    #[prost(message, optional, tag = "2")]
    pub(super) container: Option<Container>,
}

/// `Container`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "11")]
    pub(super) linux: Option<LinuxContainer>,
    #[prost(uint32, tag = "12")]
    pub(super) pid: u32,
}

/// `LinuxContainer`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LinuxContainer {
    #[prost(string, tag = "5")]
    pub(super) cgroups_path: String,
}
