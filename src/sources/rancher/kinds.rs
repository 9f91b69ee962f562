//! The kinds of Rancher's tokens. Rancher creates most of them itself, for example for login sessions, about
//! which there should be no notices.

use crate::domain::string_enum;

string_enum! {
    TokenKind {
        /// Created by a person.
        ApiKey = "api_key",
        /// In a downloaded kubeconfig file.
        Kubeconfig = "kubeconfig",
        Session = "session",
        /// For the installation of a cluster's agent.
        Agent = "agent",
        /// For `kubectl` in the browser.
        Shell = "shell",
        Compose = "compose",
        /// For the installation of charts.
        Helm = "helm",
        /// For a project's pipeline.
        Pipeline = "pipeline",
        /// For Rancher's own statistics.
        Telemetry = "telemetry",
        /// For the draining of nodes.
        Drain = "drain",
        /// Of a user that Rancher created for itself.
        System = "system",
    }
}

/// The prefixes of names of Rancher's own tokens; its manual lists them as tokens that never expire.
const NAME_PREFIXES: [(&str, TokenKind); 7] = [
    ("kubeconfig-", TokenKind::Kubeconfig),
    ("kubectl-shell-", TokenKind::Shell),
    ("agent-", TokenKind::Agent),
    ("compose-token-", TokenKind::Compose),
    ("helm-token-", TokenKind::Helm),
    ("telemetry-", TokenKind::Telemetry),
    ("drain-node-", TokenKind::Drain),
];

/// The properties that determine the kind of a token.
#[derive(Debug, Default, Clone, Copy)]
pub struct KindHints<'a> {
    pub name: &'a str,
    /// The label or field for the kind.
    pub label: Option<&'a str>,
    /// Whether it was created with another token, as a login is not.
    pub is_derived: Option<bool>,
    /// Whether the user is one of Rancher's own.
    pub is_system_user: bool,
}

impl TokenKind {
    /// The kinds that are kinds by default: all except sessions.
    #[must_use]
    pub fn default_kinds() -> Vec<Self> {
        let kinds = Self::ALL.iter().copied();
        kinds.filter(|kind| *kind != Self::Session).collect()
    }

    /// Decides by the label, then by the name, then by the way of creation and the user.
    #[must_use]
    pub fn detect(hints: KindHints<'_>) -> Self {
        match hints.label {
            Some("session") => return Self::Session,
            Some("kubeconfig") => return Self::Kubeconfig,
            _ => {}
        }
        let by_name = NAME_PREFIXES
            .iter()
            .find(|(prefix, _)| hints.name.starts_with(prefix));
        match by_name {
            Some((_, kind)) => *kind,
            None if hints.name.contains("-pipeline") => Self::Pipeline,
            None if hints.is_derived == Some(false) => Self::Session,
            None if hints.is_system_user => Self::System,
            None => Self::ApiKey,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("kubeconfig-u-b4qkh", "kubeconfig")]
    #[case("kubectl-shell-user-vqkqt", "shell")]
    #[case("agent-u-x7k", "agent")]
    #[case("compose-token-abc", "compose")]
    #[case("helm-token-abc", "helm")]
    #[case("u-x7k-pipeline", "pipeline")]
    #[case("p-1-pipeline-2", "pipeline")]
    #[case("telemetry-abc", "telemetry")]
    #[case("drain-node-abc", "drain")]
    #[case("token-7x2kq", "api_key")]
    fn a_kind_follows_from_the_name(#[case] name: &str, #[case] kind: &str) {
        // Sessions are recognised by their creation, but names come first.
        let is_derived = Some(name != "agent-u-x7k");
        let hints = KindHints {
            name,
            is_derived,
            ..KindHints::default()
        };
        assert_eq!(TokenKind::detect(hints).as_str(), kind);
    }

    #[rstest]
    #[case(Some("session"), Some(true), false, TokenKind::Session)]
    #[case(Some("kubeconfig"), Some(false), true, TokenKind::Kubeconfig)]
    #[case(None, Some(false), false, TokenKind::Session)]
    #[case(Some(""), Some(true), true, TokenKind::System)]
    #[case(None, None, false, TokenKind::ApiKey)]
    fn the_label_comes_first(
        #[case] label: Option<&str>,
        #[case] is_derived: Option<bool>,
        #[case] is_system_user: bool,
        #[case] kind: TokenKind,
    ) {
        let hints = KindHints {
            name: "token-7x2kq",
            label,
            is_derived,
            is_system_user,
        };
        assert_eq!(TokenKind::detect(hints), kind);
    }

    #[test]
    fn only_sessions_are_not_watched_by_default() {
        let kinds = TokenKind::default_kinds();
        assert_eq!(kinds.len(), TokenKind::ALL.len() - 1);
        assert!(!kinds.contains(&TokenKind::Session));
    }
}
