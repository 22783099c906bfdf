//! Questions to a node and its answers.

use nv_model::application::ApplicationId;
use nv_model::port::Protocol;
use nv_model::question::{
    Answer, AnswerError, CAPTURE_PIECE, CaptureEntry, CaptureQuestion, CaptureStatus, INVENTORY_PIECE,
    MAX_METERS, MAX_WATCHED, MAX_WATCHED_NAMES, MeterEntry, MeterKind, ProcessEntry, Question, SessionEntry,
    WatchedFile,
};
use nv_model::rule::RuleId;

use crate::bounds::{
    MAX_CAPTURES, MAX_COUNTERS, MAX_PROCESSES, MAX_SESSIONS, MAX_TEXT_BYTES, MAX_WORD_BYTES,
};
use crate::enforcer::v1 as proto;
use crate::enforcer::v1::answer::Answer as AnswerKind;
use crate::enforcer::v1::answer_error::Reason;
use crate::enforcer::v1::ask::Question as QuestionKind;
use crate::enforcer::v1::ask_capture::About as AboutCapture;
use crate::error::WireError;
use crate::observation::verdict;
use crate::read::{Read, clip, clip_list, length, list, number, parse, parse_optional, required, text, time};

/// Number and question; `None` in the question's place for one of a later version, which is to be answered with
/// [`AnswerError::UnknownQuestion`].
///
/// # Errors
/// [`WireError`] for a workload that is no id.
pub fn asked(raw: proto::Ask) -> Result<(u64, Option<Question>), WireError> {
    let question = match raw.question {
        Some(QuestionKind::Processes(raw)) => Some(Question::Processes {
            workload: parse_optional("processes.workload", &raw.workload)?,
            history: raw.history,
        }),
        Some(QuestionKind::Sessions(raw)) => Some(Question::Sessions {
            workload: parse_optional("sessions.workload", &raw.workload)?,
            start: raw.start,
            limit: raw.limit,
        }),
        Some(QuestionKind::ClearSessions(raw)) => Some(Question::ClearSessions {
            workload: parse_optional("clear_sessions.workload", &raw.workload)?,
            id: raw.id,
        }),
        Some(QuestionKind::Counters(proto::AskCounters {})) => Some(Question::Counters),
        Some(QuestionKind::Capture(raw)) => capture_asked(raw)?.map(Question::Capture),
        Some(QuestionKind::Inventory(raw)) => Some(Question::Inventory {
            workload: parse_optional("inventory.workload", &raw.workload)?,
            position: raw.position,
        }),
        Some(QuestionKind::Meters(raw)) => {
            Some(Question::Meters { workload: parse_optional("meters.workload", &raw.workload)? })
        }
        Some(QuestionKind::WatchedFiles(raw)) => Some(Question::WatchedFiles {
            workload: parse_optional("watched_files.workload", &raw.workload)?,
        }),
        None => None,
    };
    Ok((raw.id, question))
}

impl From<Question> for QuestionKind {
    fn from(model: Question) -> Self {
        let id =
            |workload: Option<nv_model::name::WorkloadId>| workload.map(String::from).unwrap_or_default();
        match model {
            Question::Processes { workload, history } => {
                Self::Processes(proto::AskProcesses { workload: id(workload), history })
            }
            Question::Sessions { workload, start, limit } => {
                Self::Sessions(proto::AskSessions { workload: id(workload), start, limit })
            }
            Question::ClearSessions { workload, id: session } => {
                Self::ClearSessions(proto::AskClearSessions { workload: id(workload), id: session })
            }
            Question::Counters => Self::Counters(proto::AskCounters {}),
            Question::Capture(about) => Self::Capture(about.into()),
            Question::Inventory { workload, position } => {
                Self::Inventory(proto::AskInventory { workload: id(workload), position })
            }
            Question::Meters { workload } => Self::Meters(proto::AskMeters { workload: id(workload) }),
            Question::WatchedFiles { workload } => {
                Self::WatchedFiles(proto::AskWatchedFiles { workload: id(workload) })
            }
        }
    }
}

fn capture_asked(raw: proto::AskCapture) -> Read<Option<CaptureQuestion>> {
    Ok(match raw.about {
        Some(AboutCapture::Start(raw)) => Some(CaptureQuestion::Start {
            workload: parse("capture.start.workload", &raw.workload)?,
            filter: text("capture.start.filter", raw.filter, MAX_TEXT_BYTES)?,
            files: raw.files,
            seconds: raw.seconds,
        }),
        Some(AboutCapture::List(workload)) => {
            Some(CaptureQuestion::List { workload: parse_optional("capture.list", &workload)? })
        }
        Some(AboutCapture::Stop(id)) => {
            Some(CaptureQuestion::Stop { id: text("capture.stop", id, MAX_WORD_BYTES)? })
        }
        Some(AboutCapture::Remove(id)) => {
            Some(CaptureQuestion::Remove { id: text("capture.remove", id, MAX_WORD_BYTES)? })
        }
        Some(AboutCapture::Read(raw)) => Some(CaptureQuestion::Read {
            id: text("capture.read.id", raw.id, MAX_WORD_BYTES)?,
            position: raw.position,
        }),
        None => None,
    })
}

