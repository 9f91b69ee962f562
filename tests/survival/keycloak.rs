//! Keycloak: what becomes of the people of a realm, and what lapsed makes of its traps.

mod realm;

use std::collections::BTreeMap;
use std::time::Duration;

use lapsed::directories::keycloak::{Config, Keycloak};
use lapsed::directories::{Asked, Common, Directory, Extent, LookedUp, Pulled};
use lapsed::domain::{Address, IdentityStatus, Person};
use lapsed::sources::{Error, Fetched};
use rstest::rstest;
use serde_json::{Value, json};

use crate::stub::{Answer, Stub};
use crate::traps::{LEAKED, TRAPS};
use crate::world::{Db, World};
use realm::{Realm, SECRET, TOKEN, id};

/// More than are asked for one by one.
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

async fn pull(directory: &Keycloak, asked: &[Address]) -> Result<(Pulled, Vec<Person>), Error> {
    let mut told = Vec::new();
    let mut tell = |person| told.push(person);
    let asked = Asked {
        people: asked,
        cursor: None,
    };
    match directory.pull(&asked, &mut tell).await? {
        Fetched::New(pulled) => Ok((pulled, told)),
        Fetched::Unchanged => panic!("nothing says that nothing has changed"),
    }
}

async fn everybody(stub: &Stub) -> Result<(Pulled, Vec<Person>), Error> {
    pull(&directory(stub, &[]), &people(MANY)).await
}

async fn fails(stub: &Stub) -> String {
    let error = everybody(stub).await.expect_err("that is no pull");
    error.to_string()
}

fn statuses(people: &[Person]) -> BTreeMap<&str, IdentityStatus> {
    let status = |person: &'_ Person| person.status;
    people
        .iter()
        .map(|person| (person.email().as_str(), status(person)))
        .collect()
}

#[tokio::test]
async fn everybody_is_told_of_once_whatever_the_number_of_pages() {
    for count in [1, 199, 200, 201, 450] {
        let realm = Realm::of(count);
        realm.user(900, json!({"username": "service-account-ci"}));
        let stub = realm.start();
        let (pulled, told) = everybody(&stub).await.unwrap();
        assert_eq!((told.len(), pulled.extent), (count, Extent::Everybody));
        let ids: std::collections::BTreeSet<_> =
            told.iter().map(|person| person.id.clone()).collect();
        assert_eq!(ids.len(), count);
        assert_eq!(pulled.groups, []);
    }
}

#[tokio::test]
async fn what_keycloak_says_of_an_account_arrives() {
    let realm = Realm::of(1);
    realm.user(
        2,
        json!({"enabled": false, "email": "Bob@example.org", "firstName": null}),
    );
    realm.user(3, json!({"enabled": null}));
    realm.user(4, json!({"email": null}));
    let (_, told) = everybody(&realm.start()).await.unwrap();
    let told: Vec<_> = told
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
        told,
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
        "whom no address tells apart is left out"
    );
}

#[tokio::test]
async fn few_are_asked_for_one_by_one() {
    let realm = Realm::of(450);
    realm.user(
        3,
        json!({"email": null, "username": "User3@example.org", "enabled": false}),
    );
    let stub = realm.start();
    let (pulled, told) = pull(&directory(&stub, &[]), &people(3)).await.unwrap();
    assert_eq!(pulled.extent, Extent::Asked);
    let expected = [
        ("User3@example.org", IdentityStatus::Disabled),
        ("user1@example.org", IdentityStatus::Active),
        ("user2@example.org", IdentityStatus::Active),
    ];
    assert_eq!(statuses(&told), BTreeMap::from(expected));
    for asked in stub.asked() {
        let is_wide = asked.path.ends_with("/users") && asked.query("exact").is_none();
        assert!(!is_wide || asked.query("max") == Some("1"), "{asked:?}");
    }
}

