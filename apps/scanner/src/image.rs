//! `scanner image`: an OCI layout or an archive of Docker to a report.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use nv_role_scanner::{
    ImageChoice, LayerCache, OpenedDatabase, Remarks, open_image, read_image, write_report,
};

use crate::line::Shown;

#[derive(Args)]
pub(crate) struct ImageLine {
    /// An OCI layout (a folder, or a tar archive of it) or an archive of docker save
    path: PathBuf,
    /// The database
    #[arg(long, value_name = "FILE")]
    db: PathBuf,
    /// Which image of several: a name with its tag, or a digest
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Which platform of several; by default this machine's
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Keep what layers hold in this folder, and read none twice
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Shown::Table)]
    format: Shown,
}

/// Carries the command out.
pub(crate) fn run(line: ImageLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<()> {
    let opened = OpenedDatabase::open(&line.db)?;
    let database = opened.database()?;
    let open = |folder: &PathBuf| LayerCache::open(folder).with_context(|| folder.display().to_string());
    let cache = line.cache.as_ref().map(open).transpose()?;
    let choice = ImageChoice { name: line.name, platform: line.platform };
    let (store, image) = open_image(&line.path, &choice, remarks)?;
    let mut report = read_image(&store, &image, cache.as_ref(), remarks);
    report.judge(database, remarks);
    write_report(database, &report, line.format.into(), out)?;
    Ok(())
}
