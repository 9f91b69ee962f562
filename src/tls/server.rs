//! The certificate of lapsed's own listener, which can be replaced while it serves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret, SecretString};

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot read certificates from {}", path.display())]
    Certificate {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("{} has no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// The parser's own error is left out: it may show a part of the key.
    #[error("tls_key is not a private key in PEM form")]
    Key,
    #[error("{} and tls_key cannot be used; is it the key of that certificate?", path.display())]
    Pair {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

#[derive(Debug)]
pub struct ServerCertificate(RwLock<Arc<CertifiedKey>>);

impl ServerCertificate {
    /// `path` has the certificate and then the authorities between it and the root, in PEM form.
    pub fn load(path: &Path, key: &SecretString) -> Result<Arc<Self>, ServerError> {
        let certificate = load_pair(path, key)?;
        Ok(Arc::new(Self(RwLock::new(Arc::new(certificate)))))
    }

    /// New connections get the new certificate. If it cannot be used, the old one stays.
    pub fn replace(&self, path: &Path, key: &SecretString) -> Result<(), ServerError> {
        let certificate = Arc::new(load_pair(path, key)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certificate;
        Ok(())
    }

    /// The settings of a server that presents it.
    pub fn server_config(self: Arc<Self>) -> Result<ServerConfig, ServerError> {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions()?;
        let mut config = config.with_no_client_auth().with_cert_resolver(self);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current))
    }
}

fn load_pair(path: &Path, key: &SecretString) -> Result<CertifiedKey, ServerError> {
    let unreadable = |source| ServerError::Certificate {
        path: path.to_owned(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if chain.is_empty() {
        return Err(ServerError::NoCertificate(path.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
        .map_err(|_| ServerError::Key)?;
    let pair = CertifiedKey::from_der(chain, key, &ring::default_provider());
    pair.map_err(|source| ServerError::Pair {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> (String, SecretString) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem().into())
    }

    #[test]
    fn a_bad_certificate_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.pem");
        let (first, key) = pem();
        std::fs::write(&path, first).unwrap();
        let certificate = ServerCertificate::load(&path, &key).unwrap();
        let served = || Arc::clone(&certificate.0.read().unwrap());
        let before = served();

        let (second, second_key) = pem();
        std::fs::write(&path, second).unwrap();
        let error = certificate.replace(&path, &key).unwrap_err();
        assert!(matches!(error, ServerError::Pair { .. }), "{error}");
        std::fs::write(&path, "").unwrap();
        let error = certificate.replace(&path, &second_key).unwrap_err();
        assert!(matches!(error, ServerError::NoCertificate(_)), "{error}");
        assert!(Arc::ptr_eq(&before, &served()));

        let (third, third_key) = pem();
        std::fs::write(&path, third).unwrap();
        certificate.replace(&path, &third_key).unwrap();
        assert!(!Arc::ptr_eq(&before, &served()));
    }
}
