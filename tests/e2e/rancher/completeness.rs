//! Whether a listing has the tokens of all users or only those of lapsed's own user.

use lapsed::domain::{Cell, Status};
use lapsed::sources::rancher::TokenKind;
use lapsed::sources::{Error, Fetched, LastListing};
use rstest::rstest;
use serde_json::json;

use super::{OWN, Rancher, State, ext, legacy, user};
use crate::listed::missing;

/// Keeps only the tokens of lapsed's own user.
fn keep_own_tokens(state: &mut State) {
    state.legacy.retain(|token| token["userId"] == "u-boss");
    state.ext = Some(vec![ext("token-boss", "u-boss", json!({}))]);
}

async fn is_refused(rancher: &Rancher) -> bool {
    match rancher.fetch().await {
        Ok(_) => false,
        Err(Error::OwnTokensOnly { fix }) => {
            assert_contains!(fix, "apiGroups [\"*\"], resources [\"*\"]");
            assert!(matches!(
                rancher.source().check().await,
                Err(Error::OwnTokensOnly { .. })
            ));
            true
        }
        Err(error) => panic!("{error}"),
    }
}

#[rstest]
#[case::may_see_all(Some(true), false)]
#[case::may_not(Some(false), true)]
// If the cluster does not answer, the existence of other users decides.
#[case::unknown(None, true)]
#[tokio::test]
async fn a_listing_of_own_tokens_is_refused_unless_all_may_be_listed(
    #[case] allowed: Option<bool>,
    #[case] expected: bool,
) {
    let rancher = Rancher::with(|state| {
        keep_own_tokens(state);
        state.allowed = allowed;
    });
    assert_eq!(is_refused(&rancher).await, expected);
    // The store of ext tokens checks the same before it lists those of other users.
    let question = json!({"verb": "list", "group": "", "resource": "*"});
    assert_eq!(rancher.reviews()[0], question);
}

#[rstest]
#[case::known(Some(true))]
#[case::unknown(None)]
#[tokio::test]
async fn without_other_users_the_own_tokens_are_complete(#[case] allowed: Option<bool>) {
    let rancher = Rancher::with(|state| {
        keep_own_tokens(state);
        state.allowed = allowed;
        state.users = vec![
            user("u-boss", json!({})),
            user("u-off", json!({"enabled": false})),
            user("u-sys", json!({"principalIds": ["system://local"]})),
        ];
    });
    assert!(!is_refused(&rancher).await);
    assert_eq!(rancher.tokens().await.len(), 2);
}

#[tokio::test]
async fn without_the_right_to_list_users_own_tokens_are_refused() {
    let rancher = Rancher::with(|state| {
        keep_own_tokens(state);
        state.allowed = None;
        state.hidden.push("/users");
    });
    assert!(is_refused(&rancher).await);
}

#[rstest]
#[case::requests(Some(false), false)]
#[case::guessed(None, false)]
#[case::empty(Some(false), true)]
#[tokio::test]
async fn ext_tokens_can_be_incomplete_while_legacy_tokens_are_complete(
    #[case] allowed: Option<bool>,
    #[case] is_empty: bool,
) {
    let rancher = Rancher::with(|state| {
        state.is_narrow = true;
        state.allowed = allowed;
        if !is_empty {
            let own = ext("token-boss", "u-boss", json!({}));
            state.ext.get_or_insert_default().push(own);
        }
    });
    assert!(is_refused(&rancher).await);
}

#[tokio::test]
async fn ext_tokens_of_several_users_need_no_proof() {
    let rancher = Rancher::with(|state| {
        state.allowed = Some(false);
        let own = ext("token-boss", "u-boss", json!({}));
        state.ext.get_or_insert_default().push(own);
    });
    assert!(!is_refused(&rancher).await);
}

