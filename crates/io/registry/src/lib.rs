//! Registries of container images, read over the OCI distribution specification 1.1 and Docker's registry API V2.
//!
//! ```text
//! Registry ── repositories, tags (page by page) ─┐
//!          ── manifest (whole, capped) ──────────┼── get: token → request → 401? token anew → 429, 5xx? later
//!          ── blob (piece by piece, resumed) ────┘
//! ```
//!
//! What a registry says is not trusted: manifests and lists are capped, a blob or manifest asked for by digest is only
//! given whole when its bytes have that digest, and credentials go to the registry and to the authority that it names
//! over TLS alone, and never along a redirection.

mod aws;
mod blob;
mod catalog;
mod challenge;
mod error;
mod filter;
mod kind;
mod list;
mod name;
mod referrer;
mod request;
mod roots;
mod token;

pub use aws::AwsKey;
pub use blob::Blob;
pub use catalog::{Catalog, JFrogMode, KindOptions, Listed, MAX_REPOSITORIES};
pub use error::RegistryError;
pub use filter::{Filter, FilterError, is_beside};
pub use kind::Kind;
pub use list::Pages;
pub use name::{Digest, NameError, Reference, Repository};
pub use referrer::Referrer;
pub use request::{Credentials, Manifest, Options, Proxy, Registry};
pub use roots::{RootsError, roots_of_pem};
