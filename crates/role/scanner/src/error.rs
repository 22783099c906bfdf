//! Why a command of the scanner could not be carried out.

use std::io;
use std::path::PathBuf;

use nv_layer::{ImageError, MapError, TreeError};
use nv_package::sbom::SbomError;
use nv_vulnerability::{BuildError, DatabaseError};

/// Why a command failed as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScannerError {
    /// A file could not be read.
    #[error("{} could not be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("{} could not be written", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The result could not be written.
    #[error("the result could not be written")]
    Output(#[source] io::Error),
    /// The result could not be written as JSON.
    #[error("the result could not be written as JSON")]
    Json(#[source] serde_json::Error),
    /// A file did not come.
    #[error("a feed could not be fetched")]
    Download(#[source] nv_download::DownloadError),
    /// What waits for the network could not be started.
    #[error("the network could not be waited for")]
    Runtime(#[source] io::Error),
    /// The rules for secrets cannot be used.
    #[error(transparent)]
    Rules(#[from] nv_secret::RulesError),
    /// The template is none, or asks for what the report does not have.
    #[error("the template could not be rendered")]
    Template(#[source] minijinja::Error),
    /// A VEX document is none.
    #[error("{} is no VEX document", path.display())]
    Vex {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: nv_vulnerability::VexError,
    },
    /// A vulnerability profile is none.
    #[error("{} is refused", path.display())]
    Acceptance {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: nv_vulnerability::AcceptanceError,
    },
    /// A file has no roots of trust.
    #[error("{} holds no roots of trust: {{\"roots_of_trust\": […]}} in JSON is expected", path.display())]
    Trust {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A registry could not be read.
    #[error("the registry could not be read")]
    Registry(#[from] nv_registry::RegistryError),
    /// The database's file could not be mapped.
    #[error("the database could not be opened")]
    Map(#[source] MapError),
    /// The file is no database, or not the one that was built.
    #[error("{} is refused", path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: DatabaseError,
    },
    /// The compressed file is damaged, or no database.
    #[error("{} is refused", path.display())]
    Pack {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: nv_vulnerability::PackError,
    },
    /// The delta is damaged, or for another database.
    #[error("{} is refused", path.display())]
    Delta {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: nv_vulnerability::DeltaError,
    },
    /// A delta without the database that it changes.
    #[error("{} is a delta, and there is no database at {} that it could change", path.display(), base.display())]
    NoBase {
        /// The delta.
        path: PathBuf,
        /// Where the database should be.
        base: PathBuf,
    },
    /// A database that is older than the one that it would replace.
    #[error(
        "version {fresh} is older than version {present} that it would replace; --allow-downgrade replaces it \
         nevertheless"
    )]
    Downgrade {
        /// The version that would be put in place.
        fresh: String,
        /// The one that is there.
        present: String,
    },
    /// A database that is dated after now.
    #[error(
        "{} is refused: it is dated {} days into the future; its feeds or this machine's clock are wrong: set the clock, or \
         build it of other feeds",
        path.display(),
        created.saturating_sub(*now) / 86_400
    )]
    Future {
        /// Which.
        path: PathBuf,
        /// Its date, in seconds since 1970.
        created: u64,
        /// This machine's.
        now: u64,
    },
    /// The database could not be built.
    #[error("the database could not be built")]
    Build(#[source] BuildError),
    /// The new database has far fewer rows than the one that it would replace.
    #[error(
        "the new database has {rows} rows, the one it would replace {before}: a feed may be missing; \
         --allow-shrink replaces it nevertheless"
    )]
    Shrunk {
        /// Rows of the new database.
        rows: u32,
        /// Rows of the old one.
        before: u32,
    },
    /// A root file system could not be read at all.
    #[error("the root file system could not be read")]
    Root(#[source] TreeError),
    /// A folder or archive of images could not be read at all.
    #[error("the image could not be read")]
    Image(#[source] ImageError),
    /// A file is no bill of materials.
    #[error("{} could not be scanned", path.display())]
    Sbom {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: SbomError,
    },
    /// A key file does not hold 64 hexadecimal digits.
    #[error("{} holds no Ed25519 key: 64 hexadecimal digits are expected", path.display())]
    Key {
        /// Which.
        path: PathBuf,
    },
    /// A result could not be handed in to a controller.
    #[error("the result is not with the controller at {url}: to {doing} failed: {reason}")]
    Submit {
        /// Where.
        url: String,
        /// At which step.
        doing: &'static str,
        /// Why.
        reason: String,
    },
    /// An argument that says nothing.
    #[error("{0}")]
    Argument(String),
}
