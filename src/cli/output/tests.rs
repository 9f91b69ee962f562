use chrono::{DateTime, TimeDelta, Utc};
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::cli::args::Format;
use crate::cli::directory::DirectoryRow;
use crate::cli::directory::StatusChangeRow;
use crate::cli::forecast::ForecastRow;
use crate::cli::identity::coverage::{CoverageRow, CoveredRow};
use crate::cli::identity::{IdentityDetail, IdentityRow};
use crate::cli::notice::NoticeLine;
use crate::cli::source::SourceRow;
use crate::cli::steps::StepRow;
use crate::cli::token::TokenDetail;
use crate::domain::service::Networks;
use crate::domain::{
    Expiry, ExpiryOrigin, FindingKind, FindingState, Identity, IdentityStatus, NoticeState,
    Severity, SyncState, Token, TokenId, Topic,
};
use crate::engine::Difference;
use crate::store::{AuditRow, FindingRow, NoticeRow, TokenView};

fn now() -> DateTime<Utc> {
    "2026-11-21T09:00:00Z".parse().unwrap()
}

fn days(days: i64) -> DateTime<Utc> {
    now() + TimeDelta::days(days)
}

/// The view of a file, in which nothing is shortened.
fn file() -> View {
    View {
        now: now(),
        zone: chrono_tz::Tz::UTC,
        width: None,
        use_color: false,
    }
}

fn terminal(width: usize) -> View {
    View {
        width: Some(width),
        ..file()
    }
}

fn token(name: &str, external_id: &str) -> Token {
    Token {
        id: TokenId::new("exports", external_id),
        source: "exports".into(),
        external_id: external_id.into(),
        name: name.into(),
        issuer: Some("ada.lovelace@example.org".parse().unwrap()),
        issuer_name: Some("Ada Lovelace".into()),
        account: Some("acme".into()),
        role: Some("editor".into()),
        created_at: Some(days(-83)),
        expiry: Expiry::At(days(7)),
        expiry_origin: Some(ExpiryOrigin::Source),
        secret_version: 1,
        last_used_at: Some(now() - TimeDelta::milliseconds(1500)),
        reports_use: true,
        first_seen_at: days(-80),
        life_from: Some(days(-83)),
        due_at: Some(now()),
        ..Token::default()
    }
}

fn row(name: &str, external_id: &str, findings: &[FindingKind]) -> TokenView {
    TokenView {
        token: token(name, external_id),
        findings: findings.to_vec(),
        kind: None,
        networks: Networks::default(),
    }
}

fn notice() -> NoticeLine {
    NoticeLine {
        notice: NoticeRow {
            id: Uuid::from_u128(1),
            token_id: Some(TokenId::new("exports", "4711")),
            token_name: Some("ci-deploy".into()),
            topic: Topic::Expiry,
            step: Some(7 * 86_400),
            recipient: "ada.lovelace@example.org".parse().unwrap(),
            state: NoticeState::Sent,
            held: false,
            send_at: days(0),
            planned_at: days(0),
            sent_at: Some(days(0)),
            attempts: 1,
            mail_id: None,
            next_at: None,
            reason: None,
            generation: days(7),
            secret_version: 1,
        },
        message_id: Some("<1@lapsed>".into()),
    }
}

fn finding() -> FindingRow {
    FindingRow {
        id: Uuid::from_u128(2),
        token_id: Some(TokenId::new("exports", "4711")),
        token_name: "ci-deploy".into(),
        source: "exports".into(),
        kind: FindingKind::SsoRevoked,
        severity: Severity::Critical,
        since: days(-9),
        evidence: "status \"disabled\" in people.csv, line 7".into(),
        state: FindingState::Open,
        revoke_at: None,
        issuer: None,
        account: None,
        last_used_at: None,
    }
}

fn identity() -> IdentityRow {
    IdentityRow {
        directory: "hr".into(),
        identity: Identity {
            email: "ada.lovelace@example.org".parse().unwrap(),
            account_id: None,
            name: None,
            status: IdentityStatus::Disabled,
            known_status: IdentityStatus::Disabled,
            reason: None,
            evidence: "status \"disabled\" in people.csv, line 7".into(),
            account_chosen: false,
            checked_by_id: false,
            observed_at: Some(days(0)),
            since: Some(days(-9)),
            candidate: None,
            candidate_since: None,
            candidate_evidence: None,
        },
        tokens: 3,
    }
}

