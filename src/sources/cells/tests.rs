use rstest::rstest;

use super::*;

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// What a reader makes of a value, and why it cannot be read.
fn read<T>(rules: &CellRules, read: impl FnOnce(&mut CellReader<'_>) -> T) -> (T, Option<String>) {
    let mut reader = CellReader {
        rules,
        unreadable: Unreadable::new(),
        units: &mut BTreeSet::new(),
    };
    let value = read(&mut reader);
    (value, reader.unreadable.into_values().next())
}

fn expiry(written: &str) -> Result<Cell<Expiry>, String> {
    let rules = CellRules::default();
    let ((expiry, _), why) = read(&rules, |cells| {
        cells.expiry("expires_at", Value::text(written))
    });
    why.map_or(Ok(expiry), Err)
}

fn last_use(written: &str) -> Result<Cell<DateTime<Utc>>, String> {
    let rules = CellRules::default();
    let (at, why) = read(&rules, |cells| {
        cells.instant(column::LAST_USED_AT, Value::text(written))
    });
    why.map_or(Ok(at), Err)
}

#[rstest]
#[case("2026-11-12", "2026-11-12T00:00:00Z")]
#[case("2026-11-12t09:30:00z", "2026-11-12T09:30:00Z")]
#[case("2026-11-12T09:30:00.123456789Z", "2026-11-12T09:30:00.123456Z")]
#[case("1794475800", "2026-11-12T09:30:00Z")]
#[case("2000-01-01", "2000-01-01T00:00:00Z")]
#[case("2199-12-31T23:59:59Z", "2199-12-31T23:59:59Z")]
fn a_date_is_an_instant_in_utc(#[case] written: &str, #[case] expected: &str) {
    let expected: DateTime<Utc> = expected.parse().unwrap();
    let at = text(written).into_instant("created_at");
    assert_eq!(at, Ok(Cell::Value(expected)));
    assert_eq!(last_use(written), Ok(Cell::Value(expected)));
    assert_eq!(expiry(written), Ok(Cell::Value(Expiry::At(expected))));
}

#[rstest]
#[case(
    "soon",
    "is not a date; write 2026-11-12, 2026-11-12T09:30:00Z, or leave it empty"
)]
#[case(
    "12.11.2026",
    "can be read in two ways; write 2026-11-12, or set date_format, such as \"%d/%m/%Y\""
)]
#[case(
    "2026-11-12 09:30:00",
    "has no time zone; write Z (UTC) or an offset like +02:00 after it, or set timezone"
)]
#[case(
    "2026-11-12 09:30:00 CST",
    "has a time zone that is not known; write an offset like +02:00"
)]
#[case(
    "9999-12-31T23:59:59-01:00",
    "is not between 1970 and 9999; write another date, or leave it empty"
)]
fn anything_else_is_explained_with_what_to_write(#[case] written: &str, #[case] why: &str) {
    let refused = text(written).into_instant("created_at").unwrap_err();
    assert_eq!(refused, format!("created_at \"{written}\" {why}"));
    assert_eq!(last_use(written), Err(format!("\"{written}\" {why}")));
}

#[rstest]
#[case("never")]
#[case("Never")]
#[case("Never expires")]
#[case("infinity")]
#[case("2299-12-31T00:00:00Z")]
#[case("2299-12-31T23:59:59")]
#[case("9999-12-31T23:59:59.9999999Z")]
#[case("9999-12-31T23:59:59-05:00")]
#[case("253402300799")]
#[case("253402300799999")]
#[case("9223372036854775807")]
#[case("9223372036854775")]
#[case("9223372036854")]
#[case("9223372036")]
fn a_word_or_a_date_far_in_the_future_means_never(#[case] written: &str) {
    assert_eq!(expiry(written), Ok(Cell::Value(Expiry::Never)));
}

#[rstest]
#[case("0001-01-01T00:00:00Z")]
#[case("1970-01-01T00:00:00Z")]
#[case("1999-12-31T23:59:59Z")]
#[case("0000-00-00 00:00:00")]
#[case("0")]
#[case("-1")]
#[case("-infinity")]
fn an_expiry_before_2000_cannot_be_read(#[case] written: &str) {
    let why = expiry(written).unwrap_err();
    let advice = "is before 2000; most likely it means never: write never, \
                  or name the text in never = [\"…\"]";
    assert_eq!(why, format!("\"{written}\" {advice}"));
    let rules = CellRules {
        never: vec![written.to_owned()],
        ..CellRules::default()
    };
    let (read, why) = read(&rules, |cells| cells.expiry("expires_at", text(written)));
    assert_eq!((read.0, why), (Cell::Value(Expiry::Never), None));
}

