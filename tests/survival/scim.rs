//! SCIM: who is told of, and what lapsed makes of servers that do not do as they say.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lapsed::directories::scim::Config;
use lapsed::directories::{Asked as Wanted, Common, Directory, Extent, Group, LookedUp, Pulled};
use lapsed::domain::{Address, IdentityStatus, Person, Reason};
use lapsed::sources::{Checked, Error, Fetched};
use rstest::rstest;
use serde_json::{Value, json};

use crate::stub::{Answer, Asked, Stub};
use crate::traps::{LEAKED, TRAPS, is_nowhere};
use crate::world::{Db, World};

const TOKEN: &str = "0wn-s3cret-of-scim";

/// What is done to an answer before it goes out.
type Twist = Box<dyn Fn(&Asked, &mut Value) + Send + Sync>;

/// What is answered instead.
type Instead = Box<dyn Fn(&Asked) -> Option<Answer> + Send + Sync>;

/// A SCIM server, as its people stand at present.
#[derive(Clone)]
struct Idp(Arc<Mutex<State>>);

struct State {
    users: Vec<Value>,
    groups: Vec<Value>,
    provider: Value,
    /// Most that a page holds, whatever was asked for.
    page: usize,
    /// Filters change nothing.
    is_deaf: bool,
    twist: Twist,
    instead: Instead,
}

