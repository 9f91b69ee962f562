//! Exchanges a token for short-lived ones (RFC 6749 §4.4 and §6).
//!
//! A token gives a refresh token, and that one gives access tokens. Each works only while the one before it does, and
//! with its rights, so that ending a token ends all that came from it.

use chrono::{DateTime, Utc};

use crate::domain::service::{
    Access, Credential, CredentialState, Kind, NewSecret, Parent, Problem, ProblemKind, PublicId,
    StoredSecret,
};
use crate::domain::{LOCAL_SOURCE, TokenId};
use crate::time::shift;

use super::{Result, Service};

/// Refresh tokens of a token, and access tokens of a refresh token. A new one ends the oldest, so that a client that
/// never uses a token twice does not fill the store.
const MAX_REFRESH: i64 = 1000;
const MAX_ACCESS: i64 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// A token for an access and a refresh token.
    ClientCredentials,
    /// A refresh token for an access token; it stays valid until it expires.
    RefreshToken,
}

/// Shown once.
#[derive(Debug, Clone)]
pub struct DerivedToken {
    pub secret: NewSecret,
    pub credential: Credential,
}

#[derive(Debug, Clone)]
pub struct Exchanged {
    pub access: DerivedToken,
    /// Only for a token that is not a refresh token itself.
    pub refresh: Option<DerivedToken>,
}

impl Service {
    /// Exchanges the token that was verified.
    pub async fn exchange(&self, grant: Grant, caller: &Access) -> Result<Exchanged> {
        let work = || self.try_exchange(grant, caller);
        self.store.retrying(work).await
    }

    /// The token stays locked, so that none is exchanged after it ended or its secret leaked.
    async fn try_exchange(&self, grant: Grant, caller: &Access) -> Result<Exchanged> {
        let mut tx = self.store.begin_short().await?;
        let now = self.now();
        tx.lock_credential(caller.credential.id).await?;
        let caller = self.read_access_again(&mut tx, caller).await?;
        let given = &caller.credential;
        // With an old secret, nothing outlives its overlap.
        let latest = caller.ends_at;
        let derive = |parent: &Credential, secret, kind, ttl| {
            let parent_secret = Parent {
                id: parent.id,
                secret,
            };
            let end = shift(now, ttl);
            let end = latest.map_or(end, |latest| latest.min(end));
            self.derive(parent, parent_secret, kind, (now, end))
        };
        let exchanged = match (grant, &given.kind) {
            (Grant::ClientCredentials, Kind::Api | Kind::Named(_)) => {
                let terms = self.terms();
                let refresh = derive(given, caller.secret, Kind::Refresh, terms.refresh_ttl);
                let number = refresh.credential.secret.number;
                let access = derive(&refresh.credential, number, Kind::Access, terms.access_ttl);
                Exchanged {
                    access,
                    refresh: Some(refresh),
                }
            }
            (Grant::RefreshToken, Kind::Refresh) => Exchanged {
                access: derive(given, caller.secret, Kind::Access, self.terms().access_ttl),
                refresh: None,
            },
            _ => return Err(refuse(grant, &given.kind).into()),
        };
        let most = match grant {
            Grant::ClientCredentials => MAX_REFRESH,
            Grant::RefreshToken => MAX_ACCESS,
        };
        let ended = tx.delete_oldest_exchanged(given.id, most - 1).await?;
        for derived in exchanged.refresh.iter().chain([&exchanged.access]) {
            tx.insert_credential(&derived.credential).await?;
        }
        self.commit(tx, &ended).await?;
        Ok(exchanged)
    }

    fn derive(
        &self,
        parent: &Credential,
        exchanged: Parent,
        kind: Kind,
        (now, end): (DateTime<Utc>, DateTime<Utc>),
    ) -> DerivedToken {
        let public_id = PublicId::generate();
        let secret = NewSecret::generate(&self.terms().head(&kind), &public_id);
        let credential = Credential {
            id: TokenId::new(LOCAL_SOURCE, public_id.as_str()),
            public_id,
            kind,
            created_at: now,
            not_before: None,
            expires_at: Some(end),
            state: CredentialState::Active,
            secret: StoredSecret {
                number: 1,
                digest: secret.digest,
                created_at: now,
                last_used_at: None,
            },
            old_secret: None,
            parent: Some(exchanged),
            version: 1,
            ..parent.clone()
        };
        DerivedToken { secret, credential }
    }
}

fn refuse(grant: Grant, kind: &Kind) -> Problem {
    let (accepted, needed) = match grant {
        Grant::ClientCredentials => ("client_credentials", "a token that was issued"),
        Grant::RefreshToken => ("refresh_token", "a refresh token"),
    };
    let detail = format!(
        "the grant {accepted} takes {needed}, not one of kind {}",
        kind.as_str()
    );
    Problem::new(ProblemKind::Forbidden, detail)
}
