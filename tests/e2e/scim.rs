//! SCIM: listings and look-ups, and servers that deviate from the standard.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::TimeDelta;
use lapsed::clock::Clock;
use lapsed::directories::scim::Config;
use lapsed::directories::{Common, Directory, Extent, Lookup};
use lapsed::domain::access::{Binding, Observation};
use lapsed::domain::{Address, IdentityStatus, Reason};
use lapsed::sources::{CheckReport, Error};
use rstest::rstest;
use serde_json::{Value, json};

use crate::bad_responses::LEAKED_SECRET;
use crate::listed::{Listed, common, list, list_again, missing};
use crate::stub::{Answer, Stub, StubRequest};

pub const TOKEN: &str = "0wn-s3cret-of-scim";

type ModifyResponse = Box<dyn Fn(&StubRequest, &mut Value) + Send + Sync>;

type Override = Box<dyn Fn(&StubRequest) -> Option<Answer> + Send + Sync>;

#[derive(Clone)]
pub struct Idp(Arc<Mutex<State>>);

pub struct State {
    pub users: Vec<Value>,
    pub groups: Vec<Value>,
    provider: Value,
    /// The largest page, whatever is requested.
    pub page: usize,
    ignores_filters: bool,
    modify_response: ModifyResponse,
    overrides: Override,
}

pub fn user(id: &str, email: &str, fields: Value) -> Value {
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

pub fn group(id: &str, name: &str, members: &Value) -> Value {
    json!({"id": id, "displayName": name, "members": members})
}

pub fn merge(into: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else {
        return;
    };
    for (key, value) in fields {
        into[key] = value;
    }
}

/// Pages by index, with filters.
pub fn by_index() -> Value {
    json!({"filter": {"supported": true, "maxResults": 200}, "patch": {"supported": true}})
}

fn without_filters() -> Value {
    json!({"filter": {"supported": false, "maxResults": 0}})
}

/// Pages by cursor, without filters.
pub fn by_cursor() -> Value {
    json!({
        "filter": {"supported": false},
        "pagination": {"cursor": true, "index": false, "maxPageSize": 2}
    })
}

impl Idp {
    /// Five people, u1@example.org to u5@example.org.
    pub fn new(provider: Value) -> Self {
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

    pub fn state(&self) -> MutexGuard<'_, State> {
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

    pub fn start(&self) -> Stub {
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
            let start = match request.query("cursor").unwrap_or_default() {
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
            let begin = (start - 1).min(found.len());
            let end = (begin + page).min(found.len());
            let mut answer = json!({"totalResults": found.len(), "startIndex": start});
            if !found.is_empty() {
                answer["Resources"] = json!(found[begin..end]);
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

pub fn config(stub: &Stub) -> Config {
    Config {
        url: format!("{}/scim/v2", stub.url).parse().unwrap(),
        token: TOKEN.into(),
        ca_file: None,
    }
}

fn directory(stub: &Stub, groups: &[&str]) -> impl Directory {
    config(stub).build(&common(groups)).unwrap()
}

fn directory_at(stub: &Stub, clock: Clock) -> impl Directory {
    let common = Common {
        clock,
        ..common(&[])
    };
    config(stub).build(&common).unwrap()
}

/// The people are sorted by their main address.
async fn list_people(stub: &Stub, groups: &[&str], wanted: &[Address]) -> Result<Listed, Error> {
    let mut listed = list(&directory(stub, groups), wanted).await?;
    let people = &mut listed.people;
    people.sort_by_key(|person| person.main.as_ref().unwrap().key().to_owned());
    Ok(listed)
}

/// The main addresses of everybody listed.
async fn list_addresses(stub: &Stub, wanted: &[Address]) -> (Vec<String>, Extent) {
    let listed = list_people(stub, &[], wanted).await.unwrap();
    let shown = listed
        .people
        .iter()
        .map(|person| person.main.as_ref().unwrap().to_string());
    (shown.collect(), listed.listing.extent)
}

/// Why people may be missing from an accepted listing.
async fn gaps(stub: &Stub) -> String {
    let listed = list_people(stub, &[], &[]).await.unwrap();
    listed.listing.gaps.unwrap()
}

async fn listing_error(stub: &Stub, groups: &[&str]) -> String {
    let failed = list_people(stub, groups, &[]).await;
    failed.unwrap_err().to_string()
}

fn five() -> Vec<String> {
    addresses(1..=5).iter().map(Address::to_string).collect()
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
            let stub = idp.start();
            assert_contains!(gaps(&stub).await, "it reports 5 resources but listed 4");
            let others = five()
                .into_iter()
                .filter(|it| *it != format!("u{lost}@example.org"));
            assert_eq!(
                list_addresses(&stub, &[]).await.0,
                others.collect::<Vec<_>>()
            );
        }
    }
}

#[tokio::test]
async fn a_server_without_provider_config_gets_pages_by_index() {
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
    let requests = stub.requests();
    let users: Vec<_> = requests
        .iter()
        .filter(|it| it.path.ends_with("/Users"))
        .collect();
    // Some servers list no one unless they are asked for a page.
    for (request, start) in users.iter().zip(["1", "3", "5"]) {
        let words = ["filter", "cursor", "count", "startIndex"].map(|word| request.query(word));
        assert_eq!(words, [None, None, Some("100"), Some(start)], "{request:?}");
    }
    assert_eq!(users.len(), 3);
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
    let stub = Idp::new(provider).modify_response(twice).start();
    let gaps = gaps(&stub).await;
    assert_contains!(
        gaps,
        "listed 4, some of them twice",
        "page 2",
        "repeats 1 of earlier pages"
    );
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
    "it reports 5 resources but listed 3; page 2 (startIndex 3) has 0 of 2"
)]
#[case::a_page_is_left_out(
    |request: &StubRequest, answer: &mut Value| if request.query("startIndex") == Some("3") {
        answer.as_object_mut().unwrap().remove("Resources");
    },
    "it reports 5 resources but listed 3"
)]
#[case::counts_people_whom_it_does_not_show(
    |_: &StubRequest, answer: &mut Value| answer["Resources"] = json!([]),
    "it reports 5 resources but listed 0"
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
    assert_contains!(error, words);
}

