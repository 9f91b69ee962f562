//! `[issuers]`: which issuers the directories cover, and under which address.

use super::field::Field;
use super::table::Table;
use crate::domain::{Address, IssuerMode, Issuers};

pub(super) fn parse(mut table: Table) -> Issuers {
    let modes = table.map("modes", Field::parse::<IssuerMode>);
    let addresses = table.map("addresses", Field::parse::<Address>);
    let is_address = |name: &str| name.parse::<Address>().is_ok();
    let is_domain = |name: &str| {
        let domain = name.strip_prefix("*@");
        domain.is_some_and(|domain| is_address(&format!("a@{domain}")))
    };
    for name in modes
        .keys()
        .filter(|name| !is_address(name) && !is_domain(name))
    {
        let why = format!("{name:?} is not an address; write name@example.org or *@example.org");
        table.refuse("modes", &why);
    }
    for name in addresses.keys().filter(|name| !is_address(name)) {
        let why = format!("{name:?} is not an address; write name@example.org");
        table.refuse("addresses", &why);
    }
    table.finish();
    let lower = |name: String| name.trim().to_lowercase();
    Issuers {
        modes: modes
            .into_iter()
            .map(|(name, mode)| (lower(name), mode))
            .collect(),
        addresses: addresses
            .into_iter()
            .map(|(name, address)| (lower(name), address))
            .collect(),
    }
}
