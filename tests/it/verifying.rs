//! Verification on both databases: what comes from memory, when it must not, and what is written about uses.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lapsed::clock::Clock;
use lapsed::domain::TokenId;
use lapsed::domain::service::{
    Access, Actor, CredentialState, Kind, Lifetime, NewToken, NewUser, Presented, Refusal,
    Regeneration, RoleChange, Terms, UserChange,
};
use lapsed::service::issue::Issued;
use lapsed::service::{DerivedToken, Error, Exchanged, Feed, Grant, Mark, Service};
use lapsed::store::{Access as StoreAccess, Change, Store, TABLES};
use rstest::rstest;
use secrecy::ExposeSecret as _;
use tokio::task::yield_now;

use crate::db::{Db, Fresh};
use crate::secret_forms::secret_forms;
use crate::world::{self, now};
use Db::{Postgres, Sqlite};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
const USER: &str = "uma@example.org";

/// A service as another process has it, on the same database and clock.
struct Process {
    service: Arc<Service>,
    store: Store,
    feed: Feed,
    clock: Clock,
}

struct World {
    here: Process,
    fresh: Fresh,
}

fn operator() -> Actor {
    Actor::Operator("operator".into())
}

fn new_token() -> NewToken {
    NewToken {
        name: "ci-deploy".into(),
        description: None,
        user: Some(USER.into()),
        account: Some("acme".into()),
        role: None,
        scopes: "app:read".parse().unwrap(),
        kind: Kind::Api,
        lifetime: Lifetime::For(TimeDelta::days(30)),
        not_before: None,
        networks: "192.0.2.0/24".parse().unwrap(),
    }
}

fn presented(token: &lapsed::domain::service::NewSecret) -> Presented {
    Presented::parse(token.token.expose_secret()).unwrap()
}

impl Process {
    async fn open(fresh: &Fresh, clock: &Clock) -> Self {
        let store = fresh.open(StoreAccess::Create).await;
        let policy = Arc::new(world::engine(&store, fresh.folder()).policy);
        let terms = Arc::new(Terms::default());
        let service = Service::open(store.clone(), clock.clone(), terms, policy);
        let feed = service.feed(None).await.unwrap();
        let clock = clock.clone();
        Self {
            service,
            store,
            feed,
            clock,
        }
    }

    /// Fresh until a second has passed.
    async fn poll(&mut self) {
        self.feed.poll().await.unwrap();
    }

    async fn verify_from(&self, token: &Presented, address: IpAddr) -> Result<Access, Refusal> {
        self.service.verify(token, address).await.unwrap()
    }

    async fn verify(&self, token: &Presented) -> Result<Access, Refusal> {
        self.verify_from(token, HERE).await
    }

    async fn refusal(&self, token: &Presented) -> Option<Refusal> {
        self.verify(token).await.err()
    }

    /// Verifies it twice, and makes sure that the second time it comes from memory.
    async fn warm(&mut self, token: &Presented) {
        self.poll().await;
        self.verify(token).await.unwrap();
        let hits = self.service.counts().hits;
        self.verify(token).await.unwrap();
        assert_eq!(self.service.counts().hits, hits + 1);
    }

    async fn issue(&self) -> Issued {
        self.issue_as(new_token()).await
    }

    async fn issue_as(&self, new: NewToken) -> Issued {
        self.service.issue(&operator(), &new).await.unwrap()
    }

    async fn delete(&self, id: TokenId) {
        self.service
            .delete(&operator(), id, None, None)
            .await
            .unwrap();
    }

    async fn enable(&self, id: TokenId, is_enabled: bool) {
        let actor = operator();
        let enabled = self.service.set_enabled(&actor, id, None, is_enabled, None);
        enabled.await.unwrap();
    }

    async fn set_enabled(&self, is_enabled: bool) {
        let actor = operator();
        let enabled = self
            .service
            .set_user_enabled(&actor, USER, is_enabled, None);
        enabled.await.unwrap();
    }

