//! rpm's databases, in the three formats that rpm has had: Berkeley DB hash, ndb and SQLite.
//!
//! Each holds one header blob a package; [`header`] reads those. The containers are read by code of our own: they come
//! from the image that is judged, they are needed only from the first page to the last, and a library for SQLite opens
//! no database in write-ahead mode without a file system, which is how rpm leaves them.

mod bdb;
pub mod header;
mod ndb;

use crate::inventory::Inventory;
use crate::sqlite::{self, Sqlite, SqliteError};

pub use sqlite::MAGIC as SQLITE_MAGIC;

const FORMAT: &str = "rpm database";

/// Reads `Packages` (Berkeley DB), `Packages.db` (ndb) or `rpmdb.sqlite`, known by their first bytes. `wal` is the
/// content of `rpmdb.sqlite-wal` beside the database, empty where there is none.
pub fn parse_database(bytes: &[u8], wal: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let mut take = |place: String, blob: &[u8], inventory: &mut Inventory| match header::parse(blob) {
        Ok(Some(package)) => inventory.add(FORMAT, || place, package),
        Ok(None) => {}
        Err(why) => inventory.fault(FORMAT, place, why.to_string()),
    };
    if bytes.starts_with(sqlite::MAGIC) {
        of_sqlite(bytes, wal, &mut inventory, &mut take);
    } else if bytes.starts_with(ndb::MAGIC) {
        ndb::read(bytes, &mut inventory, &mut take);
    } else if bdb::is_hash(bytes) {
        bdb::read(bytes, &mut inventory, &mut take);
    } else {
        inventory.fault(FORMAT, "first bytes", "neither SQLite nor ndb nor a Berkeley DB hash");
    }
    inventory
}

/// The files that all packages of a database hold, without a slash at the beginning.
pub fn files(bytes: &[u8], wal: &[u8]) -> Vec<String> {
    /// Most files of one database.
    const MAX_FILES: usize = 2_000_000;
    let mut inventory = Inventory::default();
    let mut files = Vec::new();
    let mut take = |_: String, blob: &[u8], _: &mut Inventory| {
        if files.len() < MAX_FILES {
            files.extend(header::files(blob));
        }
    };
    if bytes.starts_with(sqlite::MAGIC) {
        of_sqlite(bytes, wal, &mut inventory, &mut take);
    } else if bytes.starts_with(ndb::MAGIC) {
        ndb::read(bytes, &mut inventory, &mut take);
    } else if bdb::is_hash(bytes) {
        bdb::read(bytes, &mut inventory, &mut take);
    }
    files
}

/// The table `Packages(hnum, blob)`.
fn of_sqlite(bytes: &[u8], wal: &[u8], inventory: &mut Inventory, take: Take<'_>) {
    let mut number = 0_usize;
    let read = Sqlite::open(bytes, wal).and_then(|mut file| {
        file.rows("Packages", &mut |_, [_, blob]| {
            number += 1;
            take(format!("SQLite row {number}"), blob.bytes(), inventory);
        })
    });
    if let Err(error) = read {
        let place = match &error {
            SqliteError::Page(_) => "SQLite header".to_owned(),
            SqliteError::Schema | SqliteError::NoTable(_) => "SQLite schema".to_owned(),
            SqliteError::Tree { after } => format!("SQLite table, after row {after}"),
        };
        inventory.fault(FORMAT, place, error.to_string());
    }
}

/// What is done with a blob: where it was, the blob, what is filled.
type Take<'a> = &'a mut dyn FnMut(String, &[u8], &mut Inventory);

#[cfg(test)]
mod tests;
