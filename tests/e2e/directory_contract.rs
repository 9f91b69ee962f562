//! The laws that every kind of directory keeps. What is special to a kind is in its own file.

mod stand_ins;
mod sweeps;

use std::collections::BTreeSet;
use std::time::Duration;

use lapsed::directories::{Directory, Extent, Lookup};
use lapsed::domain::{Address, IdentityStatus};
use lapsed::sources::Error;
use rstest::rstest;

use crate::bad_responses::{BAD_RESPONSES, LEAKED_SECRET};
use crate::ldap::faulty::FaultyLdap;
use crate::listed::{Listed, list, missing, users};
use crate::stub::Answer;
use Of::{Entra, File, Keycloak, Ldap, LdapStandIn, Okta, Scim, ScimByCursor};
use stand_ins::{Fault, GROUP, Of, StandIn};

/// More people than are requested one by one.
const MANY: usize = 51;

async fn list_everybody(directory: &dyn Directory) -> Result<Listed, Error> {
    let listed = list(directory, &users(MANY)).await;
    if let Ok(listed) = &listed {
        assert_eq!(listed.listing.extent, Extent::Everybody);
    }
    listed
}

/// The message of an error that shows no secret, no address and no content of a response.
#[track_caller]
fn message_of<T>(outcome: Result<T, Error>, secrets: &[&str]) -> String {
    let error = outcome.err().expect("an error");
    let shown = format!("{error} {error:?}");
    for hidden in [&[LEAKED_SECRET, "@example.org"], secrets].concat() {
        assert!(!shown.contains(hidden), "{hidden} is in {shown}");
    }
    error.to_string()
}

/// The message of a listing that fails.
async fn listing_error(stand_in: &dyn StandIn) -> String {
    let listed = list_everybody(&*stand_in.directory(&[])).await;
    message_of(listed, &stand_in.secrets())
}

#[rstest]
#[case::one_person(0, 1)]
#[case::less_than_a_page(1, -1)]
#[case::a_full_page(1, 0)]
#[case::more_than_a_page(1, 1)]
#[case::several_pages(2, 10)]
#[tokio::test]
async fn everybody_is_listed_once_over_any_number_of_pages(
    #[values(File, Scim, ScimByCursor, Keycloak, Entra, Okta, Ldap)] of: Of,
    #[case] pages: usize,
    #[case] more: isize,
) {
    let count = (pages * of.page_size()).strict_add_signed(more);
    let stand_in = of.start(count);
    let mut expected: Vec<String> = users(count)
        .iter()
        .map(|it| format!("{it} active"))
        .collect();
    if count > 1 {
        stand_in.set_active(2, false);
        expected[1] = "user2@example.org disabled".to_owned();
    }
    expected.sort();
    let listed = list_everybody(&*stand_in.directory(&[])).await.unwrap();
    assert_eq!(listed.lines(), expected);
    assert_eq!(listed.groups(), []);
    for person in &listed.people {
        assert_eq!(person.is_member, None);
        assert!(of == File || person.id.is_some() && person.name.is_some());
    }
    if ![File, Ldap].contains(&of) {
        let api = stand_in.api();
        assert!(api.count_requests(api.users) >= count.div_ceil(of.page_size()));
    }
}

#[rstest]
#[tokio::test]
async fn few_people_are_requested_one_by_one_and_no_one_else(
    #[values(Scim, Keycloak, Okta)] of: Of,
) {
    let stand_in = of.start(60);
    stand_in.set_active(2, false);
    let listed = list(&*stand_in.directory(&[]), &users(3)).await.unwrap();
    let expected = ["active", "disabled", "active"];
    let expected: Vec<String> = (1..)
        .zip(expected)
        .map(|(n, it)| format!("user{n}@example.org {it}"))
        .collect();
    assert_eq!(listed.lines(), expected);
    assert_eq!(listed.listing.extent, Extent::Requested);
    let api = stand_in.api();
    for request in api.stub.requests() {
        let filters = ["filter", "search", "email", "username"];
        let is_whole =
            request.path == api.users && filters.iter().all(|it| request.query(it).is_none());
        assert!(
            !is_whole || request.query("max") == Some("1"),
            "{request:?}"
        );
    }
}

