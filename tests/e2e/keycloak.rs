//! Keycloak: listings and look-ups of a realm, and sweeps over it.

pub mod realm;

use lapsed::directories::keycloak::Keycloak;
use lapsed::directories::{Directory, Extent, Lookup};
use lapsed::domain::{Address, IdentityStatus, Person};
use lapsed::sources::Error;
use rstest::rstest;
use serde_json::{Value, json};

use crate::bad_responses::LEAKED_SECRET;
use crate::listed::{
    Listed, assert_no_findings, assert_only_finding, common, findings, list, status, users,
};
use crate::stub::{Answer, Stub};
use crate::world::{Db, World};
use realm::{Realm, TOKEN, id};

/// More people than are queried one by one.
const MANY: usize = 51;

fn directory(stub: &Stub, groups: &[&str]) -> Keycloak {
    realm::config(stub).build(&common(groups)).unwrap()
}

async fn list_everybody(stub: &Stub) -> Result<Listed, Error> {
    list(&directory(stub, &[]), &users(MANY)).await
}

async fn listing_error(stub: &Stub) -> String {
    let error = list_everybody(stub).await.expect_err("the listing fails");
    error.to_string()
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
        let listed = list(&directory(&stub, &[]), &users(1)).await.unwrap();
        let people = listed.people.into_iter();
        let mut ids: Vec<_> = people.map(|person| person.id.unwrap()).collect();
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
    let listed = list(&directory(&stub, &[]), &[stranger]).await.unwrap();
    assert_eq!(listed.people, []);
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
    let error = list(&sso, &users(count)).await.unwrap_err().to_string();
    assert_contains!(
        error,
        "counts 60 users but shows none",
        "the role view-users"
    );
    let error = sso.check().await.unwrap_err().to_string();
    assert_contains!(error, "the role view-users");

    realm.override_response("users/count", |_, _, _| Some(Answer::text(200, "0")));
    let error = list(&sso, &users(count)).await.unwrap_err().to_string();
    assert_contains!(error, "shows no users");

    realm.without_overrides().with(|state| {
        state.lacks.insert("query-users");
    });
    let error = list(&sso, &users(count)).await.unwrap_err().to_string();
    assert_contains!(error, "403", "view-users");
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
            many => users(many),
        };
        let listed = list(&sso, &wanted).await.unwrap();
        assert_eq!(listed.listing.groups[0].members, 1);
        assert_eq!(listed.members(), ["user2@example.org"]);
        let user = listed.person("user2@example.org");
        assert_eq!(user.id.as_deref(), Some("user/2"));
        sso.check().await.unwrap();
        let Lookup::Found(account) = sso.look_up("user/2").await.unwrap() else {
            panic!("there");
        };
        assert_eq!(account.status, IdentityStatus::Disabled);
        assert_eq!(account.main, None);
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
    let listed = list_everybody(&stub).await.unwrap();
    assert_eq!(
        listed.people.len(),
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
#[tokio::test]
async fn an_incomplete_list_is_an_error(#[case] breaks: fn(&Realm), #[case] words: &str) {
    let realm = Realm::with_people(450);
    breaks(&realm);
    let error = listing_error(&realm.start()).await;
    assert_contains!(error, words);
    assert!(
        !error.contains(LEAKED_SECRET) && !error.contains('@'),
        "{error}"
    );
}

#[tokio::test]
async fn a_short_wait_is_slept_through() {
    let realm = Realm::with_people(60);
    realm.override_response("users", |_, _, times| {
        (times == 0).then(|| Answer::status(429).with("retry-after", "0"))
    });
    let listed = list_everybody(&realm.start()).await.unwrap();
    assert_eq!(listed.people.len(), 60);
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
        assert_contains!(error, words);
        assert_lacks!(error, LEAKED_SECRET);
        assert_eq!(error.matches(words).count(), 1, "once: {error}");
    }
}

#[tokio::test]
async fn a_404_counts_only_if_users_can_be_seen() {
    let realm = Realm::with_people(60);
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    realm.with(|state| {
        state.lacks.insert("view-users");
    });
    let Lookup::Unclear(why) = sso.look_up(&id(1)).await.unwrap() else {
        panic!("403");
    };
    assert_contains!(why, "view-users");
    let error = sso.look_up(&id(99)).await.unwrap_err().to_string();
    assert_contains!(error, "view-users");
}

