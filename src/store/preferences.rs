//! How people want to be notified.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use sqlx::{QueryBuilder, Row as _};

use crate::domain::{
    Address, Channel, InvalidStep, PersonalTimes, Preference, Step, Token, TokenId, Wishes,
};

use super::columns::{impl_from_row, push_list};
use super::people::push_works;
use super::{CHUNK_ROWS, Result, Tx, locking, on};

const TIME_FORMAT: &str = "%H:%M";

impl_from_row!(Preference, row => {
    let invalid = |what: &str| sqlx::Error::Decode(format!("a preference has {what}").into());
    let steps: Option<&str> = row.try_get("steps")?;
    let steps = steps.map(|steps| steps.split_whitespace().map(str::parse::<Step>).collect());
    let timezone: Option<&str> = row.try_get("timezone")?;
    let digest_time: Option<&str> = row.try_get("digest_time")?;
    let digest_at = digest_time.map(|time| NaiveTime::parse_from_str(time, TIME_FORMAT));
    Ok(Self {
        address: row.try_get("address").map_err(|_| invalid("an invalid address"))?,
        steps: steps.transpose().map_err(|_: InvalidStep| invalid("an invalid step"))?,
        channel: row.try_get("channel")?,
        language: row.try_get("language")?,
        timezone: timezone.map(str::parse).transpose().map_err(|_| invalid("an unknown time zone"))?,
        digest_at: digest_at.transpose().map_err(|_| invalid("an invalid time"))?,
        version: row.try_get("version")?,
    })
});

fn encode_steps(steps: &[Step]) -> String {
    let steps: Vec<_> = steps.iter().map(Step::to_string).collect();
    steps.join(" ")
}

impl Tx {
    pub async fn find_preference(&mut self, address_key: &str) -> Result<Option<Preference>> {
        Ok(self.find_preferences(&[address_key]).await?.pop())
    }