    async fn regenerate(&self, id: TokenId, overlap: TimeDelta) -> Issued {
        let how = Regeneration {
            overlap: Some(overlap),
            ..Regeneration::default()
        };
        self.service
            .regenerate(&operator(), id, None, &how)
            .await
            .unwrap()
    }
}

impl World {
    async fn new(db: Db) -> Self {
        Self::with_clock(db, Clock::manual(now())).await
    }

    async fn with_clock(db: Db, clock: Clock) -> Self {
        let (_, fresh) = db.store().await;
        let here = Process::open(&fresh, &clock).await;
        here.service
            .add_account(&operator(), "Acme", None)
            .await
            .unwrap();
        let role = RoleChange::Give {
            account: "acme".into(),
            role: None,
        };
        let change = UserChange {
            roles: vec![role],
            ..UserChange::default()
        };
        let user = NewUser::Person(USER.parse().unwrap());
        here.service
            .add_user(&operator(), &user, &change)
            .await
            .unwrap();
        Self { here, fresh }
    }

    async fn other_process(&self) -> Process {
        Process::open(&self.fresh, &self.here.clock).await
    }
}

#[rstest]
#[tokio::test]
async fn every_refusal_reads_the_store_whether_or_not_memory_has_the_token(
    #[values(Sqlite, Postgres)] db: Db,
    #[values(false, true)] is_warm: bool,
) {
    let mut world = World::new(db).await;
    let here = &mut world.here;
    let issued = here.issue().await;
    let token = presented(&issued.secret);
    if is_warm {
        here.warm(&token).await;
    }
    let (foreign, other) = (here.issue().await, here.issue().await);
    let wrong = Presented {
        id: token.id.clone(),
        ..presented(&foreign.secret)
    };
    assert_eq!(here.refusal(&wrong).await, Some(Refusal::WrongSecret));
    let network = here.verify_from(&token, THERE).await.err();
    assert_eq!(network, Some(Refusal::WrongNetwork));
    let unknown = lapsed::domain::service::PublicId::generate();
    let unknown = lapsed::domain::service::NewSecret::generate("lapsed", &unknown);
    let unknown = presented(&unknown);
    assert_eq!(here.refusal(&unknown).await, Some(Refusal::Unknown));
    let other_token = presented(&other.secret);
    here.enable(other.credential.id, false).await;
    assert_eq!(here.refusal(&other_token).await, Some(Refusal::Disabled));
    here.enable(other.credential.id, true).await;
    assert!(here.verify(&other_token).await.is_ok());
    here.delete(other.credential.id).await;
    assert_eq!(here.refusal(&other_token).await, Some(Refusal::Revoked));
    here.clock.advance(TimeDelta::days(30));
    assert_eq!(here.refusal(&token).await, Some(Refusal::Expired));
    let counts = here.service.counts();
    assert_eq!(counts.hits, u64::from(is_warm));
    let refused: u64 = counts.refused.iter().map(|(_, count)| count).sum();
    assert_eq!(refused, 6);
}

#[rstest]
#[tokio::test]
async fn what_this_process_ends_is_refused_at_the_next_request(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db).await;
    let here = &mut world.here;
    let issued = here.issue().await;
    let (id, token) = (issued.credential.id, presented(&issued.secret));
    here.warm(&token).await;
    here.set_enabled(false).await;
    assert_eq!(here.refusal(&token).await, Some(Refusal::IssuerDisabled));
    here.set_enabled(true).await;
    here.warm(&token).await;
    here.delete(id).await;
    assert_eq!(here.refusal(&token).await, Some(Refusal::Revoked));
}

