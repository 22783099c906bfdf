//! Files into a rule set.

use std::sync::Arc;

use hashbrown::HashSet;

use crate::action::{Actions, Disruptive};
use crate::control::Which;
use crate::error::{CompileError, Reason, Refused};
use crate::finder::FindersBuilder;
use crate::operator::Operator;
use crate::operator::expression::Made;
use crate::rule::{Link, Look, Rule, Step};
use crate::ruleset::{File, RuleSet};
use crate::settings::Settings;
use crate::transform::Transform;
use crate::variable::Targets;
use crate::words;

/// Bytes of all files.
const MAX_BYTES: usize = 64 << 20;

/// Rules of a set.
const MAX_RULES: usize = 50_000;

/// Links of a rule.
const MAX_LINKS: usize = 32;

/// A rule as read, before its targets are final: later directives may change them.
struct Draft {
    file: usize,
    line: usize,
    links: Vec<DraftLink>,
}

struct DraftLink {
    targets: Option<Targets>,
    operator: Option<Operator>,
    actions: Actions,
}

enum Place {
    Rule(Box<Draft>),
    Marker(Box<[u8]>),
}

/// What is being read.
struct Reading<'f> {
    files: &'f [File<'f>],
    settings: Settings,
    /// The default action of each phase.
    defaults: [Actions; 5],
    places: Vec<Place>,
    rules: usize,
    ids: HashSet<u32, foldhash::fast::RandomState>,
    refused: Vec<Refused>,
    made: Arc<Made>,
    /// A chain that is not at its end; none of it counts once a link is refused.
    open: Option<Result<Box<Draft>, ()>>,
}

