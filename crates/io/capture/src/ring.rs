//! Reads a BPF ring buffer that was handed over as a descriptor.
//!
//! The kernel's memory is mapped: one page with the consumer's position, which is ours to write, one with the producer's,
//! and the data twice in a row, so that a record that wraps around can be read in one piece.
#![expect(unsafe_code, reason = "maps and reads memory that the kernel writes")]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Bits of a record's length word (kernel: `BPF_RINGBUF_BUSY_BIT`, `BPF_RINGBUF_DISCARD_BIT`).
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: usize = 8;

/// A mapped ring. One reader at a time.
pub(crate) struct Ring {
    fd: OwnedFd,
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    size: usize,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("fd", &self.fd).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Ring {
    /// Maps a ring of `size` bytes, a power of two.
    pub(crate) fn map(fd: OwnedFd, size: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        if !size.is_power_of_two() || size < page {
            return Err(io::Error::other("the size of the ring is not a power of two of at least a page"));
        }
        let consumer = Mapping::new(fd.as_fd(), page, libc::PROT_READ | libc::PROT_WRITE, 0)?;
        let length = size.saturating_mul(2).saturating_add(page);
        let producer = Mapping::new(fd.as_fd(), length, libc::PROT_READ, page)?;
        Ok(Self { fd, consumer, producer, page, size })
    }

    /// Hands at most `limit` records to `each`; answers with how many there were.
    pub(crate) fn drain(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
        // SAFETY: both pages start with a position, aligned to the page, and stay mapped as long as `self`.
        let (consumer, producer) = unsafe {
            (
                self.consumer.start.cast::<AtomicUsize>().as_ref(),
                self.producer.start.cast::<AtomicUsize>().as_ref(),
            )
        };
        let mut at = consumer.load(Ordering::Relaxed);
        let mut records = 0;
        while records < limit && at < producer.load(Ordering::Acquire) {
            let offset = self.page.wrapping_add(at & self.size.wrapping_sub(1));
            // SAFETY: a record begins below `size`, so its header lies in the mapping; it is aligned to eight bytes.
            let word = unsafe {
                self.producer.start.byte_add(offset).cast::<AtomicU32>().as_ref().load(Ordering::Acquire)
            };
            if word & BUSY != 0 {
                break;
            }
            let length = usize::try_from(word & !(BUSY | DISCARDED)).unwrap_or(0);
            if length > self.size {
                break;
            }
            if word & DISCARDED == 0 {
                // SAFETY: a record is at most `size` long and begins below `size`; the data is mapped twice, so that all
                // of it lies in the mapping. The kernel does not write it until the position below has passed it.
                each(unsafe {
                    std::slice::from_raw_parts(
                        self.producer.start.byte_add(offset.wrapping_add(HEADER)).cast::<u8>().as_ptr(),
                        length.min(self.size.saturating_sub(HEADER)),
                    )
                });
                records = records.wrapping_add(1);
            }
            at = at.wrapping_add(length.wrapping_add(HEADER).next_multiple_of(8));
            consumer.store(at, Ordering::Release);
        }
        records
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A shared mapping.
struct Mapping {
    start: NonNull<libc::c_void>,
    length: usize,
}

// SAFETY: the memory belongs to the process, not to the thread that mapped it.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, length: usize, protection: i32, offset: usize) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start)
            .map(|start| Self { start, length })
            .ok_or_else(|| io::Error::other("the kernel mapped the ring at address zero"))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone, and nothing of it is borrowed any more.
        let code = unsafe { libc::munmap(self.start.as_ptr(), self.length) };
        debug_assert_eq!(code, 0, "a mapping of our own can be unmapped");
    }
}
