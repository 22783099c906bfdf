//! The rules in a pod's network namespace: one table of nftables, put there and taken away as a whole.
//!
//! ```text
//! hook      chain           what it does
//! input     ask (-150)      clean? go on · cut? refuse · TCP, UDP → queue
//!           keep (-149)     behind the queue's answer: its mark goes from the packet to the connection
//! output    the same two
//! ```
//!
//! An answer of "go on" ends the chain that has asked, so that its mark is kept by a later one. A connection's mark has
//! three values of ours in its upper twelve bits: nothing, clean (in this epoch), and cut. With a new epoch what was clean
//! comes to the queue again.

use std::io;

use super::expression::{Compare, Expressions, Meta, Then, be, terminated};
use crate::netlink::{NLM_F_ACK, Request, Socket, put_attribute};

/// The bits of marks that are ours.
const OURS: u32 = 0xfff0_0000;
/// A connection that was cut off.
pub(super) const CUT: u32 = 0x8000_0000;
/// Where a clean connection's epoch stands.
const EPOCH_SHIFT: u32 = 20;
/// Epochs go from 1 to 2,047 and round.
const EPOCHS: u16 = 2047;

const TABLE: &str = "neuvector";
const NFPROTO_INET: u8 = 1;
const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWTABLE: u8 = 0;
const NFT_MSG_DELTABLE: u8 = 2;
const NFT_MSG_NEWCHAIN: u8 = 3;
const NFT_MSG_NEWRULE: u8 = 6;
const NFT_MSG_DELRULE: u8 = 8;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
/// `NF_INET_LOCAL_IN` and `NF_INET_LOCAL_OUT`.
const INPUT: u32 = 1;
const OUTPUT: u32 = 3;
/// Behind connection tracking (-200) and before filters of others (0).
const ASK: i32 = -150;
const KEEP: i32 = -149;
/// The loopback is the first interface of every namespace.
const LOOPBACK: u32 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Where the flags of a TCP header are, and its reset.
const TCP_FLAGS: u32 = 13;
const TCP_RST: u8 = 4;

/// The number of a state of the rules: with the next one no connection is clean any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch(u16);

impl Epoch {
    /// One that depends on the time, as an earlier process may have left marks of others.
    pub(super) fn begin(nanos: u64) -> Self {
        let milliseconds = (nanos >> 20).checked_rem(u64::from(EPOCHS)).unwrap_or(0);
        Self(u16::try_from(milliseconds).unwrap_or(0).saturating_add(1))
    }
    pub(super) fn next(self) -> Self {
        Self(self.0.checked_rem(EPOCHS).unwrap_or(0).saturating_add(1))
    }
    /// The mark of what is clean in it.
    pub(super) fn clean(self) -> u32 {
        u32::from(self.0) << EPOCH_SHIFT
    }
}

/// A mark of somebody else with one of ours in it.
pub(super) fn marked(given: u32, ours: u32) -> u32 {
    (given & !OURS) | (ours & OURS)
}

/// What the kernel has to say it with: not every one has every expression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dialect {
    /// The expression `queue`; else the extension of iptables.
    queue: bool,
    /// The expression `reject`; else what is cut is dropped without an answer.
    pub(super) reset: bool,
}

impl Dialect {
    /// The best first.
    const ALL: [Self; 4] = [
        Self { queue: true, reset: true },
        Self { queue: false, reset: true },
        Self { queue: true, reset: false },
        Self { queue: false, reset: false },
    ];
}

