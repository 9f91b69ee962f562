//! Ten thousand generated records for each format, each with one odd cell: it changes nothing else.

use std::collections::BTreeMap;

use rstest::rstest;
use serde_json::{Map, Value as Json, json};

use super::*;

const RECORDS: u64 = 10_000;

/// A small generator of numbers (Steele and Vigna, splitmix64), so that every run has the same records.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())].clone()
    }

    /// A text like a date, an address or a status, or like nothing at all.
    fn odd_text(&mut self) -> String {
        const PIECES: [&str; 28] = [
            "2026",
            "-",
            "/",
            ".",
            ":",
            "T",
            "Z",
            " ",
            "+",
            "12",
            "31",
            "00",
            "24",
            "99999",
            "Dec",
            "Sunday",
            "PM",
            "UTC",
            "[Europe/Berlin]",
            "@",
            "ada@example.org",
            "never",
            "\"",
            "'",
            ";",
            "é",
            "\u{202f}",
            "\u{0}",
        ];
        let length = 1 + self.below(8);
        (0..length).map(|_| self.pick(&PIECES)).collect()
    }

    fn odd_json(&mut self) -> Json {
        match self.below(8) {
            0 => json!(true),
            1 => json!(self.next()),
            2 => json!(-1),
            3 => json!(1.5e300),
            4 => json!([self.odd_text(), 1, null]),
            5 => json!([[1]]),
            6 => json!({ self.odd_text(): [self.odd_text()] }),
            _ => json!(self.odd_text()),
        }
    }
}

/// A valid record; every column has a value.
fn record(number: u64) -> Map<String, Json> {
    let values = [
        format!("t{number:05}"),
        format!("name {number}"),
        format!("u{number}@example.org"),
        "2027-01-10T00:00:00Z".to_owned(),
        "description".to_owned(),
        "account".to_owned(),
        "role".to_owned(),
        "a, \"b\"; c".to_owned(),
        "2026-01-01T00:00:00Z".to_owned(),
        "1767225600".to_owned(),
        "Ada".to_owned(),
        "disabled".to_owned(),
    ];
    let names = COLUMNS.names.iter().map(|name| (*name).to_owned());
    names.zip(values.map(Json::from)).collect()
}

fn write_file(name: &str, records: &[Map<String, Json>]) -> Vec<u8> {
    match name {
        "t.csv" => {
            let mut csv = csv::Writer::from_writer(Vec::new());
            csv.write_record(COLUMNS.names).unwrap();
            for record in records {
                let cells = COLUMNS
                    .names
                    .map(|name| record[name].as_str().unwrap_or_default());
                csv.write_record(cells).unwrap();
            }
            csv.into_inner().unwrap()
        }
        "t.json" => serde_json::to_vec(records).unwrap(),
        _ => {
            let lines = records.iter().map(|record| format!("{}\n", json!(record)));
            lines.collect::<String>().into_bytes()
        }
    }
}

fn read_file(name: &str, records: &[Map<String, Json>]) -> (BTreeMap<String, ListedToken>, u64) {
    let folder = Folder::new();
    let path = folder.0.path().join(name);
    fs::write(&path, write_file(name, records)).unwrap();
    let options = ReadOptions::default();
    let listing = read_files(
        &[Input::Path(path)],
        &options,
        &mut ReadCallbacks::default(),
    )
    .unwrap();
    let tokens = listing.tokens.map(Result::unwrap);
    let tokens = tokens
        .map(|token| (token.external_id.clone(), token))
        .collect();
    (tokens, listing.refusals.count)
}

/// The token without what a column says.
fn without(column: &str, mut token: ListedToken) -> ListedToken {
    match column {
        "name" => token.name = Cell::Absent,
        "issuer_email" => token.issuer = Cell::Absent,
        "expires_at" => (token.expiry, token.expiry_day) = (Cell::Absent, None),
        "description" => token.description = Cell::Absent,
        "account" => token.account = Cell::Absent,
        "role" => token.role = Cell::Absent,
        "scope" => token.scope = Cell::Absent,
        "created_at" => token.created_at = Cell::Absent,
        "last_used_at" => token.last_used_at = Cell::Absent,
        "issuer_name" => token.issuer_name = Cell::Absent,
        _ => token.status = Cell::Absent,
    }
    token.unreadable.remove(column);
    token
}

#[rstest]
fn one_odd_cell_changes_nothing_else(#[values("t.csv", "t.json", "t.jsonl")] name: &str) {
    let mut random = Random(12);
    let plain: Vec<_> = (0..RECORDS).map(record).collect();
    let mut odd = plain.clone();
    let columns: Vec<_> = odd
        .iter_mut()
        .map(|record| {
            let column = random.pick(&COLUMNS.names[1..]);
            let value = match name {
                "t.csv" => random.odd_text().into(),
                _ => random.odd_json(),
            };
            record.insert(column.to_owned(), value);
            column
        })
        .collect();
    let (plain, _) = read_file(name, &plain);
    let (odd, refused) = read_file(name, &odd);
    assert_eq!((refused, odd.len()), (0, plain.len()));
    let mut unreadable = 0;
    for ((column, (_, plain)), (_, odd)) in columns.into_iter().zip(plain).zip(odd) {
        unreadable += odd.unreadable.len();
        assert_eq!(without(column, odd), without(column, plain), "{column}");
    }
    assert!(unreadable > 1000, "{unreadable}");
}

#[rstest]
fn an_odd_id_affects_no_other_record(#[values("t.csv", "t.json", "t.jsonl")] name: &str) {
    let mut random = Random(7);
    let plain: Vec<_> = (0..RECORDS).map(record).collect();
    let mut odd = plain.clone();
    for record in odd.iter_mut().step_by(2) {
        let value = match name {
            "t.csv" => random.odd_text().into(),
            _ => random.odd_json(),
        };
        record.insert("external_id".to_owned(), value);
    }
    let (plain, _) = read_file(name, &plain);
    let (odd, _) = read_file(name, &odd);
    for (id, token) in plain.into_iter().skip(1).step_by(2) {
        assert_eq!(odd.get(&id), Some(&token));
    }
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let mut random = Random(3);
    let folder = Folder::new();
    for name in ["t.csv", "t.json", "t.jsonl"] {
        let records: Vec<_> = (0..3).map(record).collect();
        let valid = write_file(name, &records);
        for _ in 0..1000 {
            let mut bytes = valid.clone();
            for _ in 0..=random.below(4) {
                let place = random.below(bytes.len());
                bytes[place] = random.next().to_le_bytes()[0];
            }
            bytes.truncate(1 + random.below(valid.len() * 2));
            let path = folder.0.path().join(name);
            fs::write(&path, bytes).unwrap();
            let options = ReadOptions {
                items: Vec::from_iter((random.below(3) == 0).then(|| "value".to_owned())),
                ..ReadOptions::default()
            };
            let _ = read_files(
                &[Input::Path(path)],
                &options,
                &mut ReadCallbacks::default(),
            );
        }
    }
}
