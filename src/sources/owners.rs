//! Owners: a file that says whose tokens are, for sources that do not know it themselves.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::domain::{Address, Cell, Listed};

use super::Error;
use super::file::Stamp;
use super::rows::{Columns, Input, Row, Rows};

const COLUMNS: Columns<3> = Columns {
    names: ["token", "issuer", "email"],
    required: &["email"],
};

/// Who owns which tokens.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    exact: HashMap<String, Address>,
    patterns: Vec<(String, Address)>,
    issuers: HashMap<String, Address>,
    /// What the file looked like from outside.
    pub fingerprint: String,
}

impl Owners {
    /// Reads the file. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, or any of its rows makes no sense: a row that is left out would send a
    /// token's warnings to nobody.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let stamp = Stamp::of(path)?;
        let mut owners = Self::default();
        let mut rows = Rows::open(&Input::Path(PathBuf::from(path)), &COLUMNS)?;
        while let Some(row) = rows.next() {
            let row = row??;
            let line = row.line;
            owners
                .add(row)
                .map_err(|reason| rows.refusal(line, reason))?;
        }
        stamp.still_holds(path)?;
        owners.fingerprint = stamp.fingerprint;
        Ok(owners)
    }

    /// How many rows it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exact.len() + self.patterns.len() + self.issuers.len()
    }

    /// Whether it names nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add(&mut self, row: Row<3>) -> Result<(), String> {
        let [token, issuer, email] = row.values;
        let token = token.into_text("token")?.over(None);
        let issuer = issuer.into_text("issuer")?.over(None);
        let email = email.into_address("email")?.over(None);
        let email = email.ok_or("email is missing; write who is to be told")?;
        match (token, issuer) {
            (Some(token), None) if token.contains('*') => self.patterns.push((token, email)),
            (Some(token), None) => {
                self.exact.insert(token, email);
            }
            (None, Some(issuer)) => {
                self.issuers.insert(issuer, email);
            }
            (None, None) => return Err("names neither a token nor an issuer; write one".to_owned()),
            (Some(_), Some(_)) => {
                return Err("names a token and an issuer; write a row for each".to_owned());
            }
        }
        Ok(())
    }

    /// Gives the token its owner where the source knows none. The token's own row comes first, then the
    /// first pattern that fits it, then its issuer's.
    pub fn apply(&self, token: &mut Listed) {
        if matches!(token.issuer, Cell::Value(_)) {
            return;
        }
        let name = token.name.clone().over(None);
        let names = [Some(&token.external_id), name.as_ref()];
        let issuer_name = token.issuer_name.clone().over(None);
        let issuers = [token.issuer_id.as_ref(), issuer_name.as_ref()];
        let mut issuers = issuers.into_iter().flatten().chain(&token.issuer_names);
        let exact = names
            .iter()
            .flatten()
            .find_map(|name| self.exact.get(*name));
        let fits = |pattern: &str| names.iter().flatten().any(|name| fits(pattern, name));
        let by_pattern = || self.patterns.iter().find(|(pattern, _)| fits(pattern));
        let by_issuer = || issuers.find_map(|issuer| self.issuers.get(issuer));
        let owner = exact
            .or_else(|| by_pattern().map(|(_, owner)| owner))
            .or_else(by_issuer);
        if let Some(owner) = owner {
            token.issuer = Cell::Value(owner.clone());
        }
    }
}

/// Whether a name fits a pattern in which each `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("ci-*", "ci-deploy", true)]
    #[case("*-deploy", "ci-deploy", true)]
    #[case("c*-*y", "ci-deploy", true)]
    #[case("*", "", true)]
    #[case("ci-*", "xci-deploy", false)]
    #[case("ci-deploy*deploy", "ci-deploy", false)]
    fn a_star_stands_for_any_text(
        #[case] pattern: &str,
        #[case] name: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(fits(pattern, name), expected);
    }

    fn owners(content: &str) -> Result<Owners, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owners.csv");
        std::fs::write(&path, content).unwrap();
        Owners::read(&path)
    }

    fn owner(owners: &Owners, id: &str, issuer: &str) -> Option<String> {
        let mut token = Listed {
            issuer_id: Some(issuer.to_owned()),
            ..Listed::named(id)
        };
        owners.apply(&mut token);
        token.issuer.over(None).map(|address| address.to_string())
    }

    #[test]
    fn the_closest_row_names_the_owner() {
        let owners = owners(
            "token,issuer,email\n,u-1,ada@example.org\nci-*,,ci@example.org\nci-7,,grace@example.org\n",
        )
        .unwrap();
        let of = |id, issuer| owner(&owners, id, issuer);
        assert_eq!(of("ci-7", "u-1").as_deref(), Some("grace@example.org"));
        assert_eq!(of("ci-8", "u-1").as_deref(), Some("ci@example.org"));
        assert_eq!(of("web", "u-1").as_deref(), Some("ada@example.org"));
        assert_eq!(of("web", "u-2"), None);
    }

    #[test]
    fn an_issuer_is_known_by_each_of_his_names_and_his_id_comes_first() {
        let owners = owners("issuer,email\nyan,yan@example.org\nu-1,ada@example.org\n").unwrap();
        let of = |id: &str| {
            let mut token = Listed {
                issuer_id: Some(id.to_owned()),
                issuer_name: Cell::Value("Yan Y".to_owned()),
                issuer_names: vec!["Yan Y".to_owned(), "yan".to_owned()],
                ..Listed::named("web")
            };
            owners.apply(&mut token);
            token.issuer.over(None).map(|address| address.to_string())
        };
        assert_eq!(of("u-2").as_deref(), Some("yan@example.org"));
        assert_eq!(of("u-1").as_deref(), Some("ada@example.org"));
    }

    #[test]
    fn an_issuer_that_the_source_knows_stays() {
        let owners = owners("token,issuer,email\n*,,ci@example.org\n").unwrap();
        let mut token = Listed {
            issuer: Cell::Value("ada@example.org".parse().unwrap()),
            ..Listed::named("web")
        };
        owners.apply(&mut token);
        assert_eq!(
            token.issuer,
            Cell::Value("ada@example.org".parse().unwrap())
        );
    }

    #[rstest]
    #[case("token,issuer,email\na,b,ada@example.org\n", "a row for each")]
    #[case("token,issuer,email\n,,ada@example.org\n", "neither")]
    #[case("token,issuer,email\na,,\n", "email is missing")]
    fn a_row_that_makes_no_sense_is_refused_with_its_line(
        #[case] content: &str,
        #[case] why: &str,
    ) {
        let error = owners(content).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(":2"), "{error}");
    }
}
