use std::collections::BTreeMap;

use rstest::rstest;
use serde_json::Value;

use super::*;
use crate::cli::args::{
    Command, DirectoryCommand, FindingCommand, IdentityCommand, NoticeCommand, ReplicaCommand,
    TokenCommand,
};
use crate::cli::forecast::Window;
use crate::cli::identity::coverage;
use crate::cli::{directory, finding, forecast, identity, notice, replica, token as tokens};
use crate::domain::{FindingKind, Identity, IdentityStatus, Reason, Replica, Severity, SyncState};
use crate::engine::SWEEP_LEASE;
use crate::store::{self, NewFinding};

/// `hr`, `it`, and `new`, which was never synced.
const DIRECTORIES: &str = "
[[directory]]
name = \"hr\"
kind = \"file\"
path = \"hr.csv\"

[[directory]]
name = \"it\"
kind = \"file\"
path = \"it.csv\"

[[directory]]
name = \"new\"
kind = \"file\"
path = \"new.csv\"
";

async fn token_list(world: &World, line: &str) -> Vec<serde_json::Value> {
    let Command::Token(TokenCommand::List(args)) = parse_command(line) else {
        panic!("{line}")
    };
    list_rows(async |printer| tokens::list(&world.store, &args, now(), printer).await).await
}

async fn notice_list(world: &World, line: &str) -> Vec<serde_json::Value> {
    let Command::Notice(NoticeCommand::List(args)) = parse_command(line) else {
        panic!("{line}")
    };
    list_rows(async |printer| notice::list(&world.store, &args, "example.org", printer).await).await
}

async fn finding_list(world: &World, line: &str) -> Vec<serde_json::Value> {
    let Command::Finding(FindingCommand::List(args)) = parse_command(line) else {
        panic!("{line}")
    };
    list_rows(async |printer| finding::list(&world.store, &args, now(), printer).await).await
}

async fn identity_list(world: &World, line: &str) -> Vec<serde_json::Value> {
    let Command::Identity(IdentityCommand::List(args)) = parse_command(line) else {
        panic!("{line}")
    };
    list_rows(async |printer| {
        let config = world.config(DIRECTORIES);
        identity::list(&world.store, &config, &args, now(), printer).await
    })
    .await
}

async fn forecast_list(world: &World, until: i64, limit: u64) -> Vec<serde_json::Value> {
    let window = Window {
        now: now(),
        until: days(until),
    };
    list_rows(async |printer| {
        forecast::list(&world.store, &policy(), window, limit, printer)
            .await
            .map(drop)
    })
    .await
}

#[tokio::test]
async fn a_listing_of_many_pages_is_complete_and_in_order() {
    for world in World::all().await {
        let all: Vec<_> = (0..2_500)
            .map(|nth| {
                let source = if nth % 2 == 0 { "b" } else { "a" };
                token(source, &format!("{nth:05}"), Some(days(2_500 - nth)))
            })
            .collect();
        world.insert(&all).await;

        let rows = token_list(&world, "lapsed token list").await;
        let keys: Vec<_> = column(&rows, "source")
            .into_iter()
            .zip(column(&rows, "external_id"))
            .collect();
        assert_eq!(keys.len(), 2_500);
        assert!(keys.is_sorted());
        assert_eq!(
            token_list(&world, "lapsed token list --limit 1001").await,
            rows[..1001]
        );
        assert_eq!(
            token_list(&world, "lapsed token list --source b").await,
            rows[1250..]
        );

        let soon = token_list(&world, "lapsed token list --expires-within 1500d").await;
        assert_eq!(soon.len(), 1500);
        assert!(column(&soon, "expires_at").is_sorted());
        let soon = token_list(
            &world,
            "lapsed token list --expires-within 1500d --source a --limit 2",
        )
        .await;
        assert_eq!(column(&soon, "external_id"), ["02499", "02497"]);
    }
}

#[rstest]
#[case::all("", &["active", "disabled", "expired", "gone", "never"])]
#[case::active("--status active", &["active", "never"])]
#[case::expired_though_not_marked("--status expired", &["expired"])]
#[case::gone("--status gone", &["gone"])]
#[case::issuer_in_any_case("--issuer Grace@Example.org", &["gone"])]
#[case::role("--role admin", &["never"])]
#[case::only_what_will_expire("--expires-within 30d", &["active"])]
#[tokio::test]
async fn a_filter_lists_the_tokens_it_names(#[case] options: &str, #[case] expected: &[&str]) {
    for world in World::all().await {
        let with = |id: &str, at, status| Token {
            status,
            ..token("s", id, at)
        };
        world
            .insert(&[
                with("active", Some(days(10)), Status::Active),
                with("expired", Some(days(-1)), Status::Active),
                with("disabled", Some(days(10)), Status::Disabled),
                Token {
                    issuer: Some("grace@example.org".parse().unwrap()),
                    ..with("gone", Some(days(10)), Status::Gone)
                },
                Token {
                    role: Some("admin".into()),
                    ..with("never", None, Status::Active)
                },
            ])
            .await;
        let rows = token_list(&world, format!("lapsed token list {options}").trim()).await;
        assert_eq!(column(&rows, "external_id"), expected);
    }
}

