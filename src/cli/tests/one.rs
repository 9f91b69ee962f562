use super::*;
use crate::cli::args::{Command, Explain, IdentityCommand, TokenCommand};
use crate::cli::exit::print_error;
use crate::cli::explain::Explanation;
use crate::cli::output::print_item;
use crate::cli::{identity, query, token as tokens};
use crate::domain::{FindingKind, Identity, IdentityStatus, Severity};
use crate::store::{IdentityRow, NewFinding, RefusedAddress};

fn reference(text: &str) -> String {
    let Command::Explain(Explain { id }) = parse_command(&format!("lapsed explain {text}")) else {
        panic!("{text}")
    };
    id
}

async fn find_token(world: &World, text: &str) -> Result<Token, String> {
    let mut tx = world.store.begin_read().await.unwrap();
    query::look_up_token(&mut tx, &reference(text))
        .await
        .map_err(|error| {
            let mut text = Vec::new();
            assert_eq!(
                print_error(&error, &mut text),
                crate::cli::exit::Exit::Failed
            );
            String::from_utf8(text).unwrap()
        })
}

#[tokio::test]
async fn a_token_is_found_by_id_prefix_or_external_id_with_slashes() {
    for world in World::all().await {
        let path = token("s", "team/a/deploy", None);
        world
            .insert(&[path.clone(), token("s", "other", None)])
            .await;
        let id = path.id.to_string();
        for text in ["s/team/a/deploy", &id, &id.to_uppercase(), &id[..12]] {
            assert_eq!(
                find_token(&world, text).await.unwrap().id,
                path.id,
                "{text}"
            );
        }
    }
}

#[tokio::test]
async fn an_unknown_or_ambiguous_reference_gets_a_hint() {
    for world in World::all().await {
        let all: Vec<_> = (0..200)
            .map(|nth| token("s", &nth.to_string(), None))
            .collect();
        world.insert(&all).await;
        let several = find_token(&world, &all[0].id.to_string()[..1])
            .await
            .unwrap_err();
        assert_eq!(
            several
                .lines()
                .filter(|line| line.contains("name of"))
                .count(),
            5,
            "{several}"
        );
        assert!(
            several.contains("and more") && several.contains("more digits"),
            "{several}"
        );
        let none = find_token(&world, "s/nobody").await.unwrap_err();
        assert!(
            none.contains("source \"s\" has no token \"nobody\""),
            "{none}"
        );
        assert!(none.contains("lapsed token list"), "{none}");
        let none = find_token(&world, "00000000000000000000000000000000")
            .await
            .unwrap_err();
        assert!(none.contains("lapsed token list"), "{none}");
    }
}

#[tokio::test]
async fn a_token_is_read_by_a_name_that_only_one_token_has() {
    let named = |external_id: &str, name: &str| Token {
        name: name.into(),
        ..token("s", external_id, None)
    };
    for world in World::all().await {
        let first = named("1", "ci-deploy");
        let id = first.id.to_string();
        let all = [
            first.clone(),
            named("2", "s/1"),
            named("3", &id),
            named("4", "team/bot"),
            named("5", "feed-cafe-feed-cafe"),
            named("backup", " "),
            named("7", "twin"),
            named("8", "twin"),
        ];
        world.insert(&all).await;
        for (text, external_id) in [
            ("ci-deploy", "1"),
            ("s/1", "1"),
            (&id, "1"),
            ("team/bot", "4"),
            ("feed-cafe-feed-cafe", "5"),
            ("backup", "backup"),
        ] {
            let found = find_token(&world, text).await.unwrap();
            assert_eq!(found.external_id, external_id, "{text}");
        }
        let several = find_token(&world, "twin").await.unwrap_err();
        assert!(
            several.contains("s/7") && several.contains("s/8"),
            "{several}"
        );
        let none = find_token(&world, "ci").await.unwrap_err();
        assert!(none.contains("no token has the name \"ci\""), "{none}");
    }
}

