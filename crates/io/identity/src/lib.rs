//! Who may do what.
//!
//! A request brings a session token ([`session`]) or an API key ([`api_key`]). Both lead to an assignment of roles
//! ([`role`]), an assignment to rights ([`access::Access`]), and rights are asked about every route and every object
//! ([`permission`] holds the contract's table as data). Passwords are checked by [`password`] against what a
//! [`user::User`] holds, within the limits of a [`profile::PasswordProfile`]; [`throttle`] counts failures.
//!
//! Decisions are pure: the time comes in as an argument and nothing here reads or writes a store. Only hashes of
//! passwords, tokens and keys are kept.

pub mod access;
pub mod api_key;
pub mod name;
pub mod password;
pub mod permission;
pub mod profile;
pub mod random;
pub mod role;
pub mod session;
pub mod throttle;
pub mod user;
