//! Who may read: tokens of a registry's authority, kept for as long as they are good.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, StatusCode, Url};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::challenge::{Challenge, parse};
use crate::error::RegistryError;
use crate::request::Credentials;

/// Most tokens at one time: one a repository that is being read.
const MAX_TOKENS: usize = 1_024;
const MAX_ANSWER: usize = 1024 * 1024;
/// What the token specification says of a token without a term.
const DEFAULT_TERM: u64 = 60;

/// Knows what to send with a request.
pub(crate) struct Authority {
    credentials: Option<Credentials>,
    host: String,
    tls: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The registry wants user and password itself.
    basic: bool,
    /// By scope.
    tokens: HashMap<String, Token>,
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

/// Never with what is secret.
impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Authority {
    pub(crate) fn new(credentials: Option<Credentials>, host: String, tls: bool) -> Self {
        Self { credentials, host, tls, state: Mutex::default() }
    }

    /// What goes with a request for this; `None` asks as anybody.
    pub(crate) async fn header(&self, scope: &str) -> Option<HeaderValue> {
        if let Some(Credentials::Token(token)) = &self.credentials {
            return secret(&format!("Bearer {}", token.expose_secret()));
        }
        if matches!(self.credentials, Some(Credentials::Basic { .. })) {
            return self.basic();
        }
        let state = self.state.lock().await;
        if state.basic {
            return self.basic();
        }
        state.tokens.get(scope).filter(|token| token.until > Instant::now()).map(|token| token.header.clone())
    }

    /// The registry asked for more: get it.
    pub(crate) async fn renew(
        &self,
        client: &Client,
        headers: &HeaderMap,
        scope: &str,
        what: &str,
    ) -> Result<(), RegistryError> {
        let denied = |host: &str, status: u16| RegistryError::Denied {
            host: host.to_owned(),
            what: what.to_owned(),
            status,
        };
        let refused = || denied(&self.host, StatusCode::UNAUTHORIZED.as_u16());
        if matches!(self.credentials, Some(Credentials::Token(_) | Credentials::Basic { .. })) {
            return Err(refused());
        }
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let joined = challenges.collect::<Vec<_>>().join(", ");
        let mut state = self.state.lock().await;
        match parse(&joined) {
            Some(Challenge::Basic) if self.credentials.is_some() && !state.basic => {
                state.basic = true;
                Ok(())
            }
            Some(Challenge::Bearer { realm, service, scope: asked }) => {
                let wanted = if scope.is_empty() { asked.unwrap_or_default() } else { scope.to_owned() };
                let token = self.fetch(client, &realm, service, &wanted, what).await?;
                if state.tokens.len() >= MAX_TOKENS {
                    state.tokens.clear();
                }
                state.tokens.insert(scope.to_owned(), token);
                Ok(())
            }
            Some(Challenge::Basic) | None => Err(refused()),
        }
    }

    /// Docker's "Token authentication specification": a token for one scope.
    async fn fetch(
        &self,
        client: &Client,
        realm: &str,
        service: Option<String>,
        scope: &str,
        what: &str,
    ) -> Result<Token, RegistryError> {
        let malformed =
            |reason: String| RegistryError::Malformed { host: self.host.clone(), what: "the token", reason };
        let mut url: Url = realm
            .parse()
            .map_err(|_invalid| malformed(format!("{realm:?} is no address of an authority")))?;
        let authority = |reason| RegistryError::Authority {
            host: self.host.clone(),
            realm: realm.chars().take(300).collect(),
            reason,
        };
        match url.scheme() {
            "https" => {}
            "http" if self.credentials.is_none() || !self.tls => {}
            _ => return Err(authority("it is without TLS")),
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &service {
                query.append_pair("service", service);
            }
            if !scope.is_empty() {
                query.append_pair("scope", scope);
            }
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut request = client.get(url);
        if let Some(header) = self.basic() {
            request = request.header(AUTHORIZATION, header);
        }
        let unreachable = |source| RegistryError::Unreachable { host: host.clone(), source };
        let began = Instant::now();
        let mut answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(RegistryError::Denied { host, what: what.to_owned(), status: status.as_u16() });
        }
        if !status.is_success() {
            let message = "no token".to_owned();
            return Err(RegistryError::Refused {
                host,
                what: what.to_owned(),
                status: status.as_u16(),
                message,
            });
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(unreachable)? {
            body.extend_from_slice(&piece);
            if body.len() > MAX_ANSWER {
                return Err(malformed(format!("more than {MAX_ANSWER} bytes")));
            }
        }
        // The error of the parser is not told: it may quote the token.
        let given: Given = serde_json::from_slice(&body)
            .map_err(|error| malformed(format!("no JSON with a token (line {})", error.line())))?;
        let token = given.token.or(given.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| malformed("there is none in the answer".to_owned()))?;
        let header = secret(&format!("Bearer {token}"))
            .ok_or_else(|| malformed("it has characters that no header may have".to_owned()))?;
        // A quarter less, so that it does not end under way.
        let term = Duration::from_secs(given.expires_in.unwrap_or(DEFAULT_TERM).clamp(1, 86_400)) * 3 / 4;
        Ok(Token { header, until: began + term })
    }

    fn basic(&self) -> Option<HeaderValue> {
        let Some(Credentials::Password { user, password } | Credentials::Basic { user, password }) =
            &self.credentials
        else {
            return None;
        };
        let pair = format!("{user}:{}", password.expose_secret());
        secret(&format!("Basic {}", BASE64_STANDARD.encode(pair)))
    }
}

/// A header that no log shows.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}
