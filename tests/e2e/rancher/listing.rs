//! The fields of a listing, and incomplete listings.

use chrono::{DateTime, TimeDelta, Utc};
use lapsed::domain::{Cell, Expiry, ListedToken, Status};
use lapsed::sources::rancher::TokenKind;
use lapsed::sources::{Fetched, LastListing};
use rstest::rstest;
use serde_json::{Value, json};

use super::{OWN, Rancher, SECRET, attribute, ext, legacy, user};
use crate::stub::Answer;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn text(text: &str) -> Cell<String> {
    Cell::Value(text.to_owned())
}

#[tokio::test]
async fn every_field_of_a_token_is_read() {
    let rancher = Rancher::new();
    let ids: Vec<String> = rancher
        .tokens()
        .await
        .into_iter()
        .map(|token| token.external_id)
        .collect();
    assert_eq!(ids, ["ext/token-chjc9", "token-7x2kq", "token-lapsd"]);
    assert_eq!(
        rancher.token("token-7x2kq").await,
        ListedToken {
            name: text("ci deploy"),
            description: text("ci deploy"),
            issuer: Cell::Value("ada@example.org".parse().unwrap()),
            issuer_name: text("Ada"),
            issuer_id: Some("u-ada".to_owned()),
            issuer_names: vec!["ada@example.org".to_owned()],
            issuer_gone: Cell::Empty,
            role: text("api_key"),
            scope: text("c-m-abc123"),
            created_at: Cell::Value(at("2026-08-30T10:15:02Z")),
            expiry: Cell::Value(Expiry::At(at("2026-11-28T10:15:02Z"))),
            last_used_at: Cell::Value(at("2026-11-20T08:01:44Z")),
            status: Cell::Value(Status::Active),
            ..ListedToken::with_id("token-7x2kq")
        }
    );
    assert_eq!(
        rancher.token("ext/token-chjc9").await,
        ListedToken {
            name: text("example"),
            description: text("example"),
            issuer: Cell::Value("ada@example.org".parse().unwrap()),
            issuer_name: text("Ada"),
            issuer_id: Some("u-ada".to_owned()),
            issuer_names: vec!["ada@example.org".to_owned()],
            issuer_gone: Cell::Empty,
            role: text("api_key"),
            scope: Cell::Empty,
            created_at: Cell::Value(at("2026-10-01T09:00:00Z")),
            expiry: Cell::Value(Expiry::At(at("2026-12-30T09:00:00Z"))),
            last_used_at: Cell::Empty,
            status: Cell::Value(Status::Active),
            ..ListedToken::with_id("ext/token-chjc9")
        }
    );
}

#[rstest]
#[case::stated(json!({}), "2026-11-28T10:15:02Z", false)]
#[case::not_yet_computed(json!({"expiresAt": ""}), "2026-11-28T10:15:02Z", true)]
#[case::missing(json!({"expiresAt": null}), "2026-11-28T10:15:02Z", true)]
#[case::year_one(json!({"expiresAt": "0001-01-01T00:00:00Z"}), "2026-11-28T10:15:02Z", true)]
#[case::endless_with_an_old_date(json!({"ttl": 0, "expiresAt": "2026-10-24T00:00:00Z"}), "never", false)]
#[case::endless_with_a_later_date(json!({"ttl": -1}), "never", false)]
#[case::made_longer(json!({"ttl": 31_536_000_000_i64}), "2027-08-30T10:15:02Z", true)]
#[case::made_shorter(json!({"ttl": 86_400_000}), "2026-08-31T10:15:02Z", true)]
#[case::rounded(json!({"expiresAt": "2026-11-28T11:15:01+01:00"}), "2026-11-28T10:15:01Z", false)]
#[case::stated_alone(json!({"ttl": null}), "2026-11-28T10:15:02Z", false)]
#[case::endless(json!({"ttl": 0, "expiresAt": ""}), "never", false)]
#[case::endless_since_2_16(json!({"ttl": -1, "expiresAt": ""}), "never", false)]
#[case::as_good_as_endless(json!({"ttl": i64::MAX, "expiresAt": ""}), "never", false)]
#[case::far_away(json!({"ttl": 9_460_800_000_000_i64, "expiresAt": ""}), "never", false)]
#[case::unknown(json!({"ttl": null, "expiresAt": ""}), "unknown", false)]
#[case::without_creation(json!({"expiresAt": "", "metadata": {"creationTimestamp": null}}), "unknown", false)]
#[tokio::test]
async fn an_expiry_is_stated_or_computed(
    #[case] fields: Value,
    #[case] expected: &str,
    #[case] is_computed: bool,
) {
    let rancher = Rancher::with(|state| state.legacy.push(legacy("token-x", "u-ada", fields)));
    let token = rancher.token("token-x").await;
    let expected = match expected {
        "never" => Expiry::Never,
        "unknown" => Expiry::Unknown,
        text => Expiry::At(at(text)),
    };
    assert_eq!(
        (token.expiry, token.is_computed),
        (Cell::Value(expected), is_computed)
    );
}