#[rstest]
#[tokio::test]
async fn what_another_process_ends_is_refused_after_a_poll_or_a_second(
    #[values(Sqlite, Postgres)] db: Db,
    #[values(false, true)] polls: bool,
) {
    let mut world = World::new(db).await;
    let other = world.other_process().await;
    let here = &mut world.here;
    let (first, second) = (here.issue().await, here.issue().await);
    let tokens = [presented(&first.secret), presented(&second.secret)];
    for token in &tokens {
        here.warm(token).await;
    }
    other.delete(first.credential.id).await;
    // Memory may be used for a second after a poll: this shows that it is.
    assert!(here.verify(&tokens[0]).await.is_ok());
    other.set_enabled(false).await;
    if polls {
        here.poll().await;
    } else {
        here.clock.advance(TimeDelta::seconds(1));
    }
    assert_eq!(here.refusal(&tokens[0]).await, Some(Refusal::Revoked));
    assert_eq!(
        here.refusal(&tokens[1]).await,
        Some(Refusal::IssuerDisabled)
    );
    other.set_enabled(true).await;
    assert!(here.verify(&tokens[1]).await.is_ok());
}

#[tokio::test]
async fn a_change_that_is_committed_late_under_a_smaller_number_is_seen() {
    let mut world = World::new(Postgres).await;
    let other = world.other_process().await;
    let here = &mut world.here;
    let (late, early) = (here.issue().await, here.issue().await);
    let (late_token, early_token) = (presented(&late.secret), presented(&early.secret));
    here.warm(&late_token).await;
    here.warm(&early_token).await;
    let mut tx = other.store.begin().await.unwrap();
    tx.record_change(&Change::Credential(late.credential.id))
        .await
        .unwrap();
    other.delete(early.credential.id).await;
    here.poll().await;
    let hits = here.service.counts().hits;
    assert_eq!(here.refusal(&early_token).await, Some(Refusal::Revoked));
    assert!(here.verify(&late_token).await.is_ok());
    assert_eq!(here.service.counts().hits, hits + 1);
    tx.commit().await.unwrap();
    here.poll().await;
    assert!(here.verify(&late_token).await.is_ok());
    // It was read again.
    assert_eq!(here.service.counts().hits, hits + 1);
}

#[rstest]
#[tokio::test]
async fn after_more_changes_than_are_looked_at_everything_is_read_again(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db).await;
    let other = world.other_process().await;
    let here = &mut world.here;
    let issued = here.issue().await;
    let token = presented(&issued.secret);
    here.warm(&token).await;
    other.delete(issued.credential.id).await;
    let mut tx = other.store.begin().await.unwrap();
    for _ in 0..10_001 {
        tx.record_change(&Change::User("nobody".into()))
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    here.poll().await;
    assert_eq!(here.refusal(&token).await, Some(Refusal::Revoked));
}

#[rstest]
#[tokio::test]
async fn deadlines_are_exact_to_the_millisecond_also_in_memory(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db).await;
    let here = &mut world.here;
    let millisecond = TimeDelta::milliseconds(1);
    let issued = here.issue().await;
    let (id, old) = (issued.credential.id, presented(&issued.secret));
    let new = here.regenerate(id, TimeDelta::hours(1)).await;
    let new = presented(&new.secret);
    here.clock.advance(TimeDelta::hours(1) - millisecond);
    here.warm(&old).await;
    here.clock.advance(millisecond);
    assert_eq!(here.refusal(&old).await, Some(Refusal::Replaced));
    assert!(here.verify(&new).await.is_ok());

    let expires_at = here.clock.now() + TimeDelta::days(1);
    let expiring = here.issue_as(NewToken {
        lifetime: Lifetime::Until(expires_at),
        not_before: Some(here.clock.now() + TimeDelta::minutes(1)),
        ..new_token()
    });
    let expiring = presented(&expiring.await.secret);
    here.clock.advance(TimeDelta::minutes(1) - millisecond);
    here.poll().await;
    assert_eq!(here.refusal(&expiring).await, Some(Refusal::NotYetValid));
    here.clock.advance(millisecond);
    assert!(here.verify(&expiring).await.is_ok());
    here.clock
        .advance(TimeDelta::days(1) - TimeDelta::minutes(1) - millisecond);
    here.warm(&expiring).await;
    here.clock.advance(millisecond);
    assert_eq!(here.refusal(&expiring).await, Some(Refusal::Expired));
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_verification_that_begins_after_an_end_accepts(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db).await;
    let here = &mut world.here;
    for round in 0..20 {
        let issued = here.issue().await;
        let (id, token) = (issued.credential.id, presented(&issued.secret));
        here.poll().await;
        let busy = (0..4).map(|_| {
            let (service, token) = (Arc::clone(&here.service), token.clone());
            tokio::spawn(async move {
                while service.verify(&token, HERE).await.unwrap().is_ok() {
                    // What comes from memory never waits by itself.
                    yield_now().await;
                }
            })
        });
        let busy: Vec<_> = busy.collect();
        while here.service.verify(&token, HERE).await.unwrap().is_err() {}
        let refusal = if round % 2 == 0 {
            here.delete(id).await;
            Refusal::Revoked
        } else {
            here.set_enabled(false).await;
            Refusal::IssuerDisabled
        };
        for _ in 0..20 {
            assert_eq!(here.refusal(&token).await, Some(refusal));
        }
        for task in busy {
            task.await.unwrap();
        }
        here.set_enabled(true).await;
    }
}

