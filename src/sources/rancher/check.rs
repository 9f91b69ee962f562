//! The check of the source, and the check that a listing is complete.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::api::{self, Api, EXT, MANAGEMENT, RULE_ADVICE};
use super::people::People;
use super::settings::Settings;
use super::shapes::{Ext, Legacy};
use super::token::TokenRow;
use crate::domain::Address;
use crate::sources::{CheckReport, Error, Right};
use crate::text;

/// Requests everything that a listing needs, but only the first page of the lists of tokens.
pub async fn check(api: &Api, users: &BTreeMap<String, Address>) -> Result<CheckReport, Error> {
    let mut visibility = Visibility::default();
    let (legacy, seen) = read_first_page::<Legacy>(api, MANAGEMENT, &mut visibility.caller).await?;
    visibility.legacy = seen;
    let ext = read_first_page::<Ext>(api, EXT, &mut visibility.caller).await;
    let (ext, seen) = api.none_if_no_ext_tokens(ext).await?.unzip();
    visibility.ext = seen;
    let people = People::fetch(api, users.clone()).await?;
    visibility.ensure_complete(api, &people).await?;
    let settings = Settings::fetch(api).await?;
    let version = api.version().await;
    let mut rights = check_rights(api, &people, &settings, ext.is_some()).await?;
    let lacks_ext = ext.is_none() && api::has_ext_tokens(version.as_deref());
    if lacks_ext {
        rights.push(missing_ext_list());
    }
    Ok(CheckReport {
        summary: format_summary(version.as_deref(), &legacy, ext.as_deref(), lacks_ext),
        rights,
    })
}

/// The number of tokens in a store and the users on its first page.
async fn read_first_page<T: DeserializeOwned + Into<TokenRow>>(
    api: &Api,
    group: &str,
    caller: &mut Option<String>,
) -> Result<(String, SeenUsers), Error> {
    let mut pages = api.list(&format!("{group}/tokens"));
    let page = pages.next::<T>().await?.unwrap_or_default();
    let count = page.len() as u64 + pages.remaining.unwrap_or(0);
    let count = if pages.pager.is_done() || pages.remaining.is_some() {
        count.to_string()
    } else {
        format!("{count} or more")
    };
    let mut seen = SeenUsers::default();
    for row in page {
        let row: TokenRow = row.into();
        seen.add(&row.user_id);
        if row.external_id == api.own {
            *caller = Some(row.user_id);
        }
    }
    if !pages.pager.is_done() {
        seen.allow_more();
    }
    Ok((count, seen))
}

/// Example: `Rancher v2.12.1, 14 legacy tokens, 3 ext tokens`.
fn format_summary(
    version: Option<&str>,
    legacy: &str,
    ext: Option<&str>,
    lacks_ext: bool,
) -> String {
    let version = version.map_or(String::new(), |version| {
        format!(" {}", text::one_line(version, 40))
    });
    let ext = match ext {
        Some(ext) => format!("{ext} ext tokens"),
        None if lacks_ext => "the list of ext tokens is missing".to_owned(),
        None => "no ext tokens before 2.12".to_owned(),
    };
    format!("Rancher{version}, {legacy} legacy tokens, {ext}")
}

/// For a server whose version has ext tokens, but without a list of them.
fn missing_ext_list() -> Right {
    let fix = format!(
        "Rancher has ext tokens since 2.12, but {EXT}/tokens is missing: fix its extension API or enable the \
         feature that it needs; until then no token of either store is marked gone"
    );
    Right::missing("list the ext tokens", fix)
}

