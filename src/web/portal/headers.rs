//! The headers of pages.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Marks a response with the headers of a page or an asset, and the body that it should have.
#[derive(Debug, Clone, Copy)]
pub struct OwnHeaders;

const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                   connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; \
                   require-trusted-types-for 'script'; trusted-types 'none'; report-uri /csp-report; report-to csp";
const PERMISSIONS: &str = "accelerometer=(), camera=(), clipboard-read=(), clipboard-write=(self), display-capture=(), \
                           geolocation=(), gyroscope=(), hid=(), microphone=(), midi=(), payment=(), \
                           publickey-credentials-get=(), serial=(), usb=()";
const HEADERS: [(HeaderName, HeaderValue); 9] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP)),
    (
        HeaderName::from_static("reporting-endpoints"),
        HeaderValue::from_static("csp=\"/csp-report\""),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static(PERMISSIONS),
    ),
    // All pages depend on who is signed in, the open ones on the language.
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (VARY, HeaderValue::from_static("Cookie, Accept-Language")),
];

pub fn add(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, value);
    }
}
