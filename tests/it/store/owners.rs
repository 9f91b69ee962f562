//! Tokens with several owners.

use lapsed::domain::{Expiry, FindingKind, Identity, IdentityStatus, Severity, Status, Token};
use lapsed::store::{IdentityFilter, IdentityRow, NewFinding, Store, TokenFilter};
use rstest::rstest;
use uuid::Uuid;

use super::{address, days, fresh_id, insert, now, plan, read, state_of, token, warning, write};
use crate::db::Db;
use Db::{Postgres, Sqlite};

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";
const EVE: &str = "eve@example.org";

/// Ada's token that these people own, too.
fn shared(id: &str, others: &[&str]) -> Token {
    Token {
        co_owners: others.iter().map(|owner| address(owner)).collect(),
        ..token(id)
    }
}

async fn save(store: &Store, directory: &str, email: &str, status: IdentityStatus) {
    let identity = Identity {
        email: address(email),
        account_id: None,
        account_chosen: false,
        name: None,
        status,
        known_status: status,
        reason: None,
        evidence: status.to_string(),
        checked_by_id: false,
        since: None,
        observed_at: None,
        candidate: None,
        candidate_since: None,
        candidate_evidence: None,
    };
    let row = IdentityRow {
        directory: directory.into(),
        identity,
    };
    write!(store, tx => tx.save_identities(std::slice::from_ref(&row)));
}

async fn load(store: &Store, token: &Token) -> Token {
    let found = read!(store, tx => tx.load_tokens(&[token.id]));
    found.into_iter().next().unwrap()
}

async fn ids_of(store: &Store, owner: &str) -> Vec<String> {
    let filter = TokenFilter {
        owner_key: Some(owner.into()),
        ..TokenFilter::default()
    };
    let found = read!(store, tx => tx.list_tokens(&filter, None, now(), 10));
    found
        .into_iter()
        .map(|view| view.token.external_id)
        .collect()
}

async fn find_outlived(store: &Store) -> Vec<(String, Vec<String>)> {
    let fresh = ["hr".to_owned(), "ldap".to_owned()];
    let found = read!(store, tx => tx.find_outlived_tokens(now(), &fresh, Uuid::nil(), 10));
    let mut outlived = Vec::new();
    for found in found {
        let losses = found.losses.iter();
        let losses = losses.map(|row| format!("{} {}", row.identity.email, row.directory));
        outlived.push((found.token.external_id, losses.collect()));
    }
    outlived.sort();
    outlived
}

#[rstest]
#[tokio::test]
async fn a_token_is_found_by_each_of_its_owners(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let both = shared("both", &["Bob@Example.org", EVE]);
    let gone = Token {
        status: Status::Gone,
        ..shared("gone", &["zoe@example.org"])
    };
    let tokens = [token("alone"), both.clone(), gone];
    insert(&store, &tokens).await;
    let loaded = load(&store, &both).await;
    assert_eq!(loaded, both);
    assert_eq!(loaded.co_owners[0].as_str(), "Bob@Example.org");
    assert_eq!(ids_of(&store, ADA).await, ["alone", "both", "gone"]);
    assert_eq!(ids_of(&store, BOB).await, ["both"]);
    let keys = read!(store, tx => tx.list_owner_keys());
    assert_eq!(keys, [ADA, BOB, EVE, "zoe@example.org"]);
    let covered = read!(store, tx => tx.list_issuer_identities(&[], now()));
    let covered: Vec<_> = covered.into_iter().map(|row| row.email_key).collect();
    assert_eq!(covered, [ADA, BOB, EVE], "of tokens that work");
    save(&store, "hr", BOB, IdentityStatus::Active).await;
    let filter = IdentityFilter::default();
    let people = read!(store, tx => tx.list_identities(&filter, None, now(), 10));
    assert_eq!(people[0].1, 1);

    let changed = shared("both", &[EVE, "zoe@example.org"]);
    write!(store, tx => tx.replace_co_owners(&changed));
    assert_eq!(load(&store, &both).await, changed);
    assert!(ids_of(&store, BOB).await.is_empty());
    assert_eq!(ids_of(&store, EVE).await, ["both"]);
    write!(store, tx => tx.remove_tokens(&[both.id]));
    assert_eq!(
        read!(store, tx => tx.list_owner_keys()),
        [ADA, "zoe@example.org"]
    );
}

#[rstest]
#[tokio::test]
async fn a_token_outlives_its_owners_when_all_have_lost_access(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let mut unreadable = token("unreadable");
    let column = "issuer_email".to_owned();
    unreadable
        .unreadable
        .insert(column, "\"x\" is not a mail address".to_owned());
    let both = shared("both", &[BOB]);
    let tokens = [token("alone"), both.clone(), unreadable.clone()];
    insert(&store, &tokens).await;
    save(&store, "hr", ADA, IdentityStatus::Disabled).await;
    let alone = ("alone".to_owned(), vec![format!("{ADA} hr")]);
    assert_eq!(find_outlived(&store).await, std::slice::from_ref(&alone));
    let lost = read!(store, tx => tx.load_lost_owners(&tokens));
    assert_eq!(lost.get(&tokens[0].id), None, "until there is a finding");
    assert_eq!(lost[&both.id], [address(ADA)]);
    assert_eq!(lost[&unreadable.id], [address(ADA)]);

    save(&store, "left", BOB, IdentityStatus::Deleted).await;
    assert_eq!(
        find_outlived(&store).await,
        std::slice::from_ref(&alone),
        "the directory is not fresh"
    );
    save(&store, "ldap", BOB, IdentityStatus::Deleted).await;
    let shared = (
        "both".to_owned(),
        vec![format!("{ADA} hr"), format!("{BOB} ldap")],
    );
    assert_eq!(find_outlived(&store).await, [alone, shared]);
    let lost = read!(store, tx => tx.load_lost_owners(&tokens));
    assert_eq!(lost[&both.id], [address(ADA), address(BOB)]);
}