pub(crate) fn compile(
    files: &[File<'_>],
    settings: Settings,
) -> Result<(RuleSet, Vec<Refused>), CompileError> {
    let bytes = files.iter().map(|file| file.text.len()).fold(0_usize, usize::saturating_add);
    if bytes > MAX_BYTES {
        return Err(CompileError::Size { bytes, most: MAX_BYTES });
    }
    let mut reading = Reading {
        files,
        settings,
        defaults: Default::default(),
        places: Vec::new(),
        rules: 0,
        ids: HashSet::default(),
        refused: Vec::new(),
        made: Arc::default(),
        open: None,
    };
    for (at, file) in files.iter().enumerate().filter(|(_, file)| file.is_rules()) {
        for directive in words::directives(file.text) {
            let line = directive.line;
            let result = directive.words.and_then(|words| reading.directive(at, line, &words));
            if let Err((rule, reason)) = result.map_err(|reason| (reading.rule_at_hand(), reason)) {
                reading.refuse(at, line, rule, reason);
            }
            if reading.rules > MAX_RULES {
                return Err(CompileError::Rules { most: MAX_RULES });
            }
        }
        if let Some(Ok(draft)) = reading.open.take() {
            let id = draft.links.first().and_then(|link| link.actions.id);
            reading.refuse(at, draft.line, id, Reason::Chain("not closed at the end of the file"));
        }
    }
    reading.finish()
}

impl Reading<'_> {
    fn refuse(&mut self, file: usize, line: usize, rule: Option<u32>, reason: Reason) {
        let file = self.files.get(file).map(|file| file.name.to_owned()).unwrap_or_default();
        self.refused.push(Refused { file, line, rule, reason });
    }

    /// The id of the chain that is open.
    fn rule_at_hand(&self) -> Option<u32> {
        self.open.as_ref()?.as_ref().ok()?.links.first()?.actions.id
    }

    fn directive(&mut self, file: usize, line: usize, words: &[Vec<u8>]) -> Result<(), Reason> {
        let Some((name, rest)) = words.split_first() else { return Ok(()) };
        let name = String::from_utf8_lossy(name).into_owned();
        let word = |at: usize, what| rest.get(at).map(Vec::as_slice).ok_or(Reason::Missing(what));
        match name.to_ascii_lowercase().as_str() {
            "secrule" => {
                let actions = rest.get(2).map(Vec::as_slice).unwrap_or_default();
                self.rule(file, line, Some((word(0, "a variable")?, word(1, "an operator")?)), actions)
            }
            "secaction" => self.rule(file, line, None, word(0, "an action")?),
            "secmarker" => {
                self.places.push(Place::Marker(word(0, "a name")?.into()));
                Ok(())
            }
            "secdefaultaction" => {
                let actions = Actions::parse(word(0, "an action")?)?;
                let phase = actions.phase.ok_or(Reason::Missing("a phase"))?;
                if let Some(place) = self.defaults.get_mut(usize::from(phase).saturating_sub(1)) {
                    *place = actions;
                }
                Ok(())
            }
            "secruleremovebyid" => {
                let which = Which::ids(&rest.join(&b' '))?;
                self.remove(&which);
                Ok(())
            }
            "secruleremovebytag" => {
                let which = Which::tag(word(0, "a tag")?)?;
                self.remove(&which);
                Ok(())
            }
            "secruleremovebymsg" => {
                let which = Which::message(word(0, "a message")?)?;
                self.remove(&which);
                Ok(())
            }
            "secruleupdatetargetbyid" => {
                // `id:1` is the second link of a chain.
                let id = word(0, "an id")?;
                let (id, link) = match id.iter().position(|byte| *byte == b':') {
                    Some(at) => (id.get(..at).unwrap_or_default(), id.get(at.saturating_add(1)..)),
                    None => (id, None),
                };
                let link = link.map_or(0, crate::operator::number);
                self.update_targets(&Which::ids(id)?, link, rest)
            }
            "secruleupdatetargetbytag" => self.update_targets(&Which::tag(word(0, "a tag")?)?, 0, rest),
            "secruleupdatetargetbymsg" => {
                self.update_targets(&Which::message(word(0, "a message")?)?, 0, rest)
            }
            "secruleupdateactionbyid" => {
                let which = Which::ids(word(0, "an id")?)?;
                self.update_actions(&which, &Actions::parse(word(1, "an action")?)?);
                Ok(())
            }
            _ => self.settings.take(&name, rest).unwrap_or(Err(Reason::Directive(name))),
        }
    }

    /// A rule, or a link of the chain that is open.
    fn rule(
        &mut self,
        file: usize,
        line: usize,
        looks: Option<(&[u8], &[u8])>,
        actions: &[u8],
    ) -> Result<(), Reason> {
        let open = self.open.take();
        let first = open.is_none();
        let link = self.link(looks, actions);
        let more = match &link {
            Ok(link) => link.actions.chain,
            // Whether the chain goes on must be known to leave all of it out.
            Err(_) => Actions::parse(actions).map_or_else(|_| has_chain(actions), |actions| actions.chain),
        };
        let fail = |reading: &mut Self, id: Option<u32>, reason: Reason| {
            reading.refuse(file, line, id, reason);
            if more {
                reading.open = Some(Err(()));
            }
            Ok(())
        };
        let mut draft = match open {
            Some(Ok(draft)) => draft,
            // The rest of a chain that was refused goes with it.
            Some(Err(())) => {
                if more {
                    self.open = Some(Err(()));
                }
                return Ok(());
            }
            None => Box::new(Draft { file, line, links: Vec::new() }),
        };
        let first_id = draft.links.first().and_then(|link| link.actions.id);
        let link = match link {
            Ok(link) => link,
            Err(reason) => {
                let id = first_id.or_else(|| id_of(actions));
                return fail(self, id, reason);
            }
        };
        if first {
            let Some(id) = link.actions.id else { return fail(self, None, Reason::NoId) };
            if !self.ids.insert(id) {
                return fail(self, Some(id), Reason::Twice);
            }
        }
        draft.links.push(link);
        if draft.links.len() > MAX_LINKS {
            return fail(self, first_id, Reason::Chain("too long"));
        }
        if more {
            self.open = Some(Ok(draft));
        } else {
            self.rules = self.rules.saturating_add(1);
            self.places.push(Place::Rule(draft));
        }
        Ok(())
    }

    fn link(&self, looks: Option<(&[u8], &[u8])>, actions: &[u8]) -> Result<DraftLink, Reason> {
        let actions = Actions::parse(actions)?;
        let Some((targets, operator)) = looks else {
            return Ok(DraftLink { targets: None, operator: None, actions });
        };
        let file = |name: &str| {
            // A name may have a path, which is the caller's; files are told apart by their last part.
            let last = name.rsplit('/').next().unwrap_or(name);
            let found = self.files.iter().find(|file| file.name == name);
            let found = found.or_else(|| self.files.iter().find(|file| file.last_part() == last));
            found.map(|file| file.text)
        };
        let operator = Operator::compile(operator, actions.capture, &self.made, &file)?;
        Ok(DraftLink { targets: Some(Targets::parse(targets)?), operator: Some(operator), actions })
    }

    fn drafts(&mut self) -> impl Iterator<Item = &mut Draft> {
        self.places.iter_mut().filter_map(|place| match place {
            Place::Rule(draft) => Some(draft.as_mut()),
            Place::Marker(_) => None,
        })
    }

    fn remove(&mut self, which: &Which) {
        self.places.retain(|place| match place {
            Place::Rule(draft) => !draft.is(which),
            Place::Marker(_) => true,
        });
    }

    /// `words`: which rules, what is added, and what it stands for if it replaces something.
    fn update_targets(&mut self, which: &Which, link: i64, words: &[Vec<u8>]) -> Result<(), Reason> {
        let added = words.get(1).ok_or(Reason::Missing("a variable"))?;
        let replaced = words.get(2).map(|word| Targets::parse(word)).transpose()?;
        for draft in self.drafts().filter(|draft| draft.is(which)) {
            let link = usize::try_from(link).ok().and_then(|link| draft.links.get_mut(link));
            let Some(targets) = link.and_then(|link| link.targets.as_mut()) else { continue };
            if let Some(replaced) = &replaced {
                targets.look.retain(|target| !replaced.look.contains(target));
            }
            targets.extend(added)?;
        }
        Ok(())
    }

    fn update_actions(&mut self, which: &Which, update: &Actions) {
        for draft in self.drafts().filter(|draft| draft.is(which)) {
            let Some(actions) = draft.links.first_mut().map(|link| &mut link.actions) else { continue };
            let update = update.clone();
            actions.disruptive = update.disruptive.or_else(|| actions.disruptive.take());
            actions.status = update.status.or(actions.status);
            actions.msg = update.msg.or_else(|| actions.msg.take());
            actions.logdata = update.logdata.or_else(|| actions.logdata.take());
            actions.severity = update.severity.or(actions.severity);
            actions.log = update.log.or(actions.log);
            if update.resets {
                actions.transforms.clear();
                actions.resets = true;
            }
            actions.transforms.extend(update.transforms);
            actions.tags.extend(update.tags);
            actions.effects.extend(update.effects);
        }
    }

    /// Everything is read: tables are built, and places that rules skip to are found.
    fn finish(self) -> Result<(RuleSet, Vec<Refused>), CompileError> {
        let mut refused = self.refused;
        let mut tables = Tables::default();
        let mut rules = Vec::new();
        let mut phases: [Vec<Step>; 5] = Default::default();
        let mut skips: Vec<(usize, usize, Box<[u8]>)> = Vec::new();
        for place in self.places {
            match place {
                Place::Marker(name) => {
                    for steps in &mut phases {
                        steps.push(Step::Marker(name.clone()));
                    }
                }
                Place::Rule(draft) => {
                    let phase = draft.links.first().and_then(|link| link.actions.phase).unwrap_or(2);
                    let phase_at = usize::from(phase).saturating_sub(1);
                    let nothing = Actions::default();
                    let default = self.defaults.get(phase_at).unwrap_or(&nothing);
                    let (file, line) = (draft.file, draft.line);
                    let skip_after = draft.links.first().and_then(|link| link.actions.skip_after.clone());
                    let Some(rule) = tables.rule(*draft, phase, default) else {
                        let file = self.files.get(file).map(|file| file.name.to_owned()).unwrap_or_default();
                        refused.push(Refused { file, line, rule: None, reason: Reason::NoId });
                        continue;
                    };
                    if let Some(steps) = phases.get_mut(phase_at) {
                        if let Some(name) = skip_after {
                            skips.push((rules.len(), steps.len(), name));
                        }
                        steps.push(Step::Rule(rules.len()));
                    }
                    rules.push(rule);
                }
            }
        }
        for (rule, from, name) in skips {
            let Some(rule) = rules.get_mut(rule) else { continue };
            let steps =
                phases.get(usize::from(rule.phase).saturating_sub(1)).map(Vec::as_slice).unwrap_or_default();
            let marker = steps
                .iter()
                .skip(from)
                .position(|step| matches!(step, Step::Marker(known) if *known == name));
            // A marker that is not there is behind everything.
            rule.skip_to = Some(marker.map_or(steps.len(), |at| from.saturating_add(at)));
        }
        let finders = tables.finders.build()?;
        let (chains, targets) = (tables.chains, tables.targets);
        Ok((RuleSet { rules, phases, chains, finders, targets, settings: self.settings }, refused))
    }
}

