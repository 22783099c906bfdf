//! Captures of packets: begun, listed, ended and downloaded.
//!
//! ```text
//! GET …/pcap ─► header of the file ─► piece by piece from the node ─► client
//! ```

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Response, header};
use bytes::Bytes;
use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::name::NodeId;
use nv_model::question::{Answer, CaptureEntry, CaptureQuestion, Question};
use nv_packet::filter::Filter;
use tokio::sync::mpsc;

use super::session::whose;
use crate::answer::{Described, Empty, List, One};
use crate::ask::strange;
use crate::call::Call;
use crate::dto::sniffer::{SnifferArgsData, SnifferInfo, SnifferResult};
use crate::error::{ApiError, Code};
use crate::route::Route;

/// Files that are kept when nothing is said, and at most: the contract's.
const FILES: u32 = 5;
const MAX_FILES: u32 = 50;
/// Digits of a capture's number on its node, in front of the enforcer's id.
const NUMBER: usize = 8;
/// Most bytes of a download when nothing is said: all that a capture can have.
const MAX_DOWNLOAD: u64 = 100 * 1024 * 1024;
/// Pieces that wait for a slow client.
const QUEUE: usize = 2;
/// Of a capture file in the little-endian classic format with nanoseconds and Ethernet (pcap-savefile(5)).
const FILE_HEADER: [u8; 24] = [
    0x4d, 0x3c, 0xb2, 0xa1, // nanoseconds
    2, 0, 4, 0, // version
    0, 0, 0, 0, 0, 0, 0, 0, // zone, accuracy
    0, 0, 4, 0, // longest packet: 262,144 bytes
    1, 0, 0, 0, // Ethernet
];

pub(crate) fn routes() -> Vec<Route> {
    use Category::RtPolicies as P;
    vec![
        Route::get("/v1/sniffer", P, "List captures of packets of an enforcer or a workload", list),
        Route::post("/v1/sniffer", P, "Capture packets of a workload", start),
        Route::get("/v1/sniffer/:id", P, "Show a capture of packets", get),
        Route::delete("/v1/sniffer/:id", P, "End a capture of packets and delete what it has", remove),
        Route::get("/v1/sniffer/:id/pcap", P, "Download a capture of packets", download),
        Route::plain(Method::PATCH, "/v1/sniffer/stop/:id", P, "End a capture of packets", stop),
    ]
}

/// Captures that a question is about.
async fn ask(call: &Call, node: &NodeId, about: CaptureQuestion) -> Result<Vec<CaptureEntry>, ApiError> {
    match call.ask(node, Question::Capture(about)).await? {
        Answer::Captures(captures) => Ok(captures),
        _ => Err(strange()),
    }
}

async fn list(mut call: Call) -> Result<List<SnifferInfo>, ApiError> {
    let (node, workload) = whose(&mut call, Operation::Read)?;
    let view = call.app.controller.view();
    let enforcer = view.enforcers.values().find(|enforcer| enforcer.node == node);
    let enforcer = enforcer.map(|enforcer| enforcer.id.to_string()).unwrap_or_default();
    let mut found = ask(&call, &node, CaptureQuestion::List { workload }).await?;
    found.sort_by_key(|capture| capture.started);
    Ok(List::new(found.into_iter().map(move |entry| SnifferInfo::of(entry, &enforcer))))
}

async fn start(mut call: Call, body: SnifferArgsData) -> Result<One<SnifferResult>, ApiError> {
    let given = body.sniffer.ok_or_else(|| ApiError::format("the body has no sniffer"))?;
    let (node, workload) = whose(&mut call, Operation::Write)?;
    let workload = workload.ok_or_else(|| {
        ApiError::new(Code::MoreCriteria, "name the workload whose packets are captured: f_workload")
    })?;
    let files = given.file_number.unwrap_or(FILES);
    if !(1..=MAX_FILES).contains(&files) {
        return Err(ApiError::format(format!("file_number is {files}: 1 to {MAX_FILES} files can be kept")));
    }
    let filter = given.filter.unwrap_or_default();
    filter.parse::<Filter>().map_err(|error| ApiError::format(format!("filter: {error}")))?;
    let seconds = given.duration.unwrap_or_default();
    let begun = ask(&call, &node, CaptureQuestion::Start { workload, filter, files, seconds }).await?;
    let begun = begun.into_iter().next().ok_or_else(strange)?;
    let view = call.app.controller.view();
    let enforcer = view.enforcers.values().find(|enforcer| enforcer.node == node).ok_or_else(strange)?;
    Ok(One(SnifferResult { id: format!("{}{}", begun.id, enforcer.id) }))
}

