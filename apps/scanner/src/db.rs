//! `scanner db`: build, look into and verify databases.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use nv_role_scanner::{
    BuildOptions, FetchOptions, ImportOptions, Remarks, ScannerError, SigningKey, build_database,
    database_in, diff_databases, export_database, fetch_feeds, import_database, lookup, print_status,
    verify_database,
};
use nv_vulnerability::Format;

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
    /// Fetch feeds from their publishers, into a folder that build reads; what broke off goes on
    Fetch {
        /// The folder of feeds
        #[arg(long, value_name = "DIR")]
        into: PathBuf,
        /// A feed by its name; may be repeated; all by default
        #[arg(long, value_name = "NAME")]
        feed: Vec<String>,
        /// A proxy on the way, http://host:port
        #[arg(long, value_name = "URL", env = "SCANNER_PROXY_URL", hide_env_values = true)]
        proxy: Option<String>,
        /// A copy of what the publishers have: their host and path behind this address
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
    /// Put a database in place: a whole one, a compressed one, or the delta from the one that is there
    Import {
        /// What export wrote, or build
        from: PathBuf,
        /// The database to replace, or the folder of its file cvedb
        #[arg(long, value_name = "FILE")]
        into: PathBuf,
        /// Refuse a database that was not signed with this public key (a file of 64 hexadecimal digits)
        #[arg(long, value_name = "FILE")]
        trust: Option<PathBuf>,
        /// Replace a newer database
        #[arg(long)]
        allow_downgrade: bool,
        /// Replace a database that has more than twice as many rows
        #[arg(long)]
        allow_shrink: bool,
    },
    /// Write a database to be sent: compressed, or as a delta
    Export {
        /// The database
        #[arg(long, value_name = "FILE")]
        db: PathBuf,
        /// The file to write
        out: PathBuf,
        /// Write what changes this older database into it
        #[arg(long, value_name = "FILE")]
        delta_from: Option<PathBuf>,
    },
    /// Print what a newer database says that an older does not, and the other way round
    Diff {
        /// The older database
        old: PathBuf,
        /// The newer database
        new: PathBuf,
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

/// Carries the command out.
pub(crate) fn run(command: DatabaseCommand, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<()> {
    match command {
        DatabaseCommand::Build { feeds, feed, out: file, version, key, allow_shrink } => {
            let options = BuildOptions { feeds, single: feed, out: file, version, allow_shrink };
            let key = key.as_deref().map(signing_key).transpose()?;
            build_database(&options, key.as_ref(), out, remarks)?;
        }
        DatabaseCommand::Status { file } => print_status(&file, out)?,
        DatabaseCommand::Verify { file, trust } => {
            let trust = trust.as_deref().map(key_bytes).transpose()?;
            verify_database(&file, trust.as_ref(), out)?;
        }
        DatabaseCommand::Fetch { into, feed, proxy, mirror } => {
            let proxy = proxy.filter(|proxy| !proxy.is_empty());
            fetch_feeds(&FetchOptions { into, feeds: feed, proxy, mirror }, out, remarks)?;
        }
        DatabaseCommand::Import { from, into, trust, allow_downgrade, allow_shrink } => {
            let trusted = trust.as_deref().map(key_bytes).transpose()?;
            let options = ImportOptions { trusted, allow_downgrade, allow_shrink };
            import_database(&from, &database_in(&into), &options, out)?;
        }
        DatabaseCommand::Export { db, out: file, delta_from } => {
            export_database(&db, &file, delta_from.as_deref(), out)?;
        }
        DatabaseCommand::Diff { old, new } => diff_databases(&old, &new, out)?,
        DatabaseCommand::Lookup { wanted, db } => lookup(&db, &wanted, out)?,
    }
    Ok(())
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