impl From<CaptureQuestion> for proto::AskCapture {
    fn from(model: CaptureQuestion) -> Self {
        let about = match model {
            CaptureQuestion::Start { workload, filter, files, seconds } => {
                AboutCapture::Start(proto::StartCapture { workload: workload.into(), filter, files, seconds })
            }
            CaptureQuestion::List { workload } => {
                AboutCapture::List(workload.map(String::from).unwrap_or_default())
            }
            CaptureQuestion::Stop { id } => AboutCapture::Stop(id),
            CaptureQuestion::Remove { id } => AboutCapture::Remove(id),
            CaptureQuestion::Read { id, position } => AboutCapture::Read(proto::ReadCapture { id, position }),
        };
        Self { about: Some(about) }
    }
}

/// Number of the question and what the node says to it.
///
/// # Errors
/// [`WireError`] for more than the bounds allow, or a bad entry (`processes.processes[3].verdict`).
pub fn answered(raw: proto::Answer) -> Result<(u64, Result<Answer, AnswerError>), WireError> {
    let answer = match required("answer", raw.answer)? {
        AnswerKind::Processes(raw) => Ok(Answer::Processes(
            list("processes", raw.processes, MAX_PROCESSES).map_err(|error| error.under("processes"))?,
        )),
        AnswerKind::Sessions(raw) => Ok(Answer::Sessions {
            sessions: list("sessions", raw.sessions, MAX_SESSIONS)
                .map_err(|error| error.under("sessions"))?,
            total: raw.total,
        }),
        AnswerKind::Cleared(raw) => Ok(Answer::Cleared { count: raw.count }),
        AnswerKind::Counters(raw) => {
            length("counters.counters", raw.counters.len(), MAX_COUNTERS)?;
            for name in raw.counters.keys() {
                length("counters.counters key", name.len(), MAX_WORD_BYTES)?;
            }
            Ok(Answer::Counters(raw.counters.into_iter().collect()))
        }
        AnswerKind::Captures(raw) => Ok(Answer::Captures(
            list("captures", raw.captures, MAX_CAPTURES).map_err(|error| error.under("captures"))?,
        )),
        AnswerKind::CapturePiece(raw) => {
            length("capture_piece.bytes", raw.bytes.len(), CAPTURE_PIECE)?;
            Ok(Answer::CapturePiece { position: raw.position, bytes: raw.bytes })
        }
        AnswerKind::Inventory(raw) if raw.reading => Ok(Answer::InventoryReading),
        AnswerKind::Inventory(raw) => {
            length("inventory.bytes", raw.bytes.len(), INVENTORY_PIECE)?;
            Ok(Answer::InventoryPiece { total: raw.total, position: raw.position, bytes: raw.bytes })
        }
        AnswerKind::Meters(raw) => {
            Ok(Answer::Meters(list("meters", raw.meters, MAX_METERS).map_err(|error| error.under("meters"))?))
        }
        AnswerKind::WatchedFiles(raw) => Ok(Answer::WatchedFiles(
            list("files", raw.files, MAX_WATCHED).map_err(|error| error.under("watched_files"))?,
        )),
        AnswerKind::Error(raw) => Err(match raw.reason() {
            Reason::UnknownWorkload => AnswerError::UnknownWorkload,
            Reason::UnknownCapture => AnswerError::UnknownCapture,
            Reason::UnknownQuestion => AnswerError::UnknownQuestion,
            Reason::Unspecified | Reason::Failed => {
                AnswerError::Failed(text("error.message", raw.message, MAX_TEXT_BYTES)?)
            }
        }),
    };
    Ok((raw.id, answer))
}

