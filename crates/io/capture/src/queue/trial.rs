//! Finds out whether packets really wait, and go where the answer says.
//!
//! One end of a veth plays the pod. Of three packets put into the other end, the first is to an address that nothing may
//! arrive at, the second says that its connection is clean, and the third, of the same connection, must not be asked about.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Answer, Fate, OnFault, Queue, QueueReader};
use crate::trial::{ALLOWED_PORT, FORBIDDEN_PORT, HOST_ADDRESS, PATIENCE, frame, make_veth, send_frame};

/// In the network namespace of the calling thread, which nobody else uses.
pub(crate) fn fire() -> Result<(), String> {
    let why = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let (host_end, pod_end) = make_veth().map_err(why("no veth for the trial"))?;
    let queue = Queue::open_here(OnFault::Drop).map_err(|error| chain(&error))?;
    let mut reader = QueueReader::new(queue.reader().map_err(why("no descriptor"))?);
    let host = std::net::IpAddr::from(HOST_ADDRESS);
    let socket = |port| UdpSocket::bind((host, port)).map_err(why("no socket for the trial"));
    let (allowed, forbidden) = (socket(ALLOWED_PORT)?, socket(FORBIDDEN_PORT)?);
    allowed.set_read_timeout(Some(PATIENCE)).map_err(why("no socket for the trial"))?;
    forbidden.set_nonblocking(true).map_err(why("no socket for the trial"))?;
    let mut byte = [0; 1];
    for (port, fate) in [(FORBIDDEN_PORT, Fate::Cut), (ALLOWED_PORT, Fate::Clean)] {
        send_frame(pod_end.ifindex, &frame(&host_end, &pod_end, port))
            .map_err(why("no frame could be sent"))?;
        let asked = next(&mut reader).map_err(why("the queue cannot be read"))?;
        let (packet, mark) = asked.ok_or("a packet did not come into the queue")?;
        queue
            .answer(std::iter::once(Answer { queue: 0, packet, mark, fate }))
            .map_err(why("a packet cannot be answered to"))?;
    }
    allowed.recv(&mut byte).map_err(|_silence| "an allowed packet did not arrive".to_owned())?;
    if forbidden.recv(&mut byte).is_ok() {
        return Err("a refused packet arrived".to_owned());
    }
    send_frame(pod_end.ifindex, &frame(&host_end, &pod_end, ALLOWED_PORT))
        .map_err(why("no frame could be sent"))?;
    allowed.recv(&mut byte).map_err(|_silence| {
        "a connection that was clean is asked about again: what rules add to a set does not hold".to_owned()
    })?;
    Ok(())
}

/// The next packet's number and mark, or `None` when none comes in time.
fn next(reader: &mut QueueReader) -> io::Result<Option<(u32, u32)>> {
    let wait = Timespec { tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(1), tv_nsec: 0 };
    let descriptor = reader.as_fd().try_clone_to_owned()?;
    rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&wait)))?;
    let mut found = None;
    reader.drain(1, |queued| found = Some((queued.packet, queued.mark)))?;
    Ok(found)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
