//! `/forecast`: which tokens end in the next weeks, as a calendar and as a list, and who is told when.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use chrono::{DateTime, Datelike as _, Days, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::audit::begin_of;
use super::list_link::{decode, encode, link};
use super::token_form::end_of;
use super::token_view::{TokenRow, row};
use crate::domain::{Address, Policy, Status, StepState, TokenId};
use crate::language::phrase;
use crate::service::pages::TokenItem;
use crate::service::portal::Whose;
use crate::store::{PageFilter, PageKey, PageOrder, TokenSort};
use crate::web::portal::error::{PageError, PageResult};
use crate::web::portal::frame::{View, page};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::portal::words::{Moment, Words};
use crate::web::state::AppState;

const PATH: &str = "/forecast";
const ROWS: usize = 50;
const WEEKS: u64 = 13;
/// Where the service stops to count.
const MAX_COUNT: usize = 10_000;
/// From so many on, a day is named as the one on which most tokens end.
const PEAK: usize = 3;

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ForecastQuery {
    view: String,
    /// A day of the first week.
    from: String,
    /// The list has only this day.
    day: String,
    cursor: String,
}

#[derive(Debug, Serialize)]
struct DayView {
    /// The day of the month.
    number: u32,
    /// From `n0` for none to `n4`.
    class: &'static str,
    count: Option<usize>,
    text: String,
    link: String,
    is_today: bool,
    is_chosen: bool,
}

#[derive(Debug, Serialize)]
struct WeekView {
    /// Its Monday.
    text: String,
    days: Vec<DayView>,
}

#[derive(Debug, Serialize)]
struct EndingToken {
    row: TokenRow,
    /// When the next warning is sent.
    next_warning: Option<Moment>,
    told: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ForecastView {
    is_admin: bool,
    is_all: bool,
    own_link: String,
    all_link: String,
    weekdays: Vec<String>,
    weeks: Vec<WeekView>,
    /// Whether there are more tokens than are counted.
    is_cut: bool,
    peak: Option<String>,
    before_link: Option<String>,
    after_link: String,
    /// The day that the list is about.
    day: Option<String>,
    whole_link: String,
    rows: Vec<EndingToken>,
    next_link: Option<String>,
}

impl View for ForecastView {
    const TEMPLATE: &'static str = "forecast";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "forecast-title")
    }
}

/// The weeks that the calendar has.
struct Range {
    today: NaiveDate,
    first: NaiveDate,
    /// The day after the last.
    end: NaiveDate,
    chosen: Option<NaiveDate>,
}

impl Range {
    fn new(query: &ForecastQuery, words: &Words) -> PageResult<Self> {
        let today = words.now.with_timezone(&words.zone).date_naive();
        let chosen: Option<NaiveDate> = query.day.parse().ok();
        let from: NaiveDate = query.from.parse().unwrap_or(today).max(today);
        let monday = Days::new(u64::from(from.weekday().num_days_from_monday()));
        let first = from.checked_sub_days(monday);
        let first = first.ok_or(PageError::BadRequest)?;
        let end = first.checked_add_days(Days::new(WEEKS * 7));
        Ok(Self {
            today,
            first,
            end: end.ok_or(PageError::BadRequest)?,
            chosen,
        })
    }

    /// From the first day, or the chosen one, until the end of the last.
    fn instants(
        &self,
        words: &Words,
        chosen: Option<NaiveDate>,
    ) -> PageResult<(DateTime<Utc>, DateTime<Utc>)> {
        let last = self.end.pred_opt().unwrap_or(self.end);
        let from = begin_of(chosen.unwrap_or(self.first), words);
        let until = end_of(chosen.unwrap_or(last), words);
        from.zip(until).ok_or(PageError::BadRequest)
    }
}

