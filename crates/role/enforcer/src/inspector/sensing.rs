//! Sensors on live traffic: which messages they look at, and what a match means there.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use nv_dpi::content::Content;
use nv_dpi::event::{SessionId, Summary};
use nv_dpi::key::{Endpoints, Side};
use nv_model::application::ApplicationId;
use nv_model::mode::Mode;
use nv_model::name::GroupName;
use nv_model::rule_set::RuleSetBlob;
use nv_model::scan::BlobId;
use nv_model::sensor::{Sensor, SensorKind};
use nv_model::threat::{MAX_MESSAGE_BYTES, Severity};
use nv_model::verdict::Action;
use nv_policy::layer7::Layer7;
use nv_seclang::RuleSet;
use nv_sensor::matcher::{Limits, Match, Matcher};
use nv_sensor::rule_set::files::RuleFiles;
use nv_sensor::rule_set::transactions::{self, Named, Transactions, live_settings};
use nv_sensor::sensor::Kind;
use nv_sensor::set::SensorSet;

use super::rules::{Rules, Watched};

/// Matches of one frame; more say nothing new.
const MAX_HITS: usize = 16;
/// Messages on their way at one time. Each holds its place in every automaton, some kilobytes.
const LIMITS: Limits = Limits { messages: 1 << 12, of_session: 128 };
/// Requests on their way through rule sets at one time.
const EXCHANGES: transactions::Limits =
    transactions::Limits { exchanges: 1 << 10, of_session: 128, bytes: 64 << 20 };
/// What stands for the rule where a request could not be judged to its end.
const UNJUDGED: &str = "unjudged";
/// Encrypted behind their greeting: no sensor reads any of it.
const ENCRYPTED: [&str; 2] = ["SSL", "SSH"];

/// Rules, ready to be judged by.
#[derive(Debug)]
pub(super) struct Ready {
    set: Arc<SensorSet>,
    /// Rule sets of sensors.
    rule_sets: Vec<Named>,
    rules: Rules,
    places: HashMap<IpAddr, Place>,
}

/// Who has an address.
#[derive(Debug, Default)]
struct Place {
    /// Among [`Rules::workloads`], when it is one of this node.
    watched: Option<usize>,
    /// Among [`Rules::groups`].
    groups: Vec<u16>,
    /// Among [`Ready::rule_sets`]: those that look at what is asked here.
    rule_sets: Vec<usize>,
}

/// The sensors that were made ready last: pods come and go more often than sensors change.
#[derive(Debug, Default)]
pub(super) struct Made {
    sensors: Option<(Vec<Sensor>, Arc<SensorSet>)>,
    rule_sets: HashMap<BlobId, Arc<RuleSet>>,
}

impl Made {
    /// The rule sets of these sensors; those that were made ready before are not made again, and others are forgotten.
    fn rule_sets(&mut self, sensors: &[Sensor], blobs: &[RuleSetBlob]) -> Result<Vec<Named>, String> {
        let mut named = Vec::new();
        for (sensor, used) in sensors.iter().filter_map(|one| Some((one, one.rule_set.as_ref()?))) {
            let name = &sensor.name;
            let rules = if let Some(rules) = self.rule_sets.get(&used.blob) {
                Arc::clone(rules)
            } else {
                let blob = blobs.iter().find(|blob| blob.id() == used.blob);
                let blob = blob.ok_or_else(|| format!("the rule set of {name} did not come along"))?;
                let files = RuleFiles::unpack(blob.bytes()).map_err(|error| format!("{name}: {error}"))?;
                let rules = files.compile(live_settings());
                // What is left out was told when the rule set was handed in.
                let (rules, _refused) = rules.map_err(|error| format!("{name}: {error}"))?;
                Arc::new(rules)
            };
            self.rule_sets.insert(used.blob, Arc::clone(&rules));
            named.push(Named { sensor: name.as_str().into(), rules });
        }
        let used =
            |id: &BlobId| sensors.iter().any(|one| one.rule_set.as_ref().is_some_and(|of| of.blob == *id));
        self.rule_sets.retain(|id, _| used(id));
        Ok(named)
    }

