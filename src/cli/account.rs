//! `lapsed account`: the accounts of the token service.

use std::io;

use chrono::{DateTime, Utc};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use super::Context;
use super::args::{AccountCommand, AccountLimit, AccountRemove, AccountRename, ListOptions};
use super::exit::{Exit, Result};
use super::output::when::rfc3339;
use super::output::{
    Cell, Column, Field, Printer, Row, Sheet, SheetItem, View, objects, print_item, print_line,
};
use super::service::{load_users, operator, with_service};
use super::setup::{self, Mode};
use super::user::UserRow;
use crate::config::Config;
use crate::domain::service::ServiceAccount;
use crate::service::Service;
use crate::service::accounts::AccountChange;

/// Rows per page.
const PAGE_SIZE: i64 = 1000;

pub(super) async fn account(context: &Context, command: AccountCommand) -> Result<Exit> {
    let config = &setup::load_store_config(context)?;
    let write = Mode::Normal;
    match command {
        AccountCommand::List(options) => list(context, config, options).await,
        AccountCommand::Show(args) => {
            let detail = with_service(context, config, Mode::Read, async |service| {
                load_detail(service, &args.name).await
            })
            .await?;
            let view = View::for_stdout(detail.now, config.policy.zone);
            print_item(args.options.format, view, io::stdout(), &detail)?;
            Ok(Exit::Ok)
        }
        AccountCommand::Add(args) => {
            with_service(context, config, write, async |service| {
                let max = args.max_tokens;
                let account = service.add_account(&operator(), &args.name, max).await?;
                say(&format!(
                    "account {} was added; add people with `lapsed user add EMAIL --account {}`",
                    account.name, account.name
                ))
            })
            .await
        }
        AccountCommand::Limit(args) => {
            with_service(context, config, write, async |service| {
                limit(service, &args).await
            })
            .await
        }
        AccountCommand::Rename(args) => {
            with_service(context, config, write, async |service| {
                rename(service, &args).await
            })
            .await
        }
        AccountCommand::Remove(args) => {
            with_service(context, config, write, async |service| {
                remove(service, &args).await
            })
            .await
        }
    }
}

async fn limit(service: &Service, args: &AccountLimit) -> Result<Exit> {
    let change = AccountChange {
        max_tokens: Some(args.limit.0),
        ..AccountChange::default()
    };
    let account = service
        .change_account(&operator(), &args.name, &change)
        .await?;
    let (_, used) = service.find_account(&operator(), &account.key).await?;
    let limit = limit_text(&account, service.terms().per_account);
    say(&format!(
        "account {} has {used} of {limit} tokens",
        account.name
    ))
}

async fn rename(service: &Service, args: &AccountRename) -> Result<Exit> {
    let change = AccountChange {
        name: Some(args.new.clone()),
        ..AccountChange::default()
    };
    let renamed = service
        .change_account(&operator(), &args.old, &change)
        .await?;
    say(&format!(
        "account {} is called {}; a [[account]] with the old name no longer applies",
        args.old, renamed.name
    ))
}

async fn remove(service: &Service, args: &AccountRemove) -> Result<Exit> {
    let reason = args.reason.as_deref();
    service
        .remove_account(&operator(), &args.name, reason)
        .await?;
    say(&format!("account {} was removed", args.name))
}

fn say(text: &str) -> Result<Exit> {
    print_line(text)?;
    Ok(Exit::Ok)
}

async fn list(context: &Context, config: &Config, options: ListOptions) -> Result<Exit> {
    let now = context.clock.now();
    let mut printer = Printer::stdout(options.format, now, config.policy.zone);
    with_service(context, config, Mode::Read, async |service| {
        for row in load_rows(service, options.max_rows()).await? {
            printer.print_row(&row)?;
        }
        Ok(())
    })
    .await?;
    printer.finish()?;
    Ok(Exit::Ok)
}

async fn load_rows(service: &Service, limit: usize) -> Result<Vec<AccountRow>> {
    let mut rows: Vec<AccountRow> = Vec::new();
    while rows.len() < limit {
        let after = rows.last().map(|row| row.account.key.clone());
        let page = service
            .list_accounts(&operator(), after.as_deref(), PAGE_SIZE)
            .await?;
        if page.is_empty() {
            break;
        }
        for account in page.into_iter().take(limit - rows.len()) {
            rows.push(AccountRow::load(service, &account.key).await?);
        }
    }
    Ok(rows)
}

async fn load_detail(service: &Service, name: &str) -> Result<AccountDetail> {
    let row = AccountRow::load(service, name).await?;
    let users = load_users(service, usize::MAX).await?;
    let is_in = |user: &UserRow| user.person.roles.contains_key(&row.account.key);
    Ok(AccountDetail {
        users: users.into_iter().map(UserRow::new).filter(is_in).collect(),
        now: service.now(),
        row,
    })
}

struct AccountRow {
    account: ServiceAccount,
    used: u64,
    /// Of the policy.
    per_account: u64,
}

impl AccountRow {
    async fn load(service: &Service, name: &str) -> Result<Self> {
        let (account, used) = service.find_account(&operator(), name).await?;
        Ok(Self {
            account,
            used,
            per_account: service.terms().per_account,
        })
    }

    fn limit(&self) -> u64 {
        self.account.max_tokens.unwrap_or(self.per_account)
    }
}

fn limit_text(account: &ServiceAccount, per_account: u64) -> String {
    match account.max_tokens.unwrap_or(per_account) {
        0 => "any number of".to_owned(),
        limit => limit.to_string(),
    }
}

impl Row for AccountRow {
    const FIELDS: &'static [Field<Self>] = &[
        ("name", |row, _| json!(row.account.name)),
        // Active and disabled ones.
        ("tokens", |row, _| json!(row.used)),
        // 0: no limit.
        ("limit", |row, _| json!(row.limit())),
        // Null: that of the policy.
        ("max_tokens", |row, _| json!(row.account.max_tokens)),
        ("created_at", |row, _| rfc3339(row.account.created_at)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("NAME", 0, 12, |row, _| Cell::name(&row.account.name)),
        Column::fixed("TOKENS", 0, |row, _| Cell::new(row.used)),
        Column::fixed("LIMIT", 0, |row, _| match row.limit() {
            0 => Cell::new("none"),
            limit => Cell::new(limit),
        }),
        Column::fixed("CREATED", 1, |row, view| {
            Cell::when(row.account.created_at, view)
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "there are no accounts; `lapsed account add NAME` adds one";
}

struct AccountDetail {
    row: AccountRow,
    users: Vec<UserRow>,
    now: DateTime<Utc>,
}

impl Serialize for AccountDetail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in AccountRow::FIELDS {
            map.serialize_entry(key, &value(&self.row, self.now))?;
        }
        map.serialize_entry("users", &objects(&self.users, self.now))?;
        map.end()
    }
}

impl SheetItem for AccountDetail {
    fn keys() -> Vec<&'static str> {
        AccountRow::FIELDS.iter().map(|(key, _)| *key).collect()
    }

    fn write_to(&self, sheet: &mut Sheet) {
        let AccountRow { account, used, .. } = &self.row;
        let view = sheet.view();
        sheet.section(&account.name);
        let limit = limit_text(account, self.row.per_account);
        sheet.fields([
            ("tokens", Cell::new(format!("{used} of {limit}"))),
            ("created", Cell::when(account.created_at, &view)),
        ]);
        sheet.section("Users");
        sheet.table(&self.users, &[]);
    }
}
