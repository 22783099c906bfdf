//! One story from all runtimes of a machine.
//!
//! Docker keeps its containers in a containerd, and Kubernetes may run on Docker through a CRI shim, so that two or
//! three sockets tell of the same container. Docker's own word counts while it answers: it alone knows names and
//! images. The others' words are kept, and count while Docker does not answer — but for what the container is, which
//! stays as Docker told it: a daemon that restarts must not change whose rules its containers have.

use std::collections::{BTreeMap, BTreeSet};

use nv_model::name::WorkloadId;
use nv_model::workload::Workload;

use crate::{Api, RuntimeEvent, docker};

/// What is known of one runtime.
#[derive(Debug, Default)]
struct Source {
    /// From its first answer on.
    met: Option<Met>,
    state: State,
    /// It has told all that it has since it answered.
    listed: bool,
}

/// What a runtime says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Met {
    runtime: String,
    version: String,
    api: Api,
    storage: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It has neither answered nor failed to.
    #[default]
    Unknown,
    Up,
    Down,
}

/// Merges what runtimes tell. Pure: event in, events out; bounded by what each [`crate::Watcher`] keeps.
#[derive(Debug, Default)]
pub struct Merge {
    sources: Vec<Source>,
    /// The runtime that was named last.
    named: Option<Met>,
    /// Docker's containers as they were told on.
    told: BTreeMap<WorkloadId, Workload>,
    /// Those of them that Docker itself has told of.
    by_docker: BTreeSet<WorkloadId>,
    /// Docker's containers as others see them.
    others: BTreeMap<WorkloadId, Workload>,
}

impl Merge {
    /// One more runtime; its number is that of the runtimes before it.
    pub fn add(&mut self) -> usize {
        self.sources.push(Source::default());
        self.sources.len().saturating_sub(1)
    }

    /// Takes what the runtime of this number tells and gives what is to be told on.
    ///
    /// `Up` is told when the runtime that names the machine's changes: Docker, else the first that answered. `Listed`
    /// is told when every runtime has listed or is known not to answer.
    pub fn take(&mut self, source: usize, event: RuntimeEvent) -> Vec<RuntimeEvent> {
        let mut out = Vec::new();
        let is_docker = self.is_docker(source);
        match event {
            RuntimeEvent::Up { runtime, version, api, storage } => {
                if let Some(source) = self.sources.get_mut(source) {
                    *source = Source {
                        met: Some(Met { runtime, version, api, storage }),
                        state: State::Up,
                        listed: false,
                    };
                }
                self.name(&mut out);
                self.take_back(&mut out);
            }
            RuntimeEvent::Down { reason } => {
                if let Some(source) = self.sources.get_mut(source) {
                    source.state = State::Down;
                }
                out.push(RuntimeEvent::Down { reason });
                self.take_back(&mut out);
                if self.sources.iter().any(|source| source.listed) {
                    self.settle(&mut out);
                }
            }
            RuntimeEvent::Listed => {
                if let Some(source) = self.sources.get_mut(source) {
                    source.listed = true;
                }
                if is_docker {
                    self.drop_strays(&mut out);
                }
                self.settle(&mut out);
            }
            event @ RuntimeEvent::Listener { .. } => out.push(event),
            event if is_docker => self.docker(event, &mut out),
            event => self.other(event, &mut out),
        }
        out
    }

    /// Docker's own word.
    fn docker(&mut self, event: RuntimeEvent, out: &mut Vec<RuntimeEvent>) {
        match &event {
            RuntimeEvent::Workload(workload) => {
                self.by_docker.insert(workload.id.clone());
                self.told.insert(workload.id.clone(), Workload::clone(workload));
            }
            RuntimeEvent::Stopped { id, .. } => {
                let Some(told) = self.told.get_mut(id) else { return };
                if !told.running {
                    return; // Another has told it while Docker was away.
                }
                told.running = false;
            }
            RuntimeEvent::Removed { id } => {
                self.by_docker.remove(id);
                if self.told.remove(id).is_none() {
                    return;
                }
            }
            RuntimeEvent::Up { .. }
            | RuntimeEvent::Listener { .. }
            | RuntimeEvent::Down { .. }
            | RuntimeEvent::Listed => {}
        }
        out.push(event);
    }