async fn list_group(realm: &Realm, groups: &[&str]) -> Result<Listed, String> {
    let stub = realm.start();
    let listed = list(&directory(&stub, groups), &users(MANY)).await;
    listed.map_err(|error| error.to_string())
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
    let night = id(1001);
    for (groups, sizes, members) in [
        (&["/ops"][..], &[4][..], 4),
        (&["/ops/admins", "dev"], &[4, 4], 8),
        (&["night", &night], &[1, 4], 4),
    ] {
        let listed = list_group(&realm, groups).await.unwrap();
        let expected: Vec<_> = groups.iter().copied().zip(sizes.iter().copied()).collect();
        assert_eq!(listed.groups(), expected);
        assert_eq!(listed.members().len(), members);
    }
    let error = list_group(&realm, &["admins"]).await.unwrap_err();
    assert_contains!(error, "2 groups \"admins\"", "path");
    for missing in ["cdn", "/admins", "/ops/night", "OPS", &id(1099)] {
        let error = list_group(&realm, &["ops", missing]).await.unwrap_err();
        assert_contains!(error, format!("no group {missing:?}"), "allowed_groups");
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
    let listed = list_group(&realm, &["all"]).await.unwrap();
    assert_eq!(listed.groups(), [("all", 441)]);

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
    let listed = list_group(&realm, &["all"]).await.unwrap();
    assert_eq!(listed.groups(), [("all", 439)]);

    realm.without_overrides().override_response(
        &format!("groups/{}/members", id(1001)),
        |state, _, _| {
            let rows: Vec<Value> = state.people().take(200).cloned().collect();
            Some(Answer::json(&json!(rows)))
        },
    );
    let error = list_group(&realm, &["all"]).await.unwrap_err();
    assert_contains!(error, "a page has no new id");

    // A server without paging returns all members each time.
    realm.without_overrides().override_response(
        &format!("groups/{}/members", id(1001)),
        |state, _, _| {
            let rows: Vec<Value> = state.people().take(5).cloned().collect();
            Some(Answer::json(&json!(rows)))
        },
    );
    let listed = list_group(&realm, &["all"]).await.unwrap();
    assert!(listed.listing.groups[0].members >= 5);
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
        let error = list_group(&realm, &["ops"]).await.unwrap_err();
        assert_contains!(error, status.to_string());
        assert_lacks!(error, LEAKED_SECRET);
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
    assert_contains!(error, "no group \"cdn\"");

    realm.with(|state| {
        state.lacks.insert("query-groups");
    });
    let error = directory(&stub, &["ops"]).check().await.unwrap_err();
    assert_contains!(error, "query-groups");
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
    let listed = list(&sso, &users(MANY)).await.unwrap();
    assert_eq!(count(&listed.people, IdentityStatus::Disabled), 2);
    let looked = sso.look_up(&id(31)).await.unwrap();
    assert!(matches!(&looked, Lookup::Found(person) if person.status == IdentityStatus::Disabled));

    // The storage fails between the listing and the look-up.
    realm.with(|state| {
        state.down.insert("ldap".to_owned());
    });
    let looked = sso.look_up(&id(40)).await.unwrap();
    assert!(matches!(&looked, Lookup::Unclear(why) if why.contains("out of reach")));

    let error = list(&sso, &users(MANY)).await.unwrap_err().to_string();
    assert_contains!(
        error,
        "30 of 60 people are shown as disabled",
        "User federation"
    );

    realm.with(|state| state.down.clear());
    let listed = list(&sso, &users(MANY)).await.unwrap();
    assert_eq!(count(&listed.people, IdentityStatus::Active), 58);
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
    let listed = list(&sso, &users(MANY)).await.unwrap();
    assert_eq!(
        listed.person("user60@example.org").status,
        IdentityStatus::Active
    );
    assert_eq!(
        listed.person("user58@example.org").status,
        IdentityStatus::Unknown
    );
    let looked = sso.look_up(&id(58)).await.unwrap();
    assert!(matches!(&looked, Lookup::Unclear(_)), "{looked:?}");

    realm.with(|state| state.down.clear());
    realm.user(58, json!({"federationLink": "ldap", "enabled": false}));
    let looked = sso.look_up(&id(58)).await.unwrap();
    assert!(matches!(&looked, Lookup::Found(_)), "{looked:?}");
    let listed = list(&sso, &users(MANY)).await.unwrap();
    assert_eq!(
        listed.person("user58@example.org").status,
        IdentityStatus::Disabled
    );
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
    list(&sso, &users(MANY)).await.unwrap();
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
    let listed = list(&sso, &users(MANY)).await.unwrap();
    assert_eq!(
        listed.person("user1@example.org").status,
        IdentityStatus::Disabled,
        "Keycloak's own"
    );
    for number in 58..=60 {
        let address = format!("user{number}@example.org");
        assert_eq!(listed.person(&address).status, IdentityStatus::Unknown);
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
    let wanted = &users(31)[30..];
    let listed = list(&sso, wanted).await.unwrap();
    assert_eq!(
        listed.listing.extent,
        Extent::Everybody,
        "to find an enabled account"
    );
    assert_eq!(listed.people.len(), 60, "each once");
    assert_eq!(
        listed.person("user31@example.org").status,
        IdentityStatus::Disabled
    );

    let listed = list(&sso, &users(32)[30..]).await.unwrap();
    assert_eq!(
        (listed.listing.extent, listed.people.len()),
        (Extent::Requested, 2)
    );

    realm.with(|state| {
        state.down.insert("ldap".to_owned());
    });
    let error = list(&sso, wanted).await.unwrap_err().to_string();
    assert_contains!(error, "User federation");
}

#[tokio::test]
async fn external_accounts_may_be_missing_from_the_count() {
    let realm = Realm::with_people(60);
    for number in 61..=70 {
        realm.user(number, json!({"id": format!("f:ldap:user{number}")}));
    }
    let stub = realm.start();
    let listed = list_everybody(&stub).await.unwrap();
    assert_eq!(listed.people.len(), 70);
    let looked = directory(&stub, &[])
        .look_up("f:ldap:user61")
        .await
        .unwrap();
    assert!(matches!(looked, Lookup::Found(_)), "{looked:?}");

    // If the storage counts them, the count must include all.
    realm.override_response("users/count", |_, _, _| Some(Answer::text(200, "70")));
    assert_eq!(list_everybody(&stub).await.unwrap().people.len(), 70);
    realm
        .without_overrides()
        .override_response("users/count", |_, _, _| Some(Answer::text(200, "65")));
    assert_contains!(listing_error(&stub).await, "counts 65");
}

#[tokio::test]
async fn vanished_imported_accounts_are_gone_only_by_id() {
    let realm = federated(30, 30);
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    list(&sso, &users(MANY)).await.unwrap();
    for number in 31..=60 {
        realm.delete(number);
    }
    let listed = list(&sso, &users(MANY)).await.unwrap();
    assert_eq!(
        (listed.people.len(), listed.listing.extent),
        (30, Extent::Everybody)
    );
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
    let own = realm::keys(stub, &world);
    world.table(&format!(
        "[[directory]]\nname = \"sso\"\nabsence_grace = \"0s\"\n{own}\n{keys}"
    ));
    let rows = (1..=issuers).map(|n| format!("t{n},t{n},user{n}@example.org,2099-01-01"));
    let rows: Vec<String> = rows.collect();
    world.import(&rows);
    world
}

#[rstest]
#[case::few(5)]
#[case::many(60)]
fn a_person_created_again_with_another_id_is_not_flagged(#[case] issuers: usize) {
    let realm = Realm::with_people(80);
    let stub = realm.start();
    let world = world(&stub, issuers, "");
    world.run(&["check"]).says("realm example: 80 people");
    world.sweep();
    realm.delete(4);
    for _ in 0..3 {
        world.sweep();
    }
    assert_only_finding(&world, "t4", "404 for its id");
    realm.user(4, json!({"id": id(904)}));
    world.sweep();
    let status = status(&world, "user4@example.org");
    assert!(!status.starts_with("deleted"), "{status}");
    assert_no_findings(&world);
}

#[test]
fn an_emptied_storage_is_held() {
    let realm = federated(30, 30);
    let everyone: Vec<usize> = (1..=60).collect();
    realm.group(1001, "/ops", &everyone);
    let stub = realm.start();
    let world = world(&stub, 60, "allowed_groups = [\"/ops\"]");
    world.sweep();
    for number in 40..=60 {
        realm.delete(number);
    }
    for _ in 0..3 {
        world.run(&["sweep"]).exits(1);
    }
    assert_no_findings(&world);
}

#[test]
fn people_of_a_storage_out_of_reach_keep_their_status() {
    let realm = federated(57, 3);
    let stub = realm.start();
    let world = world(&stub, 60, "");
    realm.user(59, json!({"federationLink": "ldap", "enabled": false}));
    world.sweep();
    assert_only_finding(&world, "t59", "enabled=false");

    realm.with(|state| {
        state.down.insert("ldap".to_owned());
    });
    for _ in 0..3 {
        world.sweep();
    }
    let flagged = findings(&world);
    let is_other = |line: &String| line.starts_with("t58") || line.starts_with("t60");
    assert!(!flagged.iter().any(is_other), "{flagged:?}");
    realm.with(|state| state.down.clear());
    world.sweep();
    assert_only_finding(&world, "t59", "enabled=false");
}