#[rstest]
#[case::a_page_is_lost(
    |request: &StubRequest, answer: &mut Value| if request.query("cursor") == Some("after-2") {
        answer["Resources"] = json!([]);
    },
    "it reports 5 resources but listed 3"
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
    assert_contains!(error, words);
}

#[tokio::test]
async fn a_rejected_cursor_fails_the_listing() {
    let idp = Idp::new(by_cursor()).override_response(|request| {
        let is_late = request.query("cursor") == Some("after-4");
        is_late.then(|| Answer::text(400, "{\"scimType\": \"expiredCursor\"}"))
    });
    let error = listing_error(&idp.start(), &[]).await;
    assert_contains!(error, "rejects a cursor that it issued");
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
    let stub = idp.start();
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
    let people = list_people(&idp.start(), &[], &[]).await.unwrap().people;
    assert_eq!(people.len(), 5);
    assert!(
        people
            .iter()
            .all(|person| person.status == IdentityStatus::Active)
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
    let wanted = addresses([1, 2, 3]);
    let stub = idp.start();
    let (shown, extent) = list_addresses(&stub, &wanted).await;
    let expected = ["u1@example.org", "U2@example.org", "u3@example.org"];
    assert_eq!(shown, expected);
    assert_eq!(extent, Extent::Requested);
    assert_eq!(count_list_requests(&stub), 0, "the full list is not read");
}

/// How many pages of the list were requested without a filter.
fn count_list_requests(stub: &Stub) -> usize {
    let all = stub.requests();
    let whole = all
        .iter()
        .filter(|request| request.path.ends_with("/Users") && request.query("filter").is_none());
    whole.count()
}

fn count_filter_requests(stub: &Stub) -> usize {
    let all = stub.requests();
    all.iter()
        .filter(|request| request.query("filter").is_some())
        .count()
}

#[tokio::test]
async fn a_person_whom_filters_do_not_find_is_looked_for_in_the_list_once_a_day() {
    let stub = Idp::new(by_index()).start();
    let clock = Clock::manual("2026-11-22T12:00:00Z".parse().unwrap());
    let directory = directory_at(&stub, clock.clone());
    let mut wanted = addresses([1, 9]);
    wanted.push("\"u5\\\" or\"@example.org".parse().unwrap());
    let mut cursor = None;
    for (hours, extent) in [
        (0, Extent::Everybody),
        (1, Extent::Requested),
        (23, Extent::Everybody),
    ] {
        clock.advance(TimeDelta::hours(hours));
        let listed = list_again(&directory, &wanted, cursor.as_deref())
            .await
            .unwrap();
        assert_eq!(listed.listing.extent, extent, "{hours}");
        assert_eq!(
            listed.person("u1@example.org").status,
            IdentityStatus::Active
        );
        cursor = listed.listing.cursor;
    }
}

#[rstest]
#[case::nested_values_match_nothing("emails")]
#[case::case_matters("")]
#[tokio::test]
async fn filters_that_miss_a_person_of_the_list_are_not_used_for_a_day(
    #[case] attribute: &'static str,
) {
    let idp = Idp::new(by_index())
        .change(
            1,
            json!({"userName": "two", "emails": [{"value": "U2@example.org"}]}),
        )
        .override_response(move |request| {
            let filter = request.query("filter")?;
            let is_missed = filter.starts_with(attribute) && filter.contains("u2@");
            is_missed.then(|| Answer::json(&json!({"totalResults": 0, "Resources": []})))
        });
    let stub = idp.start();
    let directory = directory(&stub, &[]);
    let mut cursor = None;
    for _ in 0..2 {
        let listed = list_again(&directory, &addresses([1, 2]), cursor.as_deref())
            .await
            .unwrap();
        assert_eq!(listed.listing.extent, Extent::Everybody);
        assert_eq!(
            listed.person("u2@example.org").status,
            IdentityStatus::Active
        );
        cursor = listed.listing.cursor;
    }
    assert_eq!(
        count_filter_requests(&stub),
        4,
        "only the first listing uses filters"
    );
}

/// A server that ends its list after a page and counts just that page.
fn cut_off(people: usize, page: usize) -> Idp {
    let idp = Idp::new(by_index());
    let all =
        (1..=people).map(|n| user(&format!("id-{n}"), &format!("u{n}@example.org"), json!({})));
    idp.state().users = all.collect();
    idp.state().page = page;
    idp.modify_response(move |request, answer| {
        if request.query("filter").is_none() {
            let listed = answer["Resources"].as_array().unwrap().len();
            answer["totalResults"] = json!(listed);
        }
    })
}

#[tokio::test]
async fn people_beyond_the_end_of_a_cut_list_are_asked_for_one_by_one() {
    let idp = cut_off(70, 50);
    let stub = idp.start();
    let directory = directory(&stub, &[]);
    let wanted = addresses(1..=69);
    let listed = list_again(&directory, &wanted, None).await.unwrap();
    assert_eq!((listed.people.len(), listed.listing.gaps), (69, None));
    assert_eq!(count_filter_requests(&stub), 2 * 19);
    // Later listings read them by their ids.
    idp.state().users[68]["active"] = json!(false);
    let cursor = listed.listing.cursor;
    let listed = list_again(&directory, &wanted, cursor.as_deref())
        .await
        .unwrap();
    assert_eq!(listed.people.len(), 69);
    assert_eq!(
        listed.person("u69@example.org").status,
        IdentityStatus::Disabled
    );
    assert_eq!(count_filter_requests(&stub), 2 * 19);
}

#[tokio::test]
async fn at_most_200_people_are_asked_for_in_a_listing() {
    let stub = cut_off(300, 50).start();
    let directory = directory(&stub, &[]);
    let wanted = addresses(1..=300);
    let listed = list_again(&directory, &wanted, None).await.unwrap();
    assert_eq!(listed.people.len(), 250);
    let gaps = listed.listing.gaps.unwrap();
    assert_contains!(
        gaps,
        "50 issuers of tokens are not in it",
        "200 of them are asked for in each sync"
    );
    let cursor = listed.listing.cursor;
    let listed = list_again(&directory, &wanted, cursor.as_deref())
        .await
        .unwrap();
    assert_eq!((listed.people.len(), listed.listing.gaps), (300, None));
}

#[tokio::test]
async fn a_list_that_may_be_cut_off_says_so_if_filters_do_not_work() {
    let idp = cut_off(130, 100)
        .override_response(|request| request.query("filter").map(|_| Answer::status(400)));
    let listed = list_people(&idp.start(), &[], &addresses(1..=130))
        .await
        .unwrap();
    assert_eq!(listed.people.len(), 100);
    let gaps = listed.listing.gaps.unwrap();
    assert_contains!(
        gaps,
        "ends after one page of 100 people",
        "30 issuers",
        "by a filter either"
    );
    // A list that is no page is whole.
    let idp = cut_off(13, 100)
        .override_response(|request| request.query("filter").map(|_| Answer::status(400)));
    let listed = list_people(&idp.start(), &[], &addresses(1..=60))
        .await
        .unwrap();
    assert_eq!(listed.listing.gaps, None);
}

#[tokio::test]
async fn odd_records_leave_the_others_as_they_are() {
    let idp = Idp::new(without_filters())
        .change(
            0,
            json!({"id": 1, "emails": ["u1@example.org", 7, null], "name": "Ada"}),
        )
        .change(
            1,
            json!({"emails": {"value": "u2@example.org"}, "active": "False", "groups": 5}),
        )
        .change(2, json!({"id": null}))
        .change(
            3,
            json!({"emails": null, "active": "1", "displayName": ["x"]}),
        )
        .change(4, json!({"active": {"value": true}}));
    let listed = list_people(&idp.start(), &[], &[]).await.unwrap();
    let expected = [
        "u1@example.org active",
        "u2@example.org disabled",
        "u4@example.org active",
        "u5@example.org unknown",
    ];
    assert_eq!(listed.lines(), expected);
    assert_eq!(listed.person("u1@example.org").id.as_deref(), Some("1"));
    assert_contains!(
        listed.listing.gaps.unwrap(),
        "1 record of a person has no id"
    );
    idp.state().page = 5;
    let checked = check(&idp, &[]).await.unwrap();
    assert_contains!(checked.summary, "5 people (1 without an id");
}

#[tokio::test]
async fn members_are_numbers_and_one_without_an_id_may_be_anyone() {
    let idp = Idp::new(without_filters())
        .change(0, json!({"id": 1}))
        .group(
            "g-1",
            "cdn",
            &json!([{"value": 1}, "id-2", {"value": "id-3", "type": "direct"}]),
        )
        .group("g-2", "ops", &json!([{"value": 1}, {"display": "someone"}]));
    let stub = idp.start();
    let listed = list_people(&stub, &["cdn"], &[]).await.unwrap();
    assert_eq!(listed.members(), &five()[..3]);
    let listed = list_people(&stub, &["ops"], &[]).await.unwrap();
    let is_member = |address: &String| listed.person(address).is_member;
    let membership: Vec<_> = five().iter().map(is_member).collect();
    assert_eq!(membership, [Some(true), None, None, None, None]);
    let other = listed.person("u2@example.org");
    assert_eq!(
        (other.status, other.reason),
        (IdentityStatus::Unknown, Some(Reason::Unconfirmed))
    );
}

/// Servers whose pages do not add up, each with a sample of 12 people.
#[rstest]
#[case::one_is_left_out_of_a_page(
    |_: &StubRequest, answer: &mut Value| remove_user(answer, "id-4"),
    Some("it reports 12 resources but listed 11; page 1 (startIndex 1) has 4 of 5")
)]
#[case::one_is_left_out_and_the_end_is_refused(
    |request: &StubRequest, answer: &mut Value| {
        remove_user(answer, "id-4");
        if request.query("startIndex").is_some_and(|start| start.parse::<u32>().unwrap() > 12) {
            *answer = json!({"status": "400"});
        }
    },
    Some("page 1 (startIndex 1) has 4 of 5")
)]
#[case::later_pages_begin_too_early(
    |request: &StubRequest, answer: &mut Value| {
        let start: usize = request.query("startIndex").unwrap().parse().unwrap();
        let begin = start.saturating_sub(2).min(12);
        let users = (begin + 1..=12).take(5).map(|n| user(&format!("id-{n}"), &format!("u{n}@example.org"), json!({})));
        if start > 1 { answer["Resources"] = users.collect(); }
    },
    None
)]
#[case::items_per_page_is_untrue(
    |_: &StubRequest, answer: &mut Value| answer["itemsPerPage"] = json!(100),
    None
)]
#[tokio::test]
async fn pages_that_do_not_add_up_are_read_again(
    #[case] modify_response: fn(&StubRequest, &mut Value),
    #[case] expected: Option<&str>,
) {
    let idp = cut_off(12, 5).modify_response(modify_response);
    let listed = list_people(&idp.start(), &[], &[]).await.unwrap();
    assert_eq!(listed.people.len(), 12 - usize::from(expected.is_some()));
    let gaps = listed.listing.gaps.unwrap_or_default();
    assert_contains!(gaps, expected.unwrap_or_default());
    assert_eq!(gaps.is_empty(), expected.is_none(), "{gaps}");
}