fn user(id: &str, email: &str, fields: Value) -> Value {
    let mut user = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "id": id, "userName": email,
        "active": true, "emails": [{"value": email, "primary": true}], "displayName": "Ada",
        // Some servers tell it; it goes nowhere.
        "password": LEAKED,
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

/// With pages by index, and filters.
fn by_index() -> Value {
    json!({"filter": {"supported": true, "maxResults": 200}, "patch": {"supported": true}})
}

fn without_filters() -> Value {
    json!({"filter": {"supported": false, "maxResults": 0}})
}

/// With pages by cursor, and nothing else.
fn by_cursor() -> Value {
    json!({
        "filter": {"supported": false},
        "pagination": {"cursor": true, "index": false, "maxPageSize": 2}
    })
}

impl Idp {
    /// With five people, u1@example.org to u5@example.org.
    fn new(provider: Value) -> Self {
        let people =
            (1..=5).map(|n| user(&format!("id-{n}"), &format!("u{n}@example.org"), json!({})));
        Self(Arc::new(Mutex::new(State {
            users: people.collect(),
            groups: Vec::new(),
            provider,
            page: 2,
            is_deaf: false,
            twist: Box::new(|_, _| ()),
            instead: Box::new(|_| None),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn twist(self, twist: impl Fn(&Asked, &mut Value) + Send + Sync + 'static) -> Self {
        self.state().twist = Box::new(twist);
        self
    }

    fn instead(self, answer: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Self {
        self.state().instead = Box::new(answer);
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
        Stub::start(move |asked| idp.state().answer(asked))
    }
}

impl State {
    fn answer(&self, asked: &Asked) -> Answer {
        if let Some(answer) = (self.instead)(asked) {
            return answer;
        }
        assert_eq!(asked.method, "GET", "lapsed only reads");
        if asked.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return Answer::text(401, "{\"status\": \"401\"}");
        }
        let parts: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["scim", "v2", "ServiceProviderConfig"] => Answer::json(&self.provider),
            ["scim", "v2", "Users"] => self.list(asked, &self.users),
            ["scim", "v2", "Groups"] => self.list(asked, &self.groups),
            ["scim", "v2", "Users", id] => one(&self.users, id),
            ["scim", "v2", "Groups", id] => one(&self.groups, id),
            _ => Answer::status(404),
        }
    }

    fn list(&self, asked: &Asked, all: &[Value]) -> Answer {
        let filter = asked.query("filter").filter(|_| !self.is_deaf);
        let found: Vec<&Value> = all
            .iter()
            .filter(|it| filter.is_none_or(|filter| fits(it, filter)))
            .collect();
        let page = asked
            .query("count")
            .map_or(self.page, |count| self.page.min(count.parse().unwrap()));
        let mut answer = if self.provider["pagination"]["cursor"] == true {
            let start = match asked.query("cursor").expect("a cursor") {
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
            let start: usize = asked
                .query("startIndex")
                .map_or(1, |start| start.parse().unwrap());
            let end = (start - 1 + page).min(found.len());
            let mut answer = json!({"totalResults": found.len(), "startIndex": start});
            if !found.is_empty() {
                answer["Resources"] = json!(found[start - 1..end]);
            }
            answer
        };
        (self.twist)(asked, &mut answer);
        Answer::json(&answer)
    }
}

fn one(all: &[Value], id: &str) -> Answer {
    match all.iter().find(|it| it["id"] == id) {
        Some(found) => Answer::json(found),
        None => Answer::text(404, "{\"status\": \"404\"}"),
    }
}

/// `userName eq "x"`, of the attributes that are asked for; it fails on any other.
fn fits(it: &Value, filter: &str) -> bool {
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

/// What a pull brought: the people by their first address, and how it ended.
async fn pull(
    stub: &Stub,
    groups: &[&str],
    asked: &[Address],
) -> Result<(Vec<Person>, Pulled), Error> {
    let mut people = Vec::new();
    let mut tell = |person| people.push(person);
    let wanted = Wanted {
        people: asked,
        cursor: None,
    };
    let pulled = directory(stub, groups).pull(&wanted, &mut tell).await?;
    people.sort_by_key(|person: &Person| person.email().key().to_owned());
    match pulled {
        Fetched::New(pulled) => Ok((people, pulled)),
        Fetched::Unchanged => panic!("a SCIM server cannot say that nothing has changed"),
    }
}

/// The first addresses of everybody who is told of.
async fn told(stub: &Stub, asked: &[Address]) -> (Vec<String>, Extent) {
    let (people, pulled) = pull(stub, &[], asked).await.unwrap();
    let shown = people.iter().map(|person| person.email().to_string());
    (shown.collect(), pulled.extent)
}

async fn fails(stub: &Stub, groups: &[&str]) -> String {
    pull(stub, groups, &[]).await.unwrap_err().to_string()
}

/// `u1@example.org true`: whether each is in an allowed group.
async fn members(
    stub: &Stub,
    groups: &[&str],
    asked: &[Address],
) -> (Vec<String>, Vec<Group>, Extent) {
    let (people, pulled) = pull(stub, groups, asked).await.unwrap();
    let shown = people.iter().filter(|person| person.is_member.unwrap());
    (
        shown.map(|person| person.email().to_string()).collect(),
        pulled.groups,
        pulled.extent,
    )
}

fn in_all(name: &str, members: u64) -> Group {
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
async fn everybody_is_told_of_on_every_page(#[case] provider: Value, #[case] pages: usize) {
    let idp = Idp::new(provider);
    let stub = idp.start();
    assert_eq!(told(&stub, &[]).await, (five(), Extent::Everybody));
    let asked = stub.take_lines();
    let lists = asked
        .iter()
        .filter(|line| *line == "GET /scim/v2/Users")
        .count();
    assert_eq!(lists, pages, "{asked:?}");
}

#[rstest]
#[case::by_index(without_filters())]
#[case::by_cursor(by_cursor())]
#[tokio::test]
async fn whoever_is_left_out_of_any_page_of_any_size_is_missed(#[case] provider: Value) {
    for page in 1..=6 {
        for lost in 1..=5 {
            let idp = Idp::new(provider.clone());
            idp.state().page = page;
            idp.state().provider["pagination"]["maxPageSize"] = json!(page);
            assert_eq!(told(&idp.start(), &[]).await, (five(), Extent::Everybody));
            let idp = idp.twist(move |_, answer| {
                let id = json!(format!("id-{lost}"));
                let listed = answer["Resources"].as_array_mut().unwrap();
                listed.retain(|user| user["id"] != id);
            });
            let said = fails(&idp.start(), &[]).await;
            assert!(said.contains("of 5 that there are said to be"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_person_is_told_of_as_the_server_knows_them() {
    let idp = Idp::new(without_filters())
        .change(0, json!({"userName": "ada", "active": false, "name": {"formatted": "Ada Lovelace"}, "displayName": null}))
        .change(1, json!({"userName": "bot", "emails": []}));
    let (people, _) = pull(&idp.start(), &[], &[]).await.unwrap();
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
    assert!(!format!("{people:?}").contains(LEAKED));
}

#[tokio::test]
async fn a_server_that_says_nothing_of_itself_is_asked_the_plain_way() {
    let idp = Idp::new(by_index()).instead(|asked| {
        asked
            .path
            .ends_with("ServiceProviderConfig")
            .then(|| Answer::status(404))
    });
    let stub = idp.start();
    assert_eq!(
        told(&stub, &addresses([1])).await,
        (five(), Extent::Everybody)
    );
    for asked in stub.asked() {
        let words = ["filter", "count", "cursor"].map(|word| asked.query(word));
        assert_eq!(words, [None; 3], "{asked:?}");
    }
}

#[tokio::test]
async fn nobody_is_somebody_too() {
    let idp = Idp::new(by_index());
    idp.state().users.clear();
    assert_eq!(told(&idp.start(), &[]).await, (vec![], Extent::Everybody));
}

/// Somebody of the first page stands on the second as well, in the place of another.
fn twice(asked: &Asked, answer: &mut Value) {
    let start = asked.query("startIndex").or(asked.query("cursor"));
    if start == Some("3") || start == Some("after-2") {
        answer["Resources"][0] = user("id-1", "u1@example.org", json!({}));
    }
}

#[rstest]
#[case::by_index(without_filters())]
#[case::by_cursor(by_cursor())]
#[tokio::test]
async fn who_stands_on_two_pages_does_not_make_up_for_another(#[case] provider: Value) {
    let said = fails(&Idp::new(provider).twist(twice).start(), &[]).await;
    assert!(said.contains("4 were listed, some of them twice"), "{said}");
}

#[tokio::test]
async fn who_stands_on_two_pages_is_told_of_once() {
    let idp = Idp::new(by_cursor()).twist(|asked, answer| {
        twice(asked, answer);
        answer.as_object_mut().unwrap().remove("totalResults");
    });
    let (shown, _) = told(&idp.start(), &[]).await;
    let four = [1, 2, 4, 5].map(|n| format!("u{n}@example.org"));
    assert_eq!(shown, four);
}

#[rstest]
#[case::a_page_is_lost(
    |asked: &Asked, answer: &mut Value| if asked.query("startIndex") == Some("3") {
        answer["Resources"] = json!([]);
    },
    "of 5 that there are said to be, 2 were listed"
)]
#[case::a_page_is_left_out(
    |asked: &Asked, answer: &mut Value| if asked.query("startIndex") == Some("3") {
        answer.as_object_mut().unwrap().remove("Resources");
    },
    "of 5 that there are said to be, 2 were listed"
)]
#[case::totals_disagree(
    |asked: &Asked, answer: &mut Value| if asked.query("startIndex") == Some("5") {
        answer["totalResults"] = json!(6);
    },
    "disagree about how many there are"
)]
#[case::more_than_there_are(
    |_: &Asked, answer: &mut Value| answer["totalResults"] = json!(1),
    "of 1 that there are said to be, 2 were listed"
)]
#[case::no_total(
    |_: &Asked, answer: &mut Value| {
        answer.as_object_mut().unwrap().remove("totalResults");
    },
    "answered with something unexpected: totalResults is missing"
)]
#[tokio::test]
async fn a_list_by_index_that_is_not_whole_is_none(
    #[case] twist: fn(&Asked, &mut Value),
    #[case] words: &str,
) {
    let idp = Idp::new(without_filters()).twist(twist);
    let said = fails(&idp.start(), &[]).await;
    assert!(said.contains(words), "{said}");
}

#[rstest]
#[case::a_page_is_lost(
    |asked: &Asked, answer: &mut Value| if asked.query("cursor") == Some("after-2") {
        answer["Resources"] = json!([]);
    },
    "of 5 that there are said to be, 3 were listed"
)]
#[case::the_end_comes_early(
    |asked: &Asked, answer: &mut Value| if asked.query("cursor") == Some("after-2") {
        answer.as_object_mut().unwrap().remove("nextCursor");
    },
    "of 5 that there are said to be, 4 were listed"
)]
#[case::a_cursor_is_repeated(
    |_: &Asked, answer: &mut Value| answer["nextCursor"] = json!("after-2"),
    "it gave the same cursor a second time"
)]
#[case::totals_disagree(
    |asked: &Asked, answer: &mut Value| if asked.query("cursor") == Some("after-4") {
        answer["totalResults"] = json!(6);
    },
    "disagree about how many there are"
)]
#[case::no_list(
    |_: &Asked, answer: &mut Value| *answer = json!({"nextCursor": "after-2"}),
    "answered with something unexpected"
)]
#[tokio::test]
async fn a_list_by_cursor_that_is_not_whole_is_none(
    #[case] twist: fn(&Asked, &mut Value),
    #[case] words: &str,
) {
    let idp = Idp::new(by_cursor()).twist(twist);
    let said = fails(&idp.start(), &[]).await;
    assert!(said.contains(words), "{said}");
}

