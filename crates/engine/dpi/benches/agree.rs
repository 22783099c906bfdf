//! What inspection tells, against tshark: `NV_CAPTURES=<folder> cargo bench -p nv-dpi --bench agree`.
//!
//! Of every capture the requests (method, host, target), the statuses and the server names are compared, as often as each is
//! told. HTTP/2 and QUIC are left out, and interim answers, of which inspection tells nothing.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops when its data is wrong"
)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use nv_dpi::OverlapPolicy;
use nv_dpi::engine::Engine;
use nv_dpi::event::{Event, Field, Kind, SessionId, Sink, Value};
use nv_dpi::limits::Limits;
use nv_packet::capture_stream::read_records;

/// Files that are shown with what differs.
const SHOWN: usize = 40;
const FILTER: &str = "http.request or http.response or tls.handshake.extensions_server_name";
const FIELDS: [&str; 6] = [
    "frame.protocols",
    "http.request.method",
    "http.host",
    "http.request.uri",
    "http.response.code",
    "tls.handshake.extensions_server_name",
];
/// Between several values of a field.
const UNIT: char = '\u{1F}';

/// How often each thing is told.
type Told = BTreeMap<(&'static str, String), usize>;

fn main() {
    let Some(folder) = std::env::var_os("NV_CAPTURES").map(PathBuf::from) else {
        println!("agree: not run, NV_CAPTURES names no folder of captures");
        return;
    };
    let only = std::env::var("NV_ONLY").unwrap_or_default();
    let mut sums: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
    let mut shown = Vec::new();
    for path in captures(&folder).iter().filter(|path| path.to_string_lossy().contains(&only)) {
        let (Some(ours), Some(theirs)) = (ours(path), theirs(path)) else { continue };
        let mut missing = Vec::new();
        for (what, count) in &theirs {
            let (all, both, _) = sums.entry(what.0).or_default();
            let agreed = (*count).min(ours.get(what).copied().unwrap_or(0));
            (*all, *both) = (*all + count, *both + agreed);
            if agreed < *count {
                missing.push(format!("-{} {}: {:?}", count - agreed, what.0, what.1));
            }
        }
        for (what, count) in &ours {
            let more = count.saturating_sub(theirs.get(what).copied().unwrap_or(0));
            sums.entry(what.0).or_default().2 += more;
            if more > 0 {
                missing.push(format!("+{more} {}: {:?}", what.0, what.1));
            }
        }
        if missing.iter().any(|line| line.starts_with('-')) {
            missing.truncate(6);
            shown.push(format!("{}\n    {}", path.display(), missing.join("\n    ")));
        }
    }
    for (what, (all, both, more)) in sums {
        let share =
            100.0 * f64::from(u32::try_from(both).unwrap()) / f64::from(u32::try_from(all.max(1)).unwrap());
        println!("{what}: {both} of {all} agree, {share:.2} %; {more} more here");
    }
    for file in shown.iter().take(SHOWN) {
        println!("{file}");
    }
}

fn captures(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Requests and answers of a file as they come.
#[derive(Default)]
struct Teller {
    requests: BTreeMap<(u64, u32), [String; 3]>,
    others: Vec<(SessionId, &'static str, String)>,
    http: HashSet<SessionId>,
    http2: HashSet<SessionId>,
    names: HashMap<SessionId, u32>,
}

impl Sink for Teller {
    fn event(&mut self, event: &Event<'_>) {
        match &event.kind {
            Kind::Identified(application) if application.name() == Some("HTTP") => {
                self.http.insert(event.session);
            }
            Kind::Identified(application) => {
                self.names.insert(event.session, application.0);
            }
            Kind::Field { transaction, field, value } => {
                let text = match value {
                    Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    Value::Number(number) => number.to_string(),
                    Value::Address(address) => address.to_string(),
                };
                let place = match field {
                    Field::Method => 0,
                    Field::Host => 1,
                    Field::Uri => 2,
                    Field::Version if text == "HTTP/2" => {
                        self.http2.insert(event.session);
                        return;
                    }
                    Field::Status => return self.others.push((event.session, "status", text)),
                    Field::Sni => return self.others.push((event.session, "server name", text)),
                    _ => return,
                };
                let request = self.requests.entry((event.session.0, *transaction)).or_default();
                if let Some(place) = request.get_mut(place)
                    && place.is_empty()
                {
                    *place = text;
                }
            }
            _ => {}
        }
    }
}

fn ours(path: &Path) -> Option<Told> {
    let mut engine = Engine::new(&Limits::default(), OverlapPolicy::First, 1);
    let mut teller = Teller::default();
    let file = std::fs::File::open(path).ok()?;
    read_records(file, |record| {
        if let Some(link) = record.link {
            engine.frame(record.at, link, record.frame, &mut teller);
        }
    })
    .ok()?;
    engine.finish(&mut teller);
    let mut told = Told::new();
    for ((session, _), request) in &teller.requests {
        if teller.http.contains(&SessionId(*session)) && !request.iter().all(String::is_empty) {
            let [method, host, target] = request;
            if !method.is_empty() {
                *told.entry(("request", format!("{method} {host} {target}"))).or_default() += 1;
            }
        }
    }
    for (session, what, text) in &teller.others {
        // QUIC has names too.
        let quic = teller.names.get(session) == Some(&3001);
        if (*what == "status" && teller.http.contains(session)) || (*what == "server name" && !quic) {
            *told.entry((what, text.clone())).or_default() += 1;
        }
    }
    Some(told)
}

fn theirs(path: &Path) -> Option<Told> {
    let mut command = Command::new("tshark");
    command.args([
        "-n",
        "-o",
        "tcp.check_checksum:FALSE",
        "-Y",
        FILTER,
        "-T",
        "fields",
        "-E",
        "occurrence=a",
    ]);
    command.args(["-E", "separator=/t", "-E"]).arg(format!("aggregator={UNIT}")).arg("-r").arg(path);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    let mut told = Told::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut fields = line.split('\t').map(|field| {
            field.split(UNIT).filter(|value| !value.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        });
        let mut next = || fields.next().unwrap_or_default();
        let protocols = next().concat();
        let (methods, hosts, targets, statuses, names) = (next(), next(), next(), next(), next());
        if protocols.contains("quic") || protocols.contains("dtls") || !protocols.contains("tcp") {
            continue;
        }
        for (at, method) in methods.iter().enumerate() {
            let host = if hosts.len() == methods.len() { hosts.get(at) } else { None };
            let host = host.map_or("", String::as_str);
            let target = targets.get(at).map_or("", String::as_str);
            *told.entry(("request", format!("{method} {host} {target}"))).or_default() += 1;
        }
        for status in statuses.into_iter().filter(|status| !status.starts_with('1') || status == "101") {
            *told.entry(("status", status)).or_default() += 1;
        }
        for name in names {
            *told.entry(("server name", name)).or_default() += 1;
        }
    }
    Some(told)
}
