//! Who may do what: one table of operations, and how a caller relates to what they ask for.

use super::{Access, Actor, Kind, Networks, Problem, ProblemKind, Rank, Scopes, WhoIssues};

/// What a caller asks to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    ReadToken,
    ReadTokens,
    IssueToken,
    RegenerateToken,
    UpdateToken,
    DisableToken,
    EnableToken,
    DeleteToken,
    ReadNotices,
    ReadUsers,
    WriteUsers,
    ReadPreferences,
    WritePreferences,
    ReadFindings,
    WriteFindings,
    ReadForecast,
    ReadAudit,
    /// Accounts, the policy, sources and directories.
    ReadService,
    WriteService,
}

/// Whose request is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Whoever owns the subject, the admins of its account, and super admins.
    Owner,
    Admin,
    Super,
}

struct Rule {
    /// What a token with scopes needs.
    scope: &'static str,
    reach: Reach,
    /// Whether an access token may do it.
    is_for_access_tokens: bool,
}

const REGENERATE_SELF: &str = "token:regenerate-self";

impl Operation {
    /// The table.
    fn rule(self) -> Rule {
        use Reach::{Admin, Owner, Super};
        let (scope, reach, is_for_access_tokens) = match self {
            Self::ReadToken | Self::ReadTokens | Self::ReadNotices | Self::ReadForecast => {
                ("token:read", Owner, true)
            }
            Self::IssueToken | Self::UpdateToken | Self::EnableToken => {
                ("token:write", Owner, false)
            }
            Self::RegenerateToken => (REGENERATE_SELF, Owner, false),
            Self::DisableToken | Self::DeleteToken => ("token:write", Owner, true),
            Self::ReadUsers => ("user:read", Admin, true),
            Self::WriteUsers => ("user:write", Admin, true),
            Self::ReadPreferences => ("user:read", Owner, true),
            Self::WritePreferences => ("user:write", Owner, true),
            Self::ReadFindings => ("finding:read", Owner, true),
            Self::WriteFindings => ("finding:write", Admin, true),
            Self::ReadAudit => ("audit:read", Admin, true),
            Self::ReadService => ("audit:read", Super, true),
            Self::WriteService => ("user:write", Super, true),
        };
        Rule {
            scope,
            reach,
            is_for_access_tokens,
        }
    }
}

/// A token, as far as rights depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The keys of those who own it.
    pub owners: Vec<String>,
    /// The key of its account.
    pub account: Option<String>,
    /// Whether it is a token of the service; only these are kept apart by account for their own owner.
    pub is_local: bool,
    /// Whether the caller asks with this token itself.
    pub is_self: bool,
}

impl Actor {
    /// The name for the audit trail.
    pub fn name(&self) -> &str {
        match self {
            Self::Operator(name) => name,
            Self::Caller(access) => &access.person.key,
        }
    }

    pub fn is_super(&self) -> bool {
        match self {
            Self::Operator(_) => true,
            Self::Caller(access) => access.is_super,
        }
    }

    /// The account whose admin they are.
    pub fn administers(&self) -> Option<&str> {
        match self {
            Self::Operator(_) => None,
            Self::Caller(access) => access.administers(),
        }
    }

    /// Whether they manage it as an operator or an administrator.
    pub fn manages(&self, subject: &Subject) -> bool {
        match self {
            Self::Operator(_) => true,
            Self::Caller(access) => access.manages(subject),
        }
    }

    /// Whether nothing about their person is kept from them.
    pub fn speaks_for_person(&self) -> bool {
        match self {
            Self::Operator(_) => true,
            Self::Caller(access) => access.speaks_for_person(),
        }
    }

    /// Whether it is their own.
    pub fn owns(&self, subject: &Subject) -> bool {
        match self {
            Self::Operator(_) => false,
            Self::Caller(access) => subject.owners.contains(&access.person.key),
        }
    }

    /// Whether they may know of it, whatever the scopes of their credential.
    pub fn sees(&self, subject: &Subject, issuers: WhoIssues) -> bool {
        match self {
            Self::Operator(_) => true,
            Self::Caller(access) => access.sees(subject, issuers),
        }
    }

    /// Checks what does not depend on a subject: scopes, the kind of the credential, and whether they are an admin at
    /// all.
    ///
    /// # Errors
    /// Says what the caller lacks; `NotFound` for what only super admins may know of.
    pub fn may(&self, operation: Operation) -> Result<(), Problem> {
        let Self::Caller(access) = self else {
            return Ok(());
        };
        let rule = operation.rule();
        match rule.reach {
            Reach::Super if !access.is_super => return Err(Problem::unknown()),
            Reach::Admin if !access.is_super && access.administers().is_none() => {
                return Err(Problem::new(
                    ProblemKind::Forbidden,
                    "only an administrator of the account may do this",
                )
                .fix("ask an administrator, or use a token of one"));
            }
            Reach::Owner | Reach::Admin | Reach::Super => {}
        }
        if !rule.is_for_access_tokens && access.credential.kind == Kind::Access {
            return Err(Problem::new(
                ProblemKind::Forbidden,
                "an access token cannot issue, regenerate, update or enable tokens",
            )
            .fix("use the token that it was exchanged for"));
        }
        if !access.allows(operation, rule.scope) {
            return Err(Problem {
                scope: Some(rule.scope),
                ..Problem::new(
                    ProblemKind::Forbidden,
                    format!("the token lacks the scope {}", rule.scope),
                )
                .fix(format!(
                    "use a token with {}, or without scopes",
                    rule.scope
                ))
            });
        }
        Ok(())
    }

