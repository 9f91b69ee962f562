//! Finds SQL that other engines than PostgreSQL lack, or that one of the store's rules forbids. docs/scale.md lists
//! the engines.

use super::words::scan;

/// What no statement of the store may have. Keywords of SQL are in capitals here.
const FORBIDDEN: [&str; 27] = [
    // The clock of the database: all instants come from the program.
    "now()",
    "NOW()",
    "'now'",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "LOCALTIMESTAMP",
    "clock_timestamp",
    // State of a session, which a failover or a pooler loses.
    "pg_advisory",
    "pg_try_advisory",
    "LISTEN",
    "NOTIFY",
    "TEMP",
    "TEMPORARY",
    "SAVEPOINT",
    // Absent or different elsewhere, and not needed.
    "SERIAL",
    "BIGSERIAL",
    "GENERATED",
    "TRUNCATE",
    "COPY",
    "::json",
    "::jsonb",
    "DEFERRABLE",
    "LOCK TABLE",
    // Allowed only where ALLOWED names the place.
    "COLLATE",
    "reltuples",
    "ANALYZE",
];

/// Places that may have them: the start of a path, and the text.
const ALLOWED: [(&str, &str); 5] = [
    // Order by bytes, as in the program. CockroachDB has this order in any column, and would need it removed.
    ("migrations/postgres/", "COLLATE \"C\""),
    ("src/store/notices.rs", "SELECT reltuples::bigint FROM"),
    ("src/store/notices.rs", "ANALYZE notice"),
    // A command of SQLite.
    ("src/store/erasure.rs", "wal_checkpoint(TRUNCATE)"),
    // `lapsed move` alone, out of a database that nothing else may change meanwhile.
    (
        "src/store/copy.rs",
        "LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE",
    ),
];

/// The statements of a file: all of a migration without its comments, the strings of Rust code.
fn statements(path: &str, text: &str) -> String {
    if path.starts_with("migrations/") {
        let code = text
            .lines()
            .filter_map(|line| line.split("--").next())
            .collect::<Vec<_>>();
        return code.join("\n");
    }
    scan(text).1.join("\n")
}

/// What is forbidden in the statements of one file. Adds the allowances that apply to `used`.
pub fn find_forbidden(path: &str, text: &str, used: &mut Vec<&'static str>) -> Vec<String> {
    let mut sql = statements(path, text);
    for (place, allowed) in ALLOWED {
        if path.starts_with(place) && sql.contains(allowed) {
            used.push(allowed);
            sql = sql.replace(allowed, "");
        }
    }
    let found = FORBIDDEN.into_iter().filter(|word| has_word(&sql, word));
    found.map(|word| format!("{path}: {word}")).collect()
}

pub fn unused_allowances(used: &[&str]) -> Vec<&'static str> {
    let all = ALLOWED.into_iter().map(|(_, allowed)| allowed);
    all.filter(|allowed| !used.contains(allowed)).collect()
}

/// Whether the text has the word by itself, not as part of a longer one. `pg_advisory` is the start of several.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (
            text[..at].chars().last(),
            text[at + word.len()..].chars().next(),
        );
        let starts = !word.starts_with(char::is_alphabetic) || !is_part(before);
        let ends =
            !word.ends_with(char::is_alphabetic) || !is_part(after) || word.ends_with("advisory");
        starts && ends
    })
}
