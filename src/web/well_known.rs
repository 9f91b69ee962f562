//! What clients can find out by themselves: RFC 8414 and RFC 9728.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::json::Json;
use super::openapi::Problems;
use super::state::{AppState, RequestContext, Web};

/// The scopes of the API itself.
pub const OWN_SCOPES: [&str; 10] = [
    "token:read",
    "token:write",
    "token:introspect",
    "token:introspect-reason",
    "token:regenerate-self",
    "user:read",
    "user:write",
    "finding:read",
    "finding:write",
    "audit:read",
];

/// Metadata of the authorization server (RFC 8414).
#[derive(Debug, Serialize, ToSchema)]
pub struct AuthorizationServer {
    issuer: String,
    token_endpoint: String,
    introspection_endpoint: String,
    revocation_endpoint: String,
    /// Empty: nobody signs in by redirects.
    response_types_supported: Vec<String>,
    grant_types_supported: Vec<&'static str>,
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    scopes_supported: Vec<String>,
}

/// Metadata of the API (RFC 9728).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProtectedResource {
    resource: String,
    resource_name: &'static str,
    authorization_servers: Vec<String>,
    bearer_methods_supported: Vec<&'static str>,
    scopes_supported: Vec<String>,
}

/// Where tokens are exchanged, introspected and revoked.
#[utoipa::path(
    get,
    path = "/.well-known/oauth-authorization-server",
    tag = "discovery",
    security(()),
    responses((status = 200, description = "The metadata", body = AuthorizationServer), Problems)
)]
pub async fn authorization_server(
    State(web): State<AppState>,
    context: RequestContext,
    headers: HeaderMap,
) -> Json<AuthorizationServer> {
    let base = base_url(&web, &context, &headers);
    Json(AuthorizationServer {
        token_endpoint: format!("{base}/oauth2/token"),
        introspection_endpoint: format!("{base}/oauth2/introspect"),
        revocation_endpoint: format!("{base}/oauth2/revoke"),
        issuer: base,
        response_types_supported: Vec::new(),
        grant_types_supported: vec!["client_credentials", "refresh_token"],
        token_endpoint_auth_methods_supported: vec!["client_secret_basic", "client_secret_post"],
        introspection_endpoint_auth_methods_supported: vec!["client_secret_basic", "Bearer"],
        revocation_endpoint_auth_methods_supported: vec!["none"],
        scopes_supported: scopes(&web),
    })
}

/// How the API is used.
#[utoipa::path(
    get,
    path = "/.well-known/oauth-protected-resource",
    tag = "discovery",
    security(()),
    responses((status = 200, description = "The metadata", body = ProtectedResource), Problems)
)]
pub async fn protected_resource(
    State(web): State<AppState>,
    context: RequestContext,
    headers: HeaderMap,
) -> Json<ProtectedResource> {
    let base = base_url(&web, &context, &headers);
    Json(ProtectedResource {
        resource_name: "lapsed",
        authorization_servers: vec![base.clone()],
        bearer_methods_supported: vec!["header"],
        scopes_supported: scopes(&web),
        resource: base,
    })
}

fn scopes(web: &Web) -> Vec<String> {
    let own = OWN_SCOPES.into_iter().map(str::to_owned);
    let offered = web.service.terms().scopes.iter();
    own.chain(offered.map(|scope| scope.name.clone())).collect()
}

/// Without `[web] base_url`: where this caller reached lapsed.
pub fn base_url(web: &Web, context: &RequestContext, headers: &HeaderMap) -> String {
    if let Some(url) = &web.settings.base_url {
        return url.as_str().trim_end_matches('/').to_owned();
    }
    let scheme = if context.has_tls() { "https" } else { "http" };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let is_host = |host: &&str| {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || ".-:[]".contains(letter);
        !host.is_empty() && host.chars().all(is_plain)
    };
    let host = host.filter(is_host).unwrap_or("localhost");
    format!("{scheme}://{host}")
}
