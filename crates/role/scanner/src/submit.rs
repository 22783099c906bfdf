//! A result that is handed in to a controller over its REST API (`POST /v1/scan/result/repository`), as a build's scanner
//! does. The keys are those of `share/scan.proto` of NeuVector.

use std::time::Duration;

use nv_model::scan_report::{ScanReport, Vulnerability};
use nv_model::time::Timestamp;
use nv_vulnerability::Database;
use reqwest::{Certificate, Client, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ScannerError;
use crate::report::Report;
use crate::shown::{bench_items, scan_report};

/// Longest time that one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Header of a session's token.
const TOKEN: &str = "X-Auth-Token";

/// A controller, and who hands in there.
#[derive(Clone, Debug)]
pub struct Submission {
    /// `https://controller.example:10443`.
    pub url: String,
    /// A user who may write CI scans (role `ciops`).
    pub user: String,
    /// The password.
    pub password: SecretString,
    /// Authorities to trust besides the usual ones, DER: a controller's certificate is of its own.
    pub roots: Vec<Vec<u8>>,
    /// Take any certificate. Whoever is between can read the password then.
    pub accept_any_certificate: bool,
}

/// Where the image that was scanned has its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImagePlace {
    /// Address of the registry; empty for an image of a runtime.
    pub registry: String,
    /// Its repository.
    pub repository: String,
    /// Its tag, or its digest.
    pub reference: String,
}

#[derive(Deserialize)]
struct LoggedIn {
    token: Token,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

/// Hands in what was found in an image: logs in, submits, logs out.
///
/// # Errors
/// [`ScannerError::Submit`] says at which step, and what the controller answered.
pub fn submit_report(
    to: &Submission,
    database: Database<'_>,
    report: &Report,
    place: &ImagePlace,
) -> Result<(), ScannerError> {
    let shown = scan_report(database, report, bench_items(report), Vec::new());
    let result = result(&shown, place);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ScannerError::Runtime)?.block_on(hand_in(to, &result))
}

async fn hand_in(to: &Submission, result: &Value) -> Result<(), ScannerError> {
    let fault = |doing, reason: String| ScannerError::Submit { url: to.url.clone(), doing, reason };
    let setup = |error: &dyn std::error::Error| fault("reach it", nv_telemetry::chain(error));
    let base = Url::parse(&format!("{}/", to.url.trim_end_matches('/'))).map_err(|error| setup(&error))?;
    let roots: Result<Vec<_>, _> = to.roots.iter().map(|root| Certificate::from_der(root)).collect();
    let client = Client::builder()
        .tls_certs_merge(roots.map_err(|error| setup(&error))?)
        .tls_danger_accept_invalid_certs(to.accept_any_certificate)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .no_proxy()
        .build()
        .map_err(|error| setup(&error))?;
    let place = |path: &str| base.join(path).map_err(|error| setup(&error));
    let login = json!({"password": {"username": to.user, "password": to.password.expose_secret()}});
    let doing = "log in";
    let answer = client.post(place("v1/auth")?).json(&login).send().await;
    let answer = answered(answer).await.map_err(|reason| fault(doing, reason))?;
    // The parser's error is not told: it may quote the token.
    let logged: LoggedIn = serde_json::from_slice(&answer)
        .map_err(|_quotes| fault(doing, "its answer has no token".to_owned()))?;
    let token = SecretString::from(logged.token.token);
    let doing = "hand the result in";
    let request = client.post(place("v1/scan/result/repository")?).json(&json!({ "result": result }));
    let submitted = answered(request.header(TOKEN, token.expose_secret()).send().await).await;
    // Whether the session ends now or by itself changes nothing of the result.
    let ended = client.delete(place("v1/auth")?).header(TOKEN, token.expose_secret()).send().await;
    if let Err(error) = answered(ended).await {
        tracing::debug!(error, "the session at the controller ends by itself");
    }
    submitted.map(drop).map_err(|reason| fault(doing, reason))
}

