//! What a scan found: one shape for a root file system, an image and a list of components, whichever way it is printed.

use std::collections::{BTreeMap, HashSet};

use nv_compliance::Judged;
use nv_package::Package;
use nv_package::distribution::Distribution;
use nv_vulnerability::{Database, Finding, Matcher, Severity};
use serde::{Deserialize, Serialize};

use crate::remark::Remarks;
use crate::rules::Silenced;

/// What a scan found. Lists are sorted, so that the same input gives the same report. Its serialised form is without
/// findings: what is there to be matched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What was scanned, as the user named it.
    pub subject: String,
    /// Which distribution it is; none where nothing says so.
    pub distribution: Option<Distribution>,
    /// What is installed, by file; each package of a file once.
    pub packages: Vec<Installed>,
    /// What is vulnerable, each with the place of its package in `packages`.
    #[serde(skip)]
    pub findings: Vec<(usize, Finding)>,
    /// What was found and taken out by VEX or because it is accepted.
    #[serde(skip)]
    pub silenced: Vec<Silenced>,
    /// Secrets in files and in an image's environment.
    pub secrets: Vec<Secret>,
    /// Files that run as another user or group.
    pub set_ids: Vec<SetId>,
    /// What the image's own configuration says; none where no image was scanned.
    pub image: Option<ImageFacts>,
    /// Who signed the image; none where nobody asked.
    pub signed: Option<SignatureFacts>,
}

/// Who signed an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureFacts {
    /// Verifiers whose signature it has, as `root/verifier`, sorted.
    pub verifiers: Vec<String>,
    /// Of each other verifier, why each signature does not count for it.
    pub reasons: Vec<String>,
    /// When that was judged, in seconds since 1970.
    pub judged: u64,
}

/// A package and where it was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Installed {
    /// The file that says so, below the root, without a slash at the beginning.
    pub file: String,
    /// The package.
    pub package: Package,
    /// The place in [`ImageFacts::layers`] of the layer that holds the file.
    pub layer: Option<usize>,
    /// Whether a package of the distribution holds the file. The distribution mends such packages without changing their
    /// versions, so that its own advisories speak of them, and those of the language do not.
    pub held: bool,
}

/// A secret. What it is itself is nowhere in here: `evidence` shows its first characters alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Secret {
    /// The file, below the root; `env` with a variable's name for an image's environment.
    pub file: String,
    /// The line, from 1; 0 where there are none.
    pub line: usize,
    /// The rule that found it.
    pub rule: String,
    /// What kind of secret it is.
    pub description: String,
    /// The beginning of what was found, the rest masked.
    pub evidence: String,
    /// The layer that holds the file.
    pub layer: Option<usize>,
}

/// A file with the set-uid or set-gid bit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SetId {
    /// The file, below the root.
    pub file: String,
    /// Its permission bits, with those of set-uid (`0o4000`) and set-gid (`0o2000`).
    pub mode: u32,
    /// The layer that holds the file.
    pub layer: Option<usize>,
}

/// What an image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Names with tags, where the archive has them.
    pub names: Vec<String>,
    /// Digest of its manifest; empty for an archive of Docker, which has none.
    pub digest: String,
    /// Digest of its configuration, which is its id.
    pub id: String,
    /// `os/architecture`.
    pub platform: String,
    /// When it was made (RFC 3339), as it says.
    pub created: String,
    /// Who made it, as it says.
    pub author: String,
    /// The user that it runs as; empty for root.
    pub user: String,
    /// Environment, `NAME=value`; values that are secrets are masked.
    pub environment: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it says how its health is checked.
    pub health_check: bool,
    /// The commands that made it, the first first.
    pub history: Vec<String>,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerFacts>,
    /// How many of them, from the lowest, are those of the image that it was built on; none where nobody said which.
    pub base_layers: Option<usize>,
    /// Items of the benchmark on images, judged.
    #[serde(skip)]
    pub checks: Vec<Judged>,
}

