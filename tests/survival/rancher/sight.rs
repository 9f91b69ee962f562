//! What the token of lapsed sees: everybody's tokens, or its own user's, which Rancher does not tell apart.

use lapsed::domain::{Cell, Status};
use lapsed::sources::rancher::TokenKind;
use lapsed::sources::{Checked, Error, Fetched, Last, Right};
use rstest::rstest;
use serde_json::json;

use super::{OWN, Rancher, State, ext, legacy, user};

/// Only the tokens of the user of lapsed, as a narrow role sees them.
fn alone(state: &mut State) {
    state.legacy.retain(|token| token["userId"] == "u-boss");
    state.ext = Some(vec![ext("token-boss", "u-boss", json!({}))]);
}

async fn is_narrowed(rancher: &Rancher) -> bool {
    match rancher.fetch().await {
        Ok(_) => false,
        Err(Error::Narrowed { mend }) => {
            assert!(
                mend.contains("apiGroups [\"*\"], resources [\"*\"]"),
                "{mend}"
            );
            assert!(matches!(
                rancher.source().check().await,
                Err(Error::Narrowed { .. })
            ));
            true
        }
        Err(error) => panic!("{error}"),
    }
}

#[rstest]
#[case::may_see_all(Some(true), false)]
#[case::may_not(Some(false), true)]
// Where the cluster does not tell, it is proof enough that there are others who could have some.
#[case::who_knows(None, true)]
#[tokio::test]
async fn a_listing_of_ones_own_tokens_alone_is_not_believed_unless_all_may_be_seen(
    #[case] may: Option<bool>,
    #[case] expected: bool,
) {
    let rancher = Rancher::with(|state| {
        alone(state);
        state.may = may;
    });
    assert_eq!(is_narrowed(&rancher).await, expected);
    // What the store of ext tokens itself asks before it shows those of others.
    let question = json!({"verb": "list", "group": "", "resource": "*"});
    assert_eq!(rancher.reviews()[0], question);
}

#[rstest]
#[case::told(Some(true))]
#[case::untold(None)]
#[tokio::test]
async fn where_there_is_nobody_else_ones_own_tokens_are_all(#[case] may: Option<bool>) {
    let rancher = Rancher::with(|state| {
        alone(state);
        state.may = may;
        state.users = vec![
            user("u-boss", json!({})),
            user("u-off", json!({"enabled": false})),
            user("u-sys", json!({"principalIds": ["system://local"]})),
        ];
    });
    assert!(!is_narrowed(&rancher).await);
    assert_eq!(rancher.tokens().await.len(), 2);
}

#[tokio::test]
async fn who_may_not_see_the_users_either_sees_nobody_else() {
    let rancher = Rancher::with(|state| {
        alone(state);
        state.may = None;
        state.hidden.push("/users");
    });
    assert!(is_narrowed(&rancher).await);
}

#[rstest]
#[case::asked(Some(false), false)]
#[case::guessed(None, false)]
#[case::empty(Some(false), true)]
#[tokio::test]
async fn ext_tokens_can_be_narrowed_while_the_legacy_ones_are_not(
    #[case] may: Option<bool>,
    #[case] is_empty: bool,
) {
    let rancher = Rancher::with(|state| {
        state.is_narrow = true;
        state.may = may;
        if !is_empty {
            let own = ext("token-boss", "u-boss", json!({}));
            state.ext.get_or_insert_default().push(own);
        }
    });
    assert!(is_narrowed(&rancher).await);
}

#[tokio::test]
async fn ext_tokens_of_several_users_need_no_proof() {
    let rancher = Rancher::with(|state| {
        state.may = Some(false);
        let own = ext("token-boss", "u-boss", json!({}));
        state.ext.get_or_insert_default().push(own);
    });
    assert!(!is_narrowed(&rancher).await);
}

#[tokio::test]
async fn a_listing_that_lacks_the_token_of_lapsed_itself_is_not_its_own_users_alone() {
    let rancher = Rancher::with(|state| {
        state.legacy.retain(|token| token["userId"] != "u-boss");
        state.may = None;
    });
    assert!(!is_narrowed(&rancher).await);
    rancher.state().may = Some(false);
    assert!(is_narrowed(&rancher).await, "the cluster knows better");
}

