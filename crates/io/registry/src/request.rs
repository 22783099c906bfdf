//! One registry, and how it is asked.

use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use secrecy::SecretString;
use serde::Deserialize;
use sha2::{Digest as _, Sha256, Sha512};

use crate::blob::Blob;
use crate::error::RegistryError;
use crate::list::Pages;
use crate::name::{Digest, Reference, Repository};
use crate::token::Authority;

/// Largest manifest: what the distribution specification asks registries to take at least.
pub(crate) const MAX_MANIFEST: u64 = 4 * 1024 * 1024;
/// Largest answer of an API beside the registry.
const MAX_API: u64 = 16 * 1024 * 1024;
/// Of an error's answer, for its message.
const MAX_ERROR: u64 = 64 * 1024;
/// Most characters of a registry's own words that go into an error.
const MAX_WORDS: usize = 300;
const MAX_REDIRECTIONS: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence in the middle of an answer.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Further tries of a request that failed for a reason that passes.
const RETRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A registry that asks to wait longer is reported instead.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Kinds of manifests that can be read: an image, or an index of images, of OCI and of Docker.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1";

/// Who reads.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// User and password, or what a registry takes in its place (a personal token, `AWS`, `_json_key`).
    Password {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// User and password with each request, also where nobody asks for them: what APIs beside a registry take.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A token that the registry itself takes.
    Token(SecretString),
}

/// A proxy on the way.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// `http://host:port`.
    pub url: String,
    /// User and password there.
    pub credentials: Option<(String, SecretString)>,
}

/// Which registry, and how it is reached.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `https://registry.example:5000`, with a path where the registry is below one.
    pub url: String,
    /// `None` reads what everybody may.
    pub credentials: Option<Credentials>,
    /// Authorities to trust besides the usual ones, DER.
    pub roots: Vec<Vec<u8>>,
    /// Take any certificate. Whoever is between can read the credentials then.
    pub accept_any_certificate: bool,
    /// `None` connects directly, whatever the environment says.
    pub proxy: Option<Proxy>,
}

/// A manifest, as the registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its own name: the SHA-256 of its bytes, or the digest that it was asked for by.
    pub digest: Digest,
    /// What it says it is; empty when the registry does not say.
    pub media_type: String,
    /// The bytes that the digest is of.
    pub bytes: Vec<u8>,
}

/// A registry of images.
#[derive(Debug)]
pub struct Registry {
    client: Client,
    /// Ends in `/`.
    base: Url,
    host: String,
    authority: Authority,
    /// A header that goes with every request.
    header: Option<(HeaderName, HeaderValue)>,
}

/// One thing that is asked for.
pub(crate) struct Ask {
    pub(crate) url: Url,
    pub(crate) accept: &'static str,
    /// What the token has to allow.
    pub(crate) scope: String,
    /// For messages.
    pub(crate) what: String,
    /// From this byte on.
    pub(crate) from: u64,
}

