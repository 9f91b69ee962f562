//! `/tokens/{id}`: everything about one token.

use axum::extract::{Path, Query, State};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::token_view::{Badge, ExpiryView, TokenRow, finding_text, row};
use crate::domain::service::{Actor, Operation};
use crate::domain::{Status, TokenId};
use crate::language::phrase;
use crate::service::pages::TokenItem;
use crate::service::portal::TokenFile;
use crate::store::Uses;
use crate::text::clean;
use crate::web::portal::error::{PageError, PageResult};
use crate::web::portal::frame::{View, page};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::portal::words::{Moment, Words};
use crate::web::state::{AppState, Web};

/// Bars of use.
const DAYS: i64 = 30;
const BAR_WIDTH: i64 = 8;
const BAR_HEIGHT: i64 = 40;
/// Confirmations that a form ends with.
const DONE: [&str; 4] = ["edited", "disabled", "enabled", "revoked"];

#[derive(Debug, Serialize)]
struct Secret {
    number: u32,
    created: Moment,
    valid_until: Option<Moment>,
    last_used: Option<Moment>,
}

#[derive(Debug, Serialize)]
struct AddressItem {
    address: String,
    first: Moment,
    last: Moment,
}

#[derive(Debug, Serialize)]
struct Bar {
    day: String,
    ok: i64,
    refused: i64,
    x: i64,
    y: i64,
    height: i64,
    refused_y: i64,
    refused_height: i64,
}

#[derive(Debug, Serialize)]
struct UseView {
    bars: Vec<Bar>,
    ok: i64,
    refused: i64,
    has_any: bool,
    width: i64,
    height: i64,
}

#[derive(Debug, Serialize)]
struct NoticeItem {
    recipient: String,
    topic: String,
    step: Option<String>,
    at: Moment,
    state: String,
}

#[derive(Debug, Serialize)]
struct FindingItem {
    text: String,
    evidence: String,
    severity: String,
    since: Moment,
}

#[derive(Debug, Serialize)]
struct AuditItem {
    at: Moment,
    actor: String,
    action: String,
    reason: Option<String>,
}

/// What the visitor may do with it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "a template asks for each by its name"
)]
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Actions {
    pub regenerate: bool,
    pub edit: bool,
    pub disable: bool,
    pub enable: bool,
    pub revoke: bool,
}

#[derive(Debug, Serialize)]
struct TokenView {
    row: TokenRow,
    badge: Badge,
    expiry: ExpiryView,
    description: Option<String>,
    issuer_name: Option<String>,
    owners: Vec<String>,
    kind: Option<String>,
    external_id: String,
    scopes: Vec<String>,
    networks: Vec<String>,
    created: Option<Moment>,
    not_before: Option<Moment>,
    secrets: Vec<Secret>,
    never_shown: bool,
    addresses: Vec<AddressItem>,
    refused_addresses: Vec<AddressItem>,
    uses: Option<UseView>,
    notices: Vec<NoticeItem>,
    findings: Vec<FindingItem>,
    audit: Vec<AuditItem>,
    actions: Actions,
    is_foreign: bool,
    manage_url: Option<String>,
    done: Option<String>,
}

impl View for TokenView {
    const TEMPLATE: &'static str = "token";

    fn title(&self, _: &Visitor) -> String {
        self.row.name.text.clone()
    }
}

#[derive(Debug, Deserialize)]
pub struct TokenQuery {
    #[serde(default)]
    done: String,
}

/// The id in a path; one that cannot be read is the id of nothing.
pub fn read_id(text: &str) -> PageResult<TokenId> {
    let id = Uuid::try_parse(text).map_err(|_| PageError::NotFound)?;
    Ok(TokenId(id))
}

