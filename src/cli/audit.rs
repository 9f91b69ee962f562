//! `lapsed audit`: lists what operators did. Other commands record their actions here.

use std::os::unix::fs::MetadataExt as _;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::Context;
use super::args::{AuditCommand, AuditList};
use super::exit::{Exit, Result};
use super::output::when::rfc3339;
use super::output::{Cell, Column, Field, Printer, Row};
use super::query::{print_list, print_pages};
use super::setup;
use crate::engine;
use crate::store::{self, AuditFilter, AuditRow, Store, Tx};

pub(super) async fn audit(context: &Context, args: AuditCommand) -> Result<Exit> {
    let AuditCommand::List(args) = args;
    let config = setup::load_store_config(context)?;
    let now = context.clock.now();
    print_list(&config, args.options.format, now, async |store, printer| {
        list(store, &args, printer).await
    })
    .await
}

/// Lists the entries, latest first.
pub(super) async fn list(
    store: &Store,
    args: &AuditList,
    printer: &mut Printer<'_, AuditRow>,
) -> Result<()> {
    let filter = AuditFilter {
        since: args.since,
        ..AuditFilter::default()
    };
    print_pages(
        printer,
        args.options.limit,
        async |last, limit| {
            let mut tx = store.begin_read().await?;
            tx.list_audit(&filter, last, limit).await
        },
        |row| row,
    )
    .await
}

impl Row for AuditRow {
    const FIELDS: &'static [Field<Self>] = &[
        ("at", |row, _| rfc3339(row.at)),
        ("actor", |row, _| json!(row.actor)),
        ("action", |row, _| json!(row.action)),
        ("subject", |row, _| json!(row.subject)),
        ("reason", |row, _| json!(row.reason)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("AT", 1, |row, view| Cell::instant(row.at, view)),
        Column::elastic("ACTOR", 0, 8, |row, _| Cell::name(&row.actor)),
        Column::fixed("ACTION", 0, |row, _| Cell::new(&row.action)),
        Column::elastic("SUBJECT", 0, 12, |row, _| Cell::name(&row.subject)),
        Column::elastic("REASON", 0, 12, |row, _| {
            Cell::optional(row.reason.as_ref())
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "the audit trail is empty";
}

/// Adds an entry to the audit trail in the name of the operator.
pub(super) async fn record_action(
    tx: &mut Tx,
    now: DateTime<Utc>,
    action: &str,
    subject: &str,
    reason: Option<&str>,
) -> store::Result<()> {
    let actor = actor();
    let entry = [actor.as_str(), action, subject];
    tx.insert_audit(engine::new_id(now), now, entry, reason)
        .await
}

/// The operator who runs the command.
pub(super) fn actor() -> String {
    name_from_env(|name| std::env::var(name).ok()).unwrap_or_else(|| {
        let own = std::fs::metadata("/proc/self").map(|process| process.uid());
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        own.map_or_else(|_| "unknown".to_owned(), |uid| user_name(uid, &users))
    })
}

/// The name from the environment; under sudo, that of the person who called it.
fn name_from_env(env: impl Fn(&str) -> Option<String>) -> Option<String> {
    ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .filter_map(env)
        .find(|name| !name.is_empty())
}

/// The name for a user id in the text of passwd(5). Services and containers set no environment.
fn user_name(uid: u32, users: &str) -> String {
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_who_called_sudo_is_the_actor() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                let found = pairs.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            }
        };
        for (pairs, name) in [
            (&[("SUDO_USER", "ada"), ("USER", "root")][..], Some("ada")),
            (&[("SUDO_USER", ""), ("USER", "grace")], Some("grace")),
            (&[("USER", ""), ("LOGNAME", "joan")], Some("joan")),
            (&[], None),
        ] {
            assert_eq!(name_from_env(env(pairs)).as_deref(), name);
        }
    }

    #[test]
    fn without_an_environment_the_user_id_gives_the_name() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\n+::::::\nbroken\nlapsed:x:977:977::/:/bin/false";
        assert_eq!(user_name(977, users), "lapsed");
        assert_eq!(user_name(0, users), "root");
        assert_eq!(user_name(1000, users), "uid 1000");
        assert_eq!(user_name(1000, ""), "uid 1000");
    }
}