/// Puts the rules there, in the place of a table that is there, at one stroke.
pub(super) fn put(socket: &mut Socket, queue: u16, bypass: bool, epoch: Epoch) -> io::Result<Dialect> {
    let mut failure = io::Error::other("no dialect was tried");
    for dialect in Dialect::ALL {
        let mut all = vec![
            // What is deleted has to be there.
            (named(NFT_MSG_NEWTABLE), NLM_F_ACK | NLM_F_CREATE),
            (named(NFT_MSG_DELTABLE), NLM_F_ACK),
            (named(NFT_MSG_NEWTABLE), NLM_F_ACK | NLM_F_CREATE),
        ];
        all.extend(chains());
        all.extend(all_rules(queue, bypass, epoch, dialect));
        match socket.execute_all(&batch(&all)) {
            Ok(()) => return Ok(dialect),
            // An expression that the kernel does not have, and has no module of.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => {
                failure = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(failure)
}

/// Puts other rules into the table that was [`put`] there, at one stroke. The chains stay: with a hook the kernel drops
/// all packets that wait in the namespace.
pub(super) fn replace(
    socket: &mut Socket,
    queue: u16,
    bypass: bool,
    epoch: Epoch,
    dialect: Dialect,
) -> io::Result<()> {
    let mut all = vec![(named(NFT_MSG_DELRULE), NLM_F_ACK)];
    all.extend(all_rules(queue, bypass, epoch, dialect));
    socket.execute_all(&batch(&all))
}

/// Takes the rules out of the table, so that no more packet comes to wait.
pub(super) fn empty(socket: &mut Socket) -> io::Result<()> {
    socket.execute_all(&batch(&[(named(NFT_MSG_DELRULE), NLM_F_ACK)]))
}

/// Takes the table away, and drops what waits. Whether there was one.
pub(super) fn remove(socket: &mut Socket) -> io::Result<bool> {
    match socket.execute_all(&batch(&[(named(NFT_MSG_DELTABLE), NLM_F_ACK)])) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A batch is done as a whole, or not at all.
fn batch(requests: &[(Request, u16)]) -> Vec<(Request, u16)> {
    // nfgenmsg: no family, version 0, and whose batch it is.
    let edge = |kind| (Request::new(kind, &[0, 0, 0, NFNL_SUBSYS_NFTABLES]), 0);
    let mut all = vec![edge(NFNL_MSG_BATCH_BEGIN)];
    all.extend(requests.iter().cloned());
    all.push(edge(NFNL_MSG_BATCH_END));
    all
}

fn message(kind: u8) -> Request {
    Request::new(u16::from_be_bytes([NFNL_SUBSYS_NFTABLES, kind]), &[NFPROTO_INET, 0, 0, 0])
}

/// A message about the table or, with further attributes, what is in it.
fn named(kind: u8) -> Request {
    message(kind).attribute(1, &terminated(TABLE))
}

/// The end of a chain's name, its hook, and the interface that its packets have.
const HOOKS: [(&str, u32, Meta); 2] = [("in", INPUT, Meta::InInterface), ("out", OUTPUT, Meta::OutInterface)];

fn chains() -> Vec<(Request, u16)> {
    let chain = |name: &str| named(NFT_MSG_NEWCHAIN).attribute(3, &terminated(name));
    let mut all = vec![(chain("refuse"), NLM_F_ACK | NLM_F_CREATE)];
    for (suffix, hook, _) in HOOKS {
        for (name, priority) in [("ask", ASK), ("keep", KEEP)] {
            let mut place = Vec::new();
            put_attribute(&mut place, 1, &be(hook));
            put_attribute(&mut place, 2, &priority.to_be_bytes());
            let based = chain(&format!("{name}_{suffix}"))
                .attribute(4 | NESTED, &place)
                .attribute(5, &be(1))
                .attribute(7, &terminated("filter"));
            all.push((based, NLM_F_ACK | NLM_F_CREATE));
        }
    }
    all
}

fn all_rules(queue: u16, bypass: bool, epoch: Epoch, dialect: Dialect) -> Vec<(Request, u16)> {
    let mut all = Vec::new();
    let mut rule = |chain: &str, expressions: &Expressions| {
        let rule = named(NFT_MSG_NEWRULE)
            .attribute(2, &terminated(chain))
            .attribute(4 | NESTED, expressions.bytes());
        all.push((rule, NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND));
    };
    let new = Expressions::default;
    let is_tcp = || new().meta(Meta::Layer4).compare(Compare::Equal, &[TCP]);
    // A reset of ours, or of whoever else, goes on: it is what ends a connection that is cut.
    rule(
        "refuse",
        &is_tcp()
            .transport(TCP_FLAGS, 1)
            .bits(&[TCP_RST], &[0])
            .compare(Compare::NotEqual, &[0])
            .then(Then::Accept),
    );
    if dialect.reset {
        rule("refuse", &is_tcp().reset());
    }
    rule("refuse", &new().then(Then::Drop));

    for (suffix, _, interface) in HOOKS {
        let (ask, keep) = (format!("ask_{suffix}"), format!("keep_{suffix}"));
        let connection = |is: u32| is_marked(new().connection_mark(), is);
        let packet = |is: u32| is_marked(new().meta(Meta::Mark), is);
        rule(&ask, &connection(epoch.clean()).then(Then::Accept));
        rule(
            &ask,
            &new().meta(interface).compare(Compare::Equal, &LOOPBACK.to_ne_bytes()).then(Then::Accept),
        );
        rule(&ask, &connection(CUT).then(Then::Goto("refuse")));
        for protocol in [TCP, UDP] {
            let asked = new().meta(Meta::Layer4).compare(Compare::Equal, &[protocol]);
            rule(
                &ask,
                &if dialect.queue {
                    asked.queue(queue, bypass)
                } else {
                    asked.queue_by_extension(queue, bypass)
                },
            );
        }
        for (mark, then) in [(epoch.clean(), Then::Accept), (CUT, Then::Goto("refuse"))] {
            let keep_it = packet(mark)
                .connection_mark()
                .bits(&(!OURS).to_ne_bytes(), &mark.to_ne_bytes())
                .set_connection_mark();
            rule(&keep, &keep_it);
            // Nobody else sees a mark of ours, also of a packet that has no connection.
            let hide = packet(mark).meta(Meta::Mark).bits(&(!OURS).to_ne_bytes(), &[0; 4]).set_mark();
            rule(&keep, &hide.then(then));
        }
    }
    all
}

/// Goes on only if the mark in the register is this one of ours.
fn is_marked(mark: Expressions, ours: u32) -> Expressions {
    mark.bits(&OURS.to_ne_bytes(), &[0; 4]).compare(Compare::Equal, &ours.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_never_the_one_before_nor_a_cut() {
        let mut epoch = Epoch::begin(u64::MAX);
        for _ in 0..5000 {
            let next = epoch.next();
            assert_ne!(epoch, next);
            assert_eq!(next.clean() & CUT, 0);
            assert_ne!(next.clean(), 0);
            assert_eq!(next.clean() & !OURS, 0);
            epoch = next;
        }
    }

    #[test]
    fn marks_of_others_stay() {
        assert_eq!(marked(0x0000_0539, Epoch::begin(0).clean()), 0x0010_0539);
        assert_eq!(marked(0x2000_0539, CUT), 0x8000_0539);
    }
}
