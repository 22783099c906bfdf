//! Who inspects: one inspector for each share of the node's pods. One that ends is followed by another, and takes nothing from
//! the other shares.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nv_capture::{MAX_SHARES, Share};

use super::rules::Told;
use super::{Agent, Later};
use crate::activity::applications::Applications;
use crate::identity::workloads::Local;
use crate::inspector::{Counts, Inspector, Sums};

/// How long it is until an inspector is started in the place of one that has ended.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, when one after the other ends.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Most inspectors where nobody has said how many.
const MOST: u8 = 4;

/// How many inspectors there are: as many as is set, else one for each CPU that the enforcer may use.
pub(super) fn count(set: Option<u8>, cpus: u32) -> u8 {
    set.unwrap_or_else(|| u8::try_from(cpus).unwrap_or(MOST).min(MOST)).clamp(1, MAX_SHARES)
}

/// The inspectors, and what they said.
#[derive(Debug)]
pub(super) struct Inspection {
    posts: Vec<Post>,
    pub(super) applications: Applications,
    /// Counts changes of the policy by which what passed once may not pass any more.
    pub(super) generation: u64,
    /// Words that made no sense: an application or attack that there is none of.
    pub(super) strange: u64,
}

/// Of one share.
#[derive(Debug)]
pub(super) struct Post {
    share: Share,
    running: Option<Inspector>,
    starting: bool,
    /// When the next one may be started, as a monotonic time.
    due: Duration,
    pause: Duration,
    sums: Sums,
    /// Words of earlier inspectors that found the queue full.
    lost: u64,
    pub(super) rules: Told,
}

impl Post {
    fn new(share: Share) -> Self {
        Self {
            share,
            running: None,
            starting: false,
            due: Duration::ZERO,
            pause: Duration::ZERO,
            sums: Sums::default(),
            lost: 0,
            rules: Told::default(),
        }
    }
    /// The one that runs.
    pub(super) fn running(&self) -> Option<&Inspector> {
        self.running.as_ref()
    }
    fn pause(&mut self, now: Duration) {
        self.pause = (self.pause * 2).clamp(PAUSE, LONGEST_PAUSE);
        self.due = now.saturating_add(self.pause);
    }
    fn lost(&self) -> u64 {
        self.running.as_ref().map_or(0, Inspector::lost).saturating_add(self.lost)
    }
}

impl Inspection {
    /// For so many inspectors.
    pub(super) fn new(inspectors: u8) -> Self {
        Self {
            posts: Share::each(inspectors).map(Post::new).collect(),
            applications: Applications::default(),
            generation: 0,
            strange: 0,
        }
    }
    /// Those that run.
    pub(super) fn running(&self) -> impl Iterator<Item = &Inspector> {
        self.posts.iter().filter_map(Post::running)
    }
    /// Their processes.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.running().map(Inspector::pid)
    }
    /// All shares.
    pub(super) fn posts(&mut self) -> impl Iterator<Item = &mut Post> {
        self.posts.iter_mut()
    }
    fn post(&mut self, share: Share) -> Option<&mut Post> {
        self.posts.iter_mut().find(|post| post.share == share)
    }
    /// The inspector of a share has given a sign of life.
    pub(super) fn lives(&mut self, share: Share, counts: Counts) {
        if let Some(post) = self.post(share) {
            post.pause = Duration::ZERO;
            post.sums.take(counts);
        }
    }
    /// What it says to the rules that it was handed. False when it was handed none of that number.
    pub(super) fn answered(&mut self, share: Share, revision: u64, refused: Option<&str>) -> bool {
        self.post(share).is_some_and(|post| post.rules.answered(revision, refused))
    }
    /// Which policy connections of a pod are judged by, whose interface this is.
    pub(super) fn judging(&self, ifindex: u32) -> u64 {
        let post = self.posts.iter().find(|post| post.share.has(ifindex));
        post.map_or(0, |post| post.rules.judging())
    }
    /// What is counted, by name.
    pub(super) fn counters(&self) -> [(&'static str, u64); 22] {
        let over = |of: fn(&Post) -> u64| self.posts.iter().map(of).fold(0, u64::saturating_add);
        let total = |sum: Counts, post: &Post| sum.plus(&post.sums.total());
        let sums = self.posts.iter().fold(Counts::default(), total);
        let behind = |post: &&Post| post.rules.is_behind(self.generation);
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        [
            ("inspection.inspectors", count(self.pids().count())),
            ("inspection.frames", sums.frames),
            ("inspection.frames_dropped", sums.dropped),
            ("inspection.flows", sums.flows),
            ("inspection.flows_evicted", sums.evicted),
            ("inspection.queue_packets", sums.queued),
            ("inspection.queue_clean", sums.queue_clean),
            ("inspection.queue_dropped", sums.queue_dropped),
            ("inspection.queue_cut", sums.queue_cut),
            ("inspection.queue_full", sums.queue_lost),
            ("inspection.words_dropped", sums.unsent.saturating_add(over(Post::lost))),
            ("inspection.words_strange", self.strange),
            ("inspection.restarts", over(|post| post.sums.restarts)),
            ("inspection.flows_for_sensors", sums.kept),
            ("inspection.sensors_overflow", sums.unmatched),
            ("inspection.rule_set_requests", sums.exchanges),
            ("inspection.rule_set_unjudged", sums.unjudged),
            ("inspection.rule_set_cut", sums.cut),
            ("inspection.rules_behind", count(self.posts.iter().filter(behind).count())),
            ("inspection.rules_refused", over(|post| post.rules.refused)),
            ("inspection.applications", count(self.applications.len())),
            ("inspection.applications_overflow", self.applications.overflow()),
        ]
    }
}