    /// Checks that they may do this with a token.
    ///
    /// # Errors
    /// `NotFound` if they may not know of it, else `Forbidden`.
    pub fn may_with(
        &self,
        operation: Operation,
        subject: &Subject,
        issuers: WhoIssues,
    ) -> Result<(), Problem> {
        let Self::Caller(access) = self else {
            return Ok(());
        };
        let is_read = operation == Operation::ReadToken;
        let reads_itself =
            is_read && subject.is_self && access.credential.scopes.allows(REGENERATE_SELF);
        if !reads_itself {
            self.may(operation)?;
        }
        if !access.sees(subject, issuers) {
            return Err(Problem::unknown());
        }
        let is_regeneration = operation == Operation::RegenerateToken;
        if is_regeneration && !access.credential.scopes.is_unlimited() && !subject.is_self {
            return Err(Problem::new(
                ProblemKind::Forbidden,
                "a token with scopes regenerates only itself",
            )
            .fix("use a token without scopes"));
        }
        // Whoever has a token sees it.
        if !is_read && issuers == WhoIssues::Super && subject.is_local && !access.is_super {
            return Err(Problem::new(
                ProblemKind::Forbidden,
                "only super admins manage tokens here",
            )
            .fix("ask one of them; POST /oauth2/revoke ends a token that you have"));
        }
        if operation.rule().reach == Reach::Admin && !access.manages(subject) {
            return Err(Problem::new(
                ProblemKind::Forbidden,
                "only an administrator of its account may do this",
            ));
        }
        Ok(())
    }

    /// Checks that they may issue tokens at all.
    ///
    /// # Errors
    /// Says who may.
    pub fn may_issue(&self, issuers: WhoIssues) -> Result<(), Problem> {
        self.may(Operation::IssueToken)?;
        let Self::Caller(access) = self else {
            return Ok(());
        };
        let is_allowed = match issuers {
            WhoIssues::Everyone => true,
            WhoIssues::Administrators => access.is_super || access.administers().is_some(),
            WhoIssues::Super => access.is_super,
        };
        if is_allowed {
            Ok(())
        } else {
            Err(who_issues(issuers))
        }
    }

    /// Checks that a new or regenerated token gets at most what the caller's credential has.
    ///
    /// # Errors
    /// Names the part that is more.
    pub fn may_give(&self, grant: &Grant<'_>) -> Result<(), Problem> {
        let Self::Caller(access) = self else {
            return Ok(());
        };
        let own = &access.credential;
        let forbid = |pointer, detail: String| {
            Err(Problem {
                pointer: Some(pointer),
                ..Problem::new(ProblemKind::Forbidden, detail)
            })
        };
        if !access.is_super && own.account.as_deref() != grant.account {
            return forbid(
                "/account",
                "a token can have only the account of the token that asks".to_owned(),
            );
        }
        // A token with a role and without an account gives nothing.
        let may_give = access.rank.is_some_and(|rank| rank.may_give(grant.rank));
        if !access.is_super && !may_give {
            return forbid(
                "/role",
                "a token can have at most the role of the one who asks".to_owned(),
            );
        }
        if !own.scopes.contains(grant.scopes) {
            return forbid(
                "/scopes",
                format!(
                    "a token can have at most the scopes of the token that asks: {}",
                    own.scopes
                ),
            );
        }
        if !own.networks.contain(grant.networks) {
            return forbid(
                "/networks",
                format!(
                    "a token can have at most the networks of the token that asks: {}",
                    own.networks
                ),
            );
        }
        Ok(())
    }
}

/// What a token is to get.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    pub account: Option<&'a str>,
    pub rank: Rank,
    pub scopes: &'a Scopes,
    pub networks: &'a Networks,
}

impl Access {
    /// The account whose admin the caller is: their person has the first role there, and their token no lower one.
    pub fn administers(&self) -> Option<&str> {
        let is_admin = self.rank.is_some_and(Rank::is_highest);
        self.credential.account.as_deref().filter(|_| is_admin)
    }

    /// Whether the account of the credential has all that its person may do, or only they can have it. Whoever manages the
    /// tokens of an account can make a new secret of one, and must not be its person elsewhere.
    pub fn speaks_for_person(&self) -> bool {
        let Some(account) = &self.credential.account else {
            return true;
        };
        if self.credential.kind == Kind::Session {
            return true;
        }
        !self.person.is_super && self.person.roles.keys().all(|key| key == account)
    }

    fn allows(&self, operation: Operation, scope: &str) -> bool {
        let scopes = &self.credential.scopes;
        scopes.allows(scope) || (operation == Operation::ReadToken && scopes.allows("token:read"))
    }

    /// Whether they manage it as an admin.
    fn manages(&self, subject: &Subject) -> bool {
        let account = subject.account.as_deref();
        self.is_super || (account.is_some() && self.administers() == account)
    }

    fn sees(&self, subject: &Subject, issuers: WhoIssues) -> bool {
        if self.is_super || subject.is_self {
            return true;
        }
        if issuers == WhoIssues::Super && subject.is_local {
            return false;
        }
        let is_in_reach = !subject.is_local || subject.account == self.credential.account;
        let is_owner = subject.owners.contains(&self.person.key);
        self.manages(subject) || (is_owner && is_in_reach)
    }
}

/// Says who may issue tokens.
pub fn who_issues(issuers: WhoIssues) -> Problem {
    let who = match issuers {
        WhoIssues::Everyone => "everyone",
        WhoIssues::Administrators => "administrators of the account",
        WhoIssues::Super => "super admins",
    };
    Problem::new(
        ProblemKind::Forbidden,
        format!("only {who} may issue tokens here"),
    )
    .fix("ask one of them for a token")
}

impl Problem {
    /// For what does not exist, or the caller may not know of.
    pub fn unknown() -> Self {
        Self::new(ProblemKind::NotFound, "there is nothing here with this id")
    }
}
