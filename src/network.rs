//! What may cross a network unencrypted, and which addresses are one client.

use std::net::{IpAddr, Ipv6Addr};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

/// Whether a host, as in a URL, is this machine: what is sent there crosses no network.
pub fn is_this_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
}

/// The address that limits count for a client: one site with IPv6 has a network of /64 at least.
pub fn client_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Whether a request to `url` is sent unencrypted to another host.
pub fn is_exposed(url: &Url) -> bool {
    url.scheme() == "http" && !is_this_host(url.host_str().unwrap_or_default())
}

/// For connections to PostgreSQL.
pub const TLS_ADVICE: &str =
    "see sslmode and sslrootcert in the URL; sslmode=disable connects without TLS";

/// The URLs of the servers in a URL of PostgreSQL that names several, as libpq takes it
/// (<https://www.postgresql.org/docs/current/libpq-connect.html>, "Specifying Multiple Hosts"). The server that takes
/// writes is always used, so that `target_session_attrs` says nothing new.
pub fn split_hosts(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return vec![url.to_owned()];
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let path = without_session_attributes(path);
    let hosts = hosts.split(',');
    hosts
        .map(|host| format!("{scheme}://{user}{host}{path}"))
        .collect()
}

fn without_session_attributes(path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else {
        return path.to_owned();
    };
    let kept: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.starts_with("target_session_attrs="))
        .collect();
    match kept.as_slice() {
        [] => path.to_owned(),
        kept => format!("{path}?{}", kept.join("&")),
    }
}

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
    #[case::one("postgres://u:p@a/db", &["postgres://u:p@a/db"])]
    #[case::several(
        "postgres://u:p@a:5432,b:5433,[::1]/db?sslmode=require&target_session_attrs=read-write",
        &[
            "postgres://u:p@a:5432/db?sslmode=require",
            "postgres://u:p@b:5433/db?sslmode=require",
            "postgres://u:p@[::1]/db?sslmode=require",
        ]
    )]
    #[case::an_at_sign_and_a_comma_in_the_path("postgres:///db,c?host=/run@x", &["postgres:///db,c?host=/run@x"])]
    #[case::only_attributes("postgres://a/db?target_session_attrs=any", &["postgres://a/db"])]
    fn a_url_may_name_several_hosts(#[case] url: &str, #[case] urls: &[&str]) {
        assert_eq!(split_hosts(url), urls);
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