#[rstest]
#[tokio::test]
async fn uses_are_written_once_for_each_token_and_keep_the_latest(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db).await;
    let here = &mut world.here;
    let issued = here.issue().await;
    let (id, token) = (issued.credential.id, presented(&issued.secret));
    here.warm(&token).await;
    here.verify_from(&token, THERE).await.unwrap_err();
    here.service.examine(&token, HERE).await.unwrap().unwrap();
    let new = here.regenerate(id, TimeDelta::hours(2)).await;
    here.clock.advance(TimeDelta::hours(1));
    here.verify(&presented(&new.secret)).await.unwrap();
    let last = here.clock.now();
    here.service.flush().await.unwrap();
    here.service.flush().await.unwrap();

    let mut tx = here.store.begin_read().await.unwrap();
    let uses = tx.load_uses(id).await.unwrap();
    let hours: Vec<_> = uses
        .hours
        .iter()
        .map(|hour| (hour.ok, hour.refused))
        .collect();
    assert_eq!(hours, [(2, 1), (1, 0)]);
    let addresses: Vec<_> = uses
        .addresses
        .iter()
        .map(|it| (it.address, it.is_refused))
        .collect();
    assert_eq!(addresses, [(HERE, false), (THERE, true)]);
    let credential = tx.find_credentials(&[id]).await.unwrap().remove(0);
    assert_eq!(credential.secret.last_used_at, Some(last));
    let old = credential.old_secret.unwrap();
    assert_eq!(old.secret.last_used_at, Some(now()));
    let watched = tx.load_tokens(&[id]).await.unwrap().remove(0);
    assert_eq!(watched.last_used_at, Some(last));
}

fn tokens(exchanged: &Exchanged) -> (&DerivedToken, &DerivedToken) {
    (&exchanged.access, exchanged.refresh.as_ref().unwrap())
}

#[rstest]
#[tokio::test]
async fn exchanged_tokens_work_while_their_parents_do(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db).await;
    let here = &mut world.here;
    let issued = here.issue().await;
    here.poll().await;
    let caller = here.verify(&presented(&issued.secret)).await.unwrap();
    let exchange = async |grant, caller: &Access| here.service.exchange(grant, caller).await;
    let exchanged = exchange(Grant::ClientCredentials, &caller).await.unwrap();
    let (access, refresh) = tokens(&exchanged);
    let hour = here.clock.now() + TimeDelta::hours(1);
    assert_eq!(access.credential.expires_at, Some(hour));
    assert_eq!(
        refresh.credential.expires_at,
        Some(hour + TimeDelta::hours(23))
    );

    let (access, refresh) = (presented(&access.secret), presented(&refresh.secret));
    let used = here.verify(&access).await.unwrap();
    assert_eq!(used.credential.scopes.to_string(), "app:read");
    assert_eq!(used.credential.kind, Kind::Access);
    assert_eq!(
        here.verify_from(&access, THERE).await.err(),
        Some(Refusal::WrongNetwork)
    );
    let refused = exchange(Grant::ClientCredentials, &used).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused}");
    let refused = exchange(Grant::RefreshToken, &caller).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused}");

    let again = here.verify(&refresh).await.unwrap();
    let renewed = exchange(Grant::RefreshToken, &again).await.unwrap();
    assert!(renewed.refresh.is_none());
    let renewed = presented(&renewed.access.secret);
    for token in [&access, &renewed] {
        here.verify(token).await.unwrap();
    }
    here.service
        .delete(&operator(), issued.credential.id, None, None)
        .await
        .unwrap();
    for token in [&access, &refresh, &renewed] {
        assert_eq!(here.refusal(token).await, Some(Refusal::Revoked));
    }
}

