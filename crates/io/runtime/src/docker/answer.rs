//! What the Engine API answers (versions 1.24 to 1.5x), as far as it tells what a container is.
//!
//! The daemon is trusted to run containers, but what is in its answers was chosen by whoever made the container and
//! the image. Every field may be absent or `null`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use nv_model::port::Protocol;
use nv_model::time::Timestamp;
use nv_model::workload::{InterfaceAddress, ListeningPort};
use serde::{Deserialize, Deserializer};

use crate::spec::{Network, Traits};

/// Most port mappings and addresses that are kept of one container.
const KEPT: usize = 256;

/// `null` stands for the default: Docker writes it for empty lists and maps.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// One line of `GET /containers/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Listed {
    #[serde(deserialize_with = "nullable")]
    pub(crate) id: String,
    #[serde(deserialize_with = "nullable")]
    names: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    image: String,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

/// What is known of a container before the daemon describes it: enough to know its service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The image by its name.
    pub(crate) image: String,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Named {
    /// From these words; `None` where the image is named by its id, from which no service follows.
    pub(crate) fn new(
        id: String,
        name: &str,
        image: String,
        labels: BTreeMap<String, String>,
    ) -> Option<Self> {
        let is_id = image.starts_with("sha256:")
            || (image.len() >= 12 && image.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let name = name.trim_start_matches('/').to_owned();
        (!image.is_empty() && !is_id).then_some(Self { id, name, image, labels })
    }
}

impl Listed {
    /// A container that others link to has further names, with that one's before a `/`.
    pub(crate) fn named(self) -> Option<Named> {
        let own = self.names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
        let own = own.unwrap_or_default().to_owned();
        Named::new(self.id, &own, self.image, self.labels)
    }
}

/// `GET /containers/<id>/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Container {
    #[serde(deserialize_with = "nullable")]
    pub(crate) id: String,
    #[serde(deserialize_with = "nullable")]
    name: String,
    #[serde(deserialize_with = "nullable")]
    created: String,
    /// Id of the image.
    #[serde(deserialize_with = "nullable")]
    pub(crate) image: String,
    #[serde(deserialize_with = "nullable")]
    state: State,
    #[serde(deserialize_with = "nullable")]
    config: Config,
    #[serde(deserialize_with = "nullable")]
    host_config: HostConfig,
    #[serde(deserialize_with = "nullable")]
    network_settings: NetworkSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct State {
    #[serde(deserialize_with = "nullable")]
    running: bool,
    #[serde(deserialize_with = "nullable")]
    pid: i64,
    #[serde(deserialize_with = "nullable")]
    exit_code: i64,
    #[serde(deserialize_with = "nullable")]
    finished_at: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Config {
    #[serde(deserialize_with = "nullable")]
    image: String,
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct HostConfig {
    #[serde(deserialize_with = "nullable")]
    network_mode: String,
    #[serde(deserialize_with = "nullable")]
    privileged: bool,
    #[serde(deserialize_with = "nullable")]
    memory: i64,
    #[serde(deserialize_with = "nullable")]
    cpuset_cpus: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(deserialize_with = "nullable")]
    ports: BTreeMap<String, Option<Vec<Binding>>>,
    #[serde(deserialize_with = "nullable")]
    networks: BTreeMap<String, Option<Endpoint>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Binding {
    #[serde(deserialize_with = "nullable")]
    host_ip: String,
    #[serde(deserialize_with = "nullable")]
    host_port: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    #[serde(rename = "IPAddress", deserialize_with = "nullable")]
    address: String,
    #[serde(rename = "IPPrefixLen", deserialize_with = "nullable")]
    prefix: u8,
    #[serde(rename = "Gateway", deserialize_with = "nullable")]
    gateway: String,
    #[serde(rename = "GlobalIPv6Address", deserialize_with = "nullable")]
    address_v6: String,
    #[serde(rename = "GlobalIPv6PrefixLen", deserialize_with = "nullable")]
    prefix_v6: u8,
    #[serde(rename = "IPv6Gateway", deserialize_with = "nullable")]
    gateway_v6: String,
}

/// `GET /version`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Version {
    #[serde(deserialize_with = "nullable")]
    pub(crate) version: String,
}

/// `GET /info`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Info {
    #[serde(deserialize_with = "nullable")]
    pub(crate) driver: String,
}

/// `GET /images/<id>/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Image {
    #[serde(deserialize_with = "nullable")]
    repo_tags: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    repo_digests: Vec<String>,
}

impl Image {
    /// The name that the image has now.
    pub(crate) fn name(self) -> Option<String> {
        self.repo_tags.into_iter().chain(self.repo_digests).find(|name| !name.starts_with("<none>"))
    }
}

impl Container {
    pub(crate) fn name(&self) -> &str {
        self.name.trim_start_matches('/')
    }

