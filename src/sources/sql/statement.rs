//! An operator's statement, with `:names` where values go.
//!
//! A name counts only where the database would read code: not within quotes, comments, quoted
//! identifiers or dollar quotes, and not in a cast (`::`).

use super::Dialect;

/// A statement in the database's own words, and which value goes where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// With `$1` or `?1` for each name, and without the semicolon at its end.
    pub text: String,
    /// The values that go in, in order; indexes into the names that were allowed.
    pub names: Vec<usize>,
}

impl Statement {
    /// Reads a statement in which these names may stand.
    ///
    /// # Errors
    /// In words: another name, a placeholder without a name, a quote that does not end, two statements.
    pub fn parse(text: &str, allowed: &[&str], dialect: Dialect) -> Result<Self, String> {
        let mut statement = Self {
            text: String::with_capacity(text.len()),
            names: Vec::new(),
        };
        let mut rest = text;
        let mut ended = false;
        while let Some(first) = rest.chars().next() {
            let length = passive(rest, dialect)?;
            if length > 0 {
                if ended && !is_blank(&rest[..length]) {
                    return Err(SEVERAL.to_owned());
                }
                if !ended {
                    statement.text.push_str(&rest[..length]);
                }
                rest = &rest[length..];
                continue;
            }
            if ended {
                return Err(SEVERAL.to_owned());
            }
            let name = word(&rest[1..]);
            match first {
                ':' if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) => {
                    statement.name(name, allowed, dialect)?;
                    rest = &rest[1 + name.len()..];
                }
                ';' => {
                    ended = true;
                    rest = &rest[1..];
                }
                _ if is_placeholder(rest, dialect) => return Err(nameless(allowed)),
                _ => {
                    statement.text.push(first);
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        if statement.text.trim().is_empty() {
            return Err("holds no statement".to_owned());
        }
        Ok(statement)
    }

    fn name(&mut self, name: &str, allowed: &[&str], dialect: Dialect) -> Result<(), String> {
        let Some(index) = allowed.iter().position(|known| *known == name) else {
            return Err(unknown(name, allowed));
        };
        let place = self.names.iter().position(|it| *it == index);
        let place = place.unwrap_or_else(|| {
            self.names.push(index);
            self.names.len() - 1
        });
        let sign = match dialect {
            Dialect::Sqlite => '?',
            Dialect::Postgres => '$',
        };
        self.text.push(sign);
        self.text.push_str(&(place + 1).to_string());
        Ok(())
    }
}

const SEVERAL: &str = "holds more than one statement; write one";

fn unknown(name: &str, allowed: &[&str]) -> String {
    if allowed.is_empty() {
        return format!(
            "takes no parameters, and :{name} looks like one; put it in quotes if it is a text"
        );
    }
    format!("has no parameter :{name}; it may hold {}", list(allowed))
}

fn nameless(allowed: &[&str]) -> String {
    if allowed.is_empty() {
        return "takes no parameters".to_owned();
    }
    format!(
        "has a placeholder without a name; it may hold {}",
        list(allowed)
    )
}

fn list(allowed: &[&str]) -> String {
    let names: Vec<_> = allowed.iter().map(|name| format!(":{name}")).collect();
    names.join(", ")
}

/// How long the piece at the beginning is that holds no code: quotes, comments, casts, words, white space.
fn passive(text: &str, dialect: Dialect) -> Result<usize, String> {
    let bytes = text.as_bytes();
    let is_sqlite = dialect == Dialect::Sqlite;
    match bytes {
        [b'-', b'-', ..] => Ok(text.find('\n').unwrap_or(text.len())),
        [b'/', b'*', ..] => comment(text, dialect),
        [b':', b':' | b'=', ..] => Ok(2),
        // Backslashes escape in PostgreSQL's E'…' alone.
        [b'e' | b'E', b'\'', ..] if !is_sqlite => Ok(1 + quoted(&text[1..], '\'', true)?),
        [b'\'', ..] => quoted(text, '\'', false),
        [b'"', ..] => quoted(text, '"', false),
        [b'`', ..] if is_sqlite => quoted(text, '`', false),
        [b'[', ..] if is_sqlite => match text.find(']') {
            Some(end) => Ok(end + 1),
            None => Err(unended('[')),
        },
        [b'$', ..] if !is_sqlite => dollars(text),
        [first, ..] if first.is_ascii_whitespace() => Ok(1),
        // Whole words, so that the `$` in `a$b` and the E of `TABLE'` are no beginnings.
        _ => Ok(word(text).len()),
    }
}

/// Up to the end of a comment; PostgreSQL's nest.
fn comment(text: &str, dialect: Dialect) -> Result<usize, String> {
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
    Err("has a comment that does not end".to_owned())
}

/// Up to the end of a quote; the sign twice is the sign itself.
fn quoted(text: &str, sign: char, escapes: bool) -> Result<usize, String> {
    let mut signs = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = signs.next() {
        if escapes && c == '\\' {
            signs.next();
        } else if c == sign && signs.next_if(|(_, next)| *next == sign).is_none() {
            return Ok(at + sign.len_utf8());
        }
    }
    Err(unended(sign))
}

fn unended(sign: char) -> String {
    format!("has a {sign} that does not end")
}

/// Up to the end of `$tag$…$tag$`; 0 where there is no tag.
fn dollars(text: &str) -> Result<usize, String> {
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
        None => Err(format!("has a {tag} that does not end")),
    }
}

/// The identifier or number at the beginning.
fn word(text: &str) -> &str {
    let is_inner = |c: char| c.is_alphanumeric() || c == '_';
    let mut end = text.find(|c| !is_inner(c)).unwrap_or(text.len());
    // `a$b` is one identifier of PostgreSQL; a `$` never begins one.
    while end > 0 && text[end..].starts_with('$') {
        let rest = &text[end + 1..];
        end += 1 + rest.find(|c| !is_inner(c)).unwrap_or(rest.len());
    }
    &text[..end]
}

/// Whether a placeholder without a name of ours begins here. In PostgreSQL `?` and `@` are operators.
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
        Ok((statement.text, statement.names))
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
    fn names_become_placeholders_of_postgres_where_there_is_code(
        #[case] written: &str,
        #[case] meant: &str,
        #[case] names: &[usize],
    ) {
        let parsed = parse(written, Dialect::Postgres);
        if meant.is_empty() {
            assert_eq!(parsed.unwrap_err(), SEVERAL);
        } else {
            assert_eq!(parsed, Ok((meant.to_owned(), names.to_vec())));
        }
    }

