//! Scanners that join, take tasks, are lost, and use newer databases.

use std::time::Duration;

use nv_model::name::ScannerId;
use nv_model::record::{Record, Topic};
use nv_model::scan::{
    DatabaseInfo, RegistryImage, ScanPriority, ScanRequest, ScanSource, ScanState, ScanSubject,
};
use nv_model::scan_report::{ScanReport, Vulnerability};
use nv_model::time::Timestamp;
use nv_pki::{Credential, SigningRequest, connect, tls, token};
use nv_wire::scanner::v1 as proto;
use nv_wire::scanner::v1::from_scanner::Message as From;
use nv_wire::scanner::v1::report_piece::Piece as Part;
use nv_wire::scanner::v1::scanner_service_client::ScannerServiceClient;
use nv_wire::scanner::v1::to_scanner::Message as To;
use nv_wire::{DatabaseChange, ScanTask, ScanWork, ScannerGreeting};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::sim::Running;

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(10);

async fn join(running: &Running, name: &str, token: &SecretString) -> Result<Credential, Status> {
    let config = tls::pinned_client(token::authority(token).unwrap()).unwrap();
    let channel = connect::channel(&running.controller.address().to_string(), config).await.unwrap();
    let request = SigningRequest::generate().unwrap();
    let reply = ScannerServiceClient::new(channel)
        .join(proto::JoinRequest {
            token: token.expose_secret().to_owned(),
            scanner_id: name.to_owned(),
            signing_request: request.der().to_vec(),
        })
        .await?
        .into_inner();
    Ok(request.complete(reply.chain, reply.roots).unwrap())
}

fn database(version: u32) -> DatabaseInfo {
    DatabaseInfo { version, created: Timestamp::from_seconds(1), content: format!("content-{version}") }
}

struct Scanner {
    client: ScannerServiceClient<Channel>,
    outgoing: mpsc::Sender<proto::FromScanner>,
    incoming: Streaming<proto::ToScanner>,
}

impl Scanner {
    async fn link(running: &Running, name: &str, version: u32) -> Self {
        let token = running.controller.scanner_token(HOUR).await.unwrap();
        let credential = join(running, name, &token).await.unwrap();
        let config = tls::client(&credential).unwrap();
        let channel = connect::channel(&running.controller.address().to_string(), config).await.unwrap();
        let mut client = ScannerServiceClient::new(channel);
        let (outgoing, queue) = mpsc::channel(16);
        let hello = ScannerGreeting {
            version: "test".to_owned(),
            server: name.to_owned(),
            credits: 1,
            database: Some(database(version)),
        };
        outgoing.send(proto::FromScanner { message: Some(From::Hello(hello.into())) }).await.unwrap();
        let incoming = client.link(ReceiverStream::new(queue)).await.unwrap().into_inner();
        let mut scanner = Self { client, outgoing, incoming };
        assert!(matches!(scanner.next().await, To::Welcome(_)));
        scanner
    }

    async fn next(&mut self) -> To {
        let message = tokio::time::timeout(PATIENCE, self.incoming.message()).await.unwrap();
        message.unwrap().unwrap().message.unwrap()
    }

    async fn task(&mut self) -> ScanTask {
        match self.next().await {
            To::Task(task) => task.try_into().unwrap(),
            other => panic!("a task is expected: {other:?}"),
        }
    }

    async fn no_task(&mut self) {
        let none = tokio::time::timeout(Duration::from_millis(200), self.incoming.message()).await;
        assert!(none.is_err(), "{none:?}");
    }
}

/// Hands a report in; whether it was taken.
async fn report(
    client: &mut ScannerServiceClient<Channel>,
    task: &ScanTask,
    version: u32,
    packages: &[&str],
    found: &[&str],
) -> bool {
    let report = ScanReport {
        database_version: database(version).shown_version(),
        database_content: database(version).content,
        package_names: packages.iter().map(|name| (*name).to_owned()).collect(),
        vulnerabilities: found
            .iter()
            .map(|name| Vulnerability {
                name: (*name).to_owned(),
                severity: "High".to_owned(),
                ..Vulnerability::default()
            })
            .collect(),
        ..ScanReport::default()
    };
    let mut parts = vec![Part::Head(proto::ReportHead { task: task.id.0 })];
    if matches!(task.work, ScanWork::Image(_)) {
        parts.push(Part::Inventory(packages.concat().into_bytes()));
    }
    parts.push(Part::Report(serde_json::to_vec(&report).unwrap()));
    let pieces: Vec<_> = parts.into_iter().map(|part| proto::ReportPiece { piece: Some(part) }).collect();
    client.report(tokio_stream::iter(pieces)).await.unwrap().into_inner().taken
}

fn image(name: &str) -> ScanRequest {
    ScanRequest {
        subject: ScanSubject::RegistryImage { registry: "r".to_owned(), image: name.to_owned() },
        source: ScanSource::Image(Box::new(RegistryImage {
            repository: name.to_owned(),
            ..RegistryImage::default()
        })),
        priority: ScanPriority::Registry,
    }
}