pub async fn show(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Query(query): Query<ForecastQuery>,
) -> PageResult {
    let is_all = query.view == "all";
    if is_all {
        signed_in.require_admin()?;
    }
    let whose = if is_all { Whose::All } else { Whose::Own };
    let (actor, words) = (signed_in.actor(), signed_in.words());
    let range = Range::new(&query, words)?;
    let (from, until) = range.instants(words, None)?;
    let service = &web.service;
    let expiries = service.list_expiries(&actor, whose, from, until).await?;
    let (from, until) = range.instants(words, range.chosen)?;
    let filter = PageFilter {
        status: Some(Status::Active),
        expires_until: Some(until),
        ..PageFilter::default()
    };
    let after = decode::<(DateTime<Utc>, Uuid)>(&query.cursor)?;
    let (at, id) = after.unwrap_or((from, Uuid::nil()));
    let after = PageKey {
        name: None,
        at: Some(at),
        id: TokenId(id),
    };
    let order = PageOrder {
        sort: TokenSort::ExpiresAt,
        is_descending: false,
        after: Some(&after),
    };
    let limit = i64::try_from(ROWS + 1).unwrap_or(i64::MAX);
    let mut items = service
        .list_tokens_of(&actor, whose, &filter, order, limit)
        .await?;
    let has_more = items.len() > ROWS;
    items.truncate(ROWS);
    let last = items.last().filter(|_| has_more);
    let next_link = last.map(|item| {
        let cursor = encode(&(item.token.expiry.at(), item.token.id.0));
        link(
            PATH,
            &ForecastQuery {
                cursor,
                ..query.clone()
            },
        )
    });
    let rows = items
        .iter()
        .map(|item| ending(item, service.policy(), words));
    let view = ForecastView {
        is_admin: signed_in.is_admin(),
        rows: rows.collect(),
        next_link,
        ..query.calendar(&range, &expiries, words)
    };
    page(&web, &signed_in.visitor, &view).await
}

fn ending(item: &TokenItem, policy: &Policy, words: &Words) -> EndingToken {
    let steps = policy.outlook(&item.token).into_iter();
    let open = steps.filter(|step| matches!(step.state, StepState::Open { .. }));
    EndingToken {
        row: row(item, words),
        next_warning: open.map(|step| step.at).min().map(|at| words.moment(at)),
        told: item.token.owners().map(Address::to_string).collect(),
    }
}

impl ForecastQuery {
    fn link(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut query = self.clone();
        query.cursor.clear();
        change(&mut query);
        link(PATH, &query)
    }

    /// Without the list.
    fn calendar(&self, range: &Range, expiries: &[DateTime<Utc>], words: &Words) -> ForecastView {
        let counts = count_days(expiries, words);
        let days: Vec<NaiveDate> = range
            .first
            .iter_days()
            .take_while(|day| *day < range.end)
            .collect();
        let week = |days: &[NaiveDate]| WeekView {
            text: words.date(days[0]),
            days: days
                .iter()
                .map(|day| self.day(*day, range, &counts, words))
                .collect(),
        };
        let peak = counts
            .iter()
            .max_by_key(|(day, count)| (**count, std::cmp::Reverse(**day)));
        let peak = peak.filter(|(_, count)| **count >= PEAK);
        let earlier = range.first.checked_sub_days(Days::new(WEEKS * 7));
        let earlier = earlier.filter(|_| range.first > range.today);
        let first_page = |query: &mut Self| {
            query.day.clear();
            query.from.clear();
        };
        let whose = |view: &str| Self::default().link(|query| view.clone_into(&mut query.view));
        ForecastView {
            is_admin: false,
            is_all: self.view == "all",
            own_link: whose(""),
            all_link: whose("all"),
            weekdays: range
                .first
                .iter_days()
                .take(7)
                .map(|day| words.language.weekday(day))
                .collect(),
            weeks: days.chunks(7).map(week).collect(),
            is_cut: expiries.len() > MAX_COUNT,
            peak: peak.map(|(day, count)| {
                phrase!(
                    words.language,
                    "forecast-peak",
                    day = words.date(*day),
                    count = *count
                )
            }),
            before_link: earlier.map(|day| {
                self.link(|query| {
                    first_page(query);
                    query.from = day.to_string();
                })
            }),
            after_link: self.link(|query| {
                first_page(query);
                query.from = range.end.to_string();
            }),
            day: range.chosen.map(|day| words.date(day)),
            whole_link: self.link(|query| query.day.clear()),
            rows: Vec::new(),
            next_link: None,
        }
    }

    fn day(
        &self,
        day: NaiveDate,
        range: &Range,
        counts: &BTreeMap<NaiveDate, usize>,
        words: &Words,
    ) -> DayView {
        let count = counts.get(&day).copied();
        DayView {
            number: day.day(),
            class: match count.unwrap_or(0) {
                0 => "n0",
                1 => "n1",
                2..=4 => "n2",
                5..=19 => "n3",
                _ => "n4",
            },
            count,
            text: phrase!(
                words.language,
                "forecast-day",
                day = words.date(day),
                count = count.unwrap_or(0)
            ),
            link: self.link(|query| query.day = day.to_string()),
            is_today: day == range.today,
            is_chosen: Some(day) == range.chosen,
        }
    }
}

/// Days are those of the visitor.
fn count_days(expiries: &[DateTime<Utc>], words: &Words) -> BTreeMap<NaiveDate, usize> {
    let mut counts = BTreeMap::new();
    for at in expiries {
        let day = at.with_timezone(&words.zone).date_naive();
        *counts.entry(day).or_default() += 1;
    }
    counts
}
