//! Keycloak: listings and look-ups of a realm, and sweeps over it.

mod realm;

use std::collections::BTreeMap;
use std::time::Duration;

use lapsed::directories::keycloak::{Config, Keycloak};
use lapsed::directories::{Common, Directory, Extent, Lookup, PeopleListing, PeopleQuery};
use lapsed::domain::{Address, IdentityStatus, Person};
use lapsed::sources::{Error, Fetched};
use rstest::rstest;
use serde_json::{Value, json};

use crate::bad_responses::{BAD_RESPONSES, LEAKED_SECRET};
use crate::stub::{Answer, Stub};
use crate::world::{Db, World};
use realm::{Realm, SECRET, TOKEN, id};

/// More people than are queried one by one.
const MANY: usize = 51;

fn directory(stub: &Stub, groups: &[&str]) -> Keycloak {
    let config = Config {
        url: format!("{}/auth", stub.url).parse().unwrap(),
        realm: "example".to_owned(),
        client_id: "lapsed".to_owned(),
        client_secret: SECRET.into(),
        ca_file: None,
    };
    let common = Common {
        name: "sso".to_owned(),
        timeout: Duration::from_secs(20),
        allowed_groups: groups.iter().map(|name| (*name).to_owned()).collect(),
    };
    config.build(&common).unwrap()
}

/// `user1@example.org` and so on.
fn people(count: usize) -> Vec<Address> {
    let address = |number| format!("user{number}@example.org").parse().unwrap();
    (1..=count).map(address).collect()
}

async fn list_people(
    directory: &Keycloak,
    wanted: &[Address],
) -> Result<(PeopleListing, Vec<Person>), Error> {
    let mut listed = Vec::new();
    let mut sink = |person| listed.push(person);
    let query = PeopleQuery {
        people: wanted,
        cursor: None,
    };
    match directory.list_people(&query, &mut sink).await? {
        Fetched::New(listing) => Ok((listing, listed)),
        Fetched::Unchanged => panic!("Keycloak never reports that nothing has changed"),
    }
}

async fn list_everybody(stub: &Stub) -> Result<(PeopleListing, Vec<Person>), Error> {
    list_people(&directory(stub, &[]), &people(MANY)).await
}

async fn listing_error(stub: &Stub) -> String {
    let error = list_everybody(stub).await.expect_err("the listing fails");
    error.to_string()
}

fn statuses(people: &[Person]) -> BTreeMap<&str, IdentityStatus> {
    people
        .iter()
        .map(|person| (person.email().as_str(), person.status))
        .collect()
}

#[tokio::test]
async fn everybody_is_listed_once_over_any_number_of_pages() {
    for count in [1, 199, 200, 201, 450] {
        let realm = Realm::with_people(count);
        realm.user(900, json!({"username": "service-account-ci"}));
        let stub = realm.start();
        let (listing, listed) = list_everybody(&stub).await.unwrap();
        assert_eq!((listed.len(), listing.extent), (count, Extent::Everybody));
        let ids: std::collections::BTreeSet<_> =
            listed.iter().map(|person| person.id.clone()).collect();
        assert_eq!(ids.len(), count);
        assert_eq!(listing.groups, []);
    }
}

#[tokio::test]
async fn an_account_is_listed_as_keycloak_reports_it() {
    let realm = Realm::with_people(1);
    realm.user(
        2,
        json!({"enabled": false, "email": "Bob@example.org", "firstName": null}),
    );
    realm.user(3, json!({"enabled": null}));
    realm.user(4, json!({"email": null}));
    let (_, listed) = list_everybody(&realm.start()).await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|person| {
            (
                person.email().as_str(),
                person.status,
                person.name.as_deref().unwrap_or("-"),
                person.evidence.as_str(),
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            (
                "user1@example.org",
                IdentityStatus::Active,
                "John Doe",
                "enabled=true"
            ),
            (
                "Bob@example.org",
                IdentityStatus::Disabled,
                "Doe",
                "enabled=false"
            ),
            (
                "user3@example.org",
                IdentityStatus::Unknown,
                "John Doe",
                "no field enabled"
            ),
        ],
        "accounts without an address are left out"
    );
}

#[tokio::test]
async fn few_people_are_queried_one_by_one() {
    let realm = Realm::with_people(450);
    realm.user(
        3,
        json!({"email": null, "username": "User3@example.org", "enabled": false}),
    );
    let stub = realm.start();
    let (listing, listed) = list_people(&directory(&stub, &[]), &people(3))
        .await
        .unwrap();
    assert_eq!(listing.extent, Extent::Requested);
    let expected = [
        ("User3@example.org", IdentityStatus::Disabled),
        ("user1@example.org", IdentityStatus::Active),
        ("user2@example.org", IdentityStatus::Active),
    ];
    assert_eq!(statuses(&listed), BTreeMap::from(expected));
    for request in stub.requests() {
        let is_wide = request.path.ends_with("/users") && request.query("exact").is_none();
        assert!(!is_wide || request.query("max") == Some("1"), "{request:?}");
    }
}

