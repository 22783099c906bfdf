//! Sensors: what of a message looks like data that must not leave (DLP) or like an attack on what it is sent to (WAF).
//!
//! [`decode`] undoes what a sender may have wrapped around the bytes, piece by piece and within bounds.
#![forbid(unsafe_code)]

pub mod decode;