#[tokio::test]
async fn several_accounts_of_one_address_are_all_told_of_and_nobody_else() {
    let realm = Realm::of(2);
    realm.user(3, json!({"email": "USER1@example.org"}));
    realm.user(
        4,
        json!({"username": "user1@example.org", "email": "x@example.org"}),
    );
    realm.user(
        5,
        json!({"username": "service-account-ci", "email": "user1@example.org"}),
    );
    // Before 20, what only holds it is found, too.
    realm.user(6, json!({"email": "auser1@example.org"}));
    for is_old in [false, true] {
        let stub = realm.with(|state| state.is_old = is_old).start();
        let (_, told) = pull(&directory(&stub, &[]), &people(1)).await.unwrap();
        let mut ids: Vec<_> = told.into_iter().map(|person| person.id.unwrap()).collect();
        ids.sort();
        assert_eq!(ids, [id(1), id(3), id(4)], "old: {is_old}");
    }
}

#[tokio::test]
async fn a_filter_that_is_ignored_finds_nobody_else() {
    let realm = Realm::of(3);
    realm.instead("users", |state, asked, _| {
        let all: Vec<Value> = state.people().cloned().collect();
        Some(realm::page(asked, &all))
    });
    let stub = realm.start();
    let nobody: Address = "nobody@example.org".parse().unwrap();
    let (_, told) = pull(&directory(&stub, &[]), &[nobody]).await.unwrap();
    assert_eq!(told, []);
}

#[rstest]
#[case::many(MANY)]
#[case::few(1)]
#[tokio::test]
async fn whoever_may_not_view_sees_nobody_and_concludes_nothing(#[case] asked: usize) {
    let realm = Realm::of(60);
    realm.with(|state| {
        state.lacks.insert("view-users");
    });
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    let error = pull(&sso, &people(asked)).await.unwrap_err().to_string();
    assert!(
        error.contains("nobody of 60 people") && error.contains("the role view-users"),
        "{error}"
    );
    let error = sso.check().await.unwrap_err().to_string();
    assert!(error.contains("the role view-users"), "{error}");

    realm.instead("users/count", |_, _, _| Some(Answer::text(200, "0")));
    let error = pull(&sso, &people(asked)).await.unwrap_err().to_string();
    assert!(error.contains("shows no people"), "{error}");

    realm.mended().with(|state| {
        state.lacks.insert("query-users");
    });
    let error = pull(&sso, &people(asked)).await.unwrap_err().to_string();
    assert!(
        error.contains("403") && error.contains("view-users"),
        "{error}"
    );
}

/// A server that has no more of the API than people, groups and their members, with ids of its own.
#[rstest]
#[case::many(MANY)]
#[case::few(1)]
#[tokio::test]
async fn a_simple_server_does(#[case] asked: usize) {
    let not_found = || Some(Answer::text(404, "{}"));
    let realm = Realm::of(3);
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
        .instead("users/count", move |_, _, _| not_found())
        .instead("groups", move |_, _, _| Some(Answer::json(&groups)))
        .instead("groups/ops-id", move |_, _, _| Some(Answer::json(&top)))
        .instead("groups/ops-id/members", |_, _, _| {
            Some(Answer::json(&json!([])))
        })
        .instead("groups/night/members", move |_, _, _| member())
        .instead("groups/night/children", move |_, _, _| not_found())
        .instead("users/user%2F2", |_, _, _| {
            Some(Answer::json(&json!({"id": "user/2", "enabled": false})))
        });
    let stub = realm.start();
    for name in ["ops", "ops-id"] {
        let sso = directory(&stub, &[name]);
        let asked: Vec<Address> = match asked {
            1 => vec!["user2@example.org".parse().unwrap()],
            many => people(many),
        };
        let (pulled, told) = pull(&sso, &asked).await.unwrap();
        assert_eq!(pulled.groups[0].members, 1);
        let mut members = told.iter().filter(|person| person.is_member == Some(true));
        assert_eq!(members.next().unwrap().id.as_deref(), Some("user/2"));
        sso.check().await.unwrap();
        let LookedUp::Found(account) = sso.look_up("user/2").await.unwrap() else {
            panic!("there");
        };
        assert_eq!(account.status, IdentityStatus::Disabled);
        assert!(account.addresses.is_empty());
        let looked = sso.look_up("nobody").await.unwrap();
        assert!(matches!(looked, LookedUp::Gone { .. }), "{looked:?}");
    }
}