#[tokio::test]
async fn an_older_server_that_forbids_what_it_does_not_have_has_no_ext_tokens() {
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
#[case::nobody_knows("dev", false)]
#[tokio::test]
async fn a_store_that_must_be_there_and_is_not_leaves_the_listing_incomplete(
    #[case] version: &'static str,
    #[case] expected: bool,
) {
    let rancher = Rancher::with(|state| {
        state.ext = None;
        state.version = Some(version);
    });
    assert_eq!(rancher.fetch().await.unwrap().is_partial, expected);
    let checked = rancher.source().check().await.unwrap();
    let missing = lacking(&checked);
    assert_eq!(!missing.is_empty(), expected, "{missing:?}");
    assert_eq!(checked.summary.contains("is missing"), expected);
    if let Some(right) = missing.first() {
        let mend = right.missing.as_deref().unwrap_or_default();
        assert!(mend.contains("no token of either store is marked gone"));
    }
}

#[rstest]
#[case("management.cattle.io/v3/tokens")]
#[case("ext.cattle.io/v1/tokens")]
#[tokio::test]
async fn who_may_not_list_tokens_is_told_which_rule_to_add(#[case] hidden: &'static str) {
    let rancher = Rancher::with(|state| state.hidden.push(hidden));
    let error = rancher.refusal().await;
    assert!(
        error.contains("403") && error.contains("GlobalRole"),
        "{error}"
    );
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_told_as_such() {
    let rancher = Rancher::new();
    let source = rancher.source_of(&[], "token-lapsd:wrong");
    let error = source.check().await.unwrap_err().to_string();
    assert!(
        error.contains("does not accept the token") && error.contains("write it as token"),
        "{error}"
    );
}

#[tokio::test]
async fn without_the_users_the_tokens_tell_what_they_can() {
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
    // What was known of it before stays known.
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
async fn a_token_works_only_as_far_as_its_user_and_provider_are_told(
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
    assert_eq!((token.status, token.role), (status.clone(), role));
    // What the token says itself is sure.
    let off = rancher.token("token-off").await;
    assert_eq!(off.status, Cell::Value(Status::Disabled));
    let kubeconfig = rancher.token("kubeconfig-u-ada").await;
    assert_eq!(kubeconfig.role, Cell::Value("kubeconfig".to_owned()));
    // Nobody switches the local provider off.
    let is_local_known = hidden != "/users";
    assert_eq!(kubeconfig.status != Cell::Absent, is_local_known);
}

#[tokio::test]
async fn a_user_past_the_last_look_up_changes_nothing() {
    let rancher = Rancher::with(|state| {
        let many = (0..201).map(|n| legacy(&format!("token-{n:03}"), &format!("u-{n}"), json!({})));
        state.legacy.extend(many);
    });
    let tokens = rancher.tokens().await;
    let untold = tokens.iter().filter(|token| token.status == Cell::Absent);
    let untold: Vec<_> = untold.map(|token| token.external_id.as_str()).collect();
    assert_eq!(untold, ["token-200"]);
}

#[rstest]
#[case::of_rancher_alone(&[TokenKind::System], true)]
#[case::of_both(&[TokenKind::System, TokenKind::ApiKey], false)]
#[case::of_people_alone(&[TokenKind::ApiKey], false)]
#[tokio::test]
async fn tokens_that_may_be_watched_are_not_gone(
    #[case] kinds: &[TokenKind],
    #[case] expected: bool,
) {
    let rancher = Rancher::with(|state| state.hidden.push("/users"));
    let source = rancher.source_of(kinds, OWN);
    match source.fetch(&Last::default()).await.unwrap() {
        Fetched::New(listing) => assert_eq!(listing.is_partial, expected),
        Fetched::Unchanged => panic!("there was nothing before"),
    }
}

fn lacking(checked: &Checked) -> Vec<&Right> {
    let rights = checked.rights.iter();
    rights.filter(|right| right.missing.is_some()).collect()
}

#[tokio::test]
async fn a_check_says_what_the_token_can_see_and_which_rules_to_add() {
    let rancher = Rancher::new();
    let whole = rancher.source().check().await.unwrap();
    assert_eq!(
        whole.summary,
        "Rancher v2.12.1, 2 legacy tokens, 1 ext tokens"
    );
    assert_eq!(whole.rights.len(), 6);
    assert!(lacking(&whole).is_empty(), "{whole:?}");
    {
        let mut state = rancher.state();
        state.hidden = vec!["/users", "/userattributes", "authConfigs", "/v3/settings/"];
        state.may = Some(false);
        state.ext = None;
    }
    let less = rancher.source().check().await.unwrap();
    assert_eq!(
        less.summary,
        "Rancher v2.9.3, 2 legacy tokens, no ext tokens before 2.12"
    );
    let told: Vec<String> = lacking(&less)
        .iter()
        .map(|right| {
            format!(
                "{}: {}",
                right.what,
                right.missing.as_deref().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(told.len(), 5, "{told:#?}");
    assert!(
        told[0].contains("resources [\"users\"], verbs [\"get\", \"list\"]"),
        "{told:#?}"
    );
    assert!(
        told[4].contains("resources [\"tokens\"], verbs [\"delete\"]"),
        "{told:#?}"
    );
}

#[tokio::test]
async fn a_check_reads_one_page_and_counts_the_rest() {
    let rancher = Rancher::with(|state| {
        state.page = 2;
        let many = (0..9).map(|n| legacy(&format!("token-{n}"), "u-boss", json!({})));
        state.legacy.extend(many);
    });
    let checked = rancher.source().check().await.unwrap();
    assert!(
        checked.summary.contains("11 legacy tokens"),
        "{}",
        checked.summary
    );
    rancher.state().is_uncounted = true;
    let checked = rancher.source().check().await.unwrap();
    assert_eq!(
        checked.summary,
        "Rancher v2.12.1, 2 or more legacy tokens, 1 ext tokens"
    );
}
