//! Capture files as bytes: the classic format in both byte orders and both resolutions, and pcapng.

use crate::link::Link;

/// Interfaces of one pcapng section that are remembered; packets of later ones are counted as skipped.
pub const MAX_INTERFACES: usize = 256;

/// Why a capture file could not be read (further). What came before stays good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureFileError {
    /// The first bytes are those of neither format.
    #[error("file is no pcap and no pcapng capture: it starts with {magic:#010x}")]
    Magic {
        /// First four bytes, big-endian.
        magic: u32,
    },
    /// The file ends inside a header or a record.
    #[error("capture file ends inside the record at byte {at}")]
    Truncated {
        /// Offset of the record from the start of the file.
        at: usize,
    },
    /// A record says something impossible.
    #[error("record at byte {at} of the capture file is malformed: {what}")]
    Malformed {
        /// Offset of the record from the start of the file.
        at: usize,
        /// Which field, and how.
        what: &'static str,
    },
}

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Time of capture, in nanoseconds since 1970; 0 where the file has none.
    pub at: u64,
    /// What the frame starts with; `None` for a link type that is not read.
    pub link: Option<Link>,
    /// Bytes that the frame had on the wire.
    pub wire_bytes: u32,
    /// The bytes that were kept.
    pub frame: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Classic { link: Option<Link>, nanoseconds: bool },
    NextGeneration,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Option<Link>,
    /// Bits of the `if_tsresol` option.
    resolution: u8,
    /// Bytes that a simple packet keeps at most; 0 for all.
    snap: u32,
}

/// Reads the records of a capture in order. Ends after an error; a capture that is read in pieces goes on with the next
/// piece by [`CaptureFile::pause`].
#[derive(Clone, Debug)]
pub struct CaptureFile<'a> {
    /// Offset behind the bytes at hand.
    end: usize,
    rest: &'a [u8],
    ended: bool,
    little: bool,
    format: Format,
    interfaces: Vec<Interface>,
    /// Packets of interfaces beyond [`MAX_INTERFACES`], or of none.
    pub skipped: u64,
}

/// A capture between two pieces of it.
#[derive(Clone, Debug)]
pub struct PausedCapture {
    /// Offset of the first byte that was not read.
    at: usize,
    little: bool,
    format: Format,
    interfaces: Vec<Interface>,
    skipped: u64,
}

impl PausedCapture {
    /// Goes on; `bytes` begin with those that were not read yet.
    #[must_use]
    pub fn resume(self, bytes: &[u8]) -> CaptureFile<'_> {
        CaptureFile {
            end: self.at.saturating_add(bytes.len()),
            rest: bytes,
            ended: false,
            little: self.little,
            format: self.format,
            interfaces: self.interfaces,
            skipped: self.skipped,
        }
    }
}

const SECTION: u32 = 0x0A0D_0D0A;
const ORDER: u32 = 0x1A2B_3C4D;

