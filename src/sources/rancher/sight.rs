//! Whether a listing shows the tokens of all users. Rancher narrows lists without a word: whoever may not
//! do everything gets his own ext tokens alone.

use super::api::{Api, RULE};
use super::people::People;
use crate::sources::Error;

/// Whose tokens a list has shown.
#[derive(Debug, Default)]
pub struct Tally {
    one: Option<String>,
    is_mixed: bool,
}

impl Tally {
    /// Takes note of a token of this user.
    pub fn add(&mut self, user: &str) {
        match &self.one {
            None => self.one = Some(user.to_owned()),
            Some(one) => self.is_mixed |= one != user,
        }
    }

    /// There are tokens that were not looked at.
    pub fn allow_more(&mut self) {
        self.is_mixed = true;
    }

    /// Whether nobody else than the caller was seen. Where it is not known who that is, anybody may be.
    fn is_of(&self, caller: Option<&str>) -> bool {
        let one = self.one.as_deref();
        !self.is_mixed && one.is_none_or(|one| caller.is_none_or(|caller| caller == one))
    }

    /// Whether the caller was seen, and nobody else.
    fn is_surely_of(&self, caller: Option<&str>) -> bool {
        !self.is_mixed && caller.is_some() && self.one.as_deref() == caller
    }

    /// Whether there is nobody else who could have tokens, as far as anybody may know.
    fn is_alone(&self, people: &People) -> bool {
        let one = self.one.as_deref().unwrap_or_default();
        people.users_told && !people.has_others(one)
    }
}

/// Both lists, as they were seen.
#[derive(Debug, Default)]
pub struct Sight {
    /// Of the tokens of `management.cattle.io`.
    pub legacy: Tally,
    /// Of those of `ext.cattle.io`, where there are such.
    pub ext: Option<Tally>,
    /// The user whose token lapsed has, where it was seen.
    pub caller: Option<String>,
}

impl Sight {
    /// Makes sure that a list that shows the caller alone does so because nobody else has tokens. The
    /// cluster knows whether he may see others; where it does not say, other people count.
    pub async fn is_whole(&self, api: &Api, people: &People) -> Result<(), Error> {
        let caller = self.caller.as_deref();
        if let Some(ext) = &self.ext
            && ext.is_of(caller)
        {
            // The very question that the store of ext tokens asks before it shows those of others.
            let may = api.may("list", "", "*").await?;
            let seems = || self.legacy.is_mixed || !ext.is_alone(people);
            may_see(may, ext.is_surely_of(caller) && seems())?;
        }
        if self.legacy.one.is_some() && self.legacy.is_of(caller) {
            let may = api.may("list", "management.cattle.io", "tokens").await?;
            let legacy = &self.legacy;
            may_see(may, legacy.is_surely_of(caller) && !legacy.is_alone(people))?;
        }
        Ok(())
    }
}

/// What the cluster says counts; without its word, what it looks like.
fn may_see(may: Option<bool>, seems_narrow: bool) -> Result<(), Error> {
    if may.unwrap_or(!seems_narrow) {
        Ok(())
    } else {
        Err(narrowed())
    }
}

/// The error of a listing that shows the caller's tokens alone.
fn narrowed() -> Error {
    Error::Narrowed {
        mend: RULE.to_owned(),
    }
}
