use std::io::IsTerminal as _;

use nv_config::LogStyle;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;
use tracing_subscriber::util::TryInitError;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The filter cannot be read.
    #[error("log filter {filter:?} cannot be read; it looks like info,nv_policy=debug")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging is already set up in this process.
    #[error("logging is already set up in this process")]
    Twice(#[source] TryInitError),
}

/// Sends log lines of this process to standard error.
///
/// # Errors
/// [`LogError`] when `filter` cannot be read or logging is already set up.
pub fn start_log(filter: &str, format: LogStyle) -> Result<(), LogError> {
    let parsed = EnvFilter::try_new(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let registry = tracing_subscriber::registry().with(parsed);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    match format {
        LogStyle::Text => registry.with(lines.with_target(true)).try_init(),
        LogStyle::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(LogError::Twice)
}
