//! `lapsed user`: the users of the token service.

use std::io;

use chrono::{DateTime, TimeDelta, Utc};
use serde::ser::{Serialize, Serializer};
use serde_json::{Value, json};

use super::Context;
use super::args::{
    ListOptions, UserAbout, UserAdd, UserCommand, UserLink, UserRemove, UserRole, UserSet,
    UserSwitch,
};
use super::exit::{Exit, Failure, Result};
use super::output::when::{format_distance, rfc3339};
use super::output::{
    BAD, Cell, Column, Field, Printer, Row, Sheet, SheetItem, View, print_item, print_line,
};
use super::query::label;
use super::service::{load_users, operator, with_service};
use super::setup::{self, Mode};
use super::token::confirm;
use crate::config::Config;
use crate::domain::Address;
use crate::domain::service::ServicePerson;
use crate::domain::service::{NewUser, RoleChange, UserChange};
use crate::notify::wording::quantity;
use crate::service::Service;
use crate::service::found::stopped;
use crate::service::preferences::PreferenceChange;
use crate::time::shift;
use crate::web::sign_in_link;

const WEEK: TimeDelta = TimeDelta::days(7);

pub(super) async fn user(context: &Context, command: UserCommand) -> Result<Exit> {
    let config = &setup::load_store_config(context)?;
    let write = Mode::Normal;
    match command {
        UserCommand::List(options) => list(context, config, options).await,
        UserCommand::Show(args) => {
            let row = with_service(context, config, Mode::Read, async |service| {
                let person = service.find_user(&operator(), &args.user).await?;
                Ok(UserRow::new(person))
            })
            .await?;
            let view = View::for_stdout(context.clock.now(), config.policy.zone);
            print_item(
                args.options.format,
                view,
                io::stdout(),
                &Shown(row, view.now),
            )?;
            Ok(Exit::Ok)
        }
        UserCommand::Add(args) => {
            with_service(context, config, write, async |service| {
                add(service, args).await
            })
            .await
        }
        UserCommand::Set(args) => {
            with_service(context, config, write, async |service| {
                set(service, args).await
            })
            .await
        }
        UserCommand::Role(args) => {
            with_service(context, config, write, async |service| {
                set_role(service, args).await
            })
            .await
        }
        UserCommand::Disable(args) => {
            with_service(context, config, write, async |service| {
                disable(service, &args).await
            })
            .await
        }
        UserCommand::Enable(args) => {
            with_service(context, config, write, async |service| {
                enable(service, &args).await
            })
            .await
        }
        UserCommand::Link(args) => link(context, config, &args).await,
        UserCommand::Remove(args) => {
            with_service(context, config, write, async |service| {
                remove(service, &args).await
            })
            .await
        }
    }
}

async fn link(context: &Context, config: &Config, args: &UserLink) -> Result<Exit> {
    let portal = config.web.portal_url().ok_or_else(|| {
        let error = anyhow::anyhow!("the web portal is off");
        Failure::config(error).hint("set [web] listen, such as listen = \"127.0.0.1:8485\"")
    })?;
    with_service(context, config, Mode::Normal, async |service| {
        let text = service.make_sign_in_link(&operator(), &args.user).await?;
        say(&sign_in_link(&portal, &text, None))
    })
    .await
}

async fn enable(service: &Service, args: &UserSwitch) -> Result<Exit> {
    let reason = args.reason.as_deref();
    let person = service
        .set_user_enabled(&operator(), &args.user, true, reason)
        .await?;
    if let Some((why, fix)) = stopped(&person) {
        let error = anyhow::anyhow!("{} is enabled, but still stopped: {why}", person.key);
        return Err(Failure::failed(error).hint(fix).into());
    }
    say(&format!(
        "{} is enabled; their tokens work again",
        person.key
    ))
}

fn say(text: &str) -> Result<Exit> {
    print_line(text)?;
    Ok(Exit::Ok)
}

async fn list(context: &Context, config: &Config, options: ListOptions) -> Result<Exit> {
    let now = context.clock.now();
    let mut printer = Printer::stdout(options.format, now, config.policy.zone);
    with_service(context, config, Mode::Read, async |service| {
        for person in load_users(service, options.max_rows()).await? {
            printer.print_row(&UserRow::new(person))?;
        }
        Ok(())
    })
    .await?;
    printer.finish()?;
    Ok(Exit::Ok)
}

