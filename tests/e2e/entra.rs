//! Microsoft Entra ID: listings, changes and look-ups of a tenant.

mod sweeps;
pub mod tenant;

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use lapsed::clock::Clock;
use lapsed::directories::entra::{Config, Credential, Entra};
use lapsed::directories::{Common, Directory, Extent, Lookup, PeopleQuery};
use lapsed::domain::{Address, IdentityStatus, Reason};
use lapsed::sources::Error;
use rstest::rstest;
use serde_json::json;

use crate::bad_responses::LEAKED_SECRET;
use crate::listed::{Listed, common, list_again, list_query};
use crate::stub::{Answer, Stub};
use tenant::{Tenant, id, user};

const USERS: &str = "/v1.0/users";
const DELTA: &str = "/v1.0/users/delta";

fn start() -> DateTime<Utc> {
    "2026-11-22T06:00:00Z".parse().unwrap()
}

fn directory_with(stub: &Stub, credential: Credential) -> Entra {
    let config = Config {
        credential,
        ..tenant::config(stub)
    };
    config.build(&common(&[])).unwrap()
}

fn directory(stub: &Stub, allowed_groups: &[&str]) -> Entra {
    directory_at(stub, allowed_groups, Clock::system())
}

fn directory_at(stub: &Stub, allowed_groups: &[&str], clock: Clock) -> Entra {
    let common = Common {
        clock,
        ..common(allowed_groups)
    };
    tenant::config(stub).build(&common).unwrap()
}

async fn list_people(directory: &Entra, cursor: Option<&str>) -> Result<Listed, Error> {
    list_again(directory, &[], cursor).await
}

async fn listing_error(directory: &Entra) -> String {
    let error = list_people(directory, None).await.unwrap_err();
    error.to_string()
}

#[tokio::test]
async fn an_empty_page_is_not_the_last() {
    let tenant = Tenant::new(5);
    tenant.state().page = 2;
    tenant.state().has_empty_page = true;
    let stub = tenant.start();
    let listed = list_people(&directory(&stub, &[]), None).await.unwrap();
    assert_eq!(listed.people.len(), 5);
    let pages = stub.requests().iter().filter(|it| it.path == USERS).count();
    assert_eq!(pages, 4);
}

#[tokio::test]
async fn a_repeated_user_is_listed_once() {
    let tenant = Tenant::new(2);
    tenant.override_response(USERS, || {
        let twice = [user(1, "user1@example.org"), user(1, "user1@example.org")];
        Answer::json(&json!({ "value": twice }))
    });
    let stub = tenant.start();
    let listed = list_people(&directory(&stub, &[]), None).await.unwrap();
    assert_eq!(listed.lines(), ["user1@example.org active"]);
}

#[tokio::test]
async fn a_user_without_account_enabled_is_unknown_and_a_list_of_them_an_error() {
    let tenant = Tenant::new(2);
    let mut odd = user(2, "user2@example.org");
    odd["accountEnabled"] = json!(null);
    tenant.user(&odd);
    let stub = tenant.start();
    let listed = list_people(&directory(&stub, &[]), None).await.unwrap();
    let expected = ["user1@example.org active", "user2@example.org unknown"];
    assert_eq!(listed.lines(), expected);
    assert_eq!(listed.people[1].reason, Some(Reason::FieldMissing));

    tenant.state().hidden.insert("accountEnabled");
    let error = listing_error(&directory(&stub, &[])).await;
    assert_contains!(error, "none of them has accountEnabled", "User.Read.All");
}

