//! What a token of Rancher is for. Rancher makes most of them itself, and nobody is to be told about a
//! login session that ends tonight as about a key that ends next week.

use crate::domain::words;

words! {
    /// What a token is for.
    TokenKind {
        /// A key that a person made.
        ApiKey = "api_key",
        /// In a kubeconfig file that somebody downloaded.
        Kubeconfig = "kubeconfig",
        /// A login to the site.
        Session = "session",
        /// By which a cluster's agent was set up.
        Agent = "agent",
        /// Of the `kubectl` in the browser.
        Shell = "shell",
        /// Of Compose.
        Compose = "compose",
        /// By which charts are installed.
        Helm = "helm",
        /// Of a project's pipeline.
        Pipeline = "pipeline",
        /// By which Rancher counts what it runs.
        Telemetry = "telemetry",
        /// By which nodes are drained.
        Drain = "drain",
        /// Of a user that Rancher made for itself, whatever else it is for.
        System = "system",
    }
}

/// The families of names that Rancher gives its own tokens; its manual lists them as those that never
/// expire.
const FAMILIES: [(&str, TokenKind); 7] = [
    ("kubeconfig-", TokenKind::Kubeconfig),
    ("kubectl-shell-", TokenKind::Shell),
    ("agent-", TokenKind::Agent),
    ("compose-token-", TokenKind::Compose),
    ("helm-token-", TokenKind::Helm),
    ("telemetry-", TokenKind::Telemetry),
    ("drain-node-", TokenKind::Drain),
];

/// By what the kind of a token is told.
#[derive(Debug, Default, Clone, Copy)]
pub struct Marks<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its label for the kind, or the kind that it states itself.
    pub label: Option<&'a str>,
    /// Whether it was made by means of another; a login is not.
    pub is_derived: Option<bool>,
    /// Whether its user is one of Rancher's own.
    pub is_of_system: bool,
}

impl TokenKind {
    /// What is watched unless it is said otherwise: everything but sessions, which end by themselves.
    #[must_use]
    pub fn watched() -> Vec<Self> {
        let watched = Self::ALL.iter().copied();
        watched.filter(|kind| *kind != Self::Session).collect()
    }

    /// The kind of a token: by its label, then by its name, then by who made it.
    #[must_use]
    pub fn of(marks: Marks<'_>) -> Self {
        match marks.label {
            Some("session") => return Self::Session,
            Some("kubeconfig") => return Self::Kubeconfig,
            _ => {}
        }
        let family = FAMILIES
            .iter()
            .find(|(prefix, _)| marks.name.starts_with(prefix));
        match family {
            Some((_, kind)) => *kind,
            None if marks.name.contains("-pipeline") => Self::Pipeline,
            None if marks.is_derived == Some(false) => Self::Session,
            None if marks.is_of_system => Self::System,
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
    fn names_tell_the_families_that_never_expire(#[case] name: &str, #[case] kind: &str) {
        // Sessions are told by how they were made, but families come first.
        let is_derived = Some(name != "agent-u-x7k");
        let marks = Marks {
            name,
            is_derived,
            ..Marks::default()
        };
        assert_eq!(TokenKind::of(marks).as_str(), kind);
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
        #[case] is_of_system: bool,
        #[case] kind: TokenKind,
    ) {
        let marks = Marks {
            name: "token-7x2kq",
            label,
            is_derived,
            is_of_system,
        };
        assert_eq!(TokenKind::of(marks), kind);
    }

    #[test]
    fn sessions_alone_are_left_out_unless_asked_for() {
        let watched = TokenKind::watched();
        assert_eq!(watched.len(), TokenKind::ALL.len() - 1);
        assert!(!watched.contains(&TokenKind::Session));
    }
}