#[tokio::test]
async fn notices_are_latest_first_and_have_a_message_id_once_tried() {
    for world in World::all().await {
        let (one, two) = (
            token("s", "one", Some(days(7))),
            token("s", "two", Some(days(30))),
        );
        world.insert(&[one.clone(), two.clone()]).await;
        world
            .plan(&one, "7d", &["ada@example.org", "bob@example.org"])
            .await;
        world
            .deliver(&["ada@example.org"], Verdict::Sent, None)
            .await;
        let planned = world.plan(&two, "7d", &["ada@example.org"]).await;
        let mut tx = world.store.begin().await.unwrap();
        tx.cancel_notices(two.id, None, "the token is gone")
            .await
            .unwrap();
        tx.insert_notices(&planned, None, days(1)).await.unwrap();
        tx.commit().await.unwrap();

        let rows = notice_list(&world, "lapsed notice list").await;
        assert_eq!(
            column(&rows, "token_name"),
            ["name of two", "name of one", "name of one"]
        );
        let sent = notice_list(&world, "lapsed notice list --state sent").await;
        assert_eq!(
            column(&sent, "message_id"),
            ["<lapsed.00000000000000000000000000000001@example.org>"]
        );
        assert_eq!(
            (column(&sent, "step"), column(&sent, "channel")),
            (vec!["7d"], vec!["mail"])
        );
        let unsent = notice_list(&world, "lapsed notice list --state planned --limit 1").await;
        assert_eq!(column(&unsent, "message_id"), ["null"]);
        let to_bob = notice_list(&world, "lapsed notice list --recipient BOB@example.org").await;
        assert_eq!(column(&to_bob, "state"), ["planned"]);
        let of_two = notice_list(&world, "lapsed notice list --token s/two").await;
        assert_eq!(of_two, rows[..1]);
    }
}

#[tokio::test]
async fn notices_with_the_same_time_are_each_listed_once() {
    for world in World::all().await {
        let all: Vec<_> = (0..2_100)
            .map(|nth| token("s", &nth.to_string(), Some(days(7))))
            .collect();
        world.insert(&all).await;
        for token in &all[..5] {
            world.plan(token, "7d", &["ada@example.org"]).await;
        }
        let notices: Vec<_> = all[5..]
            .iter()
            .map(|token| {
                let occurrence = Occurrence {
                    topic: Topic::Expiry,
                    generation: days(7).into(),
                    step: Some(Step::ZERO),
                };
                let to = Recipient {
                    address: "bob@example.org".parse().unwrap(),
                    basis: Basis::Admin,
                };
                NewNotice::for_token(token, occurrence, &to, days(7))
            })
            .collect();
        let mut tx = world.store.begin().await.unwrap();
        tx.insert_notices(&notices, None, now()).await.unwrap();
        tx.commit().await.unwrap();
        let rows = notice_list(&world, "lapsed notice list").await;
        let ids: std::collections::HashSet<_> = column(&rows, "id").into_iter().collect();
        assert_eq!((rows.len(), ids.len()), (2_100, 2_100));
    }
}

#[tokio::test]
async fn findings_are_listed_open_or_all_latest_first() {
    for world in World::all().await {
        let known: Vec<_> = ["a", "b"].map(|id| token("s", id, Some(days(9)))).into();
        world.insert(&known).await;
        let new_finding = |nth: i64, token: &Token| NewFinding {
            id: crate::engine::new_id(now() + TimeDelta::minutes(nth)),
            token_id: Some(token.id),
            source: token.source.clone(),
            kind: FindingKind::SsoRevoked,
            severity: Severity::High,
            since: days(-nth),
            evidence: "hr: disabled".into(),
            directory: None,
        };
        let mut tx = world.store.begin().await.unwrap();
        let first = new_finding(0, &known[0]);
        tx.insert_findings(std::slice::from_ref(&first))
            .await
            .unwrap();
        tx.resolve_findings(&[first.id], now()).await.unwrap();
        tx.insert_findings(&[new_finding(1, &known[0]), new_finding(2, &known[1])])
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let open = finding_list(&world, "lapsed finding list").await;
        assert_eq!(column(&open, "token_name"), ["name of b", "name of a"]);
        let all = finding_list(&world, "lapsed finding list --all --kind sso_revoked").await;
        assert_eq!(column(&all, "state"), ["open", "open", "resolved"]);
        assert!(
            finding_list(&world, "lapsed finding list --kind unused")
                .await
                .is_empty()
        );
    }
}

