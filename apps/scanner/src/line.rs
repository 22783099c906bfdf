//! The command line.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use nv_role_scanner::{OutputFormat, ScannerError, SigningKey};
use nv_vulnerability::Format;

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
    /// Match a list of packages, one JSON object a line; answers with one a finding
    Match {
        /// The database
        #[arg(long, value_name = "FILE")]
        db: PathBuf,
        /// The list: lines of {"purl"} or {"os" or "ecosystem", "release", "name", "version", …}; - is standard input
        #[arg(long, value_name = "LIST")]
        packages: PathBuf,
    },
    /// Scan a root file system
    Fs {
        /// The folder that is its root
        root: PathBuf,
        /// The database
        #[arg(long, value_name = "FILE")]
        db: PathBuf,
        /// How the result is printed
        #[arg(long, value_enum, default_value_t = Shown::Table)]
        format: Shown,
    },
}

#[derive(Subcommand)]
pub(crate) enum DatabaseCommand {
    /// Build a database of feeds
    Build {
        /// A folder with one folder a feed, named after it, unpacked or as one .tar.zst
        #[arg(long, value_name = "DIR", required_unless_present = "feed")]
        feeds: Option<PathBuf>,
        /// A single feed; may be repeated
        #[arg(long, value_name = "FORMAT:PATH", value_parser = single_feed)]
        feed: Vec<(Format, PathBuf)>,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The database's version; by default a thousandth for each day from 2014 to the newest date in the feeds
        #[arg(long, value_name = "N.NNN", value_parser = thousandths)]
        version: Option<u32>,
        /// Sign with the Ed25519 key in this file (64 hexadecimal digits)
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Replace a database that has more than twice as many rows
        #[arg(long)]
        allow_shrink: bool,
    },
    /// Print a database's version, signer and counts
    Status {
        /// The database
        file: PathBuf,
    },
    /// Hash a whole database and check its signature
    Verify {
        /// The database
        file: PathBuf,
        /// Refuse a database that was not signed with this public key (a file of 64 hexadecimal digits)
        #[arg(long, value_name = "FILE")]
        trust: Option<PathBuf>,
    },
    /// Print what a database knows of a CVE, another id or a package URL
    Lookup {
        /// The id or package URL
        wanted: String,
        /// The database
        #[arg(long, value_name = "FILE")]
        db: PathBuf,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Shown {
    Json,
    Table,
}

impl From<Shown> for OutputFormat {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Json => Self::Json,
            Shown::Table => Self::Table,
        }
    }
}

fn single_feed(text: &str) -> Result<(Format, PathBuf), String> {
    let names = || Format::all().map(Format::name).collect::<Vec<_>>().join(", ");
    let (name, path) = text.split_once(':').ok_or("FORMAT:PATH is expected")?;
    let format =
        Format::from_name(name).ok_or_else(|| format!("{name:?} is no format; there are: {}", names()))?;
    Ok((format, PathBuf::from(path)))
}

fn thousandths(text: &str) -> Result<u32, String> {
    let (whole, part) = text.split_once('.').ok_or("N.NNN is expected")?;
    let number = |digits: &str| digits.parse::<u32>().map_err(|error| error.to_string());
    if part.len() != 3 {
        return Err("three digits after the dot are expected".to_owned());
    }
    number(whole)?
        .checked_mul(1000)
        .and_then(|whole| whole.checked_add(number(part).ok()?))
        .ok_or_else(|| "the version is too large".to_owned())
}

/// The signing key in a file. A file that others may read is refused.
pub(crate) fn signing_key(path: &Path) -> Result<SigningKey> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = path.metadata().with_context(|| path.display().to_string())?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("{} may be read by others (mode {:o}); it must be 600", path.display(), mode & 0o777);
    }
    Ok(SigningKey::from_bytes(&key_bytes(path)?))
}

/// 32 bytes in hexadecimal digits.
pub(crate) fn key_bytes(path: &Path) -> Result<[u8; 32]> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ScannerError::Read { path: path.to_owned(), source })?;
    let wrong = || ScannerError::Key { path: path.to_owned() };
    let digits = text.trim().as_bytes();
    let mut key = [0; 32];
    if digits.len() != 64 {
        return Err(wrong().into());
    }
    for (slot, pair) in key.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_no_text| wrong())?;
        *slot = u8::from_str_radix(pair, 16).map_err(|_no_digits| wrong())?;
    }
    Ok(key)
}