#[tokio::test]
async fn dates_that_rancher_does_not_go_by_are_counted() {
    let rancher = Rancher::new();
    let check = async || rancher.source().check().await.unwrap().notes;
    assert_eq!(check().await, [""; 0]);
    rancher.state().legacy[1]["ttl"] = json!(0);
    let notes = check().await;
    assert_eq!(notes.len(), 1);
    assert_contains!(notes[0], "legacy tokens with an outdated expiresAt: 1;");
    // The date of an ext token counts.
    rancher.state().ext.as_mut().unwrap()[0]["spec"]["ttl"] = json!(1000);
    let token = rancher.token("ext/token-chjc9").await;
    let expected = Cell::Value(Expiry::At(at("2026-12-30T09:00:00Z")));
    assert_eq!(token.expiry, expected);
    assert_eq!(check().await.len(), 1);
}

#[tokio::test]
async fn an_ext_token_with_a_negative_life_never_expires() {
    let rancher = Rancher::with(|state| {
        let endless = json!({"spec": {"ttl": -1}, "status": {"expiresAt": ""}});
        state.ext = Some(vec![ext("token-x", "u-ada", endless)]);
    });
    let token = rancher.token("ext/token-x").await;
    assert_eq!(token.expiry, Cell::Value(Expiry::Never));
}

#[rstest]
#[case::itself("u-ada", json!({"enabled": false}), "disabled by an administrator, or by Rancher")]
#[case::its_user("u-off", json!({}), "its user is disabled")]
#[case::its_provider("u-ada", json!({"authProvider": "github"}), "provider github is disabled")]
#[tokio::test]
async fn a_token_that_rancher_refuses_is_disabled_with_a_reason(
    #[case] user_id: &str,
    #[case] fields: Value,
    #[case] why: &str,
) {
    let rancher = Rancher::with(|state| {
        state.users.push(user("u-off", json!({"enabled": false})));
        state.providers.insert("github", false);
        state.legacy.push(legacy("token-x", user_id, fields));
    });
    let token = rancher.token("token-x").await;
    assert_eq!(token.status, Cell::Value(Status::Disabled));
    let description = token.description.into_option().unwrap();
    assert!(
        description.starts_with("ci deploy; ") && description.contains(why),
        "{description}"
    );
    assert_eq!(token.name, text("ci deploy"));
}

#[tokio::test]
async fn an_issuer_who_has_left_is_reported_with_evidence() {
    let rancher = Rancher::with(|state| {
        state.legacy.push(legacy("token-x", "u-gone", json!({})));
        state.legacy.push(legacy("token-y", "u-ada", json!({})));
        let error = json!({"annotations": {"cattle.io/provider-refresh-error": "invalid_grant: user is\u{7} gone"}});
        state
            .attributes
            .push(attribute("u-ada", json!({"metadata": error})));
        // An attribute may outlive its user.
        state.attributes.push(attribute("u-gone", json!({})));
    });
    let gone = rancher.token("token-x").await;
    assert_eq!(gone.issuer_gone, text("Rancher has no user u-gone"));
    let unconfirmed = rancher.token("token-y").await;
    let evidence = "the login provider no longer confirms the user: invalid_grant: user is  gone";
    assert_eq!(unconfirmed.issuer_gone, text(evidence));
    assert_eq!(rancher.token("token-lapsd").await.issuer_gone, Cell::Empty);
}

