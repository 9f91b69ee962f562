//! The operations of the token service on both databases: people, issuing, limits, new secrets, ends.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::TimeDelta;
use lapsed::clock::Clock;
use lapsed::domain::service::{
    Access, Actor, Kind, Lifetime, NewToken, NewUser, Operation, Presented, Problem, ProblemKind,
    Profile, Regeneration, RoleChange, Terms, TokenChange, UserChange, WhoIssues,
};
use lapsed::domain::{Channel, Status, TokenId};
use lapsed::service::Service;
use lapsed::service::accounts::AccountChange;
use lapsed::service::found::stopped;
use lapsed::service::idempotency::Repeatable;
use lapsed::service::issue::{Issued, Once, Outcome};
use lapsed::service::policy_check::Departure;
use lapsed::service::preferences::PreferenceChange;
use lapsed::store::Store;
use rstest::rstest;
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use crate::db::{Db, Fresh};
use crate::world::{self, now};
use Db::{Postgres, Sqlite};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct World {
    service: Arc<Service>,
    store: Store,
    clock: Clock,
    fresh: Fresh,
}

fn operator() -> Actor {
    Actor::Operator("operator".into())
}

fn person(address: &str) -> NewUser {
    NewUser::Person(address.parse().unwrap())
}

fn role_in(account: &str, role: &str) -> UserChange {
    UserChange {
        roles: vec![RoleChange::Give {
            account: account.into(),
            role: Some(role.into()),
        }],
        ..UserChange::default()
    }
}

impl World {
    /// Two accounts: in acme ada is an administrator, uma a user and vic a viewer; in other is oto a user; sue is a super
    /// admin.
    async fn new(db: Db, terms: Terms) -> Self {
        let (store, fresh) = db.store().await;
        let world = Self::on(store, fresh, terms);
        let operator = operator();
        let service = &world.service;
        for account in ["Acme", "Other"] {
            service.add_account(&operator, account, None).await.unwrap();
        }
        for (address, account, role) in [
            ("ada@example.org", "acme", "administrator"),
            ("uma@example.org", "acme", "user"),
            ("vic@example.org", "acme", "viewer"),
            ("oto@example.org", "other", "user"),
        ] {
            let change = role_in(account, role);
            service
                .add_user(&operator, &person(address), &change)
                .await
                .unwrap();
        }
        let change = UserChange {
            is_super: Some(true),
            ..UserChange::default()
        };
        service
            .add_user(&operator, &person("sue@example.org"), &change)
            .await
            .unwrap();
        world
    }

    fn on(store: Store, fresh: Fresh, terms: Terms) -> Self {
        let clock = Clock::manual(now());
        let policy = Arc::new(world::engine(&store, fresh.folder()).policy);
        Self {
            service: Service::open(store.clone(), clock.clone(), Arc::new(terms), policy),
            store,
            clock,
            fresh,
        }
    }

    /// Replicas of the service that serve until it is stopped; the service itself for none.
    async fn serve(&self, count: usize) -> (CancellationToken, Vec<Arc<Service>>) {
        let stopping = CancellationToken::new();
        let mut replicas = Vec::new();
        for _ in 0..count {
            let (store, clock) = (self.store.clone(), self.clock.clone());
            let terms = Arc::new(self.service.terms().clone());
            let policy = Arc::new(self.service.policy().clone());
            let replica = Service::open(store, clock, terms, policy);
            let work = replica.start(None, stopping.clone()).await.unwrap();
            tokio::spawn(work);
            replicas.push(replica);
        }
        if replicas.is_empty() {
            replicas.push(Arc::clone(&self.service));
        }
        (stopping, replicas)
    }

    async fn issue(&self, user: &str) -> Issued {
        self.service
            .issue(&operator(), &new_token(user))
            .await
            .unwrap()
    }

    /// Whoever has this token.
    async fn caller(&self, issued: &Issued) -> Actor {
        Actor::Caller(Arc::new(self.access(issued).await.unwrap()))
    }

    async fn access(&self, issued: &Issued) -> Option<Access> {
        let presented = Presented::parse(issued.secret.token.expose_secret()).unwrap();
        self.service.examine(&presented, HERE).await.unwrap().ok()
    }

    async fn works(&self, issued: &Issued) -> bool {
        self.access(issued).await.is_some()
    }

    /// Everything that the database has.
    async fn dump(&self) -> String {
        if self.fresh.db == Postgres {
            let mut dump = String::new();
            for table in ["idempotency", "audit", "token", "credential"] {
                let rows = format!("SELECT {table}::text FROM {table}");
                dump += &self.fresh.texts(&rows).await.concat();
            }
            return dump;
        }
        let files = std::fs::read_dir(self.fresh.folder()).unwrap();
        let bytes = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
        String::from_utf8_lossy(&bytes.collect::<Vec<_>>().concat()).into_owned()
    }

    async fn audit(&self) -> Vec<String> {
        self.fresh
            .texts("SELECT actor || ' ' || action || ' ' || subject FROM audit ORDER BY at, id")
            .await
    }
}

pub fn new_token(user: &str) -> NewToken {
    NewToken {
        name: "ci".into(),
        description: None,
        user: (!user.is_empty()).then(|| user.into()),
        account: None,
        role: None,
        scopes: "".parse().unwrap(),
        kind: Kind::Api,
        lifetime: Lifetime::Default,
        not_before: None,
        networks: "".parse().unwrap(),
    }
}

