//! How registries are reached by the system's configuration: the authorities that it trusts, and the proxy on the way.

use nv_model::scan::RegistryAccess;
use nv_model::system::SystemConfig;
use nv_registry::{Options, Proxy, roots_of_pem};
use secrecy::{ExposeSecret as _, SecretString};

/// Most authorities that are trusted besides the usual ones.
const MAX_AUTHORITIES: usize = 256;

/// What the configuration says of the way to a registry.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    roots: Vec<Vec<u8>>,
    proxy: Option<Proxy>,
}

impl Reach {
    /// Of the registry at this address; `direct` leaves the proxy out (`ignore_proxy`).
    #[must_use]
    pub fn of(config: &SystemConfig, url: &str, direct: bool) -> Self {
        let mut roots = Vec::new();
        for text in &config.cacerts {
            match roots_of_pem(text.as_bytes()) {
                Ok(found) => roots.extend(found),
                Err(error) => tracing::warn!(error = nv_telemetry::chain(&error), "an authority is left out"),
            }
        }
        roots.truncate(MAX_AUTHORITIES);
        let (on, proxy) = if url.starts_with("http://") {
            (config.registry_http_proxy_status, &config.registry_http_proxy)
        } else {
            (config.registry_https_proxy_status, &config.registry_https_proxy)
        };
        let proxy = (on && !direct && !proxy.url.is_empty()).then(|| Proxy {
            url: proxy.url.clone(),
            credentials: (!proxy.username.is_empty())
                .then(|| (proxy.username.clone(), SecretString::from(proxy.password.clone()))),
        });
        Self { roots, proxy }
    }

    /// For requests of this process.
    #[must_use]
    pub fn options(self, options: Options) -> Options {
        Options { roots: self.roots, proxy: self.proxy, ..options }
    }

    /// For a scanner.
    #[must_use]
    pub fn access(self, mut access: RegistryAccess) -> RegistryAccess {
        access.roots = self.roots;
        if let Some(Proxy { url, credentials }) = self.proxy {
            access.proxy = url;
            if let Some((user, password)) = credentials {
                access.proxy_username = user;
                password.expose_secret().clone_into(&mut access.proxy_password);
            }
        }
        access
    }
}

/// Whether each text names authorities that can be trusted.
///
/// # Errors
/// A sentence that says which one does not, and why.
pub fn check_authorities(texts: &[String]) -> Result<(), String> {
    if texts.len() > MAX_AUTHORITIES {
        return Err(format!("more than {MAX_AUTHORITIES} authorities"));
    }
    let mut store = rustls::RootCertStore::empty();
    for (place, text) in texts.iter().enumerate() {
        let fault = |error: &dyn std::error::Error| {
            format!("authority {} cannot be trusted: {}", place + 1, nv_telemetry::chain(error))
        };
        for root in roots_of_pem(text.as_bytes()).map_err(|error| fault(&error))? {
            store.add(root.into()).map_err(|error| fault(&error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nv_model::system::Proxy as Configured;

    #[test]
    fn a_registry_is_reached_through_the_proxy_of_its_scheme_unless_it_is_to_be_reached_directly() {
        let proxy = |url: &str, username: &str| Configured {
            url: url.to_owned(),
            username: username.to_owned(),
            password: "hidden".to_owned(),
        };
        let config = SystemConfig {
            registry_http_proxy_status: false,
            registry_http_proxy: proxy("http://off:1", ""),
            registry_https_proxy_status: true,
            registry_https_proxy: proxy("http://p:3128", "me"),
            ..SystemConfig::default()
        };
        for (url, direct, want) in [
            ("https://r.example", false, "http://p:3128 me hidden"),
            ("https://r.example", true, "  "),
            ("http://r.example", false, "  "),
        ] {
            let access = Reach::of(&config, url, direct).access(RegistryAccess::default());
            let found = format!("{} {} {}", access.proxy, access.proxy_username, access.proxy_password);
            assert_eq!(found, want, "{url} {direct}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused_and_never_trusted() {
        let none = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "x", "-----BEGIN CERTIFICATE-----\n!", none] {
            let said = check_authorities(&[text.to_owned()]).unwrap_err();
            assert!(said.contains("authority 1 cannot be trusted"), "{text}: {said}");
        }
        assert_eq!(check_authorities(&[]), Ok(()));
    }
}