fn remove_user(answer: &mut Value, id: &str) {
    let users = answer["Resources"].as_array_mut().unwrap();
    users.retain(|user| user["id"] != id);
}

/// Both accounts have the mailbox, so neither may be missed or taken for another person's.
#[rstest]
#[case::by_mailbox("ada@corp.example", "ada.admin@corp.example", None)]
#[case::by_sign_in_name("ada@corp.example", "u1@example.org", Some("id-2"))]
#[tokio::test]
async fn a_second_account_that_works_keeps_access_from_being_lost(
    #[case] first: &str,
    #[case] second: &str,
    #[case] counted: Option<&str>,
    #[values(true, false)] has_filters: bool,
) {
    let provider = if has_filters {
        by_index()
    } else {
        without_filters()
    };
    let mailbox = json!([{"value": "u1@example.org"}]);
    let idp = Idp::new(provider)
        .change(0, json!({"userName": first, "active": false}))
        .change(1, json!({"userName": second, "emails": mailbox}));
    let listed = list_people(&idp.start(), &[], &addresses([1]))
        .await
        .unwrap();
    let people = listed.people.into_iter();
    let accounts: Vec<_> = people
        .filter(|person| person.is_main("u1@example.org"))
        .collect();
    assert_eq!(accounts.len(), 2);
    let bound = Some(Binding {
        id: "id-1",
        is_chosen: false,
    });
    let observation =
        Observation::from_accounts("u1@example.org", bound, accounts, Observation::Missing);
    let found = match &observation {
        Observation::One(person) => person.id.as_deref(),
        other => {
            assert_eq!(other, &Observation::Several);
            None
        }
    };
    assert_eq!(found, counted);
}

