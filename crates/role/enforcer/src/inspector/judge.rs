//! What becomes of a packet that waits for its answer.

use nv_capture::fate::Fate;
use nv_dpi::key::Transport;
use nv_dpi::threat::Threat;

/// What inspection found of a packet and of the connection that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Its connection; `None` for a packet that belongs to none.
    pub(super) transport: Option<Transport>,
    /// It shows an attack that is stopped.
    pub(super) attack: bool,
    /// It is one of a flood. Its sender may be invented, so that nobody's connection is cut for it.
    pub(super) flood: bool,
    /// A rule or a sensor denies the connection, by this packet or by an earlier one.
    pub(super) denied: bool,
    /// Nothing more is to be read of the connection, and nothing more to be known before it is judged.
    pub(super) settled: bool,
}

/// Same findings, same fate.
///
/// A segment that is only dropped is sent again, so that a TCP connection is cut; of datagrams each stands for itself. Echoes
/// have no ports by which the kernel could know their conversation again: each is dropped, or passes.
pub(super) fn fate(found: Findings) -> Fate {
    match (found.transport, found.attack, found.denied) {
        (Some(Transport::Icmp), false, false) if !found.flood => Fate::Pass,
        (Some(Transport::Icmp), _, _) => Fate::Drop,
        (Some(Transport::Tcp), true, _) | (_, _, true) => Fate::Cut,
        (_, true, false) => Fate::Drop,
        (_, false, false) if found.flood => Fate::Drop,
        (_, false, false) if found.settled => Fate::Clean,
        (_, false, false) => Fate::Pass,
    }
}

/// Whether the rest of the conversation ends as this packet does: what was cut, and echoes, of which an attack is told once.
pub(super) fn is_cut(found: Findings, fate: Fate) -> bool {
    fate == Fate::Cut || (fate == Fate::Drop && found.transport == Some(Transport::Icmp))
}

/// Whether an attack is stopped where it can be: the contract's default for each, and a tunnel in echoes, which no program
/// that asks for its own words makes. The others are told alone, as they are no more than a sign (a version, a refused
/// login), or as what looks like them may be no attack.
pub(super) fn stops(threat: Threat) -> bool {
    match threat {
        Threat::SynFlood
        | Threat::IcmpFlood
        | Threat::InvalidPacketFormat
        | Threat::FragmentTeardrop
        | Threat::PingDeath
        | Threat::IcmpTunneling
        | Threat::DnsLoopPointer
        | Threat::SslHeartbleed
        | Threat::SslCipherOverflow
        | Threat::SslVersion2or3
        | Threat::HttpNegativeBodyLength
        | Threat::HttpRequestSmuggling
        | Threat::DnsZoneTransfer
        | Threat::SqlInjection
        | Threat::ApacheStruts
        | Threat::TcpSackSmallMss
        | Threat::Log4Shell => true,
        Threat::SessionLimit
        | Threat::SynWithData
        | Threat::SplitHandshake
        | Threat::NoClientData
        | Threat::SshVersion1
        | Threat::SslTls10
        | Threat::SslTls11
        | Threat::HttpSlowloris
        | Threat::TcpSmallWindow
        | Threat::DnsStackOverflow
        | Threat::MySqlAccessDeny
        | Threat::DnsTypeNull
        | Threat::DnsTunneling
        | Threat::CrossSiteScripting
        | Threat::CleartextCredentials
        | Threat::PortScan => false,
    }
}

/// Whether it is one of many packets that are an attack together.
pub(super) fn is_flood(threat: Threat) -> bool {
    matches!(threat, Threat::SynFlood | Threat::IcmpFlood)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attack_is_cut_in_a_stream_and_dropped_as_a_datagram_and_clean_is_only_what_is_settled() {
        let (tcp, udp, icmp) = (Some(Transport::Tcp), Some(Transport::Udp), Some(Transport::Icmp));
        for (transport, attack, denied, settled, want) in [
            (tcp, true, false, false, Fate::Cut),
            (tcp, true, false, true, Fate::Cut),
            (tcp, false, true, true, Fate::Cut),
            (udp, true, false, false, Fate::Drop),
            (udp, true, true, false, Fate::Cut),
            (udp, false, true, false, Fate::Cut),
            (None, true, false, false, Fate::Drop),
            (icmp, true, false, false, Fate::Drop),
            (icmp, false, true, false, Fate::Drop),
            (icmp, false, false, true, Fate::Pass),
            (tcp, false, false, true, Fate::Clean),
            (udp, false, false, true, Fate::Clean),
            (tcp, false, false, false, Fate::Pass),
            (None, false, false, false, Fate::Pass),
        ] {
            let found = Findings { transport, attack, denied, settled, flood: false };
            assert_eq!(fate(found), want, "{found:?}");
        }
        for transport in [tcp, icmp] {
            let flood = Findings { transport, flood: true, ..Findings::default() };
            assert_eq!(fate(flood), Fate::Drop);
            assert_eq!(
                is_cut(flood, Fate::Drop),
                transport == icmp,
                "who invents senders cuts nobody's stream"
            );
        }
    }
}
