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
        Err(error) if status(&error) == Some(StatusCode::NOT_FOUND) => return Err(unknown()),
        deleted => deleted?,
    }
    for _ in 0..LOOKS {
        match api.stands(&path).await? {
            Standing::Gone => return Ok(()),
            Standing::There => return Err(Error::StillThere),
            Standing::Going => tokio::time::sleep(PAUSE).await,
        }
    }
    Err(Error::StillThere)
}