#[tokio::test]
async fn credentials_are_sent_to_no_other_server() {
    let other = Stub::start(|_| Answer::json(&json!({"value": []})));
    let tenant = Tenant::new(3);
    tenant.state().page = 2;
    tenant.override_response(DELTA, || Answer::status(404));
    tenant.state().elsewhere = Some(other.url.clone());
    let stub = tenant.start();
    let error = listing_error(&directory(&stub, &[])).await;
    assert_contains!(error, "a next page on another server");
    // Nor is a delta link to another server accepted.
    tenant.state().overrides.clear();
    tenant.state().page = 999;
    let error = listing_error(&directory(&stub, &[])).await;
    assert_contains!(error, "a next page on another server");
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_refusal_says_what_to_add() {
    let tenant = Tenant::new(1);
    tenant.override_response(USERS, || Answer::text(403, LEAKED_SECRET));
    let error = listing_error(&directory(&tenant.start(), &[])).await;
    let fix = "add the application permission User.Read.All";
    assert_contains!(error, fix);
}

#[tokio::test]
async fn an_access_token_of_another_cloud_is_reported_by_any_request() {
    let tenant = Tenant::new(1);
    let stub = tenant.start();
    tenant.override_response(DELTA, || Answer::text(401, LEAKED_SECRET));
    let error = listing_error(&directory(&stub, &[])).await;
    assert_contains!(error, "set cloud to the tenant's cloud");
}

#[tokio::test]
async fn a_wrong_secret_is_reported_and_not_shown() {
    let stub = Tenant::new(1).start();
    let wrong = Credential::Secret("Abc8Q~another-s3cret".into());
    let error = listing_error(&directory_with(&stub, wrong)).await;
    assert_contains!(error, "invalid_client, AADSTS7000215");
    assert_contains!(error, "set client_secret to its value");
    assert!(!error.contains("s3cret"), "{error}");
}

#[tokio::test]
async fn a_certificate_replaces_the_secret() {
    let tenant = Tenant::new(1);
    let stub = tenant.start();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/assertion/rsa.pem");
    let directory = directory_with(&stub, Credential::Certificate(file));
    let listed = list_people(&directory, None).await.unwrap();
    assert_eq!(listed.lines(), ["user1@example.org active"]);
    let requests = stub.requests();
    assert!(!requests[0].body.contains("client_secret"));
}

#[rstest]
#[case::by_name("cdn admins")]
#[case::by_a_name_in_another_case("CDN Admins")]
#[case::by_id("87d349ed-44d7-43e1-9a83-000000000100")]
#[tokio::test]
async fn members_of_an_allowed_group_are_marked_and_counted(#[case] name: &str) {
    let tenant = Tenant::new(3);
    tenant.group(100, "cdn admins", &[1, 3]);
    tenant.group(101, "cdn admins of old", &[2]);
    tenant.state().page = 2;
    let stub = tenant.start();
    let listed = list_people(&directory(&stub, &[name]), None).await.unwrap();
    assert_eq!(listed.members(), ["user1@example.org", "user3@example.org"]);
    assert_eq!(listed.groups(), [(name, 2)]);
    assert_eq!(
        listed.listing.cursor, None,
        "changes do not show group memberships"
    );
    assert!(!stub.take_request_lines().contains(&format!("GET {DELTA}")));
}

#[tokio::test]
async fn an_ignored_filter_finds_no_other_group() {
    let tenant = Tenant::new(1);
    tenant.group(100, "others", &[1]);
    tenant.override_response("/v1.0/groups", || {
        Answer::json(&json!({"value": [{"id": id(100), "displayName": "others"}]}))
    });
    let stub = tenant.start();
    let error = listing_error(&directory(&stub, &["ops"])).await;
    assert_contains!(error, "there is no group \"ops\"");
}

#[tokio::test]
async fn a_cursor_from_before_allowed_groups_is_not_used() {
    let tenant = Tenant::new(2);
    tenant.group(100, "ops", &[1]);
    let stub = tenant.start();
    let (_, clock, cursor) = after_first_listings(&stub).await;
    let directory = directory_at(&stub, &["ops"], clock);
    let listed = list_people(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(listed.listing.extent, Extent::Everybody);
    assert_eq!(listed.people[1].is_member, Some(false));
}

#[tokio::test]
async fn membership_in_one_of_several_groups_is_enough() {
    let tenant = Tenant::new(3);
    tenant.group(100, "it's ours", &[1]).group(101, "b", &[2]);
    let stub = tenant.start();
    let directory = directory(&stub, &["it's ours", "b"]);
    let listed = list_people(&directory, None).await.unwrap();
    assert_eq!(listed.members(), ["user1@example.org", "user2@example.org"]);
    assert_eq!(listed.groups(), [("it's ours", 1), ("b", 1)]);
}

#[rstest]
#[case("twice", "several groups are called \"twice\" of allowed_groups")]
#[case(
    "87d349ed-44d7-43e1-9a83-000000000999",
    "there is no group \"87d349ed-44d7-43e1-9a83-000000000999\""
)]
#[tokio::test]
async fn an_unknown_or_ambiguous_group_is_an_error(#[case] name: &str, #[case] words: &str) {
    let tenant = Tenant::new(1);
    tenant.group(100, "twice", &[1]).group(101, "Twice", &[1]);
    let stub = tenant.start();
    let error = listing_error(&directory(&stub, &[name])).await;
    assert_contains!(error, words, "write the object id");
}