    /// The word of a runtime that is not Docker.
    fn other(&mut self, event: RuntimeEvent, out: &mut Vec<RuntimeEvent>) {
        let leads = self.docker_leads();
        match event {
            RuntimeEvent::Workload(workload) if workload.runtime == docker::NAME => {
                self.others.insert(workload.id.clone(), Workload::clone(&workload));
                if !leads {
                    self.instead(&workload, out);
                }
            }
            RuntimeEvent::Stopped { id, exit_code, at } if self.others.contains_key(&id) => {
                if let Some(workload) = self.others.get_mut(&id) {
                    workload.running = false;
                    workload.pid = 0;
                    workload.exit_code = exit_code;
                    workload.finished = at;
                }
                if let Some(told) = self.told.get_mut(&id).filter(|told| !leads && told.running) {
                    told.running = false;
                    out.push(RuntimeEvent::Stopped { id, exit_code, at });
                }
            }
            RuntimeEvent::Removed { id } if self.others.contains_key(&id) => {
                self.others.remove(&id);
                // containerd forgets a container of Docker's when it ends; Docker keeps it.
                if !leads && !self.by_docker.contains(&id) && self.told.remove(&id).is_some() {
                    out.push(RuntimeEvent::Removed { id });
                }
            }
            event => out.push(event),
        }
    }

    /// Tells of a container in Docker's place.
    fn instead(&mut self, seen: &Workload, out: &mut Vec<RuntimeEvent>) {
        let workload = match self.told.get(&seen.id) {
            Some(told) if told.running == seen.running && told.pid == seen.pid => return,
            Some(told) => {
                if told.running && !seen.running {
                    let (id, exit_code, at) = (seen.id.clone(), seen.exit_code, seen.finished);
                    out.push(RuntimeEvent::Stopped { id, exit_code, at });
                }
                Workload {
                    pid: seen.pid,
                    running: seen.running,
                    exit_code: seen.exit_code,
                    started: seen.started,
                    finished: seen.finished,
                    cgroup: seen.cgroup.clone(),
                    cgroup_id: seen.cgroup_id,
                    network_namespace: seen.network_namespace,
                    interfaces: seen.interfaces.clone(),
                    ..told.clone()
                }
            }
            None => seen.clone(),
        };
        self.told.insert(workload.id.clone(), workload.clone());
        out.push(RuntimeEvent::Workload(Box::new(workload)));
    }

    /// While Docker does not answer, what the others see of its containers counts.
    fn take_back(&mut self, out: &mut Vec<RuntimeEvent>) {
        if !self.docker_leads() {
            for seen in self.others.values().cloned().collect::<Vec<_>>() {
                self.instead(&seen, out);
            }
        }
    }

    /// Docker has listed: what was told in its place and it does not have is gone.
    fn drop_strays(&mut self, out: &mut Vec<RuntimeEvent>) {
        let strays: Vec<WorkloadId> =
            self.told.keys().filter(|id| !self.by_docker.contains(*id)).cloned().collect();
        for id in strays {
            self.told.remove(&id);
            out.push(RuntimeEvent::Removed { id });
        }
    }

    /// Docker answers, or it is not known yet whether one of the sockets is Docker's and answers.
    fn docker_leads(&self) -> bool {
        self.sources.iter().any(|source| match source.state {
            State::Unknown => true,
            State::Up => source.api() == Some(Api::Docker),
            State::Down => false,
        })
    }

    fn is_docker(&self, source: usize) -> bool {
        self.sources.get(source).and_then(Source::api) == Some(Api::Docker)
    }

    fn name(&mut self, out: &mut Vec<RuntimeEvent>) {
        let met = || self.sources.iter().filter_map(|source| source.met.as_ref());
        let first = met().find(|met| met.api == Api::Docker).or_else(|| met().next());
        let Some(first) = first.cloned() else { return };
        if self.named.as_ref() != Some(&first) {
            let Met { runtime, version, api, storage } = first.clone();
            self.named = Some(first);
            out.push(RuntimeEvent::Up { runtime, version, api, storage });
        }
    }

    fn settle(&self, out: &mut Vec<RuntimeEvent>) {
        let is_settled = |source: &Source| source.listed || source.state == State::Down;
        if self.sources.iter().all(is_settled) {
            out.push(RuntimeEvent::Listed);
        }
    }
}

