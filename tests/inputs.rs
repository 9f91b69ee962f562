//! Files that nobody would write: whatever they hold, reading them neither panics nor loses the
//! place, and what is let in keeps its promises.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use lapsed::directories::{Directory, file::FileDirectory};
use lapsed::sources::tokens::{self, Input, Watch};
use lapsed::sources::{Error, Fetched, Refusals};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tempfile::TempDir;

/// How many files of each kind are made.
const CASES: u32 = 10_000;

/// Pieces that files are made of, and those that break them.
const CELLS: &[&str] = &[
    "",
    " ",
    "a",
    "b",
    "A",
    "\u{feff}",
    "\0",
    "é",
    "\u{1f600}",
    "\"",
    "\"\"",
    "a\"b",
    "\"a,b\"",
    "\"a\nb\"",
    "'",
    ",",
    ";",
    "\t",
    "\\",
    "{{x}}",
    "null",
    "true",
    "1e999",
    "-0",
    "never",
    "2026-11-12",
    "1969-12-31",
    "2026-11-12T09:30:00Z",
    "2026-11-12 09:30",
    "99999999999999999999",
    "a@x.org",
    "A@X.ORG",
    "a@",
    "active",
    "expired",
    "gone",
    "disabled",
    "deleted",
    "[",
    "]",
    "{",
    "}",
    "[]",
    "{}",
    ":",
    "\r",
    "\n",
];

const NAMES: &[&str] = &[
    "external_id",
    "external_id",
    "name",
    "issuer_email",
    "expires_at",
    "created_at",
    "status",
    "email",
    "email",
    "groups",
    "since",
    "nmae",
    "",
    "External_ID",
];

const LINE_ENDS: &[&str] = &["\n", "\n", "\r\n", "\r", "\n\n"];

const EXTENSIONS: &[&str] = &["csv", "json", "jsonl", "txt"];

/// A cell: a piece, several, or one that is too long.
fn cell() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(CELLS).prop_map(str::to_owned),
        2 => vec(select(CELLS), 2..5).prop_map(|pieces| pieces.concat()),
        1 => "\\PC{0,12}",
    ]
}

fn csv() -> impl Strategy<Value = Vec<u8>> {
    let header = vec(select(NAMES), 1..5).prop_map(|names| names.join(","));
    let header = prop_oneof![
        3 => select(&["external_id,expires_at,status", "email,status", "external_id,issuer_email"][..]).prop_map(str::to_owned),
        1 => header,
    ];
    let rows = vec((vec(cell(), 1..4), select(LINE_ENDS)), 0..8);
    (header, select(LINE_ENDS), rows).prop_map(|(header, end, rows)| {
        let rows = rows.into_iter().map(|(cells, end)| cells.join(",") + end);
        (header + end + &rows.collect::<String>()).into_bytes()
    })
}

fn json() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        3 => cell().prop_map(|text| serde_json::to_string(&text).unwrap()),
        1 => cell(),
    ];
    let entry = (select(NAMES), value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let object = vec(entry, 0..5).prop_map(|entries| format!("{{{}}}", entries.join(",")));
    let separator = select(&[",", ",\n", "\n", "\r\n", ",,"][..]);
    let bracket = select(&[("[", "]"), ("", ""), ("[\n", "]\n"), ("[", "")][..]);
    (vec(object, 0..8), separator, bracket).prop_map(|(objects, separator, (open, close))| {
        format!("{open}{}{close}", objects.join(separator)).into_bytes()
    })
}

/// One of them as it is, cut off, or with some bytes changed; or no such thing at all.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let written = prop_oneof![csv(), json()];
    let cut = (prop_oneof![csv(), json()], any::<Index>()).prop_map(|(mut bytes, at)| {
        bytes.truncate(at.index(bytes.len() + 1));
        bytes
    });
    let changes = vec((any::<Index>(), any::<u8>()), 1..6);
    let changed = (prop_oneof![csv(), json()], changes).prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..bytes.len().min(at + 1), [byte]);
        }
        bytes
    });
    let huge = (csv(), any::<Index>(), 65_530_usize..65_560).prop_map(|(mut bytes, at, size)| {
        let at = at.index(bytes.len() + 1);
        bytes.splice(at..at, std::iter::repeat_n(b'x', size));
        bytes
    });
    prop_oneof![
        40 => written,
        20 => cut,
        20 => changed,
        15 => vec(any::<u8>(), 0..200),
        1 => huge,
    ]
}