    #[rstest]
    #[case("WHERE a > :since", "WHERE a > ?1", &[0])]
    #[case("[a:since] `b:since` \"c:since\" :since", "[a:since] `b:since` \"c:since\" ?1", &[0])]
    #[case("/* :since /* */ :since", "/* :since /* */ ?1", &[0])]
    #[case("SELECT 1 ; -- the end\n", "SELECT 1 ", &[])]
    fn and_of_sqlite(#[case] written: &str, #[case] meant: &str, #[case] names: &[usize]) {
        let parsed = parse(written, Dialect::Sqlite);
        assert_eq!(parsed, Ok((meant.to_owned(), names.to_vec())));
    }

    #[rstest]
    #[case(":sinse", "has no parameter :sinse; it may hold :since, :external_id")]
    #[case("a = $1", "has a placeholder without a name")]
    #[case("'open", "has a ' that does not end")]
    #[case("$a$ open $b$", "has a $a$ that does not end")]
    #[case("/* open", "has a comment that does not end")]
    #[case("SELECT 1; DELETE FROM a", "holds more than one statement")]
    #[case(" ; ", "holds no statement")]
    fn what_is_wrong_is_said(#[case] written: &str, #[case] why: &str) {
        let said = parse(written, Dialect::Postgres).unwrap_err();
        assert!(said.starts_with(why), "{said}");
    }

    #[rstest]
    #[case("a = ?")]
    #[case("a = ?3")]
    #[case("a = @id")]
    #[case("a = $id")]
    fn sqlite_would_bind_nothing_to_other_placeholders(#[case] written: &str) {
        let said = parse(written, Dialect::Sqlite).unwrap_err();
        assert!(
            said.starts_with("has a placeholder without a name"),
            "{said}"
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_and_quotes_stay_as_they_are(
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
