//! Finds single users by address, sign-in name or id.

use super::USERS;
use super::session::{Session, explain_refusal, is_not_found, is_query_unsupported};
use super::user::User;
use crate::directories::id::path_segment;
use crate::domain::Address;
use crate::sources::Error;
use crate::upstream::http;

/// All users with an address; `None` if Okta does not support the query, because it refuses it or returns
/// other users.
///
/// A filter reads the primary store, and is case-sensitive. An address in another case is found by the
/// sign-in name in a path, or by `search` for mailboxes. Each query has one clause, because not every server
/// supports more.
pub(super) async fn find_by_address(
    session: &Session,
    address: &Address,
) -> Result<Option<Vec<User>>, Error> {
    let mut found = Vec::new();
    for attribute in ["profile.email", "profile.login"] {
        let Some(users) = find_by_filter(session, attribute, address).await? else {
            return Ok(None);
        };
        found.extend(users);
        // Sign-in names are unique.
        if found.iter().any(|user| user.signs_in_as(address)) {
            break;
        }
    }
    if !found.is_empty() {
        return Ok(Some(found));
    }
    // Okta cannot parse a sign-in name with a slash in a path.
    let mut to_search = vec!["profile.email"];
    if address.as_str().contains('/') {
        to_search.push("profile.login");
    } else {
        match fetch_by_login(session, address).await {
            Err(error) if is_query_unsupported(&error) => return Ok(None),
            response => {
                found.extend(not_found_to_none(response)?.filter(|user| user.has_address(address)));
            }
        }
    }
    if !found.is_empty() {
        return Ok(Some(found));
    }
    for attribute in to_search {
        let Some(users) = find_by_search(session, attribute, address).await? else {
            return Ok(None);
        };
        found.extend(users);
    }
    Ok(Some(found))
}

/// The user with this sign-in name, deactivated or not. For servers that do not support filters.
pub(super) async fn find_by_login(
    session: &Session,
    address: &Address,
) -> Result<Option<User>, Error> {
    match fetch_by_login(session, address).await {
        Err(error) if is_query_unsupported(&error) => Ok(None),
        response => Ok(not_found_to_none(response)?.filter(|user| user.has_address(address))),
    }
}

async fn fetch_by_login(session: &Session, address: &Address) -> Result<User, http::Error> {
    let login = path_segment(address.as_str()).unwrap_or_default();
    let (path, shown) = (format!("{USERS}/{login}"), format!("{USERS}/{{login}}"));
    session.fetch_shown_as(&path, &shown).await
}

/// Users found by a filter, for the address as given and in lower case.
async fn find_by_filter(
    session: &Session,
    attribute: &str,
    address: &Address,
) -> Result<Option<Vec<User>>, Error> {
    let mut spellings = vec![address.as_str(), address.key()];
    spellings.dedup();
    let mut found = Vec::new();
    for spelling in spellings {
        let expression = eq_filter(attribute, spelling);
        let Some(users) = list_matching(session, ("filter", expression), address).await? else {
            return Ok(None);
        };
        found.extend(users);
    }
    Ok(Some(found))
}

/// Users found by a search, each read again from the primary store.
async fn find_by_search(
    session: &Session,
    attribute: &str,
    address: &Address,
) -> Result<Option<Vec<User>>, Error> {
    let expression = eq_filter(attribute, address.as_str());
    let Some(indexed) = list_matching(session, ("search", expression), address).await? else {
        return Ok(None);
    };
    let mut found = Vec::new();
    for stale in indexed {
        let user = not_found_to_none(fetch_by_id(session, &stale.id).await)?;
        found.extend(user.filter(|user| user.id == stale.id && user.has_address(address)));
    }
    Ok(Some(found))
}

/// The user with this id. Okta also finds users by a sign-in name in its place.
pub(super) async fn fetch_by_id(session: &Session, id: &str) -> Result<User, http::Error> {
    let id = path_segment(id).unwrap_or_default();
    session.fetch(&format!("{USERS}/{id}")).await
}

/// Users found by a query; `None` if it is refused or, because it was ignored, returns users without the
/// address.
async fn list_matching(
    session: &Session,
    query: (&'static str, String),
    address: &Address,
) -> Result<Option<Vec<User>>, Error> {
    let mut pager = session.pager(USERS, vec![query]);
    let mut found = Vec::new();
    loop {
        match pager.next_page::<User>().await {
            Ok(Some(page)) if page.iter().all(|user| user.has_address(address)) => {
                found.extend(page);
            }
            Ok(Some(_)) => return Ok(None),
            Ok(None) => return Ok(Some(found)),
            Err(error) if pager.is_query_refused(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn not_found_to_none(found: Result<User, http::Error>) -> Result<Option<User>, Error> {
    match found {
        Ok(user) => Ok(Some(user)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(explain_refusal(error)),
    }
}

pub(super) fn eq_filter(attribute: &str, text: &str) -> String {
    // Values are quoted as in JSON (RFC 7644 §3.4.2.2).
    format!("{attribute} eq {}", serde_json::Value::from(text))
}
