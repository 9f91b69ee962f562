//! The token service: credentials that lapsed itself issues, who may use and manage them, and the rules for new ones.

mod credential;
mod network;
mod person;
mod problem;
mod request;
mod rights;
mod role;
mod scope;
mod terms;
#[cfg(test)]
mod tests;
mod token_string;
mod verdict;

pub use credential::{Credential, CredentialState, Kind, OldSecret, Parent, StoredSecret};
pub use network::{Networks, parse_network};
pub use person::{ServiceAccount, ServicePerson};
pub use problem::{Problem, ProblemKind};
pub use request::{
    Actor, Lifetime, NewToken, NewUser, Regeneration, RoleChange, TokenChange, UserChange,
};
pub use rights::{Grant, Operation, Subject, who_issues};
pub use role::{Rank, Roles};
pub use scope::{InvalidScope, Scopes};
pub use terms::{KindTerms, LeakKey, MAX_TOKEN_LIMIT, Profile, ScopeInfo, Terms, WhoIssues};
pub use token_string::{Digest, InvalidToken, NewSecret, Presented, PublicId};
pub use verdict::{Access, Refusal, judge, judge_again};
