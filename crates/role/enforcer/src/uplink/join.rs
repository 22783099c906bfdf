//! How the node gets its certificate: a join token buys the first one, and each buys the next before it ends.

use std::path::{Path, PathBuf};

use nv_model::name::NodeId;
use nv_model::time::Timestamp;
use nv_pki::{Credential, PkiError, SigningRequest};
use nv_wire::enforcer::v1 as proto;
use nv_wire::enforcer::v1::enforcer_service_client::EnforcerServiceClient;
use secrecy::{ExposeSecret as _, SecretString};

/// Name of the node's key and certificate below the state directory.
const FILE: &str = "node";

/// Where a join token comes from.
#[derive(Debug)]
pub enum JoinToken {
    /// It is at hand: the all-in-one makes one for its own enforcer.
    Text(SecretString),
    /// A file that is read when a certificate is needed.
    File(PathBuf),
    /// There is none; the node must have a certificate already.
    None,
}

/// Why the node has no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Key, certificate or connection.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The token's file.
    #[error("join token file {} cannot be read", .path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No certificate and no token.
    #[error(
        "this node has no certificate in {} and was given no join token; make one with the controller and hand it in with --join-token-file",
        .folder.display()
    )]
    NoToken {
        /// Where a certificate would be.
        folder: PathBuf,
    },
    /// The controller said no.
    #[error("the controller refused the node: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
}

/// The node's certificate: the one on disk if it is good for a while, else a new one, bought with the old one or the
/// token.
///
/// # Errors
/// [`JoinError`]; an outage of the controller is among them, so try again.
pub(crate) async fn credential(
    folder: &Path,
    node: &NodeId,
    controller: &str,
    token: &JoinToken,
    now: Timestamp,
) -> Result<Credential, JoinError> {
    if let Some(held) = Credential::load(folder, FILE)? {
        if !held.renewal_due(now)? {
            return Ok(held);
        }
        // The certificate that it has buys the next one.
        let config = nv_pki::tls::client(&held)?;
        return ask(folder, node, controller, config, &SecretString::from("")).await;
    }
    let token = match token {
        JoinToken::Text(text) => text.clone(),
        JoinToken::File(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|source| JoinError::TokenFile { path: path.clone(), source })?;
            SecretString::from(text.trim())
        }
        JoinToken::None => return Err(JoinError::NoToken { folder: folder.to_owned() }),
    };
    let pinned = nv_pki::tls::pinned_client(nv_pki::token::authority(&token)?)?;
    ask(folder, node, controller, pinned, &token).await
}

/// Asks the controller for a certificate and keeps it.
async fn ask(
    folder: &Path,
    node: &NodeId,
    controller: &str,
    config: rustls::ClientConfig,
    token: &SecretString,
) -> Result<Credential, JoinError> {
    let request = SigningRequest::generate()?;
    let channel = nv_pki::connect::channel(controller, config).await?;
    let reply = EnforcerServiceClient::new(channel)
        .join(proto::JoinRequest {
            token: token.expose_secret().to_owned(),
            node_id: node.to_string(),
            signing_request: request.der().to_vec(),
        })
        .await
        .map_err(|status| JoinError::Refused { reason: status.message().to_owned() })?
        .into_inner();
    let credential = request.complete(reply.chain, reply.roots)?;
    credential.save(folder, FILE)?;
    Ok(credential)
}