impl From<Result<Answer, AnswerError>> for AnswerKind {
    fn from(model: Result<Answer, AnswerError>) -> Self {
        let (reason, message) = match model {
            Ok(Answer::Processes(processes)) => {
                let processes = clip_list(processes, MAX_PROCESSES);
                return Self::Processes(proto::ProcessEntries { processes });
            }
            Ok(Answer::Sessions { sessions, total }) => {
                let sessions = clip_list(sessions, MAX_SESSIONS);
                return Self::Sessions(proto::SessionEntries { sessions, total });
            }
            Ok(Answer::Cleared { count }) => return Self::Cleared(proto::Cleared { count }),
            Ok(Answer::Counters(counters)) => {
                let counters = counters
                    .into_iter()
                    .filter(|(name, _)| name.len() <= MAX_WORD_BYTES)
                    .take(MAX_COUNTERS)
                    .collect();
                return Self::Counters(proto::Counters { counters });
            }
            Ok(Answer::Captures(captures)) => {
                return Self::Captures(proto::CaptureEntries { captures: clip_list(captures, MAX_CAPTURES) });
            }
            Ok(Answer::CapturePiece { position, bytes }) => {
                return Self::CapturePiece(proto::CapturePiece { position, bytes });
            }
            Ok(Answer::InventoryReading) => {
                return Self::Inventory(proto::InventoryPiece { reading: true, ..Default::default() });
            }
            Ok(Answer::InventoryPiece { total, position, bytes }) => {
                return Self::Inventory(proto::InventoryPiece { reading: false, total, position, bytes });
            }
            Ok(Answer::Meters(meters)) => {
                return Self::Meters(proto::MeterEntries { meters: clip_list(meters, MAX_METERS) });
            }
            Ok(Answer::WatchedFiles(files)) => {
                return Self::WatchedFiles(proto::WatchedFiles { files: clip_list(files, MAX_WATCHED) });
            }
            Err(AnswerError::UnknownCapture) => (Reason::UnknownCapture, String::new()),
            Err(AnswerError::UnknownWorkload) => (Reason::UnknownWorkload, String::new()),
            Err(AnswerError::UnknownQuestion) => (Reason::UnknownQuestion, String::new()),
            Err(AnswerError::Failed(message)) => (Reason::Failed, clip(message, MAX_TEXT_BYTES)),
            // Errors of later versions of the model.
            Err(other) => (Reason::Failed, other.to_string()),
        };
        Self::Error(proto::AnswerError { reason: reason.into(), message })
    }
}

impl TryFrom<proto::MeterEntry> for MeterEntry {
    type Error = WireError;
    fn try_from(raw: proto::MeterEntry) -> Read<Self> {
        let kind = MeterKind::parse(&raw.kind).ok_or_else(|| WireError::value("kind", "is no meter"))?;
        Ok(Self {
            kind,
            workload: parse_optional("workload", &raw.workload)?,
            peer: parse_optional("peer", &raw.peer)?,
            count: raw.count,
            span_count: raw.span_count,
            span: raw.span,
            upper: raw.upper,
            lower: raw.lower,
            idle: raw.idle,
            tap: raw.tap,
        })
    }
}

impl From<MeterEntry> for proto::MeterEntry {
    fn from(model: MeterEntry) -> Self {
        Self {
            kind: model.kind.as_str().to_owned(),
            workload: model.workload.map(String::from).unwrap_or_default(),
            peer: model.peer.map(|peer| peer.to_string()).unwrap_or_default(),
            count: model.count,
            span_count: model.span_count,
            span: model.span,
            upper: model.upper,
            lower: model.lower,
            idle: model.idle,
            tap: model.tap,
        }
    }
}

impl TryFrom<proto::WatchedFile> for WatchedFile {
    type Error = WireError;
    fn try_from(raw: proto::WatchedFile) -> Read<Self> {
        length("names", raw.names.len(), MAX_WATCHED_NAMES)?;
        let name = |name| text("names", name, MAX_TEXT_BYTES);
        Ok(Self {
            workload: parse_optional("workload", &raw.workload)?,
            path: text("path", raw.path, MAX_TEXT_BYTES)?,
            mask: raw.mask,
            is_dir: raw.is_dir,
            protect: raw.protect,
            names: raw.names.into_iter().map(name).collect::<Read<_>>()?,
        })
    }
}

impl From<WatchedFile> for proto::WatchedFile {
    fn from(model: WatchedFile) -> Self {
        let names = model.names.into_iter().take(MAX_WATCHED_NAMES);
        Self {
            workload: model.workload.map(String::from).unwrap_or_default(),
            path: clip(model.path, MAX_TEXT_BYTES),
            mask: model.mask,
            is_dir: model.is_dir,
            protect: model.protect,
            names: names.map(|name| clip(name, MAX_TEXT_BYTES)).collect(),
        }
    }
}

