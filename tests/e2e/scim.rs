//! SCIM: listings and look-ups, and servers that deviate from the standard.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lapsed::directories::scim::Config;
use lapsed::directories::{Common, Directory, Extent, Group, Lookup, PeopleListing, PeopleQuery};
use lapsed::domain::{Address, IdentityStatus, Person, Reason};
use lapsed::sources::{CheckReport, Error, Fetched};
use rstest::rstest;
use serde_json::{Value, json};

use crate::bad_responses::{BAD_RESPONSES, LEAKED_SECRET, assert_not_leaked};
use crate::stub::{Answer, Stub, StubRequest};
use crate::world::{Db, World};

const TOKEN: &str = "0wn-s3cret-of-scim";

type ModifyResponse = Box<dyn Fn(&StubRequest, &mut Value) + Send + Sync>;

type Override = Box<dyn Fn(&StubRequest) -> Option<Answer> + Send + Sync>;

#[derive(Clone)]
struct Idp(Arc<Mutex<State>>);

struct State {
    users: Vec<Value>,
    groups: Vec<Value>,
    provider: Value,
    /// The largest page, whatever is requested.
    page: usize,
    ignores_filters: bool,
    modify_response: ModifyResponse,
    overrides: Override,
}

fn user(id: &str, email: &str, fields: Value) -> Value {
    let mut user = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "id": id, "userName": email,
        "active": true, "emails": [{"value": email, "primary": true}], "displayName": "Ada",
        // Some servers send it; lapsed drops it.
        "password": LEAKED_SECRET,
        "meta": {"resourceType": "User", "lastModified": "2026-11-20T00:00:00Z"}
    });
    merge(&mut user, fields);
    user
}

fn group(id: &str, name: &str, members: &Value) -> Value {
    json!({"id": id, "displayName": name, "members": members})
}

fn merge(into: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else {
        return;
    };
    for (key, value) in fields {
        into[key] = value;
    }
}

/// Pages by index, with filters.
fn by_index() -> Value {
    json!({"filter": {"supported": true, "maxResults": 200}, "patch": {"supported": true}})
}

fn without_filters() -> Value {
    json!({"filter": {"supported": false, "maxResults": 0}})
}

/// Pages by cursor, without filters.
fn by_cursor() -> Value {
    json!({
        "filter": {"supported": false},
        "pagination": {"cursor": true, "index": false, "maxPageSize": 2}
    })
}

