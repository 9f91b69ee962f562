//! The order of roles.

use crate::domain::service::{Rank, Roles};

fn roles() -> Roles {
    Roles::new(
        ["administrator", "user", "viewer"]
            .map(str::to_owned)
            .to_vec(),
    )
}

#[test]
fn roles_are_ordered_as_they_are_configured() {
    let roles = roles();
    let ranks: Vec<Rank> = roles.iter().filter_map(|name| roles.rank(name)).collect();
    let [administrator, user, viewer] = ranks[..] else {
        panic!("{ranks:?}");
    };
    assert!(administrator.is_highest() && !user.is_highest() && viewer == roles.lowest());
    for (giver, given, expected) in [
        (administrator, administrator, true),
        (administrator, viewer, true),
        (user, administrator, false),
        (user, user, true),
        (viewer, user, false),
    ] {
        assert_eq!(giver.may_give(given), expected, "{giver:?} {given:?}");
        let lower = giver.and(given);
        assert_eq!(lower, given.and(giver));
        assert!(giver.may_give(lower) && given.may_give(lower));
    }
    assert_eq!(roles.name(user), "user");
}

#[test]
fn a_role_that_is_no_longer_configured_counts_as_the_lowest() {
    let roles = roles();
    assert_eq!(roles.rank("engineer"), None);
    assert_eq!(roles.rank("Administrator"), None);
    assert_eq!(roles.rank_or_lowest("engineer"), roles.lowest());
    assert_eq!(roles.name(roles.rank_or_lowest("engineer")), "viewer");
}

#[test]
fn the_only_role_is_the_highest_and_the_lowest() {
    let roles = Roles::new(vec!["owner".to_owned()]);
    assert!(roles.lowest().is_highest());
}
