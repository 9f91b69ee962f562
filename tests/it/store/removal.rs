//! Removed tokens, and sources that are renamed, removed or no longer configured.

use lapsed::domain::{FindingKind, Severity, Token};
use lapsed::store::{NewFinding, SourceRow, Verdict};
use rstest::rstest;

use super::{
    days, fill_mails, fresh_id, insert, ledger, now, plan, read, send, state_of, token, warning,
    write,
};
use crate::db::Db;
use Db::{Postgres, Sqlite};

fn finding(source: &str, token: Option<&Token>, kind: FindingKind) -> NewFinding {
    NewFinding {
        id: fresh_id(),
        token_id: token.map(|token| token.id),
        source: source.to_owned(),
        kind,
        severity: Severity::Medium,
        since: now(),
        evidence: "evidence".to_owned(),
        directory: None,
    }
}

async fn save_source(store: &lapsed::store::Store, name: &str, is_read: bool) {
    let mut row = SourceRow {
        name: name.to_owned(),
        ..SourceRow::default()
    };
    if is_read {
        row.sync_state.record_success(now());
    }
    write!(store, tx => tx.save_source(&row));
}

#[rstest]
#[tokio::test]
async fn a_removed_token_leaves_what_was_sent_about_it(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    let (gone, kept) = (token("1"), token("2"));
    insert(&store, &[gone.clone(), kept.clone()]).await;
    let sent = warning(&gone, "7d", "ada@example.org", now());
    plan(&store, std::slice::from_ref(&sent)).await;
    send(&store, Verdict::Sent).await;
    let unsent = warning(&gone, "1d", "ada@example.org", days(6));
    let other = warning(&kept, "1d", "ada@example.org", days(6));
    plan(&store, &[unsent.clone(), other.clone()]).await;
    write!(store, tx => tx.insert_findings(&[finding("exports", Some(&gone), FindingKind::Unused)]));

    assert_eq!(write!(store, tx => tx.remove_tokens(&[gone.id])), 1);
    assert!(read!(store, tx => tx.load_tokens(&[gone.id])).is_empty());
    assert_eq!(state_of(&store, &sent).await, "sent: 250 ok");
    assert_eq!(
        state_of(&store, &unsent).await,
        "cancelled: the token was removed"
    );
    assert_eq!(state_of(&store, &other).await, "planned");
    let rows = ledger(&store).await;
    let row = rows.iter().find(|row| row.id == sent.id).unwrap();
    assert_eq!(row.token_name.as_deref(), Some("exports/1"));
    assert!(fresh.texts("SELECT evidence FROM finding").await.is_empty());

    // It comes back: what was cancelled is owed again, what was sent is not.
    insert(&store, std::slice::from_ref(&gone)).await;
    assert_eq!(plan(&store, &[sent.clone(), unsent.clone()]).await, 1);
    assert_eq!(state_of(&store, &unsent).await, "planned");
    assert_eq!(fill_mails(&store, days(7)).await, 2);
}

#[rstest]
#[tokio::test]
async fn a_ghost_was_read_and_is_neither_configured_nor_imported_nor_renamed(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    for (name, is_read) in [
        ("configured", true),
        ("ghost", true),
        ("imported", true),
        ("never-read", false),
        ("old", true),
    ] {
        save_source(&store, name, is_read).await;
    }
    write!(store, tx => tx.mark_imported("imported"));
    write!(store, tx => tx.rename_source("old", "new"));
    // Its old name is configured, so an operator is about to write the new one.
    write!(store, tx => tx.rename_source("new", "newer"));
    let is_configured = |name: &str| ["configured", "old"].contains(&name);
    let ghosts = read!(store, tx => tx.list_ghosts(is_configured));
    let names: Vec<_> = ghosts.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["ghost"]);
    let is_configured = |name: &str| name == "configured";
    let ghosts = read!(store, tx => tx.list_ghosts(is_configured));
    let names: Vec<_> = ghosts.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names, ["ghost", "newer"]);

    write!(store, tx => tx.insert_findings(&[finding("ghost", None, FindingKind::Unconfigured)]));
    let silent = read!(store, tx => tx.list_silent_sources(days(6)));
    assert!(silent.is_empty());
    let silent = read!(store, tx => tx.list_silent_sources(days(7)));
    assert!(silent.contains("ghost") && silent.len() == 1);
    let known = read!(store, tx => tx.load_ghost_findings());
    assert_eq!((known.len(), known[0].since), (1, now()));
}