#[tokio::test]
async fn a_cursor_that_the_server_no_longer_takes_ends_the_pull() {
    let idp = Idp::new(by_cursor()).instead(|asked| {
        let is_late = asked.query("cursor") == Some("after-4");
        is_late.then(|| Answer::text(400, "{\"scimType\": \"expiredCursor\"}"))
    });
    let said = fails(&idp.start(), &[]).await;
    assert!(
        said.contains("no longer takes the cursor that it gave"),
        "{said}"
    );
}

#[rstest]
#[case::that_says_so(by_cursor())]
#[case::that_says_nothing(json!({}))]
#[tokio::test]
async fn microsofts_own_way_to_list_is_read(#[case] provider: Value) {
    let idp = Idp::new(by_cursor()).twist(|_, answer| {
        let answer = answer.as_object_mut().unwrap();
        answer.remove("totalResults");
        let resources = answer.remove("Resources").unwrap();
        answer.insert("resources".to_owned(), resources);
    });
    let idp = idp.instead(move |asked| {
        let is_config = asked.path.ends_with("ServiceProviderConfig");
        is_config.then(|| Answer::json(&provider))
    });
    // Its stand-in wants a cursor from those who were told so.
    let stub = Stub::start({
        let idp = idp.clone();
        move |asked| {
            let mut asked = asked.clone();
            asked.query.entry("cursor".to_owned()).or_default();
            idp.state().answer(&asked)
        }
    });
    assert_eq!(told(&stub, &[]).await, (five(), Extent::Everybody));
}

