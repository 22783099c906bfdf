//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::db::DatabaseCommand;
use crate::fs::FsLine;
use crate::image::ImageLine;
use crate::packages::MatchLine;
use crate::sbom::SbomLine;
use crate::service::{RunLine, UpdateLine};

/// Finds what is vulnerable: databases of feeds, root file systems, lists of packages.
#[derive(Parser)]
#[command(name = "scanner", arg_required_else_help = true, disable_version_flag = true)]
pub(crate) struct Line {
    /// Print the version of the database in the folder, and end
    #[arg(short = 'v')]
    pub(crate) show_version: bool,
    /// The folder of the database `cvedb`
    #[arg(short = 'd', value_name = "DIR", default_value = "/etc/neuvector/db/")]
    pub(crate) folder: PathBuf,
    /// Write all that the database in the folder knows to this file, as JSON, and end
    #[arg(short = 'o', value_name = "FILE")]
    pub(crate) dump: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Build, look into and verify databases
    Db {
        #[command(subcommand)]
        command: DatabaseCommand,
    },
    /// Read layers for the process at the other ends of standard input and output
    #[command(hide = true)]
    LayerReader,
    /// Match a list of packages, one JSON object a line; answers with one a finding
    Match(MatchLine),
    /// Scan a root file system
    Fs(FsLine),
    /// Scan an image: on disk, of a runtime of this machine, or of a registry
    Image(Box<ImageLine>),
    /// Scan what a bill of materials lists
    Sbom(SbomLine),
    /// Serve a controller: take its tasks, hand reports in
    Run(RunLine),
    /// Hand the controller a database, once or again and again; it hands it to its scanners, and nothing is restarted
    Update(UpdateLine),
}
