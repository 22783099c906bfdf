//! The rules in a pod's network namespace: two tables of nftables, of IPv4 and of IPv6, put there at one stroke. Not one of
//! both, as each of its rules would have to ask every packet which of the two it is.
//!
//! ```text
//! hook            chain     what it does
//! output          wash      no mark of ours on it, which a program may have put there
//! input, output   in, out   the connection is in the set of clean ones? go on · the loopback? go on · else: ask
//!                 ask       begins anew? out of all sets · cut? refuse · marked by an answer? into a set · TCP, UDP, echoes, fragments → queue
//!                 refuse    a reset, and no packet goes on
//! ```
//!
//! An answer that says something of the whole connection marks the packet and sends it to the same chain once more
//! (`NF_REPEAT`), which puts the connection's ends, in both ways, into a set and takes the mark away. Sets, and not
//! connection tracking, which would cost each packet more than all the rules do, and not the marks of connections, which may
//! be somebody else's. What is in a set is forgotten after a while, and asked about again. With a new epoch there are new
//! sets, so that what was clean comes to the queue again.

use std::io;

use super::expression::{Change, Compare, Expressions, Family, Meta, Then, Way, be, terminated};
use crate::netlink::{NLM_F_ACK, Request, Socket, put_attribute};

/// The bits of marks that are ours.
const OURS: u32 = 0xfff0_0000;
/// The answer that a connection is cut off.
pub(super) const CUT: u32 = 0x8000_0000;
/// Where the epoch of an answer "clean" stands.
const EPOCH_SHIFT: u32 = 20;
/// Epochs go from 1 to 2,047 and round.
const EPOCHS: u16 = 2047;

const TABLE: &str = "neuvector";
/// Both families in one table, as earlier versions had them.
const NFPROTO_INET: u8 = 1;
const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFT_MSG_NEWTABLE: u8 = 0;
const NFT_MSG_DELTABLE: u8 = 2;
const NFT_MSG_NEWCHAIN: u8 = 3;
const NFT_MSG_NEWRULE: u8 = 6;
const NFT_MSG_DELRULE: u8 = 8;
const NFT_MSG_NEWSET: u8 = 9;
const NFT_MSG_DELSET: u8 = 11;
/// `NFT_SET_TIMEOUT` and `NFT_SET_EVAL`: rules add to it.
const NFT_SET_CHANGES: u32 = 0x30;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
/// `NF_INET_LOCAL_IN` and `NF_INET_LOCAL_OUT`.
const INPUT: u32 = 1;
pub(super) const OUTPUT: u32 = 3;
/// Before filters of others (0), and before they translate addresses.
const ASK: i32 = -150;
/// Before that: a packet that is sent to [`ASK`] once more does not come here again.
const WASH: i32 = ASK - 1;
/// Most connections in a set; what finds it full is asked about packet by packet.
const MAX_CONNECTIONS: u32 = 65_536;
/// How long a connection is in it, in milliseconds. Then one packet each way is asked about, so that the inspector hears
/// of connections that go on, and datagrams of others that come to have the same ends do not go on for long.
const REMEMBERED: u64 = 60_000;
/// The loopback is the first interface of every namespace.
const LOOPBACK: u32 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Echoes, by the types of a request and an answer: attacks by ICMP are in these. Others never wait, as addresses and paths
/// are found by them.
fn echoes(family: Family) -> (u8, [u8; 2]) {
    match family {
        Family::Four => (1, [8, 0]),
        Family::Six => (58, [128, 129]),
    }
}
/// Where the word with the flags is in a TCP header, and two of them. The kernel is quicker with words than with bytes.
const TCP_FLAGS: u32 = 12;
const TCP_RST: [u8; 4] = [0, 4, 0, 0];
const TCP_SYN: [u8; 4] = [0, 2, 0, 0];

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

/// What the rules do with packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// The number of the queue.
    pub(super) queue: u16,
    /// They go on when nobody reads it.
    pub(super) bypass: bool,
    pub(super) epoch: Epoch,
    /// All are dropped, and none is asked about.
    pub(super) sealed: bool,
}