impl Source {
    fn api(&self) -> Option<Api> {
        self.met.as_ref().map(|met| met.api)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nv_model::time::Timestamp;
    use proptest::prelude::*;

    fn workload(id: &str, runtime: &str, pid: u32) -> RuntimeEvent {
        let (service, image) = if runtime == "docker" { ("web", "shop/web:1") } else { (id, "") };
        let json = serde_json::json!({
            "id": id, "name": id, "node": "n", "service": service, "image": image, "pid": pid, "running": pid != 0,
            "runtime": "docker",
        });
        RuntimeEvent::Workload(Box::new(serde_json::from_value(json).unwrap()))
    }

    fn up(runtime: &str) -> RuntimeEvent {
        let api = if runtime == "docker" { Api::Docker } else { Api::Containerd };
        RuntimeEvent::Up { runtime: runtime.to_owned(), version: "1".to_owned(), api, storage: String::new() }
    }

    fn stopped(id: &str) -> RuntimeEvent {
        RuntimeEvent::Stopped { id: id.parse().unwrap(), exit_code: 9, at: Timestamp::from_seconds(5) }
    }

    fn removed(id: &str) -> RuntimeEvent {
        RuntimeEvent::Removed { id: id.parse().unwrap() }
    }

    fn down() -> RuntimeEvent {
        RuntimeEvent::Down { reason: "gone".to_owned() }
    }

    /// A word an event: `up <name>`, `down`, `listed`, `<id> of <service> <pid>`, `<id> stopped`, `<id> removed`.
    fn words(events: Vec<RuntimeEvent>) -> Vec<String> {
        let word = |event| match event {
            RuntimeEvent::Up { runtime, .. } => format!("up {runtime}"),
            RuntimeEvent::Listener { pid } => format!("listener {pid}"),
            RuntimeEvent::Down { .. } => "down".to_owned(),
            RuntimeEvent::Listed => "listed".to_owned(),
            RuntimeEvent::Workload(seen) => format!("{} of {} {}", seen.id, seen.service, seen.pid),
            RuntimeEvent::Stopped { id, .. } => format!("{id} stopped"),
            RuntimeEvent::Removed { id } => format!("{id} removed"),
        };
        events.into_iter().map(word).collect()
    }

    /// containerd (0) and Docker (1), Docker with container `a`.
    fn both() -> Merge {
        let mut merge = Merge::default();
        let (containerd, docker) = (merge.add(), merge.add());
        assert_eq!(words(merge.take(containerd, up("containerd"))), ["up containerd"]);
        assert_eq!(words(merge.take(containerd, workload("a", "containerd", 7))), [""; 0], "Docker may come");
        assert_eq!(words(merge.take(containerd, RuntimeEvent::Listed)), [""; 0]);
        assert_eq!(words(merge.take(docker, up("docker"))), ["up docker"]);
        assert_eq!(words(merge.take(docker, workload("a", "docker", 7))), ["a of web 7"]);
        assert_eq!(words(merge.take(docker, RuntimeEvent::Listed)), ["listed"]);
        merge
    }

    #[test]
    fn a_container_of_docker_is_told_once_and_by_docker() {
        let mut merge = both();
        assert_eq!(words(merge.take(0, workload("b", "containerd", 8))), [""; 0]);
        assert_eq!(words(merge.take(1, workload("b", "docker", 8))), ["b of web 8"]);
        assert_eq!(words(merge.take(0, stopped("b"))), [""; 0]);
        assert_eq!(words(merge.take(0, removed("b"))), [""; 0]);
        assert_eq!(words(merge.take(1, stopped("b"))), ["b stopped"]);
        assert_eq!(words(merge.take(1, removed("b"))), ["b removed"]);
    }

    #[test]
    fn what_is_not_dockers_passes_whatever_docker_does() {
        let mut merge = both();
        let RuntimeEvent::Workload(mut plain) = workload("p", "containerd", 3) else { panic!() };
        plain.runtime = "containerd".to_owned();
        assert_eq!(words(merge.take(0, RuntimeEvent::Workload(plain))), ["p of p 3"]);
        assert_eq!(words(merge.take(0, stopped("p"))), ["p stopped"]);
        assert_eq!(words(merge.take(0, removed("p"))), ["p removed"]);
    }

    #[test]
    fn while_docker_is_away_its_containers_stay_what_they_are_and_their_ends_are_told() {
        let mut merge = both();
        assert_eq!(words(merge.take(1, down())), ["down", "listed"]);
        assert_eq!(words(merge.take(0, workload("a", "containerd", 9))), ["a of web 9"], "its group stays");
        assert_eq!(words(merge.take(0, stopped("a"))), ["a stopped"]);
        assert_eq!(words(merge.take(0, removed("a"))), [""; 0], "Docker has it still");
        assert_eq!(words(merge.take(1, up("docker"))), [""; 0], "it named the machine all the time");
        assert_eq!(words(merge.take(1, stopped("a"))), [""; 0], "told already");
        assert_eq!(words(merge.take(1, removed("a"))), ["a removed"]);
    }

    #[test]
    fn what_ended_before_docker_went_is_told_when_it_goes() {
        let mut merge = both();
        merge.take(0, stopped("a"));
        assert_eq!(words(merge.take(1, down())), ["down", "a stopped", "a of web 0", "listed"]);
    }

    #[test]
    fn without_docker_its_containers_are_told_by_others_until_it_comes_and_knows_better() {
        let mut merge = Merge::default();
        let (containerd, docker) = (merge.add(), merge.add());
        merge.take(containerd, up("containerd"));
        merge.take(containerd, workload("a", "containerd", 7));
        merge.take(containerd, workload("b", "containerd", 8));
        merge.take(containerd, RuntimeEvent::Listed);
        assert_eq!(words(merge.take(docker, down())), ["down", "a of a 7", "b of b 8", "listed"]);
        assert_eq!(words(merge.take(docker, up("docker"))), ["up docker"]);
        assert_eq!(words(merge.take(docker, workload("a", "docker", 7))), ["a of web 7"]);
        assert_eq!(words(merge.take(docker, RuntimeEvent::Listed)), ["b removed", "listed"]);
    }

    #[test]
    fn a_runtime_that_is_found_later_leads_when_it_is_docker() {
        let mut merge = Merge::default();
        let containerd = merge.add();
        merge.take(containerd, up("containerd"));
        assert_eq!(words(merge.take(containerd, RuntimeEvent::Listed)), ["listed"]);
        let docker = merge.add();
        assert_eq!(words(merge.take(docker, up("docker"))), ["up docker"]);
        assert_eq!(words(merge.take(docker, RuntimeEvent::Listed)), ["listed"]);
    }

    proptest! {
        /// Whatever they tell and in whatever order: nothing stops or goes that was not there, and once Docker has listed
        /// exactly its containers are.
        #[test]
        fn the_story_is_one(steps in proptest::collection::vec((0..2_usize, 0..5_u8, "[a-c]", 0..3_u32), 0..40)) {
            let mut merge = Merge::default();
            merge.add();
            merge.add();
            let mut there: BTreeMap<String, bool> = BTreeMap::new();
            let mut docker: BTreeSet<String> = BTreeSet::new();
            let mut seen = [BTreeSet::new(), BTreeSet::new()];
            let names = ["containerd", "docker"];
            for (source, kind, id, pid) in steps.into_iter().chain([(1, 0, String::new(), 0), (1, 4, String::new(), 0)]) {
                let event = match kind {
                    0 => up(names[source]),
                    1 => down(),
                    2 => { seen[source].insert(id.clone()); workload(&id, names[source], pid) }
                    3 if seen[source].remove(&id) => removed(&id),
                    3 => continue,
                    _ => RuntimeEvent::Listed,
                };
                // What comes from a source before its first answer is nobody's.
                if kind >= 2 && merge.sources[source].met.is_none() { seen[source].remove(&id); continue }
                if source == 1 { match kind { 2 => { docker.insert(id); } 3 => { docker.remove(&id); } _ => {} } }
                for event in merge.take(source, event) {
                    match event {
                        RuntimeEvent::Workload(told) => { there.insert(told.id.to_string(), told.running); }
                        RuntimeEvent::Stopped { id, .. } => {
                            prop_assert_eq!(there.insert(id.to_string(), false), Some(true));
                        }
                        RuntimeEvent::Removed { id } => prop_assert!(there.remove(id.as_str()).is_some()),
                        _ => {}
                    }
                }
            }
            prop_assert_eq!(there.into_keys().collect::<BTreeSet<_>>(), docker);
        }
    }
}
