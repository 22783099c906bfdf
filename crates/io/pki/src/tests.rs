//! What a link accepts and refuses, over real TLS on the loopback.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use crate::{
    Authority, CONTROLLER_NAME, Credential, PkiError, SigningRequest, accept, node_id_of, renewal_due, tls,
    token,
};
use arc_swap::ArcSwap;
use nv_model::name::NodeId;
use nv_model::time::Timestamp;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

const DAY: i64 = 86_400;

fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    Timestamp::from_seconds(i64::try_from(since.as_secs()).unwrap())
}

fn node(authority: &Authority, id: &str) -> Credential {
    let id: NodeId = id.parse().unwrap();
    let request = SigningRequest::generate().unwrap();
    let chain = authority.sign_request(request.der(), &id, now()).unwrap();
    request
        .complete(chain.iter().map(|der| der.to_vec()).collect(), vec![authority.certificate().to_vec()])
        .unwrap()
}

fn server(authority: &Authority, name: &str) -> ServerConfig {
    tls::server(&authority.issue_server(&[name.to_owned()], &["127.0.0.1".parse().unwrap()], now()).unwrap())
        .unwrap()
}

/// Connects once; gives the node that the server saw.
async fn meet(server: ServerConfig, client: ClientConfig) -> Result<Option<NodeId>, String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let config = Arc::new(ArcSwap::from_pointee(server));
    let mut accepted = accept::incoming(listener, config, Arc::default(), shutdown.clone());
    let served = tokio::spawn(async move {
        let mut stream = accepted.next().await.unwrap().unwrap();
        stream.write_all(b"x").await.unwrap();
        stream.peer_certificates().map(|chain| node_id_of(&chain[0]).unwrap())
    });
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(CONTROLLER_NAME).unwrap();
    let outcome = async {
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, tcp).await?;
        // With TLS 1.3 a refusal of the client's certificate comes with the first byte.
        stream.read_exact(&mut [0]).await
    };
    let outcome = outcome.await;
    shutdown.cancel();
    match outcome {
        Ok(_) => Ok(served.await.unwrap()),
        Err(error) => {
            served.abort();
            Err(error.to_string())
        }
    }
}

#[tokio::test]
async fn a_node_is_known_by_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), now()).unwrap();
    let client = tls::client(&node(&authority, "host a:0123")).unwrap();
    let seen = meet(server(&authority, CONTROLLER_NAME), client).await.unwrap();
    assert_eq!(seen, Some("host a:0123".parse().unwrap()));
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_the_server() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, theirs) =
        (Authority::open(ours.path(), now()).unwrap(), Authority::open(theirs.path(), now()).unwrap());
    let stranger = node(&theirs, "n1");
    // It trusts our root, so that only the server can refuse.
    let credential = Credential::new(
        rustls_pki_types::PrivateKeyDer::from_pem(&stranger),
        stranger.chain.clone(),
        vec![ours.certificate().clone()],
    );
    assert!(meet(server(&ours, CONTROLLER_NAME), tls::client(&credential).unwrap()).await.is_err());
}

/// The key of a credential, by way of its PEM text.
trait FromPem {
    fn from_pem(credential: &Credential) -> zeroize::Zeroizing<Vec<u8>>;
}
impl FromPem for rustls_pki_types::PrivateKeyDer<'static> {
    fn from_pem(credential: &Credential) -> zeroize::Zeroizing<Vec<u8>> {
        use rustls_pki_types::pem::PemObject as _;
        let key =
            rustls_pki_types::PrivatePkcs8KeyDer::from_pem_slice(credential.key_pem().as_bytes()).unwrap();
        zeroize::Zeroizing::new(key.secret_pkcs8_der().to_vec())
    }
}

