//! Signing in by a link: from the command line, or by mail. A link works once, for a quarter of an hour.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::domain::service::{Actor, Operation, Problem, ProblemKind, ServicePerson};
use crate::domain::{Address, Preference, account_key};
use crate::store::{SignInLink, Tx};
use crate::time::shift;

use super::reach::no_user;
use super::sessions::NewSession;
use super::{Error, Result, Service, audit};

pub const LINK_TTL: TimeDelta = TimeDelta::minutes(15);
/// Links that are mailed to an address within an hour.
const MAX_LINKS: i64 = 3;
/// Wrong numbers that end a link.
const MAX_FAILURES: i64 = 3;
const TAG: &[u8] = b"lapsed sign-in 1\0";

/// The random text of a link, or of the cookie of a browser that asks for one.
#[derive(Debug, Clone)]
pub struct OneTimeText(SecretString);

/// A link that is to be mailed.
#[derive(Debug)]
pub struct MailedLink {
    pub to: Address,
    pub text: OneTimeText,
    /// How the person wants to be written to.
    pub preference: Preference,
}

/// What a link needs before it signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// A click.
    Ready,
    /// The number that the browser shows where it was requested.
    NeedsNumber,
}

#[derive(Debug)]
pub enum SignIn {
    Done(Box<NewSession>),
    WrongNumber,
    /// It was used, is too old, or its person may not sign in.
    Ended,
}

impl OneTimeText {
    /// # Panics
    /// Without random numbers.
    #[expect(
        clippy::expect_used,
        reason = "without random numbers nobody may sign in"
    )]
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .expect("the system has random numbers");
        Self(URL_SAFE_NO_PAD.encode(bytes).into())
    }

    /// `None` for a text of another form.
    pub fn parse(text: &str) -> Option<Self> {
        let is_one = URL_SAFE_NO_PAD
            .decode(text)
            .is_ok_and(|bytes| bytes.len() == 32);
        is_one.then(|| Self(text.to_owned().into()))
    }

    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Six digits that only the browser with this cookie can show.
    pub fn number(&self) -> String {
        let digest = self.hash(b"number\0");
        let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        format!("{:06}", number % 1_000_000)
    }

    fn digest(&self) -> String {
        let digest = self.hash(b"");
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn hash(&self, purpose: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(TAG);
        hash.update(purpose);
        hash.update(self.expose());
        hash.finalize().into()
    }
}

impl Service {
    /// A link that signs a person in, for an operator to pass on.
    ///
    /// # Errors
    /// If there is no such person, or they may not sign in.
    pub async fn make_sign_in_link(&self, actor: &Actor, user: &str) -> Result<OneTimeText> {
        actor.may(Operation::WriteService)?;
        let now = self.clock.now();
        let mut tx = self.store.begin_short().await?;
        let person = tx.find_service_user(&account_key(user)).await?;
        let person = person.ok_or_else(|| no_user(user))?;
        check(&mut tx, &person).await?;
        let text = OneTimeText::generate();
        tx.insert_sign_in_link(&new_link(&text, &person, None, now))
            .await?;
        let subject = format!("user/{}", person.key);
        audit::entry(&mut tx, actor, "user.link", &subject, None, now).await?;
        self.commit(tx, &[]).await?;
        Ok(text)
    }

