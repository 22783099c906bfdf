//! What the database of vulnerabilities costs: built, sent, opened, asked.
//!
//! `NV_FEEDS` names a folder of feeds as `scanner db build --feeds` reads it; without it the feeds are made here, of
//! about the same number of rows. Each line is a figure, what was promised, and whether it holds.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded for people")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nv_package::distribution::Distribution;
use nv_package::{Ecosystem, Package};
use nv_role_scanner::{BuildOptions, OpenedDatabase, Remarks, build_database};
use nv_telemetry::ProcessUse;
use nv_vulnerability::{Change, Database, Matcher, changes, make_delta, pack, unpack};

/// Packages of the promised list, and how many of them are the distribution's.
const PACKAGES: usize = 2_315;
const OF_SYSTEM: usize = 794;
/// Images that were scanned before, and packages in each.
const IMAGES: usize = 10_000;
const IN_IMAGE: usize = 200;
/// How often the list is matched: the kernel counts hundredths of a second.
const MATCHES: u32 = 101;
const MIB: f64 = 1024.0 * 1024.0;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let feeds = match std::env::var_os("NV_FEEDS") {
        Some(feeds) => PathBuf::from(feeds),
        None => made_feeds(folder.path()),
    };
    println!("feeds: {}", feeds.display());
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let begin = ProcessUse::of(None).unwrap();
    let start = Instant::now();
    built(&feeds, &first);
    let (wall, cpu) = (start.elapsed(), ProcessUse::of(None).unwrap().cpu.saturating_sub(begin.cpu));
    println!("{:<48} {:>12.3}", "build, seconds by the clock", wall.as_secs_f64());
    // 60 seconds of two cores: what else runs does not count.
    row("build, CPU seconds", cpu.as_secs_f64(), 120.0);
    row("build, highest resident MiB", peak() / MIB, 1024.0);
    built(&feeds, &second);
    let same = fs::read(&first).unwrap() == fs::read(&second).unwrap();
    row("built again, bytes that differ (0 or 1)", f64::from(u8::from(!same)), 0.0);

    let opened = OpenedDatabase::open(&first).unwrap();
    let packed = pack(opened.bytes()).unwrap();
    row("file, MiB mapped", opened.bytes().len() as f64 / MIB, 100.0);
    row("sent, MiB", packed.len() as f64 / MIB, 40.0);
    row("unpacked, ms", median(5, || drop(black_box(unpack(&packed).unwrap()))).as_secs_f64() * 1e3, 1000.0);
    let open = median(101, || {
        let opened = OpenedDatabase::open(&first).unwrap();
        black_box(opened.database().unwrap().counts());
    });
    row("open, ms", open.as_secs_f64() * 1e3, 5.0);

    let database = opened.database().unwrap();
    let none = make_delta(database, database).unwrap();
    row("delta of nothing, KiB", none.len() as f64 / 1024.0, 2048.0);
    let names = names(database, folder.path());
    let (system, list) = packages(&names);
    let before = ProcessUse::of(None).unwrap().cpu;
    for _ in 0..MATCHES {
        let matcher = Matcher::new(database, Some(&system));
        black_box(list.iter().map(|package| matcher.findings(package).len()).sum::<usize>());
    }
    let found = ProcessUse::of(None).unwrap().cpu.saturating_sub(before) / MATCHES;
    let matcher = Matcher::new(database, Some(&system));
    let findings: usize = list.iter().map(|package| matcher.findings(package).len()).sum();
    row(
        &format!("match {} packages ({findings} findings), CPU ms", list.len()),
        found.as_secs_f64() * 1e3,
        10.0,
    );
    rematch(&matcher, &list);
}

/// A line: a figure and the most that was promised.
fn row(what: &str, figure: f64, most: f64) {
    println!(
        "{what:<48} {figure:>12.3}   at most {most:>8}   {}",
        if figure <= most { "holds" } else { "BROKEN" }
    );
}

fn built(feeds: &Path, out: &Path) {
    let options =
        BuildOptions { feeds: Some(feeds.to_owned()), out: out.to_owned(), ..BuildOptions::default() };
    build_database(&options, None, &mut Vec::new(), &mut Remarks::new(&mut Vec::new())).unwrap();
}

fn median(times: usize, mut run: impl FnMut()) -> Duration {
    let mut taken: Vec<Duration> = (0..times)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    taken.sort_unstable();
    *taken.get(times / 2).unwrap()
}

/// The highest resident memory of this process so far, in bytes: `VmHWM` of `/proc/self/status`.
fn peak() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1024.0
}

/// Names of packages by their namespaces.
fn names(database: Database<'_>, folder: &Path) -> HashMap<String, Vec<String>> {
    // What an almost empty database has not.
    let feeds = folder.join("empty");
    put(&feeds.join("debian-dsa/data/DSA/list"), "[29 Mar 2023] DSA-1-1 a - x\n\t{CVE-1}\n\t[lenny] - a 1\n");
    let path = folder.join("empty.db");
    built(&feeds, &path);
    let empty = OpenedDatabase::open(&path).unwrap();
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    changes(empty.database().unwrap(), database, &mut |change| {
        if let Change::Added(namespace, package, _) = change {
            let known = names.entry(namespace.to_owned()).or_default();
            if known.last().is_none_or(|last| last != package) {
                known.push(package.to_owned());
            }
        }
    });
    names
}

