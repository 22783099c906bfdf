//! What is installed, read from bytes: versions and their order, package databases, lockfiles.
//!
//! Pure: no file, no network, no clock. Every parser takes bytes that an attacker may have written, has a bound for
//! what it reads, and answers with what it found or with an error that says what and where.
#![forbid(unsafe_code)]

pub mod version;
