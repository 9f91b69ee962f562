//! Servers that support less of the API than Okta: listings use other requests, with the same result.

use lapsed::directories::Extent;
use lapsed::domain::Person;
use rstest::rstest;

use super::org::{Okta, user};
use super::{ADA, BOB, EVE, describe, find_person, list_everybody, list_people, people};

/// The full listing that a query for one person falls back to.
async fn find_in_full_list(okta: &Okta, address: &str) -> Vec<Person> {
    let (listing, listed) = list_people(okta, &[], &[address.parse().unwrap()])
        .await
        .unwrap();
    assert_eq!(listing.extent, Extent::Everybody);
    listed
}

#[tokio::test]
async fn each_query_has_one_clause() {
    let okta = people();
    okta.org().users[0]["profile"]["email"] = "countess@example.org".into();
    for address in ["ada@example.org", "countess@example.org", "no@example.org"] {
        find_person(&okta, address).await.unwrap();
    }
    let queries: Vec<_> = okta
        .stub
        .requests()
        .iter()
        .filter_map(|request| request.query("filter").or(request.query("search")))
        .map(str::to_owned)
        .collect();
    assert_eq!(queries.len(), 7, "{queries:?}");
    let has_one = |query: &String| query.matches(" eq ").count() == 1;
    assert!(queries.iter().all(has_one), "{queries:?}");
}

#[tokio::test]
async fn a_refused_filter_leads_to_a_full_listing() {
    let okta = people();
    okta.org().refused = vec!["filter"];
    let listed = find_in_full_list(&okta, "ada@example.org").await;
    assert_eq!(
        describe(&listed),
        [
            format!("{ADA} active None status ACTIVE"),
            format!("{BOB} disabled Some(Suspended) status SUSPENDED"),
        ],
        "deactivated users are not listed, and are looked up by their ids"
    );
    let expected = [
        "users filter",
        "users -",
        "users filter",
        "users/ada%40example.org -",
    ];
    assert_eq!(okta.requests(), expected, "the filter is tried once");
}

#[rstest]
#[case::refused(true)]
#[case::ignored(false)]
#[tokio::test]
async fn without_filters_a_deactivated_person_is_found_by_sign_in_name(#[case] is_refused: bool) {
    let okta = people();
    if is_refused {
        okta.org().refused = vec!["filter"];
    } else {
        okta.org().ignored = vec!["filter"];
    }
    let listed = find_in_full_list(&okta, "Eve@example.org").await;
    let eve = format!("{EVE} disabled Some(Admin) status DEPROVISIONED");
    assert!(describe(&listed).contains(&eve), "{listed:?}");
}

#[tokio::test]
async fn an_ignored_filter_leads_to_a_full_listing() {
    let okta = people();
    okta.org().ignored = vec!["filter"];
    let listed = find_in_full_list(&okta, "ada@example.org").await;
    assert_eq!(listed.len(), 2, "each once");
    let listed = find_in_full_list(&okta, "no@example.org").await;
    assert_eq!(listed.len(), 2);
}

#[rstest]
#[case::refused(true)]
#[case::ignored(false)]
#[tokio::test]
async fn without_search_a_stranger_leads_to_a_full_listing(#[case] is_refused: bool) {
    let okta = people();
    okta.org().users[1]["profile"]["email"] = "Bob.B@example.org".into();
    let unsupported = vec!["search"];
    if is_refused {
        okta.org().refused = unsupported;
    } else {
        okta.org().ignored = unsupported;
    }
    assert_eq!(
        find_person(&okta, "ada@example.org").await.unwrap().len(),
        1
    );
    let listed = find_in_full_list(&okta, "no@example.org").await;
    assert_eq!(listed.len(), 3);
    let listed = find_in_full_list(&okta, "bob.b@example.org").await;
    let is_bob = |person: &Person| person.id.as_deref() == Some(BOB);
    assert!(
        listed.iter().any(is_bob),
        "by a mailbox in another spelling"
    );
}

