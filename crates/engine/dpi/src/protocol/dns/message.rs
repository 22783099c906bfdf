//! A message, read front to back (RFC 1035 §4.1).

use super::name::Name;
use crate::protocol::read::Cursor;

/// Questions that are read; real messages have one.
const MAX_QUESTIONS: u16 = 32;
/// Records that are walked.
const MAX_RECORDS: u32 = 1024;

/// Header of a message, and all of its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) id: u16,
    pub(super) is_answer: bool,
    pub(super) response_code: u8,
    opcode: u8,
    reserved: bool,
    questions: u16,
    answers: u16,
    others: u32,
}

/// A resource record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) kind: u16,
    pub(super) ttl: u32,
    pub(super) data: &'a [u8],
    /// Where the data begins in the message.
    pub(super) data_at: usize,
}

/// Goes through questions, then answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    message: Message<'a>,
    at: usize,
    questions: u16,
    answers: u32,
    others: u32,
    /// A name met more pointers than it can have.
    pub(super) looped: bool,
    broken: bool,
}

impl<'a> Message<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        let (id, flags) = (cursor.u16()?, cursor.u16()?);
        let (questions, answers) = (cursor.u16()?, cursor.u16()?);
        let others = u32::from(cursor.u16()?).saturating_add(u32::from(cursor.u16()?));
        let [high, low] = flags.to_be_bytes();
        Some(Self {
            bytes,
            id,
            is_answer: high & 0x80 != 0,
            opcode: (high >> 3) & 0x0F,
            reserved: low & 0x40 != 0,
            response_code: low & 0x0F,
            questions,
            answers,
            others,
        })
    }

    /// Whether this is a message of DNS and nothing else: possible flags and counts, names that are names; when
    /// `strict`, nothing may be wrong or left over.
    pub(super) fn is_plausible(&self, strict: bool) -> bool {
        let records = u32::from(self.answers).saturating_add(self.others);
        let possible = self.opcode <= 6
            && self.questions <= MAX_QUESTIONS
            && records <= 256
            && (self.is_answer || self.response_code == 0)
            && (u32::from(self.questions).saturating_add(records) > 0
                || (!strict && self.response_code != 0));
        if !possible || (strict && (self.reserved || self.questions != 1 || self.opcode > 2)) {
            return false;
        }
        let (mut reader, mut name) = (self.questions(), Name::default());
        let mut first = true;
        while let Some(_kind) = reader.question(&mut name) {
            first = false;
        }
        // A pointer in a circle is an attack on DNS, not something else.
        if reader.looped {
            return true;
        }
        if reader.broken && first && self.questions > 0 {
            return false;
        }
        if strict {
            reader.skip_rest(&mut name);
            return !reader.broken && reader.unread() == 0;
        }
        true
    }

    pub(super) fn questions(&self) -> Reader<'a> {
        Reader {
            message: *self,
            at: 12,
            questions: self.questions.min(MAX_QUESTIONS),
            answers: u32::from(self.answers),
            others: self.others,
            looped: false,
            broken: false,
        }
    }
}

impl<'a> Reader<'a> {
    /// The next question's name, into `name`, and its type.
    pub(super) fn question(&mut self, name: &mut Name) -> Option<u16> {
        self.questions = self.questions.checked_sub(1)?;
        let kind = self.name(name).and_then(|()| {
            let mut cursor = Cursor(self.message.bytes.get(self.at..)?);
            let kind = cursor.u16()?;
            cursor.u16()?;
            Some(kind)
        });
        self.at = self.at.saturating_add(if kind.is_some() { 4 } else { 0 });
        self.check(kind)
    }

    /// The next record of the answer section; its name goes into `name`.
    pub(super) fn answer(&mut self, name: &mut Name) -> Option<Record<'a>> {
        self.answers = self.answers.checked_sub(1)?;
        self.record(name)
    }

    /// Walks over all records that are left.
    pub(super) fn skip_rest(&mut self, name: &mut Name) {
        let left = self.answers.saturating_add(self.others).min(MAX_RECORDS);
        (self.answers, self.others) = (0, 0);
        for _ in 0..left {
            if self.record(name).is_none() {
                break;
            }
        }
    }

    /// Bytes behind what could be read.
    pub(super) fn unread(&self) -> usize {
        self.message.bytes.len().saturating_sub(self.at)
    }

    fn record(&mut self, name: &mut Name) -> Option<Record<'a>> {
        if self.broken {
            return None;
        }
        let record = self.name(name).and_then(|()| {
            let mut cursor = Cursor(self.message.bytes.get(self.at..)?);
            let (kind, _class, ttl) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
            let data = cursor.long()?;
            Some(Record { kind, ttl, data, data_at: self.at.saturating_add(10) })
        });
        if let Some(record) = &record {
            self.at = record.data_at.saturating_add(record.data.len());
        }
        self.check(record)
    }

    fn name(&mut self, name: &mut Name) -> Option<()> {
        if self.broken {
            return None;
        }
        let taken = name.read(self.message.bytes, self.at);
        self.looped |= name.looped;
        self.at = self.at.saturating_add(taken?);
        Some(())
    }

    fn check<T>(&mut self, read: Option<T>) -> Option<T> {
        self.broken |= read.is_none();
        read
    }
}
