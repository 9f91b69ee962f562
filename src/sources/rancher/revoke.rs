//! The end of a token.

use std::time::Duration;

use reqwest::StatusCode;

use super::api::{Api, EXT, EXT_PREFIX, MANAGEMENT, Standing, is_name, status};
use crate::sources::Error;

/// A token that Rancher is deleting is looked for so often before it counts as there still.
const LOOKS: u32 = 5;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// Where a token is in the API.
pub fn path(external_id: &str) -> Option<String> {
    let (api, name) = match external_id.strip_prefix(EXT_PREFIX) {
        Some(name) => (EXT, name),
        None => (MANAGEMENT, external_id),
    };
    is_name(name).then(|| format!("{api}/tokens/{name}"))
}

/// Deletes a token and looks whether it is gone.
pub async fn revoke(api: &Api, external_id: &str) -> Result<(), Error> {
    if external_id == api.own {
        return Err(Error::OwnToken);
    }
    let unknown = || Error::NoSuchToken(external_id.to_owned());
    let path = path(external_id).ok_or_else(unknown)?;
    match api.delete(&path).await {
        Ok(()) => ended(api, &path).await,
        Err(error) if status(&error) == Some(StatusCode::NOT_FOUND) => Err(unknown()),
        Err(error) if is_refusal(&error) => Err(error),
        // It may have been deleted all the same; only a look that finds it gone says more than the error.
        Err(error) => ended(api, &path).await.map_err(|_| error),
    }
}

/// Whether Rancher has surely not done what it was asked.
fn is_refusal(error: &Error) -> bool {
    let refusals = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
    error.wait().is_some() || status(error).is_some_and(|status| refusals.contains(&status))
}

/// Makes sure that a token is there no more.
async fn ended(api: &Api, path: &str) -> Result<(), Error> {
    for _ in 0..LOOKS {
        match api.stands(path).await.map_err(Error::unseen)? {
            Standing::Gone => return Ok(()),
            Standing::There => return Err(Error::StillThere),
            Standing::Going => tokio::time::sleep(PAUSE).await,
        }
    }
    Err(Error::StillThere)
}
