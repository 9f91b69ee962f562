//! What can go wrong with TLS, and which mistake in the configuration explains it.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InvalidMessage, SignatureScheme,
};
use tokio::io;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls;

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

const NOT_TLS: &str = "the server does not expect TLS from the first byte; for STARTTLS, as usual on ports 25 and \
                       587, write smtp:// instead of smtps://";

/// rustls wraps its errors in an I/O error.
pub(super) fn tls_problem(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let why = certificate_problem(why);
            format!("the server's certificate is not valid: {why}")
        }
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            NOT_TLS.to_owned()
        }
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

/// Whether a server that sends no greeting waits for a TLS handshake.
pub(super) async fn expects_tls(address: (&str, u16)) -> bool {
    let handshake = async {
        let config = accept_any_certificate().ok()?;
        let name = ServerName::try_from(address.0.to_owned()).ok()?;
        let stream = TcpStream::connect(address).await.ok()?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.ok()
    };
    matches!(timeout(PROBE_TIMEOUT, handshake).await, Ok(Some(_)))
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
pub(super) fn accept_any_certificate() -> Result<ClientConfig, tls::Error> {
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
