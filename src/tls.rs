//! TLS for mail, HTTP and LDAP: rustls over ring, trusting the authorities of one file or of the system.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, WantsVerifier};

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
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// Builds a client that trusts only the authorities of `ca_file`, or those of the system.
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, Error> {
    let config = config_builder()?.with_root_certificates(roots(ca_file)?);
    Ok(config.with_no_client_auth())
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