#[tokio::test]
async fn a_server_of_another_authority_or_another_name_is_refused_by_the_node() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, theirs) =
        (Authority::open(ours.path(), now()).unwrap(), Authority::open(theirs.path(), now()).unwrap());
    let client = || tls::client(&node(&ours, "n1")).unwrap();
    assert!(meet(server(&theirs, CONTROLLER_NAME), client()).await.is_err());
    assert!(meet(server(&ours, "somebody-else"), client()).await.is_err());
}

#[tokio::test]
async fn a_node_cannot_pose_as_a_controller() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), now()).unwrap();
    let posing = tls::server(&node(&authority, "n1")).unwrap();
    assert!(meet(posing, tls::client(&node(&authority, "n2")).unwrap()).await.is_err());
}

#[tokio::test]
async fn a_join_token_leads_to_its_own_cluster_only() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, theirs) =
        (Authority::open(ours.path(), now()).unwrap(), Authority::open(theirs.path(), now()).unwrap());
    let token = token::generate(ours.fingerprint()).unwrap();
    let client = || tls::pinned_client(token::authority(&token).unwrap()).unwrap();
    assert_eq!(meet(server(&ours, CONTROLLER_NAME), client()).await, Ok(None));
    assert!(meet(server(&theirs, CONTROLLER_NAME), client()).await.is_err());
    assert!(meet(server(&ours, "somebody-else"), client()).await.is_err());
}

#[test]
fn the_authority_is_kept_in_a_file_that_only_its_owner_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let first = Authority::open(folder.path(), now()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Authority::open(folder.path(), now()).unwrap().fingerprint(), first.fingerprint());

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(Authority::open(folder.path(), now()), Err(PkiError::Exposed { mode: 0o644, .. })));
}

#[test]
fn a_damaged_authority_is_reported_and_not_replaced() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("ca.pem");
    drop(Authority::open(folder.path(), now()).unwrap());
    drop(Authority::open(other.path(), now()).unwrap());
    let good = std::fs::read_to_string(&path).unwrap();
    let (key, _) = good.split_at(good.find("-----BEGIN CERTIFICATE").unwrap());
    let foreign = std::fs::read_to_string(other.path().join("ca.pem")).unwrap();
    let (_, certificate) = foreign.split_at(foreign.find("-----BEGIN CERTIFICATE").unwrap());
    for damaged in [
        String::new(),
        "not PEM".to_owned(),
        good.chars().take(good.len() / 2).collect(),
        format!("{key}{certificate}"),
    ] {
        std::fs::write(&path, &damaged).unwrap();
        let refused = Authority::open(folder.path(), now()).unwrap_err();
        assert!(matches!(refused, PkiError::Damaged { .. }), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
    }
}

#[test]
fn a_credential_is_read_back_as_it_was_written_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), now()).unwrap();
    assert!(Credential::load(folder.path(), "node").unwrap().is_none());
    let credential = node(&authority, "n1");
    credential.save(folder.path(), "node").unwrap();
    let read = Credential::load(folder.path(), "node").unwrap().unwrap();
    assert_eq!(read.chain, credential.chain);
    assert_eq!(read.key_pem(), credential.key_pem());
    assert_eq!(format!("{read:?}"), "Credential { chain: 2, roots: 1, .. }");
}

#[test]
fn a_request_says_nothing_about_the_name_that_is_signed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), now()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let greedy = rcgen::CertificateParams::new(vec![CONTROLLER_NAME.to_owned()]).unwrap();
    let request = greedy.serialize_request(&key).unwrap();
    let chain = authority.sign_request(request.der(), &"n1".parse().unwrap(), now()).unwrap();
    assert_eq!(node_id_of(&chain[0]).unwrap(), "n1".parse().unwrap());
    let text = String::from_utf8_lossy(&chain[0]).into_owned();
    assert!(!text.contains(CONTROLLER_NAME));
    assert!(matches!(
        authority.sign_request(b"nonsense", &"n1".parse().unwrap(), now()),
        Err(PkiError::Request(_))
    ));
}

