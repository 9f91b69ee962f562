//! Requests to Okta, with an access token that is granted for an assertion signed by the app's key.

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue, LINK};
use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::directories::assertion::{self, ASSERTION_TYPE, Signer};
use crate::directories::json::Records;
use crate::upstream::Error;
use crate::upstream::http::{Client, Request};
use crate::upstream::pager::{Identified, Next, Pager};
use crate::upstream::session::{Grant, Session, SignIn, request_access_token};

/// The token endpoint of the organisation's own authorisation server.
pub(super) const TOKEN_PATH: &str = "oauth2/v1/token";

pub(super) const USERS_SCOPE: &str = "okta.users.read";

pub(super) const GROUPS_SCOPE: &str = "okta.groups.read";

/// Okta's error code for a resource that does not exist.
pub(super) const NOT_FOUND: &str = "E0000007";

/// The largest page of users (<https://developer.okta.com/docs/api/#pagination>).
const PAGE_SIZE: usize = 200;

/// Leaves credentials and their links out of users.
const BRIEF: HeaderValue = HeaderValue::from_static(
    "application/json; okta-response=\"omitCredentials,omitCredentialsLinks,omitTransitioningToStatus\"",
);

/// A scope alone shows no users.
const ROLE_ADVICE: &str =
    "give the app the role Read-only Administrator on its tab Admin roles in Okta's admin console";

/// The service app, which signs in with its key.
#[derive(Debug)]
pub(super) struct App {
    pub web: Client,
    pub client_id: String,
    pub signer: Signer,
    pub key_id: Option<String>,
    /// The `aud` of assertions: the URL of the token endpoint.
    pub audience: String,
    pub scopes: Vec<&'static str>,
    pub clock: Clock,
}

impl SignIn for App {
    async fn sign_in(&self) -> Result<Grant, Error> {
        let granted = self.request_access_token(&self.scopes.join(" ")).await;
        granted.map_err(explain_refusal)
    }
}

impl App {
    /// Requests an access token with an assertion (RFC 7523 §2.2).
    async fn request_access_token(&self, scope: &str) -> Result<Grant, Error> {
        let claims = assertion::new_claims(&self.client_id, &self.audience, self.clock.now())?;
        let key_id = self.key_id.as_deref().map(|id| ("kid", id));
        let assertion = self.signer.sign(key_id.as_slice(), &claims)?;
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", scope),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &assertion),
        ];
        Ok(request_access_token(&self.web, TOKEN_PATH, &form).await?)
    }
}

#[derive(Debug)]
pub(super) struct Api(Session<App>);

impl Api {
    pub fn new(app: App) -> Self {
        Self(Session::new(app.web.clone(), app))
    }

    /// Requests an access token for each scope alone.
    ///
    /// # Errors
    /// If the app lacks a scope. All that it lacks are named at once.
    pub async fn ensure_scopes(&self) -> Result<(), Error> {
        let app = &self.0.sign_in;
        let mut lacking = Vec::new();
        for scope in &app.scopes {
            match app.request_access_token(scope).await {
                Ok(_) => {}
                Err(error) if is_scope_refusal(&error) => lacking.push(*scope),
                Err(error) => return Err(error),
            }
        }
        if lacking.is_empty() {
            return Ok(());
        }
        Err(missing_scopes(&lacking.join(" and ")))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: Request<'_>,
    ) -> Result<(HeaderMap, T), Error> {
        let request = request.header("content-type", BRIEF);
        self.0.send(request, Request::json_with_headers).await
    }

