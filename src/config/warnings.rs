//! Valid settings that are probably mistakes.

use super::{Config, Transport};
use crate::notify::smtp::{SmtpSettings, Tls};

impl Config {
    /// Printed by `lapsed check`; each names the key and what to do.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = vec![];
        if self.policy.admins.is_empty() {
            warnings.push(
                "notify.admins is empty: when an issuer cannot be reached and the account has no \
                 admins, no one is notified; add an admin"
                    .to_owned(),
            );
        }
        if self.policy.max_per_sweep == 0 {
            warnings.push(
                "notify.max_per_sweep is 0: nothing stops a flood of mails after a mistake"
                    .to_owned(),
            );
        }
        let may_revoke = self.sources.iter().any(|source| source.terms.allow_revoke);
        if self.settings.response.is_some() && !may_revoke {
            warnings.push(
                "policy.sso_revoked is \"revoke\" and no [[source]] has allow_revoke = true: no token \
                 is revoked; set it for the sources where lapsed may revoke tokens, or set \"flag\""
                    .to_owned(),
            );
        }
        if self.settings.response.is_some() && self.policy.admins.is_empty() {
            warnings.push(
                "policy.sso_revoked is \"revoke\" and notify.admins is empty: lapsed does not revoke \
                 a token if it can warn no one before; add an admin"
                    .to_owned(),
            );
        }
        match (&self.smtp, self.mail.transport) {
            (Some(smtp), Transport::Smtp) => warnings.extend(encryption_warning(smtp)),
            (_, Transport::File) => warnings.push(format!(
                "mail.transport is \"file\": mails are written to {} and not sent",
                self.mail.directory.display()
            )),
            (None, Transport::Smtp) => {}
        }
        if let Some(listen) = self.http.listen.filter(|listen| !listen.ip().is_loopback()) {
            warnings.push(format!(
                "http.listen is {listen}: everyone who can connect to it can read health and metrics"
            ));
        }
        warnings
    }
}

fn encryption_warning(smtp: &SmtpSettings) -> Option<String> {
    let local = smtp.host == "localhost"
        || smtp
            .host
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    match smtp.tls {
        Tls::Implicit | Tls::Required => None,
        Tls::None | Tls::Opportunistic if local => None,
        Tls::None if smtp.password.is_some() => Some(
            "smtp.url has tls=none and there is a password: it crosses the network unencrypted; use \
             tls=required or smtps://"
                .to_owned(),
        ),
        Tls::None => Some("smtp.url has tls=none: mails cross the network unencrypted".to_owned()),
        Tls::Opportunistic => Some(
            "smtp.url has tls=opportunistic: an attacker on the network can turn encryption off; use \
             tls=required if the server offers STARTTLS"
                .to_owned(),
        ),
    }
}