#[tokio::test]
async fn all_accounts_of_an_address_are_listed_and_no_others() {
    let realm = Realm::with_people(2);
    realm.user(3, json!({"email": "USER1@example.org"}));
    realm.user(
        4,
        json!({"username": "user1@example.org", "email": "x@example.org"}),
    );
    realm.user(
        5,
        json!({"username": "service-account-ci", "email": "user1@example.org"}),
    );
    // Before version 20, a search also finds addresses that contain the text.
    realm.user(6, json!({"email": "auser1@example.org"}));
    for is_old in [false, true] {
        let stub = realm.with(|state| state.is_old = is_old).start();
        let (_, listed) = list_people(&directory(&stub, &[]), &people(1))
            .await
            .unwrap();
        let mut ids: Vec<_> = listed
            .into_iter()
            .map(|person| person.id.unwrap())
            .collect();
        ids.sort();
        assert_eq!(ids, [id(1), id(3), id(4)], "old: {is_old}");
    }
}

#[tokio::test]
async fn an_ignored_filter_lists_no_one_else() {
    let realm = Realm::with_people(3);
    realm.override_response("users", |state, request, _| {
        let all: Vec<Value> = state.people().cloned().collect();
        Some(realm::page(request, &all))
    });
    let stub = realm.start();
    let stranger: Address = "nobody@example.org".parse().unwrap();
    let (_, listed) = list_people(&directory(&stub, &[]), &[stranger])
        .await
        .unwrap();
    assert_eq!(listed, []);
}

#[rstest]
#[case::many(MANY)]
#[case::few(1)]
#[tokio::test]
async fn a_client_that_may_not_view_users_gets_an_error(#[case] count: usize) {
    let realm = Realm::with_people(60);
    realm.with(|state| {
        state.lacks.insert("view-users");
    });
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    let error = list_people(&sso, &people(count))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("counts 60 users but shows none") && error.contains("the role view-users"),
        "{error}"
    );
    let error = sso.check().await.unwrap_err().to_string();
    assert!(error.contains("the role view-users"), "{error}");

    realm.override_response("users/count", |_, _, _| Some(Answer::text(200, "0")));
    let error = list_people(&sso, &people(count))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("shows no users"), "{error}");

    realm.without_overrides().with(|state| {
        state.lacks.insert("query-users");
    });
    let error = list_people(&sso, &people(count))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("403") && error.contains("view-users"),
        "{error}"
    );
}

/// A server with only users, groups and members, and with ids of another form.
#[rstest]
#[case::many(MANY)]
#[case::few(1)]
#[tokio::test]
async fn a_server_with_a_minimal_api_works(#[case] count: usize) {
    let not_found = || Some(Answer::text(404, "{}"));
    let realm = Realm::with_people(3);
    realm.user(
        2,
        json!({"id": "user/2", "enabled": false, "email": "user2@example.org"}),
    );
    let member = || Some(Answer::json(&json!([{"id": "user/2"}])));
    let top = json!({"id": "ops-id", "name": "ops", "path": "/ops", "subGroups": [
        {"id": "night", "name": "night", "path": "/ops/night"}
    ]});
    let groups = json!([top]);
    realm
        .override_response("users/count", move |_, _, _| not_found())
        .override_response("groups", move |_, _, _| Some(Answer::json(&groups)))
        .override_response("groups/ops-id", move |_, _, _| Some(Answer::json(&top)))
        .override_response("groups/ops-id/members", |_, _, _| {
            Some(Answer::json(&json!([])))
        })
        .override_response("groups/night/members", move |_, _, _| member())
        .override_response("groups/night/children", move |_, _, _| not_found())
        .override_response("users/user%2F2", |_, _, _| {
            Some(Answer::json(&json!({"id": "user/2", "enabled": false})))
        });
    let stub = realm.start();
    for name in ["ops", "ops-id"] {
        let sso = directory(&stub, &[name]);
        let wanted: Vec<Address> = match count {
            1 => vec!["user2@example.org".parse().unwrap()],
            many => people(many),
        };
        let (listing, listed) = list_people(&sso, &wanted).await.unwrap();
        assert_eq!(listing.groups[0].members, 1);
        let mut members = listed
            .iter()
            .filter(|person| person.is_member == Some(true));
        assert_eq!(members.next().unwrap().id.as_deref(), Some("user/2"));
        sso.check().await.unwrap();
        let Lookup::Found(account) = sso.look_up("user/2").await.unwrap() else {
            panic!("there");
        };
        assert_eq!(account.status, IdentityStatus::Disabled);
        assert!(account.addresses.is_empty());
        let looked = sso.look_up("nobody").await.unwrap();
        assert!(matches!(looked, Lookup::Gone { .. }), "{looked:?}");
    }
}

