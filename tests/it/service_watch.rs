//! The watching side of tokens that lapsed itself issued, with the whole engine.

use std::collections::HashSet;
use std::sync::Mutex;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use lapsed::directories::{Directory, Lookup, PeopleListing, PeopleQuery, PersonSink};
use lapsed::domain::service::{Credential, CredentialState, Kind};
use lapsed::domain::{
    Address, Channel, DirectoryTerms, Expiry, ExpiryOrigin, IdentityStatus, Person, Preference,
    RevocationPolicy, Status, Token, TokenId,
};
use lapsed::engine::{Error, RevocationOrder, RevokeRefusal, WatchedDirectory};
use lapsed::sources::{self, CheckReport, Fetched};
use lapsed::store::{AddressUse, Change, IdempotencyRow, UseRow};
use rstest::rstest;

use crate::db::Db;
use crate::store::service::{credential, person, regenerate};
use crate::world::{self, now, sweep};
use Db::{Postgres, Sqlite};

/// A directory of twenty people and Ada, of whom these are disabled.
#[derive(Default)]
struct People(Mutex<HashSet<String>>);

#[async_trait]
impl Directory for People {
    async fn list_people(
        &self,
        _: &PeopleQuery<'_>,
        tell: &mut PersonSink<'_>,
    ) -> Result<Fetched<PeopleListing>, sources::Error> {
        let disabled = self.0.lock().unwrap();
        let people = (0..20).map(|number| format!("p{number}@example.org"));
        for email in people.chain(["ada@example.org".to_owned()]) {
            let status = if disabled.contains(&email) {
                IdentityStatus::Disabled
            } else {
                IdentityStatus::Active
            };
            tell(Person {
                id: None,
                main: email.parse().ok(),
                others: Vec::new(),
                sign_in_name: None,
                fallbacks: Vec::new(),
                name: None,
                status,
                reason: None,
                since: None,
                evidence: status.to_string(),
                is_member: None,
            });
        }
        Ok(Fetched::New(PeopleListing::default()))
    }

    async fn look_up(&self, _: &str) -> Result<Lookup, sources::Error> {
        Err(sources::Error::CannotRevoke)
    }

    async fn check(&self) -> Result<CheckReport, sources::Error> {
        Ok(CheckReport::default())
    }
}

type World = world::World<People>;

fn days(count: i64) -> TimeDelta {
    TimeDelta::days(count)
}

impl World {
    /// Issues a token to a user, as the service does.
    async fn issue(&self, issuer: &str, expires_at: DateTime<Utc>) -> Token {
        let credential = Credential {
            expires_at: Some(expires_at),
            ..credential(issuer)
        };
        let token = Token {
            id: credential.id,
            source: "local".into(),
            external_id: credential.public_id.to_string(),
            name: "deploy".into(),
            issuer: issuer.parse().ok(),
            account: credential.account.clone(),
            created_at: Some(now() - days(300)),
            expiry: Expiry::At(expires_at),
            expiry_origin: Some(ExpiryOrigin::Source),
            secret_version: 1,
            reports_use: true,
            first_seen_at: now() - days(300),
            life_from: Some(now() - days(300)),
            judge_at: Some(now()),
            ..Token::default()
        };
        let token = Token {
            due_at: self.engine.policy.due_at(&token),
            ..token
        };
        let mut tx = self.engine.store.begin().await.unwrap();
        tx.insert_credential(&credential).await.unwrap();
        tx.insert_tokens(std::slice::from_ref(&token))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        token
    }

    fn watch_people(&mut self) {
        self.engine.directories.push(WatchedDirectory {
            terms: DirectoryTerms {
                name: "hr".to_owned(),
                kind: "people",
                absence_grace: TimeDelta::zero(),
                fresh_for: days(2),
                ..DirectoryTerms::default()
            },
            directory: self.fake.clone(),
        });
    }

    /// Issues a token to a machine user of Ada's.
    async fn issue_to_machine(&self, expires_at: DateTime<Utc>) -> Token {
        let mut bot = person("x@example.org");
        bot.key = "deploy-bot".into();
        bot.address = None;
        bot.owners = vec!["ada@example.org".parse().unwrap()];
        let mut tx = self.engine.store.begin().await.unwrap();
        tx.save_service_user(&bot).await.unwrap();
        tx.commit().await.unwrap();
        let token = self.issue("deploy-bot", expires_at).await;
        let token = Token {
            issuer: Some("ada@example.org".parse().unwrap()),
            ..token
        };
        let mut tx = self.engine.store.begin().await.unwrap();
        tx.update_token(&token).await.unwrap();
        tx.commit().await.unwrap();
        token
    }

