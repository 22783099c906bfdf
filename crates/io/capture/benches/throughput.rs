//! What one TCP stream between two pods costs, protected against unprotected: interleaved pairs of transfers, as ratios.
//! Needs root. `ROUNDS` and `MEGABYTES` set how many and how long.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement fails loudly"
)]
#![expect(dead_code, reason = "the lab serves the tests as well")]
#![expect(clippy::indexing_slicing, reason = "the lab is test code")]

use std::net::IpAddr;

use nv_model::mode::Mode::Protect;
use nv_model::port::Protocol::Tcp;

#[path = "../tests/host_network/lab.rs"]
mod lab;
mod stream;

use lab::{A, B, Lab};
use stream::{PORT, number, spread, transfer};

fn main() {
    let (rounds, megabytes) = (number("ROUNDS", 15), number("MEGABYTES", 400));
    lab::run(|lab| {
        lab.modes(Protect, Protect);
        lab.allow((A, B), Tcp, PORT);
        for address in [lab.b.v4, lab.b.v6] {
            measure(lab, address, rounds, megabytes);
        }
    });
}

fn measure(lab: &mut Lab, address: IpAddr, rounds: usize, megabytes: usize) {
    let (mut costs, mut speeds) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Each of the two comes first in every other pair, so that a slow change of the machine's load evens out.
        let order = if round % 2 == 0 { [false, true] } else { [true, false] };
        let mut runs = [None; 2];
        for protected in order {
            protect(lab, protected);
            runs[usize::from(protected)] = Some(transfer(lab, address, megabytes));
        }
        let [Some(base), Some(protected)] = runs else { continue };
        costs.push(protected.cpu / base.cpu);
        speeds.push(protected.gigabits / base.gigabits);
    }
    assert_eq!(lab.counters.read().unwrap().denied_packets, 0);
    println!("{address} protected / not: CPU a byte {}", spread(&mut costs));
    println!("{address} protected / not: speed      {}", spread(&mut speeds));
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