fn forecast() -> ForecastRow {
    ForecastRow {
        at: days(6),
        token_id: TokenId::new("exports", "4711"),
        token_name: "ci-deploy".into(),
        source: "exports".into(),
        expires: days(7).into(),
        step: Some("1d".parse().unwrap()),
        recipients: vec![
            "ada.lovelace@example.org".parse().unwrap(),
            "security@example.org".parse().unwrap(),
        ],
    }
}

fn directory() -> DirectoryRow {
    DirectoryRow {
        name: "hr".into(),
        kind: "file".into(),
        people: 240,
        held: Some("31 of 240 people would lose access at once".into()),
        gaps: None,
        sync_state: SyncState {
            last_good_sync_at: Some(days(0)),
            ..SyncState::default()
        },
        fresh_until: Some(days(1)),
        next: None,
    }
}

/// The results and the remarks.
fn print<R: Row>(format: Format, view: View, rows: &[R]) -> (String, String) {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let mut printer = Printer::new(format, view, &mut out, &mut notes);
    for row in rows {
        printer.print_row(row).unwrap();
    }
    assert_eq!(printer.count(), rows.len() as u64);
    printer.finish().unwrap();
    (
        String::from_utf8(out).unwrap(),
        String::from_utf8(notes).unwrap(),
    )
}

fn three() -> [TokenView; 3] {
    let mut old = row("", "legacy-0001", &[FindingKind::NeverExpires]);
    old.token.expiry = Expiry::Never;
    let mut gone = row(
        "nightly backup of the warehouse, written by the data team",
        "4712",
        &[],
    );
    gone.token.expiry = Expiry::At(days(-2));
    gone.token.issuer = None;
    [
        row(
            "ci-deploy",
            "4711",
            &[FindingKind::SsoRevoked, FindingKind::TooLong],
        ),
        old,
        gone,
    ]
}

