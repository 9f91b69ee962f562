//! The SMTP client. Each worker keeps one connection over many mails.
//!
//! lettre provides the commands and SASL mechanisms, but its connection is not used: it does not report
//! PIPELINING (RFC 2920), does not drop unencrypted data after STARTTLS, and does not distinguish a
//! connection that broke while the text was sent from one that broke after it, which decides whether
//! sending again could deliver a second copy.

mod certificate;
mod reply;
mod session;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault::{Fault, Stage};
use crate::tls;

use certificate::{accept_any_certificate, expects_tls, tls_problem};
pub use session::{Session, SessionSettings};

/// A server that has sent no greeting by then may wait for a TLS handshake.
const SILENCE: Duration = Duration::from_secs(2);

const EXPECTS_TLS: &str = "the server expects TLS from the first byte, as usual on port 465; write smtps:// instead \
                           of smtp://";

const NO_STARTTLS: &str = "the server does not offer STARTTLS, or someone on the network removes the \
                           offer; with tls = required nothing is sent unencrypted";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// TLS from the first octet (RFC 8314), usually on port 465.
    Implicit,
    /// STARTTLS (RFC 3207); a server that does not offer it is not used.
    Required,
    /// STARTTLS if the server offers it. The certificate is only verified if there is a password: an attacker
    /// who can forge it can also remove the offer.
    Opportunistic,
    None,
}

#[derive(Debug, Clone)]
pub struct SmtpSettings {
    pub host: String,
    pub port: u16,
    pub tls: Tls,
    /// Without a user, there is no authentication.
    pub user: Option<String>,
    pub password: Option<SecretString>,
    /// Certificates to trust, as PEM; `None` means the system's.
    pub ca_file: Option<PathBuf>,
    /// The name in EHLO; `None` means the name of this machine.
    pub hello_name: Option<String>,
    pub session: SessionSettings,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{host:?} is not the name of a mail server")]
    Host {
        host: String,
        #[source]
        source: InvalidDnsNameError,
    },
    #[error("{0:?} is not a valid name for EHLO; write for example mail.example.org")]
    HelloName(String),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("set both user and password, or neither")]
    IncompleteCredentials,
}

/// A mail server, to which connections can be opened.
pub struct Relay {
    settings: SmtpSettings,
    hello: ClientId,
    /// A second connection to a silent server is opened only once: a server that delays its greeting on purpose takes
    /// a client that speaks first for a spammer.
    was_probed: AtomicBool,
    server_name: ServerName<'static>,
    connector: Option<TlsConnector>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SmtpSettings {
            host, port, tls, ..
        } = &self.settings;
        write!(f, "Relay({host}:{port}, {tls:?})")
    }
}

impl Relay {
    /// Checks the settings and reads the certificates; does not connect.
    pub fn new(settings: SmtpSettings) -> Result<Self, Error> {
        if settings.user.is_some() != settings.password.is_some() {
            return Err(Error::IncompleteCredentials);
        }
        let host = settings.host.trim_matches(['[', ']']).to_owned();
        let server_name =
            ServerName::try_from(host.clone()).map_err(|source| Error::Host { host, source })?;
        let tls = match settings.tls {
            Tls::None => None,
            Tls::Opportunistic if settings.user.is_none() => Some(accept_any_certificate()?),
            Tls::Implicit | Tls::Required | Tls::Opportunistic => {
                Some(tls::client_config(settings.ca_file.as_deref())?)
            }
        };
        Ok(Self {
            hello: client_id(settings.hello_name.as_deref())?,
            was_probed: AtomicBool::new(false),
            server_name,
            connector: tls.map(|config| TlsConnector::from(Arc::new(config))),
            settings,
        })
    }

    /// Opens a connection that is encrypted and authenticated as configured. The error names the failed stage;
    /// 4xx and broken connections are temporary, 5xx needs the administrator.
    pub async fn connect(&self) -> Result<Session, Fault> {
        let stream = self.open_stream().await?;
        let mut session = match (self.settings.tls, &self.connector) {
            (Tls::Implicit, Some(connector)) => {
                let stream = self.handshake(connector, stream).await?;
                Session::new(stream, self.settings.session.clone(), true)
            }
            _ => Session::new(stream, self.settings.session.clone(), false),
        };
        if let Err(fault) = self.prepare(&mut session).await {
            session.quit().await;
            return Err(fault);
        }
        let SmtpSettings { host, port, .. } = &self.settings;
        let encrypted = session.is_encrypted();
        tracing::debug!(encrypted, "connected to {host}:{port}");
        Ok(session)
    }

