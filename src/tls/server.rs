//! The certificate of lapsed's own listener, which can be replaced while it serves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore, ServerConfig};
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

/// Why clients refuse a certificate that can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is not valid yet")]
    NotYetValid,
    #[error("the certificate has another name")]
    OtherName,
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

    /// Why clients refuse it at `at` under the name `host`, or under any name. Whether they trust its authority is not
    /// known here.
    pub fn find_fault(&self, host: Option<&str>, at: DateTime<Utc>) -> Option<CertificateFault> {
        let chain = self.current().cert.clone();
        let (leaf, others) = chain.split_first()?;
        let time = Duration::from_secs(at.timestamp().unsigned_abs());
        let time = UnixTime::since_unix_epoch(time);
        match verify_by_itself(leaf, others, time) {
            Err(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                return Some(CertificateFault::Expired);
            }
            Err(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
                return Some(CertificateFault::NotYetValid);
            }
            _ => {}
        }
        let name = ServerName::try_from(host?.trim_matches(['[', ']'])).ok()?;
        let leaf = ParsedCertificate::try_from(leaf).ok()?;
        let is_other = verify_server_name(&leaf, &name).is_err();
        is_other.then_some(CertificateFault::OtherName)
    }

    fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
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
        Some(self.current())
    }
}

/// Trusts the last certificate of the chain, so that the dates decide.
fn verify_by_itself(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    time: UnixTime,
) -> Result<(), CertificateError> {
    let mut roots = RootCertStore::empty();
    let last = others.last().unwrap_or(leaf).clone().into_owned();
    roots.add(last).map_err(certificate_error)?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = verifier
        .build()
        .map_err(|_| CertificateError::UnknownIssuer)?;
    let any_name =
        ServerName::try_from("localhost").map_err(|_| CertificateError::NotValidForName)?;
    let outcome = verifier.verify_server_cert(leaf, others, &any_name, &[], time);
    outcome.map(drop).map_err(certificate_error)
}

fn certificate_error(error: rustls::Error) -> CertificateError {
    match error {
        rustls::Error::InvalidCertificate(error) => error,
        _ => CertificateError::BadEncoding,
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
    fn the_dates_and_the_name_of_a_certificate_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.pem");
        let at = |year: i64| DateTime::from_timestamp((year - 1970) * 31_557_600, 0).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(vec![]).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_pem = authority.clone().self_signed(&authority_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 12, 31);
        let alone = params.clone().self_signed(&key).unwrap().pem();
        let signed = params.signed_by(&key, &issuer).unwrap().pem();
        for pem in [alone, signed.clone(), format!("{signed}{authority_pem}")] {
            std::fs::write(&path, pem).unwrap();
            let key = key.serialize_pem().into();
            let certificate = ServerCertificate::load(&path, &key).unwrap();
            let fault = |host, year| certificate.find_fault(host, at(year));
            assert_eq!(fault(None, 2027), None);
            assert_eq!(fault(Some("localhost"), 2027), None);
            assert_eq!(fault(Some("127.0.0.1"), 2027), None);
            let other = Some(CertificateFault::OtherName);
            assert_eq!(fault(Some("tokens.example.org"), 2027), other);
            assert_eq!(fault(Some("127.0.0.2"), 2027), other);
            let expired = Some(CertificateFault::Expired);
            assert_eq!(fault(Some("tokens.example.org"), 2029), expired);
            assert_eq!(fault(None, 2025), Some(CertificateFault::NotYetValid));
        }
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