impl Idp {
    /// Five people, u1@example.org to u5@example.org.
    fn new(provider: Value) -> Self {
        let people =
            (1..=5).map(|n| user(&format!("id-{n}"), &format!("u{n}@example.org"), json!({})));
        Self(Arc::new(Mutex::new(State {
            users: people.collect(),
            groups: Vec::new(),
            provider,
            page: 2,
            ignores_filters: false,
            modify_response: Box::new(|_, _| ()),
            overrides: Box::new(|_| None),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn modify_response(
        self,
        modify_response: impl Fn(&StubRequest, &mut Value) + Send + Sync + 'static,
    ) -> Self {
        self.state().modify_response = Box::new(modify_response);
        self
    }

    fn override_response(
        self,
        answer: impl Fn(&StubRequest) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        self.state().overrides = Box::new(answer);
        self
    }

    fn group(self, id: &str, name: &str, members: &Value) -> Self {
        self.state().groups.push(group(id, name, members));
        self
    }

    fn change(self, index: usize, fields: Value) -> Self {
        merge(&mut self.state().users[index], fields);
        self
    }

    fn start(&self) -> Stub {
        let idp = self.clone();
        Stub::start(move |request| idp.state().answer(request))
    }
}

impl State {
    fn answer(&self, request: &StubRequest) -> Answer {
        if let Some(answer) = (self.overrides)(request) {
            return answer;
        }
        assert_eq!(request.method, "GET", "lapsed only reads");
        if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return Answer::text(401, "{\"status\": \"401\"}");
        }
        let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["scim", "v2", "ServiceProviderConfig"] => Answer::json(&self.provider),
            ["scim", "v2", "Users"] => self.list(request, &self.users),
            ["scim", "v2", "Groups"] => self.list(request, &self.groups),
            ["scim", "v2", "Users", id] => find_by_id(&self.users, id),
            ["scim", "v2", "Groups", id] => find_by_id(&self.groups, id),
            _ => Answer::status(404),
        }
    }

    fn list(&self, request: &StubRequest, all: &[Value]) -> Answer {
        let filter = request.query("filter").filter(|_| !self.ignores_filters);
        let found: Vec<&Value> = all
            .iter()
            .filter(|it| filter.is_none_or(|filter| matches_filter(it, filter)))
            .collect();
        let page = request
            .query("count")
            .map_or(self.page, |count| self.page.min(count.parse().unwrap()));
        let mut answer = if self.provider["pagination"]["cursor"] == true {
            let start = match request.query("cursor").expect("a cursor") {
                "" => 0,
                cursor => cursor.strip_prefix("after-").unwrap().parse().unwrap(),
            };
            let end = (start + page).min(found.len());
            let mut answer = json!({"totalResults": found.len(), "Resources": found[start..end]});
            if end < found.len() {
                answer["nextCursor"] = json!(format!("after-{end}"));
            }
            answer
        } else {
            let start: usize = request
                .query("startIndex")
                .map_or(1, |start| start.parse().unwrap());
            let end = (start - 1 + page).min(found.len());
            let mut answer = json!({"totalResults": found.len(), "startIndex": start});
            if !found.is_empty() {
                answer["Resources"] = json!(found[start - 1..end]);
            }
            answer
        };
        (self.modify_response)(request, &mut answer);
        Answer::json(&answer)
    }
}

fn find_by_id(all: &[Value], id: &str) -> Answer {
    match all.iter().find(|it| it["id"] == id) {
        Some(found) => Answer::json(found),
        None => Answer::text(404, "{\"status\": \"404\"}"),
    }
}

/// Evaluates `userName eq "x"`; panics on other attributes than those that lapsed uses.
fn matches_filter(it: &Value, filter: &str) -> bool {
    let (attribute, value) = filter.split_once(" eq ").unwrap();
    let value: String = serde_json::from_str(value).unwrap();
    let is = |it: &Value| {
        it.as_str()
            .is_some_and(|it| it.eq_ignore_ascii_case(&value))
    };
    match attribute {
        "userName" | "displayName" => is(&it[attribute]),
        "emails.value" => it["emails"]
            .as_array()
            .unwrap()
            .iter()
            .any(|email| is(&email["value"])),
        _ => panic!("an unknown filter {filter}"),
    }
}

fn addresses(numbers: impl IntoIterator<Item = usize>) -> Vec<Address> {
    let address = |n| format!("u{n}@example.org").parse().unwrap();
    numbers.into_iter().map(address).collect()
}

fn directory(stub: &Stub, groups: &[&str]) -> impl Directory {
    let config = Config {
        url: format!("{}/scim/v2", stub.url).parse().unwrap(),
        token: TOKEN.into(),
        ca_file: None,
    };
    let common = Common {
        name: "idp".to_owned(),
        timeout: Duration::from_secs(20),
        allowed_groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    config.build(&common).unwrap()
}

/// The people, sorted by their first address, and the listing.
async fn list_people(
    stub: &Stub,
    groups: &[&str],
    wanted: &[Address],
) -> Result<(Vec<Person>, PeopleListing), Error> {
    let mut people = Vec::new();
    let mut sink = |person| people.push(person);
    let query = PeopleQuery {
        people: wanted,
        cursor: None,
    };
    let listing = directory(stub, groups)
        .list_people(&query, &mut sink)
        .await?;
    people.sort_by_key(|person: &Person| person.email().key().to_owned());
    match listing {
        Fetched::New(listing) => Ok((people, listing)),
        Fetched::Unchanged => panic!("SCIM never reports that nothing has changed"),
    }
}

/// The first addresses of everybody listed.
async fn list_addresses(stub: &Stub, wanted: &[Address]) -> (Vec<String>, Extent) {
    let (people, listing) = list_people(stub, &[], wanted).await.unwrap();
    let shown = people.iter().map(|person| person.email().to_string());
    (shown.collect(), listing.extent)
}

async fn listing_error(stub: &Stub, groups: &[&str]) -> String {
    list_people(stub, groups, &[])
        .await
        .unwrap_err()
        .to_string()
}

/// The first addresses of members of the allowed groups.
async fn members(
    stub: &Stub,
    groups: &[&str],
    wanted: &[Address],
) -> (Vec<String>, Vec<Group>, Extent) {
    let (people, listing) = list_people(stub, groups, wanted).await.unwrap();
    let shown = people.iter().filter(|person| person.is_member.unwrap());
    (
        shown.map(|person| person.email().to_string()).collect(),
        listing.groups,
        listing.extent,
    )
}

fn group_with(name: &str, members: u64) -> Group {
    Group {
        name: name.to_owned(),
        members,
    }
}

fn five() -> Vec<String> {
    addresses(1..=5).iter().map(Address::to_string).collect()
}

#[rstest]
#[case::by_index(by_index(), 3)]
#[case::by_cursor(by_cursor(), 3)]
#[tokio::test]
async fn everybody_on_every_page_is_listed(#[case] provider: Value, #[case] pages: usize) {
    let idp = Idp::new(provider);
    let stub = idp.start();
    assert_eq!(
        list_addresses(&stub, &[]).await,
        (five(), Extent::Everybody)
    );
    let requests = stub.take_request_lines();
    let lists = requests
        .iter()
        .filter(|line| *line == "GET /scim/v2/Users")
        .count();
    assert_eq!(lists, pages, "{requests:?}");
}

#[rstest]
#[case::by_index(without_filters())]
#[case::by_cursor(by_cursor())]
#[tokio::test]
async fn a_missing_user_on_any_page_of_any_size_is_noticed(#[case] provider: Value) {
    for page in 1..=6 {
        for lost in 1..=5 {
            let idp = Idp::new(provider.clone());
            idp.state().page = page;
            idp.state().provider["pagination"]["maxPageSize"] = json!(page);
            assert_eq!(
                list_addresses(&idp.start(), &[]).await,
                (five(), Extent::Everybody)
            );
            let idp = idp.modify_response(move |_, answer| {
                let id = json!(format!("id-{lost}"));
                let listed = answer["Resources"].as_array_mut().unwrap();
                listed.retain(|user| user["id"] != id);
            });
            let error = listing_error(&idp.start(), &[]).await;
            assert!(error.contains("it reports 5 resources"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_person_is_listed_as_the_server_reports_them() {
    let idp = Idp::new(without_filters())
        .change(0, json!({"userName": "ada", "active": false, "name": {"formatted": "Ada Lovelace"}, "displayName": null}))
        .change(1, json!({"userName": "bot", "emails": []}));
    let (people, _) = list_people(&idp.start(), &[], &[]).await.unwrap();
    assert_eq!(people.len(), 4, "one has no address");
    let expected = Person {
        id: Some("id-1".to_owned()),
        addresses: addresses([1]),
        name: Some("Ada Lovelace".to_owned()),
        status: IdentityStatus::Disabled,
        reason: Some(Reason::Admin),
        since: None,
        evidence: "active=false".to_owned(),
        is_member: None,
    };
    assert_eq!(people[0], expected);
    assert!(!format!("{people:?}").contains(LEAKED_SECRET));
}

#[tokio::test]
async fn a_server_without_provider_config_gets_plain_requests() {
    let idp = Idp::new(by_index()).override_response(|request| {
        request
            .path
            .ends_with("ServiceProviderConfig")
            .then(|| Answer::status(404))
    });
    let stub = idp.start();
    assert_eq!(
        list_addresses(&stub, &addresses([1])).await,
        (five(), Extent::Everybody)
    );
    for request in stub.requests() {
        let words = ["filter", "count", "cursor"].map(|word| request.query(word));
        assert_eq!(words, [None; 3], "{request:?}");
    }
}

#[tokio::test]
async fn an_empty_list_is_accepted() {
    let idp = Idp::new(by_index());
    idp.state().users.clear();
    assert_eq!(
        list_addresses(&idp.start(), &[]).await,
        (vec![], Extent::Everybody)
    );
}

/// A user of the first page is also on the second, in place of another user.
fn twice(request: &StubRequest, answer: &mut Value) {
    let start = request.query("startIndex").or(request.query("cursor"));
    if start == Some("3") || start == Some("after-2") {
        answer["Resources"][0] = user("id-1", "u1@example.org", json!({}));
    }
}

#[rstest]
#[case::by_index(without_filters())]
#[case::by_cursor(by_cursor())]
#[tokio::test]
async fn a_repeated_user_does_not_make_up_for_a_missing_one(#[case] provider: Value) {
    let error = listing_error(&Idp::new(provider).modify_response(twice).start(), &[]).await;
    assert!(error.contains("listed 4, some of them twice"), "{error}");
}

#[tokio::test]
async fn a_repeated_user_is_listed_once() {
    let idp = Idp::new(by_cursor()).modify_response(|request, answer| {
        twice(request, answer);
        answer.as_object_mut().unwrap().remove("totalResults");
    });
    let (shown, _) = list_addresses(&idp.start(), &[]).await;
    let four = [1, 2, 4, 5].map(|n| format!("u{n}@example.org"));
    assert_eq!(shown, four);
}

#[rstest]
#[case::a_page_is_lost(
    |request: &StubRequest, answer: &mut Value| if request.query("startIndex") == Some("3") {
        answer["Resources"] = json!([]);
    },
    "it reports 5 resources but listed 2"
)]
#[case::a_page_is_left_out(
    |request: &StubRequest, answer: &mut Value| if request.query("startIndex") == Some("3") {
        answer.as_object_mut().unwrap().remove("Resources");
    },
    "it reports 5 resources but listed 2"
)]
#[case::totals_disagree(
    |request: &StubRequest, answer: &mut Value| if request.query("startIndex") == Some("5") {
        answer["totalResults"] = json!(6);
    },
    "report different totals"
)]
#[case::more_than_there_are(
    |_: &StubRequest, answer: &mut Value| answer["totalResults"] = json!(1),
    "it reports 1 resources but listed 2"
)]
#[case::no_total(
    |_: &StubRequest, answer: &mut Value| {
        answer.as_object_mut().unwrap().remove("totalResults");
    },
    "sent an unexpected response: totalResults is missing"
)]
#[tokio::test]
async fn an_incomplete_list_by_index_is_an_error(
    #[case] modify_response: fn(&StubRequest, &mut Value),
    #[case] words: &str,
) {
    let idp = Idp::new(without_filters()).modify_response(modify_response);
    let error = listing_error(&idp.start(), &[]).await;
    assert!(error.contains(words), "{error}");
}

