//! Whether the result is handed in to a controller, and as whom.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nv_role_scanner::Submission;

use crate::registry::authorities;

#[derive(Args)]
pub(crate) struct SubmitLine {
    /// Hand the result in to the controller with this REST API: HOST or HOST:PORT
    #[arg(long, value_name = "HOST")]
    submit: Option<String>,
    /// The user there; the password is taken from the environment alone
    #[arg(long, value_name = "USER", env = "SCANNER_CTRL_API_USERNAME")]
    submit_user: Option<String>,
    /// Trust the authorities of this file (PEM): a controller's certificate is of its own
    #[arg(long, value_name = "FILE", env = "SCANNER_CTRL_API_CA")]
    submit_ca: Option<PathBuf>,
    /// Take any certificate of the controller; whoever is between can read the password then
    #[arg(long)]
    submit_insecure: bool,
}

/// Where the password is; arguments are seen by every user of the machine.
const PASSWORD: &str = "SCANNER_CTRL_API_PASSWORD";
/// The port of the REST API.
const PORT: u16 = 10443;

impl SubmitLine {
    /// `None` where nothing is handed in.
    pub(crate) fn submission(&self) -> Result<Option<Submission>> {
        let Some(host) = self.submit.as_ref().filter(|host| !host.is_empty()) else { return Ok(None) };
        let Some(user) = self.submit_user.clone().filter(|user| !user.is_empty()) else {
            bail!("--submit needs a user: --submit-user or SCANNER_CTRL_API_USERNAME");
        };
        let password = std::env::var(PASSWORD).ok().filter(|password| !password.is_empty());
        let password = password.with_context(|| format!("--submit needs a password in {PASSWORD}"))?;
        let roots = self.submit_ca.as_deref().map(authorities).transpose()?.unwrap_or_default();
        Ok(Some(Submission {
            url: address(host),
            user,
            password: password.into(),
            roots,
            accept_any_certificate: self.submit_insecure,
        }))
    }
}

/// The address of a REST API by host and port.
fn address(host: &str) -> String {
    let host = host.strip_prefix("https://").unwrap_or(host).trim_end_matches('/');
    let bare_v6 = host.matches(':').count() > 1 && !host.starts_with('[');
    if bare_v6 {
        return format!("https://[{host}]:{PORT}");
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { format!("https://{host}") } else { format!("https://{host}:{PORT}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_named_by_host_with_or_without_a_port() {
        for (host, want) in [
            ("c.example", "https://c.example:10443"),
            ("c.example:443", "https://c.example:443"),
            ("https://c.example:443/", "https://c.example:443"),
            ("fd00::1", "https://[fd00::1]:10443"),
            ("[fd00::1]:443", "https://[fd00::1]:443"),
        ] {
            assert_eq!(address(host), want, "{host}");
        }
    }
}
