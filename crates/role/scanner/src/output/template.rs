//! A report through a template of the user's.

use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value;

use crate::error::ScannerError;

/// Steps after which a template is stopped.
const FUEL: u64 = 10_000_000;

/// Renders a template in Jinja's language over the report as JSON prints it: `{% for v in vulnerabilities %}…`. What the
/// report does not have is an error; a template reads no file.
pub(super) fn render(text: &str, printed: &Value) -> Result<String, ScannerError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
        .render_str(text, minijinja::value::Value::from(minijinja::value::Serde(printed)))
        .map_err(ScannerError::Template)
}
