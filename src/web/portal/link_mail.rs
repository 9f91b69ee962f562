//! Links by which people sign in, and what mails them.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use url::Url;

use crate::domain::{Address, Preference};
use crate::service::sign_in::OneTimeText;

/// A mail with a link, to be sent at once.
#[derive(Debug)]
pub struct LinkMail {
    pub to: Address,
    pub link: SecretString,
    pub now: DateTime<Utc>,
    pub ttl: TimeDelta,
    /// How the person wants to be written to.
    pub preference: Preference,
}

/// Sends mails with links.
#[async_trait]
pub trait LinkMailer: Send + Sync {
    /// One attempt.
    ///
    /// # Errors
    /// Says why the mail was not sent.
    async fn send(&self, mail: LinkMail) -> Result<(), String>;
}

/// The address of a link.
pub fn sign_in_link(portal: &Url, text: &OneTimeText, next: Option<&str>) -> String {
    let portal = portal.as_str().trim_end_matches('/');
    let mut link = format!("{portal}/sign-in/link/{}", text.expose());
    if let Some(next) = next {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("next", next);
        link += &format!("?{}", query.finish());
    }
    link
}
