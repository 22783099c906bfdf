//! Holds a database against what distributions' own changelogs say: a vulnerability that the installed package's
//! changelog names as fixed must not be found, and must be found when the package is rolled back to before that.
//!
//! ```text
//! cargo run --profile ci -p nv-role-scanner --example changelog_truth -- DATABASE METADATA.tar.zst
//! ```
//!
//! The archive has a folder a root file system with `dpkg.status`, `os-release` and `changelog-cves.json`, a list of
//! `{"src": source package, "cve": id, "seen": [[version, suite], …]}`. Only what the database has for that release is
//! counted: a changelog says nothing of feeds that were not loaded.

#![expect(clippy::print_stdout, reason = "what was counted is for whoever runs it")]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use nv_package::distribution::{Distribution, parse_os_release};
use nv_package::version::{Scheme, compare};
use nv_package::{Package, Source, dpkg};
use nv_role_scanner::OpenedDatabase;
use nv_vulnerability::{Database, Finding, Matcher};
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
    let (Some(database), Some(metadata)) = (paths.next(), paths.next()) else {
        println!("a database and an archive of metadata are expected");
        return Ok(ExitCode::FAILURE);
    };
    let opened = OpenedDatabase::open(&database)?;
    let database = opened.database()?;
    let mut all = Tally::default();
    for (name, root) in roots(&metadata)? {
        let tally = judge(database, &root)?;
        println!("{name}: {} facts, {} held by feeds", root.facts.len(), tally.held);
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
    let earlier = all.fixed_earlier.len();
    println!(
        "of {}: {quiet:.4} of fixed ones not found, {found:.4} found when rolled back, {earlier} of them before an \
         earlier fix",
        all.held
    );
    let holds = all.held > 0 && quiet >= QUIET && found >= FOUND;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
        let told = |package: &Package| matcher.findings(package).iter().any(|found| names(found, &fact.cve));
        let installed = source_version(package);
        if told(package) {
            tally.found_though_fixed.push(format!("{} {installed} {}", fact.src, fact.cve));
        }
        let scheme = package.ecosystem.scheme();
        let first = fact.seen.iter().map(|(version, _)| version.as_str());
        let first = first.min_by(|a, b| compare(scheme, a.as_bytes(), b.as_bytes()));
        let first = first.with_context(|| format!("{} has no version", fact.cve))?;
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

fn names(finding: &Finding, cve: &str) -> bool {
    finding.id == cve || finding.aliases.iter().any(|alias| alias == cve)
}

/// The versions that loaded feeds name as mended of this vulnerability in this package of this release.
fn fixes(database: Database<'_>, namespace: &str, fact: &Fact) -> Vec<String> {
    let rows = database.find(&fact.cve).into_iter().flat_map(|facts| database.rows_with(facts));
    let of_package = rows.filter(|(place, package, _)| *place == namespace && *package == fact.src);
    of_package.map(|(.., row)| row.fixed.unwrap_or_default().to_owned()).collect()
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