async fn check_rights(
    api: &Api,
    people: &People,
    settings: &Settings,
    has_ext: bool,
) -> Result<Vec<Right>, Error> {
    let advice = |resource| rule_advice(resource, "\"get\", \"list\"");
    let readable = [
        (
            "see which users are disabled or deleted",
            people.can_list_users,
            "users",
        ),
        (
            "see the mail addresses of users",
            people.can_list_attributes,
            "userattributes",
        ),
        (
            "see which login providers are disabled",
            people.disabled_providers.is_some(),
            "authconfigs",
        ),
        (
            "see how long tokens may live",
            settings.are_readable(),
            "settings",
        ),
    ];
    let mut rights = vec![Right::granted("list the tokens of all users")];
    rights.extend(readable.map(|(what, may, resource)| Right::new(what, may, advice(resource))));
    let mut may_end = api
        .is_allowed("delete", "management.cattle.io", "tokens")
        .await?;
    let mut resource = "tokens";
    if has_ext && may_end != Some(false) {
        may_end = api.is_allowed("delete", "", "*").await?;
        resource = "*";
    }
    let advice = rule_advice(resource, "\"delete\"");
    rights.extend(may_end.map(|may| Right::new("revoke tokens, for allow_revoke", may, advice)));
    Ok(rights)
}

fn rule_advice(resource: &str, verbs: &str) -> String {
    let group = if resource == "*" {
        "*"
    } else {
        "management.cattle.io"
    };
    format!(
        "add the rule apiGroups [\"{group}\"], resources [\"{resource}\"], verbs [{verbs}] to a GlobalRole of its user"
    )
}

/// The users of the tokens in a list. Rancher silently shortens lists: users without full access get only their own
/// ext tokens.
#[derive(Debug, Default)]
pub struct SeenUsers {
    first: Option<String>,
    has_several: bool,
}

impl SeenUsers {
    /// Records a token of this user.
    pub fn add(&mut self, user: &str) {
        match &self.first {
            None => self.first = Some(user.to_owned()),
            Some(first) => self.has_several |= first != user,
        }
    }

    /// Further tokens exist, which may belong to other users.
    pub fn allow_more(&mut self) {
        self.has_several = true;
    }

    /// Whether no user other than the caller was seen. If the caller is not known, it may be any user.
    fn may_be_only(&self, caller: Option<&str>) -> bool {
        let first = self.first.as_deref();
        !self.has_several && first.is_none_or(|first| caller.is_none_or(|caller| caller == first))
    }

    /// Whether the caller was seen, and no other user.
    fn is_only(&self, caller: Option<&str>) -> bool {
        !self.has_several && caller.is_some() && self.first.as_deref() == caller
    }

    /// Whether no other user could have tokens, as far as is known.
    fn has_no_others(&self, people: &People) -> bool {
        let first = self.first.as_deref().unwrap_or_default();
        people.can_list_users && !people.has_others(first)
    }
}

/// The users in both lists.
#[derive(Debug, Default)]
pub struct Visibility {
    /// In the list of `management.cattle.io`.
    pub legacy: SeenUsers,
    /// In the list of `ext.cattle.io`, if it exists.
    pub ext: Option<SeenUsers>,
    /// The user of lapsed's own token, if it was seen.
    pub caller: Option<String>,
}

impl Visibility {
    /// Fails if a list has only the tokens of the caller although other users may have some. The cluster knows
    /// whether the caller may list those; if it does not answer, the existence of other users decides.
    pub async fn ensure_complete(&self, api: &Api, people: &People) -> Result<(), Error> {
        let caller = self.caller.as_deref();
        if let Some(ext) = &self.ext
            && ext.may_be_only(caller)
        {
            // The store of ext tokens checks the same before it lists those of other users.
            let may_list = api.is_allowed("list", "", "*").await?;
            let seems_short = || self.legacy.has_several || !ext.has_no_others(people);
            require(may_list, ext.is_only(caller) && seems_short())?;
        }
        if self.legacy.first.is_some() && self.legacy.may_be_only(caller) {
            let may_list = api
                .is_allowed("list", "management.cattle.io", "tokens")
                .await?;
            let legacy = &self.legacy;
            require(
                may_list,
                legacy.is_only(caller) && !legacy.has_no_others(people),
            )?;
        }
        Ok(())
    }
}

/// Decides by the answer of the cluster, or without one by appearance.
fn require(may_list: Option<bool>, seems_short: bool) -> Result<(), Error> {
    if may_list.unwrap_or(!seems_short) {
        return Ok(());
    }
    let fix = RULE_ADVICE.to_owned();
    Err(Error::OwnTokensOnly { fix })
}
