//! `lapsed identity`: lists, shows, counts and rebinds people.

pub(super) mod coverage;
mod erase;

use std::io;

use anstyle::Style;
use chrono::{DateTime, Utc};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::json;

use super::args::{IdentityCommand, IdentityList, IdentityRebind};
use super::exit::{Exit, Failure, Result};
use super::output::when::{format_when, rfc3339};
use super::output::{
    BAD, Cell, Column, Field, Printer, Row, Sheet, SheetItem, View, WARN, objects, print_item,
    print_line,
};
use super::query::{print_list, print_pages};
use super::setup::{self, Mode};
use super::upstream::Kind;
use super::{Context, audit, report};
use crate::config::Config;
use crate::domain::{Address, Identity, IdentityStatus, IssuerMode, Reason, checked_suffix};
use crate::engine::{self, UnbindOutcome};
use crate::store::{self, IdentityFilter, Store, TokenFilter, TokenView};
use crate::time::shift;

/// Rows per page of tokens; also more directories than any installation has.
const PAGE_SIZE: i64 = 1000;

pub(super) async fn identity(context: &Context, args: IdentityCommand) -> Result<Exit> {
    let config = match &args {
        IdentityCommand::Rebind(_) | IdentityCommand::Erase(_) => setup::load_config(context),
        _ => setup::load_store_config(context),
    }?;
    let now = context.clock.now();
    match args {
        IdentityCommand::List(args) => {
            print_list(&config, args.options.format, now, async |store, printer| {
                list(store, &config, &args, now, printer).await
            })
            .await
        }
        IdentityCommand::Show(args) => {
            let detail = setup::with_store(&config, Mode::Read, async |store| {
                load_detail(store, &config, &args.email, now).await
            })
            .await?;
            let view = View::for_stdout(now, config.policy.zone);
            print_item(args.options.format, view, io::stdout(), &detail)?;
            Ok(Exit::Ok)
        }
        IdentityCommand::Coverage(args) => coverage::print_coverage(&config, &args, now).await,
        IdentityCommand::Rebind(args) => rebind(context, &config, &args).await,
        IdentityCommand::Erase(args) => erase::erase(context, &config, &args).await,
    }
}

/// The names of the directories in the store whose data is stale, or that are no longer configured.
async fn load_stale_directories(
    store: &Store,
    config: &Config,
    now: DateTime<Utc>,
) -> Result<Vec<String>> {
    let mut tx = store.begin_read().await?;
    let rows = tx.list_directories().await?;
    Ok(engine::stale_directories(
        &config.directory_terms(),
        &rows,
        now,
    ))
}

/// Lists people by directory and address.
pub(super) async fn list(
    store: &Store,
    config: &Config,
    args: &IdentityList,
    now: DateTime<Utc>,
    printer: &mut Printer<'_, IdentityRow>,
) -> Result<()> {
    let filter = IdentityFilter {
        status: args.status,
        directory: args.directory.clone(),
        email_key: None,
        stale: load_stale_directories(store, config, now).await?,
    };
    print_pages(
        printer,
        args.options.limit,
        async |last: Option<&(store::IdentityRow, i64)>, limit| {
            let after = last.map(|(row, _)| row);
            let mut tx = store.begin_read().await?;
            tx.list_identities(&filter, after, now, limit).await
        },
        IdentityRow::from_stored,
    )
    .await
}