async fn add(service: &Service, args: UserAdd) -> Result<Exit> {
    let new = if args.service {
        NewUser::Machine(args.user)
    } else {
        let address = args.user.parse::<Address>();
        NewUser::Person(address.map_err(|error| {
            let hint = "write name@example.org; a machine user needs --service";
            Failure::usage(error).hint(hint)
        })?)
    };
    let role = args.role;
    let give = |account| RoleChange::Give { account, role };
    let change = UserChange {
        name: args.about.name.clone().map(Some),
        is_super: args.is_super.then_some(true),
        is_sso: args.sso.then_some(true),
        owners: (!args.owner.is_empty()).then_some(args.owner),
        roles: args.account.map(give).into_iter().collect(),
    };
    let person = service.add_user(&operator(), &new, &change).await?;
    set_preferences(service, &person, args.about).await?;
    say(&format!(
        "user {} {}; `lapsed token issue --name NAME --user {}` issues a token",
        person.key,
        rights_text(&person),
        person.key
    ))
}

async fn set(service: &Service, args: UserSet) -> Result<Exit> {
    let change = UserChange {
        name: args.about.name.clone().map(Some),
        is_super: args.is_super,
        is_sso: args.sso,
        owners: args.owner,
        roles: vec![],
    };
    let person = service
        .change_user(&operator(), &args.user, None, &change)
        .await?;
    set_preferences(service, &person, args.about).await?;
    say(&format!("user {} was changed", person.key))
}

/// Language and zone are preferences of the person, which also people without a user have.
async fn set_preferences(
    service: &Service,
    person: &ServicePerson,
    about: UserAbout,
) -> Result<()> {
    if about.language.is_none() && about.timezone.is_none() {
        return Ok(());
    }
    let Some(address) = &person.address else {
        let error = anyhow::anyhow!("{} is a machine user: it gets no mails", person.key);
        let hint = "set language and zone of its owners";
        return Err(Failure::failed(error).hint(hint).into());
    };
    let change = PreferenceChange {
        language: about.language.map(Some),
        timezone: about.timezone.map(Some),
        ..PreferenceChange::default()
    };
    service
        .set_preference(&operator(), address, None, &change)
        .await?;
    Ok(())
}

async fn set_role(service: &Service, args: UserRole) -> Result<Exit> {
    let account = match args.account {
        Some(account) => account,
        None => only_account(&service.find_user(&operator(), &args.user).await?)?,
    };
    let role = match args.role.0 {
        Some(role) => RoleChange::Give {
            account,
            role: Some(role),
        },
        None => RoleChange::Leave { account },
    };
    let change = UserChange {
        roles: vec![role],
        ..UserChange::default()
    };
    let person = service
        .change_user(&operator(), &args.user, None, &change)
        .await?;
    say(&format!("user {} {}", person.key, rights_text(&person)))
}

fn only_account(person: &ServicePerson) -> Result<String> {
    let mut accounts = person.roles.keys();
    match (accounts.next(), accounts.next()) {
        (Some(account), None) => Ok(account.clone()),
        (None, _) => {
            let error = anyhow::anyhow!("{} is in no account", person.key);
            let hint = "name one with --account";
            Err(Failure::failed(error).hint(hint).into())
        }
        _ => {
            let accounts: Vec<&str> = person.roles.keys().map(String::as_str).collect();
            let error = anyhow::anyhow!("{} is in several accounts", person.key);
            let hint = format!("name one with --account: {}", accounts.join(", "));
            Err(Failure::failed(error).hint(hint).into())
        }
    }
}

/// Lists what will stop before it stops.
async fn disable(service: &Service, args: &UserSwitch) -> Result<Exit> {
    let user = args.user.as_str();
    let now = service.now();
    let stopping = service
        .list_used_tokens(&operator(), user, shift(now, -WEEK))
        .await?;
    if !stopping.is_empty() {
        let count = quantity(stopping.len() as u64, "token");
        print_line(&format!("{count} used this week stop now:"))?;
    }
    for token in &stopping {
        let last = token.last_used_at.map(|at| format_distance(at, now));
        let last = last.unwrap_or_default();
        print_line(&format!("  {}, last used {last}", label(token)))?;
    }
    let person = service
        .set_user_enabled(&operator(), user, false, args.reason.as_deref())
        .await?;
    say(&format!(
        "{} is disabled; their tokens stop at the next request; `lapsed user enable {}` undoes it",
        person.key, person.key
    ))
}

