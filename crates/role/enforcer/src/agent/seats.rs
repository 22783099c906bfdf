//! What the keeper judges programs by where no BPF table holds it: kept here as those tables would be, and sent whole after
//! each change.

use std::io::Seek as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use nv_model::name::GroupName;
use nv_model::policy::NodePolicy;
use nv_model::workload::Workload;
use nv_policy::lower::ProfileNumbers;
use nv_telemetry::chain;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use tokio::sync::mpsc;

use super::Agent;
use crate::EnforcerError;
use crate::activity::processes::parent_of;
use crate::keeper::{ProtocolError, Seat, Seats, TakeSeats, Told, send};

/// Most cgroups that have a seat of their own; as many as the kernel's table would hold.
const MAX_CGROUPS: usize = nv_probe::cgroup::MAX_CGROUPS;

/// Most executables of runtimes; as many as the kernel's table would hold.
const MAX_RUNTIMES: usize = 16;

/// The seats, and the way to the keeper.
#[derive(Debug)]
pub(crate) struct Seating {
    socket: OwnedFd,
    seats: Seats,
    changed: bool,
}

impl Seating {
    /// None is taken yet. What the keeper tells through the socket goes to `told`.
    ///
    /// # Errors
    /// The thread that reads it cannot be started.
    pub(crate) fn start(socket: OwnedFd, told: mpsc::Sender<Told>) -> Result<Self, EnforcerError> {
        rustix::io::ioctl_fionbio(&socket, false).map_err(|errno| EnforcerError::Thread(errno.into()))?;
        let read = socket.try_clone().map_err(EnforcerError::Thread)?;
        crate::intake::records::read_programs(read, told)?;
        Ok(Self { socket, seats: Seats::default(), changed: false })
    }

    /// A new keeper has to be told everything.
    pub(super) fn renew(&mut self, new: Self) {
        self.socket = new.socket;
        self.changed = true;
    }

    /// The policy, completed by what the node knows.
    pub(super) fn enforce(&mut self, completed: NodePolicy, numbers: &ProfileNumbers) {
        let profiles = completed.profiles.into_iter();
        self.seats.profiles =
            profiles.filter_map(|(group, profile)| Some((numbers.get(&group)?, profile))).collect();
        self.seats.nobody = numbers.get(&GroupName::unidentified()).unwrap_or(0);
        self.changed = true;
    }

    /// Puts a cgroup under a profile. What is known of its root stays known.
    pub(super) fn place(&mut self, cgroup: u64, profile: u32, container: bool) {
        let held = self.seats.cgroups.get(&cgroup).copied();
        let seat = Seat { profile, container, ..held.unwrap_or(Seat::new(profile, container)) };
        if held == Some(seat) {
            return;
        }
        if held.is_none() && self.seats.cgroups.len() >= MAX_CGROUPS {
            tracing::error!(
                cgroup,
                most = MAX_CGROUPS,
                "a cgroup is without its profile: there are too many"
            );
            return;
        }
        self.seats.cgroups.insert(cgroup, seat);
        self.changed = true;
    }

    /// A new cgroup of which nobody will say more has its parent's seat, as the kernel would give it.
    pub(super) fn inherit(&mut self, cgroup: u64, parent: u64) {
        if let Some(seat) =
            self.seats.cgroups.get(&parent).copied().filter(|_| !self.seats.cgroups.contains_key(&cgroup))
        {
            self.place(cgroup, seat.profile, seat.container);
        }
    }

    fn tell_root(&mut self, cgroup: u64, device: u32) {
        if let Some(seat) = self.seats.cgroups.get_mut(&cgroup).filter(|seat| seat.root == 0) {
            seat.root = device;
            self.changed = true;
        }
    }

    fn tell_starter(&mut self, cgroup: u64, program: (u64, u64)) {
        if let Some(seat) = self.seats.cgroups.get_mut(&cgroup).filter(|seat| seat.starter.is_none()) {
            seat.starter = Some(program);
            self.changed = true;
        }
    }

    /// Whether it is known what has started the container of a cgroup.
    fn has_starter(&self, cgroup: u64) -> bool {
        self.seats.cgroups.get(&cgroup).is_none_or(|seat| seat.starter.is_some())
    }

    /// What a runtime runs in containers is of their family. The executable by device and inode.
    pub(super) fn tell_runtime(&mut self, program: (u64, u64)) {
        if self.seats.runtimes.len() < MAX_RUNTIMES && self.seats.runtimes.insert(program) {
            self.changed = true;
        }
    }

    pub(super) fn gone(&mut self, cgroup: u64) {
        self.changed |= self.seats.cgroups.remove(&cgroup).is_some();
    }

    /// The line that a judgement names: the group it comes from and its id.
    fn rule(&self, profile: u32, rule: u32) -> Option<(GroupName, String)> {
        let (group, line) = self.seats.profiles.get(&profile)?.rules.get(usize::try_from(rule).ok()?)?;
        Some((group.clone(), line.uuid.clone()))
    }

    /// Tells the keeper what has changed. Where it has no time, the next call tries again.
    fn tell(&mut self) {
        if !self.changed {
            return;
        }
        match self.sent() {
            Ok(()) => self.changed = false,
            Err(error) => tracing::debug!(error, "the keeper is not told yet which profile holds where"),
        }
    }

