use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{ImageSpec, ImageStatusRequest};
use tonic::transport::Channel;

use crate::runtime::{self, Layout, PAUSE, Programs};
use crate::{Image, LabError, LabOptions, cleanup};

/// Namespace of containerd that CRI uses.
pub(crate) const CRI_NAMESPACE: &str = "k8s.io";
/// How long containerd may take to end after SIGTERM.
const END: Duration = Duration::from_secs(10);

/// A running private containerd, see the crate's documentation.
///
/// Dropping it ends and removes everything; [`Lab::stop`] does the same and says what went wrong.
#[derive(Debug)]
pub struct Lab {
    pub(crate) options: LabOptions,
    pub(crate) layout: Layout,
    pub(crate) programs: Programs,
    channel: Channel,
    containerd: Option<Child>,
    stopped: bool,
}

impl Lab {
    /// Starts a containerd and waits until pods can be made. What an earlier lab with the same options left
    /// behind is removed first.
    ///
    /// # Errors
    /// [`LabError::Missing`] or [`LabError::NotRoot`] when this machine cannot run one, [`LabError::Option`] for
    /// options that cannot work, [`LabError::NotReady`] with containerd's log when it does not come up.
    pub fn start(options: LabOptions) -> BoxFuture<'static, Result<Self, LabError>> {
        Box::pin(async move {
            options.check()?;
            let programs = Programs::find(options.nri)?;
            let layout = Layout::of(&options);
            cleanup::remove(&layout, &options.bridge).await?;
            layout.write(&options, &programs)?;
            let child = runtime::spawn(&layout, &programs)?;
            let mut guard = StartGuard { layout: &layout, bridge: &options.bridge, child: Some(child) };
            let channel = runtime::ready(&layout).await?;
            let containerd = guard.child.take();
            drop(guard);
            let lab = Self { options, layout, programs, channel, containerd, stopped: false };
            // Nobody looks at what the sandbox runs, it only has to stay: busybox is there anyway.
            let pause = Image::busybox(PAUSE)?.entrypoint(&["/bin/sleep", "2147483647"]).command(&[]);
            lab.import(&pause).await?;
            Ok(lab)
        })
    }

    /// Imports an image for pods (and for plain containers in namespace `k8s.io`).
    ///
    /// # Errors
    /// [`LabError::Program`] with what `ctr` said.
    pub fn import<'a>(&'a self, image: &'a Image) -> BoxFuture<'a, Result<(), LabError>> {
        Box::pin(async move {
            self.import_into(CRI_NAMESPACE, image).await?;
            // CRI learns of the image by an event, a moment later.
            let deadline = Instant::now() + END;
            let spec = ImageSpec { image: image.reference().to_owned(), ..Default::default() };
            loop {
                let request = ImageStatusRequest { image: Some(spec.clone()), verbose: false };
                let doing = || format!("look up image {}", image.reference());
                let found = self.images().image_status(request).await.map_err(LabError::runtime(doing()))?;
                if found.into_inner().image.is_some() {
                    return Ok(());
                }
                if Instant::now() > deadline {
                    return Err(LabError::Timeout { doing: doing(), seconds: END.as_secs() });
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    }

    /// Imports an image into a namespace of containerd, for [`Lab::run_plain`].
    ///
    /// # Errors
    /// [`LabError::Program`] with what `ctr` said.
    pub fn import_into<'a>(
        &'a self,
        namespace: &'a str,
        image: &'a Image,
    ) -> BoxFuture<'a, Result<(), LabError>> {
        Box::pin(async move {
            let path = self.layout.dir.join(format!("image-{}.tar", uuid::Uuid::new_v4()));
            let archive = image.archive().map_err(LabError::io("pack", &path))?;
            tokio::fs::write(&path, archive).await.map_err(LabError::io("write", &path))?;
            let file = path.display().to_string();
            let imported = self.ctr(&["-n", namespace, "images", "import", &file]).await;
            tokio::fs::remove_file(&path).await.map_err(LabError::io("remove", &path))?;
            imported.map(drop)
        })
    }

    /// containerd's socket: its own API and CRI v1.
    pub fn socket(&self) -> &Path {
        &self.layout.socket
    }
    /// containerd's state folder, which has the bundles of the running containers
    /// (`io.containerd.runtime.v2.task/<namespace>/<id>/config.json`).
    pub fn state_dir(&self) -> &Path {
        &self.layout.state
    }
    /// Where containerd takes plug-ins of NRI, when the lab was made so.
    pub fn nri_socket(&self) -> &Path {
        &self.layout.nri
    }
    /// What the lab is made of.
    pub fn options(&self) -> &LabOptions {
        &self.options
    }
    /// Path, in every cgroup hierarchy, that all of the lab's containers are below.
    pub fn cgroup(&self) -> String {
        format!("/{}", self.layout.name)
    }
    /// A channel to containerd; it connects again by itself after a restart.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Kills containerd with SIGKILL; containers go on.
    ///
    /// # Errors
    /// [`LabError::Io`] when the process cannot be waited for.
    pub fn kill_containerd(&mut self) -> BoxFuture<'_, Result<(), LabError>> {
        Box::pin(async move { self.end_containerd(true).await })
    }
    /// Starts containerd again after [`Lab::kill_containerd`].
    ///
    /// # Errors
    /// As [`Lab::start`].
    pub fn start_containerd(&mut self) -> BoxFuture<'_, Result<(), LabError>> {
        Box::pin(async move {
            if self.containerd.is_none() {
                self.containerd = Some(runtime::spawn(&self.layout, &self.programs)?);
                self.channel = runtime::ready(&self.layout).await?;
            }
            Ok(())
        })
    }
    /// Ends containerd with SIGTERM and starts it again; containers go on.
    ///
    /// # Errors
    /// As [`Lab::start`].
    pub fn restart_containerd(&mut self) -> BoxFuture<'_, Result<(), LabError>> {
        Box::pin(async move {
            self.end_containerd(false).await?;
            self.start_containerd().await
        })
    }

    /// Ends and removes everything: containers, networks, bridge, mounts, cgroups, files.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn stop(mut self) -> BoxFuture<'static, Result<(), LabError>> {
        Box::pin(async move {
            self.stopped = true;
            self.end_containerd(true).await?;
            cleanup::remove(&self.layout, &self.options.bridge).await
        })
    }

    async fn end_containerd(&mut self, kill: bool) -> Result<(), LabError> {
        let Some(mut child) = self.containerd.take() else { return Ok(()) };
        let failed = |source| LabError::Io { doing: "end", path: self.programs.containerd.clone(), source };
        if !kill && let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .map_err(|errno| failed(errno.into()))?;
            let deadline = Instant::now() + END;
            while Instant::now() < deadline {
                if child.try_wait().map_err(failed)?.is_some() {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        child.kill().map_err(failed)?;
        child.wait().map_err(failed)?;
        Ok(())
    }

    /// Runs `ctr` against the lab's containerd and gives what it wrote.
    pub(crate) async fn ctr(&self, arguments: &[&str]) -> Result<String, LabError> {
        let mut command = tokio::process::Command::new(&self.programs.ctr);
        command.arg("--address").arg(&self.layout.socket).args(arguments).kill_on_drop(true);
        let output = command.output().await.map_err(LabError::io("run", &self.programs.ctr))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(LabError::Program {
            program: "ctr",
            arguments: arguments.join(" "),
            output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    pub(crate) fn cri(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel())
    }
    fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        if let Some(mut child) = self.containerd.take() {
            end_now(&mut child);
        }
        cleanup::remove_now(&self.layout, &self.options.bridge);
    }
}

/// Ends a containerd that did not become ready.
struct StartGuard<'a> {
    layout: &'a Layout,
    bridge: &'a str,
    child: Option<Child>,
}

impl Drop for StartGuard<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            end_now(&mut child);
            cleanup::remove_now(self.layout, self.bridge);
        }
    }
}

fn end_now(child: &mut Child) {
    // It may have ended by itself, and nobody is left to be told.
    child.kill().unwrap_or_default();
    child.wait().map(drop).unwrap_or_default();
}