async fn remove(service: &Service, args: &UserRemove) -> Result<Exit> {
    let person = service.find_user(&operator(), &args.user).await?;
    let question = format!(
        "Remove {} and revoke their tokens? This cannot be undone.",
        person.key
    );
    if !args.yes && !confirm(&question)? {
        return say("nothing was changed");
    }
    let ended = service
        .remove_user(&operator(), &person.key, args.reason.as_deref())
        .await?;
    say(&format!(
        "user {} was removed, and {} revoked",
        person.key,
        quantity(ended as u64, "token")
    ))
}

fn rights_text(person: &ServicePerson) -> String {
    let roles = person.roles.iter();
    let mut rights: Vec<String> = roles
        .map(|(account, role)| format!("{role} in {account}"))
        .collect();
    if person.is_super {
        rights.insert(0, "super admin".to_owned());
    }
    match rights.as_slice() {
        [] => "has no role in any account".to_owned(),
        rights => format!("is {}", rights.join(", ")),
    }
}

pub(super) struct UserRow {
    pub person: ServicePerson,
}

impl UserRow {
    pub fn new(person: ServicePerson) -> Self {
        Self { person }
    }

    fn status(&self) -> &'static str {
        match &self.person {
            person if person.disabled_at.is_some() => "disabled",
            person if person.lost_access_at.is_some() => "lost_access",
            _ => "active",
        }
    }

    fn roles(&self) -> Vec<String> {
        let roles = self.person.roles.iter();
        let mut roles: Vec<String> = roles
            .map(|(account, role)| format!("{account}/{role}"))
            .collect();
        if self.person.is_super {
            roles.insert(0, "super".to_owned());
        }
        roles
    }
}

impl Row for UserRow {
    const FIELDS: &'static [Field<Self>] = &[
        // The address, or the name of a machine user.
        ("user", |row, _| json!(row.person.key)),
        ("address", |row, _| json!(row.person.address)),
        ("name", |row, _| json!(row.person.name)),
        ("super", |row, _| json!(row.person.is_super)),
        ("sso", |row, _| json!(row.person.is_sso)),
        ("service", |row, _| json!(row.person.is_machine())),
        ("owners", |row, _| json!(row.person.owners)),
        // By account.
        ("roles", |row, _| json!(row.person.roles)),
        ("status", |row, _| json!(row.status())),
        ("created_at", |row, _| rfc3339(row.person.created_at)),
        ("disabled_at", |row, _| rfc3339(row.person.disabled_at)),
        ("lost_access_at", |row, _| {
            rfc3339(row.person.lost_access_at)
        }),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("USER", 0, 14, |row, _| Cell::name(&row.person.key)),
        Column::elastic("NAME", 2, 10, |row, _| {
            Cell::optional(row.person.name.as_ref())
        }),
        Column::fixed("STATUS", 0, |row, _| status_cell(row)),
        Column::elastic("ROLES", 0, 12, |row, _| Cell::list(row.roles())),
        Column::fixed("CREATED", 3, |row, view| {
            Cell::when(row.person.created_at, view)
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "there are no users; `lapsed user add EMAIL` adds one";
}

fn status_cell(row: &UserRow) -> Cell {
    let cell = Cell::new(row.status());
    if row.person.is_enabled() {
        return cell;
    }
    cell.style(BAD)
}

/// One user on a sheet, at a time.
struct Shown(UserRow, DateTime<Utc>);

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(row, now) = self;
        let fields = UserRow::FIELDS.iter();
        let fields: Vec<(&str, Value)> = fields
            .map(|(key, value)| (*key, value(row, *now)))
            .collect();
        serializer.collect_map(fields)
    }
}

impl SheetItem for Shown {
    fn keys() -> Vec<&'static str> {
        UserRow::FIELDS.iter().map(|(key, _)| *key).collect()
    }

    fn write_to(&self, sheet: &mut Sheet) {
        let Self(row, _) = self;
        let person = &row.person;
        let view = sheet.view();
        sheet.section(&person.key);
        sheet.fields([
            ("name", Cell::optional(person.name.as_ref())),
            ("status", status_cell(row)),
            ("roles", Cell::list(row.roles())),
            (
                "signs in",
                Cell::new(match person {
                    person if person.is_machine() => "never: a machine user",
                    person if person.is_sso => "at the SSO provider",
                    _ => "here",
                }),
            ),
            ("owners", Cell::list(&person.owners)),
            ("created", Cell::when(person.created_at, &view)),
            ("disabled", Cell::when(person.disabled_at, &view)),
            ("lost access", Cell::when(person.lost_access_at, &view)),
        ]);
    }
}
