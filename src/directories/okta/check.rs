//! What the app may do, what it lacks, and how to add it.

use reqwest::StatusCode;

use super::api::{Api, refused};
use super::user::User;
use super::{USERS, groups};
use crate::sources::{Checked, Error, Right};
use crate::web;

/// To read users.
const USERS_SCOPE: &str = "okta.users.read";

/// To read groups.
const GROUPS_SCOPE: &str = "okta.groups.read";

/// How to let the app see users: a scope alone shows none.
const ROLE: &str =
    "give the app the role Read-only Administrator on its tab Admin roles in Okta's admin console";

/// The scopes that access tokens are asked for.
pub(super) fn scopes(has_groups: bool) -> Vec<&'static str> {
    if has_groups {
        vec![USERS_SCOPE, GROUPS_SCOPE]
    } else {
        vec![USERS_SCOPE]
    }
}

/// Tries everything that a pull needs.
///
/// # Errors
/// What is in the way and how to mend it.
pub(super) async fn check(api: &Api, allowed_groups: &[String]) -> Result<Checked, Error> {
    let wanted = scopes(!allowed_groups.is_empty());
    let mut lacking = Vec::new();
    for scope in wanted {
        match api.try_scope(scope).await {
            Ok(()) => {}
            Err(error) if is_scope(&error) => lacking.push(scope),
            Err(error) => return Err(refused(error)),
        }
    }
    if !lacking.is_empty() {
        return Err(lacks_scopes(&lacking.join(" and ")));
    }
    let page = api.first::<User>(USERS).await.map_err(refused)?;
    if page.is_empty() {
        return Err(lacks_role("see any user"));
    }
    for name in allowed_groups {
        groups::id_of(api, name).await?;
    }
    let right = |what: &str| Right {
        what: what.to_owned(),
        missing: None,
    };
    let mut rights = vec![right("read users, deactivated ones as well")];
    let mut summary = "Okta: users can be read".to_owned();
    if !allowed_groups.is_empty() {
        rights.push(right("read the allowed groups and their members"));
        let count = allowed_groups.len();
        let plural = if count == 1 { "" } else { "s" };
        summary = format!("{summary}, {count} allowed group{plural} found");
    }
    Ok(Checked { summary, rights })
}

/// What the app cannot do without an administrator's role.
pub(super) fn lacks_role(what: &str) -> Error {
    Error::Rights {
        what: format!("Okta does not let the app {what}"),
        mend: ROLE.to_owned(),
    }
}

fn lacks_scopes(scopes: &str) -> Error {
    Error::Rights {
        what: format!("Okta does not grant the app {scopes}"),
        mend: "grant it on the app's tab Okta API Scopes in Okta's admin console".to_owned(),
    }
}

/// Whether a scope was not granted to the app by an administrator.
fn is_scope(error: &web::Error) -> bool {
    matches!(
        error.code(),
        Some("invalid_scope" | "consent_required" | "access_denied")
    )
}

/// A refusal that says what to do about it; `None` where nothing is to be said of it.
pub(super) fn explain(error: &web::Error) -> Option<Error> {
    let rights = |what: &str, mend: &str| {
        Some(Error::Rights {
            what: what.to_owned(),
            mend: mend.to_owned(),
        })
    };
    match (error.status()?, error.code()) {
        _ if is_scope(error) => Some(lacks_scopes(
            "all scopes it asks for: okta.users.read and, with allowed_groups, okta.groups.read",
        )),
        (_, Some("invalid_client")) => rights(
            "Okta does not know the app, or not its key (invalid_client)",
            "see that client_id is that of the service app, that the public half of private_key is one of \
             its keys and is active, that key_id is its, and that the clock of this machine is right",
        ),
        (_, Some("invalid_dpop_proof" | "use_dpop_nonce")) => rights(
            "Okta wants a proof of possession from the app, which lapsed has not",
            "take the tick away from \"Require Demonstrating Proof of Possession\" in the app's general \
             settings",
        ),
        (_, Some("unauthorized_client" | "unsupported_grant_type")) => rights(
            "Okta grants the app no access of its own",
            "make it an app of the kind API Services, with Public key / Private key as its authentication",
        ),
        (StatusCode::UNAUTHORIZED, _) => rights(
            "Okta does not take its own access token",
            "see that url is the organisation's own, and that the app is active",
        ),
        (StatusCode::FORBIDDEN, _) => rights(&error.to_string(), ROLE),
        _ => None,
    }
}
