//! Random files: reading them never panics, every refusal has a valid line, and every accepted record is valid.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lapsed::clock::Clock;
use lapsed::directories::{Common, Directory, PeopleQuery, file};
use lapsed::domain::Person;
use lapsed::sources::file::{Input, ReadCallbacks, ReadOptions, read_files};
use lapsed::sources::{Error, Fetched, ProxyRules, RefusedRows};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// The number of files of each kind.
const CASES: u32 = 10_000;

/// The minimum number of files with valid records, so that not only refusals are tested.
const MIN_ACCEPTED: u64 = 2_000;

/// The pieces of which cells are made, valid and invalid ones.
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

/// Columns and their valid values.
type Columns = &'static [(&'static str, &'static [&'static str])];

const TOKEN_COLUMNS: Columns = &[
    ("external_id", &["a", "b", "c", "B", "é"]),
    (
        "expires_at",
        &["", "never", "2026-11-12", "2026-11-12T09:30:00.5Z"],
    ),
    ("status", &["active", "disabled", "revoked", "expired"]),
    ("issuer_email", &["", "ada@x.org", "eve@x.org"]),
    ("name", &["", "ci", "\"a, b\"", "{{x}}"]),
];

const PEOPLE_COLUMNS: Columns = &[
    (
        "email",
        &["ada@x.org", "eve@x.org", "Ada@x.org", "bob@x.org"],
    ),
    ("status", &["active", "disabled", "deleted"]),
    ("since", &["", "2026-11-12", "2026-11-12T09:30:00Z"]),
    ("groups", &["", "a;b", "\"a,b\""]),
];

const BAD_NAMES: &[&str] = &[
    "nmae",
    "",
    "External_ID",
    "email",
    "\"status\"",
    "\"",
    "status ",
];

const LINE_ENDS: &[&str] = &["\n", "\n", "\r\n", "\r", "\n\n"];

/// The text before, between and after objects.
const LAYOUTS: &[(&str, &str, &str)] = &[
    ("[", ",", "]"),
    ("[\n", ",\n", "]\n"),
    ("", "\n", "\n"),
    ("", "\r\n", ""),
    ("[", ",,", "]"),
    ("[", ",", ""),
];

const EXTENSIONS: &[&str] = &["csv", "json", "jsonl", "txt"];

/// An invalid cell: a piece, several, or any characters.
fn bad_cell() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(CELLS).prop_map(str::to_owned),
        2 => vec(select(CELLS), 2..5).prop_map(|pieces| pieces.concat()),
        1 => "\\PC{0,12}",
    ]
}

/// A row of the first columns, sometimes with an invalid cell.
fn row(columns: Columns, width: usize) -> impl Strategy<Value = Vec<String>> {
    let picks = vec(any::<Index>(), width);
    let bad = proptest::option::weighted(0.3, (any::<Index>(), bad_cell()));
    (picks, bad).prop_map(move |(picks, bad)| {
        let cells = columns.iter().zip(picks);
        let mut cells: Vec<String> = cells
            .map(|((_, good), pick)| good[pick.index(good.len())].to_owned())
            .collect();
        if let Some((at, bad)) = bad {
            let at = at.index(cells.len());
            cells[at] = bad;
        }
        cells
    })
}

/// The names of the first columns, sometimes with an invalid one.
fn names(columns: Columns, width: usize) -> impl Strategy<Value = Vec<String>> {
    let bad = proptest::option::weighted(0.15, (any::<Index>(), select(BAD_NAMES)));
    bad.prop_map(move |bad| {
        let names = columns.iter().take(width);
        let mut names: Vec<String> = names.map(|(name, _)| (*name).to_owned()).collect();
        if let Some((at, bad)) = bad {
            let at = at.index(names.len());
            bad.clone_into(&mut names[at]);
        }
        names
    })
}

fn table(columns: Columns) -> impl Strategy<Value = (Vec<String>, Vec<Vec<String>>)> {
    (2..=columns.len())
        .prop_flat_map(move |width| (names(columns, width), vec(row(columns, width), 0..5)))
}

fn csv(columns: Columns) -> impl Strategy<Value = Vec<u8>> {
    let ends = vec(select(LINE_ENDS), 8);
    (table(columns), ends).prop_map(|((names, mut rows), ends)| {
        rows.insert(0, names);
        let lines = rows.iter().zip(ends.iter().cycle());
        let lines = lines.map(|(cells, end)| cells.join(",") + end);
        lines.collect::<String>().into_bytes()
    })
}

