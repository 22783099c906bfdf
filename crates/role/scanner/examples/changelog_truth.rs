//! Holds a database against what distributions' own changelogs say: a vulnerability that the installed package's
//! changelog names as fixed must not be found, and must be found when the package is rolled back to before that.
//!
//! ```text
//! cargo run --profile ci -p nv-role-scanner --example changelog_truth -- METADATA.tar.zst [DATABASE]
//! ```
//!
//! The archive has a folder a root file system with `dpkg.status`, `os-release` and `changelog-cves.json`, a list of
//! `{"src": source package, "cve": id, "seen": [[version, suite], …]}`. It is judged twice: by a database that is built here of the
//! changelogs themselves, in the forms of Debian's and Ubuntu's trackers, which holds every fact and shows what reading, building and
//! matching make of it; and by the given database, of whose feeds only those facts count that they have for that release.

#![expect(clippy::print_stdout, reason = "what was counted is for whoever runs it")]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nv_package::distribution::{Distribution, parse_os_release};
use nv_package::version::{Scheme, compare};
use nv_package::{Package, Source, dpkg};
use nv_role_scanner::OpenedDatabase;
use nv_vulnerability::{Database, Feed, Finding, Format, Identity, Import, Matcher, Status, build};
use serde::Deserialize;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// What share of fixed vulnerabilities must not be found, and of rolled back ones must be.
const QUIET: f64 = 0.99;
const FOUND: f64 = 0.95;

#[derive(Deserialize)]
struct Fact {
    src: String,
    cve: String,
    seen: Vec<(String, String)>,
}

#[derive(Default)]
struct Root {
    packages: Vec<Package>,
    distribution: Option<Distribution>,
    facts: Vec<Fact>,
}

#[derive(Default)]
struct Tally {
    held: usize,
    found_though_fixed: Vec<String>,
    /// The feed names an earlier fix of the distribution's own than the changelog, and the package is found before that.
    fixed_earlier: Vec<String>,
    not_found_though_back: Vec<String>,
}

fn main() -> Result<ExitCode> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(metadata) = paths.next() else {
        println!("an archive of metadata is expected, and a database if one is to be judged");
        return Ok(ExitCode::FAILURE);
    };
    let roots = roots(&metadata)?;
    println!("by the changelogs as feeds");
    let own = of_changelogs(&roots)?;
    let mut holds = judge_all(Database::open(&own)?, &roots)?;
    if let Some(path) = paths.next() {
        println!("by {}", path.display());
        holds &= judge_all(OpenedDatabase::open(&path)?.database()?, &roots)?;
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Judges every root by a database; gives whether the shares hold.
fn judge_all(database: Database<'_>, roots: &BTreeMap<String, Root>) -> Result<bool> {
    let mut all = Tally::default();
    for (name, root) in roots {
        let tally = judge(database, root)?;
        println!(
            "{name}: {} facts, {} held; {} found though fixed, {} fixed earlier, {} not found when rolled back",
            root.facts.len(),
            tally.held,
            tally.found_though_fixed.len(),
            tally.fixed_earlier.len(),
            tally.not_found_though_back.len()
        );
        for line in &tally.found_though_fixed {
            println!("  found though fixed: {line}");
        }
        for line in &tally.fixed_earlier {
            println!("  fixed earlier: {line}");
        }
        for line in &tally.not_found_though_back {
            println!("  not found when rolled back: {line}");
        }
        all.held += tally.held;
        all.found_though_fixed.extend(tally.found_though_fixed);
        all.fixed_earlier.extend(tally.fixed_earlier);
        all.not_found_though_back.extend(tally.not_found_though_back);
    }
    let share = |wrong: usize| 1.0 - as_float(wrong) / as_float(all.held.max(1));
    let (quiet, found) = (share(all.found_though_fixed.len()), share(all.not_found_though_back.len()));
    println!(
        "of {}: {quiet:.4} of fixed ones not found, {found:.4} found when rolled back, {} of them before an earlier fix",
        all.held,
        all.fixed_earlier.len()
    );
    Ok(all.held > 0 && quiet >= QUIET && found >= FOUND)
}

/// A database of what the changelogs say, as trackers would say it: the first version that names a vulnerability mends it.
fn of_changelogs(roots: &BTreeMap<String, Root>) -> Result<Vec<u8>> {
    let mut import = Import::default();
    for root in roots.values() {
        let Some(distribution) = &root.distribution else { continue };
        let code = &distribution.codename;
        let mut tracker = serde_json::Map::new();
        for fact in &root.facts {
            let fixed = first_seen(fact)?;
            if distribution.id == "ubuntu" {
                let text = format!("Candidate: {}\n{code}_{}: released ({fixed})\n", fact.cve, fact.src);
                Format::Uct.import(&fact.cve, text.as_bytes(), &mut import)?;
                continue;
            }
            let release =
                serde_json::json!({ "status": "resolved", "fixed_version": fixed, "urgency": "low" });
            let package = tracker.entry(fact.src.clone()).or_insert_with(|| serde_json::json!({}));
            if let Some(package) = package.as_object_mut() {
                package.insert(fact.cve.clone(), serde_json::json!({ "releases": { code: release } }));
            }
        }
        let bytes = serde_json::to_vec(&tracker)?;
        Format::DebianTracker.import("tracker.json", &bytes, &mut import)?;
    }
    let feed = Feed { name: "changelogs".to_owned(), import };
    Ok(build(vec![feed], Identity { version: 1, created: 0 }, None)?)
}

/// The oldest version that a changelog names a vulnerability in.
fn first_seen(fact: &Fact) -> Result<&str> {
    let versions = fact.seen.iter().map(|(version, _)| version.as_str());
    let first = versions.min_by(|a, b| compare(Scheme::Deb, a.as_bytes(), b.as_bytes()));
    first.with_context(|| format!("{} of {} has no version", fact.cve, fact.src))
}

fn as_float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// The root file systems of an archive, by their folders.
fn roots(archive: &Path) -> Result<BTreeMap<String, Root>> {
    let mut roots: BTreeMap<String, Root> = BTreeMap::new();
    let mut damaged = Vec::new();
    let mut take = |path: &str, content: nv_layer::Content<'_>| {
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let Ok(bytes) = content else {
            damaged.push(format!("{path} is too large"));
            return;
        };
        let root = roots.entry(folder.to_owned()).or_default();
        match file {
            "dpkg.status" => root.packages = dpkg::parse_status(bytes).packages,
            "os-release" => root.distribution = parse_os_release(bytes),
            "changelog-cves.json" => match serde_json::from_slice(bytes) {
                Ok(facts) => root.facts = facts,
                Err(error) => damaged.push(format!("{path}: {error}")),
            },
            _ => {}
        }
    };
    nv_layer::walk_archive(archive, MAX_FILE, &|_| true, &mut take)?;
    anyhow::ensure!(damaged.is_empty(), "{damaged:?}");
    roots.retain(|_, root| root.distribution.is_some() && !root.facts.is_empty());
    Ok(roots)
}