#[rstest]
#[tokio::test]
async fn a_rejected_access_token_is_renewed_and_the_listing_is_whole(
    #[values(Keycloak, Entra, Okta)] of: Of,
) {
    let count = 2 * of.page_size() + 10;
    let stand_in = of.start(count);
    let (api, mut pages) = (stand_in.api(), 0);
    let (path, token) = (api.users, api.token.clone().unwrap());
    api.stub.intercept(move |request, stub| {
        pages += usize::from(request.path == path);
        if request.path == path && pages == 2 {
            return Answer::text(401, LEAKED_SECRET);
        }
        stub(request)
    });
    let directory = stand_in.directory(&[]);
    let listed = list_everybody(&*directory).await.unwrap();
    assert_eq!(listed.people.len(), count);
    assert_eq!(api.count_requests(&token), 2);
    list_everybody(&*directory).await.unwrap();
    assert_eq!(api.count_requests(&token), 2, "it is reused");
    for request in api.stub.requests() {
        let secrets = stand_in.secrets();
        let is_shown = |value: &String| secrets.iter().any(|secret| value.contains(secret));
        assert!(!request.query.values().any(is_shown), "{request:?}");
    }
}

#[rstest]
#[case::scim(Scim, "does not accept the token (401); create a new one")]
#[case::keycloak(Keycloak, "hostname")]
#[case::entra(Entra, "set cloud to the tenant's cloud")]
#[case::okta(Okta, "rejects its own access token")]
#[tokio::test]
async fn credentials_that_are_always_rejected_are_renewed_at_most_once(
    #[case] of: Of,
    #[case] words: &str,
) {
    let stand_in = of.start(60);
    let api = stand_in.api();
    api.answer(|| Answer::text(401, LEAKED_SECRET));
    let error = listing_error(&*stand_in).await;
    assert_contains!(error, words);
    if let Some(token) = &api.token {
        assert_eq!(api.count_requests(token), 2);
    }
}

#[rstest]
#[case::rejected(49, "refuses the account of bind_dn: its name or password is wrong")]
#[case::locked(19, "the account is locked")]
#[case::busy(
    51,
    "it is busy or stopped (LDAP code 51); lapsed tries again at the next sweep"
)]
#[case::stopping(
    52,
    "it is busy or stopped (LDAP code 52); lapsed tries again at the next sweep"
)]
#[tokio::test]
async fn a_rejected_bind_is_an_error_that_names_the_reason(#[case] code: u8, #[case] words: &str) {
    let server = FaultyLdap::start(60);
    server.answer_binds(code);
    let error = listing_error(&server).await;
    assert_contains!(error, words);
    assert_eq!(server.count_binds(), 1, "{error}");
}

#[rstest]
#[tokio::test]
async fn a_page_that_repeats_is_an_error(
    #[values(Scim, ScimByCursor, Keycloak, Entra, Okta, LdapStandIn)] of: Of,
    #[values(2, 3)] page: usize,
) {
    let stand_in = of.start(2 * of.page_size() + 10);
    stand_in.break_page(page, Fault::Repeats);
    let error = listing_error(&*stand_in).await;
    assert_contains!(error, "a page has no new id");
}

#[rstest]
#[case::broken(Fault::Broken, ["answered 500", "LDAP code 80"])]
#[case::cut(Fault::Cut, ["cannot reach", "closed the connection"])]
#[tokio::test]
async fn a_listing_that_is_cut_off_is_an_error(
    #[values(Scim, ScimByCursor, Keycloak, Entra, Okta, LdapStandIn)] of: Of,
    #[case] fault: Fault,
    #[case] words: [&str; 2],
    #[values(1, 2, 3)] page: usize,
) {
    let [http, ldap] = words;
    let stand_in = of.start(2 * of.page_size() + 10);
    stand_in.break_page(page, fault);
    let error = listing_error(&*stand_in).await;
    assert_contains!(error, if of == LdapStandIn { ldap } else { http });
}

/// Of the other kinds (files and SCIM) no right explains an empty list; their sweeps fail, too (`sweeps.rs`).
#[rstest]
#[case::keycloak(Keycloak, "shows no users")]
#[case::entra(Entra, "grant admin consent")]
#[case::okta(Okta, "does not let the app see any user")]
#[case::ldap(Ldap, "the server shows no people")]
#[tokio::test]
async fn an_empty_list_is_a_missing_right(#[case] of: Of, #[case] words: &str) {
    let error = listing_error(&*of.start(0)).await;
    assert_contains!(error, words);
}

