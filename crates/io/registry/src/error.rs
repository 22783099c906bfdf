//! Why a registry could not be read.

use std::time::Duration;

/// What failed, at which registry, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The address cannot be one of a registry.
    #[error("{url:?} is no address of a registry: give http:// or https://, a host, and no query")]
    Address {
        /// As given.
        url: String,
    },
    /// The client could not be set up: a root certificate or the proxy's address is not usable.
    #[error("the client of {url} cannot be set up: check its root certificates and its proxy")]
    Setup {
        /// Of the registry.
        url: String,
        /// What was wrong.
        #[source]
        source: reqwest::Error,
    },
    /// No answer, after some tries.
    #[error("no answer from {host}: check the address, the network, the proxy and the certificate")]
    Unreachable {
        /// Whose answer is missing: the registry's or its authority's.
        host: String,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// The credentials are missing, wrong, expired, or not enough.
    #[error(
        "{host} does not let these credentials read {what} ({status}): check user, password or token, and their rights"
    )]
    Denied {
        /// Who refuses.
        host: String,
        /// A repository, or the list of them.
        what: String,
        /// HTTP status.
        status: u16,
    },
    /// There is no such thing.
    #[error("{host} has no {what}")]
    NotFound {
        /// Who was asked.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// Too many requests, also after waiting.
    #[error("{host} takes no more requests now (429); it asks to wait {} s", wait.as_secs())]
    Throttled {
        /// Who.
        host: String,
        /// How long, as it says.
        wait: Duration,
    },
    /// Another refusal.
    #[error("{host} answers {status} to {what}: {message}")]
    Refused {
        /// Who.
        host: String,
        /// What was asked for.
        what: String,
        /// HTTP status.
        status: u16,
        /// The registry's own words, clipped.
        message: String,
    },
    /// An authentication that credentials may not be given to.
    #[error("{host} names {realm} as its authority, to which credentials may not be sent: {reason}")]
    Authority {
        /// The registry.
        host: String,
        /// Address of the authority.
        realm: String,
        /// Why not.
        reason: &'static str,
    },
    /// More than is read of one.
    #[error("{what} is larger than {most} bytes")]
    TooLarge {
        /// What.
        what: String,
        /// The bound.
        most: u64,
    },
    /// Not what the specification says.
    #[error("{what} of {host} is not understood: {reason}")]
    Malformed {
        /// Who.
        host: String,
        /// What.
        what: &'static str,
        /// Why, in a sentence.
        reason: String,
    },
    /// The bytes are not those that were asked for.
    #[error(
        "{what} of {host} has the digest {found}, not {wanted}: it was changed on the way or in the registry"
    )]
    Digest {
        /// Who.
        host: String,
        /// What.
        what: &'static str,
        /// As asked.
        wanted: String,
        /// As it is.
        found: String,
    },
    /// A blob ended early, also after it was asked for from there on.
    #[error("a blob of {host} ended after {got} of {wanted} bytes")]
    Truncated {
        /// Who.
        host: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that there should be.
        wanted: u64,
    },
}
