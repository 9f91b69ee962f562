//! What the pages of the portal show.

use chrono::{DateTime, Utc};

use crate::domain::service::{Actor, Operation};
use crate::domain::{Status, TokenId};
use crate::store::{
    AuditRow, DirectoryRow, IdentityFilter, IdentityRow, NoticeRow, OpenFinding, PageFilter,
    PageOrder, Reach, SourceRow, Uses,
};
use crate::time::shift;

use super::found::subject_of;
use super::pages::{SOON, TokenItem, load_items, own};
use super::{Error, Service};

/// One more than what pages count.
const MAX_COUNT: i64 = 10_001;
const MAX_AUDIT: i64 = 50;
const MAX_REPORTS: i64 = 20;

/// Whose tokens a page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    Own,
    /// Of everybody whom the actor may see.
    All,
}

/// What a person should look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attention {
    /// Their own tokens that end soon.
    pub ending: i64,
    pub unread: i64,
}

/// How many tokens there are of each sort, up to 10,001.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CardCounts {
    pub active: i64,
    pub ending: i64,
    pub never: i64,
    pub expired: i64,
    pub deleted: i64,
}

/// All that is known of a token.
#[derive(Debug)]
pub struct TokenFile {
    pub item: TokenItem,
    pub uses: Uses,
    pub never_shown: bool,
    pub findings: Vec<OpenFinding>,
    pub notices: Vec<NoticeRow>,
    /// Newest first; empty for those who may not read it.
    pub audit: Vec<AuditRow>,
}

impl Service {
    /// # Errors
    /// If the actor may not read tokens.
    pub async fn list_tokens_of(
        &self,
        actor: &Actor,
        whose: Whose,
        filter: &PageFilter,
        order: PageOrder<'_>,
        limit: i64,
    ) -> Result<Vec<TokenItem>, Error> {
        actor.may(Operation::ReadTokens)?;
        let reach = self.reach_of(actor, whose);
        let mut tx = self.store.begin_short_read().await?;
        let now = self.clock.now();
        let ids = tx.page_tokens(&reach, filter, order, now, limit).await?;
        load_items(&mut tx, &ids).await
    }

    /// When active tokens expire between `from` and `until`: at most 10,001, the earliest first.
    ///
    /// # Errors
    /// If the actor may not read the forecast.
    pub async fn list_expiries(
        &self,
        actor: &Actor,
        whose: Whose,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<DateTime<Utc>>, Error> {
        actor.may(Operation::ReadForecast)?;
        let reach = self.reach_of(actor, whose);
        let filter = PageFilter {
            status: Some(Status::Active),
            expires_until: Some(until),
            ..PageFilter::default()
        };
        let now = self.clock.now();
        let mut tx = self.store.begin_short_read().await?;
        Ok(tx
            .list_expiries(&reach, &filter, (from, now), MAX_COUNT)
            .await?)
    }

    /// # Errors
    /// If the actor may not read tokens.
    pub async fn count_cards(&self, actor: &Actor, whose: Whose) -> Result<CardCounts, Error> {
        actor.may(Operation::ReadTokens)?;
        let now = self.clock.now();
        let reach = self.reach_of(actor, whose);
        let mut tx = self.store.begin_short_read().await?;
        let of = |status| PageFilter {
            status: Some(status),
            ..PageFilter::default()
        };
        let ending = PageFilter {
            expires_until: Some(shift(now, SOON)),
            ..of(Status::Active)
        };
        let never = PageFilter {
            is_never: true,
            ..of(Status::Active)
        };
        let filters = [
            of(Status::Active),
            ending,
            never,
            of(Status::Expired),
            of(Status::Revoked),
        ];
        let mut counts = [0; 5];
        for (count, filter) in counts.iter_mut().zip(&filters) {
            *count = tx.count_tokens(&reach, filter, now, MAX_COUNT).await?;
        }
        let [active, ending, never, expired, deleted] = counts;
        Ok(CardCounts {
            active,
            ending,
            never,
            expired,
            deleted,
        })
    }

    /// # Errors
    /// If the store fails.
    pub async fn load_attention(&self, actor: &Actor) -> Result<Attention, Error> {
        let now = self.clock.now();
        let reach = self.reach_of(actor, Whose::Own);
        let filter = PageFilter {
            status: Some(Status::Active),
            expires_until: Some(shift(now, SOON)),
            ..PageFilter::default()
        };
        let mut tx = self.store.begin_short_read().await?;
        Ok(Attention {
            ending: tx.count_tokens(&reach, &filter, now, MAX_COUNT).await?,
            unread: tx.count_unread_notices(actor.name(), MAX_COUNT).await?,
        })
    }

    /// Everything about one token.
    ///
    /// # Errors
    /// `NotFound` if there is none, or the actor may not know of it.
    pub async fn load_token_file(&self, actor: &Actor, id: TokenId) -> Result<TokenFile, Error> {
        let item = self.find_for(actor, id, Operation::ReadToken).await?;
        let mut tx = self.store.begin_short_read().await?;
        let ids = [id];
        let subject = format!("{}/{}", item.token.source, item.token.external_id);
        let is_reader =
            actor.may(Operation::ReadAudit).is_ok() && actor.manages(&subject_of(&item.token));
        let audit = if is_reader {
            tx.list_audit_of(&subject, MAX_AUDIT).await?
        } else {
            Vec::new()
        };
        Ok(TokenFile {
            uses: tx.load_uses(id).await?,
            never_shown: tx.is_never_shown(id).await?,
            findings: tx.load_open_findings(&ids).await?,
            notices: tx.list_notices_of_tokens(&ids).await?,
            audit,
            item,
        })
    }

    /// What directories report about a user.
    ///
    /// # Errors
    /// If there is none, or the actor may not know of them.
    pub async fn list_reports(&self, actor: &Actor, key: &str) -> Result<Vec<IdentityRow>, Error> {
        let person = self.find_user(actor, key).await?;
        let filter = IdentityFilter {
            email_key: Some(person.key),
            ..IdentityFilter::default()
        };
        let now = self.clock.now();
        let mut tx = self.store.begin_short_read().await?;
        let rows = tx.list_identities(&filter, None, now, MAX_REPORTS).await?;
        Ok(rows.into_iter().map(|(row, _)| row).collect())
    }

    /// The sources that lapsed has read.
    ///
    /// # Errors
    /// If the actor may not.
    pub async fn list_sources(&self, actor: &Actor) -> Result<Vec<SourceRow>, Error> {
        actor.may(Operation::ReadService)?;
        let mut tx = self.store.begin_short_read().await?;
        Ok(tx.list_sources().await?)
    }

    /// The directories that lapsed has read.
    ///
    /// # Errors
    /// If the actor may not.
    pub async fn list_directories(&self, actor: &Actor) -> Result<Vec<DirectoryRow>, Error> {
        actor.may(Operation::ReadService)?;
        let mut tx = self.store.begin_short_read().await?;
        Ok(tx.list_directories().await?)
    }

    fn reach_of(&self, actor: &Actor, whose: Whose) -> Reach {
        let reach = self.reach(actor);
        match whose {
            Whose::Own => own(&reach),
            Whose::All => reach,
        }
    }
}
