//! `lapsed forecast`: what will expire, and who will be notified when.
//!
//! Tokens are read by expiry and their warnings printed by time. A warning comes at most the widest
//! step before the expiry, so only tokens that expire within one such step are in memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write as _};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::Context;
use super::args::Forecast;
use super::exit::{Exit, Result};
use super::output::when::rfc3339;
use super::output::{Cell, Column, Field, Printer, Row};
use super::setup::{self, Mode};
use super::steps::{is_about_expiry, send_time};
use crate::domain::{
    AccountAdmins, Address, NoticeState, Policy, Step, Token, TokenId, When, Wishes,
    forecast_notices,
};
use crate::engine::DEAD_ADDRESS_TTL;
use crate::store::{self, NoticeRow, Store};
use crate::time::shift;

const PAGE_SIZE: i64 = 1000;
/// An admin's warning joins the daily digest before its step: at most a day earlier, plus a day for clock
/// changes.
const MAX_DIGEST_LEAD: TimeDelta = TimeDelta::days(2);

pub(super) async fn forecast(context: &Context, args: Forecast) -> Result<Exit> {
    let config = setup::load_store_config(context)?;
    let now = context.clock.now();
    let mut printer = Printer::stdout(args.options.format, now, config.policy.zone);
    let window = Window {
        now,
        until: shift(now, TimeDelta::days(i64::from(args.days))),
    };
    let limit = args.options.limit.unwrap_or(u64::MAX);
    let policy = config.policy.clone();
    let held = setup::with_store(&config, Mode::Read, async |store| {
        list(store, &policy, window, limit, &mut printer).await
    })
    .await?;
    printer.finish()?;
    if held > 0 {
        // A closed standard error is not a failure.
        let _ = writeln!(
            io::stderr(),
            "not shown: {held} held notices; `lapsed release` sends or discards them"
        );
    }
    Ok(Exit::Ok)
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) now: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

/// Prints up to `limit` rows by time, and returns how many held notices it skipped.
pub(super) async fn list(
    store: &Store,
    policy: &Policy,
    window: Window,
    limit: u64,
    printer: &mut Printer<'_, ForecastRow>,
) -> Result<u64> {
    let policy = &Policy {
        personal: store.begin_read().await?.load_personal_times().await?,
        ..policy.clone()
    };
    let until = window.until;
    let lead = max_lead(policy);
    let mut pending = PendingRows::default();
    let mut remaining = limit;
    let mut held = 0;
    let mut last: Option<Token> = None;
    while remaining > 0 {
        let page = TokenPage::load(store, window, shift(until, lead), last.as_ref()).await?;
        held += page.held;
        last = page.tokens.last().cloned();
        for token in &page.tokens {
            pending.extend(page.rows(token, policy, window));
        }
        // Later tokens have no warning before this time. After the last page there are none, and all rows
        // are printed.
        let horizon = last
            .as_ref()
            .and_then(|token| token.expiry.at())
            .map(|at| shift(at, -lead));
        while remaining > 0
            && let Some(row) = pending.pop_final(horizon)
        {
            printer.print_row(&row)?;
            remaining -= 1;
        }
        if last.is_none() {
            break;
        }
    }
    Ok(held)
}

/// How long before an expiry its first warning can be sent.
fn max_lead(policy: &Policy) -> TimeDelta {
    let widest = policy.widest_step().width();
    if policy.admin_digest.is_some() || policy.personal.has_digests {
        widest + MAX_DIGEST_LEAD
    } else {
        widest
    }
}

/// A warning that will be sent if nothing changes, or the expiry of a token without further warnings.
pub(super) struct ForecastRow {
    /// When the warning is sent or the token expires.
    pub(super) at: DateTime<Utc>,
    pub(super) token_id: TokenId,
    pub(super) token_name: String,
    pub(super) source: String,
    pub(super) expires: When,
    /// `None` for the expiry itself.
    pub(super) step: Option<Step>,
    pub(super) recipients: Vec<Address>,
}

impl Row for ForecastRow {
    const FIELDS: &'static [Field<Self>] = &[
        ("at", |row, _| rfc3339(row.at)),
        ("token_id", |row, _| json!(row.token_id)),
        ("token_name", |row, _| json!(row.token_name)),
        ("source", |row, _| json!(row.source)),
        ("expires_at", |row, _| rfc3339(row.expires.at)),
        ("expires_on", |row, _| json!(row.expires.day)),
        ("step", |row, _| {
            json!(row.step.map(|step| step.to_string()))
        }),
        ("recipients", |row, _| json!(row.recipients)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("AT", 0, |row, view| match row.step {
            Some(_) => Cell::when(row.at, view),
            None => Cell::expiry(Some(row.expires), view),
        }),
        Column::elastic("TOKEN", 0, 12, |row, _| Cell::name(&row.token_name)),
        Column::fixed("STEP", 0, |row, _| {
            Cell::optional(row.step.map(|step| step.to_string()))
        }),
        Column::fixed("EXPIRES", 2, |row, view| {
            Cell::expires(Some(row.expires), view)
        }),
        Column::elastic("RECIPIENTS", 1, 16, |row, _| Cell::list(&row.recipients)),
        Column::elastic("SOURCE", 3, 8, |row, _| Cell::name(&row.source)),
    ];
    const EMPTY_MESSAGE: &'static str = "nothing expires and no mail is due in this time";
}