#[rstest]
#[case("/v1.0/groups")]
#[case("/v1.0/groups/87d349ed-44d7-43e1-9a83-000000000100/transitiveMembers")]
#[tokio::test]
async fn groups_that_cannot_be_read_are_an_error(#[case] path: &str) {
    let tenant = Tenant::new(1);
    tenant.group(100, "ops", &[1]);
    tenant.override_response(path, || Answer::status(403));
    let stub = tenant.start();
    let error = listing_error(&directory(&stub, &["ops"])).await;
    assert_contains!(error, "GroupMember.Read.All");
}

fn gone(evidence: &str, is_certain: bool) -> Lookup {
    Lookup::Gone {
        evidence: evidence.to_owned(),
        is_certain,
    }
}

#[tokio::test]
async fn a_deleted_user_is_gone_for_certain() {
    let tenant = Tenant::new(3);
    let stub = tenant.start();
    let directory = directory(&stub, &[]);
    tenant.delete(3);
    let looked_up = directory.look_up(&id(3)).await.unwrap();
    assert_eq!(looked_up, gone("it is in the deleted items", true));
}

#[tokio::test]
async fn a_look_up_concludes_nothing_from_what_cannot_be_read() {
    let tenant = Tenant::new(1);
    tenant.delete(1);
    let bin = format!("/v1.0/directory/deletedItems/{}", id(1));
    tenant.override_response(&bin, || Answer::status(403));
    let stub = tenant.start();
    let directory = directory(&stub, &[]);
    let looked_up = directory.look_up(&id(1)).await.unwrap();
    let words = "404 for its id; the deleted items cannot be read";
    assert_eq!(looked_up, gone(words, false));
    tenant.override_response(&bin, || Answer::status(500));
    assert!(directory.look_up(&id(1)).await.is_err());

    let one = format!("/v1.0/users/{}", id(1));
    tenant.override_response(&one, || Answer::status(403));
    let looked_up = directory.look_up(&id(1)).await.unwrap();
    assert!(matches!(looked_up, Lookup::Unclear(_)), "{looked_up:?}");
    stub.take_request_lines();
    let looked_up = directory.look_up("..").await.unwrap();
    assert!(matches!(looked_up, Lookup::Unclear(_)), "{looked_up:?}");
    assert!(stub.take_request_lines().is_empty());
    directory.look_up("../groups").await.unwrap();
    let requests = stub.take_request_lines();
    assert!(
        requests.contains(&"GET /v1.0/users/..%2Fgroups".to_owned()),
        "{requests:?}"
    );
}

/// A server with ids of another form, and without delta queries, recycle bin and transitive members of all
/// kinds.
#[tokio::test]
async fn a_server_with_a_minimal_api_works() {
    fn not_found() -> Answer {
        Answer::text(404, "{}")
    }
    const GROUP: &str = "/v1.0/groups/ops-team";
    let users = || {
        let named = |id: &str, mail: &str, enabled: bool| json!({"id": id, "mail": mail, "accountEnabled": enabled});
        let all = [
            named("user/a", "ada@example.org", true),
            named("user/A", "bob@example.org", false),
        ];
        Answer::json(&json!({ "value": all }))
    };
    let tenant = Tenant::new(0);
    tenant
        .override_response(USERS, users)
        .override_response(DELTA, not_found);
    tenant.override_response("/v1.0/users/user%2FA", || {
        Answer::json(&json!({"id": "user/A", "accountEnabled": false}))
    });
    tenant.override_response("/v1.0/groups", || Answer::json(&json!({ "value": [] })));
    tenant.override_response(GROUP, || Answer::json(&json!({"id": "ops-team"})));
    tenant.override_response(&format!("{GROUP}/transitiveMembers"), not_found);
    let members = format!("{GROUP}/transitiveMembers/microsoft.graph.user");
    tenant.override_response(&members, || {
        Answer::json(&json!({"value": [{"id": "user/a"}]}))
    });
    let bin = "/v1.0/directory/deletedItems/microsoft.graph.user";
    tenant.override_response(bin, not_found);
    let stub = tenant.start();
    let all = directory(&stub, &[]);
    let listed = list_people(&all, None).await.unwrap();
    let expected = ["ada@example.org active", "bob@example.org disabled"];
    assert_eq!(listed.lines(), expected);
    assert_eq!(listed.listing.cursor, None);
    let Lookup::Found(bob) = all.look_up("user/A").await.unwrap() else {
        panic!("bob exists");
    };
    assert_eq!(bob.status, IdentityStatus::Disabled);
    assert_eq!(bob.main, None);
    let looked_up = all.look_up("user/b").await.unwrap();
    assert_eq!(
        looked_up,
        gone("404 for its id, and not in the deleted items", false)
    );
    let checked = all.check().await.unwrap();
    assert_contains!(checked.summary, "without a list of deleted users");

    let members = list_people(&directory(&stub, &["ops-team"]), None)
        .await
        .unwrap();
    let members: Vec<_> = members.people.iter().map(|it| it.is_member).collect();
    assert_eq!(members, [Some(true), Some(false)]);
    let path = format!("{GROUP}/transitiveMembers/microsoft.graph.user");
    tenant.override_response(&path, not_found);
    let error = listing_error(&directory(&stub, &["ops-team"])).await;
    assert_contains!(error, "404");
}