#[tokio::test]
async fn a_listing_by_cursor_starts_with_an_empty_cursor() {
    let stub = Idp::new(by_cursor()).start();
    list_addresses(&stub, &[]).await;
    let requests = stub.requests();
    let mut pages = requests.iter().filter(|it| it.path == "/scim/v2/Users");
    assert_eq!(pages.next().unwrap().query("cursor"), Some(""));
}

#[tokio::test]
async fn a_server_that_filters_sign_in_names_only_is_asked_by_name() {
    let idp = Idp::new(by_index()).override_response(|request| {
        let filter = request.query("filter")?;
        filter.starts_with("emails").then(|| Answer::status(400))
    });
    let stub = idp.start();
    let directory = directory(&stub, &[]);
    let wanted = addresses([1, 2]);
    let first = list_again(&directory, &wanted, None).await.unwrap();
    assert_eq!(first.listing.extent, Extent::Everybody);
    let cursor = first.listing.cursor;
    let later = list_again(&directory, &wanted, cursor.as_deref())
        .await
        .unwrap();
    assert_eq!(later.listing.extent, Extent::Requested);
    assert_eq!(later.people.len(), 2);
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
#[case::broken_for_mailboxes(false, |request: &StubRequest| {
    let is_mailbox = request.query("filter").is_some_and(|filter| filter.starts_with("emails"));
    is_mailbox.then(|| Answer::status(500))
})]
#[case::not_found(false, |request: &StubRequest| request.query("filter").map(|_| Answer::status(404)))]
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
            let listed = list_people(&stub, &[name], &[]).await.unwrap();
            assert_eq!(listed.members(), &five()[..4], "{name}");
            assert_eq!(listed.groups(), [(name, 4)]);
            assert_eq!(listed.listing.extent, Extent::Everybody);
        }
        let groups = ["inner", "others"];
        let listed = list_people(&stub, &groups, &[]).await.unwrap();
        assert_eq!(listed.members(), five());
        assert_eq!(listed.groups(), [("inner", 4), ("others", 1)]);
    }
}

