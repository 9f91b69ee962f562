//! What may cross a network unencrypted.

use std::net::IpAddr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

/// Whether a host, as in a URL, is this machine: what is sent there crosses no network.
pub fn is_this_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
}

/// Whether a request to `url` is sent unencrypted to another host.
pub fn is_exposed(url: &Url) -> bool {
    url.scheme() == "http" && !is_this_host(url.host_str().unwrap_or_default())
}

/// For connections to PostgreSQL.
pub const TLS_ADVICE: &str =
    "see sslmode and sslrootcert in the URL; sslmode=disable connects without TLS";

/// Requires TLS for a server on another host, where libpq and sqlx would only prefer it. `sslmode=disable` turns
/// it off.
pub fn require_tls(options: PgConnectOptions) -> PgConnectOptions {
    let host = options.get_host();
    let is_here = host.starts_with('/') || options.get_socket().is_some() || is_this_host(host);
    match options.get_ssl_mode() {
        PgSslMode::Allow | PgSslMode::Prefer if !is_here => options.ssl_mode(PgSslMode::Require),
        _ => options,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn only_loopback_names_and_addresses_are_this_host() {
        for host in [
            "localhost",
            "LocalHost",
            "127.0.0.1",
            "127.1.2.3",
            "[::1]",
            "::1",
        ] {
            assert!(is_this_host(host), "{host}");
        }
        for host in ["", "localhost.example.org", "192.0.2.1", "0.0.0.0", "[::2]"] {
            assert!(!is_this_host(host), "{host}");
        }
    }

    #[rstest]
    #[case::another_host("postgres://db.example.org/lapsed", PgSslMode::Require)]
    #[case::an_address("postgres://192.0.2.1/lapsed?sslmode=prefer", PgSslMode::Require)]
    #[case::in_the_query("postgres:///lapsed?host=192.0.2.1", PgSslMode::Require)]
    #[case::verified(
        "postgres://192.0.2.1/lapsed?sslmode=verify-full",
        PgSslMode::VerifyFull
    )]
    #[case::off("postgres://192.0.2.1/lapsed?sslmode=disable", PgSslMode::Disable)]
    #[case::this_host("postgres://127.0.0.1/lapsed", PgSslMode::Prefer)]
    #[case::a_socket("postgres:///lapsed?host=/run/postgresql", PgSslMode::Prefer)]
    fn postgres_on_another_host_is_reached_by_tls(#[case] url: &str, #[case] mode: PgSslMode) {
        let options = require_tls(url.parse().unwrap());
        assert_eq!(format!("{:?}", options.get_ssl_mode()), format!("{mode:?}"));
    }
}
