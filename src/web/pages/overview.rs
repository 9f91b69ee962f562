//! `/`: what needs the visitor.

use axum::extract::State;
use serde::Serialize;

use super::token_view::{TokenRow, row};
use crate::domain::Status;
use crate::language::phrase;
use crate::service::pages::SOON;
use crate::service::portal::Whose;
use crate::store::{PageFilter, PageOrder, TokenSort};
use crate::time::shift;
use crate::web::portal::error::PageResult;
use crate::web::portal::frame::{View, page};
use crate::web::portal::session::{SignedIn, Visitor};
use crate::web::state::AppState;

const MAX_ROWS: i64 = 20;

#[derive(Debug, Serialize)]
struct OverviewView {
    ending: Vec<TokenRow>,
    /// Where nothing ends soon: what ends next.
    next: Option<TokenRow>,
    /// Own tokens with an open finding.
    flagged: Vec<TokenRow>,
    can_issue: bool,
}

impl View for OverviewView {
    const TEMPLATE: &'static str = "overview";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "overview-title")
    }
}

pub async fn show(State(web): State<AppState>, signed_in: SignedIn) -> PageResult {
    let (actor, words) = (signed_in.actor(), signed_in.words());
    let order = PageOrder {
        sort: TokenSort::ExpiresAt,
        is_descending: false,
        after: None,
    };
    let active = PageFilter {
        status: Some(Status::Active),
        ..PageFilter::default()
    };
    let service = &web.service;
    let first = service
        .list_tokens_of(&actor, Whose::Own, &active, order, MAX_ROWS)
        .await?;
    let until = shift(words.now, SOON);
    let is_soon = |at| at <= until;
    let flagged = first.iter().filter(|item| !item.findings.is_empty());
    let (soon, later): (Vec<_>, Vec<_>) = first
        .iter()
        .partition(|item| item.token.expiry.at().is_some_and(is_soon));
    let next = later.iter().find(|item| item.token.expiry.at().is_some());
    let view = OverviewView {
        flagged: flagged.map(|item| row(item, words)).collect(),
        next: next
            .filter(|_| soon.is_empty())
            .map(|item| row(item, words)),
        ending: soon.into_iter().map(|item| row(item, words)).collect(),
        can_issue: actor.may_issue(service.terms().issuers).is_ok(),
    };
    page(&web, &signed_in.visitor, &view).await
}