#[tokio::test]
async fn queries_that_find_no_group_member_lead_to_a_full_listing() {
    let idp = Idp::new(by_index()).group("g-1", "cdn", &json!([{"value": "id-1"}]));
    let stub = idp.start();
    for (wanted, extent) in [
        (addresses([1, 2]), Extent::Requested),
        (addresses([2]), Extent::Everybody),
    ] {
        let listed = list_people(&stub, &["cdn"], &wanted).await.unwrap();
        assert_eq!(listed.members(), ["u1@example.org"]);
        assert_eq!(listed.listing.extent, extent);
    }
}

#[tokio::test]
async fn members_that_match_no_user_are_an_error() {
    let idp = Idp::new(by_index()).group("g-1", "cdn", &json!([{"value": "CN=Ada,DC=example"}]));
    let error = listing_error(&idp.start(), &["cdn"]).await;
    assert_contains!(error, "none of them is among the users");
}

#[rstest]
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
        assert_contains!(error, words);
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
    let wanted = addresses([1]);
    let listed = list_people(&stub, &["CDN", "g-2"], &wanted).await.unwrap();
    assert_eq!(listed.members(), &five()[..2]);
    assert_eq!(listed.groups(), [("CDN", 1), ("g-2", 1)]);
    assert_eq!(listed.listing.extent, Extent::Everybody);
    let error = listing_error(&stub, &["cdn", "cnd"]).await;
    assert_contains!(error, "there is no group \"cnd\"; no user has it");
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
    let listed = list_people(&idp.start(), &["cdn"], &[]).await.unwrap();
    assert_eq!(listed.members(), ["u1@example.org"]);
    assert_eq!(listed.groups(), [("cdn", 1)]);
}

