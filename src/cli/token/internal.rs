//! The tokens that lapsed issues for itself: they are not watched, and so have no row of their own.

use chrono::{DateTime, Utc};

use crate::domain::service::{Credential, Kind, ServicePerson};
use crate::domain::{Address, ExpiryOrigin, LOCAL_SOURCE, Token, TokenId};
use crate::service::found::row_of_internal;
use crate::store::{self, PageFilter, Reach, Store, TokenFilter, TokenView};

const PAGE_SIZE: i64 = 1000;

/// The kind that a filter asks for, if it is one of these.
pub(super) fn internal_kind(filter: &TokenFilter) -> Option<Kind> {
    let kind = filter.kind.as_deref().map(Kind::parse);
    kind.filter(Kind::is_internal)
}

/// The tokens of an internal kind that are not revoked, in the order of their ids.
pub(super) async fn list(
    store: &Store,
    filter: &TokenFilter,
    now: DateTime<Utc>,
) -> store::Result<Vec<TokenView>> {
    let reach = Reach {
        is_all: true,
        ..Reach::default()
    };
    let page = PageFilter {
        kind: filter.kind.clone(),
        ..PageFilter::default()
    };
    let mut views = Vec::new();
    let mut after: Option<TokenId> = None;
    loop {
        let mut tx = store.begin_read().await?;
        let ids = tx
            .page_internal_credentials(&reach, &page, after, now, PAGE_SIZE)
            .await?;
        let Some(last) = ids.last() else {
            return Ok(views);
        };
        after = Some(*last);
        let mut credentials = tx.find_credentials(&ids).await?;
        credentials.sort_unstable_by_key(|credential| credential.id);
        let keys: Vec<&str> = credentials.iter().map(|it| it.issuer.as_str()).collect();
        let people = tx.find_service_users(&keys).await?;
        let seen = credentials.into_iter().map(|credential| {
            let person = people.iter().find(|person| person.key == credential.issuer);
            view(credential, person)
        });
        views.extend(seen.filter(|view| matches(filter, view, now)));
    }
}

fn view(credential: Credential, person: Option<&ServicePerson>) -> TokenView {
    let token = Token {
        name: String::new(),
        issuer_name: person.and_then(|person| person.name.clone()),
        expiry_origin: Some(ExpiryOrigin::Source),
        secret_version: credential.secret.number,
        ..row_of_internal(&credential, person)
    };
    TokenView {
        token,
        findings: vec![],
        kind: Some(credential.kind.as_str().to_owned()),
        networks: credential.networks,
    }
}

/// The filters that such a token can match.
fn matches(filter: &TokenFilter, view: &TokenView, now: DateTime<Utc>) -> bool {
    let token = &view.token;
    let issuer = token.issuer.as_ref().map(Address::key);
    let expires = token.expiry.at();
    let account = token.account.as_deref().map(str::to_lowercase);
    let wanted_account = filter.account.as_deref().map(str::to_lowercase);
    filter
        .status
        .is_none_or(|status| status == token.status_at(now))
        && (filter.owner_key.is_none() || filter.owner_key.as_deref() == issuer)
        && (!filter.has_no_issuer || issuer.is_none())
        && (filter.role.is_none() || filter.role == token.role)
        && filter
            .source
            .as_deref()
            .is_none_or(|source| source == LOCAL_SOURCE)
        && filter.name.is_none()
        && (wanted_account.is_none() || wanted_account == account)
        && filter.finding.is_none()
        && filter
            .expiry
            .as_deref()
            .is_none_or(|expiry| expiry == token.expiry.kind())
        && filter
            .expires_until
            .is_none_or(|until| expires.is_some_and(|at| now <= at && at <= until))
}