#[tokio::test]
async fn a_listing_without_the_own_token_is_complete_unless_denied() {
    let rancher = Rancher::with(|state| {
        state.legacy.retain(|token| token["userId"] != "u-boss");
        state.allowed = None;
    });
    assert!(!is_refused(&rancher).await);
    rancher.state().allowed = Some(false);
    assert!(is_refused(&rancher).await, "the cluster denies it");
}

#[tokio::test]
async fn an_older_server_may_answer_403_for_ext_tokens() {
    let rancher = Rancher::with(|state| {
        state.ext = None;
        state.hidden.push("ext.cattle.io/v1/tokens");
    });
    assert_eq!(rancher.tokens().await.len(), 2);
    let checked = rancher.source().check().await.unwrap();
    assert!(
        checked.summary.ends_with("no ext tokens before 2.12"),
        "{}",
        checked.summary
    );
}

#[rstest]
#[case::has_ext_tokens("v2.12.1", true)]
#[case::has_none("v2.11.4", false)]
#[case::unknown("dev", false)]
#[tokio::test]
async fn a_missing_store_leaves_the_listing_partial(
    #[case] version: &'static str,
    #[case] expected: bool,
) {
    let rancher = Rancher::with(|state| {
        state.ext = None;
        state.version = Some(version);
    });
    assert_eq!(rancher.fetch().await.unwrap().is_partial, expected);
    let checked = rancher.source().check().await.unwrap();
    let missing = missing(&checked);
    assert_eq!(!missing.is_empty(), expected, "{missing:?}");
    assert_eq!(checked.summary.contains("is missing"), expected);
    if let Some(right) = missing.first() {
        assert_contains!(right, "no token of either store is marked gone");
    }
}

#[rstest]
#[case("management.cattle.io/v3/tokens")]
#[case("ext.cattle.io/v1/tokens")]
#[tokio::test]
async fn a_missing_right_to_list_names_the_rule_to_add(#[case] hidden: &'static str) {
    let rancher = Rancher::with(|state| state.hidden.push(hidden));
    let error = rancher.fetch_error().await;
    assert_contains!(error, "403", "GlobalRole");
}

#[tokio::test]
async fn a_refused_token_is_reported() {
    let rancher = Rancher::new();
    let source = rancher.source_of(&[], "token-lapsd:wrong");
    let error = source.check().await.unwrap_err().to_string();
    assert_contains!(error, "does not accept the token", "write it as token");
}

#[tokio::test]
async fn without_users_the_fields_of_the_tokens_are_used() {
    let rancher = Rancher::with(|state| {
        state
            .legacy
            .push(legacy("token-x", "u-gone", json!({"userPrincipal": null})));
        state.hidden = vec!["/users", "/userattributes", "authConfigs"];
    });
    let token = rancher.token("token-7x2kq").await;
    assert_eq!(
        token.issuer,
        Cell::Value("ada@example.org".parse().unwrap())
    );
    assert_eq!(token.issuer_gone, Cell::Absent);
    // Known values are kept.
    let token = rancher.token("token-x").await;
    assert_eq!(
        (token.issuer, token.issuer_name),
        (Cell::Absent, Cell::Absent)
    );
    assert_eq!(token.issuer_gone, Cell::Absent);
}

#[rstest]
#[case::users("/users", Cell::Absent, Cell::Absent)]
#[case::providers("authConfigs", Cell::Absent, Cell::Value("api_key".to_owned()))]
#[case::neither_matters("/userattributes", Cell::Value(Status::Active), Cell::Value("api_key".to_owned()))]
#[tokio::test]
async fn a_token_is_active_only_if_its_user_and_provider_are_known(
    #[case] hidden: &'static str,
    #[case] status: Cell<Status>,
    #[case] role: Cell<String>,
) {
    let rancher = Rancher::with(|state| {
        state.hidden.push(hidden);
        let off = legacy("token-off", "u-ada", json!({"enabled": false}));
        let kubeconfig = json!({"authProvider": "local"});
        let kubeconfig = legacy("kubeconfig-u-ada", "u-ada", kubeconfig);
        state.legacy.extend([off, kubeconfig]);
    });
    let token = rancher.token("token-7x2kq").await;
    assert_eq!((token.status, token.role), (status, role));
    // The token's own fields are reliable.
    let off = rancher.token("token-off").await;
    assert_eq!(off.status, Cell::Value(Status::Disabled));
    let kubeconfig = rancher.token("kubeconfig-u-ada").await;
    assert_eq!(kubeconfig.role, Cell::Value("kubeconfig".to_owned()));
    // The local provider cannot be disabled.
    let is_local_known = hidden != "/users";
    assert_eq!(kubeconfig.status != Cell::Absent, is_local_known);
}

