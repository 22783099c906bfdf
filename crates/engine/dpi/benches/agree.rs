//! What inspection tells, against tshark: `NV_CAPTURES=<folder> cargo bench -p nv-dpi --bench agree`.
//!
//! Of every capture the requests (method, host, target), the statuses, the server names, and of DNS the questions (name and
//! type), the codes of answers and the addresses in them are compared, as often as each is told. HTTP/2 and QUIC are left
//! out, and interim answers, of which inspection tells nothing; further what lies in a tunnel that inspection does not read,
//! what is of a first fragment whose rest is missing, and a status that is no three digits. `NV_ONLY=<text>` takes the files whose path has it. tshark
//! runs once a file, for a minute at most, on two files at a time.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops when its data is wrong"
)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use nv_dpi::OverlapPolicy;
use nv_dpi::engine::Engine;
use nv_dpi::event::{Event, Field, Kind, SessionId, Sink, Value};
use nv_dpi::limits::Limits;
use nv_packet::capture_stream::read_records;

/// Files that are shown with what differs.
const SHOWN: usize = 60;
/// Processes of tshark at once, and how long one may take.
const WORKERS: usize = 2;
const SECONDS: &str = "60";
const FILTER: &str =
    "(http.request or http.response or tls.handshake.extensions_server_name or dns) and not ip.flags.mf == 1";
const FIELDS: [&str; 14] = [
    "frame.protocols",
    "http.request.method",
    "http.host",
    "http.request.uri",
    "http.response.code",
    "tls.handshake.extensions_server_name",
    "dns.flags.response",
    "dns.qry.name",
    "dns.qry.type",
    "dns.flags.rcode",
    "dns.count.answers",
    "dns.resp.type",
    "dns.a",
    "dns.aaaa",
];
/// Tunnels and links that are not read, by their names in tshark; GRE over UDP (RFC 8086) is one.
const UNREAD: [&str; 7] = [":gtp:", ":capwap", ":ayiya:", ":socks:", ":mpls:", "nflog:", ":udp:gre:"];
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
    let mut paths = captures(&folder);
    paths.retain(|path| path.to_string_lossy().contains(&only));
    let begin = Instant::now();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut told = Vec::new();
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(ours) = ours(path) {
                told.push((path, ours, theirs(path)));
            }
        }
        told
    };
    let mut all = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    all.sort_by_key(|(path, ..)| *path);
    report(&all);
    println!("{} captures in {} s", all.len(), begin.elapsed().as_secs());
}