#[rstest]
#[case::a_page_is_lost(
    |request: &StubRequest, answer: &mut Value| if request.query("cursor") == Some("after-2") {
        answer["Resources"] = json!([]);
    },
    "it reports 5 resources but listed 3"
)]
#[case::the_end_comes_early(
    |request: &StubRequest, answer: &mut Value| if request.query("cursor") == Some("after-2") {
        answer.as_object_mut().unwrap().remove("nextCursor");
    },
    "it reports 5 resources but listed 4"
)]
#[case::a_cursor_is_repeated(
    |_: &StubRequest, answer: &mut Value| answer["nextCursor"] = json!("after-2"),
    "it issued the same cursor twice"
)]
#[case::totals_disagree(
    |request: &StubRequest, answer: &mut Value| if request.query("cursor") == Some("after-4") {
        answer["totalResults"] = json!(6);
    },
    "report different totals"
)]
#[case::no_list(
    |_: &StubRequest, answer: &mut Value| *answer = json!({"nextCursor": "after-2"}),
    "sent an unexpected response"
)]
#[tokio::test]
async fn an_incomplete_list_by_cursor_is_an_error(
    #[case] modify_response: fn(&StubRequest, &mut Value),
    #[case] words: &str,
) {
    let idp = Idp::new(by_cursor()).modify_response(modify_response);
    let error = listing_error(&idp.start(), &[]).await;
    assert!(error.contains(words), "{error}");
}

