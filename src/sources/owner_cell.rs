//! The owners of a token in a listing: several in one cell, or in rows that are the same otherwise.

use crate::domain::{Address, Cell, ListedToken, Unreadable, column};

use super::cells::{Value, is_placeholder, quote_value};

/// The addresses in a cell, each once, in order, and why the rest cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OwnerCell {
    pub addresses: Vec<Address>,
    pub unreadable: Option<String>,
}

impl OwnerCell {
    /// Owners are separated by commas, semicolons, line breaks or ` | ` outside quotes.
    pub fn parse(value: Value) -> Self {
        let texts = match value {
            Value::Absent | Value::Empty => Vec::new(),
            Value::Text(text) | Value::OfDay(text, _) | Value::Other(text, _) => vec![text],
            Value::List(texts) => texts,
            Value::Unreadable(why) => {
                return Self {
                    unreadable: Some(why),
                    ..Self::default()
                };
            }
        };
        let mut cell = Self::default();
        let mut refused = Vec::new();
        for part in texts.iter().flat_map(|text| split(text)) {
            match Address::parse_cell(part) {
                Ok(address) if cell.addresses.contains(&address) => {}
                Ok(address) => cell.addresses.push(address),
                Err(invalid) => refused.push((part, invalid.reason)),
            }
        }
        if let [(part, reason), others @ ..] = refused.as_slice() {
            let mut text = format!("{} {reason}", quote_value(part));
            if !others.is_empty() {
                text = format!("{text} (and {} more like it)", others.len());
            }
            cell.unreadable = Some(text);
        }
        cell
    }
}

/// Sets the owners of a token by its cell.
pub(super) fn set_owners(token: &mut ListedToken, value: Value) {
    let is_absent = value == Value::Absent;
    let cell = OwnerCell::parse(value);
    let mut addresses = cell.addresses.into_iter();
    token.issuer = match addresses.next() {
        Some(first) => Cell::Value(first),
        None if is_absent || cell.unreadable.is_some() => Cell::Absent,
        None => Cell::Empty,
    };
    token.co_owners = addresses.collect();
    if let Some(reason) = cell.unreadable {
        token.unreadable.insert(column::ISSUER.to_owned(), reason);
    }
}

/// Adds the owners of another row of the token. Returns `false` if the rows differ in anything else, or if neither has
/// an owner, so that one of them is a mistake.
pub(super) fn join_owners(token: &mut ListedToken, other: ListedToken) -> bool {
    let says_owner = |token: &ListedToken| names_owner(token) || is_orphaned(token);
    if without_owners(token) != without_owners(&other) || !(says_owner(token) || says_owner(&other))
    {
        return false;
    }
    if let Some(reason) = other.unreadable.get(column::ISSUER) {
        let unreadable = token.unreadable.entry(column::ISSUER.to_owned());
        unreadable.or_insert_with(|| reason.clone());
    }
    let Cell::Value(owner) = &other.issuer else {
        return true;
    };
    let Cell::Value(issuer) = &token.issuer else {
        let unreadable = std::mem::take(&mut token.unreadable);
        *token = ListedToken {
            unreadable,
            ..other
        };
        return true;
    };
    for owner in [owner].into_iter().chain(&other.co_owners) {
        if owner != issuer && !token.co_owners.contains(owner) {
            token.co_owners.push(owner.clone());
        }
    }
    // While one of the owners is there, the token is no orphan.
    if is_orphaned(token) != is_orphaned(&other) {
        token.issuer_gone = Cell::Empty;
    }
    true
}

fn names_owner(token: &ListedToken) -> bool {
    matches!(token.issuer, Cell::Value(_)) || token.unreadable.contains_key(column::ISSUER)
}

fn is_orphaned(token: &ListedToken) -> bool {
    matches!(token.issuer_gone, Cell::Value(_))
}

/// What rows of one token have in common.
fn without_owners(token: &ListedToken) -> ListedToken {
    let mut unreadable: Unreadable = token.unreadable.clone();
    unreadable.remove(column::ISSUER);
    ListedToken {
        issuer: Cell::Absent,
        co_owners: Vec::new(),
        issuer_name: Cell::Absent,
        issuer_id: None,
        issuer_names: Vec::new(),
        issuer_gone: Cell::Absent,
        unreadable,
        ..token.clone()
    }
}