fn problem<T: std::fmt::Debug>(result: Result<T, lapsed::service::Error>) -> Problem {
    match result {
        Err(lapsed::service::Error::Refused(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[tokio::test]
async fn an_issued_token_is_watched_like_any_other(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let issued = world.issue("uma@example.org").await;
    assert!(world.works(&issued).await);
    let mut tx = world.store.begin_read().await.unwrap();
    let token = tx
        .load_tokens(&[issued.credential.id])
        .await
        .unwrap()
        .remove(0);
    drop(tx);
    assert_eq!(token, issued.token);
    assert_eq!(token.source, "local");
    assert_eq!(token.external_id, issued.credential.public_id.as_str());
    assert_eq!(token.issuer, Some("uma@example.org".parse().unwrap()));
    assert_eq!(token.account.as_deref(), Some("Acme"));
    assert_eq!(token.role.as_deref(), Some("user"));
    assert_eq!(token.expiry.at(), Some(now() + TimeDelta::days(30)));
    assert_eq!(token.due_at, Some(now() + TimeDelta::days(23)));
    assert!(token.reports_use);
    let secret = issued.secret.secret_key.expose_secret();
    assert!(!format!("{token:?}").contains(secret));
    let entry = format!("operator token.issue local/{}", token.external_id);
    assert!(world.audit().await.contains(&entry));
    world.store.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_concurrent_issues_give_exactly_fifty(
    #[values(Sqlite, Postgres)] db: Db,
    // Those that serve issue what is asked for at the same time in one transaction.
    #[values(0, 1, 2)] serving: usize,
) {
    let world = World::new(db, Terms::default()).await;
    let (stopping, replicas) = world.serve(serving).await;
    let tasks: Vec<_> = (0..1000)
        .map(|number| {
            let service = Arc::clone(&replicas[number % replicas.len()]);
            tokio::spawn(async move {
                service
                    .issue(&operator(), &new_token("uma@example.org"))
                    .await
            })
        })
        .collect();
    let (mut made, mut refused) = (Vec::new(), 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(issued) => made.push(issued),
            result => {
                let problem = problem(result);
                assert_eq!(problem.kind, ProblemKind::LimitReached);
                assert_eq!(problem.limit, Some((50, 50)));
                refused += 1;
            }
        }
    }
    assert_eq!((made.len(), refused), (50, 950));
    let mut tx = world.store.begin_read().await.unwrap();
    assert_eq!(tx.count_account_tokens("acme", now()).await.unwrap(), 50);
    drop(tx);
    for issued in &made {
        assert!(world.works(issued).await);
    }
    // One that ends makes room for one.
    let id = made[0].credential.id;
    world
        .service
        .delete(&operator(), id, None, None)
        .await
        .unwrap();
    world.issue("vic@example.org").await;
    let (operator, new) = (operator(), new_token("vic@example.org"));
    let refused = world.service.issue(&operator, &new).await;
    assert_eq!(problem(refused).kind, ProblemKind::LimitReached);
    stopping.cancel();
    world.store.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_issued_together_is_refused_one_by_one(#[values(Sqlite, Postgres)] db: Db) {
    let terms = Terms {
        per_user: 20,
        ..Terms::default()
    };
    let world = World::new(db, terms).await;
    let admin = world.issue("ada@example.org").await;
    let (admin, ended) = (
        world.caller(&admin).await,
        world.issue("ada@example.org").await,
    );
    let gone = world.caller(&ended).await;
    let id = ended.credential.id;
    world
        .service
        .delete(&operator(), id, None, None)
        .await
        .unwrap();
    let vic = "vic@example.org";
    world
        .service
        .set_user_enabled(&operator(), vic, false, None)
        .await
        .unwrap();
    let (stopping, replicas) = world.serve(1).await;
    let of = |user: &str, account: Option<&str>| NewToken {
        account: account.map(str::to_owned),
        ..new_token(user)
    };
    let asked = [
        (operator(), of("uma@example.org", None), None),
        (operator(), of("nobody@example.org", None), Some("/user")),
        (operator(), of(vic, None), Some("")),
        (
            operator(),
            of("oto@example.org", Some("acme")),
            Some("/account"),
        ),
        (operator(), of("oto@example.org", None), None),
        (gone, of("", None), Some("")),
        (admin, of("", None), None),
    ];
    let tasks: Vec<_> = (0..140)
        .map(|number| {
            let (actor, new, refused) = asked[number % asked.len()].clone();
            let service = Arc::clone(&replicas[0]);
            tokio::spawn(async move { (service.issue(&actor, &new).await, new, refused) })
        })
        .collect();
    let (mut made, mut full) = (0, 0);
    for task in tasks {
        let (result, new, refused) = task.await.unwrap();
        match (result, refused) {
            (Ok(issued), None) => {
                assert!(world.works(&issued).await, "{new:?}");
                made += 1;
            }
            (result, refused) => {
                let problem = problem(result);
                if problem.kind == ProblemKind::LimitReached {
                    assert_eq!(problem.limit, Some((20, 20)), "{new:?}");
                    full += 1;
                } else {
                    assert_eq!(Some(problem.pointer.unwrap_or("")), refused, "{problem:?}");
                }
            }
        }
    }
    // The administrator had one before.
    assert_eq!((made, full), (59, 1));
    stopping.cancel();
    world.store.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_concurrent_regenerations_one_is_stale(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    for _ in 0..20 {
        let issued = world.issue("uma@example.org").await;
        let id = issued.credential.id;
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let service = Arc::clone(&world.service);
                tokio::spawn(async move {
                    let how = Regeneration::default();
                    service.regenerate(&operator(), id, Some(1), &how).await
                })
            })
            .collect();
        let mut made = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Ok(issued) => made.push(issued),
                result => assert_eq!(problem(result).kind, ProblemKind::Stale),
            }
        }
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].credential.secret.number, 2);
        assert!(world.works(&made[0]).await, "a secret that was shown works");
        assert!(world.works(&issued).await, "in its overlap");
        world
            .service
            .delete(&operator(), id, None, None)
            .await
            .unwrap();
    }
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn an_old_secret_works_for_the_overlap(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let first = world.issue("uma@example.org").await;
    let id = first.credential.id;
    world.clock.advance(TimeDelta::days(10));
    let regenerate = async |how: Regeneration| {
        world
            .service
            .regenerate(&operator(), id, None, &how)
            .await
            .unwrap()
    };
    let second = regenerate(Regeneration::default()).await;
    // The same length of life again, with the same id and history.
    let expected = Some(now() + TimeDelta::days(40));
    assert_eq!(second.credential.expires_at, expected);
    assert_eq!(second.token.id, id);
    assert_eq!(second.token.created_at, Some(now()));
    assert_eq!(second.token.secret_version, 2);
    assert_eq!(second.secret.access_key, first.secret.access_key);
    assert_eq!(second.ended_secret, None);
    world
        .clock
        .advance(TimeDelta::hours(24) - TimeDelta::microseconds(1));
    assert!(world.works(&first).await && world.works(&second).await);
    world.clock.advance(TimeDelta::microseconds(1));
    assert!(!world.works(&first).await && world.works(&second).await);
    // A third ends the first of those that still work, and says so.
    let third = regenerate(Regeneration::default()).await;
    assert_eq!(third.ended_secret, None);
    let fourth = regenerate(Regeneration::default()).await;
    assert_eq!(fourth.ended_secret, Some(2));
    assert!(!world.works(&second).await && world.works(&third).await);
    // A leaked secret ends at once.
    let leaked = Regeneration {
        is_leaked: true,
        ..Regeneration::default()
    };
    let fifth = regenerate(leaked).await;
    assert!(!world.works(&fourth).await && world.works(&fifth).await);
    // The old secret does not outlive its own expiry.
    let last = Regeneration {
        lifetime: Lifetime::For(TimeDelta::hours(5)),
        ..Regeneration::default()
    };
    regenerate(last.clone()).await;
    world.clock.advance(TimeDelta::hours(4));
    let seventh = regenerate(last).await;
    let old = seventh.credential.old_secret.as_ref().unwrap();
    assert_eq!(old.valid_until, world.clock.now() + TimeDelta::hours(1));
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn an_expired_token_is_regenerated_only_within_the_limit(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let limit = AccountChange {
        max_tokens: Some(Some(1)),
        ..AccountChange::default()
    };
    world
        .service
        .change_account(&operator(), "acme", &limit)
        .await
        .unwrap();
    let first = world.issue("uma@example.org").await;
    world.clock.advance(TimeDelta::days(31));
    assert!(!world.works(&first).await);
    let second = world.issue("uma@example.org").await;
    let id = first.credential.id;
    let how = Regeneration::default();
    let actor = operator();
    let again = || world.service.regenerate(&actor, id, None, &how);
    assert_eq!(problem(again().await).kind, ProblemKind::LimitReached);
    world
        .service
        .delete(&operator(), second.credential.id, None, None)
        .await
        .unwrap();
    let again = again().await.unwrap();
    assert!(world.works(&again).await);
    assert_eq!(again.token.status, Status::Active);
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_token_is_disabled_enabled_and_deleted(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let issued = world.issue("uma@example.org").await;
    let (id, operator) = (issued.credential.id, operator());
    let service = &world.service;
    let found = service
        .set_enabled(&operator, id, None, false, Some("holiday"))
        .await
        .unwrap();
    assert_eq!(found.token.status, Status::Disabled);
    assert!(!world.works(&issued).await);
    let how = Regeneration::default();
    let refused = service.regenerate(&operator, id, None, &how).await;
    assert_eq!(problem(refused).kind, ProblemKind::Conflict);
    let found = service
        .set_enabled(&operator, id, None, true, None)
        .await
        .unwrap();
    assert_eq!(found.token.status, Status::Active);
    assert!(world.works(&issued).await);
    let found = service.delete(&operator, id, None, None).await.unwrap();
    assert_eq!(found.token.status, Status::Revoked);
    assert!(!world.works(&issued).await);
    let refused = service.set_enabled(&operator, id, None, true, None).await;
    assert_eq!(problem(refused).kind, ProblemKind::Conflict);
    // Deleting again changes nothing.
    service.delete(&operator, id, None, None).await.unwrap();
    let audit = world.audit().await;
    let of_token: Vec<_> = audit
        .iter()
        .filter(|entry| entry.contains("token."))
        .collect();
    assert_eq!(of_token.len(), 4, "{audit:?}");
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_new_token_has_at_most_what_asks_for_it(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let narrow = NewToken {
        scopes: "token:write app:read".parse().unwrap(),
        networks: "127.0.0.0/8".parse().unwrap(),
        ..new_token("uma@example.org")
    };
    let narrow = world.service.issue(&operator(), &narrow).await.unwrap();
    let caller = world.caller(&narrow).await;
    let ask = async |new: NewToken| world.service.issue(&caller, &new).await;
    let allowed = NewToken {
        scopes: "app:read".parse().unwrap(),
        networks: "127.0.0.1".parse().unwrap(),
        ..new_token("")
    };
    let made = ask(allowed.clone()).await.unwrap();
    assert_eq!(made.credential.role.as_deref(), Some("user"));
    assert_eq!(made.credential.issuer, "uma@example.org");
    for (pointer, more) in [
        (
            "/scopes",
            NewToken {
                scopes: "app:*".parse().unwrap(),
                ..allowed.clone()
            },
        ),
        (
            "/scopes",
            NewToken {
                scopes: "".parse().unwrap(),
                ..allowed.clone()
            },
        ),
        (
            "/networks",
            NewToken {
                networks: "".parse().unwrap(),
                ..allowed.clone()
            },
        ),
        (
            "/role",
            NewToken {
                role: Some("administrator".into()),
                ..allowed.clone()
            },
        ),
        (
            "/user",
            NewToken {
                user: Some("vic@example.org".into()),
                ..allowed.clone()
            },
        ),
    ] {
        let problem = problem(ask(more).await);
        assert_eq!(
            (problem.kind, problem.pointer),
            (ProblemKind::Forbidden, Some(pointer))
        );
    }
    let elsewhere = NewToken {
        account: Some("other".into()),
        ..allowed.clone()
    };
    let elsewhere = problem(ask(elsewhere).await);
    assert_eq!(elsewhere.pointer, Some("/account"));
    // It does not say which accounts there are.
    let nowhere = NewToken {
        account: Some("nowhere".into()),
        ..allowed.clone()
    };
    assert_eq!(problem(ask(nowhere).await), elsewhere);
    // A lower role binds what comes of it, too.
    let viewer = NewToken {
        role: Some("viewer".into()),
        ..new_token("ada@example.org")
    };
    let viewer = world.service.issue(&operator(), &viewer).await.unwrap();
    let caller = world.caller(&viewer).await;
    assert_eq!(
        caller.administers(),
        None,
        "the role of the token is the lower one"
    );
    let made = world.service.issue(&caller, &new_token("")).await.unwrap();
    assert_eq!(made.credential.role.as_deref(), Some("viewer"));
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_token_with_scopes_regenerates_only_itself(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let other = world.issue("uma@example.org").await;
    let with = async |scopes: &str| {
        let new = NewToken {
            scopes: scopes.parse().unwrap(),
            ..new_token("uma@example.org")
        };
        world.service.issue(&operator(), &new).await.unwrap()
    };
    let how = Regeneration::default();
    let selfish = with("token:regenerate-self").await;
    let caller = world.caller(&selfish).await;
    let id = other.credential.id;
    let refused = world.service.regenerate(&caller, id, None, &how).await;
    assert_eq!(problem(refused).kind, ProblemKind::Forbidden);
    let id = selfish.credential.id;
    let read = Operation::ReadToken;
    let found = world.service.find_for(&caller, id, read).await.unwrap();
    let version = found.credential.unwrap().version;
    let again = world
        .service
        .regenerate(&caller, id, Some(version), &how)
        .await
        .unwrap();
    assert!(world.works(&again).await);
    let writer = with("token:write").await;
    let caller = world.caller(&writer).await;
    let refused = world
        .service
        .regenerate(&caller, writer.credential.id, None, &how)
        .await;
    assert_eq!(problem(refused).scope, Some("token:regenerate-self"));
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn admins_manage_their_account_and_others_their_own(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let ada = world.issue("ada@example.org").await;
    let uma = world.issue("uma@example.org").await;
    let vic = world.issue("vic@example.org").await;
    let oto = world.issue("oto@example.org").await;
    let delete = async |caller: &Issued, id: TokenId| {
        let caller = world.caller(caller).await;
        world.service.delete(&caller, id, None, None).await
    };
    for (caller, id) in [
        (&uma, &vic),
        (&uma, &ada),
        (&uma, &oto),
        (&ada, &oto),
        (&oto, &uma),
    ] {
        let refused = delete(caller, id.credential.id).await;
        assert_eq!(problem(refused).kind, ProblemKind::NotFound);
    }
    delete(&ada, vic.credential.id).await.unwrap();
    delete(&uma, uma.credential.id).await.unwrap();
    // Somebody who is no longer an admin is none at once.
    let change = role_in("acme", "user");
    world
        .service
        .add_user(&operator(), &person("ada@example.org"), &change)
        .await
        .unwrap();
    let uma = world.issue("uma@example.org").await;
    let refused = delete(&ada, uma.credential.id).await;
    assert_eq!(problem(refused).kind, ProblemKind::NotFound);
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_disabled_user_has_no_tokens_until_enabled(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let issued = world.issue("uma@example.org").await;
    let service = &world.service;
    let set = async |is_enabled| {
        service
            .set_user_enabled(&operator(), "uma@example.org", is_enabled, None)
            .await
            .unwrap()
    };
    set(false).await;
    assert!(!world.works(&issued).await);
    let refused = service
        .issue(&operator(), &new_token("uma@example.org"))
        .await;
    assert_eq!(problem(refused).kind, ProblemKind::Conflict);
    set(true).await;
    assert!(world.works(&issued).await);
    // Another name or another sign-in stops nothing.
    let change = UserChange {
        name: Some(Some("Uma".into())),
        is_sso: Some(true),
        ..UserChange::default()
    };
    service
        .change_user(&operator(), "uma@example.org", None, &change)
        .await
        .unwrap();
    assert!(world.works(&issued).await);
    let found = service
        .find_for(&operator(), issued.credential.id, Operation::ReadToken)
        .await
        .unwrap();
    assert_eq!(found.token.issuer_name.as_deref(), Some("Uma"));
    assert_eq!(
        service
            .remove_user(&operator(), "uma@example.org", None)
            .await
            .unwrap(),
        1
    );
    assert!(!world.works(&issued).await);
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn an_admin_manages_the_people_of_one_account(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let ada = world.issue("ada@example.org").await;
    let ada = world.caller(&ada).await;
    let service = &world.service;
    let add = async |address: &str, change: UserChange| {
        service.add_user(&ada, &person(address), &change).await
    };
    add("new@example.org", role_in("acme", "user"))
        .await
        .unwrap();
    let elsewhere = add("new@example.org", role_in("other", "user")).await;
    assert_eq!(problem(elsewhere).kind, ProblemKind::Forbidden);
    let joined = add("oto@example.org", role_in("acme", "user")).await;
    assert_eq!(problem(joined).kind, ProblemKind::Forbidden);
    service
        .add_user(
            &operator(),
            &person("oto@example.org"),
            &role_in("acme", "user"),
        )
        .await
        .unwrap();
    let oto = service.find_user(&ada, "oto@example.org").await.unwrap();
    assert_eq!(
        oto.roles.keys().collect::<Vec<_>>(),
        ["acme"],
        "an admin does not see the other accounts of a person"
    );
    let disabled = service
        .set_user_enabled(&ada, "oto@example.org", false, None)
        .await;
    assert_eq!(problem(disabled).kind, ProblemKind::Forbidden);
    let super_admin = UserChange {
        is_super: Some(true),
        ..role_in("acme", "user")
    };
    let refused = add("new@example.org", super_admin).await;
    assert_eq!(problem(refused).kind, ProblemKind::Forbidden);
    let people = service.list_users(&ada, None, 10).await.unwrap();
    let keys: Vec<_> = people.iter().map(|person| person.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "ada@example.org",
            "new@example.org",
            "oto@example.org",
            "uma@example.org",
            "vic@example.org"
        ]
    );
    let refused = service.list_accounts(&ada, None, 10).await;
    assert_eq!(problem(refused).kind, ProblemKind::NotFound);
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_machine_user_has_owners_who_are_notified(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let change = UserChange {
        owners: Some(
            ["ada@example.org", "uma@example.org"]
                .map(|it| it.parse().unwrap())
                .into(),
        ),
        ..role_in("acme", "user")
    };
    for name in ["Deploy Bot", "deploy/bot", "deploy,bot"] {
        let machine = NewUser::Machine(name.into());
        let refused = world.service.add_user(&operator(), &machine, &change).await;
        assert_eq!(
            problem(refused).fix.as_deref(),
            Some("write it as deploy-bot")
        );
    }
    let machine = NewUser::Machine("Deploy-Bot".into());
    world
        .service
        .add_user(&operator(), &machine, &change)
        .await
        .unwrap();
    let issued = world.issue("deploy-bot").await;
    let owners: Vec<_> = issued.token.owners().map(ToString::to_string).collect();
    assert_eq!(owners, ["ada@example.org", "uma@example.org"]);
    assert_eq!(issued.token.issuer_name.as_deref(), Some("Deploy-Bot"));
    let uma = world.issue("uma@example.org").await;
    let uma = world.caller(&uma).await;
    assert!(
        world
            .service
            .find_for(&uma, issued.credential.id, Operation::ReadToken)
            .await
            .is_ok(),
        "an owner sees it"
    );
    let moved = TokenChange {
        owner: Some("vic@example.org".into()),
        ..TokenChange::default()
    };
    let id = issued.credential.id;
    let found = world
        .service
        .update(&operator(), id, Some(1), &moved)
        .await
        .unwrap();
    assert_eq!(found.token.issuer, Some("vic@example.org".parse().unwrap()));
    assert!(found.token.co_owners.is_empty());
    assert!(world.works(&issued).await);
    let stale = world.service.update(&operator(), id, Some(1), &moved).await;
    assert_eq!(problem(stale).kind, ProblemKind::Stale);
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_tighter_policy_shortens_nothing_and_says_what_it_would(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db, Terms::from(Profile::Gcore)).await;
    let never = world.issue("uma@example.org").await;
    assert_eq!(never.credential.expires_at, None);
    let long = NewToken {
        lifetime: Lifetime::For(TimeDelta::days(100)),
        ..new_token("vic@example.org")
    };
    let long = world.service.issue(&operator(), &long).await.unwrap();
    let World { store, fresh, .. } = world;
    let tight = Terms {
        max_ttl: Some(TimeDelta::days(90)),
        per_account: 1,
        per_user: 1,
        ..Terms::default()
    };
    let world = World::on(store, fresh, tight);
    let check = world.service.policy_check(&operator()).await.unwrap();
    let departures = |issued: &Issued| {
        let of = check
            .tokens
            .iter()
            .find(|it| it.token.id == issued.credential.id);
        of.unwrap().departures.clone()
    };
    assert_eq!(departures(&never), [Departure::Never]);
    assert_eq!(
        departures(&long),
        [Departure::TooLong {
            max: "90d".into(),
            latest: now() + TimeDelta::days(90),
        }]
    );
    assert_eq!(
        (check.checked, check.accounts.len(), check.users.len()),
        (2, 1, 0)
    );
    assert!(world.works(&never).await && world.works(&long).await);
    let how = Regeneration::default();
    let refused = world
        .service
        .regenerate(&operator(), long.credential.id, None, &how)
        .await;
    let latest = problem(refused).latest.unwrap();
    assert_eq!(latest, ("90d".into(), now() + TimeDelta::days(90)));
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_repeated_request_gets_the_same_answer(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let uma = world.issue("uma@example.org").await;
    let caller = world.caller(&uma).await;
    let answer = |issued: &Issued| issued.secret.token.clone();
    let ask = async |key: &str, body: &str| {
        let secret = uma.secret.token.clone();
        let request = Repeatable::new(key, secret, &[body.as_bytes()]).unwrap();
        let once = Once {
            request: &request,
            answer: &answer,
        };
        world
            .service
            .issue_once(&caller, &new_token(""), Some(&once))
            .await
    };
    let Outcome::Made(made) = ask("key", "body").await.unwrap() else {
        panic!("the first");
    };
    let token = made.secret.token.expose_secret().to_owned();
    let again = async || match ask("key", "body").await {
        Ok(Outcome::Again(answer)) => answer.expose_secret().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(again().await, token);
    assert_eq!(
        problem(ask("key", "other").await).kind,
        ProblemKind::Invalid
    );
    let secret = made.secret.secret_key.expose_secret();
    assert!(
        !world.dump().await.contains(secret),
        "nothing in the store opens the answer"
    );
    world.clock.advance(TimeDelta::hours(1));
    let late = problem(ask("key", "body").await);
    assert_eq!(late.kind, ProblemKind::Conflict);
    assert!(
        late.detail.contains(&made.credential.id.to_string()),
        "{late}"
    );
    world.clock.advance(TimeDelta::hours(23));
    let Outcome::Made(_) = ask("key", "body").await.unwrap() else {
        panic!("a day later the key is new");
    };
    // Once the secret is another one, the answer would be wrong.
    let Outcome::Made(made) = ask("key 2", "body").await.unwrap() else {
        panic!("another key");
    };
    let how = Regeneration::default();
    world
        .service
        .regenerate(&operator(), made.credential.id, None, &how)
        .await
        .unwrap();
    assert_eq!(
        problem(ask("key 2", "body").await).kind,
        ProblemKind::Conflict
    );
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn the_last_step_of_a_token_in_daily_use_stays(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let issued = world.issue("uma@example.org").await;
    let uma: lapsed::domain::Address = "uma@example.org".parse().unwrap();
    let set = async |change: PreferenceChange| {
        world
            .service
            .set_preference(&operator(), &uma, None, &change)
            .await
    };
    let no_steps = PreferenceChange {
        steps: Some(Some(Vec::new())),
        ..PreferenceChange::default()
    };
    let mut tx = world.store.begin().await.unwrap();
    let mut token = issued.token.clone();
    token.last_used_at = Some(now());
    tx.update_token(&token).await.unwrap();
    tx.commit().await.unwrap();
    let refused = problem(set(no_steps.clone()).await);
    assert_eq!(refused.pointer, Some("/steps"));
    assert!(refused.detail.contains("used within 7 days"), "{refused}");
    let account = PreferenceChange {
        channel: Some(Some(Channel::Account)),
        ..PreferenceChange::default()
    };
    assert_eq!(set(account).await.unwrap().version, 1);
    world.clock.advance(TimeDelta::days(8));
    let saved = set(no_steps).await.unwrap();
    assert_eq!(
        (saved.steps, saved.channel),
        (Some(vec![]), Some(Channel::Account))
    );
    // Others do not see them.
    let vic = world.issue("vic@example.org").await;
    let vic = world.caller(&vic).await;
    let refused = world.service.find_preference(&vic, &uma).await;
    assert_eq!(problem(refused).kind, ProblemKind::NotFound);
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn of_two_changes_of_one_version_of_the_preferences_one_wins(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db, Terms::default()).await;
    world.issue("uma@example.org").await;
    let uma: lapsed::domain::Address = "uma@example.org".parse().unwrap();
    for version in 0..10 {
        let set = async |channel| {
            let change = PreferenceChange {
                channel: Some(Some(channel)),
                ..PreferenceChange::default()
            };
            let service = &world.service;
            service
                .set_preference(&operator(), &uma, Some(version), &change)
                .await
        };
        let both = tokio::join!(set(Channel::Mail), set(Channel::Account));
        let (won, lost) = match both {
            (Ok(won), lost) | (lost, Ok(won)) => (won, lost),
            both => panic!("{both:?}"),
        };
        assert_eq!(won.version, version + 1);
        assert_eq!(problem(lost).kind, ProblemKind::Stale);
    }
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn what_an_administrator_disabled_only_an_administrator_enables(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db, Terms::default()).await;
    let token = world.issue("uma@example.org").await;
    let id = token.credential.id;
    let ada = world.caller(&world.issue("ada@example.org").await).await;
    let uma = world.caller(&world.issue("uma@example.org").await).await;
    let set = async |actor: &Actor, is_enabled| {
        let set = world.service.set_enabled(actor, id, None, is_enabled, None);
        set.await.map(|found| found.token.status)
    };
    let (on, off) = (Status::Active, Status::Disabled);
    for by in [&uma, &ada, &operator()] {
        assert_eq!(set(&uma, false).await.unwrap(), off);
        assert_eq!(set(by, true).await.unwrap(), on);
    }
    // An administrator's decision stays, whatever the owner did before or does after it.
    for by in [&ada, &operator()] {
        set(&uma, false).await.unwrap();
        assert_eq!(set(by, false).await.unwrap(), off);
        assert_eq!(set(&uma, false).await.unwrap(), off);
        let refused = problem(set(&uma, true).await);
        assert_eq!(refused.kind, ProblemKind::Forbidden);
        assert!(refused.detail.contains("an administrator disabled"));
        assert!(!world.works(&token).await);
        assert_eq!(set(&ada, true).await.unwrap(), on);
        assert!(world.works(&token).await);
    }
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn administrators_manage_a_token_whose_issuer_is_gone(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let token = world.issue("uma@example.org").await;
    let id = token.credential.id;
    let vic = world.caller(&world.issue("vic@example.org").await).await;
    let ada = world.caller(&world.issue("ada@example.org").await).await;
    for table in ["service_role WHERE user_key", "service_user WHERE key"] {
        let gone = format!("DELETE FROM {table} = 'uma@example.org'");
        world.fresh.execute(&gone).await.unwrap();
    }
    assert!(!world.works(&token).await);
    let service = &world.service;
    let hidden = service.find_for(&vic, id, Operation::ReadToken).await;
    assert_eq!(problem(hidden).kind, ProblemKind::NotFound);
    for actor in [&ada, &operator()] {
        let found = service.find_for(actor, id, Operation::ReadToken).await;
        assert!(found.is_ok(), "{found:?}");
        let disabled = service
            .set_enabled(actor, id, None, false, None)
            .await
            .unwrap();
        assert_eq!(disabled.token.status, Status::Disabled);
        assert_eq!(disabled.token.issuer, token.token.issuer);
        service
            .set_enabled(actor, id, None, true, None)
            .await
            .unwrap();
        let how = Regeneration::default();
        let refused = service.regenerate(actor, id, None, &how).await;
        assert_eq!(problem(refused).kind, ProblemKind::Conflict);
    }
    let to_vic = TokenChange {
        owner: Some("vic@example.org".into()),
        ..TokenChange::default()
    };
    let moved = service.update(&operator(), id, None, &to_vic).await;
    assert_eq!(moved.unwrap().credential.issuer, "vic@example.org");
    assert!(world.works(&token).await);
    let deleted = service.delete(&ada, id, None, None).await.unwrap();
    assert_eq!(deleted.token.status, Status::Revoked);
    world.store.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_accounts_that_get_one_name_the_second_is_refused(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db, Terms::default()).await;
    for round in 0..10 {
        let names = ["a", "b"].map(|name| format!("{name}{round}"));
        for name in &names {
            let operator = operator();
            let added = world.service.add_account(&operator, name, None);
            added.await.unwrap();
        }
        let tasks = names.map(|name| {
            let service = Arc::clone(&world.service);
            tokio::spawn(async move {
                let change = AccountChange {
                    name: Some(format!("new{round}")),
                    ..AccountChange::default()
                };
                service.change_account(&operator(), &name, &change).await
            })
        });
        let mut renamed = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => renamed += 1,
                result => assert_eq!(problem(result).kind, ProblemKind::Conflict),
            }
        }
        assert_eq!(renamed, 1);
    }
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn owner_and_administrators_learn_who_ended_a_token(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let outbox = tempfile::tempdir().unwrap();
    let mut engine = world::engine(&world.store, outbox.path());
    engine.settings.admin_role = Some("administrator".to_owned());
    let uma = world.issue("uma@example.org").await;
    let own = world.issue("uma@example.org").await;
    let caller = world.caller(&uma).await;
    let service = &world.service;
    let mails = async || {
        world::sweep(&engine).await;
        let files = std::fs::read_dir(outbox.path()).unwrap();
        let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        let mut mails: Vec<_> = files
            .iter()
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect();
        for file in files {
            std::fs::remove_file(file).unwrap();
        }
        mails.sort();
        mails
    };
    service
        .delete(&caller, own.credential.id, None, None)
        .await
        .unwrap();
    assert_eq!(mails().await, Vec::<String>::new(), "they know");
    let reporter = Actor::Operator("leak report".into());
    let reason = Some("reported as leaked");
    let deleted = service
        .delete(&reporter, uma.credential.id, None, reason)
        .await;
    deleted.unwrap();
    // Again changes nothing.
    let again = service
        .delete(&reporter, uma.credential.id, None, reason)
        .await;
    again.unwrap();
    let mails = mails().await;
    let is_to = |name: &str| {
        let to = format!("To: {name}@example.org");
        mails.iter().filter(|mail| mail.contains(&to)).count()
    };
    assert_eq!((is_to("uma"), is_to("ada"), mails.len()), (1, 1, 2));
    for mail in &mails {
        assert!(mail.contains("leak report"), "{mail}");
        assert!(mail.contains("reported as leaked"), "{mail}");
    }
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn an_old_secret_does_not_outlive_the_new_one(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let issued = world.issue("uma@example.org").await;
    let regenerate = async |hours, overlap| {
        let how = Regeneration {
            lifetime: Lifetime::For(TimeDelta::hours(hours)),
            overlap: Some(overlap),
            ..Regeneration::default()
        };
        let id = issued.credential.id;
        world.service.regenerate(&operator(), id, None, &how).await
    };
    for overlap in [
        TimeDelta::hours(5) + TimeDelta::microseconds(1),
        TimeDelta::days(400),
        TimeDelta::MAX,
    ] {
        let refused = problem(regenerate(5, overlap).await);
        assert_eq!(refused.pointer, Some("/overlap"), "{refused}");
        assert!(refused.to_string().contains("at most 5h"), "{refused}");
    }
    assert!(world.works(&issued).await);
    let second = regenerate(5, TimeDelta::hours(5)).await.unwrap();
    assert!(world.works(&issued).await && world.works(&second).await);
    let third = regenerate(5, TimeDelta::zero()).await.unwrap();
    assert!(!world.works(&second).await && world.works(&third).await);
    // Never is not without an end for the old one.
    let terms = Terms {
        max_ttl: None,
        allow_never: true,
        ..Terms::default()
    };
    let World { store, fresh, .. } = world;
    let world = World::on(store, fresh, terms);
    let how = Regeneration {
        lifetime: Lifetime::Never,
        overlap: Some(TimeDelta::days(4000)),
        ..Regeneration::default()
    };
    let id = issued.credential.id;
    let refused = world.service.regenerate(&operator(), id, None, &how).await;
    assert!(problem(refused).to_string().contains("at most 3653d"));
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_token_has_at_most_fifty_networks(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let networks = |count: u8| {
        let networks = (0..count).map(|number| format!("10.{number}.0.0/16 "));
        networks.collect::<String>().parse().unwrap()
    };
    let new = |count| NewToken {
        networks: networks(count),
        ..new_token("uma@example.org")
    };
    let refused = world.service.issue(&operator(), &new(51)).await;
    assert_eq!(problem(refused).pointer, Some("/networks"));
    let issued = world.service.issue(&operator(), &new(50)).await.unwrap();
    let change = TokenChange {
        networks: Some(networks(51)),
        ..TokenChange::default()
    };
    let id = issued.credential.id;
    let refused = world.service.update(&operator(), id, None, &change).await;
    assert_eq!(problem(refused).pointer, Some("/networks"));
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn where_super_admins_alone_manage_an_owner_only_sees_the_token_that_asks(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db, Terms::default()).await;
    let token = world.issue("ada@example.org").await;
    let other = world.issue("ada@example.org").await;
    let World { store, fresh, .. } = world;
    let terms = Terms {
        issuers: WhoIssues::Super,
        ..Terms::default()
    };
    let world = World::on(store, fresh, terms);
    let caller = world.caller(&token).await;
    let service = &world.service;
    let (own, other) = (token.credential.id, other.credential.id);
    assert!(
        service
            .find_for(&caller, own, Operation::ReadToken)
            .await
            .is_ok()
    );
    let hidden = service.find_for(&caller, other, Operation::ReadToken).await;
    assert_eq!(problem(hidden).kind, ProblemKind::NotFound);
    let change = TokenChange {
        name: Some("mine".into()),
        ..TokenChange::default()
    };
    let how = Regeneration::default();
    let refused = [
        problem(service.update(&caller, own, None, &change).await),
        problem(service.set_enabled(&caller, own, None, false, None).await),
        problem(service.set_enabled(&caller, own, None, true, None).await),
        problem(service.delete(&caller, own, None, None).await),
        problem(service.regenerate(&caller, own, None, &how).await),
    ];
    for refused in refused {
        assert_eq!(refused.kind, ProblemKind::Forbidden);
        assert!(refused.detail.contains("super admins"), "{refused}");
    }
    assert!(world.works(&token).await);
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_token_begins_neither_in_the_past_nor_in_ten_years(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let issue = async |wait: TimeDelta| {
        let new = NewToken {
            not_before: Some(now() + wait),
            ..new_token("uma@example.org")
        };
        world.service.issue(&operator(), &new).await
    };
    let second = TimeDelta::seconds(1);
    for wait in [-TimeDelta::days(1) - second, TimeDelta::days(3653) + second] {
        assert_eq!(problem(issue(wait).await).pointer, Some("/not_before"));
    }
    // The present day, by whatever clock.
    let issued = issue(-TimeDelta::hours(20)).await.unwrap();
    assert!(world.works(&issued).await);
    let expected = Some(now() + TimeDelta::days(30));
    assert_eq!(issued.credential.expires_at, expected);
    let later = issue(TimeDelta::days(3653)).await.unwrap();
    assert!(!world.works(&later).await);
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_token_that_was_changed_meanwhile_is_neither_ended_nor_stopped(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db, Terms::default()).await;
    let issued = world.issue("uma@example.org").await;
    let (service, operator, id) = (&world.service, operator(), issued.credential.id);
    let seen = Some(issued.credential.version);
    let change = TokenChange {
        name: Some("renamed".into()),
        ..TokenChange::default()
    };
    let changed = service.update(&operator, id, seen, &change).await.unwrap();
    for refused in [
        service.delete(&operator, id, seen, None).await,
        service.set_enabled(&operator, id, seen, false, None).await,
        service.set_enabled(&operator, id, seen, true, None).await,
    ] {
        assert_eq!(problem(refused).kind, ProblemKind::Stale);
    }
    assert!(world.works(&issued).await);
    let seen = Some(changed.credential.version);
    service.delete(&operator, id, seen, None).await.unwrap();
    assert!(!world.works(&issued).await);
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn whoever_lost_access_is_not_sent_to_a_command_that_does_not_help(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db, Terms::default()).await;
    let issued = world.issue("uma@example.org").await;
    let at = "2026-11-20T09:00:00.000000+00:00";
    let lose =
        format!("UPDATE service_user SET lost_access_at = '{at}' WHERE key = 'uma@example.org'");
    world.fresh.execute(&lose).await.unwrap();
    let (service, operator) = (&world.service, operator());
    let user = "uma@example.org";
    let enabled = service.set_user_enabled(&operator, user, true, None);
    let (why, _) = stopped(&enabled.await.unwrap()).unwrap();
    assert_eq!(
        why,
        "a directory reports that the user uma@example.org lost access at 2026-11-20T09:00:00Z"
    );
    let new = new_token(user);
    let how = Regeneration::default();
    for refused in [
        service.issue(&operator, &new).await.map(drop),
        service
            .regenerate(&operator, issued.credential.id, None, &how)
            .await
            .map(drop),
    ] {
        let refused = problem(refused);
        assert!(refused.detail.starts_with(&why), "{refused:?}");
        let fix = "they work again once the directory reports the user as active";
        assert_eq!(refused.fix.as_deref(), Some(fix));
    }
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_change_of_nothing_is_none(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let issued = world.issue("uma@example.org").await;
    let (service, operator, id) = (&world.service, operator(), issued.credential.id);
    let before = world.audit().await;
    let nothing = TokenChange::default();
    let found = service.update(&operator, id, None, &nothing).await.unwrap();
    assert_eq!(found.credential.version, issued.credential.version);
    let uma = service.find_user(&operator, "uma@example.org").await;
    let nothing = UserChange::default();
    let same = service.change_user(&operator, "uma@example.org", None, &nothing);
    assert_eq!(same.await.unwrap(), uma.unwrap());
    assert_eq!(world.audit().await, before);
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn a_leaked_secret_has_no_overlap(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let issued = world.issue("uma@example.org").await;
    let how = Regeneration {
        overlap: Some(TimeDelta::hours(24)),
        is_leaked: true,
        ..Regeneration::default()
    };
    let id = issued.credential.id;
    let refused = world.service.regenerate(&operator(), id, None, &how).await;
    assert_eq!(problem(refused).pointer, Some("/overlap"));
    assert!(world.works(&issued).await);
    world.store.close().await;
}

#[rstest]
#[tokio::test]
async fn an_administrator_who_lost_access_is_not_notified(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db, Terms::default()).await;
    let lose = "UPDATE service_user SET lost_access_at = created_at WHERE key = 'ada@example.org'";
    world.fresh.execute(lose).await.unwrap();
    let change = UserChange {
        name: Some(Some("Uma".into())),
        ..UserChange::default()
    };
    let (service, operator) = (&world.service, operator());
    let changed = service.change_user(&operator, "uma@example.org", None, &change);
    changed.await.unwrap();
    let admins = "SELECT account || ' ' || address FROM source_admin";
    assert_eq!(world.fresh.texts(admins).await, [""; 0]);
    world.store.close().await;
}
