//! What every command that scans shares: the database, what takes findings out, how the result is printed, and when it
//! fails.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use nv_role_scanner::{
    OpenedDatabase, OutputFormat, Remarks, Report, Rules, ScannerError, Severity, read_rules, write_report,
};

/// What the scanner exits with when it found something of the severity that `--fail-on` names, or worse.
const FOUND: u8 = 3;

#[derive(Args)]
pub(crate) struct JudgeLine {
    /// The database
    #[arg(long, value_name = "FILE")]
    pub(crate) db: PathBuf,
    /// How the result is printed
    #[arg(long, value_enum)]
    pub(crate) format: Option<Shown>,
    /// The template of --format template, in Jinja's language over what --format json prints
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// What --format table shows besides: the commands that made the image, what is installed
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    show: Vec<Besides>,
    /// Write what --format json prints to this file too
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    /// End with exit code 3 when something of this severity or worse was found
    #[arg(long, value_name = "SEVERITY", value_parser = severity)]
    fail_on: Option<Severity>,
    /// Tell what is critical as high, for readers to whom high is the worst
    #[arg(long)]
    no_critical: bool,
    /// A VEX document (OpenVEX, CSAF, CycloneDX) that takes out what is not affected, or the folder of a VEX repository; may be repeated
    #[arg(long, value_name = "PATH")]
    vex: Vec<PathBuf>,
    /// A vulnerability profile, JSON or YAML: what is accepted; may be repeated
    #[arg(long, value_name = "FILE")]
    accept: Vec<PathBuf>,
    /// A domain in which what is scanned runs, for entries of the profile that hold in some alone; may be repeated
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shown {
    Table,
    Json,
    Sarif,
    Cyclonedx,
    Spdx,
    Junit,
    Template,
}

/// What a table shows besides.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Besides {
    Cmd,
    Module,
}

fn severity(text: &str) -> Result<Severity, String> {
    match Severity::from_word(text) {
        Severity::Unknown => Err("critical, high, medium or low is expected".to_owned()),
        found => Ok(found),
    }
}

impl JudgeLine {
    /// What takes findings out.
    fn rules(&self, report: &Report) -> Result<Rules> {
        let mut rules = read_rules(&self.vex, &self.accept, &self.domain)?;
        rules.consult(report)?;
        Ok(rules)
    }

    /// Looks a report's packages up, applies the rules, prints it, and says how the program ends.
    pub(crate) fn judge(
        &self,
        opened: &OpenedDatabase,
        report: &mut Report,
        out: &mut dyn Write,
        remarks: &mut Remarks<'_>,
    ) -> Result<ExitCode> {
        report.judge(opened.database()?, remarks);
        self.print(opened, report, out)
    }

    /// Applies the rules to a report that was judged, prints it, and says how the program ends.
    pub(crate) fn print(
        &self,
        opened: &OpenedDatabase,
        report: &mut Report,
        out: &mut dyn Write,
    ) -> Result<ExitCode> {
        let database = opened.database()?;
        if self.no_critical {
            if self.fail_on == Some(Severity::Critical) {
                bail!(
                    "with --no-critical nothing is critical, so --fail-on critical would never fail; say --fail-on high"
                );
            }
            report.tell_critical_as_high();
        }
        let rules = self.rules(report)?;
        report.apply(database, &rules);
        if let Some(path) = &self.json_file {
            let write = |source| ScannerError::Write { path: path.clone(), source };
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(write)?;
            }
            let mut file = BufWriter::new(File::create(path).map_err(write)?);
            write_report(database, report, &OutputFormat::Json, &mut file)?;
            file.flush().map_err(write)?;
        }
        write_report(database, report, &self.output()?, out)?;
        let failed = self
            .fail_on
            .is_some_and(|limit| report.findings.iter().any(|(_, found)| found.severity >= limit));
        Ok(if failed { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
    }

    fn output(&self) -> Result<OutputFormat> {
        let shown = self.format.unwrap_or(Shown::Table);
        if shown != Shown::Table && !self.show.is_empty() {
            bail!("--show is for --format table");
        }
        if shown != Shown::Template && self.template.is_some() {
            bail!("--template needs --format template");
        }
        Ok(match shown {
            Shown::Table => OutputFormat::Table {
                commands: self.show.contains(&Besides::Cmd),
                modules: self.show.contains(&Besides::Module),
            },
            Shown::Json => OutputFormat::Json,
            Shown::Sarif => OutputFormat::Sarif,
            Shown::Cyclonedx => OutputFormat::CycloneDx,
            Shown::Spdx => OutputFormat::Spdx,
            Shown::Junit => OutputFormat::Junit,
            Shown::Template => {
                let Some(path) = &self.template else { bail!("--format template needs --template FILE") };
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ScannerError::Read { path: path.clone(), source })?;
                OutputFormat::Template(text)
            }
        })
    }

    /// Whether findings are printed in another way than a line each.
    pub(crate) fn is_report(&self) -> bool {
        self.format.is_some()
            || self.fail_on.is_some()
            || self.no_critical
            || self.json_file.is_some()
            || !self.vex.is_empty()
            || !self.accept.is_empty()
    }
}