    async fn state(&self, token: &Token) -> (Status, CredentialState) {
        let mut tx = self.engine.store.begin_read().await.unwrap();
        let status = tx.load_tokens(&[token.id]).await.unwrap()[0].status;
        let state = tx.find_credentials(&[token.id]).await.unwrap()[0].state;
        (status, state)
    }

    async fn revoke(&self, token: &Token) -> Result<(), Error> {
        let order = RevocationOrder {
            token,
            by: "root",
            reason: None,
        };
        self.engine.revocation().revoke(order).await.map(drop)
    }

    async fn is_enabled(&self, user: &str) -> bool {
        let mut tx = self.engine.store.begin_read().await.unwrap();
        let user = tx.find_service_user(user).await.unwrap();
        user.unwrap().is_enabled()
    }

    async fn count(&self, table: &str) -> String {
        let sql = format!("SELECT CAST(COUNT(*) AS TEXT) FROM {table}");
        self.database().texts(&sql).await.remove(0)
    }
}

#[rstest]
#[tokio::test]
async fn a_revoked_token_of_the_service_does_not_verify(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::empty(db).await;
    let token = world.issue("ada@example.org", now() + days(30)).await;
    let mut tx = world.engine.store.begin_read().await.unwrap();
    let last = tx.last_change_id().await.unwrap();
    drop(tx);
    world.revoke(&token).await.unwrap();
    assert_eq!(
        world.state(&token).await,
        (Status::Revoked, CredentialState::Revoked)
    );
    let mut tx = world.engine.store.begin_read().await.unwrap();
    let changes = tx.load_changes(last).await.unwrap();
    assert_eq!(changes[0].1, Change::Credential(token.id));
    drop(tx);
    let again = world.revoke(&token).await.unwrap_err();
    assert!(
        matches!(
            again,
            Error::Revoke(RevokeRefusal::NotActive(Status::Revoked))
        ),
        "{again:?}"
    );
    sweep(&world.engine).await;
    assert_eq!(world.take_mails().len(), 2, "issuer and administrator");
}

#[rstest]
#[tokio::test]
async fn an_imported_token_with_such_an_id_is_not_revoked(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::empty(db).await;
    let token = Token {
        id: TokenId::new("local", "lp0000000000"),
        source: "local".into(),
        external_id: "lp0000000000".into(),
        expiry: Expiry::Never,
        secret_version: 1,
        ..Token::default()
    };
    let mut tx = world.engine.store.begin().await.unwrap();
    tx.insert_tokens(std::slice::from_ref(&token))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let refused = world.revoke(&token).await.unwrap_err();
    assert!(
        matches!(refused, Error::Revoke(RevokeRefusal::UnknownSource(_))),
        "{refused:?}"
    );
}

#[rstest]
#[tokio::test]
async fn the_policy_ends_tokens_of_people_but_not_of_machines(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::empty(db).await;
    world.engine.settings.response = Some(RevocationPolicy {
        revoke_after: days(3),
        max_per_day: 10,
    });
    world.watch_people();
    let of_ada = world.issue("ada@example.org", now() + days(60)).await;
    let of_bot = world.issue_to_machine(now() + days(60)).await;
    for day in 0..8 {
        if day == 1 {
            world
                .fake
                .0
                .lock()
                .unwrap()
                .insert("ada@example.org".to_owned());
        }
        sweep(&world.engine).await;
        world.engine.clock.advance(days(1));
    }
    assert_eq!(
        world.state(&of_ada).await,
        (Status::Revoked, CredentialState::Revoked)
    );
    assert_eq!(
        world.state(&of_bot).await,
        (Status::Active, CredentialState::Active)
    );
    let flagged = world.count("finding WHERE kind = 'sso_revoked'").await;
    assert_eq!(flagged, "2", "both are flagged");
}

