//! One user, by an address or by what Okta knows the user by.

use super::USERS;
use super::api::{Api, is_missing, is_unable, refused};
use super::user::User;
use crate::directories::id::segment;
use crate::domain::Address;
use crate::sources::Error;
use crate::web;

/// Every user who has an address; `None` where Okta cannot be asked for one person, as it refuses the
/// question or answers with others.
///
/// A filter reads the primary store, and tells upper from lower case. Whom it does not find may have the
/// address in another spelling: the sign-in name is found by any, and `search` finds mailboxes by any.
/// Each question has one clause: not every server takes more.
///
/// # Errors
/// When Okta does not answer.
pub(super) async fn by_address(api: &Api, address: &Address) -> Result<Option<Vec<User>>, Error> {
    let mut found = Vec::new();
    for attribute in ["profile.email", "profile.login"] {
        let Some(users) = filtered(api, attribute, address).await? else {
            return Ok(None);
        };
        found.extend(users);
        // Nobody else has this sign-in name then.
        if found.iter().any(|user| user.signs_in_as(address)) {
            break;
        }
    }
    if !found.is_empty() {
        return Ok(Some(found));
    }
    // Okta cannot take a sign-in name with a slash apart.
    let mut to_search = vec!["profile.email"];
    if address.as_str().contains('/') {
        to_search.push("profile.login");
    } else {
        match by_login(api, address).await {
            Err(error) if is_unable(&error) => return Ok(None),
            asked => found.extend(unless_missing(asked)?.filter(|user| user.has(address))),
        }
    }
    if !found.is_empty() {
        return Ok(Some(found));
    }
    for attribute in to_search {
        let Some(users) = searched(api, attribute, address).await? else {
            return Ok(None);
        };
        found.extend(users);
    }
    Ok(Some(found))
}

/// Who signs in by an address, deactivated or not; for where no filter finds anybody.
///
/// # Errors
/// When Okta does not answer.
pub(super) async fn by_login_alone(api: &Api, address: &Address) -> Result<Option<User>, Error> {
    match by_login(api, address).await {
        Err(error) if is_unable(&error) => Ok(None),
        asked => Ok(unless_missing(asked)?.filter(|user| user.has(address))),
    }
}

async fn by_login(api: &Api, address: &Address) -> Result<User, web::Error> {
    let login = segment(address.as_str()).unwrap_or_default();
    let (path, shown) = (format!("{USERS}/{login}"), format!("{USERS}/{{login}}"));
    api.one_unnamed(&path, &shown).await
}

/// Whom a filter finds, in the spelling that was asked for and in lower case.
async fn filtered(
    api: &Api,
    attribute: &str,
    address: &Address,
) -> Result<Option<Vec<User>>, Error> {
    let mut spellings = vec![address.as_str(), address.key()];
    spellings.dedup();
    let mut found = Vec::new();
    for spelling in spellings {
        let expression = equals(attribute, spelling);
        let Some(users) = listed(api, ("filter", expression), address).await? else {
            return Ok(None);
        };
        found.extend(users);
    }
    Ok(Some(found))
}

/// Whom a search finds, as they are now.
async fn searched(
    api: &Api,
    attribute: &str,
    address: &Address,
) -> Result<Option<Vec<User>>, Error> {
    let expression = equals(attribute, address.as_str());
    let Some(stale) = listed(api, ("search", expression), address).await? else {
        return Ok(None);
    };
    let mut found = Vec::new();
    for stale in stale {
        let user = unless_missing(by_id(api, &stale.id).await)?;
        found.extend(user.filter(|user| user.id == stale.id && user.has(address)));
    }
    Ok(Some(found))
}

/// The user of this id; a sign-in name in its place would be found as well.
///
/// # Errors
/// When there is none, or no answer.
pub(super) async fn by_id(api: &Api, id: &str) -> Result<User, web::Error> {
    let id = segment(id).unwrap_or_default();
    api.one(&format!("{USERS}/{id}")).await
}

/// Whom a question brings; `None` where it is refused, or somebody comes who has not the address: then it
/// was ignored, and that nobody comes would mean nothing.
async fn listed(
    api: &Api,
    question: (&'static str, String),
    address: &Address,
) -> Result<Option<Vec<User>>, Error> {
    let mut pages = api.list(USERS, vec![question]);
    let mut found = Vec::new();
    loop {
        match pages.next::<User>().await {
            Ok(Some(page)) if page.iter().all(|user| user.has(address)) => found.extend(page),
            Ok(Some(_)) => return Ok(None),
            Ok(None) => return Ok(Some(found)),
            Err(error) if pages.is_refused(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn unless_missing(found: Result<User, web::Error>) -> Result<Option<User>, Error> {
    match found {
        Ok(user) => Ok(Some(user)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}

/// That an attribute is this text.
pub(super) fn equals(attribute: &str, text: &str) -> String {
    format!("{attribute} eq {}", quoted(text))
}

/// A text in an expression (RFC 7644 §3.4.2.2 writes it as JSON).
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
