//! Hellos of client and server (RFC 8446 §4.1.2, §4.1.3), and of SSL 2.

use crate::event::Field;
use crate::protocol::read::Cursor;
use crate::protocol::{Context, Probe, Step};
use crate::threat::Threat;

/// Numbers of a hello's lists that are looked at; real ones have fewer than 100.
pub(super) const MAX_NUMBERS: usize = 128;

/// What a server's hello has for a random number where it asks for another hello (RFC 8446 §4.1.3).
const RETRY: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91, 0xC2,
    0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const SUPPORTED_GROUPS: u16 = 10;
const POINT_FORMATS: u16 = 11;
const SIGNATURE_ALGORITHMS: u16 = 13;

/// A list of 16-bit numbers, as sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = u16> + use<'a> {
        self.0.as_chunks::<2>().0.iter().take(MAX_NUMBERS).map(|pair| u16::from_be_bytes(*pair))
    }
}

/// What a hello says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hello<'a> {
    /// Version in the old place.
    pub(super) legacy_version: u16,
    /// Ciphers that the client offers, or the one that the server chose.
    pub(super) ciphers: Numbers<'a>,
    /// All extensions, as sent.
    extensions: &'a [u8],
    pub(super) server_name: Option<&'a [u8]>,
    /// List of protocol names, each behind its length.
    alpn: &'a [u8],
    versions: Numbers<'a>,
    pub(super) groups: Numbers<'a>,
    pub(super) point_formats: &'a [u8],
    pub(super) signatures: Numbers<'a>,
    /// The server asks for another hello.
    pub(super) is_retry: bool,
}

/// Values that clients send only to keep servers tolerant (RFC 8701).
pub(super) fn is_grease(number: u16) -> bool {
    let [high, low] = number.to_be_bytes();
    high == low && low & 0x0F == 0x0A
}

impl<'a> Hello<'a> {
    pub(super) fn client(body: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let legacy_version = cursor.u16()?;
        cursor.bytes(32)?;
        cursor.short()?;
        let ciphers = Numbers(cursor.long()?);
        cursor.short()?;
        let mut hello = Self { legacy_version, ciphers, ..Self::default() };
        hello.read_extensions(cursor.long().unwrap_or_default(), true);
        Some(hello)
    }
    pub(super) fn server(body: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor(body);
        let legacy_version = cursor.u16()?;
        let is_retry = cursor.bytes(32)? == RETRY;
        cursor.short()?;
        let ciphers = Numbers(cursor.bytes(2)?);
        cursor.u8()?;
        let mut hello = Self { legacy_version, ciphers, is_retry, ..Self::default() };
        hello.read_extensions(cursor.long().unwrap_or_default(), false);
        Some(hello)
    }
    fn read_extensions(&mut self, extensions: &'a [u8], client: bool) {
        self.extensions = extensions;
        for (kind, data) in self.extensions() {
            let mut cursor = Cursor(data);
            match kind {
                SERVER_NAME if client => {
                    let mut list = Cursor(cursor.long().unwrap_or_default());
                    if list.u8() == Some(0) {
                        self.server_name = list.long();
                    }
                }
                ALPN => self.alpn = cursor.long().unwrap_or_default(),
                SUPPORTED_VERSIONS if client => self.versions = Numbers(cursor.short().unwrap_or_default()),
                SUPPORTED_VERSIONS => self.versions = Numbers(data),
                SUPPORTED_GROUPS => self.groups = Numbers(cursor.long().unwrap_or_default()),
                POINT_FORMATS => self.point_formats = cursor.short().unwrap_or_default(),
                SIGNATURE_ALGORITHMS => self.signatures = Numbers(cursor.long().unwrap_or_default()),
                _ => {}
            }
        }
    }
    /// Kind and content of each extension.
    pub(super) fn extensions(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut cursor = Cursor(self.extensions);
        std::iter::from_fn(move || Some((cursor.u16()?, cursor.long()?))).take(MAX_NUMBERS)
    }
    /// Names of protocols.
    pub(super) fn alpn(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut cursor = Cursor(self.alpn);
        std::iter::from_fn(move || cursor.short()).take(MAX_NUMBERS)
    }
    /// The highest version: of those that a client offers, the one that a server chose.
    pub(super) fn version(&self) -> u16 {
        self.versions.iter().filter(|version| !is_grease(*version)).max().unwrap_or(self.legacy_version)
    }
}

/// Words for a version, as TLS tools write them.
pub(super) fn version_name(version: u16) -> &'static str {
    match version {
        0x0002 => "SSL 2.0",
        0x0300 => "SSL 3.0",
        0x0301 => "TLS 1.0",
        0x0302 => "TLS 1.1",
        0x0303 => "TLS 1.2",
        0x0304 => "TLS 1.3",
        _ => "unknown",
    }
}

/// Tells the version that was agreed on, and that it is weak (RFC 7568, RFC 8996).
pub(super) fn judge_version(context: &mut Context<'_>, version: u16) {
    context.text(Field::Version, 0, version_name(version).as_bytes());
    match version {
        0x0002 | 0x0300 => context.threat(Threat::SslVersion2or3),
        0x0301 => context.threat(Threat::SslTls10),
        0x0302 => context.threat(Threat::SslTls11),
        _ => {}
    }
}

/// Whether a client begins as in SSL 2 (RFC 5246 §E.2): two bytes of length with the highest bit set, a hello, and a
/// version that exists.
pub(super) fn probe_ssl2(input: &[u8]) -> Probe {
    match input {
        [0x80..=0x82, _, 1, 0, 2, ..] | [0x80..=0x82, _, 1, 3, 0..=3, ..] => Probe::Yes,
        [] | [0x80..=0x82] | [0x80..=0x82, _] | [0x80..=0x82, _, 1] | [0x80..=0x82, _, 1, 0 | 3] => {
            Probe::Maybe
        }
        _ => Probe::No,
    }
}

/// Reads a hello of SSL 2.
pub(super) fn ssl2(context: &mut Context<'_>, input: &[u8]) -> Step {
    let mut cursor = Cursor(input);
    let (Some(length), Some(_), Some(version)) = (cursor.u16(), cursor.u8(), cursor.u16()) else {
        return Step::More(5);
    };
    let (Some(ciphers), Some(session), Some(challenge)) = (cursor.u16(), cursor.u16(), cursor.u16()) else {
        return Step::More(11);
    };
    let record = u32::from(length & 0x7FFF);
    let parts = u32::from(ciphers).saturating_add(u32::from(session)).saturating_add(u32::from(challenge));
    if parts.saturating_add(9) > record {
        context.threat(Threat::SslCipherOverflow);
    }
    if version == 2 {
        judge_version(context, version);
    }
    Step::Skip(u64::from(record).saturating_add(2))
}