#[rstest]
#[tokio::test]
async fn what_the_service_no_longer_needs_is_deleted(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::empty(db).await;
    let engine = &world.engine;
    let api = world.issue("ada@example.org", now() - days(3)).await;
    let mut tx = engine.store.begin().await.unwrap();
    for (kind, state, expires_at) in [
        (
            Kind::Session,
            CredentialState::Active,
            Some(now() - days(2)),
        ),
        (
            Kind::Refresh,
            CredentialState::Active,
            Some(now() - TimeDelta::hours(2)),
        ),
        (Kind::Feed, CredentialState::Revoked, None),
        (Kind::Feed, CredentialState::Active, None),
    ] {
        let internal = Credential {
            kind,
            state,
            expires_at,
            ..credential("ada@example.org")
        };
        tx.insert_credential(&internal).await.unwrap();
    }
    let uses = [29, 31].map(|age| UseRow {
        token_id: api.id,
        hour: now() - days(age),
        ok: 1,
        refused: 0,
        secrets: Vec::new(),
        addresses: Vec::new(),
    });
    tx.add_uses(&uses).await.unwrap();
    for (key, age) in [("new", 0), ("answered", 2), ("old", 25)] {
        let row = IdempotencyRow {
            key_digest: key.into(),
            body_digest: "b".into(),
            token_id: Some(api.id),
            secret_number: Some(1),
            sealed: Some("sealed".into()),
            created_at: now() - TimeDelta::hours(age),
        };
        tx.insert_idempotency(&row).await.unwrap();
    }
    tx.commit().await.unwrap();
    sweep(engine).await;
    assert_eq!(world.count("credential").await, "3");
    assert_eq!(world.count("token_use").await, "1");
    assert_eq!(world.count("idempotency").await, "2");
    let mut tx = engine.store.begin_read().await.unwrap();
    let answered = tx.find_idempotency("answered").await.unwrap().unwrap();
    assert_eq!(answered.sealed, None);
}

#[rstest]
#[tokio::test]
async fn changes_are_kept_for_a_day_and_the_last_ones_for_ever(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::empty(db).await;
    let mut tx = world.engine.store.begin().await.unwrap();
    for _ in 0..30 {
        tx.record_change(&Change::Everything).await.unwrap();
    }
    let last = tx.last_change_id().await.unwrap();
    tx.commit().await.unwrap();
    let insert_more = format!(
        "INSERT INTO change (id, kind, key) SELECT {last} + n, 'everything', '' FROM
         (WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 20000)
          SELECT n FROM counted) AS numbers"
    );
    world.database().execute(&insert_more).await.unwrap();
    let start = now();
    for (hours, expected) in [(0, "20030"), (23, "20030"), (25, "20000"), (60, "20000")] {
        let mut tx = world.engine.store.begin().await.unwrap();
        tx.purge_service(start + TimeDelta::hours(hours), 1000)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        assert_eq!(world.count("change").await, expected, "{hours}");
    }
}

#[rstest]
#[tokio::test]
async fn preferences_decide_when_and_where_people_are_warned(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::empty(db).await;
    let engine = &world.engine;
    let ada: Address = "ada@example.org".parse().unwrap();
    let token = world.issue("ada@example.org", now() + days(20)).await;
    let mut tx = engine.store.begin().await.unwrap();
    tx.save_service_user(&person("ada@example.org"))
        .await
        .unwrap();
    let preference = Preference {
        steps: Some(vec!["14d".parse().unwrap(), "1d".parse().unwrap()]),
        channel: Some(Channel::Account),
        timezone: Some(chrono_tz::Asia::Tokyo),
        ..Preference::none(ada.clone())
    };
    tx.save_preference(&preference).await.unwrap();
    tx.commit().await.unwrap();
    let mut steps = Vec::new();
    let mut mails = Vec::new();
    for _ in 0..20 {
        sweep(engine).await;
        let to = |mail: &String| mail.contains("To: ada@example.org");
        mails.extend(world.take_mails().into_iter().filter(to));
        let mut tx = engine.store.begin_read().await.unwrap();
        let notices = tx
            .list_account_notices(ada.key(), true, None, 10)
            .await
            .unwrap();
        steps = notices
            .iter()
            .rev()
            .filter_map(|notice| notice.step)
            .collect();
        drop(tx);
        // The last use is six days before the last step.
        if engine.now() == now() + days(13) {
            let mut tx = engine.store.begin().await.unwrap();
            let used = UseRow {
                token_id: token.id,
                hour: engine.now(),
                ok: 1,
                refused: 0,
                secrets: vec![(1, engine.now())],
                addresses: Vec::new(),
            };
            tx.add_uses(&[used]).await.unwrap();
            tx.commit().await.unwrap();
        }
        engine.clock.advance(days(1));
    }
    assert_eq!(steps, [14 * 86_400, 86_400], "not at 7d");
    assert_eq!(
        mails.len(),
        1,
        "what was not read is mailed at the last step"
    );
    assert!(mails[0].contains("JST"), "{}", mails[0]);
    let mut tx = engine.store.begin().await.unwrap();
    let notices = tx
        .list_account_notices(ada.key(), true, None, 10)
        .await
        .unwrap();
    for notice in &notices {
        let of_bob = tx.mark_notice_read("bob@example.org", notice.id, now());
        assert_eq!(of_bob.await.unwrap(), None);
        let of_ada = tx.mark_notice_read(ada.key(), notice.id, now());
        assert_eq!(of_ada.await.unwrap(), Some(notice.token_id));
    }
    let unread = tx.list_account_notices(ada.key(), true, None, 10).await;
    assert!(unread.unwrap().is_empty());
    let all = tx
        .list_account_notices(ada.key(), false, None, 10)
        .await
        .unwrap();
    assert!(all.iter().all(|notice| notice.read_at == Some(now())));
}

