//! The real product under test: one `neuvector` process with a state directory of its own, and a client for its
//! REST API. Used by the end-to-end tests, the benches and the demo.

mod client;
mod process;

pub use client::Client;
pub use process::{Options, Product, binary, children, descendants};
