//! Okta: listings and look-ups of an organisation.

mod less;
pub mod org;
mod sweeps;

use lapsed::directories::okta::Config;
use lapsed::directories::{Directory, Extent, Lookup, PeopleListing};
use lapsed::domain::{Address, Person, Reason};
use rstest::rstest;
use serde_json::json;

use crate::listed::{common, list, users};
use crate::stub::Answer;
use org::{Okta, user};

const ADA: &str = "00u1ero7vZFVEIYLWPB1";
const BOB: &str = "00u1ero7vZFVEIYLWPB2";
const EVE: &str = "00u1ero7vZFVEIYLWPB3";

fn people() -> Okta {
    Okta::with_users(vec![
        user(ADA, "ada@example.org", "ACTIVE"),
        user(BOB, "bob@example.org", "SUSPENDED"),
        user(EVE, "eve@example.org", "DEPROVISIONED"),
    ])
}

fn directory(okta: &Okta, groups: &[&str]) -> impl Directory {
    okta.config().build(&common(groups)).unwrap()
}

async fn list_people(
    okta: &Okta,
    groups: &[&str],
    people: &[Address],
) -> Result<(PeopleListing, Vec<Person>), String> {
    let listed = list(&directory(okta, groups), people).await;
    let listed = listed.map_err(|error| error.to_string())?;
    Ok((listed.listing, listed.people))
}

async fn list_everybody(
    okta: &Okta,
    groups: &[&str],
) -> Result<(PeopleListing, Vec<Person>), String> {
    let listed = list_people(okta, groups, &users(51)).await;
    if let Ok((listing, _)) = &listed {
        assert_eq!(listing.extent, Extent::Everybody);
    }
    listed
}

async fn find_person(okta: &Okta, address: &str) -> Result<Vec<Person>, String> {
    let (listing, listed) = list_people(okta, &[], &[address.parse().unwrap()]).await?;
    assert_eq!(listing.extent, Extent::Requested);
    Ok(listed)
}

fn describe(people: &[Person]) -> Vec<String> {
    let describe = |person: &Person| {
        let id = person.id.as_deref().unwrap();
        format!(
            "{id} {} {:?} {}",
            person.status, person.reason, person.evidence
        )
    };
    people.iter().map(describe).collect()
}

#[tokio::test]
async fn everybody_is_listed_including_deactivated_users() {
    let okta = people();
    let (_, listed) = list_everybody(&okta, &[]).await.unwrap();
    assert_eq!(
        describe(&listed),
        [
            format!("{ADA} active None status ACTIVE"),
            format!("{BOB} disabled Some(Suspended) status SUSPENDED"),
            format!("{EVE} disabled Some(Admin) status DEPROVISIONED"),
        ]
    );
    assert!(listed.iter().all(|person| person.is_member.is_none()));
    assert_eq!(okta.requests(), ["users -", "users filter"]);
    let requests = okta.stub.requests();
    let brief = requests[1].header("content-type").unwrap();
    assert_contains!(brief, "omitCredentials");
}

#[tokio::test]
async fn a_link_to_another_server_gets_no_credentials() {
    let (okta, evil) = (people(), people());
    let link = format!("<{}/api/v1/users?after=1>; rel=\"next\"", evil.stub.url);
    okta.org().fault = Some(Box::new(move |request| {
        let is_list = request.path == "/api/v1/users";
        is_list.then(|| Answer::json(&json!([])).with("link", &link))
    }));
    let error = list_everybody(&okta, &[]).await.unwrap_err();
    assert_contains!(error, "credentials are sent nowhere else");
    assert!(evil.stub.requests().is_empty());
}

