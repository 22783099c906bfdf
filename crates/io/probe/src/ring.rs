//! The ring buffer by its descriptor alone.

#![expect(unsafe_code, reason = "libbpf hands records over as raw pointers")]

use std::ffi::{c_int, c_ulong, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};

/// Called with each record; it lies in the ring only during the call.
type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// A reader of the ring.
pub(crate) struct Ring {
    ring: NonNull<libbpf_sys::ring_buffer>,
    /// libbpf holds its address: boxed twice, so that it never moves.
    _sink: Box<Sink>,
    _fd: OwnedFd,
}

// SAFETY: the ring and its sink have one owner, `consume` takes it exclusively, and the sink is Send.
unsafe impl Send for Ring {}

impl Ring {
    pub(crate) fn new(fd: OwnedFd, sink: Sink) -> io::Result<Self> {
        let mut sink = Box::new(sink);
        let context: *mut c_void = (&raw mut *sink).cast();
        // SAFETY: `context` points to the boxed sink, which lives as long as the ring and is used by `sample` only.
        let ring = unsafe { libbpf_sys::ring_buffer__new(fd.as_raw_fd(), Some(sample), context, null_mut()) };
        let ring = NonNull::new(ring).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { ring, _sink: sink, _fd: fd })
    }

    /// Hands at most `limit` records to the sink; how many it were.
    pub(crate) fn consume(&mut self, limit: usize) -> io::Result<usize> {
        // SAFETY: the ring is valid until it is dropped, and nobody else consumes from it.
        let answer =
            unsafe { libbpf_sys::ring_buffer__consume_n(self.ring.as_ptr(), limit as libbpf_sys::size_t) };
        usize::try_from(answer).map_err(|_negative| io::Error::from_raw_os_error(answer.saturating_neg()))
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring is valid.
        let fd = unsafe { libbpf_sys::ring_buffer__epoll_fd(self.ring.as_ptr()) };
        // SAFETY: libbpf keeps this descriptor open as long as the ring lives, and so does the borrow.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: made by `ring_buffer__new`, freed once, and the sink is dropped after it.
        unsafe { libbpf_sys::ring_buffer__free(self.ring.as_ptr()) };
    }
}

unsafe extern "C" fn sample(context: *mut c_void, data: *mut c_void, bytes: c_ulong) -> c_int {
    if data.is_null() {
        return 0;
    }
    // SAFETY: `context` is the sink given to `ring_buffer__new`; `consume` has exclusive use of it.
    let sink = unsafe { &mut *context.cast::<Sink>() };
    // SAFETY: libbpf gives a record of this length, which stays until this function returns.
    let record = unsafe { std::slice::from_raw_parts(data.cast::<u8>().cast_const(), bytes as usize) };
    sink(record);
    0
}
