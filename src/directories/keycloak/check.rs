//! What the client of lapsed can and cannot see.

use reqwest::StatusCode;
use serde::de::IgnoredAny;

use super::api::{Api, QUERY_GROUPS, VIEW_USERS, explained, status};
use super::groups;
use crate::sources::{Checked, Error, Right};

/// Looks at everything that a pull needs: the count of people and the first of them, and of each allowed
/// group the first member.
///
/// # Errors
/// When a pull could not work; says of all that is missing at once.
pub(super) async fn check(api: &Api, realm: &str, allowed: &[String]) -> Result<Checked, Error> {
    // Without an access token nothing can be said of its rights.
    match api.count().await {
        Err(error) if status(&error) != Some(StatusCode::FORBIDDEN) => {
            return Err(explained(error));
        }
        _ => {}
    }
    let mut sight = Sight::default();
    let people = sight.of("view the people", VIEW_USERS, api.viewed().await)?;
    if !allowed.is_empty() {
        let groups = look(api, allowed).await;
        let what = "view the allowed groups and who is in them";
        sight.of(what, QUERY_GROUPS, groups)?;
    }
    let count = people
        .flatten()
        .map_or_else(String::new, |count| format!(": {count} people"));
    sight.checked(format!("Keycloak, realm {realm}{count}"))
}

async fn look(api: &Api, allowed: &[String]) -> Result<(), Error> {
    // Before they are looked for: whoever may not see any would be told that there is none.
    let _: Vec<IgnoredAny> = api.get("groups", &[("first", "0"), ("max", "1")]).await?;
    for name in allowed {
        let group = groups::find(api, name).await?;
        let path = groups::below(&group.id, "members")?;
        let _: Vec<IgnoredAny> = api.get(&path, &[("first", "0"), ("max", "1")]).await?;
    }
    Ok(())
}

/// What was seen to be permitted, and what was not.
#[derive(Default)]
struct Sight {
    rights: Vec<Right>,
    /// What is in the way, and how to mend it.
    obstacles: Vec<(String, String)>,
}

impl Sight {
    fn of<T>(
        &mut self,
        what: &str,
        mend: &str,
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
            Err(Error::Rights { what, mend }) => self.obstacles.push((what, mend)),
            Err(error) if status(&error) == Some(StatusCode::FORBIDDEN) => {
                let what = format!("Keycloak does not let the client {what}");
                self.obstacles.push((what, mend.to_owned()));
            }
            Err(error) => return Err(explained(error)),
        }
        Ok(None)
    }

    fn checked(self, summary: String) -> Result<Checked, Error> {
        let mut obstacles = self.obstacles.into_iter();
        let Some((what, mut mend)) = obstacles.next() else {
            return Ok(Checked {
                summary,
                rights: self.rights,
            });
        };
        for (what, its_mend) in obstacles {
            mend = format!("{mend}; and {what}; {its_mend}");
        }
        Err(Error::Rights { what, mend })
    }
}