#[tokio::test]
async fn a_user_missing_in_the_list_is_looked_up_before_they_are_gone() {
    let rancher = Rancher::with(|state| {
        for n in 0..3 {
            let token = legacy(&format!("token-{n}"), "u-new", json!({}));
            state.legacy.push(token);
        }
        state.users.push(user("u-new", json!({})));
        state.omitted.push("u-new");
    });
    assert_eq!(rancher.token("token-0").await.issuer_gone, Cell::Empty);
    let lookups = |lines: Vec<String>| {
        let path = "/users/u-new";
        lines.iter().filter(|line| line.ends_with(path)).count()
    };
    assert_eq!(
        lookups(rancher.take_request_lines()),
        1,
        "once for all of their tokens"
    );
    rancher.state().users.pop();
    let gone = rancher.token("token-0").await.issuer_gone;
    assert_eq!(gone, text("Rancher has no user u-new"));
    assert_eq!(lookups(rancher.take_request_lines()), 1);
}

#[tokio::test]
async fn the_address_is_found_in_every_place() {
    let rancher = Rancher::with(|state| {
        let plain = json!({"loginName": "ada", "metadata": {"name": "okta_user://CN=Ada"}});
        for who in ["u-ada", "u-map", "u-none"] {
            let fields = json!({"userPrincipal": plain});
            state
                .legacy
                .push(legacy(&format!("token-{who}"), who, fields));
            state.users.push(user(who, json!({})));
        }
        let extra = json!({"ExtraByProvider": {"okta": {"email": ["ada.l@example.org"]}}});
        state.attributes.push(attribute("u-ada", extra));
    });
    let issuer = async |id: &str| rancher.token(id).await.issuer;
    assert_eq!(
        issuer("token-u-ada").await,
        Cell::Value("ada.l@example.org".parse().unwrap())
    );
    assert_eq!(
        issuer("token-u-map").await,
        Cell::Value("map@example.org".parse().unwrap())
    );
    assert_eq!(issuer("token-u-none").await, Cell::Empty);
}

#[tokio::test]
async fn kinds_are_roles_and_sessions_are_skipped_by_default() {
    let rancher = Rancher::with(|state| {
        let session =
            json!({"metadata": {"labels": {"authn.management.cattle.io/kind": "session"}}});
        state.legacy.push(legacy("token-s", "u-ada", session));
        state
            .legacy
            .push(legacy("token-t", "u-ada", json!({"isDerived": false})));
        state.legacy.push(legacy(
            "kubeconfig-u-ada",
            "u-ada",
            json!({"ttl": 0, "expiresAt": ""}),
        ));
        state.legacy.push(legacy("token-sys", "u-sys", json!({})));
        state
            .users
            .push(user("u-sys", json!({"principalIds": ["system://local"]})));
        let mut ext_tokens = state.ext.take().unwrap();
        ext_tokens.push(ext(
            "token-k",
            "u-ada",
            json!({"spec": {"kind": "kubeconfig"}}),
        ));
        ext_tokens.push(ext(
            "token-l",
            "u-ada",
            json!({"spec": {"kind": "session"}}),
        ));
        state.ext = Some(ext_tokens);
    });
    let role = |token: &ListedToken| token.role.clone().into_option().unwrap();
    let roles: Vec<String> = rancher
        .tokens()
        .await
        .iter()
        .map(|token| format!("{} {}", token.external_id, role(token)))
        .collect();
    let expected = [
        "ext/token-chjc9 api_key",
        "ext/token-k kubeconfig",
        "kubeconfig-u-ada kubeconfig",
        "token-7x2kq api_key",
        "token-lapsd api_key",
        "token-sys system",
    ];
    assert_eq!(roles, expected);
    let source = rancher.source_of(&[TokenKind::Session], OWN);
    let Fetched::New(sessions) = source.fetch(&LastListing::default()).await.unwrap() else {
        panic!("nothing new");
    };
    let ids: Vec<String> = sessions
        .tokens
        .map(|token| token.unwrap().external_id)
        .collect();
    assert_eq!(ids, ["ext/token-l", "token-s", "token-t"]);
}