fn person(directory: &str, name: &str, status: IdentityStatus) -> store::IdentityRow {
    let identity = Identity {
        email: format!("{name}@example.org").parse().unwrap(),
        status,
        known_status: IdentityStatus::Active,
        reason: (status == IdentityStatus::Unknown).then_some(Reason::Absent),
        name: None,
        evidence: "account enabled".into(),
        account_chosen: false,
        checked_by_id: false,
        since: None,
        observed_at: Some(days(-3)),
        account_id: None,
        candidate: None,
        candidate_since: None,
        candidate_evidence: None,
    };
    store::IdentityRow {
        directory: directory.to_owned(),
        identity,
    }
}

#[tokio::test]
async fn people_are_listed_by_directory_with_their_working_tokens() {
    for world in World::all().await {
        let mut tx = world.store.begin().await.unwrap();
        tx.save_identities(&[
            person("it", "bob", IdentityStatus::Active),
            person("hr", "bob", IdentityStatus::Active),
            person("hr", "ada", IdentityStatus::Unknown),
        ])
        .await
        .unwrap();
        tx.insert_tokens(&[
            token("s", "works", Some(days(9))),
            token("s", "never", None),
            token("s", "expired", Some(days(-9))),
            Token {
                status: Status::Disabled,
                ..token("s", "disabled", None)
            },
        ])
        .await
        .unwrap();
        tx.commit().await.unwrap();
        let rows = identity_list(&world, "lapsed identity list").await;
        let keys: Vec<_> = column(&rows, "directory")
            .into_iter()
            .zip(column(&rows, "email"))
            .collect();
        assert_eq!(
            keys,
            [
                ("hr", "ada@example.org"),
                ("hr", "bob@example.org"),
                ("it", "bob@example.org")
            ]
        );
        assert_eq!(rows[0]["tokens"], 2);
        assert_eq!(rows[0]["status"], "unknown");
        assert_eq!(rows[0]["reason"], "absent");
        assert_eq!(rows[0]["known_status"], "active");
        assert_eq!(rows[0]["evidence"], "account enabled");
        assert_eq!(
            identity_list(&world, "lapsed identity list --directory it").await,
            rows[2..]
        );
        assert_eq!(
            identity_list(&world, "lapsed identity list --status active --limit 1").await,
            rows[1..2]
        );
    }
}

fn synced_at(directory: &str, at: DateTime<Utc>) -> store::DirectoryRow {
    store::DirectoryRow {
        name: directory.to_owned(),
        kind: "file".to_owned(),
        sync_state: SyncState {
            last_sync_at: Some(at),
            last_good_sync_at: Some(at),
            ..SyncState::default()
        },
        people: 7,
        ..store::DirectoryRow::default()
    }
}

