//! Who is at the keyboard, for the audit trail.

use std::os::unix::fs::MetadataExt as _;

use chrono::{DateTime, Utc};

use super::setup::store_failure;
use crate::engine;
use crate::store::Tx;

/// Writes down what the person at the keyboard did, to what.
pub(super) async fn audit(
    tx: &mut Tx,
    now: DateTime<Utc>,
    (action, subject): (&str, &str),
    reason: Option<&str>,
) -> anyhow::Result<()> {
    let actor = name();
    let entry = [actor.as_str(), action, subject];
    Ok(tx
        .audit(engine::new_id(now), now, entry, reason)
        .await
        .map_err(store_failure)?)
}

/// The name of the person at the keyboard.
pub(super) fn name() -> String {
    actor(|name| std::env::var(name).ok()).unwrap_or_else(|| {
        let own = std::fs::metadata("/proc/self").map(|process| process.uid());
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        own.map_or_else(|_| "somebody unknown".to_owned(), |uid| user(uid, &users))
    })
}

/// The name of the person, who may have become root for this, where the environment has it.
fn actor(env: impl Fn(&str) -> Option<String>) -> Option<String> {
    ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .filter_map(env)
        .find(|name| !name.is_empty())
}

/// What these users (passwd(5)) call the one of a number: services, timers and containers have no more.
fn user(uid: u32, users: &str) -> String {
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_person_behind_sudo_counts() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                let found = pairs.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            }
        };
        for (pairs, name) in [
            (&[("SUDO_USER", "ada"), ("USER", "root")][..], Some("ada")),
            (&[("SUDO_USER", ""), ("USER", "grace")], Some("grace")),
            (&[("USER", ""), ("LOGNAME", "joan")], Some("joan")),
            (&[], None),
        ] {
            assert_eq!(actor(env(pairs)).as_deref(), name);
        }
    }

    #[test]
    fn a_service_is_called_by_its_user() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\n+::::::\nbroken\nlapsed:x:977:977::/:/bin/false";
        assert_eq!(user(977, users), "lapsed");
        assert_eq!(user(0, users), "root");
        assert_eq!(user(1000, users), "uid 1000");
        assert_eq!(user(1000, ""), "uid 1000");
    }
}
