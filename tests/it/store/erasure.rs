//! A person who is erased is in no table and nowhere in the file.

use std::collections::BTreeSet;
use std::path::Path;

use lapsed::domain::Status;
use lapsed::store::{Store, TEXT_COLUMNS, TokenFilter, Verdict};
use rstest::rstest;
use tokio_util::sync::CancellationToken;

use super::{
    address, days, insert, ledger, now, plan, read, send, state_of, token, warning, write,
};
use crate::db::{Db, Fresh};
use crate::world::engine;
use Db::{Postgres, Sqlite};

/// Text columns that hold a name of the configuration or one of a few words, never an address.
const CLOSED_COLUMNS: &[&str] = &[
    "address.code",
    "address.domain",
    "audit.action",
    "change.kind",
    "credential.digest",
    "credential.kind",
    "credential.networks",
    "credential.old_digest",
    "credential.public_id",
    "credential.scopes",
    "credential.state",
    "directory.decision",
    "directory.kind",
    "directory.name",
    "directory.query_digest",
    "finding.directory",
    "finding.kind",
    "finding.severity",
    "finding.source",
    "finding.state",
    "identity.candidate",
    "identity.directory",
    "identity.known_status",
    "identity.reason",
    "identity.status",
    "idempotency.body_digest",
    "idempotency.key_digest",
    "idempotency.sealed",
    "lease.name",
    "replica.configuration",
    "replica.host",
    "replica.version",
    "mail.state",
    "notice.basis",
    "notice.channel",
    "notice.state",
    "notice.topic",
    "plan.state",
    "preference.channel",
    "preference.digest_time",
    "preference.language",
    "preference.steps",
    "preference.timezone",
    "sign_in_link.browser",
    "sign_in_link.digest",
    "sign_in_link.number",
    "source.kind",
    "source.name",
    "source.renamed_to",
    "source_admin.source",
    "token.expiry",
    "token.expiry_day",
    "token.expiry_origin",
    "token.source",
    "token.status",
    "token_address.address",
];

/// SQLite stores instants as text, too.
fn is_instant(column: &str) -> bool {
    let (_, name) = column.split_once('.').unwrap();
    let suffixes = ["_at", "_since", "_until"];
    suffixes.iter().any(|suffix| name.ends_with(suffix))
        || [
            "at",
            "generation",
            "hour",
            "life_from",
            "not_before",
            "since",
            "until",
        ]
        .contains(&name)
}

fn erased_columns() -> BTreeSet<String> {
    let columns = TEXT_COLUMNS.iter().flat_map(|(table, columns)| {
        let columns = columns.iter();
        columns.map(move |column| format!("{table}.{column}"))
    });
    columns.collect()
}

#[tokio::test]
async fn every_text_column_is_erased_or_cannot_hold_an_address() {
    let (_store, fresh) = Sqlite.store().await;
    let sql = "SELECT t.name || '.' || c.name FROM sqlite_schema t JOIN pragma_table_info(t.name) c
               WHERE t.type = 'table' AND c.type = 'TEXT'
                 AND t.name NOT LIKE 'sqlite_%' AND t.name <> '_sqlx_migrations'";
    let columns: BTreeSet<String> = fresh.texts(sql).await.into_iter().collect();
    let columns = columns.into_iter().filter(|column| !is_instant(column));
    let mut known = erased_columns();
    known.extend(CLOSED_COLUMNS.iter().map(|column| (*column).to_owned()));
    assert_eq!(columns.collect::<BTreeSet<_>>(), known);
}

/// A store with Ada in every column that can hold an address.
async fn store_with_ada(db: Db) -> (Store, Fresh) {
    let (store, fresh) = db.store().await;
    let name = format!("tests/data/migrations/0001.{}.sql", db.name());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let rows = std::fs::read_to_string(file).unwrap();
    fresh.execute(&rows).await.unwrap();
    for (table, columns) in TEXT_COLUMNS {
        for column in *columns {
            let is_address = [
                "issuer",
                "co_owners",
                "owner",
                "recipient",
                "email",
                "key",
                "address",
            ]
            .iter()
            .any(|name| column.starts_with(name) && *table != "source_admin");
            if !is_address {
                let with_ada = match *column {
                    "unreadable" => r#"'{"role": "ADA@example.org is no role"}'"#.to_owned(),
                    _ => format!("COALESCE({column}, '') || ' <ADA@example.org>'"),
                };
                let sql = format!("UPDATE {table} SET {column} = {with_ada}");
                fresh.execute(&sql).await.unwrap();
            }
        }
    }
    (store, fresh)
}

