//! Servers that take less of the API than Okta does: a pull goes another way, and says the same.

use lapsed::directories::Extent;
use lapsed::domain::Person;
use rstest::rstest;

use super::org::{Okta, user};
use super::{ADA, BOB, EVE, described, list, one, people, pull};

/// Somebody whom only everybody tells of.
async fn by_everybody(okta: &Okta, address: &str) -> Vec<Person> {
    let (pulled, told) = pull(okta, &[], &[address.parse().unwrap()]).await.unwrap();
    assert_eq!(pulled.extent, Extent::Everybody);
    told
}

#[tokio::test]
async fn each_question_has_one_clause() {
    let okta = people();
    okta.org().users[0]["profile"]["email"] = "countess@example.org".into();
    for address in ["ada@example.org", "countess@example.org", "no@example.org"] {
        one(&okta, address).await.unwrap();
    }
    let questions: Vec<_> = okta
        .stub
        .asked()
        .iter()
        .filter_map(|asked| asked.query("filter").or(asked.query("search")))
        .map(str::to_owned)
        .collect();
    assert_eq!(questions.len(), 7, "{questions:?}");
    let has_one = |question: &String| question.matches(" eq ").count() == 1;
    assert!(questions.iter().all(has_one), "{questions:?}");
}

#[tokio::test]
async fn where_a_filter_is_refused_everybody_is_read() {
    let okta = people();
    okta.org().refused = vec!["filter"];
    let told = by_everybody(&okta, "ada@example.org").await;
    assert_eq!(
        described(&told),
        [
            format!("{ADA} active None status ACTIVE"),
            format!("{BOB} disabled Some(Suspended) status SUSPENDED"),
        ],
        "deactivated users are not listed, and are looked up by their ids"
    );
    assert_eq!(
        okta.asked(),
        [
            "users filter",
            "users -",
            "users filter",
            "users/ada%40example.org -"
        ],
        "once is enough to know"
    );
}

#[rstest]
#[case::refused(true)]
#[case::ignored(false)]
#[tokio::test]
async fn a_deactivated_person_is_found_by_sign_in_name_where_no_filter_is_taken(
    #[case] is_refused: bool,
) {
    let okta = people();
    if is_refused {
        okta.org().refused = vec!["filter"];
    } else {
        okta.org().ignored = vec!["filter"];
    }
    let told = by_everybody(&okta, "Eve@example.org").await;
    let eve = format!("{EVE} disabled Some(Admin) status DEPROVISIONED");
    assert!(described(&told).contains(&eve), "{told:?}");
}

#[tokio::test]
async fn where_a_filter_is_ignored_everybody_is_read() {
    let okta = people();
    okta.org().ignored = vec!["filter"];
    let told = by_everybody(&okta, "ada@example.org").await;
    assert_eq!(told.len(), 2, "each once");
    let told = by_everybody(&okta, "no@example.org").await;
    assert_eq!(told.len(), 2);
}

#[rstest]
#[case::refused(true)]
#[case::ignored(false)]
#[tokio::test]
async fn where_there_is_no_search_everybody_is_read_for_a_stranger(#[case] is_refused: bool) {
    let okta = people();
    okta.org().users[1]["profile"]["email"] = "Bob.B@example.org".into();
    let ways = vec!["search"];
    if is_refused {
        okta.org().refused = ways;
    } else {
        okta.org().ignored = ways;
    }
    assert_eq!(one(&okta, "ada@example.org").await.unwrap().len(), 1);
    let told = by_everybody(&okta, "no@example.org").await;
    assert_eq!(told.len(), 3);
    let told = by_everybody(&okta, "bob.b@example.org").await;
    let is_bob = |person: &Person| person.id.as_deref() == Some(BOB);
    assert!(told.iter().any(is_bob), "by a mailbox in another spelling");
}

#[tokio::test]
async fn whom_the_first_answers_told_of_is_told_of_once() {
    let okta = people();
    okta.org().refused = vec!["search"];
    let asked = ["eve@example.org", "no@example.org"].map(|it| it.parse().unwrap());
    let (pulled, told) = pull(&okta, &[], &asked).await.unwrap();
    assert_eq!(pulled.extent, Extent::Everybody);
    assert_eq!(told.len(), 3);
    assert_eq!(told[0].id.as_deref(), Some(EVE));
}

#[tokio::test]
async fn a_refused_filter_of_the_deactivated_leaves_the_plain_list() {
    let okta = people();
    okta.org().refused = vec!["filter"];
    let (_, told) = list(&okta, &[]).await.unwrap();
    assert_eq!(told.len(), 2);
    assert_eq!(okta.asked(), ["users -", "users filter"]);
}

#[tokio::test]
async fn a_filter_that_is_refused_on_its_second_page_is_an_error() {
    let okta = Okta::of(vec![
        user(ADA, "ada@example.org", "DEPROVISIONED"),
        user(BOB, "bob@example.org", "DEPROVISIONED"),
    ]);
    okta.org().page = 1;
    okta.org().refused = vec!["after"];
    let error = list(&okta, &[]).await.unwrap_err();
    assert!(error.contains("400 Bad Request (E0000031)"), "{error}");
}

#[tokio::test]
async fn an_app_that_is_refused_is_no_refused_filter() {
    let okta = people();
    okta.org().scopes = vec![];
    let error = one(&okta, "ada@example.org").await.unwrap_err();
    assert!(error.contains("Okta API Scopes"), "{error}");
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
async fn a_group_is_found_by_its_name_in_the_way_that_is_there(
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
    let (pulled, told) = pull(&okta, &["Developers"], &people).await.unwrap();
    assert_eq!(pulled.groups[0].members, 1);
    assert_eq!(told[0].is_member, Some(true));
    let asked = okta.asked();
    let ways: Vec<_> = asked
        .iter()
        .filter(|line| line.starts_with("groups "))
        .collect();
    assert_eq!(ways.last().unwrap().as_str(), last, "{asked:?}");
    // Whatever the way, nobody is taken for a group that is not there.
    let error = pull(&okta, &["Testers"], &people).await.unwrap_err();
    assert!(error.contains("no group \"Testers\""), "{error}");
}

#[tokio::test]
async fn a_group_that_no_path_leads_to_is_found_in_the_list_by_its_id() {
    let okta = people();
    let id = "00g1ero7vZFVEIYLWPB2";
    okta.org().groups = vec![group("00g1", "A", &[]), group(id, "Developers", &[ADA])];
    okta.org().fault = Some(Box::new(move |asked| {
        let is_one = asked.path == format!("/api/v1/groups/{id}");
        is_one.then(|| crate::stub::Answer::status(404))
    }));
    let people = ["ada@example.org".parse().unwrap()];
    let (pulled, _) = pull(&okta, &[id], &people).await.unwrap();
    assert_eq!(
        (pulled.groups[0].name.as_str(), pulled.groups[0].members),
        (id, 1)
    );
    let other = "00g1ero7vZFVEIYLWPB9";
    let error = pull(&okta, &[other], &people).await.unwrap_err();
    assert!(error.contains(&format!("no group \"{other}\"")), "{error}");
}