async fn look_up(idp: &Idp, id: &str) -> Result<Lookup, Error> {
    directory(&idp.start(), &[]).look_up(id).await
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
#[case::the_whole_list(|| Answer::json(&json!({"totalResults": 0, "Resources": []})), "is not as documented")]
#[case::broken(|| Answer::status(500), "answered 500")]
#[case::no_token(|| Answer::status(401), "does not accept the token (401); create a new one")]
#[tokio::test]
async fn a_wrong_response_to_a_look_up_is_an_error(
    #[case] answer: fn() -> Answer,
    #[case] words: &str,
) {
    let idp = Idp::new(by_index()).override_response(move |_| Some(answer()));
    let error = look_up(&idp, "id-1").await.unwrap_err().to_string();
    assert_contains!(error, words);
}

#[rstest]
#[case(
    403,
    "does not let the token read Users (403); give the token's client"
)]
#[case(404, "has no Users (404); write url up to its version")]
#[tokio::test]
async fn a_refusal_says_how_to_fix_it(#[case] status: u16, #[case] words: &str) {
    let idp = Idp::new(by_index()).override_response(move |request| {
        request
            .path
            .ends_with("/Users")
            .then(|| Answer::status(status))
    });
    let error = listing_error(&idp.start(), &[]).await;
    assert_contains!(error, words);
}

async fn check(idp: &Idp, groups: &[&str]) -> Result<CheckReport, Error> {
    directory(&idp.start(), groups).check().await
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
