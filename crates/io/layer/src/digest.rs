//! SHA-256 of what passes through a reader.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

/// A reader that hashes what is read through it.
pub(crate) struct Hashed<R> {
    stream: R,
    sum: Sum,
}

/// What was hashed so far; shared with the reader, which decoders take away.
#[derive(Clone, Default)]
pub(crate) struct Sum(Rc<RefCell<(Sha256, u64)>>);

impl<R: Read> Hashed<R> {
    pub(crate) fn new(stream: R) -> (Self, Sum) {
        let sum = Sum::default();
        (Self { stream, sum: sum.clone() }, sum)
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        let mut state = self.sum.0.borrow_mut();
        state.0.update(buffer.get(..read).unwrap_or_default());
        state.1 += read as u64;
        Ok(read)
    }
}

impl Sum {
    /// `sha256:` and 64 hexadecimal digits.
    pub(crate) fn digest(&self) -> String {
        named(&self.0.borrow().0.clone().finalize())
    }

    /// How many bytes there were.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.borrow().1
    }
}

/// The digest of bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    named(&Sha256::digest(bytes))
}

fn named(sum: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut digest = String::from("sha256:");
    for byte in sum {
        // Writing to a string does not fail.
        let _written = write!(digest, "{byte:02x}");
    }
    digest
}
