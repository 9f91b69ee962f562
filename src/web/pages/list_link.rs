//! Links of lists: to a list with other filters, and to its next page.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::web::portal::error::{PageError, PageResult};

/// Where a list continues, as text for its address.
pub fn encode(position: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(position).unwrap_or_default())
}

/// # Errors
/// If somebody has changed the address.
pub fn decode<P: DeserializeOwned>(cursor: &str) -> PageResult<Option<P>> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let position = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    position.map(Some).ok_or(PageError::BadRequest)
}

/// The address of a list with the filters that are filled in.
pub fn link(path: &str, query: &impl Serialize) -> String {
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) {
        let filled = fields
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_str()?)));
        pairs.extend_pairs(filled.filter(|(_, value)| !value.is_empty()));
    }
    match pairs.finish().as_str() {
        "" => path.to_owned(),
        pairs => format!("{path}?{pairs}"),
    }
}
