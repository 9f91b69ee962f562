//! The rows of the token service.

use std::collections::BTreeMap;

use chrono::{NaiveTime, SubsecRound};
use lapsed::domain::service::{
    Credential, CredentialState, Kind, NewSecret, OldSecret, Parent, PublicId, ServiceAccount,
    ServicePerson, StoredSecret,
};
use lapsed::domain::{Channel, Expiry, Preference, Status, Token, TokenId};
use lapsed::store::{AddressUse, Change, HourOfUse, IdempotencyRow, Store, UseRow};
use rstest::rstest;

use super::{address, at, days, insert, minutes, now, read, token, write};
use crate::db::Db;
use Db::{Postgres, Sqlite};

fn account(name: &str) -> ServiceAccount {
    ServiceAccount {
        key: name.to_lowercase(),
        name: name.into(),
        max_tokens: None,
        created_at: now(),
    }
}

pub(crate) fn person(mail: &str) -> ServicePerson {
    let address = address(mail);
    ServicePerson {
        key: address.key().to_owned(),
        address: Some(address),
        name: None,
        is_super: false,
        is_sso: true,
        owners: Vec::new(),
        created_at: now(),
        disabled_at: None,
        lost_access_at: None,
        roles: BTreeMap::new(),
        version: 1,
    }
}

pub(crate) fn credential(issuer: &str) -> Credential {
    let public_id = PublicId::generate();
    let secret = NewSecret::generate("lapsed", &public_id);
    Credential {
        id: TokenId::new("local", public_id.as_str()),
        public_id,
        kind: Kind::Api,
        issuer: issuer.into(),
        account: Some("acme".into()),
        role: None,
        scopes: "app:read app:write".parse().unwrap(),
        networks: "192.0.2.0/24 2001:db8::/32".parse().unwrap(),
        created_at: now(),
        not_before: None,
        expires_at: Some(days(30)),
        state: CredentialState::Active,
        secret: StoredSecret {
            number: 1,
            digest: secret.digest,
            created_at: now(),
            last_used_at: None,
        },
        old_secret: None,
        parent: None,
        version: 1,
    }
}

/// The secret of a credential is replaced; the old one works for a day.
pub(crate) fn regenerate(credential: &Credential) -> Credential {
    let old = credential.secret.clone();
    Credential {
        secret: StoredSecret {
            number: old.number + 1,
            digest: NewSecret::generate("lapsed", &credential.public_id).digest,
            created_at: minutes(1),
            last_used_at: None,
        },
        old_secret: Some(OldSecret {
            secret: old,
            valid_until: days(1),
        }),
        ..credential.clone()
    }
}

async fn find(store: &Store, id: TokenId) -> Credential {
    read!(store, tx => tx.find_credentials(&[id])).remove(0)
}

async fn changes(store: &Store, after: i64) -> Vec<Change> {
    let rows = read!(store, tx => tx.load_changes(after));
    rows.into_iter().map(|(_, change)| change).collect()
}

#[rstest]
#[tokio::test]
async fn accounts_are_listed_limited_renamed_and_removed(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let acme = account("Acme");
    for (account, is_new) in [(&acme, true), (&account("Beta"), true), (&acme, false)] {
        assert_eq!(
            write!(store, tx => tx.insert_service_account(account)),
            is_new
        );
    }
    write!(store, tx => tx.set_account_limit("acme", Some(0)));
    let limited = write!(store, tx => tx.lock_service_account("acme")).unwrap();
    assert_eq!(limited.max_tokens, Some(0));
    let first = read!(store, tx => tx.list_service_accounts(None, 1));
    let second = read!(store, tx => tx.list_service_accounts(Some(&first[0].key), 9));
    let names = [first, second]
        .concat()
        .into_iter()
        .map(|account| account.name);
    assert_eq!(names.collect::<Vec<_>>(), ["Acme", "Beta"]);

    let mut ada = person("ada@example.org");
    ada.roles.insert("acme".into(), "viewer".into());
    let api = credential("ada@example.org");
    let of_api = Token {
        id: api.id,
        account: Some("Acme".into()),
        ..token("1")
    };
    insert(&store, std::slice::from_ref(&of_api)).await;
    write!(store, tx => tx.save_service_user(&ada));
    write!(store, tx => tx.insert_credential(&api));
    write!(store, tx => tx.rename_service_account("acme", &account("Omega")));
    assert_eq!(read!(store, tx => tx.find_service_account("acme")), None);
    assert_eq!(find(&store, api.id).await.account.as_deref(), Some("omega"));
    let renamed = read!(store, tx => tx.find_service_user("ada@example.org")).unwrap();
    assert_eq!(renamed.roles.keys().collect::<Vec<_>>(), ["omega"]);
    let tokens = read!(store, tx => tx.load_tokens(&[api.id]));
    assert_eq!(tokens[0].account.as_deref(), Some("Omega"));

    let last = read!(store, tx => tx.last_change_id());
    write!(store, tx => tx.remove_service_account("omega"));
    assert_eq!(read!(store, tx => tx.find_service_account("omega")), None);
    let without = read!(store, tx => tx.find_service_user("ada@example.org")).unwrap();
    assert!(without.roles.is_empty());
    assert_eq!(changes(&store, last).await, [Change::Everything]);
}