/// Puts the rules there, in the place of tables that are there, at one stroke.
pub(super) fn put(socket: &mut Socket, wish: Wish) -> io::Result<Dialect> {
    let mut failure = io::Error::other("no dialect was tried");
    for dialect in Dialect::ALL {
        let mut all = Vec::new();
        for family in Family::ALL {
            // What is deleted has to be there.
            all.push((named(family, NFT_MSG_NEWTABLE), NLM_F_ACK | NLM_F_CREATE));
            all.push((named(family, NFT_MSG_DELTABLE), NLM_F_ACK));
            all.push((named(family, NFT_MSG_NEWTABLE), NLM_F_ACK | NLM_F_CREATE));
            all.extend(chains(family));
            all.extend(sets(family, wish.epoch));
            all.extend(rules(family, wish, dialect));
        }
        match socket.execute_all(&batch(&all)) {
            Ok(()) => {
                // With both in force a packet is asked about twice; with none it would not be at all.
                delete(socket, NFPROTO_INET)?;
                return Ok(dialect);
            }
            // An expression that the kernel does not have, and has no module of.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => {
                failure = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(failure)
}

/// Puts other rules into the tables that were [`put`] there with the epoch `last`, at one stroke. The chains stay: with a hook
/// the kernel drops all packets that wait in the namespace.
pub(super) fn replace(socket: &mut Socket, wish: Wish, last: Epoch, dialect: Dialect) -> io::Result<()> {
    let mut all = Vec::new();
    for family in Family::ALL {
        all.push((named(family, NFT_MSG_DELRULE), NLM_F_ACK));
        for set in Set::ALL {
            let name = terminated(&set.name(last));
            all.push((named(family, NFT_MSG_DELSET).attribute(2, &name), NLM_F_ACK));
        }
        all.extend(sets(family, wish.epoch));
        all.extend(rules(family, wish, dialect));
    }
    socket.execute_all(&batch(&all))
}

/// Takes the rules out of the tables, so that no more packet comes to wait.
pub(super) fn empty(socket: &mut Socket) -> io::Result<()> {
    let all = Family::ALL.map(|family| (named(family, NFT_MSG_DELRULE), NLM_F_ACK));
    socket.execute_all(&batch(&all))
}

/// Takes the tables away, those of earlier versions too, and drops what waits. Whether there were any.
pub(super) fn remove(socket: &mut Socket) -> io::Result<bool> {
    let mut any = false;
    for family in Family::ALL.map(Family::number).into_iter().chain([NFPROTO_INET]) {
        any |= delete(socket, family)?;
    }
    Ok(any)
}

/// Takes the table of one family away. Whether there was one.
fn delete(socket: &mut Socket, family: u8) -> io::Result<bool> {
    let request = message(family, NFT_MSG_DELTABLE).attribute(1, &terminated(TABLE));
    match socket.execute_all(&batch(&[(request, NLM_F_ACK)])) {
        Ok(()) => Ok(true),
        // No table, or no such family.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) =>
        {
            Ok(false)
        }
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

fn message(family: u8, kind: u8) -> Request {
    Request::new(u16::from_be_bytes([NFNL_SUBSYS_NFTABLES, kind]), &[family, 0, 0, 0])
}

/// A message about the table of a family or, with further attributes, what is in it.
fn named(family: Family, kind: u8) -> Request {
    message(family.number(), kind).attribute(1, &terminated(TABLE))
}

/// A chain's name, its hook, and the interface that its packets have.
const HOOKS: [(&str, u32, Meta); 2] = [("in", INPUT, Meta::InInterface), ("out", OUTPUT, Meta::OutInterface)];

fn chains(family: Family) -> Vec<(Request, u16)> {
    let chain = |name: &str| named(family, NFT_MSG_NEWCHAIN).attribute(3, &terminated(name));
    let mut all = ["ask", "refuse"].map(|name| (chain(name), NLM_F_ACK | NLM_F_CREATE)).to_vec();
    let asks = HOOKS.map(|(name, hook, _)| (name, hook, ASK));
    for (name, hook, priority) in asks.into_iter().chain([("wash", OUTPUT, WASH)]) {
        let mut place = Vec::new();
        put_attribute(&mut place, 1, &be(hook));
        put_attribute(&mut place, 2, &priority.to_be_bytes());
        let based = chain(name)
            .attribute(4 | NESTED, &place)
            .attribute(5, &be(1))
            .attribute(7, &terminated("filter"));
        all.push((based, NLM_F_ACK | NLM_F_CREATE));
    }
    all
}

/// What is remembered of connections of a family, by their ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Clean,
    Cut,
}

impl Set {
    const ALL: [Self; 2] = [Self::Clean, Self::Cut];
    fn name(self, epoch: Epoch) -> String {
        let what = match self {
            Self::Clean => "clean",
            Self::Cut => "cut",
        };
        format!("{what}_{}", epoch.0)
    }
}

fn sets(family: Family, epoch: Epoch) -> Vec<(Request, u16)> {
    let mut size = Vec::new();
    put_attribute(&mut size, 1, &be(MAX_CONNECTIONS * 2)); // each way
    let set = |(number, set): (u32, Set)| {
        let request = named(family, NFT_MSG_NEWSET)
            .attribute(2, &terminated(&set.name(epoch)))
            .attribute(3, &be(NFT_SET_CHANGES))
            // What the key is, is for whoever lists it.
            .attribute(4, &be(0))
            .attribute(5, &be(family.ends_bytes()))
            .attribute(9 | NESTED, &size)
            .attribute(10, &be(number))
            .attribute(11, &REMEMBERED.to_be_bytes());
        (request, NLM_F_ACK | NLM_F_CREATE)
    };
    (1..).zip(Set::ALL).map(set).collect()
}

fn rules(family: Family, wish: Wish, dialect: Dialect) -> Vec<(Request, u16)> {
    let Wish { queue, bypass, epoch, sealed } = wish;
    let mut all = Vec::new();
    let mut rule = |chain: &str, expressions: &Expressions| {
        let rule = named(family, NFT_MSG_NEWRULE)
            .attribute(2, &terminated(chain))
            .attribute(4 | NESTED, expressions.bytes());
        all.push((rule, NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND));
    };
    let new = Expressions::default;
    let is = |protocol| new().meta(Meta::Layer4).compare(Compare::Equal, &[protocol]);
    let flag = |rule: Expressions, flag: [u8; 4], how| {
        rule.transport(TCP_FLAGS, 4).bits(&flag, &[0; 4]).compare(how, &[0; 4])
    };

    let hide = |rule: Expressions| rule.meta(Meta::Mark).bits(&(!OURS).to_ne_bytes(), &[0; 4]).set_mark();
    let has_any = new().meta(Meta::Mark).bits(&OURS.to_ne_bytes(), &[0; 4]);
    rule("wash", &hide(has_any.compare(Compare::NotEqual, &[0; 4])));

    // What most packets are comes first: segments of a clean connection that is not just beginning.
    let known = |rest: Expressions, protocol| {
        let goes_on = if protocol == TCP { flag(rest, TCP_SYN, Compare::Equal) } else { rest };
        goes_on.ends(family, Way::Its).are_in(&Set::Clean.name(epoch)).then(Then::Accept)
    };
    for (chain, _, interface) in HOOKS {
        if sealed {
            let others = new().meta(interface).compare(Compare::NotEqual, &LOOPBACK.to_ne_bytes());
            rule(chain, &others.then(Then::Drop));
            continue;
        }
        for protocol in [TCP, UDP] {
            rule(chain, &known(new().plainly_of(family, protocol), protocol));
        }
        let loopback = new().meta(interface).compare(Compare::Equal, &LOOPBACK.to_ne_bytes());
        rule(chain, &loopback.then(Then::Accept));
        rule(chain, &new().then(Then::Goto("ask")));
    }

    if family == Family::Six {
        // The same again, behind extension headers.
        for protocol in [TCP, UDP] {
            rule("ask", &known(new().of(family, Some(protocol)), protocol));
        }
    }
    // A connection that begins is another one than the one that had the same ends.
    let mut begins = flag(new().of(family, Some(TCP)), TCP_SYN, Compare::NotEqual);
    for way in [Way::Its, Way::Back] {
        begins = begins.ends(family, way);
        for set in Set::ALL {
            begins = begins.change(Change::Delete, &set.name(epoch));
        }
    }
    rule("ask", &begins);
    let is_cut = new().of(family, None).ends(family, Way::Its).are_in(&Set::Cut.name(epoch));
    rule("ask", &is_cut.then(Then::Goto("refuse")));
    for (mark, set, then) in
        [(epoch.clean(), Set::Clean, Then::Accept), (CUT, Set::Cut, Then::Goto("refuse"))]
    {
        let answered = || is_marked(new().meta(Meta::Mark), mark);
        let mut keep = answered().of(family, None);
        for way in [Way::Its, Way::Back] {
            keep = keep.ends(family, way).change(Change::Add, &set.name(epoch));
        }
        rule("ask", &keep);
        // Nobody else sees a mark of ours, also of a packet that has no ports.
        rule("ask", &hide(answered()).then(then));
    }
    let mut asked = vec![is(TCP), is(UDP)];
    if family == Family::Six {
        // IPv6 puts fragments together behind this hook, and what one is of may stand in another one.
        asked.push(new().fragment());
    }
    let (protocol, kinds) = echoes(family);
    let echo = |kind| is(protocol).transport(0, 1).compare(Compare::Equal, &[kind]);
    for asked in asked.into_iter().chain(kinds.map(echo)) {
        let asked = match dialect.queue {
            true => asked.queue(queue, bypass),
            false => asked.queue_by_extension(queue, bypass),
        };
        rule("ask", &asked);
    }

    // A reset of ours, or of whoever else, goes on: it is what ends a connection that is cut.
    rule("refuse", &flag(is(TCP), TCP_RST, Compare::NotEqual).then(Then::Accept));
    if dialect.reset {
        rule("refuse", &is(TCP).reset());
    }
    rule("refuse", &new().then(Then::Drop));
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
