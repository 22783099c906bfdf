//! Feeds from their publishers: a folder a feed, as `db build --feeds` reads them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use nv_download::{Downloader, Fetched, Options, Wanted};
use nv_telemetry::{Clock as _, SystemClock, chain};
use nv_vulnerability::feed::{parse_sha256, updates_of_repository};

use crate::error::ScannerError;
use crate::remark::Remarks;

/// Largest file of a feed that is fetched, in bytes.
const MAX_FILE: u64 = 2 * 1024 * 1024 * 1024;
/// Largest file that only names another.
const MAX_NAME: u64 = 4096;
/// Largest description of a repository; they have some ten kilobytes.
const MAX_DESCRIPTION: u64 = 4 * 1024 * 1024;

/// Ecosystems and distributions whose advisories OSV publishes as one archive each.
const OSV: [&str; 15] = [
    "AlmaLinux",
    "Bitnami",
    "Go",
    "Maven",
    "NuGet",
    "Packagist",
    "PyPI",
    "Red Hat",
    "Rocky Linux",
    "RubyGems",
    "SUSE",
    "Ubuntu",
    "crates.io",
    "npm",
    "openSUSE",
];
/// Alpine's releases whose fixes are published: 3.10 to this one, and edge.
const LAST_ALPINE: u32 = 23;
/// Releases of Oracle Linux whose advisories are fetched.
const ORACLE: [u8; 4] = [7, 8, 9, 10];
/// Releases of Photon OS whose data are fetched.
const PHOTON: [&str; 3] = ["3.0", "4.0", "5.0"];
/// The first year of NVD's files.
const FIRST_NVD: u16 = 2002;

/// A file of a feed.
struct Source {
    /// The feed's folder.
    feed: String,
    url: String,
    /// The file's name in the folder.
    file: String,
    /// What is at `url`.
    at: At,
}

/// What is at an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// The file.
    File,
    /// The name of the file, which is beside it.
    Name,
    /// Where a repository of packages is, whose description names the file of its advisories.
    Repository,
}

/// What is fetched, and how.
#[derive(Debug, Default)]
pub struct FetchOptions {
    /// The folder of feeds.
    pub into: PathBuf,
    /// Names of feeds; all where there are none.
    pub feeds: Vec<String>,
    /// A proxy on the way.
    pub proxy: Option<String>,
    /// A copy of what the publishers have: their host and path behind this address.
    pub mirror: Option<String>,
}

/// Names of the feeds that are fetched.
pub fn fetched_feeds() -> Vec<String> {
    let mut names: Vec<String> = sources(year()).into_iter().map(|source| source.feed).collect();
    names.dedup();
    names
}

/// This year; 1970 at least.
fn year() -> u16 {
    let days = SystemClock::new().now().seconds() / 86_400;
    u16::try_from(1970 + days * 400 / 146_097).unwrap_or(1970)
}

