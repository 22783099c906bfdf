//! Discover and Protect in turn, while allowed connections talk.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_scene::{Counted, Scene};

use crate::Line;

/// Switches of the mode under each kind of traffic, and lines that the traffic has: 2 ms apart.
const SWITCHES: usize = 20;
const LINES: &str = "4000";

/// Discover → Protect and back, while allowed connections talk: over IPv4 and IPv6, TCP and UDP.
pub(crate) async fn measure(scene: &Scene) -> Result<Vec<Line>> {
    let (four, six) = (scene.echo.ipv4(), scene.echo.ipv6());
    let of = |address: Option<IpAddr>| {
        address.map(|address| SocketAddr::new(address, 7).to_string()).context("a pod without address")
    };
    let (four, six) = (of(four)?, of(six)?);
    // Datagrams are learned first; a rule has no address, so that IPv6 is in it.
    scene.set_mode("Discover").await?;
    ensure!(scene.run(&["/bin/attacker", "exchange", &four, "5"]).await?.exit_code == 0, "no datagrams");
    scene
        .api
        .wait_for("/v1/policy/rule", Duration::from_secs(30), |answer| {
            answer.to_string().contains("udp/7").then_some(())
        })
        .await
        .context("datagrams are not learned")?;
    scene.set_mode("Protect").await?;
    let mut lines = Vec::new();
    for (what, verb, target) in [
        ("mode changes under TCP over IPv4", "talk", &four),
        ("mode changes under TCP over IPv6", "talk", &six),
        ("mode changes under UDP over IPv4", "exchange", &four),
        ("mode changes under UDP over IPv6", "exchange", &six),
    ] {
        lines.push(switch_under(scene, what, verb, target).await?);
    }
    Ok(lines)
}

/// The mode changes while one kind of traffic goes on. A segment that is sent again was lost.
async fn switch_under(scene: &Scene, what: &'static str, verb: &str, target: &str) -> Result<Line> {
    let again = || -> Result<u64> {
        Ok(Counted::of(&scene.client)?.retransmitted + Counted::of(&scene.echo)?.retransmitted)
    };
    let (before, earlier) = (again()?, enforced(scene)?.len());
    let words = ["/bin/attacker", verb, target, LINES];
    let talk = scene.run(&words);
    let toggle = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        for number in 0..SWITCHES {
            let mode = if number % 2 == 0 { "Discover" } else { "Protect" };
            scene.api.set_modes(&["web.shop", "echo.shop", "client.shop"], mode).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok::<(), anyhow::Error>(())
    };
    let (talked, toggled) = tokio::join!(talk, toggle);
    toggled?;
    let (talked, resent) = (talked?, again()? - before);
    let mut micros = enforced(scene)?.split_off(earlier);
    micros.sort_unstable();
    ensure!(micros.len() >= SWITCHES, "{} of {SWITCHES} changes are in the log", micros.len());
    let median = micros.get(micros.len() / 2).copied().unwrap_or_default();
    let worst = micros.last().copied().unwrap_or_default();
    let lost =
        if talked.exit_code == 0 { String::new() } else { format!(", ended: {}", talked.stderr.trim()) };
    Ok(Line {
        what,
        promised: "< 10 ms, 0 packets lost",
        measured: format!(
            "median {:.1} ms, worst {:.1} ms of {}; {resent} packets sent again{lost}",
            median as f64 / 1e3,
            worst as f64 / 1e3,
            micros.len()
        ),
        holds: worst < 10_000 && talked.exit_code == 0 && resent == 0,
    })
}

/// How long each change of the policy took from its arrival to its last map write, in microseconds, as the log tells.
fn enforced(scene: &Scene) -> Result<Vec<u64>> {
    let log = std::fs::read_to_string(scene.product.log_path())?;
    let micros = log
        .lines()
        .filter(|line| line.contains("policy enforced"))
        .filter_map(|line| line.split("micros=").nth(1)?.split_whitespace().next()?.parse().ok());
    Ok(micros.collect())
}
