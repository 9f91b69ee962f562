//! The networks from which a token may be used.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{AddrParseError, IpNet, Ipv4Net};

use super::Problem;

/// Each is compared at every use.
const MAX_COUNT: usize = 50;

/// Networks in CIDR notation, sorted. Without any, the token works from everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut networks: Vec<IpNet> = networks.into_iter().map(canonical).collect();
        networks.sort_unstable();
        networks.dedup();
        Self(networks)
    }

    pub fn is_unlimited(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.0.iter()
    }

    /// # Errors
    /// If a token cannot have so many.
    pub fn check_count(&self) -> Result<(), Problem> {
        if self.0.len() <= MAX_COUNT {
            return Ok(());
        }
        let detail = format!("a token has at most {MAX_COUNT} networks");
        Err(Problem::invalid("/networks", detail).fix("name larger networks"))
    }

    /// An IPv4 address in an IPv6 one (`::ffff:192.0.2.1`) counts as the IPv4 address.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.is_unlimited() || self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether it allows every address that `other` allows.
    pub fn contain(&self, other: &Self) -> bool {
        let is_inside = |inner: &IpNet| self.0.iter().any(|network| network.contains(inner));
        self.is_unlimited() || (!other.is_unlimited() && other.0.iter().all(is_inside))
    }
}

/// Separated by blanks.
impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<String> = self.0.iter().map(IpNet::to_string).collect();
        f.write_str(&networks.join(" "))
    }
}

/// Separated by blanks; an address alone is the network of this address.
impl FromStr for Networks {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let networks: Result<Vec<IpNet>, _> = text.split_whitespace().map(parse_network).collect();
        networks.map(Self::new)
    }
}

/// A network of IPv4 addresses in IPv6 ones counts as the IPv4 network, as such an address does.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(inner) = network.trunc() else {
        return network.trunc();
    };
    let address = inner.network().to_ipv4_mapped();
    let length = inner.prefix_len().checked_sub(96);
    let mapped = address.zip(length);
    let mapped = mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    mapped.map_or(IpNet::V6(inner), IpNet::V4)
}

/// A network in CIDR notation; an address alone is the network of this address.
///
/// # Errors
/// If it is neither.
pub fn parse_network(text: &str) -> Result<IpNet, AddrParseError> {
    text.parse().or_else(|error| {
        let address = text.parse::<IpAddr>();
        address.map_or(Err(error), |address| Ok(address.into()))
    })
}
