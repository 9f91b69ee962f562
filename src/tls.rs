//! Which certificate authorities are believed: those of one file, or the system's. One TLS stack for
//! mail and for HTTP: rustls over ring.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore, WantsVerifier};

/// Why there is nothing to trust.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The CA file cannot be read.
    #[error("cannot read certificates from {}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// There is nothing to trust.
    #[error("no certificate authority to trust in {0}; name one with ca_file")]
    NoRoots(String),
    /// The TLS library refuses.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// A client that believes the authorities of `ca_file` alone, or those of the system.
///
/// # Errors
/// When the file cannot be read, or holds no authority.
pub fn verified(ca_file: Option<&Path>) -> Result<ClientConfig, Error> {
    let config = builder()?.with_root_certificates(roots(ca_file)?);
    Ok(config.with_no_client_auth())
}

/// A client whose way to verify is still open.
///
/// # Errors
/// When the TLS library refuses.
pub fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    let provider = Arc::new(ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let place = if let Some(path) = ca_file {
        let wrong = |source| Error::CaFile {
            path: path.to_owned(),
            source,
        };
        for certificate in CertificateDer::pem_file_iter(path).map_err(wrong)? {
            store.add(certificate.map_err(wrong)?)?;
        }
        path.display().to_string()
    } else {
        // One broken file among the system's must not cost all the others.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        "the system's store".to_owned()
    };
    if store.is_empty() {
        return Err(Error::NoRoots(place));
    }
    Ok(store)
}