#[rstest]
#[case::not_understood(|asked: &Asked| asked.query("attributes").map(|_| Answer::status(400)))]
#[case::half_understood(|asked: &Asked| {
    let silent = json!({"totalResults": 1, "Resources": [{"id": "id-1"}]});
    (asked.path.ends_with("/Users") && asked.query("attributes").is_some()).then(|| Answer::json(&silent))
})]
#[tokio::test]
async fn a_server_that_cannot_leave_fields_out_is_asked_for_all(
    #[case] instead: fn(&Asked) -> Option<Answer>,
) {
    let idp = Idp::new(without_filters()).instead(instead);
    let (people, _) = pull(&idp.start(), &[], &[]).await.unwrap();
    assert_eq!(people.len(), 5);
    assert!(
        people
            .iter()
            .all(|person| person.status == IdentityStatus::Active)
    );
}

#[tokio::test]
async fn a_missing_field_is_no_statement() {
    let idp = Idp::new(without_filters()).change(0, json!({"active": null}));
    let (people, _) = pull(&idp.start(), &[], &[]).await.unwrap();
    assert_eq!(
        (people[0].status, people[0].reason),
        (IdentityStatus::Unknown, Some(Reason::FieldMissing))
    );
}

#[tokio::test]
async fn few_are_asked_for_one_by_one() {
    let idp = Idp::new(by_index())
        .change(
            1,
            json!({"userName": "two", "emails": [{"value": "U2@example.org"}]}),
        )
        .change(2, json!({"userName": "three"}));
    let mut asked = addresses([1, 2, 3, 9]);
    asked.push("\"u5\\\" or\"@example.org".parse().unwrap());
    let stub = idp.start();
    let (shown, extent) = told(&stub, &asked).await;
    assert_eq!(
        shown,
        ["u1@example.org", "U2@example.org", "u3@example.org"]
    );
    assert_eq!(extent, Extent::Asked);
    let all = stub.asked();
    let whole = all
        .iter()
        .filter(|asked| asked.path.ends_with("/Users") && asked.query("filter").is_none());
    assert_eq!(whole.count(), 0, "the whole list is not read");
}