    pub(crate) fn labels(&self) -> &BTreeMap<String, String> {
        &self.config.labels
    }

    /// The image as it was named when the container was made.
    pub(crate) fn image_name(&self) -> &str {
        &self.config.image
    }

    /// It was named by its id, of which a part is enough for Docker.
    pub(crate) fn is_image_named_by_id(&self) -> bool {
        let hexadecimal = |text: &str| text.rsplit(':').next().map(str::to_owned).unwrap_or_default();
        let (name, id) = (self.image_name(), hexadecimal(&self.image));
        name.is_empty() || name == self.image || (name.len() >= 4 && id.starts_with(name))
    }

    /// The process that `State` tells of, 0 for none. A container that waits to be started again has none.
    pub(crate) fn pid(&self) -> u32 {
        if self.state.running { u32::try_from(self.state.pid).unwrap_or(0) } else { 0 }
    }

    pub(crate) fn exit_code(&self) -> i32 {
        i32::try_from(self.state.exit_code).unwrap_or(i32::MAX)
    }

    pub(crate) fn created(&self) -> Timestamp {
        timestamp(&self.created)
    }

    pub(crate) fn finished(&self) -> Timestamp {
        timestamp(&self.state.finished_at)
    }

    /// The container whose network it shares.
    pub(crate) fn network_of(&self) -> Option<&str> {
        self.host_config.network_mode.strip_prefix("container:")
    }

    pub(crate) fn traits(&self) -> Traits<'_> {
        Traits {
            image: "",
            cgroups_path: "",
            network: if self.host_config.network_mode == "host" { Network::Host } else { Network::Own },
            privileged: self.host_config.privileged,
            run_as_root: is_root(&self.config.user),
            memory_limit: self.host_config.memory.max(0),
            cpus: &self.host_config.cpuset_cpus,
        }
    }

    /// Ports that are mapped to ports of the host.
    pub(crate) fn mapped_ports(&self) -> Vec<ListeningPort> {
        let mut found = Vec::new();
        for (port, bindings) in &self.network_settings.ports {
            let Some((number, protocol)) = port.split_once('/') else { continue };
            let protocol = match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                _ => continue,
            };
            let Ok(port) = number.parse() else { continue };
            for binding in bindings.iter().flatten() {
                let Ok(host_port) = binding.host_port.parse() else { continue };
                found.push(ListeningPort {
                    protocol,
                    port,
                    host_ip: binding.host_ip.parse().ok(),
                    host_port,
                });
            }
        }
        found.sort_unstable();
        found.truncate(KEPT);
        found
    }

    /// Addresses as Docker tells them, for a container whose namespace cannot be looked into.
    pub(crate) fn interfaces(&self) -> Vec<InterfaceAddress> {
        let mut found = Vec::new();
        for endpoint in self.network_settings.networks.values().flatten().take(KEPT) {
            for (address, prefix, gateway) in [
                (&endpoint.address, endpoint.prefix, &endpoint.gateway),
                (&endpoint.address_v6, endpoint.prefix_v6, &endpoint.gateway_v6),
            ] {
                let Ok(address) = address.parse::<IpAddr>() else { continue };
                found.push(InterfaceAddress {
                    interface: String::new(),
                    address: IpNet::new(address, prefix).unwrap_or_else(|_| address.into()),
                    gateway: gateway.parse().ok(),
                });
            }
        }
        found
    }
}

/// The user as the image or the command line names it: `<user>[:<group>]`, by number or name, root when nobody is
/// named. Which number a name has only the container's own files tell.
fn is_root(user: &str) -> bool {
    let user = user.split(':').next().unwrap_or_default();
    user.is_empty() || user == "root" || user.parse() == Ok(0_u32)
}