/// A directory whose last full listing is old enough for a delta query, and its cursor.
async fn after_first_listings(stub: &Stub) -> (Entra, Clock, String) {
    let clock = Clock::manual(start());
    let directory = directory_at(stub, &[], clock.clone());
    let first = list_people(&directory, None).await.unwrap().listing;
    clock.advance(TimeDelta::minutes(10));
    let cursor = first.cursor.unwrap();
    let second = list_people(&directory, Some(&cursor))
        .await
        .unwrap()
        .listing;
    assert_eq!(second.extent, Extent::Everybody);
    stub.take_request_lines();
    (directory, clock, second.cursor.unwrap())
}

#[tokio::test]
async fn a_listing_without_enough_overlap_is_repeated() {
    let tenant = Tenant::new(2);
    let stub = tenant.start();
    let clock = Clock::manual(start());
    let directory = directory_at(&stub, &[], clock.clone());
    let mut cursor = None;
    for _ in 0..3 {
        let listing = list_people(&directory, cursor.as_deref())
            .await
            .unwrap()
            .listing;
        assert_eq!(listing.extent, Extent::Everybody);
        cursor = listing.cursor;
        clock.advance(TimeDelta::minutes(3));
    }
    let lines = stub.take_request_lines();
    let begun = lines.iter().filter(|line| **line == format!("GET {DELTA}"));
    assert_eq!(begun.count(), 1, "the delta link is kept");
}

