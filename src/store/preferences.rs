//! How people want to be notified.

use chrono::NaiveTime;
use sqlx::{QueryBuilder, Row as _};

use crate::domain::{Channel, InvalidStep, Preference, Step};

use super::columns::{impl_from_row, push_list};
use super::{CHUNK_ROWS, Result, Tx, on};

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
            .bind(&preference.language).bind(preference.timezone.map(|zone| zone.name()))
            .bind(preference.digest_at.map(|time| time.format(TIME_FORMAT).to_string())).fetch_one(c).await)
    }
}
