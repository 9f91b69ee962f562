//! The SMTP client. Each worker keeps one connection over many mails.
//!
//! lettre provides the commands and SASL mechanisms, but its connection is not used: it does not report
//! PIPELINING (RFC 2920), does not drop unencrypted data after STARTTLS, and does not distinguish a
//! connection that broke while the text was sent from one that broke after it, which decides whether
//! sending again could deliver a second copy.

mod session;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use lettre::transport::smtp::extension::ClientId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use secrecy::SecretString;
use tokio::io::{self, AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault::{Fault, Stage};
use crate::tls;

pub use session::{Session, SessionSettings};

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
        Ok(session)
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

/// rustls wraps its errors in an I/O error.
fn tls_problem(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let why = certificate_problem(why);
            format!("the server's certificate is not valid: {why}")
        }
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

fn certificate_problem(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; is the clock of this machine right?".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "its issuer is not trusted; set smtp.ca_file to the certificate of its authority"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is not valid for the host in smtp.url".to_owned()
        }
        other => format!("{other:?}"),
    }
}

/// A client that accepts any certificate; protects only against passive listeners.
fn accept_any_certificate() -> Result<ClientConfig, tls::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = tls::config_builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)));
    Ok(config.with_no_client_auth())
}

/// Accepts any certificate for which the server has the key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
