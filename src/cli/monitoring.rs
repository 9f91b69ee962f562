//! Shows monitoring systems that sweeps succeed: by a request after each good sweep, and by a file of metrics.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tempfile::NamedTempFile;
use url::Url;

use super::exit::Exit;
use super::health::Health;
use super::report::exit_code;
use crate::causes::Causes;
use crate::config::{Heartbeat, Monitoring};
use crate::engine::{Engine, Report};
use crate::http::{self, Fault, Health as _};
use crate::upstream::http::{Client, Error};

/// A monitoring service that is slow must not delay the next sweep.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns a warning for each thing that failed: the sweep itself is as good as it was.
pub(super) async fn show_sweep(
    monitoring: &Monitoring,
    engine: &Arc<Engine>,
    report: &Report,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(file) = &monitoring.textfile
        && let Err(fault) = write_textfile(file, engine).await
    {
        let file = file.display();
        warnings.push(format!(
            "cannot write metrics to {file}: {}",
            Causes(fault.as_ref())
        ));
    }
    if let Some(heartbeat) = &monitoring.heartbeat
        && exit_code(report) == Exit::Ok
        && let Err(error) = send(heartbeat).await
    {
        warnings.push(format!("the heartbeat was not sent: {}", Causes(&error)));
    }
    warnings
}

/// The path of such a URL is often a key, so messages show its server only.
async fn send(heartbeat: &Heartbeat) -> Result<(), Error> {
    let url = heartbeat.url.expose_secret();
    let base = Url::parse(url).map_err(|_| Error::Unsendable { what: "the URL" })?;
    let client = Client::new(&base, None, TIMEOUT, &heartbeat.proxies)?;
    client.follow(url)?.shown_as("…").send_ignoring_body().await
}

/// Replaces the file at once: `node_exporter` reads it at any time, as another user.
async fn write_textfile(file: &Path, engine: &Arc<Engine>) -> Result<(), Fault> {
    let health = Health {
        engine: Arc::clone(engine),
    };
    let metrics = http::render_metrics(&health.snapshot().await?)?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let mut made = NamedTempFile::new_in(folder)?;
    made.write_all(metrics.as_bytes())?;
    made.as_file()
        .set_permissions(std::fs::Permissions::from_mode(0o644))?;
    made.persist(file)?;
    Ok(())
}
