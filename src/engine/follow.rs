//! The people of the token service: keeps up to date who administers its accounts; stops the tokens of users of the
//! service who lost access at a directory, and lets them work again once a directory reports them as active. What is
//! not known changes nothing.

use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::domain::{LOCAL_SOURCE, Policy};
use crate::notify::wording::quantity;
use crate::store::Tx;

use super::common::{Error, Report, new_id};
use super::leased::{LeasedStore, counted_page, page};
use super::notices::Alert;
use super::upstream::{WatchedDirectory, fresh_directories};

const ACTOR: &str = "lapsed (directories)";
/// Users that the mail to the administrators names.
const MAX_NAMED: usize = 20;
const SWITCHED_OFF: &str = "[service] follow_directories is off";

pub(super) struct Follow<'a> {
    pub store: LeasedStore<'a>,
    pub clock: &'a Clock,
    pub policy: &'a Policy,
    pub directories: &'a [WatchedDirectory],
    pub is_on: bool,
    pub admin_role: Option<&'a str>,
}

impl Follow<'_> {
    pub async fn run(&self, report: &mut Report) -> Result<(), Error> {
        self.follow_directories(report).await?;
        self.store_admins().await
    }

    /// Stores who administers the accounts of the service, as a sync does for a source.
    async fn store_admins(&self) -> Result<(), Error> {
        let mut tx = self.store.begin_read().await?;
        let admins = match self.admin_role {
            Some(role) => tx.list_service_admins(role).await?,
            None => Vec::new(),
        };
        let known = tx.load_source_admins(LOCAL_SOURCE).await?;
        drop(tx);
        if known == admins {
            return Ok(());
        }
        page!(self.store, tx => Ok(tx.replace_source_admins(LOCAL_SOURCE, &admins).await?))
    }

    async fn follow_directories(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin_read().await?;
        let (stop, restore) = if self.is_on {
            let rows = tx.list_directories().await?;
            let fresh = fresh_directories(self.directories, &rows, now);
            (
                tx.find_users_to_stop(&fresh).await?,
                tx.find_users_to_restore(&fresh).await?,
            )
        } else {
            let stopped = tx.list_stopped_users().await?.into_iter();
            let restore = stopped.map(|key| (key, SWITCHED_OFF.to_owned()));
            (Vec::new(), restore.collect())
        };
        drop(tx);
        if stop.is_empty() && restore.is_empty() {
            return Ok(());
        }
        counted_page!(self.store, report, tx => {
            let stopped = self.change(tx, &stop, Some(now), now).await?;
            let restored = self.change(tx, &restore, None, now).await?;
            let alerts = [stopped_alert(&stopped, now), restored_alert(&restored, now)];
            for alert in alerts.into_iter().flatten() {
                alert.plan(tx, self.policy, now, report).await?;
            }
            Ok(())
        })
    }

    /// Returns the users who changed, with the evidence.
    async fn change<'u>(
        &self,
        tx: &mut Tx,
        users: &'u [(String, String)],
        since: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<Vec<&'u (String, String)>, Error> {
        let action = if since.is_some() {
            "user.stop"
        } else {
            "user.restore"
        };
        let mut changed = Vec::new();
        for user in users {
            let (key, evidence) = user;
            if tx.set_lost_access(key, since).await? {
                let entry = [ACTOR, action, key];
                tx.insert_audit(new_id(now), now, entry, Some(evidence))
                    .await?;
                changed.push(user);
            }
        }
        Ok(changed)
    }
}

fn stopped_alert(users: &[&(String, String)], now: DateTime<Utc>) -> Option<Alert<'static>> {
    (!users.is_empty()).then(|| Alert {
        subject: "users without access",
        since: now,
        title: format!(
            "The tokens of {} no longer work: access was lost",
            quantity(users.len(), "user")
        ),
        text: format!(
            "A directory reports that these users of the token service lost access, and [service] follow_directories is \
             on. What uses their tokens is refused from now on. The tokens work again once a directory reports the user \
             as active.\n\n{}\nSee the tokens of one of them:\n\n    lapsed token list --issuer EMAIL",
            named(users)
        ),
    })
}

fn restored_alert(users: &[&(String, String)], now: DateTime<Utc>) -> Option<Alert<'static>> {
    (!users.is_empty()).then(|| Alert {
        subject: "users with access again",
        since: now,
        title: format!("The tokens of {} work again", quantity(users.len(), "user")),
        text: format!(
            "The tokens of these users of the token service had stopped because a directory reported that they lost \
             access.\n\n{}\nSee what happened:\n\n    lapsed audit list",
            named(users)
        ),
    })
}

fn named(users: &[&(String, String)]) -> String {
    let mut lines: Vec<_> = users
        .iter()
        .take(MAX_NAMED)
        .map(|(key, evidence)| format!("    {key}: {evidence}\n"))
        .collect();
    if users.len() > MAX_NAMED {
        lines.push(format!("    and {} more\n", users.len() - MAX_NAMED));
    }
    lines.concat()
}