#[test]
fn a_table_in_a_file_is_complete() {
    let (text, notes) = print(Format::Table, file(), &three());
    insta::assert_snapshot!(text, @"
    ID                                    NAME                                                       STATUS   EXPIRES                         ISSUER                    FINDINGS               SOURCE   EXTERNAL ID
    507bae5b-6920-5b53-b7a2-e5e8fc59729e  ci-deploy                                                  active   2026-11-28 09:00Z (in 7 days)   ada.lovelace@example.org  sso_revoked, too_long  exports  4711
    c3724dfd-dd9f-54c4-b226-f6a2bc322fc6  legacy-0001                                                active   never                           ada.lovelace@example.org  never_expires          exports  legacy-0001
    3c0a91d5-2c72-52c5-a0b4-7f21f796d8a4  nightly backup of the warehouse, written by the data team  expired  2026-11-19 09:00Z (2 days ago)  -                         -                      exports  4712
    ");
    assert_eq!(notes, "");
}

#[test]
fn a_table_on_a_wide_terminal() {
    let (text, notes) = print(Format::Table, terminal(160), &three());
    insta::assert_snapshot!(text, @"
    ID        NAME                                                       STATUS   EXPIRES                         ISSUER          FINDINGS      SOURCE   EXTERNAL ID
    507bae5b  ci-deploy                                                  active   2026-11-28 09:00Z (in 7 days)   ada.lovelace@…  sso_revoked…  exports  4711
    c3724dfd  legacy-0001                                                active   never                           ada.lovelace@…  never_expir…  exports  legacy-0001
    3c0a91d5  nightly backup of the warehouse, written by the data team  expired  2026-11-19 09:00Z (2 days ago)  -               -             exports  4712
    ");
    assert_eq!(notes, "");
}

#[test]
fn a_table_on_a_usual_terminal() {
    let (text, notes) = print(Format::Table, terminal(100), &three());
    insta::assert_snapshot!(text, @"
    ID        NAME                   STATUS   EXPIRES                         ISSUER          FINDINGS
    507bae5b  ci-deploy              active   2026-11-28 09:00Z (in 7 days)   ada.lovelace@…  sso_revok…
    c3724dfd  legacy-0001            active   never                           ada.lovelace@…  never_exp…
    3c0a91d5  nightly backup of th…  expired  2026-11-19 09:00Z (2 days ago)  -               -
    ");
    insta::assert_snapshot!(notes, @"columns that do not fit: SOURCE, EXTERNAL ID (--format csv shows all)");
}

#[test]
fn a_table_on_a_narrow_terminal() {
    let (text, notes) = print(Format::Table, terminal(40), &three());
    insta::assert_snapshot!(text, @"
    ID        NAME                   STATUS
    507bae5b  ci-deploy              active
    c3724dfd  legacy-0001            active
    3c0a91d5  nightly backup of th…  expired
    ");
    insta::assert_snapshot!(notes, @"columns that do not fit: EXPIRES, ISSUER, FINDINGS, SOURCE, EXTERNAL ID (--format csv shows all)");
}

#[rstest]
#[case(30)]
#[case(40)]
#[case(60)]
#[case(80)]
#[case(120)]
#[case(200)]
fn no_row_is_wider_than_the_terminal(#[case] width: usize) {
    let mut rows = three().to_vec();
    rows.extend(awkward());
    let view = terminal(width);
    let tables = [
        print(Format::Table, view, &rows).0,
        print(Format::Table, view, &[notice()]).0,
        print(Format::Table, view, &[finding()]).0,
        print(Format::Table, view, &[identity()]).0,
        print(Format::Table, view, &[directory()]).0,
    ];
    for line in tables.iter().flat_map(|table| table.lines()) {
        assert!(
            console::measure_text_width(line) <= width,
            "{width}: {line}"
        );
    }
}

fn awkward() -> Vec<TokenView> {
    [
        "deploy 🚀 👩‍🚀 日本",
        "מפתח פריסה",
        "a\r\nactive  forged row",
        "\u{1b}[2J\u{1b}[31mred\u{9b}0m",
        "gnp\u{202e}exe.tropxe",
        "{{token}} <script>alert(1)</script>",
        "Bcc: eve@example.org",
        &"long ".repeat(2000),
    ]
    .iter()
    .zip(0..)
    .map(|(name, n)| row(name, &format!("a{n}"), &[]))
    .collect()
}

#[test]
fn awkward_names_stay_in_their_cell() {
    let (text, _) = print(Format::Table, terminal(90), &awkward());
    assert_eq!(text.lines().count(), awkward().len() + 1);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    let visible = text
        .replace('\u{2068}', "<fsi>")
        .replace('\u{2069}', "<pdi>");
    insta::assert_snapshot!(visible, @"
    ID        NAME                             STATUS  EXPIRES                        FINDINGS
    d9eb51f8  deploy 🚀 👩‍🚀 日本                active  2026-11-28 09:00Z (in 7 days)  -
    794ae505  <fsi>מפתח פריסה<pdi>                       active  2026-11-28 09:00Z (in 7 days)  -
    47bf35c6  a  active  forged row            active  2026-11-28 09:00Z (in 7 days)  -
    f93ffc8c   [2J [31mred 0m                  active  2026-11-28 09:00Z (in 7 days)  -
    0717b0ff  gnp exe.tropxe                   active  2026-11-28 09:00Z (in 7 days)  -
    ff58fb26  {{token}} <script>alert(1)</sc…  active  2026-11-28 09:00Z (in 7 days)  -
    4881137f  Bcc: eve@example.org             active  2026-11-28 09:00Z (in 7 days)  -
    ab2ca1bc  long long long long long long …  active  2026-11-28 09:00Z (in 7 days)  -
    ");
}

#[test]
fn json_keeps_awkward_names_unchanged() {
    for format in [Format::Json, Format::Jsonl] {
        let (text, _) = print(format, file(), &awkward());
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        assert!(!text.contains('\u{202e}'));
        let lines: Vec<_> = text
            .lines()
            .map(|line| line.trim_end_matches(','))
            .collect();
        let objects = lines.iter().filter(|line| line.starts_with('{'));
        let names: Vec<_> = objects
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone())
            .collect();
        let given: Vec<_> = awkward()
            .into_iter()
            .map(|row| Value::from(row.token.name))
            .collect();
        assert_eq!(names, given);
    }
}

#[test]
fn column_widths_do_not_change_after_the_sample() {
    let mut rows = vec![row("short", "1", &[]); 1500];
    rows.push(row(&"x".repeat(200), "2", &[]));
    let (text, _) = print(Format::Table, terminal(120), &rows);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 1502);
    let column = lines[0].find("STATUS").unwrap();
    assert_eq!(lines[1500].find("active"), Some(column));
    let last: Vec<_> = lines[1501].chars().collect();
    assert!(
        last[column..]
            .iter()
            .collect::<String>()
            .starts_with("active")
    );
}

#[test]
fn json_is_one_array() {
    let (text, _) = print(Format::Json, file(), &three());
    let array: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(array.as_array().unwrap().len(), 3);
    assert_eq!(print::<TokenView>(Format::Json, file(), &[]).0, "[]\n");
}

#[test]
fn json_lines_are_one_object_each() {
    let (text, _) = print(Format::Jsonl, file(), &three());
    for line in text.lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap().is_object());
    }
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn csv_has_a_header_and_quotes_what_needs_it() {
    let rows = [
        row(
            "a, \"b\"\r\nc",
            "4711",
            &[FindingKind::SsoRevoked, FindingKind::TooLong],
        ),
        row("=1+1", "4712", &[]),
    ];
    insta::assert_snapshot!(print(Format::Csv, file(), &rows).0, @r#"
    id,source,external_id,name,description,issuer,owners,account,role,scope,kind,networks,created_at,expires_at,expires_on,expiry,expiry_origin,status,last_used_at,due_at,findings
    507bae5b-6920-5b53-b7a2-e5e8fc59729e,exports,4711,"a, ""b""  c",,ada.lovelace@example.org,,acme,editor,,,,2026-08-30T09:00:00Z,2026-11-28T09:00:00Z,,at,source,active,2026-11-21T08:59:58.500000Z,2026-11-21T09:00:00Z,sso_revoked;too_long
    3c0a91d5-2c72-52c5-a0b4-7f21f796d8a4,exports,4712,'=1+1,,ada.lovelace@example.org,,acme,editor,,,,2026-08-30T09:00:00Z,2026-11-28T09:00:00Z,,at,source,active,2026-11-21T08:59:58.500000Z,2026-11-21T09:00:00Z,
    "#);
}

#[rstest]
#[case(json!(-5), "'-5")]
#[case(json!(5), "5")]
#[case(json!("@a"), "'@a")]
#[case(json!("'a"), "''a")]
#[case(json!(["+a", "b"]), "'+a;b")]
#[case(json!("a=b"), "a=b")]
fn no_cell_of_csv_is_a_formula(#[case] value: Value, #[case] cell: &str) {
    assert_eq!(printer::csv_text(&value), cell);
}

#[rstest]
#[case(Format::Table, "", "no tokens match\n")]
#[case(Format::Json, "[]\n", "")]
#[case(Format::Jsonl, "", "")]
#[case(
    Format::Csv,
    "id,source,external_id,name,description,issuer,owners,account,role,scope,kind,networks,created_at,expires_at,expires_on,expiry,\
     expiry_origin,status,last_used_at,due_at,findings\n",
    ""
)]
fn an_empty_list_has_a_remark_or_an_empty_value(
    #[case] format: Format,
    #[case] printed: &str,
    #[case] remark: &str,
) {
    let (out, notes) = print::<TokenView>(format, file(), &[]);
    assert_eq!((out.as_str(), notes.as_str()), (printed, remark));
}

#[test]
fn colors_appear_only_if_they_are_on() {
    let colored = View {
        use_color: true,
        ..terminal(100)
    };
    let (text, _) = print(Format::Table, colored, &three());
    assert!(text.contains('\u{1b}'));
    let plain = anstream::adapter::strip_str(&text).to_string();
    assert_eq!(plain, print(Format::Table, terminal(100), &three()).0);
}

/// A pipe whose reader has closed it.
struct ClosedPipe;

impl std::io::Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[rstest]
fn a_closed_output_is_distinguished_from_other_failures(
    #[values(Format::Table, Format::Json, Format::Jsonl, Format::Csv)] format: Format,
) {
    let mut printer = Printer::new(format, file(), ClosedPipe, std::io::sink());
    printer.print_row(&row("a", "1", &[])).unwrap();
    assert!(matches!(printer.finish(), Err(Error::Closed)));
}

/// The keys of a JSON object in written order.
fn keys(value: &impl serde::Serialize) -> Vec<String> {
    let text = serde_json::to_string(value).unwrap();
    let object: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    let mut keys: Vec<_> = object.keys().cloned().collect();
    keys.sort_by_key(|key| text.find(&format!("\"{key}\":")).unwrap());
    keys
}

#[test]
fn the_csv_headers_are_a_contract() {
    let headers = [
        print::<TokenView>(Format::Csv, file(), &[]).0,
        print::<NoticeLine>(Format::Csv, file(), &[]).0,
        print::<FindingRow>(Format::Csv, file(), &[]).0,
        print::<IdentityRow>(Format::Csv, file(), &[]).0,
        print::<ForecastRow>(Format::Csv, file(), &[]).0,
        print::<DirectoryRow>(Format::Csv, file(), &[]).0,
        print::<SourceRow>(Format::Csv, file(), &[]).0,
        print::<Difference>(Format::Csv, file(), &[]).0,
        print::<StatusChangeRow>(Format::Csv, file(), &[]).0,
        print::<CoverageRow>(Format::Csv, file(), &[]).0,
        print::<CoveredRow>(Format::Csv, file(), &[]).0,
        print::<AuditRow>(Format::Csv, file(), &[]).0,
    ];
    insta::assert_snapshot!(headers.concat(), @"
    id,source,external_id,name,description,issuer,owners,account,role,scope,kind,networks,created_at,expires_at,expires_on,expiry,expiry_origin,status,last_used_at,due_at,findings
    id,token_id,token_name,topic,step,recipient,channel,state,send_at,planned_at,sent_at,attempts,message_id,reason
    id,token_id,token_name,kind,severity,since,evidence,state,revoke_at
    email,directory,status,reason,evidence,observed_at,since,tokens,known_status,candidate,candidate_since,candidate_evidence
    at,token_id,token_name,source,expires_at,expires_on,step,recipients
    name,kind,people,observed_at,held,error,state,fresh,fresh_until,failing_since,deferred_until,gaps
    name,kind,last_sync_at,last_good_sync_at,tokens,state,error,deferred_until
    change,id,external_id,name,issuer,status,expires_at,expires_on,fields
    change,email,before,after,reason,evidence
    cover,reason,count,command
    email,cover,reason
    at,actor,action,subject,reason
    ");
    let person = ["email", "name", "mode", "address", "directories", "tokens"];
    assert_eq!(IdentityDetail::keys(), person);
}

#[test]
fn the_json_of_each_row_is_a_contract() {
    let line = |(text, _): (String, String)| text;
    insta::assert_snapshot!(line(print(Format::Jsonl, file(), &three()[..1])), @r#"{"id":"507bae5b-6920-5b53-b7a2-e5e8fc59729e","source":"exports","external_id":"4711","name":"ci-deploy","description":null,"issuer":"ada.lovelace@example.org","owners":[],"account":"acme","role":"editor","scope":null,"kind":null,"networks":[],"created_at":"2026-08-30T09:00:00Z","expires_at":"2026-11-28T09:00:00Z","expires_on":null,"expiry":"at","expiry_origin":"source","status":"active","last_used_at":"2026-11-21T08:59:58.500000Z","due_at":"2026-11-21T09:00:00Z","findings":["sso_revoked","too_long"]}"#);
    insta::assert_snapshot!(line(print(Format::Jsonl, file(), &[notice()])), @r#"
    {"id":"00000000-0000-0000-0000-000000000001","token_id":"507bae5b-6920-5b53-b7a2-e5e8fc59729e","token_name":"ci-deploy","topic":"expiry","step":"7d","recipient":"ada.lovelace@example.org","channel":"mail","state":"sent","send_at":"2026-11-21T09:00:00Z","planned_at":"2026-11-21T09:00:00Z","sent_at":"2026-11-21T09:00:00Z","attempts":1,"message_id":"<1@lapsed>","reason":null}
    "#);
    insta::assert_snapshot!(line(print(Format::Jsonl, file(), &[finding()])), @r#"
    {"id":"00000000-0000-0000-0000-000000000002","token_id":"507bae5b-6920-5b53-b7a2-e5e8fc59729e","token_name":"ci-deploy","kind":"sso_revoked","severity":"critical","since":"2026-11-12T09:00:00Z","evidence":"status \"disabled\" in people.csv, line 7","state":"open","revoke_at":null}
    "#);
    insta::assert_snapshot!(line(print(Format::Jsonl, file(), &[identity()])), @r#"
    {"email":"ada.lovelace@example.org","directory":"hr","status":"disabled","reason":null,"evidence":"status \"disabled\" in people.csv, line 7","observed_at":"2026-11-21T09:00:00Z","since":"2026-11-12T09:00:00Z","tokens":3,"known_status":"disabled","candidate":null,"candidate_since":null,"candidate_evidence":null}
    "#);
    insta::assert_snapshot!(line(print(Format::Jsonl, file(), &[forecast()])), @r#"
    {"at":"2026-11-27T09:00:00Z","token_id":"507bae5b-6920-5b53-b7a2-e5e8fc59729e","token_name":"ci-deploy","source":"exports","expires_at":"2026-11-28T09:00:00Z","expires_on":null,"step":"1d","recipients":["ada.lovelace@example.org","security@example.org"]}
    "#);
}

#[test]
fn the_tables_of_the_other_rows() {
    let view = terminal(120);
    let tables = [
        print(Format::Table, view, &[notice()]).0,
        print(Format::Table, view, &[finding()]).0,
        print(Format::Table, view, &[identity()]).0,
        print(Format::Table, view, &[forecast()]).0,
        print(Format::Table, view, &[directory()]).0,
    ];
    insta::assert_snapshot!(tables.join("\n"), @r#"
    TOKEN      TOPIC      RECIPIENT                 STATE  WHEN               REASON
    ci-deploy  expiry 7d  ada.lovelace@example.org  sent   2026-11-21 09:00Z  -

    ID                  TOKEN      KIND         SEVERITY  SINCE                           STATE  EVIDENCE
    00000000-0000-0000  ci-deploy  sso_revoked  critical  2026-11-12 09:00Z (9 days ago)  open   status "disabled" in peopl…

    EMAIL                    STATUS    TOKENS  DIRECTORY  SINCE              OBSERVED           REASON  EVIDENCE
    ada.lovelace@example.o…  disabled  3       hr         2026-11-12 09:00Z  2026-11-21 09:00Z  -       status "disabled" i…

    AT                             TOKEN      STEP  EXPIRES            RECIPIENTS                                    SOURCE
    2026-11-27 09:00Z (in 6 days)  ci-deploy  1d    2026-11-28 09:00Z  ada.lovelace@example.org, security@example.…  exports

    NAME  KIND  STATE  PEOPLE  LAST GOOD  DATA   NEXT  TROUBLE
    hr    file  held   240     now        fresh  -     held: 31 of 240 people would lose access at once
    "#);
}

#[test]
fn a_narrow_table_of_notices_says_when_and_why() {
    let mut failed = notice();
    failed.notice.reason = Some("550 5.1.1 no such user".to_owned());
    let (table, notes) = print(Format::Table, terminal(80), &[failed]);
    insta::assert_snapshot!(table, @"
    TOKEN      TOPIC      RECIPIENT           STATE  WHEN               REASON
    ci-deploy  expiry 7d  ada.lovelace@exam…  sent   2026-11-21 09:00Z  550 5.1.1 n…
    ");
    insta::assert_snapshot!(notes, @"");
}

/// Two findings of one sweep, with ids that start with its time, and one of a later sweep.
fn three_findings() -> [FindingRow; 3] {
    [
        "01a20170-e284-78d0-a2df-c50ff77fc7af",
        "01a20170-e284-78d0-a3df-c50ff77fc7af",
        "01a20170-e287-78d0-a2df-c50ff77fc7af",
    ]
    .map(|id| FindingRow {
        id: id.parse().unwrap(),
        token_name: "the nightly backup of the warehouse".into(),
        kind: FindingKind::NeverExpires,
        severity: Severity::Medium,
        evidence: "it has no expiry at its source".into(),
        ..finding()
    })
}

#[test]
fn a_finding_on_a_narrow_terminal_shows_a_unique_id() {
    let (text, notes) = print(Format::Table, terminal(80), &three_findings());
    insta::assert_snapshot!(format!("{text}{notes}"), @"
    ID                     TOKEN           KIND           SEVERITY  EVIDENCE
    01a20170-e284-78d0-a2  the nightly b…  never_expires  medium    it has no expir…
    01a20170-e284-78d0-a3  the nightly b…  never_expires  medium    it has no expir…
    01a20170-e287-78d0-a2  the nightly b…  never_expires  medium    it has no expir…
    columns that do not fit: SINCE, STATE (--format csv shows all)
    ");
    let (text, _) = print(Format::Table, terminal(30), &three_findings());
    insta::assert_snapshot!(text, @"
    ID                     TOKEN
    01a20170-e284-78d0-a2  the ni…
    01a20170-e284-78d0-a3  the ni…
    01a20170-e287-78d0-a2  the ni…
    ");
    let (text, _) = print(Format::Csv, terminal(80), &three_findings());
    assert!(text.contains("01a20170-e284-78d0-a2df-c50ff77fc7af"));
}

#[test]
fn the_audit_trail_on_a_narrow_terminal_shows_the_reason() {
    let row = AuditRow {
        id: Uuid::from_u128(3),
        at: days(-9),
        actor: "ada".into(),
        action: "finding.acknowledge".into(),
        subject: "finding 01a20170-e284-78d0-a2df-c50ff77fc7af".into(),
        reason: Some("until 2027-03-31T00:00:00Z: the vendor replaces it in March".into()),
    };
    let (text, notes) = print(Format::Table, terminal(80), &[row]);
    insta::assert_snapshot!(format!("{text}{notes}"), @"
    AT                 ACTOR  ACTION               SUBJECT           REASON
    2026-11-12 09:00Z  ada    finding.acknowledge  finding 01a2017…  until 2027-03-…
    ");
}

fn detail() -> TokenDetail {
    TokenDetail {
        row: row("ci\ndeploy", "4711", &[]),
        steps: vec![StepRow {
            step: "7d".parse().unwrap(),
            at: days(0),
            outcome: "sent to 1".into(),
        }],
        findings: vec![finding()],
        notices: vec![],
        page: Some("https://exports.example.org/tokens/1".to_owned()),
        admins: vec!["acme-admin@example.org".parse().unwrap()],
        issued: None,
        now: now(),
    }
}

fn print_detail(format: Format) -> String {
    let mut out = Vec::new();
    print_item(format, terminal(100), &mut out, &detail()).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn one_token_on_a_sheet() {
    insta::assert_snapshot!(print_detail(Format::Table), @r#"
    ci deploy
      id            507bae5b-6920-5b53-b7a2-e5e8fc59729e
      source        exports
      external id   4711
      status        active
      expires       2026-11-28 09:00Z (in 7 days)
      set by        source
      issuer        ada.lovelace@example.org
      other owners  -
      admins        acme-admin@example.org
      account       acme
      role          editor
      scope         -
      description   -
      created       2026-08-30 09:00Z (83 days ago)
      last used     2026-11-21 08:59Z (now)
      next due      2026-11-21 09:00Z (now)
      page          https://exports.example.org/tokens/1

    Steps
      STEP  AT                       OUTCOME
      7d    2026-11-21 09:00Z (now)  sent to 1

    Notices
      none

    Findings
      ID                  KIND         SEVERITY  SINCE                           STATE  EVIDENCE
      00000000-0000-0000  sso_revoked  critical  2026-11-12 09:00Z (9 days ago)  open   status "disable…
    "#);
}

#[test]
fn one_token_as_one_json_object() {
    let object: Value = serde_json::from_str(&print_detail(Format::Json)).unwrap();
    assert_eq!(object["findings"][0]["kind"], "sso_revoked");
    assert_eq!(
        serde_json::from_str::<Value>(&print_detail(Format::Jsonl)).unwrap(),
        object
    );
    let mut expected = TokenDetail::keys();
    expected.push("notices");
    let issued = [
        "not_before",
        "secrets",
        "use",
        "addresses",
        "refused_uses",
        "never_shown",
    ];
    expected.extend(issued);
    assert_eq!(keys(&detail()), expected);
}

#[test]
fn one_token_as_one_csv_record() {
    assert_eq!(print_detail(Format::Csv).lines().count(), 2);
}
