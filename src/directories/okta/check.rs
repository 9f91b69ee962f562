//! Checks what the app may read, and says what it lacks.

use reqwest::StatusCode;

use super::session::{Session, explain_refusal};
use super::user::User;
use super::{USERS, groups};
use crate::sources::{CheckReport, Error, Right};
use crate::upstream::http;

const USERS_SCOPE: &str = "okta.users.read";

const GROUPS_SCOPE: &str = "okta.groups.read";

/// A scope alone shows no users.
const ROLE_ADVICE: &str =
    "give the app the role Read-only Administrator on its tab Admin roles in Okta's admin console";

/// The scopes of access tokens.
pub(super) fn scopes(has_groups: bool) -> Vec<&'static str> {
    if has_groups {
        vec![USERS_SCOPE, GROUPS_SCOPE]
    } else {
        vec![USERS_SCOPE]
    }
}

/// Tries everything that a listing needs.
///
/// # Errors
/// What is in the way, and how to fix it.
pub(super) async fn check(
    session: &Session,
    allowed_groups: &[String],
) -> Result<CheckReport, Error> {
    let wanted = scopes(!allowed_groups.is_empty());
    let mut lacking = Vec::new();
    for scope in wanted {
        match session.try_scope(scope).await {
            Ok(()) => {}
            Err(error) if is_scope_refusal(&error) => lacking.push(scope),
            Err(error) => return Err(explain_refusal(error)),
        }
    }
    if !lacking.is_empty() {
        return Err(missing_scopes(&lacking.join(" and ")));
    }
    let page = session
        .fetch_first::<User>(USERS)
        .await
        .map_err(explain_refusal)?;
    if page.is_empty() {
        return Err(missing_role("see any user"));
    }
    for name in allowed_groups {
        groups::find_group(session, name).await?;
    }
    let right = |what: &str| Right {
        what: what.to_owned(),
        missing: None,
    };
    let mut rights = vec![right("read users, including deactivated ones")];
    let mut summary = "Okta: users can be read".to_owned();
    if !allowed_groups.is_empty() {
        rights.push(right("read the allowed groups and their members"));
        let count = allowed_groups.len();
        let plural = if count == 1 { "" } else { "s" };
        summary = format!("{summary}, {count} allowed group{plural} found");
    }
    Ok(CheckReport { summary, rights })
}

pub(super) fn missing_role(what: &str) -> Error {
    Error::Rights {
        what: format!("Okta does not let the app {what}"),
        fix: ROLE_ADVICE.to_owned(),
    }
}

fn missing_scopes(scopes: &str) -> Error {
    Error::Rights {
        what: format!("Okta does not grant the app {scopes}"),
        fix: "grant it on the app's tab Okta API Scopes in Okta's admin console".to_owned(),
    }
}

/// Whether the app lacks a scope.
fn is_scope_refusal(error: &http::Error) -> bool {
    matches!(
        error.code(),
        Some("invalid_scope" | "consent_required" | "access_denied")
    )
}

/// Advice for a refusal; `None` if there is none.
pub(super) fn refusal_advice(error: &http::Error) -> Option<Error> {
    let rights = |what: &str, fix: &str| {
        Some(Error::Rights {
            what: what.to_owned(),
            fix: fix.to_owned(),
        })
    };
    match (error.status()?, error.code()) {
        _ if is_scope_refusal(error) => Some(missing_scopes(
            "all scopes it asks for: okta.users.read and, with allowed_groups, okta.groups.read",
        )),
        (_, Some("invalid_client")) => rights(
            "Okta does not know the app, or not its key (invalid_client)",
            "check that client_id is that of the service app, that the public half of private_key is one of \
             its active keys, that key_id belongs to it, and that this machine's clock is right",
        ),
        (_, Some("invalid_dpop_proof" | "use_dpop_nonce")) => rights(
            "Okta requires a proof of possession from the app, which lapsed does not support",
            "clear \"Require Demonstrating Proof of Possession\" in the app's general settings",
        ),
        (_, Some("unauthorized_client" | "unsupported_grant_type")) => rights(
            "Okta grants the app no access of its own",
            "use an app of the type API Services, with Public key / Private key as its authentication",
        ),
        (StatusCode::UNAUTHORIZED, _) => rights(
            "Okta rejects its own access token",
            "check that url is the organisation's own, and that the app is active",
        ),
        (StatusCode::FORBIDDEN, _) => rights(&error.to_string(), ROLE_ADVICE),
        _ => None,
    }
}