async fn open_finding(world: &World, token: &Token) {
    let finding = NewFinding {
        id: crate::engine::new_id(now()),
        token_id: Some(token.id),
        source: token.source.clone(),
        kind: FindingKind::SsoRevoked,
        severity: Severity::High,
        since: days(-2),
        evidence: "hr: disabled since Thursday".into(),
        directory: None,
    };
    let mut tx = world.store.begin().await.unwrap();
    tx.insert_findings(&[finding]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn print_token(world: &World, format: Format) -> String {
    let Command::Token(TokenCommand::Show(args)) = parse_command("lapsed token show s/one") else {
        panic!()
    };
    let mut config = world.config("");
    config.policy = policy();
    let detail = tokens::load_detail(&world.store, &config, &args.id, now())
        .await
        .unwrap();
    let mut out = Vec::new();
    print_item(format, view(), &mut out, &detail).unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn one_token_is_shown_with_steps_notices_and_findings() {
    for world in World::all().await {
        let one = Token {
            planned_step: Some("7d".parse().unwrap()),
            ..token("s", "one", Some(days(7)))
        };
        world.insert(std::slice::from_ref(&one)).await;
        world
            .plan(&one, "7d", &["ada@example.org", "bob@example.org"])
            .await;
        world
            .deliver(&["ada@example.org"], Verdict::Sent, None)
            .await;
        open_finding(&world, &one).await;
        let json: serde_json::Value =
            serde_json::from_str(&print_token(&world, Format::Json).await).unwrap();
        assert_eq!(
            json["findings"][0]["evidence"],
            "hr: disabled since Thursday"
        );
        assert_eq!(json["notices"].as_array().unwrap().len(), 2);
        assert_eq!(
            (&json["status"], &json["expiry"]),
            (&"active".into(), &"at".into())
        );
        let sheet = print_token(&world, Format::Table).await;
        assert!(
            sheet.contains("sent to 1 person; due, sent by the next sweep"),
            "{sheet}"
        );
        assert!(
            sheet.contains("1d    2026-11-27 09:00Z (in 6 days)  not yet"),
            "{sheet}"
        );
        assert!(sheet.contains("hr: disabled since Thursday"), "{sheet}");
    }
}

async fn explain_token(world: &World, policy: Policy) -> String {
    let case = Explanation::load(&world.store, &reference("s/one"), policy, now())
        .await
        .unwrap();
    case.page("example.org", view())
}

/// Explains one token without a history.
async fn explain_new_token(one: Token) -> String {
    let world = World::sqlite().await;
    world.insert(&[one]).await;
    explain_token(&world, policy()).await
}

async fn mark_dead(world: &World, address: &str) {
    let refused = RefusedAddress {
        address: address.parse().unwrap(),
        code: "5.1.1".to_owned(),
        is_doubtful: false,
        reason: "550 5.1.1 no such user".to_owned(),
    };
    let mut tx = world.store.begin().await.unwrap();
    tx.record_address_refusal(&refused, now(), now(), now())
        .await
        .unwrap();
    tx.mark_dead_addresses(&["example.org"], now(), now())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn every_reason_for_a_sent_or_unsent_notice_is_shown() {
    for world in World::all().await {
        let one = Token {
            planned_step: Some("7d".parse().unwrap()),
            ..token("s", "one", Some(days(7)))
        };
        world.insert(std::slice::from_ref(&one)).await;
        world.plan(&one, "7d", &["ada@example.org"]).await;
        world
            .deliver(&["ada@example.org"], Verdict::Sent, None)
            .await;
        mark_dead(&world, "dead@example.org").await;
        let earlier = Token {
            expiry: Expiry::At(days(3)),
            ..one.clone()
        };
        world.plan(&earlier, "1d", &["ada@example.org"]).await;
        let mut tx = world.store.begin().await.unwrap();
        tx.cancel_notices(one.id, Some(days(7).into()), "the expiry changed")
            .await
            .unwrap();
        tx.commit().await.unwrap();
        open_finding(&world, &one).await;
        let mut policy = policy();
        policy.admins.push("dead@example.org".parse().unwrap());
        let text = explain_token(&world, policy)
            .await
            .replace(&one.id.to_string(), "ID");
        insta::allow_duplicates! {
            insta::assert_snapshot!(text, @r"
        name of one
          s/one, ID
          It is active and expires 2026-11-28 09:00Z (in 7 days).

        Recipients
          ada@example.org: the issuer; left out, access is lost: hr: disabled since Thursday
          security@example.org: one of [notify] admins
          dead@example.org: one of [notify] admins; left out, the mail server refused the address: 550 5.1.1 no such user

        7d before: 2026-11-21 09:00Z (now)
          ada@example.org: sent 2026-11-21 09:00Z (now) as <lapsed.00000000000000000000000000000001@example.org>
          security@example.org: nothing: not a recipient when this step was planned; notified from the next step on

        1d before: 2026-11-27 09:00Z (in 6 days)
          security@example.org: will be planned 2026-11-27 08:00Z (in 6 days), to be sent 2026-11-27 09:00Z (in 6 days)

        Other notices
          1d before 2026-11-24 09:00Z (in 3 days), ada@example.org: cancelled: the expiry changed

        Next
          The next sweep processes it.
        ");
        }
    }
}

#[tokio::test]
async fn the_reason_that_stops_all_warnings_is_shown() {
    let one = || token("s", "one", Some(days(30)));
    for (token, expected) in [
        (
            Token {
                status: Status::Disabled,
                ..one()
            },
            "The token is disabled: no warnings are sent",
        ),
        (
            Token {
                expiry: Expiry::Unknown,
                ..one()
            },
            "does not say when it expires",
        ),
        (
            Token {
                life_from: Some(days(25)),
                ..one()
            },
            "skipped: as wide as the token's life",
        ),
        (
            Token {
                first_seen_at: now(),
                planned_step: Some(Step::ZERO),
                status: Status::Expired,
                ..token("s", "one", Some(days(-1)))
            },
            "before lapsed first saw it: it is marked, and no mail is sent",
        ),
        (
            one(),
            "security@example.org: will be planned 2026-12-14 08:00Z (in 23 days), to be sent 2026-12-14 09:00Z",
        ),
        (
            Token {
                expiry: Expiry::At(days(3)),
                ..one()
            },
            "ada@example.org: due now: the next sweep plans and sends it",
        ),
        (
            Token {
                due_at: Some(days(4)),
                ..one()
            },
            "lapsed processes it again 2026-11-25 09:00Z (in 4 days).",
        ),
    ] {
        let text = explain_new_token(token).await;
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[tokio::test]
async fn covered_held_and_deferred_notices_are_distinguished() {
    for world in World::all().await {
        let one = Token {
            planned_step: Some("1d".parse().unwrap()),
            ..token("s", "one", Some(days(1)))
        };
        world.insert(std::slice::from_ref(&one)).await;
        world.plan(&one, "1d", &["ada@example.org"]).await;
        world
            .deliver(
                &["ada@example.org"],
                Verdict::Retry(days(1)),
                Some("451 4.7.1 later"),
            )
            .await;
        let text = explain_token(&world, policy()).await;
        assert!(
            text.contains("ada@example.org: covered by the tighter step 1d, which was due by then"),
            "{text}"
        );
        assert!(
            text.contains(
                "deferred until 2026-11-22 09:00Z (in 24 hours) after 1 attempt: 451 4.7.1 later"
            ),
            "{text}"
        );
        assert!(
            text.contains("security@example.org: nothing: not a recipient when"),
            "{text}"
        );

        let mut tx = world.store.begin().await.unwrap();
        let plan = tx.open_plan(Uuid::from_u128(9), now()).await.unwrap();
        let occurrence = Occurrence {
            topic: Topic::Expiry,
            generation: days(1).into(),
            step: Some("1d".parse().unwrap()),
        };
        let to = Recipient {
            address: "security@example.org".parse().unwrap(),
            basis: Basis::Admin,
        };
        let notice = NewNotice::for_token(&one, occurrence, &to, now());
        tx.insert_notices(&[notice], Some(plan), now())
            .await
            .unwrap();
        tx.close_plan(plan, 1, true).await.unwrap();
        tx.commit().await.unwrap();
        let text = explain_token(&world, policy()).await;
        assert!(
            text.contains("security@example.org: held: its sweep planned more mails"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_person_is_shown_with_every_directory_and_all_tokens() {
    for world in World::all().await {
        world
            .insert(&[
                token("s", "one", Some(days(9))),
                token("s", "two", Some(days(-9))),
            ])
            .await;
        let identity = Identity {
            email: "Ada@example.org".parse().unwrap(),
            status: IdentityStatus::Disabled,
            known_status: IdentityStatus::Disabled,
            reason: None,
            name: Some("Ada".into()),
            evidence: "status = disabled".into(),
            account_chosen: false,
            checked_by_id: false,
            since: Some(days(-2)),
            observed_at: Some(now()),
            account_id: None,
            candidate: None,
            candidate_since: None,
            candidate_evidence: None,
        };
        let row = IdentityRow {
            directory: "hr".into(),
            identity,
        };
        let mut tx = world.store.begin().await.unwrap();
        tx.save_identities(&[row]).await.unwrap();
        tx.commit().await.unwrap();
        let Command::Identity(IdentityCommand::Show(args)) =
            parse_command("lapsed identity show ADA@example.org")
        else {
            panic!()
        };
        let config = world
            .config("[issuers]\naddresses = { \"ada@example.org\" = \"Ada@corp.example.org\" }\n");
        let detail = identity::load_detail(&world.store, &config, &args.email, now())
            .await
            .unwrap();
        let json = serde_json::to_value(&detail).unwrap();
        assert_eq!(json["name"], "Ada");
        assert_eq!(
            (&json["mode"], &json["address"]),
            (&"sso".into(), &"ada@corp.example.org".into())
        );
        assert_eq!(json["directories"][0]["evidence"], "status = disabled");
        assert_eq!(json["tokens"].as_array().unwrap().len(), 2);
        let nobody = "nobody@example.org".parse().unwrap();
        let error = identity::load_detail(&world.store, &config, &nobody, now())
            .await
            .err()
            .unwrap();
        assert!(
            error
                .to_string()
                .contains("no directory knows nobody@example.org")
        );
    }
}
