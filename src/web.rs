//! The HTTP API of the token service, and the web portal.

mod address;
mod answer;
mod api;
mod body;
mod caller;
mod counts;
mod credential;
mod failures;
mod fields;
mod json;
mod leaks;
mod oauth2;
mod openapi;
mod pages;
mod portal;
mod problem;
mod routes;
mod state;
mod verify;
mod well_known;

use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;

use crate::language::Languages;
use crate::listener::{Listener, Share};

pub use address::ClientAddress;
pub use portal::link_mail::{LinkMail, LinkMailer, sign_in_link};
pub use portal::templates::Error as TemplateError;
use portal::templates::PageTemplates;
pub use state::{AppState, Mailer, Settings, SourcePages, Web};

/// Connections served at once.
pub const MAX_CONNECTIONS: usize = 1024;
/// Of one client that is no trusted proxy.
const MAX_CONNECTIONS_OF_CLIENT: usize = 64;

/// Whether the pages that the operator overrides can be parsed.
///
/// # Errors
/// Names the first that cannot.
pub fn check_templates(folder: Option<&Path>) -> Result<(), TemplateError> {
    let languages = Arc::new(Languages::load(folder)?);
    PageTemplates::load(folder, &languages).map(drop)
}

/// Serves until `stopping` is cancelled, then completes the responses in progress.
pub async fn serve(
    listener: Listener,
    web: AppState,
    stopping: CancellationToken,
) -> io::Result<()> {
    let routes = TowerToHyperService::new(routes::router(&web));
    let share = Share {
        max: MAX_CONNECTIONS_OF_CLIENT,
        exempt: web.settings.trusted_proxies.clone(),
    };
    let answer = move |peer, request| answer::answer(web.clone(), routes.clone(), peer, request);
    listener.serve_shared(Some(share), answer, stopping).await
}

#[cfg(test)]
mod tests;
