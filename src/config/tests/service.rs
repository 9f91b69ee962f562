//! `[service]` and `[web]`: what operators write, and what they get.

use chrono::TimeDelta;
use insta::assert_snapshot;
use rstest::rstest;

use super::*;
use crate::domain::service::{KindTerms, Terms, WhoIssues};

fn terms(keys: &str) -> Terms {
    let config = load(&format!("[service]\nenabled = true\n{keys}"), &[]);
    config.service.expect("it is enabled")
}

fn kind(name: &str, ttl: Option<TimeDelta>) -> KindTerms {
    KindTerms {
        name: name.to_owned(),
        ttl,
        can_issue: true,
    }
}

#[test]
fn the_service_is_off_unless_it_is_enabled() {
    for text in ["", "[service]", "[service]\nprofile = 'gcore'"] {
        assert_eq!(load(text, &[]).service, None, "{text}");
    }
    assert_eq!(terms(""), Terms::default());
    let variables = [("LAPSED__SERVICE__ENABLED", "true")];
    assert_eq!(load("", &variables).service, Some(Terms::default()));
    assert!(load("", &[]).web.listen.is_none());
}

#[rstest]
#[case("gcore", include_str!("../../../examples/profiles/gcore.toml"))]
#[case("rancher", include_str!("../../../examples/profiles/rancher.toml"))]
#[case("devtron", include_str!("../../../examples/profiles/devtron.toml"))]
#[case("nocodb", include_str!("../../../examples/profiles/nocodb.toml"))]
fn the_file_of_a_profile_equals_the_built_in_one(#[case] profile: &str, #[case] file: &str) {
    assert!(!file.lines().any(|line| line.starts_with("profile")));
    let written = load(file, &[]).service;
    assert_eq!(written, Some(terms(&format!("profile = '{profile}'"))));
}

#[test]
fn keys_override_a_profile_and_its_lives_are_capped() {
    let rancher = terms("profile = 'rancher'\nmax_ttl = '8h'\nallow_never = false");
    assert!(rancher.kinds.len() > 1);
    for kind in &rancher.kinds {
        assert_eq!(kind.ttl, Some(TimeDelta::hours(8)), "{}", kind.name);
    }
    assert_eq!(rancher.default_ttl, Some(TimeDelta::hours(8)));
    assert!(rancher.presets.is_empty());

    // Never stays beside a maximum where it is allowed.
    let rancher = terms("profile = 'rancher'\nmax_ttl = '24h'");
    assert_eq!(
        rancher.kinds[0],
        kind("kubeconfig", Some(TimeDelta::hours(16)))
    );
    assert_eq!((rancher.kinds[1].ttl, rancher.default_ttl), (None, None));

    let gcore = terms("profile = 'gcore'\nper_account = 5\nissuers = 'administrators'");
    assert_eq!(
        (gcore.per_account, gcore.issuers, gcore.max_ttl),
        (5, WhoIssues::Administrators, None)
    );
}

#[test]
fn kinds_replace_those_of_the_profile() {
    let written = terms(
        "profile = 'rancher'
         [[service.kind]]
         name = 'kubeconfig'
         ttl = '1h'
         issue = false
         [[service.kind]]
         name = 'robot'
         ttl = 'never'
         [[service.scope]]
         name = 'app:*'
         description = 'Everything'",
    );
    let kubeconfig = KindTerms {
        can_issue: false,
        ..kind("kubeconfig", Some(TimeDelta::hours(1)))
    };
    assert_eq!(written.kinds, [kubeconfig, kind("robot", None)]);
    assert_eq!(written.scopes[0].name, "app:*");
    assert_eq!(terms("profile = 'rancher'\nkind = []").kinds, []);
}

