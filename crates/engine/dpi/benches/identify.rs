//! The applications that inspection tells, against nDPI's labels: `NV_LABELLED=<folder> cargo bench -p nv-dpi --bench
//! identify`, where the folder has nDPI's `pcap` and `result` (its `tests/cfgs/default`).
//!
//! Only flows that nDPI knows by their bytes (`Confidence: DPI`) count. Labels are agreement, not truth: where both differ,
//! look.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops when its data is wrong"
)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use nv_dpi::OverlapPolicy;
use nv_dpi::engine::Engine;
use nv_dpi::event::{Event, Kind, Sink};
use nv_dpi::key::Transport;
use nv_dpi::limits::Limits;
use nv_packet::capture_stream::read_records;

/// nDPI's names and ours.
const LABELS: &[(&str, &str)] = &[
    ("AMQP", "AMQP"),
    ("ApacheKafka", "Kafka"),
    ("Cassandra", "Cassandra"),
    ("DHCP", "DHCP"),
    ("DNS", "DNS"),
    ("Elasticsearch", "ElasticSearch"),
    ("gRPC", "GRPC"),
    ("HTTP", "HTTP"),
    ("HTTP2", "HTTP"),
    ("HTTP_Connect", "HTTP"),
    ("HTTP_Proxy", "HTTP"),
    ("IMAPS", "SSL"),
    ("Kafka", "Kafka"),
    ("Kerberos", "Kerberos"),
    ("LDAP", "LDAP"),
    ("LLMNR", "DNS"),
    ("MDNS", "DNS"),
    ("Memcached", "Memcached"),
    ("MongoDB", "MongoDB"),
    ("MQTT", "MQTT"),
    ("MsSQL-TDS", "MSSQL"),
    ("MySQL", "MySQL"),
    ("Nats", "NATS"),
    ("NTP", "NTP"),
    ("Oracle", "Oracle"),
    ("POPS", "SSL"),
    ("PostgreSQL", "PostgreSQL"),
    ("QUIC", "QUIC"),
    ("Radius", "Radius"),
    ("Redis", "Redis"),
    ("RESP", "Redis"),
    ("RTSP", "RTSP"),
    ("SIP", "SIP"),
    ("SMBv1", "SMB"),
    ("SMBv23", "SMB"),
    ("SMTP", "SMTP"),
    ("SMTPS", "SMTP"),
    ("SSH", "SSH"),
    ("Syslog", "Syslog"),
    ("TFTP", "TFTP"),
    ("TLS", "SSL"),
    ("WebSocket", "HTTP"),
];

/// Labels of what a protocol of ours is used for, or of what it is wrapped in. Their flows are that protocol on the wire, or
/// nothing of ours: DNSCrypt and Avast ask for a certificate by TXT questions of plain DNS (`2.dnscrypt-cert.…`).
const USES: &[(&str, &str)] =
    &[("ApplePush", "SSL"), ("AVASTSecureDNS", "DNS"), ("DNScrypt", "DNS"), ("NetBIOS", "SMB")];