#[tokio::test]
async fn many_are_listed() {
    let idp = Idp::new(by_index());
    let (shown, extent) = told(&idp.start(), &addresses(1..=51)).await;
    assert_eq!((shown, extent), (five(), Extent::Everybody));
}

#[rstest]
#[case::ignored(true, |_: &Asked| None)]
#[case::refused(false, |asked: &Asked| asked.query("filter").map(|_| Answer::text(400, "{\"scimType\": \"invalidFilter\"}")))]
#[case::unknown(false, |asked: &Asked| asked.query("filter").map(|_| Answer::status(501)))]
#[case::closed(false, |asked: &Asked| asked.query("filter").map(|_| Answer::status(403)))]
#[case::no_list_for_it(false, |asked: &Asked| asked.query("filter").map(|_| Answer::text(200, "{}")))]
#[case::no_total_for_it(false, |asked: &Asked| {
    asked.query("filter").map(|_| Answer::text(200, "{\"totalResults\": 7, \"Resources\": []}"))
})]
#[case::refused_for_mailboxes(false, |asked: &Asked| {
    let is_mailbox = asked.query("filter").is_some_and(|filter| filter.starts_with("emails"));
    is_mailbox.then(|| Answer::status(400))
})]
#[case::finds_nobody(false, |asked: &Asked| {
    asked.query("filter").map(|_| Answer::text(200, "{\"totalResults\": 0}"))
})]
#[tokio::test]
async fn where_a_filter_does_not_do_the_whole_list_is_read(
    #[case] is_deaf: bool,
    #[case] instead: fn(&Asked) -> Option<Answer>,
) {
    let idp = Idp::new(by_index()).instead(instead);
    idp.state().is_deaf = is_deaf;
    let stub = idp.start();
    let asked = addresses([1, 9]);
    assert_eq!(told(&stub, &asked).await, (five(), Extent::Everybody));
}