#[test]
fn written_lives_beyond_the_policy_are_errors() {
    assert_snapshot!(all_errors_of(&[
        "max_ttl = '7d'\ndefault_ttl = '30d'",
        "max_ttl = '7d'\npresets = ['1d', '30d']",
        "default_ttl = 'never'",
        "[[service.kind]]\nname = 'robot'\nttl = '366d'",
        "[[service.kind]]\nname = 'robot'\nttl = 'never'",
        "profile = 'gcore'\nallow_never = false",
        "access_ttl = '2d'",
        "max_ttl = 30",
    ]), @r#"
    lapsed.toml:4:15: service.default_ttl: 30d is longer than max_ttl, which is 7d
    lapsed.toml:4:11: service.presets: 30d is longer than max_ttl, which is 7d
    lapsed.toml:3:15: service.default_ttl: is "never", which needs allow_never = true in [service]
    lapsed.toml:5:7: service.kind[0].ttl: 366d is longer than max_ttl, which is 365d
    lapsed.toml:5:7: service.kind[0].ttl: is "never", which needs allow_never = true in [service]
    lapsed.toml:1:1: service.default_ttl: has no default in this profile without allow_never; write for example default_ttl = "30d"
    lapsed.toml:3:14: service.access_ttl: must not be longer than refresh_ttl
    lapsed.toml:3:11: service.max_ttl: 30 has no unit; write for example "30s"
    "#);
}

#[test]
fn names_that_cannot_be_used_are_errors() {
    assert_snapshot!(all_errors_of(&[
        "profile = 'gitlab'",
        "prefix = 'Lapsed'",
        "prefix = 'abcdefghijklmnopq'",
        "roles = []",
        "roles = ['admin', 'user', 'admin']",
        "roles = ['acme/admin']",
        "headers = ['Authorization', 'x token', 'Lapsed-Subject']",
        "issuers = 'admins'",
        "[[service.kind]]\nname = 'api'\nttl = '1d'",
        "[[service.kind]]\nname = 'session'\nttl = '1d'",
        "[[service.kind]]\nname = 'robot'\nttl = '1d'\n[[service.kind]]\nname = 'robot'\nttl = '2d'",
        "[[service.kind]]\nname = 'robot'",
        "[[service.scope]]\nname = 'app'",
        "[service.kind]\nname = 'robot'",
    ]), @r#"
    lapsed.toml:3:11: service.profile: unknown value `gitlab`; allowed: gcore, rancher, devtron, nocodb
    lapsed.toml:3:10: service.prefix: may have 1 to 16 characters of a-z and 0-9
    lapsed.toml:3:10: service.prefix: may have 1 to 16 characters of a-z and 0-9
    lapsed.toml:3:9: service.roles: needs at least one role, such as roles = ["administrator"]
    lapsed.toml:3:9: service.roles: names a role twice
    the configuration has 2 problems:
      lapsed.toml:3:9: service.roles: needs at least one role, such as roles = ["administrator"]
      lapsed.toml:3:10: service.roles[0]: may have at most 60 characters, and neither `/` nor control characters
    the configuration has 3 problems:
      lapsed.toml:3:12: service.headers[0]: `authorization` has another meaning; choose a different header
      lapsed.toml:3:29: service.headers[1]: `x token` is not the name of a header; write for example "xc-token"
      lapsed.toml:3:40: service.headers[2]: `lapsed-subject` has another meaning; choose a different header
    lapsed.toml:3:11: service.issuers: unknown value `admins`; allowed: everyone, administrators, super
    lapsed.toml:4:8: service.kind[0].name: `api` is built in; default_ttl in [service] is its lifetime
    lapsed.toml:4:8: service.kind[0].name: `session` is a kind of lapsed itself; choose a different name
    lapsed.toml:7:8: service.kind[1].name: there is another kind `robot`; give its keys in one place
    lapsed.toml:3:1: service.kind[0].ttl is missing; write for example ttl = "16h" in [[service.kind]]
    lapsed.toml:4:8: service.scope[0].name: "app" is not a scope; write resource:action, such as app:read, or app:* for every action
    lapsed.toml:3:1: service.kind: can occur several times: write [[service.kind]] with two brackets
    "#);
}

#[test]
fn a_listener_that_would_show_tokens_is_an_error() {
    let errors = |keys: &str| errors_of(&format!("[service]\nenabled = true\n[web]\n{keys}"));
    let all = [
        errors("listen = '0.0.0.0:8485'"),
        errors("listen = '[::]:8485'"),
        errors("listen = '8485'"),
        errors("trusted_proxies = ['0.0.0.0/0']"),
        errors("trusted_proxies = ['10.0.0.0/8', '::/0', '10.0.0']"),
        errors("client_address = 'both'"),
        errors("tls_certificate = 'tls.pem'"),
        errors("tls_key = 'a'"),
        errors("base_url = 'tokens.example.org'"),
        errors_of("[web]\nlisten = '127.0.0.1:8485'"),
    ];
    assert_snapshot!(all.join("\n"), @r#"
    lapsed.toml:4:10: web.listen: beyond loopback, tokens would cross the network unencrypted; set tls_certificate and tls_key, or in trusted_proxies the networks of the proxies that end TLS
    lapsed.toml:4:10: web.listen: beyond loopback, tokens would cross the network unencrypted; set tls_certificate and tls_key, or in trusted_proxies the networks of the proxies that end TLS
    lapsed.toml:4:10: web.listen: "8485" is not an address and a port; write "127.0.0.1:8485", "[::]:8485" or "off"
    lapsed.toml:4:20: web.trusted_proxies[0]: would trust every address; name the networks of your proxies
    the configuration has 2 problems:
      lapsed.toml:4:34: web.trusted_proxies[1]: would trust every address; name the networks of your proxies
      lapsed.toml:4:42: web.trusted_proxies[2]: `10.0.0` is not a network; write it as 10.0.0.0/8, or 192.0.2.7 for one address
    lapsed.toml:4:18: web.client_address: unknown value `both`; allowed: x-forwarded-for, forwarded
    lapsed.toml:4:19: web.tls_certificate: needs tls_key, its private key
    lapsed.toml:4:11: web.tls_key: needs tls_certificate
    lapsed.toml:4:12: web.base_url: is not a URL (relative URL without a base); write for example https://tokens.example.org
    lapsed.toml:2:10: web.listen: needs the token service; write enabled = true in [service]
    "#);
}

#[rstest]
#[case("listen = '127.0.0.1:8485'")]
#[case("listen = '[::1]:8485'")]
#[case("listen = '0.0.0.0:8485'\ntrusted_proxies = ['10.0.0.0/8', '2001:db8::7']")]
#[case("listen = '0.0.0.0:8485'\ntls_certificate = 'tls.pem'\ntls_key = 'key'")]
fn a_listener_may_be_local_encrypted_or_behind_proxies(#[case] keys: &str) {
    let config = load(&format!("[service]\nenabled = true\n[web]\n{keys}"), &[]);
    assert!(config.web.listen.is_some());
}

fn all_errors_of(keys: &[&str]) -> String {
    let errors = keys
        .iter()
        .map(|keys| errors_of(&format!("[service]\nenabled = true\n{keys}")));
    errors.collect::<Vec<_>>().join("\n")
}
