//! `lapsed token issue` and `regenerate`: print a new secret, once.

use std::io;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret as _;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use crate::cli::args::{TokenIssue, TokenRegenerate};
use crate::cli::exit::{Exit, Result};
use crate::cli::output::{Cell, Row, Sheet, SheetItem, View, print_item};
use crate::cli::service::{operator, with_service};
use crate::cli::setup::Mode;
use crate::cli::{Context, query};
use crate::config::{Config, Web};
use crate::domain::service::{Kind, Networks, NewToken, Regeneration, Scopes};
use crate::service::Service;
use crate::service::issue::Issued;
use crate::store::TokenView;

pub(super) async fn issue(context: &Context, config: &Config, args: TokenIssue) -> Result<Exit> {
    let new = NewToken {
        name: args.name,
        description: args.description,
        user: Some(args.user),
        account: args.account,
        role: args.role,
        scopes: join_scopes(&args.scope),
        kind: Kind::parse(&args.kind),
        lifetime: args.expires.unwrap_or_default(),
        not_before: args.not_before,
        networks: join_networks(&args.network),
    };
    with_service(context, config, Mode::Normal, async |service| {
        let issued = service.issue(&operator(), &new).await?;
        let view = View::for_stdout(service.now(), config.policy.zone);
        let shown = ShownOnce::new("issued", issued, config, service.now());
        print_item(args.options.format, view, io::stdout(), &shown)?;
        note_shown(service, &shown).await
    })
    .await
}

pub(super) async fn regenerate(
    context: &Context,
    config: &Config,
    args: TokenRegenerate,
) -> Result<Exit> {
    let how = Regeneration {
        lifetime: args.expires.unwrap_or_default(),
        overlap: args.overlap,
        is_leaked: args.leaked,
        reason: args.reason,
    };
    with_service(context, config, Mode::Normal, async |service| {
        let mut tx = service.store().begin_read().await?;
        let token = query::find_token(&mut tx, &args.id).await?;
        drop(tx);
        let issued = service
            .regenerate(&operator(), token.id, None, &how)
            .await?;
        let view = View::for_stdout(service.now(), config.policy.zone);
        let shown = ShownOnce::new("regenerated", issued, config, service.now());
        print_item(args.options.format, view, io::stdout(), &shown)?;
        note_shown(service, &shown).await
    })
    .await
}

/// A secret that was never shown can be told from one that was.
async fn note_shown(service: &Service, shown: &ShownOnce) -> Result<Exit> {
    let mut tx = service.store().begin().await?;
    let id = shown.issued.credential.id;
    tx.mark_shown(id, service.now()).await?;
    service.commit(tx, &[]).await?;
    Ok(Exit::Ok)
}

pub(super) fn join_scopes(scopes: &[Scopes]) -> Scopes {
    let scopes = scopes.iter().flat_map(Scopes::iter);
    // Each was read before.
    Scopes::new(scopes).unwrap_or_default()
}

pub(super) fn join_networks(networks: &[Networks]) -> Networks {
    Networks::new(networks.iter().flat_map(Networks::iter).copied())
}

/// Where the token is presented, as far as the configuration says.
fn endpoint(web: &Web) -> Option<String> {
    let url = web.base_url.as_ref();
    let url = url.map(|url| url.as_str().trim_end_matches('/').to_owned());
    url.or_else(|| {
        let scheme = if web.tls.is_some() { "https" } else { "http" };
        web.listen.map(|listen| format!("{scheme}://{listen}"))
    })
}

/// A token with its secret.
struct ShownOnce {
    /// What was done with it.
    done: &'static str,
    view: TokenView,
    issued: Issued,
    endpoint: Option<String>,
    now: DateTime<Utc>,
}

impl ShownOnce {
    fn new(done: &'static str, issued: Issued, config: &Config, now: DateTime<Utc>) -> Self {
        let view = TokenView {
            token: issued.token.clone(),
            findings: vec![],
            kind: Some(issued.credential.kind.as_str().to_owned()),
            networks: issued.credential.networks.clone(),
        };
        Self {
            done,
            view,
            issued,
            endpoint: endpoint(&config.web),
            now,
        }
    }

    fn secrets(&self) -> [(&'static str, Option<&str>); 4] {
        let secret = &self.issued.secret;
        [
            ("token", Some(secret.token.expose_secret())),
            ("access_key", Some(&secret.access_key)),
            ("secret_key", Some(secret.secret_key.expose_secret())),
            ("endpoint", self.endpoint.as_deref()),
        ]
    }

    /// What becomes of the secrets before this one.
    fn old_secret_text(&self, view: &View) -> Option<String> {
        let old = self.issued.credential.old_secret.as_ref();
        let old = old.filter(|old| old.valid_until > view.now);
        let works = old.map(|old| {
            let until = crate::cli::output::when::format_when(old.valid_until, view.now, view.zone);
            format!("The old secret works until {until}.")
        });
        let ended = self
            .issued
            .ended_secret
            .map(|number| format!("Secret {number}, which was still in its overlap, has ended."));
        let texts: Vec<String> = works.into_iter().chain(ended).collect();
        (!texts.is_empty()).then(|| texts.join(" "))
    }
}

impl Serialize for ShownOnce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in TokenView::FIELDS {
            map.serialize_entry(key, &value(&self.view, self.now))?;
        }
        for (key, value) in self.secrets() {
            map.serialize_entry(key, &json!(value))?;
        }
        map.end()
    }
}

impl SheetItem for ShownOnce {
    fn keys() -> Vec<&'static str> {
        let keys = TokenView::FIELDS.iter().map(|(key, _)| *key);
        let secrets = ["token", "access_key", "secret_key", "endpoint"];
        keys.chain(secrets).collect()
    }

    fn write_to(&self, sheet: &mut Sheet) {
        let credential = &self.issued.credential;
        let view = sheet.view();
        let label = query::label(&self.issued.token);
        sheet.section(&format!("{label} was {}", self.done));
        sheet.fields([
            ("user", Cell::name(&credential.issuer)),
            (
                "account",
                Cell::optional(self.issued.token.account.as_ref()),
            ),
            ("role", Cell::optional(credential.role.as_ref())),
            (
                "expires",
                match credential.expires_at {
                    None => Cell::new("never"),
                    at => Cell::when(at, &view),
                },
            ),
        ]);
        sheet.section("Copy it now: it is shown once and cannot be read again");
        for (key, value) in self.secrets() {
            sheet.field(
                match key {
                    "access_key" => "access key",
                    "secret_key" => "secret key",
                    key => key,
                },
                Cell::optional(value),
            );
        }
        if let Some(text) = self.old_secret_text(&view) {
            sheet.text(&text);
        }
    }
}