    /// These sensors, made ready when they are others than the last.
    fn of(&mut self, sensors: &[Sensor]) -> Result<Arc<SensorSet>, String> {
        if let Some((_, set)) = self.sensors.as_ref().filter(|(held, _)| held == sensors) {
            return Ok(Arc::clone(set));
        }
        let plain: Vec<_> = sensors.iter().filter_map(nv_sensor::model::sensor).collect();
        let set = SensorSet::compile(&plain).map_err(|refused| {
            let reasons: Vec<String> = refused.iter().map(ToString::to_string).collect();
            reasons.join("; ")
        })?;
        let set = Arc::new(set);
        self.sensors = Some((sensors.to_vec(), Arc::clone(&set)));
        Ok(set)
    }
}

/// What a match means for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// It is told.
    Reported,
    /// It is told, and the connection must end: the group says so, and the workload is in Protect.
    Denied,
}

/// A rule of a sensor that holds for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) at: u64,
    pub(super) endpoints: Endpoints,
    /// The message is the client's.
    pub(super) by_client: bool,
    pub(super) kind: SensorKind,
    pub(super) sensor: String,
    pub(super) rule: String,
    pub(super) id: u32,
    /// The group that uses the sensor.
    pub(super) group: GroupName,
    pub(super) outcome: Outcome,
    /// What a rule of a rule set says of itself; empty for a sensor's own.
    pub(super) message: String,
    /// The variable that it matched.
    pub(super) variable: String,
    pub(super) severity: Severity,
}

impl Ready {
    /// Makes rules ready. Takes milliseconds a pattern, unless the sensors are those that were made last.
    ///
    /// # Errors
    /// What of them is refused, and why.
    pub(super) fn compile(rules: Rules, made: &mut Made) -> Result<Self, String> {
        let set = made.of(&rules.sensors)?;
        let rule_sets = made.rule_sets(&rules.sensors, &rules.rule_sets)?;
        let mut places: HashMap<IpAddr, Place> = HashMap::new();
        for (address, groups) in &rules.members {
            places.entry(*address).or_default().groups.clone_from(groups);
        }
        for (at, watched) in rules.workloads.iter().enumerate() {
            let uses = |named: &Named| {
                let groups = watched.groups.iter().filter_map(|at| rules.groups.get(usize::from(*at)));
                groups
                    .flat_map(|using| &using.settings)
                    .any(|(id, _)| id.kind == SensorKind::Waf && id.name.as_str() == &*named.sensor)
            };
            let used = rule_sets.iter().enumerate().filter(|(_, named)| uses(named)).map(|(at, _)| at);
            let place =
                Place { watched: Some(at), groups: watched.groups.clone(), rule_sets: used.collect() };
            places.insert(watched.address, place);
        }
        Ok(Self { set, rule_sets, rules, places })
    }

    /// Whether connections are judged by their ends as well.
    pub(super) fn by_ends(&self) -> bool {
        self.rules.by_ends
    }

    /// What of them is not about sensors.
    pub(super) fn take_layer7(&mut self) -> Layer7 {
        std::mem::take(&mut self.rules.layer7)
    }

    /// No rules at all.
    pub(super) fn nothing() -> Self {
        Self {
            set: SensorSet::empty(),
            rule_sets: Vec::new(),
            rules: Rules::default(),
            places: HashMap::new(),
        }
    }

    fn watched(&self, address: IpAddr) -> Option<&Watched> {
        self.rules.workloads.get(self.places.get(&address)?.watched?)
    }

    /// The rule sets that look at what is asked at an address.
    fn rule_sets_at(&self, address: IpAddr) -> Vec<&Named> {
        let places = self.places.get(&address).map(|place| place.rule_sets.as_slice()).unwrap_or_default();
        places.iter().filter_map(|at| self.rule_sets.get(*at)).collect()
    }

    /// Whether a sensor looks at what these two say to each other.
    fn looks_at(&self, ends: &Endpoints) -> bool {
        let uses = |address| self.watched(address).is_some_and(|watched| !watched.groups.is_empty());
        !self.places.is_empty() && (uses(ends.server.address) || uses(ends.client.address))
    }

