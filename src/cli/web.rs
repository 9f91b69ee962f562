//! The web listener of the daemon.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use chrono_tz::Tz;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::exit::{Failure, Result};
use super::setup;
use crate::config::{self, Config, SignIn};
use crate::engine;
use crate::listener::Listener;
use crate::notify::fault::Outcome;
use crate::notify::letter::{Entry, Letter, SignInEntry};
use crate::service::Service;
use crate::tls::ServerCertificate;
use crate::web::{
    AppState, ClientAddress, LinkMail, LinkMailer, MAX_CONNECTIONS, Mailer, Settings, SourcePages,
    Web, serve,
};

/// The listener, bound before the daemon reports that it is ready.
pub(super) struct WebServer {
    listener: Listener,
    web: AppState,
    certificate: Option<Arc<ServerCertificate>>,
}

impl WebServer {
    /// `None` if the listener is off.
    pub async fn bind(
        config: &Config,
        service: Arc<Service>,
        mailer: &Arc<engine::Mailer>,
    ) -> Result<Option<Self>> {
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
        let settings = settings(config, mailer);
        let templates = config.mail.templates.as_deref();
        let web = Web::with_templates(service, settings, templates);
        let web = web.map_err(|error| {
            Failure::config(error).hint("see the folder `web` in [mail] templates")
        })?;
        Ok(Some(Self {
            listener,
            web: Arc::new(web),
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

/// A source that cannot be built has no pages.
fn source_pages(sources: &[config::SourceConfig]) -> SourcePages {
    let sources = sources
        .iter()
        .filter_map(|source| setup::build_source(source).ok());
    let sources: Vec<_> = sources.collect();
    SourcePages::new(move |name, external_id| {
        let watched = sources.iter().find(|watched| watched.terms.name == name)?;
        watched.source.token_page(external_id)
    })
}

fn settings(config: &Config, mailer: &Arc<engine::Mailer>) -> Settings {
    let web = &config.web;
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
        pages: source_pages(&config.sources),
        portal_url: web.portal_url(),
        mailer: web.sign_in.contains(&SignIn::Link).then(|| {
            let zone = config.policy.zone;
            let mailer = Arc::clone(mailer);
            Mailer(Arc::new(SignInMails { mailer, zone }))
        }),
    }
}

/// Sends links by the mail server of the notices, at once and once.
struct SignInMails {
    mailer: Arc<engine::Mailer>,
    zone: Tz,
}

#[async_trait]
impl LinkMailer for SignInMails {
    async fn send(&self, mail: LinkMail) -> std::result::Result<(), String> {
        let entry = SignInEntry {
            until: mail.now + mail.ttl,
            link: mail.link,
        };
        let letter = Letter {
            reference: engine::new_id(mail.now).simple().to_string(),
            to: mail.to,
            zone: mail.preference.timezone.unwrap_or(self.zone),
            language: mail.preference.language,
            now: mail.now,
            entries: vec![Entry::SignIn(entry)],
            unlisted: Vec::new(),
            unreachable: Vec::new(),
        };
        let mailer = &self.mailer;
        let message = mailer.writer.write(&letter, &mailer.templates());
        let message = message.map_err(|error| error.to_string())?;
        let connection = mailer.transport.open().await;
        let mut connection = connection.map_err(|fault| fault.to_string())?;
        let outcome = connection.send(&message).await;
        connection.close().await;
        match outcome {
            Outcome::Sent { .. } => Ok(()),
            Outcome::Deferred(fault)
            | Outcome::Unknown(fault)
            | Outcome::ServerFault(fault)
            | Outcome::Refused(fault) => Err(fault.to_string()),
        }
    }
}
