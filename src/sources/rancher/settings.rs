//! How long Rancher lets tokens live, as its settings say.

use chrono::TimeDelta;
use reqwest::StatusCode;

use super::api::{Api, readable};
use super::shapes::Setting;
use crate::sources::{Error, LongestLife};

const LONGEST: &str = "auth-token-max-ttl-minutes";
const KUBECONFIG: &str = "kubeconfig-default-token-ttl-minutes";
/// Gone in Rancher 2.8.
const OLD_KUBECONFIG: &str = "kubeconfig-token-ttl-minutes";
const MAKES_KUBECONFIG: &str = "kubeconfig-generate-token";

/// The settings that say how long tokens live, where they are and may be read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Settings {
    longest: Option<String>,
    kubeconfig: Option<String>,
    old_kubeconfig: Option<String>,
    makes_kubeconfig: Option<String>,
}

impl Settings {
    /// Reads them.
    pub async fn read(api: &Api) -> Result<Self, Error> {
        Ok(Self {
            longest: read(api, LONGEST).await?,
            kubeconfig: read(api, KUBECONFIG).await?,
            old_kubeconfig: read(api, OLD_KUBECONFIG).await?,
            makes_kubeconfig: read(api, MAKES_KUBECONFIG).await?,
        })
    }

    /// Whether the one that matters most could be read.
    pub fn are_told(&self) -> bool {
        self.longest.is_some()
    }

    /// The longest life that a token can have. Rancher cuts every life, that of kubeconfig tokens too, to
    /// the longest of all. Servers that do not know a default life of kubeconfig tokens make them without
    /// an end.
    pub fn longest_life(&self) -> Option<LongestLife> {
        let minutes = |text: &Option<String>| text.as_deref()?.parse::<i64>().ok();
        let longest = minutes(&self.longest)?;
        let makes_endless = self.kubeconfig.is_none()
            && self.old_kubeconfig.is_some()
            && self.makes_kubeconfig.as_deref() == Some("true");
        let is_endless = longest <= 0 || makes_endless;
        let life = if is_endless {
            None
        } else {
            TimeDelta::try_minutes(longest)
        };
        Some(LongestLife {
            life,
            evidence: self.evidence(),
        })
    }

    /// `auth-token-max-ttl-minutes is 0, kubeconfig-generate-token is true`.
    fn evidence(&self) -> String {
        let settings = [
            (LONGEST, &self.longest),
            (KUBECONFIG, &self.kubeconfig),
            (OLD_KUBECONFIG, &self.old_kubeconfig),
            (MAKES_KUBECONFIG, &self.makes_kubeconfig),
        ];
        let told = settings
            .iter()
            .filter_map(|(name, value)| Some(format!("{name} is {}", value.as_deref()?)));
        told.collect::<Vec<_>>().join(", ")
    }
}

async fn read(api: &Api, name: &str) -> Result<Option<String>, Error> {
    let missing = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
    let setting = api.get::<Setting>(&format!("v3/settings/{name}")).await;
    let value = readable(setting, &missing)?.and_then(Setting::effective);
    // Such a text is shown; these settings are numbers and words.
    Ok(value.map(|value| value.chars().filter(|c| !c.is_control()).take(40).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(longest: &str, kubeconfig: Option<&str>, makes: &str) -> Settings {
        Settings {
            longest: Some(longest.to_owned()),
            kubeconfig: kubeconfig.map(str::to_owned),
            old_kubeconfig: Some("960".to_owned()),
            makes_kubeconfig: Some(makes.to_owned()),
        }
    }

    fn life(settings: &Settings) -> Option<TimeDelta> {
        settings.longest_life().unwrap().life
    }

    #[test]
    fn zero_lets_tokens_live_for_ever() {
        let endless = settings("0", Some("43200"), "true");
        assert_eq!(
            endless.longest_life(),
            Some(LongestLife {
                life: None,
                evidence: "auth-token-max-ttl-minutes is 0, kubeconfig-default-token-ttl-minutes is 43200, \
                           kubeconfig-token-ttl-minutes is 960, kubeconfig-generate-token is true"
                    .to_owned()
            })
        );
    }

    #[test]
    fn the_longest_life_holds_for_kubeconfig_tokens_too() {
        let days = Some(TimeDelta::days(90));
        assert_eq!(life(&settings("129600", Some("0"), "true")), days);
        assert_eq!(life(&settings("129600", None, "false")), days);
    }

    #[test]
    fn old_servers_make_kubeconfig_tokens_without_an_end() {
        assert_eq!(life(&settings("129600", None, "true")), None);
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        assert_eq!(Settings::default().longest_life(), None);
        assert_eq!(settings("soon", None, "true").longest_life(), None);
    }
}
