//! From where a token may be used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use crate::domain::service::Networks;

fn networks(text: &str) -> Networks {
    text.parse().unwrap()
}

#[test]
fn an_address_is_allowed_within_a_network() {
    for (text, address, expected) in [
        ("", "203.0.113.9", true),
        ("", "2001:db8::1", true),
        ("10.0.0.0/8", "10.255.255.255", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("10.1.2.3/8", "10.9.9.9", true),
        ("192.0.2.7", "192.0.2.7", true),
        ("192.0.2.7", "192.0.2.8", false),
        ("10.0.0.0/8", "::ffff:10.1.2.3", true),
        ("::ffff:10.0.0.0/104", "10.1.2.3", true),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", true),
        ("::ffff:10.0.0.0/104", "11.1.2.3", false),
        ("2001:db8::/32", "2001:db8:1::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("0.0.0.0/0", "2001:db8::1", false),
        ("::/0", "192.0.2.7", false),
        ("10.0.0.0/8 2001:db8::/32", "2001:db8::1", true),
    ] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(networks(text).allow(address), expected, "{text} {address}");
    }
}

#[test]
fn networks_are_sorted_and_without_duplicates() {
    let text = networks("192.0.2.7 10.1.2.3/8 10.0.0.0/8").to_string();
    assert_eq!(text, "10.0.0.0/8 192.0.2.7/32");
}

#[test]
fn what_is_not_a_network_is_refused() {
    for text in [
        "10.0.0",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "localhost",
        "10.0.0.0-10.1.0.0",
        "::/129",
    ] {
        assert!(text.parse::<Networks>().is_err(), "{text}");
    }
}

#[test]
fn networks_contain_what_is_not_wider() {
    for (outer, inner, expected) in [
        ("", "", true),
        ("", "10.0.0.0/8", true),
        ("10.0.0.0/8", "", false),
        ("0.0.0.0/0", "", false),
        ("10.0.0.0/8", "10.1.0.0/16 10.2.0.0/16", true),
        ("10.0.0.0/8", "10.1.0.0/16 11.0.0.0/16", false),
        ("10.1.0.0/16", "10.0.0.0/8", false),
        ("::/0", "10.0.0.0/8", false),
    ] {
        assert_eq!(
            networks(outer).contain(&networks(inner)),
            expected,
            "{outer:?} {inner:?}"
        );
    }
}

/// Few addresses, so that networks meet.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..4u32).prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits << 30 | 1))),
        (0..4u128).prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits << 126 | 1))),
        (0..4u32).prop_map(|bits| { IpAddr::V6(Ipv4Addr::from(bits << 30 | 1).to_ipv6_mapped()) }),
    ]
}

fn network() -> impl Strategy<Value = IpNet> {
    (address(), 0..=32u8).prop_map(|(address, length)| match address {
        IpAddr::V4(address) => Ipv4Net::new(address, length).unwrap().into(),
        IpAddr::V6(address) => Ipv6Net::new(address, length * 4).unwrap().into(),
    })
}

fn some_networks() -> impl Strategy<Value = Networks> {
    prop::collection::vec(network(), 0..4).prop_map(Networks::new)
}

proptest! {
    #[test]
    fn narrower_networks_never_allow_more(
        outer in some_networks(),
        inner in some_networks(),
        address in address(),
    ) {
        prop_assert!(outer.contain(&outer));
        if outer.contain(&inner) && inner.allow(address) {
            prop_assert!(outer.allow(address), "{outer} / {inner} / {address}");
        }
    }

    #[test]
    fn networks_survive_being_written(networks in some_networks()) {
        prop_assert_eq!(networks.to_string().parse::<Networks>(), Ok(networks));
    }
}
