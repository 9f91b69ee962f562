mod generated;

use std::fs;

use rstest::rstest;
use tempfile::TempDir;

use super::*;
use crate::domain::{Expiry, Status};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn source(&self, name: &str) -> Config {
        Config {
            path: self.0.path().join(name),
            options: ReadOptions::default(),
        }
    }
}

fn last(fingerprint: Option<&str>) -> LastListing {
    LastListing {
        fingerprint: fingerprint.map(str::to_owned),
        ..LastListing::default()
    }
}

async fn fetch_new(source: &Config, previous: Option<&str>) -> Listing {
    match source.fetch(&last(previous)).await.unwrap() {
        Fetched::New(listing) => listing,
        Fetched::Unchanged => panic!("unchanged"),
    }
}

fn ids(listing: Listing) -> Vec<String> {
    let ids = listing.tokens.map(|token| token.unwrap().external_id);
    ids.collect()
}

#[tokio::test]
async fn a_file_is_read_again_only_if_it_has_changed() {
    let folder = Folder::new();
    folder.write("t.csv", "external_id\nb\na\n");
    let source = folder.source("t.csv");
    let listing = fetch_new(&source, None).await;
    let fingerprint = listing.fingerprint.clone().unwrap();
    assert_eq!(
        (listing.count, ids(listing)),
        (2, vec!["a".into(), "b".into()])
    );
    let again = source.fetch(&last(Some(&fingerprint))).await.unwrap();
    assert!(matches!(again, Fetched::Unchanged));

    // Same size, and renamed into place as careful exports do.
    let new = folder.write("t.new", "external_id\nb\nc\n");
    fs::rename(new, folder.0.path().join("t.csv")).unwrap();
    let listing = fetch_new(&source, Some(&fingerprint)).await;
    assert_ne!(listing.fingerprint.as_ref(), Some(&fingerprint));
    assert_eq!(ids(listing), ["b", "c"]);
}

#[tokio::test]
async fn a_folder_is_read_as_one_listing() {
    let folder = Folder::new();
    folder.write("b.csv", "external_id\nb\nx\n");
    folder.write(
        "a.jsonl",
        "{\"external_id\":\"a\"}\n\n{\"external_id\":\"x\"}",
    );
    folder.write("c.JSON", "[{\"external_id\":\"c\"}]");
    folder.write(".hidden.csv", "rubbish");
    folder.write("notes.txt", "rubbish");
    fs::create_dir(folder.0.path().join("old.csv")).unwrap();
    let source = folder.source("");
    let listing = fetch_new(&source, None).await;
    assert_eq!((listing.count, listing.refusals.count), (4, 1));
    let path = |name: &str| folder.0.path().join("").join(name).display().to_string();
    let first = path("a.jsonl");
    let refusal = RefusedRow {
        file: path("b.csv"),
        line: 3,
        reason: format!("the external_id is already in {first}, line 3; keep one of the two"),
    };
    assert_eq!(listing.refusals.shown, [refusal]);
    let fingerprint = listing.fingerprint.clone().unwrap();
    assert_eq!(ids(listing), ["a", "b", "c", "x"]);

    fs::remove_file(path("c.JSON")).unwrap();
    assert_eq!(
        ids(fetch_new(&source, Some(&fingerprint)).await),
        ["a", "b", "x"]
    );
}

#[tokio::test]
async fn an_unreadable_path_is_an_error_with_advice() {
    let folder = Folder::new();
    folder.write("empty.csv", "");
    fs::create_dir(folder.0.path().join("folder")).unwrap();
    for (name, expected) in [
        (
            "none.csv",
            "cannot read *; correct the path, or run the export first",
        ),
        (
            "folder",
            "* contains no .csv, .json, .jsonl or .ndjson file",
        ),
        (
            "empty.csv",
            "*:1: the file is empty, as after a failed export; a file without rows has the CSV header or the JSON array []",
        ),
    ] {
        let source = folder.source(name);
        let path = folder.0.path().join(name).display().to_string();
        let error = source.fetch(&last(None)).await.err().unwrap().to_string();
        assert_eq!(error.replace(&path, "*"), expected);
        let error = source.check().await.unwrap_err().to_string();
        assert_eq!(error.replace(&path, "*"), expected);
    }
    let device = Config {
        path: "/dev/null".into(),
        options: ReadOptions::default(),
    };
    let error = device.fetch(&last(None)).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "/dev/null is not a file; name a regular file"
    );
}

#[test]
fn a_file_that_changes_while_it_is_read_fails_the_listing() {
    let folder = Folder::new();
    let path = folder.write("t.csv", "external_id\na\n");
    let stamp = FileStamp::take(&path).unwrap();
    assert!(stamp.ensure_unchanged(&path).is_ok());
    folder.write("t.csv", "external_id\na\nb\n");
    let error = stamp.ensure_unchanged(&path).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    fs::remove_file(&path).unwrap();
    assert!(stamp.ensure_unchanged(&path).is_err());
}