impl Agent {
    /// Every second: starts an inspector for each share that has none.
    pub(super) fn look_after_inspectors(&mut self) {
        let now = self.setup.clock.monotonic();
        let by_queue = self.by_queue();
        let tap = self.setup.kernel.as_ref().map(|kernel| Arc::clone(&kernel.tap));
        let Some(keeper) = self.setup.keeper.clone().filter(|_| tap.is_some() || by_queue) else {
            return;
        };
        for post in self.inspection.posts() {
            if post.starting || post.running.is_some() || post.due > now {
                continue;
            }
            post.starting = true;
            let (share, tap, keeper) = (post.share, tap.clone(), Arc::clone(&keeper));
            let launcher = Arc::clone(&self.setup.launcher);
            let (later, heard) = (self.setup.later.clone(), self.setup.heard.clone());
            tokio::task::spawn_blocking(move || {
                let started = Inspector::start(share, &launcher, &keeper, tap, heard);
                let started = started.map_err(|error| error.to_string());
                drop(later.blocking_send(Later::Inspector(share, started)));
            });
        }
    }

    pub(super) fn inspector_started(&mut self, share: Share, started: Result<Inspector, String>) {
        let now = self.setup.clock.monotonic();
        let Some(post) = self.inspection.post(share) else { return };
        post.starting = false;
        match started {
            Ok(inspector) => {
                let (pid, number, of) = (inspector.pid(), share.number(), share.of());
                tracing::info!(inspector = pid, share = number, of, "packets are inspected");
                post.running = Some(inspector);
                post.rules.forget();
                self.tell_rules();
            }
            Err(reason) => {
                tracing::error!(
                    reason,
                    share = share.number(),
                    "no packet of a share of the pods is inspected"
                );
                post.pause(now);
            }
        }
    }

    pub(super) fn inspector_ended(&mut self, share: Share, reason: &str) {
        tracing::error!(reason, share = share.number(), "an inspector is gone; another one is started");
        self.end_inspection(Some(share));
        let now = self.setup.clock.monotonic();
        if let Some(post) = self.inspection.post(share) {
            post.pause(now);
        }
    }

    /// The inspector of a share is none any more; all of them, when the kernel is no more ours.
    pub(super) fn end_inspection(&mut self, share: Option<Share>) {
        let mut ended = Vec::new();
        for post in self.inspection.posts().filter(|post| share.is_none_or(|share| post.share == share)) {
            if let Some(inspector) = post.running.take() {
                post.lost = post.lost.saturating_add(inspector.lost());
                post.sums.ended();
                ended.push(post.share);
            }
        }
        if ended.is_empty() {
            return;
        }
        // What others tell of goes on.
        let is_over = |ifindex: u32| ended.iter().any(|share| share.has(ifindex));
        let lost = |local: &&Local| local.attached.iter().any(|one| is_over(one.ifindex));
        let addresses: HashSet<IpAddr> = (self.workloads.all().filter(lost))
            .flat_map(|local| local.workload.interfaces.iter().map(|held| held.address.addr()))
            .collect();
        self.spoken.forget(|end| addresses.contains(&end));
        self.opened.forget(is_over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_inspector_a_cpu_within_bounds_unless_the_number_is_set() {
        for (set, cpus, want) in
            [(None, 0, 1), (None, 2, 2), (None, 400, MOST), (Some(9), 2, 9), (Some(99), 2, 16)]
        {
            assert_eq!(count(set, cpus), want, "{set:?} {cpus}");
        }
    }
}