/// What each directory reports about one person, and the person's tokens.
pub(super) async fn load_detail(
    store: &Store,
    config: &Config,
    email: &Address,
    now: DateTime<Utc>,
) -> Result<IdentityDetail> {
    let stale = load_stale_directories(store, config, now).await?;
    let mut tx = store.begin_read().await?;
    let filter = IdentityFilter {
        email_key: Some(email.key().to_owned()),
        stale,
        ..IdentityFilter::default()
    };
    let rows = tx.list_identities(&filter, None, now, PAGE_SIZE).await?;
    drop(tx);
    let tokens = load_tokens(store, email, now).await?;
    if rows.is_empty() && tokens.is_empty() {
        let error = anyhow::anyhow!("no directory knows {email}, and they have issued no token");
        let hint = "`lapsed identity list` shows the people that directories know";
        return Err(Failure::failed(error).hint(hint).into());
    }
    let directories: Vec<_> = rows.into_iter().map(IdentityRow::from_stored).collect();
    let confirmations = directories
        .iter()
        .map(|row| confirmation_text(row, config, now))
        .collect();
    Ok(IdentityDetail {
        email: email.clone(),
        mode: config.issuers.mode(email.key()),
        address: config.issuers.directory_address(email.key()).to_owned(),
        confirmations,
        directories,
        tokens,
        now,
    })
}

pub(super) async fn load_tokens(
    store: &Store,
    email: &Address,
    now: DateTime<Utc>,
) -> Result<Vec<TokenView>> {
    let filter = TokenFilter {
        owner_key: Some(email.key().to_owned()),
        ..TokenFilter::default()
    };
    let mut tx = store.begin_read().await?;
    let mut tokens: Vec<TokenView> = Vec::new();
    loop {
        let after = tokens.last().map(|view| view.token.clone());
        let page = tx
            .list_tokens(&filter, after.as_ref(), now, PAGE_SIZE)
            .await?;
        if page.is_empty() {
            return Ok(tokens);
        }
        tokens.extend(page);
    }
}

/// When a loss that awaits confirmation will be accepted, as a text.
fn confirmation_text(row: &IdentityRow, config: &Config, now: DateTime<Utc>) -> Option<String> {
    let candidate = row.identity.candidate?;
    if row.identity.reason == Some(Reason::Rejected) {
        return Some("never: an operator rejected it".to_owned());
    }
    let grace = config
        .directories
        .iter()
        .find(|directory| directory.terms.name == row.directory)?
        .terms
        .absence_grace;
    let earliest = match candidate {
        IdentityStatus::Deleted => row
            .identity
            .candidate_since
            .map(|since| shift(since, grace)),
        _ => None,
    };
    Some(match earliest.filter(|at| *at > now) {
        Some(at) => format!(
            "by the first sync after {} that still reports it",
            format_when(at, now, config.policy.zone)
        ),
        None => "by the next sync, if it still reports it".to_owned(),
    })
}

/// Binds a person to the entry that the operator names, or removes the binding so that the next sync binds them.
async fn rebind(context: &Context, config: &Config, args: &IdentityRebind) -> Result<Exit> {
    let _log = setup::start_log(context, config)?;
    let name = args.directory.as_str();
    let email = &args.email;
    Kind::Directory.find(&config.directories, name, |configured| {
        &configured.terms.name
    })?;
    let outcome = setup::with_engine(context, config, Mode::Normal, async |engine| {
        let actor = audit::actor();
        let stop = context.stop.graceful(config.stop_timeout);
        let account = args.account.as_deref();
        let rebind = engine.rebind_identity(name, email, account, &actor, stop);
        Ok(rebind.await?)
    })
    .await?;
    match outcome {
        UnbindOutcome::Done => {
            print_line(&match &args.account {
                Some(id) => format!(
                    "{email} is now bound to the entry {id} of {name}; the next sync uses its status \
                     (`lapsed directory sync {name}` does so now)"
                ),
                None => format!(
                    "{email} is no longer bound to an entry of {name}; the next sync binds them to the entry that \
                     has the address then, if exactly one has it (`lapsed directory sync {name}` does so now)"
                ),
            })?;
            Ok(Exit::Ok)
        }
        UnbindOutcome::Busy => Ok(report::print_busy()),
        UnbindOutcome::NotFound => {
            let error = anyhow::anyhow!("the directory {name} does not know {email}");
            let hint = "`lapsed identity show EMAIL` shows which directories know a person";
            Err(Failure::failed(error).hint(hint).into())
        }
        UnbindOutcome::NotNeeded(why) => {
            let error = anyhow::anyhow!("{email} cannot be bound again at {name}: {why}");
            Err(Failure::failed(error).into())
        }
    }
}

