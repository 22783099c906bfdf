//! New pods of the client's service, started while every CPU is busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use nv_lab::{ContainerSpec, Pod, PodSpec};

use crate::{CLIENT_IMAGE, NAMESPACE};

/// A pod of the client's service whose container runs `command` and nothing before it. Pods of different numbers have
/// different names.
#[must_use]
pub fn client_pod(number: usize, command: &[&str]) -> PodSpec {
    // Five of the letters that Kubernetes makes its suffixes of.
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz";
    let letter =
        |place: u32| LETTERS.get(number / 20_usize.pow(place) % LETTERS.len()).copied().unwrap_or(b'b');
    let suffix: String = (0..5).map(|place| char::from(letter(place))).collect();
    PodSpec::new(&format!("client-5f6d8b7c9-{suffix}"), NAMESPACE).container(ContainerSpec::new(
        "main",
        CLIENT_IMAGE,
        command,
    ))
}

/// Keeps every CPU busy until it is dropped.
#[derive(Debug)]
pub struct Load(Arc<AtomicBool>);

impl Load {
    /// One thread a CPU.
    #[must_use]
    pub fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let cpus = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..cpus {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the kernel has counted in a pod's network since its beginning, IPv4 and IPv6 together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// TCP segments and UDP datagrams that came in, whether somebody waited for them or not.
    pub received: u64,
    /// TCP segments that were sent again.
    pub retransmitted: u64,
}

impl Counted {
    /// Reads `/proc/PID/net/snmp` and `snmp6` of the pod's sandbox.
    ///
    /// # Errors
    /// When the sandbox is gone.
    pub fn of(pod: &Pod) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{}/net/{file}", pod.sandbox.pid);
            std::fs::read_to_string(&path).context(path)
        };
        let (both, six) = (read("snmp")?, read("snmp6")?);
        let count = |protocol: &str, name: &str| {
            let mut lines = both.lines().filter_map(|line| line.strip_prefix(protocol));
            let names = lines.next().unwrap_or_default().split_whitespace();
            let mut columns = names.zip(lines.next().unwrap_or_default().split_whitespace());
            let column = columns.find(|(column, _)| *column == name);
            column.and_then(|(_, value)| value.parse::<u64>().ok()).context("a counter of the network")
        };
        let count6 = |name: &str| {
            let mut lines = six.lines().map(|line| line.split_whitespace());
            let line =
                lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()).flatten());
            line.and_then(|value| value.parse::<u64>().ok()).context("a counter of the network")
        };
        Ok(Self {
            received: count("Tcp:", "InSegs")?
                + count("Udp:", "InDatagrams")?
                + count("Udp:", "NoPorts")?
                + count6("Udp6InDatagrams")?
                + count6("Udp6NoPorts")?,
            retransmitted: count("Tcp:", "RetransSegs")?,
        })
    }
}
