//! `/sign-in`: by a link, which is mailed or printed at the command line.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::site::see_other;
use crate::domain::Address;
use crate::domain::service::Actor;
use crate::language::phrase;
use crate::service::sign_in::{LINK_TTL, LinkState, OneTimeText, SignIn};
use crate::web::portal::cookies;
use crate::web::portal::error::{PageError, PageResult};
use crate::web::portal::form::Form;
use crate::web::portal::frame::{View, page, page_with_status};
use crate::web::portal::link_mail::{LinkMail, sign_in_link};
use crate::web::portal::session::{Visitor, safe_next};
use crate::web::state::{AppState, RequestContext};

#[derive(Debug, Deserialize)]
pub struct NextQuery {
    #[serde(default)]
    next: String,
}

#[derive(Debug, Serialize)]
struct SignInView {
    next: String,
    /// Whether links are mailed.
    by_mail: bool,
    /// The visitor is signed in, but not recently.
    again: bool,
    is_invalid: bool,
    address: String,
}

impl View for SignInView {
    const TEMPLATE: &'static str = "sign_in";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "sign-in-title")
    }
}

fn form_view(web: &AppState, visitor: &Visitor, next: &str) -> SignInView {
    SignInView {
        next: safe_next(next).to_owned(),
        by_mail: web.settings.mailer.is_some(),
        again: visitor.access.is_some(),
        is_invalid: false,
        address: visitor
            .access
            .as_ref()
            .map_or(String::new(), |access| access.person.key.clone()),
    }
}

pub async fn show(
    State(web): State<AppState>,
    visitor: Visitor,
    Query(query): Query<NextQuery>,
) -> PageResult {
    page(&web, &visitor, &form_view(&web, &visitor, &query.next)).await
}

/// Mails a link. The answer is the same for everybody and does not wait: what it takes to find the person, to write
/// the link and to send the mail goes on after it.
pub async fn request(
    State(web): State<AppState>,
    visitor: Visitor,
    context: RequestContext,
    form: Form,
) -> PageResult {
    let view = form_view(&web, &visitor, form.text("next"));
    if !view.by_mail {
        return Err(PageError::NotFound);
    }
    let Ok(address) = form.text("address").parse::<Address>() else {
        let view = SignInView {
            is_invalid: true,
            address: form.text("address").to_owned(),
            ..view
        };
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return page_with_status(&web, &visitor, status, &view).await;
    };
    if web.sign_ins.take(context.client()).is_err() {
        return Err(PageError::Status(StatusCode::TOO_MANY_REQUESTS));
    }
    let browser = OneTimeText::generate();
    let mut response = see_other("/sign-in/sent");
    let seconds = LINK_TTL.num_seconds();
    let headers = response.headers_mut();
    cookies::set(headers, cookies::BROWSER, browser.expose(), Some(seconds));
    let work = send_link(web, address, browser, view.next);
    drop(tokio::spawn(work));
    Ok(response)
}

async fn send_link(web: AppState, address: Address, browser: OneTimeText, next: String) {
    let (Some(mailer), Some(portal)) = (&web.settings.mailer, &web.settings.portal_url) else {
        return;
    };
    let made = web.service.request_sign_in_link(&address, &browser).await;
    let mail = match made {
        Ok(Some(mail)) => mail,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%error, "a sign-in link cannot be made");
            return;
        }
    };
    let next = Some(next.as_str()).filter(|next| *next != "/");
    let mail = LinkMail {
        link: sign_in_link(portal, &mail.text, next).into(),
        to: mail.to,
        now: web.service.now(),
        ttl: LINK_TTL,
        preference: mail.preference,
    };
    if let Err(error) = mailer.send(mail).await {
        tracing::warn!(%error, "a sign-in link was not sent");
    }
}

#[derive(Debug, Serialize)]
struct SentView {
    /// For a browser that opens the link elsewhere.
    number: String,
    minutes: i64,
}

impl View for SentView {
    const TEMPLATE: &'static str = "sign_in_sent";

