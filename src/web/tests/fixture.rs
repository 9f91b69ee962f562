//! A served API with its store.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use chrono::{DateTime, TimeDelta};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::service::{
    Credential, CredentialState, Kind, NewSecret, PublicId, ServicePerson, StoredSecret, Terms,
};
use crate::domain::{LOCAL_SOURCE, Policy, Rules, TokenId};
use crate::listener::Listener;
use crate::service::Service;
use crate::store::{Access, Store};
use crate::tls::ServerCertificate;
use crate::web::answer::answer;
use crate::web::routes::router;
use crate::web::state::{AppState, Settings, Web};

pub type Header = (&'static str, String);

pub struct Api {
    pub address: SocketAddr,
    store: Store,
    stopping: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    trusted: Option<CertificateDer<'static>>,
    _folder: tempfile::TempDir,
}

/// A token that was issued.
pub struct Issued {
    pub id: TokenId,
    pub public_id: PublicId,
    pub secret: NewSecret,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub text: String,
}

impl Api {
    pub async fn open(settings: Settings) -> Self {
        Self::with_routes(settings, |web| TowerToHyperService::new(router(web))).await
    }

    pub async fn with_routes(
        settings: Settings,
        routes: impl FnOnce(&AppState) -> TowerToHyperService<Router>,
    ) -> Self {
        Self::serve(settings, Terms::default(), routes, None).await
    }

    pub async fn with_terms(terms: Terms) -> Self {
        let routes = |web: &AppState| TowerToHyperService::new(router(web));
        Self::serve(Settings::default(), terms, routes, None).await
    }

    pub async fn open_tls(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let path = folder.path().join("tls.pem");
        std::fs::write(&path, made.cert.pem()).unwrap();
        let key = made.signing_key.serialize_pem().into();
        let certificate = ServerCertificate::load(&path, &key).unwrap();
        let routes = |web: &AppState| TowerToHyperService::new(router(web));
        let terms = Terms::default();
        let mut api = Self::serve(settings, terms, routes, Some(certificate)).await;
        api.trusted = Some(made.cert.der().clone());
        api
    }

    async fn serve(
        settings: Settings,
        terms: Terms,
        routes: impl FnOnce(&AppState) -> TowerToHyperService<Router>,
        certificate: Option<Arc<ServerCertificate>>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("lapsed.db").display());
        let store = Store::open(&url, Access::Create).await.unwrap();
        let terms = Terms {
            headers: vec!["xc-token".to_owned()],
            ..terms
        };
        let policy = Arc::new(policy());
        let service = Service::open(store.clone(), Clock::system(), Arc::new(terms), policy);
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let web = Arc::new(Web::new(Arc::clone(&service), settings));
        let routes = routes(&web);
        let listener = Listener {
            tcp,
            tls: certificate.map(|it| Arc::new(it.server_config().unwrap())),
            max_connections: 64,
        };
        let answer = move |peer, request| answer(web.clone(), routes.clone(), peer, request);
        let stop = stopping.clone();
        let served = tokio::spawn(async move { listener.serve(answer, stop).await.unwrap() });
        let stop = stopping.clone();
        let work = service.start(None, stop).await.unwrap();
        let ran = tokio::spawn(async move { work.await.unwrap() });
        Self {
            address,
            store,
            stopping,
            tasks: vec![served, ran],
            trusted: None,
            _folder: folder,
        }
    }

    pub async fn close(self) {
        self.stopping.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
        self.store.close().await;
    }

    /// Issues a token of a user with the lowest role in the account `acme`; `root@…` is a super admin.
    pub async fn issue(&self, issuer: &str, change: impl FnOnce(&mut Credential)) -> Issued {
        let now = Clock::system().now() - TimeDelta::hours(1);
        let public_id = PublicId::generate();
        let secret = NewSecret::generate("lapsed", &public_id);
        let mut credential = Credential {
            id: TokenId::new(LOCAL_SOURCE, public_id.as_str()),
            public_id: public_id.clone(),
            kind: Kind::Api,
            issuer: issuer.to_owned(),
            account: Some("acme".to_owned()),
            role: None,
            scopes: "".parse().unwrap(),
            networks: "".parse().unwrap(),
            created_at: now,
            not_before: None,
            expires_at: None,
            state: CredentialState::Active,
            secret: StoredSecret {
                number: 1,
                digest: secret.digest,
                created_at: now,
                last_used_at: None,
            },
            old_secret: None,
            parent: None,
            version: 1,
        };
        change(&mut credential);
        // Not before is counted from the present.
        credential.not_before = credential.not_before.map(|at| at + TimeDelta::hours(1));
        let mut tx = self.store.begin().await.unwrap();
        if tx.find_service_user(issuer).await.unwrap().is_none() {
            tx.save_service_user(&person(issuer)).await.unwrap();
        }
        tx.insert_credential(&credential).await.unwrap();
        tx.commit().await.unwrap();
        Issued {
            id: credential.id,
            public_id,
            secret,
        }
    }

    pub async fn disable(&self, user: &str) {
        let mut tx = self.store.begin().await.unwrap();
        let mut person = tx.find_service_user(user).await.unwrap().unwrap();
        person.disabled_at = Some(Clock::system().now());
        tx.save_service_user(&person).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn get(&self, path: &str, headers: &[Header]) -> Answer {
        self.send("GET", path, headers, b"").await
    }

    pub async fn introspect(&self, caller: &NewSecret, token: &NewSecret) -> Answer {
        let body = format!("token={}", token.token.expose_secret());
        let headers = [bearer(caller), form()];
        self.send("POST", "/oauth2/introspect", &headers, body.as_bytes())
            .await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[Header], body: &[u8]) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost:{}\r\nconnection: close\r\n",
            self.address.port()
        );
        if !body.is_empty() || method == "POST" {
            head += &format!("content-length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let request = [head.as_bytes(), b"\r\n", body].concat();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let Some(trusted) = &self.trusted else {
            return Answer::read(&exchange(stream, &request).await.unwrap());
        };
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let config = crate::tls::config_builder().unwrap();
        let config: ClientConfig = config.with_root_certificates(roots).with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        Answer::read(&exchange(stream, &request).await.unwrap())
    }

    pub async fn get_without_tls(&self, path: &str) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let answer = exchange(stream, request.as_bytes()).await;
        Answer::read(&answer.unwrap_or_default())
    }
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, text) = text.split_once("\r\n\r\n").unwrap_or_default();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.filter_map(|line| line.split_once(": "));
        Self {
            status: status
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            text: text.to_owned(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body, which must be a problem of this status.
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        let kind = self.header("content-type");
        assert_eq!(kind, Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        problem
    }

    /// Everything but the date, to be compared.
    pub fn without_date(&self) -> String {
        let headers = self.headers.iter().filter(|(name, _)| name != "date");
        let headers: Vec<_> = headers.collect();
        format!("{} {headers:?} {}", self.status, self.text)
    }
}

pub fn bearer(secret: &NewSecret) -> Header {
    let token = secret.token.expose_secret();
    ("authorization", format!("Bearer {token}"))
}

pub fn form() -> Header {
    let form = "application/x-www-form-urlencoded";
    ("content-type", form.to_owned())
}

fn policy() -> Policy {
    Policy {
        source_steps: BTreeMap::new(),
        steps: vec!["7d".parse().unwrap(), "1d".parse().unwrap()],
        merge_ahead: TimeDelta::hours(1),
        admin_digest: None,
        zone: chrono_tz::UTC,
        admins: Vec::new(),
        accounts: BTreeMap::new(),
        max_per_sweep: 0,
        rules: Rules::default(),
        personal: crate::domain::PersonalTimes::default(),
    }
}

fn person(key: &str) -> ServicePerson {
    let is_super = key.starts_with("root@");
    let roles = [("acme", "viewer"), ("other", "viewer")];
    let roles = roles.map(|(account, role)| (account.to_owned(), role.to_owned()));
    ServicePerson {
        key: key.to_owned(),
        address: Some(key.parse().unwrap()),
        name: None,
        is_super,
        is_sso: false,
        owners: Vec::new(),
        created_at: DateTime::UNIX_EPOCH,
        disabled_at: None,
        lost_access_at: None,
        roles: if is_super {
            BTreeMap::new()
        } else {
            roles.into()
        },
        version: 0,
    }
}

/// Sends, and reads until the other side closes the connection. It may do so before it has read everything.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> io::Result<Vec<u8>> {
    let written = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    if answer.is_empty() {
        written?;
        read?;
    }
    Ok(answer)
}
