//! What is legal in a configuration and yet worth a second look.

use super::{Config, Smtp, Tls, Transport};

impl Config {
    /// What `lapsed check` warns of; each a sentence that names the key and what to do.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = vec![];
        if self.notify.admins.is_empty() {
            warnings.push(
                "notify.admins is empty: when an issuer cannot be reached and the account has no \
                 admins, nobody is told; add somebody"
                    .to_owned(),
            );
        }
        if self.notify.max_per_sweep == 0 {
            warnings.push(
                "notify.max_per_sweep is 0: nothing holds back a flood of mails after a mistake"
                    .to_owned(),
            );
        }
        let may_revoke = self.sources.iter().any(|source| source.allow_revoke);
        if self.policy.response.is_some() && !may_revoke {
            warnings.push(
                "policy.sso_revoked is \"revoke\" and no [[source]] has allow_revoke = true: no token is \
                 ended; allow it where lapsed may, or set \"flag\""
                    .to_owned(),
            );
        }
        if self.policy.response.is_some() && self.notify.admins.is_empty() {
            warnings.push(
                "policy.sso_revoked is \"revoke\" and notify.admins is empty: a token of whose end nobody \
                 can be warned is not ended; add somebody"
                    .to_owned(),
            );
        }
        match (&self.smtp, self.mail.transport) {
            (Some(smtp), Transport::Smtp) => warnings.extend(encryption(smtp)),
            (_, Transport::File) => warnings.push(format!(
                "mail.transport is \"file\": mails are written to {}, nobody gets them",
                self.mail.directory.display()
            )),
            (None, Transport::Smtp) => {}
        }
        if let Some(listen) = self.http.listen.filter(|listen| !listen.ip().is_loopback()) {
            warnings.push(format!(
                "http.listen is {listen}: everybody who reaches it can read health and metrics"
            ));
        }
        warnings
    }
}

fn encryption(smtp: &Smtp) -> Option<String> {
    let local = smtp.host == "localhost"
        || smtp
            .host
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.is_loopback());
    match smtp.tls {
        Tls::Implicit | Tls::Required => None,
        Tls::None | Tls::Opportunistic if local => None,
        Tls::None if smtp.password.is_some() => Some(
            "smtp.url has tls=none and there is a password: it crosses the network readable; use \
             tls=required or smtps://"
                .to_owned(),
        ),
        Tls::None => Some("smtp.url has tls=none: mails cross the network readable".to_owned()),
        Tls::Opportunistic => Some(
            "smtp.url has tls=opportunistic: whoever sits between can switch encryption off; use \
             tls=required once the server offers STARTTLS"
                .to_owned(),
        ),
    }
}