    /// Which group makes a match count, and what it means. Data counts when it goes to or comes from somebody outside of
    /// the group, either way; attacks are in what a member is asked.
    fn outcome(
        &self,
        ends: &Endpoints,
        side: Side,
        kind: Kind,
        sensor: &str,
    ) -> Option<(GroupName, Outcome)> {
        let (client, server) = (ends.client.address, ends.server.address);
        let mut strictest: Option<(GroupName, Outcome)> = None;
        for (own, other, is_server) in [(server, client, true), (client, server, false)] {
            let Some(watched) = self.watched(own) else { continue };
            let inside = self.places.get(&other).map_or(&[][..], |place| place.groups.as_slice());
            for number in &watched.groups {
                let counts = match kind {
                    Kind::Dlp => !inside.contains(number),
                    Kind::Waf => is_server && side == Side::Client,
                };
                let Some(using) = self.rules.groups.get(usize::from(*number)).filter(|_| counts) else {
                    continue;
                };
                let is = |id: &nv_model::sensor::SensorId| {
                    nv_sensor::model::kind(id.kind) == kind && id.name.as_str() == sensor
                };
                for (_, action) in using.settings.iter().filter(|(id, _)| is(id)) {
                    let outcome = match (watched.mode, action) {
                        (Mode::Protect, Action::Deny) => Outcome::Denied,
                        (Mode::Protect, Action::Allow) | (Mode::Monitor | Mode::Discover, _) => {
                            Outcome::Reported
                        }
                    };
                    if strictest.as_ref().is_none_or(|(_, known)| *known < outcome) {
                        strictest = Some((using.group.clone(), outcome));
                    }
                }
            }
        }
        strictest
    }
}

/// What was found, before it is known whose it is.
#[derive(Debug)]
struct Found {
    endpoints: Option<Endpoints>,
    at: u64,
    side: Side,
    kind: Kind,
    sensor: String,
    rule: String,
    id: u32,
    message: String,
    variable: String,
    severity: Severity,
    /// Whether a message that a rule holds for has to end where the group says so.
    decides: bool,
}

impl From<&transactions::Found<'_>> for Found {
    fn from(found: &transactions::Found<'_>) -> Self {
        use nv_seclang::Severity as Of;
        Self {
            endpoints: Some(found.endpoints),
            at: found.at,
            // Attacks are in what is asked, also those that the answer shows.
            side: Side::Client,
            kind: Kind::Waf,
            sensor: found.sensor.to_owned(),
            rule: if found.rule == 0 { UNJUDGED.to_owned() } else { found.rule.to_string() },
            id: found.rule,
            message: line(found.message),
            variable: line(found.variable),
            severity: match found.severity {
                Some(Of::Emergency | Of::Alert | Of::Critical) => Severity::Critical,
                Some(Of::Error) => Severity::High,
                Some(Of::Warning) | None => Severity::Medium,
                Some(Of::Notice) => Severity::Low,
                Some(Of::Info | Of::Debug) => Severity::Info,
            },
            decides: found.decides,
        }
    }
}

/// One line of bounded length, without what a terminal would obey.
fn line(raw: &str) -> String {
    let mut line: String = raw.chars().map(|one| if one.is_control() { '.' } else { one }).collect();
    let end = (0..=MAX_MESSAGE_BYTES).rev().find(|end| line.is_char_boundary(*end));
    line.truncate(end.unwrap_or(0));
    line
}

impl From<&Match<'_>> for Found {
    fn from(found: &Match<'_>) -> Self {
        Self {
            endpoints: None,
            at: found.at,
            side: found.side,
            kind: found.kind,
            sensor: found.sensor.to_owned(),
            rule: found.rule.to_owned(),
            id: found.id,
            message: String::new(),
            variable: String::new(),
            severity: Severity::Medium,
            decides: true,
        }
    }
}

/// The sensors of one engine's flows.
#[derive(Debug)]
pub(super) struct Sensing {
    ready: Ready,
    matcher: Matcher,
    transactions: Transactions,
    found: Vec<Found>,
    /// Flows that would be settled if no sensor looked at them.
    kept: HashMap<SessionId, Endpoints>,
    dropped: u64,
}

impl Sensing {
    pub(super) fn new() -> Self {
        let ready = Ready::nothing();
        let matcher = Matcher::new(Arc::clone(&ready.set), LIMITS);
        let transactions = Transactions::new(EXCHANGES);
        Self { ready, matcher, transactions, found: Vec::new(), kept: HashMap::new(), dropped: 0 }
    }