#[rstest]
#[tokio::test]
async fn uses_of_exchanged_tokens_are_uses_of_the_token_and_their_expiry_is_capped(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db).await;
    let here = &mut world.here;
    let expires_at = here.clock.now() + TimeDelta::minutes(90);
    let issued = here.issue_as(NewToken {
        lifetime: Lifetime::Until(expires_at),
        ..new_token()
    });
    let issued = issued.await;
    let id = issued.credential.id;
    here.poll().await;
    let caller = here.verify(&presented(&issued.secret)).await.unwrap();
    let exchanged = here
        .service
        .exchange(Grant::ClientCredentials, &caller)
        .await
        .unwrap();
    let (access, refresh) = tokens(&exchanged);
    assert_eq!(refresh.credential.expires_at, Some(expires_at));
    let access = presented(&access.secret);
    here.clock.advance(TimeDelta::minutes(59));
    let last = here.clock.now();
    here.verify(&access).await.unwrap();
    here.clock.advance(TimeDelta::minutes(1));
    assert_eq!(here.refusal(&access).await, Some(Refusal::Expired));
    here.service.flush().await.unwrap();
    let mut tx = here.store.begin_read().await.unwrap();
    let watched = tx.load_tokens(&[id]).await.unwrap().remove(0);
    assert_eq!(watched.last_used_at, Some(last));
    let refused = tx.load_uses(id).await.unwrap().hours;
    assert_eq!(refused.iter().map(|hour| hour.refused).sum::<i64>(), 0);
}

/// A copy of the file as it is, which is then put back in its place.
fn copy_of(fresh: &Fresh) -> PathBuf {
    fresh.folder().join("copy.db")
}

#[tokio::test]
async fn a_restored_store_verifies_nothing_until_it_is_resumed() {
    let world = World::new(Sqlite).await;
    let (here, fresh) = (&world.here, &world.fresh);
    let issued = here.issue().await;
    let (id, token) = (issued.credential.id, presented(&issued.secret));
    let other = here.issue().await;
    let mark = Mark::find(&here.store, None).unwrap();
    let mut feed = here.service.feed(Some(mark.clone())).await.unwrap();
    feed.poll().await.unwrap();
    here.store.backup(&copy_of(fresh)).await.unwrap();
    let backed_up_at: DateTime<Utc> = here.clock.now();
    here.clock.advance(TimeDelta::hours(1));
    here.delete(id).await;
    feed.poll().await.unwrap();
    drop(feed);

    // The store is as it was before the revocation.
    let restored = Fresh::in_file(&copy_of(fresh));
    let mut restored = Process::open(&restored, &here.clock).await;
    assert!(restored.verify(&token).await.is_ok());
    restored.feed = restored.service.feed(Some(mark.clone())).await.unwrap();
    restored.poll().await;
    assert!(!restored.service.is_open());
    let closed = restored.service.verify(&token, HERE).await;
    assert!(matches!(closed, Err(Error::Closed)));

    let too_early = backed_up_at - TimeDelta::days(1);
    let resume = async |since| {
        restored
            .service
            .resume(&operator(), since, Some(&mark))
            .await
    };
    let refused = resume(Some(too_early)).await.unwrap_err();
    assert!(
        refused.to_string().contains("this machine remembers"),
        "{refused}"
    );
    let resumed = resume(Some(backed_up_at + TimeDelta::minutes(1)))
        .await
        .unwrap();
    assert_eq!(resumed.revoked, 1);
    restored.poll().await;
    assert!(restored.service.is_open());
    assert_eq!(restored.refusal(&token).await, Some(Refusal::Revoked));
    assert!(restored.verify(&presented(&other.secret)).await.is_ok());

    // From now on, its mark is that of the restored store.
    restored.poll().await;
    let again = Process::open(&Fresh::in_file(&copy_of(fresh)), &here.clock).await;
    again.service.feed(Some(mark)).await.unwrap();
    assert!(again.service.is_open());
}

