//! `lapsed token verify`: whether a token works, and what for.

use std::io::{self, IsTerminal as _, Read as _};

use chrono::{DateTime, Utc};
use serde::ser::{Serialize, Serializer};
use serde_json::{Value, json};

use super::issued::network_list;
use crate::cli::Context;
use crate::cli::args::TokenVerify;
use crate::cli::exit::{Exit, Failure, Result};
use crate::cli::output::when::rfc3339;
use crate::cli::output::{Cell, Sheet, SheetItem, View, print_item};
use crate::cli::service::with_service;
use crate::cli::setup::Mode;
use crate::config::Config;
use crate::domain::service::{Access, Presented, Refusal, Terms};

/// A token is much shorter.
const MAX_INPUT: u64 = 4096;

pub(super) async fn verify(context: &Context, config: &Config, args: &TokenVerify) -> Result<Exit> {
    let text = tokio::task::spawn_blocking(read_token)
        .await
        .map_err(io::Error::other)??;
    let presented = parse(text.trim()).map_err(|error| Failure::failed(anyhow::anyhow!(error)))?;
    let (verdict, role) = with_service(context, config, Mode::Read, async |service| {
        let verdict = service.examine(&presented, args.address).await?;
        let role = verdict
            .as_ref()
            .ok()
            .and_then(|access| role(access, service.terms()));
        Ok((verdict, role))
    })
    .await?;
    let access = verdict.map_err(|refusal| {
        Failure::failed(anyhow::anyhow!("the token is refused: {}", reason(refusal)))
    })?;
    if let Some(scope) = &args.scope
        && !access.credential.scopes.contains(scope)
    {
        let error = anyhow::anyhow!("the token is valid, but lacks the scope {scope}");
        let hint = format!("it has {}", access.credential.scopes);
        return Err(Failure::failed(error).hint(hint).into());
    }
    let verified = Verified { access, role };
    let view = View::for_stdout(context.clock.now(), config.policy.zone);
    print_item(args.options.format, view, io::stdout(), &verified)?;
    Ok(Exit::Ok)
}

/// From a terminal without showing it.
fn read_token() -> io::Result<String> {
    if io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        terminal.write_str("Token: ")?;
        return terminal.read_secure_line();
    }
    let mut text = String::new();
    io::stdin().take(MAX_INPUT).read_to_string(&mut text)?;
    Ok(text)
}

/// A whole token, or access key and secret key with a colon between them.
fn parse(text: &str) -> Result<Presented, crate::domain::service::InvalidToken> {
    match text.split_once(':') {
        Some((access_key, secret_key)) if access_key != "secret-token" => {
            Presented::from_pair(access_key, secret_key)
        }
        _ => Presented::parse(text),
    }
}

fn role(access: &Access, terms: &Terms) -> Option<String> {
    let rank = access.rank?;
    Some(terms.roles.name(rank).to_owned())
}

fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unknown => "no token has its id",
        Refusal::WrongSecret => "its secret is wrong",
        Refusal::Replaced => "its secret was replaced, and the overlap is over",
        Refusal::NotYetValid => "it does not work yet",
        Refusal::Expired => "it has expired",
        Refusal::Disabled => "it is disabled",
        Refusal::Revoked => "it is revoked",
        Refusal::IssuerDisabled => {
            "its user is disabled, lost access, or is no longer in its account"
        }
        Refusal::WrongKind => "its kind is not accepted here",
        Refusal::WrongNetwork => "it may not be used from this address; --address gives another",
    }
}

struct Verified {
    access: Access,
    /// The effective one.
    role: Option<String>,
}

type VerifiedField = (&'static str, fn(&Verified) -> Value);

const FIELDS: [VerifiedField; 12] = [
    ("active", |_| json!(true)),
    ("id", |it| json!(it.access.credential.id)),
    ("external_id", |it| {
        json!(it.access.credential.public_id.as_str())
    }),
    ("kind", |it| json!(it.access.credential.kind.as_str())),
    ("issuer", |it| json!(it.access.person.key)),
    ("account", |it| json!(it.access.credential.account)),
    ("role", |it| json!(it.role)),
    ("super", |it| json!(it.access.is_super)),
    ("scope", |it| json!(scope(&it.access))),
    ("networks", |it| {
        json!(network_list(&it.access.credential.networks))
    }),
    ("expires_at", |it| rfc3339(it.access.ends_at)),
    ("secret", |it| json!(it.access.secret)),
];

/// `*` for a token that is not limited by scope.
fn scope(access: &Access) -> String {
    let scopes = &access.credential.scopes;
    if scopes.is_unlimited() {
        return "*".to_owned();
    }
    scopes.to_string()
}

impl Serialize for Verified {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(FIELDS.iter().map(|(key, value)| (key, value(self))))
    }
}

impl SheetItem for Verified {
    fn keys() -> Vec<&'static str> {
        FIELDS.iter().map(|(key, _)| *key).collect()
    }

    fn write_to(&self, sheet: &mut Sheet) {
        let Access {
            credential,
            person,
            ends_at,
            ..
        } = &self.access;
        let view = sheet.view();
        sheet.section("The token works");
        sheet.fields([
            ("id", Cell::new(credential.id.to_string())),
            ("external id", Cell::new(&credential.public_id)),
            ("kind", Cell::new(credential.kind.as_str())),
            ("issuer", Cell::name(&person.key)),
            ("account", Cell::optional(credential.account.as_ref())),
            ("role", Cell::optional(self.role.as_ref())),
            ("scope", Cell::new(scope(&self.access))),
            ("networks", Cell::list(network_list(&credential.networks))),
            ("expires", expiry_cell(*ends_at, &view)),
            ("secret", Cell::new(self.access.secret)),
        ]);
    }
}

fn expiry_cell(expires_at: Option<DateTime<Utc>>, view: &View) -> Cell {
    match expires_at {
        None => Cell::new("never"),
        at => Cell::when(at, view),
    }
}