impl<'a> CaptureFile<'a> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// [`CaptureFileError`] when it is no capture or ends inside the header.
    pub fn open(bytes: &'a [u8]) -> Result<Self, CaptureFileError> {
        let magic = number(bytes, 0, false).ok_or(CaptureFileError::Truncated { at: 0 })?;
        let (little, nanoseconds) = match magic {
            0xA1B2_C3D4 => (false, false),
            0xA1B2_3C4D => (false, true),
            0xD4C3_B2A1 => (true, false),
            0x4D3C_B2A1 => (true, true),
            SECTION => {
                return Ok(Self {
                    end: bytes.len(),
                    rest: bytes,
                    ended: false,
                    little: false,
                    format: Format::NextGeneration,
                    interfaces: Vec::new(),
                    skipped: 0,
                });
            }
            _ => return Err(CaptureFileError::Magic { magic }),
        };
        let (Some(link), Some(rest)) = (number(bytes, 20, little), bytes.get(24..)) else {
            return Err(CaptureFileError::Truncated { at: 0 });
        };
        // The upper bits hold the length of a frame check sequence.
        let link = Link::from_number(link & 0xFFFF);
        Ok(Self {
            end: bytes.len(),
            rest,
            ended: false,
            little,
            format: Format::Classic { link, nanoseconds },
            interfaces: Vec::new(),
            skipped: 0,
        })
    }

    /// The next record; `None` at the end of the file.
    ///
    /// # Errors
    /// [`CaptureFileError`] when the file is cut or contradicts itself; the call after that gives `None`.
    pub fn read(&mut self) -> Result<Option<Record<'a>>, CaptureFileError> {
        if self.ended {
            return Ok(None);
        }
        let outcome = match self.format {
            Format::Classic { link, nanoseconds } => self.classic(link, nanoseconds),
            Format::NextGeneration => self.block(),
        };
        self.ended = outcome.is_err();
        outcome
    }

    /// Lets go of the bytes at hand, and says how many of them, at their end, were not read: with more bytes behind
    /// them, [`PausedCapture::resume`] goes on, also after [`CaptureFileError::Truncated`].
    #[must_use]
    pub fn pause(self) -> (PausedCapture, usize) {
        let unread = self.rest.len();
        let paused = PausedCapture {
            at: self.at(),
            little: self.little,
            format: self.format,
            interfaces: self.interfaces,
            skipped: self.skipped,
        };
        (paused, unread)
    }

    fn at(&self) -> usize {
        self.end.saturating_sub(self.rest.len())
    }

    fn classic(
        &mut self,
        link: Option<Link>,
        nanoseconds: bool,
    ) -> Result<Option<Record<'a>>, CaptureFileError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let cut = CaptureFileError::Truncated { at: self.at() };
        let (head, rest) = self.rest.split_at_checked(16).ok_or(cut)?;
        let field = |offset| number(head, offset, self.little).ok_or(cut);
        let (seconds, fraction, kept, wire_bytes) = (field(0)?, field(4)?, field(8)?, field(12)?);
        let (frame, rest) =
            usize::try_from(kept).ok().and_then(|kept| rest.split_at_checked(kept)).ok_or(cut)?;
        let scale = if nanoseconds { 1 } else { 1_000 };
        let at = u64::from(seconds)
            .saturating_mul(1_000_000_000)
            .saturating_add(u64::from(fraction).saturating_mul(scale));
        self.rest = rest;
        Ok(Some(Record { at, link, wire_bytes, frame }))
    }

    /// Reads pcapng blocks up to the next packet; each turn eats at least 12 bytes.
    fn block(&mut self) -> Result<Option<Record<'a>>, CaptureFileError> {
        while !self.rest.is_empty() {
            let at = self.at();
            let cut = CaptureFileError::Truncated { at };
            let kind = number(self.rest, 0, self.little).ok_or(cut)?;
            // The section's type reads the same in both orders; its third word tells which one holds.
            if kind == SECTION {
                self.little = match number(self.rest, 8, false).ok_or(cut)? {
                    ORDER => false,
                    order if order.swap_bytes() == ORDER => true,
                    _ => return Err(CaptureFileError::Malformed { at, what: "byte-order magic" }),
                };
                self.interfaces.clear();
            }
            let length = number(self.rest, 4, self.little).ok_or(cut)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length < 12 || length % 4 != 0 {
                return Err(CaptureFileError::Malformed { at, what: "block length" });
            }
            let (block, rest) = self.rest.split_at_checked(length).ok_or(cut)?;
            let body = block.get(8..length.saturating_sub(4)).unwrap_or_default();
            self.rest = rest;
            let malformed = CaptureFileError::Malformed { at, what: "block is shorter than its fields" };
            let record = match kind {
                1 => {
                    self.interface(body).ok_or(malformed)?;
                    continue;
                }
                3 => self.simple(body).ok_or(malformed)?,
                6 => self.enhanced(body).ok_or(malformed)?,
                _ => continue,
            };
            match record {
                Some(record) => return Ok(Some(record)),
                None => self.skipped = self.skipped.saturating_add(1),
            }
        }
        Ok(None)
    }

    /// Remembers an interface description block.
    fn interface(&mut self, body: &[u8]) -> Option<()> {
        let link = Link::from_number(u32::from(half(body, 0, self.little)?));
        let snap = number(body, 4, self.little)?;
        let mut options = body.get(8..).unwrap_or_default();
        let mut resolution = 6;
        // Each turn eats at least four bytes.
        while let (Some(code), Some(length)) = (half(options, 0, self.little), half(options, 2, self.little))
        {
            if code == 0 {
                break;
            }
            if let (9, Some(value)) = (code, options.get(4)) {
                resolution = *value;
            }
            let padded = usize::from(length).saturating_add(3) & !3;
            options = options.get(padded.saturating_add(4)..).unwrap_or_default();
        }
        if self.interfaces.len() < MAX_INTERFACES {
            self.interfaces.push(Interface { link, resolution, snap });
        }
        Some(())
    }

    /// An enhanced packet block: outer `None` when it is malformed, inner when its interface is not known.
    fn enhanced(&self, body: &'a [u8]) -> Option<Option<Record<'a>>> {
        let field = |offset| number(body, offset, self.little);
        let (interface, high, low, kept, wire_bytes) =
            (field(0)?, field(4)?, field(8)?, field(12)?, field(16)?);
        let frame = body.get(20..)?.get(..usize::try_from(kept).ok()?)?;
        let interface = usize::try_from(interface).ok().and_then(|index| self.interfaces.get(index));
        let ticks = (u64::from(high) << 32) | u64::from(low);
        Some(interface.map(|interface| Record {
            at: nanoseconds(ticks, interface.resolution),
            link: interface.link,
            wire_bytes,
            frame,
        }))
    }

    /// A simple packet block, of the first interface and without a time.
    fn simple(&self, body: &'a [u8]) -> Option<Option<Record<'a>>> {
        let wire_bytes = number(body, 0, self.little)?;
        let padded = body.get(4..)?;
        let Some(interface) = self.interfaces.first() else { return Some(None) };
        let kept = if interface.snap == 0 { wire_bytes } else { wire_bytes.min(interface.snap) };
        let frame = padded.get(..usize::try_from(kept).ok()?)?;
        Some(Some(Record { at: 0, link: interface.link, wire_bytes, frame }))
    }
}

/// Ticks of a resolution (the high bit says power of two, else of ten) as nanoseconds.
fn nanoseconds(ticks: u64, resolution: u8) -> u64 {
    let exponent = u32::from(resolution & 0x7F);
    let base: u128 = if resolution & 0x80 == 0 { 10 } else { 2 };
    let per_second = base.checked_pow(exponent).unwrap_or(u128::MAX);
    let total = u128::from(ticks).saturating_mul(1_000_000_000).checked_div(per_second).unwrap_or(0);
    u64::try_from(total).unwrap_or(u64::MAX)
}

fn number(input: &[u8], offset: usize, little: bool) -> Option<u32> {
    let bytes = input.get(offset..)?.first_chunk::<4>()?;
    Some(if little { u32::from_le_bytes(*bytes) } else { u32::from_be_bytes(*bytes) })
}

fn half(input: &[u8], offset: usize, little: bool) -> Option<u16> {
    let bytes = input.get(offset..)?.first_chunk::<2>()?;
    Some(if little { u16::from_le_bytes(*bytes) } else { u16::from_be_bytes(*bytes) })
}