impl Draft {
    fn is(&self, which: &Which) -> bool {
        let Some(actions) = self.links.first().map(|link| &link.actions) else { return false };
        let message = actions.msg.as_ref().and_then(|msg| msg.plain()).unwrap_or_default();
        which.takes(actions.id.unwrap_or(0), &actions.tags, message)
    }
}

/// Whether actions that cannot be read have `chain` among them.
fn has_chain(actions: &[u8]) -> bool {
    actions.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(b"chain"))
}

/// The id in actions that cannot be read.
fn id_of(actions: &[u8]) -> Option<u32> {
    let part = actions.split(|byte| *byte == b',').find_map(|part| part.trim_ascii().strip_prefix(b"id:"))?;
    std::str::from_utf8(part).ok()?.trim().parse().ok()
}

/// What rules share.
#[derive(Default)]
struct Tables {
    chains: Vec<Vec<Transform>>,
    finders: FindersBuilder,
    targets: Vec<Targets>,
}

impl Tables {
    fn rule(&mut self, draft: Draft, phase: u8, default: &Actions) -> Option<Rule> {
        let mut links = Vec::new();
        let mut head: Option<Actions> = None;
        for link in draft.links {
            let mut actions = link.actions;
            let transforms = if actions.resets {
                std::mem::take(&mut actions.transforms)
            } else {
                default.transforms.iter().chain(&actions.transforms).copied().collect()
            };
            let look = link.targets.zip(link.operator).map(|(targets, operator)| Look {
                changes: targets.change(),
                slot: operator.literals.as_ref().and_then(|literals| self.finders.add(&targets, literals)),
                targets: self.targets(targets),
                chains: self.chains(&transforms, actions.multi_match),
                operator,
            });
            links.push(Link {
                look,
                capture: actions.capture,
                effects: std::mem::take(&mut actions.effects),
            });
            head.get_or_insert(actions);
        }
        let head = head?;
        let fallback = match &default.disruptive {
            None | Some(Disruptive::Block) => Disruptive::Pass,
            Some(action) => action.clone(),
        };
        let disruptive = match head.disruptive {
            Some(Disruptive::Block) | None => fallback,
            Some(action) => action,
        };
        Some(Rule {
            id: head.id?,
            phase,
            links,
            disruptive,
            status: head.status.or(default.status),
            msg: head.msg.unwrap_or_default(),
            logdata: head.logdata.unwrap_or_default(),
            severity: head.severity,
            tags: head.tags,
            log: head.log.or(default.log).unwrap_or(true),
            skip: head.skip,
            skip_to: None,
        })
    }

    fn targets(&mut self, targets: Targets) -> u32 {
        let at = self.targets.iter().position(|known| *known == targets).unwrap_or_else(|| {
            self.targets.push(targets);
            self.targets.len().saturating_sub(1)
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// The chain of transformations; with `multi_match` also each of its beginnings.
    fn chains(&mut self, transforms: &[Transform], multi_match: bool) -> Vec<u32> {
        let shortest = if multi_match { 0 } else { transforms.len() };
        let mut places = Vec::new();
        for length in shortest..=transforms.len() {
            let transforms = transforms.get(..length).unwrap_or_default();
            let place = self.chains.iter().position(|known| known == transforms).unwrap_or_else(|| {
                self.chains.push(transforms.to_vec());
                self.chains.len().saturating_sub(1)
            });
            places.push(u32::try_from(place).unwrap_or(u32::MAX));
        }
        places
    }
}
