//! The real product under test: one `neuvector` process with a state directory of its own, and a client for its
//! REST API; scanners of its controller. Used by the end-to-end tests, the benches and the demo.

mod client;
mod process;
mod scanner;

pub use client::Client;
pub use process::{Options, Product, binary, children, descendants};
pub use scanner::{Scanner, build_database, scanner_program, update_database};