    pub async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        Ok(self.send(self.0.web.get(path)).await?.1)
    }

    /// The first item of a list, if any.
    pub async fn fetch_first<T: DeserializeOwned>(&self, path: &str) -> Result<Records<T>, Error> {
        Ok(self.send(self.0.web.get(path).query("limit", "1")).await?.1)
    }

    /// Like [`Api::fetch`] for a path that holds an address; messages show `shown` instead.
    pub async fn fetch_shown_as<T: DeserializeOwned>(
        &self,
        path: &str,
        shown: &str,
    ) -> Result<T, Error> {
        Ok(self.send(self.0.web.get(path).shown_as(shown)).await?.1)
    }

    /// Passes on the pages of a list until `each` returns false. Returns whether the list was read to its end,
    /// which it is not if Okta does not support the query.
    ///
    /// # Errors
    /// When a page cannot be read, or it is unclear whether it is the last.
    pub async fn for_each_page<T: DeserializeOwned + Identified>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        mut each: impl FnMut(Records<T>) -> bool + Send,
    ) -> Result<bool, Error> {
        let invalid_response = |reason: &str| Error::content(format!("GET {path}"), reason);
        let (web, limit) = (&self.0.web, PAGE_SIZE.to_string());
        let mut pager = Pager::<String>::default();
        loop {
            let request = match pager.next() {
                Next::First => web.get(path).query("limit", &limit).queries(query),
                Next::At(link) => web.follow(link)?,
                Next::End => return Ok(true),
            };
            let (headers, page): (_, Records<T>) = match self.send(request).await {
                // A filter or a search that was accepted once is not refused on a later page.
                Err(error)
                    if pager.is_first() && !query.is_empty() && is_query_unsupported(&error) =>
                {
                    return Ok(false);
                }
                response => response?,
            };
            let next = next_link(&headers).map_err(|Malformed| {
                invalid_response("its Link header, which names the next page, cannot be parsed")
            })?;
            // Okta links at least to the page itself.
            if page.count() >= PAGE_SIZE && !headers.contains_key(LINK) {
                return Err(invalid_response(
                    "a full page came without a Link header, which names the next page; \
                     configure the proxy in between to pass it on",
                ));
            }
            let content = pager.content(&page.items);
            let advanced = pager.advance(content, next);
            advanced.map_err(|endless| invalid_response(&endless.to_string()))?;
            if !each(page) {
                return Ok(false);
            }
        }
    }
}

/// Turns the 404 of Okta itself, and not of a proxy, into `None`.
pub(super) fn none_if_not_found<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Err(error) if is_not_found(&error) => Ok(None),
        found => found.map(Some),
    }
}

pub(super) fn is_not_found(error: &Error) -> bool {
    error.status() == Some(StatusCode::NOT_FOUND) && error.code() == Some(NOT_FOUND)
}

/// Whether the query was refused (`E0000031` is an invalid filter), and not the app.
pub(super) fn is_query_unsupported(error: &Error) -> bool {
    let is_okta = error.code().is_none_or(|code| code.starts_with('E'));
    error.status() == Some(StatusCode::BAD_REQUEST) && is_okta
}

fn is_scope_refusal(error: &Error) -> bool {
    matches!(
        error.code(),
        Some("invalid_scope" | "consent_required" | "access_denied")
    )
}

fn missing_scopes(scopes: &str) -> Error {
    Error::rights(
        format!("Okta does not grant the app {scopes}"),
        "grant it on the app's tab Okta API Scopes in Okta's admin console",
    )
}

pub(super) fn missing_role(what: &str) -> Error {
    Error::rights(format!("Okta does not let the app {what}"), ROLE_ADVICE)
}

pub(super) fn explain_refusal(error: Error) -> Error {
    let (what, fix) = match (error.status(), error.code()) {
        (None, _) => return error,
        _ if is_scope_refusal(&error) => {
            return missing_scopes(
                "all scopes it asks for: okta.users.read and, with allowed_groups, okta.groups.read",
            );
        }
        (_, Some("invalid_client")) => (
            "Okta does not know the app, or not its key (invalid_client)",
            "check that client_id is that of the service app, that the public half of private_key is one of \
             its active keys, that key_id belongs to it, and that this machine's clock is right",
        ),
        (_, Some("invalid_dpop_proof" | "use_dpop_nonce")) => (
            "Okta requires a proof of possession from the app, which lapsed does not support",
            "clear \"Require Demonstrating Proof of Possession\" in the app's general settings",
        ),
        (_, Some("unauthorized_client" | "unsupported_grant_type")) => (
            "Okta grants the app no access of its own",
            "use an app of the type API Services, with Public key / Private key as its authentication",
        ),
        (Some(StatusCode::UNAUTHORIZED), _) => (
            "Okta rejects its own access token",
            "check that url is the organisation's own, and that the app is active",
        ),
        (Some(StatusCode::FORBIDDEN), _) => return Error::rights(error.to_string(), ROLE_ADVICE),
        _ => return error,
    };
    Error::rights(what, fix)
}

/// A header that cannot be parsed. It may have named a next page.
#[derive(Debug, PartialEq, Eq)]
struct Malformed;