impl Registry {
    /// Checks the address and sets the client up; nothing is sent yet.
    ///
    /// # Errors
    /// [`RegistryError::Address`] and [`RegistryError::Setup`].
    pub fn new(options: Options) -> Result<Self, RegistryError> {
        let address = || RegistryError::Address { url: options.url.clone() };
        let mut base: Url = options.url.parse().map_err(|_invalid| address())?;
        let plain = base.username().is_empty() && base.password().is_none() && base.query().is_none();
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() || !plain {
            return Err(address());
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let setup = |source| RegistryError::Setup { url: options.url.clone(), source };
        let roots: Result<Vec<_>, _> =
            options.roots.iter().map(|root| reqwest::Certificate::from_der(root)).collect();
        let mut builder = Client::builder()
            .tls_certs_merge(roots.map_err(setup)?)
            .tls_danger_accept_invalid_certs(options.accept_any_certificate)
            .redirect(redirect::Policy::custom(follow))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            .no_proxy();
        if let Some(proxy) = &options.proxy {
            let mut through = reqwest::Proxy::all(&proxy.url).map_err(setup)?;
            if let Some((user, password)) = &proxy.credentials {
                through = through.basic_auth(user, secrecy::ExposeSecret::expose_secret(password));
            }
            builder = builder.proxy(through);
        }
        let client = builder.build().map_err(setup)?;
        let host = base.host_str().unwrap_or_default().to_owned();
        let host = base.port().map(|port| format!("{host}:{port}")).unwrap_or(host);
        let authority = Authority::new(options.credentials, host.clone(), base.scheme() == "https");
        Ok(Self { client, base, host, authority, header: None })
    }

    /// The same with a header that goes with every request.
    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Result<Self, RegistryError> {
        let value = HeaderValue::from_str(value).map_err(|_invalid| RegistryError::Malformed {
            host: self.host.clone(),
            what: "the account",
            reason: "it has characters that no header may have".to_owned(),
        })?;
        self.header = Some((HeaderName::from_static(name), value));
        Ok(self)
    }

    /// What an API beside the registry has under a path, JSON.
    pub(crate) async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, RegistryError> {
        let what = path.split('?').next().unwrap_or_default().to_owned();
        let ask = self.ask(path, "application/json", String::new(), what.clone())?;
        let answer = self.get(&ask).await?;
        let bytes = self.read(answer, MAX_API, &what).await?;
        serde_json::from_slice(&bytes).map_err(|error| RegistryError::Malformed {
            host: self.host.clone(),
            what: "an answer of the API",
            reason: format!("{what}: {error}"),
        })
    }

    /// Sends a body once, and gives the answer's, once it is a success. What it says of a refusal is not told: it may
    /// quote what was sent.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&'static str, String)],
        body: String,
        what: &str,
    ) -> Result<Vec<u8>, RegistryError> {
        let ask = self.ask(path, "application/json", String::new(), what.to_owned())?;
        let mut request = self.client.post(ask.url).header(ACCEPT, ask.accept).body(body);
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value)
                .map_err(|_invalid| RegistryError::Address { url: self.base.to_string() })?;
            value.set_sensitive(true);
            request = request.header(*name, value);
        }
        let host = self.host.clone();
        let answer = request.send().await;
        let answer = answer.map_err(|source| RegistryError::Unreachable { host: host.clone(), source })?;
        let (what, status) = (what.to_owned(), answer.status());
        match status {
            _ if status.is_success() => self.read(answer, MAX_API, &what).await,
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(RegistryError::Denied { host, what, status: status.as_u16() })
            }
            _ => Err(RegistryError::Refused { host, what, status: status.as_u16(), message: String::new() }),
        }
    }

    /// Host and port, for messages.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether there is a registry that lets these credentials in.
    ///
    /// # Errors
    /// [`RegistryError`] says what is in the way.
    pub async fn check(&self) -> Result<(), RegistryError> {
        let ask = self.ask("v2/", "application/json", String::new(), "the registry's API V2".to_owned())?;
        self.get(&ask).await.map(drop)
    }

    /// Names of all repositories, page by page.
    ///
    /// # Errors
    /// [`RegistryError::Address`].
    pub fn repositories(&self) -> Result<Pages<'_>, RegistryError> {
        Pages::repositories(self)
    }

    /// Tags of a repository, page by page.
    ///
    /// # Errors
    /// [`RegistryError::Address`].
    pub fn tags(&self, repository: &Repository) -> Result<Pages<'_>, RegistryError> {
        Pages::tags(self, repository)
    }

    /// A manifest, at most 4 MiB. One that is asked for by digest has that digest.
    ///
    /// # Errors
    /// [`RegistryError`] says what is in the way.
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Manifest, RegistryError> {
        let what = format!("manifest {repository}:{reference}");
        let path = format!("v2/{repository}/manifests/{reference}");
        let ask = self.ask(&path, MANIFESTS, pull(repository), what.clone())?;
        let answer = self.get(&ask).await?;
        let media_type = header(answer.headers(), CONTENT_TYPE.as_str()).unwrap_or_default().to_owned();
        let bytes = self.read(answer, MAX_MANIFEST, &what).await?;
        let digest = match reference {
            Reference::Digest(wanted) => {
                self.same(&bytes, wanted)?;
                wanted.clone()
            }
            Reference::Tag(_) => Sha256Text::of(&bytes).parse(&self.host)?,
        };
        Ok(Manifest { digest, media_type, bytes })
    }

    /// A blob of `size` bytes, piece by piece.
    ///
    /// # Errors
    /// [`RegistryError`] says what is in the way.
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<Blob<'_>, RegistryError> {
        Blob::open(self, repository, digest, size).await
    }

    pub(crate) fn ask(
        &self,
        path: &str,
        accept: &'static str,
        scope: String,
        what: String,
    ) -> Result<Ask, RegistryError> {
        let address = |_invalid| RegistryError::Address { url: format!("{}{path}", self.base) };
        Ok(Ask { url: self.base.join(path).map_err(address)?, accept, scope, what, from: 0 })
    }

    /// An address that the registry gave, when it is one of its own.
    pub(crate) fn own(&self, given: &str) -> Option<Url> {
        self.base.join(given).ok().filter(|url| url.origin() == self.base.origin())
    }

    /// The answer, once it is a success.
    pub(crate) async fn get(&self, ask: &Ask) -> Result<Response, RegistryError> {
        let mut renewed = false;
        let mut tries = 0;
        loop {
            let mut request = self.client.get(ask.url.clone()).header(ACCEPT, ask.accept);
            if let Some(header) = self.authority.header(&ask.scope).await {
                request = request.header(AUTHORIZATION, header);
            }
            if ask.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", ask.from));
            }
            if let Some((name, value)) = &self.header {
                request = request.header(name, value);
            }
            let pause = FIRST_PAUSE.saturating_mul(1 << tries);
            let answer = match request.send().await {
                Ok(answer) => answer,
                Err(source) if tries < RETRIES && passes(&source) => {
                    tracing::debug!(%source, host = self.host, "no answer, trying again");
                    tries += 1;
                    tokio::time::sleep(pause).await;
                    continue;
                }
                Err(source) => {
                    return Err(RegistryError::Unreachable { host: self.host.clone(), source });
                }
            };
            let (host, what, status) = (self.host.clone(), ask.what.clone(), answer.status());
            match status {
                _ if status.is_success() => return Ok(answer),
                StatusCode::UNAUTHORIZED if !renewed => {
                    renewed = true;
                    self.authority.renew(&self.client, answer.headers(), &ask.scope, &what).await?;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(RegistryError::Denied { host, what, status: status.as_u16() });
                }
                StatusCode::NOT_FOUND => return Err(RegistryError::NotFound { host, what }),
                StatusCode::TOO_MANY_REQUESTS => {
                    let wait = retry_after(answer.headers()).unwrap_or(pause);
                    if tries == RETRIES || wait > LONGEST_PAUSE {
                        return Err(RegistryError::Throttled { host, wait });
                    }
                    tries += 1;
                    tokio::time::sleep(wait).await;
                }
                _ if status.is_server_error() && tries < RETRIES => {
                    let wait = retry_after(answer.headers()).unwrap_or(pause);
                    tries += 1;
                    tokio::time::sleep(wait.min(LONGEST_PAUSE)).await;
                }
                _ => {
                    let message = words(&self.read(answer, MAX_ERROR, &what).await.unwrap_or_default());
                    return Err(RegistryError::Refused { host, what, status: status.as_u16(), message });
                }
            }
        }
    }

    /// All of an answer's body.
    pub(crate) async fn read(
        &self,
        mut answer: Response,
        most: u64,
        what: &str,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        let unreachable = |source| RegistryError::Unreachable { host: self.host.clone(), source };
        while let Some(piece) = answer.chunk().await.map_err(unreachable)? {
            bytes.extend_from_slice(&piece);
            if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
                return Err(RegistryError::TooLarge { what: what.to_owned(), most });
            }
        }
        Ok(bytes)
    }

    fn same(&self, bytes: &[u8], wanted: &Digest) -> Result<(), RegistryError> {
        let found = if wanted.is_sha512() {
            format!("sha512:{}", hex(&Sha512::digest(bytes)))
        } else {
            Sha256Text::of(bytes).0
        };
        if found == wanted.as_str() {
            return Ok(());
        }
        let wanted = wanted.to_string();
        Err(RegistryError::Digest { host: self.host.clone(), what: "a manifest", wanted, found })
    }
}

