//! Administrators that the sources themselves tell of.

use std::collections::HashMap;

use super::{Address, Token};

/// Who administers which account, as each source tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToldAdmins(HashMap<String, HashMap<String, Vec<Address>>>);

impl ToldAdmins {
    /// Takes note of one.
    pub fn add(&mut self, source: &str, account: &str, address: Address) {
        let accounts = self.0.entry(source.to_owned()).or_default();
        accounts
            .entry(account.to_owned())
            .or_default()
            .push(address);
    }

    /// The administrators of the token's account.
    #[must_use]
    pub fn of(&self, token: &Token) -> &[Address] {
        let found = token
            .account
            .as_ref()
            .and_then(|account| self.0.get(&token.source)?.get(account));
        found.map_or(&[], Vec::as_slice)
    }
}
