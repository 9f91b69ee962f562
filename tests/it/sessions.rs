//! Sessions of the portal and the links that open them, on both databases.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::TimeDelta;
use futures_util::future::join_all;
use lapsed::clock::Clock;
use lapsed::domain::service::{
    Access, Actor, NewUser, Presented, Profile, Refusal, RoleChange, Terms, UserChange,
};
use lapsed::service::Service;
use lapsed::service::sign_in::{LinkState, OneTimeText, SignIn};
use rstest::rstest;
use secrecy::ExposeSecret as _;

use crate::db::{Db, Fresh};
use crate::world::{self, now};
use Db::{Postgres, Sqlite};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const ANN: &str = "ann@example.org";

struct World {
    service: Arc<Service>,
    clock: Clock,
    fresh: Fresh,
}

fn operator() -> Actor {
    Actor::Operator("operator".into())
}

impl World {
    /// Ann is a viewer in acme and an administrator in other. A session lasts at most ten hours.
    async fn new(db: Db) -> Self {
        let (store, fresh) = db.store().await;
        let clock = Clock::manual(now());
        let policy = Arc::new(world::engine(&store, fresh.folder()).policy);
        let terms = Arc::new(Terms::from(Profile::Gcore));
        assert_eq!(terms.session_ttl, TimeDelta::hours(10));
        let service = Service::open(store, clock.clone(), terms, policy);
        for (account, role) in [("acme", "viewer"), ("other", "administrator")] {
            let operator = operator();
            service.add_account(&operator, account, None).await.unwrap();
            let change = UserChange {
                roles: vec![RoleChange::Give {
                    account: account.into(),
                    role: Some(role.into()),
                }],
                ..UserChange::default()
            };
            let user = NewUser::Person(ANN.parse().unwrap());
            service.add_user(&operator, &user, &change).await.unwrap();
        }
        Self {
            service,
            clock,
            fresh,
        }
    }

    async fn link(&self) -> OneTimeText {
        let made = self.service.make_sign_in_link(&operator(), ANN).await;
        made.unwrap()
    }

    async fn sign_in(&self) -> Presented {
        let link = self.link().await;
        let signed_in = self.service.sign_in_by_link(&link, None, None).await;
        let SignIn::Done(session) = signed_in.unwrap() else {
            panic!("Ann may sign in");
        };
        Presented::parse(session.secret.token.expose_secret()).unwrap()
    }

    async fn find(&self, session: &Presented) -> Option<Access> {
        self.service.find_session(session, HERE).await.unwrap()
    }

    async fn is_ended(&self, link: &OneTimeText) -> bool {
        let signed_in = self.service.sign_in_by_link(link, None, None).await;
        matches!(signed_in.unwrap(), SignIn::Ended)
    }
}

#[rstest]
#[tokio::test]
async fn a_session_ends_after_eight_hours_without_use(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let (used, unused) = (world.sign_in().await, world.sign_in().await);
    world.clock.advance(TimeDelta::hours(7));
    assert!(world.find(&used).await.is_some());
    world.service.flush().await.unwrap();
    world.clock.advance(TimeDelta::hours(1));
    assert!(world.find(&unused).await.is_none());
    assert!(world.find(&used).await.is_some());
    // In use, it still ends after `session_ttl`.
    world.service.flush().await.unwrap();
    world.clock.advance(TimeDelta::hours(2));
    assert!(world.find(&used).await.is_none());
}

#[rstest]
#[tokio::test]
async fn a_session_opens_no_api_and_ends_where_its_person_ends_it(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let world = World::new(db).await;
    let (here, there) = (world.sign_in().await, world.sign_in().await);
    let api = world.service.verify_for_api(&here, HERE).await.unwrap();
    assert_eq!(api.unwrap_err(), Refusal::WrongKind);
    let access = world.find(&here).await.unwrap();
    // In the account where she may do most.
    assert_eq!(access.credential.account.as_deref(), Some("other"));
    let actor = Actor::Caller(access.clone().into());
    let sessions = world.service.list_sessions(&actor).await.unwrap();
    assert_eq!(sessions.len(), 2);
    let other = sessions.iter().find(|it| it.id != access.credential.id);
    let other = other.unwrap().id;
    world.service.end_session(&actor, other).await.unwrap();
    assert!(world.find(&there).await.is_none());
    world.service.switch_account(&access, "acme").await.unwrap();
    let access = world.find(&here).await.unwrap();
    assert_eq!(access.credential.account.as_deref(), Some("acme"));
    assert!(access.administers().is_none());
    let nowhere = world.service.switch_account(&access, "third").await;
    assert!(nowhere.is_err());
}

#[rstest]
#[tokio::test]
async fn a_link_works_once_within_a_quarter_of_an_hour(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let (first, second) = (world.link().await, world.link().await);
    world.clock.advance(TimeDelta::minutes(14));
    let state = world.service.find_sign_in_link(&first, None).await.unwrap();
    assert_eq!(state, Some(LinkState::Ready));
    assert!(!world.is_ended(&first).await);
    assert!(world.is_ended(&first).await);
    world.clock.advance(TimeDelta::minutes(1));
    assert!(world.is_ended(&second).await);
}

/// Without `follow_directories`, too: nobody signs in who has lost access.
#[rstest]
#[tokio::test]
async fn whoever_lost_access_at_a_directory_is_out(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let (session, link) = (world.sign_in().await, world.link().await);
    let lost = format!(
        "INSERT INTO identity (directory, email_key, email, status, known_status, evidence)
         VALUES ('corp', '{ANN}', '{ANN}', 'disabled', 'disabled', 'disabled')"
    );
    world.fresh.execute(&lost).await.unwrap();
    assert!(world.find(&session).await.is_none());
    assert!(world.is_ended(&link).await);
    let browser = OneTimeText::generate();
    let address = ANN.parse().unwrap();
    let mailed = world.service.request_sign_in_link(&address, &browser).await;
    assert!(mailed.unwrap().is_none());
    let made = world.service.make_sign_in_link(&operator(), ANN).await;
    assert!(made.unwrap_err().to_string().contains("lost access"));
}

#[rstest]
#[tokio::test]
async fn three_links_an_hour_are_mailed(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let browser = OneTimeText::generate();
    let address = "Ann@Example.org".parse().unwrap();
    let ask = async || {
        let mailed = world.service.request_sign_in_link(&address, &browser).await;
        mailed.unwrap().is_some()
    };
    for expected in [true, true, true, false] {
        assert_eq!(ask().await, expected);
    }
    world.clock.advance(TimeDelta::hours(1));
    assert!(ask().await);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_and_guessed_at_once_is_counted(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let browser = OneTimeText::generate();
    let ask = async || {
        let address = ANN.parse().unwrap();
        let mailed = world.service.request_sign_in_link(&address, &browser).await;
        mailed.unwrap()
    };
    let mailed = join_all((0..12).map(|_| ask())).await;
    let mut mailed: Vec<_> = mailed.into_iter().flatten().collect();
    assert_eq!(mailed.len(), 3);
    let link = mailed.pop().unwrap().text;
    let wrong = if browser.number() == "000000" {
        "000001"
    } else {
        "000000"
    };
    let guess = async || {
        let guessed = world.service.sign_in_by_link(&link, None, Some(wrong));
        guessed.await.unwrap()
    };
    let guessed = join_all((0..12).map(|_| guess())).await;
    let judged = guessed
        .iter()
        .filter(|guessed| matches!(guessed, SignIn::WrongNumber));
    assert_eq!(judged.count(), 3, "{guessed:?}");
    world.service.store().close().await;
}
