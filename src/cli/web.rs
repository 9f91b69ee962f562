//! The web listener of the daemon.

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::exit::{Failure, Result};
use crate::config::{self, Config};
use crate::listener::Listener;
use crate::service::Service;
use crate::tls::ServerCertificate;
use crate::web::{AppState, ClientAddress, MAX_CONNECTIONS, Settings, Web, serve};

/// The listener, bound before the daemon reports that it is ready.
pub(super) struct WebServer {
    listener: Listener,
    web: AppState,
    certificate: Option<Arc<ServerCertificate>>,
}

impl WebServer {
    /// `None` if the listener is off.
    pub async fn bind(config: &Config, service: Arc<Service>) -> Result<Option<Self>> {
        let Some(address) = config.web.listen else {
            return Ok(None);
        };
        let certificate = load_certificate(&config.web)?;
        let tls = certificate.clone().map(ServerCertificate::server_config);
        let tls = tls.transpose().map_err(Failure::config)?;
        let tcp = TcpListener::bind(address).await.map_err(|error| {
            let error = anyhow::Error::from(error).context(format!("cannot listen on {address}"));
            Failure::failed(error).hint("set another address in [web] listen, or \"off\"")
        })?;
        let listener = Listener {
            tcp,
            tls: tls.map(Arc::new),
            max_connections: MAX_CONNECTIONS,
        };
        Ok(Some(Self {
            listener,
            web: Arc::new(Web::new(service, settings(&config.web))),
            certificate,
        }))
    }

    pub fn web(&self) -> AppState {
        Arc::clone(&self.web)
    }

    pub fn certificate(&self) -> Option<Arc<ServerCertificate>> {
        self.certificate.clone()
    }

    /// Serves until it is stopped.
    pub async fn run(self, stopping: CancellationToken) -> io::Result<()> {
        serve(self.listener, self.web, stopping).await
    }
}

/// Reads the certificate again. If it cannot be used, the old one stays.
pub(super) fn reload_certificate(
    config: &Config,
    certificate: &ServerCertificate,
) -> anyhow::Result<()> {
    if let Some(tls) = &config.web.tls {
        certificate.replace(&tls.certificate, &tls.key)?;
    }
    Ok(())
}

fn load_certificate(web: &config::Web) -> Result<Option<Arc<ServerCertificate>>> {
    let load = |tls: &config::WebTls| ServerCertificate::load(&tls.certificate, &tls.key);
    let certificate = web.tls.as_ref().map(load).transpose();
    let certificate = certificate
        .map_err(|error| Failure::config(error).hint("see [web] tls_certificate and tls_key"))?;
    Ok(certificate)
}

fn settings(web: &config::Web) -> Settings {
    let is_open = web
        .listen
        .is_some_and(|listen| !listen.ip().to_canonical().is_loopback());
    Settings {
        base_url: web.base_url.clone(),
        trusted_proxies: web.trusted_proxies.clone(),
        client_address: match web.client_address {
            config::ClientAddress::XForwardedFor => ClientAddress::XForwardedFor,
            config::ClientAddress::Forwarded => ClientAddress::Forwarded,
        },
        only_proxies: is_open && web.tls.is_none(),
    }
}
