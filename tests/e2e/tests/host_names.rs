//! Rules by names of hosts: what the DNS answers to a pod counts, and of two hosts at one address the one that is meant.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_scene::{CLIENT_GROUP, Scene};
use reqwest::Method;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(15);
/// Both live at the same address.
const ALLOWED: &str = "allowed.names.test";
const OTHERS: [&str; 2] = ["other.names.test", "other6.names.test"];
/// Lives alone at the second one.
const LATE: &str = "late.names.test";

/// Somewhere else: a network of its own behind the host, with a server of the DNS and of web pages.
struct Outside {
    name: String,
    v4: [Ipv4Addr; 3],
    v6: [Ipv6Addr; 3],
}

fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output()?;
    ensure!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

impl Outside {
    /// With private addresses, or with public ones.
    fn open(private: bool) -> Result<Self> {
        let pid = std::process::id();
        let number = u8::try_from(pid % 200)?;
        let place = u16::try_from(pid % 0x1_0000)?;
        let (first, second) = if private { (172, 31) } else { (198, 18) };
        let v4 = |last| Ipv4Addr::new(first, second, number, last);
        let (start, next) = if private { (0xfd31, 0) } else { (0x2001, 0xdb8) };
        let v6 = |last| Ipv6Addr::new(start, next, place, 0, 0, 0, 0, last);
        let name = format!("nvn{}{pid}", u8::from(private));
        let outside = Self { name, v4: [1, 2, 3].map(v4), v6: [1, 2, 3].map(v6) };
        let Self { name, v4: [host, one, two], v6: [host_6, one_6, two_6] } = &outside;
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {name} type veth peer name eth0 netns {name}"))?;
        for line in [
            format!("addr add {host}/24 dev {name}"),
            format!("-6 addr add {host_6}/64 dev {name} nodad"),
            format!("link set {name} up"),
            format!("-n {name} addr add {one}/24 dev eth0"),
            format!("-n {name} addr add {two}/24 dev eth0"),
            format!("-n {name} -6 addr add {one_6}/64 dev eth0 nodad"),
            format!("-n {name} -6 addr add {two_6}/64 dev eth0 nodad"),
            format!("-n {name} link set lo up"),
            format!("-n {name} link set eth0 up"),
            format!("-n {name} route add default via {host}"),
            format!("-n {name} -6 route add default via {host_6}"),
        ] {
            ip(&line)?;
        }
        outside.serve()?;
        Ok(outside)
    }

    /// Threads that stay for as long as this program.
    fn serve(&self) -> Result<()> {
        let namespace = File::open(format!("/run/netns/{}", self.name))?;
        let (v4, v6) = (self.v4, self.v6);
        std::thread::spawn(move || -> Result<()> {
            use std::os::fd::AsFd as _;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            for [_, one, two] in [v4.map(IpAddr::from), v6.map(IpAddr::from)] {
                let socket = UdpSocket::bind((one, 53))?;
                std::thread::spawn(move || answer(&socket, (v4, v6)));
                for address in [one, two] {
                    let listener = TcpListener::bind((address, 80))?;
                    std::thread::spawn(move || pages(&listener));
                }
            }
            Ok(())
        })
        .join()
        .map_err(|_panic| anyhow::anyhow!("no servers"))?
    }

    fn address(&self, number: usize, six: bool) -> IpAddr {
        let ([_, one, two], [_, one_6, two_6]) = (self.v4, self.v6);
        match (number, six) {
            (1, false) => one.into(),
            (1, true) => one_6.into(),
            (_, false) => two.into(),
            (_, true) => two_6.into(),
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(ip(&format!("link del {}", self.name)));
        drop(ip(&format!("netns del {}", self.name)));
    }
}

/// Answers questions for A and AAAA (RFC 1035), for five seconds each.
fn answer(socket: &UdpSocket, (v4, v6): ([Ipv4Addr; 3], [Ipv6Addr; 3])) -> Option<()> {
    let mut buffer = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).ok()?;
        let question = buffer.get(..length)?;
        let (mut name, mut at) = (Vec::new(), 12);
        while let Some(label @ 1..) = question.get(at).copied() {
            let end = at + 1 + usize::from(label);
            name.push(String::from_utf8_lossy(question.get(at + 1..end)?).into_owned());
            at = end;
        }
        let kind = *question.get(at + 2)?;
        let place = match name.join(".").as_str() {
            LATE => 2,
            name if name == ALLOWED || OTHERS.contains(&name) => 1,
            _ => 0,
        };
        let data = match (kind, place) {
            (_, 0) => Vec::new(),
            (1, place) => v4.get(place)?.octets().to_vec(),
            (28, place) => v6.get(place)?.octets().to_vec(),
            _ => Vec::new(),
        };
        let mut answer = question.get(..2)?.to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, u8::from(!data.is_empty()), 0, 0, 0, 0]);
        answer.extend(question.get(12..at + 5)?);
        if !data.is_empty() {
            answer.extend([0xC0, 0x0C, 0, kind, 0, 1, 0, 0, 0, 5, 0, u8::try_from(data.len()).ok()?]);
            answer.extend(data);
        }
        socket.send_to(&answer, from).ok()?;
    }
}