#[rstest]
#[tokio::test]
async fn users_are_saved_with_their_roles_and_versions(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let mut ada = person("Ada@Example.org");
    ada.created_at = ada.created_at.trunc_subsecs(6);
    ada.roles = BTreeMap::from([
        ("acme".into(), "viewer".into()),
        ("beta".into(), "user".into()),
    ]);
    let mut bot = person("bob@example.org");
    bot.key = "deploy-bot".into();
    bot.address = None;
    bot.owners = vec![address("ada@example.org"), address("Bob@example.org")];
    bot.created_at = bot.created_at.trunc_subsecs(6);
    for user in [&ada, &bot] {
        assert_eq!(write!(store, tx => tx.save_service_user(user)), 1);
    }
    let keys = ["deploy-bot", "ada@example.org", "nobody@example.org"];
    let found = read!(store, tx => tx.find_service_users(&keys));
    assert_eq!(found, [ada.clone(), bot.clone()]);

    ada.roles.remove("beta");
    ada.disabled_at = Some(now().trunc_subsecs(6));
    ada.version = 2;
    assert_eq!(write!(store, tx => tx.save_service_user(&ada)), 2);
    assert_eq!(
        write!(store, tx => tx.lock_service_user("ada@example.org")),
        Some(ada.clone())
    );
    assert_eq!(
        write!(store, tx => tx.lock_service_user("nobody@example.org")),
        None
    );
    assert_eq!(
        read!(store, tx => tx.list_service_users(Some("beta"), None, 9)),
        []
    );
    assert_eq!(
        read!(store, tx => tx.list_service_users(Some("acme"), None, 9)),
        [ada.clone()]
    );
    assert_eq!(
        read!(store, tx => tx.list_service_users(None, None, 1)),
        [ada.clone()]
    );
    assert_eq!(
        read!(store, tx => tx.list_service_users(None, Some(&ada.key), 9)),
        [bot]
    );

    write!(store, tx => tx.remove_service_user("ada@example.org"));
    assert_eq!(
        read!(store, tx => tx.find_service_user("ada@example.org")),
        None
    );
    let ada = Change::User("ada@example.org".into());
    let expected = [
        ada.clone(),
        Change::User("deploy-bot".into()),
        ada.clone(),
        ada,
    ];
    assert_eq!(changes(&store, 0).await, expected);
}

#[rstest]
#[tokio::test]
async fn a_credential_is_read_as_it_was_written(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let first = credential("ada@example.org");
    let last = read!(store, tx => tx.last_change_id());
    write!(store, tx => tx.insert_credential(&first));
    assert!(read!(store, tx => tx.is_never_shown(first.id)));
    write!(store, tx => tx.mark_shown(first.id, now()));
    assert!(!read!(store, tx => tx.is_never_shown(first.id)));

    let second = Credential {
        role: Some("viewer".into()),
        not_before: Some(now()),
        expires_at: None,
        state: CredentialState::Disabled,
        ..regenerate(&first)
    };
    assert_eq!(write!(store, tx => tx.save_credential(&second)), Some(2));
    assert!(read!(store, tx => tx.is_never_shown(first.id)));
    let found = write!(store, tx => tx.lock_credential(first.id)).unwrap();
    assert!(found.secret.digest.matches(&second.secret.digest));
    let old = found.old_secret.clone().unwrap();
    assert!(old.secret.digest.matches(&first.secret.digest));
    assert_eq!((found.version, old.valid_until), (2, days(1)));
    assert_eq!(
        format!(
            "{:?}",
            Credential {
                version: 1,
                ..found
            }
        ),
        format!("{second:?}")
    );
    assert_eq!(
        changes(&store, last).await,
        [Change::Credential(first.id), Change::Credential(first.id)]
    );

    assert_eq!(
        write!(store, tx => tx.save_credential(&credential("ada@example.org"))),
        None
    );
    let many = [first.id, credential("x").id];
    assert_eq!(read!(store, tx => tx.find_credentials(&many)).len(), 1);
}

