//! `lapsed forecast`: what will expire and who will be told when.
//!
//! Tokens are read in order of expiry and their warnings printed in order of time. A warning comes at
//! most the widest step before its token's expiry, so only the tokens of such a span are held in
//! memory at a time, not all of the window.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::io::{self, Write};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Context,
    args::Forecast,
    exit::Exit,
    output::{Printer, rows::ForecastRow, when::Instant},
    setup::{self, store_failure},
    steps::{goes_at, is_held, is_of},
};
use crate::domain::{Address, NoticeState, Policy, Step, Token, TokenId, ToldAdmins, foresee};
use crate::engine::DEAD_FOR;
use crate::store::{self, NoticeRow, Store};

/// Tokens to a page.
const PAGE: i64 = 1000;
/// How far a daily mail can lie before the step that it holds, with a change of the clock.
const DIGEST_AHEAD: TimeDelta = TimeDelta::days(2);

pub(super) async fn forecast(context: &Context, args: Forecast) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    let store = setup::store(&config).await?;
    let now = context.clock.now();
    let mut printer = Printer::stdout(args.listing.format, now);
    let window = Window {
        now,
        until: now + TimeDelta::days(i64::from(args.days)),
    };
    let limit = args.listing.limit.unwrap_or(u64::MAX);
    let held = list(
        &store,
        &setup::policy(&config),
        (window, limit),
        &mut printer,
    )
    .await?;
    printer.finish()?;
    if held > 0 {
        // Nobody to read a remark is no reason to fail.
        let _ = writeln!(
            io::stderr(),
            "not shown: {held} held notices; `lapsed release` lets them go"
        );
    }
    store.close().await;
    Ok(Exit::Ok)
}

/// The time that is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) now: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

/// Prints up to `limit` rows in order of time; tells how many notices it met that are held.
pub(super) async fn list(
    store: &Store,
    policy: &Policy,
    (window, limit): (Window, u64),
    printer: &mut Printer<ForecastRow, impl Write, impl Write>,
) -> anyhow::Result<u64> {
    let until = window.until;
    let lead = lead(policy);
    let (mut waiting, mut left, mut held) = (Waiting::default(), limit, 0);
    let mut last: Option<Token> = None;
    while left > 0 {
        let page = Page::read(store, window, until + lead, last.as_ref())
            .await
            .map_err(store_failure)?;
        held += page.held;
        last = page.tokens.last().cloned();
        for token in &page.tokens {
            waiting.extend(page.rows(token, policy, window));
        }
        // Whatever a later token brings comes no earlier than this.
        let settled = last
            .as_ref()
            .and_then(|token| token.expiry.at())
            .map(|at| at - lead);
        while left > 0
            && let Some(row) = waiting.pop_before(settled)
        {
            printer.row(&row)?;
            left -= 1;
        }
        if last.is_none() {
            break;
        }
    }
    Ok(held)
}

/// How long before an expiry the first warning can come.
fn lead(policy: &Policy) -> TimeDelta {
    let widest = policy
        .steps
        .iter()
        .map(|step| step.width())
        .max()
        .unwrap_or_default();
    if policy.admin_digest.is_some() {
        widest + DIGEST_AHEAD
    } else {
        widest
    }
}

/// Rows that others may have to go before.
#[derive(Default)]
struct Waiting {
    order: BinaryHeap<Reverse<(DateTime<Utc>, u64)>>,
    rows: HashMap<u64, ForecastRow>,
    count: u64,
}

impl Waiting {
    fn extend(&mut self, rows: impl IntoIterator<Item = ForecastRow>) {
        for row in rows {
            self.order.push(Reverse((row.at.0, self.count)));
            self.rows.insert(self.count, row);
            self.count += 1;
        }
    }