fn pages(listener: &TcpListener) -> Option<()> {
    loop {
        let (mut stream, _) = listener.accept().ok()?;
        std::thread::spawn(move || -> std::io::Result<()> {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && request.len() < 4096 {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                request.extend(byte);
            }
            stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        });
    }
}

/// A pod that may ask the DNS, and one name.
struct Stage {
    scene: Scene,
    outside: Outside,
}

impl Stage {
    async fn open(name: &str, private: bool) -> Result<Self> {
        let (scene, outside) = (Scene::start(name).await?, Outside::open(private)?);
        let criterion = |value: &str| json!({"key": "address", "op": "=", "value": value});
        let meant = format!("vh:{LATE}");
        for (group, names) in
            [("allowed", vec![ALLOWED]), ("late", vec![LATE]), ("meant", vec![meant.as_str()])]
        {
            let criteria: Vec<Value> = names.into_iter().map(criterion).collect();
            let body = json!({"config": {"name": group, "criteria": criteria}});
            let (status, answer) = scene.api.call(Method::POST, "/v1/group", Some(&body)).await?;
            ensure!(status.is_success(), "{status} {answer}");
        }
        let rule = |to: &str, ports: &str| {
            json!({"id": 0, "from": CLIENT_GROUP, "to": to, "ports": ports, "action": "allow",
                "applications": ["any"], "cfg_type": "user_created"})
        };
        // The programs of this test are nothing that it is about.
        for program in ["/bin/busybox", "/bin/attacker"] {
            scene.run(&[program]).await?;
        }
        let last = if private { rule("meant", "tcp/80") } else { rule("late", "tcp/80") };
        let rules = [rule("allowed", "tcp/80"), last, rule("external", "udp/53")];
        scene.api.patch("/v1/policy/rule", &json!({"insert": {"rules": rules}})).await?;
        Ok(Self { scene, outside })
    }

    async fn mode(&self, mode: &str) -> Result<()> {
        let body = json!({"config": {"services": ["client.shop"], "policy_mode": mode}});
        self.scene.api.patch("/v1/service/config", &body).await?;
        self.scene.wait_inspected().await
    }

    /// Asks the DNS for both kinds of addresses.
    async fn resolve(&self, name: &str, six: bool) -> Result<()> {
        let server = self.outside.address(1, six).to_string();
        let output = self.scene.run(&["/bin/nslookup", name, &server]).await?;
        ensure!(
            output.stdout.contains(&self.outside.address(1, false).to_string()) || name == LATE,
            "{output:?}"
        );
        Ok(())
    }

    /// Asks for a page of this host at an address; how it ended.
    async fn get(&self, host: &str, to: IpAddr) -> Result<bool> {
        let url = format!("http://{}/", SocketAddr::new(to, 80));
        let header = format!("Host: {host}");
        let get = ["/bin/timeout", "4", "/bin/wget", "-q", "-O", "-", "--header", &header, &url];
        Ok(self.scene.run(&get).await?.stdout == "hello")
    }

    /// The violation at this address with this host.
    async fn violation(&self, host: &str, server: IpAddr, action: &str, limit: Duration) -> Result<Value> {
        let (found, _) = self
            .scene
            .api
            .wait_for("/v1/log/violation", limit, |answer| {
                let list = answer.get("violations")?.as_array()?;
                let is = |record: &&Value| {
                    record.get("fqdn").and_then(Value::as_str).unwrap_or_default() == host
                        && text(record, "server_ip") == server.to_string()
                        && text(record, "policy_action") == action
                };
                list.iter().find(is).cloned()
            })
            .await
            .with_context(|| format!("no {action} of {host:?} at {server}"))?;
        Ok(found)
    }

