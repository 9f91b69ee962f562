//! Exports of other systems go in as they are, with the keys that say how to read them.

use std::fmt::Write as _;

use rstest::rstest;

use super::*;
use crate::domain::{Cell, Expiry, ListedToken};
use crate::sources::{Fetched, Kind, LastListing, Listing, Source as _};

async fn fetch(keys: &str) -> Listing {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/exports");
    let text = format!("[[source]]\nname = 'x'\nkind = 'file'\n{keys}").replace("DIR", folder);
    let config = load(&text, &[]);
    let Kind::File(source) = &config.sources[0].kind else {
        panic!("another kind");
    };
    match source.fetch(&LastListing::default()).await {
        Ok(Fetched::New(listing)) => listing,
        Ok(Fetched::Unchanged) => panic!("unchanged"),
        Err(error) => panic!("{error}"),
    }
}

/// `id|name|issuer|expiry|created|last use|status`, and the columns that cannot be read.
fn line(token: ListedToken) -> String {
    fn cell<T>(cell: Cell<T>, text: impl Fn(T) -> String) -> String {
        match cell {
            Cell::Absent => "-".to_owned(),
            Cell::Empty => String::new(),
            Cell::Value(value) => text(value),
        }
    }
    let instant = |at: chrono::DateTime<chrono::Utc>| at.format("%FT%RZ").to_string();
    let expiry = cell(token.expiry, |expiry| match (expiry, token.expiry_day) {
        (Expiry::At(_), Some(day)) => day.to_string(),
        (Expiry::At(at), None) => instant(at),
        (expiry, _) => expiry.kind().to_owned(),
    });
    let mut line = [
        token.external_id,
        cell(token.name, |name| name),
        cell(token.issuer, |issuer| issuer.to_string()),
        expiry,
        cell(token.created_at, instant),
        cell(token.last_used_at, instant),
        cell(token.status, |status| status.as_str().to_owned()),
    ]
    .join("|");
    for column in token.unreadable.keys() {
        let _ = write!(line, " !{column}");
    }
    line
}