#[rstest]
#[tokio::test]
async fn an_unknown_group_is_an_error_that_names_it(
    #[values(Scim, ScimByCursor, Keycloak, Entra, Okta, Ldap)] of: Of,
) {
    let stand_in = of.start(3);
    stand_in.set_members(&[1]);
    let directory = stand_in.directory(&[GROUP, "devops"]);
    for people in [MANY, 1] {
        let listed = list(&*directory, &users(people)).await;
        let error = message_of(listed, &stand_in.secrets());
        assert_contains!(error, "no group", "\"devops\"", "allowed_groups");
    }
    let lacking = match directory.check().await {
        Ok(checked) => missing(&checked).concat(),
        Err(error) => error.to_string(),
    };
    assert_contains!(lacking, "devops");
}

#[rstest]
#[tokio::test]
async fn members_of_the_allowed_groups_are_marked_and_counted(
    #[values(File, Scim, ScimByCursor, Keycloak, Entra, Okta, Ldap)] of: Of,
    #[values(MANY, 3)] wanted: usize,
) {
    let stand_in = of.start(6);
    for members in [&[1, 3][..], &[1], &[], &[1, 2, 3]] {
        stand_in.set_members(members);
        let directory = stand_in.directory(&[GROUP]);
        let listed = list(&*directory, &users(wanted)).await.unwrap();
        let expected: Vec<String> = members
            .iter()
            .map(|n| format!("user{n}@example.org"))
            .collect();
        assert_eq!(listed.members(), expected);
        assert_eq!(listed.groups(), [(GROUP, members.len() as u64)]);
    }
}

#[rstest]
#[case::scim(Scim, "404 for its id")]
#[case::keycloak(Keycloak, "404 for its id")]
#[case::entra(Entra, "404 for its id, and not in the deleted items")]
#[case::okta(Okta, "404 (E0000007) for its id")]
#[case::ldap(Ldap, "no entry has its entryUUID")]
#[tokio::test]
async fn an_account_is_found_or_gone_by_its_id(#[case] of: Of, #[case] evidence: &str) {
    let stand_in = of.start(3);
    let directory = stand_in.directory(&[]);
    let listed = list_everybody(&*directory).await.unwrap();
    stand_in.set_active(2, false);
    stand_in.delete(3);
    let id = |number| {
        listed
            .person(&format!("user{number}@example.org"))
            .id
            .clone()
            .unwrap()
    };
    for (number, status) in [(1, IdentityStatus::Active), (2, IdentityStatus::Disabled)] {
        let Lookup::Found(found) = directory.look_up(&id(number)).await.unwrap() else {
            panic!("user{number} exists");
        };
        assert_eq!((found.id, found.status), (Some(id(number)), status));
        assert_eq!(found.is_member, None);
    }
    let gone = Lookup::Gone {
        evidence: evidence.to_owned(),
        is_certain: false,
    };
    assert_eq!(directory.look_up(&id(3)).await.unwrap(), gone);
    for odd in ["", "..", "*", "../realms", "user1@example.org"] {
        let looked_up = directory.look_up(odd).await;
        assert!(!matches!(looked_up, Ok(Lookup::Found(_))), "{odd}");
    }
}

#[rstest]
#[tokio::test]
async fn a_refused_sign_in_does_not_mean_that_a_person_is_gone(
    #[values(Keycloak, Entra, Okta)] of: Of,
    #[values(400, 403, 404, 405, 500, 501)] status: u16,
    #[values("", r#"{"errorCode":"E0000007"}"#)] body: &'static str,
) {
    let stand_in = of.start(2);
    let listed = list_everybody(&*stand_in.directory(&[])).await.unwrap();
    let id = listed.person("user1@example.org").id.clone().unwrap();
    let api = stand_in.api();
    let token = api.token.unwrap();
    api.stub.intercept(move |request, stub| {
        if request.path == token {
            return Answer::text(status, body);
        }
        stub(request)
    });
    let directory = stand_in.directory(&[]);
    let looked_up = directory.look_up(&id).await;
    assert!(
        matches!(looked_up, Err(_) | Ok(Lookup::Unclear(_))),
        "{looked_up:?}"
    );
    assert!(list_everybody(&*directory).await.is_err());
}