/// A server's packages: of the distribution that the database knows best, and of languages.
fn packages(names: &HashMap<String, Vec<String>>) -> (Distribution, Vec<Package>) {
    let systems = names.iter().filter(|(name, _)| name.starts_with("ubuntu:") || name.starts_with("debian:"));
    let (system, known) = systems
        .filter(|(name, _)| !name.contains('+'))
        .max_by_key(|(name, known)| (known.len(), *name))
        .unwrap();
    let (id, version) = system.split_once(':').unwrap();
    let spread = |known: &[String], count: usize, ecosystem: Ecosystem| -> Vec<Package> {
        let step = (known.len() / count.max(1)).max(1);
        known
            .iter()
            .step_by(step)
            .take(count)
            .map(|name| Package::new(ecosystem, name.as_str(), "1.2.3-4"))
            .collect()
    };
    let mut list = spread(known, OF_SYSTEM, Ecosystem::Deb);
    let languages = [Ecosystem::Npm, Ecosystem::Gem, Ecosystem::Maven, Ecosystem::Go, Ecosystem::Python];
    for ecosystem in languages.into_iter().cycle().take(1000) {
        let Some(known) = names.get(ecosystem.purl_type()) else { continue };
        list.extend(spread(known, (PACKAGES - list.len()).min(305), ecosystem));
        if list.len() >= PACKAGES {
            break;
        }
    }
    // Where the feeds know fewer, what they do not know is asked too.
    for number in list.len()..PACKAGES {
        list.push(Package::new(Ecosystem::Npm, format!("unknown-{number}"), "1.2.3"));
    }
    (Distribution { id: id.to_owned(), version: version.to_owned(), ..Distribution::default() }, list)
}

/// What was found in images is found again in a new database: of their packages alone, nothing is read or pulled.
fn rematch(matcher: &Matcher<'_>, list: &[Package]) {
    let before = ProcessUse::of(None).unwrap().cpu;
    let mut findings = 0_usize;
    for image in 0..IMAGES {
        // Images share many packages, but no two have the same.
        let packages = list.iter().cycle().skip(image * 7 % list.len()).step_by(3).take(IN_IMAGE);
        findings += packages.map(|package| matcher.findings(package).len()).sum::<usize>();
    }
    let cpu = ProcessUse::of(None).unwrap().cpu.saturating_sub(before).as_secs_f64();
    row(&format!("{IMAGES} images matched again ({findings} findings), CPU s"), cpu, 60.0);
    let rate = (IMAGES * IN_IMAGE) as f64 / cpu.max(0.01);
    println!("{:<48} {rate:>12.0}", "packages looked up a second");
}

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Feeds of about 700,000 rows: fixed versions of Debian's packages, records of CVEs, and modules of Go.
fn made_feeds(folder: &Path) -> PathBuf {
    let feeds = folder.join("feeds");
    let mut list = String::new();
    for number in 0..100_000 {
        let package = number % 7_000;
        write!(
            list,
            "[29 Mar 2023] DSA-{number}-1 package-{package} - update\n\t{{CVE-2023-{number}}}\n\t[bookworm] - package-{package} 1.{number}-1\n\
             \t[bullseye] - package-{package} 1.{number}-1~deb11u1\n\t[buster] - package-{package} 1.{number}-1~deb10u1\n\
             \t[stretch] - package-{package} 1.{number}-1~deb9u1\n\t[jessie] - package-{package} 1.{number}-1~deb8u1\n\
             \t[trixie] - package-{package} 1.{number}-2\n\t[forky] - package-{package} 1.{number}-3\n"
        )
        .unwrap();
    }
    put(&feeds.join("debian-dsa/data/DSA/list"), &list);
    for number in 0..20_000 {
        put(
            &feeds.join(format!("vulnrichment/CVE-2023-{number}.json")),
            &format!(
                r#"{{"cveMetadata":{{"cveId":"CVE-2023-{number}","state":"PUBLISHED","datePublished":"2023-03-05T00:00:00"}},
                "containers":{{"cna":{{"descriptions":[{{"lang":"en","value":"Improper handling {number} of input in package {number} allows an attacker to do what it should not."}}],
                "metrics":[{{"cvssV3_1":{{"vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H","baseScore":9.8}}}}]}}}}}}"#
            ),
        );
    }
    for number in 0..5_000 {
        put(
            &feeds.join(format!("osv-go/GO-{number}.json")),
            &format!(
                r#"{{"id":"GO-{number}","modified":"2023-05-01T00:00:00Z","affected":[{{"package":{{"ecosystem":"Go","name":"example.org/m{number}"}},
                "ranges":[{{"type":"SEMVER","events":[{{"introduced":"0"}},{{"fixed":"1.{number}.0"}}]}}]}}]}}"#
            ),
        );
    }
    feeds
}