pub async fn show(
    State(web): State<AppState>,
    signed_in: SignedIn,
    Path(id): Path<String>,
    Query(query): Query<TokenQuery>,
) -> PageResult {
    let id = read_id(&id)?;
    let actor = signed_in.actor();
    let file = web.service.load_token_file(&actor, id).await?;
    if file
        .item
        .credential
        .as_ref()
        .is_some_and(|it| it.kind.is_internal())
    {
        return Err(PageError::NotFound);
    }
    let actions = find_actions(&web, &actor, &file.item, signed_in.words().now).await?;
    let words = signed_in.words();
    let done = DONE.iter().find(|done| **done == query.done);
    let done = done.map(|done| phrase!(words.language, "done", act = *done));
    let view = TokenView {
        actions,
        done,
        manage_url: manage_url(&web, &file.item),
        ..view(&file, words)
    };
    page(&web, &signed_in.visitor, &view).await
}

fn manage_url(web: &Web, item: &TokenItem) -> Option<String> {
    let token = &item.token;
    let is_foreign = item.credential.is_none();
    let pages = is_foreign.then_some(&web.settings.pages)?;
    pages.find(&token.source, &token.external_id)
}

async fn find_actions(
    web: &Web,
    actor: &Actor,
    item: &TokenItem,
    now: DateTime<Utc>,
) -> PageResult<Actions> {
    if item.credential.is_none() {
        return Ok(Actions::default());
    }
    let id = item.token.id;
    let may = async |operation| -> PageResult<bool> {
        use crate::service::Error;
        match web.service.find_for(actor, id, operation).await {
            Ok(_) => Ok(true),
            Err(Error::Refused(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    };
    let status = item.token.status_at(now);
    let works = matches!(status, Status::Active | Status::Expired);
    let exists = works || status == Status::Disabled;
    Ok(Actions {
        regenerate: works && may(Operation::RegenerateToken).await?,
        edit: exists && may(Operation::UpdateToken).await?,
        disable: works && may(Operation::DisableToken).await?,
        enable: status == Status::Disabled && may(Operation::EnableToken).await?,
        revoke: exists && may(Operation::DeleteToken).await?,
    })
}

fn view(file: &TokenFile, words: &Words) -> TokenView {
    let (item, token) = (&file.item, &file.item.token);
    let row = row(item, words);
    let credential = item.credential.as_ref();
    let addresses = |is_refused| {
        let used = file.uses.addresses.iter();
        used.filter(move |used| used.is_refused == is_refused)
            .map(|used| AddressItem {
                address: used.address.to_string(),
                first: words.moment(used.first_at),
                last: words.moment(used.last_at),
            })
            .collect()
    };
    TokenView {
        badge: row.badge.clone(),
        expiry: row.expiry.clone(),
        description: token
            .description
            .as_deref()
            .map(|text| clean(text).into_owned()),
        issuer_name: token
            .issuer_name
            .as_deref()
            .map(|text| clean(text).into_owned()),
        owners: token.co_owners.iter().map(ToString::to_string).collect(),
        kind: credential.map(|it| it.kind.as_str().to_owned()),
        external_id: clean(&token.external_id).into_owned(),
        scopes: scopes(token.scope.as_deref()),
        networks: credential
            .iter()
            .flat_map(|it| it.networks.iter().map(ToString::to_string))
            .collect(),
        created: token.created_at.map(|at| words.moment(at)),
        not_before: credential
            .and_then(|it| it.not_before)
            .map(|at| words.moment(at)),
        secrets: secrets(item, words),
        never_shown: file.never_shown,
        addresses: addresses(false),
        refused_addresses: addresses(true),
        uses: credential.map(|_| bars(&file.uses, words)),
        notices: notices(file, words),
        findings: findings(file, words),
        audit: audit(file, words),
        actions: Actions::default(),
        is_foreign: credential.is_none(),
        manage_url: None,
        done: None,
        row,
    }
}

fn scopes(scope: Option<&str>) -> Vec<String> {
    let scopes = scope.unwrap_or_default().split_whitespace();
    scopes.map(|scope| clean(scope).into_owned()).collect()
}

fn secrets(item: &TokenItem, words: &Words) -> Vec<Secret> {
    let Some(credential) = &item.credential else {
        return Vec::new();
    };
    let old = credential.old_secret.as_ref();
    let old = old.filter(|old| words.now < old.valid_until);
    let all = [(&credential.secret, None)]
        .into_iter()
        .chain(old.map(|old| (&old.secret, Some(old.valid_until))));
    all.map(|(secret, valid_until)| Secret {
        number: secret.number,
        created: words.moment(secret.created_at),
        valid_until: valid_until.map(|at| words.moment(at)),
        last_used: secret.last_used_at.map(|at| words.moment(at)),
    })
    .collect()
}

/// A bar for each of the last 30 days, in the zone of the visitor.
fn bars(uses: &Uses, words: &Words) -> UseView {
    let today = words.now.with_timezone(&words.zone).date_naive();
    let first = today - TimeDelta::days(DAYS - 1);
    let mut days = vec![(0, 0); usize::try_from(DAYS).unwrap_or_default()];
    for hour in &uses.hours {
        let day = hour.hour.with_timezone(&words.zone).date_naive();
        let nth = usize::try_from((day - first).num_days()).ok();
        if let Some((ok, refused)) = nth.and_then(|nth| days.get_mut(nth)) {
            *ok += hour.ok;
            *refused += hour.refused;
        }
    }
    let most = days.iter().map(|(ok, refused)| ok + refused).max();
    let most = most.unwrap_or_default().max(1);
    // A single call is seen beside a million.
    let height = |count: i64| match count {
        0 => 0,
        count => (count * BAR_HEIGHT / most).max(1),
    };
    let bar = |(nth, (ok, refused)): (i64, (i64, i64))| Bar {
        day: words.date(first + TimeDelta::days(nth)),
        ok,
        refused,
        x: nth * BAR_WIDTH,
        y: BAR_HEIGHT - height(ok),
        height: height(ok),
        refused_y: (BAR_HEIGHT - height(ok) - height(refused)).max(0),
        refused_height: height(refused),
    };
    UseView {
        ok: days.iter().map(|(ok, _)| ok).sum(),
        refused: days.iter().map(|(_, refused)| refused).sum(),
        has_any: days.iter().any(|(ok, refused)| ok + refused > 0),
        bars: (0..).zip(days).map(bar).collect(),
        width: DAYS * BAR_WIDTH,
        height: BAR_HEIGHT,
    }
}

fn notices(file: &TokenFile, words: &Words) -> Vec<NoticeItem> {
    let mut notices: Vec<_> = file.notices.iter().collect();
    notices.sort_by_key(|notice| std::cmp::Reverse(notice.planned_at));
    let item = |notice: &&crate::store::NoticeRow| NoticeItem {
        recipient: notice.recipient.to_string(),
        topic: phrase!(
            words.language,
            "notice-topic",
            topic = notice.topic.as_str()
        ),
        step: notice.step.map(|step| words.span(TimeDelta::seconds(step))),
        at: words.moment(notice.sent_at.unwrap_or(notice.send_at)),
        state: phrase!(
            words.language,
            "notice-state",
            state = notice.state.as_str()
        ),
    };
    notices.iter().map(item).collect()
}

fn findings(file: &TokenFile, words: &Words) -> Vec<FindingItem> {
    let item = |finding: &crate::store::OpenFinding| FindingItem {
        text: finding_text(finding.kind.as_str(), words),
        evidence: clean(&finding.evidence).into_owned(),
        severity: phrase!(
            words.language,
            "finding-severity",
            severity = finding.severity.as_str()
        ),
        since: words.moment(finding.since),
    };
    file.findings.iter().map(item).collect()
}

fn audit(file: &TokenFile, words: &Words) -> Vec<AuditItem> {
    let item = |entry: &crate::store::AuditRow| AuditItem {
        at: words.moment(entry.at),
        actor: clean(&entry.actor).into_owned(),
        action: entry.action.clone(),
        reason: entry.reason.as_deref().map(|text| clean(text).into_owned()),
    };
    file.audit.iter().map(item).collect()
}
