//! Checks what the token can see.

use super::groups::GroupReader;
use super::pager::Fault;
use super::responses::{Flag, User};
use super::session::{Provider, READ_ADVICE, Session, is_forbidden};
use super::{USERS, users_pager};
use crate::upstream::{CheckReport, Error, Right};

/// How many members of a group are looked up.
const CHECKED_MEMBERS: usize = 5;

/// Reads the first page of users, and the allowed groups.
pub async fn check(session: &Session, allowed_groups: &[String]) -> Result<CheckReport, Error> {
    let provider = session.fetch_provider().await?;
    let mut rights = Vec::new();
    let mut pager = users_pager(session, provider, false);
    let people = match pager.next_page::<User>().await {
        Ok(page) => {
            let page = page.unwrap_or_default();
            rights.push(list_right(&page));
            rights.extend(active_right(&page));
            match pager.total() {
                Some(total) => format!("{total} people"),
                None if pager.is_done() => format!("{} people", page.len()),
                None => format!("{} or more people", page.len()),
            }
        }
        Err(Fault::Http(error)) if is_forbidden(&error) => {
            rights.push(right("list the people", Some(READ_ADVICE.to_owned())));
            "the list of people cannot be read".to_owned()
        }
        Err(fault) => return Err(fault.into_error(USERS)),
    };
    let mut reader = GroupReader::new(session, provider);
    for name in allowed_groups {
        rights.extend(group_rights(session, &mut reader, name).await?);
    }
    Ok(CheckReport {
        summary: summary(provider, &people),
        rights,
    })
}

/// `SCIM 2.0, 14 fetch_members, pager by index, with filters`.
fn summary(provider: Provider, people: &str) -> String {
    let pager = if provider.uses_cursors {
        "cursor"
    } else {
        "index"
    };
    let filters = if provider.supports_filters {
        "with"
    } else {
        "without"
    };
    format!("SCIM 2.0, {people}, pages by {pager}, {filters} filters")
}

fn right(what: &str, missing: Option<String>) -> Right {
    Right {
        what: what.to_owned(),
        missing,
    }
}

fn list_right(page: &[User]) -> Right {
    let missing = page
        .is_empty()
        .then(|| format!("the list is empty; {READ_ADVICE}"));
    right("list the people", missing)
}

fn active_right(page: &[User]) -> Option<Right> {
    let without = page
        .iter()
        .filter(|user| user.active.is_true().is_none())
        .count();
    let missing = (without > 0).then(|| {
        let invalid = if page.iter().any(|user| user.active == Flag::Invalid) { " or with another value" } else { "" };
        format!(
            "{without} of {} users come without `active`{invalid}; have the identity provider send it as true or false",
            page.len()
        )
    });
    (!page.is_empty()).then(|| right("see who is active", missing))
}

/// Whether an allowed group exists, and its members are users.
async fn group_rights(
    session: &Session,
    reader: &mut GroupReader<'_>,
    name: &str,
) -> Result<Vec<Right>, Error> {
    let see = format!("see the group {name:?}");
    let id = match reader.find_group(name).await {
        Ok(Some(id)) => id,
        Ok(None) => {
            let missing =
                "the server has no list of groups, so only the `groups` of users show membership";
            return Ok(vec![right(&see, Some(missing.to_owned()))]);
        }
        Err(Error::Rights { what, fix }) => {
            return Ok(vec![right(&see, Some(format!("{what}; {fix}")))]);
        }
        Err(error) => return Err(error),
    };
    let people = match reader.fetch_members(name, &id).await {
        Ok(people) => people,
        Err(Error::Rights { what, fix }) => {
            return Ok(vec![right(&see, Some(format!("{what}; {fix}")))]);
        }
        Err(error) => return Err(error),
    };
    let identify = format!("identify the {} members of {name:?}", people.len());
    let mut is_known = false;
    for name in people.keys().take(CHECKED_MEMBERS) {
        is_known |= is_user(session, name).await?;
    }
    let missing = (!is_known).then(|| {
        let what = if people.is_empty() {
            "it is empty"
        } else {
            "none of the checked members is a user"
        };
        format!("{what}; add the people to the group, or {READ_ADVICE}")
    });
    Ok(vec![right(&see, None), right(&identify, missing)])
}

async fn is_user(session: &Session, name: &str) -> Result<bool, Error> {
    match session.fetch::<User>(USERS, name).await {
        Ok(user) => Ok(user.id == name
            || user
                .user_name
                .is_some_and(|user_name| user_name.eq_ignore_ascii_case(name))),
        Err(error) => {
            let fault = Fault::Http(error);
            if fault.means_query_unsupported() {
                return Ok(false);
            }
            Err(fault.into_error(USERS))
        }
    }
}