/// Many tokens, in pages of two.
fn paged() -> Rancher {
    Rancher::with(|state| {
        state.page = 2;
        let names = (0..9).map(|n| legacy(&format!("token-{n}"), "u-ada", json!({})));
        state.legacy.extend(names);
    })
}

#[tokio::test]
async fn a_list_that_becomes_stale_is_read_again() {
    let rancher = paged();
    rancher.state().stale = 2;
    assert_eq!(rancher.tokens().await.len(), 12);
    let lines = rancher.take_request_lines();
    let pages = |path: &str| lines.iter().filter(|line| line.ends_with(path)).count();
    assert_eq!(pages("v3/tokens"), 2 + 2 + 6, "{lines:?}");
    assert!(
        !lines.contains(&"GET /v3/tokens".to_owned()),
        "that lists only the own tokens"
    );
}

#[tokio::test]
async fn a_list_that_stays_stale_fails_the_listing() {
    let rancher = paged();
    rancher.state().stale = usize::MAX;
    let error = rancher.fetch_error().await;
    assert_contains!(error, "/v3/tokens answered 410");
    let lines = rancher.take_request_lines();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.ends_with("/v3/tokens"))
            .count(),
        8
    );
}

#[rstest]
#[case::half_a_page(|| Answer::text(200, "{\"metadata\":{},\"items\":[{\"metadata\":{\"name\":\"a\"},\"token\":\"hush-"), "ends in the middle")]
#[case::a_connection_that_breaks(|| Answer::cut("{\"metadata\":{},\"items\":[{\"token\":\"hush-"), "cannot reach")]
#[case::no_json(|| Answer::text(200, "<html>hush-"), "not JSON")]
#[case::no_list(|| Answer::text(200, "{\"type\":\"error\"}"), "not as documented")]
#[case::elsewhere(|| Answer::status(302).with("location", "https://evil.example.org/"), "redirects to https://evil.example.org")]
#[case::two_gigabytes(|| Answer::endless(2 << 30), "more than 32 MiB")]
#[case::broken(|| Answer::text(500, "hush-"), "500")]
#[case::expired(|| Answer::text(401, "hush-"), "create a token without a cluster")]
#[case::not_allowed(|| Answer::text(403, "hush-"), "verbs [\"get\", \"list\"] to a GlobalRole")]
#[case::none_before_others(|| Answer::text(200, "{\"metadata\":{\"continue\":\"4\"},\"items\":null}"), "although there are more pages")]
#[case::none_though_some_remain(|| Answer::text(200, "{\"metadata\":{\"remainingItemCount\":7},\"items\":null}"), "although there are more pages")]
#[case::itself_again(|| Answer::text(200, "{\"metadata\":{\"continue\":\"2\"},\"items\":[]}"), "its pages lead in a circle")]
#[case::the_first_again(|| Answer::json(&json!({"metadata": {"continue": "5"}, "items": [legacy("token-a", "u-ada", json!({}))]})), "a page has no new id")]
#[tokio::test]
async fn an_invalid_page_fails_the_listing(
    #[case] second_page: fn() -> Answer,
    #[case] expected_text: &str,
) {
    let rancher = paged();
    rancher.state().second_page = Some(second_page);
    let error = rancher.fetch_error().await;
    assert_contains!(error, expected_text);
    assert_lacks!(error, SECRET);
}