#[tokio::test]
async fn people_found_before_the_full_listing_are_listed_once() {
    let okta = people();
    okta.org().refused = vec!["search"];
    let wanted = ["eve@example.org", "no@example.org"].map(|it| it.parse().unwrap());
    let (listing, listed) = list_people(&okta, &[], &wanted).await.unwrap();
    assert_eq!(listing.extent, Extent::Everybody);
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[0].id.as_deref(), Some(EVE));
}

#[tokio::test]
async fn a_refused_filter_leaves_the_list_without_deactivated_users() {
    let okta = people();
    okta.org().refused = vec!["filter"];
    let (_, listed) = list_everybody(&okta, &[]).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(okta.requests(), ["users -", "users filter"]);
}

#[tokio::test]
async fn a_filter_refused_on_its_second_page_is_an_error() {
    let okta = Okta::with_users(vec![
        user(ADA, "ada@example.org", "DEPROVISIONED"),
        user(BOB, "bob@example.org", "DEPROVISIONED"),
    ]);
    okta.org().page = 1;
    okta.org().refused = vec!["after"];
    let error = list_everybody(&okta, &[]).await.unwrap_err();
    assert_contains!(error, "400 Bad Request (E0000031)");
}

#[tokio::test]
async fn a_refused_app_is_not_a_refused_filter() {
    let okta = people();
    okta.org().scopes = vec![];
    let error = find_person(&okta, "ada@example.org").await.unwrap_err();
    assert_contains!(error, "Okta API Scopes");
}

fn group(id: &str, name: &str, members: &[&str]) -> (String, String, Vec<String>) {
    let members = members.iter().map(ToString::to_string).collect();
    (id.to_owned(), name.to_owned(), members)
}

#[rstest]
#[case::search(vec![], vec![], "groups search")]
#[case::start(vec!["search"], vec![], "groups q")]
#[case::all(vec!["search", "q"], vec![], "groups -")]
#[case::start_ignored(vec!["search"], vec!["q"], "groups q")]
#[case::search_ignored(vec![], vec!["search"], "groups search")]
#[tokio::test]
async fn a_group_is_found_by_name_with_any_supported_query(
    #[case] refused: Vec<&'static str>,
    #[case] ignored: Vec<&'static str>,
    #[case] last: &str,
) {
    let okta = people();
    okta.org().groups = vec![
        group("00g1ero7vZFVEIYLWPB1", "Developers at home", &[EVE]),
        group("00g1ero7vZFVEIYLWPB2", "Developers", &[ADA]),
        group("00g1ero7vZFVEIYLWPB3", "developers", &[BOB]),
    ];
    okta.org().refused = refused;
    okta.org().ignored = ignored;
    let people = ["ada@example.org".parse().unwrap()];
    let (listing, listed) = list_people(&okta, &["Developers"], &people).await.unwrap();
    assert_eq!(listing.groups[0].members, 1);
    assert_eq!(listed[0].is_member, Some(true));
    let requests = okta.requests();
    let group_requests: Vec<_> = requests
        .iter()
        .filter(|line| line.starts_with("groups "))
        .collect();
    assert_eq!(
        group_requests.last().unwrap().as_str(),
        last,
        "{requests:?}"
    );
    // A missing group is an error in any case.
    let error = list_people(&okta, &["Testers"], &people).await.unwrap_err();
    assert_contains!(error, "no group \"Testers\"");
}

#[tokio::test]
async fn a_group_that_has_no_path_is_found_in_the_list_by_id() {
    let okta = people();
    let id = "00g1ero7vZFVEIYLWPB2";
    okta.org().groups = vec![group("00g1", "A", &[]), group(id, "Developers", &[ADA])];
    okta.org().fault = Some(Box::new(move |request| {
        let is_one = request.path == format!("/api/v1/groups/{id}");
        is_one.then(|| crate::stub::Answer::status(404))
    }));
    let people = ["ada@example.org".parse().unwrap()];
    let (listing, _) = list_people(&okta, &[id], &people).await.unwrap();
    assert_eq!(
        (listing.groups[0].name.as_str(), listing.groups[0].members),
        (id, 1)
    );
    let other = "00g1ero7vZFVEIYLWPB9";
    let error = list_people(&okta, &[other], &people).await.unwrap_err();
    assert_contains!(error, format!("no group \"{other}\""));
}