fn sources(year: u16) -> Vec<Source> {
    let source = |feed: &str, url: String, file: &str| Source {
        feed: feed.to_owned(),
        url,
        file: file.to_owned(),
        at: At::File,
    };
    let mut found = vec![
        source(
            "kev",
            "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json".to_owned(),
            "kev.json",
        ),
        source(
            "epss",
            "https://epss.empiricalsecurity.com/epss_scores-current.csv.gz".to_owned(),
            "epss.csv.gz",
        ),
        source(
            "debian-tracker",
            "https://security-tracker.debian.org/tracker/data/json".to_owned(),
            "tracker.json",
        ),
        source("wolfi-secdb", "https://packages.wolfi.dev/os/security.json".to_owned(), "security.json"),
        source(
            "chainguard-secdb",
            "https://packages.cgr.dev/chainguard/security.json".to_owned(),
            "security.json",
        ),
        Source {
            at: At::Name,
            ..source(
                "redhat-vex",
                "https://security.access.redhat.com/data/csaf/v2/vex/archive_latest.txt".to_owned(),
                "archive.tar.zst",
            )
        },
    ];
    for file in ["jsrepository-master.json", "npmrepository.json"] {
        let url = format!("https://raw.githubusercontent.com/RetireJS/retire.js/master/repository/{file}");
        found.push(source("retirejs", url, file));
    }
    for release in (10..=LAST_ALPINE).map(|minor| format!("v3.{minor}")).chain(["edge".to_owned()]) {
        for repository in ["main", "community"] {
            let url = format!("https://secdb.alpinelinux.org/{release}/{repository}.json");
            found.push(source("alpine-secdb", url, &format!("{release}-{repository}.json")));
        }
    }
    for name in OSV {
        let url = format!(
            "https://osv-vulnerabilities.storage.googleapis.com/{}/all.zip",
            name.replace(' ', "%20")
        );
        found.push(source(&format!("osv-{}", name.to_ascii_lowercase().replace(' ', "-")), url, "all.zip"));
    }
    for release in ORACLE {
        let file = format!("com.oracle.elsa-ol{release}.xml.bz2");
        found.push(source("oracle-oval", format!("https://linux.oracle.com/security/oval/{file}"), &file));
    }
    for file in ["azurelinux-3.0-oval.xml", "cbl-mariner-2.0-oval.xml"] {
        let url =
            format!("https://raw.githubusercontent.com/microsoft/AzureLinuxVulnerabilityData/main/{file}");
        found.push(source("azurelinux-oval", url, file));
    }
    for release in PHOTON {
        let file = format!("cve_data_photon{release}.json");
        let url = format!("https://packages.broadcom.com/photon/photon_cve_metadata/{file}");
        found.push(source("photon", url, &file));
    }
    for (feed, place) in [("amazon-2", "2/core/latest"), ("amazon-2023", "al2023/core/mirrors/latest")] {
        let url = format!("https://cdn.amazonlinux.com/{place}/x86_64/mirror.list");
        found.push(Source { at: At::Repository, ..source(feed, url, "updateinfo.xml.gz") });
    }
    for year in FIRST_NVD..=year {
        let file = format!("nvdcve-2.0-{year}.json.gz");
        found.push(source("nvd-2", format!("https://nvd.nist.gov/feeds/json/cve/2.0/{file}"), &file));
    }
    found
}

/// Fetches feeds into their folders. What is there and is still the publisher's is left, what broke off goes on. A file
/// that does not come is remarked, and the others go on.
///
/// # Errors
/// [`ScannerError`] for a feed that nobody publishes, a folder that can not be made, or when no file at all came.
pub fn fetch_feeds(
    options: &FetchOptions,
    out: &mut dyn Write,
    remarks: &mut Remarks<'_>,
) -> Result<(), ScannerError> {
    let known = fetched_feeds();
    if let Some(unknown) = options.feeds.iter().find(|name| !known.contains(name)) {
        let names = known.join(", ");
        return Err(ScannerError::Argument(format!(
            "{unknown:?} is no feed that is fetched; there are: {names}"
        )));
    }
    let downloader =
        Downloader::new(&Options { proxy: options.proxy.clone() }).map_err(ScannerError::Download)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ScannerError::Runtime)?;
    let wanted = sources(year())
        .into_iter()
        .filter(|source| options.feeds.is_empty() || options.feeds.contains(&source.feed));
    let (mut came, mut last) = (0_usize, None);
    for source in wanted {
        let folder = options.into.join(&source.feed);
        fs::create_dir_all(&folder)
            .map_err(|error| ScannerError::Write { path: folder.clone(), source: error })?;
        match runtime.block_on(fetch(&downloader, options, &source, &folder)) {
            Ok(fetched) => {
                came += 1;
                let what = match fetched {
                    Fetched::Whole { bytes } => format!("{bytes} bytes"),
                    Fetched::Resumed { bytes, from } => format!("{bytes} bytes, {from} of them from before"),
                    Fetched::Unchanged => "unchanged".to_owned(),
                };
                writeln!(out, "{:<20} {:<28} {what}", source.feed, source.file)
                    .map_err(ScannerError::Output)?;
            }
            Err(error) => {
                remarks.add(&format!("{} {}: {}", source.feed, source.file, chain(&error)));
                last = Some(error);
            }
        }
    }
    match last {
        Some(error) if came == 0 => Err(error),
        _ => Ok(()),
    }
}

