use std::fs;

use rstest::rstest;

use super::*;

fn read_file(name: &str, content: &str) -> Result<PeopleFile, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    read_people(&path, &["ops".to_owned()], usize::MAX)
}

fn refusals(content: &str) -> Vec<(u64, String)> {
    let people = read_file("people.csv", content).unwrap();
    let refusals = people.refusals.shown.into_iter();
    refusals
        .map(|refusal| (refusal.line, refusal.reason))
        .collect()
}

#[test]
fn every_format_yields_the_same_people() {
    let csv = "email,status,name,groups,since\n\
               Eve@x.org,disabled,Eve,\"ops, admins\",2026-11-12\n\
               ada@x.org,active,,,\n";
    let lines = r#"{"email":"Eve@x.org","status":"disabled","name":"Eve","groups":["ops","admins"],"since":"2026-11-12"}
{"email":"ada@x.org","status":"active"}"#;
    let array = format!("[\n{}]", lines.replace('\n', ",\n"));
    let csv = read_file("people.csv", csv).unwrap();
    assert_eq!(csv.refusals.count, 0);
    let [ada, eve] = &csv.people[..] else {
        panic!("{csv:?}");
    };
    assert_eq!(ada.evidence, "status \"active\" in people.csv, line 3");
    assert_eq!(
        eve.evidence,
        "status \"disabled\" since 2026-11-12 in people.csv, line 2"
    );
    assert_eq!(eve.main.as_ref().unwrap().as_str(), "Eve@x.org");
    assert_eq!(eve.status, IdentityStatus::Disabled);
    assert_eq!(
        (ada.name.as_deref(), eve.name.as_deref()),
        (None, Some("Eve"))
    );
    assert_eq!((ada.is_member, eve.is_member), (Some(false), Some(true)));
    assert_eq!((&csv.groups[0].name[..], csv.groups[0].members), ("ops", 1));
    let since: DateTime<Utc> = "2026-11-12T00:00:00Z".parse().unwrap();
    assert_eq!((ada.since, eve.since), (None, Some(since)));

    for (name, content) in [("people.jsonl", lines), ("people.json", &array)] {
        let mut other = read_file(name, content).unwrap().people;
        for (one, other) in csv.people.iter().zip(&mut other) {
            other.evidence.clone_from(&one.evidence);
        }
        assert_eq!(other, csv.people);
    }
}

#[test]
fn the_evidence_has_the_time_of_day_if_the_file_has_it() {
    let people = read_file(
        "hr.csv",
        "email,status,since\na@x.org,deleted,2026-11-12T09:30:00+01:00\n",
    );
    let people = people.unwrap().people;
    assert_eq!(
        people[0].evidence,
        "status \"deleted\" since 2026-11-12T08:30:00Z in hr.csv, line 2"
    );
}

#[rstest]
#[case(
    "unknown",
    "status \"unknown\" is not a status; write active, disabled or deleted"
)]
#[case(
    "inactive",
    "status \"inactive\" is not a status; write active, disabled or deleted"
)]
#[case("", "no status")]
fn a_person_whose_status_cannot_be_read_is_unknown(#[case] status: &str, #[case] reason: &str) {
    let content = format!("email,status,since\nada@x.org,active,\na@x.org,{status},soon\n");
    let people = read_file("people.csv", &content).unwrap();
    assert_eq!(people.refusals.count, 0);
    let [odd, ada] = &people.people[..] else {
        panic!("{people:?}");
    };
    assert_eq!(ada.status, IdentityStatus::Active);
    assert_eq!((odd.status, odd.since), (IdentityStatus::Unknown, None));
    assert_eq!(odd.reason, Some(Reason::FieldMissing));
    assert_eq!(odd.evidence, format!("{reason} (in people.csv, line 3)"));
}

#[test]
fn a_person_without_an_address_is_refused() {
    let refused = refusals("email,status\n,active\nada,active\n");
    let expected = [
        (2, "email is missing; write the person's address"),
        (
            3,
            "email \"ada\" is not a mail address; write it as name@example.org",
        ),
    ];
    assert_eq!(
        refused,
        expected.map(|(line, reason)| (line, reason.to_owned()))
    );
}

#[test]
fn a_repeated_address_is_refused_in_any_case() {
    let refused = refusals("email,status\nAda@x.org,active\neve@x.org,active\nada@X.org,active\n");
    assert_eq!(
        refused,
        [(
            4,
            "the email is already in line 2; keep one of the two".to_owned()
        )]
    );
}

#[test]
fn a_file_without_a_status_column_is_refused() {
    let error = read_file("people.csv", "email,name\na@x.org,A\n")
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("people.csv:1: the column status is missing; add it"),
        "{error}"
    );
}

#[tokio::test]
async fn a_people_file_is_read_again_only_when_it_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.csv");
    fs::write(&path, "email,status\na@x.org,active\n").unwrap();
    let directory = directory(&path);
    assert_eq!(directory.check().await.unwrap().summary, "CSV, 1 people");
    let (_, first) = list_people(&directory, None).await.unwrap().unwrap();
    let again = list_people(&directory, first.cursor.as_deref())
        .await
        .unwrap();
    assert_eq!(again, None);
    fs::write(&path, "email,status\na@x.org,deleted\n").unwrap();
    let changed = list_people(&directory, first.cursor.as_deref())
        .await
        .unwrap();
    let (people, second) = changed.unwrap();
    assert_eq!(people[0].status, IdentityStatus::Deleted);
    fs::remove_file(&path).unwrap();
    assert!(
        list_people(&directory, second.cursor.as_deref())
            .await
            .is_err()
    );
}

fn directory(path: &Path) -> FileDirectory {
    let common = Common {
        timeout: std::time::Duration::from_secs(1),
        allowed_groups: Vec::new(),
        clock: crate::clock::Clock::system(),
        proxies: crate::upstream::ProxyRules::default(),
    };
    let path = path.to_owned();
    Config { path }.build(&common)
}

/// The people and the listing; `None` if nothing changed.
async fn list_people(
    directory: &FileDirectory,
    cursor: Option<&str>,
) -> Result<Option<(Vec<Person>, PeopleListing)>, Error> {
    let mut people = Vec::new();
    let query = PeopleQuery {
        people: &[],
        cursor,
        last_cursor: cursor,
    };
    let mut sink = |person| people.push(person);
    Ok(match directory.list_people(&query, &mut sink).await? {
        Fetched::Unchanged => None,
        Fetched::New(listing) => Some((people, listing)),
    })
}

#[tokio::test]
async fn check_names_the_row_that_would_stop_a_sync() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.csv");
    fs::write(&path, "email,status\nada,active\n").unwrap();
    let error = directory(&path).check().await.unwrap_err();
    let place = format!("{}:2: email \"ada\" ", path.display());
    assert!(error.to_string().starts_with(&place), "{error}");
}

#[tokio::test]
async fn check_counts_the_people_whose_status_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.csv");
    fs::write(&path, "email,status\na@x.org,maybe\nb@x.org,active\n").unwrap();
    let summary = directory(&path).check().await.unwrap().summary;
    assert!(
        summary.starts_with(
            "CSV, 2 people; the status of 1 cannot be read, the first: status \"maybe\""
        ),
        "{summary}"
    );
}
