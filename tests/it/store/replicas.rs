//! Replicas, and the lease of the one that sweeps.

use chrono::TimeDelta;
use lapsed::domain::Replica;
use lapsed::store::{Holder, Store};
use rstest::rstest;
use uuid::Uuid;

use super::{days, fresh_id, holder, minutes, now, read, write};
use crate::db::Db;
use Db::{Postgres, Sqlite};

fn replica(host: &str) -> Replica {
    Replica {
        id: fresh_id(),
        host: host.to_owned(),
        version: "0.1.0".to_owned(),
        configuration: "0123456789ab".to_owned(),
        started_at: minutes(-5),
        seen_at: now(),
    }
}

#[rstest]
#[tokio::test]
async fn a_replica_is_listed_until_it_stops(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let (b, a) = (replica("b"), replica("a"));
    write!(store, tx => tx.save_replica(&b));
    write!(store, tx => tx.save_replica(&a));
    let later = Replica {
        seen_at: minutes(1),
        ..b.clone()
    };
    write!(store, tx => tx.save_replica(&later));
    assert_eq!(
        read!(store, tx => tx.list_replicas()),
        [a.clone(), later],
        "in order of host, and seen again"
    );
    write!(store, tx => tx.delete_replica(b.id));
    assert_eq!(read!(store, tx => tx.list_replicas()), [a]);
}

#[rstest]
#[tokio::test]
async fn replicas_not_seen_for_a_day_are_purged(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let seen = |host, seen_at| Replica {
        seen_at,
        ..replica(host)
    };
    let second = TimeDelta::seconds(1);
    for row in [
        seen("a-day", days(-1)),
        seen("longer", days(-1) - second),
        seen("by-a-clock-ahead", days(1) + second),
    ] {
        write!(store, tx => tx.save_replica(&row));
    }
    assert_eq!(write!(store, tx => tx.purge_replicas(days(-1), days(1))), 2);
    let kept = read!(store, tx => tx.list_replicas());
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].host, "a-day");
}

async fn take(store: &Store, lease: Holder) {
    let until = minutes(9);
    assert!(write!(store, tx => tx.take_lease("sweep", lease, now(), until)));
}

async fn changes(store: &Store) -> (Uuid, i64) {
    let lease = read!(store, tx => tx.find_lease("sweep")).unwrap();
    (lease.holder, lease.changes)
}

#[rstest]
#[tokio::test]
async fn a_lease_knows_its_last_holder_and_counts_others(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    assert!(read!(store, tx => tx.find_lease("sweep")).is_none());
    let (one, two) = (holder(minutes(1)), holder(minutes(1)));
    take(&store, one).await;
    take(&store, one).await;
    assert_eq!(changes(&store).await, (one.id, 0), "renewed");
    write!(store, tx => tx.release_lease("sweep", one.id));
    assert_eq!(changes(&store).await, (one.id, 0), "given back");
    take(&store, one).await;
    write!(store, tx => tx.release_lease("sweep", one.id));
    take(&store, two).await;
    assert_eq!(changes(&store).await, (two.id, 1));
}

#[rstest]
#[tokio::test]
async fn only_the_holder_of_a_lease_can_lock_it(#[values(Sqlite, Postgres)] db: Db) {
    let (store, _fresh) = db.store().await;
    let (one, two) = (holder(minutes(1)), holder(minutes(1)));
    assert!(!write!(store, tx => tx.lock_lease("sweep", one.id)), "gone");
    take(&store, one).await;
    assert!(write!(store, tx => tx.lock_lease("sweep", one.id)));
    assert!(!write!(store, tx => tx.lock_lease("sweep", two.id)));
}

#[tokio::test]
async fn a_locked_lease_is_not_taken_before_the_transaction_ends() {
    let (store, fresh) = Postgres.store().await;
    let one = holder(minutes(1));
    take(&store, one).await;
    let mut page = store.begin().await.unwrap();
    assert!(page.lock_lease("sweep", one.id).await.unwrap());
    let take_over = "SET lock_timeout = '100ms'; UPDATE lease SET holder = gen_random_uuid()";
    assert!(fresh.execute(take_over).await.is_err());
    page.commit().await.unwrap();
    fresh.execute(take_over).await.unwrap();
    assert!(!write!(store, tx => tx.lock_lease("sweep", one.id)));
}
