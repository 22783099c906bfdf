//! Rules on the values of a transaction.

use std::sync::Arc;

use crate::action::{AllowScope, Change, Disruptive, Effect};
use crate::control::{Control, Engine, Processor};
use crate::operator::{Found, number};
use crate::rule::{Link, Look, Rule, Step};
use crate::ruleset::RuleSet;
use crate::store::{MAX_SET_BYTES, Store};
use crate::template::Template;
use crate::transaction::{Action, Decision, MAX_MATCHES, Match, Transaction};
use crate::variable::{List, Scalar, Selector, Source, Target};
use crate::views::{Question, Views};

/// Bytes of a message.
const MAX_MESSAGE: usize = 4096;

/// Most digits of a number that may stand in a message for others.
const MAX_SCORE_DIGITS: usize = 5;

/// Status of an answer that a rule denies without saying which.
const FORBIDDEN: u16 = 403;

impl Transaction {
    /// Runs the rules of a phase.
    pub(crate) fn run(&mut self, phase: u8) {
        self.views.next_phase();
        let rules = Arc::clone(&self.rules);
        let steps =
            rules.phases.get(usize::from(phase).saturating_sub(1)).map(Vec::as_slice).unwrap_or_default();
        if matches!(
            (self.allowed, phase),
            (Some(AllowScope::Transaction), _) | (Some(AllowScope::Request), 1 | 2)
        ) {
            return;
        }
        let mut at = 0_usize;
        while let Some(step) = steps.get(at) {
            at = at.saturating_add(1);
            let Step::Rule(place) = step else { continue };
            if self.engine == Engine::Off || self.exhausted {
                return;
            }
            let Some(rule) =
                rules.rules.get(*place).filter(|_| !self.removed.get(*place).copied().unwrap_or(false))
            else {
                continue;
            };
            if !self.spend(1) || !self.rule(&rules, *place, rule) {
                continue;
            }
            if self.decide(rule) {
                return;
            }
            match rule.skip_to {
                Some(to) => at = at.max(to),
                None => at = skip(steps, at, rule.skip),
            }
        }
        if self.allowed == Some(AllowScope::Phase) {
            self.allowed = None;
        }
    }

    /// Takes steps from the budget; false when there are not enough.
    fn spend(&mut self, steps: usize) -> bool {
        spend(&mut self.steps, &mut self.exhausted, steps)
    }

    /// Whether all links of a rule match; then it is recorded.
    fn rule(&mut self, rules: &RuleSet, place: usize, rule: &Rule) -> bool {
        if !rule.links.iter().all(|link| self.link(rules, place, rule, link)) {
            return false;
        }
        if let Some(severity) = rule.severity {
            let highest = number(self.store.scalar(Scalar::HighestSeverity));
            let severity = i64::from(severity as u8);
            if severity < highest {
                self.store.put(Scalar::HighestSeverity, severity.to_string().as_bytes());
            }
        }
        if rule.log {
            self.record(rule);
        }
        true
    }

    fn record(&mut self, rule: &Rule) {
        if self.matches.len() >= MAX_MATCHES {
            self.dropped_matches = self.dropped_matches.saturating_add(1);
            return;
        }
        let text =
            |template| String::from_utf8_lossy(&expand(&self.store, template, MAX_MESSAGE)).into_owned();
        self.matches.push(Match {
            rule: rule.id,
            phase: rule.phase,
            message: text(&rule.msg),
            title: String::from_utf8_lossy(&self.title(rule)).into_owned(),
            data: text(&rule.logdata),
            severity: rule.severity,
            tags: rule.tags.clone(),
            variable: String::from_utf8_lossy(self.store.scalar(Scalar::MatchedVarName)).into_owned(),
        });
    }

    /// What a rule says of itself, for whoever may not see what was sent.
    fn title(&self, rule: &Rule) -> Vec<u8> {
        rule.msg.expand(MAX_MESSAGE, |target, out| {
            let value = first(&self.store, target);
            let is_score = value.len() <= MAX_SCORE_DIGITS && value.iter().all(u8::is_ascii_digit);
            out.extend_from_slice(if is_score { value } else { b"*" });
        })
    }