    async fn has_no_violation(&self, host: &str, server: IpAddr) -> Result<()> {
        let answer = self.scene.api.get("/v1/log/violation").await?;
        let list = answer.get("violations").and_then(Value::as_array).cloned().unwrap_or_default();
        for record in list {
            let same = text(&record, "fqdn") == host && text(&record, "server_ip") == server.to_string();
            ensure!(!same, "{record}");
        }
        Ok(())
    }
}

fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hosts_at_one_address_the_one_that_no_rule_names_is_told() -> Result<()> {
    let stage = Stage::open("names", false).await?;
    stage.mode("Monitor").await?;
    for six in [false, true] {
        stage.resolve(ALLOWED, six).await?;
        let [four, sixth] = OTHERS;
        let other = if six { sixth } else { four };
        stage.resolve(other, six).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let address = stage.outside.address(1, six);
        ensure!(stage.get(ALLOWED, address).await?, "{address} does not answer");
        ensure!(stage.get(other, address).await?, "in Monitor nothing is stopped");
        let told = stage.violation(other, address, "violate", SOON).await?;
        ensure!(text(&told, "client_service") == CLIENT_GROUP, "{told}");
        ensure!(told.get("applications").and_then(|list| list.get(0)) == Some(&json!("HTTP")), "{told}");
        ensure!(told.get("policy_id") == Some(&json!(0)), "{told}");
        stage.has_no_violation(ALLOWED, address).await?;
        stage.has_no_violation("", address).await?;
    }
    // An address whose name nobody asked for is nobody's, whatever host is meant; once it is known it is allowed.
    let nameless = stage.outside.address(2, false);
    ensure!(stage.get(LATE, nameless).await?);
    stage.violation("", nameless, "violate", SOON).await?;
    stage.has_no_violation(LATE, nameless).await?;
    stage.mode("Protect").await?;
    for six in [false, true] {
        let address = stage.outside.address(1, six);
        ensure!(stage.get(ALLOWED, address).await?, "{address} does not answer in Protect");
        ensure!(!stage.get(LATE, stage.outside.address(2, six)).await?, "nobody asked for its name");
    }
    // The answer is read while its reader connects already: what comes too early is sent again by TCP.
    let (server, late) = (stage.outside.address(1, false), stage.outside.address(2, false));
    let get = format!(
        "nslookup {LATE} {server} >/dev/null; timeout 8 wget -q -O - --header 'Host: {LATE}' http://{late}/"
    );
    let begin = std::time::Instant::now();
    ensure!(stage.scene.run(&["/bin/sh", "-c", &get]).await?.stdout == "hello", "its name is known now");
    println!("a name's first answer and first page in Protect: {:?}", begin.elapsed());
    let begin = std::time::Instant::now();
    ensure!(stage.scene.run(&["/bin/sh", "-c", &get]).await?.stdout == "hello");
    println!("and the second: {:?}", begin.elapsed());
    ensure!(stage.get(LATE, stage.outside.address(2, true)).await?, "its name is known in IPv6 too");
    let Stage { scene, outside } = stage;
    drop(outside);
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_no_rule_names_is_cut_at_a_private_address_that_might_be_a_service() -> Result<()> {
    let stage = Stage::open("private", true).await?;
    stage.mode("Protect").await?;
    for six in [false, true] {
        // Nobody has asked for its name: what the client says is all that there is.
        let address = stage.outside.address(2, six);
        ensure!(stage.get(LATE, address).await?, "{address} does not answer");
        let [four, sixth] = OTHERS;
        let other = if six { sixth } else { four };
        ensure!(!stage.get(other, address).await?, "{other} at {address} is not cut");
        let told = stage.violation(other, address, "deny", SOON).await?;
        ensure!(text(&told, "client_service") == CLIENT_GROUP, "{told}");
        stage.has_no_violation(LATE, address).await?;
        // And where the DNS has given the address for a name. Of one host repeats are folded.
        let other = if six { "more6.names.test" } else { "more.names.test" };
        stage.resolve(ALLOWED, six).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let address = stage.outside.address(1, six);
        ensure!(stage.get(ALLOWED, address).await?, "{address} does not answer");
        ensure!(!stage.get(other, address).await?, "{other} at {address} is not cut");
        stage.violation(other, address, "deny", SOON).await?;
    }
    let Stage { scene, outside } = stage;
    drop(outside);
    scene.stop().await
}
