//! The check of the source, and the check that a listing is complete.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::api::{self, Api, EXT, MANAGEMENT, RULE_ADVICE, Settings};
use super::people::People;
use super::responses::{Ext, Legacy};
use super::token::TokenRow;
use crate::domain::Address;
use crate::sources::{CheckReport, Error, Right};
use crate::text;
use crate::upstream::pager::Identified;

const MANAGEMENT_GROUP: &str = "management.cattle.io";

/// Requests everything that a listing needs, but only the first page of the lists of tokens.
pub async fn check(api: &Api, users: &BTreeMap<String, Address>) -> Result<CheckReport, Error> {
    let (legacy_count, legacy) = read_first_page::<Legacy>(api, MANAGEMENT).await?;
    let ext = read_first_page::<Ext>(api, EXT).await;
    let (ext_count, ext) = api.none_if_no_ext_tokens(ext).await?.unzip();
    let people = People::fetch(api, users.clone()).await?;
    ensure_complete(api, &people, &legacy, ext.as_ref()).await?;
    let settings = Settings::fetch(api).await?;
    let version = api.version().await;
    let mut rights = check_rights(api, &people, &settings, ext.is_some()).await?;
    let lacks_ext = ext.is_none() && api::has_ext_tokens(version.as_deref());
    if lacks_ext {
        let fix = format!(
            "Rancher has ext tokens since 2.12, but {EXT}/tokens is missing: fix its extension API or enable the \
             feature that it needs; until then no token of either store is marked gone"
        );
        rights.push(Right::missing("list the ext tokens", fix));
    }
    let version = version.map_or(String::new(), |version| {
        format!(" {}", text::one_line(&version, 40))
    });
    let ext = match ext_count {
        Some(count) => format!("{count} ext tokens"),
        None if lacks_ext => "the list of ext tokens is missing".to_owned(),
        None => "no ext tokens before 2.12".to_owned(),
    };
    Ok(CheckReport {
        summary: format!("Rancher{version}, {legacy_count} legacy tokens, {ext}"),
        rights,
        notes: legacy.outdated_dates_note().into_iter().collect(),
    })
}

/// The number of tokens in a store and the users on its first page.
async fn read_first_page<T: DeserializeOwned + Identified + Into<TokenRow>>(
    api: &Api,
    group: &str,
) -> Result<(String, SeenTokens), Error> {
    let mut pages = api.list(&format!("{group}/tokens"));
    let page = pages.next::<T>().await?.unwrap_or_default();
    let count = page.len() as u64 + pages.remaining.unwrap_or(0);
    let count = if pages.pager.is_done() || pages.remaining.is_some() {
        count.to_string()
    } else {
        format!("{count} or more")
    };
    let mut seen = SeenTokens {
        // Further tokens may belong to other users.
        has_several: !pages.pager.is_done(),
        ..SeenTokens::default()
    };
    for row in page {
        seen.add(&row.into(), api);
    }
    Ok((count, seen))
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
    let mut may_end = api.is_allowed("delete", MANAGEMENT_GROUP, "tokens").await?;
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
        MANAGEMENT_GROUP
    };
    format!(
        "add the rule apiGroups [\"{group}\"], resources [\"{resource}\"], verbs [{verbs}] to a GlobalRole of its user"
    )
}

/// The users of the tokens in a list, and how many have an outdated `expiresAt`. Rancher silently shortens lists:
/// users without full access get only their own ext tokens.
#[derive(Debug, Default)]
pub struct SeenTokens {
    first: Option<String>,
    has_several: bool,
    /// The user of lapsed's own token, if the list has it.
    caller: Option<String>,
    pub outdated_dates: u64,
}

impl SeenTokens {
    pub fn add(&mut self, row: &TokenRow, api: &Api) {
        self.outdated_dates += u64::from(row.has_outdated_date());
        let user = row.user_id();
        match &self.first {
            None => self.first = Some(user.to_owned()),
            Some(first) => self.has_several |= first != user,
        }
        if row.external_id == api.own_id {
            self.caller = Some(user.to_owned());
        }
    }

    pub fn outdated_dates_note(&self) -> Option<String> {
        let count = self.outdated_dates;
        (count > 0).then(|| {
            format!(
                "legacy tokens with an outdated expiresAt: {count}; Rancher ends them at creationTimestamp + ttl, which \
                 counts for lapsed, too"
            )
        })
    }

    /// Fails if these are only tokens of the caller although other users may have some. The cluster knows whether the
    /// caller may list those; if it does not answer, `may_lack_others` decides.
    async fn ensure_complete(
        &self,
        api: &Api,
        caller: Option<&str>,
        group: &str,
        resource: &str,
        may_lack_others: bool,
    ) -> Result<(), Error> {
        let first = self.first.as_deref();
        if self.has_several || (first.is_some() && caller.is_some() && first != caller) {
            return Ok(());
        }
        let is_callers = caller.is_some() && first == caller;
        let may_list = api.is_allowed("list", group, resource).await?;
        if may_list.unwrap_or(!is_callers || !may_lack_others) {
            return Ok(());
        }
        let fix = RULE_ADVICE.to_owned();
        Err(Error::OwnTokensOnly { fix })
    }

    /// Whether other users could have tokens, as far as is known.
    fn may_lack_others(&self, people: &People) -> bool {
        !people.can_list_users || people.has_others(self.first.as_deref().unwrap_or_default())
    }
}

/// Fails if a list evidently lacks the tokens of other users. `ext` is `None` if there is no such list.
pub async fn ensure_complete(
    api: &Api,
    people: &People,
    legacy: &SeenTokens,
    ext: Option<&SeenTokens>,
) -> Result<(), Error> {
    let caller = ext
        .and_then(|ext| ext.caller.as_deref())
        .or(legacy.caller.as_deref());
    if let Some(ext) = ext {
        let others = legacy.has_several || ext.may_lack_others(people);
        // The store of ext tokens checks the same before it lists those of other users.
        ext.ensure_complete(api, caller, "", "*", others).await?;
    }
    if legacy.first.is_some() {
        let others = legacy.may_lack_others(people);
        legacy
            .ensure_complete(api, caller, MANAGEMENT_GROUP, "tokens", others)
            .await?;
    }
    Ok(())
}