    async fn prepare(&self, session: &mut Session) -> Result<(), Fault> {
        self.wait_for_greeting(session).await?;
        session.hello(&self.hello).await?;
        if !session.is_encrypted() && self.settings.tls != Tls::None {
            self.encrypt(session).await?;
        }
        if let (Some(user), Some(password)) = (&self.settings.user, &self.settings.password) {
            self.ensure_may_authenticate(session)?;
            session.authenticate(user, password).await?;
        }
        Ok(())
    }

    async fn wait_for_greeting(&self, session: &mut Session) -> Result<(), Fault> {
        let SmtpSettings {
            host,
            port,
            tls,
            session: limits,
            ..
        } = &self.settings;
        let greeting = session.greeting();
        if *tls == Tls::Implicit {
            return greeting.await;
        }
        tokio::pin!(greeting);
        tokio::select! {
            greeted = &mut greeting => return greeted,
            () = sleep(SILENCE.min(limits.timeout / 2)) => {}
        }
        let host = host.trim_matches(['[', ']']);
        if !self.was_probed.swap(true, Ordering::Relaxed) && expects_tls((host, *port)).await {
            return Err(Fault::new(Stage::Greeting, EXPECTS_TLS));
        }
        greeting.await
    }

    async fn open_stream(&self) -> Result<TcpStream, Fault> {
        let SmtpSettings { host, port, .. } = &self.settings;
        let host = host.trim_matches(['[', ']']);
        let fault = |error| Fault::new(Stage::Connect, error);
        let connect = TcpStream::connect((host, *port));
        let stream = match timeout(self.settings.session.timeout, connect).await {
            Ok(stream) => stream.map_err(fault)?,
            Err(_) => return Err(Fault::new(Stage::Connect, "timed out")),
        };
        // Small writes must not wait for acknowledgements (RFC 896).
        stream.set_nodelay(true).map_err(fault)?;
        Ok(stream)
    }

    async fn encrypt(&self, session: &mut Session) -> Result<(), Fault> {
        let is_optional = self.settings.tls == Tls::Opportunistic;
        let connector = match &self.connector {
            Some(connector) if session.offers_starttls() => connector,
            _ if is_optional => return Ok(()),
            _ => return Err(Fault::new(Stage::Tls, NO_STARTTLS)),
        };
        let stream = match session.start_tls().await {
            Ok(stream) => stream,
            // The server refused STARTTLS; the connection continues unencrypted.
            Err(_) if is_optional && session.is_usable() => return Ok(()),
            Err(fault) => return Err(fault),
        };
        session.resume_encrypted(self.handshake(connector, stream).await?);
        session.hello(&self.hello).await
    }

    async fn handshake<S>(&self, connector: &TlsConnector, stream: S) -> Result<TlsStream<S>, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = connector.connect(self.server_name.clone(), stream);
        match timeout(self.settings.session.timeout, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Fault::new(Stage::Tls, tls_problem(&error))),
            Err(_) => Err(Fault::new(Stage::Tls, "timed out")),
        }
    }

    /// The password is sent unencrypted only with an explicit `tls = none`.
    fn ensure_may_authenticate(&self, session: &Session) -> Result<(), Fault> {
        if session.is_encrypted() || self.settings.tls == Tls::None {
            return Ok(());
        }
        Err(Fault::new(
            Stage::Auth,
            "the server does not offer STARTTLS, and the password is not sent unencrypted; set \
             tls = none to allow that",
        ))
    }
}

fn client_id(name: Option<&str>) -> Result<ClientId, Error> {
    let Some(name) = name else {
        return Ok(ClientId::default());
    };
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b);
    if name.is_empty() || name.len() > 255 || !name.bytes().all(is_allowed) {
        return Err(Error::HelloName(name.chars().take(80).collect()));
    }
    Ok(ClientId::Domain(name.to_owned()))
}