/// The target of the link with the relation `next` (RFC 8288 §3). There may be several headers, each with
/// several links.
fn next_link(headers: &HeaderMap) -> Result<Option<String>, Malformed> {
    let mut found = None;
    for value in headers.get_all(LINK) {
        let mut rest = value.to_str().map_err(|_| Malformed)?;
        while let Some((link, after)) = parse_link(rest)? {
            if link.is_next && found.is_none() {
                found = Some(link.target.to_owned());
            }
            rest = after;
        }
    }
    Ok(found)
}

struct Link<'a> {
    target: &'a str,
    is_next: bool,
}

/// The first link of a text, and the rest of the text.
fn parse_link(text: &str) -> Result<Option<(Link<'_>, &str)>, Malformed> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    if text.is_empty() {
        return Ok(None);
    }
    // The target may contain commas and semicolons.
    let target = text.strip_prefix('<').and_then(|text| text.split_once('>'));
    let (target, after) = target.ok_or(Malformed)?;
    let (mut parameters, after) = split_unquoted(after, ',')?;
    let mut is_next = false;
    while !parameters.is_empty() {
        let (parameter, others) = split_unquoted(parameters, ';')?;
        is_next |= is_rel_next(parameter);
        parameters = others;
    }
    Ok(Some((Link { target, is_next }, after)))
}

/// `rel="next"`; the value may list several relations.
fn is_rel_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
    let is_next = |relation: &str| relation.eq_ignore_ascii_case("next");
    name.trim().eq_ignore_ascii_case("rel") && relations.any(is_next)
}

/// Splits at the first `mark` outside quotes.
fn split_unquoted(text: &str, mark: char) -> Result<(&str, &str), Malformed> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            c if c == mark && !is_quoted => return Ok((&text[..at], &text[at + c.len_utf8()..])),
            _ => {}
        }
    }
    if is_quoted {
        return Err(Malformed);
    }
    Ok((text, ""))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TARGET: &str = "https://acme.okta.com/api/v1/users?after=1,2;3&limit=200";

    /// One header per line; `<>` is replaced by the target.
    fn next_of(lines: &str) -> Result<Option<String>, Malformed> {
        let mut headers = HeaderMap::new();
        for line in lines.lines() {
            let value = line.replace("<>", &format!("<{TARGET}>"));
            headers.append(LINK, HeaderValue::from_str(&value).unwrap());
        }
        next_link(&headers)
    }

    #[rstest]
    #[case::alone("<>; rel=\"next\"")]
    #[case::after_another("<https://a.example/>; rel=\"self\"\n<>; rel=\"next\"")]
    #[case::before_another("<>; rel=\"next\"\n<https://a.example/>; rel=\"self\"")]
    #[case::joined("<https://a.example/>; rel=\"self\", <>; rel=\"next\"")]
    #[case::joined_tightly("<https://a.example/>;rel=self,<>;rel=next,<https://b.example/>")]
    #[case::bare_word("<> ; rel = next")]
    #[case::several_words("<>; rel=\"Last NEXT\"")]
    #[case::other_parameters("<>; title=\"a, \\\"b\\\"; rel=self\"; REL=\"next\"; type=x")]
    fn the_next_page_is_found_in_every_valid_form(#[case] lines: &str) {
        assert_eq!(next_of(lines), Ok(Some(TARGET.to_owned())));
    }

    #[rstest]
    #[case::none("")]
    #[case::only_the_same("<>; rel=\"self\"")]
    #[case::another_word("<>; rel=\"nextish\"")]
    #[case::another_parameter("<>; rev=\"next\"")]
    #[case::in_a_title("<>; title=\"rel=next\"")]
    #[case::no_parameter("<>")]
    #[case::empty(" , ")]
    fn nothing_else_is_the_next_page(#[case] lines: &str) {
        assert_eq!(next_of(lines), Ok(None));
    }

    #[rstest]
    #[case::bare("https://acme.okta.com/; rel=\"next\"")]
    #[case::open("<https://acme.okta.com/; rel=\"next\"")]
    #[case::open_quotes("<>; rel=\"next")]
    #[case::after_a_valid_one("<>; rel=\"self\"\nnext")]
    fn an_unreadable_header_is_not_the_end(#[case] lines: &str) {
        assert_eq!(next_of(lines), Err(Malformed));
    }
}
