//! Shows monitoring systems that sweeps succeed: by a request after each good sweep, and by a file of metrics.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use url::Url;

use super::health::Health;
use crate::causes::Causes;
use crate::config::{Heartbeat, Monitoring};
use crate::engine::Engine;
use crate::files::{READABLE, replace};
use crate::http::{self, Fault, Health as _};
use crate::upstream::http::{Client, Error};

/// A monitoring service that is slow must not delay the next sweep.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends the heartbeat if the sweep `is_good`. Returns a warning for each thing that failed: that does not change how
/// good the sweep was.
pub(super) async fn show_sweep(
    monitoring: &Monitoring,
    engine: &Arc<Engine>,
    is_good: bool,
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
        && is_good
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
        heartbeats: Vec::new(),
        started_at: engine.now(),
        web: None,
    };
    let metrics = http::render_metrics(&health.snapshot().await?)?;
    Ok(replace(file, metrics.as_bytes(), READABLE)?)
}