#[tokio::test]
async fn who_is_in_an_allowed_group_is_told_with_nested_ones_and_circles() {
    for provider in [by_index(), without_filters(), by_cursor()] {
        let idp = Idp::new(provider)
            .change(3, json!({"userName": "four"}))
            .group(
                "g-1",
                "cdn-admins",
                &json!([
                    {"value": "id-1", "type": "User"},
                    {"value": "g-2", "type": "Group"},
                    // Neither says what it is.
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
            // By its userName, and by where it is.
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
            assert_eq!((groups, extent), (vec![in_all(name, 4)], Extent::Everybody));
        }
        let (shown, groups, _) = members(&stub, &["inner", "others"], &[]).await;
        assert_eq!(shown, five());
        assert_eq!(groups, [in_all("inner", 4), in_all("others", 1)]);
    }
}

#[tokio::test]
async fn few_are_not_asked_for_alone_where_none_of_them_proves_who_is_in_a_group() {
    let idp = Idp::new(by_index()).group("g-1", "cdn", &json!([{"value": "id-1"}]));
    let stub = idp.start();
    let (shown, _, extent) = members(&stub, &["cdn"], &addresses([1, 2])).await;
    assert_eq!((shown, extent), (vec![five()[0].clone()], Extent::Asked));
    let (shown, _, extent) = members(&stub, &["cdn"], &addresses([2])).await;
    assert_eq!(
        (shown, extent),
        (vec![five()[0].clone()], Extent::Everybody)
    );
}

#[tokio::test]
async fn members_of_whom_no_user_is_one_prove_nothing() {
    let idp = Idp::new(by_index()).group("g-1", "cdn", &json!([{"value": "CN=Ada,DC=example"}]));
    let said = fails(&idp.start(), &["cdn"]).await;
    assert!(said.contains("none of them is among the users"), "{said}");
}

#[tokio::test]
async fn a_group_that_nobody_is_in_is_told_so() {
    let idp = Idp::new(by_index()).group("g-1", "cdn", &json!([]));
    let (shown, groups, _) = members(&idp.start(), &["cdn"], &[]).await;
    assert_eq!((shown, groups), (vec![], vec![in_all("cdn", 0)]));
}

#[rstest]
#[case::is_not_there("cnd", "there is no group \"cnd\"")]
#[case::is_there_twice("twice", "several groups are called \"twice\"; write the id")]
#[case::holds_one_that_cannot_be_seen(
    "broken",
    "\"broken\" has a group in it that the server does not show"
)]
#[tokio::test]
async fn an_allowed_group_must_be_there(#[case] name: &str, #[case] words: &str) {
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
        let said = fails(&idp.start(), &["cdn", name]).await;
        assert!(said.contains(words), "{said}");
    }
}

#[rstest]
#[case::not_known(404)]
#[case::not_made(501)]
#[tokio::test]
async fn without_groups_to_ask_users_tell_of_their_own(#[case] status: u16) {
    let offers_none = move |asked: &Asked| {
        let is_group = asked.path.contains("/Groups");
        is_group.then(|| Answer::status(status))
    };
    let idp = Idp::new(by_index())
        .instead(offers_none)
        .change(0, json!({"groups": [{"value": "g-1", "display": "cdn"}]}))
        .change(1, json!({"groups": [{"value": "g-2", "display": "ops"}]}));
    let stub = idp.start();
    let (shown, groups, extent) = members(&stub, &["CDN", "g-2"], &addresses([1])).await;
    assert_eq!(shown, &five()[..2]);
    assert_eq!(
        (groups, extent),
        (vec![in_all("CDN", 1), in_all("g-2", 1)], Extent::Everybody)
    );
    let said = fails(&stub, &["cdn", "cnd"]).await;
    assert!(
        said.contains("there is no group \"cnd\"; no user has it"),
        "{said}"
    );
}

#[tokio::test]
async fn members_that_are_told_only_when_asked_for_are_asked_for() {
    let members = json!([{"value": "id-1"}]);
    let idp = Idp::new(without_filters())
        .group("g-1", "cdn", &json!(null))
        .instead(move |asked| {
            let wants = asked
                .query("attributes")
                .is_some_and(|it| it.contains("members"));
            (asked.path.ends_with("/Groups/g-1") && wants)
                .then(|| Answer::json(&group("g-1", "cdn", &members)))
        });
    let (shown, groups, _) = members_of(&idp).await;
    assert_eq!(
        (shown, groups),
        (vec![five()[0].clone()], vec![in_all("cdn", 1)])
    );
}