/// The list and the count must match at the second attempt.
#[tokio::test]
async fn a_new_user_during_the_listing_is_not_a_failure() {
    let realm = Realm::with_people(250);
    realm.override_response("users/count", |state, _, times| {
        (times == 0).then(|| Answer::json(&json!(state.people().count() + 1)))
    });
    let stub = realm.start();
    let (_, listed) = list_everybody(&stub).await.unwrap();
    assert_eq!(
        listed.len(),
        250,
        "each once, though the list was read twice"
    );
    let counts = stub.take_request_lines();
    let counts = counts.iter().filter(|line| line.ends_with("/count"));
    assert_eq!(counts.count(), 2);
}

#[rstest]
#[case::a_page_is_lost(|realm: &Realm| {
    realm.override_response("users", |_, request, _| {
        (request.query("first") == Some("200")).then(|| Answer::json(&json!([])))
    });
}, "the list has 200 users, but Keycloak counts 450")]
#[case::pages_are_cut(|realm: &Realm| {
    realm.override_response("users", |state, request, _| {
        let all: Vec<Value> = state.people().take(100).cloned().collect();
        Some(realm::page(request, &all))
    });
}, "the list has 100 users, but Keycloak counts 450")]
#[case::the_count_disagrees(|realm: &Realm| {
    realm.override_response("users/count", |_, _, _| Some(Answer::text(200, "451")));
}, "the list has 450 users, but Keycloak counts 451")]
#[case::one_page_repeats(|realm: &Realm| {
    realm.override_response("users", |state, _, _| {
        let all: Vec<Value> = state.people().take(200).cloned().collect();
        Some(Answer::json(&json!(all)))
    });
}, "a page repeats earlier ones")]
#[case::a_page_fails(|realm: &Realm| {
    realm.override_response("users", |_, request, _| {
        (request.query("first") == Some("400")).then(|| Answer::text(500, LEAKED_SECRET))
    });
}, "answered 500")]
#[case::no_list(|realm: &Realm| {
    realm.override_response("users", |_, _, _| Some(Answer::json(&json!({"error": LEAKED_SECRET}))));
}, "sent an unexpected response")]
#[case::enabled_is_a_text(|realm: &Realm| {
    realm.user(7, json!({"enabled": "false"}));
}, "[6].enabled is not as documented")]
#[tokio::test]
async fn an_incomplete_list_is_an_error(#[case] breaks: fn(&Realm), #[case] words: &str) {
    let realm = Realm::with_people(450);
    breaks(&realm);
    let error = listing_error(&realm.start()).await;
    assert!(error.contains(words), "{error}");
    assert!(
        !error.contains(LEAKED_SECRET) && !error.contains('@'),
        "{error}"
    );
}