#[tokio::test]
async fn changed_users_are_looked_up_by_id() {
    let tenant = Tenant::new(3);
    let stub = tenant.start();
    let (directory, _, cursor) = after_first_listings(&stub).await;
    tenant.enable(2, true).enable(2, false);
    // The entry of a renamed user has no accountEnabled.
    let renamed = json!({"id": id(3), "displayName": "Another"});
    tenant.state().changes.push(renamed);
    let listed = list_people(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(listed.listing.extent, Extent::Changes);
    let expected = ["user2@example.org disabled", "user3@example.org active"];
    assert_eq!(listed.lines(), expected);
    let lines = stub.take_request_lines();
    let user = |number| format!("GET {USERS}/{}", id(number));
    assert_eq!(lines, [format!("GET {DELTA}"), user(2), user(3)]);

    let cursor = listed.listing.cursor.unwrap();
    let listed = list_people(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(listed.listing.extent, Extent::Changes);
    assert!(listed.people.is_empty() && listed.listing.removed.is_empty());
    tenant.enable(2, true);
    let cursor = listed.listing.cursor.unwrap();
    let listed = list_people(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(listed.lines(), ["user2@example.org active"]);
}

/// An account with the same mailbox has not changed, so the changes alone do not show it.
#[tokio::test]
async fn everybody_is_listed_when_an_issuer_lost_access() {
    let tenant = Tenant::new(3);
    let mut second = tenant::user(3, "user2@example.org");
    second["userPrincipalName"] = json!("user2.admin@example.org");
    tenant.user(&second);
    tenant.state().changes.clear();
    let stub = tenant.start();
    let people = ["user2@example.org".parse().unwrap()];
    let clock = Clock::manual("2026-11-22T12:00:00Z".parse().unwrap());
    let directory = directory_at(&stub, &[], clock.clone());
    let mut cursor = None;
    for _ in 0..2 {
        let listed = list_again(&directory, &people, cursor.as_deref()).await;
        cursor = listed.unwrap().listing.cursor;
        clock.advance(TimeDelta::minutes(11));
    }
    tenant.enable(2, false);
    let listed = list_again(&directory, &people, cursor.as_deref())
        .await
        .unwrap();
    assert_eq!(listed.listing.extent, Extent::Everybody);
    assert_eq!(listed.people.len(), 3);
}

#[tokio::test]
async fn an_odd_user_is_unknown_and_a_user_without_an_id_is_left_out() {
    let tenant = Tenant::new(4);
    let mut odd = tenant::user(2, "user2@example.org");
    odd["accountEnabled"] = json!({});
    odd["displayName"] = json!(["x"]);
    odd["proxyAddresses"] = json!("SMTP:user2@example.org");
    tenant.user(&odd);
    let mut text = tenant::user(3, "user3@example.org");
    text["accountEnabled"] = json!("False");
    tenant.user(&text);
    tenant.state().users.get_mut(&id(4)).unwrap()["id"] = json!(null);
    let listed = list_people(&directory(&tenant.start(), &[]), None)
        .await
        .unwrap();
    let expected = [
        "user1@example.org active",
        "user2@example.org unknown",
        "user3@example.org disabled",
    ];
    assert_eq!(listed.lines(), expected);
    let gaps = listed.listing.gaps.unwrap();
    assert_contains!(gaps, "1 record of a person has no id");
}

#[tokio::test]
async fn removed_users_are_reported_and_then_everybody_is_listed() {
    let tenant = Tenant::new(4);
    let stub = tenant.start();
    let (directory, clock, cursor) = after_first_listings(&stub).await;
    tenant.delete(2).delete(3).restore(3).delete(4).purge(4);
    let listed = list_people(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(listed.listing.extent, Extent::Changes);
    assert_eq!(listed.lines(), ["user3@example.org active"]);
    assert_eq!(listed.listing.removed, [id(2), id(4)]);

    let mut cursor = listed.listing.cursor;
    for extent in [Extent::Everybody, Extent::Everybody, Extent::Changes] {
        let listed = list_people(&directory, cursor.as_deref()).await.unwrap();
        assert_eq!(listed.listing.extent, extent);
        cursor = listed.listing.cursor;
        clock.advance(TimeDelta::minutes(10));
    }
}

#[tokio::test]
async fn a_changed_user_who_is_gone_is_reported_as_removed() {
    let tenant = Tenant::new(2);
    let stub = tenant.start();
    let (directory, _, cursor) = after_first_listings(&stub).await;
    tenant.enable(2, false);
    tenant.state().users.remove(&id(2));
    let listed = list_people(&directory, Some(&cursor)).await.unwrap();
    assert!(listed.people.is_empty());
    assert_eq!(listed.listing.removed, [id(2)]);
}

#[rstest]
#[case::expired(|| Answer::status(410).with("location", "https://evil.example/delta"))]
#[case::expired_otherwise(|| Answer::text(400, "{\"error\": {\"code\": \"syncStateNotFound\"}}"))]
#[case::not_offered(|| Answer::status(404))]
#[tokio::test]
async fn an_expired_delta_link_leads_to_a_full_listing_at_once(#[case] answer: fn() -> Answer) {
    let tenant = Tenant::new(2);
    let stub = tenant.start();
    let (directory, _, cursor) = after_first_listings(&stub).await;
    tenant.enable(2, false).override_response(DELTA, answer);
    let listed = list_people(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(listed.listing.extent, Extent::Everybody);
    let expected = ["user1@example.org active", "user2@example.org disabled"];
    assert_eq!(listed.lines(), expected);
    assert_eq!(listed.listing.cursor, None);
    // The next listing starts a new one.
    tenant.state().overrides.clear();
    let listed = list_people(&directory, None).await.unwrap();
    assert!(listed.listing.cursor.is_some());
}

#[tokio::test]
async fn a_failed_delta_query_is_an_error() {
    let tenant = Tenant::new(2);
    let stub = tenant.start();
    let (directory, _, cursor) = after_first_listings(&stub).await;
    tenant.override_response(DELTA, || Answer::status(500));
    let error = list_people(&directory, Some(&cursor)).await.unwrap_err();
    assert_contains!(error, "answered 500");
    // A delta query without an end leads to a full listing.
    tenant.override_response(DELTA, || Answer::json(&json!({"value": []})));
    let listed = list_people(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(listed.listing.extent, Extent::Everybody);
}

#[tokio::test]
async fn a_change_that_the_account_does_not_confirm_leads_to_full_listings() {
    let tenant = Tenant::new(2);
    let stub = tenant.start();
    let (directory, _, cursor) = after_first_listings(&stub).await;
    let early = json!({"id": id(2), "accountEnabled": false});
    tenant.state().changes.push(early);
    let listed = list_people(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(listed.listing.extent, Extent::Everybody);
    let cursor = listed.listing.cursor.unwrap();
    let listed = list_people(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(listed.listing.extent, Extent::Everybody, "for a while");
}

#[tokio::test]
async fn many_changes_lead_to_a_full_listing() {
    let tenant = Tenant::new(120);
    let stub = tenant.start();
    let (directory, _, cursor) = after_first_listings(&stub).await;
    for number in 1..=101 {
        tenant.enable(number, false);
    }
    let listed = list_people(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(listed.listing.extent, Extent::Everybody);
    assert_eq!(listed.people.len(), 120);
}

#[rstest]
#[case::a_day(TimeDelta::hours(24), &[], &|cursor| cursor)]
#[case::a_clock_set_back(TimeDelta::hours(-1), &[], &|cursor| cursor)]
#[case::others(TimeDelta::zero(), &["user1@example.org"], &|cursor| cursor)]
#[case::garbage(TimeDelta::zero(), &[], &|_| "{}".to_owned())]
#[case::elsewhere(TimeDelta::zero(), &[], &|cursor: String| cursor.replace("127.0.0.1", "evil.example"))]
#[tokio::test]
async fn everybody_is_listed_if_the_cursor_is_old_or_does_not_fit(
    #[case] later: TimeDelta,
    #[case] people: &[&str],
    #[case] change: &(dyn Fn(String) -> String + Sync),
) {
    let tenant = Tenant::new(2);
    let stub = tenant.start();
    let (directory, clock, cursor) = after_first_listings(&stub).await;
    clock.advance(later);
    let people: Vec<Address> = people.iter().map(|it| it.parse().unwrap()).collect();
    let cursor = change(cursor);
    let query = PeopleQuery {
        people: &people,
        cursor: Some(&cursor),
        last_cursor: Some(&cursor),
    };
    let listed = list_query(&directory, &query).await.unwrap();
    assert_eq!(listed.listing.extent, Extent::Everybody);
    assert_eq!(listed.people.len(), 2);
}

#[tokio::test]
async fn a_check_reports_what_the_application_may_read() {
    let tenant = Tenant::new(2);
    tenant.group(100, "ops", &[1]);
    let stub = tenant.start();
    let checked = directory(&stub, &["ops"]).check().await.unwrap();
    assert_eq!(
        checked.summary,
        "Microsoft Entra ID, tenant contoso.example"
    );
    let rights = |checked: &lapsed::sources::CheckReport| -> Vec<(String, bool)> {
        let rights = checked.rights.iter();
        rights
            .map(|right| (right.what.clone(), right.missing.is_none()))
            .collect()
    };
    let expected = [
        ("read users and whether they are enabled", true),
        ("read who is in the allowed groups: ops (1)", true),
        ("read the deleted users", true),
    ];
    let expected = expected.map(|(what, is_there)| (what.to_owned(), is_there));
    assert_eq!(rights(&checked), expected);

    let bin = "/v1.0/directory/deletedItems/microsoft.graph.user";
    tenant.override_response(bin, || Answer::status(403));
    let checked = directory(&stub, &[]).check().await.unwrap();
    let expected = [
        "read users and whether they are enabled",
        "read the deleted users",
    ];
    let missing: Vec<_> = checked.rights.iter().map(|it| it.missing.clone()).collect();
    assert_eq!(rights(&checked).len(), expected.len());
    assert_eq!(missing[0], None);
    tenant.override_response(DELTA, || Answer::status(403));
    let checked = directory(&stub, &[]).check().await.unwrap();
    assert_contains!(checked.summary, "offers no changes");
    assert_contains!(missing[1].as_ref().unwrap(), "User.Read.All");
}

#[tokio::test]
async fn a_check_reports_what_prevents_a_listing() {
    let tenant = Tenant::new(1);
    tenant.state().hidden.insert("accountEnabled");
    let stub = tenant.start();
    let error = directory(&stub, &[]).check().await.unwrap_err();
    assert_contains!(error, "accountEnabled");
    let error = directory(&stub, &["ops"]).check().await.unwrap_err();
    assert_contains!(error, "accountEnabled");
    tenant.state().hidden.clear();
    let error = directory(&stub, &["ops"]).check().await.unwrap_err();
    assert_contains!(error, "no group \"ops\"");
}
