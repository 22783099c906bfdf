//! What an inspector judges traffic by: one value, made by the agent, and taken over whole.
//!
//! It comes as a file in memory that nobody can change any more; its descriptor goes through the inspector's socket.

use std::io;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use nv_model::mode::Mode;
use nv_model::name::GroupName;
use nv_model::policy::IdentityId;
use nv_model::rule_set::RuleSetBlob;
use nv_model::sensor::{Sensor, SensorId};
use nv_model::verdict::Action;
use nv_policy::layer7::Layer7;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};

use super::Connection;

/// Largest set of rules, in bytes of its JSON form.
pub(super) const MAX_BYTES: u64 = 32 << 20;
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 16;

/// What an inspector judges by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rules {
    /// Counts up with each that the agent makes.
    pub(crate) revision: u64,
    /// Sensors that a group uses.
    pub(crate) sensors: Vec<Sensor>,
    /// Rule sets that sensors have.
    #[serde(default)]
    pub(crate) rule_sets: Vec<RuleSetBlob>,
    /// Groups that use sensors.
    pub(crate) groups: Vec<Using>,
    /// Addresses of this node's workloads.
    pub(crate) workloads: Vec<Watched>,
    /// Addresses elsewhere of members of `groups`, with the places of these.
    pub(crate) members: Vec<(IpAddr, Vec<u16>)>,
    /// What the policy says of connections by what they say.
    pub(crate) layer7: Layer7,
    /// Connections are judged by their ends as well, as no BPF program does it.
    #[serde(default)]
    pub(crate) by_ends: bool,
}

/// A group that uses sensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Using {
    pub(crate) group: GroupName,
    /// Which, and what becomes of a message in Protect.
    pub(crate) settings: Vec<(SensorId, Action)>,
}

/// A workload by an address of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watched {
    pub(crate) address: IpAddr,
    /// The group whose mode counts for it.
    pub(crate) group: GroupName,
    pub(crate) mode: Mode,
    /// Places of its groups in [`Rules::groups`].
    pub(crate) groups: Vec<u16>,
}

/// What the agent says to an inspector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FromAgent {
    /// A set of rules comes along.
    Rules {
        /// Its number.
        revision: u64,
    },
    /// Who serves a connection, as the kernel has judged it.
    Served { connection: Connection, identity: IdentityId, address: IpAddr },
    /// What do the meters count? It is answered with [`super::Told::Meters`].
    Meters {
        /// Comes back with the answer.
        ask: u64,
    },
}

impl Rules {
    /// Whether all but what concerns layer 7 is the same, so that it need not be copied to be compared.
    pub(crate) fn has_sensors_of(&self, other: &Self) -> bool {
        let same = self.sensors == other.sensors && self.rule_sets == other.rule_sets;
        same && self.groups == other.groups
            && self.workloads == other.workloads
            && self.members == other.members
    }

    /// In a file in memory that nobody can change any more.
    pub(crate) fn sealed(&self) -> io::Result<OwnedFd> {
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other(format!("rules have {} bytes, {MAX_BYTES} at most", bytes.len())));
        }
        let file = memfd_create("rules", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = std::fs::File::from(file);
        file.write_all(&bytes)?;
        let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        fcntl_add_seals(&file, all)?;
        Ok(file.into())
    }

    /// Reads them back: with no system call but one that an inspector is allowed.
    pub(super) fn read(file: BorrowedFd<'_>) -> Result<Self, String> {
        let mut bytes = Vec::new();
        // Each turn reads a byte at least.
        while (bytes.len() as u64) < MAX_BYTES {
            let mut chunk = vec![0_u8; CHUNK];
            let read = rustix::io::pread(file, &mut chunk, bytes.len() as u64).map_err(|e| e.to_string())?;
            if read == 0 {
                return serde_json::from_slice(&bytes).map_err(|error| error.to_string());
            }
            bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
        }
        Err(format!("rules have more than {MAX_BYTES} bytes"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn rules_arrive_as_they_were_and_cannot_be_changed_on_the_way() {
        let watched = Watched {
            address: "fd00::7".parse().unwrap(),
            group: "nv.web.shop".parse().unwrap(),
            mode: Mode::Protect,
            groups: vec![0],
        };
        let using = Using {
            group: "cards".parse().unwrap(),
            settings: vec![("dlp/sensor.creditcard".parse().unwrap(), Action::Deny)],
        };
        let members = vec![("10.0.0.1".parse().unwrap(), vec![0]); 5000];
        let rules =
            Rules { revision: 7, groups: vec![using], workloads: vec![watched], members, ..Rules::default() };
        let file = rules.sealed().unwrap();
        assert_eq!(Rules::read(file.as_fd()).unwrap(), rules);
        let mut file = std::fs::File::from(file);
        assert!(file.write_all(b"x").is_err() && file.set_len(3).is_err());
    }
}
