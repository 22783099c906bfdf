//! Captures of packets on real pods: what the filter wants and nothing else, as a file that can be opened.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_packet::capture_file::CaptureFile;
use nv_packet::decode::{Decoded, Packet, Transport, decode};
use nv_packet::link::Link;
use nv_scene::Scene;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// How soon a capture has what was sent.
const SOON: Duration = Duration::from_secs(10);

/// The file in a form of one part.
fn part(form: &[u8]) -> Result<&[u8]> {
    let find = |wanted: &[u8]| form.windows(wanted.len()).position(|window| window == wanted);
    let begin = find(b"\r\n\r\n").context("the form has no part")? + 4;
    let end = find(b"\r\n--pcap-").context("the form does not end")?;
    let head = String::from_utf8_lossy(form.get(..begin).unwrap_or_default()).into_owned();
    ensure!(head.contains("name=\"pcap\"") && head.contains("application/cap"), "{head}");
    form.get(begin..end).context("the part is empty")
}

/// Ports of the TCP segments in a capture file.
fn ports(file: &[u8]) -> Result<Vec<(u16, u16)>> {
    let mut file = CaptureFile::open(file)?;
    let mut ports = Vec::new();
    while let Some(record) = file.read()? {
        ensure!(record.link == Some(Link::Ethernet) && record.at > 0, "a record without link or time");
        match decode(Link::Ethernet, record.frame) {
            Ok(Decoded::Packet(Packet { transport: Transport::Tcp(segment), .. })) => {
                ports.push((segment.source_port, segment.destination_port));
            }
            other => anyhow::bail!("no TCP segment: {other:?}"),
        }
    }
    Ok(ports)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_filter_wants_of_a_pods_packets_is_captured_downloaded_and_deleted() -> Result<()> {
    let scene = Scene::start("sniffer").await?;
    let id = scene.client.container().id.clone();
    let at = format!("/v1/sniffer?f_workload={id}");
    let begin =
        async |sniffer: Value| scene.api.call(Method::POST, &at, Some(&json!({ "sniffer": sniffer }))).await;
    scene
        .api
        .wait_for(&format!("/v1/workload/{id}"), SOON, |answer| answer.get("workload").map(drop))
        .await?;

    let (status, answer) = begin(json!({"filter": "tcp port 80; reboot"})).await?;
    ensure!(status == StatusCode::BAD_REQUEST, "{answer}");
    ensure!(answer.to_string().contains("\\\";\\\" at 11"), "{answer}");
    let (status, answer) = begin(json!({"file_number": 51})).await?;
    ensure!(status == StatusCode::BAD_REQUEST && answer.to_string().contains("1 to 50"), "{answer}");

    let (status, answer) = begin(json!({"filter": "tcp port 80", "file_number": 1})).await?;
    ensure!(status == StatusCode::OK, "{answer}");
    let capture = answer.pointer("/result/id").and_then(Value::as_str).context("no id")?.to_owned();
    // Beside what is wanted, what is not.
    let echo = format!("{}:7", scene.echo_address()?);
    for _ in 0..3 {
        scene.run(&["/bin/attacker", "talk", &echo, "3"]).await?;
        let web = format!("http://{}/index.html", scene.web_address()?);
        ensure!(
            scene.run(&["/bin/wget", "-q", "-O", "-", &web]).await?.exit_code == 0,
            "no answer of the web server"
        );
    }
    let one = format!("/v1/sniffer/{capture}");
    scene
        .api
        .wait_for(&one, SOON, |answer| {
            let shown = answer.get("sniffer")?;
            let packets = shown.get("packets").and_then(Value::as_u64).unwrap_or_default();
            (packets >= 20 && shown.get("status").and_then(Value::as_str) == Some("running")).then_some(())
        })
        .await?;
    let (status, answer) =
        scene.api.call(Method::PATCH, &format!("/v1/sniffer/stop/{capture}"), None).await?;
    ensure!(status == StatusCode::OK, "{answer}");
    let stopped = |answer: &Value| {
        let list = answer.get("sniffers")?.as_array()?;
        let shown = list.iter().find(|shown| shown.get("id").and_then(Value::as_str) == Some(&capture))?;
        (shown.get("status").and_then(Value::as_str) == Some("stopped")).then(|| shown.clone())
    };
    let (shown, _) = scene.api.wait_for(&at, SOON, stopped).await?;
    ensure!(shown.get("args").and_then(Value::as_str) == Some("tcp port 80"), "{shown}");
    ensure!(shown.get("container_id").and_then(Value::as_str) == Some(&id), "{shown}");
    ensure!(shown.get("dropped").and_then(Value::as_u64) == Some(0), "{shown}");

    let form = scene.api.download(&format!("{one}/pcap")).await?;
    let found = ports(part(&form)?)?;
    let kept = shown.get("packets").and_then(Value::as_u64).unwrap_or_default();
    ensure!(u64::try_from(found.len())? == kept, "{} packets of {kept} came", found.len());
    ensure!(found.iter().all(|(from, to)| *from == 80 || *to == 80), "{found:?}");
    ensure!(
        found.iter().any(|(from, _)| *from == 80) && found.iter().any(|(_, to)| *to == 80),
        "one direction alone"
    );

    let (status, answer) = scene.api.call(Method::DELETE, &one, None).await?;
    ensure!(status == StatusCode::OK, "{answer}");
    let (status, answer) = scene.api.call(Method::GET, &one, None).await?;
    ensure!(status == StatusCode::NOT_FOUND && answer.get("code") == Some(&json!(7)), "{answer}");
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_ends_when_its_time_is_over() -> Result<()> {
    let scene = Scene::start("snifferend").await?;
    let id = scene.client.container().id.clone();
    let at = format!("/v1/sniffer?f_workload={id}");
    scene
        .api
        .wait_for(&format!("/v1/workload/{id}"), SOON, |answer| answer.get("workload").map(drop))
        .await?;
    let (status, answer) =
        scene.api.call(Method::POST, &at, Some(&json!({"sniffer": {"duration": 1}}))).await?;
    ensure!(status == StatusCode::OK, "{answer}");
    scene
        .api
        .wait_for(&at, SOON, |answer| {
            let shown = answer.get("sniffers")?.get(0)?;
            (shown.get("status").and_then(Value::as_str) == Some("stopped")).then_some(())
        })
        .await?;
    scene.stop().await
}