#[tokio::test]
async fn bad_responses_are_errors_that_show_no_content() {
    for path in ["users", "users/count", "groups", TOKEN] {
        for trap in &BAD_RESPONSES {
            if path == "users/count" && trap.expected_text == "404" {
                continue; // Then the server has no count.
            }
            let realm = Realm::with_people(60);
            realm.group(1001, "/admins", &[1]);
            let answer = trap.answer;
            realm.override_response(path, move |_, _, _| Some(answer()));
            let stub = realm.start();
            let sso = directory(&stub, &["admins"]);
            let error = list_people(&sso, &people(MANY))
                .await
                .unwrap_err()
                .to_string();
            assert!(error.contains(trap.expected_text), "{path}: {error}");
            assert!(
                !error.contains(LEAKED_SECRET) && !error.contains(SECRET),
                "{path}: {error}"
            );
            sso.check().await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn a_short_wait_is_slept_through_and_a_long_one_is_an_error() {
    let realm = Realm::with_people(60);
    realm.override_response("users", |_, _, times| {
        (times == 0).then(|| Answer::status(429).with("retry-after", "0"))
    });
    let (_, listed) = list_everybody(&realm.start()).await.unwrap();
    assert_eq!(listed.len(), 60);

    realm
        .without_overrides()
        .override_response("users", |_, _, _| {
            Some(Answer::status(429).with("retry-after", "120"))
        });
    let error = list_everybody(&realm.start()).await.unwrap_err();
    assert_eq!(error.wait(), Some(Duration::from_mins(2)), "{error}");
}

#[tokio::test]
async fn an_access_token_that_expires_during_a_listing_is_renewed() {
    let realm = Realm::with_people(450);
    realm.with(|state| state.expires_after = Some(2));
    let stub = realm.start();
    let (_, listed) = list_everybody(&stub).await.unwrap();
    assert_eq!(listed.len(), 450);
    assert_eq!(realm.0.lock().unwrap().granted, 2);
    for request in stub.requests() {
        assert!(!request.query.values().any(|value| value.contains(SECRET)));
    }
}

#[rstest]
#[case::secret(401, "correct client_id and client_secret")]
#[case::no_service_account(400, "Service account roles")]
#[case::realm(404, "no such realm at this URL")]
#[tokio::test]
async fn a_refused_access_token_is_explained(#[case] status: u16, #[case] words: &str) {
    let realm = Realm::with_people(60);
    realm.override_response(TOKEN, move |_, _, _| {
        Some(Answer::text(status, LEAKED_SECRET))
    });
    let stub = realm.start();
    let sso = directory(&stub, &["admins"]);
    let checked = sso.check().await.unwrap_err().to_string();
    let looked = sso.look_up(&id(1)).await.unwrap_err().to_string();
    for error in [listing_error(&stub).await, checked, looked] {
        assert!(
            error.contains(words) && !error.contains(LEAKED_SECRET),
            "{error}"
        );
        assert_eq!(error.matches(words).count(), 1, "once: {error}");
    }
}

#[tokio::test]
async fn an_access_token_that_is_always_rejected_is_renewed_once() {
    let realm = Realm::with_people(60);
    realm.override_response("users", |_, _, _| Some(Answer::status(401)));
    let stub = realm.start();
    let error = listing_error(&stub).await;
    assert!(error.contains("hostname"), "{error}");
    assert_eq!(realm.0.lock().unwrap().granted, 2);
}

#[tokio::test]
async fn a_look_up_finds_an_account_or_reports_it_gone_or_unclear() {
    let realm = Realm::with_people(60);
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    let Lookup::Found(person) = sso.look_up(&id(1)).await.unwrap() else {
        panic!("there");
    };
    assert_eq!(
        (person.status, person.is_member),
        (IdentityStatus::Active, None)
    );
    realm.user(1, json!({"enabled": false}));
    let Lookup::Found(person) = sso.look_up(&id(1)).await.unwrap() else {
        panic!("there");
    };
    assert_eq!(person.status, IdentityStatus::Disabled);

    assert_eq!(
        sso.look_up(&id(99)).await.unwrap(),
        Lookup::Gone {
            evidence: "404 for its id".to_owned(),
            is_certain: false
        }
    );
    realm.with(|state| {
        state.lacks.insert("view-users");
    });
    let Lookup::Unclear(why) = sso.look_up(&id(1)).await.unwrap() else {
        panic!("403");
    };
    assert!(why.contains("view-users"), "{why}");
    let error = sso.look_up(&id(99)).await.unwrap_err().to_string();
    assert!(
        error.contains("view-users"),
        "a 404 counts only if users can be seen: {error}"
    );
}

#[tokio::test]
async fn a_look_up_that_returns_another_account_is_unclear() {
    let realm = Realm::with_people(60);
    realm.override_response(&format!("users/{}", id(1)), |_, _, _| {
        Some(Answer::json(
            &json!({"id": id(2), "email": "user1@example.org", "enabled": false}),
        ))
    });
    let stub = realm.start();
    let looked = directory(&stub, &[]).look_up(&id(1)).await.unwrap();
    assert!(matches!(looked, Lookup::Unclear(_)), "{looked:?}");
    for odd in ["..", "", "../realms"] {
        let looked = directory(&stub, &[]).look_up(odd).await;
        assert!(!matches!(looked, Ok(Lookup::Found(_))), "{odd}");
    }
}

async fn members(realm: &Realm, groups: &[&str]) -> Result<Vec<(String, u64)>, String> {
    let stub = realm.start();
    let listing = list_people(&directory(&stub, groups), &people(MANY)).await;
    let (listing, listed) = listing.map_err(|error| error.to_string())?;
    assert!(listed.iter().all(|person| person.is_member.is_some()));
    let mut rows: Vec<_> = listing
        .groups
        .into_iter()
        .map(|group| (group.name, group.members))
        .collect();
    let is_member = |person: &&Person| person.is_member == Some(true);
    rows.push((
        "any".to_owned(),
        listed.iter().filter(is_member).count() as u64,
    ));
    Ok(rows)
}

#[rstest]
#[case::now(false)]
#[case::before_23(true)]
#[tokio::test]
async fn members_of_subgroups_are_members(#[case] is_old: bool) {
    let realm = Realm::with_people(60);
    realm
        .with(|state| state.is_old = is_old)
        .group(1001, "/ops", &[1])
        .group(1002, "/ops/admins", &[1, 2, 3])
        .group(1003, "/ops/admins/night", &[4])
        .group(1004, "/dev", &[5])
        .group(1005, "/dev/admins", &[6])
        .group(1006, "/dev/admins2", &[7, 8]);
    let rows = |rows: &[(&str, u64)]| -> Vec<_> {
        rows.iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    };
    assert_eq!(
        members(&realm, &["/ops"]).await.unwrap(),
        rows(&[("/ops", 4), ("any", 4)])
    );
    assert_eq!(
        members(&realm, &["/ops/admins", "dev"]).await.unwrap(),
        rows(&[("/ops/admins", 4), ("dev", 4), ("any", 8)])
    );
    assert_eq!(
        members(&realm, &["night", &id(1001)]).await.unwrap(),
        rows(&[("night", 1), (&id(1001), 4), ("any", 4)])
    );
    let error = members(&realm, &["admins"]).await.unwrap_err();
    assert!(
        error.contains("2 groups \"admins\"") && error.contains("path"),
        "{error}"
    );
    for missing in ["cdn", "/admins", "/ops/night", "OPS", &id(1099)] {
        let error = members(&realm, &["ops", missing]).await.unwrap_err();
        assert!(
            error.contains(&format!("no group {missing:?}")) && error.contains("allowed_groups"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn groups_are_read_completely() {
    let realm = Realm::with_people(450);
    let all: Vec<usize> = (1..=450).collect();
    realm.group(1001, "/all", &all[..401]);
    for number in 0..250 {
        realm.group(
            2000 + number,
            &format!("/all/g{number}"),
            &[402 + number % 40],
        );
    }
    let rows = members(&realm, &["all"]).await.unwrap();
    assert_eq!(rows[0], ("all".to_owned(), 441));

    // A page with a missing user is not the last.
    realm.override_response(
        &format!("groups/{}/members", id(1001)),
        |state, request, _| {
            let first: usize = request.query("first").unwrap().parse().unwrap();
            let rows: Vec<Value> = state
                .people()
                .take(401)
                .skip(first)
                .take(200)
                .cloned()
                .collect();
            let kept = rows.len().min(199);
            Some(Answer::json(&json!(&rows[..kept])))
        },
    );
    let rows = members(&realm, &["all"]).await.unwrap();
    assert_eq!(rows[0], ("all".to_owned(), 439));

    realm.without_overrides().override_response(
        &format!("groups/{}/members", id(1001)),
        |state, _, _| {
            let rows: Vec<Value> = state.people().take(200).cloned().collect();
            Some(Answer::json(&json!(rows)))
        },
    );
    let error = members(&realm, &["all"]).await.unwrap_err();
    assert!(error.contains("repeats"), "{error}");

    // A server without paging returns all members each time.
    realm.without_overrides().override_response(
        &format!("groups/{}/members", id(1001)),
        |state, _, _| {
            let rows: Vec<Value> = state.people().take(5).cloned().collect();
            Some(Answer::json(&json!(rows)))
        },
    );
    let rows = members(&realm, &["all"]).await.unwrap();
    assert!(rows[0].1 >= 5, "{rows:?}");
}

#[rstest]
#[case::members("members")]
#[case::children("children")]
#[tokio::test]
async fn a_group_that_cannot_be_read_is_an_error(#[case] part: &str) {
    for status in [403, 404, 500] {
        let realm = Realm::with_people(60);
        realm
            .group(1001, "/ops", &[1])
            .group(1002, "/ops/admins", &[2]);
        realm.override_response(&format!("groups/{}/{part}", id(1001)), move |_, _, _| {
            Some(Answer::text(status, LEAKED_SECRET))
        });
        let error = members(&realm, &["ops"]).await.unwrap_err();
        assert!(
            error.contains(&status.to_string()) && !error.contains(LEAKED_SECRET),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_check_reports_what_the_client_sees_and_which_role_it_lacks() {
    let realm = Realm::with_people(60);
    realm.group(1001, "/ops", &[1]);
    let stub = realm.start();
    let checked = directory(&stub, &["ops"]).check().await.unwrap();
    assert_eq!(checked.summary, "Keycloak, realm example: 60 people");
    assert!(checked.rights.iter().all(|right| right.missing.is_none()));
    assert_eq!(checked.rights.len(), 2);
    assert_eq!(
        directory(&stub, &[]).check().await.unwrap().rights.len(),
        1,
        "without allowed groups none are read"
    );

    let error = directory(&stub, &["cdn"]).check().await.unwrap_err();
    assert!(error.to_string().contains("no group \"cdn\""), "{error}");

    realm.with(|state| {
        state.lacks.insert("query-groups");
    });
    let error = directory(&stub, &["ops"]).check().await.unwrap_err();
    assert!(error.to_string().contains("query-groups"), "{error}");
    directory(&stub, &[]).check().await.unwrap();

    realm.with(|state| {
        state.lacks.insert("query-users");
    });
    let error = directory(&stub, &["ops"]).check().await.unwrap_err();
    assert!(
        error.to_string().contains("view the people")
            && error.to_string().contains("view the allowed groups"),
        "everything that is missing at once: {error}"
    );
}

/// A realm with people of its own and of an LDAP storage.
fn federated(people: usize, imported: usize) -> Realm {
    let realm = Realm::with_people(people);
    for number in people + 1..=people + imported {
        realm.user(number, json!({"federationLink": "ldap"}));
    }
    realm
}

#[tokio::test]
async fn a_storage_out_of_reach_disables_no_one() {
    let realm = federated(30, 30);
    realm.user(1, json!({"enabled": false}));
    realm.user(31, json!({"federationLink": "ldap", "enabled": false}));
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    let count = |listed: &[Person], status| {
        let fits = listed.iter().filter(|person| person.status == status);
        fits.count()
    };
    let (_, listed) = list_people(&sso, &people(MANY)).await.unwrap();
    assert_eq!(count(&listed, IdentityStatus::Disabled), 2);
    let looked = sso.look_up(&id(31)).await.unwrap();
    assert!(matches!(&looked, Lookup::Found(person) if person.status == IdentityStatus::Disabled));

    // The storage fails between the listing and the look-up.
    realm.with(|state| {
        state.down.insert("ldap".to_owned());
    });
    let looked = sso.look_up(&id(40)).await.unwrap();
    assert!(matches!(&looked, Lookup::Unclear(why) if why.contains("out of reach")));

    let error = list_people(&sso, &people(MANY))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("30 of 60 people are shown as disabled")
            && error.contains("User federation"),
        "{error}"
    );

    realm.with(|state| state.down.clear());
    let (_, listed) = list_people(&sso, &people(MANY)).await.unwrap();
    assert_eq!(count(&listed, IdentityStatus::Active), 58);
}

/// Keycloak shows some accounts from its cache.
#[tokio::test]
async fn cached_accounts_do_not_prove_that_a_storage_answers() {
    let realm = federated(57, 3);
    realm.with(|state| {
        state.down.insert("ldap".to_owned());
        state.cached.insert(id(60));
    });
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    let (_, listed) = list_people(&sso, &people(MANY)).await.unwrap();
    let listed = statuses(&listed);
    assert_eq!(listed["user60@example.org"], IdentityStatus::Active);
    assert_eq!(listed["user58@example.org"], IdentityStatus::Unknown);
    let looked = sso.look_up(&id(58)).await.unwrap();
    assert!(matches!(&looked, Lookup::Unclear(_)), "{looked:?}");

    realm.with(|state| state.down.clear());
    realm.user(58, json!({"federationLink": "ldap", "enabled": false}));
    let looked = sso.look_up(&id(58)).await.unwrap();
    assert!(matches!(&looked, Lookup::Found(_)), "{looked:?}");
    let (_, listed) = list_people(&sso, &people(MANY)).await.unwrap();
    let listed = statuses(&listed);
    assert_eq!(listed["user58@example.org"], IdentityStatus::Disabled);
}

#[tokio::test]
async fn a_look_up_does_not_use_keycloaks_cache() {
    let realm = federated(30, 30);
    realm.user(31, json!({"federationLink": "ldap", "enabled": false}));
    realm.override_response(&format!("users/{}", id(31)), |_, _, _| {
        Some(Answer::json(&json!({
            "id": id(31), "username": "user31", "email": "user31@example.org", "enabled": true,
            "federationLink": "ldap"
        })))
    });
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    list_people(&sso, &people(MANY)).await.unwrap();
    let looked = sso.look_up(&id(31)).await.unwrap();
    assert!(
        matches!(&looked, Lookup::Found(person) if person.status == IdentityStatus::Disabled),
        "{looked:?}"
    );
    // Neither the storage nor the list has the account any more.
    realm.delete(31);
    let looked = sso.look_up(&id(31)).await.unwrap();
    assert!(matches!(&looked, Lookup::Unclear(_)), "{looked:?}");
}

#[tokio::test]
async fn accounts_of_a_storage_with_no_enabled_account_are_unknown() {
    let realm = federated(57, 3);
    realm.user(1, json!({"enabled": false}));
    realm.with(|state| {
        state.down.insert("ldap".to_owned());
    });
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    let (_, listed) = list_people(&sso, &people(MANY)).await.unwrap();
    let listed = statuses(&listed);
    assert_eq!(
        listed["user1@example.org"],
        IdentityStatus::Disabled,
        "Keycloak's own"
    );
    for number in 58..=60 {
        let address = format!("user{number}@example.org");
        assert_eq!(listed[address.as_str()], IdentityStatus::Unknown);
    }
    let looked = sso.look_up(&id(58)).await.unwrap();
    assert!(
        matches!(&looked, Lookup::Unclear(_)),
        "nothing proves that the storage answers"
    );
}

#[tokio::test]
async fn a_disabled_account_counts_if_others_prove_that_its_storage_answers() {
    let realm = federated(30, 30);
    realm.user(31, json!({"federationLink": "ldap", "enabled": false}));
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    let wanted = &people(31)[30..];
    let (listing, listed) = list_people(&sso, wanted).await.unwrap();
    assert_eq!(
        listing.extent,
        Extent::Everybody,
        "to find an enabled account"
    );
    assert_eq!(listed.len(), 60, "each once");
    assert_eq!(
        statuses(&listed)["user31@example.org"],
        IdentityStatus::Disabled
    );

    let (listing, listed) = list_people(&sso, &people(32)[30..]).await.unwrap();
    assert_eq!((listing.extent, listed.len()), (Extent::Requested, 2));

    realm.with(|state| {
        state.down.insert("ldap".to_owned());
    });
    let error = list_people(&sso, wanted).await.unwrap_err().to_string();
    assert!(error.contains("User federation"), "{error}");
}

#[tokio::test]
async fn external_accounts_may_be_missing_from_the_count() {
    let realm = Realm::with_people(60);
    for number in 61..=70 {
        realm.user(number, json!({"id": format!("f:ldap:user{number}")}));
    }
    let stub = realm.start();
    let (_, listed) = list_everybody(&stub).await.unwrap();
    assert_eq!(listed.len(), 70);
    let looked = directory(&stub, &[])
        .look_up("f:ldap:user61")
        .await
        .unwrap();
    assert!(matches!(looked, Lookup::Found(_)), "{looked:?}");

    // If the storage counts them, the count must include all.
    realm.override_response("users/count", |_, _, _| Some(Answer::text(200, "70")));
    assert_eq!(list_everybody(&stub).await.unwrap().1.len(), 70);
    realm
        .without_overrides()
        .override_response("users/count", |_, _, _| Some(Answer::text(200, "65")));
    assert!(listing_error(&stub).await.contains("counts 65"));
}

#[tokio::test]
async fn vanished_imported_accounts_are_gone_only_by_id() {
    let realm = federated(30, 30);
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    list_people(&sso, &people(MANY)).await.unwrap();
    for number in 31..=60 {
        realm.delete(number);
    }
    let (listing, listed) = list_people(&sso, &people(MANY)).await.unwrap();
    assert_eq!((listed.len(), listing.extent), (30, Extent::Everybody));
    let looked = sso.look_up(&id(31)).await.unwrap();
    assert!(matches!(
        looked,
        Lookup::Gone {
            is_certain: false,
            ..
        }
    ));
}

/// A world whose issuers are the first `issuers` people of the realm.
fn world(stub: &Stub, issuers: usize, keys: &str) -> World {
    let mut world = World::new(Db::Sqlite);
    world.table(&format!(
        "[[directory]]\nname = \"sso\"\nkind = \"keycloak\"\nurl = \"{}/auth\"\nrealm = \"example\"\n\
         client_id = \"lapsed\"\nclient_secret = \"{SECRET}\"\nabsence_grace = \"0s\"\n{keys}",
        stub.url
    ));
    let rows: Vec<String> = (1..=issuers)
        .map(|number| format!("t{number},token {number},user{number}@example.org,never"))
        .collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    world.import(&rows);
    world
}

/// Flagged tokens and the evidence.
fn flagged(world: &World) -> Vec<(String, String)> {
    let findings = world.list(&["finding", "list", "--kind", "sso_revoked"]);
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let mut flagged: Vec<_> = findings
        .iter()
        .map(|finding| (text(finding, "token_name"), text(finding, "evidence")))
        .collect();
    flagged.sort();
    flagged
}

#[track_caller]
fn assert_flagged(world: &World, token: &str, words: &str) {
    let flagged = flagged(world);
    assert_eq!(flagged.len(), 1, "{flagged:?}");
    assert_eq!(flagged[0].0, token);
    assert!(flagged[0].1.contains(words), "{flagged:?}");
}

fn identity(world: &World, number: usize) -> Value {
    let address = format!("user{number}@example.org");
    let ran = world.run(&["identity", "show", &address, "--format", "json"]);
    serde_json::from_str(&ran.exits(0).stdout).unwrap()
}

#[rstest]
#[case::few(5)]
#[case::many(60)]
fn a_disabled_person_is_flagged_until_enabled_again(#[case] issuers: usize) {
    let realm = Realm::with_people(80);
    let stub = realm.start();
    let world = world(&stub, issuers, "");
    world.run(&["check"]).says("realm example: 80 people");
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), []);

    // Neither is a loss of access.
    realm.user(
        3,
        json!({"requiredActions": ["UPDATE_PASSWORD"], "emailVerified": false}),
    );
    realm.user(2, json!({"enabled": false}));
    world.run(&["sweep"]).exits(0);
    assert_flagged(&world, "token 2", "enabled=false");
    let shown = identity(&world, 2).to_string();
    assert!(
        shown.contains("\"disabled\"") && shown.contains("sso"),
        "{shown}"
    );

    realm.user(2, json!({}));
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), []);
}

#[rstest]
#[case::few(5)]
#[case::many(60)]
fn a_deleted_person_is_flagged_after_a_second_look_up(#[case] issuers: usize) {
    let realm = Realm::with_people(80);
    let stub = realm.start();
    let world = world(&stub, issuers, "");
    world.run(&["sweep"]).exits(0);
    realm.delete(4);
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), [], "once is not enough");
    world.run(&["sweep"]).exits(0);
    world.run(&["sweep"]).exits(0);
    assert_flagged(&world, "token 4", "404 for its id");

    // Created again with another id.
    realm.user(4, json!({"id": id(904)}));
    world.run(&["sweep"]).exits(0);
    let shown = identity(&world, 4).to_string();
    assert!(!shown.contains("\"deleted\""), "{shown}");
    assert_eq!(flagged(&world), []);
}

#[rstest]
#[case::few(5)]
#[case::many(60)]
fn a_person_who_leaves_the_groups_is_flagged_after_two_listings(#[case] issuers: usize) {
    let realm = Realm::with_people(80);
    let all: Vec<usize> = (1..=80).collect();
    realm
        .group(1001, "/ops", &all[..40])
        .group(1002, "/ops/admins", &all[39..]);
    let stub = realm.start();
    let world = world(&stub, issuers, "allowed_groups = [\"/ops\"]");
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), [], "members of subgroups are members");

    realm.leave(1001, 5);
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), []);
    world.run(&["sweep"]).exits(0);
    assert_flagged(&world, "token 5", "/ops");

    realm.group(1001, "/ops", &all[..40]);
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), []);
}

