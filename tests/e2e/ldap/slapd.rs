//! A real OpenLDAP server per test, stopped when dropped.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::waiting::wait_until;

/// The suffix of all DNs.
pub const SUFFIX: &str = "dc=example,dc=org";

/// The bind DN of lapsed.
pub const READER: &str = "cn=reader,ou=services,dc=example,dc=org";

pub const PASSWORD: &str = "readersecret";

/// Differences from the default server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    /// Access rules before the default one, which lets the reader read everything.
    pub access: &'static str,
    /// Search limits.
    pub limits: &'static str,
    /// Whether it has the attributes of 389 Directory Server.
    pub is_like_389ds: bool,
    /// Whether it has a certificate of its own authority.
    pub has_certificate: bool,
    /// What it does about the certificates of clients: `demand`.
    pub verify_client: &'static str,
}

pub struct Slapd {
    folder: TempDir,
    child: Option<Child>,
    setup: Setup,
    /// On 127.0.0.1.
    pub port: u16,
    /// For ldaps, if it has a certificate.
    pub tls_port: u16,
}

impl Slapd {
    /// With the people of `base.ldif`.
    pub fn start() -> Self {
        Self::start_with(Setup::default())
    }

    pub fn start_with(setup: Setup) -> Self {
        let mut server = Self {
            folder: tempfile::tempdir().unwrap(),
            child: None,
            setup,
            port: 0,
            tls_port: 0,
        };
        if setup.has_certificate {
            server.certify();
        }
        server.configure();
        fs::create_dir(server.path("db")).unwrap();
        let added = Command::new("/usr/sbin/slapadd")
            .arg("-f")
            .arg(server.path("slapd.conf"))
            .arg("-l")
            .arg(tool("base.ldif"))
            .output();
        let added = added.expect("slapd is installed");
        assert!(added.status.success(), "{added:?}");
        server.listen();
        server
    }

    /// Restarts with another configuration.
    pub fn reconfigure(&mut self, setup: Setup) {
        self.stop();
        self.setup = setup;
        self.configure();
        self.listen();
    }

    fn configure(&self) {
        let Setup {
            access,
            limits,
            is_like_389ds,
            has_certificate,
            verify_client,
        } = self.setup;
        let folder = self.folder.path().display().to_string();
        let schema = format!("include {}", tool("389ds.schema").display());
        let mut tls =
            format!("TLSCertificateFile {folder}/cert.pem\nTLSCertificateKeyFile {folder}/key.pem");
        if !verify_client.is_empty() {
            tls += &format!(
                "\nTLSCACertificateFile {folder}/authority.pem\nTLSVerifyClient {verify_client}"
            );
        }
        let text = fs::read_to_string(tool("slapd.conf")).unwrap();
        let text = text
            .replace("@DIR@", &folder)
            .replace("@ACCESS@", access)
            .replace("@LIMITS@", limits)
            .replace("@SCHEMA@", if is_like_389ds { &schema } else { "" })
            .replace("@TLS@", if has_certificate { &tls } else { "" });
        fs::write(self.path("slapd.conf"), text).unwrap();
    }

    fn certify(&self) {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let pem = authority.self_signed(&authority_key).unwrap().pem();
        fs::write(self.authority(), pem).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        for (name, host) in [("", "localhost"), ("client-", "lapsed.example.org")] {
            let leaf = CertificateParams::new(vec![host.to_owned()]).unwrap();
            let key = KeyPair::generate().unwrap();
            let signed = leaf.signed_by(&key, &issuer).unwrap();
            fs::write(self.path(&format!("{name}cert.pem")), signed.pem()).unwrap();
            fs::write(self.path(&format!("{name}key.pem")), key.serialize_pem()).unwrap();
        }
    }

    /// Starts on free ports, and tries others if another process takes one in between.
    pub fn listen(&mut self) {
        assert!(self.child.is_none(), "it runs");
        self.child = Some(wait_until("slapd listens", || self.try_to_listen()));
    }

    fn try_to_listen(&mut self) -> Option<Child> {
        (self.port, self.tls_port) = free_ports();
        let _ = fs::remove_file(self.path("slapd.pid"));
        let mut urls = vec![format!("ldap://127.0.0.1:{}/", self.port)];
        if self.setup.has_certificate {
            urls.push(format!("ldaps://127.0.0.1:{}/", self.tls_port));
        }
        let log = fs::File::create(self.path("log")).unwrap();
        let mut child = Command::new("/usr/sbin/slapd")
            .arg("-f")
            .arg(self.path("slapd.conf"))
            .args(["-h", &urls.join(" "), "-d", "0"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("slapd is installed");
        let own = child.id().to_string();
        let listens = wait_until("slapd has opened its ports", || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            // The pid file is written once it owns the ports, shortly before it listens.
            let pid = fs::read_to_string(self.path("slapd.pid")).unwrap_or_default();
            let is_own = pid.trim() == own;
            let answers = is_own && TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            answers.then_some(true)
        });
        listens.then_some(child)
    }

    /// Kills the server.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Applies LDIF changes as its administrator.
    pub fn change(&self, ldif: &str) -> &Self {
        let mut child = Command::new("ldapmodify")
            .args(["-x", "-H", &self.url(), "-D", "cn=admin,dc=example,dc=org"])
            .args(["-w", "secret"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ldap-utils is installed");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(ldif.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{ldif}\n{error}");
        self
    }

    /// `add: mail`, `mail: bob@example.org`.
    pub fn change_person(&self, uid: &str, lines: &str) -> &Self {
        self.change(&format!(
            "dn: uid={uid},ou=people,{SUFFIX}\nchangetype: modify\n{lines}\n"
        ))
    }

    pub fn delete_person(&self, uid: &str) -> &Self {
        self.change(&format!(
            "dn: uid={uid},ou=people,{SUFFIX}\nchangetype: delete\n"
        ))
    }

    /// Adds people, each with an address.
    pub fn add_people(&self, uids: impl Iterator<Item = String>) -> &Self {
        let person = |uid: String| {
            format!(
                "dn: uid={uid},ou=people,{SUFFIX}\nchangetype: add\nobjectClass: inetOrgPerson\n\
                 uid: {uid}\ncn: {uid}\nsn: {uid}\nmail: {uid}@example.org\n\n"
            )
        };
        self.change(&uids.map(person).collect::<String>())
    }

    pub fn can_bind(&self, uid: &str, password: &str) -> bool {
        let dn = format!("uid={uid},ou=people,{SUFFIX}");
        let tried = Command::new("ldapwhoami")
            .args(["-x", "-H", &self.url(), "-D", &dn, "-w", password])
            .output();
        tried.expect("ldap-utils is installed").status.success()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    /// The certificate and the key of a client that it trusts.
    pub fn client_certificate(&self) -> (PathBuf, String) {
        let key = fs::read_to_string(self.path("client-key.pem"));
        (self.path("client-cert.pem"), key.unwrap())
    }

    pub fn authority(&self) -> PathBuf {
        self.path("authority.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn tool(name: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/slapd");
    tools.join(name)
}

fn free_ports() -> (u16, u16) {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, other] = listeners.map(|listener| listener.local_addr().unwrap().port());
    (one, other)
}
