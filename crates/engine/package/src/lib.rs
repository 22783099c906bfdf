//! What is installed, read from bytes: versions and their order, package databases, lockfiles.
//!
//! Pure: no file, no network, no clock. Every parser takes bytes that an attacker may have written, has a bound for
//! what it reads, and answers with an [`Inventory`]: the packages that it found, and a [`Fault`] for each item that it
//! could not read. One bad item does not hide the others.
#![forbid(unsafe_code)]

pub mod apk;
pub mod bitnami;
mod bzip2;
pub mod conan;
pub mod dart;
pub mod distribution;
pub mod dotnet;
pub mod dpkg;
mod ecosystem;
pub mod elixir;
mod end_of_life;
mod file_kind;
pub mod go;
mod inflate;
mod inventory;
pub mod java;
pub mod known_program;
pub mod node;
pub mod php;
pub mod program;
pub mod purl;
pub mod python;
pub mod r;
mod read;
pub mod rpm;
pub mod ruby;
pub mod rust;
pub mod sbom;
mod sha1;
pub mod sqlite;
pub mod swift;
pub mod version;
pub mod wordpress;

pub use bzip2::{BZIP2, unbzipped};
pub use ecosystem::Ecosystem;
pub use end_of_life::end_of_life;
pub use file_kind::{FileKind, copyright_of};
pub use inflate::unzipped;
pub use inventory::{Fault, Inventory, MAX_PACKAGES, Package, Source};
pub use read::{ReadAt, read_slice};
pub use sha1::{Sha1, Sha1Error};
