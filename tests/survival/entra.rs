//! Microsoft Entra ID: what lapsed makes of its users, and of its traps.

mod sweeps;
mod tenant;

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use lapsed::clock::Clock;
use lapsed::directories::entra::{Cloud, Config, Credential, Entra};
use lapsed::directories::{Asked, Common, Directory, Extent, Group, LookedUp, Pulled};
use lapsed::domain::{Address, IdentityStatus, Person, Reason};
use lapsed::sources::{Error, Fetched};
use rstest::rstest;
use serde_json::json;

use crate::stub::{Answer, Stub};
use crate::traps::{LEAKED, TRAPS};
use tenant::{CLIENT, SECRET, TENANT, Tenant, id, user};

const USERS: &str = "/v1.0/users";
const DELTA: &str = "/v1.0/users/delta";

fn start() -> DateTime<Utc> {
    "2026-11-22T06:00:00Z".parse().unwrap()
}

fn directory_with(stub: &Stub, credential: Credential, allowed_groups: &[&str]) -> Entra {
    let config = Config {
        tenant: TENANT.to_owned(),
        client_id: CLIENT.parse().unwrap(),
        credential,
        cloud: Cloud::Global,
        url: Some(stub.url.parse().unwrap()),
    };
    let common = Common {
        name: "entra".to_owned(),
        timeout: Duration::from_secs(20),
        allowed_groups: allowed_groups.iter().map(|&name| name.to_owned()).collect(),
    };
    config.build(&common).unwrap()
}

fn directory(stub: &Stub, allowed_groups: &[&str]) -> Entra {
    directory_with(stub, Credential::Secret(SECRET.into()), allowed_groups)
}

/// What one pull brought.
#[derive(Debug)]
struct Told {
    people: Vec<Person>,
    pulled: Pulled,
}

impl Told {
    /// `user2@example.org disabled`, in order.
    fn lines(&self) -> Vec<String> {
        let line = |person: &Person| format!("{} {}", person.email(), person.status.as_str());
        let mut lines: Vec<String> = self.people.iter().map(line).collect();
        lines.sort();
        lines
    }
}

async fn pull_asked(directory: &Entra, asked: &Asked<'_>) -> Result<Told, Error> {
    let mut people = Vec::new();
    let mut tell = |person| people.push(person);
    match directory.pull(asked, &mut tell).await? {
        Fetched::New(pulled) => Ok(Told { people, pulled }),
        Fetched::Unchanged => panic!("it always tells where the next pull takes up"),
    }
}

async fn pull(directory: &Entra, cursor: Option<&str>) -> Result<Told, Error> {
    let asked = Asked {
        people: &[],
        cursor,
    };
    pull_asked(directory, &asked).await
}

async fn fails(directory: &Entra) -> String {
    let error = pull(directory, None).await.unwrap_err();
    error.to_string()
}

#[rstest]
#[case::one_page(999, false)]
#[case::pages(2, false)]
#[case::an_empty_page_among_them(2, true)]
#[tokio::test]
async fn everybody_is_told_of_once_whatever_the_pages(#[case] page: usize, #[case] empty: bool) {
    let tenant = Tenant::new(5);
    tenant.enable(2, false);
    tenant.state().page = page;
    tenant.state().has_empty_page = empty;
    let stub = tenant.start();
    let told = pull(&directory(&stub, &[]), None).await.unwrap();
    assert_eq!(
        told.lines(),
        [
            "user1@example.org active",
            "user2@example.org disabled",
            "user3@example.org active",
            "user4@example.org active",
            "user5@example.org active"
        ]
    );
    assert_eq!(told.pulled.extent, Extent::Everybody);
    let pages = stub.asked().iter().filter(|it| it.path == USERS).count();
    assert_eq!(pages, 5_usize.div_ceil(page) + usize::from(empty));
}

#[tokio::test]
async fn a_person_is_told_with_all_that_graph_says() {
    let tenant = Tenant::new(1);
    tenant.enable(1, false);
    let stub = tenant.start();
    let told = pull(&directory(&stub, &[]), None).await.unwrap();
    let expected = Person {
        id: Some(id(1)),
        addresses: vec!["user1@example.org".parse().unwrap()],
        name: Some("User 1".to_owned()),
        status: IdentityStatus::Disabled,
        reason: Some(Reason::Admin),
        since: None,
        evidence: "accountEnabled=false".to_owned(),
        is_member: None,
    };
    assert_eq!(told.people, [expected]);
}

