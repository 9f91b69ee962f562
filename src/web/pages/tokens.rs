//! `/tokens`: the tokens of the visitor, and for admins those of everybody.

use axum::extract::{Query, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::token_view::{TokenRow, finding_text, row};
use crate::domain::{FindingKind, Status, TokenId, account_key};
use crate::language::phrase;
use crate::service::pages::{SOON, TokenItem};
use crate::service::portal::{CardCounts, Whose};
use crate::store::{PageFilter, PageKey, PageOrder, TokenSort};
use crate::time::shift;
use crate::web::portal::error::{PageError, PageResult};
use crate::web::portal::frame::{View, page};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::portal::words::Words;
use crate::web::state::{AppState, Web};

const ROWS: usize = 50;
/// The cards, with the statuses that they filter by.
const CARDS: [(&str, &str); 5] = [
    ("active", "check"),
    ("ending", "warning"),
    ("never", "infinite"),
    ("expired", "clock"),
    ("deleted", "revoke"),
];
const SORTS: [(&str, TokenSort, bool); 4] = [
    ("expires", TokenSort::ExpiresAt, false),
    ("used", TokenSort::LastUsedAt, true),
    ("created", TokenSort::CreatedAt, true),
    ("name", TokenSort::Name, false),
];

/// The form of filters; all may be empty.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct TokensQuery {
    view: String,
    status: String,
    q: String,
    issued_by: String,
    role: String,
    source: String,
    kind: String,
    account: String,
    finding: String,
    sort: String,
    cursor: String,
}

#[derive(Debug, Serialize)]
struct Card {
    key: &'static str,
    text: String,
    icon: &'static str,
    count: String,
    link: String,
    is_chosen: bool,
}

#[derive(Debug, Serialize)]
pub struct Choice {
    pub value: String,
    pub text: String,
    pub is_chosen: bool,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "a template asks for each by its name"
)]
#[derive(Debug, Serialize)]
struct TokensView {
    is_all: bool,
    is_admin: bool,
    own_link: String,
    all_link: String,
    cards: Vec<Card>,
    query: TokensQuery,
    statuses: Vec<Choice>,
    roles: Vec<Choice>,
    findings: Vec<Choice>,
    sorts: Vec<Choice>,
    is_filtered: bool,
    rows: Vec<TokenRow>,
    next_link: Option<String>,
    can_issue: bool,
}

impl View for TokensView {
    const TEMPLATE: &'static str = "tokens";

    fn title(&self, visitor: &Visitor) -> String {
        let language = &visitor.words.language;
        if self.is_all {
            phrase!(language, "tokens-all-title")
        } else {
            phrase!(language, "tokens-title")
        }
    }
}

/// The last row of a page.
#[derive(Debug, Serialize, Deserialize)]
struct Position(Option<String>, Option<DateTime<Utc>>, Uuid);

pub async fn show(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Query(query): Query<TokensQuery>,
) -> PageResult {
    let is_all = query.view == "all";
    if is_all {
        signed_in.require_admin()?;
    }
    let whose = if is_all { Whose::All } else { Whose::Own };
    let (actor, words) = (signed_in.actor(), signed_in.words());
    let (sort, is_descending) = query.order();
    let after = query.after()?;
    let order = PageOrder {
        sort,
        is_descending,
        after: after.as_ref(),
    };
    let filter = query.filter(words.now);
    let service = &web.service;
    let limit = i64::try_from(ROWS + 1).unwrap_or(i64::MAX);
    let mut items = service
        .list_tokens_of(&actor, whose, &filter, order, limit)
        .await?;
    let has_more = items.len() > ROWS;
    items.truncate(ROWS);
    let counts = service.count_cards(&actor, whose).await?;
    let last = items.last().filter(|_| has_more);
    let next_link = last.map(|item| query.link(|query| query.cursor = cursor(item, sort)));
    let view = TokensView {
        next_link,
        rows: items.iter().map(|item| row(item, words)).collect(),
        can_issue: actor.may_issue(service.terms().issuers).is_ok(),
        is_admin: signed_in.is_admin(),
        ..query.view(&web, words, counts)
    };
    page(&web, &signed_in.visitor, &view).await
}

fn cursor(item: &TokenItem, sort: TokenSort) -> String {
    let token = &item.token;
    let at = match sort {
        TokenSort::Name => None,
        TokenSort::CreatedAt => token.created_at,
        TokenSort::ExpiresAt => token.expiry.at(),
        TokenSort::LastUsedAt => token.last_used_at,
    };
    let name = (sort == TokenSort::Name).then(|| token.name.clone());
    let position = serde_json::to_vec(&Position(name, at, token.id.0));
    URL_SAFE_NO_PAD.encode(position.unwrap_or_default())
}