async fn members_of(idp: &Idp) -> (Vec<String>, Vec<Group>, Extent) {
    members(&idp.start(), &["cdn"], &[]).await
}

async fn look_up(idp: &Idp, id: &str) -> Result<LookedUp, Error> {
    directory(&idp.start(), &[]).look_up(id).await
}

#[tokio::test]
async fn somebody_is_found_by_id() {
    let idp = Idp::new(by_index()).change(0, json!({"active": "False"}));
    let LookedUp::Found(found) = look_up(&idp, "id-1").await.unwrap() else {
        panic!("not found");
    };
    assert_eq!(
        (found.id.as_deref(), found.status),
        (Some("id-1"), IdentityStatus::Disabled)
    );
    assert_eq!(found.evidence, "active=\"False\"");
    let gone = LookedUp::Gone {
        evidence: "404 for its id".to_owned(),
        is_certain: false,
    };
    assert_eq!(look_up(&idp, "id-9").await.unwrap(), gone);
}

#[rstest]
#[case::not_understood(400, "400 for its id")]
#[case::closed(403, "403 for its id")]
#[tokio::test]
async fn a_refusal_is_no_word_about_somebody(#[case] status: u16, #[case] words: &str) {
    let idp = Idp::new(by_index()).instead(move |_| Some(Answer::status(status)));
    assert_eq!(
        look_up(&idp, "id-1").await.unwrap(),
        LookedUp::Unclear(words.to_owned())
    );
}

#[rstest]
#[case::another_user(|| Answer::json(&user("id-2", "u2@example.org", json!({}))), "another user than was asked for")]
#[case::the_whole_list(|| Answer::json(&json!({"totalResults": 0, "Resources": []})), "is not as documented")]
#[case::no_token(|| Answer::status(401), "does not accept the token (401); make a new one")]
#[case::broken(|| Answer::status(500), "answered 500")]
#[tokio::test]
async fn the_wrong_answer_about_an_id_is_an_error(
    #[case] answer: fn() -> Answer,
    #[case] words: &str,
) {
    let idp = Idp::new(by_index()).instead(move |_| Some(answer()));
    let said = look_up(&idp, "id-1").await.unwrap_err().to_string();
    assert!(said.contains(words), "{said}");
}

#[tokio::test]
async fn what_goes_wrong_anywhere_ends_the_pull_and_shows_nothing_of_the_answer() {
    for place in ["/ServiceProviderConfig", "/Users", "/Groups", "/Groups/g-1"] {
        for trap in TRAPS {
            let answer = trap.answer;
            let idp = Idp::new(without_filters())
                .group("g-1", "cdn", &json!([{"value": "id-1", "type": "User"}]))
                .instead(move |asked| asked.path.ends_with(place).then(answer));
            let outcome = pull(&idp.start(), &["cdn"], &[]).await;
            // What it does not say of itself, it need not know.
            let is_optional = place == "/ServiceProviderConfig" && outcome.is_ok();
            if is_optional && ["404", "answered with something unexpected"].contains(&trap.words) {
                continue;
            }
            let said = outcome.unwrap_err().to_string();
            assert!(!said.contains(LEAKED), "{said}");
            let is_told = said.contains(trap.words)
                || said.contains("there is no group")
                || trap.words == "404";
            assert!(is_told, "{place}: {said}");
        }
    }
}

#[rstest]
#[case(
    401,
    "does not accept the token (401); make a new one at the identity provider"
)]
#[case(403, "forbids the token to read Users (403); give its client")]
#[case(404, "knows no Users (404); write url as far as its version")]
#[case(429, "asks to wait 60 s")]
#[tokio::test]
async fn a_refusal_says_how_to_mend_it(#[case] status: u16, #[case] words: &str) {
    let idp = Idp::new(by_index()).instead(move |asked| {
        asked
            .path
            .ends_with("/Users")
            .then(|| Answer::status(status))
    });
    let said = fails(&idp.start(), &[]).await;
    assert!(said.contains(words), "{said}");
}

