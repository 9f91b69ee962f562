//! A mail server that fails on request and reports what it received.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

use crate::waiting::wait_until;
use crate::world::{Mail, mails_in};

/// A running `faultsmtp.py`.
pub struct MailServer {
    child: Option<Child>,
    folder: TempDir,
    pub port: u16,
}

impl MailServer {
    /// Starts a server with these faults.
    pub fn start(arguments: &str) -> Self {
        let mut server = Self {
            child: None,
            folder: tempfile::tempdir().unwrap(),
            port: 0,
        };
        server.start_again(arguments);
        server
    }

    /// Starts a server with a certificate for localhost from its own authority.
    pub fn encrypted(arguments: &str, is_expired: bool) -> Self {
        let mut server = Self {
            child: None,
            folder: tempfile::tempdir().unwrap(),
            port: 0,
        };
        server.write_certificate(is_expired);
        let [certificate, key] =
            ["cert.pem", "key.pem"].map(|name| server.path(name).display().to_string());
        server.start_again(&format!("{arguments} --cert {certificate} --key {key}"));
        server
    }

    fn write_certificate(&self, is_expired: bool) {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        fs::write(
            self.authority(),
            authority.self_signed(&authority_key).unwrap().pem(),
        )
        .unwrap();
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        if is_expired {
            leaf.not_before = rcgen::date_time_ymd(2020, 1, 1);
            leaf.not_after = rcgen::date_time_ymd(2020, 2, 1);
        }
        let key = KeyPair::generate().unwrap();
        let signed = leaf
            .signed_by(&key, &Issuer::new(authority, authority_key))
            .unwrap();
        fs::write(self.path("cert.pem"), signed.pem()).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    /// Starts it on the same port, after [`MailServer::stop`].
    pub fn start_again(&mut self, arguments: &str) {
        assert!(self.child.is_none(), "it is already running");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/faultsmtp.py");
        let mut child = Command::new("python3")
            .arg(script)
            .args([
                "--host",
                "127.0.0.1",
                "--full-maps",
                "--port",
                &self.port.to_string(),
            ])
            .arg("--port-file")
            .arg(self.path("port"))
            .arg("--summary")
            .arg(self.path("summary.json"))
            .arg("--store")
            .arg(self.path("store"))
            .args(arguments.split_whitespace())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It prints a line when it listens.
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_contains!(line, "listening");
        self.port = fs::read_to_string(self.path("port"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        self.child = Some(child);
    }

    /// The certificate file of its authority.
    pub fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// What it has received so far.
    pub fn summary(&self) -> Value {
        let file = self.path("summary.json");
        let _ = fs::remove_file(&file);
        self.signal("-USR1");
        let text = wait_until("the mail server writes its summary", || {
            fs::read(&file).ok()
        });
        serde_json::from_slice(&text).unwrap()
    }

    /// Stops it and returns what it received since the start.
    pub fn stop(&mut self) -> Value {
        self.signal("-TERM");
        self.child.take().unwrap().wait().unwrap();
        serde_json::from_slice(&fs::read(self.path("summary.json")).unwrap()).unwrap()
    }

    /// Every accepted mail, in order.
    pub fn mails(&self) -> Vec<Mail> {
        mails_in(&self.path("store/new"))
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
