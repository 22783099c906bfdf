//! What is installed, read from bytes: versions and their order, package databases, lockfiles.
//!
//! Pure: no file, no network, no clock. Every parser takes bytes that an attacker may have written, has a bound for
//! what it reads, and answers with an [`Inventory`]: the packages that it found, and a [`Fault`] for each item that it
//! could not read. One bad item does not hide the others.
#![forbid(unsafe_code)]

pub mod apk;
pub mod distribution;
pub mod dpkg;
mod ecosystem;
mod inventory;
pub mod purl;
mod read;
pub mod rpm;
pub mod version;

pub use ecosystem::Ecosystem;
pub use inventory::{Fault, Inventory, MAX_PACKAGES, Package, Source};
