//! The attacks that are recognised, with the contract's numbers, names and severities.

pub use nv_model::threat::Severity;

macro_rules! threats {
    ($($(#[$doc:meta])* $variant:ident $id:literal $name:literal $severity:ident $technique:literal,)*) => {
        /// An attack.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Threat { $($(#[$doc])* $variant,)* }

        impl Threat {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The contract's number; from 3001 up those that the contract lacks.
            #[must_use]
            pub fn id(self) -> u32 {
                match self { $(Self::$variant => $id,)* }
            }
            /// The contract's name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
            /// How bad it is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }
            /// Technique in MITRE ATT&CK.
            #[must_use]
            pub fn technique(self) -> &'static str {
                match self { $(Self::$variant => $technique,)* }
            }
        }
    };
}

threats! {
    /// More connections a second to one address than it can want.
    SynFlood 1001 "TCP.SYN.Flood" Critical "T1498.001",
    /// More echoes a second to one address than anyone needs.
    IcmpFlood 1002 "ICMP.Flood" Critical "T1498.001",
    /// More sessions at once from one address to another than any client holds.
    SessionLimit 1003 "Source.IP.Session.Limit" High "T1499.002",
    /// A packet that its standard forbids.
    InvalidPacketFormat 2001 "Invalid.Packet.Format" Medium "T1499.004",
    /// Overlapping fragments.
    FragmentTeardrop 2002 "IP.Fragment.Teardrop" Critical "T1499.004",
    /// Payload on a SYN without TCP Fast Open.
    SynWithData 2003 "TCP.SYN.With.Data" Medium "T1205",
    /// A handshake in which the server answers a SYN with a SYN.
    SplitHandshake 2004 "TCP.Split.Handshake" Medium "T1205",
    /// Connections that are opened and left unused.
    NoClientData 2005 "TCP.No.Client.Data" Medium "T1499.002",
    /// An ICMP echo that no datagram should be as large as.
    PingDeath 2006 "Ping.Death" Critical "T1499.004",
    /// Compression pointers of a DNS name that lead in a circle.
    DnsLoopPointer 2007 "DNS.Loop.Pointer" Critical "T1499.004",
    /// Version 1 of SSH.
    SshVersion1 2008 "SSH.Version.1" Low "T1557",
    /// A TLS heartbeat that asks for more than it brings.
    SslHeartbleed 2009 "SSL.Heartbleed" Critical "T1212",
    /// Lengths of an SSL 2 hello beyond its record.
    SslCipherOverflow 2010 "SSL.Cipher.Overflow" Critical "T1203",
    /// SSL 2 or 3.
    SslVersion2or3 2011 "SSL.Version.2or3" Medium "T1557",
    /// TLS 1.0.
    SslTls10 2012 "SSL.TLS1.0" Info "T1557",
    /// A negative length of a body or chunk, or one beyond any body.
    HttpNegativeBodyLength 2013 "HTTP.Negative.Body.Length" High "T1190",
    /// A request that two servers would end at different bytes.
    HttpRequestSmuggling 2014 "HTTP.Request.Smuggling" High "T1190",
    /// A request whose headers take longer than any client needs.
    HttpSlowloris 2015 "HTTP.Request.Slowloris" Critical "T1499.002",
    /// A client that opens its window and then keeps it shut, so that the server holds what it has to say.
    TcpSmallWindow 2016 "TCP.Small.Window" High "T1499.002",
    /// A DNS message that leaves a lot of itself unread.
    DnsStackOverflow 2017 "DNS.Stack.Overflow" Critical "T1203",
    /// A MySQL server refuses a login or a database.
    MySqlAccessDeny 2018 "MySQL.Access.Deny" Info "T1110",
    /// A question for a whole zone.
    DnsZoneTransfer 2019 "DNS.Zone.Transfer" Critical "T1590.002",
    /// Answers to echoes that are not echoes.
    IcmpTunneling 2020 "ICMP.Tunneling" Critical "T1572",
    /// A question of type NULL.
    DnsTypeNull 2021 "DNS.Type.Null" Critical "T1071.004",
    /// SQL that a value has changed, in a statement or on its way there.
    SqlInjection 2022 "SQL.Injection" Critical "T1190",
    /// An expression of OGNL in a request (CVE-2017-5638).
    ApacheStruts 2023 "Apache.Struts.Remote.Code.Execution" Critical "T1190",
    /// Names of DNS that carry data.
    DnsTunneling 2024 "DNS.Tunneling" Critical "T1071.004",
    /// Selective acknowledgments with a tiny segment size (CVE-2019-11479).
    TcpSackSmallMss 2025 "TCP.SACK.DDoS.With.Small.MSS" High "T1499.001",
    /// TLS 1.1.
    SslTls11 2027 "SSL.TLS1.1" Info "T1557",
    /// A lookup that makes a logger fetch code (CVE-2021-44228).
    Log4Shell 3001 "Log4Shell.Remote.Code.Execution" Critical "T1190",
    /// A script in a request that an answer may carry back.
    CrossSiteScripting 3002 "HTTP.Cross.Site.Scripting" High "T1059.007",
    /// A password that is sent in clear.
    CleartextCredentials 3003 "Cleartext.Credentials" Low "T1040",
    /// Attempts at many ports or addresses that nobody answers.
    PortScan 3004 "TCP.Port.Scan" Medium "T1046",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_rising() {
        for pair in Threat::ALL.windows(2) {
            assert!(pair[0].id() < pair[1].id(), "{pair:?}");
            assert_ne!(pair[0].name(), pair[1].name());
        }
    }
}
