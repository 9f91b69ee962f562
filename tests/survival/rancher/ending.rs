//! The end of a token through lapsed.

use lapsed::sources::Error;
use lapsed::sources::rancher::TokenKind;
use rstest::rstest;
use serde_json::json;

use super::{Rancher, ext};
use crate::stub::Answer;

async fn end(rancher: &Rancher, id: &str) -> Result<(), Error> {
    rancher.source().revoke(id).await
}

#[tokio::test]
async fn a_token_of_either_store_is_deleted_and_looked_for() {
    let rancher = Rancher::new();
    end(&rancher, "token-7x2kq").await.unwrap();
    end(&rancher, "ext/token-chjc9").await.unwrap();
    let lines = rancher.take_lines();
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
async fn lapsed_does_not_saw_off_its_own_branch() {
    let rancher = Rancher::with(|state| {
        // Another store may have one of the same name.
        state.ext = Some(vec![ext("token-lapsd", "u-ada", json!({}))]);
    });
    assert!(matches!(
        end(&rancher, "token-lapsd").await,
        Err(Error::OwnToken)
    ));
    assert!(rancher.take_lines().is_empty());
    end(&rancher, "ext/token-lapsd").await.unwrap();
    let own = rancher.source_of(&TokenKind::watched(), "ext/token-chjc9:hush-own");
    assert!(matches!(
        own.revoke("ext/token-chjc9").await,
        Err(Error::OwnToken)
    ));
}

#[tokio::test]
async fn what_is_not_there_cannot_be_ended() {
    let rancher = Rancher::new();
    for id in ["token-none", "ext/token-none"] {
        assert!(matches!(
            end(&rancher, id).await,
            Err(Error::NoSuchToken(_))
        ));
    }
    rancher.take_lines();
    // Such a name would lead elsewhere.
    for id in ["../users/u-ada", "ext/../tokens", "", "a?b", "ext/"] {
        assert!(
            matches!(end(&rancher, id).await, Err(Error::NoSuchToken(_))),
            "{id}"
        );
    }
    assert!(rancher.take_lines().is_empty());
}

#[tokio::test]
async fn a_token_that_stays_is_told() {
    let rancher = Rancher::with(|state| state.holds_on = Some(false));
    assert!(matches!(
        end(&rancher, "token-7x2kq").await,
        Err(Error::StillThere)
    ));
    rancher.state().holds_on = Some(true);
    rancher.take_lines();
    assert!(matches!(
        end(&rancher, "token-7x2kq").await,
        Err(Error::StillThere)
    ));
    assert!(
        rancher.take_lines().len() > 3,
        "it was being deleted, so it was looked for again"
    );
}

#[rstest]
#[case::broken(|| Answer::status(500))]
#[case::overdue(|| Answer::status(504))]
#[case::a_connection_that_breaks(|| Answer::cut(""))]
#[case::elsewhere(|| Answer::status(302).with("location", "https://evil.example.org/"))]
#[tokio::test]
async fn a_token_that_is_gone_has_ended_whatever_was_answered(#[case] regret: fn() -> Answer) {
    let rancher = Rancher::with(|state| state.regrets = Some(regret));
    end(&rancher, "token-7x2kq").await.unwrap();
    // Where it is there still, the answer says why.
    rancher.state().holds_on = Some(false);
    let error = end(&rancher, "ext/token-chjc9").await.unwrap_err();
    assert!(error.to_string().contains("DELETE"), "{error}");
}

#[rstest]
#[case::not_accepted(|| Answer::status(401))]
#[case::not_allowed(|| Answer::status(403))]
#[case::busy(|| Answer::status(429).with("retry-after", "90"))]
#[tokio::test]
async fn a_refusal_is_believed_without_a_look(#[case] regret: fn() -> Answer) {
    let rancher = Rancher::with(|state| state.regrets = Some(regret));
    end(&rancher, "token-7x2kq").await.unwrap_err();
    assert_eq!(rancher.take_lines().len(), 1);
}

#[tokio::test]
async fn who_may_not_delete_is_told_which_rule_to_add() {
    let rancher = Rancher::with(|state| state.hidden.push("/tokens/token-7x2kq"));
    let error = end(&rancher, "token-7x2kq").await.unwrap_err().to_string();
    assert!(
        error.contains("403") && error.contains("\"delete\""),
        "{error}"
    );
}

#[test]
fn people_see_to_their_tokens_on_the_page_of_their_account() {
    let rancher = Rancher::new();
    let page = rancher.source().page_of("ext/token-chjc9").unwrap();
    assert_eq!(page, format!("{}/dashboard/account", rancher.url()));
}