/// The list and the count agree at the second time, or the pull has failed.
#[tokio::test]
async fn somebody_new_while_the_list_is_read_is_no_failure() {
    let realm = Realm::of(250);
    realm.instead("users/count", |state, _, times| {
        (times == 0).then(|| Answer::json(&json!(state.people().count() + 1)))
    });
    let stub = realm.start();
    let (_, told) = everybody(&stub).await.unwrap();
    assert_eq!(told.len(), 250, "each once, though the list was read twice");
    let counts = stub.take_lines();
    let counts = counts.iter().filter(|line| line.ends_with("/count"));
    assert_eq!(counts.count(), 2);
}

#[rstest]
#[case::a_page_is_lost(|realm: &Realm| {
    realm.instead("users", |_, asked, _| {
        (asked.query("first") == Some("200")).then(|| Answer::json(&json!([])))
    });
}, "the list holds 200, and Keycloak counts 450")]
#[case::pages_are_cut(|realm: &Realm| {
    realm.instead("users", |state, asked, _| {
        let all: Vec<Value> = state.people().take(100).cloned().collect();
        Some(realm::page(asked, &all))
    });
}, "the list holds 100, and Keycloak counts 450")]
#[case::the_count_disagrees(|realm: &Realm| {
    realm.instead("users/count", |_, _, _| Some(Answer::text(200, "451")));
}, "the list holds 450, and Keycloak counts 451")]
#[case::one_page_for_ever(|realm: &Realm| {
    realm.instead("users", |state, _, _| {
        let all: Vec<Value> = state.people().take(200).cloned().collect();
        Some(Answer::json(&json!(all)))
    });
}, "a page repeats those before it")]
#[case::a_page_fails(|realm: &Realm| {
    realm.instead("users", |_, asked, _| {
        (asked.query("first") == Some("400")).then(|| Answer::text(500, LEAKED))
    });
}, "answered 500")]
#[case::no_list(|realm: &Realm| {
    realm.instead("users", |_, _, _| Some(Answer::json(&json!({"error": LEAKED}))));
}, "answered with something unexpected")]
#[case::enabled_is_a_text(|realm: &Realm| {
    realm.user(7, json!({"enabled": "false"}));
}, "[6].enabled is not as documented")]
#[tokio::test]
async fn a_list_that_is_not_whole_is_no_pull(#[case] breaks: fn(&Realm), #[case] words: &str) {
    let realm = Realm::of(450);
    breaks(&realm);
    let error = fails(&realm.start()).await;
    assert!(error.contains(words), "{error}");
    assert!(!error.contains(LEAKED) && !error.contains('@'), "{error}");
}

