//! The handshake, and how to do without knowing the server.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{io, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::notify::fault::{Fault, Stage};
use crate::tls;

use super::session::Wire;

/// A client that believes any certificate: encryption against those who only listen.
pub(super) fn unverified() -> Result<ClientConfig, tls::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = tls::builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)));
    Ok(config.with_no_client_auth())
}

pub(super) async fn handshake<S: Wire>(
    connector: &TlsConnector,
    name: &ServerName<'static>,
    stream: S,
    limit: Duration,
) -> Result<TlsStream<S>, Fault> {
    let handshake = connector.connect(name.clone(), stream);
    match timeout(limit, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Fault::new(Stage::Tls, reason(&error))),
        Err(_) => Err(Fault::new(Stage::Tls, "timed out")),
    }
}

/// rustls hides its reasons in an I/O error.
fn reason(error: &io::Error) -> String {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::InvalidCertificate(why)) => {
            format!("the server's certificate is not valid: {}", flaw(why))
        }
        Some(error) => error.to_string(),
        None => error.to_string(),
    }
}

/// rustls tells flaws of certificates as values for programs.
fn flaw(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; is the clock of this machine right?".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "nobody who is trusted here has signed it; name its authority in smtp.ca_file"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for a server of another name than smtp.url says".to_owned()
        }
        other => format!("{other:?}"),
    }
}

/// Believes any certificate whose key the server holds.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
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