#[rstest]
#[tokio::test]
async fn a_limit_counts_what_has_not_ended(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let ada = "ada@example.org";
    let internal = ["session", "access", "refresh", "feed"];
    let all = internal.into_iter().chain(["api", "kubeconfig"]);
    for kind in all.clone() {
        let kind = Kind::parse(kind);
        assert_eq!(kind.is_internal(), internal.contains(&kind.as_str()));
        for (state, expires_at) in [
            (CredentialState::Active, Some(days(1))),
            (CredentialState::Disabled, None),
            (CredentialState::Revoked, None),
            (CredentialState::Active, Some(now())),
        ] {
            let one = Credential {
                kind: kind.clone(),
                state,
                expires_at,
                ..credential(ada)
            };
            write!(store, tx => tx.insert_credential(&one));
        }
    }
    let outside = Credential {
        account: None,
        ..credential(ada)
    };
    write!(store, tx => tx.insert_credential(&outside));
    assert_eq!(
        read!(store, tx => tx.count_account_tokens("acme", now())),
        4
    );
    assert_eq!(read!(store, tx => tx.count_user_tokens(ada, now())), 5);
    assert_eq!(
        read!(store, tx => tx.count_user_tokens("bob@example.org", now())),
        0
    );
    assert_eq!(read!(store, tx => tx.list_credentials_in("acme")).len(), 18);
    assert_eq!(read!(store, tx => tx.list_credentials_of(ada)).len(), 19);
    let child = Credential {
        parent: Some(Parent {
            id: outside.id,
            secret: 1,
        }),
        kind: Kind::Refresh,
        ..credential(ada)
    };
    write!(store, tx => tx.insert_credential(&child));
    let found = read!(store, tx => tx.find_credentials(&[child.id]));
    assert_eq!(found[0].parent, child.parent);
}

#[rstest]
#[tokio::test]
async fn changes_are_counted_and_found(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    assert_eq!(read!(store, tx => tx.count_changes(0)), (0, 0));
    assert_eq!(read!(store, tx => tx.last_change_id()), 0);
    for _ in 0..3 {
        write!(store, tx => tx.record_change(&Change::Everything));
    }
    let last = read!(store, tx => tx.last_change_id());
    assert_eq!(read!(store, tx => tx.count_changes(last - 1)), (1, last));
}

