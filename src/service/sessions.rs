//! Sessions of the portal: tokens of the kind `session`, which a cookie holds.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::service::{
    Access, Actor, Credential, CredentialState, Kind, Networks, NewSecret, Presented, Problem,
    PublicId, Rank, Scopes, ServicePerson, judge,
};
use crate::domain::{LOCAL_SOURCE, TokenId, account_key};
use crate::store::{Change, Tx};
use crate::time::shift;

use super::cache::Holding;
use super::issue::first_secret;
use super::uses::Tally;
use super::{Error, Result, Service, audit};

/// A session ends when it was not used for so long.
const IDLE: TimeDelta = TimeDelta::hours(8);
/// Of a person; a further one ends the oldest.
const MAX_SESSIONS: usize = 20;

/// A session that was opened; the secret is for the cookie alone.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub credential: Credential,
    pub secret: NewSecret,
}

/// A session as its person sees it.
#[derive(Debug, Clone)]
pub struct SessionItem {
    pub id: TokenId,
    pub created_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
    /// The last address that used it.
    pub address: Option<IpAddr>,
    pub expires_at: Option<DateTime<Utc>>,
}

impl Service {
    /// Who a session belongs to. It always reads the store: whoever is disabled, or whom a directory has since called
    /// disabled, deleted or out of group, is out at once.
    ///
    /// # Errors
    /// If the store fails, or no token is verified.
    pub async fn find_session(
        &self,
        presented: &Presented,
        address: IpAddr,
    ) -> Result<Option<Access>> {
        if !self.is_open() {
            return Err(Error::Closed);
        }
        let now = self.clock.now();
        let id = TokenId::new(LOCAL_SOURCE, presented.id.as_str());
        let snapshot = self.reader.read(id).await.map_err(Error::Store)?;
        let Some((chain, person)) = snapshot.find(id) else {
            return Ok(None);
        };
        let Holding { chain, person } = Holding::new(chain, person);
        let roles = &self.terms.roles;
        let Ok(access) = judge(presented, &chain, &person, roles, address, now) else {
            return Ok(None);
        };
        if access.credential.kind != Kind::Session || is_idle(&access.credential, now) {
            return Ok(None);
        }
        let mut tx = self.store.begin_short_read().await?;
        if tx.has_lost_access(&access.person.key).await? {
            return Ok(None);
        }
        self.uses
            .count(id, Tally::new(Some(access.secret), address, now));
        Ok(Some(access))
    }

    /// Ends one of the actor's own sessions.
    ///
    /// # Errors
    /// If it is not one of theirs.
    pub async fn end_session(&self, actor: &Actor, id: TokenId) -> Result<()> {
        let now = self.clock.now();
        let mut tx = self.store.begin_short().await?;
        let session = tx.lock_credential(id).await?;
        let is_own = |it: &Credential| it.kind == Kind::Session && it.issuer == actor.name();
        let session = session.filter(is_own).ok_or_else(Problem::unknown)?;
        end(&mut tx, actor, session, now).await?;
        self.commit(tx, &[Change::Credential(id)]).await
    }

    /// The sessions of the actor, the last used first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list_sessions(&self, actor: &Actor) -> Result<Vec<SessionItem>> {
        let now = self.clock.now();
        let mut tx = self.store.begin_short_read().await?;
        let mut items = Vec::new();
        for session in sessions_of(&mut tx, actor.name(), now).await? {
            let uses = tx.load_uses(session.id).await?;
            items.push(SessionItem {
                id: session.id,
                created_at: session.created_at,
                last_used_at: session.secret.last_used_at,
                address: uses.addresses.first().map(|used| used.address),
                expires_at: session.expires_at,
            });
        }
        let last = |item: &SessionItem| item.last_used_at.unwrap_or(item.created_at);
        items.sort_by_key(|item| std::cmp::Reverse(last(item)));
        Ok(items)
    }

    /// Turns the session to another account of its person.
    ///
    /// # Errors
    /// If they have no role there.
    pub async fn switch_account(&self, access: &Access, account: &str) -> Result<()> {
        let mut tx = self.store.begin_short().await?;
        let access = self.read_access_again(&mut tx, access).await?;
        let key = account_key(account);
        if access.person.is_super || !access.person.roles.contains_key(&key) {
            return Err(Problem::unknown().into());
        }
        let id = access.credential.id;
        let session = tx.lock_credential(id).await?.ok_or_else(Problem::unknown)?;
        tx.save_credential(&Credential {
            account: Some(key),
            ..session
        })
        .await?;
        self.commit(tx, &[Change::Credential(id)]).await
    }

    /// Writes a session for a person who has signed in. `None` for somebody without any role.
    pub(super) async fn open_session(
        &self,
        tx: &mut Tx,
        person: &ServicePerson,
        now: DateTime<Utc>,
    ) -> Result<Option<NewSession>> {
        let account = self.home(person);
        if account.is_none() && !person.is_super {
            return Ok(None);
        }
        let actor = Actor::Operator(person.key.clone());
        let known = sessions_of(tx, &person.key, now).await?;
        let surplus = known.len().saturating_sub(MAX_SESSIONS - 1);
        for oldest in known.into_iter().take(surplus) {
            end(tx, &actor, oldest, now).await?;
        }
        let public_id = PublicId::generate();
        let secret = NewSecret::generate(&self.terms.head(&Kind::Session), &public_id);
        let credential = Credential {
            id: TokenId::new(LOCAL_SOURCE, public_id.as_str()),
            public_id,
            kind: Kind::Session,
            issuer: person.key.clone(),
            account,
            role: None,
            scopes: Scopes::default(),
            networks: Networks::default(),
            created_at: now,
            not_before: None,
            expires_at: Some(shift(now, self.terms.session_ttl)),
            state: CredentialState::Active,
            secret: first_secret(&secret, now),
            old_secret: None,
            parent: None,
            version: 1,
        };
        tx.insert_credential(&credential).await?;
        Ok(Some(NewSession { credential, secret }))
    }

    /// The account that a session begins in: where its person has the highest role. Super admins are outside all.
    fn home(&self, person: &ServicePerson) -> Option<String> {
        if person.is_super {
            return None;
        }
        let rank = |role: &str| -> Rank { self.terms.roles.rank_or_lowest(role) };
        let highest = person.roles.iter().min_by_key(|(_, role)| rank(role));
        highest.map(|(account, _)| account.clone())
    }
}

fn is_idle(session: &Credential, now: DateTime<Utc>) -> bool {
    let last = session.secret.last_used_at.unwrap_or(session.created_at);
    shift(last.max(session.created_at), IDLE) <= now
}

/// The sessions that work, the oldest first.
async fn sessions_of(tx: &mut Tx, person: &str, now: DateTime<Utc>) -> Result<Vec<Credential>> {
    let mut sessions = tx.list_credentials_of(person).await?;
    sessions.retain(|it| {
        it.kind == Kind::Session && it.expires_at.is_some_and(|at| now < at) && !is_idle(it, now)
    });
    sessions.sort_by_key(|it| it.created_at);
    Ok(sessions)
}

async fn end(
    tx: &mut Tx,
    actor: &Actor,
    mut session: Credential,
    now: DateTime<Utc>,
) -> Result<()> {
    session.state = CredentialState::Revoked;
    tx.save_credential(&session).await?;
    audit::token(tx, actor, "session.end", &session, None, now).await
}
