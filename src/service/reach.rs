//! Which users an actor knows of, and what they may change of them.

use crate::domain::service::{Actor, Problem, ProblemKind, RoleChange, ServicePerson, UserChange};

use super::accounts::shown;

/// Before the user is looked up, so that the answer is the same for known and unknown ones.
pub(super) fn may_add(actor: &Actor, change: &UserChange) -> Result<(), Problem> {
    if !actor.is_super() && change.roles.is_empty() {
        return Err(
            Problem::invalid("/account", "a user needs a role in your account")
                .fix("name the account"),
        );
    }
    may_change(actor, change)
}

/// What only super admins may change.
pub(super) fn may_change_user(
    actor: &Actor,
    person: &ServicePerson,
    change: &UserChange,
) -> Result<(), Problem> {
    may_change(actor, change)?;
    if change.name.is_some() {
        check_reach_everywhere(actor, person)?;
    }
    Ok(())
}

fn may_change(actor: &Actor, change: &UserChange) -> Result<(), Problem> {
    if actor.is_super() {
        return Ok(());
    }
    let is_for_super =
        change.is_super.is_some() || change.is_sso.is_some() || change.owners.is_some();
    if is_for_super {
        return Err(Problem::new(
            ProblemKind::Forbidden,
            "only a super admin may change who is a super admin, signs in by SSO or owns a machine user",
        ));
    }
    let own = actor.administers();
    let is_elsewhere = |change: &RoleChange| Some(change.account().as_str()) != own;
    if change.roles.iter().any(is_elsewhere) {
        return Err(Problem {
            pointer: Some("/account"),
            ..Problem::new(
                ProblemKind::Forbidden,
                "an administrator manages only the people of their own account",
            )
            .fix(format!("name the account {:?}", own.unwrap_or_default()))
        });
    }
    Ok(())
}

/// Only super admins change what holds for somebody in other accounts, too.
pub(super) fn check_reach_everywhere(actor: &Actor, person: &ServicePerson) -> Result<(), Problem> {
    let own = actor.administers();
    let mut accounts = person.roles.keys();
    let is_only_here = !person.is_super && accounts.all(|account| Some(account.as_str()) == own);
    if actor.is_super() || is_only_here {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::Forbidden,
        "this user is also in other accounts, so only a super admin may change them, disable or enable them",
    )
    .fix("take away their role in your account instead"))
}

/// Only super admins bring somebody of another account into a further one: the admins of both could not disable them.
pub(super) fn may_join(actor: &Actor, person: &ServicePerson) -> Result<(), Problem> {
    let is_free = person.roles.is_empty() && !person.is_super;
    if is_free || knows(actor, person) {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::Forbidden,
        "this user is in another account, so only a super admin may add them to yours",
    )
    .fix("ask a super admin to give them a role in your account"))
}

/// An admin knows of the people of their account.
pub(super) fn knows(actor: &Actor, person: &ServicePerson) -> bool {
    let own = actor.administers();
    actor.is_super() || own.is_some_and(|account| person.roles.contains_key(account))
}

/// An admin does not see in which other accounts somebody is.
pub(super) fn visible(actor: &Actor, mut person: ServicePerson) -> ServicePerson {
    if !actor.is_super() {
        let own = actor.administers();
        person
            .roles
            .retain(|account, _| Some(account.as_str()) == own);
    }
    person
}

pub(super) fn no_user(key: &str) -> Problem {
    Problem::new(
        ProblemKind::NotFound,
        format!("there is no user {:?}", shown(key)),
    )
    .fix("`lapsed user list` lists them")
}