    /// The earliest row, if it lies before `settled`; without one, the earliest of all.
    fn pop_before(&mut self, settled: Option<DateTime<Utc>>) -> Option<ForecastRow> {
        let Reverse((at, _)) = self.order.peek()?;
        if settled.is_some_and(|settled| *at >= settled) {
            return None;
        }
        let Reverse((_, number)) = self.order.pop()?;
        self.rows.remove(&number)
    }
}

/// Tokens in order of expiry, with what decides who is told.
struct Page {
    tokens: Vec<Token>,
    notices: HashMap<TokenId, Vec<NoticeRow>>,
    lost: HashSet<TokenId>,
    dead: HashMap<String, String>,
    told: ToldAdmins,
    held: u64,
}

impl Page {
    pub(super) async fn read(
        store: &Store,
        window: Window,
        until: DateTime<Utc>,
        after: Option<&Token>,
    ) -> store::Result<Self> {
        let mut tx = store.read().await?;
        let tokens = tx.expiring(window.now, until, after, PAGE).await?;
        let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
        let lost = tx.lost_access(&ids).await?;
        let told = tx.told_admins(&tokens).await?;
        let dead = tx
            .dead_addresses(window.now - DEAD_FOR)
            .await?
            .into_iter()
            .collect();
        let (mut notices, mut held) = (HashMap::<_, Vec<_>>::new(), 0);
        for notice in tx.notices_about(&ids).await? {
            held += u64::from(is_held(&notice));
            if let (Some(id), false) = (notice.token_id, is_held(&notice)) {
                notices.entry(TokenId(id)).or_default().push(notice);
            }
        }
        Ok(Self {
            tokens,
            notices,
            lost,
            dead,
            told,
            held,
        })
    }

    /// What will be sent about a token in the window; where that is nothing any more, its expiry.
    fn rows(&self, token: &Token, policy: &Policy, window: Window) -> Vec<ForecastRow> {
        let Some(expires_at) = token.expiry.at() else {
            return Vec::new();
        };
        let mut told: BTreeMap<(DateTime<Utc>, Step), Vec<Address>> = BTreeMap::new();
        for (at, step, recipient) in self.owed(token, expires_at) {
            told.entry((at.max(window.now), step))
                .or_default()
                .push(recipient);
        }
        let lost = self.lost.contains(&token.id);
        let recipients = policy.recipients(token, &self.told, lost, &|address| {
            self.dead.contains_key(address.key())
        });
        for foreseen in foresee(token, &recipients, policy, window.now) {
            let (step, at, recipient) = match foreseen {
                Ok(notice) => (notice.step, notice.send_at, Some(notice.recipient)),
                Err((step, at)) => (Some(step), at, None),
            };
            let step = step.unwrap_or(Step::ZERO);
            told.entry((at.max(window.now), step))
                .or_default()
                .extend(recipient);
        }
        let row = |at, step, recipients| ForecastRow {
            at: Instant(at),
            token_id: token.id,
            token_name: token.label().to_owned(),
            source: token.source.clone(),
            expires_at: Instant(expires_at),
            step,
            recipients,
        };
        let told = told.into_iter().filter(|((at, _), _)| *at <= window.until);
        let mut rows: Vec<_> = told
            .map(|((at, step), to)| row(at, Some(step), to))
            .collect();
        if rows.is_empty() && expires_at <= window.until {
            rows.push(row(expires_at, None, Vec::new()));
        }
        rows
    }

    /// The warnings of the present expiry that are planned and not sent.
    fn owed(
        &self,
        token: &Token,
        expires_at: DateTime<Utc>,
    ) -> impl Iterator<Item = (DateTime<Utc>, Step, Address)> {
        let notices = self.notices.get(&token.id).into_iter().flatten();
        let unsent = [NoticeState::Planned, NoticeState::Unknown];
        let unsent = notices.filter(move |notice| {
            is_of(notice, expires_at) && unsent.iter().any(|state| state.as_str() == notice.state)
        });
        unsent.filter_map(|notice| {
            let step = Step::from_seconds(notice.step?);
            Some((goes_at(notice), step, notice.recipient.parse().ok()?))
        })
    }
}