/// One layer of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// Digest of its blob.
    pub digest: String,
    /// The size of its blob in bytes.
    pub size: u64,
    /// The command that made it, as the image's history says.
    pub command: String,
    /// Why it could not be read to its end; empty where it was. What was read before is in the report.
    pub unread: String,
    /// Findings of packages that this layer holds, whether or not an upper one takes them away: what a scan of the
    /// layer alone would find. Places in `packages` of the layer itself.
    pub packages: Vec<Installed>,
    /// See `packages`.
    #[serde(skip)]
    pub findings: Vec<(usize, Finding)>,
}

/// Findings of packages of one distribution, each with the place of its package.
pub(crate) fn match_packages(
    database: Database<'_>,
    distribution: Option<&Distribution>,
    packages: &[Installed],
) -> Vec<(usize, Finding)> {
    let matcher = Matcher::new(database, distribution);
    let by_system = matcher.system_namespace().is_some();
    let judged = packages.iter().enumerate().filter(|(_, installed)| !(installed.held && by_system));
    let findings = judged.flat_map(|(place, installed)| {
        matcher.findings(&installed.package).into_iter().map(move |finding| (place, finding))
    });
    findings.collect()
}

/// Says by whose advisories the distribution's packages are judged where these are not its own.
fn remark_of_distribution(
    namespace: Option<&str>,
    distribution: Option<&Distribution>,
    remarks: &mut Remarks<'_>,
) {
    let name = distribution.map_or_else(
        || "nothing says which one: no os-release".to_owned(),
        |found| {
            if found.pretty.is_empty() {
                format!("{} {}", found.id, found.version)
            } else {
                found.pretty.clone()
            }
        },
    );
    let own = |namespace: &str, found: &Distribution| {
        let (id, release) = namespace.split_once(':').unwrap_or((namespace, ""));
        let family = id == found.id || (id == "sles" && found.id.starts_with("sle"));
        family && (release != "edge" || found.version.is_empty() || found.version.contains('_'))
    };
    match (namespace, distribution) {
        (None, _) => remarks.add(&format!(
            "the database knows nothing of this distribution ({name}); its packages are not judged"
        )),
        (Some(namespace), Some(found)) if !own(namespace, found) && found.id != "chainguard" => {
            remarks.add(&format!(
                "the database has no advisories of {name} itself; its packages are judged by those of {namespace}, which may mend \
                 in other versions"
            ));
        }
        _ => {}
    }
}

impl Report {
    /// Packages that are also in the image that this one was built on: in one of its layers, whichever upper layer has the
    /// list of packages now. None where nobody said which image that is.
    #[must_use]
    pub fn of_base(&self) -> Option<HashSet<&Package>> {
        let image = self.image.as_ref()?;
        let base = image.layers.iter().take(image.base_layers?);
        Some(base.flat_map(|layer| &layer.packages).map(|installed| &installed.package).collect())
    }

    /// Names what the database knows better than its file says, looks every package up, of every layer too, and remarks where the database knows nothing of the distribution.
    pub fn judge(&mut self, database: Database<'_>, remarks: &mut Remarks<'_>) {
        let distribution = self.distribution.as_ref();
        if self.packages.iter().any(|found| found.package.ecosystem.is_distribution()) {
            remark_of_distribution(
                Matcher::new(database, distribution).system_namespace(),
                distribution,
                remarks,
            );
        }
        let matcher = Matcher::new(database, None);
        let layers =
            self.image.iter_mut().flat_map(|image| &mut image.layers).map(|layer| &mut layer.packages);
        for packages in layers.chain([&mut self.packages]) {
            if packages.iter().any(|found| found.package.sha1.is_some()) {
                packages.iter_mut().for_each(|found| matcher.identify(&mut found.package));
                packages.sort();
                packages.dedup();
            }
        }
        self.findings = match_packages(database, distribution, &self.packages);
        for layer in self.image.iter_mut().flat_map(|image| &mut image.layers) {
            layer.findings = match_packages(database, distribution, &layer.packages);
        }
    }

    /// Makes high of what is critical, of every layer too: NeuVector before 5.6 knows nothing worse.
    pub fn tell_critical_as_high(&mut self) {
        let layers =
            self.image.iter_mut().flat_map(|image| &mut image.layers).map(|layer| &mut layer.findings);
        for (_, finding) in layers.chain([&mut self.findings]).flatten() {
            finding.severity = finding.severity.min(Severity::High);
        }
    }
}
