//! Ending tokens.

use lapsed::sources::Error;
use lapsed::sources::rancher::TokenKind;
use rstest::rstest;
use serde_json::json;

use super::{Rancher, ext};
use crate::stub::Answer;

async fn revoke(rancher: &Rancher, id: &str) -> Result<(), Error> {
    rancher.source().revoke(id).await
}

#[tokio::test]
async fn a_token_of_either_store_is_deleted_and_verified() {
    let rancher = Rancher::new();
    revoke(&rancher, "token-7x2kq").await.unwrap();
    revoke(&rancher, "ext/token-chjc9").await.unwrap();
    let lines = rancher.take_request_lines();
    let store = "/k8s/clusters/local/apis/management.cattle.io/v3/tokens/token-7x2kq";
    assert_eq!(
        lines[..2],
        [format!("DELETE {store}"), format!("GET {store}")]
    );
    let left = rancher.tokens().await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].external_id, "token-lapsd");
}

#[tokio::test]
async fn lapsed_does_not_delete_its_own_token() {
    let rancher = Rancher::with(|state| {
        // The other store may have a token of the same name.
        state.ext = Some(vec![ext("token-lapsd", "u-ada", json!({}))]);
    });
    assert!(matches!(
        revoke(&rancher, "token-lapsd").await,
        Err(Error::OwnToken)
    ));
    assert!(rancher.take_request_lines().is_empty());
    revoke(&rancher, "ext/token-lapsd").await.unwrap();
    let own = rancher.source_of(&TokenKind::default_kinds(), "ext/token-chjc9:hush-own");
    assert!(matches!(
        own.revoke("ext/token-chjc9").await,
        Err(Error::OwnToken)
    ));
}

#[tokio::test]
async fn an_unknown_token_cannot_be_ended() {
    let rancher = Rancher::new();
    for id in ["token-none", "ext/token-none"] {
        assert!(matches!(
            revoke(&rancher, id).await,
            Err(Error::NoSuchToken(_))
        ));
    }
    rancher.take_request_lines();
    // Such names would lead to another path.
    for id in ["../users/u-ada", "ext/../tokens", "", "a?b", "ext/"] {
        assert!(
            matches!(revoke(&rancher, id).await, Err(Error::NoSuchToken(_))),
            "{id}"
        );
    }
    assert!(rancher.take_request_lines().is_empty());
}

#[tokio::test]
async fn a_token_that_still_exists_is_an_error() {
    let rancher = Rancher::with(|state| state.keeps_deleted = Some(false));
    assert!(matches!(
        revoke(&rancher, "token-7x2kq").await,
        Err(Error::StillThere)
    ));
    rancher.state().keeps_deleted = Some(true);
    rancher.take_request_lines();
    assert!(matches!(
        revoke(&rancher, "token-7x2kq").await,
        Err(Error::StillThere)
    ));
    assert!(
        rancher.take_request_lines().len() > 3,
        "it was being deleted, so it was looked up again"
    );
}

#[rstest]
#[case::broken(|| Answer::status(500))]
#[case::overdue(|| Answer::status(504))]
#[case::a_connection_that_breaks(|| Answer::cut(""))]
#[case::elsewhere(|| Answer::status(302).with("location", "https://evil.example.org/"))]
#[tokio::test]
async fn a_token_that_is_gone_has_ended_whatever_the_answer(#[case] answer: fn() -> Answer) {
    let rancher = Rancher::with(|state| state.delete_answer = Some(answer));
    revoke(&rancher, "token-7x2kq").await.unwrap();
    // If it still exists, the error is that of the answer.
    rancher.state().keeps_deleted = Some(false);
    let error = revoke(&rancher, "ext/token-chjc9").await.unwrap_err();
    assert_contains!(error, "DELETE");
}

#[rstest]
#[case::not_accepted(|| Answer::status(401))]
#[case::not_allowed(|| Answer::status(403))]
#[case::busy(|| Answer::status(429).with("retry-after", "90"))]
#[tokio::test]
async fn a_refusal_is_accepted_without_a_look_up(#[case] answer: fn() -> Answer) {
    let rancher = Rancher::with(|state| state.delete_answer = Some(answer));
    revoke(&rancher, "token-7x2kq").await.unwrap_err();
    assert_eq!(rancher.take_request_lines().len(), 1);
}

#[tokio::test]
async fn a_missing_right_to_delete_names_the_rule_to_add() {
    let rancher = Rancher::with(|state| state.hidden.push("/tokens/token-7x2kq"));
    let error = revoke(&rancher, "token-7x2kq")
        .await
        .unwrap_err()
        .to_string();
    assert_contains!(error, "403", "\"delete\"");
}

#[test]
fn the_page_of_a_token_is_that_of_the_account() {
    let rancher = Rancher::new();
    let page = rancher.source().token_page("ext/token-chjc9").unwrap();
    assert_eq!(page, format!("{}/dashboard/account", rancher.url()));
}