#[tokio::test]
async fn a_rejected_cursor_fails_the_listing() {
    let idp = Idp::new(by_cursor()).override_response(|request| {
        let is_late = request.query("cursor") == Some("after-4");
        is_late.then(|| Answer::text(400, "{\"scimType\": \"expiredCursor\"}"))
    });
    let error = listing_error(&idp.start(), &[]).await;
    assert!(error.contains("rejects a cursor that it issued"), "{error}");
}

#[rstest]
#[case::announced(by_cursor())]
#[case::not_announced(json!({}))]
#[tokio::test]
async fn microsofts_list_format_is_read(#[case] provider: Value) {
    let idp = Idp::new(by_cursor()).modify_response(|_, answer| {
        let answer = answer.as_object_mut().unwrap();
        answer.remove("totalResults");
        let resources = answer.remove("Resources").unwrap();
        answer.insert("resources".to_owned(), resources);
    });
    let idp = idp.override_response(move |request| {
        let is_config = request.path.ends_with("ServiceProviderConfig");
        is_config.then(|| Answer::json(&provider))
    });
    // The stub requires a cursor; a server that announces nothing gets requests without one.
    let stub = Stub::start({
        let idp = idp.clone();
        move |request| {
            let mut request = request.clone();
            request.query.entry("cursor".to_owned()).or_default();
            idp.state().answer(&request)
        }
    });
    assert_eq!(
        list_addresses(&stub, &[]).await,
        (five(), Extent::Everybody)
    );
}

#[rstest]
#[case::not_understood(|request: &StubRequest| request.query("attributes").map(|_| Answer::status(400)))]
#[case::half_understood(|request: &StubRequest| {
    let silent = json!({"totalResults": 1, "Resources": [{"id": "id-1"}]});
    (request.path.ends_with("/Users") && request.query("attributes").is_some()).then(|| Answer::json(&silent))
})]
#[tokio::test]
async fn a_server_without_field_selection_is_asked_for_all_fields(
    #[case] overrides: fn(&StubRequest) -> Option<Answer>,
) {
    let idp = Idp::new(without_filters()).override_response(overrides);
    let (people, _) = list_people(&idp.start(), &[], &[]).await.unwrap();
    assert_eq!(people.len(), 5);
    assert!(
        people
            .iter()
            .all(|person| person.status == IdentityStatus::Active)
    );
}