pub(super) struct IdentityRow {
    pub(super) directory: String,
    pub(super) identity: Identity,
    /// The number of working tokens that this person issued.
    pub(super) tokens: i64,
}

impl IdentityRow {
    fn from_stored((row, tokens): (store::IdentityRow, i64)) -> Self {
        Self {
            directory: row.directory,
            identity: row.identity,
            tokens,
        }
    }

    /// The reason; if the status is unknown, also the last known status.
    fn reason_text(&self) -> Option<String> {
        let Identity {
            status,
            known_status,
            reason,
            ..
        } = self.identity;
        let reason = reason.map(|reason| reason.to_string());
        if status != IdentityStatus::Unknown || known_status == IdentityStatus::Unknown {
            return reason;
        }
        let reason = reason.unwrap_or_else(|| "no reason is recorded".to_owned());
        Some(format!("{reason}; last reported {known_status}"))
    }
}

/// The evidence of the last clear statement.
pub(super) fn evidence_text(identity: &Identity) -> Option<String> {
    let Identity {
        evidence,
        checked_by_id,
        ..
    } = identity;
    (!evidence.is_empty()).then(|| format!("{evidence}{}", checked_suffix(*checked_by_id)))
}

/// The fields that one person's object has from the directory that counts.
const STATUS_FIELDS: [Field<IdentityRow>; 6] = [
    ("directory", |row, _| json!(row.directory)),
    ("status", |row, _| json!(row.identity.status)),
    // Why it is unknown, or how access was lost.
    ("reason", |row, _| json!(row.identity.reason)),
    // If the status is unknown, evidence and time are those of the last clear statement.
    ("evidence", |row, _| json!(evidence_text(&row.identity))),
    ("observed_at", |row, _| rfc3339(row.identity.observed_at)),
    ("since", |row, _| rfc3339(row.identity.since)),
];