async fn check(idp: &Idp, groups: &[&str]) -> Result<Checked, Error> {
    directory(&idp.start(), groups).check().await
}

/// What it cannot do, and why.
fn missing(checked: &Checked) -> Vec<String> {
    let missing = |right: &lapsed::sources::Right| {
        let missing = right.missing.as_ref()?;
        Some(format!("{}: {missing}", right.what))
    };
    checked.rights.iter().filter_map(missing).collect()
}

#[tokio::test]
async fn a_check_says_what_can_be_seen() {
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
        "tell the 1 members of \"cdn\" apart",
        "tell who is active",
    ];
    assert_eq!(rights, BTreeSet::from(expected));
    assert_eq!(missing(&checked), [""; 0]);
}

#[rstest]
#[case::people(|asked: &Asked| asked.path.ends_with("/Users").then(|| Answer::status(403)), "list the people: give its client")]
#[case::groups(|asked: &Asked| asked.path.contains("/Groups").then(|| Answer::status(403)), "see the group \"cdn\": the server forbids")]
#[case::no_groups(|asked: &Asked| asked.path.contains("/Groups").then(|| Answer::status(404)), "see the group \"cdn\": the server offers no list")]
#[case::nobody(|asked: &Asked| asked.path.ends_with("/Users").then(|| Answer::text(200, "{\"totalResults\": 0}")), "list the people: the list is empty")]
#[case::nothing_told(
    |asked: &Asked| asked.path.ends_with("/Users").then(|| Answer::text(200, "{\"totalResults\": 1, \"Resources\": [{\"id\": \"id-1\"}]}")),
    "tell who is active: 1 of 1 users come without `active`"
)]
#[case::other_members(
    |asked: &Asked| asked.path.contains("/Users/").then(|| Answer::status(404)),
    "tell the 1 members of \"cdn\" apart: none that was looked at is a user"
)]
#[tokio::test]
async fn a_check_says_what_is_missing(
    #[case] instead: fn(&Asked) -> Option<Answer>,
    #[case] words: &str,
) {
    let idp = Idp::new(without_filters())
        .group("g-1", "cdn", &json!([{"value": "id-1", "type": "User"}]))
        .instead(instead);
    let missing = missing(&check(&idp, &["cdn"]).await.unwrap());
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].starts_with(words), "{missing:?}");
}

#[tokio::test]
async fn a_check_names_each_group_that_is_not_there() {
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

/// The names of the tokens that are flagged, in order.
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

    // Half a list clears nobody, and flags nobody.
    let idp = idp
        .change(0, json!({"active": true}))
        .change(1, json!({"active": false}));
    let idp = idp.instead(|asked| {
        let is_late = asked.query("startIndex").is_some() || asked.query("filter").is_some();
        is_late.then(|| Answer::text(500, LEAKED))
    });
    let failed = world.run(&["sweep"]);
    failed.exits(1).says("answered 500");
    assert_eq!(flagged(&world), ["A", "B"]);

    let _ = idp.instead(|_| None);
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), ["C"]);
    fs::remove_file(world.path("token")).unwrap();
    is_nowhere(&[LEAKED, TOKEN], &world, &failed.stderr);
}

#[test]
fn who_is_deleted_is_believed_to_be_only_when_the_id_is_gone_twice() {
    let idp = Idp::new(by_index());
    let stub = idp.start();
    let mut world = world(&stub);
    world
        .at("2026-11-20 00:00:00")
        .import(&["a,A,u1@example.org,"]);
    world.run(&["sweep"]).exits(0);
    idp.state().users.remove(0);
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), [""; 0], "not at the first look");
    world.at("2026-11-20 01:00:00").run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), ["A"]);
    let shown = world.list(&["finding", "list"]);
    let evidence = shown[0]["evidence"].as_str().unwrap();
    assert!(evidence.contains("404 for its id"), "{evidence}");
}