#[tokio::test]
async fn a_missing_active_is_unknown() {
    let idp = Idp::new(without_filters()).change(0, json!({"active": null}));
    let (people, _) = list_people(&idp.start(), &[], &[]).await.unwrap();
    assert_eq!(
        (people[0].status, people[0].reason),
        (IdentityStatus::Unknown, Some(Reason::FieldMissing))
    );
}

#[tokio::test]
async fn few_people_are_queried_one_by_one() {
    let idp = Idp::new(by_index())
        .change(
            1,
            json!({"userName": "two", "emails": [{"value": "U2@example.org"}]}),
        )
        .change(2, json!({"userName": "three"}));
    let mut wanted = addresses([1, 2, 3, 9]);
    wanted.push("\"u5\\\" or\"@example.org".parse().unwrap());
    let stub = idp.start();
    let (shown, extent) = list_addresses(&stub, &wanted).await;
    assert_eq!(
        shown,
        ["u1@example.org", "U2@example.org", "u3@example.org"]
    );
    assert_eq!(extent, Extent::Requested);
    let all = stub.requests();
    let whole = all
        .iter()
        .filter(|request| request.path.ends_with("/Users") && request.query("filter").is_none());
    assert_eq!(whole.count(), 0, "the full list is not read");
}

#[tokio::test]
async fn many_people_are_listed() {
    let idp = Idp::new(by_index());
    let (shown, extent) = list_addresses(&idp.start(), &addresses(1..=51)).await;
    assert_eq!((shown, extent), (five(), Extent::Everybody));
}

#[rstest]
#[case::ignored(true, |_: &StubRequest| None)]
#[case::refused(false, |request: &StubRequest| request.query("filter").map(|_| Answer::text(400, "{\"scimType\": \"invalidFilter\"}")))]
#[case::unknown(false, |request: &StubRequest| request.query("filter").map(|_| Answer::status(501)))]
#[case::closed(false, |request: &StubRequest| request.query("filter").map(|_| Answer::status(403)))]
#[case::no_list_for_it(false, |request: &StubRequest| request.query("filter").map(|_| Answer::text(200, "{}")))]
#[case::no_total_for_it(false, |request: &StubRequest| {
    request.query("filter").map(|_| Answer::text(200, "{\"totalResults\": 7, \"Resources\": []}"))
})]
#[case::refused_for_mailboxes(false, |request: &StubRequest| {
    let is_mailbox = request.query("filter").is_some_and(|filter| filter.starts_with("emails"));
    is_mailbox.then(|| Answer::status(400))
})]
#[case::finds_nobody(false, |request: &StubRequest| {
    request.query("filter").map(|_| Answer::text(200, "{\"totalResults\": 0}"))
})]
#[tokio::test]
async fn an_unusable_filter_leads_to_a_full_listing(
    #[case] ignores_filters: bool,
    #[case] overrides: fn(&StubRequest) -> Option<Answer>,
) {
    let idp = Idp::new(by_index()).override_response(overrides);
    idp.state().ignores_filters = ignores_filters;
    let stub = idp.start();
    let wanted = addresses([1, 9]);
    assert_eq!(
        list_addresses(&stub, &wanted).await,
        (five(), Extent::Everybody)
    );
}

#[tokio::test]
async fn members_of_nested_and_circular_groups_are_marked() {
    for provider in [by_index(), without_filters(), by_cursor()] {
        let idp = Idp::new(provider)
            .change(3, json!({"userName": "four"}))
            .group(
                "g-1",
                "cdn-admins",
                &json!([
                    {"value": "id-1", "type": "User"},
                    {"value": "g-2", "type": "Group"},
                    // Members without a type.
                    {"value": "g-3"}, {"value": "id-2"},
                ]),
            )
            .group(
                "g-2",
                "inner",
                &json!([
                    {"value": "id-3", "$ref": "https://idp.example.org/scim/v2/Users/id-3"},
                    {"value": "g-1", "$ref": "../Groups/g-1"},
                ]),
            )
            // A member by user name, and by reference.
            .group(
                "g-3",
                "innermost",
                &json!([{"value": "FOUR", "$ref": "https://idp.example.org/scim/v2/Users/four"}]),
            )
            .group("g-9", "others", &json!([{"value": "id-5"}]));
        let stub = idp.start();
        for name in ["cdn-admins", "CDN-Admins", "g-1"] {
            let (shown, groups, extent) = members(&stub, &[name], &[]).await;
            assert_eq!(shown, &five()[..4], "{name}");
            assert_eq!(
                (groups, extent),
                (vec![group_with(name, 4)], Extent::Everybody)
            );
        }
        let (shown, groups, _) = members(&stub, &["inner", "others"], &[]).await;
        assert_eq!(shown, five());
        assert_eq!(groups, [group_with("inner", 4), group_with("others", 1)]);
    }
}

