//! Serves the console over plain HTTP in front of any controller, for work on the pages.
//!
//! `cargo run -p nv-role-manager --example console -- 127.0.0.1:8450 http://127.0.0.1:18443`; a third argument names a
//! PEM file with the root certificate of an https controller.

use std::error::Error;

use nv_role_manager::{Branding, ControllerEndpoint, ManagerConfig, certificates_from_pem, serve};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bind = arguments.next().unwrap_or_else(|| "127.0.0.1:8450".to_owned()).parse()?;
    let url = arguments.next().unwrap_or_else(|| "http://127.0.0.1:18443".to_owned());
    let roots = match arguments.next() {
        Some(file) => certificates_from_pem(&std::fs::read(file)?)?,
        None => Vec::new(),
    };
    let config = ManagerConfig {
        bind,
        controller: ControllerEndpoint { url, roots },
        tls: None,
        path_prefix: std::env::var("PATH_PREFIX").unwrap_or_default(),
        branding: Branding::from_lookup(|name| std::env::var(name).ok())?,
    };
    let shutdown = CancellationToken::new();
    let signal = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            signal.cancel();
        }
    });
    serve(config, shutdown).await?;
    Ok(())
}