#[rstest]
#[case::role(|realm: &Realm| {
    realm.with(|state| { state.lacks.insert("view-users"); });
}, "view-users")]
#[case::group(|realm: &Realm| { realm.group(1001, "/renamed", &[]); }, "no group \"/ops\"")]
#[case::page(|realm: &Realm| {
    realm.override_response("users", |_, request, _| {
        (request.query("first") == Some("200")).then(|| Answer::json(&json!([])))
    });
}, "Keycloak counts 260")]
#[case::down(|realm: &Realm| {
    realm.override_response("users", |_, _, _| Some(Answer::text(500, LEAKED_SECRET)));
}, "answered 500")]
#[case::secret(|realm: &Realm| {
    realm.override_response(TOKEN, |_, _, _| Some(Answer::text(401, LEAKED_SECRET)));
}, "client_secret")]
#[case::storage(|realm: &Realm| {
    realm.with(|state| { state.down.insert("ldap".to_owned()); });
}, "User federation")]
fn a_failing_directory_flags_no_one_and_the_sweep_reports_why(
    #[case] breaks: fn(&Realm),
    #[case] words: &str,
) {
    let realm = federated(200, 60);
    let all: Vec<usize> = (1..=260).collect();
    realm.group(1001, "/ops", &all);
    let stub = realm.start();
    let world = world(&stub, 260, "allowed_groups = [\"/ops\"]");
    world.run(&["sweep"]).exits(0);
    breaks(&realm);
    for _ in 0..3 {
        let ran = world.run(&["sweep"]);
        ran.exits(1).says(words);
        let output = ran.stdout + &ran.stderr;
        assert!(
            !output.contains(SECRET) && !output.contains(LEAKED_SECRET),
            "{output}"
        );
    }
    assert_eq!(flagged(&world), []);
    assert!(identity(&world, 1).to_string().contains("\"active\""));
}