#[tokio::test]
async fn a_check_reports_its_result_or_the_invalid_row() {
    let folder = Folder::new();
    let rows: Vec<String> = (0..1001).map(|nth| format!("t{nth}")).collect();
    let rows = rows.join("\n");
    folder.write("many.csv", &format!("external_id\n{rows}\n,\n"));
    folder.write("few.json", r#"[{"external_id":"a"},{"external_id":"b"}]"#);
    let bad = folder.write("bad.csv", "external_id,expires_at\na,\nb,soon\n");
    let check = async |name: &str| folder.source(name).check().await;
    assert_eq!(
        check("many.csv").await.unwrap().summary,
        "CSV, the first 1000 tokens are valid"
    );
    assert_eq!(check("few.json").await.unwrap().summary, "JSON, 2 tokens");
    let notes = check("bad.csv").await.unwrap().notes;
    let expected = format!(
        "a cell cannot be read, {}:3: expires_at \"soon\" ",
        bad.display()
    );
    assert!(notes[0].starts_with(&expected), "{notes:?}");
    folder.write(
        "numbers.csv",
        "external_id,expires_at,created_at\na,1796428800,1795161704000\n",
    );
    assert_eq!(
        check("numbers.csv").await.unwrap().summary,
        "CSV, 1 tokens; dates in milliseconds and seconds since 1970"
    );
}

fn read_text(content: &str) -> Listing {
    let folder = tempfile::tempdir().unwrap();
    let name = if content.starts_with('{') {
        "t.jsonl"
    } else {
        "t.csv"
    };
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let options = ReadOptions::default();
    read_files(
        &[Input::Path(path)],
        &options,
        &mut ReadCallbacks::default(),
    )
    .unwrap()
}

fn only_token(content: &str) -> ListedToken {
    let mut listing = read_text(content);
    assert_eq!((listing.count, listing.refusals.count), (1, 0));
    listing.tokens.next().unwrap().unwrap()
}

fn only_refusal(content: &str) -> String {
    let listing = read_text(content);
    assert_eq!((listing.count, listing.refusals.count), (0, 1));
    listing.refusals.shown[0].reason.clone()
}

const ALL: &str = "external_id,name,issuer_email,expires_at,description,account,role,scope,\
                   created_at,last_used_at,issuer_name,status";

#[test]
fn an_absent_column_differs_from_an_empty_one() {
    let absent = only_token("external_id\na\n");
    let expected = ListedToken {
        external_id: "a".to_owned(),
        name: Cell::Absent,
        description: Cell::Absent,
        issuer: Cell::Absent,
        issuer_name: Cell::Absent,
        account: Cell::Absent,
        role: Cell::Absent,
        scope: Cell::Absent,
        created_at: Cell::Absent,
        expiry: Cell::Absent,
        last_used_at: Cell::Absent,
        status: Cell::Absent,
        ..ListedToken::default()
    };
    assert_eq!(absent, expected);
    let empty = only_token(&format!("{ALL}\na,,,,,,,,,,,\n"));
    let expected = ListedToken {
        external_id: "a".to_owned(),
        name: Cell::Value(String::new()),
        description: Cell::Empty,
        issuer: Cell::Empty,
        issuer_name: Cell::Empty,
        account: Cell::Empty,
        role: Cell::Empty,
        scope: Cell::Empty,
        created_at: Cell::Empty,
        expiry: Cell::Value(Expiry::Unknown),
        last_used_at: Cell::Empty,
        status: Cell::Empty,
        ..ListedToken::default()
    };
    assert_eq!(empty, expected);
}

#[test]
fn every_column_reaches_its_field() {
    let row = "id,nm,i@x.org,2026-01-04,de,ac,ro,sc,2026-01-02,2026-01-03,in,revoked";
    let text = |text: &str| Cell::Value(text.to_owned());
    let day = |day: &str| format!("2026-01-0{day}T00:00:00Z").parse().unwrap();
    let expected = ListedToken {
        external_id: "id".to_owned(),
        name: text("nm"),
        description: text("de"),
        issuer: Cell::Value("i@x.org".parse().unwrap()),
        issuer_name: text("in"),
        account: text("ac"),
        role: text("ro"),
        scope: text("sc"),
        created_at: Cell::Value(day("2")),
        expiry: Cell::Value(Expiry::At(day("4"))),
        expiry_day: chrono::NaiveDate::from_ymd_opt(2026, 1, 4),
        last_used_at: Cell::Value(day("3")),
        status: Cell::Value(Status::Revoked),
        ..ListedToken::default()
    };
    assert_eq!(only_token(&format!("{ALL}\n{row}\n")), expected);
}

#[rstest]
#[case("active", Status::Active)]
#[case("Active", Status::Active)]
#[case("expired", Status::Active)]
#[case("disabled", Status::Disabled)]
#[case("revoked", Status::Revoked)]
#[case("enabled", Status::Active)]
#[case("Inactive", Status::Disabled)]
#[case("true", Status::Active)]
fn an_expired_token_is_read_as_active(#[case] word: &str, #[case] status: Status) {
    let token = only_token(&format!("external_id,status\na,{word}\n"));
    assert_eq!(token.status, Cell::Value(status));
}

#[rstest]
#[case("gone", "is set only by lapsed; write revoked, or leave the token out")]
#[case("2", "is not a status; write active, disabled, revoked or expired")]
fn an_unknown_status_is_unreadable(#[case] word: &str, #[case] why: &str) {
    let token = only_token(&format!("external_id,status\na,{word}\n"));
    assert_eq!(token.status, Cell::Absent);
    assert_eq!(token.unreadable["status"], format!("\"{word}\" {why}"));
}

const EXPORT: &str = "id,source,external_id,name,description,issuer,owners,account,role,scope,kind,networks,created_at,\
                      expires_at,expires_on,expiry,expiry_origin,status,last_used_at,due_at,findings";

#[rstest]
#[case::day_end("2026-12-07T07:59:59Z", "2026-12-06", "source", true)]
#[case::instant("2026-12-07T07:59:59Z", "", "computed", true)]
#[case::ours("2026-12-07T07:59:59Z", "", "policy", false)]
fn an_export_keeps_instant_and_day_of_the_source(
    #[case] at: &str,
    #[case] day: &str,
    #[case] origin: &str,
    #[case] is_known: bool,
) {
    let expected = if is_known {
        Expiry::At(at.parse().unwrap())
    } else {
        Expiry::Unknown
    };
    let token = only_token(&format!(
        "{EXPORT}\nx,s,a,,,,,,,,,,,{at},{day},at,{origin},active,,,\n"
    ));
    assert_eq!(token.expiry, Cell::Value(expected));
    assert_eq!(token.expiry_day, day.parse().ok());

    let day = if day.is_empty() {
        "null".to_owned()
    } else {
        format!("\"{day}\"")
    };
    let json = format!(
        r#"{{"id":"x","source":"s","external_id":"a","issuer":null,"expires_at":"{at}","expires_on":{day},"expiry":"at","expiry_origin":"{origin}"}}"#
    );
    assert_eq!(only_token(&json).expiry, token.expiry);
    assert_eq!(only_token(&json).expiry_day, token.expiry_day);
}

#[test]
fn a_foreign_object_may_begin_like_an_export() {
    let row = r#"{"id":"x","source":"s","external_id":"a","issuer_email":"ada@x.org"}"#;
    let why = "\"id\" is not a column";
    assert!(only_refusal(row).contains(why), "{}", only_refusal(row));
}

#[test]
fn an_unreadable_cell_changes_nothing_else() {
    let row = "id,nm,svc-deploy,soon,de,ac,ro,sc,N/A,tomorrow,in,odd";
    let token = only_token(&format!("{ALL}\n{row}\n"));
    let columns: Vec<_> = token.unreadable.keys().map(String::as_str).collect();
    assert_eq!(
        columns,
        ["expires_at", "issuer_email", "last_used_at", "status"]
    );
    let whole = only_token(&format!("{ALL}\nid,nm,,never,de,ac,ro,sc,,,in,\n"));
    let expected = ListedToken {
        issuer: Cell::Absent,
        expiry: Cell::Absent,
        last_used_at: Cell::Absent,
        status: Cell::Absent,
        unreadable: token.unreadable.clone(),
        ..whole
    };
    assert_eq!(token, expected);
}

#[rstest]
#[case("1.23457E+17", true)]
#[case("1,23457E+17", true)]
#[case("1e+17", true)]
#[case("7e12", false)]
#[case("12E4", false)]
#[case("007", false)]
fn an_id_that_a_spreadsheet_has_rounded_is_refused(#[case] id: &str, #[case] is_refused: bool) {
    let content = format!("external_id\n\"{id}\"\n");
    if is_refused {
        let why = "was rounded by a spreadsheet; format the column as text and export again";
        assert_eq!(only_refusal(&content), format!("external_id {id} {why}"));
    } else {
        assert_eq!(only_token(&content).external_id, id);
    }
}

#[test]
fn a_last_line_without_an_end_is_refused_in_a_listing() {
    let listing = read_text("external_id,expires_at\na,2027-01-10\nb,2027-01-1");
    assert_eq!((listing.count, listing.refusals.count), (1, 1));
    assert_eq!(listing.refusals.shown[0].reason, UNENDED);
}

#[tokio::test]
async fn a_file_is_read_again_if_it_is_to_be_read_otherwise() {
    let folder = Folder::new();
    folder.write("t.csv", "id,expires_at\na,12/01/2027\n");
    let mut source = folder.source("t.csv");
    map_column(&mut source.options, "external_id", "id").unwrap();
    let mut listing = fetch_new(&source, None).await;
    let token = listing.tokens.next().unwrap().unwrap();
    assert!(token.unreadable["expires_at"].contains("date_format"));
    source.options.cells.dates.format = Some("%d/%m/%Y".to_owned());
    let mut listing = fetch_new(&source, listing.fingerprint.as_deref()).await;
    let token = listing.tokens.next().unwrap().unwrap();
    assert_eq!(
        token.expiry_day,
        chrono::NaiveDate::from_ymd_opt(2027, 1, 12)
    );
}

#[test]
fn an_external_id_is_required_and_limited_in_length() {
    let missing = "external_id is missing; write the token's id at the source";
    assert_eq!(only_refusal("external_id,name\n ,A\n"), missing);
    let id = "x".repeat(512);
    assert_eq!(only_token(&format!("external_id\n{id}\n")).external_id, id);
    let refused = only_refusal(&format!("external_id\n{id}y\n"));
    assert_eq!(
        refused,
        "external_id is longer than 512 bytes; write a shorter one"
    );
}

#[test]
fn the_first_row_of_an_id_counts_and_the_others_are_refused() {
    let listing = read_text("external_id,name\nb,one\na,two\nb,three\nb,four\n");
    let places: Vec<_> = listing
        .refusals
        .shown
        .iter()
        .map(|r| (r.line, r.reason.as_str()))
        .collect();
    let reason = "the external_id is already in line 2; keep one of the two";
    assert_eq!(places, [(4, reason), (5, reason)]);
    assert_eq!(listing.count, 2);
    let names: Vec<_> = listing.tokens.map(|token| token.unwrap().name).collect();
    assert_eq!(
        names,
        [Cell::Value("two".to_owned()), Cell::Value("one".to_owned())]
    );
}

#[test]
fn ids_are_case_sensitive_and_sorted_by_their_bytes() {
    let listing = read_text("external_id\nb\né\nB\n10\n9\n");
    let ids: Vec<_> = listing
        .tokens
        .map(|token| token.unwrap().external_id)
        .collect();
    assert_eq!(ids, ["10", "9", "B", "b", "é"]);
}

#[test]
fn twenty_refusals_are_kept_and_all_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    // Every row is the same id, and every third has none.
    let rows: String = (0..90)
        .map(|n| if n % 3 == 0 { ",x\n" } else { "a,\n" })
        .collect();
    fs::write(&path, format!("external_id,expires_at\n{rows}")).unwrap();
    let mut reported = Vec::new();
    let mut refused = |refusal: &RefusedRow, _| reported.push(refusal.line);
    let mut callbacks = ReadCallbacks {
        on_refused: Some(&mut refused),
        ..ReadCallbacks::default()
    };
    let listing = read_files(
        &[Input::Path(path)],
        &ReadOptions::default(),
        &mut callbacks,
    )
    .unwrap();
    reported.sort_unstable();
    assert_eq!(
        reported,
        (2..92).filter(|line| *line != 3).collect::<Vec<u64>>()
    );
    assert_eq!((listing.count, listing.refusals.count), (1, 89));
    assert_eq!(listing.refusals.shown.len(), 20);
    assert!(
        listing
            .refusals
            .shown
            .is_sorted_by_key(|refusal| refusal.line)
    );
}

#[test]
fn progress_grows_to_the_size_of_all_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut size = 0;
    let inputs = ["a", "b"].map(|name| {
        let path = folder.path().join(format!("{name}.csv"));
        let rows: Vec<String> = (0..5000).map(|nth| format!("{name}{nth}")).collect();
        let rows = rows.join("\r\n");
        let content = format!("\u{feff}external_id\r\n{rows}\r\n");
        size += content.len() as u64;
        fs::write(&path, content).unwrap();
        Input::Path(path)
    });
    let mut reported = Vec::new();
    let mut progress = |progress: Progress| reported.push(progress);
    let mut callbacks = ReadCallbacks {
        on_progress: Some(&mut progress),
        ..ReadCallbacks::default()
    };
    read_files(&inputs, &ReadOptions::default(), &mut callbacks).unwrap();
    assert!(reported.is_sorted_by_key(|progress| (progress.bytes, progress.rows)));
    assert_eq!(
        reported
            .iter()
            .map(|progress| progress.rows)
            .collect::<Vec<_>>(),
        [4096, 5000, 8192, 10_000]
    );
    assert_eq!(reported.last().unwrap().bytes, size);
}