#[tokio::test]
async fn somebody_who_comes_twice_is_told_of_once() {
    let tenant = Tenant::new(2);
    tenant.instead(USERS, || {
        let twice = [user(1, "user1@example.org"), user(1, "user1@example.org")];
        Answer::json(&json!({ "value": twice }))
    });
    let stub = tenant.start();
    let told = pull(&directory(&stub, &[]), None).await.unwrap();
    assert_eq!(told.lines(), ["user1@example.org active"]);
}

#[tokio::test]
async fn without_account_enabled_one_is_unknown_and_a_list_of_none_is_no_list() {
    let tenant = Tenant::new(2);
    let mut odd = user(2, "user2@example.org");
    odd["accountEnabled"] = json!(null);
    tenant.user(&odd);
    let stub = tenant.start();
    let told = pull(&directory(&stub, &[]), None).await.unwrap();
    assert_eq!(
        told.lines(),
        ["user1@example.org active", "user2@example.org unknown"]
    );
    assert_eq!(told.people[1].reason, Some(Reason::FieldMissing));

    tenant.state().hidden.insert("accountEnabled");
    let said = fails(&directory(&stub, &[])).await;
    assert!(said.contains("accountEnabled of none"), "{said}");
    assert!(said.contains("User.Read.All"), "{said}");
}

#[tokio::test]
async fn an_empty_list_with_a_good_status_is_a_missing_permission() {
    let stub = Tenant::new(0).start();
    let said = fails(&directory(&stub, &[])).await;
    assert!(said.contains("lists nobody"), "{said}");
    assert!(said.contains("grant admin consent"), "{said}");
}

#[tokio::test]
async fn credentials_are_sent_to_no_other_server() {
    let other = Stub::start(|_| Answer::json(&json!({"value": []})));
    let tenant = Tenant::new(3);
    tenant.state().page = 2;
    tenant.instead(DELTA, || Answer::status(404));
    tenant.state().elsewhere = Some(other.url.clone());
    let stub = tenant.start();
    let said = fails(&directory(&stub, &[])).await;
    assert!(said.contains("a next page that is not its own"), "{said}");
    // Neither is a link for later taken from it.
    tenant.state().instead.clear();
    tenant.state().page = 999;
    let said = fails(&directory(&stub, &[])).await;
    assert!(said.contains("a next page that is not its own"), "{said}");
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn a_list_that_leads_in_a_circle_is_no_list() {
    let tenant = Tenant::new(1);
    tenant.instead(USERS, || {
        let next = "/v1.0/users?$skiptoken=again";
        Answer::json(&json!({"value": [user(1, "user1@example.org")], "@odata.nextLink": next}))
    });
    let stub = tenant.start();
    let said = fails(&directory(&stub, &[])).await;
    assert!(said.contains("in a circle"), "{said}");
}

#[tokio::test]
async fn what_is_no_list_concludes_nothing_and_shows_nothing() {
    for trap in TRAPS {
        let tenant = Tenant::new(1);
        tenant.instead(USERS, trap.answer);
        let stub = tenant.start();
        let said = fails(&directory(&stub, &[])).await;
        assert!(said.contains(trap.words), "{said}");
        assert!(!said.contains(LEAKED), "{said}");
    }
}

#[rstest]
#[case(403, "add the application permission User.Read.All")]
#[case(401, "name the cloud where the tenant is")]
#[tokio::test]
async fn a_refusal_says_what_to_add(#[case] status: u16, #[case] words: &str) {
    let tenant = Tenant::new(1);
    let answer: fn() -> Answer = match status {
        403 => || Answer::text(403, LEAKED),
        _ => || Answer::text(401, LEAKED),
    };
    tenant.instead(USERS, answer);
    let stub = tenant.start();
    let said = fails(&directory(&stub, &[])).await;
    assert!(said.contains(words), "{said}");
    assert!(!said.contains(LEAKED), "{said}");
}

#[tokio::test]
async fn a_cloud_that_does_not_know_the_token_is_said_whatever_is_asked_first() {
    let tenant = Tenant::new(1);
    let stub = tenant.start();
    tenant.instead(DELTA, || Answer::text(401, LEAKED));
    let said = fails(&directory(&stub, &[])).await;
    assert!(
        said.contains("name the cloud where the tenant is"),
        "{said}"
    );
}

#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_is() {
    let tenant = Tenant::new(1);
    let stub = tenant.start();
    tenant.instead(USERS, || Answer::status(429));
    let error = pull(&directory(&stub, &[]), None).await.unwrap_err();
    assert_eq!(error.wait(), Some(Duration::from_mins(1)));
    tenant.instead(USERS, || Answer::status(429).with("retry-after", "120"));
    let error = pull(&directory(&stub, &[]), None).await.unwrap_err();
    assert_eq!(error.wait(), Some(Duration::from_mins(2)));
    let asked = stub.asked();
    assert_eq!(asked.iter().filter(|it| it.path == USERS).count(), 2);
}