#[rstest]
#[tokio::test]
async fn a_loss_is_obsolete_when_one_owner_has_access(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let both = shared("both", &[BOB]);
    insert(&store, std::slice::from_ref(&both)).await;
    for owner in [ADA, BOB] {
        save(&store, "hr", owner, IdentityStatus::Disabled).await;
    }
    let finding = NewFinding {
        id: fresh_id(),
        token_id: Some(both.id),
        source: both.source.clone(),
        kind: FindingKind::SsoRevoked,
        severity: Severity::High,
        since: now(),
        evidence: "lost".into(),
        directory: Some("hr".into()),
    };
    write!(store, tx => tx.insert_findings(std::slice::from_ref(&finding)));
    let obsolete = async || read!(store, tx => tx.find_obsolete_findings(now(), 10));
    assert!(obsolete().await.is_empty());
    for owner in [ADA, BOB] {
        let of_owner = read!(store, tx => tx.find_open_losses(owner, "ldap"));
        assert_eq!(
            of_owner,
            [(finding.id, both.id)],
            "any directory may add to it"
        );
        save(&store, "hr", owner, IdentityStatus::Active).await;
        assert_eq!(obsolete().await, [(finding.id, both.id)], "{owner}");
        save(&store, "hr", owner, IdentityStatus::Disabled).await;
    }
    let mut with_eve = shared("both", &[BOB, EVE]);
    write!(store, tx => tx.replace_co_owners(&with_eve));
    assert_eq!(obsolete().await.len(), 1, "Eve has access");
    let column = "issuer_email".to_owned();
    with_eve
        .unreadable
        .insert(column, "\"x\" is not a mail address".to_owned());
    write!(store, tx => tx.update_token(&with_eve));
    assert!(obsolete().await.is_empty(), "who owns it is not known");
    with_eve.expiry = Expiry::At(days(-1));
    write!(store, tx => tx.update_token(&with_eve));
    assert_eq!(obsolete().await.len(), 1, "it does not work");
}

#[rstest]
#[tokio::test]
async fn only_the_lost_owner_of_several_keeps_unsent_warnings(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let tokens = [shared("both", &[BOB]), token("alone")];
    insert(&store, &tokens).await;
    let notices: Vec<_> = [(0, ADA), (0, BOB), (1, ADA)]
        .map(|(index, to)| warning(&tokens[index], "1d", to, days(6)))
        .into();
    plan(&store, &notices).await;
    assert!(read!(store, tx => tx.find_warnings_to_lost_owners()).is_empty());
    for lost in [ADA, BOB] {
        save(&store, "hr", lost, IdentityStatus::Disabled).await;
        let found = read!(store, tx => tx.find_warnings_to_lost_owners());
        assert_eq!(found, [(tokens[0].id, address(lost))]);
        write!(store, tx => tx.suppress_notices(tokens[0].id, &address(lost), "no"));
    }
    assert!(read!(store, tx => tx.find_warnings_to_lost_owners()).is_empty());
    assert_eq!(state_of(&store, &notices[2]).await, "planned");
}

#[rstest]
#[tokio::test]
async fn an_erased_owner_leaves_the_token_to_the_others(#[values(Sqlite, Postgres)] db: Db) {
    let (store, fresh) = db.store().await;
    let named = Token {
        issuer_name: Some("Ada".into()),
        ..shared("both", &[BOB, EVE])
    };
    let by_eve = Token {
        issuer: Some(address(EVE)),
        issuer_name: Some("Eve".into()),
        ..shared("eve's", &[ADA])
    };
    insert(&store, &[named.clone(), by_eve.clone()]).await;
    let naming = read!(store, tx => tx.list_sources_naming(&address(BOB)));
    assert_eq!(naming, [("exports".to_owned(), Status::Active)]);
    write!(store, tx => tx.erase_person(&address(ADA), "erased-0a1b"));
    let left = load(&store, &named).await;
    assert_eq!((left.issuer, left.issuer_name), (Some(address(BOB)), None));
    assert_eq!(left.co_owners, [address(EVE)]);
    let left = load(&store, &by_eve).await;
    assert_eq!((left.issuer, left.co_owners), (Some(address(EVE)), vec![]));
    assert_eq!(left.issuer_name.as_deref(), Some("Eve"));
    let keys = fresh.texts("SELECT owner_key FROM token_owner").await;
    assert_eq!(keys, [EVE]);
}
