//! Configuration: arguments, then environment, then one TOML file, then defaults, resolved once at start.
//!
//! Each setting has a flag (`--rest-port`), an environment variable (NeuVector's own name where it has one) and a
//! key in the file (`rest_port`). [`Options`] is what was given, [`Settings`] what holds.

mod options;
mod settings;

pub use options::Options;
pub use settings::{ConfigError, HarborSettings, LogStyle, Settings};
