//! An operator's statement with `:name` parameters, which are not recognised within quotes, comments, quoted
//! identifiers, dollar quotes and casts (`::`).

use crate::domain::Token;
use crate::upstream::database::{self, Scalar, WriteConnection};

pub(super) const ID: &str = "external_id";

/// The facts of a token that `mark_expired` may use.
pub(super) const TOKEN_PARAMETERS: &[&str] = &[
    ID,
    "name",
    "expires_at",
    "issuer_email",
    "issuer_name",
    "description",
    "account",
    "role",
    "scope",
];

const SEVERAL_STATEMENTS: &str = "contains more than one statement; write one";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    pub fn placeholder_sign(self) -> char {
        match self {
            Self::Sqlite => '?',
            Self::Postgres => '$',
        }
    }
}

/// A statement with the placeholders of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// The text with `$1` or `?1` for each name, and without a final semicolon.
    pub text: String,
    pub names: Vec<&'static str>,
}

impl Statement {
    /// Fails if there is another name, a placeholder without a name, an unclosed quote, or a second statement.
    pub fn parse(text: &str, allowed: &[&'static str], dialect: Dialect) -> Result<Self, String> {
        let mut statement = Self {
            text: String::with_capacity(text.len()),
            names: Vec::new(),
        };
        let mut rest = text;
        let mut ended = false;
        while let Some(first) = rest.chars().next() {
            let (piece, after) = rest.split_at(length_without_parameters(rest, dialect)?);
            if ended && (piece.is_empty() || !is_blank(piece)) {
                return Err(SEVERAL_STATEMENTS.to_owned());
            }
            if !piece.is_empty() {
                if !ended {
                    statement.text.push_str(piece);
                }
                rest = after;
                continue;
            }
            let name = identifier(&rest[1..]);
            match first {
                ':' if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) => {
                    statement.push_parameter(name, allowed, dialect)?;
                    rest = &rest[1 + name.len()..];
                }
                ';' => {
                    ended = true;
                    rest = &rest[1..];
                }
                _ if is_placeholder(rest, dialect) => return Err(explain_nameless(allowed)),
                _ => {
                    statement.text.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        if statement.text.trim().is_empty() {
            return Err("contains no statement".to_owned());
        }
        Ok(statement)
    }

    fn push_parameter(
        &mut self,
        name: &str,
        allowed: &[&'static str],
        dialect: Dialect,
    ) -> Result<(), String> {
        let Some(name) = allowed.iter().find(|known| **known == name) else {
            return Err(explain_unknown(name, allowed));
        };
        if !self.names.contains(name) {
            self.names.push(name);
        }
        // Placeholders count from 1.
        let number = 1 + self.names.iter().take_while(|known| *known != name).count();
        self.text.push(dialect.placeholder_sign());
        self.text.push_str(&number.to_string());
        Ok(())
    }

    pub fn token_values(&self, token: &Token) -> Vec<Scalar> {
        let text = |text: &Option<String>| text.clone().map_or(Scalar::Null, Scalar::Text);
        let value = |name: &&str| match *name {
            ID => Scalar::Text(token.external_id.clone()),
            "name" => Scalar::Text(token.name.clone()),
            "expires_at" => token.expiry.at().map_or(Scalar::Null, Scalar::Instant),
            "issuer_email" => text(&token.issuer.as_ref().map(ToString::to_string)),
            "issuer_name" => text(&token.issuer_name),
            "description" => text(&token.description),
            "account" => text(&token.account),
            "role" => text(&token.role),
            _ => text(&token.scope),
        };
        self.names.iter().map(value).collect()
    }

    /// Runs the statement, and commits it only if `accept` returns true for the number of affected rows. If it
    /// affects no rows in SQLite, it is run again with the id as a number, because in a column without a type
    /// SQLite finds no number by a text.
    pub async fn run(
        &self,
        connection: &mut WriteConnection<'_>,
        mut values: Vec<Scalar>,
        accept: fn(u64) -> bool,
    ) -> Result<u64, database::Error> {
        let affected = connection.execute(&self.text, &values, accept).await?;
        if affected > 0 || !connection.is_sqlite() {
            return Ok(affected);
        }
        for (name, value) in self.names.iter().zip(&mut values) {
            if *name == ID
                && let Some(number) = parse_number(value)
            {
                *value = Scalar::Integer(number);
                return connection.execute(&self.text, &values, accept).await;
            }
        }
        Ok(affected)
    }
}

/// The number that is written exactly like this text.
fn parse_number(id: &Scalar) -> Option<i64> {
    let Scalar::Text(text) = id else { return None };
    let number: i64 = text.parse().ok()?;
    (number.to_string() == *text).then_some(number)
}

fn explain_unknown(name: &str, allowed: &[&str]) -> String {
    if allowed.is_empty() {
        return format!(
            "takes no parameters, and :{name} looks like one; put it in quotes if it is a text"
        );
    }
    format!(
        "has no parameter :{name}; it may contain {}",
        format_names(allowed)
    )
}

fn explain_nameless(allowed: &[&str]) -> String {
    if allowed.is_empty() {
        return "takes no parameters".to_owned();
    }
    format!(
        "has a placeholder without a name; it may contain {}",
        format_names(allowed)
    )
}

fn format_names(allowed: &[&str]) -> String {
    format!(":{}", allowed.join(", :"))
}

/// The length of the quote, comment, cast, identifier or white space at the beginning.
fn length_without_parameters(text: &str, dialect: Dialect) -> Result<usize, String> {
    let bytes = text.as_bytes();
    let is_sqlite = dialect == Dialect::Sqlite;
    match bytes {
        [b'-', b'-', ..] => Ok(text.find('\n').unwrap_or(text.len())),
        [b'/', b'*', ..] => comment_length(text, dialect),
        [b':', b':' | b'=', ..] => Ok(2),
        // Backslashes are escapes only in PostgreSQL's E'…'.
        [b'e' | b'E', b'\'', ..] if !is_sqlite => {
            Ok(1 + quote_length(&text[1..], '\'', Some('\\'))?)
        }
        [b'\'', ..] => quote_length(text, '\'', None),
        [b'"', ..] => quote_length(text, '"', None),
        [b'`', ..] if is_sqlite => quote_length(text, '`', None),
        [b'[', ..] if is_sqlite => match text.find(']') {
            Some(end) => Ok(end + 1),
            None => Err(explain_unclosed('[')),
        },
        [b'$', ..] if !is_sqlite => dollar_quote_length(text),
        [first, ..] if first.is_ascii_whitespace() => Ok(1),
        // Whole identifiers, so that the `$` in `a$b` or the E of `TABLE'` starts no quote.
        _ => Ok(identifier(text).len()),
    }
}

/// The length of a comment. In PostgreSQL comments can be nested.
fn comment_length(text: &str, dialect: Dialect) -> Result<usize, String> {
    let mut depth = 0_u32;
    let mut at = 0;
    while let Some(next) = text[at..].find(['/', '*']).map(|found| at + found) {
        let rest = &text[next..];
        at = next + 1;
        if rest.starts_with("/*") && (depth == 0 || dialect == Dialect::Postgres) {
            depth += 1;
            at = next + 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at = next + 2;
            if depth == 0 {
                return Ok(at);
            }
        }
    }
    Err("has an unclosed comment".to_owned())
}

/// The length of a quote, in which a doubled sign means the sign itself.
fn quote_length(text: &str, sign: char, escape: Option<char>) -> Result<usize, String> {
    let mut signs = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = signs.next() {
        if Some(c) == escape {
            signs.next();
        } else if c == sign && signs.next_if(|(_, next)| *next == sign).is_none() {
            return Ok(at + sign.len_utf8());
        }
    }
    Err(explain_unclosed(sign))
}

fn explain_unclosed(sign: char) -> String {
    format!("has an unclosed {sign}")
}

/// The length of `$tag$…$tag$`; 0 if there is no tag.
fn dollar_quote_length(text: &str) -> Result<usize, String> {
    let is_tag = |tag: &str| {
        let inner = |c: char| c.is_alphanumeric() || c == '_';
        !tag.starts_with(|c: char| c.is_ascii_digit()) && tag.chars().all(inner)
    };
    let Some(end) = text[1..].find('$').filter(|end| is_tag(&text[1..=*end])) else {
        return Ok(0);
    };
    let (tag, rest) = text.split_at(end + 2);
    match rest.find(tag) {
        Some(found) => Ok(tag.len() + found + tag.len()),
        None => Err(format!("has an unclosed {tag}")),
    }
}

/// The identifier or number at the beginning of the text.
fn identifier(text: &str) -> &str {
    let is_inner = |c: char| c.is_alphanumeric() || c == '_';
    let mut end = text.find(|c| !is_inner(c)).unwrap_or(text.len());
    // `a$b` is one identifier of PostgreSQL; a `$` never begins one.
    while end > 0 && text[end..].starts_with('$') {
        let rest = &text[end + 1..];
        end += 1 + rest.find(|c| !is_inner(c)).unwrap_or(rest.len());
    }
    &text[..end]
}

/// Whether the text begins with a placeholder of the database. In PostgreSQL `?` and `@` are operators.
fn is_placeholder(text: &str, dialect: Dialect) -> bool {
    let follows = |is: fn(char) -> bool| text[1..].starts_with(is);
    match dialect {
        Dialect::Postgres => text.starts_with('$') && follows(|c| c.is_ascii_digit()),
        Dialect::Sqlite => {
            text.starts_with('?')
                || text.starts_with(['$', '@']) && follows(|c| c.is_alphanumeric() || c == '_')
        }
    }
}

fn is_blank(piece: &str) -> bool {
    piece.trim().is_empty() || piece.starts_with("--") || piece.starts_with("/*")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const NAMES: [&str; 2] = ["since", "external_id"];

    fn parse(text: &str, dialect: Dialect) -> Result<(String, Vec<usize>), String> {
        let statement = Statement::parse(text, &NAMES, dialect)?;
        let index = |name: &&str| NAMES.iter().position(|known| known == name).unwrap();
        Ok((statement.text, statement.names.iter().map(index).collect()))
    }

    #[rstest]
    #[case("WHERE a > :since", "WHERE a > $1", &[0])]
    #[case("a=:external_id AND b>:since OR c>:since", "a=$1 AND b>$2 OR c>$2", &[1, 0])]
    #[case("a = :external_id::bigint", "a = $1::bigint", &[1])]
    #[case("a::text = ':since'", "a::text = ':since'", &[])]
    #[case("'it''s :since' || :since", "'it''s :since' || $1", &[0])]
    #[case(r"E'\':since' || :since", r"E'\':since' || $1", &[0])]
    #[case(r"'\' || :since", r"'\' || $1", &[0])]
    #[case("TABLE'a' :since", "TABLE'a' $1", &[0])]
    #[case("\"a:since\" :since", "\"a:since\" $1", &[0])]
    #[case("a -- :since ' \n:since", "a -- :since ' \n$1", &[0])]
    #[case("/* :since /* ' */ :since */ :since", "/* :since /* ' */ :since */ $1", &[0])]
    #[case("$$ :since $$ :since", "$$ :since $$ $1", &[0])]
    #[case("$q$ $$ :since $q$ :since", "$q$ $$ :since $q$ $1", &[0])]
    #[case("a$b$c :since", "a$b$c $1", &[0])]
    #[case("data ? 'a' AND tags @> :since", "data ? 'a' AND tags @> $1", &[0])]
    #[case("a[1:2] := :since", "a[1:2] := $1", &[0])]
    #[case("SELECT 1; -- the end\n ; ", "", &[])]
    #[case("SELECT 'ü', :since", "SELECT 'ü', $1", &[0])]
    fn names_become_placeholders_of_postgres(
        #[case] written: &str,
        #[case] expected: &str,
        #[case] names: &[usize],
    ) {
        let parsed = parse(written, Dialect::Postgres);
        if expected.is_empty() {
            assert_eq!(parsed.unwrap_err(), SEVERAL_STATEMENTS);
        } else {
            assert_eq!(parsed, Ok((expected.to_owned(), names.to_vec())));
        }
    }

    #[rstest]
    #[case("WHERE a > :since", "WHERE a > ?1", &[0])]
    #[case("[a:since] `b:since` \"c:since\" :since", "[a:since] `b:since` \"c:since\" ?1", &[0])]
    #[case("/* :since /* */ :since", "/* :since /* */ ?1", &[0])]
    #[case("SELECT 1 ; -- the end\n", "SELECT 1 ", &[])]
    fn names_become_placeholders_of_sqlite(
        #[case] written: &str,
        #[case] expected: &str,
        #[case] names: &[usize],
    ) {
        let parsed = parse(written, Dialect::Sqlite);
        assert_eq!(parsed, Ok((expected.to_owned(), names.to_vec())));
    }

    #[rstest]
    #[case(
        ":sinse",
        "has no parameter :sinse; it may contain :since, :external_id"
    )]
    #[case("a = $1", "has a placeholder without a name")]
    #[case("'open", "has an unclosed '")]
    #[case("$a$ open $b$", "has an unclosed $a$")]
    #[case("/* open", "has an unclosed comment")]
    #[case("SELECT 1; DELETE FROM a", "contains more than one statement")]
    #[case(" ; ", "contains no statement")]
    fn invalid_statements_are_refused(#[case] written: &str, #[case] why: &str) {
        let error = parse(written, Dialect::Postgres).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }

    #[rstest]
    #[case("a = ?")]
    #[case("a = ?3")]
    #[case("a = @id")]
    #[case("a = $id")]
    fn other_placeholders_of_sqlite_are_refused(#[case] written: &str) {
        let error = parse(written, Dialect::Sqlite).unwrap_err();
        assert!(
            error.starts_with("has a placeholder without a name"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn no_statement_panics_and_quotes_are_unchanged(
            text in r#"[a-e:$'"`\[\]/*\-; \n?@\\ü0-2]{0,40}"#,
        ) {
            for dialect in [Dialect::Sqlite, Dialect::Postgres] {
                let _ = parse(&text, dialect);
            }
            let quoted = format!("'{}' :since", text.replace('\'', "''"));
            let (parsed, names) = parse(&quoted, Dialect::Postgres).unwrap();
            prop_assert_eq!(parsed, quoted.replace(":since", "$1"));
            prop_assert_eq!(names, vec![0]);
        }
    }
}