#[tokio::test]
async fn queries_that_find_no_group_member_lead_to_a_full_listing() {
    let idp = Idp::new(by_index()).group("g-1", "cdn", &json!([{"value": "id-1"}]));
    let stub = idp.start();
    let (shown, _, extent) = members(&stub, &["cdn"], &addresses([1, 2])).await;
    assert_eq!(
        (shown, extent),
        (vec![five()[0].clone()], Extent::Requested)
    );
    let (shown, _, extent) = members(&stub, &["cdn"], &addresses([2])).await;
    assert_eq!(
        (shown, extent),
        (vec![five()[0].clone()], Extent::Everybody)
    );
}

#[tokio::test]
async fn members_that_match_no_user_are_an_error() {
    let idp = Idp::new(by_index()).group("g-1", "cdn", &json!([{"value": "CN=Ada,DC=example"}]));
    let error = listing_error(&idp.start(), &["cdn"]).await;
    assert!(error.contains("none of them is among the users"), "{error}");
}

#[tokio::test]
async fn an_empty_group_has_no_members() {
    let idp = Idp::new(by_index()).group("g-1", "cdn", &json!([]));
    let (shown, groups, _) = members(&idp.start(), &["cdn"], &[]).await;
    assert_eq!((shown, groups), (vec![], vec![group_with("cdn", 0)]));
}

#[rstest]
#[case::missing("cnd", "there is no group \"cnd\"")]
#[case::ambiguous("twice", "several groups are called \"twice\"; write the id")]
#[case::hidden_nested_group(
    "broken",
    "\"broken\" has a nested group that the server does not show"
)]
#[tokio::test]
async fn an_allowed_group_must_exist(#[case] name: &str, #[case] words: &str) {
    for provider in [by_index(), without_filters()] {
        let idp = Idp::new(provider)
            .group("g-1", "cdn", &json!([{"value": "id-1"}]))
            .group("g-2", "twice", &json!([]))
            .group("g-3", "Twice", &json!([]))
            .group("g-4", "twice", &json!([]))
            .group(
                "g-5",
                "broken",
                &json!([{"value": "g-404", "type": "Group"}]),
            );
        let error = listing_error(&idp.start(), &["cdn", name]).await;
        assert!(error.contains(words), "{error}");
    }
}

#[rstest]
#[case::not_known(404)]
#[case::not_made(501)]
#[tokio::test]
async fn without_a_list_of_groups_membership_comes_from_users(#[case] status: u16) {
    let without_groups = move |request: &StubRequest| {
        let is_group = request.path.contains("/Groups");
        is_group.then(|| Answer::status(status))
    };
    let idp = Idp::new(by_index())
        .override_response(without_groups)
        .change(0, json!({"groups": [{"value": "g-1", "display": "cdn"}]}))
        .change(1, json!({"groups": [{"value": "g-2", "display": "ops"}]}));
    let stub = idp.start();
    let (shown, groups, extent) = members(&stub, &["CDN", "g-2"], &addresses([1])).await;
    assert_eq!(shown, &five()[..2]);
    assert_eq!(
        (groups, extent),
        (
            vec![group_with("CDN", 1), group_with("g-2", 1)],
            Extent::Everybody
        )
    );
    let error = listing_error(&stub, &["cdn", "cnd"]).await;
    assert!(
        error.contains("there is no group \"cnd\"; no user has it"),
        "{error}"
    );
}

#[tokio::test]
async fn members_are_requested_explicitly() {
    let members = json!([{"value": "id-1"}]);
    let idp = Idp::new(without_filters())
        .group("g-1", "cdn", &json!(null))
        .override_response(move |request| {
            let wants = request
                .query("attributes")
                .is_some_and(|it| it.contains("members"));
            (request.path.ends_with("/Groups/g-1") && wants)
                .then(|| Answer::json(&group("g-1", "cdn", &members)))
        });
    let (shown, groups, _) = members_of(&idp).await;
    assert_eq!(
        (shown, groups),
        (vec![five()[0].clone()], vec![group_with("cdn", 1)])
    );
}

async fn members_of(idp: &Idp) -> (Vec<String>, Vec<Group>, Extent) {
    members(&idp.start(), &["cdn"], &[]).await
}

async fn look_up(idp: &Idp, id: &str) -> Result<Lookup, Error> {
    directory(&idp.start(), &[]).look_up(id).await
}