#[tokio::test]
async fn a_scanner_is_let_in_by_a_token_for_scanners_alone_and_opens_nothing_of_the_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let of_nodes = running.controller.join_token(None, HOUR).await.unwrap();
    assert_eq!(join(&running, "s", &of_nodes).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    let of_scanners = running.controller.scanner_token(HOUR).await.unwrap();
    let one = join(&running, "s", &of_scanners).await.unwrap();
    // Replicas share a token.
    join(&running, "t", &of_scanners).await.unwrap();
    let address = running.controller.address().to_string();
    let channel = connect::channel(&address, tls::client(&one).unwrap()).await.unwrap();
    let mut as_node =
        nv_wire::enforcer::v1::enforcer_service_client::EnforcerServiceClient::new(channel.clone());
    let refused = as_node.link(tokio_stream::iter(Vec::new())).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused:?}");
    let pinned = tls::pinned_client(running.controller.authority().fingerprint()).unwrap();
    let stranger = connect::channel(&address, pinned).await.unwrap();
    let blob = proto::BlobRequest { blob: "0".repeat(64) };
    let refused = ScannerServiceClient::new(stranger).blob(blob).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused:?}");
}

#[tokio::test]
async fn what_a_lost_scanner_had_another_one_does_and_a_late_report_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let scans = running.controller.scans().clone();
    let mut first = Scanner::link(&running, "first", 1).await;
    let wanted = image("web");
    scans.enqueue(wanted.clone()).unwrap();
    let task = first.task().await;
    assert_eq!(scans.status(&wanted.subject).state, ScanState::Scanning);
    let mut second = Scanner::link(&running, "second", 1).await;
    second.no_task().await;
    // Its link ends, and it goes on all the same.
    let Scanner { mut client, outgoing, incoming } = first;
    drop((outgoing, incoming));
    let again = second.task().await;
    assert_eq!((again.id, &again.work), (task.id, &task.work));
    assert!(!report(&mut client, &task, 1, &["zlib"], &["CVE-9"]).await);
    assert!(report(&mut second.client, &again, 1, &["openssl"], &["CVE-1"]).await);
    let ended = scans.ended(&wanted.subject).await;
    assert_eq!(ended.state, ScanState::Finished);
    let kept = ended.report.unwrap();
    assert_eq!((kept.high, kept.database_version.as_str()), (1, "0.001"));
    let read = scans.report(kept.report).await.unwrap().unwrap();
    assert_eq!(read.vulnerabilities[0].name, "CVE-1");
    let audits = running.logged(Topic::Audit, 1).await;
    let Record::Audit(audit) = &audits[0] else { panic!("{audits:?}") };
    assert_eq!(
        (audit.common.name.as_str(), audit.high_vuls.as_slice()),
        ("Registry.Scan.Report", &["CVE-1".to_owned()][..])
    );

    // Reports outlive the controller.
    drop(scans);
    running.stop().await;
    let running = Running::start(folder.path()).await;
    let held = running.controller.scans().status(&wanted.subject).report.unwrap();
    assert_eq!(held, kept);
}

#[tokio::test]
async fn a_newer_database_has_only_that_matched_again_which_it_speaks_of() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let scans = running.controller.scans().clone();
    let mut scanner = Scanner::link(&running, "s", 1).await;
    for (name, packages) in [("web", ["openssl", "zlib"]), ("cache", ["redis", "jemalloc"])] {
        scans.enqueue(image(name)).unwrap();
        let task = scanner.task().await;
        assert!(report(&mut scanner.client, &task, 1, &packages, &[]).await);
    }
    // Another scanner that is behind gets nothing from here on.
    let mut behind = Scanner::link(&running, "behind", 1).await;
    let change = DatabaseChange {
        database: database(2),
        replaced: database(1).content,
        changed: Some(vec!["curl".to_owned(), "zlib".to_owned()]),
    };
    scanner.outgoing.send(proto::FromScanner { message: Some(From::Database(change.into())) }).await.unwrap();
    let task = scanner.task().await;
    let ScanWork::Inventory(inventory) = task.work else { panic!("{task:?}") };
    let request = proto::BlobRequest { blob: inventory.to_string() };
    let mut pieces = scanner.client.blob(request).await.unwrap().into_inner();
    assert_eq!(pieces.message().await.unwrap().unwrap().bytes, b"opensslzlib");
    assert!(report(&mut scanner.client, &task, 2, &["openssl", "zlib"], &["CVE-2"]).await);
    let web = scans.ended(&image("web").subject).await.report.unwrap();
    assert_eq!((web.database_version.as_str(), web.high), ("0.002", 1));
    let cache = scans.status(&image("cache").subject).report.unwrap();
    assert_eq!(cache.database_version, "0.001", "nothing in it changed");
    scanner.no_task().await;
    scans.enqueue(image("third")).unwrap();
    behind.no_task().await;
    assert_eq!(scanner.task().await.subject, image("third").subject.to_string());
    let ids: Vec<ScannerId> = scans.scanners().into_iter().map(|scanner| scanner.id).collect();
    assert_eq!(ids, ["behind".parse().unwrap(), "s".parse().unwrap()]);
}
