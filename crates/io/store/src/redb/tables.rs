//! The tables of one write transaction, and what commits do to them.

use redb::{ReadableTable, Table, WriteTransaction};

use super::row::{
    ENTRIES, HISTORY, LEASED, LEASES, MARKS, STATE, Stamp, decode_stamp, encode_delete, encode_entry,
    encode_put,
};
use crate::snapshot::SpooledSnapshot;
use crate::store::{LeaseId, Revision};
use crate::transaction::{Compare, Operation};

/// What is counted over all commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Last commit.
    pub(super) revision: Revision,
    /// History up to and with this is forgotten.
    pub(super) compacted: Revision,
    /// Bytes of the history's rows.
    pub(super) history_bytes: u64,
    /// Last lease given.
    pub(super) lease: u64,
}

pub(super) struct Tables<'t> {
    pub(super) entries: Table<'t, &'static str, &'static [u8]>,
    pub(super) history: Table<'t, (u64, u32), &'static [u8]>,
    pub(super) leases: Table<'t, u64, u64>,
    pub(super) leased: Table<'t, (u64, &'static str), ()>,
    pub(super) marks: Table<'t, u64, i64>,
    state: Table<'t, &'static str, u64>,
    pub(super) counters: Counters,
}

/// Reads the counters.
pub(super) fn counters(state: &impl ReadableTable<&'static str, u64>) -> Result<Counters, redb::Error> {
    let number = |name| Ok::<_, redb::Error>(state.get(name)?.map_or(0, |number| number.value()));
    Ok(Counters {
        revision: Revision(number("revision")?),
        compacted: Revision(number("compacted")?),
        history_bytes: number("history_bytes")?,
        lease: number("lease")?,
    })
}

/// Writes the changes of one commit down, in order.
struct Recorder<'a, 't> {
    tables: &'a mut Tables<'t>,
    revision: Revision,
    position: u32,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        let state = transaction.open_table(STATE)?;
        let counters = counters(&state)?;
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            history: transaction.open_table(HISTORY)?,
            leases: transaction.open_table(LEASES)?,
            leased: transaction.open_table(LEASED)?,
            marks: transaction.open_table(MARKS)?,
            state,
            counters,
        })
    }

    pub(super) fn write_counters(&mut self) -> Result<(), redb::Error> {
        let Counters { revision, compacted, history_bytes, lease } = self.counters;
        for (name, number) in [
            ("revision", revision.0),
            ("compacted", compacted.0),
            ("history_bytes", history_bytes),
            ("lease", lease),
        ] {
            self.state.insert(name, number)?;
        }
        Ok(())
    }

    /// Key of the first compare that does not hold.
    pub(super) fn conflict(&self, compares: &[Compare]) -> Result<Option<String>, redb::Error> {
        for compare in compares {
            let modified = match self.entries.get(compare.key())? {
                Some(row) => Some(decode_stamp(compare.key(), row.value())?.0.modified),
                None => None,
            };
            if !compare.holds(modified) {
                return Ok(Some(compare.key().to_owned()));
            }
        }
        Ok(None)
    }

    /// Does `operations` in a new revision; none is used when they change nothing. Returns the revision after.
    pub(super) fn apply(&mut self, operations: &[Operation]) -> Result<Revision, redb::Error> {
        let mut recorder = self.recorder();
        for operation in operations {
            match operation {
                Operation::Put { key, value, lease } => recorder.put(key, value, *lease)?,
                Operation::Delete { key } => recorder.delete(key)?,
                Operation::DeletePrefix { prefix } => {
                    for key in recorder.tables.keys_below(prefix)? {
                        recorder.delete(&key)?;
                    }
                }
            }
        }
        Ok(recorder.finish())
    }

    /// Ends a lease: its row, and its keys in one commit.
    pub(super) fn end_lease(&mut self, lease: LeaseId) -> Result<(), redb::Error> {
        self.leases.remove(lease.0)?;
        let mut keys = Vec::new();
        for row in self.leased.range::<(u64, &str)>((lease.0, "")..)? {
            let (row, _) = row?;
            let (id, key) = row.value();
            if id != lease.0 {
                break;
            }
            keys.push(key.to_owned());
        }
        let mut recorder = self.recorder();
        for key in keys {
            recorder.delete(&key)?;
        }
        recorder.finish();
        Ok(())
    }

    /// Replaces everything by a snapshot, in one revision that forgets all history.
    pub(super) fn replace(&mut self, snapshot: &SpooledSnapshot) -> Result<Revision, redb::Error> {
        self.entries.retain(|_, _| false)?;
        self.history.retain(|_, _| false)?;
        self.leases.retain(|_, _| false)?;
        self.leased.retain(|_, _| false)?;
        self.marks.retain(|_, _| false)?;
        let mut entries = snapshot.entries().map_err(redb::Error::Io)?;
        while let Some(entry) = entries.next().map_err(redb::Error::Io)? {
            let stamp = Stamp { created: entry.created, modified: entry.modified, lease: None };
            self.entries.insert(entry.key.as_str(), encode_entry(stamp, &entry.value).as_slice())?;
        }
        let revision = self.counters.revision.max(snapshot.summary().revision).next();
        self.counters.revision = revision;
        self.counters.compacted = revision;
        self.counters.history_bytes = 0;
        Ok(revision)
    }

    fn recorder(&mut self) -> Recorder<'_, 't> {
        let revision = self.counters.revision.next();
        Recorder { tables: self, revision, position: 0 }
    }

    fn keys_below(&self, prefix: &str) -> Result<Vec<String>, redb::Error> {
        let mut keys = Vec::new();
        for row in self.entries.range::<&str>(prefix..)? {
            let (key, _) = row?;
            if !key.value().starts_with(prefix) {
                break;
            }
            keys.push(key.value().to_owned());
        }
        Ok(keys)
    }
}

impl Recorder<'_, '_> {
    fn put(&mut self, key: &str, value: &[u8], lease: Option<LeaseId>) -> Result<(), redb::Error> {
        let before = match self.tables.entries.get(key)? {
            Some(row) => Some(decode_stamp(key, row.value())?.0),
            None => None,
        };
        let created = before.map_or(self.revision, |before| before.created);
        let row = encode_entry(Stamp { created, modified: self.revision, lease }, value);
        self.tables.entries.insert(key, row.as_slice())?;
        let held = before.and_then(|before| before.lease);
        if held != lease {
            if let Some(held) = held {
                self.tables.leased.remove((held.0, key))?;
            }
            if let Some(lease) = lease {
                self.tables.leased.insert((lease.0, key), ())?;
            }
        }
        self.record(&encode_put(key, &row))
    }

    fn delete(&mut self, key: &str) -> Result<(), redb::Error> {
        let held = match self.tables.entries.remove(key)? {
            Some(row) => decode_stamp(key, row.value())?.0.lease,
            None => return Ok(()),
        };
        if let Some(held) = held {
            self.tables.leased.remove((held.0, key))?;
        }
        self.record(&encode_delete(key))
    }

    fn record(&mut self, row: &[u8]) -> Result<(), redb::Error> {
        self.tables.history.insert((self.revision.0, self.position), row)?;
        self.position = self.position.saturating_add(1);
        let counters = &mut self.tables.counters;
        counters.history_bytes = counters.history_bytes.saturating_add(row.len() as u64);
        Ok(())
    }

    fn finish(self) -> Revision {
        if self.position > 0 {
            self.tables.counters.revision = self.revision;
        }
        self.tables.counters.revision
    }
}
