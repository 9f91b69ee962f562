//! Ready-made policies: the built-in one, and those after the documents of other systems.

use chrono::TimeDelta;

use super::{KindTerms, ScopeInfo, Terms, WhoIssues};
use crate::domain::service::Roles;
use crate::domain::string_enum::string_enum;

string_enum! {
    Profile {
        Gcore = "gcore",
        Rancher = "rancher",
        Devtron = "devtron",
        NocoDb = "nocodb",
    }
}

const ROLES: [&str; 4] = ["administrator", "engineer", "user", "viewer"];
/// The families of Rancher's tokens that never expire.
const RANCHER_ENDLESS: [&str; 7] = [
    "kubectl-shell",
    "agent",
    "compose-token",
    "helm-token",
    "pipeline",
    "telemetry",
    "drain-node",
];
/// What a specific permission of a Devtron token is for.
const DEVTRON_SCOPES: [(&str, &str); 4] = [
    ("devtron-apps:*", "Devtron Apps"),
    ("helm-apps:*", "Helm Apps"),
    ("kubernetes-resources:*", "Kubernetes Resources"),
    ("chart-groups:*", "Chart Groups"),
];

impl Default for Terms {
    fn default() -> Self {
        Self {
            prefix: "lapsed".to_owned(),
            headers: vec![],
            roles: Roles::new(ROLES.map(str::to_owned).to_vec()),
            max_ttl: Some(TimeDelta::days(365)),
            default_ttl: Some(TimeDelta::days(30)),
            allow_never: false,
            presets: days(&[7, 30, 60, 90]),
            per_account: 50,
            per_user: 0,
            issuers: WhoIssues::Everyone,
            overlap: TimeDelta::hours(24),
            access_ttl: TimeDelta::hours(1),
            refresh_ttl: TimeDelta::hours(24),
            session_ttl: TimeDelta::hours(10),
            follow_directories: false,
            leak_reports: false,
            leak_keys: Vec::new(),
            kinds: vec![],
            scopes: vec![],
        }
    }
}

impl From<Profile> for Terms {
    fn from(profile: Profile) -> Self {
        // None of the systems has a longest life unless an administrator sets one.
        let open = Self {
            max_ttl: None,
            allow_never: true,
            per_account: 0,
            ..Self::default()
        };
        match profile {
            Profile::Gcore => Self {
                default_ttl: None,
                presets: vec![],
                per_account: 50,
                ..open
            },
            Profile::Rancher => Self {
                default_ttl: None,
                presets: days(&[1, 30, 365]),
                kinds: rancher_kinds(),
                ..open
            },
            Profile::Devtron => Self {
                issuers: WhoIssues::Super,
                scopes: devtron_scopes(),
                ..open
            },
            Profile::NocoDb => Self {
                headers: vec!["xc-token".to_owned()],
                default_ttl: None,
                presets: vec![],
                per_user: 1,
                ..open
            },
        }
    }
}

fn rancher_kinds() -> Vec<KindTerms> {
    let kind = |name: &str, ttl| KindTerms {
        name: name.to_owned(),
        ttl,
        can_issue: true,
    };
    let endless = RANCHER_ENDLESS.map(|name| kind(name, None));
    let kubeconfig = kind("kubeconfig", Some(TimeDelta::hours(16)));
    [vec![kubeconfig], endless.to_vec()].concat()
}

fn devtron_scopes() -> Vec<ScopeInfo> {
    let scope = |(name, description): (&str, &str)| ScopeInfo {
        name: name.to_owned(),
        description: Some(description.to_owned()),
    };
    DEVTRON_SCOPES.map(scope).to_vec()
}

fn days(numbers: &[i64]) -> Vec<TimeDelta> {
    numbers.iter().copied().map(TimeDelta::days).collect()
}