fn json(columns: Columns) -> impl Strategy<Value = Vec<u8>> {
    let raw = proptest::option::weighted(0.1, any::<Index>());
    (table(columns), select(LAYOUTS), raw).prop_map(|((names, rows), layout, raw)| {
        let entry = |name: &String, cell: &String, raw: bool| {
            let cell = if raw {
                cell.clone()
            } else {
                serde_json::to_string(cell).unwrap()
            };
            format!("{}:{cell}", serde_json::to_string(name).unwrap())
        };
        let raw = raw.map(|raw| raw.index(rows.len() + 1));
        let objects: Vec<String> = rows
            .iter()
            .enumerate()
            .map(|(nth, cells)| {
                let entries = names
                    .iter()
                    .zip(cells)
                    .map(|(name, cell)| entry(name, cell, raw == Some(nth)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
            })
            .collect();
        let (open, separator, close) = layout;
        format!("{open}{}{close}", objects.join(separator)).into_bytes()
    })
}

#[derive(Debug, Clone)]
enum Damage {
    None,
    Cut(Index),
    Change(Vec<(Index, u8)>),
    /// Inserts this number of bytes.
    Grow(Index, usize),
    Replace(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        40 => Just(Damage::None),
        20 => any::<Index>().prop_map(Damage::Cut),
        25 => vec((any::<Index>(), any::<u8>()), 1..6).prop_map(Damage::Change),
        1 => (any::<Index>(), 65_530_usize..65_560).prop_map(|(at, size)| Damage::Grow(at, size)),
        14 => vec(any::<u8>(), 0..60).prop_map(Damage::Replace),
    ]
}

impl Damage {
    fn apply(self, mut bytes: Vec<u8>) -> Vec<u8> {
        let size = bytes.len() + 1;
        match self {
            Self::None => {}
            Self::Cut(at) => bytes.truncate(at.index(size)),
            Self::Change(changes) => {
                for (at, byte) in changes {
                    let at = at.index(bytes.len() + 1);
                    bytes.splice(at..bytes.len().min(at + 1), [byte]);
                }
            }
            Self::Grow(at, by) => {
                let at = at.index(size);
                bytes.splice(at..at, std::iter::repeat_n(b'x', by));
            }
            Self::Replace(other) => bytes = other,
        }
        bytes
    }
}

/// The extension of a file, usually the right one, and its content.
fn file(columns: Columns) -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let written = prop_oneof![
        csv(columns).prop_map(|bytes| ("csv", bytes)),
        json(columns).prop_map(|bytes| ("txt", bytes)),
    ];
    let other = proptest::option::weighted(0.2, select(EXTENSIONS));
    (written, other, damage()).prop_map(|((extension, bytes), other, damage)| {
        (other.unwrap_or(extension), damage.apply(bytes))
    })
}

/// Every refused row has an existing line.
fn check_refusals(refusals: &RefusedRows, path: &Path, lines: u64) -> Result<(), TestCaseError> {
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
    let mut reported = 0;
    let mut refused = |_: &_, _| reported += 1;
    let mut callbacks = ReadCallbacks {
        on_refused: Some(&mut refused),
        ..ReadCallbacks::default()
    };
    let input = Input::Path(path.to_owned());
    let listing = match read_files(&[input], &ReadOptions::default(), &mut callbacks) {
        Ok(listing) => listing,
        Err(error) => return check_error(&error, path, lines).map(|()| false),
    };
    prop_assert_eq!(reported, listing.refusals.count);
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

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().unwrap();
}

fn check_people(path: &Path, lines: u64) -> Result<bool, TestCaseError> {
    let common = Common {
        timeout: Duration::from_secs(1),
        allowed_groups: Vec::new(),
        clock: Clock::system(),
        proxies: ProxyRules::default(),
    };
    let path_of_file = path.to_owned();
    let directory = file::Config { path: path_of_file }.build(&common);
    let mut people = Vec::new();
    let mut collect = |person: Person| people.push(person);
    let query = PeopleQuery::default();
    let listing =
        RUNTIME.with(|runtime| runtime.block_on(directory.list_people(&query, &mut collect)));
    let listing = match listing {
        Ok(Fetched::New(listing)) => listing,
        Ok(Fetched::Unchanged) => {
            return Err(TestCaseError::fail("unchanged without a last listing"));
        }
        Err(error) => return check_error(&error, path, lines).map(|()| false),
    };
    check_refusals(&listing.refusals, path, lines)?;
    prop_assert!(people.iter().map(|person| &person.main).is_sorted());
    Ok(!people.is_empty())
}

/// Creates and checks the files; returns how many had valid records.
fn run(columns: Columns, check: fn(&Path, u64) -> Result<bool, TestCaseError>) -> u64 {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let accepted = AtomicU64::new(0);
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |((extension, content) in file(columns))| {
        let path = folder.path().join(format!("x.{extension}"));
        fs::write(&path, &content).unwrap();
        let is_accepted = check(&path, count_lines(&content))?;
        // Not overwritten, because then some file systems wait for the disk.
        fs::remove_file(&path).unwrap();
        accepted.fetch_add(u64::from(is_accepted), Ordering::Relaxed);
    });
    accepted.into_inner()
}

#[test]
fn random_token_files_never_panic_and_keep_their_lines() {
    let accepted = run(TOKEN_COLUMNS, check_tokens);
    assert!(
        (MIN_ACCEPTED..u64::from(CASES)).contains(&accepted),
        "{accepted}"
    );
}

#[test]
fn random_people_files_never_panic_and_keep_their_lines() {
    let accepted = run(PEOPLE_COLUMNS, check_people);
    assert!(
        (MIN_ACCEPTED..u64::from(CASES)).contains(&accepted),
        "{accepted}"
    );
}