    /// What a rule that matched decides; true when its phase ends with it.
    fn decide(&mut self, rule: &Rule) -> bool {
        let action = match &rule.disruptive {
            Disruptive::Pass | Disruptive::Block => return false,
            Disruptive::Allow(scope) => {
                if self.engine == Engine::On {
                    self.allowed = Some(*scope);
                }
                return self.engine == Engine::On;
            }
            Disruptive::Deny => Action::Deny { status: rule.status.unwrap_or(FORBIDDEN) },
            Disruptive::Drop => Action::Drop,
            Disruptive::Redirect(to) => Action::Redirect {
                status: rule.status.filter(|status| (300..400).contains(status)).unwrap_or(302),
                to: String::from_utf8_lossy(&expand(&self.store, to, MAX_MESSAGE)).into_owned(),
            },
        };
        let enforced = self.engine == Engine::On && rule.phase < 5;
        if self.decision.as_ref().is_none_or(|decision| enforced && !decision.enforced) {
            self.decision = Some(Decision { rule: rule.id, phase: rule.phase, action, enforced });
        }
        enforced
    }

    /// Whether a link matches at least one value; its effects happen at each.
    fn link(&mut self, rules: &RuleSet, place: usize, rule: &Rule, link: &Link) -> bool {
        let Some(look) = &link.look else {
            self.effects(rules, rule, link);
            return true;
        };
        let Some(targets) = usize::try_from(look.targets).ok().and_then(|at| rules.targets.get(at)) else {
            return false;
        };
        let mut matched: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut before = None;
        for chain_at in &look.chains {
            let Some(chain) = usize::try_from(*chain_at).ok().and_then(|at| rules.chains.get(at)) else {
                continue;
            };
            let except = self.removed_targets.get(&place).map(Vec::as_slice).unwrap_or_default();
            let question = Question {
                targets,
                targets_at: look.targets,
                chain,
                chain_at: *chain_at,
                finders: &rules.finders,
                changes: look.changes,
                except,
            };
            let (steps, exhausted) = (&mut self.steps, &mut self.exhausted);
            let group = self.views.group(&self.store, &question, &mut |count| spend(steps, exhausted, count));
            let slot = look.slot.filter(|_| group.filtered);
            let previous = before.replace(Arc::clone(&group));
            if slot.is_some_and(|slot| !look.operator.negated && !group.union.has(slot)) {
                continue;
            }
            for (at, member) in group.members.iter().enumerate() {
                // With `multiMatch` a value counts again only when it has changed.
                let last = previous.as_ref().and_then(|group| group.members.get(at));
                if last.is_some_and(|last| last.content == member.content) {
                    continue;
                }
                let found = if slot.is_none_or(|slot| self.views.has(member.content, slot)) {
                    self.find(look, member.content, link.capture)
                } else {
                    None
                };
                if found.is_some() == look.operator.negated {
                    continue;
                }
                let name = Views::name(&self.store, targets, *member);
                let value = self.views.bytes(member.content).to_vec();
                self.store.put(Scalar::MatchedVar, &value);
                self.store.put(Scalar::MatchedVarName, &name);
                if link.capture
                    && let Some(found) = found
                {
                    self.capture(found);
                }
                self.effects(rules, rule, link);
                matched.push((name, value));
                if self.exhausted {
                    break;
                }
            }
        }
        if matched.is_empty() {
            return false;
        }
        self.store.clear(List::Matched);
        for (name, value) in matched {
            self.store.push(List::Matched, name, value);
        }
        true
    }

    fn find(&mut self, look: &Look, content: u32, capture: bool) -> Option<Found> {
        let value = self.views.bytes(content);
        if !spend(&mut self.steps, &mut self.exhausted, value.len().saturating_add(1)) {
            return None;
        }
        let store = &self.store;
        look.operator.find(value, capture, &mut |template| expand(store, template, MAX_SET_BYTES))
    }

    /// Groups of a pattern become `TX:0` to `TX:9`.
    fn capture(&mut self, found: Found) {
        let mut groups = found.into_iter();
        for digit in b'0'..=b'9' {
            match groups.next() {
                Some(group) => self.store.set(List::Tx, &[digit], group),
                None => self.store.remove(List::Tx, &[digit]),
            }
        }
    }