#[tokio::test]
async fn people_of_a_stale_directory_are_unknown() {
    for world in World::all().await {
        let mut tx = world.store.begin().await.unwrap();
        for (name, at) in [("hr", days(-2)), ("it", days(-1)), ("left", now())] {
            tx.save_directory(&synced_at(name, at)).await.unwrap();
            tx.save_identities(&[person(name, "bob", IdentityStatus::Active)])
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
        let rows = identity_list(&world, "lapsed identity list").await;
        let seen: Vec<_> = ["directory", "status", "reason", "known_status"]
            .map(|key| column(&rows, key).join(" "))
            .into();
        assert_eq!(
            seen,
            [
                "hr it left",
                "unknown active unknown",
                "stale null stale",
                "active active active"
            ],
            "one is stale, one is no longer configured"
        );
        let unknown = identity_list(&world, "lapsed identity list --status unknown").await;
        assert_eq!(column(&unknown, "directory"), ["hr", "left"]);
        assert_eq!(
            identity_list(&world, "lapsed identity list --status active")
                .await
                .len(),
            1
        );
    }
}

#[tokio::test]
async fn a_directory_is_listed_with_problems_and_freshness() {
    for world in World::all().await {
        let mut tx = world.store.begin().await.unwrap();
        let mut failing = synced_at("hr", days(-2));
        failing
            .sync_state
            .record_failure(now(), "the file is gone".to_owned());
        let held = store::DirectoryRow {
            held: Some("9 of 10 people".into()),
            decision: Some("rejected".into()),
            ..synced_at("it", now())
        };
        for row in [failing, held, synced_at("left", now())] {
            tx.save_directory(&row).await.unwrap();
        }
        tx.commit().await.unwrap();
        let config = world.config(DIRECTORIES);
        let rows = list_rows(async |printer| {
            let Command::Directory(DirectoryCommand::List(options)) =
                parse_command("lapsed directory list")
            else {
                panic!()
            };
            directory::list(&world.store, &config, options, printer, now()).await
        })
        .await;
        assert_eq!(column(&rows, "name"), ["hr", "it", "left", "new"]);
        assert_eq!(column(&rows, "state"), ["failing", "held", "ok", "never"]);
        let fresh: Vec<_> = rows
            .iter()
            .map(|row| row["fresh"].as_bool().unwrap())
            .collect();
        assert_eq!(fresh, [false, true, false, false]);
        assert_eq!(rows[0]["fresh_until"], "2026-11-20T09:00:00Z");
        assert_eq!(rows[0]["failing_since"], "2026-11-21T09:00:00Z");
        assert_eq!(
            rows[1]["held"],
            "9 of 10 people; rejected, the next sync rejects it"
        );
        assert_eq!(
            rows[2]["error"],
            "it is no longer in the configuration; `lapsed directory forget` deletes its data"
        );
    }
}

fn coverage_lines(rows: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |row: &Value| {
        let (cover, reason) = (text(&row["cover"]), text(&row["reason"]));
        format!("{cover} {reason} {}", row["count"])
    };
    rows.iter().map(line).collect()
}

#[tokio::test]
async fn coverage_counts_each_issuer_of_working_tokens_once() {
    for world in World::all().await {
        let of = |id: &str, issuer: Option<&str>| Token {
            issuer: issuer.map(|name| format!("{name}@example.org").parse().unwrap()),
            ..token("s", id, None)
        };
        let mut expired = of("expired", Some("nobody"));
        expired.expiry = Expiry::At(days(-1));
        world
            .insert(&[
                of("1", Some("ada")),
                of("2", Some("ada")),
                of("3", Some("bob")),
                of("4", Some("cem")),
                of("5", Some("dee")),
                of("6", Some("bot")),
                of("7", None),
                expired,
            ])
            .await;
        let mut tx = world.store.begin().await.unwrap();
        tx.save_directory(&synced_at("hr", days(-2))).await.unwrap();
        tx.save_directory(&synced_at("it", now())).await.unwrap();
        tx.save_identities(&[
            person("hr", "ada", IdentityStatus::Disabled),
            person("it", "ada", IdentityStatus::Active),
            person("hr", "bob", IdentityStatus::Active),
            person("it", "bob", IdentityStatus::Disabled),
            person("hr", "cem", IdentityStatus::Active),
            person("hr", "bot", IdentityStatus::Disabled),
        ])
        .await
        .unwrap();
        tx.commit().await.unwrap();
        let more =
            format!("[issuers]\nmodes = {{ \"bot@example.org\" = \"service\" }}\n{DIRECTORIES}");
        let config = world.config(&more);
        let rows = list_rows(async |printer| {
            coverage::print_counts(&world.store, &config, usize::MAX, now(), printer).await
        })
        .await;
        assert_eq!(
            coverage_lines(&rows),
            [
                "active - 1",
                "lost - 1",
                "unknown not_read 1",
                "unknown stale 1",
                "not_covered service 1",
                "no_issuer - 1",
            ],
            "stale data counts neither as a loss nor as access"
        );
        let nameless = token_list(&world, "lapsed token list --no-issuer").await;
        assert_eq!(column(&nameless, "external_id"), ["7"]);
    }
}

#[tokio::test]
async fn a_forecast_lists_recipients_by_time() {
    for world in World::all().await {
        world
            .insert(&[
                token("s", "far", Some(days(40))),
                token("s", "soon", Some(days(10))),
                token("s", "sooner", Some(days(9))),
                Token {
                    planned_step: Some("1d".parse().unwrap()),
                    ..token("s", "notified", Some(days(2)))
                },
                Token {
                    status: Status::Disabled,
                    ..token("s", "disabled", Some(days(9)))
                },
                token("s", "edge", Some(days(12))),
                token("s", "never", None),
            ])
            .await;
        let rows = forecast_list(&world, 10, u64::MAX).await;
        let forecast: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row["token_name"].as_str().unwrap(),
                    row["at"].as_str().unwrap(),
                    row["step"].as_str(),
                )
            })
            .collect();
        assert_eq!(
            forecast,
            [
                ("name of notified", "2026-11-23T09:00:00Z", None),
                ("name of sooner", "2026-11-23T09:00:00Z", Some("7d")),
                ("name of soon", "2026-11-24T09:00:00Z", Some("7d")),
                ("name of edge", "2026-11-26T09:00:00Z", Some("7d")),
                ("name of sooner", "2026-11-29T09:00:00Z", Some("1d")),
                ("name of soon", "2026-11-30T09:00:00Z", Some("1d")),
            ]
        );
        assert_eq!(
            rows[1]["recipients"],
            serde_json::json!(["ada@example.org", "security@example.org"])
        );
        assert_eq!(rows[0]["recipients"], serde_json::json!([]));
        assert_eq!(forecast_list(&world, 10, 2).await, rows[..2]);
    }
}