#[tokio::test]
async fn a_user_beyond_the_look_up_limit_is_unknown() {
    let rancher = Rancher::with(|state| {
        let many = (0..201).map(|n| legacy(&format!("token-{n:03}"), &format!("u-{n}"), json!({})));
        state.legacy.extend(many);
    });
    let tokens = rancher.tokens().await;
    let unknown = tokens.iter().filter(|token| token.status == Cell::Absent);
    let unknown: Vec<_> = unknown.map(|token| token.external_id.as_str()).collect();
    assert_eq!(unknown, ["token-200"]);
}

#[rstest]
#[case::of_rancher_alone(&[TokenKind::System], true)]
#[case::of_both(&[TokenKind::System, TokenKind::ApiKey], false)]
#[case::of_people_alone(&[TokenKind::ApiKey], false)]
#[tokio::test]
async fn a_listing_that_may_lack_watched_tokens_is_partial(
    #[case] kinds: &[TokenKind],
    #[case] expected: bool,
) {
    let rancher = Rancher::with(|state| state.hidden.push("/users"));
    let source = rancher.source_of(kinds, OWN);
    match source.fetch(&LastListing::default()).await.unwrap() {
        Fetched::New(listing) => assert_eq!(listing.is_partial, expected),
        Fetched::Unchanged => panic!("there was nothing before"),
    }
}

#[tokio::test]
async fn a_check_reports_the_rights_and_the_rules_to_add() {
    let rancher = Rancher::new();
    let whole = rancher.source().check().await.unwrap();
    let expected = "Rancher v2.12.1, 2 legacy tokens, 1 ext tokens";
    assert_eq!(whole.summary, expected);
    assert_eq!(whole.rights.len(), 6);
    assert!(missing(&whole).is_empty(), "{whole:?}");
    {
        let mut state = rancher.state();
        state.hidden = vec!["/users", "/userattributes", "authConfigs", "/v3/settings/"];
        state.allowed = Some(false);
        state.ext = None;
    }
    let less = rancher.source().check().await.unwrap();
    let expected = "Rancher v2.9.3, 2 legacy tokens, no ext tokens before 2.12";
    assert_eq!(less.summary, expected);
    let missing = missing(&less);
    assert_eq!(missing.len(), 5, "{missing:#?}");
    assert_contains!(
        missing[0],
        "resources [\"users\"], verbs [\"get\", \"list\"]"
    );
    assert_contains!(missing[4], "resources [\"tokens\"], verbs [\"delete\"]");
}

#[tokio::test]
async fn a_check_reads_one_page_and_counts_the_others() {
    let rancher = Rancher::with(|state| {
        state.page = 2;
        let many = (0..9).map(|n| legacy(&format!("token-{n}"), "u-boss", json!({})));
        state.legacy.extend(many);
    });
    let checked = rancher.source().check().await.unwrap();
    assert_contains!(checked.summary, "11 legacy tokens");
    rancher.state().is_uncounted = true;
    let checked = rancher.source().check().await.unwrap();
    let expected = "Rancher v2.12.1, 2 or more legacy tokens, 1 ext tokens";
    assert_eq!(checked.summary, expected);
}
