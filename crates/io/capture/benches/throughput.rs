//! Throughput of one TCP stream between two pods, protected against unprotected: interleaved pairs of iperf3 runs, as
//! ratios. Needs root and iperf3. `PAIRS` and `SECONDS` set how many and how long.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement fails loudly"
)]
#![expect(dead_code, reason = "the lab serves the tests as well")]
#![expect(clippy::indexing_slicing, reason = "the lab is test code")]

use std::process::{Command, Stdio};

use nv_model::mode::Mode::Protect;
use nv_model::port::Protocol::Tcp;

#[path = "../tests/host_network/lab.rs"]
mod lab;

use lab::{A, B, Lab};

/// What one run gave.
#[derive(Clone, Copy, Debug)]
struct Run {
    gigabits: f64,
    /// Seconds of CPU, of both ends, a gigabyte.
    cpu: f64,
}

fn main() {
    let number = |name: &str, default: u32| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (pairs, seconds) = (number("PAIRS", 9), number("SECONDS", 2));
    for address in ["10.77.0.3", "fd77::3"] {
        lab::run(|lab| measure(lab, address, pairs, seconds));
    }
}

fn measure(lab: &mut Lab, address: &str, pairs: u32, seconds: u32) {
    lab.modes(Protect, Protect);
    lab.allow((A, B), Tcp, 5201);
    let mut server = lab.b.inside(|| {
        Command::new("iperf3")
            .args(["-s", "-i", "0"])
            .stdout(Stdio::null())
            .spawn()
            .expect("iperf3 is installed")
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut ratios = Vec::new();
    let mut costs = Vec::new();
    for pair in 0..pairs {
        // Each of the two comes first in every other pair, so that a slow change of the machine's load evens out.
        let order = if pair % 2 == 0 { [false, true] } else { [true, false] };
        let mut runs = [None; 2];
        for protected in order {
            protect(lab, protected);
            runs[usize::from(protected)] = Some(iperf(lab, address, seconds));
        }
        let [Some(base), Some(protected)] = runs else { continue };
        println!(
            "{address} base {:6.2} Gb/s {:.3} s/GB, protected {:6.2} Gb/s {:.3} s/GB",
            base.gigabits, base.cpu, protected.gigabits, protected.cpu
        );
        ratios.push(protected.gigabits / base.gigabits);
        costs.push(protected.cpu / base.cpu);
    }
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(lab.counters.read().unwrap().denied_packets, 0);
    println!("{address} throughput ratio {}", spread(&mut ratios));
    println!("{address} CPU a GB ratio   {}", spread(&mut costs));
}

fn protect(lab: &mut Lab, on: bool) {
    let keeper = lab.loaded.as_mut().unwrap();
    for ifindex in [lab.a.ifindex, lab.b.ifindex] {
        if on {
            keeper.attach(ifindex).unwrap();
        } else {
            keeper.detach(ifindex).unwrap();
        }
    }
}

fn iperf(lab: &Lab, address: &str, seconds: u32) -> Run {
    let output = lab.a.inside(|| {
        Command::new("iperf3")
            .args(["-c", address, "-J", "-i", "0", "-t", &seconds.to_string()])
            .output()
            .unwrap()
    });
    let text = String::from_utf8(output.stdout).unwrap();
    let value = |section: &str, name: &str| -> f64 {
        let (_, rest) = text.split_once(&format!("\"{section}\":")).unwrap_or_else(|| panic!("{text}"));
        let (_, rest) = rest.split_once(&format!("\"{name}\":")).unwrap();
        rest.trim_start().split([',', '\n', '}']).next().unwrap().trim().parse().unwrap()
    };
    let bytes = value("sum_received", "bytes");
    let busy =
        value("cpu_utilization_percent", "host_total") + value("cpu_utilization_percent", "remote_total");
    Run {
        gigabits: value("sum_received", "bits_per_second") / 1e9,
        cpu: busy / 100.0 * f64::from(seconds) / (bytes / 1e9),
    }
}

/// Median, and the quartiles around it.
fn spread(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    let at = |part: usize| values[(values.len() - 1) * part / 4];
    format!("{:.3} (quartiles {:.3} to {:.3}, {} pairs)", at(2), at(1), at(3), values.len())
}
