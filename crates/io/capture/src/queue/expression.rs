//! Rules of nftables as the kernel takes them: a rule is a list of expressions that work on registers (linux/netfilter/
//! nf_tables.h).

use crate::netlink::put_attribute;

/// An attribute that holds attributes.
const NESTED: u16 = 0x8000;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
/// Values of `nft_registers`: where a verdict stands, and the last of the four large ones, which a rule works with.
const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 4;
/// The first of the small ones, of four bytes each: from here on stand the ends of a connection.
const ENDS: u32 = 8;

/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

/// The header of a fragment.
const FRAGMENT: u8 = 44;

/// What a packet is asked for (`nft_meta_keys`).
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    Mark = 3,
    InInterface = 4,
    OutInterface = 5,
    Layer4 = 16,
}

/// A family of addresses, and where they stand in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Four,
    Six,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::Four, Self::Six];

    /// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Four => 2,
            Self::Six => 10,
        }
    }
    /// Bytes of an address, and where a packet has its source and its destination.
    fn addresses(self) -> (u32, u32, u32) {
        match self {
            Self::Four => (4, 12, 16),
            Self::Six => (16, 8, 24),
        }
    }
    /// Where a header names the protocol of what it carries: of IPv6, if there are no extension headers between.
    fn protocol_at(self) -> u32 {
        match self {
            Self::Four => 9,
            Self::Six => 6,
        }
    }
    /// The register behind both addresses and both ports, for the protocol.
    fn protocol_register(self) -> u32 {
        match self {
            Self::Four => ENDS + 4,
            Self::Six => ENDS + 10,
        }
    }
    /// Bytes of a connection's ends: addresses, ports, and the protocol, each in registers of its own.
    pub(super) fn ends_bytes(self) -> u32 {
        match self {
            Self::Four => 20,
            Self::Six => 44,
        }
    }
}

/// Which way a packet's ends are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As they stand.
    Its,
    /// As those of a packet that comes back.
    Back,
}

/// What is done to a set (`nft_dynset_ops`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add = 0,
    Delete = 2,
}

/// How two values are compared (`nft_cmp_ops`).
#[derive(Clone, Copy, Debug)]
pub(super) enum Compare {
    Equal = 0,
    NotEqual = 1,
}

/// `nf_tables` and `netfilter` verdicts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then<'a> {
    Drop,
    Accept,
    Goto(&'a str),
}

/// A rule under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Expressions(Vec<u8>);

