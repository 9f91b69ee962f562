//! Checks what the client can see.

use reqwest::StatusCode;
use serde::de::IgnoredAny;

use super::groups;
use super::session::{QUERY_GROUPS, Session, VIEW_USERS, explain_refusal, http_status};
use crate::sources::{CheckReport, Error, Right};

/// Reads the count of people and the first of them, and the first member of each allowed group.
///
/// # Errors
/// When a listing cannot work. Names all missing rights at once.
pub(super) async fn check(
    session: &Session,
    realm: &str,
    allowed: &[String],
) -> Result<CheckReport, Error> {
    // Without an access token its rights cannot be checked.
    match session.fetch_count().await {
        Err(error) if http_status(&error) != Some(StatusCode::FORBIDDEN) => {
            return Err(explain_refusal(error));
        }
        _ => {}
    }
    let mut rights_check = RightsCheck::default();
    let people = rights_check.record(
        "view the people",
        VIEW_USERS,
        session.ensure_can_view_users().await,
    )?;
    if !allowed.is_empty() {
        let groups = probe_groups(session, allowed).await;
        let what = "view the allowed groups and who is in them";
        rights_check.record(what, QUERY_GROUPS, groups)?;
    }
    let count = people
        .flatten()
        .map_or_else(String::new, |count| format!(": {count} people"));
    rights_check.into_checked(format!("Keycloak, realm {realm}{count}"))
}

async fn probe_groups(session: &Session, allowed: &[String]) -> Result<(), Error> {
    // First, because a client that may not see groups would be reported as "no such group".
    let _: Vec<IgnoredAny> = session
        .fetch("groups", &[("first", "0"), ("max", "1")])
        .await?;
    for name in allowed {
        let group = groups::find_group(session, name).await?;
        let path = groups::group_path(&group.id, "members")?;
        let _: Vec<IgnoredAny> = session
            .fetch(&path, &[("first", "0"), ("max", "1")])
            .await?;
    }
    Ok(())
}

#[derive(Default)]
struct RightsCheck {
    rights: Vec<Right>,
    /// What is missing, and how to fix it.
    missing: Vec<(String, String)>,
}

impl RightsCheck {
    fn record<T>(
        &mut self,
        what: &str,
        fix: &str,
        seen: Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        match seen {
            Ok(seen) => {
                self.rights.push(Right {
                    what: what.to_owned(),
                    missing: None,
                });
                return Ok(Some(seen));
            }
            Err(Error::Rights { what, fix }) => self.missing.push((what, fix)),
            Err(error) if http_status(&error) == Some(StatusCode::FORBIDDEN) => {
                let what = format!("Keycloak does not let the client {what}");
                self.missing.push((what, fix.to_owned()));
            }
            Err(error) => return Err(explain_refusal(error)),
        }
        Ok(None)
    }

    fn into_checked(self, summary: String) -> Result<CheckReport, Error> {
        let mut missing = self.missing.into_iter();
        let Some((what, mut fix)) = missing.next() else {
            return Ok(CheckReport {
                summary,
                rights: self.rights,
            });
        };
        for (what, other_fix) in missing {
            fix = format!("{fix}; and {what}; {other_fix}");
        }
        Err(Error::Rights { what, fix })
    }
}