#[rstest]
#[tokio::test]
async fn uses_add_up_and_five_addresses_are_kept(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let old = credential("ada@example.org");
    let both = regenerate(&old);
    write!(store, tx => tx.insert_credential(&both));
    insert(
        &store,
        &[Token {
            id: old.id,
            ..token("1")
        }],
    )
    .await;
    let hour = at("2026-11-21T09:00:00Z");
    let used = |minute: i64, number: u32| UseRow {
        token_id: old.id,
        hour,
        ok: 2,
        refused: 1,
        secrets: vec![(number, minutes(minute))],
        addresses: (0..4)
            .map(|host: u8| AddressUse {
                address: [192, 0, 2, host + u8::try_from(minute).unwrap()].into(),
                is_refused: host == 3,
                first_at: minutes(minute),
                last_at: minutes(minute + i64::from(host)),
            })
            .collect(),
    };
    let unknown = UseRow {
        token_id: TokenId::new("local", "none"),
        ..used(1, 1)
    };
    write!(store, tx => tx.add_uses(&[used(20, 1), unknown]));
    write!(store, tx => tx.add_uses(&[used(10, 2)]));
    write!(store, tx => tx.add_uses(&[UseRow { secrets: vec![(1, minutes(5)), (2, minutes(30))], ..used(30, 1) }]));
    let uses = read!(store, tx => tx.load_uses(old.id));
    assert_eq!(
        uses.hours,
        [HourOfUse {
            hour,
            ok: 6,
            refused: 3
        }]
    );
    let listed = |is_refused: bool| {
        let uses = uses
            .addresses
            .iter()
            .filter(|used| used.is_refused == is_refused);
        uses.map(|used| used.address.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        listed(false),
        [
            "192.0.2.32",
            "192.0.2.31",
            "192.0.2.30",
            "192.0.2.22",
            "192.0.2.21"
        ]
    );
    assert_eq!(listed(true), ["192.0.2.33", "192.0.2.23", "192.0.2.13"]);
    let found = find(&store, old.id).await;
    assert_eq!(found.secret.last_used_at, Some(minutes(30)));
    assert_eq!(
        found.old_secret.unwrap().secret.last_used_at,
        Some(minutes(20))
    );
    let tokens = read!(store, tx => tx.load_tokens(&[old.id]));
    assert_eq!(tokens[0].last_used_at, Some(minutes(30)));
    assert_eq!(
        read!(store, tx => tx.load_uses(TokenId::new("local", "none"))).hours,
        []
    );
}

#[rstest]
#[tokio::test]
async fn an_answer_is_stored_once_and_in_no_backup(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let row = IdempotencyRow {
        key_digest: "k1".into(),
        body_digest: "b1".into(),
        token_id: None,
        secret_number: None,
        sealed: None,
        created_at: now(),
    };
    assert!(write!(store, tx => tx.insert_idempotency(&row)));
    assert!(!write!(store, tx => tx.insert_idempotency(&row)));
    let id = TokenId::new("local", "1");
    write!(store, tx => tx.settle_idempotency("k1", id, 1, "sealed answer"));
    let settled = read!(store, tx => tx.find_idempotency("k1")).unwrap();
    assert_eq!(
        (settled.token_id, settled.secret_number),
        (Some(id), Some(1))
    );
    assert_eq!(settled.sealed.as_deref(), Some("sealed answer"));
    assert_eq!(read!(store, tx => tx.find_idempotency("k2")), None);
    if db == Sqlite {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backup.db");
        store.backup(&file).await.unwrap();
        let names = std::fs::read_dir(folder.path()).unwrap().count();
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(names, 1, "no log is left");
        assert!(!String::from_utf8_lossy(&bytes).contains("sealed answer"));
    }
}

#[rstest]
#[tokio::test]
async fn preferences_are_read_as_they_were_written(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let none = Preference::none(address("Bob@example.org"));
    let all = Preference {
        steps: Some(vec!["7d".parse().unwrap(), "36h".parse().unwrap()]),
        channel: Some(Channel::Account),
        language: Some("de".into()),
        timezone: Some(chrono_tz::Europe::Berlin),
        digest_at: NaiveTime::from_hms_opt(9, 30, 0),
        version: 2,
        ..Preference::none(address("ada@example.org"))
    };
    for preference in [&none, &all, &all] {
        write!(store, tx => tx.save_preference(preference));
    }
    assert_eq!(
        read!(store, tx => tx.find_preference("ada@example.org")),
        Some(all)
    );
    let nothing = Preference {
        steps: Some(Vec::new()),
        version: 2,
        ..none
    };
    assert_eq!(write!(store, tx => tx.save_preference(&nothing)), 2);
    let keys = ["bob@example.org", "carol@example.org"];
    assert_eq!(read!(store, tx => tx.find_preferences(&keys)), [nothing]);
}

#[rstest]
#[tokio::test]
async fn an_erased_user_has_no_tokens_that_work(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let mut bot = person("x@example.org");
    bot.key = "deploy-bot".into();
    bot.address = None;
    bot.owners = vec![address("ada@example.org"), address("bob@example.org")];
    for user in [&person("ada@example.org"), &bot] {
        write!(store, tx => tx.save_service_user(user));
    }
    let [of_ada, of_bot] = [credential("ada@example.org"), credential("deploy-bot")];
    for (credential, name) in [(&of_ada, "1"), (&of_bot, "2")] {
        write!(store, tx => tx.insert_credential(credential));
        let token = Token {
            id: credential.id,
            expiry: Expiry::Never,
            ..token(name)
        };
        insert(&store, &[token]).await;
    }
    let last = read!(store, tx => tx.last_change_id());
    write!(store, tx => tx.erase_person(&address("ada@example.org"), "erased-0a1b"));
    assert_eq!(
        read!(store, tx => tx.find_service_user("ada@example.org")),
        None
    );
    let ended = find(&store, of_ada.id).await;
    assert_eq!(
        (ended.state, ended.issuer.as_str()),
        (CredentialState::Revoked, "erased-0a1b")
    );
    assert_eq!(
        read!(store, tx => tx.load_tokens(&[of_ada.id]))[0].status,
        Status::Revoked
    );
    assert_eq!(find(&store, of_bot.id).await.state, CredentialState::Active);
    let bot = read!(store, tx => tx.find_service_user("deploy-bot")).unwrap();
    assert_eq!(bot.owners, [address("bob@example.org")]);
    // A restored store learns from the ids alone which tokens to end again.
    let recorded = changes(&store, last).await;
    assert!(
        recorded.contains(&Change::Credential(of_ada.id)),
        "{recorded:?}"
    );
    assert!(recorded.contains(&Change::Everything));
}