#[tokio::test]
async fn a_user_is_found_by_id() {
    let idp = Idp::new(by_index()).change(0, json!({"active": "False"}));
    let Lookup::Found(found) = look_up(&idp, "id-1").await.unwrap() else {
        panic!("not found");
    };
    assert_eq!(
        (found.id.as_deref(), found.status),
        (Some("id-1"), IdentityStatus::Disabled)
    );
    assert_eq!(found.evidence, "active=\"False\"");
    let gone = Lookup::Gone {
        evidence: "404 for its id".to_owned(),
        is_certain: false,
    };
    assert_eq!(look_up(&idp, "id-9").await.unwrap(), gone);
}

#[rstest]
#[case::not_understood(400, "400 for its id")]
#[case::closed(403, "403 for its id")]
#[tokio::test]
async fn a_refused_look_up_is_unclear(#[case] status: u16, #[case] words: &str) {
    let idp = Idp::new(by_index()).override_response(move |_| Some(Answer::status(status)));
    assert_eq!(
        look_up(&idp, "id-1").await.unwrap(),
        Lookup::Unclear(words.to_owned())
    );
}

#[rstest]
#[case::another_user(|| Answer::json(&user("id-2", "u2@example.org", json!({}))), "another user than the requested one")]
#[case::the_whole_list(|| Answer::json(&json!({"totalResults": 0, "Resources": []})), "is not as documented")]
#[case::no_token(|| Answer::status(401), "does not accept the token (401); create a new one")]
#[case::broken(|| Answer::status(500), "answered 500")]
#[tokio::test]
async fn a_wrong_response_to_a_look_up_is_an_error(
    #[case] answer: fn() -> Answer,
    #[case] words: &str,
) {
    let idp = Idp::new(by_index()).override_response(move |_| Some(answer()));
    let error = look_up(&idp, "id-1").await.unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[tokio::test]
async fn bad_responses_are_errors_that_show_no_content() {
    for place in ["/ServiceProviderConfig", "/Users", "/Groups", "/Groups/g-1"] {
        for trap in BAD_RESPONSES {
            let answer = trap.answer;
            let idp = Idp::new(without_filters())
                .group("g-1", "cdn", &json!([{"value": "id-1", "type": "User"}]))
                .override_response(move |request| request.path.ends_with(place).then(answer));
            let outcome = list_people(&idp.start(), &["cdn"], &[]).await;
            // The provider config is optional.
            let is_optional = place == "/ServiceProviderConfig" && outcome.is_ok();
            if is_optional && ["404", "sent an unexpected response"].contains(&trap.expected_text) {
                continue;
            }
            let error = outcome.unwrap_err().to_string();
            assert!(!error.contains(LEAKED_SECRET), "{error}");
            let is_reported = error.contains(trap.expected_text)
                || error.contains("there is no group")
                || trap.expected_text == "404";
            assert!(is_reported, "{place}: {error}");
        }
    }
}

#[rstest]
#[case(
    401,
    "does not accept the token (401); create a new one at the identity provider"
)]
#[case(
    403,
    "does not let the token read Users (403); give the token's client"
)]
#[case(404, "has no Users (404); write url up to its version")]
#[case(429, "asks to wait 60 s")]
#[tokio::test]
async fn a_refusal_says_how_to_fix_it(#[case] status: u16, #[case] words: &str) {
    let idp = Idp::new(by_index()).override_response(move |request| {
        request
            .path
            .ends_with("/Users")
            .then(|| Answer::status(status))
    });
    let error = listing_error(&idp.start(), &[]).await;
    assert!(error.contains(words), "{error}");
}

async fn check(idp: &Idp, groups: &[&str]) -> Result<CheckReport, Error> {
    directory(&idp.start(), groups).check().await
}

fn missing(checked: &CheckReport) -> Vec<String> {
    let missing = |right: &lapsed::sources::Right| {
        let missing = right.missing.as_ref()?;
        Some(format!("{}: {missing}", right.what))
    };
    checked.rights.iter().filter_map(missing).collect()
}

#[tokio::test]
async fn a_check_reports_what_it_sees() {
    let idp = Idp::new(by_index()).group("g-1", "cdn", &json!([{"value": "id-1"}]));
    let checked = check(&idp, &["cdn"]).await.unwrap();
    assert_eq!(
        checked.summary,
        "SCIM 2.0, 5 people, pages by index, with filters"
    );
    let rights: BTreeSet<&str> = checked
        .rights
        .iter()
        .map(|right| right.what.as_str())
        .collect();
    let expected = [
        "list the people",
        "see the group \"cdn\"",
        "identify the 1 members of \"cdn\"",
        "see who is active",
    ];
    assert_eq!(rights, BTreeSet::from(expected));
    assert_eq!(missing(&checked), [""; 0]);
}