#[rstest]
#[tokio::test]
async fn a_store_with_the_mark_is_verified_after_a_restart(#[values(Sqlite, Postgres)] db: Db) {
    let world = World::new(db).await;
    let (here, folder) = (&world.here, world.fresh.folder());
    let issued = here.issue().await;
    let mark = Mark::find(&here.store, Some(folder)).unwrap();
    for _ in 0..2 {
        let mut feed = here.service.feed(Some(mark.clone())).await.unwrap();
        feed.poll().await.unwrap();
        assert!(here.service.is_open());
        assert!(here.verify(&presented(&issued.secret)).await.is_ok());
    }
    let last = mark.find_last().unwrap().unwrap();
    let mut tx = here.store.begin_read().await.unwrap();
    assert_eq!(tx.last_change_id().await.unwrap(), last.id);
}

/// Everything that the database has, with its log and a backup.
async fn dump(world: &World) -> Vec<u8> {
    if world.fresh.db == Postgres {
        let mut dump = String::new();
        for table in TABLES {
            let rows = format!("SELECT t::text FROM {table} AS t");
            dump += &world.fresh.texts(&rows).await.concat();
        }
        return dump.into_bytes();
    }
    world
        .here
        .store
        .backup(&copy_of(&world.fresh))
        .await
        .unwrap();
    let files = std::fs::read_dir(world.fresh.folder()).unwrap();
    let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    files.collect::<Vec<_>>().concat()
}

#[rstest]
#[tokio::test]
async fn neither_store_nor_backup_has_a_secret_or_half_of_it(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db).await;
    let here = &mut world.here;
    let issued = here.issue().await;
    let id = issued.credential.id;
    let renewed = here.regenerate(id, TimeDelta::hours(1)).await;
    here.poll().await;
    let caller = here.verify(&presented(&renewed.secret)).await.unwrap();
    let grant = Grant::ClientCredentials;
    let exchanged = here.service.exchange(grant, &caller).await.unwrap();
    let (access, refresh) = tokens(&exchanged);
    let secrets = [
        &issued.secret,
        &renewed.secret,
        &access.secret,
        &refresh.secret,
    ];
    for secret in secrets {
        here.verify(&presented(secret)).await.unwrap();
        here.verify_from(&presented(secret), THERE)
            .await
            .unwrap_err();
    }
    here.service.flush().await.unwrap();
    let dump = dump(&world).await;
    let has = |text: &str| dump.windows(text.len()).any(|part| part == text.as_bytes());
    // It would be found.
    assert!(has(issued.credential.public_id.as_str()));
    for secret in secrets {
        for form in secret_forms(secret.secret_key.expose_secret()) {
            assert!(!has(&form), "the store has a secret as {form}");
        }
    }
}

/// How a store loses changes while it is followed.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// It is as it was before.
    Behind,
    /// Another server took over, and has gone on since.
    Overtaken,
    /// It has gone on by more than is looked at.
    FarAhead,
    /// Another change has the same number.
    Replaced,
}