    /// Judges by other rules from now on; messages on their way end under theirs. Gives back the flows that no sensor
    /// looks at any more, and of which nothing else is to be read.
    pub(super) fn replace(&mut self, ready: Ready) -> Vec<Endpoints> {
        self.matcher.replace(Arc::clone(&ready.set));
        self.ready = ready;
        let ready = &self.ready;
        let left = self.kept.extract_if(|_, ends| !ready.looks_at(ends));
        left.map(|(_, ends)| ends).collect()
    }

    /// Takes a piece of what a flow says.
    pub(super) fn content(&mut self, content: &Content<'_>) {
        if !self.ready.looks_at(&content.endpoints) {
            return;
        }
        let (ready, found, dropped) = (&self.ready, &mut self.found, &mut self.dropped);
        self.matcher.content(content, &mut |hit| {
            keep(found, dropped, Found { endpoints: Some(content.endpoints), ..hit.into() });
        });
        let sets = || ready.rule_sets_at(content.endpoints.server.address);
        self.transactions.content(content, sets, &mut |hit| keep(found, dropped, hit.into()));
    }

    /// Takes the host that a request names.
    pub(super) fn host(&mut self, session: SessionId, transaction: u32, host: &[u8]) {
        if !self.ready.rule_sets.is_empty() {
            self.transactions.host(session, transaction, host);
        }
    }

    /// A flow is over, and what it has not ended.
    pub(super) fn closed(&mut self, session: SessionId, at: u64, summary: &Summary) {
        self.kept.remove(&session);
        let (found, dropped) = (&mut self.found, &mut self.dropped);
        self.matcher.closed(session, at, &mut |hit| {
            keep(found, dropped, Found { endpoints: Some(summary.endpoints), ..hit.into() });
        });
        self.transactions.closed(session, at, &mut |hit| keep(found, dropped, hit.into()));
    }

    /// Whether a sensor reads what these two say to each other in this application.
    pub(super) fn reads(&self, ends: &Endpoints, known: Option<ApplicationId>) -> bool {
        let encrypted = known.and_then(ApplicationId::name).is_some_and(|name| ENCRYPTED.contains(&name));
        !encrypted && self.ready.looks_at(ends)
    }

    /// Nothing more would be read of a flow. Whether its bytes are wanted all the same, because a sensor reads them.
    pub(super) fn keeps(
        &mut self,
        session: SessionId,
        ends: &Endpoints,
        known: Option<ApplicationId>,
    ) -> bool {
        let keeps = self.reads(ends, known);
        if keeps {
            self.kept.insert(session, *ends);
        }
        keeps
    }

    /// What was found since this was asked last, as far as a group makes it count.
    pub(super) fn hits(&mut self) -> impl Iterator<Item = Hit> + '_ {
        let ready = &self.ready;
        self.found.drain(..).filter_map(|found| {
            let endpoints = found.endpoints?;
            let (group, outcome) = ready.outcome(&endpoints, found.side, found.kind, &found.sensor)?;
            let kind = match found.kind {
                Kind::Dlp => SensorKind::Dlp,
                Kind::Waf => SensorKind::Waf,
            };
            let outcome = if found.decides { outcome } else { Outcome::Reported };
            let by_client = found.side == Side::Client;
            let Found { at, sensor, rule, id, message, variable, severity, .. } = found;
            Some(Hit {
                at,
                endpoints,
                by_client,
                kind,
                sensor,
                rule,
                id,
                group,
                outcome,
                message,
                variable,
                severity,
            })
        })
    }

    /// Flows whose bytes go on being copied for sensors alone.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }
    /// What rule sets have done.
    pub(super) fn transactions(&self) -> transactions::Counters {
        self.transactions.counters()
    }
    /// Pieces and patterns that were not looked at, and matches that were not told, because there were too many.
    pub(super) fn dropped(&self) -> u64 {
        let counters = self.matcher.counters();
        counters.refused.saturating_add(counters.dropped).saturating_add(self.dropped)
    }
}

fn keep(found: &mut Vec<Found>, dropped: &mut u64, hit: Found) {
    if found.len() < MAX_HITS {
        found.push(hit);
    } else {
        *dropped = dropped.saturating_add(1);
    }
}

#[cfg(test)]
#[path = "sensing_tests.rs"]
mod tests;