#[tokio::test]
async fn a_forecast_over_many_pages_is_complete_and_in_order() {
    let world = World::sqlite().await;
    let all: Vec<_> = (0..2_500)
        .map(|nth| {
            token(
                "s",
                &nth.to_string(),
                Some(days(8) + TimeDelta::minutes(nth)),
            )
        })
        .collect();
    world.insert(&all).await;
    let rows = forecast_list(&world, 30, u64::MAX).await;
    assert_eq!(rows.len(), 5_000);
    assert!(column(&rows, "at").is_sorted());
    let steps = column(&rows, "step")
        .into_iter()
        .fold(BTreeMap::new(), |mut steps, step| {
            *steps.entry(step).or_insert(0) += 1;
            steps
        });
    assert_eq!(steps, BTreeMap::from([("1d", 2_500), ("7d", 2_500)]));
}

#[tokio::test]
async fn a_forecast_shows_a_planned_notice_once_at_its_next_attempt() {
    for world in World::all().await {
        let planned = Token {
            planned_step: Some("7d".parse().unwrap()),
            ..token("s", "planned", Some(days(7)))
        };
        world.insert(std::slice::from_ref(&planned)).await;
        world
            .plan(&planned, "7d", &["ada@example.org", "security@example.org"])
            .await;
        let again = now() + TimeDelta::hours(1);
        world
            .deliver(
                &["ada@example.org"],
                Verdict::Retry(again),
                Some("451 later"),
            )
            .await;
        let rows = forecast_list(&world, 3, u64::MAX).await;
        assert_eq!(
            column(&rows, "at"),
            ["2026-11-21T09:00:00Z", "2026-11-21T10:00:00Z"]
        );
        assert_eq!(
            rows[1]["recipients"],
            serde_json::json!(["ada@example.org"])
        );
    }
}

#[tokio::test]
async fn replicas_are_listed_with_their_leader() {
    for world in World::all().await {
        let saved = |id, host: &str, seen_at| Replica {
            id: Uuid::from_u128(id),
            host: host.to_owned(),
            version: "0.1.0".to_owned(),
            configuration: "0123456789ab".to_owned(),
            started_at: days(-2),
            seen_at,
        };
        let mut tx = world.store.begin().await.unwrap();
        let minutes = TimeDelta::minutes;
        for replica in [
            saved(1, "a", now() - minutes(3)),
            saved(2, "b", now() - minutes(4)),
            // Its clock is ahead.
            saved(3, "c", now() + minutes(2)),
        ] {
            tx.save_replica(&replica).await.unwrap();
        }
        let lease = Holder {
            id: Uuid::from_u128(3),
            until: now() + minutes(1),
        };
        tx.take_lease(SWEEP_LEASE, lease, now(), days(1))
            .await
            .unwrap();
        tx.release_lease(SWEEP_LEASE, lease.id).await.unwrap();
        tx.commit().await.unwrap();
        let rows = list_rows(async |printer| {
            let Command::Replica(ReplicaCommand::List(options)) =
                parse_command("lapsed replica list")
            else {
                panic!()
            };
            replica::list(&world.store, &options, now(), printer).await
        })
        .await;
        assert_eq!(column(&rows, "host"), ["a", "b", "c"]);
        assert_eq!(column(&rows, "state"), ["live", "gone", "live"]);
        assert_eq!(column(&rows, "configuration")[0], "0123456789ab");
        assert_eq!(rows[2]["leader"], true, "{rows:?}");
        assert_eq!(rows[0]["leader"], false, "{rows:?}");
    }
}