#[rstest]
#[case::not_found(404, "a later page of the list was not found")]
#[case::not_allowed(403, "verbs [\"get\", \"list\"] to a GlobalRole")]
#[tokio::test]
async fn a_list_that_disappears_between_pages_fails_the_listing(
    #[case] status: u16,
    #[case] expected_text: &str,
) {
    let rancher = Rancher::with(|state| {
        state.page = 2;
        let tokens = (0..3).map(|n| ext(&format!("token-{n}"), "u-ada", json!({})));
        state.ext = Some(tokens.collect());
    });
    rancher.state().second_page = Some(match status {
        404 => || Answer::status(404),
        _ => || Answer::status(403),
    });
    let error = rancher.fetch_error().await;
    assert_contains!(error, expected_text, "ext.cattle.io/v1/tokens");
    // The same applies to the list of users.
    {
        let mut state = rancher.state();
        state.ext = Some(Vec::new());
        state.users.push(user("u-three", json!({})));
    }
    let error = rancher.fetch_error().await;
    assert_contains!(error, expected_text, "/users");
}

#[tokio::test]
async fn an_object_without_a_name_is_one_refused_record() {
    let rancher = paged();
    rancher.state().second_page = Some(|| {
        let page = r#"{"metadata":{},"items":[{"token":"hush-"}, "hush-", null]}"#;
        Answer::text(200, page)
    });
    rancher.state().ext = Some(Vec::new());
    let listing = rancher.fetch().await.unwrap();
    assert_eq!((listing.count, listing.refusals.count), (2, 3));
    let reasons = format!("{:?}", listing.refusals);
    assert_contains!(
        reasons,
        "it has no usable id",
        "it is a text instead of an object"
    );
    assert_lacks!(reasons, SECRET);
}

#[tokio::test]
async fn a_request_to_wait_is_returned() {
    let rancher = paged();
    rancher.state().second_page = Some(|| Answer::status(429).with("retry-after", "90"));
    let error = rancher.fetch().await.map(|_| ()).unwrap_err();
    assert_eq!(error.wait(), Some(std::time::Duration::from_secs(90)));
}

#[tokio::test]
async fn an_older_server_has_no_ext_tokens_and_records_no_use() {
    let rancher = Rancher::with(|state| {
        state.ext = None;
        let unused = json!({"lastUsedAt": null});
        state.legacy.push(legacy("token-x", "u-ada", unused));
    });
    assert_eq!(rancher.tokens().await.len(), 3);
    assert_eq!(rancher.token("token-x").await.last_used_at, Cell::Absent);
    rancher.state().ext = Some(Vec::new());
    assert_eq!(rancher.token("token-x").await.last_used_at, Cell::Empty);
}

#[tokio::test]
async fn the_maximum_life_follows_from_the_settings() {
    let rancher = Rancher::new();
    let life = rancher.fetch().await.unwrap().max_life.unwrap();
    assert_eq!(life.life, Some(TimeDelta::days(90)));
    rancher.state().settings = [
        ("auth-token-max-ttl-minutes", "0"),
        ("kubeconfig-generate-token", "true"),
    ]
    .into();
    let life = rancher.fetch().await.unwrap().max_life.unwrap();
    assert_eq!(life.life, None);
    let expected = "auth-token-max-ttl-minutes is 0, kubeconfig-generate-token is true";
    assert_eq!(life.evidence, expected);
    rancher.state().hidden.push("/v3/settings/");
    assert_eq!(rancher.fetch().await.unwrap().max_life, None);
}

#[tokio::test]
async fn the_same_listing_is_unchanged() {
    let rancher = Rancher::new();
    let first = rancher.fetch().await.unwrap();
    let last = LastListing {
        fingerprint: first.fingerprint,
        asked_at: None,
    };
    let again = rancher.source().fetch(&last).await.unwrap();
    assert!(matches!(again, Fetched::Unchanged));
    rancher
        .state()
        .settings
        .insert("auth-token-max-ttl-minutes", "0");
    let changed = rancher.source().fetch(&last).await.unwrap();
    assert!(matches!(changed, Fetched::New(_)));
}
