use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::BoxFuture;
use reqwest::{Certificate, Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// A client of the REST API.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    token: String,
}

impl Client {
    /// A client of the server at `base`, verified with the root certificate in `ca` (PEM).
    ///
    /// # Errors
    /// When the certificate cannot be read.
    pub fn new(base: String, ca: &Path) -> Result<Self> {
        let root = Certificate::from_pem(&std::fs::read(ca).with_context(|| ca.display().to_string())?)?;
        let http = reqwest::Client::builder()
            .tls_certs_only([root])
            .timeout(Duration::from_secs(20))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { base, http, token: String::new() })
    }

    /// Whether `/readyz` answers 200.
    pub fn is_ready(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let answer = self.http.get(format!("{}/readyz", self.base)).send().await;
            answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
        })
    }

    /// Logs in and keeps the token.
    ///
    /// # Errors
    /// With status and body when the login is refused.
    pub fn login<'a>(
        &'a mut self,
        user: &'a str,
        password: &'a str,
        new_password: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let mut body = json!({"password": {"username": user, "password": password}});
            if let Some(new) = new_password
                && let Some(fields) = body.get_mut("password").and_then(Value::as_object_mut)
            {
                fields.insert("new_password".to_owned(), json!(new));
            }
            let (status, answer) = self.call(Method::POST, "/v1/auth", Some(&body)).await?;
            let token = answer.pointer("/token/token").and_then(Value::as_str).unwrap_or_default();
            if status != StatusCode::OK || token.is_empty() {
                bail!("login of {user}: {status} {answer}");
            }
            token.clone_into(&mut self.token);
            Ok(answer)
        })
    }

    /// One call: status and JSON body; an empty body gives null.
    ///
    /// # Errors
    /// When there is no answer or it is no JSON.
    pub fn call<'a>(
        &'a self,
        method: Method,
        path: &'a str,
        body: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(StatusCode, Value)>> {
        Box::pin(async move {
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
            if !self.token.is_empty() {
                request = request.header("X-Auth-Token", &self.token);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = request.send().await.with_context(|| format!("{method} {path}"))?;
            let status = answer.status();
            let text = answer.text().await?;
            let value = if text.is_empty() {
                Value::Null
            } else {
                serde_json::from_str(&text)
                    .with_context(|| format!("{method} {path} answered {status} {text}"))?
            };
            Ok((status, value))
        })
    }

    /// POST of a file as it is, which must answer 200.
    ///
    /// # Errors
    /// With status and body otherwise.
    pub fn upload<'a>(&'a self, path: &'a str, file: Vec<u8>) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let request = self.http.post(format!("{}{path}", self.base)).header("X-Auth-Token", &self.token);
            let answer = request.body(file).send().await.with_context(|| format!("POST {path}"))?;
            let status = answer.status();
            let text = answer.text().await.with_context(|| format!("POST {path}"))?;
            if status != StatusCode::OK {
                bail!("POST {path}: {status} {text}");
            }
            serde_json::from_str(&text).with_context(|| format!("POST {path} answered {text}"))
        })
    }

    /// GET of something that is no JSON, which must answer 200.
    ///
    /// # Errors
    /// With the status otherwise.
    pub fn download<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let request = self.http.get(format!("{}{path}", self.base)).header("X-Auth-Token", &self.token);
            let answer = request.send().await.with_context(|| format!("GET {path}"))?;
            let status = answer.status();
            let body = answer.bytes().await.with_context(|| format!("GET {path}"))?;
            if status != StatusCode::OK {
                bail!("GET {path}: {status} {}", String::from_utf8_lossy(&body));
            }
            Ok(body.into())
        })
    }

    /// GET, which must answer 200.
    ///
    /// # Errors
    /// With status and body otherwise.
    pub fn get<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (status, body) = self.call(Method::GET, path, None).await?;
            if status != StatusCode::OK {
                bail!("GET {path}: {status} {body}");
            }
            Ok(body)
        })
    }

    /// PATCH, which must answer 200.
    ///
    /// # Errors
    /// With status and body otherwise.
    pub fn patch<'a>(&'a self, path: &'a str, body: &'a Value) -> BoxFuture<'a, Result<Value>> {
        Box::pin(async move {
            let (status, answer) = self.call(Method::PATCH, path, Some(body)).await?;
            if status != StatusCode::OK {
                bail!("PATCH {path} {body}: {status} {answer}");
            }
            Ok(answer)
        })
    }

    /// Asks `path` again and again until `wanted` finds something in the answer; gives it and how long it took.
    ///
    /// # Errors
    /// When nothing is found within `limit`, with the last answer.
    pub async fn wait_for<T>(
        &self,
        path: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> Option<T>,
    ) -> Result<(T, Duration)> {
        let start = Instant::now();
        loop {
            // What is waited for may not exist yet.
            let (status, answer) = self.call(Method::GET, path, None).await?;
            if status == StatusCode::OK
                && let Some(found) = wanted(&answer)
            {
                return Ok((found, start.elapsed()));
            }
            if start.elapsed() > limit {
                let shown: String = answer.to_string().chars().take(4000).collect();
                bail!("{path} did not show what was waited for within {limit:?}; last answer: {shown}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the only enforcer is linked, which it is once the kernel's programs are in place.
    ///
    /// # Errors
    /// When it is not within a minute.
    pub fn wait_linked(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let linked = |answer: &Value| {
                let state = answer.pointer("/enforcers/0/connection_state")?.as_str()?;
                (state == "connected").then_some(())
            };
            let waited = self.wait_for("/v1/enforcer", Duration::from_secs(60), linked).await;
            waited.map(drop).context("the enforcer is not linked")
        })
    }

    /// Waits until the only node enforces all that the API shows.
    ///
    /// # Errors
    /// When it does not within 20 seconds.
    pub fn wait_enforced(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let enforced =
                |answer: &Value| answer.pointer("/enforcers/0/policy/enforced")?.as_bool().filter(|is| *is);
            let waited = self.wait_for("/v1/enforcer", Duration::from_secs(20), enforced).await;
            waited.map(drop).context("the node does not enforce its policy")
        })
    }

    /// Sets both modes of services (`nv.` left out), as `PATCH /v1/service/config` takes them.
    ///
    /// # Errors
    /// As for [`Self::patch`].
    pub fn set_modes<'a>(&'a self, services: &'a [&'a str], mode: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let body = json!({"config": {"services": services, "policy_mode": mode, "profile_mode": mode}});
            self.patch("/v1/service/config", &body).await.map(drop)
        })
    }
}