/// Rows by time and number, which wait because an earlier row may still come.
#[derive(Default)]
struct PendingRows {
    rows: BTreeMap<(DateTime<Utc>, u64), ForecastRow>,
    count: u64,
}

impl PendingRows {
    fn extend(&mut self, rows: impl IntoIterator<Item = ForecastRow>) {
        for row in rows {
            self.rows.insert((row.at, self.count), row);
            self.count += 1;
        }
    }

    /// The earliest row if it is before `horizon`; without `horizon`, the earliest of all.
    fn pop_final(&mut self, horizon: Option<DateTime<Utc>>) -> Option<ForecastRow> {
        let first = self.rows.first_entry()?;
        if horizon.is_some_and(|horizon| first.key().0 >= horizon) {
            return None;
        }
        Some(first.remove())
    }
}

/// Tokens by expiry, with what decides who is notified.
struct TokenPage {
    tokens: Vec<Token>,
    /// By token, without held ones.
    notices: HashMap<TokenId, Vec<NoticeRow>>,
    lost_owners: HashMap<TokenId, Vec<Address>>,
    dead_addresses: HashSet<String>,
    account_admins: AccountAdmins,
    wishes: Wishes,
    silent_sources: HashSet<String>,
    held: u64,
}

impl TokenPage {
    async fn load(
        store: &Store,
        window: Window,
        until: DateTime<Utc>,
        after: Option<&Token>,
    ) -> store::Result<Self> {
        let mut tx = store.begin_read().await?;
        let tokens = tx
            .list_expiring_tokens(window.now, until, after, PAGE_SIZE)
            .await?;
        let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
        let lost_owners = tx.load_lost_owners(&tokens).await?;
        let account_admins = tx.load_account_admins(&tokens).await?;
        let dead_addresses = tx
            .load_dead_addresses(shift(window.now, -DEAD_ADDRESS_TTL))
            .await?
            .into_iter()
            .map(|(address, _)| address)
            .collect();
        let mut notices: HashMap<_, Vec<_>> = HashMap::new();
        let mut held = 0;
        for notice in tx.list_notices_of_tokens(&ids).await? {
            if notice.held {
                held += 1;
            } else if let Some(id) = notice.token_id {
                notices.entry(id).or_default().push(notice);
            }
        }
        Ok(Self {
            tokens,
            notices,
            lost_owners,
            dead_addresses,
            account_admins,
            wishes: tx.load_all_wishes().await?,
            silent_sources: tx.list_silent_sources(window.now).await?,
            held,
        })
    }

    /// The warnings about a token in the window, or its expiry if there are none.
    fn rows(&self, token: &Token, policy: &Policy, window: Window) -> Vec<ForecastRow> {
        let Some(expires) = token.expires() else {
            return Vec::new();
        };
        let mut warnings: BTreeMap<(DateTime<Utc>, Step), Vec<Address>> = BTreeMap::new();
        for notice in self.notices.get(&token.id).into_iter().flatten() {
            if let Some(seconds) = notice.step
                && is_about_expiry(notice, token)
                && matches!(notice.state, NoticeState::Planned | NoticeState::Unknown)
            {
                let at = send_time(notice).max(window.now);
                let recipients = warnings.entry((at, Step::from_seconds(seconds)));
                recipients.or_default().push(notice.recipient.clone());
            }
        }
        let lost = self
            .lost_owners
            .get(&token.id)
            .map_or(&[][..], Vec::as_slice);
        let recipients = policy.recipients(token, &self.account_admins, lost, &|address| {
            self.dead_addresses.contains(address.key())
        });
        let is_silent = self.silent_sources.contains(&token.source);
        let forecast =
            forecast_notices(token, &recipients, &self.wishes, policy, window.now).into_iter();
        for warning in forecast.filter(|_| !is_silent) {
            warnings
                .entry((warning.at.max(window.now), warning.step))
                .or_default()
                .extend(warning.notice.map(|notice| notice.recipient));
        }
        let build_row = |at, step, recipients| ForecastRow {
            at,
            token_id: token.id,
            token_name: token.label().to_owned(),
            source: token.source.clone(),
            expires,
            step,
            recipients,
        };
        let mut rows = Vec::new();
        for ((at, step), recipients) in warnings {
            if at <= window.until {
                rows.push(build_row(at, Some(step), recipients));
            }
        }
        if rows.is_empty() && expires.at <= window.until {
            rows.push(build_row(expires.at, None, Vec::new()));
        }
        rows
    }
}