#[rstest]
#[tokio::test]
async fn a_store_that_loses_changes_verifies_nothing_until_it_is_resumed(
    #[values(Sqlite, Postgres)] db: Db,
    #[values(Loss::Behind, Loss::Overtaken, Loss::FarAhead, Loss::Replaced)] loss: Loss,
) {
    let mut world = World::new(db).await;
    let other = world.other_process().await;
    let here = &mut world.here;
    let issued = here.issue().await;
    let token = presented(&issued.secret);
    here.warm(&token).await;
    other.set_enabled(false).await;
    other.set_enabled(true).await;
    here.warm(&token).await;
    let mut tx = here.store.begin_read().await.unwrap();
    let last = tx.last_change_id().await.unwrap();
    drop(tx);
    let more = match loss {
        Loss::Behind => 0,
        Loss::Overtaken => 5,
        Loss::FarAhead => 10_001,
        Loss::Replaced => 1,
    };
    let lost = format!("DELETE FROM change WHERE id >= {last}");
    world.fresh.execute(&lost).await.unwrap();
    let first = last + i64::from(!matches!(loss, Loss::Replaced));
    let next = format!(
        "INSERT INTO change (id, kind, key) SELECT {first} + n, 'everything', '' FROM
         (WITH RECURSIVE counted (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counted WHERE n < {more})
          SELECT n FROM counted) AS numbers WHERE n < {more}"
    );
    world.fresh.execute(&next).await.unwrap();
    if matches!(loss, Loss::Replaced) {
        // Only a new connection to another server can show this.
        let broken = "ALTER TABLE change RENAME TO change_away";
        world.fresh.execute(broken).await.unwrap();
        here.feed.poll().await.unwrap_err();
        let whole = "ALTER TABLE change_away RENAME TO change";
        world.fresh.execute(whole).await.unwrap();
    }
    here.poll().await;
    assert!(!here.service.is_open());
    let closed = here.service.verify(&token, HERE).await;
    assert!(matches!(closed, Err(Error::Closed)));
    // What comes later decides nothing.
    other.set_enabled(true).await;
    here.poll().await;
    assert!(!here.service.is_open());
    other.service.resume(&operator(), None, None).await.unwrap();
    here.poll().await;
    assert!(here.service.is_open());
    here.warm(&token).await;
    here.poll().await;
    assert!(here.service.is_open());
}

#[rstest]
#[tokio::test]
async fn what_is_committed_is_forgotten_though_the_request_is_given_up(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db).await;
    let here = &mut world.here;
    let issued = here.issue().await;
    let (id, token) = (issued.credential.id, presented(&issued.secret));
    here.warm(&token).await;
    let mut tx = here.store.begin_short().await.unwrap();
    let mut credential = tx.lock_credential(id).await.unwrap().unwrap();
    credential.state = CredentialState::Revoked;
    tx.save_credential(&credential).await.unwrap();
    let change = [Change::Credential(id)];
    // It is asked once, and dropped.
    let commit = tokio::time::timeout(Duration::ZERO, here.service.commit(tx, &change));
    let _ = commit.await;
    let hits = here.service.counts().hits;
    here.service.verify(&token, HERE).await.unwrap().ok();
    assert_eq!(here.service.counts().hits, hits, "it was read again");
}

#[rstest]
#[tokio::test]
async fn uses_of_three_secrets_between_two_writes_are_of_the_right_ones(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db).await;
    let here = &mut world.here;
    let issued = here.issue().await;
    let id = issued.credential.id;
    here.poll().await;
    let minute = TimeDelta::minutes(1);
    let caller = here.verify(&presented(&issued.secret)).await.unwrap();
    let exchanged = here
        .service
        .exchange(Grant::ClientCredentials, &caller)
        .await
        .unwrap();
    here.verify(&presented(&exchanged.access.secret))
        .await
        .unwrap();
    let mut used = Vec::new();
    for _ in 0..2 {
        here.clock.advance(minute);
        let next = here.regenerate(id, TimeDelta::hours(1)).await;
        here.verify(&presented(&next.secret)).await.unwrap();
        used.push(Some(here.clock.now()));
    }
    here.service.flush().await.unwrap();
    let mut tx = here.store.begin_read().await.unwrap();
    let credential = tx.find_credentials(&[id]).await.unwrap().remove(0);
    let old = credential.old_secret.unwrap().secret;
    assert_eq!((old.number, credential.secret.number), (2, 3));
    let found = [old.last_used_at, credential.secret.last_used_at];
    assert_eq!(found, used[..]);
}