async fn texts_of_all_columns(fresh: &Fresh) -> Vec<String> {
    let mut texts = Vec::new();
    for column in erased_columns() {
        let (table, column) = column.split_once('.').unwrap();
        let sql = format!("SELECT {column} FROM {table} WHERE {column} IS NOT NULL");
        texts.extend(fresh.texts(&sql).await);
    }
    texts
}

#[rstest]
#[tokio::test]
async fn an_erased_person_is_in_no_table_and_not_in_the_file(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = store_with_ada(db).await;
    let names_ada = |text: &String| text.to_lowercase().contains("ada@example.org");
    let before = texts_of_all_columns(&fresh).await;
    assert!(before.iter().filter(|text| names_ada(text)).count() > 30);

    let ada = address("Ada@example.org");
    let erased = write!(store, tx => tx.erase_person(&ada, "erased-0a1b"));
    assert!(erased.rows > 20, "{erased:?}");
    let after = texts_of_all_columns(&fresh).await;
    let left: Vec<_> = after.iter().filter(|text| names_ada(text)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(ledger(&store).await[0].recipient.as_str(), "erased-0a1b");
    let tokens = read!(store, tx => tx.list_tokens(&TokenFilter::default(), None, now(), 9));
    assert_eq!(tokens[0].token.issuer, None);
    assert_eq!(tokens[0].token.issuer_name.as_deref(), Some("erased-0a1b"));

    assert!(store.empty_log().await.unwrap());
    if db == Sqlite {
        for file in std::fs::read_dir(fresh.folder()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            assert!(!text.contains("ada@example.org"));
        }
    }
    let again = write!(store, tx => tx.erase_person(&ada, "erased-0a1c"));
    assert_eq!((again.rows, again.cancelled), (0, 0));
}

#[rstest]
#[tokio::test]
async fn erasing_cancels_what_is_unsent_and_sees_mails_in_flight(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, fresh) = db.store().await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let [ada, bob] = ["ada@example.org", "bob@example.org"];
    let sent = warning(&token, "7d", ada, now());
    plan(&store, std::slice::from_ref(&sent)).await;
    for (verdict, is_in_flight) in [
        (Verdict::Unknown(now()), true),
        (Verdict::Retry(now()), false),
        (Verdict::Sent, false),
    ] {
        send(&store, verdict).await;
        let found = read!(store, tx => tx.has_mail_in_flight(ada));
        assert_eq!(found, is_in_flight, "{verdict:?}");
    }
    let unsent = warning(&token, "1d", ada, days(6));
    let other = warning(&token, "1d", bob, days(6));
    plan(&store, &[unsent.clone(), other.clone()]).await;
    let naming = read!(store, tx => tx.list_sources_naming(&address(ada)));
    assert_eq!(naming, [("exports".to_owned(), Status::Active)]);
    let erased = write!(store, tx => tx.erase_person(&address(ada), "erased-0a1b"));
    assert_eq!(erased.cancelled, 1);
    assert_eq!(state_of(&store, &sent).await, "sent: 250 ok");
    assert_eq!(
        state_of(&store, &unsent).await,
        "cancelled: the recipient was erased"
    );
    assert_eq!(state_of(&store, &other).await, "planned");
    assert!(read!(store, tx => tx.list_sources_naming(&address(ada))).is_empty());
    let recipients = fresh
        .texts("SELECT DISTINCT recipient_key FROM notice ORDER BY 1")
        .await;
    assert_eq!(recipients, [bob, "erased-0a1b"]);
    // The ids stay: a notice that was sent is not planned again.
    assert_eq!(plan(&store, std::slice::from_ref(&sent)).await, 0);
    // A person who comes back is notified of what was cancelled, at their address.
    assert_eq!(plan(&store, std::slice::from_ref(&unsent)).await, 1);
    let recipients = fresh
        .texts(
            "SELECT recipient_key FROM notice WHERE state = 'planned' AND step = 86400 ORDER BY 1",
        )
        .await;
    assert_eq!(recipients, [ada, bob]);
}

