//! File rules and what was done to files.

use nv_model::file::{FileBehavior, FileOperation, FileRule};
use nv_model::name::GroupName;
use nv_model::observation::FileObservation;

use crate::bounds::{MAX_FILE_APPLICATIONS, MAX_TEXT_BYTES, MAX_WORD_BYTES};
use crate::enforcer::v1 as proto;
use crate::error::WireError;
use crate::inventory::{mechanism, mechanism_word};
use crate::observation::verdict;
use crate::policy::{origin, origin_number};
use crate::read::{Read, clip, length, parse, parse_optional, text, time};

fn behavior(path: &str, raw: i32) -> Read<FileBehavior> {
    match raw {
        1 => Ok(FileBehavior::MonitorChange),
        2 => Ok(FileBehavior::BlockAccess),
        _ => Err(WireError::value(path, "is no known behavior")),
    }
}
const fn behavior_number(behavior: FileBehavior) -> i32 {
    match behavior {
        FileBehavior::MonitorChange => proto::FileBehavior::MonitorChange as i32,
        FileBehavior::BlockAccess => proto::FileBehavior::BlockAccess as i32,
    }
}

fn operation(path: &str, raw: i32) -> Read<FileOperation> {
    let index = usize::try_from(raw).ok().and_then(|raw| raw.checked_sub(1));
    index
        .and_then(|index| FileOperation::ALL.get(index).copied())
        .ok_or_else(|| WireError::value(path, "is no known operation"))
}
const fn operation_number(operation: FileOperation) -> i32 {
    match operation {
        FileOperation::Open => proto::FileOperation::Open as i32,
        FileOperation::Modify => proto::FileOperation::Modify as i32,
        FileOperation::Create => proto::FileOperation::Create as i32,
        FileOperation::Delete => proto::FileOperation::Delete as i32,
        FileOperation::Rename => proto::FileOperation::Rename as i32,
        FileOperation::Link => proto::FileOperation::Link as i32,
        FileOperation::Truncate => proto::FileOperation::Truncate as i32,
        FileOperation::Attribute => proto::FileOperation::Attribute as i32,
        FileOperation::MountOver => proto::FileOperation::MountOver as i32,
    }
}

/// A line of an effective profile: the group that it comes from, and the line.
pub(crate) struct Line(pub(crate) (GroupName, FileRule));

impl TryFrom<proto::FileRule> for Line {
    type Error = WireError;
    fn try_from(raw: proto::FileRule) -> Read<Self> {
        length("applications", raw.applications.len(), MAX_FILE_APPLICATIONS)?;
        let applications =
            raw.applications.into_iter().map(|path| text("applications", path, MAX_TEXT_BYTES));
        let rule = FileRule {
            filter: parse("filter", &raw.filter)?,
            recursive: raw.recursive,
            behavior: behavior("behavior", raw.behavior)?,
            applications: applications.collect::<Read<_>>()?,
            origin: origin("origin", raw.origin)?,
            created: time(raw.created),
            modified: time(raw.modified),
        };
        Ok(Self((parse("group", &raw.group)?, rule)))
    }
}

impl From<Line> for proto::FileRule {
    fn from(Line((group, rule)): Line) -> Self {
        Self {
            group: group.into(),
            filter: rule.filter.into(),
            recursive: rule.recursive,
            behavior: behavior_number(rule.behavior),
            applications: rule.applications,
            origin: origin_number(rule.origin),
            created: rule.created.nanos(),
            modified: rule.modified.nanos(),
        }
    }
}

impl TryFrom<proto::FileObservation> for FileObservation {
    type Error = WireError;
    fn try_from(raw: proto::FileObservation) -> Read<Self> {
        if raw.count == 0 {
            return Err(WireError::range("count", raw.count));
        }
        Ok(Self {
            workload: parse_optional("workload", &raw.workload)?,
            group: parse("group", &raw.group)?,
            rule_group: parse("rule_group", &raw.rule_group)?,
            filter: parse("filter", &raw.filter)?,
            behavior: behavior("behavior", raw.behavior)?,
            path: text("path", raw.path, MAX_TEXT_BYTES)?,
            operation: operation("operation", raw.operation)?,
            pid: raw.pid,
            process: text("process", raw.process, MAX_TEXT_BYTES)?,
            process_path: text("process_path", raw.process_path, MAX_TEXT_BYTES)?,
            command: text("command", raw.command, MAX_TEXT_BYTES)?,
            real_uid: raw.real_uid,
            effective_uid: raw.effective_uid,
            user: text("user", raw.user, MAX_WORD_BYTES)?,
            parent_name: text("parent_name", raw.parent_name, MAX_TEXT_BYTES)?,
            parent_path: text("parent_path", raw.parent_path, MAX_TEXT_BYTES)?,
            verdict: verdict("verdict", &raw.verdict)?,
            mechanism: mechanism("mechanism", &raw.mechanism)?,
            decision_nanos: raw.decision_nanos,
            count: raw.count,
            at: time(raw.at),
        })
    }
}

impl From<FileObservation> for proto::FileObservation {
    fn from(model: FileObservation) -> Self {
        let free = |raw| clip(raw, MAX_TEXT_BYTES);
        Self {
            workload: model.workload.map(String::from).unwrap_or_default(),
            group: model.group.into(),
            rule_group: model.rule_group.into(),
            filter: model.filter.into(),
            behavior: behavior_number(model.behavior),
            path: free(model.path),
            operation: operation_number(model.operation),
            pid: model.pid,
            process: free(model.process),
            process_path: free(model.process_path),
            command: free(model.command),
            real_uid: model.real_uid,
            effective_uid: model.effective_uid,
            user: clip(model.user, MAX_WORD_BYTES),
            parent_name: free(model.parent_name),
            parent_path: free(model.parent_path),
            verdict: model.verdict.as_str().to_owned(),
            mechanism: mechanism_word(model.mechanism),
            decision_nanos: model.decision_nanos,
            count: model.count.max(1),
            at: model.at.nanos(),
        }
    }
}
