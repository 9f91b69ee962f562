//! The permissions of a token's machine account.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Deserialize;

/// Further permissions are only counted.
const MAX_SHOWN: usize = 10;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Permissions {
    super_admin: Option<bool>,
    role_filters: Option<Vec<Filter>>,
    /// The names of the permission groups, on older servers.
    groups: Option<Vec<String>>,
    user_role_groups: Option<Vec<Membership>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Membership {
    role_group: Option<NamedGroup>,
}

#[derive(Debug, Deserialize)]
struct NamedGroup {
    name: Option<String>,
}

/// A specific permission. Empty text means everything.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    entity: Option<String>,
    access_type: Option<String>,
    action: Option<String>,
    team: Option<String>,
    environment: Option<String>,
    entity_name: Option<String>,
    cluster: Option<String>,
    namespace: Option<String>,
    group: Option<String>,
    kind: Option<String>,
    resource: Option<String>,
}

impl Permissions {
    fn is_super_admin(&self) -> bool {
        self.super_admin == Some(true)
    }

    /// Examples: `super admin`, `trigger, view, group ops`.
    pub fn role(&self) -> String {
        if self.is_super_admin() {
            return "super admin".to_owned();
        }
        let filters = self.role_filters.iter().flatten();
        let actions: BTreeSet<&str> = filters
            .filter_map(|filter| non_empty(filter.action.as_ref()))
            .collect();
        let old = self.groups.iter().flatten();
        let new = self.user_role_groups.iter().flatten();
        let new = new.filter_map(|member| member.role_group.as_ref()?.name.as_ref());
        let groups: BTreeSet<String> = old.chain(new).map(|name| format!("group {name}")).collect();
        let actions = actions.into_iter().map(str::to_owned);
        join_limited(actions.chain(groups).collect(), ", ")
    }

    /// Example: `Devtron apps payments/prod/*; chart groups *`.
    pub fn scope(&self) -> String {
        if self.is_super_admin() {
            return String::new();
        }
        let filters = self.role_filters.iter().flatten();
        let places: BTreeSet<String> = filters.map(Filter::place).collect();
        join_limited(places.into_iter().collect(), "; ")
    }
}

impl Filter {
    fn place(&self) -> String {
        let app = [&self.team, &self.environment, &self.entity_name];
        let resource = [
            &self.cluster,
            &self.namespace,
            &self.group,
            &self.kind,
            &self.resource,
        ];
        let (what, path): (&str, &[_]) = match non_empty(self.entity.as_ref()) {
            Some("cluster") => ("Kubernetes resources", &resource),
            Some("chart-group") => ("chart groups", &app[2..]),
            Some("jobs") => ("jobs", &app),
            _ if non_empty(self.access_type.as_ref()) == Some("helm-app") => ("Helm apps", &app),
            _ => ("Devtron apps", &app),
        };
        let path: Vec<&str> = path
            .iter()
            .map(|part| non_empty(part.as_ref()).unwrap_or("*"))
            .collect();
        format!("{what} {}", path.join("/"))
    }
}

fn non_empty(text: Option<&String>) -> Option<&str> {
    let text = text.map(|text| text.trim());
    text.filter(|text| !text.is_empty())
}

fn join_limited(mut items: Vec<String>, between: &str) -> String {
    let rest = items.len().saturating_sub(MAX_SHOWN);
    items.truncate(MAX_SHOWN);
    let mut text = items.join(between);
    if rest > 0 {
        let _ = write!(text, "{between}and {rest} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case::super_admin(
        json!({"superAdmin": true, "roleFilters": [{"action": "admin"}]}),
        "super admin", ""
    )]
    #[case::apps(
        json!({"superAdmin": false, "groups": [], "roleFilters": [
            {"entity": "", "team": "payments", "environment": "prod", "entityName": "", "action": "view", "accessType": ""},
            {"entity": "apps", "team": "web", "environment": "", "entityName": "shop", "action": "trigger",
             "accessType": "helm-app"}
        ]}),
        "trigger, view", "Devtron apps payments/prod/*; Helm apps web/*/shop"
    )]
    #[case::kubernetes(
        json!({"roleFilters": [
            {"entity": "cluster", "cluster": "dev", "namespace": "ci", "kind": "Pod", "action": "view"},
            {"entity": "chart-group", "action": "view", "entityName": null}
        ]}),
        "view", "Kubernetes resources dev/ci/*/Pod/*; chart groups *"
    )]
    #[case::groups(
        json!({"roleFilters": null, "groups": ["ops"], "userRoleGroups": [{"roleGroup": {"id": 1, "name": "dev"}}]}),
        "group dev, group ops", ""
    )]
    #[case::nothing(json!({}), "", "")]
    fn permissions_are_a_role_and_a_scope(
        #[case] account: Value,
        #[case] role: &str,
        #[case] scope: &str,
    ) {
        let permissions: Permissions = serde_json::from_value(account).unwrap();
        assert_eq!(
            (permissions.role().as_str(), permissions.scope().as_str()),
            (role, scope)
        );
    }

    #[test]
    fn a_long_list_is_counted_after_ten() {
        let filters: Vec<Value> = (0..13)
            .map(|n| json!({"team": format!("team{n:02}")}))
            .collect();
        let permissions: Permissions =
            serde_json::from_value(json!({"roleFilters": filters})).unwrap();
        assert!(
            permissions
                .scope()
                .ends_with("Devtron apps team09/*/*; and 3 more")
        );
    }
}