impl TryFrom<proto::ProcessEntry> for ProcessEntry {
    type Error = WireError;
    fn try_from(raw: proto::ProcessEntry) -> Read<Self> {
        Ok(Self {
            pid: raw.pid,
            parent: raw.parent,
            process_group: raw.process_group,
            session: raw.session,
            name: text("name", raw.name, MAX_TEXT_BYTES)?,
            path: text("path", raw.path, MAX_TEXT_BYTES)?,
            command: text("command", raw.command, MAX_TEXT_BYTES)?,
            user: text("user", raw.user, MAX_WORD_BYTES)?,
            uid: raw.uid,
            euid: raw.euid,
            state: text("state", raw.state, MAX_WORD_BYTES)?,
            started: time(raw.started),
            ended: raw.ended.map(time),
            exit: raw.exit,
            sha256: text("sha256", raw.sha256, MAX_WORD_BYTES)?,
            verdict: if raw.verdict.is_empty() { None } else { Some(verdict("verdict", &raw.verdict)?) },
        })
    }
}

impl From<ProcessEntry> for proto::ProcessEntry {
    fn from(model: ProcessEntry) -> Self {
        Self {
            pid: model.pid,
            parent: model.parent,
            process_group: model.process_group,
            session: model.session,
            name: clip(model.name, MAX_TEXT_BYTES),
            path: clip(model.path, MAX_TEXT_BYTES),
            command: clip(model.command, MAX_TEXT_BYTES),
            user: clip(model.user, MAX_WORD_BYTES),
            uid: model.uid,
            euid: model.euid,
            state: clip(model.state, MAX_WORD_BYTES),
            started: model.started.nanos(),
            ended: model.ended.map(|ended| ended.nanos()),
            exit: model.exit,
            sha256: clip(model.sha256, MAX_WORD_BYTES),
            verdict: model.verdict.map(|verdict| verdict.as_str().to_owned()).unwrap_or_default(),
        }
    }
}

impl TryFrom<proto::CaptureEntry> for CaptureEntry {
    type Error = WireError;
    fn try_from(raw: proto::CaptureEntry) -> Read<Self> {
        Ok(Self {
            id: text("id", raw.id, MAX_WORD_BYTES)?,
            workload: parse_optional("workload", &raw.workload)?,
            // A word of a later version is a capture that cannot be relied upon.
            status: CaptureStatus::parse(&raw.status).unwrap_or(CaptureStatus::Failed),
            filter: text("filter", raw.filter, MAX_TEXT_BYTES)?,
            files: raw.files,
            bytes: raw.bytes,
            packets: raw.packets,
            dropped: raw.dropped,
            started: time(raw.started),
            stopped: raw.stopped.map(time),
        })
    }
}

impl From<CaptureEntry> for proto::CaptureEntry {
    fn from(model: CaptureEntry) -> Self {
        Self {
            id: model.id,
            workload: model.workload.map(String::from).unwrap_or_default(),
            status: model.status.as_str().to_owned(),
            filter: clip(model.filter, MAX_TEXT_BYTES),
            files: model.files,
            bytes: model.bytes,
            packets: model.packets,
            dropped: model.dropped,
            started: model.started.nanos(),
            stopped: model.stopped.map(|stopped| stopped.nanos()),
        }
    }
}

impl TryFrom<proto::SessionEntry> for SessionEntry {
    type Error = WireError;
    fn try_from(raw: proto::SessionEntry) -> Read<Self> {
        Ok(Self {
            id: raw.id,
            workload: parse_optional("workload", &raw.workload)?,
            ingress: raw.ingress,
            protocol: Protocol::from_number(number("protocol", raw.protocol)?),
            client: parse("client", &raw.client)?,
            client_port: number("client_port", raw.client_port)?,
            server: parse("server", &raw.server)?,
            server_port: number("server_port", raw.server_port)?,
            forwarded_for: parse_optional("forwarded_for", &raw.forwarded_for)?,
            application: (raw.application != 0).then_some(ApplicationId(raw.application)),
            client_packets: raw.client_packets,
            client_bytes: raw.client_bytes,
            server_packets: raw.server_packets,
            server_bytes: raw.server_bytes,
            age: raw.age,
            idle: raw.idle,
            verdict: verdict("verdict", &raw.verdict)?,
            rule: RuleId(raw.rule),
        })
    }
}

impl From<SessionEntry> for proto::SessionEntry {
    fn from(model: SessionEntry) -> Self {
        Self {
            id: model.id,
            workload: model.workload.map(String::from).unwrap_or_default(),
            ingress: model.ingress,
            protocol: u32::from(model.protocol.number()),
            client: model.client.to_string(),
            client_port: u32::from(model.client_port),
            server: model.server.to_string(),
            server_port: u32::from(model.server_port),
            forwarded_for: model.forwarded_for.map(|address| address.to_string()).unwrap_or_default(),
            application: model.application.map(|application| application.0).unwrap_or_default(),
            client_packets: model.client_packets,
            client_bytes: model.client_bytes,
            server_packets: model.server_packets,
            server_bytes: model.server_bytes,
            age: model.age,
            idle: model.idle,
            verdict: model.verdict.as_str().to_owned(),
            rule: model.rule.0,
        }
    }
}