async fn fetch(
    downloader: &Downloader,
    options: &FetchOptions,
    source: &Source,
    folder: &Path,
) -> Result<Fetched, ScannerError> {
    let address = |url: &str| match &options.mirror {
        Some(mirror) => {
            let path = url.split_once("://").map_or(url, |(_, rest)| rest);
            format!("{}/{path}", mirror.trim_end_matches('/'))
        }
        None => url.to_owned(),
    };
    let small = async |url: &str, file: &str, most: u64| {
        let path = folder.join(file);
        let wanted = Wanted { url: &address(url), path: &path, most, sha256: None };
        downloader.fetch(&wanted).await.map_err(ScannerError::Download)?;
        fs::read_to_string(&path).map_err(|error| ScannerError::Read { path: path.clone(), source: error })
    };
    let mut url = source.url.clone();
    let path = folder.join(&source.file);
    match source.at {
        At::File => {}
        At::Name => {
            let name = small(&url, "name.txt", MAX_NAME).await?;
            let name = name.trim();
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.is_empty() || !name.chars().all(plain) {
                return Err(ScannerError::Argument(format!("{url} names no file")));
            }
            let beside = url.rsplit_once('/').map_or("", |(before, _)| before).to_owned();
            url = format!("{beside}/{name}");
        }
        At::Repository => {
            let list = small(&url, "mirror.list", MAX_NAME).await?;
            let base = list.lines().next().unwrap_or_default().trim().trim_end_matches('/');
            if !base.starts_with("https://") {
                return Err(ScannerError::Argument(format!("{url} names no repository under https://")));
            }
            let description = format!("{base}/repodata/repomd.xml");
            let text = small(&description, "repomd.txt", MAX_DESCRIPTION).await?;
            let Some(found) = updates_of_repository(&text) else {
                return Err(ScannerError::Argument(format!(
                    "{description} names no advisories by a SHA-256"
                )));
            };
            url = format!("{base}/{}", found.path);
            let wanted =
                Wanted { url: &address(&url), path: &path, most: MAX_FILE, sha256: Some(found.sha256) };
            return downloader.fetch(&wanted).await.map_err(ScannerError::Download);
        }
    }
    let sha256 = digest(downloader, &url, folder, &address).await?;
    let wanted = Wanted { url: &address(&url), path: &path, most: MAX_FILE, sha256 };
    downloader.fetch(&wanted).await.map_err(ScannerError::Download)
}

/// The SHA-256 that a publisher puts beside its file: Red Hat's `FILE.sha256`.
async fn digest(
    downloader: &Downloader,
    url: &str,
    folder: &Path,
    address: &dyn Fn(&str) -> String,
) -> Result<Option<[u8; 32]>, ScannerError> {
    if !url.starts_with("https://security.access.redhat.com/") {
        return Ok(None);
    }
    let path = folder.join("sum.txt");
    let sum = format!("{url}.sha256");
    let wanted = Wanted { url: &address(&sum), path: &path, most: MAX_NAME, sha256: None };
    downloader.fetch(&wanted).await.map_err(ScannerError::Download)?;
    let text = fs::read_to_string(&path)
        .map_err(|error| ScannerError::Read { path: path.clone(), source: error })?;
    let wrong = || ScannerError::Argument(format!("{sum} holds no SHA-256"));
    let digits = text.split_whitespace().next().unwrap_or_default();
    parse_sha256(digits).map(Some).ok_or_else(wrong)
}
