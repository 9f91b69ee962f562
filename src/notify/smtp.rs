//! The SMTP client's side of a relay: where it is, how it is reached, who we are to it. One connection
//! a worker, kept over many mails.
//!
//! lettre gives the commands and the SASL mechanisms; the exchange itself is here, because lettre's
//! connection neither tells that a server takes commands in one write (RFC 2920), nor drops what
//! was sent in the clear behind STARTTLS, nor tells a connection that broke while the text was written from one that broke
//! after it, on which hangs whether a mail may be sent again without a second copy.

mod reply;
mod session;
mod tls;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use lettre::{Address, transport::smtp::extension::ClientId};
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use secrecy::SecretString;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::fault::{Fault, Stage};

pub use session::Session;

const STRIPPED: &str = "the server does not offer STARTTLS, or something on the way takes the \
                        offer out; nothing is sent in the clear while tls = required";

/// How the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// From the first octet (RFC 8314), usually port 465.
    Implicit,
    /// By STARTTLS (RFC 3207); a server that does not offer it is refused.
    Required,
    /// By STARTTLS where the server offers it. The certificate is then not verified, unless there is a
    /// password to protect: whoever could forge it could as well take the offer away.
    Opportunistic,
    /// Not at all.
    None,
}

/// Where the relay is and who we are to it.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// Whom to authenticate as; `None` for not at all.
    pub user: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
    /// The only certificates to trust, as PEM; otherwise those the system trusts.
    pub ca_file: Option<PathBuf>,
    /// The name to say EHLO with; otherwise this machine's.
    pub hello_name: Option<String>,
    /// The most that any step may take.
    pub timeout: Duration,
    /// The most that the reply to the final dot may take. Giving up too early makes second copies;
    /// RFC 5321 §4.5.3.2.6 wants 10 minutes.
    pub final_timeout: Duration,
    /// Whether MAIL, RCPT and DATA go in one write where the server takes that.
    pub pipelining: bool,
    /// The envelope sender, to which bounces go.
    pub envelope_from: Address,
}

/// Why a relay cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host is neither a name nor an address.
    #[error("{host:?} is not the name of a mail server")]
    Host {
        /// What was configured.
        host: String,
        /// Why not.
        #[source]
        source: InvalidDnsNameError,
    },
    /// The name for EHLO is none.
    #[error("{0:?} is not a name to greet a mail server with; write it as mail.example.org")]
    HelloName(String),
    /// There is nothing to trust.
    #[error(transparent)]
    Tls(#[from] crate::tls::Error),
    /// A user without a password, or the reverse.
    #[error("a user and a password go together; only one of them is set")]
    HalfCredentials,
}

/// A relay that connections can be opened to. Cheap to share.
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
    /// Checks the settings and reads the certificates; connects nowhere.
    pub fn new(settings: SmtpSettings) -> Result<Self, Error> {
        if settings.user.is_some() != settings.password.is_some() {
            return Err(Error::HalfCredentials);
        }
        let host = settings.host.trim_matches(['[', ']']).to_owned();
        let server_name =
            ServerName::try_from(host.clone()).map_err(|source| Error::Host { host, source })?;
        let tls = match settings.tls {
            Tls::None => None,
            Tls::Opportunistic if settings.user.is_none() => Some(tls::unverified()?),
            Tls::Implicit | Tls::Required | Tls::Opportunistic => {
                Some(crate::tls::verified(settings.ca_file.as_deref())?)
            }
        };
        Ok(Self {
            hello: hello(settings.hello_name.as_deref())?,
            server_name,
            tls: tls.map(|config| TlsConnector::from(Arc::new(config))),
            settings,
        })
    }

    /// Opens a connection that is ready for mails: encrypted and authenticated as configured.
    ///
    /// # Errors
    ///
    /// A [`Fault`] of the stage that failed; 4xx and broken connections pass, 5xx is for the
    /// administrator.
    pub async fn connect(&self) -> Result<Session, Fault> {
        let stream = self.reach().await?;
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
            self.may_authenticate(session)?;
            session.authenticate(user, password).await?;
        }
        Ok(())
    }

    async fn reach(&self) -> Result<TcpStream, Fault> {
        let SmtpSettings { host, port, .. } = &self.settings;
        let host = host.trim_matches(['[', ']']);
        let connected = timeout(self.settings.timeout, TcpStream::connect((host, *port))).await;
        let stream = connected
            .map_err(|_| Fault::new(Stage::Connect, "timed out"))?
            .map_err(|error| Fault::new(Stage::Connect, error))?;
        // Small writes must not wait for the acknowledgement of the ones before (RFC 896).
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
                Err(Fault::new(Stage::Tls, STRIPPED))
            };
        };
        match session.start_tls(connector, &self.server_name).await {
            Ok(()) => session.hello(&self.hello).await,
            // It said no; the connection goes on in the clear.
            Err(_) if is_optional && session.is_usable() => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// A password goes over an open wire only where the configuration says so in so many words.
    fn may_authenticate(&self, session: &Session) -> Result<(), Fault> {
        if session.is_encrypted() || self.settings.tls == Tls::None {
            return Ok(());
        }
        Err(Fault::new(
            Stage::Auth,
            "the server does not offer STARTTLS, and the password is not sent in the clear; set \
             tls = none if that is meant",
        ))
    }
}

fn hello(name: Option<&str>) -> Result<ClientId, Error> {
    let Some(name) = name else {
        return Ok(ClientId::default());
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b);
    if name.is_empty() || name.len() > 255 || !name.bytes().all(allowed) {
        return Err(Error::HelloName(name.chars().take(80).collect()));
    }
    Ok(ClientId::Domain(name.to_owned()))
}
