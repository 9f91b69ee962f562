//! From which address a request comes, where proxies that the operator trusts stand before lapsed.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The header in which trusted proxies name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAddress {
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

impl ClientAddress {
    fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

/// Whoever a trusted proxy names in a way that cannot be read: in no network.
const UNREADABLE: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Reads the header from the right, because what is left of a trusted proxy's own entry was written by the client. The
/// first address that is not a trusted proxy is the client. Without the header, the client is the peer.
pub fn find_client(
    peer: IpAddr,
    headers: &HeaderMap,
    trusted: &[IpNet],
    header: ClientAddress,
) -> IpAddr {
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let lines = headers.get_all(header.name());
    let lines: Vec<_> = lines
        .iter()
        .map(|line| String::from_utf8_lossy(line.as_bytes()))
        .collect();
    let mut client = peer;
    for entry in lines.iter().flat_map(|line| entries(line, header)).rev() {
        let address = match header {
            ClientAddress::XForwardedFor => parse_node(entry),
            ClientAddress::Forwarded => parse_forwarded(entry),
        };
        client = address.unwrap_or(UNREADABLE);
        if !is_trusted(client, trusted) {
            return client;
        }
    }
    client
}

/// Only `Forwarded` has quotes. Where the client has written an odd number of them, nothing is quoted: the last element
/// is the proxy's.
fn entries(line: &str, header: ClientAddress) -> Vec<&str> {
    let has_quotes =
        header == ClientAddress::Forwarded && line.matches('"').count().is_multiple_of(2);
    if has_quotes {
        split_unquoted(line, ',')
    } else {
        line.split(',').collect()
    }
}

pub fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// The `for` of one element, such as `for="[2001:db8::1]:4711";proto=https`.
fn parse_forwarded(element: &str) -> Option<IpAddr> {
    let mut pairs = split_unquoted(element, ';').into_iter();
    let node = pairs.find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value)
    })?;
    parse_node(node.trim().trim_matches('"'))
}

/// An address, with a port or without.
fn parse_node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bracketed = |text: &str| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = text.parse().ok().or_else(|| bracketed(text));
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|it| it.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let mut is_quoted = false;
    let parts = text.split(|letter| {
        is_quoted ^= letter == '"';
        letter == separator && !is_quoted
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn client(peer: &str, header: ClientAddress, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header.name(), line.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        find_client(peer.parse().unwrap(), &headers, &trusted, header).to_string()
    }

    #[rstest]
    #[case::no_header("10.0.0.1", &[], "10.0.0.1")]
    #[case::one("10.0.0.1", &["192.0.2.1"], "192.0.2.1")]
    #[case::untrusted_peer("192.0.2.9", &["192.0.2.1"], "192.0.2.9")]
    #[case::forged_left_entry("10.0.0.1", &["198.51.100.1, 192.0.2.1"], "192.0.2.1")]
    #[case::through_two_proxies("10.0.0.1", &["198.51.100.1, 192.0.2.1, 10.0.0.2"], "192.0.2.1")]
    #[case::several_lines("10.0.0.1", &["198.51.100.1", "192.0.2.1,10.0.0.2"], "192.0.2.1")]
    #[case::all_trusted("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3")]
    #[case::a_port("10.0.0.1", &["192.0.2.1:4711"], "192.0.2.1")]
    #[case::v6("fd00::1", &["2001:db8::1"], "2001:db8::1")]
    #[case::v6_with_a_port("fd00::1", &["[2001:db8::1]:80"], "2001:db8::1")]
    #[case::mapped("10.0.0.1", &["::ffff:192.0.2.1"], "192.0.2.1")]
    #[case::no_address("10.0.0.1", &["192.0.2.1, unknown, 10.0.0.2"], "::")]
    #[case::an_empty_entry("10.0.0.1", &["192.0.2.1,"], "::")]
    #[case::a_quote("10.0.0.1", &["\", 192.0.2.1"], "192.0.2.1")]
    #[case::not_ascii("10.0.0.1", &["\u{ff}, 192.0.2.1"], "192.0.2.1")]
    fn x_forwarded_for_is_read_from_the_right(
        #[case] peer: &str,
        #[case] lines: &[&str],
        #[case] expected: &str,
    ) {
        assert_eq!(client(peer, ClientAddress::XForwardedFor, lines), expected);
    }

    #[rstest]
    #[case::one(&["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60")]
    #[case::quoted_v6(&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17")]
    #[case::forged(&["for=198.51.100.1", "for=192.0.2.1, for=10.0.0.2"], "192.0.2.1")]
    #[case::a_comma_in_quotes(&["for=\"_a,for=198.51.100.1\", for=192.0.2.1"], "192.0.2.1")]
    #[case::hidden(&["for=_hidden, for=10.0.0.2"], "::")]
    #[case::without_for(&["for=192.0.2.1, proto=https"], "::")]
    #[case::an_odd_quote(&["for=\"x, for=192.0.2.1"], "192.0.2.1")]
    fn forwarded_is_read_from_the_right(#[case] lines: &[&str], #[case] expected: &str) {
        assert_eq!(
            client("10.0.0.1", ClientAddress::Forwarded, lines),
            expected
        );
    }

    #[test]
    fn only_the_configured_header_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert("forwarded", "for=192.0.2.1".parse().unwrap());
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let peer = "10.0.0.1".parse().unwrap();
        let found = find_client(peer, &headers, &trusted, ClientAddress::XForwardedFor);
        assert_eq!(found, peer);
    }
}