    fn effects(&mut self, rules: &RuleSet, rule: &Rule, link: &Link) {
        if link.effects.is_empty() {
            return;
        }
        self.store.put(Scalar::RuleId, rule.id.to_string().as_bytes());
        if let Some(severity) = rule.severity {
            self.store.put(Scalar::RuleSeverity, (severity as u8).to_string().as_bytes());
        }
        let message = expand(&self.store, &rule.msg, MAX_MESSAGE);
        self.store.put(Scalar::RuleMsg, &message);
        for effect in &link.effects {
            match effect {
                Effect::Variable { list, name, change } => self.change(*list, name, change),
                Effect::Control(control) => self.control(rules, control),
            }
        }
    }

    fn change(&mut self, list: List, name: &Template, change: &Change) {
        let text = |template: &Template| expand(&self.store, template, MAX_SET_BYTES);
        let name = text(name);
        let sum = |amount: &Template, negative: bool| {
            let before = self.store.variable(list, &name).map_or(0, number);
            let amount = number(&text(amount));
            let sum = if negative { before.saturating_sub(amount) } else { before.saturating_add(amount) };
            sum.to_string().into_bytes()
        };
        let value = match change {
            Change::Set(value) => text(value),
            Change::Add(amount) => sum(amount, false),
            Change::Subtract(amount) => sum(amount, true),
            Change::Remove => {
                self.store.remove(list, &name);
                return;
            }
        };
        self.store.set(list, &name, value);
    }

    fn control(&mut self, rules: &RuleSet, control: &Control) {
        match control {
            Control::Engine(engine) => self.engine = *engine,
            Control::RequestBodyAccess(on) => self.request_body = *on,
            Control::ResponseBodyAccess(on) => self.response_body = *on,
            Control::ForceRequestBody(on) => self.force_body = *on,
            Control::Processor(processor) => {
                self.processor = Some(*processor);
                self.store.put(Scalar::ReqbodyProcessor, Processor::name(*processor).as_bytes());
            }
            Control::Remove(which) => {
                self.removed.resize(rules.rules.len(), false);
                for (removed, rule) in self.removed.iter_mut().zip(&rules.rules) {
                    *removed |= which.takes(rule.id, &rule.tags, rule.msg.plain().unwrap_or_default());
                }
            }
            Control::RemoveTarget(which, target) => {
                for (place, rule) in rules.rules.iter().enumerate() {
                    if which.takes(rule.id, &rule.tags, rule.msg.plain().unwrap_or_default()) {
                        let targets = self.removed_targets.entry(place).or_default();
                        if !targets.contains(target) {
                            targets.push(Target::clone(target));
                        }
                    }
                }
            }
            Control::Nothing => {}
        }
    }
}

/// Where a phase goes on when `count` rules are passed over.
fn skip(steps: &[Step], from: usize, count: usize) -> usize {
    if count == 0 {
        return from;
    }
    let rules = steps.iter().enumerate().skip(from).filter(|(_, step)| matches!(step, Step::Rule(_)));
    rules.map(|(at, _)| at).nth(count).unwrap_or(steps.len())
}

fn spend(left: &mut u64, exhausted: &mut bool, steps: usize) -> bool {
    let rest = u64::try_from(steps).ok().and_then(|steps| left.checked_sub(steps));
    *left = rest.unwrap_or(0);
    *exhausted |= rest.is_none();
    rest.is_some()
}

/// A text with its macros filled in.
pub(crate) fn expand(store: &Store, template: &Template, most: usize) -> Vec<u8> {
    template.expand(most, |target, out| out.extend_from_slice(first(store, target)))
}

/// The first value that a macro names.
fn first<'s>(store: &'s Store, target: &Target) -> &'s [u8] {
    for source in target.sources {
        match (&target.selector, source) {
            (Selector::Name(name), Source::Values(list)) if list.changes() && *list != List::Matched => {
                if let Some(value) = store.variable(*list, name) {
                    return value;
                }
            }
            (selector, source) => {
                let found = (0..store.count(*source)).find(|at| selector.takes(store.name(*source, *at)));
                if let Some(at) = found {
                    return store.value(*source, at);
                }
            }
        }
    }
    &[]
}
