//! The cookies of the portal. Their prefix makes browsers refuse any that another host or an unencrypted page set.

use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};

/// The session.
pub const SESSION: &str = "__Host-lapsed";
/// Of a browser that has asked for a link.
pub const BROWSER: &str = "__Host-lapsed-sign-in";
/// Light or dark.
pub const THEME: &str = "__Host-lapsed-theme";

/// The value of a cookie; `None` if it is sent more than once.
pub fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    let mut values = pairs.filter_map(|pair| {
        let (known, value) = pair.trim().split_once('=')?;
        (known == name).then_some(value)
    });
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// Sets a cookie for as long as the browser runs, or for so many seconds.
pub fn set(headers: &mut HeaderMap, name: &str, value: &str, seconds: Option<i64>) {
    let age = seconds.map_or(String::new(), |seconds| format!("; Max-Age={seconds}"));
    let cookie = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}");
    if let Ok(mut cookie) = HeaderValue::try_from(cookie) {
        cookie.set_sensitive(true);
        headers.append(SET_COOKIE, cookie);
    }
}

pub fn remove(headers: &mut HeaderMap, name: &str) {
    set(headers, name, "", Some(0));
}