    pub async fn find_preferences(&mut self, address_keys: &[&str]) -> Result<Vec<Preference>> {
        let mut found = Vec::new();
        for chunk in address_keys.chunks(CHUNK_ROWS) {
            found.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("SELECT * FROM preference WHERE address_key IN (");
                push_list(&mut query, chunk.iter().copied());
                query.push(")");
                query.build_query_as::<Preference>().persistent(chunk.len() == 1).fetch_all(c).await
            })?);
        }
        Ok(found)
    }

    /// Loads the preferences of a person and locks them until the transaction ends, so that a change cannot be lost.
    pub async fn lock_preference(&mut self, address: &Address) -> Result<Preference> {
        let none = Preference::none(address.clone());
        on!(self, c: Db => sqlx::query(
            "INSERT INTO preference (address_key, address, version) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(address.key()).bind(address.as_str()).bind(none.version).execute(c).await.map(drop))?;
        let sql = locking!(self, "SELECT * FROM preference WHERE address_key = $1");
        let known: Option<Preference> =
            on!(self, c: Db => sqlx::query_as(sql).bind(address.key()).fetch_optional(c).await)?;
        Ok(known.unwrap_or(none))
    }

    /// A working token of this owner that was used since then, if there is one.
    pub async fn find_token_used_since(
        &mut self,
        owner_key: &str,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Option<Token>> {
        on!(self, c: Db => {
            // Not one query with OR, for which PostgreSQL would read the whole table.
            let mut query = QueryBuilder::<Db>::new("SELECT t.* FROM token t WHERE t.issuer_key = ");
            query.push_bind(owner_key).push(" AND t.last_used_at >= ").push_bind(since).push(" AND ");
            push_works(&mut query, now);
            query.push(" UNION ALL SELECT t.* FROM token_owner o JOIN token t ON t.id = o.token_id WHERE o.owner_key = ")
                .push_bind(owner_key).push(" AND t.last_used_at >= ").push_bind(since).push(" AND ");
            push_works(&mut query, now);
            query.push(" LIMIT 1");
            query.build_query_as().fetch_optional(c).await
        })
    }

    /// Writes all preferences of a person; the version counts up. Returns the new version.
    pub async fn save_preference(&mut self, preference: &Preference) -> Result<i64> {
        on!(self, c: Db => sqlx::query_scalar(
            "INSERT INTO preference (address_key, address, steps, channel, language, timezone, digest_time, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1)
             ON CONFLICT (address_key) DO UPDATE SET address = excluded.address, steps = excluded.steps,
                channel = excluded.channel, language = excluded.language, timezone = excluded.timezone,
                digest_time = excluded.digest_time, version = preference.version + 1
             RETURNING version")
            .bind(preference.address.key()).bind(preference.address.as_str())
            .bind(preference.steps.as_deref().map(encode_steps)).bind(preference.channel.map(Channel::as_str))
            .bind(&preference.language).bind(preference.timezone.map(Tz::name))
            .bind(preference.digest_at.map(|time| time.format(TIME_FORMAT).to_string())).fetch_one(c).await)
    }
    /// When tokens are due because of preferences.
    pub async fn load_personal_times(&mut self) -> Result<PersonalTimes> {
        let chosen: Vec<(Option<String>, bool)> = on!(self, c: Db => sqlx::query_as(
            "SELECT DISTINCT steps, digest_time IS NOT NULL OR timezone IS NOT NULL FROM preference")
            .fetch_all(c).await)?;
        let has_users: bool = on!(self, c: Db => sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM service_user)")
            .fetch_one(c).await)?;
        let steps = chosen.iter().filter_map(|(steps, _)| steps.as_deref());
        let steps = steps.flat_map(str::split_whitespace);
        // One that a newer lapsed wrote in another form is left out.
        let steps: BTreeSet<Step> = steps.filter_map(|step| step.parse().ok()).collect();
        Ok(PersonalTimes {
            steps: steps.into_iter().rev().collect(),
            has_digests: chosen.iter().any(|(_, has_digest)| *has_digest),
            has_wishes: has_users || !chosen.is_empty(),
        })
    }

    /// What these people prefer, and what they have read about these tokens.
    pub async fn load_wishes(
        &mut self,
        address_keys: &[&str],
        tokens: &[TokenId],
    ) -> Result<Wishes> {
        let preferences = self.find_preferences(address_keys).await?;
        let mut users = HashSet::new();
        for chunk in address_keys.chunks(CHUNK_ROWS) {
            users.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "SELECT key FROM service_user WHERE address IS NOT NULL AND key IN (");
                push_list(&mut query, chunk.iter().copied());
                query.push(")");
                query.build_query_scalar::<String>().persistent(false).fetch_all(c).await
            })?);
        }
        let mut wishes = Wishes::new(preferences, users);
        if wishes.needs_read() {
            for (token, person, generation) in self.load_read_warnings(tokens).await? {
                wishes.add_read(token, person, generation);
            }
        }
        Ok(wishes)
    }

    /// What everyone prefers, as if no one had read anything.
    pub async fn load_all_wishes(&mut self) -> Result<Wishes> {
        let preferences =
            on!(self, c: Db => sqlx::query_as("SELECT * FROM preference").fetch_all(c).await)?;
        let users: Vec<String> = on!(self, c: Db => sqlx::query_scalar(
            "SELECT key FROM service_user WHERE address IS NOT NULL").fetch_all(c).await)?;
        Ok(Wishes::new(preferences, users.into_iter().collect()))
    }

    async fn load_read_warnings(
        &mut self,
        tokens: &[TokenId],
    ) -> Result<Vec<(TokenId, String, DateTime<Utc>)>> {
        let mut read = Vec::new();
        for chunk in tokens.chunks(CHUNK_ROWS) {
            read.extend(on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "SELECT DISTINCT token_id, recipient_key, generation FROM notice
                     WHERE channel = 'account' AND topic = 'expiry' AND read_at IS NOT NULL AND token_id IN (");
                push_list(&mut query, chunk);
                query.push(")");
                query.build_query_as::<(TokenId, String, DateTime<Utc>)>().persistent(false).fetch_all(c).await
            })?);
        }
        Ok(read)
    }
}