/// RFC 3339; never for what is none, and for Docker's "never", which is in the year 1.
fn timestamp(text: &str) -> Timestamp {
    let nanos = text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_nanosecond).unwrap_or(0);
    i64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map_or(Timestamp::NEVER, Timestamp::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Container {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_running_container_is_read_as_docker_describes_it() {
        let container = read(
            r#"{"Id":"ab","Created":"2026-11-25T22:17:32.642518589Z","Name":"/shop","Image":"sha256:0123456789",
            "State":{"Status":"running","Running":true,"Paused":false,"Pid":24258,"ExitCode":0,
            "StartedAt":"2026-11-25T22:17:33Z","FinishedAt":"0001-01-01T00:00:00Z"},
            "Config":{"User":"www:www","Image":"shop/web:1","Env":null,"Labels":{"app":"web"}},
            "HostConfig":{"NetworkMode":"bridge","Privileged":true,"Memory":1048576,"CpusetCpus":"0-1"},
            "NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"}],"53/udp":null,
            "9/sctp":[{"HostIp":"","HostPort":"9"}]},
            "Networks":{"bridge":{"IPAddress":"172.17.0.2","IPPrefixLen":16,"Gateway":"172.17.0.1",
            "GlobalIPv6Address":"fd00::2","GlobalIPv6PrefixLen":64,"IPv6Gateway":""}}}}"#,
        );
        assert_eq!(
            (container.name(), container.image_name(), container.pid()),
            ("shop", "shop/web:1", 24_258)
        );
        assert_eq!(container.created().nanos(), 1_795_645_052_642_518_589);
        assert_eq!(container.finished(), Timestamp::NEVER);
        assert_eq!(container.labels().get("app").map(String::as_str), Some("web"));
        let traits = container.traits();
        assert!(traits.privileged && !traits.run_as_root && traits.network == Network::Own);
        assert_eq!((traits.memory_limit, traits.cpus), (1_048_576, "0-1"));
        let ports = container.mapped_ports();
        let shown: Vec<_> = ports.iter().map(|port| (port.port, port.host_port, port.host_ip)).collect();
        assert_eq!(shown, [(80, 8080, Some("127.0.0.1".parse().unwrap()))]);
        let addresses: Vec<String> = container.interfaces().iter().map(|on| on.address.to_string()).collect();
        assert_eq!(addresses, ["172.17.0.2/16", "fd00::2/64"]);
    }

    #[test]
    fn a_line_of_the_list_names_the_container_unless_its_image_is_an_id() {
        let line: Listed = serde_json::from_str(
            r#"{"Id":"ab","Names":["/other/alias","/cart"],"Image":"shop/web:1","Labels":null,"Ports":[]}"#,
        )
        .unwrap();
        let named = line.named().unwrap();
        assert_eq!(
            (named.id.as_str(), named.name.as_str(), named.image.as_str()),
            ("ab", "cart", "shop/web:1")
        );
        for image in ["", "sha256:0123", "a7973bd50090"] {
            assert_eq!(Named::new("ab".into(), "/x", image.into(), BTreeMap::new()), None, "{image:?}");
        }
    }

    #[test]
    fn what_is_missing_or_null_is_none_of_it() {
        for json in [
            "{}",
            r#"{"State":null,"Config":null,"HostConfig":null,"NetworkSettings":null}"#,
            r#"{"Config":{"Labels":null},"NetworkSettings":{"Ports":{"80/tcp":null},"Networks":{"none":null}}}"#,
        ] {
            let container = read(json);
            assert_eq!((container.pid(), container.exit_code(), container.name()), (0, 0, ""), "{json}");
            assert!(container.mapped_ports().is_empty() && container.interfaces().is_empty(), "{json}");
            assert!(container.traits().run_as_root && !container.traits().privileged, "{json}");
        }
    }

    #[test]
    fn a_container_that_waits_for_its_restart_has_no_process() {
        let waiting = read(r#"{"State":{"Running":true,"Restarting":true,"Pid":0,"ExitCode":3}}"#);
        assert_eq!((waiting.pid(), waiting.exit_code()), (0, 3));
        assert_eq!(read(r#"{"State":{"Running":false,"Pid":77}}"#).pid(), 0);
    }

    #[test]
    fn root_is_who_has_the_number_0_the_name_root_or_no_name() {
        for (user, want) in [
            ("", true),
            ("0", true),
            ("00:10", true),
            ("root:staff", true),
            ("1000", false),
            ("nobody", false),
            (":0", true),
        ] {
            assert_eq!(is_root(user), want, "{user:?}");
        }
    }

    #[test]
    fn an_image_may_be_named_by_its_id_or_the_beginning_of_it() {
        for (name, want) in
            [("sha256:0123456789ab", true), ("0123456", true), ("shop/web:1", false), ("beef", false)]
        {
            let json = format!(r#"{{"Image":"sha256:0123456789ab","Config":{{"Image":"{name}"}}}}"#);
            assert_eq!(read(&json).is_image_named_by_id(), want, "{name}");
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(id in ".{0,20}", port in ".{0,12}", host_port in ".{0,8}", at in ".{0,30}", prefix: u8) {
            let json = serde_json::json!({"Id": id, "Name": id, "Created": at,
                "State": {"Running": true, "Pid": i64::MAX, "ExitCode": i64::MIN, "FinishedAt": at},
                "NetworkSettings": {"Ports": {port: [{"HostIp": at, "HostPort": host_port}]},
                    "Networks": {"n": {"IPAddress": "10.0.0.1", "IPPrefixLen": prefix, "Gateway": at}}}});
            let container: Container = serde_json::from_value(json).unwrap();
            container.mapped_ports();
            prop_assert_eq!(container.interfaces().len(), 1);
            prop_assert_eq!((container.pid(), container.exit_code()), (0, i32::MAX));
        }
    }
}
