//! How a scanner gets its certificate: a token for scanners buys the first one, and each buys the next before it ends.

use std::path::{Path, PathBuf};

use nv_model::name::ScannerId;
use nv_model::time::Timestamp;
use nv_pki::{Credential, SigningRequest};
use nv_wire::scanner::v1 as proto;
use nv_wire::scanner::v1::scanner_service_client::ScannerServiceClient;
use secrecy::{ExposeSecret as _, SecretString};

use super::ServiceError;

/// Name of key and certificate below the state directory.
const FILE: &str = "scanner";

/// Where a join token comes from.
#[derive(Clone, Debug)]
pub enum JoinToken {
    /// It is at hand: the all-in-one makes one for its own scanner.
    Text(SecretString),
    /// A file that is read when a certificate is needed.
    File(PathBuf),
    /// There is none; the scanner must have a certificate already.
    None,
}

/// This scanner's id: made once, kept in its folder.
pub(super) fn identity(folder: &Path) -> Result<ScannerId, ServiceError> {
    let path = folder.join("id");
    let fault = |source| ServiceError::State { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            if let Ok(id) = text.trim().parse() {
                return Ok(id);
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(fault(error)),
    }
    let id = uuid::Uuid::new_v4().to_string();
    std::fs::write(&path, &id).map_err(fault)?;
    id.parse().map_err(|error: nv_model::name::NameError| fault(std::io::Error::other(error)))
}

/// The scanner's certificate: the one on disk if it is good for a while, else a new one.
pub(super) async fn credential(
    folder: &Path,
    scanner: &ScannerId,
    controller: &str,
    token: &JoinToken,
    now: Timestamp,
) -> Result<Credential, ServiceError> {
    if let Some(held) = Credential::load(folder, FILE)? {
        if !held.renewal_due(now)? {
            return Ok(held);
        }
        let config = nv_pki::tls::client(&held)?;
        return ask(folder, scanner, controller, config, &SecretString::from("")).await;
    }
    let token = match token {
        JoinToken::Text(text) => text.clone(),
        JoinToken::File(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ServiceError::State { path: path.clone(), source })?;
            SecretString::from(text.trim())
        }
        JoinToken::None => return Err(ServiceError::NoToken { folder: folder.to_owned() }),
    };
    let pinned = nv_pki::tls::pinned_client(nv_pki::token::authority(&token)?)?;
    ask(folder, scanner, controller, pinned, &token).await
}

async fn ask(
    folder: &Path,
    scanner: &ScannerId,
    controller: &str,
    config: rustls::ClientConfig,
    token: &SecretString,
) -> Result<Credential, ServiceError> {
    let request = SigningRequest::generate()?;
    let channel = nv_pki::connect::channel(controller, config).await?;
    let reply = ScannerServiceClient::new(channel)
        .join(proto::JoinRequest {
            token: token.expose_secret().to_owned(),
            scanner_id: scanner.to_string(),
            signing_request: request.der().to_vec(),
        })
        .await
        .map_err(|status| ServiceError::Refused { reason: status.message().to_owned() })?
        .into_inner();
    let credential = request.complete(reply.chain, reply.roots)?;
    credential.save(folder, FILE)?;
    Ok(credential)
}