    fn title(&self, visitor: &Visitor) -> String {
        phrase!(visitor.words.language, "sign-in-sent-title")
    }
}

pub async fn show_sent(
    State(web): State<AppState>,
    visitor: Visitor,
    headers: HeaderMap,
) -> PageResult {
    let Some(browser) = browser_of(&headers) else {
        return Ok(see_other("/sign-in"));
    };
    let view = SentView {
        number: browser.number(),
        minutes: LINK_TTL.num_minutes(),
    };
    page(&web, &visitor, &view).await
}

fn browser_of(headers: &HeaderMap) -> Option<OneTimeText> {
    cookies::find(headers, cookies::BROWSER).and_then(OneTimeText::parse)
}

#[derive(Debug, Serialize)]
struct LinkView {
    next: String,
    is_ended: bool,
    needs_number: bool,
    is_wrong: bool,
}

impl View for LinkView {
    const TEMPLATE: &'static str = "sign_in_link";

    fn title(&self, visitor: &Visitor) -> String {
        let language = &visitor.words.language;
        if self.is_ended {
            phrase!(language, "sign-in-ended-title")
        } else {
            phrase!(language, "sign-in-link-title")
        }
    }
}

impl LinkView {
    fn new(state: Option<LinkState>, next: &str) -> Self {
        Self {
            next: safe_next(next).to_owned(),
            is_ended: state.is_none(),
            needs_number: state == Some(LinkState::NeedsNumber),
            is_wrong: false,
        }
    }
}

/// Shows a button: programs that look at mails open links, too.
pub async fn show_link(
    State(web): State<AppState>,
    visitor: Visitor,
    Path(text): Path<String>,
    Query(query): Query<NextQuery>,
    headers: HeaderMap,
) -> PageResult {
    let state = match OneTimeText::parse(&text) {
        Some(text) => {
            let browser = browser_of(&headers);
            web.service
                .find_sign_in_link(&text, browser.as_ref())
                .await?
        }
        None => None,
    };
    let view = LinkView::new(state, &query.next);
    let status = if view.is_ended {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::OK
    };
    page_with_status(&web, &visitor, status, &view).await
}

pub async fn sign_in(
    State(web): State<AppState>,
    visitor: Visitor,
    Path(text): Path<String>,
    headers: HeaderMap,
    form: Form,
) -> PageResult {
    let next = safe_next(form.text("next"));
    let ended = || LinkView::new(None, next);
    let Some(text) = OneTimeText::parse(&text) else {
        return page_with_status(&web, &visitor, StatusCode::NOT_FOUND, &ended()).await;
    };
    let number: String = form
        .text("number")
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let number = Some(number.as_str()).filter(|number| !number.is_empty());
    let browser = browser_of(&headers);
    let signed_in = web
        .service
        .sign_in_by_link(&text, browser.as_ref(), number)
        .await?;
    match signed_in {
        SignIn::Done(session) => {
            end_former(&web, &visitor).await;
            let mut response = see_other(next);
            let cookie = secrecy::ExposeSecret::expose_secret(&session.secret.token);
            let headers = response.headers_mut();
            cookies::set(headers, cookies::SESSION, cookie, None);
            cookies::remove(headers, cookies::BROWSER);
            Ok(response)
        }
        SignIn::WrongNumber => {
            let state = web
                .service
                .find_sign_in_link(&text, browser.as_ref())
                .await?;
            let view = LinkView {
                is_wrong: number.is_some(),
                ..LinkView::new(state, next)
            };
            page_with_status(&web, &visitor, StatusCode::UNPROCESSABLE_ENTITY, &view).await
        }
        SignIn::Ended => page_with_status(&web, &visitor, StatusCode::NOT_FOUND, &ended()).await,
    }
}

/// The session that this browser had before.
async fn end_former(web: &AppState, visitor: &Visitor) {
    let Some(access) = visitor.access.clone() else {
        return;
    };
    let id = access.credential.id;
    if let Err(error) = web.service.end_session(&Actor::Caller(access), id).await {
        tracing::warn!(%error, "the former session of a browser stays open");
    }
}
