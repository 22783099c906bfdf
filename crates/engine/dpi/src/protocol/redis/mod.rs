//! Redis (RESP, the specification of its serialization protocol): the names of commands. Their arguments are data and
//! passwords, and are passed over.

#[cfg(test)]
pub(crate) mod samples;

use crate::event::Field;
use crate::key::Side;
use crate::protocol::{Context, Ports, Probe, Step, read};

const PORT: u16 = 6379;
/// Longest inline command or line of lengths.
const MAX_LINE_BYTES: usize = 4096;
/// Largest length or count: 512 MiB, as servers take.
const MAX_NUMBER: u64 = 512 << 20;
/// Longest name of a command.
const MAX_NAME_BYTES: u64 = 64;

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Redis {
    /// Arguments of the command at hand that are still to come.
    arguments: u64,
    /// The next argument is the command's name.
    name: bool,
    commands: u32,
}

/// A client begins with an array of strings, or a command as a line; a server is known by what only it says.
pub(crate) fn probe(side: Side, input: &[u8], ports: Ports) -> Probe {
    if side == Side::Server {
        return [&b"+PONG\r\n"[..], b"-NOAUTH ", b"-WRONGPASS ", b"-DENIED Redis"]
            .iter()
            .map(|start| Probe::starts(input, start))
            .find(|probe| *probe != Probe::No)
            .unwrap_or(Probe::No);
    }
    if input.first() == Some(&b'*') {
        let rest = input.get(1..).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let after = rest.get(digits..).unwrap_or_default();
        return match (digits, Probe::starts(after, b"\r\n$")) {
            (0, _) => {
                if rest.is_empty() {
                    Probe::Maybe
                } else {
                    Probe::No
                }
            }
            (8.., _) => Probe::No,
            (_, probe) => probe,
        };
    }
    let inline: &[&[u8]] = &[b"PING\r\n", b"INFO\r\n", b"ping\r\n", b"info\r\n"];
    match inline.iter().map(|line| Probe::starts(input, line)).find(|probe| *probe != Probe::No) {
        Some(probe) => probe,
        None if ports.server == PORT => Probe::starts(input, b"AUTH "),
        None => Probe::No,
    }
}

impl Redis {
    pub(crate) fn lost(&mut self) {
        (self.arguments, self.name) = (0, false);
    }

    pub(crate) fn step(&mut self, context: &mut Context<'_>, input: &[u8]) -> Step {
        if context.side == Side::Server {
            return Step::Done;
        }
        let (line, taken) = match read::line(input, MAX_LINE_BYTES) {
            Ok((line, taken)) => (line.trim_ascii_end(), taken),
            Err(step) => return step,
        };
        match (line.split_first(), self.arguments) {
            (Some((b'*', count)), 0) => {
                let Some(count) = read::decimal(count, MAX_NUMBER) else { return Step::Reject };
                (self.arguments, self.name) = (count, true);
                Step::Took(taken)
            }
            (Some((b'$', length)), 1..) => {
                let Some(length) = read::decimal(length, MAX_NUMBER) else { return Step::Reject };
                if self.name && length <= MAX_NAME_BYTES {
                    let start = taken;
                    let stop = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
                    let Some(name) = input.get(start..stop) else { return Step::More(stop) };
                    self.command(context, name);
                    self.name = false;
                }
                self.arguments = self.arguments.saturating_sub(1);
                // The string and the line's end behind it.
                Step::Skip(length.saturating_add(2).saturating_add(taken as u64))
            }
            (None, 0) => Step::Took(taken),
            (Some(_), 0) => {
                let name = line.split(|byte| *byte == b' ').next().unwrap_or_default();
                if !name.iter().all(u8::is_ascii_alphanumeric) {
                    return Step::Reject;
                }
                self.command(context, name);
                Step::Took(taken)
            }
            _ => Step::Reject,
        }
    }

    fn command(&mut self, context: &mut Context<'_>, name: &[u8]) {
        context.text(Field::Command, self.commands, name);
        self.commands = self.commands.saturating_add(1);
    }
}