/// The body of an answer that is a success; else a sentence with the controller's own words.
async fn answered(answer: Result<Response, reqwest::Error>) -> Result<Vec<u8>, String> {
    let mut answer = answer.map_err(|error| nv_telemetry::chain(&error.without_url()))?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| nv_telemetry::chain(&error))? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ANSWER {
            return Err(format!("it answers more than {MAX_ANSWER} bytes"));
        }
    }
    if status.is_success() {
        return Ok(body);
    }
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let words = said.get("message").and_then(Value::as_str).unwrap_or_default();
    let words: String = words.chars().filter(|c| !c.is_control()).take(300).collect();
    Err(format!("it answers {status} {words}").trim_end().to_owned())
}

/// `ScanVulnerability`.
fn vulnerability(found: &Vulnerability) -> Value {
    let date = |seconds: i64| {
        if seconds == 0 { String::new() } else { Timestamp::from_seconds(seconds).rfc3339() }
    };
    json!({
        "Name": found.name, "Score": found.score, "Severity": found.severity, "Vectors": found.vectors,
        "Description": found.description, "PackageName": found.package_name,
        "PackageVersion": found.package_version, "FixedVersion": found.fixed_version, "Link": found.link,
        "ScoreV3": found.score_v3, "VectorsV3": found.vectors_v3,
        "PublishedDate": date(found.published_timestamp),
        "LastModifiedDate": date(found.last_modified_timestamp), "CVEs": found.cves,
        "FeedRating": found.feed_rating, "InBase": found.in_base_image, "FileName": found.file_name,
    })
}

/// The number of `ScanVulStatus`.
fn status_number(word: &str) -> u32 {
    match word {
        "fix exists" => 1,
        "will not fix" => 2,
        "unaffected" => 3,
        _ => 0,
    }
}

/// `ScanResult`.
fn result(report: &ScanReport, place: &ImagePlace) -> Value {
    let vulnerabilities = |found: &[Vulnerability]| found.iter().map(vulnerability).collect::<Vec<_>>();
    let image = report.image.clone().unwrap_or_default();
    let modules = report.modules.iter().map(|module| {
        let found = module.cves.iter();
        let found = found.map(|cve| json!({"Name": cve.name, "Status": status_number(&cve.status)}));
        json!({
            "Name": module.name, "Version": module.version, "Source": module.source, "File": module.file,
            "Vuls": found.collect::<Vec<_>>(),
        })
    });
    let layers = report.layers.iter().map(|layer| {
        json!({
            "Digest": layer.digest, "Cmds": layer.cmds, "Size": layer.size,
            "Vuls": vulnerabilities(&layer.vulnerabilities),
        })
    });
    let secrets = report.secrets.iter().map(|secret| {
        json!({
            "Type": "file", "Text": secret.evidence, "File": secret.path, "RuleDesc": secret.kind,
            "Suggestion": secret.suggestion,
        })
    });
    let set_ids = report.setid_perms.iter();
    let set_ids =
        set_ids.map(|file| json!({"Type": file.kind, "File": file.path, "Evidence": file.evidence}));
    json!({
        "Version": report.database_version, "CVEDBCreateTime": report.database_created, "Error": 0,
        "Namespace": report.base_os, "Vuls": vulnerabilities(&report.vulnerabilities),
        "Registry": place.registry, "Repository": place.repository, "Tag": place.reference,
        // A daemon that was never told a manifest knows the configuration alone.
        "Digest": if image.digest.is_empty() { &image.id } else { &image.digest }, "ImageID": image.id,
        "Author": image.author, "Size": image.size, "Envs": report.envs, "Labels": report.labels,
        "Cmds": report.cmds, "Modules": modules.collect::<Vec<_>>(), "Layers": layers.collect::<Vec<_>>(),
        "Secrets": {"Error": 0, "Logs": secrets.collect::<Vec<_>>()},
        "SetIdPerms": set_ids.collect::<Vec<_>>(),
    })
}
