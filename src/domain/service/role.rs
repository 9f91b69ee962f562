//! The roles that the operator configures, in order.

/// The roles, highest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(Vec<String>);

/// The position of a role: the highest is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(usize);

impl Rank {
    pub const HIGHEST: Self = Self(0);

    /// The lower of two roles.
    pub fn and(self, other: Self) -> Self {
        self.max(other)
    }

    pub fn is_highest(self) -> bool {
        self == Self::HIGHEST
    }

    /// Whether whoever has this role may give the other.
    pub fn may_give(self, other: Self) -> bool {
        self <= other
    }
}

impl Roles {
    /// At least one, without duplicates.
    pub fn new(roles: Vec<String>) -> Self {
        Self(roles)
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// `None` for a role that is not configured.
    pub fn rank(&self, role: &str) -> Option<Rank> {
        self.0.iter().position(|known| known == role).map(Rank)
    }

    /// A role that is no longer configured counts as the lowest.
    pub fn rank_or_lowest(&self, role: &str) -> Rank {
        self.rank(role).unwrap_or(self.lowest())
    }

    pub fn lowest(&self) -> Rank {
        Rank(self.0.len().saturating_sub(1))
    }

    pub fn name(&self, rank: Rank) -> &str {
        self.0.get(rank.0).map_or("", String::as_str)
    }
}
