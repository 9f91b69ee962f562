use std::fs;

use tempfile::TempDir;

use super::*;
use crate::sources::RefusedRow;

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
    let error = check("bad.csv").await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("{}:3: expires_at \"soon\" ", bad.display())),
        "{error}"
    );
}
