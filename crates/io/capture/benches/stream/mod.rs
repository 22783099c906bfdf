//! A TCP stream between two pods, the body of a request of HTTP, and what it takes: the seconds of CPU of the two threads that send and receive, which
//! do the kernel's work on the way as well. That says more than speed does on a machine that has other work to do.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::lab::Lab;

/// Where the server listens.
pub(crate) const PORT: u16 = 5201;
/// What the body is made of.
const TEXT: &[u8] =
    b"It was the best of times, it was the worst of times, it was the age of wisdom; 1859-04-30.\n";
/// Bytes of one write or read.
const PIECE: usize = 128 * 1024;

/// What a transfer took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) gigabits: f64,
    /// Seconds of CPU of both ends, a gigabyte.
    pub(crate) cpu: f64,
}

/// Sends `megabytes` from `a` to `b` over a connection of its own.
pub(crate) fn transfer(lab: &Lab, server: IpAddr, megabytes: usize) -> Moved {
    let listener = lab.b.listen(server, PORT);
    let mut client = lab.a.inside(|| TcpStream::connect((server, PORT)).unwrap());
    let (mut served, _) = listener.accept().unwrap();
    let bytes = megabytes * 1_000_000;
    let head = format!("POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n", bytes + bytes / 8);
    client.write_all(head.as_bytes()).unwrap();
    served.read_exact(&mut vec![0; head.len()]).unwrap();
    // What comes first pays for the slow start, and for what is asked about.
    send(&mut client, &mut served, bytes / 8);
    let begin = Instant::now();
    let cpu = send(&mut client, &mut served, bytes);
    let gigabytes = bytes as f64 / 1e9;
    Moved { gigabits: gigabytes * 8.0 / begin.elapsed().as_secs_f64(), cpu: cpu.as_secs_f64() / gigabytes }
}

fn send(from: &mut TcpStream, to: &mut TcpStream, bytes: usize) -> Duration {
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let piece: Vec<u8> = TEXT.iter().copied().cycle().take(PIECE).collect();
            let mut rest = bytes;
            while rest > 0 {
                rest -= from.write(&piece[..rest.min(PIECE)]).unwrap();
            }
            thread_cpu()
        });
        let receiving = scope.spawn(|| {
            let mut piece = vec![0_u8; PIECE];
            let mut rest = bytes;
            while rest > 0 {
                let read = to.read(&mut piece[..rest.min(PIECE)]).unwrap();
                assert!(read > 0, "the stream has ended");
                rest -= read;
            }
            thread_cpu()
        });
        sending.join().unwrap() + receiving.join().unwrap()
    })
}

/// CPU of the calling thread since its start.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What the environment says, or `default`.
pub(crate) fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Median, and the quartiles around it.
pub(crate) fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let at = |part: usize| values[(values.len() - 1) * part / 4];
    format!("{:.3} (quartiles {:.3} to {:.3}, {} runs)", at(2), at(1), at(3), values.len())
}