#[test]
fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), now()).unwrap();
    let credential = node(&authority, "n1");
    let after = |days: i64| Timestamp::from_seconds(now().seconds() + days * DAY);
    for (days, due) in [(0, false), (240, false), (247, true), (400, true)] {
        assert_eq!(renewal_due(&credential.chain[0], after(days)).unwrap(), due, "after {days} days");
    }
}

#[test]
fn a_token_admits_its_node_until_it_expires() {
    let record = |node: Option<&str>| token::TokenRecord {
        node: node.map(|node| node.parse().unwrap()),
        expires: Timestamp::from_seconds(100),
        role: token::TokenRole::Enforcer,
    };
    let (n1, n2): (NodeId, NodeId) = ("n1".parse().unwrap(), "n2".parse().unwrap());
    let at = Timestamp::from_seconds;
    assert!(record(None).admits(&n1, at(99)) && record(None).is_single_use());
    assert!(record(Some("n1")).admits(&n1, at(99)) && !record(Some("n1")).is_single_use());
    assert!(!record(Some("n1")).admits(&n2, at(99)));
    assert!(!record(None).admits(&n1, at(100)));
}

#[test]
fn a_text_that_is_no_token_is_refused() {
    use secrecy::{ExposeSecret as _, SecretString};
    let good = token::generate([7; 32]).unwrap();
    assert_eq!(token::authority(&good).unwrap(), [7; 32]);
    assert_eq!(token::hash(&good).unwrap().len(), 64);
    let text = good.expose_secret().to_owned();
    for bad in [
        "",
        ".",
        "a.b",
        text.get(1..).unwrap(),
        &text.replace('.', ":"),
        &format!("{}zz", text.get(2..).unwrap()),
    ] {
        assert!(token::hash(&SecretString::from(bad.to_owned())).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn strangers_cannot_keep_a_node_out() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), now()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let config = Arc::new(ArcSwap::from_pointee(server(&authority, CONTROLLER_NAME)));
    let counters = Arc::<accept::AcceptCounters>::default();
    let mut accepted = accept::incoming(listener, config, Arc::clone(&counters), shutdown.clone());
    let served = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(Ok(mut stream)) = accepted.next().await {
            stream.write_all(b"x").await.unwrap();
            held.push(stream);
        }
    });
    let meet = |client: ClientConfig| async move {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(CONTROLLER_NAME).unwrap();
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, tcp).await.ok()?;
        stream.read_exact(&mut [0]).await.ok()?;
        Some(stream)
    };
    let mut strangers = Vec::new();
    for _ in 0..140 {
        strangers.extend(meet(tls::pinned_client(authority.fingerprint()).unwrap()).await);
    }
    assert_eq!(strangers.len(), 128);
    assert_eq!(counters.refused.load(std::sync::atomic::Ordering::Relaxed), 12);
    assert!(meet(tls::client(&node(&authority, "n1")).unwrap()).await.is_some());
    shutdown.cancel();
    served.await.unwrap();
}

#[test]
fn a_scanners_token_and_certificate_speak_for_no_node() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), now()).unwrap();
    let request = SigningRequest::generate().unwrap();
    let scanner = "s1".parse().unwrap();
    let chain = authority.sign_scanner_request(request.der(), &scanner, now()).unwrap();
    assert_eq!(crate::scanner_id_of(&chain[0]).unwrap(), scanner);
    assert!(node_id_of(&chain[0]).is_err());
    let of_node = node(&authority, "s1");
    assert!(crate::scanner_id_of(&of_node.chain[0]).is_err());
    let at = Timestamp::from_seconds;
    let record = token::TokenRecord { node: None, expires: at(100), role: token::TokenRole::Scanner };
    assert!(record.admits_scanner(at(99)) && !record.admits_scanner(at(100)) && !record.is_single_use());
    assert!(!record.admits(&"s1".parse().unwrap(), at(99)));
    let of_node = token::TokenRecord { role: token::TokenRole::Enforcer, ..record };
    assert!(!of_node.admits_scanner(at(99)));
}
