//! Whether the listener of the API can serve, and whom it trusts.

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;

use super::outcome::Outcome;
use crate::causes::Causes;
use crate::cli::exit::Exit;
use crate::config::{ClientAddress, Web, WebTls};
use crate::time::shift;
use crate::tls::{CertificateFault, ServerCertificate};

/// A certificate that ends within this time should have been renewed.
const RENEWAL: TimeDelta = TimeDelta::days(14);

/// `None` if the listener is off.
pub(super) fn check_web(web: &Web, now: DateTime<Utc>) -> Option<Outcome> {
    let listen = web.listen?;
    let problem = web
        .tls
        .as_ref()
        .and_then(|tls| check_certificate(web, tls, now));
    let tls = if web.tls.is_some() { "with" } else { "without" };
    let proxies = trust_text(web);
    Some(problem.unwrap_or_else(|| Outcome::Passed(format!("{listen}, {tls} TLS; {proxies}"))))
}

fn check_certificate(web: &Web, tls: &WebTls, now: DateTime<Utc>) -> Option<Outcome> {
    let certificate = match ServerCertificate::load(&tls.certificate, &tls.key) {
        Ok(certificate) => certificate,
        Err(error) => {
            let fix = "set [web] tls_certificate to a PEM file that this user can read, the certificate first, and \
                       tls_key to its private key";
            return Some(Outcome::failed(
                Causes(&error).to_string(),
                fix,
                Exit::Config,
            ));
        }
    };
    let path = tls.certificate.display();
    let host = web.base_url.as_ref().and_then(|url| url.host_str());
    let fault = certificate.find_fault(host, now);
    let soon = certificate.find_fault(None, shift(now, RENEWAL));
    match (fault, soon) {
        (Some(CertificateFault::OtherName), _) => Some(Outcome::Warning(format!(
            "the certificate in {path} is not for {}, the host of [web] base_url; get one for that name, or correct \
             base_url",
            host.unwrap_or_default()
        ))),
        (Some(fault), _) => Some(Outcome::failed(
            format!("{fault}: {path}"),
            "renew it, replace the file, and reload lapsed (SIGHUP); or set the clock of this machine",
            Exit::Failed,
        )),
        (None, Some(CertificateFault::Expired)) => Some(Outcome::Warning(format!(
            "the certificate in {path} expires within {} days; renew it, and reload lapsed (SIGHUP)",
            RENEWAL.num_days()
        ))),
        (None, _) => None,
    }
}

/// Whose statement about the client's address is read.
fn trust_text(web: &Web) -> String {
    if web.trusted_proxies.is_empty() {
        return "no proxy is trusted".to_owned();
    }
    let header = match web.client_address {
        ClientAddress::XForwardedFor => "X-Forwarded-For",
        ClientAddress::Forwarded => "Forwarded",
    };
    let networks: Vec<_> = web.trusted_proxies.iter().map(IpNet::to_string).collect();
    format!("{header} is read from {}", networks.join(", "))
}