    fn sent(&self) -> Result<(), String> {
        let file = rustix::fs::memfd_create("seats", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(|errno| errno.to_string())?;
        let mut file = std::fs::File::from(file);
        serde_json::to_writer(std::io::BufWriter::new(&mut file), &self.seats)
            .map_err(|error| error.to_string())?;
        file.rewind().map_err(|error| error.to_string())?;
        // The keeper may be stopped, and must not stop this process, too.
        let mut room = [PollFd::new(&self.socket, PollFlags::OUT)];
        if !poll(&mut room, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
            return Err("it has not taken what it was told before".to_owned());
        }
        match send(self.socket.as_fd(), &TakeSeats, &[file.as_fd()]) {
            // A keeper that has ended is replaced, and told then.
            Ok(()) | Err(ProtocolError::Closed) => Ok(()),
            Err(error) => Err(chain(&error)),
        }
    }
}

impl Agent {
    /// After each turn: what has changed goes to the keeper at once, as programs wait for it.
    pub(crate) fn tell_seats(&mut self) {
        if let Some(seating) = &mut self.setup.seating {
            seating.tell();
        }
    }

    /// Tells which file system is a container's root, where the keeper judges its programs.
    pub(super) fn seat_root(&mut self, workload: &Workload) {
        let Some(seating) = self.setup.seating.as_mut().filter(|_| workload.pid != 0) else { return };
        match nv_probe::cgroup::root_device(workload.pid) {
            Ok(Some(device)) => seating.tell_root(workload.cgroup_id, device),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, workload = %workload.id, "a container's root file system is not known");
            }
        }
    }

    /// Tells what has started each container, where that is not known yet: the parent of its first process, once that runs a
    /// program of the container's own. Until then it may be the runtime's, which is started by one that ends.
    pub(super) fn seat_starters(&mut self) {
        let Some(seating) = &self.setup.seating else { return };
        let without = |workload: &&Workload| {
            workload.running && workload.pid != 0 && !seating.has_starter(workload.cgroup_id)
        };
        let all = self.workloads.all().map(|local| &local.workload);
        let found: Vec<(u64, (u64, u64))> = all
            .filter(without)
            .filter_map(|workload| Some((workload.cgroup_id, starter(workload.pid)?)))
            .collect();
        if let Some(seating) = &mut self.setup.seating {
            found.into_iter().for_each(|(cgroup, program)| seating.tell_starter(cgroup, program));
        }
    }

    /// The line of a profile that a record names.
    pub(super) fn rule_of(&self, profile: u32, rule: u32) -> Option<(GroupName, String)> {
        match (&self.setup.kernel, &self.setup.seating) {
            (Some(kernel), _) => {
                kernel.rule(profile, rule).map(|line| (line.group.clone(), line.uuid.clone()))
            }
            (None, Some(seating)) => seating.rule(profile, rule),
            (None, None) => None,
        }
    }

    /// The keeper tells what the kernel's programs would.
    pub(crate) fn program_told(&mut self, told: Told) {
        self.programs_lost =
            self.programs_lost.saturating_add(told.dropped).saturating_add(u64::from(told.lost));
        if told.lost {
            self.processes.scan(self.setup.cgroup_root.as_deref());
        }
        if let Some(event) = told.event {
            self.process_events(vec![event]);
        }
    }
}

/// The executable of the parent of a container's first process, once that has the container's root and runs a program of it.
fn starter(pid: u32) -> Option<(u64, u64)> {
    let place = |path: String| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let (root, host) = (place(format!("/proc/{pid}/root/"))?, place("/".to_owned())?);
    let runs_own = program_of(pid)?.0 == root.0;
    if !runs_own || root == host {
        return None;
    }
    // Process 1 adopts whoever has lost his parent, so it says nothing.
    program_of(parent_of(pid).filter(|parent| *parent > 1)?)
}

/// Device and inode of the executable of a process.
pub(super) fn program_of(pid: u32) -> Option<(u64, u64)> {
    let found = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use nv_model::mode::{Baseline, Fault, Mode};
    use nv_model::profile::EffectiveProfile;

    use super::*;
    use crate::keeper::{pair, receive};

    fn profile(group: &str) -> EffectiveProfile {
        EffectiveProfile {
            group: group.parse().unwrap(),
            mode: Mode::Protect,
            baseline: Baseline::Basic,
            rules: Vec::new(),
            files: Vec::new(),
            alert_disabled: false,
            fault: Fault::Open,
        }
    }

    #[test]
    fn the_keeper_is_told_everything_after_a_change_and_nothing_without_one() {
        let (ours, theirs) = pair().unwrap();
        rustix::io::ioctl_fionbio(&theirs, true).unwrap();
        let mut seating = Seating { socket: ours, seats: Seats::default(), changed: false };
        let mut policy = NodePolicy::default();
        policy.profiles.insert("nv.web".parse().unwrap(), profile("nv.web"));
        policy.profiles.insert(GroupName::unidentified(), profile("nv.unidentified"));
        let mut numbers = ProfileNumbers::default();
        let web = numbers.number(&"nv.web".parse().unwrap());
        numbers.number(&GroupName::unidentified());
        seating.enforce(policy, &numbers);
        seating.place(7, web, true);
        seating.tell_root(7, 45);
        seating.place(8, web, false);
        seating.inherit(9, 8);
        seating.gone(9);
        seating.gone(8);
        seating.tell();
        let (TakeSeats, mut files) = receive(theirs.as_fd()).unwrap();
        let told: Seats = serde_json::from_reader(std::fs::File::from(files.remove(0))).unwrap();
        assert_eq!(
            told.cgroups.into_iter().collect::<Vec<_>>(),
            [(7, Seat { root: 45, ..Seat::new(web, true) })]
        );
        assert_eq!(told.profiles.get(&web).unwrap().group, "nv.web".parse().unwrap());
        assert_ne!(told.nobody, 0, "containers that nobody knows have a profile too");
        seating.place(7, web, true);
        seating.tell();
        assert!(receive::<TakeSeats>(theirs.as_fd()).is_err(), "nothing has changed");
    }
}
