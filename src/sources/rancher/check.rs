//! What the token of lapsed can and cannot see.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::api::{Api, EXT, MANAGEMENT};
use super::people::People;
use super::settings::Settings;
use super::shapes::{Ext, Legacy};
use super::sight::{Sight, Tally};
use super::token::Row;
use super::version;
use crate::domain::Address;
use crate::sources::{Checked, Error, Right};

/// Looks at everything that a listing needs, of lists of tokens at the first page.
pub async fn check(api: &Api, users: &BTreeMap<String, Address>) -> Result<Checked, Error> {
    let mut sight = Sight::default();
    let (legacy, tally) = look::<Legacy>(api, MANAGEMENT, &mut sight.caller).await?;
    sight.legacy = tally;
    let ext = look::<Ext>(api, EXT, &mut sight.caller).await;
    let (ext, tally) = api.ext(ext).await?.unzip();
    sight.ext = tally;
    let people = People::read(api, users.clone()).await?;
    sight.is_whole(api, &people).await?;
    let settings = Settings::read(api).await?;
    let version = api.version().await;
    let mut rights = rights(api, &people, &settings, ext.is_some()).await?;
    let lacks_ext = ext.is_none() && version::has_ext(version.as_deref());
    if lacks_ext {
        rights.push(lack_of_ext());
    }
    Ok(Checked {
        summary: summary(version.as_deref(), &legacy, ext.as_deref(), lacks_ext),
        rights,
    })
}

/// How many tokens a store has, as far as its first page says, and whose those of its first page are.
async fn look<T: DeserializeOwned + Into<Row>>(
    api: &Api,
    group: &str,
    caller: &mut Option<String>,
) -> Result<(String, Tally), Error> {
    let mut pages = api.list(&format!("{group}/tokens"));
    let page = pages.next::<T>().await?.unwrap_or_default();
    let count = page.len() as u64 + pages.remaining.unwrap_or(0);
    let count = if pages.is_done || pages.remaining.is_some() {
        count.to_string()
    } else {
        format!("{count} or more")
    };
    let mut tally = Tally::default();
    for row in page {
        let row: Row = row.into();
        tally.add(&row.user_id);
        if row.external_id == api.own {
            *caller = Some(row.user_id);
        }
    }
    if !pages.is_done {
        tally.allow_more();
    }
    Ok((count, tally))
}

/// `Rancher v2.12.1, 14 legacy tokens, 3 ext tokens`.
fn summary(version: Option<&str>, legacy: &str, ext: Option<&str>, lacks_ext: bool) -> String {
    let version = version.map(|version| version.chars().filter(|c| !c.is_control()).take(40));
    let version = version.map_or(String::new(), |version| {
        format!(" {}", version.collect::<String>())
    });
    let ext = match ext {
        Some(ext) => format!("{ext} ext tokens"),
        None if lacks_ext => "the list of ext tokens is missing".to_owned(),
        None => "no ext tokens before 2.12".to_owned(),
    };
    format!("Rancher{version}, {legacy} legacy tokens, {ext}")
}

/// What is said of a server that must have ext tokens and knows no list of them.
fn lack_of_ext() -> Right {
    let mend = format!(
        "Rancher has ext tokens since 2.12, but {EXT}/tokens is not there: mend its extension API, or turn on the \
         feature that it needs; until then no token of either store is marked gone"
    );
    Right {
        what: "list the ext tokens".to_owned(),
        missing: Some(mend),
    }
}

async fn rights(
    api: &Api,
    people: &People,
    settings: &Settings,
    has_ext: bool,
) -> Result<Vec<Right>, Error> {
    let right = |what: &str, may: bool, resource: &str, verbs: &str| Right {
        what: what.to_owned(),
        missing: (!may).then(|| missing(resource, verbs)),
    };
    let (read, told) = ("\"get\", \"list\"", people.switched_off.is_some());
    let mut rights = vec![
        right("list the tokens of all users", true, "tokens", read),
        right(
            "see which users are disabled or deleted",
            people.users_told,
            "users",
            read,
        ),
        right(
            "see the mail addresses of users",
            people.attributes_told,
            "userattributes",
            read,
        ),
        right(
            "see which login providers are switched off",
            told,
            "authconfigs",
            read,
        ),
        right(
            "see how long tokens may live",
            settings.are_told(),
            "settings",
            read,
        ),
    ];
    let mut may_end = api.may("delete", "management.cattle.io", "tokens").await?;
    let mut what = "tokens";
    if has_ext && may_end != Some(false) {
        may_end = api.may("delete", "", "*").await?;
        what = "*";
    }
    rights.extend(may_end.map(|may| {
        right(
            "end tokens, where allow_revoke = true",
            may,
            what,
            "\"delete\"",
        )
    }));
    Ok(rights)
}

/// The rule that is missing.
fn missing(resource: &str, verbs: &str) -> String {
    let group = if resource == "*" {
        "*"
    } else {
        "management.cattle.io"
    };
    format!(
        "add the rule apiGroups [\"{group}\"], resources [\"{resource}\"], verbs [{verbs}] to a GlobalRole of its user"
    )
}