#[tokio::test]
async fn no_trap_makes_a_pull_or_shows_what_was_answered() {
    for path in ["users", "users/count", "groups", TOKEN] {
        for trap in &TRAPS {
            if path == "users/count" && trap.words == "404" {
                continue; // Nobody counts them there.
            }
            let realm = Realm::of(60);
            realm.group(1001, "/admins", &[1]);
            let answer = trap.answer;
            realm.instead(path, move |_, _, _| Some(answer()));
            let stub = realm.start();
            let sso = directory(&stub, &["admins"]);
            let error = pull(&sso, &people(MANY)).await.unwrap_err().to_string();
            assert!(error.contains(trap.words), "{path}: {error}");
            assert!(
                !error.contains(LEAKED) && !error.contains(SECRET),
                "{path}: {error}"
            );
            sso.check().await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn a_short_wait_is_sat_out_and_a_long_one_is_told() {
    let realm = Realm::of(60);
    realm.instead("users", |_, _, times| {
        (times == 0).then(|| Answer::status(429).with("retry-after", "0"))
    });
    let (_, told) = everybody(&realm.start()).await.unwrap();
    assert_eq!(told.len(), 60);

    realm.mended().instead("users", |_, _, _| {
        Some(Answer::status(429).with("retry-after", "120"))
    });
    let error = everybody(&realm.start()).await.unwrap_err();
    assert_eq!(error.wait(), Some(Duration::from_mins(2)), "{error}");
}

#[tokio::test]
async fn an_access_token_that_expires_on_the_way_is_renewed() {
    let realm = Realm::of(450);
    realm.with(|state| state.expires_after = Some(2));
    let stub = realm.start();
    let (_, told) = everybody(&stub).await.unwrap();
    assert_eq!(told.len(), 450);
    assert_eq!(realm.0.lock().unwrap().granted, 2);
    for asked in stub.asked() {
        assert!(!asked.query.values().any(|value| value.contains(SECRET)));
    }
}

#[rstest]
#[case::secret(401, "correct client_id and client_secret")]
#[case::no_service_account(400, "Service account roles")]
#[case::realm(404, "no such realm at this address")]
#[tokio::test]
async fn a_token_that_is_not_granted_is_explained(#[case] status: u16, #[case] words: &str) {
    let realm = Realm::of(60);
    realm.instead(TOKEN, move |_, _, _| Some(Answer::text(status, LEAKED)));
    let stub = realm.start();
    let sso = directory(&stub, &["admins"]);
    let checked = sso.check().await.unwrap_err().to_string();
    let looked = sso.look_up(&id(1)).await.unwrap_err().to_string();
    for error in [fails(&stub).await, checked, looked] {
        assert!(error.contains(words) && !error.contains(LEAKED), "{error}");
        assert_eq!(error.matches(words).count(), 1, "once: {error}");
    }
}

#[tokio::test]
async fn an_access_token_that_is_never_taken_is_no_endless_affair() {
    let realm = Realm::of(60);
    realm.instead("users", |_, _, _| Some(Answer::status(401)));
    let stub = realm.start();
    let error = fails(&stub).await;
    assert!(error.contains("hostname"), "{error}");
    assert_eq!(realm.0.lock().unwrap().granted, 2);
}

#[tokio::test]
async fn one_who_is_looked_up_is_found_gone_or_not_for_us() {
    let realm = Realm::of(60);
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    let LookedUp::Found(person) = sso.look_up(&id(1)).await.unwrap() else {
        panic!("there");
    };
    assert_eq!(
        (person.status, person.is_member),
        (IdentityStatus::Active, None)
    );
    realm.user(1, json!({"enabled": false}));
    let LookedUp::Found(person) = sso.look_up(&id(1)).await.unwrap() else {
        panic!("there");
    };
    assert_eq!(person.status, IdentityStatus::Disabled);

    assert_eq!(
        sso.look_up(&id(99)).await.unwrap(),
        LookedUp::Gone {
            evidence: "404 for its id".to_owned(),
            is_certain: false
        }
    );
    realm.with(|state| {
        state.lacks.insert("view-users");
    });
    let LookedUp::Unclear(why) = sso.look_up(&id(1)).await.unwrap() else {
        panic!("403");
    };
    assert!(why.contains("view-users"), "{why}");
    let error = sso.look_up(&id(99)).await.unwrap_err().to_string();
    assert!(
        error.contains("view-users"),
        "404 is no word of one who sees nobody: {error}"
    );
}

#[tokio::test]
async fn another_account_than_the_one_looked_up_says_nothing() {
    let realm = Realm::of(60);
    realm.instead(&format!("users/{}", id(1)), |_, _, _| {
        Some(Answer::json(
            &json!({"id": id(2), "email": "user1@example.org", "enabled": false}),
        ))
    });
    let stub = realm.start();
    let looked = directory(&stub, &[]).look_up(&id(1)).await.unwrap();
    assert!(matches!(looked, LookedUp::Unclear(_)), "{looked:?}");
    for odd in ["..", "", "../realms"] {
        let looked = directory(&stub, &[]).look_up(odd).await;
        assert!(!matches!(looked, Ok(LookedUp::Found(_))), "{odd}");
    }
}

async fn members(realm: &Realm, groups: &[&str]) -> Result<Vec<(String, u64)>, String> {
    let stub = realm.start();
    let pulled = pull(&directory(&stub, groups), &people(MANY)).await;
    let (pulled, told) = pulled.map_err(|error| error.to_string())?;
    assert!(told.iter().all(|person| person.is_member.is_some()));
    let mut rows: Vec<_> = pulled
        .groups
        .into_iter()
        .map(|group| (group.name, group.members))
        .collect();
    let is_member = |person: &&Person| person.is_member == Some(true);
    rows.push((
        "any".to_owned(),
        told.iter().filter(is_member).count() as u64,
    ));
    Ok(rows)
}

#[rstest]
#[case::now(false)]
#[case::before_23(true)]
#[tokio::test]
async fn who_is_in_a_group_below_is_in_the_group(#[case] is_old: bool) {
    let realm = Realm::of(60);
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
async fn groups_are_read_to_their_end() {
    let realm = Realm::of(450);
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

    // A page that lost somebody is not the last.
    realm.instead(
        &format!("groups/{}/members", id(1001)),
        |state, asked, _| {
            let first: usize = asked.query("first").unwrap().parse().unwrap();
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

    realm
        .mended()
        .instead(&format!("groups/{}/members", id(1001)), |state, _, _| {
            let rows: Vec<Value> = state.people().take(200).cloned().collect();
            Some(Answer::json(&json!(rows)))
        });
    let error = members(&realm, &["all"]).await.unwrap_err();
    assert!(error.contains("repeats"), "{error}");

    // A server that knows no pages of members tells all of them each time.
    realm
        .mended()
        .instead(&format!("groups/{}/members", id(1001)), |state, _, _| {
            let rows: Vec<Value> = state.people().take(5).cloned().collect();
            Some(Answer::json(&json!(rows)))
        });
    let rows = members(&realm, &["all"]).await.unwrap();
    assert!(rows[0].1 >= 5, "{rows:?}");
}

#[rstest]
#[case::members("members")]
#[case::children("children")]
#[tokio::test]
async fn a_group_that_cannot_be_read_is_no_empty_group(#[case] part: &str) {
    for status in [403, 404, 500] {
        let realm = Realm::of(60);
        realm
            .group(1001, "/ops", &[1])
            .group(1002, "/ops/admins", &[2]);
        realm.instead(&format!("groups/{}/{part}", id(1001)), move |_, _, _| {
            Some(Answer::text(status, LEAKED))
        });
        let error = members(&realm, &["ops"]).await.unwrap_err();
        assert!(
            error.contains(&status.to_string()) && !error.contains(LEAKED),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_check_says_what_the_client_sees_and_which_role_it_lacks() {
    let realm = Realm::of(60);
    realm.group(1001, "/ops", &[1]);
    let stub = realm.start();
    let checked = directory(&stub, &["ops"]).check().await.unwrap();
    assert_eq!(checked.summary, "Keycloak, realm example: 60 people");
    assert!(checked.rights.iter().all(|right| right.missing.is_none()));
    assert_eq!(checked.rights.len(), 2);
    assert_eq!(
        directory(&stub, &[]).check().await.unwrap().rights.len(),
        1,
        "without groups none are asked for"
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
        "all that is missing at once: {error}"
    );
}

/// A realm with people of its own and of an LDAP.
fn federated(people: usize, imported: usize) -> Realm {
    let realm = Realm::of(people);
    for number in people + 1..=people + imported {
        realm.user(number, json!({"federationLink": "ldap"}));
    }
    realm
}

#[tokio::test]
async fn a_storage_out_of_reach_disables_nobody() {
    let realm = federated(30, 30);
    realm.user(1, json!({"enabled": false}));
    realm.user(31, json!({"federationLink": "ldap", "enabled": false}));
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    let count = |told: &[Person], status| {
        let fits = told.iter().filter(|person| person.status == status);
        fits.count()
    };
    let (_, told) = pull(&sso, &people(MANY)).await.unwrap();
    assert_eq!(count(&told, IdentityStatus::Disabled), 2);
    let looked = sso.look_up(&id(31)).await.unwrap();
    assert!(
        matches!(&looked, LookedUp::Found(person) if person.status == IdentityStatus::Disabled)
    );

    // It goes down between the list and the look.
    realm.with(|state| {
        state.down.insert("ldap".to_owned());
    });
    let looked = sso.look_up(&id(40)).await.unwrap();
    assert!(matches!(&looked, LookedUp::Unclear(why) if why.contains("out of reach")));

    let error = pull(&sso, &people(MANY)).await.unwrap_err().to_string();
    assert!(
        error.contains("30 of 60 people are shown as disabled")
            && error.contains("User federation"),
        "{error}"
    );

    realm.with(|state| state.down.clear());
    let (_, told) = pull(&sso, &people(MANY)).await.unwrap();
    assert_eq!(count(&told, IdentityStatus::Active), 58);
}

/// Some are shown from Keycloak's cache, as if nothing had happened.
#[tokio::test]
async fn those_in_the_cache_do_not_vouch_for_a_storage_out_of_reach() {
    let realm = federated(57, 3);
    realm.with(|state| {
        state.down.insert("ldap".to_owned());
        state.cached.insert(id(60));
    });
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    let (_, told) = pull(&sso, &people(MANY)).await.unwrap();
    let told = statuses(&told);
    assert_eq!(told["user60@example.org"], IdentityStatus::Active);
    assert_eq!(told["user58@example.org"], IdentityStatus::Unknown);
    let looked = sso.look_up(&id(58)).await.unwrap();
    assert!(matches!(&looked, LookedUp::Unclear(_)), "{looked:?}");

    realm.with(|state| state.down.clear());
    realm.user(58, json!({"federationLink": "ldap", "enabled": false}));
    let looked = sso.look_up(&id(58)).await.unwrap();
    assert!(matches!(&looked, LookedUp::Found(_)), "{looked:?}");
    let (_, told) = pull(&sso, &people(MANY)).await.unwrap();
    let told = statuses(&told);
    assert_eq!(told["user58@example.org"], IdentityStatus::Disabled);
}

#[tokio::test]
async fn a_look_by_id_that_a_cache_answers_is_no_news() {
    let realm = federated(30, 30);
    realm.user(31, json!({"federationLink": "ldap", "enabled": false}));
    realm.instead(&format!("users/{}", id(31)), |_, _, _| {
        Some(Answer::json(&json!({
            "id": id(31), "username": "user31", "email": "user31@example.org", "enabled": true,
            "federationLink": "ldap"
        })))
    });
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    pull(&sso, &people(MANY)).await.unwrap();
    let looked = sso.look_up(&id(31)).await.unwrap();
    assert!(
        matches!(&looked, LookedUp::Found(person) if person.status == IdentityStatus::Disabled),
        "{looked:?}"
    );
    // The storage has it no more, and so has the list.
    realm.delete(31);
    let looked = sso.look_up(&id(31)).await.unwrap();
    assert!(matches!(&looked, LookedUp::Unclear(_)), "{looked:?}");
}

#[tokio::test]
async fn of_a_small_storage_without_anybody_enabled_nobody_is_judged() {
    let realm = federated(57, 3);
    realm.user(1, json!({"enabled": false}));
    realm.with(|state| {
        state.down.insert("ldap".to_owned());
    });
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    let (_, told) = pull(&sso, &people(MANY)).await.unwrap();
    let told = statuses(&told);
    assert_eq!(
        told["user1@example.org"],
        IdentityStatus::Disabled,
        "Keycloak's own"
    );
    for number in 58..=60 {
        let address = format!("user{number}@example.org");
        assert_eq!(told[address.as_str()], IdentityStatus::Unknown);
    }
    let looked = sso.look_up(&id(58)).await.unwrap();
    assert!(
        matches!(&looked, LookedUp::Unclear(_)),
        "nobody vouches for it"
    );
}

#[tokio::test]
async fn few_of_a_storage_are_believed_when_others_prove_that_it_answers() {
    let realm = federated(30, 30);
    realm.user(31, json!({"federationLink": "ldap", "enabled": false}));
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    let asked = &people(31)[30..];
    let (pulled, told) = pull(&sso, asked).await.unwrap();
    assert_eq!(pulled.extent, Extent::Everybody, "to find somebody enabled");
    assert_eq!(told.len(), 60, "each once");
    assert_eq!(
        statuses(&told)["user31@example.org"],
        IdentityStatus::Disabled
    );

    let (pulled, told) = pull(&sso, &people(32)[30..]).await.unwrap();
    assert_eq!((pulled.extent, told.len()), (Extent::Asked, 2));

    realm.with(|state| {
        state.down.insert("ldap".to_owned());
    });
    let error = pull(&sso, asked).await.unwrap_err().to_string();
    assert!(error.contains("User federation"), "{error}");
}

#[tokio::test]
async fn people_whom_keycloak_does_not_import_may_be_left_out_of_the_count() {
    let realm = Realm::of(60);
    for number in 61..=70 {
        realm.user(number, json!({"id": format!("f:ldap:user{number}")}));
    }
    let stub = realm.start();
    let (_, told) = everybody(&stub).await.unwrap();
    assert_eq!(told.len(), 70);
    let looked = directory(&stub, &[])
        .look_up("f:ldap:user61")
        .await
        .unwrap();
    assert!(matches!(looked, LookedUp::Found(_)), "{looked:?}");

    // Where the storage counts them, it must be all.
    realm.instead("users/count", |_, _, _| Some(Answer::text(200, "70")));
    assert_eq!(everybody(&stub).await.unwrap().1.len(), 70);
    realm
        .mended()
        .instead("users/count", |_, _, _| Some(Answer::text(200, "65")));
    assert!(fails(&stub).await.contains("counts 65"));
}

#[tokio::test]
async fn imported_people_who_vanish_are_gone_by_id_and_never_by_the_list_alone() {
    let realm = federated(30, 30);
    let stub = realm.start();
    let sso = directory(&stub, &[]);
    pull(&sso, &people(MANY)).await.unwrap();
    for number in 31..=60 {
        realm.delete(number);
    }
    let (pulled, told) = pull(&sso, &people(MANY)).await.unwrap();
    assert_eq!((told.len(), pulled.extent), (30, Extent::Everybody));
    let looked = sso.look_up(&id(31)).await.unwrap();
    assert!(matches!(
        looked,
        LookedUp::Gone {
            is_certain: false,
            ..
        }
    ));
}

/// A world whose issuers are the first so many of this realm.
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

/// Whose tokens are flagged, with the evidence.
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
fn is_flagged(world: &World, token: &str, words: &str) {
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

/// As few people are asked for one by one, and many are listed, all holds for both.
#[rstest]
#[case::few(5)]
#[case::many(60)]
fn who_is_disabled_is_flagged_and_is_not_when_back(#[case] issuers: usize) {
    let realm = Realm::of(80);
    let stub = realm.start();
    let world = world(&stub, issuers, "");
    world.run(&["check"]).says("realm example: 80 people");
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), []);

    // Neither is a loss.
    realm.user(
        3,
        json!({"requiredActions": ["UPDATE_PASSWORD"], "emailVerified": false}),
    );
    realm.user(2, json!({"enabled": false}));
    world.run(&["sweep"]).exits(0);
    is_flagged(&world, "token 2", "enabled=false");
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
fn who_is_deleted_is_flagged_after_a_second_look(#[case] issuers: usize) {
    let realm = Realm::of(80);
    let stub = realm.start();
    let world = world(&stub, issuers, "");
    world.run(&["sweep"]).exits(0);
    realm.delete(4);
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), [], "once is not enough");
    world.run(&["sweep"]).exits(0);
    world.run(&["sweep"]).exits(0);
    is_flagged(&world, "token 4", "404 for its id");

    // Made anew, which is another id; then put back from a backup.
    realm.user(4, json!({"id": id(904)}));
    world.run(&["sweep"]).exits(0);
    let shown = identity(&world, 4).to_string();
    assert!(!shown.contains("\"deleted\""), "{shown}");
    assert_eq!(flagged(&world), []);
}

#[rstest]
#[case::few(5)]
#[case::many(60)]
fn who_leaves_the_allowed_groups_is_flagged_after_two_readings(#[case] issuers: usize) {
    let realm = Realm::of(80);
    let all: Vec<usize> = (1..=80).collect();
    realm
        .group(1001, "/ops", &all[..40])
        .group(1002, "/ops/admins", &all[39..]);
    let stub = realm.start();
    let world = world(&stub, issuers, "allowed_groups = [\"/ops\"]");
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), [], "who is in a group below is in it");

    realm.leave(1001, 5);
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), []);
    world.run(&["sweep"]).exits(0);
    is_flagged(&world, "token 5", "/ops");

    realm.group(1001, "/ops", &all[..40]);
    world.run(&["sweep"]).exits(0);
    assert_eq!(flagged(&world), []);
}

/// What goes wrong at the directory flags nobody, and is seen.
#[rstest]
#[case::role(|realm: &Realm| {
    realm.with(|state| { state.lacks.insert("view-users"); });
}, "view-users")]
#[case::group(|realm: &Realm| { realm.group(1001, "/renamed", &[]); }, "no group \"/ops\"")]
#[case::page(|realm: &Realm| {
    realm.instead("users", |_, asked, _| {
        (asked.query("first") == Some("200")).then(|| Answer::json(&json!([])))
    });
}, "Keycloak counts 260")]
#[case::down(|realm: &Realm| {
    realm.instead("users", |_, _, _| Some(Answer::text(500, LEAKED)));
}, "answered 500")]
#[case::secret(|realm: &Realm| {
    realm.instead(TOKEN, |_, _, _| Some(Answer::text(401, LEAKED)));
}, "client_secret")]
#[case::storage(|realm: &Realm| {
    realm.with(|state| { state.down.insert("ldap".to_owned()); });
}, "User federation")]
fn a_directory_that_fails_flags_nobody_and_the_sweep_says_why(
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
        let said = ran.stdout + &ran.stderr;
        assert!(!said.contains(SECRET) && !said.contains(LEAKED), "{said}");
    }
    assert_eq!(flagged(&world), []);
    assert!(identity(&world, 1).to_string().contains("\"active\""));
}

#[test]
fn an_emptied_group_and_a_storage_that_lost_all_are_held() {
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
fn a_few_of_a_storage_out_of_reach_keep_what_was_known() {
    let realm = federated(57, 3);
    let stub = realm.start();
    let world = world(&stub, 60, "");
    realm.user(59, json!({"federationLink": "ldap", "enabled": false}));
    world.run(&["sweep"]).exits(0);
    is_flagged(&world, "token 59", "enabled=false");

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
    is_flagged(&world, "token 59", "enabled=false");
}