#[rstest]
#[case::people(|request: &StubRequest| request.path.ends_with("/Users").then(|| Answer::status(403)), "list the people: give the token's client")]
#[case::groups(|request: &StubRequest| request.path.contains("/Groups").then(|| Answer::status(403)), "see the group \"cdn\": the server does not let")]
#[case::no_groups(|request: &StubRequest| request.path.contains("/Groups").then(|| Answer::status(404)), "see the group \"cdn\": the server has no list")]
#[case::nobody(|request: &StubRequest| request.path.ends_with("/Users").then(|| Answer::text(200, "{\"totalResults\": 0}")), "list the people: the list is empty")]
#[case::no_active(
    |request: &StubRequest| request.path.ends_with("/Users").then(|| Answer::text(200, "{\"totalResults\": 1, \"Resources\": [{\"id\": \"id-1\"}]}")),
    "see who is active: 1 of 1 users come without `active`"
)]
#[case::other_members(
    |request: &StubRequest| request.path.contains("/Users/").then(|| Answer::status(404)),
    "identify the 1 members of \"cdn\": none of the checked members is a user"
)]
#[tokio::test]
async fn a_check_reports_what_is_missing(
    #[case] overrides: fn(&StubRequest) -> Option<Answer>,
    #[case] words: &str,
) {
    let idp = Idp::new(without_filters())
        .group("g-1", "cdn", &json!([{"value": "id-1", "type": "User"}]))
        .override_response(overrides);
    let missing = missing(&check(&idp, &["cdn"]).await.unwrap());
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].starts_with(words), "{missing:?}");
}

#[tokio::test]
async fn a_check_names_each_missing_group() {
    let idp = Idp::new(by_index()).group("g-1", "cdn", &json!([{"value": "id-1"}]));
    let missing = missing(&check(&idp, &["cnd", "cdn", "obs"]).await.unwrap());
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert!(missing[0].contains("\"cnd\"") && missing[1].contains("\"obs\""));
}

fn world(stub: &Stub) -> World {
    let mut world = World::new(Db::Sqlite);
    world.write("token", format!("{TOKEN}\n"));
    world.table(&format!(
        "[[directory]]\nname = \"idp\"\nkind = \"scim\"\nurl = \"{}/scim/v2\"\ntoken = {{ file = \"token\" }}",
        stub.url
    ));
    world
}

/// Names of flagged tokens, sorted.
fn flagged(world: &World) -> Vec<String> {
    let findings = world.list(&["finding", "list"]);
    let name = |finding: &Value| finding["token_name"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = findings.iter().map(name).collect();
    names.sort();
    names
}

#[rstest]
#[case::one_by_one(by_index())]
#[case::all(without_filters())]
fn a_leavers_tokens_are_flagged_until_they_come_back(#[case] provider: Value) {
    let idp = Idp::new(provider);
    let stub = idp.start();
    let world = world(&stub);
    world.import(&[
        "a,A,U1@example.org,",
        "b,B,u1@example.org,",
        "c,C,u2@example.org,",
        "d,D,stranger@example.org,",
    ]);
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), [""; 0]);

    let idp = idp.change(0, json!({"active": "False"}));
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), ["A", "B"]);
    let shown = world.list(&["finding", "list"]);
    let evidence = shown[0]["evidence"].as_str().unwrap();
    assert!(evidence.contains("idp says active=\"False\""), "{evidence}");

    // An incomplete list neither opens nor resolves findings.
    let idp = idp
        .change(0, json!({"active": true}))
        .change(1, json!({"active": false}));
    let idp = idp.override_response(|request| {
        let is_late = request.query("startIndex").is_some() || request.query("filter").is_some();
        is_late.then(|| Answer::text(500, LEAKED_SECRET))
    });
    let failed = world.run(&["sweep"]);
    failed.exits(1).says("answered 500");
    assert_eq!(flagged(&world), ["A", "B"]);

    let _ = idp.override_response(|_| None);
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), ["C"]);
    fs::remove_file(world.path("token")).unwrap();
    assert_not_leaked(&[LEAKED_SECRET, TOKEN], &world, &failed.stderr);
}

#[test]
fn a_deleted_person_is_flagged_only_after_a_second_look_up() {
    let idp = Idp::new(by_index());
    let stub = idp.start();
    let mut world = world(&stub);
    world
        .at("2026-11-20 00:00:00")
        .import(&["a,A,u1@example.org,"]);
    world.run(&["sweep"]).exits(0);
    idp.state().users.remove(0);
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), [""; 0], "not at the first look-up");
    world.at("2026-11-20 01:00:00").run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), ["A"]);
    let shown = world.list(&["finding", "list"]);
    let evidence = shown[0]["evidence"].as_str().unwrap();
    assert!(evidence.contains("404 for its id"), "{evidence}");
}
