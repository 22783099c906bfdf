//! Which registry an image is in, and how it is reached.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nv_role_scanner::{Credentials, RegistryOptions, RegistryProxy, roots_of_pem};

#[derive(Args)]
pub(crate) struct RegistryLine {
    /// The registry that the image is in: its address, and the port where it is not the usual one
    #[arg(long = "registry", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Who reads there; the password is taken from the environment alone
    #[arg(long, value_name = "USER", env = "SCANNER_REGISTRY_USERNAME")]
    registry_user: Option<String>,
    /// Trust the authorities of this file too (PEM)
    #[arg(long, value_name = "FILE")]
    registry_ca: Option<PathBuf>,
    /// Take any certificate of the registry; whoever is between can read the password then
    #[arg(long)]
    registry_insecure: bool,
    /// The proxy on the way to the registry: its address and port
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
}

/// Where passwords are; arguments are seen by every user of the machine.
const PASSWORD: &str = "SCANNER_REGISTRY_PASSWORD";

impl RegistryLine {
    /// How a registry is reached: this one, or that of the command line.
    pub(crate) fn options(&self, url: Option<String>) -> Result<RegistryOptions> {
        let url = url.or_else(|| self.url.clone()).context("no registry is named")?;
        let password = std::env::var(PASSWORD).ok().filter(|password| !password.is_empty());
        let credentials = match (self.registry_user.clone().filter(|user| !user.is_empty()), password) {
            (Some(user), Some(password)) => Some(Credentials::Password { user, password: password.into() }),
            (Some(_), None) => bail!("a user of the registry is given, but no password in {PASSWORD}"),
            (None, Some(token)) => Some(Credentials::Token(token.into())),
            (None, None) => None,
        };
        let roots = self.registry_ca.as_deref().map(authorities).transpose()?.unwrap_or_default();
        Ok(RegistryOptions {
            url,
            credentials,
            roots,
            accept_any_certificate: self.registry_insecure,
            proxy: self.proxy.clone().map(|url| RegistryProxy { url, credentials: None }),
        })
    }
}

/// The certificates of a PEM file, DER each.
pub(crate) fn authorities(path: &Path) -> Result<Vec<Vec<u8>>> {
    let shown = || path.display().to_string();
    let text = std::fs::read(path).with_context(shown)?;
    roots_of_pem(&text).with_context(shown)
}
