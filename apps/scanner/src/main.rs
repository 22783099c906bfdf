//! The scanner: arguments → command → exit code.

mod db;
mod fs;
mod image;
mod judge;
mod line;
mod packages;
mod registry;
mod result;
mod sbom;
mod service;
mod source;
mod standalone;
mod submit;

use std::io::{self, BufWriter, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::Parser as _;
use line::{Command, Line};
use nv_role_scanner::{Remarks, dump_database, layer_reader_main, print_version};

/// What upstream's scanner exits with when there is no database to tell the version of.
const NO_DATABASE: u8 = 254;

fn main() -> ExitCode {
    let given: Vec<String> =
        std::env::args_os().skip(1).filter_map(|argument| argument.into_string().ok()).collect();
    let line = match standalone::translate(&given, &|name| std::env::var(name).ok()) {
        Some(command) => Line::parse_from(std::iter::once("scanner".to_owned()).chain(command)),
        None => Line::parse(),
    };
    let version = line.show_version;
    match run(line) {
        Ok(code) => code,
        Err(error) => {
            // Standard error is the only place left to say it; if that fails too, the exit code still does.
            let _written = writeln!(io::stderr().lock(), "scanner: {error:#}");
            if version { ExitCode::from(NO_DATABASE) } else { ExitCode::FAILURE }
        }
    }
}

fn run(line: Line) -> Result<ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    // Not locked: the log of a service is written there too, by other threads.
    let mut errors = io::stderr();
    let mut remarks = Remarks::new(&mut errors);
    if line.show_version {
        print_version(&line.folder, &mut out)?;
        finish(out, remarks)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &line.dump {
        dump_database(&line.folder, file)?;
        return Ok(ExitCode::SUCCESS);
    }
    let code = match line.command.context("nothing to do: see --help")? {
        Command::Db { command } => {
            db::run(command, &mut out, &mut remarks)?;
            ExitCode::SUCCESS
        }
        Command::LayerReader => {
            layer_reader_main().map_err(|reason| anyhow!(reason))?;
            ExitCode::SUCCESS
        }
        Command::Match(line) => packages::run(&line, &mut out, &mut remarks)?,
        Command::Fs(line) => fs::run(&line, &mut out, &mut remarks)?,
        Command::Image(line) => image::run(&line, &mut out, &mut remarks)?,
        Command::Sbom(line) => sbom::run(&line, &mut out, &mut remarks)?,
        Command::Run(line) => {
            service::run(&line)?;
            ExitCode::SUCCESS
        }
        Command::Update(line) => {
            service::update(&line, &mut out, &mut remarks)?;
            ExitCode::SUCCESS
        }
    };
    finish(out, remarks)?;
    Ok(code)
}

fn finish(mut out: impl io::Write, remarks: Remarks<'_>) -> Result<()> {
    remarks.finish();
    out.flush().context("the result could not be written")
}
