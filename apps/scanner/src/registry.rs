//! Which registry an image is in, and how it is reached.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nv_role_scanner::{Credentials, RegistryOptions, RegistryProxy};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

#[derive(Args)]
pub(crate) struct RegistryLine {
    /// The registry that the image is in: its address, and the port where it is not the usual one
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// Who reads there; the password is taken from the environment alone
    #[arg(long, value_name = "USER", env = "SCANNER_REGISTRY_USERNAME")]
    registry_user: Option<String>,
    /// Trust the authorities of this file too (PEM)
    #[arg(long, value_name = "FILE", requires = "registry")]
    registry_ca: Option<PathBuf>,
    /// Take any certificate of the registry; whoever is between can read the password then
    #[arg(long, requires = "registry")]
    registry_insecure: bool,
    /// The proxy on the way to the registry: its address and port
    #[arg(long, value_name = "URL", requires = "registry")]
    proxy: Option<String>,
}

/// Where passwords are; arguments are seen by every user of the machine.
const PASSWORD: &str = "SCANNER_REGISTRY_PASSWORD";

impl RegistryLine {
    /// `None` for images on disk.
    pub(crate) fn options(&self) -> Result<Option<RegistryOptions>> {
        let Some(url) = self.registry.clone() else { return Ok(None) };
        let password = std::env::var(PASSWORD).ok().filter(|password| !password.is_empty());
        let credentials = match (self.registry_user.clone().filter(|user| !user.is_empty()), password) {
            (Some(user), Some(password)) => Some(Credentials::Password { user, password: password.into() }),
            (Some(_), None) => bail!("a user of the registry is given, but no password in {PASSWORD}"),
            (None, Some(token)) => Some(Credentials::Token(token.into())),
            (None, None) => None,
        };
        let roots = match &self.registry_ca {
            Some(path) => {
                let read = CertificateDer::pem_file_iter(path).with_context(|| path.display().to_string())?;
                let roots: Result<Vec<_>, _> = read.map(|root| root.map(|root| root.to_vec())).collect();
                roots.with_context(|| path.display().to_string())?
            }
            None => Vec::new(),
        };
        Ok(Some(RegistryOptions {
            url,
            credentials,
            roots,
            accept_any_certificate: self.registry_insecure,
            proxy: self.proxy.clone().map(|url| RegistryProxy { url, credentials: None }),
        }))
    }
}
