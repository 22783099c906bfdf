//! Amazon's token for its registries: `GetAuthorizationToken`, signed with the account's key (AWS Signature Version 4).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::RegistryError;
use crate::request::{Credentials, hex};

const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
const KIND: &str = "application/x-amz-json-1.1";

/// An account's key.
#[derive(Clone, Debug)]
pub struct AwsKey {
    /// The account's number; empty for the key's own.
    pub account: String,
    /// `eu-central-1`.
    pub region: String,
    /// Its public part.
    pub access_key: String,
    /// Its secret part.
    pub secret_key: SecretString,
}

impl AwsKey {
    /// The service that gives tokens.
    pub(crate) fn service(&self) -> String {
        format!("https://api.ecr.{}.amazonaws.com/", self.region)
    }

    /// The body and the headers of a request for a token at a time (`20261126T060000Z`).
    pub(crate) fn request(&self, host: &str, time: &str) -> (String, Vec<(&'static str, String)>) {
        let body = if self.account.is_empty() {
            "{}".to_owned()
        } else {
            serde_json::json!({ "registryIds": [self.account] }).to_string()
        };
        let day = time.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/ecr/aws4_request", self.region);
        let names = "content-type;host;x-amz-date;x-amz-target";
        let canonical = format!(
            "POST\n/\n\ncontent-type:{KIND}\nhost:{host}\nx-amz-date:{time}\nx-amz-target:{TARGET}\n\n{names}\n{}",
            hex(&Sha256::digest(body.as_bytes()))
        );
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let secret = format!("AWS4{}", self.secret_key.expose_secret());
        let mut key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), day.as_bytes());
        for part in [self.region.as_str(), "ecr", "aws4_request", to_sign.as_str()] {
            key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), part.as_bytes());
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.access_key,
            hex(key.as_ref())
        );
        let headers = vec![
            ("content-type", KIND.to_owned()),
            ("x-amz-date", time.to_owned()),
            ("x-amz-target", TARGET.to_owned()),
            ("authorization", authorization),
        ];
        (body, headers)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    authorization_data: Vec<Authorization>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    authorization_token: String,
}

/// The user and the password in an answer.
pub(crate) fn credentials(host: &str, body: &[u8]) -> Result<Credentials, RegistryError> {
    let malformed = |reason: &str| RegistryError::Malformed {
        host: host.to_owned(),
        what: "the token",
        reason: reason.to_owned(),
    };
    // The parser's own words may quote the token.
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_no_answer| malformed("no JSON with a token"))?;
    let token = answer.authorization_data.into_iter().next().ok_or_else(|| malformed("there is none"))?;
    let decoded = BASE64_STANDARD.decode(token.authorization_token).ok();
    let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
    let (user, password) = pair.ok_or_else(|| malformed("it has no user and password"))?;
    Ok(Credentials::Password { user: user.to_owned(), password: password.to_owned().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The derivation of the key and of the signature, against a second way to count them.
    #[test]
    fn a_request_is_signed_as_the_service_checks_it() {
        let key = AwsKey {
            account: "123456789012".to_owned(),
            region: "us-east-1".to_owned(),
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned().into(),
        };
        let (body, headers) = key.request("api.ecr.us-east-1.amazonaws.com", "20150830T123600Z");
        assert_eq!(body, r#"{"registryIds":["123456789012"]}"#);
        let authorization = &headers.last().unwrap().1;
        assert!(
            authorization.starts_with(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/ecr/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature="
            ),
            "{authorization}"
        );
        let signature = authorization.rsplit('=').next().unwrap();
        assert_eq!(signature, "a319693d5b44a9df7eaed9d9b1e9035b22ef7839621896473f27d5e9f4cc060d");
        assert!(!format!("{key:?}").contains("wJalr"));
    }
}
