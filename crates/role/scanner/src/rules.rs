//! What takes findings out of a report: VEX, and vulnerabilities that an operator accepts.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nv_telemetry::{Clock as _, SystemClock};
use nv_vulnerability::{Acceptance, Database, Finding, Subject, Vex, VexStatus};

use crate::error::ScannerError;
use crate::report::{Installed, Report};

/// Who says what about findings.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// What makers of software say.
    pub vex: Vex,
    /// Folders that more of it is in; see [`Rules::consult`].
    pub repositories: Vec<PathBuf>,
    /// What the operator accepts.
    pub acceptance: Acceptance,
    /// The domains in which what is scanned runs, for entries that hold in some alone.
    pub domains: Vec<String>,
    /// Now, in seconds since 1970.
    pub now: u64,
}

/// Largest VEX document and largest profile, in bytes.
const MAX_DOCUMENT: u64 = 512 * 1024 * 1024;

/// Reads VEX documents and vulnerability profiles, and takes note of folders of VEX documents; now is the machine's time.
///
/// # Errors
/// [`ScannerError`] names the file that can not be read, and what is wrong in it.
pub fn read_rules(vex: &[PathBuf], accept: &[PathBuf], domains: &[String]) -> Result<Rules, ScannerError> {
    let mut rules = Rules {
        domains: domains.to_vec(),
        now: u64::try_from(SystemClock::new().now().seconds()).unwrap_or(0),
        ..Rules::default()
    };
    for path in vex {
        if path.is_dir() {
            rules.repositories.push(path.clone());
            continue;
        }
        let bytes = read(path)?;
        rules.vex.read(&bytes).map_err(|source| ScannerError::Vex { path: path.clone(), source })?;
    }
    let mut entries = Vec::new();
    let refused = |path: &PathBuf| {
        let path = path.clone();
        move |source| ScannerError::Acceptance { path, source }
    };
    for path in accept {
        let profile = Acceptance::parse(&read(path)?).map_err(refused(path))?;
        entries.extend(profile.into_entries());
    }
    if let Some(path) = accept.first() {
        rules.acceptance = Acceptance::new(entries).map_err(refused(path))?;
    }
    Ok(rules)
}

/// A document from the command line; one that is too large is refused before it is read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ScannerError> {
    let error = |source| ScannerError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(error)?;
    let told = file.metadata().map_err(error)?.len();
    let mut bytes = Vec::new();
    if told <= MAX_DOCUMENT {
        // What is no file, such as a pipe, tells no size.
        file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes).map_err(error)?;
    }
    if told.max(bytes.len() as u64) > MAX_DOCUMENT {
        return Err(ScannerError::Argument(format!(
            "{} has more than {MAX_DOCUMENT} bytes, and was not read",
            path.display()
        )));
    }
    Ok(bytes)
}

/// A finding that was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silenced {
    /// The place of its package in the report.
    pub package: usize,
    /// What was found.
    pub finding: Finding,
    /// Who took it out.
    pub by: SilencedBy,
    /// Why, in their words.
    pub reason: String,
}

/// Who takes a finding out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilencedBy {
    /// A VEX document says that the package is not affected.
    NotAffected,
    /// A VEX document says that it has been mended.
    Fixed,
    /// The operator accepts it.
    Accepted,
}

impl SilencedBy {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotAffected => "not affected",
            Self::Fixed => "fixed",
            Self::Accepted => "accepted",
        }
    }
}

impl Report {
    /// Takes out what the rules say is none, of every layer too, and keeps it in `silenced` with the reason.
    pub fn apply(&mut self, database: Database<'_>, rules: &Rules) {
        if rules.vex.is_empty() && rules.acceptance.is_empty() {
            return;
        }
        let subject = self.as_subject();
        let findings = std::mem::take(&mut self.findings);
        for (package, finding) in findings {
            match self.silence(database, rules, &subject, &self.packages, package, &finding) {
                Some((by, reason)) => self.silenced.push(Silenced { package, finding, by, reason }),
                None => self.findings.push((package, finding)),
            }
        }
        let mut layers =
            self.image.as_mut().map(|image| std::mem::take(&mut image.layers)).unwrap_or_default();
        for layer in &mut layers {
            let findings = std::mem::take(&mut layer.findings);
            layer.findings = findings
                .into_iter()
                .filter(|(package, finding)| {
                    self.silence(database, rules, &subject, &layer.packages, *package, finding).is_none()
                })
                .collect();
        }
        if let Some(image) = &mut self.image {
            image.layers = layers;
        }
    }

    /// What is scanned, as VEX documents may name it.
    fn as_subject(&self) -> Subject {
        let mut subject = Subject { names: vec![self.subject.clone()], digests: Vec::new() };
        if let Some(image) = &self.image {
            subject.names.extend(image.names.iter().cloned());
            subject
                .digests
                .extend([image.digest.clone(), image.id.clone()].into_iter().filter(|d| !d.is_empty()));
        }
        subject
    }

    fn silence(
        &self,
        database: Database<'_>,
        rules: &Rules,
        subject: &Subject,
        packages: &[Installed],
        place: usize,
        finding: &Finding,
    ) -> Option<(SilencedBy, String)> {
        let installed = packages.get(place)?;
        let facts = database.facts(finding.facts);
        let distribution = self.distribution.as_ref();
        let says = |id: &str| {
            let said = rules.vex.says(id, &installed.package, distribution, subject, &|target| {
                let beside = packages.iter().filter(|other| other.file == installed.file);
                beside.into_iter().any(|other| target.is_package(&other.package, distribution))
            })?;
            match said.status {
                VexStatus::NotAffected => Some((SilencedBy::NotAffected, said.reason.to_string())),
                VexStatus::Fixed => Some((SilencedBy::Fixed, said.reason.to_string())),
                VexStatus::Affected | VexStatus::UnderInvestigation => None,
            }
        };
        let by_vex = facts.names().find_map(says).or_else(|| {
            // An advisory that speaks of several is silenced where each of them is.
            let each: Option<Vec<_>> = facts.related().map(says).collect();
            each.and_then(|all| all.into_iter().next())
        });
        by_vex.or_else(|| {
            let names = self.image.iter().flat_map(|image| &image.names).chain([&self.subject]);
            let domains: Vec<&str> = rules.domains.iter().map(String::as_str).collect();
            let has_fix = !finding.fixed(database).is_empty();
            facts
                .names()
                .find_map(|id| {
                    let mut names = names.clone();
                    names.find_map(|name| {
                        rules.acceptance.accepts(id, has_fix, facts.published(), name, &domains, rules.now)
                    })
                })
                .map(|entry| (SilencedBy::Accepted, entry.comment.clone()))
        })
    }
}
