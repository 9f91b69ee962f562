//! The SMTP client. Each worker keeps one connection over many mails.
//!
//! lettre provides the commands and SASL mechanisms, but its connection is not used: it does not report
//! PIPELINING (RFC 2920), does not drop unencrypted data after STARTTLS, and does not distinguish a
//! connection that broke while the text was sent from one that broke after it, which decides whether
//! sending again could deliver a second copy.

mod reply;
mod session;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use secrecy::SecretString;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::fault::{Fault, Stage};

pub use session::Session;

const NO_STARTTLS: &str = "the server does not offer STARTTLS, or someone on the network removes the \
                           offer; with tls = required nothing is sent unencrypted";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// From the first octet (RFC 8314), usually port 465.
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
    /// `None` means no authentication.
    pub user: Option<String>,
    pub password: Option<SecretString>,
    /// Certificates to trust, as PEM; `None` means the system's.
    pub ca_file: Option<PathBuf>,
    /// For EHLO; `None` means the name of this machine.
    pub hello_name: Option<String>,
    /// Limit for each step.
    pub timeout: Duration,
    /// Limit for the reply to the final dot. If it is too short, mails are sent twice; RFC 5321 §4.5.3.2.6
    /// asks for 10 minutes.
    pub final_timeout: Duration,
    /// Whether to send MAIL, RCPT and DATA in one write if the server supports it.
    pub pipelining: bool,
    /// Where bounces go.
    pub envelope_from: Address,
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
    Tls(#[from] crate::tls::Error),
    #[error("set both user and password, or neither")]
    IncompleteCredentials,
}

/// A mail server to which connections can be opened.
pub struct Relay {
    settings: SmtpSettings,
    hello: ClientId,
    server_name: ServerName<'static>,
    tls: Option<TlsConnector>,
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
            Tls::Opportunistic if settings.user.is_none() => Some(tls::unverified()?),
            Tls::Implicit | Tls::Required | Tls::Opportunistic => {
                Some(crate::tls::client_config(settings.ca_file.as_deref())?)
            }
        };
        Ok(Self {
            hello: client_id(settings.hello_name.as_deref())?,
            server_name,
            tls: tls.map(|config| TlsConnector::from(Arc::new(config))),
            settings,
        })
    }

    /// Opens a connection that is encrypted and authenticated as configured.
    ///
    /// # Errors
    ///
    /// The [`Fault`] of the failed stage. 4xx and broken connections are temporary; 5xx needs the
    /// administrator.
    pub async fn connect(&self) -> Result<Session, Fault> {
        let stream = self.open_stream().await?;
        let mut session = match (self.settings.tls, &self.tls) {
            (Tls::Implicit, Some(connector)) => {
                let limit = self.settings.timeout;
                let stream = tls::handshake(connector, &self.server_name, stream, limit).await?;
                Session::new(stream, &self.settings, true)
            }
            _ => Session::new(stream, &self.settings, false),
        };
        match self.prepare(&mut session).await {
            Ok(()) => Ok(session),
            Err(fault) => {
                session.quit().await;
                Err(fault)
            }
        }
    }

    async fn prepare(&self, session: &mut Session) -> Result<(), Fault> {
        session.greeting().await?;
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

    async fn open_stream(&self) -> Result<TcpStream, Fault> {
        let SmtpSettings { host, port, .. } = &self.settings;
        let host = host.trim_matches(['[', ']']);
        let connected = timeout(self.settings.timeout, TcpStream::connect((host, *port))).await;
        let stream = connected
            .map_err(|_| Fault::new(Stage::Connect, "timed out"))?
            .map_err(|error| Fault::new(Stage::Connect, error))?;
        // Small writes must not wait for acknowledgements (RFC 896).
        stream
            .set_nodelay(true)
            .map_err(|error| Fault::new(Stage::Connect, error))?;
        Ok(stream)
    }

    async fn encrypt(&self, session: &mut Session) -> Result<(), Fault> {
        let is_optional = self.settings.tls == Tls::Opportunistic;
        let connector = self.tls.as_ref().filter(|_| session.offers_starttls());
        let Some(connector) = connector else {
            return if is_optional {
                Ok(())
            } else {
                Err(Fault::new(Stage::Tls, NO_STARTTLS))
            };
        };
        match session.start_tls(connector, &self.server_name).await {
            Ok(()) => session.hello(&self.hello).await,
            // The server refused; continue unencrypted.
            Err(_) if is_optional && session.is_usable() => Ok(()),
            Err(fault) => Err(fault),
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
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b);
    if name.is_empty() || name.len() > 255 || !name.bytes().all(allowed) {
        return Err(Error::HelloName(name.chars().take(80).collect()));
    }
    Ok(ClientId::Domain(name.to_owned()))
}