#[rstest]
#[case::no_header(None, "a full page came without a Link header")]
#[case::not_readable(
    Some("https://example.org; rel=next"),
    "its Link header, which names the next page, cannot be parsed"
)]
#[tokio::test]
async fn a_page_that_may_not_be_the_last_is_an_error(
    #[case] link: Option<&'static str>,
    #[case] words: &str,
) {
    let okta = people();
    let page: Vec<_> = (0..200)
        .map(|number| user(&number.to_string(), "a@example.org", "ACTIVE"))
        .collect();
    okta.org().fault = Some(Box::new(move |request| {
        let is_list = request.path == "/api/v1/users";
        let page = is_list.then(|| Answer::json(&json!(page)))?;
        Some(match link {
            Some(link) => page.with("link", link),
            None => page,
        })
    }));
    let error = list_everybody(&okta, &[]).await.unwrap_err();
    assert_contains!(error, words);
}

#[tokio::test]
async fn the_wait_is_as_long_as_okta_requests() {
    let okta = people();
    okta.org().fault = Some(Box::new(|request| {
        let is_second = request.query("filter").is_some();
        is_second.then(|| {
            Answer::text(429, r#"{"errorCode":"E0000047","errorSummary":"secret"}"#)
                .with("date", "Sat, 21 Nov 2026 08:00:00 GMT")
                .with("x-rate-limit-limit", "600")
                .with("x-rate-limit-remaining", "0")
                .with("x-rate-limit-reset", "1795248042")
        })
    }));
    let error = list_everybody(&okta, &[]).await.unwrap_err();
    assert_contains!(error, "asks to wait 42 s");
}

#[tokio::test]
async fn an_address_in_another_case_finds_sign_in_name_and_mailbox() {
    let mut ada = user(ADA, "Ada@Example.org", "ACTIVE");
    ada["profile"]["email"] = "A.Lovelace@Example.org".into();
    let okta = Okta::with_users(vec![ada]);
    let listed = find_person(&okta, "ada@example.ORG").await.unwrap();
    assert_eq!(listed.len(), 1);
    let requests = okta.requests();
    assert_eq!(requests.last().unwrap(), "users/ada%40example.ORG -");
    assert_eq!(
        requests.len(),
        5,
        "two spellings of two attributes: {requests:?}"
    );
    let listed = find_person(&okta, "a.lovelace@example.org").await.unwrap();
    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn users_found_in_the_lagging_index_are_read_again() {
    let okta = people();
    okta.org().users[0]["profile"]["email"] = "Ada.L@Example.org".into();
    let stale = user(ADA, "ada@example.org", "DEPROVISIONED");
    let answer = {
        let mut stale = stale;
        stale["profile"]["email"] = "ada.l@example.org".into();
        stale
    };
    okta.org().fault = Some(Box::new(move |request| {
        request.query("search")?;
        Some(Answer::json(&json!([answer])))
    }));
    let listed = find_person(&okta, "ADA.l@example.org").await.unwrap();
    assert_eq!(
        describe(&listed),
        [format!("{ADA} active None status ACTIVE")]
    );
    okta.org().delete(ADA);
    assert!(
        find_person(&okta, "ADA.l@example.org")
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn both_accounts_of_one_address_are_listed() {
    let mut other = user(BOB, "bob@example.org", "DEPROVISIONED");
    other["profile"]["email"] = "ada@example.org".into();
    let okta = Okta::with_users(vec![user(ADA, "ada@example.org", "ACTIVE"), other]);
    assert_eq!(
        find_person(&okta, "ada@example.org").await.unwrap().len(),
        2
    );
    okta.org().users[0]["profile"]["email"] = "a@example.org".into();
    assert_eq!(
        find_person(&okta, "ada@example.org").await.unwrap().len(),
        2
    );
}

#[tokio::test]
async fn an_app_without_a_role_sees_no_users_and_reports_it() {
    let okta = people();
    okta.org().is_reader = false;
    for error in [
        list_everybody(&okta, &[]).await.unwrap_err(),
        directory(&okta, &[]).check().await.unwrap_err().to_string(),
    ] {
        assert_contains!(error, "does not let the app see any user");
        assert_contains!(error, "Read-only Administrator");
    }
    let error = find_person(&okta, "ada@example.org").await.unwrap_err();
    assert_contains!(error, "(E0000006); give the app the role");
    okta.org().fault = Some(Box::new(|request| {
        let is_one = request.path.starts_with("/api/v1/users/");
        is_one.then(|| Answer::text(404, r#"{"errorCode":"E0000007"}"#))
    }));
    let error = find_person(&okta, "ada@example.org").await.unwrap_err();
    assert_contains!(error, "does not let the app see any user");
}

#[tokio::test]
async fn an_unknown_person_is_not_listed() {
    let okta = people();
    assert!(
        find_person(&okta, "nobody@example.org")
            .await
            .unwrap()
            .is_empty()
    );
    let expected = [
        "users filter",
        "users filter",
        "users/nobody%40example.org -",
        "users search",
        "users -",
    ];
    assert_eq!(okta.requests(), expected);
}

#[tokio::test]
async fn groups_are_found_by_name_or_id_and_counted() {
    let okta = people();
    let group = |id: &str, name: &str, members: &[&str]| {
        let members = members.iter().map(ToString::to_string).collect();
        (id.to_owned(), name.to_owned(), members)
    };
    okta.org().groups = vec![
        group("00g1ero7vZFVEIYLWPB1", "Developers \"A\"", &[ADA, BOB]),
        group("00g1ero7vZFVEIYLWPB2", "developers \"a\"", &[EVE]),
        group("00g1ero7vZFVEIYLWPB3", "Admins", &[ADA]),
        group("00g1ero7vZFVEIYLWPB4", "Admins", &[]),
    ];
    okta.org().page = 1;
    let groups = ["Developers \"A\"", "00g1ero7vZFVEIYLWPB3"];
    let (listing, listed) = list_everybody(&okta, &groups).await.unwrap();
    let counts: Vec<_> = listing
        .groups
        .iter()
        .map(|group| (group.name.as_str(), group.members))
        .collect();
    assert_eq!(counts, [(groups[0], 2), (groups[1], 1)]);
    let members: Vec<_> = listed.iter().map(|person| person.is_member).collect();
    assert_eq!(members, [Some(true), Some(true), Some(false)]);

    let error = list_everybody(&okta, &["00g1ero7vZFVEIYLWPB9"])
        .await
        .unwrap_err();
    assert_contains!(error, "no group \"00g1ero7vZFVEIYLWPB9\"");
    let error = list_everybody(&okta, &["Admins"]).await.unwrap_err();
    assert_contains!(error, "several groups \"Admins\"; write the group's id");
}

#[tokio::test]
async fn a_look_up_without_a_result_is_unclear() {
    let okta = people();
    let directory = directory(&okta, &["whatever"]);
    let look = async |id: &str| directory.look_up(id).await;
    let Lookup::Found(eve) = look(EVE).await.unwrap() else {
        panic!("eve exists");
    };
    assert_eq!((eve.reason, eve.is_member), (Some(Reason::Admin), None));
    let lookup = look("ada@example.org").await.unwrap();
    assert!(matches!(lookup, Lookup::Unclear(_)), "{lookup:?}");
    okta.org().is_reader = false;
    let lookup = look(ADA).await.unwrap();
    assert!(matches!(lookup, Lookup::Unclear(_)), "{lookup:?}");
    // A 404 of a proxy.
    okta.org().fault = Some(Box::new(|_| Some(Answer::text(404, "<html>"))));
    assert!(look(ADA).await.is_err());
}

/// The look-up of one person must not fail a listing that has all the others.
#[tokio::test]
async fn a_look_up_without_an_access_token_is_unclear_after_403() {
    let okta = people();
    let directory = directory(&okta, &[]);
    okta.org().fault = Some(Box::new(|request| {
        let body = r#"{"error":"access_denied"}"#;
        (request.path == "/oauth2/v1/token").then(|| Answer::text(403, body))
    }));
    let lookup = directory.look_up(ADA).await.unwrap();
    assert!(matches!(lookup, Lookup::Unclear(_)), "{lookup:?}");
    let error = list_everybody(&okta, &[]).await.unwrap_err();
    assert_contains!(error, "Okta does not grant the app all scopes it asks for");
}

#[rstest]
#[case::token("/oauth2/v1/token")]
#[case::users("/api/v1/users")]
#[tokio::test]
async fn an_outage_is_an_error_with_its_code_and_no_content(#[case] path: &'static str) {
    let okta = people();
    okta.org().fault = Some(Box::new(move |request| {
        let body = r#"{"errorCode":"E0000009","errorSummary":"secret"}"#;
        (request.path == path).then(|| Answer::text(500, body))
    }));
    let error = list_everybody(&okta, &[]).await.unwrap_err();
    assert!(
        error.ends_with("answered 500 Internal Server Error (E0000009)"),
        "{error}"
    );
    assert_lacks!(error, "secret");
}

#[rstest]
#[case::refused(|| Answer::status(403), "/api/v1/users/{login} answered 403")]
#[case::broken(|| Answer::text(200, "ada"), "/api/v1/users/{login} sent an unexpected response")]
#[case::busy(|| Answer::status(429), "/api/v1/users/{login} asks to wait")]
#[tokio::test]
async fn no_error_shows_an_address(#[case] answer: fn() -> Answer, #[case] words: &str) {
    let okta = people();
    okta.org().fault = Some(Box::new(move |request| {
        request.path.starts_with("/api/v1/users/").then(answer)
    }));
    let error = find_person(&okta, "nobody@example.org").await.unwrap_err();
    assert_contains!(error, words);
    assert!(!error.contains("nobody"), "{error}");
}

#[tokio::test]
async fn a_check_reports_what_it_finds() {
    let okta = people();
    okta.org().groups = vec![("00g1".to_owned(), "Developers".to_owned(), vec![])];
    okta.org().scopes = vec!["okta.users.read"];
    let checked = directory(&okta, &[]).check().await.unwrap();
    assert_eq!(checked.summary, "Okta: users can be read");
    okta.org().scopes = vec!["okta.users.read", "okta.groups.read"];
    let checked = directory(&okta, &["Developers"]).check().await.unwrap();
    let expected = "Okta: users can be read, 1 allowed group found";
    assert_eq!(checked.summary, expected);
    assert!(checked.rights.iter().all(|right| right.missing.is_none()));
}

#[tokio::test]
async fn a_check_reports_missing_scopes() {
    let okta = people();
    okta.org().scopes = vec!["okta.users.read"];
    let error = directory(&okta, &["Developers"])
        .check()
        .await
        .unwrap_err()
        .to_string();
    assert_contains!(error, "grant the app okta.groups.read; grant it on");
    okta.org().scopes = vec![];
    let error = directory(&okta, &["Developers"])
        .check()
        .await
        .unwrap_err()
        .to_string();
    assert_contains!(error, "okta.users.read and okta.groups.read;");
    let error = list_everybody(&okta, &[]).await.unwrap_err();
    assert_contains!(error, "tab Okta API Scopes");
}

#[rstest]
#[case::unknown("invalid_client", "check that client_id is that of the service app")]
#[case::proof("invalid_dpop_proof", "Require Demonstrating Proof of Possession")]
#[case::kind("unauthorized_client", "API Services")]
#[tokio::test]
async fn a_check_says_how_to_fix_a_refusal(#[case] code: &'static str, #[case] words: &str) {
    let okta = people();
    okta.org().fault = Some(Box::new(move |request| {
        let body = json!({"error": code, "error_description": "secret"});
        (request.method == "POST").then(|| Answer::text(401, &body.to_string()))
    }));
    let error = directory(&okta, &[]).check().await.unwrap_err().to_string();
    assert_contains!(error, words);
    assert_lacks!(error, "secret");
}

#[tokio::test]
async fn a_key_of_another_app_is_refused() {
    let okta = people();
    let config = Config {
        private_key: include_str!("../data/assertion/ec.jwk").into(),
        key_id: Some("k-rsa".to_owned()),
        ..okta.config()
    };
    let error = config
        .build(&common(&[]))
        .unwrap()
        .check()
        .await
        .unwrap_err()
        .to_string();
    assert_contains!(error, "(invalid_client)");
}
