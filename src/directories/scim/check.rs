//! What the token of lapsed can and cannot see.

use super::api::{Api, Provider, READ_RIGHT, is_forbidden};
use super::groups::Reader;
use super::pages::Fault;
use super::shapes::{Flag, User};
use super::{USERS, users};
use crate::sources::{Checked, Error, Right};

/// So many members of a group are looked up.
const LOOKED_UP: usize = 5;

/// Looks at the first page of users and, if there are any, at the allowed groups.
pub async fn check(api: &Api, allowed_groups: &[String]) -> Result<Checked, Error> {
    let provider = api.provider().await?;
    let mut rights = Vec::new();
    let mut pages = users(api, provider, false);
    let people = match pages.next::<User>().await {
        Ok(page) => {
            let page = page.unwrap_or_default();
            rights.push(listing(&page));
            rights.extend(activity(&page));
            match pages.total() {
                Some(total) => format!("{total} people"),
                None if pages.is_done() => format!("{} people", page.len()),
                None => format!("{} or more people", page.len()),
            }
        }
        Err(Fault::Web(error)) if is_forbidden(&error) => {
            rights.push(right("list the people", Some(READ_RIGHT.to_owned())));
            "the list of people is closed".to_owned()
        }
        Err(fault) => return Err(fault.into_error(USERS)),
    };
    let mut reader = Reader::new(api, provider);
    for name in allowed_groups {
        rights.extend(group(api, &mut reader, name).await?);
    }
    Ok(Checked {
        summary: summary(provider, &people),
        rights,
    })
}

/// `SCIM 2.0, 14 people, pages by index, with filters`.
fn summary(provider: Provider, people: &str) -> String {
    let pages = if provider.is_by_cursor {
        "cursor"
    } else {
        "index"
    };
    let filters = if provider.has_filter {
        "with"
    } else {
        "without"
    };
    format!("SCIM 2.0, {people}, pages by {pages}, {filters} filters")
}

fn right(what: &str, missing: Option<String>) -> Right {
    Right {
        what: what.to_owned(),
        missing,
    }
}

fn listing(page: &[User]) -> Right {
    let missing = page
        .is_empty()
        .then(|| format!("the list is empty; {READ_RIGHT}"));
    right("list the people", missing)
}

/// Whether the field is there that tells.
fn activity(page: &[User]) -> Option<Right> {
    let silent = page
        .iter()
        .filter(|user| user.active.is_true().is_none())
        .count();
    let missing = (silent > 0).then(|| {
        let odd = if page.iter().any(|user| user.active == Flag::Odd) { " or with another value" } else { "" };
        format!(
            "{silent} of {} users come without `active`{odd}; let the identity provider tell it as true or false",
            page.len()
        )
    });
    (!page.is_empty()).then(|| right("tell who is active", missing))
}

/// Whether an allowed group is there, and its members are users.
async fn group(api: &Api, reader: &mut Reader<'_>, name: &str) -> Result<Vec<Right>, Error> {
    let see = format!("see the group {name:?}");
    let id = match reader.find(name).await {
        Ok(Some(id)) => id,
        Ok(None) => {
            let missing = "the server offers no list of groups, so only users' own `groups` tell";
            return Ok(vec![right(&see, Some(missing.to_owned()))]);
        }
        Err(Error::Rights { what, mend }) => {
            return Ok(vec![right(&see, Some(format!("{what}; {mend}")))]);
        }
        Err(error) => return Err(error),
    };
    let people = match reader.people(name, &id).await {
        Ok(people) => people,
        Err(Error::Rights { what, mend }) => {
            return Ok(vec![right(&see, Some(format!("{what}; {mend}")))]);
        }
        Err(error) => return Err(error),
    };
    let tell = format!("tell the {} members of {name:?} apart", people.len());
    let mut is_known = false;
    for name in people.keys().take(LOOKED_UP) {
        is_known |= is_user(api, name).await?;
    }
    let missing = (!is_known).then(|| {
        let what = if people.is_empty() {
            "nobody is in it"
        } else {
            "none that was looked at is a user"
        };
        format!("{what}; put the people into the group, or {READ_RIGHT}")
    });
    Ok(vec![right(&see, None), right(&tell, missing)])
}

async fn is_user(api: &Api, name: &str) -> Result<bool, Error> {
    match api.one::<User>(USERS, name).await {
        Ok(user) => {
            Ok(user.id == name || user.sign_in.is_some_and(|it| it.eq_ignore_ascii_case(name)))
        }
        Err(error) => {
            let fault = Fault::Web(error);
            if fault.is_of_the_question() {
                return Ok(false);
            }
            Err(fault.into_error(USERS))
        }
    }
}