#[rstest]
#[tokio::test]
async fn warnings_about_a_source_are_cancelled_and_planned_again(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let (store, _fresh) = db.store().await;
    let planned = Token {
        planned_step: Some("7d".parse().unwrap()),
        due_at: Some(days(6)),
        ..token("1")
    };
    let other = Token {
        source: "other".to_owned(),
        id: lapsed::domain::TokenId::new("other", "1"),
        ..planned.clone()
    };
    insert(&store, &[planned.clone(), other.clone()]).await;
    let notices = [&planned, &other].map(|token| warning(token, "7d", "ada@example.org", now()));
    plan(&store, &notices).await;
    write!(store, tx => tx.cancel_warnings_of_source("exports", "over"));
    assert_eq!(state_of(&store, &notices[0]).await, "cancelled: over");
    assert_eq!(state_of(&store, &notices[1]).await, "planned");
    write!(store, tx => tx.replan_source("exports", now()));
    let tokens = read!(store, tx => tx.load_tokens(&[planned.id]));
    assert_eq!(
        (tokens[0].planned_step, tokens[0].due_at),
        (None, Some(now()))
    );
    let tokens = read!(store, tx => tx.load_tokens(&[other.id]));
    assert_eq!(tokens[0], other);
}

#[rstest]
#[tokio::test]
async fn a_renamed_source_takes_everything_along(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    save_source(&store, "exports", true).await;
    let token = token("1");
    insert(&store, std::slice::from_ref(&token)).await;
    let admins = [("acme".to_owned(), "boss@example.org".to_owned())];
    write!(store, tx => tx.replace_source_admins("exports", &admins));
    write!(store, tx => tx.insert_findings(&[finding("exports", Some(&token), FindingKind::Unused)]));
    write!(store, tx => tx.mark_imported("exports"));
    write!(store, tx => tx.rename_source("exports", "gitlab"));
    let found = read!(store, tx => tx.load_tokens_by_external_id("gitlab", &["1", "2"]));
    assert_eq!((found.len(), found[0].id), (1, token.id));
    for (table, column) in [
        ("source_admin", "source"),
        ("finding", "source"),
        ("source", "name || '>' || COALESCE(renamed_to, '')"),
        ("meta", "key"),
    ] {
        let mut texts = fresh.texts(&format!("SELECT {column} FROM {table}")).await;
        texts.sort();
        match table {
            "source" => assert_eq!(texts, ["exports>gitlab", "gitlab>"]),
            "meta" => assert_eq!(texts, ["import.gitlab"]),
            _ => assert_eq!(texts, ["gitlab"], "{table}"),
        }
    }
    // A second name is followed, and a reserved one can be taken back.
    write!(store, tx => tx.rename_source("gitlab", "git"));
    let row = read!(store, tx => tx.find_source("exports")).unwrap();
    assert_eq!(row.renamed_to.as_deref(), Some("git"));
    write!(store, tx => tx.rename_source("git", "exports"));
    let row = read!(store, tx => tx.find_source("exports")).unwrap();
    assert_eq!(
        (row.renamed_to, row.sync_state.last_good_sync_at),
        (None, Some(now()))
    );
    assert!(read!(store, tx => tx.has_tokens_of("exports")));
    let names = read!(store, tx => tx.list_source_names());
    assert_eq!(names, ["exports", "git", "gitlab"]);
    let taken = read!(store, tx => tx.find_taken_ids(&[token.id, super::token("2").id]));
    assert!(taken.contains(&token.id) && taken.len() == 1);

    write!(store, tx => tx.remove_tokens(&[token.id]));
    write!(store, tx => tx.delete_source("exports"));
    let names = read!(store, tx => tx.list_source_names());
    assert_eq!(names, ["git", "gitlab"]);
    for table in ["source_admin", "finding", "meta"] {
        let sql = format!("SELECT '1' FROM {table}");
        assert!(fresh.texts(&sql).await.is_empty(), "{table}");
    }
}