#[rstest]
#[tokio::test]
async fn a_token_of_a_kind_that_is_not_accepted_is_read_and_not_used(
    #[values(Sqlite, Postgres)] db: Db,
) {
    let mut world = World::new(db).await;
    let here = &mut world.here;
    let issued = here.issue().await;
    here.poll().await;
    let caller = here.verify(&presented(&issued.secret)).await.unwrap();
    let grant = Grant::ClientCredentials;
    let exchanged = here.service.exchange(grant, &caller).await.unwrap();
    let (access, refresh) = tokens(&exchanged);
    let refresh = presented(&refresh.secret);
    here.service.flush().await.unwrap();
    here.warm(&refresh).await;
    let mut counts = here.service.counts();
    let refused = here.service.verify_for_api(&refresh, HERE).await.unwrap();
    assert_eq!(refused.err(), Some(Refusal::WrongKind));
    assert_eq!(here.service.counts().hits, counts.hits, "it is read");
    for token in [&access.secret, &issued.secret] {
        let accepted = here.service.verify_for_api(&presented(token), HERE).await;
        assert!(accepted.unwrap().is_ok());
    }
    let uses = async || {
        here.service.flush().await.unwrap();
        let mut tx = here.store.begin_read().await.unwrap();
        let uses = tx.load_uses(issued.credential.id).await.unwrap().hours;
        (uses[0].ok, uses[0].refused)
    };
    assert_eq!(uses().await, (5, 0));
    here.service
        .verify_for_api(&refresh, HERE)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(uses().await, (5, 0));
    counts = here.service.counts();
    let of_kind = counts
        .refused
        .iter()
        .find(|(refusal, _)| *refusal == Refusal::WrongKind);
    assert_eq!(of_kind.map(|(_, count)| *count), Some(2));
}

#[rstest]
#[tokio::test]
async fn a_new_exchanged_token_ends_the_oldest_of_too_many(#[values(Sqlite, Postgres)] db: Db) {
    let mut world = World::new(db).await;
    let here = &mut world.here;
    let issued = here.issue().await;
    here.poll().await;
    let caller = here.verify(&presented(&issued.secret)).await.unwrap();
    let (service, clock) = (Arc::clone(&here.service), here.clock.clone());
    let exchange = async |grant, caller: &Access| {
        clock.advance(TimeDelta::milliseconds(1));
        service.exchange(grant, caller).await.unwrap()
    };
    let first = exchange(Grant::ClientCredentials, &caller).await;
    let (access, refresh) = tokens(&first);
    let refresh = presented(&refresh.secret);
    let caller_of_refresh = here.verify(&refresh).await.unwrap();
    let mut renewed = Vec::new();
    for _ in 0..100 {
        let exchanged = exchange(Grant::RefreshToken, &caller_of_refresh).await;
        renewed.push(presented(&exchanged.access.secret));
    }
    here.poll().await;
    // That of the first exchange was the oldest of this refresh token.
    let access = presented(&access.secret);
    assert_eq!(here.refusal(&access).await, Some(Refusal::Unknown));
    for token in &renewed {
        here.verify(token).await.unwrap();
    }
    // In memory, too.
    exchange(Grant::RefreshToken, &caller_of_refresh).await;
    assert_eq!(here.refusal(&renewed[0]).await, Some(Refusal::Unknown));
    here.verify(&renewed[1]).await.unwrap();

    let mut tx = here.store.begin().await.unwrap();
    for _ in 0..999 {
        let public_id = lapsed::domain::service::PublicId::generate();
        let more = lapsed::domain::service::Credential {
            id: TokenId::new("local", public_id.as_str()),
            public_id,
            created_at: here.clock.now(),
            ..first.refresh.as_ref().unwrap().credential.clone()
        };
        tx.insert_credential(&more).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert!(here.verify(&refresh).await.is_ok());
    exchange(Grant::ClientCredentials, &caller).await;
    for token in [&refresh, &renewed[1]] {
        assert_eq!(here.refusal(token).await, Some(Refusal::Unknown));
    }
    assert!(here.verify(&presented(&issued.secret)).await.is_ok());
}