#[test]
fn an_emptied_group_and_an_emptied_storage_are_held() {
    for is_group in [true, false] {
        let realm = federated(30, 30);
        let all: Vec<usize> = (1..=60).collect();
        realm.group(1001, "/ops", &all);
        let stub = realm.start();
        let world = world(&stub, 60, "allowed_groups = [\"/ops\"]");
        world.run(&["sweep"]).exits(0);
        if is_group {
            realm.group(1001, "/ops", &[1]);
        } else {
            for number in 40..=60 {
                realm.delete(number);
            }
        }
        for _ in 0..3 {
            world.run(&["sweep"]).exits(1);
        }
        assert_eq!(flagged(&world), [], "group: {is_group}");
    }
}

#[test]
fn people_of_a_storage_out_of_reach_keep_their_status() {
    let realm = federated(57, 3);
    let stub = realm.start();
    let world = world(&stub, 60, "");
    realm.user(59, json!({"federationLink": "ldap", "enabled": false}));
    world.run(&["sweep"]).exits(0);
    assert_flagged(&world, "token 59", "enabled=false");

    realm.with(|state| {
        state.down.insert("ldap".to_owned());
    });
    for _ in 0..3 {
        world.run(&["sweep"]).exits(0);
    }
    let names: Vec<_> = flagged(&world).into_iter().map(|(name, _)| name).collect();
    assert!(
        !names.contains(&"token 58".to_owned()) && !names.contains(&"token 60".to_owned()),
        "{names:?}"
    );
    realm.with(|state| state.down.clear());
    world.run(&["sweep"]).exits(0);
    assert_flagged(&world, "token 59", "enabled=false");
}
