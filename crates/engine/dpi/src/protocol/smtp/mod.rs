//! SMTP (RFC 5321): commands without their arguments, and the server's greeting, up to the first message or to TLS.

use crate::event::Field;
use crate::key::Side;
use crate::protocol::{Context, Probe, Protocol, Step, read};

/// Longest line (RFC 5321 §4.5.3.1), with room for extensions.
const MAX_LINE_BYTES: usize = 4096;

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Smtp {
    commands: u32,
    greeted: bool,
    /// The client has asked for TLS; the server's next line says whether it comes.
    asked: bool,
}

/// A server greets with its protocol's name, a client with its own.
pub(crate) fn probe(side: Side, input: &[u8]) -> Probe {
    let starts: &[&[u8]] = match side {
        Side::Client => &[b"EHLO ", b"HELO ", b"ehlo ", b"helo ", b"LHLO "],
        Side::Server => &[b"220 ", b"220-"],
    };
    let begun = starts.iter().map(|start| Probe::starts(input, start)).find(|probe| *probe != Probe::No);
    match (side, begun) {
        (_, None) => Probe::No,
        (Side::Server, Some(Probe::Yes)) => match memchr::memchr(b'\n', input) {
            Some(end) => {
                let line = input.get(..end).unwrap_or_default();
                Probe::when(line.windows(4).any(|word| word.eq_ignore_ascii_case(b"SMTP")))
            }
            None => Probe::Maybe,
        },
        (_, Some(probe)) => probe,
    }
}

impl Smtp {
    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        let (line, taken) = match read::line(input, MAX_LINE_BYTES) {
            Ok((line, taken)) => (line.trim_ascii_end(), taken),
            Err(step) => return step,
        };
        if context.side == Side::Server {
            if !self.greeted {
                self.greeted = true;
                context.text(Field::ServerSoftware, 0, line.get(4..).unwrap_or_default());
            }
            if self.asked && line.starts_with(b"220") {
                return Step::Become(taken, Protocol::Tls);
            }
            self.asked = false;
            return Step::Took(taken);
        }
        let word = line.split(|byte| matches!(byte, b' ' | b':')).next().unwrap_or_default();
        if word.len() > 12 || !word.iter().all(u8::is_ascii_alphabetic) {
            // An answer to AUTH: data, not a command.
            return Step::Took(taken);
        }
        context.text(Field::Command, self.commands, word);
        self.commands = self.commands.saturating_add(1);
        self.asked = word.eq_ignore_ascii_case(b"STARTTLS");
        // What follows is the message; nothing is read of it.
        if word.eq_ignore_ascii_case(b"DATA") || word.eq_ignore_ascii_case(b"BDAT") {
            return Step::Done;
        }
        Step::Took(taken)
    }
}