#[rstest]
#[tokio::test]
async fn tokens_stop_while_a_directory_says_that_access_is_lost(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::empty(db).await;
    world.watch_people();
    world.engine.settings.follow_directories = true;
    world.issue("ada@example.org", now() + days(60)).await;
    world.issue_to_machine(now() + days(60)).await;
    let mut tx = world.engine.store.begin().await.unwrap();
    tx.save_service_user(&person("ada@example.org"))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let disable = |people: &People| {
        people
            .0
            .lock()
            .unwrap()
            .insert("ada@example.org".to_owned())
    };
    sweep(&world.engine).await;
    assert!(world.is_enabled("ada@example.org").await);
    disable(&world.fake);
    for _ in 0..2 {
        world.engine.clock.advance(TimeDelta::hours(1));
        sweep(&world.engine).await;
    }
    assert!(!world.is_enabled("ada@example.org").await);
    assert!(world.is_enabled("deploy-bot").await);
    let stopped = world.take_mails();
    let is_about_it = |mail: &&String| mail.contains("The tokens of 1 user no longer work");
    assert_eq!(stopped.iter().filter(is_about_it).count(), 1);
    let audit = "SELECT action FROM audit WHERE subject = 'ada@example.org' ORDER BY at";
    assert_eq!(world.database().texts(audit).await, ["user.stop"]);
    world.fake.0.lock().unwrap().clear();
    world.engine.clock.advance(TimeDelta::hours(1));
    sweep(&world.engine).await;
    assert!(world.is_enabled("ada@example.org").await);
    disable(&world.fake);
    for _ in 0..2 {
        world.engine.clock.advance(TimeDelta::hours(1));
        sweep(&world.engine).await;
    }
    assert!(!world.is_enabled("ada@example.org").await);
    world.engine.settings.follow_directories = false;
    sweep(&world.engine).await;
    assert!(world.is_enabled("ada@example.org").await, "switched off");
    let expected = ["user.stop", "user.restore", "user.stop", "user.restore"];
    assert_eq!(world.database().texts(audit).await, expected);
}

#[rstest]
#[tokio::test]
async fn an_old_secret_that_is_used_shortly_before_its_end_is_found(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::empty(db).await;
    let engine = &world.engine;
    let token = world.issue("ada@example.org", now() + days(60)).await;
    let mut tx = engine.store.begin().await.unwrap();
    let known = tx.lock_credential(token.id).await.unwrap().unwrap();
    tx.save_credential(&regenerate(&known)).await.unwrap();
    tx.commit().await.unwrap();
    let use_old_secret = async |at: DateTime<Utc>| {
        let mut tx = engine.store.begin().await.unwrap();
        let used = UseRow {
            token_id: token.id,
            hour: at,
            ok: 1,
            refused: 0,
            secrets: vec![(1, at)],
            addresses: vec![AddressUse {
                address: [10, 1, 2, 3].into(),
                is_refused: false,
                first_at: at,
                last_at: at,
            }],
        };
        tx.add_uses(&[used]).await.unwrap();
        tx.commit().await.unwrap();
    };
    let open = "finding WHERE kind = 'old_secret_in_use' AND state = 'open'";
    engine.clock.advance(TimeDelta::hours(19));
    use_old_secret(engine.now()).await;
    sweep(engine).await;
    assert_eq!(world.count(open).await, "0", "5 hours are left");
    engine.clock.advance(TimeDelta::hours(2));
    sweep(engine).await;
    sweep(engine).await;
    assert_eq!(world.count(open).await, "1");
    let mails = world.take_mails();
    let is_about_it = |mail: &&String| mail.contains("The old secret works until");
    assert_eq!(
        mails.iter().filter(is_about_it).count(),
        2,
        "issuer and administrator"
    );
    for mail in mails.iter().filter(is_about_it) {
        assert!(mail.contains("Used from 10.1.2.3"), "{mail}");
        let leaked = format!("lapsed token regenerate {} --leaked", token.external_id);
        assert!(mail.contains(&leaked), "{mail}");
    }
    engine.clock.advance(TimeDelta::hours(4));
    sweep(engine).await;
    assert_eq!(world.count(open).await, "0", "it has ended");
}

