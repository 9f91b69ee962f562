//! Which replicas are live, and what follows from that.

use chrono::{DateTime, TimeDelta, Utc};
use rstest::rstest;
use uuid::Uuid;

use crate::domain::{Replica, describe_drift, share_of_rate};

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

#[test]
fn live_replicas_with_different_configurations_drift() {
    let with = |id, seen_seconds_ago, configuration: &str| Replica {
        configuration: configuration.to_owned(),
        ..replica(id, seen_seconds_ago)
    };
    let drift = |replicas: &[Replica]| describe_drift(replicas, now());
    assert_eq!(drift(&[]), None);
    assert_eq!(drift(&[with(1, 0, "aa"), with(2, 0, "aa")]), None);
    assert_eq!(drift(&[with(1, 0, "aa"), with(2, 999, "bb")]), None, "gone");
    let upgraded = Replica {
        version: "0.2.0".to_owned(),
        ..with(2, 0, "aa")
    };
    assert_eq!(drift(&[with(1, 0, "aa"), upgraded]), None, "only upgraded");
    assert_eq!(
        drift(&[with(3, 0, "bb"), with(2, 9, "aa"), with(1, 9, "aa")]).unwrap(),
        "live replicas have different configurations: aa on lapsed-1, lapsed-2; bb on lapsed-3"
    );
}
