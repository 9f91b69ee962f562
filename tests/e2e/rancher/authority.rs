//! A Rancher with a certificate of a private authority.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use lapsed::sources::rancher::{self, TokenKind};
use lapsed::sources::{Kind, ProxyRules};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

use super::{OWN, Rancher};

/// Puts TLS in front of a server; returns the port and the certificate.
fn add_tls(server: &str) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let server = server.trim_start_matches("http://").to_owned();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (open, _) = listener.accept().await.unwrap();
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(forward(acceptor, open, server));
            }
        });
    });
    (port, made.cert.pem())
}

async fn forward(acceptor: TlsAcceptor, open: TcpStream, server: String) {
    let Ok(mut near) = acceptor.accept(open).await else {
        return;
    };
    let mut far = TcpStream::connect(server).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}

#[tokio::test]
async fn a_private_authority_is_trusted_if_configured() {
    let rancher = Rancher::new();
    let (port, certificate) = add_tls(rancher.url());
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, certificate).unwrap();
    let source = |ca_file| {
        let config = rancher::Config {
            url: format!("https://localhost:{port}").parse().unwrap(),
            token: OWN.into(),
            ca_file,
            kinds: TokenKind::default_kinds(),
            users: [].into(),
        };
        Kind::Rancher(config).build(std::time::Duration::from_secs(20), &ProxyRules::default())
    };
    let checked = source(Some(ca_file)).unwrap().check().await.unwrap();
    assert!(
        checked.summary.starts_with("Rancher v2.12.1"),
        "{}",
        checked.summary
    );
    let missing = source(Some(folder.path().join("none.pem")))
        .map(|_| ())
        .unwrap_err();
    assert_contains!(missing, "none.pem");
    let unknown = source(None).unwrap().check().await.unwrap_err().to_string();
    assert_contains!(unknown, "certificate");
}
