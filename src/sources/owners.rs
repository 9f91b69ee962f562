//! The owners file: maps tokens to their owners, for sources that do not report issuers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::domain::{Address, Cell, ListedToken, column};

use super::cells::Value;
use super::file::FileStamp;
use super::owner_cell::OwnerCell;
use super::rows::options::ReadOptions;
use super::rows::{Columns, Input, Row, Rows};
use super::{Error, RefusedRow};

const COLUMNS: Columns<3> = Columns {
    names: ["token", "issuer", "email"],
    required: &["email"],
    export: &[],
};

#[derive(Debug, Clone, Default)]
pub struct OwnersFile {
    exact: HashMap<String, Vec<Address>>,
    patterns: Vec<(String, Vec<Address>)>,
    issuers: HashMap<String, Vec<Address>>,
    rows: usize,
    pub fingerprint: String,
}

impl OwnersFile {
    /// Reads the file; blocks the thread. An invalid row is an error, because without it a token could have no
    /// recipient.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let stamp = FileStamp::take(path)?;
        let mut owners = Self::default();
        let mut rows = Rows::open(
            &Input::Path(PathBuf::from(path)),
            &COLUMNS,
            &ReadOptions::default(),
        )?;
        while let Some(row) = rows.next() {
            let Row { line, values, .. } = row?;
            if let Err(reason) = values.and_then(|values| owners.add(values)) {
                let file = rows.file.clone();
                return Err(RefusedRow { file, line, reason }.into());
            }
        }
        stamp.ensure_unchanged(path)?;
        owners.fingerprint = stamp.fingerprint;
        Ok(owners)
    }

    pub fn count_rows(&self) -> usize {
        self.rows
    }

    fn add(&mut self, [token, issuer, email]: [Value; 3]) -> Result<(), String> {
        let token = token.into_text("token")?.into_option();
        let issuer = issuer.into_text("issuer")?.into_option();
        let owners = OwnerCell::parse(email);
        if let Some(reason) = owners.unreadable {
            return Err(format!("email {reason}"));
        }
        if owners.addresses.is_empty() {
            return Err("email is missing; write the owner's address".to_owned());
        }
        let known = match (token, issuer) {
            (Some(token), None) if token.contains('*') => self.owners_by_pattern(token),
            (Some(token), None) => self.exact.entry(token).or_default(),
            (None, Some(issuer)) => self.issuers.entry(issuer).or_default(),
            (None, None) => return Err("names neither a token nor an issuer; write one".to_owned()),
            (Some(_), Some(_)) => {
                return Err("names a token and an issuer; write a row for each".to_owned());
            }
        };
        for owner in owners.addresses {
            if !known.contains(&owner) {
                known.push(owner);
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn owners_by_pattern(&mut self, pattern: String) -> &mut Vec<Address> {
        let known = self
            .patterns
            .iter()
            .position(|(known, _)| *known == pattern);
        let index = known.unwrap_or_else(|| {
            self.patterns.push((pattern, Vec::new()));
            self.patterns.len() - 1
        });
        &mut self.patterns[index].1
    }

    /// Sets the owners of a token for which the source reports none. The rows of the token itself come first,
    /// then those of the first pattern that matches, then those of its issuer.
    pub fn assign_owner(&self, token: &mut ListedToken) {
        if matches!(token.issuer, Cell::Value(_)) {
            return;
        }
        let name = token.name.clone().into_option();
        let names: Vec<_> = std::iter::once(&token.external_id).chain(&name).collect();
        let issuer_name = token.issuer_name.clone().into_option();
        let issuers = token.issuer_id.iter().chain(&issuer_name);
        let mut issuers = issuers.chain(&token.issuer_names);
        let matches = |pattern: &str| names.iter().any(|name| matches_pattern(pattern, name));
        let mut patterns = self.patterns.iter();
        let owners = names
            .iter()
            .find_map(|name| self.exact.get(*name))
            .or_else(|| patterns.find_map(|(pattern, owners)| matches(pattern).then_some(owners)))
            .or_else(|| issuers.find_map(|issuer| self.issuers.get(issuer)));
        if let Some((issuer, others)) = owners.and_then(|owners| owners.split_first()) {
            token.issuer = Cell::Value(issuer.clone());
            token.co_owners = others.to_vec();
            token.unreadable.remove(column::ISSUER);
        }
    }
}

/// In the pattern each `*` matches any text.
fn matches_pattern(pattern: &str, name: &str) -> bool {
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
    fn a_star_matches_any_text(#[case] pattern: &str, #[case] name: &str, #[case] expected: bool) {
        assert_eq!(matches_pattern(pattern, name), expected);
    }

    fn load(content: &str) -> Result<OwnersFile, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owners.csv");
        std::fs::write(&path, content).unwrap();
        OwnersFile::load(&path)
    }

    fn owner_of(owners: &OwnersFile, id: &str, issuer: &str) -> Option<String> {
        let mut token = ListedToken {
            issuer_id: Some(issuer.to_owned()),
            ..ListedToken::with_id(id)
        };
        owners.assign_owner(&mut token);
        token
            .issuer
            .into_option()
            .map(|address| address.to_string())
    }

    #[test]
    fn the_most_specific_row_names_the_owner() {
        let owners = load(
            "token,issuer,email\n,u-1,ada@example.org\nci-*,,ci@example.org\nci-7,,grace@example.org\n",
        )
        .unwrap();
        let owner = |id, issuer| owner_of(&owners, id, issuer);
        assert_eq!(owner("ci-7", "u-1").as_deref(), Some("grace@example.org"));
        assert_eq!(owner("ci-8", "u-1").as_deref(), Some("ci@example.org"));
        assert_eq!(owner("web", "u-1").as_deref(), Some("ada@example.org"));
        assert_eq!(owner("web", "u-2"), None);
    }

    #[test]
    fn several_rows_and_several_addresses_are_all_owners() {
        let owners = load(
            "token,issuer,email\nci-*,,ada@example.org; bob@example.org\n,u-1,eve@example.org\n\
             ci-*,,grace@example.org\nci-7,,ada@example.org\nci-7,,ADA@example.org\n",
        )
        .unwrap();
        let list = |id: &str| {
            let mut token = ListedToken::with_id(id);
            token
                .unreadable
                .insert(column::ISSUER.to_owned(), "x".to_owned());
            owners.assign_owner(&mut token);
            assert!(token.unreadable.is_empty());
            let owners = token
                .issuer
                .into_option()
                .into_iter()
                .chain(token.co_owners);
            owners.map(|owner| owner.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            list("ci-8"),
            ["ada@example.org", "bob@example.org", "grace@example.org"]
        );
        assert_eq!(list("ci-7"), ["ada@example.org"]);
        assert_eq!(owners.count_rows(), 5);
    }

    #[test]
    fn an_issuer_matches_by_any_name_and_first_by_id() {
        let owners = load("issuer,email\nyan,yan@example.org\nu-1,ada@example.org\n").unwrap();
        let owner = |id: &str| {
            let mut token = ListedToken {
                issuer_id: Some(id.to_owned()),
                issuer_name: Cell::Value("Yan Y".to_owned()),
                issuer_names: vec!["Yan Y".to_owned(), "yan".to_owned()],
                ..ListedToken::with_id("web")
            };
            owners.assign_owner(&mut token);
            token
                .issuer
                .into_option()
                .map(|address| address.to_string())
        };
        assert_eq!(owner("u-2").as_deref(), Some("yan@example.org"));
        assert_eq!(owner("u-1").as_deref(), Some("ada@example.org"));
    }

    #[test]
    fn an_issuer_reported_by_the_source_is_kept() {
        let owners = load("token,issuer,email\n*,,ci@example.org\n").unwrap();
        let mut token = ListedToken {
            issuer: Cell::Value("ada@example.org".parse().unwrap()),
            ..ListedToken::with_id("web")
        };
        owners.assign_owner(&mut token);
        assert_eq!(
            token.issuer,
            Cell::Value("ada@example.org".parse().unwrap())
        );
    }

    #[rstest]
    #[case("token,issuer,email\na,b,ada@example.org\n", "a row for each")]
    #[case("token,issuer,email\n,,ada@example.org\n", "neither")]
    #[case("token,issuer,email\na,,\n", "email is missing")]
    fn an_invalid_row_is_refused_with_its_line(#[case] content: &str, #[case] why: &str) {
        let error = load(content).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(":2"), "{error}");
    }
}