/// The capture of the path, if the caller may do `operation` to its workload.
async fn find(call: &Call, operation: Operation) -> Result<(NodeId, String, CaptureEntry), ApiError> {
    let raw = call.parameter("id");
    let unknown = || ApiError::not_found("sniffer", raw);
    let (number, enforcer) = raw.split_at_checked(NUMBER).ok_or_else(unknown)?;
    let view = call.app.controller.view();
    let found = view.enforcers.get(enforcer).ok_or_else(unknown)?;
    let all = ask(call, &found.node, CaptureQuestion::List { workload: None }).await?;
    let capture = all.into_iter().find(|capture| capture.id == number).ok_or_else(unknown)?;
    let workload = capture.workload.as_ref().and_then(|id| view.workload(id));
    match workload.and_then(|workload| workload.domain.as_ref()) {
        Some(domain) => call.need(operation, Scope::Domains(&[domain.as_str()]))?,
        // Of a workload that is gone, or of none of a namespace.
        None => call.need(operation, Scope::Cluster)?,
    }
    Ok((found.node.clone(), found.id.to_string(), capture))
}

async fn get(call: Call) -> Result<One<SnifferInfo>, ApiError> {
    let (_, enforcer, capture) = find(&call, Operation::Read).await?;
    Ok(One(SnifferInfo::of(capture, &enforcer)))
}

async fn stop(call: Call) -> Result<Empty, ApiError> {
    let (node, _, capture) = find(&call, Operation::Write).await?;
    ask(&call, &node, CaptureQuestion::Stop { id: capture.id }).await?;
    Ok(Empty)
}

async fn remove(call: Call) -> Result<Empty, ApiError> {
    let (node, _, capture) = find(&call, Operation::Write).await?;
    ask(&call, &node, CaptureQuestion::Remove { id: capture.id }).await?;
    Ok(Empty)
}

/// A file in a form, as the contract has downloads.
pub(crate) struct Download(Response<Body>);

impl crate::answer::Answer for Download {
    fn respond(self) -> Response<Body> {
        self.0
    }
    fn describe() -> Option<(&'static str, Described)> {
        let schema = <String as utoipa::PartialSchema>::schema();
        Some(("multipart/form-data", Described { schema, named: Vec::new() }))
    }
}

async fn download(call: Call) -> Result<Download, ApiError> {
    let (node, _, capture) = find(&call, Operation::Read).await?;
    let id = call.parameter("id").to_owned();
    let limit = match u64::try_from(call.query.limit) {
        Ok(0) | Err(_) => MAX_DOWNLOAD,
        Ok(limit) => limit.min(MAX_DOWNLOAD),
    };
    let boundary = format!("pcap-{}", uuid::Uuid::new_v4().simple());
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"pcap\"; filename=\"{id}.pcap\"\r\n\
         Content-Type: application/cap\r\n\r\n"
    );
    let content_type = HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}"))
        .map_err(|_never| strange())?;
    let (pieces, queue) = mpsc::channel::<Bytes>(QUEUE);
    let begin = Bytes::from([head.as_bytes(), &FILE_HEADER].concat());
    let call = Arc::new(call);
    tokio::spawn(async move {
        // The client has gone when nothing can be sent any more.
        if pieces.send(begin).await.is_err() || !records(&call, &node, &capture.id, limit, &pieces).await {
            return;
        }
        drop(pieces.send(format!("\r\n--{boundary}--\r\n").into()).await);
    });
    let body = futures::stream::unfold(queue, |mut queue| async move {
        queue.recv().await.map(|piece| (Ok::<_, Infallible>(piece), queue))
    });
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(Download(response))
}

/// All records that there are now, up to `limit` bytes. Whether the form is to be closed: one that broke off stays open,
/// so that its reader sees it.
async fn records(call: &Call, node: &NodeId, id: &str, limit: u64, pieces: &mpsc::Sender<Bytes>) -> bool {
    let (mut position, mut sent) = (0, 0_u64);
    loop {
        let about = CaptureQuestion::Read { id: id.to_owned(), position };
        match call.ask(node, Question::Capture(about)).await {
            Ok(Answer::CapturePiece { bytes, .. }) if bytes.is_empty() => return true,
            Ok(Answer::CapturePiece { position: at, bytes }) => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if sent.saturating_add(length) > limit {
                    return true;
                }
                sent = sent.saturating_add(length);
                position = at.saturating_add(length);
                if pieces.send(bytes.into()).await.is_err() {
                    return false;
                }
            }
            Ok(_) => return false,
            Err(error) => {
                tracing::warn!(?error, id, "a download of packets broke off");
                return false;
            }
        }
    }
}