/// Prints the shares, and what is missing.
fn report(all: &[(&PathBuf, Told, Option<Told>)]) {
    let mut sums: BTreeMap<&str, (usize, usize, usize)> = BTreeMap::new();
    let mut shown = Vec::new();
    for (path, ours, theirs) in all {
        let Some(theirs) = theirs else {
            println!("{}: tshark took more than {SECONDS} s, or failed", path.display());
            continue;
        };
        let mut missing = Vec::new();
        for (what, count) in theirs {
            let (all, both, _) = sums.entry(what.0).or_default();
            let agreed = (*count).min(ours.get(what).copied().unwrap_or(0));
            (*all, *both) = (*all + count, *both + agreed);
            if agreed < *count {
                missing.push(format!("-{} {}: {:?}", count - agreed, what.0, what.1));
            }
        }
        for (what, count) in ours {
            let more = count.saturating_sub(theirs.get(what).copied().unwrap_or(0));
            sums.entry(what.0).or_default().2 += more;
            if more > 0 {
                missing.push(format!("+{more} {}: {:?}", what.0, what.1));
            }
        }
        if missing.iter().any(|line| line.starts_with('-')) {
            missing.sort_by_key(|line| line.starts_with('+'));
            missing.truncate(12);
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
    /// Questions of DNS, and where those of the message at hand begin: an answer to an unknown question repeats it.
    questions: Vec<(String, String)>,
    message: Option<(SessionId, u32, usize)>,
    answers: Vec<(&'static str, String)>,
}

impl Teller {
    /// A field of DNS.
    fn dns(&mut self, session: SessionId, transaction: u32, field: Field, text: &str) {
        let same = self.message.filter(|(of, number, _)| (*of, *number) == (session, transaction));
        match field {
            Field::Query => {
                self.message = same.or(Some((session, transaction, self.questions.len())));
                self.questions.push((text.to_owned(), String::new()));
            }
            Field::QueryType => {
                if let Some((_, kind)) = self.questions.last_mut() {
                    text.clone_into(kind);
                }
            }
            Field::ResponseCode => {
                if let Some((.., start)) = same {
                    self.questions.truncate(start);
                }
                self.message = None;
                self.answers.push(("DNS code", text.to_owned()));
            }
            Field::Answer => self.answers.push(("DNS address", text.to_owned())),
            _ => {}
        }
    }
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
                if matches!(field, Field::Query | Field::QueryType | Field::ResponseCode | Field::Answer) {
                    return self.dns(event.session, *transaction, *field, &text);
                }
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
        teller.message = None;
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
    for (name, kind) in &teller.questions {
        // tshark writes bytes that cannot be printed as octal numbers.
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_control() { format!("\\{:03o}", u32::from(c)) } else { c.to_string() })
            .collect();
        *told.entry(("DNS question", format!("{name} {kind}"))).or_default() += 1;
    }
    for (what, text) in teller.answers {
        *told.entry((what, text)).or_default() += 1;
    }
    Some(told)
}

fn theirs(path: &Path) -> Option<Told> {
    let mut command = Command::new("timeout");
    command.args([
        SECONDS,
        "tshark",
        // Some captures keep it busy for minutes.
        "--disable-protocol",
        "vnc",
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
    // 124 is `timeout`'s; a capture that ends in the middle of a packet is tshark's 2, with all before told.
    if output.status.code() == Some(124) {
        return None;
    }
    let mut told = Told::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut fields = line.split('\t').map(|field| {
            field.split(UNIT).filter(|value| !value.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        });
        let mut next = || fields.next().unwrap_or_default();
        let protocols = next().concat();
        let (methods, hosts, targets, statuses, names) = (next(), next(), next(), next(), next());
        if UNREAD.iter().any(|unread| protocols.contains(unread)) {
            continue;
        }
        if !protocols.contains("icmp") && protocols.contains(":ip") {
            let [response, names, kinds, codes, counts, types, four, six] = std::array::from_fn(|_| next());
            dns(&Dns { response, names, kinds, codes, counts, types, four, six }, &mut told);
        }
        if protocols.contains("quic") || protocols.contains("dtls") || !protocols.contains("tcp") {
            continue;
        }
        for (at, method) in methods.iter().enumerate() {
            let host = if hosts.len() == methods.len() { hosts.get(at) } else { None };
            let host = host.map_or("", String::as_str);
            let target = targets.get(at).map_or("", String::as_str);
            *told.entry(("request", format!("{method} {host} {target}"))).or_default() += 1;
        }
        for status in statuses
            .into_iter()
            .filter(|status| status.len() == 3 && (!status.starts_with('1') || status == "101"))
        {
            *told.entry(("status", status)).or_default() += 1;
        }
        for name in names {
            *told.entry(("server name", name)).or_default() += 1;
        }
    }
    Some(told)
}

/// Fields of the messages of DNS in one frame, as tshark tells them.
struct Dns {
    response: Vec<String>,
    names: Vec<String>,
    kinds: Vec<String>,
    codes: Vec<String>,
    counts: Vec<String>,
    types: Vec<String>,
    four: Vec<String>,
    six: Vec<String>,
}

fn dns(fields: &Dns, told: &mut Told) {
    let Some(response) = fields.response.first() else { return };
    if matches!(response.as_str(), "0" | "False") {
        for (name, kind) in fields.names.iter().zip(&fields.kinds) {
            let name = if name == "<Root>" { "." } else { name };
            *told.entry(("DNS question", format!("{name} {kind}"))).or_default() += 1;
        }
        return;
    }
    for code in &fields.codes {
        *told.entry(("DNS code", code.clone())).or_default() += 1;
    }
    // Addresses of the other sections come behind those of the answers.
    let count: usize = fields.counts.iter().filter_map(|count| count.parse::<usize>().ok()).sum();
    for (kind, addresses) in [("1", &fields.four), ("28", &fields.six)] {
        let answers = fields.types.iter().take(count).filter(|other| *other == kind).count();
        for address in addresses.iter().take(answers) {
            *told.entry(("DNS address", address.clone())).or_default() += 1;
        }
    }
}