impl Row for IdentityRow {
    const FIELDS: &'static [Field<Self>] = {
        let [directory, status, reason, evidence, observed_at, since] = STATUS_FIELDS;
        &[
            ("email", |row, _| json!(row.identity.email)),
            directory,
            status,
            reason,
            evidence,
            observed_at,
            since,
            ("tokens", |row, _| json!(row.tokens)),
            ("known_status", |row, _| json!(row.identity.known_status)),
            // A loss of access that awaits confirmation or was rejected by an operator.
            ("candidate", |row, _| json!(row.identity.candidate)),
            ("candidate_since", |row, _| {
                rfc3339(row.identity.candidate_since)
            }),
            ("candidate_evidence", |row, _| {
                json!(row.identity.candidate_evidence)
            }),
        ]
    };
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("EMAIL", 0, 12, |row, _| Cell::new(&row.identity.email)),
        Column::fixed("STATUS", 0, |row, _| status_cell(row.identity.status)),
        Column::fixed("TOKENS", 1, |row, _| Cell::new(row.tokens)),
        Column::elastic("DIRECTORY", 2, 9, |row, _| Cell::name(&row.directory)),
        Column::fixed("SINCE", 3, |row, view| {
            Cell::instant(row.identity.since, view)
        }),
        Column::fixed("OBSERVED", 5, |row, view| {
            Cell::instant(row.identity.observed_at, view)
        }),
        Column::elastic("REASON", 4, 16, |row, _| Cell::optional(row.reason_text())),
        Column::elastic("EVIDENCE", 5, 20, |row, _| {
            Cell::optional(evidence_text(&row.identity))
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "no people match";
}

pub(super) struct IdentityDetail {
    email: Address,
    mode: IssuerMode,
    address: String,
    directories: Vec<IdentityRow>,
    tokens: Vec<TokenView>,
    /// For each of `directories`, when a loss that awaits confirmation is accepted; shown to people only.
    confirmations: Vec<Option<String>>,
    now: DateTime<Utc>,
}

impl IdentityDetail {
    fn name(&self) -> Option<&String> {
        self.directories
            .iter()
            .find_map(|row| row.identity.name.as_ref())
    }

    /// The status that counts if directories differ: a loss ranks before access, and access before unknown.
    fn worst(&self) -> Option<&IdentityRow> {
        self.directories
            .iter()
            .min_by_key(|row| match row.identity.status {
                status if status.is_lost() => 0,
                IdentityStatus::Active => 1,
                _ => 2,
            })
    }

    fn write_directory(&self, row: &IdentityRow, confirmation: Option<&String>, sheet: &mut Sheet) {
        let view = &sheet.view();
        let identity = &row.identity;
        sheet.section(&format!("Directory {}", row.directory));
        if self.mode != IssuerMode::Sso {
            sheet.text("not covered by any directory; the next sync deletes this");
        }
        sheet.fields([
            ("status", status_cell(identity.status)),
            ("since", Cell::when(identity.since, view)),
            ("why", Cell::optional(row.reason_text())),
            ("evidence", Cell::optional(evidence_text(identity))),
            ("observed", Cell::when(identity.observed_at, view)),
        ]);
        if let Some(candidate) = identity.candidate {
            sheet.fields([
                ("pending", status_cell(candidate)),
                ("pending since", Cell::when(identity.candidate_since, view)),
                (
                    "pending evidence",
                    Cell::optional(identity.candidate_evidence.as_ref()),
                ),
                ("accepted", Cell::optional(confirmation)),
            ]);
        }
    }
}

impl Serialize for IdentityDetail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("email", &self.email)?;
        map.serialize_entry("name", &self.name())?;
        map.serialize_entry("mode", &self.mode)?;
        map.serialize_entry("address", &self.address)?;
        if let Some(worst) = self.worst() {
            for (key, value) in STATUS_FIELDS {
                map.serialize_entry(key, &value(worst, self.now))?;
            }
        }
        map.serialize_entry("directories", &objects(&self.directories, self.now))?;
        map.serialize_entry("tokens", &objects(&self.tokens, self.now))?;
        map.end()
    }
}

impl SheetItem for IdentityDetail {
    fn keys() -> Vec<&'static str> {
        vec!["email", "name", "mode", "address", "directories", "tokens"]
    }

    fn write_to(&self, sheet: &mut Sheet) {
        sheet.section(self.email.as_str());
        sheet.field("name", Cell::optional(self.name()));
        if !self.tokens.is_empty() || self.mode != IssuerMode::Sso {
            sheet.field("mode", Cell::new(self.mode));
        }
        if self.address != self.email.key() {
            sheet.field("known as", Cell::new(&self.address));
        }
        if self.directories.is_empty() {
            sheet.section("Directories");
            sheet.text(match self.mode {
                IssuerMode::Sso => "no directory knows this address",
                IssuerMode::Local | IssuerMode::Service | IssuerMode::Ignore => {
                    "not covered by any directory"
                }
            });
        }
        for (row, confirmation) in self.directories.iter().zip(&self.confirmations) {
            self.write_directory(row, confirmation.as_ref(), sheet);
        }
        sheet.section("Tokens");
        sheet.table(&self.tokens, &["ISSUER"]);
    }
}

pub(super) fn status_cell(status: IdentityStatus) -> Cell {
    Cell::new(status).style(match status {
        IdentityStatus::Disabled | IdentityStatus::Deleted | IdentityStatus::OutOfGroup => BAD,
        IdentityStatus::Unknown => WARN,
        IdentityStatus::Active => Style::new(),
    })
}
