//! A private container runtime on this machine, for tests, the demo and benches.
//!
//! [`Lab::start`] runs a containerd of its own (own root, state, socket and CNI bridge) beside whatever the
//! machine runs already, without registry and without touching another runtime. Images are built here
//! ([`Image`]) and imported; pods are started over CRI as a kubelet would ([`PodSpec`]), plain containers as
//! `ctr run` would ([`PlainSpec`]). Everything that a lab starts lives below one cgroup, so that
//! [`Lab::stop`], or dropping the lab, ends all of it, even when its containerd was killed. A Docker daemon can be
//! started on it ([`Lab::start_docker`]).
//!
//! Futures are boxed here, in the product's client and in the scene: so they are compiled once, and not in every program of tests,
//! as the futures of `async fn` are.
//!
//! ```no_run
//! # async fn example() -> Result<(), nv_lab::LabError> {
//! use nv_lab::{Image, Lab, LabOptions};
//! let lab = Lab::start(LabOptions::fresh()?).await?;
//! lab.import(&Image::busybox("docker.io/library/web:1")?).await?;
//! let pod = lab.pod("web-0", "shop", &[("app", "web")], "docker.io/library/web:1", &["sleep", "600"]).await?;
//! let answer = lab.exec(pod.container(), &["cat", "/etc/hostname"]).await?;
//! assert_eq!(answer.exit_code, 0);
//! lab.stop().await
//! # }
//! ```
//!
//! It needs root and the Debian packages `containerd`, `runc`, `containernetworking-plugins` and
//! `busybox-static`, for Docker the programs of `docker.io`, for a registry ([`Registry`]) that of `docker-registry`; [`LabError::Missing`] says which one is not there.

mod cgroup;
mod cleanup;
mod docker;
mod error;
mod image;
mod lab;
mod options;
mod plain;
mod pod;
mod registry;
mod runtime;

pub use docker::Docker;
pub use error::LabError;
pub use image::Image;
pub use lab::Lab;
pub use options::LabOptions;
pub use plain::PlainSpec;
pub use pod::{Container, ContainerSpec, Output, Pod, PodSpec};
pub use registry::Registry;
pub use runtime::HOOKED;