#[rstest]
#[tokio::test]
async fn a_use_from_a_new_network_is_found_where_that_is_wanted(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::empty(db).await;
    let token = world.issue("ada@example.org", now() + days(60)).await;
    let used = |address: [u8; 4], days_ago: i64| UseRow {
        token_id: token.id,
        hour: now() - days(days_ago),
        ok: 1,
        refused: 0,
        secrets: vec![(1, now() - days(days_ago))],
        addresses: vec![AddressUse {
            address: address.into(),
            is_refused: false,
            first_at: now() - days(days_ago),
            last_at: now(),
        }],
    };
    let mut tx = world.engine.store.begin().await.unwrap();
    tx.add_uses(&[used([10, 1, 2, 3], 20), used([203, 0, 113, 7], 1)])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let open = "finding WHERE kind = 'new_place' AND state = 'open'";
    sweep(&world.engine).await;
    assert_eq!(world.count(open).await, "0", "nobody asked for it");
    world.engine.policy.rules.new_place = true;
    sweep(&world.engine).await;
    assert_eq!(world.count(open).await, "1");
    world.engine.clock.advance(days(7));
    sweep(&world.engine).await;
    assert_eq!(world.count(open).await, "0", "it is known by now");
}

#[rstest]
#[tokio::test]
async fn the_mail_about_an_expired_token_says_what_still_uses_it(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::empty(db).await;
    world.engine.policy.steps = vec!["0d".parse().unwrap()];
    let token = world
        .issue("ada@example.org", now() + TimeDelta::hours(2))
        .await;
    sweep(&world.engine).await;
    let used = UseRow {
        token_id: token.id,
        hour: now(),
        ok: 70,
        refused: 2,
        secrets: vec![(1, now())],
        addresses: vec![AddressUse {
            address: [10, 1, 2, 3].into(),
            is_refused: true,
            first_at: now(),
            last_at: now(),
        }],
    };
    let mut tx = world.engine.store.begin().await.unwrap();
    tx.add_uses(&[used]).await.unwrap();
    tx.commit().await.unwrap();
    world.engine.clock.advance(TimeDelta::hours(3));
    sweep(&world.engine).await;
    let mails = world.take_mails();
    assert!(!mails.is_empty());
    for mail in &mails {
        assert!(
            mail.contains("3 calls an hour still use it, from 10.1.2.3"),
            "{mail}"
        );
    }
}

#[rstest]
#[tokio::test]
async fn whoever_has_the_first_role_in_an_account_is_warned_of_its_tokens(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::empty(db).await;
    world.engine.settings.admin_role = Some("administrator".to_owned());
    world.issue("ada@example.org", now() + days(7)).await;
    let mut tx = world.engine.store.begin().await.unwrap();
    for (name, role) in [
        ("eve", "administrator"),
        ("kim", "viewer"),
        ("off", "administrator"),
    ] {
        let mut user = person(&format!("{name}@example.org"));
        user.roles.insert("acme".to_owned(), role.to_owned());
        user.disabled_at = (name == "off").then(now);
        tx.save_service_user(&user).await.unwrap();
    }
    tx.commit().await.unwrap();
    sweep(&world.engine).await;
    let mails = world.take_mails();
    let is_to = |name: &str| {
        let to = format!("To: {name}@example.org");
        mails.iter().any(|mail| mail.contains(&to))
    };
    let warned = ["ada", "boss", "eve", "kim", "off"].map(is_to);
    assert_eq!(warned, [true, true, true, false, false]);
}

#[rstest]
#[tokio::test]
async fn a_new_order_of_the_roles_makes_others_the_administrators(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::empty(db).await;
    world.issue("ada@example.org", now() + days(7)).await;
    let mut tx = world.engine.store.begin().await.unwrap();
    for (name, role) in [("eve", "administrator"), ("kim", "viewer")] {
        let mut user = person(&format!("{name}@example.org"));
        user.roles.insert("acme".to_owned(), role.to_owned());
        tx.save_service_user(&user).await.unwrap();
    }
    tx.commit().await.unwrap();
    for (role, later, expected) in [
        ("administrator", 0, [true, false]),
        ("viewer", 6, [false, true]),
    ] {
        world.engine.settings.admin_role = Some(role.to_owned());
        world.engine.clock.advance(days(later));
        sweep(&world.engine).await;
        let mails = world.take_mails();
        let is_to = |name: &str| {
            let to = format!("To: {name}@example.org");
            mails.iter().any(|mail| mail.contains(&to))
        };
        assert_eq!(["eve", "kim"].map(is_to), expected, "{role}");
    }
}
