//! TLS for mail, HTTP and LDAP: rustls over ring, trusting the authorities of one file or of the system.

mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme, WantsVerifier};
use secrecy::{ExposeSecret, SecretString};

pub use server::{CertificateFault, ServerCertificate};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read certificates from {}", path.display())]
    CaFile {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The file or the system's store has no certificate authority.
    #[error("no certificate authority to trust in {0}; name one with ca_file")]
    NoRoots(String),
    /// The parser's own error is left out: it may show a part of the key.
    #[error("client_key is not a private key in PEM form")]
    ClientKey,
    #[error("client_certificate and client_key cannot be used; is it the key of that certificate?")]
    ClientCertificate(#[source] rustls::Error),
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// Builds a client that trusts only the authorities of `ca_file`, or those of the system.
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, Error> {
    let config = config_builder()?.with_root_certificates(roots(ca_file)?);
    Ok(config.with_no_client_auth())
}

/// The certificate by which lapsed identifies itself to a server.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// PEM, with the authorities between if there are any.
    pub path: PathBuf,
    pub key: SecretString,
}

impl ClientCertificate {
    fn load(&self) -> Result<CertifiedKey, Error> {
        let unreadable = |source| Error::CaFile {
            path: self.path.clone(),
            source,
        };
        let chain = CertificateDer::pem_file_iter(&self.path).map_err(unreadable)?;
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.expose_secret().as_bytes())
            .map_err(|_| Error::ClientKey)?;
        let provider = ring::default_provider();
        CertifiedKey::from_der(chain, key, &provider).map_err(Error::ClientCertificate)
    }
}

/// Presents a certificate, if there is one, and remembers that a server asked for it: most servers only close the
/// connection if they miss it.
#[derive(Debug, Default)]
pub struct ClientIdentity {
    certificate: Option<Arc<CertifiedKey>>,
    was_requested: AtomicBool,
}

impl ClientIdentity {
    pub fn load(certificate: Option<&ClientCertificate>) -> Result<Self, Error> {
        let certificate = certificate.map(ClientCertificate::load).transpose()?;
        Ok(Self {
            certificate: certificate.map(Arc::new),
            was_requested: AtomicBool::new(false),
        })
    }

    /// Called before a connection, so that [`ClientIdentity::was_requested`] is about this one.
    pub fn forget_request(&self) {
        self.was_requested.store(false, Ordering::Relaxed);
    }

    pub fn was_requested(&self) -> bool {
        self.was_requested.load(Ordering::Relaxed)
    }

    pub fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }
}

impl ResolvesClientCert for ClientIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_requested.store(true, Ordering::Relaxed);
        self.certificate.clone()
    }

    fn has_certs(&self) -> bool {
        self.has_certificate()
    }
}

/// Like [`client_config`], for a server that may ask for a certificate.
pub fn client_config_with(
    ca_file: Option<&Path>,
    identity: Arc<ClientIdentity>,
) -> Result<ClientConfig, Error> {
    let config = config_builder()?.with_root_certificates(roots(ca_file)?);
    Ok(config.with_client_cert_resolver(identity))
}

/// A client configuration that has no verifier yet.
pub fn config_builder() -> Result<rustls::ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    let provider = Arc::new(ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let location = if let Some(path) = ca_file {
        let unreadable = |source| Error::CaFile {
            path: path.to_owned(),
            source,
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
            store.add(certificate.map_err(unreadable)?)?;
        }
        path.display().to_string()
    } else {
        // One broken file in the system's store must not make the others useless.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        "the system's store".to_owned()
    };
    if store.is_empty() {
        return Err(Error::NoRoots(location));
    }
    Ok(store)
}