    /// A link that a browser has asked for. `None` if there is nobody who may sign in by it, or too many were asked for.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn request_sign_in_link(
        &self,
        address: &Address,
        browser: &OneTimeText,
    ) -> Result<Option<MailedLink>> {
        let now = self.clock.now();
        let mut tx = self.store.begin_short().await?;
        // Locked, so that requests at the same time count one another.
        let Some(person) = tx.lock_service_user(address.key()).await? else {
            return Ok(None);
        };
        let Some(to) = person.address.clone() else {
            return Ok(None);
        };
        let since = shift(now, -TimeDelta::hours(1));
        let asked = tx.count_sign_in_links(&person.key, since).await?;
        if asked >= MAX_LINKS || check(&mut tx, &person).await.is_err() {
            return Ok(None);
        }
        let text = OneTimeText::generate();
        tx.insert_sign_in_link(&new_link(&text, &person, Some(browser), now))
            .await?;
        let preference = tx.find_preference(to.key()).await?;
        self.commit(tx, &[]).await?;
        Ok(Some(MailedLink {
            preference: preference.unwrap_or_else(|| Preference::none(to.clone())),
            to,
            text,
        }))
    }

    /// What this link needs; `None` if it signs nobody in any more. It stays usable: mail scanners look, too.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn find_sign_in_link(
        &self,
        text: &OneTimeText,
        browser: Option<&OneTimeText>,
    ) -> Result<Option<LinkState>> {
        let now = self.clock.now();
        let mut tx = self.store.begin_short_read().await?;
        let link = tx.find_sign_in_link(&text.digest()).await?;
        let link = link.filter(|link| is_usable(link, now));
        Ok(link.map(|link| state(&link, browser)))
    }

    /// Signs in.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn sign_in_by_link(
        &self,
        text: &OneTimeText,
        browser: Option<&OneTimeText>,
        number: Option<&str>,
    ) -> Result<SignIn> {
        let work = || self.try_sign_in_by_link(text, browser, number);
        self.store.retrying(work).await
    }

    async fn try_sign_in_by_link(
        &self,
        text: &OneTimeText,
        browser: Option<&OneTimeText>,
        number: Option<&str>,
    ) -> Result<SignIn> {
        let now = self.clock.now();
        let digest = text.digest();
        let mut tx = self.store.begin_short().await?;
        let Some(link) = tx.find_sign_in_link(&digest).await? else {
            return Ok(SignIn::Ended);
        };
        let Some(person) = tx.lock_service_user(&link.user_key).await? else {
            return Ok(SignIn::Ended);
        };
        // Read under the lock, so that guesses at the same time count one another.
        let link = tx.find_sign_in_link(&digest).await?;
        let Some(link) = link.filter(|link| is_usable(link, now)) else {
            return Ok(SignIn::Ended);
        };
        let is_right = number.is_some() && number == link.number.as_deref();
        if state(&link, browser) == LinkState::NeedsNumber && !is_right {
            if number.is_some() {
                tx.fail_sign_in_link(&digest).await?;
                self.commit(tx, &[]).await?;
            }
            return Ok(SignIn::WrongNumber);
        }
        if !tx.use_sign_in_link(&digest, now).await? || check(&mut tx, &person).await.is_err() {
            return Ok(SignIn::Ended);
        }
        let Some(session) = self.open_session(&mut tx, &person, now).await? else {
            return Ok(SignIn::Ended);
        };
        let actor = Actor::Operator(person.key.clone());
        audit::token(
            &mut tx,
            &actor,
            "session.start",
            &session.credential,
            None,
            now,
        )
        .await?;
        self.commit(tx, &[]).await?;
        Ok(SignIn::Done(Box::new(session)))
    }
}

fn new_link(
    text: &OneTimeText,
    person: &ServicePerson,
    browser: Option<&OneTimeText>,
    now: DateTime<Utc>,
) -> SignInLink {
    SignInLink {
        digest: text.digest(),
        user_key: person.key.clone(),
        browser: browser.map(OneTimeText::digest),
        number: browser.map(OneTimeText::number),
        failures: 0,
        created_at: now,
        expires_at: shift(now, LINK_TTL),
        used_at: None,
    }
}

fn is_usable(link: &SignInLink, now: DateTime<Utc>) -> bool {
    link.used_at.is_none() && now < link.expires_at && link.failures < MAX_FAILURES
}

fn state(link: &SignInLink, browser: Option<&OneTimeText>) -> LinkState {
    let is_same = link.browser.is_none() || link.browser == browser.map(OneTimeText::digest);
    if is_same {
        LinkState::Ready
    } else {
        LinkState::NeedsNumber
    }
}

/// Whether a person may sign in by a link.
async fn check(tx: &mut Tx, person: &ServicePerson) -> Result<()> {
    let refuse = |detail: String, fix: String| -> Result<()> {
        Err(Error::Refused(
            Problem::new(ProblemKind::Conflict, detail).fix(fix),
        ))
    };
    let key = &person.key;
    if person.is_machine() {
        return refuse(
            format!("{key} is a machine user, which signs in nowhere"),
            "name a person".to_owned(),
        );
    }
    if person.disabled_at.is_some() {
        return refuse(
            format!("the user {key} is disabled"),
            format!("enable them with: lapsed user enable {key}"),
        );
    }
    if person.lost_access_at.is_some() || tx.has_lost_access(key).await? {
        return refuse(
            format!("a directory says that {key} has lost access"),
            format!("`lapsed identity show {key}` shows what it says"),
        );
    }
    if !person.is_super && person.roles.is_empty() {
        return refuse(
            format!("{key} has no role in any account"),
            format!("give them one: lapsed user role {key} ROLE --account NAME"),
        );
    }
    Ok(())
}
