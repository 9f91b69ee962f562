//! Tests of the commands that read the store, on a store with data.

mod lists;
mod one;
#[path = "../../tests/support/postgres.rs"]
mod postgres;
mod settle;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser as _;
use tempfile::TempDir;
use uuid::Uuid;

use super::args::Format;
use super::exit::Result;
use super::output::{Printer, Row, View};
use crate::config::Config;
use crate::domain::{
    Basis, Expiry, ExpiryOrigin, NewNotice, Occurrence, Policy, Recipient, Status, Step, Token,
    TokenId, Topic,
};
use crate::store::{Access, Holder, MailRecord, Store, Verdict};

fn now() -> DateTime<Utc> {
    "2026-11-21T09:00:00Z".parse().unwrap()
}

fn days(count: i64) -> DateTime<Utc> {
    now() + TimeDelta::days(count)
}

/// A store in its own folder or its own PostgreSQL database.
struct World {
    store: Store,
    folder: TempDir,
    _database: Option<postgres::Database>,
}

impl World {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("lapsed.db").display());
        let store = Store::open(&url, Access::Create).await.unwrap();
        Self {
            store,
            folder,
            _database: None,
        }
    }

    async fn postgres() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = postgres::Database::new();
        let store = Store::open(&database.url(), Access::Create).await.unwrap();
        Self {
            store,
            folder,
            _database: Some(database),
        }
    }

    /// One world for each database.
    async fn all() -> [Self; 2] {
        [Self::sqlite().await, Self::postgres().await]
    }

    /// A configuration with the required keys and `more`.
    fn config(&self, more: &str) -> Config {
        let file = self.folder.path().join("lapsed.toml");
        let required = "[store]\nurl = \"sqlite:lapsed.db\"\n[notify]\nfrom = \"tokens@example.org\"\n\
                     admins = []\n[mail]\ntransport = \"file\"\n";
        std::fs::write(&file, format!("{required}{more}")).unwrap();
        Config::load(Some(&file), &std::collections::HashMap::new()).unwrap()
    }

    async fn insert(&self, tokens: &[Token]) {
        let mut tx = self.store.begin().await.unwrap();
        tx.insert_tokens(tokens).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Plans notices of one step of a token and returns them.
    async fn plan(&self, token: &Token, step: &str, to: &[&str]) -> Vec<NewNotice> {
        let occurrence = Occurrence {
            topic: Topic::Expiry,
            generation: token.generation().unwrap(),
            step: Some(step.parse().unwrap()),
        };
        let send_at = token.expiry.at().unwrap() - step.parse::<Step>().unwrap().width();
        let notices: Vec<_> = to
            .iter()
            .map(|to| Recipient {
                address: to.parse().unwrap(),
                basis: Basis::Issuer,
            })
            .map(|to| NewNotice::for_token(token, occurrence, &to, send_at))
            .collect();
        let mut tx = self.store.begin().await.unwrap();
        tx.insert_notices(&notices, None, now()).await.unwrap();
        tx.commit().await.unwrap();
        notices
    }

    /// Puts the due notices of these recipients into mails and records a verdict.
    async fn deliver(&self, to: &[&str], verdict: Verdict, reason: Option<&str>) {
        let holder = Holder {
            id: Uuid::from_u128(7),
            until: now() + TimeDelta::seconds(30),
        };
        let mut tx = self.store.begin().await.unwrap();
        let mails: Vec<_> = (1..)
            .zip(to)
            .map(|(id, to)| (Uuid::from_u128(id), to.parse().unwrap()))
            .collect();
        let open = tx.open_mails(&mails, None, now()).await.unwrap();
        tx.fill_mails(&open, now()).await.unwrap();
        let claimed = tx.claim_mails(holder, now(), days(1), 100).await.unwrap();
        for verdict in [Verdict::Sending, verdict] {
            let records: Vec<_> = claimed
                .iter()
                .map(|mail| MailRecord {
                    id: mail.id,
                    verdict,
                    reason: reason.map(str::to_owned),
                })
                .collect();
            tx.record_mails(&records, holder, now()).await.unwrap();
        }
        tx.commit().await.unwrap();
    }
}

fn token(source: &str, external_id: &str, expires_at: Option<DateTime<Utc>>) -> Token {
    Token {
        id: TokenId::new(source, external_id),
        source: source.to_owned(),
        external_id: external_id.to_owned(),
        name: format!("name of {external_id}"),
        issuer: Some("ada@example.org".parse().unwrap()),
        created_at: Some(days(-90)),
        expiry: expires_at.map_or(Expiry::Never, Expiry::At),
        expiry_origin: Some(ExpiryOrigin::Source),
        secret_version: 1,
        first_seen_at: days(-80),
        life_from: Some(days(-90)),
        due_at: expires_at.map(|at| at - TimeDelta::days(7)),
        ..Token::default()
    }
}

fn policy() -> Policy {
    Policy {
        source_steps: std::collections::BTreeMap::new(),
        steps: vec!["7d".parse().unwrap(), "1d".parse().unwrap()],
        merge_ahead: TimeDelta::hours(1),
        admin_digest: None,
        zone: chrono_tz::UTC,
        admins: vec!["security@example.org".parse().unwrap()],
        accounts: std::collections::BTreeMap::new(),
        max_per_sweep: 0,
        rules: crate::domain::Rules::default(),
        personal: crate::domain::PersonalTimes::default(),
    }
}

fn view() -> View {
    View {
        now: now(),
        zone: chrono_tz::Tz::UTC,
        width: None,
        use_color: false,
    }
}

/// Runs a list command and returns its rows.
async fn list_rows<R: Row>(
    list: impl AsyncFnOnce(&mut Printer<'_, R>) -> Result<()>,
) -> Vec<serde_json::Value> {
    let mut out = Vec::new();
    let mut printer = Printer::new(Format::Json, view(), &mut out, Vec::new());
    list(&mut printer).await.unwrap();
    printer.finish().unwrap();
    serde_json::from_slice(&out).unwrap()
}

fn column<'a>(rows: &'a [serde_json::Value], key: &str) -> Vec<&'a str> {
    rows.iter()
        .map(|row| row[key].as_str().unwrap_or("null"))
        .collect()
}

fn parse_command(line: &str) -> super::args::Command {
    super::Cli::try_parse_from(line.split(' ')).unwrap().command
}
