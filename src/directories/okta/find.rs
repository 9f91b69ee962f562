//! One user, by an address or by what Okta knows the user by.

use super::USERS;
use super::api::{Api, is_missing, refused};
use super::user::User;
use crate::directories::id::segment;
use crate::domain::Address;
use crate::sources::Error;
use crate::web;

/// Every user who has an address.
///
/// A filter reads the primary store, and tells upper from lower case. Whom it does not find may have the
/// address in another spelling: the sign-in name is found by any, and `search` finds mailboxes by any.
///
/// # Errors
/// When Okta does not answer, or answers with somebody else.
pub(super) async fn by_address(api: &Api, address: &Address) -> Result<Vec<User>, Error> {
    let found = listed(api, "filter", address).await?;
    if let Some(other) = found.iter().position(|user| !user.has(address)) {
        return Err(Error::Content {
            place: format!("GET {USERS}"),
            reason: format!(
                "user {} of the answer has not the address that was asked for; the filter was ignored",
                other + 1
            ),
        });
    }
    if !found.is_empty() {
        return Ok(found);
    }
    // Okta cannot take a sign-in name with a slash apart.
    if !address.as_str().contains('/') {
        let login = segment(address.as_str()).unwrap_or_default();
        let (path, shown) = (format!("{USERS}/{login}"), format!("{USERS}/{{login}}"));
        let found: Option<User> = unless_missing(api.one_unnamed(&path, &shown).await)?;
        if let Some(user) = found.filter(|user| user.has(address)) {
            return Ok(vec![user]);
        }
    }
    let mut found = Vec::new();
    for stale in listed(api, "search", address).await? {
        let user = unless_missing(by_id(api, &stale.id).await)?;
        found.extend(user.filter(|user| user.id == stale.id && user.has(address)));
    }
    Ok(found)
}

/// The user of this id; a sign-in name in its place would be found as well.
///
/// # Errors
/// When there is none, or no answer.
pub(super) async fn by_id(api: &Api, id: &str) -> Result<User, web::Error> {
    let id = segment(id).unwrap_or_default();
    api.one(&format!("{USERS}/{id}")).await
}

async fn listed(api: &Api, way: &'static str, address: &Address) -> Result<Vec<User>, Error> {
    let mut spellings = vec![address.as_str(), address.key()];
    spellings.dedup();
    let tests = spellings.into_iter().map(|spelling| {
        let value = quoted(spelling);
        format!("profile.login eq {value} or profile.email eq {value}")
    });
    let expression = tests.collect::<Vec<_>>().join(" or ");
    let mut pages = api.list(USERS, vec![(way, expression)]);
    let mut found = Vec::new();
    while let Some(page) = pages.next().await? {
        found.extend(page);
    }
    Ok(found)
}

fn unless_missing(found: Result<User, web::Error>) -> Result<Option<User>, Error> {
    match found {
        Ok(user) => Ok(Some(user)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}

/// A text in an expression (RFC 7644 §3.4.2.2 writes it as JSON).
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
