//! The token that a call is about to change.

use crate::domain::TokenId;
use crate::domain::service::{CredentialState, Operation, ProblemKind};
use crate::service::Error;
use crate::service::pages::TokenItem;
use crate::web::caller::Caller;
use crate::web::problem::{ApiError, ApiResult};
use crate::web::state::Web;

/// The version of a token of the service that the caller is about to change.
pub async fn find_version(
    web: &Web,
    caller: &Caller,
    id: TokenId,
    operation: Operation,
) -> ApiResult<i64> {
    let actor = caller.actor();
    let found = web.service.find_for(&actor, id, operation).await;
    if let Err(Error::Refused(problem)) = &found
        && problem.kind == ProblemKind::Conflict
    {
        let read = web.service.find_for(&actor, id, Operation::ReadToken).await;
        let url = read.ok().and_then(|item| manage_url(web, &item));
        return Err(ApiError::from(problem.clone()).manage_url(url));
    }
    let credential = found?.credential.ok_or_else(ApiError::not_found)?;
    if credential.state == CredentialState::Revoked {
        return Err(ApiError::not_found());
    }
    Ok(credential.version)
}

/// Where a token of another source is managed.
pub fn manage_url(web: &Web, item: &TokenItem) -> Option<String> {
    let token = &item.token;
    match item.credential {
        Some(_) => None,
        None => web.settings.pages.find(&token.source, &token.external_id),
    }
}
