//! What the handlers share.

use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use chrono::{DateTime, Utc};
use ipnet::IpNet;
use url::Url;

use super::address::{ClientAddress, find_client, is_trusted};
use super::counts::{Counts, RequestCounts};
use super::credential::Forms;
use super::failures::RateLimit;
use super::portal::link_mail::LinkMailer;
use super::portal::templates::{Error as TemplateError, PageTemplates};
use super::problem::ApiError;
use crate::domain::TokenId;
use crate::domain::service::Access;
use crate::language::Languages;
use crate::listener::Peer;
use crate::service::Service;

/// The settings of `[web]`.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where callers reach the listener.
    pub base_url: Option<Url>,
    pub trusted_proxies: Vec<IpNet>,
    pub client_address: ClientAddress,
    /// Whether only trusted proxies are served: beyond loopback without TLS.
    pub only_proxies: bool,
    pub pages: SourcePages,
    /// Where people reach the portal.
    pub portal_url: Option<Url>,
    /// Sends links by which people sign in; `None` if they do not sign in by mail.
    pub mailer: Option<Mailer>,
}

/// What sends mails of the portal.
#[derive(Clone)]
pub struct Mailer(pub Arc<dyn LinkMailer>);

impl Deref for Mailer {
    type Target = dyn LinkMailer;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailer")
    }
}

type FindPage = dyn Fn(&str, &str) -> Option<String> + Send + Sync;

/// Where the tokens of other sources are managed.
#[derive(Clone, Default)]
pub struct SourcePages(Option<Arc<FindPage>>);

impl SourcePages {
    /// `find` gets a source and an external id.
    pub fn new(find: impl Fn(&str, &str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(find)))
    }

    pub fn find(&self, source: &str, external_id: &str) -> Option<String> {
        self.0.as_ref()?(source, external_id)
    }
}

impl fmt::Debug for SourcePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SourcePages")
    }
}

/// The state of every handler of the API.
pub type AppState = Arc<Web>;

pub struct Web {
    pub service: Arc<Service>,
    pub settings: Settings,
    pub(super) forms: Forms,
    pub(super) failures: RateLimit,
    pub(super) leaks: RateLimit,
    /// Links that are asked for.
    pub(super) sign_ins: RateLimit,
    pub(super) languages: Arc<Languages>,
    pub(super) templates: PageTemplates,
    pub(super) counts: Counts,
    /// The OpenAPI document.
    pub(super) document: OnceLock<Bytes>,
    requests: RequestIds,
}

impl Web {
    /// With the built-in pages.
    ///
    /// # Panics
    /// If one of them cannot be parsed.
    #[cfg(feature = "test-support")]
    pub fn new(service: Arc<Service>, settings: Settings) -> Self {
        Self::with_templates(service, settings, None).expect("the built-in templates can be parsed")
    }

    /// With the pages that `templates` overrides.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn with_templates(
        service: Arc<Service>,
        settings: Settings,
        templates: Option<&Path>,
    ) -> Result<Self, TemplateError> {
        let languages = Arc::new(Languages::load(templates)?);
        let terms = service.terms();
        let letters = ["", "k", "a", "s", "r", "f"];
        let forms = Forms {
            headers: terms.headers.clone(),
            heads: letters
                .map(|letter| format!("{}{letter}", terms.prefix))
                .to_vec(),
        };
        Ok(Self {
            service,
            settings,
            forms,
            sign_ins: RateLimit::new("sign-ins"),
            templates: PageTemplates::load(templates, &languages)?,
            languages,
            failures: RateLimit::new("failures"),
            leaks: RateLimit::new("leaks"),
            counts: Counts::default(),
            document: OnceLock::new(),
            requests: RequestIds::new(),
        })
    }

    /// Requests since the start, by route and status.
    pub fn requests(&self) -> RequestCounts {
        self.counts.snapshot()
    }

    pub(super) fn is_served(&self, peer: Peer) -> bool {
        !self.settings.only_proxies || is_trusted(peer.address, &self.settings.trusted_proxies)
    }

    pub(super) fn begin(&self, peer: Peer, headers: &HeaderMap) -> RequestContext {
        let Settings {
            trusted_proxies,
            client_address,
            ..
        } = &self.settings;
        let given = is_trusted(peer.address, trusted_proxies)
            .then(|| given_id(headers))
            .flatten();
        RequestContext(Arc::new(Facts {
            has_tls: peer.has_tls,
            client: find_client(peer.address, headers, trusted_proxies, *client_address),
            id: given.unwrap_or_else(|| self.requests.next()),
            notes: OnceLock::new(),
            route: OnceLock::new(),
        }))
    }
}

/// What is known of the request in progress.
#[derive(Debug, Clone)]
pub struct RequestContext(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    has_tls: bool,
    client: IpAddr,
    id: RequestId,
    notes: OnceLock<Note>,
    route: OnceLock<Cow<'static, str>>,
}

/// What the log says of the caller.
#[derive(Debug, Clone)]
pub enum Note {
    Caller {
        token: TokenId,
        expires_at: Option<DateTime<Utc>>,
    },
    Refused(&'static str),
}

impl Note {
    pub fn caller(access: &Access) -> Self {
        Self::Caller {
            token: access.credential.id,
            expires_at: access.credential.expires_at,
        }
    }
}

impl RequestContext {
    /// The address of the client, behind all trusted proxies.
    pub fn client(&self) -> IpAddr {
        self.0.client
    }

    pub fn has_tls(&self) -> bool {
        self.0.has_tls
    }

    pub fn id(&self) -> &RequestId {
        &self.0.id
    }

    pub(super) fn note(&self, note: Note) {
        // The first credential of a request is that of its caller.
        let _ = self.0.notes.set(note);
    }

    pub(super) fn noted(&self) -> Option<&Note> {
        self.0.notes.get()
    }

    pub(super) fn set_route(&self, route: impl Into<Cow<'static, str>>) {
        let _ = self.0.route.set(route.into());
    }

    /// The route as the document names it, or `-`. The path itself may contain anything, a secret too.
    pub(super) fn route(&self) -> &str {
        self.0.route.get().map_or("-", |route| route)
    }
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let context = parts.extensions.get::<Self>();
        context.cloned().ok_or_else(ApiError::internal)
    }
}

/// Unique in a log: a random part for the process, and a number.
struct RequestIds {
    process: u32,
    next: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        let random = RandomState::new().hash_one("process") & u64::from(u32::MAX);
        Self {
            process: u32::try_from(random).unwrap_or_default(),
            next: AtomicU64::new(1),
        }
    }

    fn next(&self) -> RequestId {
        RequestId::Own {
            process: self.process,
            number: self.next.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// Written only where somebody sees it.
#[derive(Debug)]
pub enum RequestId {
    Given(Box<str>),
    Own { process: u32, number: u64 },
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(id) => f.write_str(id),
            Self::Own { process, number } => write!(f, "{process:08x}-{number:x}"),
        }
    }
}

/// The id that a trusted proxy gave the request.
fn given_id(headers: &HeaderMap) -> Option<RequestId> {
    let id = headers.get("x-request-id").map(HeaderValue::to_str)?.ok()?;
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let is_id = (1..=64).contains(&id.len()) && id.chars().all(is_plain);
    is_id.then(|| RequestId::Given(id.into()))
}