fn judge(database: Database<'_>, root: &Root) -> Result<Tally> {
    let matcher = Matcher::new(database, root.distribution.as_ref());
    let mut tally = Tally::default();
    let Some(namespace) = matcher.system_namespace() else { return Ok(tally) };
    for fact in &root.facts {
        let of_source = |package: &&Package| {
            package.source.as_ref().map_or(&*package.name, |source| &*source.name) == fact.src
        };
        let Some(package) = root.packages.iter().find(of_source) else { continue };
        if fixes(database, namespace, fact).is_empty() {
            continue;
        }
        tally.held += 1;
        let told = |package: &Package| {
            matcher.findings(package).iter().any(|found| names(database, found, &fact.cve))
        };
        let installed = source_version(package);
        if told(package) {
            tally.found_though_fixed.push(format!("{} {installed} {}", fact.src, fact.cve));
        }
        let scheme = package.ecosystem.scheme();
        let first = first_seen(fact)?;
        if told(&rolled_back(package, first)) {
            continue;
        }
        let line = format!("{} before {first} {}", fact.src, fact.cve);
        let earlier = fixes(database, namespace, fact)
            .into_iter()
            .filter(|fixed| compare(scheme, fixed.as_bytes(), first.as_bytes()).is_lt())
            .find(|fixed| told(&rolled_back(package, fixed)));
        match earlier {
            Some(fixed) => tally.fixed_earlier.push(format!("{line}, by the feed before {fixed}")),
            None => tally.not_found_though_back.push(line),
        }
    }
    Ok(tally)
}

fn names(database: Database<'_>, finding: &Finding, cve: &str) -> bool {
    finding.id(database) == cve || finding.aliases(database).contains(&cve)
}

/// The versions that loaded feeds name as mended of this vulnerability in this package of this release.
fn fixes(database: Database<'_>, namespace: &str, fact: &Fact) -> Vec<String> {
    let places = database.find(&fact.cve);
    let rows = database.rows_named(namespace, &fact.src).filter(|row| places.contains(&row.facts));
    // What is only said not to be affected names no version that was.
    let rows = rows.filter(|row| row.status != Status::Unaffected);
    rows.map(|row| row.fixed.unwrap_or_default().to_owned()).collect()
}

fn source_version(package: &Package) -> &str {
    package.source.as_ref().and_then(|source| source.version.as_deref()).unwrap_or(&package.version)
}

/// The package as it was just before a version: `~` sorts before the end.
fn rolled_back(package: &Package, version: &str) -> Package {
    debug_assert_eq!(package.ecosystem.scheme(), Scheme::Deb);
    let before = format!("{version}~");
    let name = package.source.as_ref().map_or(&package.name, |source| &source.name);
    Package {
        source: Some(Source { name: name.clone(), version: Some(before.as_str().into()) }),
        version: before.into(),
        ..package.clone()
    }
}