#[rstest]
#[tokio::test]
async fn a_look_up_that_returns_another_account_proves_nothing(
    #[values(Scim, Keycloak, Entra, Okta)] of: Of,
) {
    let stand_in = of.start(2);
    let directory = stand_in.directory(&[]);
    let listed = list_everybody(&*directory).await.unwrap();
    let id = |number| {
        listed
            .person(&format!("user{number}@example.org"))
            .id
            .clone()
            .unwrap()
    };
    let (wanted, other) = (id(1), id(2));
    stand_in.api().stub.intercept(move |request, stub| {
        let mut request = request.clone();
        request.path = request.path.replace(&wanted, &other);
        stub(&request)
    });
    let reason = match directory.look_up(&id(1)).await {
        Ok(Lookup::Unclear(reason)) => reason,
        Err(error) => error.to_string(),
        proof => panic!("{proof:?}"),
    };
    assert_contains!(reason, "returned another");
}

#[rstest]
#[tokio::test]
async fn the_mailbox_is_the_main_address(#[values(Keycloak, Entra, Okta, Scim)] of: Of) {
    let (sign_in, mailbox) = ("sign.in@example.org", "mail.box@example.org");
    let stand_in = of.start(3);
    stand_in.set_addresses(2, sign_in, mailbox);
    let directory = stand_in.directory(&[]);
    let one = |address: &str| vec![address.parse().unwrap()];
    for people in [users(MANY), one(sign_in), one(mailbox)] {
        let listed = list(&*directory, &people).await.unwrap();
        let addresses = listed.person(sign_in).addresses();
        let shown: Vec<&str> = addresses.map(Address::as_str).collect();
        assert_eq!(shown, [mailbox, sign_in]);
    }
}

/// LDAP has no response that names a wait.
#[rstest]
#[case::as_requested(Some("120"), 120)]
#[case::by_default(None, 60)]
#[tokio::test]
async fn a_requested_wait_is_a_deferral(
    #[values(Scim, Keycloak, Entra, Okta)] of: Of,
    #[case] retry_after: Option<&'static str>,
    #[case] seconds: u64,
) {
    let stand_in = of.start(3);
    let api = stand_in.api();
    api.answer(move || {
        let answer = Answer::text(429, LEAKED_SECRET);
        match retry_after {
            Some(seconds) => answer.with("retry-after", seconds),
            None => answer,
        }
    });
    let error = list_everybody(&*stand_in.directory(&[])).await.unwrap_err();
    assert_eq!(error.wait(), Some(Duration::from_secs(seconds)));
    message_of(Err::<(), _>(error), &stand_in.secrets());
    assert_eq!(api.count_requests(api.users), 1);
}

/// Each request of a listing gets each bad response once. The listing then fails, unless the response is optional.
#[rstest]
#[tokio::test]
async fn bad_responses_are_errors_that_show_no_content(
    #[values(Scim, ScimByCursor, Keycloak, Entra, Okta)] of: Of,
) {
    let stand_in = of.start(6);
    stand_in.set_members(&[1]);
    let api = stand_in.api();
    let good = list_everybody(&*stand_in.directory(&[GROUP]))
        .await
        .unwrap();
    let paths: BTreeSet<String> = api.stub.requests().into_iter().map(|it| it.path).collect();
    for path in paths {
        for bad in BAD_RESPONSES {
            let broken = path.clone();
            api.stub.intercept(move |request, stub| {
                if request.path == broken {
                    (bad.answer)()
                } else {
                    stub(request)
                }
            });
            let directory = stand_in.directory(&[GROUP]);
            match list_everybody(&*directory).await {
                Ok(listed) => {
                    let is_optional = match of {
                        Scim | ScimByCursor => path.ends_with("/ServiceProviderConfig"),
                        Keycloak => path.ends_with("/users/count") && bad.expected_text == "404",
                        _ => false,
                    };
                    assert!(is_optional, "{path}: {}", bad.expected_text);
                    assert_eq!(listed.lines(), good.lines(), "{path}");
                    assert_eq!(listed.members(), good.members(), "{path}");
                    assert_eq!(listed.groups(), good.groups(), "{path}");
                }
                failed => {
                    let error = message_of(failed, &stand_in.secrets());
                    let is_reported =
                        error.contains(bad.expected_text) || error.contains("no group");
                    // After a 404, SCIM and Entra ID are asked in another way, which fails with another error.
                    let has_other_way =
                        [Scim, ScimByCursor].contains(&of) || path.ends_with("/transitiveMembers");
                    let is_excused = bad.expected_text == "404" && has_other_way;
                    assert!(is_reported || is_excused, "{path}: {error}");
                    let checked = directory.check().await;
                    assert!(of != Keycloak || checked.is_err(), "{path}");
                    if let Err(error) = checked {
                        message_of(Err::<(), _>(error), &stand_in.secrets());
                    }
                }
            }
        }
    }
}
