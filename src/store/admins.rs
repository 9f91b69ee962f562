//! Administrators of accounts, as the sources tell.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::QueryBuilder;

use crate::domain::{Address, Token, ToldAdmins};

use super::mails::parsed;
use super::{CHUNK, Result, Tx, on};

impl Tx {
    /// Who administers which account, as a source told last; in order of account and address.
    pub async fn admins_told_by(&mut self, source: &str) -> Result<Vec<(String, String)>> {
        let mut rows: Vec<(String, String)> = on!(self, c: Db => sqlx::query_as(
            "SELECT account, address FROM source_admin WHERE source = $1")
            .bind(source).fetch_all(c).await)?;
        // In the program's order: that of the database depends on its locale.
        rows.sort_unstable();
        Ok(rows)
    }

    /// Replaces what a source told of administrators.
    pub async fn put_told_admins(
        &mut self,
        source: &str,
        admins: &[(String, String)],
    ) -> Result<()> {
        on!(self, c: Db => sqlx::query("DELETE FROM source_admin WHERE source = $1")
            .bind(source).execute(c).await.map(drop))?;
        for admins in admins.chunks(CHUNK) {
            on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new("INSERT INTO source_admin (source, account, address) ");
                query.push_values(admins, |mut row, (account, address)| {
                    row.push_bind(source).push_bind(account).push_bind(address);
                });
                query.push(" ON CONFLICT DO NOTHING");
                query.build().execute(c).await.map(drop)
            })?;
        }
        Ok(())
    }

    /// The administrators of these tokens' accounts, as their sources told; `tokens` is a page.
    pub async fn told_admins(&mut self, tokens: &[Token]) -> Result<ToldAdmins> {
        let mut told = ToldAdmins::default();
        let mut accounts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for token in tokens {
            if let Some(account) = &token.account {
                accounts.entry(&token.source).or_default().insert(account);
            }
        }
        for (source, accounts) in accounts {
            let rows: Vec<(String, String)> = on!(self, c: Db => {
                let mut query = QueryBuilder::<Db>::new(
                    "SELECT account, address FROM source_admin WHERE source = ");
                query.push_bind(source).push(" AND account IN (");
                let mut list = query.separated(", ");
                for account in &accounts { list.push_bind(*account); }
                query.push(") ORDER BY account, address");
                query.build_query_as().fetch_all(c).await
            })?;
            for (account, address) in rows {
                let address: Address = parsed(&address, "an administrator's address")?;
                told.add(source, &account, address);
            }
        }
        Ok(told)
    }
}
