//! Rancher's settings for the life of tokens.

use chrono::TimeDelta;
use reqwest::StatusCode;

use super::api::{Api, none_if_status};
use super::shapes::Setting;
use crate::sources::{Error, MaxLife};
use crate::text;

const MAX_TTL: &str = "auth-token-max-ttl-minutes";
const KUBECONFIG: &str = "kubeconfig-default-token-ttl-minutes";
/// Removed in Rancher 2.8.
const OLD_KUBECONFIG: &str = "kubeconfig-token-ttl-minutes";
const GENERATE_KUBECONFIG: &str = "kubeconfig-generate-token";

/// A setting is `None` if it does not exist or may not be read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Settings {
    max_ttl: Option<String>,
    kubeconfig: Option<String>,
    old_kubeconfig: Option<String>,
    generates_kubeconfig: Option<String>,
}

impl Settings {
    pub async fn fetch(api: &Api) -> Result<Self, Error> {
        Ok(Self {
            max_ttl: fetch_setting(api, MAX_TTL).await?,
            kubeconfig: fetch_setting(api, KUBECONFIG).await?,
            old_kubeconfig: fetch_setting(api, OLD_KUBECONFIG).await?,
            generates_kubeconfig: fetch_setting(api, GENERATE_KUBECONFIG).await?,
        })
    }

    /// Whether the most important setting could be read.
    pub fn are_readable(&self) -> bool {
        self.max_ttl.is_some()
    }

    /// Rancher limits the life of every token, including kubeconfig tokens. Servers without a default life for
    /// kubeconfig tokens create them without an expiry.
    pub fn max_life(&self) -> Option<MaxLife> {
        let minutes = |text: &Option<String>| text.as_deref()?.parse::<i64>().ok();
        let max_ttl = minutes(&self.max_ttl)?;
        let creates_endless = self.kubeconfig.is_none()
            && self.old_kubeconfig.is_some()
            && self.generates_kubeconfig.as_deref() == Some("true");
        let is_endless = max_ttl <= 0 || creates_endless;
        let life = if is_endless {
            None
        } else {
            TimeDelta::try_minutes(max_ttl)
        };
        Some(MaxLife {
            life,
            evidence: self.evidence(),
        })
    }

    /// Example: `auth-token-max-ttl-minutes is 0, kubeconfig-generate-token is true`.
    fn evidence(&self) -> String {
        let settings = [
            (MAX_TTL, &self.max_ttl),
            (KUBECONFIG, &self.kubeconfig),
            (OLD_KUBECONFIG, &self.old_kubeconfig),
            (GENERATE_KUBECONFIG, &self.generates_kubeconfig),
        ];
        let parts = settings
            .iter()
            .filter_map(|(name, value)| Some(format!("{name} is {}", value.as_deref()?)));
        parts.collect::<Vec<_>>().join(", ")
    }
}

async fn fetch_setting(api: &Api, name: &str) -> Result<Option<String>, Error> {
    let missing = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
    let setting = api.get::<Setting>(&format!("v3/settings/{name}")).await;
    let value = none_if_status(setting, &missing)?.and_then(Setting::effective);
    // The text is printed, so it is cleaned; these settings are short.
    Ok(value.map(|value| text::one_line(&value, 40)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(max_ttl: &str, kubeconfig: Option<&str>, generates: &str) -> Settings {
        Settings {
            max_ttl: Some(max_ttl.to_owned()),
            kubeconfig: kubeconfig.map(str::to_owned),
            old_kubeconfig: Some("960".to_owned()),
            generates_kubeconfig: Some(generates.to_owned()),
        }
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