#[rstest]
#[case("")]
#[case("N/A")]
#[case("None")]
#[case("null")]
#[case("-")]
#[case("\\N")]
#[case("no_information")]
fn what_exports_write_for_nothing_is_an_empty_cell(#[case] written: &str) {
    assert_eq!(expiry(written), Ok(Cell::Value(Expiry::Unknown)));
    assert_eq!(last_use(written), Ok(Cell::Empty));
    let rules = CellRules {
        never: vec![String::new(), "n/a".to_owned()],
        ..CellRules::default()
    };
    if matches!(written, "" | "N/A" | "\\N") {
        let ((read, _), _) = read(&rules, |cells| cells.expiry("x", Value::text(written)));
        assert_eq!(read, Cell::Value(Expiry::Never));
    }
}

#[rstest]
#[case("0")]
#[case("-1")]
#[case("never")]
#[case("Never used")]
#[case("1970-01-01T01:00:00+01:00")]
#[case("0001-01-01T00:00:00Z")]
#[case("0000-00-00 00:00:00")]
fn the_zero_of_a_program_is_no_use(#[case] written: &str) {
    assert_eq!(last_use(written), Ok(Cell::Empty));
}

#[test]
fn an_absent_expiry_differs_from_an_unknown_one() {
    let rules = CellRules::default();
    let (absent, _) = read(&rules, |cells| cells.expiry("expires_at", Value::Absent));
    assert_eq!(absent, (Cell::Absent, None));
}

#[rstest]
#[case("is_revoked", "true", Status::Revoked)]
#[case("disable", "True", Status::Disabled)]
#[case("disable", "false", Status::Active)]
#[case("Token Expired", "true", Status::Active)]
#[case("access_key_1_active", "false", Status::Disabled)]
#[case("enabled", "true", Status::Active)]
#[case("Disabled", "No", Status::Active)]
#[case("Disabled", "on", Status::Disabled)]
#[case("Revoked", "Yes", Status::Revoked)]
#[case("is_revoked", "t", Status::Revoked)]
#[case("is_revoked", "n", Status::Active)]
#[case("enabled", "t", Status::Active)]
#[case("enabled", "0", Status::Disabled)]
#[case("disabled", "1", Status::Disabled)]
#[case("Not revoked", "true", Status::Active)]
#[case("isNotRevoked", "true", Status::Active)]
#[case("notDisabled", "yes", Status::Active)]
fn a_flag_means_what_its_column_says(
    #[case] column: &str,
    #[case] written: &str,
    #[case] expected: Status,
) {
    let rules = CellRules {
        flags: flags_of(column),
        ..CellRules::default()
    };
    let (status, _) = read(&rules, |cells| cells.status("status", text(written)));
    assert_eq!(status, Cell::Value(expected));
}

#[rstest]
#[case("")]
#[case("\\N")]
fn only_a_cell_without_a_text_is_no_status(#[case] written: &str) {
    let rules = CellRules::default();
    let (status, why) = read(&rules, |cells| cells.status("status", Value::text(written)));
    assert_eq!((status, why), (Cell::Empty, None));
}

#[rstest]
#[case("unknown")]
#[case("N/A")]
#[case("-")]
fn a_status_that_its_source_does_not_know_is_unreadable(#[case] written: &str) {
    let rules = CellRules::default();
    let (status, why) = read(&rules, |cells| cells.status("status", Value::text(written)));
    let why = why.unwrap_or_default();
    assert_eq!(status, Cell::Absent);
    assert!(why.contains("is not a status"), "{why}");
}

#[rstest]
#[case("ghp_0123456789abcdefghijklmnopqrstuvwxyz")]
#[case("ghp_0123456789abcdefghijkl")]
#[case("ghp_0123456")]
fn a_reason_does_not_quote_a_secret_in_full(#[case] secret: &str) {
    let reasons = [
        text(secret).into_address("issuer_email").unwrap_err(),
        last_use(secret).unwrap_err(),
        expiry(secret).unwrap_err(),
    ];
    for reason in reasons {
        assert!(reason.contains("\"ghp_01…\""), "{reason}");
    }
}

#[rstest]
#[case("svc-deploy", "svc-deploy")]
#[case("30.02.2026-10:00", "30.02.2026-10:00")]
#[case("20261206100000123", "20261206100000123")]
#[case("ada@example.org, bob", "ada@example.org, bob")]
#[case("Sun Dec 06 2026 10:00:00 GMT+0100 (CET)", "Sun Dec 06 2026 10:00:00…")]
#[case("arn:aws:iam::123456789012:user/ada-lovelace", "arn:aw…")]
fn a_reason_quotes_what_is_no_secret(#[case] value: &str, #[case] quoted: &str) {
    assert_eq!(quote_value(value), format!("\"{quoted}\""));
}

#[rstest]
#[case("a, b,,c ", &["a", "b", "c"])]
#[case("CN=a,DC=x; CN=b,DC=x;", &["CN=a,DC=x", "CN=b,DC=x"])]
#[case("one", &["one"])]
#[case(",", &[])]
fn a_list_is_separated_by_semicolons_or_commas(#[case] written: &str, #[case] parts: &[&str]) {
    assert_eq!(text(written).into_list("groups").unwrap(), parts);
}