impl TokensQuery {
    fn order(&self) -> (TokenSort, bool) {
        let chosen = SORTS.iter().find(|(name, ..)| *name == self.sort);
        let (_, sort, is_descending) = chosen.unwrap_or(&SORTS[0]);
        (*sort, *is_descending)
    }

    fn after(&self) -> PageResult<Option<PageKey>> {
        if self.cursor.is_empty() {
            return Ok(None);
        }
        let bytes = URL_SAFE_NO_PAD.decode(&self.cursor);
        let position = bytes
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let Position(name, at, id) = position.ok_or(PageError::BadRequest)?;
        Ok(Some(PageKey {
            name,
            at,
            id: TokenId(id),
        }))
    }

    fn filter(&self, now: DateTime<Utc>) -> PageFilter {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let status = match self.status.as_str() {
            "active" | "ending" | "never" => Some(Status::Active),
            "expired" => Some(Status::Expired),
            "disabled" => Some(Status::Disabled),
            "deleted" => Some(Status::Revoked),
            _ => None,
        };
        PageFilter {
            issued_by: given(&self.issued_by).map(|address| account_key(&address)),
            role: given(&self.role),
            status,
            kind: given(&self.kind),
            account: given(&self.account).map(|account| account_key(&account)),
            source: given(&self.source),
            expires_until: (self.status == "ending").then(|| shift(now, SOON)),
            is_never: self.status == "never",
            finding: self.finding.parse().ok(),
            prefix: given(&self.q),
        }
    }

    /// This list with a change.
    fn link(&self, change: impl FnOnce(&mut Self)) -> String {
        let mut query = self.clone();
        query.cursor.clear();
        change(&mut query);
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(&query) {
            for (name, value) in &fields {
                match value.as_str() {
                    None | Some("") => {}
                    Some(value) => {
                        pairs.append_pair(name, value);
                    }
                }
            }
        }
        match pairs.finish().as_str() {
            "" => "/tokens".to_owned(),
            pairs => format!("/tokens?{pairs}"),
        }
    }

    fn view(&self, web: &Web, words: &Words, counts: CardCounts) -> TokensView {
        let is_all = self.view == "all";
        let other = |view: &str| Self::default().link(|query| view.clone_into(&mut query.view));
        let mut bare = self.clone();
        for field in [&mut bare.view, &mut bare.sort, &mut bare.cursor] {
            field.clear();
        }
        TokensView {
            is_all,
            is_admin: false,
            own_link: other(""),
            all_link: other("all"),
            cards: self.cards(words, counts),
            statuses: choices(
                [
                    "active", "ending", "never", "expired", "disabled", "deleted",
                ]
                .into_iter(),
                &self.status,
                |value| phrase!(words.language, "filter-value", status = value),
            ),
            roles: choices(web.service.terms().roles.iter(), &self.role, str::to_owned),
            findings: choices(finding_kinds().into_iter(), &self.finding, |kind| {
                finding_text(kind, words)
            }),
            sorts: choices(SORTS.iter().map(|(name, ..)| *name), &self.sort, |value| {
                phrase!(words.language, "sort-value", sort = value)
            }),
            is_filtered: bare.link(|_| ()) != "/tokens",
            query: self.clone(),
            rows: Vec::new(),
            next_link: None,
            can_issue: false,
        }
    }

    fn cards(&self, words: &Words, counts: CardCounts) -> Vec<Card> {
        let counts = [
            counts.active,
            counts.ending,
            counts.never,
            counts.expired,
            counts.deleted,
        ];
        let card = |((key, icon), count): ((&'static str, &'static str), i64)| {
            let is_chosen = self.status == key;
            Card {
                key,
                text: phrase!(words.language, "filter-value", status = key),
                icon,
                count: words.count(count),
                link: self.link(|query| {
                    let status = if is_chosen { "" } else { key };
                    status.clone_into(&mut query.status);
                }),
                is_chosen,
            }
        };
        CARDS.into_iter().zip(counts).map(card).collect()
    }
}

/// Those that are about tokens.
fn finding_kinds() -> [&'static str; 8] {
    [
        FindingKind::SsoRevoked,
        FindingKind::Orphaned,
        FindingKind::NeverExpires,
        FindingKind::TooLong,
        FindingKind::Unused,
        FindingKind::Unreadable,
        FindingKind::OldSecretInUse,
        FindingKind::NewPlace,
    ]
    .map(FindingKind::as_str)
}

pub fn choices<'a>(
    values: impl Iterator<Item = &'a str>,
    chosen: &str,
    text: impl Fn(&str) -> String,
) -> Vec<Choice> {
    values
        .map(|value| Choice {
            value: value.to_owned(),
            text: text(value),
            is_chosen: value == chosen,
        })
        .collect()
}