/// The parts of a text that are not empty. A quote without an end is no quote.
fn split(text: &str) -> Vec<&str> {
    let has_quotes = text.matches('"').count().is_multiple_of(2);
    let mut parts = Vec::new();
    let (mut start, mut is_quoted) = (0, false);
    for (at, c) in text.char_indices() {
        is_quoted ^= c == '"' && has_quotes;
        let is_separator = match c {
            ',' | ';' | '\n' | '\r' => true,
            // A local part may have one, but never with blanks around it.
            '|' => text[..at].ends_with(' ') && text[at + 1..].starts_with(' '),
            _ => false,
        };
        if is_separator && !is_quoted {
            parts.push(&text[start..at]);
            start = at + c.len_utf8();
        }
    }
    parts.push(&text[start..]);
    let is_around = |c: char| c.is_whitespace() || c == '"' && !has_quotes;
    let parts = parts.into_iter().map(|part| part.trim_matches(is_around));
    parts
        .filter(|part| !part.is_empty() && !is_placeholder(part))
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn listed(value: Value) -> (Cell<String>, Vec<String>, Option<String>) {
        let mut token = ListedToken::with_id("x");
        set_owners(&mut token, value);
        let issuer = match token.issuer {
            Cell::Absent => Cell::Absent,
            Cell::Empty => Cell::Empty,
            Cell::Value(issuer) => Cell::Value(issuer.to_string()),
        };
        let others = token.co_owners.iter().map(ToString::to_string).collect();
        (issuer, others, token.unreadable.remove(column::ISSUER))
    }

    fn cell(text: &str) -> Value {
        Value::text(text)
    }

    #[rstest]
    #[case("ada@example.org", &["ada@example.org"])]
    #[case("ada@example.org;bob@example.org", &["ada@example.org", "bob@example.org"])]
    #[case("ada@example.org, bob@example.org,", &["ada@example.org", "bob@example.org"])]
    #[case("ada@example.org\nbob@example.org\r\neve@example.org", &["ada@example.org", "bob@example.org", "eve@example.org"])]
    #[case("ada@example.org | bob@example.org", &["ada@example.org", "bob@example.org"])]
    #[case("a|b@example.org", &["a|b@example.org"])]
    #[case("ada@example.org; ADA@Example.org", &["ada@example.org"])]
    #[case("N/A; bob@example.org; -", &["bob@example.org"])]
    #[case("\"Lovelace, Ada\" <ada@example.org>; mailto:bob@example.org", &["ada@example.org", "bob@example.org"])]
    #[case("ada@example.org; \"bob@example.org", &["ada@example.org", "bob@example.org"])]
    #[case("\"a,b\"@example.org, bob@example.org", &["\"a,b\"@example.org", "bob@example.org"])]
    fn a_cell_names_all_owners(#[case] text: &str, #[case] owners: &[&str]) {
        let (issuer, others, unreadable) = listed(cell(text));
        assert_eq!(
            (issuer, unreadable),
            (Cell::Value(owners[0].to_owned()), None)
        );
        assert_eq!(others, owners[1..]);
    }

    #[rstest]
    #[case("")]
    #[case("N/A")]
    #[case("none")]
    #[case("Unknown; -")]
    #[case(" , ;")]
    fn a_cell_may_say_that_there_is_no_owner(#[case] text: &str) {
        assert_eq!(listed(cell(text)), (Cell::Empty, vec![], None));
    }

    #[test]
    fn what_cannot_be_read_is_said_and_the_rest_counts() {
        let refused =
            |text: &str| format!("\"{text}\" is not a mail address; write it as name@example.org");
        let (issuer, others, unreadable) = listed(cell("svc-deploy"));
        assert_eq!((issuer, others), (Cell::Absent, vec![]));
        assert_eq!(unreadable, Some(refused("svc-deploy")));
        let (issuer, others, unreadable) =
            listed(cell("CORP\\ada; bob@example.org; ops; eve@example.org"));
        assert_eq!(issuer, Cell::Value("bob@example.org".to_owned()));
        assert_eq!(others, ["eve@example.org"]);
        assert_eq!(
            unreadable,
            Some(format!("{} (and 1 more like it)", refused("CORP\\ada")))
        );
        assert_eq!(
            listed(Value::Unreadable(
                "is longer than 64 KiB; cut it".to_owned()
            ))
            .2
            .as_deref(),
            Some("is longer than 64 KiB; cut it")
        );
        assert_eq!(listed(Value::Absent), (Cell::Absent, vec![], None));
        let list = ["ada@example.org", "bob@example.org, x"].map(str::to_owned);
        let (issuer, others, unreadable) = listed(Value::List(list.into()));
        assert_eq!(issuer, Cell::Value("ada@example.org".to_owned()));
        assert_eq!(
            (others, unreadable),
            (vec!["bob@example.org".to_owned()], Some(refused("x")))
        );
    }

    #[test]
    fn rows_join_only_if_they_differ_in_nothing_but_the_owner() {
        let row = |owner: &str, name: &str| {
            let mut token = ListedToken {
                name: Cell::Value(name.to_owned()),
                issuer_name: Cell::Value(owner.to_owned()),
                ..ListedToken::with_id("x")
            };
            set_owners(&mut token, cell(owner));
            token
        };
        let mut token = row("", "ci");
        for owner in [
            "",
            "bob@example.org",
            "svc",
            "ada@example.org; BOB@example.org",
            "bob@example.org",
        ] {
            assert_eq!(
                join_owners(&mut token, row(owner, "ci")),
                !owner.is_empty(),
                "{owner}"
            );
        }
        assert_eq!(
            token.issuer,
            Cell::Value("bob@example.org".parse().unwrap())
        );
        assert_eq!(token.co_owners, ["ada@example.org".parse().unwrap()]);
        assert_eq!(token.issuer_name, Cell::Value("bob@example.org".to_owned()));
        assert!(token.unreadable.contains_key(column::ISSUER));
        assert!(!join_owners(&mut token, row("eve@example.org", "web")));
    }

    #[test]
    fn a_token_is_an_orphan_while_no_row_has_an_owner_who_is_there() {
        let row = |gone: Cell<String>| ListedToken {
            issuer: Cell::Empty,
            issuer_gone: gone,
            ..ListedToken::with_id("x")
        };
        let gone = |why: &str| row(Cell::Value(why.to_owned()));
        let mut token = gone("user 7 is deleted");
        assert!(join_owners(&mut token, gone("user 8 is disabled")));
        assert_eq!(
            token.issuer_gone,
            Cell::Value("user 7 is deleted".to_owned())
        );
        let mut there = row(Cell::Empty);
        set_owners(&mut there, cell("ada@example.org"));
        assert!(join_owners(&mut token, there));
        assert_eq!(token.issuer_gone, Cell::Empty);
    }
}