#[tokio::test]
async fn an_access_token_is_used_while_it_is_good_and_then_renewed() {
    let tenant = Tenant::new(1);
    let stub = tenant.start();
    let directory = directory(&stub, &[]);
    pull(&directory, None).await.unwrap();
    pull(&directory, None).await.unwrap();
    assert_eq!(tenant.state().granted, 1);
    // It ends before its time.
    tenant.state().granted = 10;
    pull(&directory, None).await.unwrap();
    assert_eq!(tenant.state().granted, 11);
}

#[tokio::test]
async fn a_wrong_secret_is_named_and_never_shown() {
    let stub = Tenant::new(1).start();
    let wrong = Credential::Secret("Abc8Q~another-s3cret".into());
    let said = fails(&directory_with(&stub, wrong, &[])).await;
    assert!(said.contains("invalid_client, AADSTS7000215"), "{said}");
    assert!(said.contains("write its value as client_secret"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[tokio::test]
async fn a_program_may_sign_in_with_a_certificate() {
    let tenant = Tenant::new(1);
    let stub = tenant.start();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/assertion/rsa.pem");
    let directory = directory_with(&stub, Credential::Certificate(file), &[]);
    let told = pull(&directory, None).await.unwrap();
    assert_eq!(told.lines(), ["user1@example.org active"]);
    let asked = stub.asked();
    assert!(!asked[0].body.contains("client_secret"));
}

#[rstest]
#[case::by_name("cdn admins")]
#[case::by_a_name_in_another_case("CDN Admins")]
#[case::by_id("87d349ed-44d7-43e1-9a83-000000000100")]
#[tokio::test]
async fn members_of_an_allowed_group_are_told_and_counted(#[case] name: &str) {
    let tenant = Tenant::new(3);
    tenant.group(100, "cdn admins", &[1, 3]);
    tenant.group(101, "cdn admins of old", &[2]);
    tenant.state().page = 2;
    let stub = tenant.start();
    let told = pull(&directory(&stub, &[name]), None).await.unwrap();
    let members: Vec<_> = told.people.iter().map(|it| it.is_member).collect();
    assert_eq!(members, [Some(true), Some(false), Some(true)]);
    let group = Group {
        name: name.to_owned(),
        members: 2,
    };
    assert_eq!(told.pulled.groups, [group]);
    assert_eq!(
        told.pulled.cursor, None,
        "who is in a group, no change tells"
    );
    assert!(!stub.take_lines().contains(&format!("GET {DELTA}")));
}

#[tokio::test]
async fn a_filter_that_is_ignored_finds_no_other_group() {
    let tenant = Tenant::new(1);
    tenant.group(100, "others", &[1]);
    tenant.instead("/v1.0/groups", || {
        Answer::json(&json!({"value": [{"id": id(100), "displayName": "others"}]}))
    });
    let stub = tenant.start();
    let said = fails(&directory(&stub, &["ops"])).await;
    assert!(said.contains("there is no group \"ops\""), "{said}");
}

#[tokio::test]
async fn a_cursor_of_the_time_without_groups_serves_no_more() {
    let tenant = Tenant::new(2);
    tenant.group(100, "ops", &[1]);
    let stub = tenant.start();
    let (_, clock, cursor) = settled(&stub).await;
    let directory = directory(&stub, &["ops"]).with_clock(clock);
    let told = pull(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(told.pulled.extent, Extent::Everybody);
    assert_eq!(told.people[1].is_member, Some(false));
}

#[tokio::test]
async fn one_of_several_groups_is_enough() {
    let tenant = Tenant::new(3);
    tenant.group(100, "it's ours", &[1]).group(101, "b", &[2]);
    let stub = tenant.start();
    let directory = directory(&stub, &["it's ours", "b"]);
    let told = pull(&directory, None).await.unwrap();
    let members: Vec<_> = told.people.iter().map(|it| it.is_member).collect();
    assert_eq!(members, [Some(true), Some(true), Some(false)]);
    let counts: Vec<_> = told.pulled.groups.iter().map(|it| it.members).collect();
    assert_eq!(counts, [1, 1]);
}

#[rstest]
#[case("ops", "there is no group \"ops\" of allowed_groups")]
#[case("twice", "several groups are called \"twice\" of allowed_groups")]
#[case(
    "87d349ed-44d7-43e1-9a83-000000000999",
    "there is no group \"87d349ed-44d7-43e1-9a83-000000000999\""
)]
#[tokio::test]
async fn a_group_that_is_not_one_is_an_error(#[case] name: &str, #[case] words: &str) {
    let tenant = Tenant::new(1);
    tenant.group(100, "twice", &[1]).group(101, "Twice", &[1]);
    let stub = tenant.start();
    let said = fails(&directory(&stub, &[name])).await;
    assert!(said.contains(words), "{said}");
    assert!(said.contains("write the object id"), "{said}");
}

#[rstest]
#[case("/v1.0/groups")]
#[case("/v1.0/groups/87d349ed-44d7-43e1-9a83-000000000100/transitiveMembers")]
#[tokio::test]
async fn groups_that_may_not_be_read_are_an_error(#[case] path: &str) {
    let tenant = Tenant::new(1);
    tenant.group(100, "ops", &[1]);
    tenant.instead(path, || Answer::status(403));
    let stub = tenant.start();
    let said = fails(&directory(&stub, &["ops"])).await;
    assert!(said.contains("GroupMember.Read.All"), "{said}");
}

fn gone(evidence: &str, is_certain: bool) -> LookedUp {
    LookedUp::Gone {
        evidence: evidence.to_owned(),
        is_certain,
    }
}

#[tokio::test]
async fn a_look_by_id_tells_deleted_from_purged_from_there() {
    let tenant = Tenant::new(3);
    let stub = tenant.start();
    let directory = directory(&stub, &[]);
    tenant.enable(2, false).delete(3);
    for (number, status) in [(1, IdentityStatus::Active), (2, IdentityStatus::Disabled)] {
        let LookedUp::Found(person) = directory.look_up(&id(number)).await.unwrap() else {
            panic!("it is there");
        };
        assert_eq!((person.id, person.status), (Some(id(number)), status));
    }
    let looked_up = directory.look_up(&id(3)).await.unwrap();
    assert_eq!(looked_up, gone("it is among the deleted items", true));
    tenant.purge(3);
    let looked_up = directory.look_up(&id(3)).await.unwrap();
    let words = "404 for its id, and not among the deleted items";
    assert_eq!(looked_up, gone(words, false));
}

#[tokio::test]
async fn a_look_by_id_concludes_nothing_from_what_may_not_be_read() {
    let tenant = Tenant::new(1);
    tenant.delete(1);
    let bin = format!("/v1.0/directory/deletedItems/{}", id(1));
    tenant.instead(&bin, || Answer::status(403));
    let stub = tenant.start();
    let directory = directory(&stub, &[]);
    let looked_up = directory.look_up(&id(1)).await.unwrap();
    let words = "404 for its id; the deleted items may not be read";
    assert_eq!(looked_up, gone(words, false));
    tenant.instead(&bin, || Answer::status(500));
    assert!(directory.look_up(&id(1)).await.is_err());

    let one = format!("/v1.0/users/{}", id(1));
    tenant.instead(&one, || Answer::status(403));
    let looked_up = directory.look_up(&id(1)).await.unwrap();
    assert!(matches!(looked_up, LookedUp::Unclear(_)), "{looked_up:?}");
    tenant.instead(&one, || Answer::json(&user(2, "user2@example.org")));
    let error = directory.look_up(&id(1)).await.unwrap_err();
    assert!(
        error.to_string().contains("answers with another"),
        "{error}"
    );
    stub.take_lines();
    let looked_up = directory.look_up("..").await.unwrap();
    assert!(matches!(looked_up, LookedUp::Unclear(_)), "{looked_up:?}");
    assert!(stub.take_lines().is_empty());
    directory.look_up("../groups").await.unwrap();
    let asked = stub.take_lines();
    assert!(
        asked.contains(&"GET /v1.0/users/..%2Fgroups".to_owned()),
        "{asked:?}"
    );
}

/// A server in Graph's place that knows less than Graph: ids of another form, and no changes, recycle bin
/// or members of members of all kinds.
#[tokio::test]
async fn a_simple_server_does() {
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
    tenant.instead(USERS, users).instead(DELTA, not_found);
    tenant.instead("/v1.0/users/user%2FA", || {
        Answer::json(&json!({"id": "user/A", "accountEnabled": false}))
    });
    tenant.instead("/v1.0/groups", || Answer::json(&json!({ "value": [] })));
    tenant.instead(GROUP, || Answer::json(&json!({"id": "ops-team"})));
    tenant.instead(&format!("{GROUP}/transitiveMembers"), not_found);
    let members = format!("{GROUP}/transitiveMembers/microsoft.graph.user");
    tenant.instead(&members, || {
        Answer::json(&json!({"value": [{"id": "user/a"}]}))
    });
    let bin = "/v1.0/directory/deletedItems/microsoft.graph.user";
    tenant.instead(bin, not_found);
    let stub = tenant.start();
    let all = directory(&stub, &[]);
    let told = pull(&all, None).await.unwrap();
    assert_eq!(
        told.lines(),
        ["ada@example.org active", "bob@example.org disabled"]
    );
    assert_eq!(told.pulled.cursor, None);
    let LookedUp::Found(bob) = all.look_up("user/A").await.unwrap() else {
        panic!("he is there");
    };
    assert_eq!(bob.status, IdentityStatus::Disabled);
    assert!(bob.addresses.is_empty());
    let looked_up = all.look_up("user/b").await.unwrap();
    assert_eq!(
        looked_up,
        gone("404 for its id, and not among the deleted items", false)
    );
    let checked = all.check().await.unwrap();
    assert!(checked.summary.contains("without a list of deleted users"));

    let members = pull(&directory(&stub, &["ops-team"]), None).await.unwrap();
    let members: Vec<_> = members.people.iter().map(|it| it.is_member).collect();
    assert_eq!(members, [Some(true), Some(false)]);
    let path = format!("{GROUP}/transitiveMembers/microsoft.graph.user");
    tenant.instead(&path, not_found);
    let said = fails(&directory(&stub, &["ops-team"])).await;
    assert!(said.contains("404"), "{said}");
}

/// A directory whose list is old enough for changes to be asked for, and its cursor.
async fn settled(stub: &Stub) -> (Entra, Clock, String) {
    let clock = Clock::manual(start());
    let directory = directory(stub, &[]).with_clock(clock.clone());
    let first = pull(&directory, None).await.unwrap().pulled;
    clock.advance(TimeDelta::minutes(10));
    let cursor = first.cursor.unwrap();
    let second = pull(&directory, Some(&cursor)).await.unwrap().pulled;
    assert_eq!(second.extent, Extent::Everybody);
    stub.take_lines();
    (directory, clock, second.cursor.unwrap())
}

#[tokio::test]
async fn a_list_younger_than_its_trail_by_minutes_is_read_again() {
    let tenant = Tenant::new(2);
    let stub = tenant.start();
    let clock = Clock::manual(start());
    let directory = directory(&stub, &[]).with_clock(clock.clone());
    let mut cursor = None;
    for _ in 0..3 {
        let pulled = pull(&directory, cursor.as_deref()).await.unwrap().pulled;
        assert_eq!(pulled.extent, Extent::Everybody);
        cursor = pulled.cursor;
        clock.advance(TimeDelta::minutes(3));
    }
    let lines = stub.take_lines();
    let begun = lines.iter().filter(|line| **line == format!("GET {DELTA}"));
    assert_eq!(begun.count(), 1, "the trail goes on");
}

#[tokio::test]
async fn changes_tell_whom_to_look_up_by_id() {
    let tenant = Tenant::new(3);
    let stub = tenant.start();
    let (directory, _, cursor) = settled(&stub).await;
    tenant.enable(2, true).enable(2, false);
    // The entry of somebody who was renamed says nothing of the account.
    let renamed = json!({"id": id(3), "displayName": "Another"});
    tenant.state().changes.push(renamed);
    let told = pull(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(told.pulled.extent, Extent::Changes);
    assert_eq!(
        told.lines(),
        ["user2@example.org disabled", "user3@example.org active"]
    );
    let lines = stub.take_lines();
    let user = |number| format!("GET {USERS}/{}", id(number));
    assert_eq!(lines, [format!("GET {DELTA}"), user(2), user(3)]);

    let cursor = told.pulled.cursor.unwrap();
    let told = pull(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(told.pulled.extent, Extent::Changes);
    assert!(told.people.is_empty() && told.pulled.removed.is_empty());
    tenant.enable(2, true);
    let cursor = told.pulled.cursor.unwrap();
    let told = pull(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(told.lines(), ["user2@example.org active"]);
}

#[tokio::test]
async fn the_removed_are_named_and_then_everybody_is_listed() {
    let tenant = Tenant::new(4);
    let stub = tenant.start();
    let (directory, clock, cursor) = settled(&stub).await;
    tenant.delete(2).delete(3).restore(3).delete(4).purge(4);
    let told = pull(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(told.pulled.extent, Extent::Changes);
    assert_eq!(told.lines(), ["user3@example.org active"]);
    assert_eq!(told.pulled.removed, [id(2), id(4)]);

    let mut cursor = told.pulled.cursor;
    for extent in [Extent::Everybody, Extent::Everybody, Extent::Changes] {
        let told = pull(&directory, cursor.as_deref()).await.unwrap();
        assert_eq!(told.pulled.extent, extent);
        cursor = told.pulled.cursor;
        clock.advance(TimeDelta::minutes(10));
    }
}

#[tokio::test]
async fn somebody_gone_without_a_word_is_among_the_removed() {
    let tenant = Tenant::new(2);
    let stub = tenant.start();
    let (directory, _, cursor) = settled(&stub).await;
    tenant.enable(2, false);
    tenant.state().users.remove(&id(2));
    let told = pull(&directory, Some(&cursor)).await.unwrap();
    assert!(told.people.is_empty());
    assert_eq!(told.pulled.removed, [id(2)]);
}

#[rstest]
#[case::expired(|| Answer::status(410).with("location", "https://evil.example/delta"))]
#[case::expired_otherwise(|| Answer::text(400, "{\"error\": {\"code\": \"syncStateNotFound\"}}"))]
#[case::not_offered(|| Answer::status(404))]
#[tokio::test]
async fn a_trail_that_ends_leads_to_a_full_list_in_the_same_pull(#[case] answer: fn() -> Answer) {
    let tenant = Tenant::new(2);
    let stub = tenant.start();
    let (directory, _, cursor) = settled(&stub).await;
    tenant.enable(2, false).instead(DELTA, answer);
    let told = pull(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(told.pulled.extent, Extent::Everybody);
    assert_eq!(
        told.lines(),
        ["user1@example.org active", "user2@example.org disabled"]
    );
    assert_eq!(told.pulled.cursor, None);
    // It is tried again with the next.
    tenant.state().instead.clear();
    let told = pull(&directory, None).await.unwrap();
    assert!(told.pulled.cursor.is_some());
}

#[tokio::test]
async fn changes_that_cannot_be_had_now_are_no_changes() {
    let tenant = Tenant::new(2);
    let stub = tenant.start();
    let (directory, _, cursor) = settled(&stub).await;
    tenant.instead(DELTA, || Answer::status(500));
    let error = pull(&directory, Some(&cursor)).await.unwrap_err();
    assert!(error.to_string().contains("answered 500"), "{error}");
    // Nor is a round without an end.
    tenant.instead(DELTA, || Answer::json(&json!({"value": []})));
    let told = pull(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(told.pulled.extent, Extent::Everybody);
}

#[tokio::test]
async fn a_change_that_the_account_does_not_confirm_is_doubted() {
    let tenant = Tenant::new(2);
    let stub = tenant.start();
    let (directory, _, cursor) = settled(&stub).await;
    let early = json!({"id": id(2), "accountEnabled": false});
    tenant.state().changes.push(early);
    let told = pull(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(told.pulled.extent, Extent::Everybody);
    let cursor = told.pulled.cursor.unwrap();
    let told = pull(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(told.pulled.extent, Extent::Everybody, "for a while");
}

#[tokio::test]
async fn many_changes_are_a_full_list() {
    let tenant = Tenant::new(120);
    let stub = tenant.start();
    let (directory, _, cursor) = settled(&stub).await;
    for number in 1..=101 {
        tenant.enable(number, false);
    }
    let told = pull(&directory, Some(&cursor)).await.unwrap();
    assert_eq!(told.pulled.extent, Extent::Everybody);
    assert_eq!(told.people.len(), 120);
}

#[rstest]
#[case::a_day(TimeDelta::hours(24), &[], &|cursor| cursor)]
#[case::a_clock_set_back(TimeDelta::hours(-1), &[], &|cursor| cursor)]
#[case::others(TimeDelta::zero(), &["user1@example.org"], &|cursor| cursor)]
#[case::garbage(TimeDelta::zero(), &[], &|_| "{}".to_owned())]
#[case::elsewhere(TimeDelta::zero(), &[], &|cursor: String| cursor.replace("127.0.0.1", "evil.example"))]
#[tokio::test]
async fn everybody_is_listed_when_the_list_is_old_or_another_was_asked_for(
    #[case] later: TimeDelta,
    #[case] people: &[&str],
    #[case] change: &(dyn Fn(String) -> String + Sync),
) {
    let tenant = Tenant::new(2);
    let stub = tenant.start();
    let (directory, clock, cursor) = settled(&stub).await;
    clock.advance(later);
    let people: Vec<Address> = people.iter().map(|it| it.parse().unwrap()).collect();
    let cursor = change(cursor);
    let asked = Asked {
        people: &people,
        cursor: Some(&cursor),
    };
    let told = pull_asked(&directory, &asked).await.unwrap();
    assert_eq!(told.pulled.extent, Extent::Everybody);
    assert_eq!(told.people.len(), 2);
}

#[tokio::test]
async fn a_check_says_what_the_program_may_read() {
    let tenant = Tenant::new(2);
    tenant.group(100, "ops", &[1]);
    let stub = tenant.start();
    let checked = directory(&stub, &["ops"]).check().await.unwrap();
    assert_eq!(
        checked.summary,
        "Microsoft Entra ID, tenant contoso.example"
    );
    let rights = |checked: &lapsed::sources::Checked| -> Vec<(String, bool)> {
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
    tenant.instead(bin, || Answer::status(403));
    let checked = directory(&stub, &[]).check().await.unwrap();
    let expected = [
        "read users and whether they are enabled",
        "read the deleted users",
    ];
    let missing: Vec<_> = checked.rights.iter().map(|it| it.missing.clone()).collect();
    assert_eq!(rights(&checked).len(), expected.len());
    assert_eq!(missing[0], None);
    tenant.instead(DELTA, || Answer::status(403));
    let checked = directory(&stub, &[]).check().await.unwrap();
    assert!(checked.summary.contains("tells no changes"), "{checked:?}");
    assert!(missing[1].as_ref().unwrap().contains("User.Read.All"));
}

#[tokio::test]
async fn a_check_finds_what_is_in_the_way() {
    let tenant = Tenant::new(1);
    tenant.state().hidden.insert("accountEnabled");
    let stub = tenant.start();
    let error = directory(&stub, &[]).check().await.unwrap_err();
    assert!(error.to_string().contains("accountEnabled"), "{error}");
    let error = directory(&stub, &["ops"]).check().await.unwrap_err();
    assert!(error.to_string().contains("accountEnabled"), "{error}");
    tenant.state().hidden.clear();
    let error = directory(&stub, &["ops"]).check().await.unwrap_err();
    assert!(error.to_string().contains("no group \"ops\""), "{error}");
}