type Ends = [(String, u16); 2];
type Flows = HashMap<(bool, Ends), (Option<&'static str>, bool)>;

/// How many flows had which answer.
#[derive(Clone, Copy, Default)]
struct Answers {
    agree: u32,
    silent: u32,
    wrong: u32,
}

impl Answers {
    fn all(self) -> u32 {
        self.agree + self.silent + self.wrong
    }
    fn add(&mut self, told: Option<&str>, want: &str) {
        match told {
            Some(told) if told == want => self.agree += 1,
            Some(_) => self.wrong += 1,
            None => self.silent += 1,
        }
    }
}

fn main() {
    let Some(folder) = std::env::var_os("NV_LABELLED").map(PathBuf::from) else {
        println!("identify: not run, NV_LABELLED names no folder with nDPI's captures and results");
        return;
    };
    // By our name, of flows whose beginning is there and of the others.
    let mut known: BTreeMap<&str, [Answers; 2]> = BTreeMap::new();
    let mut uses: BTreeMap<&str, Answers> = BTreeMap::new();
    let mut others = Answers::default();
    let mut differ = Vec::new();
    for entry in std::fs::read_dir(folder.join("pcap")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Ok(labels) = std::fs::read(folder.join("result").join(format!("{name}.out"))) else { continue };
        let flows = flows(&path);
        for line in String::from_utf8_lossy(&labels).lines() {
            let Some((is_tcp, ends, label)) = labelled(line) else { continue };
            let Some((told, midstream)) = flows.get(&(is_tcp, ends)).copied() else { continue };
            let mut parts = label.split('.');
            if let Some((used, carrier)) =
                USES.iter().find(|(used, _)| label.split('.').next() == Some(*used))
            {
                uses.entry(used).or_default().add(told, carrier);
                continue;
            }
            match parts.find_map(|part| LABELS.iter().find(|(theirs, _)| *theirs == part)) {
                Some((_, want)) => {
                    let answers = known.entry(want).or_default();
                    let [begun, middle] = answers;
                    (if midstream && is_tcp { middle } else { begun }).add(told, want);
                    if told != Some(*want) {
                        differ.push(format!("{name}: {label}, told {told:?}, from the middle: {midstream}"));
                    }
                }
                None => {
                    others.add(told, "");
                    if told.is_some() {
                        differ.push(format!("{name}: {label}, told {told:?}"));
                    }
                }
            }
        }
    }
    let mut sums = [Answers::default(); 2];
    for (name, answers) in &known {
        let [begun, middle] = answers;
        println!(
            "{name}: {} of {} from the beginning, {} of {} from the middle",
            begun.agree,
            begun.all(),
            middle.agree,
            middle.all()
        );
        for (sum, some) in sums.iter_mut().zip(answers) {
            sum.agree += some.agree;
            sum.silent += some.silent;
            sum.wrong += some.wrong;
        }
    }
    let share = |part: u32, all: u32| 100.0 * f64::from(part) / f64::from(all.max(1));
    let [begun, middle] = sums;
    let (agree, all) = (begun.agree + middle.agree, begun.all() + middle.all());
    println!(
        "from the beginning: {} of {}, {:.2} %",
        begun.agree,
        begun.all(),
        share(begun.agree, begun.all())
    );
    println!(
        "all: {agree} of {all}, {:.2} %; {} told as another",
        share(agree, all),
        begun.wrong + middle.wrong
    );
    for (used, answers) in uses {
        println!(
            "{used}: {} as what carries it, {} as nothing, {} as another",
            answers.agree, answers.silent, answers.wrong
        );
    }
    println!("protocols that are not ours: {} of {} told as nothing", others.silent, others.all());
    differ.iter().for_each(|line| println!("  {line}"));
}

/// Whether a line's flow is TCP, its ends, and its label; `None` for what nDPI knows without its bytes.
fn labelled(line: &str) -> Option<(bool, Ends, &str)> {
    if !line.contains("Confidence: DPI]") {
        return None;
    }
    let mut words = line.split_whitespace().skip(1);
    let is_tcp = match words.next()? {
        "TCP" => true,
        "UDP" => false,
        _ => return None,
    };
    let one = end(words.next()?)?;
    words.next().filter(|arrow| matches!(*arrow, "<->" | "->"))?;
    let two = end(words.next()?)?;
    let (_, label) = line.split_once("[proto: ")?;
    let (_, label) = label.split_once(']')?.0.split_once('/')?;
    Some((is_tcp, sorted(one, two), label))
}

fn end(text: &str) -> Option<(String, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    Some((address.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
}

fn sorted(one: (String, u16), two: (String, u16)) -> Ends {
    if one <= two { [one, two] } else { [two, one] }
}

/// The flows of a capture: the application of each, and whether its beginning is missing.
fn flows(path: &Path) -> Flows {
    let mut flows = Flows::new();
    let mut engine = Engine::new(&Limits::default(), OverlapPolicy::First, 1);
    let mut sink = Teller { flows: &mut flows };
    // A capture that breaks off has the frames that it has.
    let _outcome = read_records(std::fs::File::open(path).unwrap(), |record| {
        if let Some(link) = record.link {
            engine.frame(record.at, link, record.frame, &mut sink);
        }
    });
    engine.finish(&mut sink);
    flows
}

struct Teller<'a> {
    flows: &'a mut Flows,
}

impl Sink for Teller<'_> {
    fn event(&mut self, event: &Event<'_>) {
        let Kind::Closed(summary) = &event.kind else { return };
        let is_tcp = match summary.endpoints.transport {
            Transport::Tcp => true,
            Transport::Udp => false,
            Transport::Icmp => return,
        };
        let [client, server] = [summary.endpoints.client, summary.endpoints.server];
        let ends =
            sorted((client.address.to_string(), client.port), (server.address.to_string(), server.port));
        let told = summary.application.and_then(|application| application.name());
        let flow = self.flows.entry((is_tcp, ends)).or_insert((None, summary.midstream));
        flow.0 = flow.0.or(told);
    }
}
