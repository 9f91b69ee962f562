//! The files that pages load, embedded in the program. Their names contain a hash of their content, so that browsers
//! may keep them for ever.

use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::error::PageError;
use super::headers::OwnHeaders;

const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

struct Asset {
    name: &'static str,
    /// With the hash.
    file: String,
    etag: String,
    kind: &'static str,
    bytes: &'static [u8],
}

static ASSETS: LazyLock<[Asset; 4]> = LazyLock::new(|| {
    [
        asset(
            "portal.css",
            "text/css; charset=utf-8",
            include_bytes!("../../../assets/portal.css"),
        ),
        asset(
            "portal.js",
            "text/javascript; charset=utf-8",
            include_bytes!("../../../assets/portal.js"),
        ),
        asset(
            "icons.svg",
            "image/svg+xml",
            include_bytes!("../../../assets/icons.svg"),
        ),
        asset(
            "favicon.svg",
            "image/svg+xml",
            include_bytes!("../../../assets/favicon.svg"),
        ),
    ]
});

fn asset(name: &'static str, kind: &'static str, bytes: &'static [u8]) -> Asset {
    let digest = Sha256::digest(bytes);
    let hash: String = digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    Asset {
        name,
        file: format!("{stem}.{hash}.{extension}"),
        etag: format!("\"{hash}\""),
        kind,
        bytes,
    }
}

/// The path of an asset; `None` for one that does not exist.
pub fn path(name: &str) -> Option<String> {
    let asset = ASSETS.iter().find(|asset| asset.name == name)?;
    Some(format!("/assets/{}", asset.file))
}

pub async fn serve(
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, PageError> {
    let asset = ASSETS.iter().find(|asset| asset.file == file);
    let asset = asset.ok_or(PageError::NotFound)?;
    let is_known = headers
        .get(IF_NONE_MATCH)
        .is_some_and(|tags| tags == asset.etag.as_str());
    let mut response = Response::new(Body::empty());
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *response.body_mut() = asset.bytes.into();
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, IMMUTABLE);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CORP, HeaderValue::from_static("same-origin"));
    if let Ok(tag) = HeaderValue::from_str(&asset.etag) {
        headers.insert(ETAG, tag);
    }
    response.extensions_mut().insert(OwnHeaders);
    Ok(response)
}