#[rstest]
#[tokio::test]
async fn statuses_of_a_person_are_found(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = store_with_ada(db).await;
    let key = "ada@example.org";
    let statuses = read!(store, tx => tx.list_statuses_of(key));
    assert_eq!(statuses.len(), 1);
    assert_eq!(
        (statuses[0].1.as_str(), statuses[0].2.as_str()),
        ("unknown", "disabled")
    );
}

/// Sets one column of the only token.
async fn set_token(fresh: &Fresh, column: &str, value: &str) {
    let sql = format!("UPDATE token SET {column} = {value}");
    fresh.execute(&sql).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_source_names_a_person_in_any_text_of_a_token(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    let mut token = token("1");
    token.issuer = Some(address("bob@example.org"));
    token.status = Status::Disabled;
    insert(&store, std::slice::from_ref(&token)).await;
    let ada = address("ada@example.org");
    let (_, columns) = TEXT_COLUMNS
        .iter()
        .find(|(table, _)| *table == "token")
        .unwrap();
    for column in *columns {
        set_token(&fresh, column, "'of nada@example.org'").await;
        let naming = read!(store, tx => tx.list_sources_naming(&ada));
        assert_eq!(naming, [], "{column}");
        set_token(&fresh, column, "'by ADA@example.org.'").await;
        let naming = read!(store, tx => tx.list_sources_naming(&ada));
        assert_eq!(
            naming,
            [("exports".to_owned(), Status::Disabled)],
            "{column}"
        );
        set_token(&fresh, column, "'x'").await;
    }
}

#[rstest]
#[tokio::test]
async fn a_source_names_its_administrators(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    let sql = "INSERT INTO source_admin (source, account, address) VALUES
               ('exports', 'acme', 'Ada@example.org'), ('gcore', 'acme', 'nada@example.org')";
    fresh.execute(sql).await.unwrap();
    let naming = read!(store, tx => tx.list_sources_naming(&address("ada@example.org")));
    assert_eq!(naming, [("exports".to_owned(), Status::Active)]);
}

#[rstest]
#[tokio::test]
async fn each_of_many_texts_is_replaced_in_its_own_row(#[values(Sqlite, Postgres)] db: Db) {
    const COUNT: usize = 2500;
    let (store, fresh) = db.store().await;
    let tokens = (0..COUNT).map(|number| {
        let mut token = token(&format!("{number:05}"));
        let name = if number % 5 == 0 { "nada" } else { "Ada" };
        token.description = Some(format!("{number:05} by {name}@example.org"));
        token
    });
    let tokens: Vec<_> = tokens.collect();
    insert(&store, &tokens).await;
    let ada = address("ada@example.org");
    let erased = write!(store, tx => tx.erase_person(&ada, "erased-0a1b"));
    // As the issuer of all, and in the texts of some.
    assert_eq!(erased.rows, (COUNT + COUNT * 4 / 5) as u64);
    let texts = fresh
        .texts("SELECT external_id || ': ' || description FROM token ORDER BY external_id")
        .await;
    let expected = (0..COUNT).map(|number| {
        let name = if number % 5 == 0 {
            "nada@example.org"
        } else {
            "erased-0a1b"
        };
        format!("{number:05}: {number:05} by {name}")
    });
    assert_eq!(texts, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_log_that_cannot_be_emptied_is_reported_as_such() {
    let (store, fresh) = Sqlite.store().await;
    let engine = engine(&store, fresh.folder());
    let stop = CancellationToken::new();
    assert!(engine.erasure().empty_log(&stop).await);
    store.close().await;
    assert!(!engine.erasure().empty_log(&stop).await);
}
