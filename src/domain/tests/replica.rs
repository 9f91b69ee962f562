//! Which replicas are live, and what follows from that.

use chrono::{DateTime, TimeDelta, Utc};
use rstest::rstest;
use uuid::Uuid;

use crate::domain::{Replica, share_of_rate};

fn now() -> DateTime<Utc> {
    "2026-11-21T09:00:00Z".parse().unwrap()
}

fn replica(id: u128, seen_seconds_ago: i64) -> Replica {
    Replica {
        id: Uuid::from_u128(id),
        host: format!("lapsed-{id}"),
        version: "0.1.0".to_owned(),
        configuration: "0123456789ab".to_owned(),
        started_at: now() - TimeDelta::days(1),
        seen_at: now() - TimeDelta::seconds(seen_seconds_ago),
    }
}

#[rstest]
#[case::just_now(0, true)]
#[case::at_the_limit(180, true)]
#[case::too_long_ago(181, false)]
#[case::by_a_clock_ahead(-180, true)]
#[case::by_a_wrong_clock(-181, false)]
fn a_replica_is_live_for_three_minutes(#[case] seen_seconds_ago: i64, #[case] is_live: bool) {
    assert_eq!(replica(1, seen_seconds_ago).is_live(now()), is_live);
}

#[rstest]
#[case::alone(&[replica(1, 0)], 6.0)]
#[case::not_listed_yet(&[], 6.0)]
#[case::two(&[replica(1, 0), replica(2, 60)], 3.0)]
#[case::not_seen_itself_for_long(&[replica(1, 999), replica(2, 60)], 3.0)]
#[case::one_is_gone(&[replica(1, 0), replica(2, 999)], 6.0)]
#[case::a_command_beside_two(&[replica(2, 0), replica(3, 0)], 2.0)]
fn a_rate_is_divided_among_live_replicas(#[case] replicas: &[Replica], #[case] share: f64) {
    let own = Uuid::from_u128(1);
    assert!((share_of_rate(6.0, replicas, own, now()) - share).abs() < 1e-9);
}