impl Expressions {
    /// All of them, for `NFTA_RULE_EXPRESSIONS`.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Loads something of the packet.
    pub(super) fn meta(self, key: Meta) -> Self {
        self.add("meta", &[(2, &be(key as u32)), (1, &be(REGISTER))])
    }
    /// Sets the packet's mark from the register.
    pub(super) fn set_mark(self) -> Self {
        self.add("meta", &[(2, &be(Meta::Mark as u32)), (3, &be(REGISTER))])
    }
    /// Goes on only with packets of this protocol, whose number stands where the ends have it then.
    pub(super) fn of(self, family: Family, protocol: Option<u8>) -> Self {
        let at = family.protocol_register();
        let rule = self.add("meta", &[(2, &be(Meta::Layer4 as u32)), (1, &be(at))]);
        match protocol {
            Some(protocol) => rule.compare_at(at, Compare::Equal, &[protocol]),
            None => rule,
        }
    }
    /// The same, of packets whose transport header is right behind that of IP: the kernel reads a byte of the packet
    /// quicker than it looks behind extension headers.
    pub(super) fn plainly_of(self, family: Family, protocol: u8) -> Self {
        let at = family.protocol_register();
        self.load(at, NETWORK, family.protocol_at(), 1).compare_at(at, Compare::Equal, &[protocol])
    }
    /// Goes on only with fragments of IPv6, whatever they are of (`NFT_EXTHDR_F_PRESENT`).
    pub(super) fn fragment(self) -> Self {
        let fields: [(u16, &[u8]); 5] =
            [(1, &be(REGISTER)), (2, &[FRAGMENT]), (3, &be(0)), (4, &be(1)), (5, &be(1))];
        self.add("exthdr", &fields).compare(Compare::Equal, &[1])
    }
    /// Loads the addresses and ports of a packet [`Self::of`] this family. One that has no ports ends the rule.
    pub(super) fn ends(self, family: Family, way: Way) -> Self {
        let (length, source, destination) = family.addresses();
        let second = ENDS + length / 4;
        let ports = second + length / 4;
        let (source_port, destination_port) = (0, 2);
        let (one, other) = match way {
            Way::Its => ((source, source_port), (destination, destination_port)),
            Way::Back => ((destination, destination_port), (source, source_port)),
        };
        let rule = if (family, way) == (Family::Six, Way::Its) {
            // Both at one stroke: what has more than four bytes is copied by a call each time.
            self.load(ENDS, NETWORK, source, length * 2)
        } else {
            self.load(ENDS, NETWORK, one.0, length).load(second, NETWORK, other.0, length)
        };
        rule.load(ports, TRANSPORT, one.1, 2).load(ports + 1, TRANSPORT, other.1, 2)
    }
    /// Goes on only if the loaded ends are in this set.
    pub(super) fn are_in(self, set: &str) -> Self {
        self.add("lookup", &[(1, &terminated(set)), (2, &be(ENDS))])
    }
    /// Adds the loaded ends to a set, or deletes them. A set that is full ends the rule.
    pub(super) fn change(self, change: Change, set: &str) -> Self {
        self.add("dynset", &[(1, &terminated(set)), (3, &be(change as u32)), (4, &be(ENDS))])
    }
    /// Loads `length` bytes of the transport header.
    pub(super) fn transport(self, offset: u32, length: u32) -> Self {
        self.load(REGISTER, TRANSPORT, offset, length)
    }
    fn load(self, register: u32, header: u32, offset: u32, length: u32) -> Self {
        let fields: [(u16, &[u8]); 4] =
            [(1, &be(register)), (2, &be(header)), (3, &be(offset)), (4, &be(length))];
        self.add("payload", &fields)
    }
    /// Goes on only if the register compares so.
    pub(super) fn compare(self, how: Compare, value: &[u8]) -> Self {
        self.compare_at(REGISTER, how, value)
    }
    fn compare_at(self, register: u32, how: Compare, value: &[u8]) -> Self {
        self.add("cmp", &[(1, &be(register)), (2, &be(how as u32)), (3 | NESTED, &data(value))])
    }
    /// Keeps the bits of `mask` in the register, and turns those of `flip`.
    pub(super) fn bits(self, mask: &[u8], flip: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).unwrap_or(0);
        let fields: [(u16, &[u8]); 5] = [
            (1, &be(REGISTER)),
            (2, &be(REGISTER)),
            (3, &be(length)),
            (4 | NESTED, &data(mask)),
            (5 | NESTED, &data(flip)),
        ];
        self.add("bitwise", &fields)
    }
    /// Ends the rule with a verdict (`NFTA_DATA_VERDICT`).
    pub(super) fn then(self, then: Then<'_>) -> Self {
        let code: i32 = match then {
            Then::Drop => 0,
            Then::Accept => 1,
            Then::Goto(_) => -4,
        };
        let mut verdict = Vec::new();
        put_attribute(&mut verdict, 1, &code.to_be_bytes());
        if let Then::Goto(chain) = then {
            put_attribute(&mut verdict, 2, &terminated(chain));
        }
        let mut value = Vec::new();
        put_attribute(&mut value, 2 | NESTED, &verdict);
        self.add("immediate", &[(1, &be(VERDICT_REGISTER)), (2 | NESTED, &value)])
    }
    /// Answers a TCP segment with a reset (`NFT_REJECT_TCP_RST`) and drops it.
    pub(super) fn reset(self) -> Self {
        self.add("reject", &[(1, &be(1)), (2, &[0])])
    }
    /// Puts the packet into a queue. With `bypass` it goes on when nobody reads the queue.
    pub(super) fn queue(self, number: u16, bypass: bool) -> Self {
        let flags = u16::from(bypass);
        let fields: [(u16, &[u8]); 3] =
            [(1, &number.to_be_bytes()), (2, &1_u16.to_be_bytes()), (3, &flags.to_be_bytes())];
        self.add("queue", &fields)
    }
    /// The same by the extension of iptables (`xt_NFQ_info_v3`), for kernels without the expression.
    pub(super) fn queue_by_extension(self, number: u16, bypass: bool) -> Self {
        let mut info = Vec::new();
        for field in [number, 1, u16::from(bypass), 0] {
            info.extend_from_slice(&field.to_ne_bytes());
        }
        self.add("target", &[(1, &terminated("NFQUEUE")), (2, &be(3)), (3, &info)])
    }

    fn add(mut self, name: &str, fields: &[(u16, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (kind, value) in fields {
            put_attribute(&mut data, *kind, value);
        }
        let mut expression = Vec::new();
        put_attribute(&mut expression, NFTA_EXPR_NAME, &terminated(name));
        put_attribute(&mut expression, NFTA_EXPR_DATA | NESTED, &data);
        put_attribute(&mut self.0, NFTA_LIST_ELEM | NESTED, &expression);
        self
    }
}

/// Numbers of nf_tables are in network byte order.
pub(super) fn be(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// Strings end with a zero.
pub(super) fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// `NFTA_DATA_VALUE`.
fn data(value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_attribute(&mut bytes, 1, value);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attributes;

    #[test]
    fn an_expression_is_an_element_with_a_name_and_its_data() {
        let rule = Expressions::default().meta(Meta::Layer4).compare(Compare::Equal, &[6]);
        let elements: Vec<_> = attributes(rule.bytes(), 0).collect();
        assert_eq!(elements.len(), 2);
        let (kind, compare) = elements[1];
        assert_eq!(kind, NFTA_LIST_ELEM);
        let fields: Vec<_> = attributes(compare, 0).collect();
        assert_eq!(fields[0], (NFTA_EXPR_NAME, &b"cmp\0"[..]));
        let data: Vec<_> = attributes(fields[1].1, 0).collect();
        assert_eq!(data[0], (1, &[0, 0, 0, 4][..]), "the register");
        assert_eq!(attributes(data[2].1, 0).next(), Some((1, &[6][..])), "the value");
    }
}
