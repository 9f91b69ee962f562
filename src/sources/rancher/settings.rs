//! Rancher's settings for the life of tokens.

use chrono::TimeDelta;

use super::api::{Api, NOT_READABLE};
use super::shapes::Setting;
use crate::sources::{Error, MaxLife};
use crate::text;
use crate::upstream::none_if_status;

const MAX_TTL: &str = "auth-token-max-ttl-minutes";
const KUBECONFIG: &str = "kubeconfig-default-token-ttl-minutes";
/// Removed in Rancher 2.8.
const OLD_KUBECONFIG: &str = "kubeconfig-token-ttl-minutes";
const GENERATE_KUBECONFIG: &str = "kubeconfig-generate-token";

/// The settings that exist and may be read, with their values.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Settings(Vec<(&'static str, String)>);

impl Settings {
    pub async fn fetch(api: &Api) -> Result<Self, Error> {
        let mut settings = Self::default();
        for name in [MAX_TTL, KUBECONFIG, OLD_KUBECONFIG, GENERATE_KUBECONFIG] {
            let setting = api.get::<Setting>(&format!("v3/settings/{name}")).await;
            let value = none_if_status(setting, &NOT_READABLE)?.and_then(Setting::effective);
            // The text is printed, so it is cleaned; these settings are short.
            let value = value.map(|value| (name, text::one_line(&value, 40)));
            settings.0.extend(value);
        }
        Ok(settings)
    }

    fn get(&self, name: &str) -> Option<&str> {
        let setting = self.0.iter().find(|(known, _)| *known == name);
        setting.map(|(_, value)| value.as_str())
    }

    /// Whether the most important setting could be read.
    pub fn are_readable(&self) -> bool {
        self.get(MAX_TTL).is_some()
    }

    /// Rancher limits the life of every token, including kubeconfig tokens. Servers without a default life for
    /// kubeconfig tokens create them without an expiry.
    pub fn max_life(&self) -> Option<MaxLife> {
        let max_ttl: i64 = self.get(MAX_TTL)?.parse().ok()?;
        let creates_endless = self.get(KUBECONFIG).is_none()
            && self.get(OLD_KUBECONFIG).is_some()
            && self.get(GENERATE_KUBECONFIG) == Some("true");
        let is_limited = max_ttl > 0 && !creates_endless;
        let evidence = self
            .0
            .iter()
            .map(|(name, value)| format!("{name} is {value}"));
        Some(MaxLife {
            life: is_limited
                .then(|| TimeDelta::try_minutes(max_ttl))
                .flatten(),
            // Example: `auth-token-max-ttl-minutes is 0, kubeconfig-generate-token is true`.
            evidence: evidence.collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(max_ttl: &str, kubeconfig: Option<&str>, generates: &str) -> Settings {
        let settings = [
            (MAX_TTL, Some(max_ttl)),
            (KUBECONFIG, kubeconfig),
            (OLD_KUBECONFIG, Some("960")),
            (GENERATE_KUBECONFIG, Some(generates)),
        ];
        let settings = settings.into_iter();
        Settings(
            settings
                .filter_map(|(name, value)| Some((name, value?.to_owned())))
                .collect(),
        )
    }

    fn life(settings: &Settings) -> Option<TimeDelta> {
        settings.max_life().unwrap().life
    }

    #[test]
    fn zero_means_an_unlimited_life() {
        let endless = settings("0", Some("43200"), "true");
        assert_eq!(
            endless.max_life(),
            Some(MaxLife {
                life: None,
                evidence: "auth-token-max-ttl-minutes is 0, kubeconfig-default-token-ttl-minutes is 43200, \
                           kubeconfig-token-ttl-minutes is 960, kubeconfig-generate-token is true"
                    .to_owned()
            })
        );
    }

    #[test]
    fn the_maximum_life_also_limits_kubeconfig_tokens() {
        let days = Some(TimeDelta::days(90));
        assert_eq!(life(&settings("129600", Some("0"), "true")), days);
        assert_eq!(life(&settings("129600", None, "false")), days);
    }

    #[test]
    fn old_servers_create_kubeconfig_tokens_without_expiry() {
        assert_eq!(life(&settings("129600", None, "true")), None);
    }

    #[test]
    fn unreadable_settings_give_no_maximum_life() {
        assert_eq!(Settings::default().max_life(), None);
        assert_eq!(settings("soon", None, "true").max_life(), None);
    }
}