#[rstest]
#[case::azure_cli(
    "path = 'DIR/azure-cli.json'
     columns = { external_id = 'keyId', name = 'displayName', expires_at = 'endDateTime', created_at = 'startDateTime' }",
    &["6f1c2a10-0000-4000-8000-000000000001|Payroll sync|-|2026-12-04T19:59Z|2025-12-04T19:59Z|-|-",
      "6f1c2a10-0000-4000-8000-000000000002||-|never|2025-12-04T19:59Z|-|-"]
)]
#[case::azure_powershell_us(
    "path = 'DIR/azure-powershell-us.csv'
     columns = { external_id = 'KeyID', name = 'DisplayName', expires_at = 'ExpiryDate', issuer_email = 'Owners' }
     date_format = '%m/%d/%Y %I:%M:%S %p'
     timezone = 'America/New_York'",
    &["6f1c2a10-0000-4000-8000-000000000001|Payroll sync|ada@example.org|2026-12-05T00:59Z|-|-|-",
      "6f1c2a10-0000-4000-8000-000000000002|Intranet search|bob@example.org|2027-01-12T14:00Z|-|-|-"]
)]
#[case::azure_powershell_us_without_a_format(
    "path = 'DIR/azure-powershell-us.csv'
     columns = { external_id = 'KeyID', name = 'DisplayName', expires_at = 'ExpiryDate', issuer_email = 'Owners' }",
    &["6f1c2a10-0000-4000-8000-000000000001|Payroll sync|ada@example.org|-|-|-|- !expires_at",
      "6f1c2a10-0000-4000-8000-000000000002|Intranet search|bob@example.org|-|-|-|- !expires_at"]
)]
#[case::azure_powershell_de(
    "path = 'DIR/azure-powershell-de.csv'
     columns = { external_id = 'KeyID', name = 'DisplayName', expires_at = 'ExpiryDate', issuer_email = 'Owners' }
     date_format = '%d.%m.%Y %H:%M:%S'
     timezone = 'Europe/Berlin'",
    &["6f1c2a10-0000-4000-8000-000000000001|Lohnabgleich|ada@example.org|2026-12-04T18:59Z|-|-|-"]
)]
#[case::aws(
    "path = 'DIR/aws-credential-report.csv'
     columns = { external_id = 'arn', name = 'user', created_at = 'access_key_1_last_rotated', last_used_at = 'access_key_1_last_used_date', status = 'access_key_1_active' }",
    &["arn:aws:iam::000000000000:root|<root_account>|-|-|||disabled",
      "arn:aws:iam::000000000000:user/deploy|deploy|-|-|2025-12-04T15:45Z|2026-11-29T08:00Z|active"]
)]
#[case::harbor(
    "path = 'DIR/harbor-robots.json'
     columns = { external_id = 'id', created_at = 'creation_time', status = 'disable' }",
    &["11|robot$ci+pull|-|2026-12-05T00:00Z|2026-11-05T00:00Z|-|active",
      "12|robot$backup|-|-|2026-01-05T00:00Z|-|disabled !expires_at"]
)]
#[case::harbor_with_never(
    "path = 'DIR/harbor-robots.json'
     columns = { external_id = 'id' }
     never = [-1]",
    &["11|robot$ci+pull|-|2026-12-05T00:00Z|-|-|-", "12|robot$backup|-|never|-|-|-"]
)]
#[case::artifactory(
    "path = 'DIR/artifactory-tokens.json'
     items = 'tokens'
     columns = { external_id = 'token_id', name = 'description', issuer_name = 'subject', expires_at = 'expiry', created_at = 'issued_at' }",
    &["8e3f1c9a-0000-4000-8000-000000000001|CI of the shop|-|2026-12-05T00:00Z|2025-12-05T00:00Z|-|-",
      "8e3f1c9a-0000-4000-8000-000000000002|-|-|-|2025-12-05T00:00Z|-|-"]
)]
#[case::grafana(
    "path = 'DIR/grafana-tokens.json'
     columns = { external_id = 'id', expires_at = 'expiration', created_at = 'created', last_used_at = 'lastUsedAt', status = 'isRevoked' }
     never = ['']",
    &["1|prometheus|-|2026-12-06T10:00Z|2026-10-01T10:00Z|2026-11-28T09:15Z|active",
      "2|forever|-|never|2022-06-23T17:54Z||revoked"]
)]
#[case::github(
    "path = 'DIR/github-tokens.json'
     columns = { external_id = 'token_id', name = 'token_name', issuer_name = 'owner.login', expires_at = 'token_expires_at', last_used_at = 'token_last_used_at' }",
    &["98716|Some Token|-|2026-11-16T15:47Z|-||-"]
)]
#[case::psql(
    "path = 'DIR/psql-copy.csv'",
    &["42|ci|ada@example.org|2026-12-04T10:00Z|2026-01-04T10:00Z|-|-",
      "43|cd|ada@example.org|2026-12-04T10:00Z|2026-01-04T09:00Z|-|-",
      "44|cx|ada@example.org|2026-12-04T10:00Z|2026-01-04T04:30Z|-|-",
      "45|never|ada@example.org|never|2026-01-04T10:00Z|-|-",
      "46|mysql|ada@example.org|-|-|-|- !created_at !expires_at",
      "47|mysql zero|ada@example.org|-|2026-01-04T10:00Z|-|- !expires_at",
      "48|mysql null|ada@example.org|unknown|2026-01-04T10:00Z|-|-",
      "49|sqlserver|ada@example.org|2026-12-04T10:00Z|2026-01-04T10:00Z|-|-"]
)]
#[tokio::test]
async fn an_export_goes_in_as_it_is(#[case] keys: &str, #[case] expected: &[&str]) {
    let listing = fetch(keys).await;
    assert_eq!(listing.refusals.shown, []);
    let lines: Vec<_> = listing.tokens.map(|token| line(token.unwrap())).collect();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_sheet_without_a_last_line_end_lacks_its_last_row() {
    let keys = "path = 'DIR/google-sheet.csv'
        columns = { external_id = 'Key', issuer_email = 'Owner', expires_at = 'Valid until' }
        date_format = '%m/%d/%Y'
        dates = 'end'";
    let listing = fetch(keys).await;
    assert_eq!(listing.refusals.count, 1);
    let lines: Vec<_> = listing.tokens.map(|token| line(token.unwrap())).collect();
    assert_eq!(
        lines,
        [
            "backup|-|bob@example.org|2026-12-04|-|-|-",
            "ci-deploy|-|ada@example.org|2026-12-06|-|-|-",
        ]
    );
}

#[rstest]
#[case(
    "columns = { expiry = 'x' }",
    "expiry is not a column; the columns are external_id,"
)]
#[case("items = 'a..b'", "write the keys that lead to the list")]
#[case("extra = 'skip'", "unknown value `skip`")]
#[case("date_format = 'dd.mm.yyyy'", "must have year, month and day")]
#[case("dates = 'noon'", "unknown value `noon`")]
#[case("timezone = 'Mars'", "unknown time zone `Mars`")]
#[case("encoding = 'ebcdic'", "unknown encoding")]
#[case("never = [true]", "must be a text in quotes")]
fn a_wrong_key_is_explained(#[case] key: &str, #[case] message: &str) {
    let text = format!("[[source]]\nname = 'x'\nkind = 'file'\npath = 't.csv'\n{key}");
    let errors = errors_of(&text);
    assert!(errors.contains(message), "{errors}");
}