fn file() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    (select(EXTENSIONS), content())
}

/// Everything that is refused is refused at a line that is there.
fn check_refusals(refusals: &Refusals, path: &Path, lines: u64) -> Result<(), TestCaseError> {
    for refusal in &refusals.shown {
        prop_assert_eq!(&refusal.file, &path.display().to_string());
        prop_assert!((1..=lines).contains(&refusal.line), "{}", refusal);
        prop_assert!(
            !refusal.reason.is_empty() && refusal.reason.len() < 500,
            "{}",
            refusal
        );
        prop_assert!(!refusal.reason.contains(char::is_control), "{:?}", refusal);
    }
    Ok(())
}

fn check_error(error: &Error, path: &Path, lines: u64) -> Result<(), TestCaseError> {
    let text = error.to_string();
    let place = format!("{}:", path.display());
    let line = text
        .strip_prefix(&place)
        .and_then(|text| text.split(':').next());
    let line = line.and_then(|line| line.parse::<u64>().ok());
    prop_assert!(
        line.is_some_and(|line| (1..=lines).contains(&line)),
        "{}",
        text
    );
    Ok(())
}

fn count_lines(content: &[u8]) -> u64 {
    1 + content
        .iter()
        .filter(|byte| matches!(byte, b'\n' | b'\r'))
        .count() as u64
}

fn check_tokens(path: &Path, lines: u64) -> Result<bool, TestCaseError> {
    let mut told = 0;
    let mut refused = |_: &_| told += 1;
    let mut watch = Watch {
        refused: Some(&mut refused),
        ..Watch::default()
    };
    let listing = match tokens::read(&[Input::Path(path.to_owned())], &mut watch) {
        Ok(listing) => listing,
        Err(error) => return check_error(&error, path, lines).map(|()| false),
    };
    prop_assert_eq!(told, listing.refusals.count);
    check_refusals(&listing.refusals, path, lines)?;
    let ids: Vec<String> = listing
        .tokens
        .map(|token| token.unwrap().external_id)
        .collect();
    prop_assert_eq!(ids.len() as u64, listing.count);
    prop_assert!(
        ids.iter()
            .all(|id| id == id.trim() && !id.is_empty() && id.len() <= 512)
    );
    prop_assert!(!ids.concat().contains(char::is_control));
    prop_assert!(ids.is_sorted() && ids.windows(2).all(|two| two[0] != two[1]));
    Ok(!ids.is_empty())
}

fn check_people(path: &Path, lines: u64) -> Result<bool, TestCaseError> {
    let directory = FileDirectory::new("hr".to_owned(), path.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let fetched = runtime.block_on(directory.fetch(None));
    let people = match fetched {
        Ok(Fetched::New(people)) => people,
        Ok(Fetched::Unchanged) => return Err(TestCaseError::fail("unchanged since never")),
        Err(error) => return check_error(&error, path, lines).map(|()| false),
    };
    check_refusals(&people.refusals, path, lines)?;
    prop_assert!(people.people.iter().map(|person| &person.email).is_sorted());
    Ok(!people.people.is_empty())
}

/// Makes the files and checks each; says how many let something in.
fn run(check: fn(&Path, u64) -> Result<bool, TestCaseError>) -> u64 {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let let_in = AtomicU64::new(0);
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |((extension, content) in file())| {
        let path = folder.path().join(format!("x.{extension}"));
        fs::write(&path, &content).unwrap();
        let some = check(&path, count_lines(&content))?;
        let_in.fetch_add(u64::from(some), Ordering::Relaxed);
    });
    let_in.into_inner()
}

#[test]
fn ten_thousand_bad_token_files_neither_panic_nor_lose_the_place() {
    let let_in = run(check_tokens);
    // Were nothing ever let in, nothing of the promises would have been tried.
    assert!(
        (u64::from(CASES) / 50..u64::from(CASES)).contains(&let_in),
        "{let_in}"
    );
}

#[test]
fn ten_thousand_bad_people_files_neither_panic_nor_lose_the_place() {
    let let_in = run(check_people);
    assert!(
        (u64::from(CASES) / 100..u64::from(CASES)).contains(&let_in),
        "{let_in}"
    );
}
