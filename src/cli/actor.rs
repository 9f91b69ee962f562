//! Who is at the keyboard, for the audit trail.

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
    actor(|name| std::env::var(name).ok())
}

/// The name of the person, who may have become root for this.
fn actor(env: impl Fn(&str) -> Option<String>) -> String {
    let named = ["SUDO_USER", "USER"]
        .into_iter()
        .filter_map(env)
        .find(|name| !name.is_empty());
    named.unwrap_or_else(|| "unknown".to_owned())
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
        assert_eq!(actor(env(&[("SUDO_USER", "ada"), ("USER", "root")])), "ada");
        assert_eq!(actor(env(&[("SUDO_USER", ""), ("USER", "grace")])), "grace");
        assert_eq!(actor(env(&[])), "unknown");
    }
}