/// The right to read a repository (Docker's "Token scope documentation").
pub(crate) fn pull(repository: &Repository) -> String {
    format!("repository:{repository}:pull")
}

struct Sha256Text(String);

impl Sha256Text {
    fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex(&Sha256::digest(bytes))))
    }

    fn parse(&self, host: &str) -> Result<Digest, RegistryError> {
        self.0.parse().map_err(|error: crate::NameError| RegistryError::Malformed {
            host: host.to_owned(),
            what: "a digest",
            reason: error.to_string(),
        })
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(nibble.into(), 16));
        }
        text
    })
}

/// Never from TLS to plain text, and not for ever. The client takes credentials off when the host is another.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_tls = attempt.previous().first().is_some_and(|first| first.scheme() == "https");
    if attempt.previous().len() > MAX_REDIRECTIONS {
        attempt.error("too many redirections")
    } else if was_tls && attempt.url().scheme() != "https" {
        attempt.error("a redirection from TLS to plain text")
    } else {
        attempt.follow()
    }
}

/// Whether another try may help: not for a certificate that is not trusted or a redirection that is not followed.
fn passes(error: &reqwest::Error) -> bool {
    if error.is_redirect() || error.is_builder() {
        return false;
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.to_string().contains("certificate") {
            return false;
        }
        cause = inner.source();
    }
    true
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(HeaderValue::to_str).and_then(Result::ok)
}

/// Seconds; the form with a date is as good as none, as registries do not use it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    header(headers, RETRY_AFTER.as_str())?.trim().parse().ok().map(Duration::from_secs)
}

/// What a registry says of an error (distribution specification 1.1, "Error codes"), or the begin of what it sent.
fn words(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Errors>(body) {
        Ok(Errors { errors }) => {
            errors.iter().map(|one| format!("{} {}", one.code, one.message)).collect::<Vec<_>>().join("; ")
        }
        Err(_other) => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}
