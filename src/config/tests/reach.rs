//! `proxy` and `allow_plaintext`.

use rstest::rstest;

use super::*;

/// A source or directory of each kind that sends credentials, without its URL.
const RANCHER: &str = "[[source]]\nname = 'x'\nkind = 'rancher'\ntoken = 'token-a:s3cret'";
const DEVTRON: &str = "[[source]]\nname = 'x'\nkind = 'devtron'\ntoken = 'a.b.s3cret'";
const GCORE: &str = "[[source]]\nname = 'x'\nkind = 'gcore'\ntoken = '1_s3cret'";
const NOCODB: &str =
    "[[source]]\nname = 'x'\nkind = 'nocodb'\nemail = 'a@example.org'\npassword = 's3cret'";
const SCIM: &str = "[[directory]]\nname = 'x'\nkind = 'scim'\ntoken = 's3cret'";
const OKTA: &str =
    "[[directory]]\nname = 'x'\nkind = 'okta'\nclient_id = '0oa1'\nprivate_key = 's3cret'";
const KEYCLOAK: &str = "[[directory]]\nname = 'x'\nkind = 'keycloak'\nrealm = 'example'\n\
                        client_id = 'lapsed'\nclient_secret = 's3cret'";
const ENTRA: &str = "[[directory]]\nname = 'x'\nkind = 'entra'\ntenant = 'example.org'\n\
                     client_id = 'a'\nclient_secret = 's3cret'";
const LDAP: &str = "[[directory]]\nname = 'x'\nkind = 'ldap'\nbind_dn = 'cn=a'\n\
                    password = 's3cret'\nbase = 'dc=example'";
const FILE: &str = "[[source]]\nname = 'x'\nkind = 'file'\npath = 'tokens.csv'";

fn proxy_of(text: &str, variables: &[(&str, &str)]) -> Option<String> {
    let config = load(text, variables);
    assert!(!format!("{config:?}").contains("hush"));
    let of_sources = config.sources.into_iter().map(|source| source.proxy);
    let of_directories = config.directories.into_iter().map(|it| it.proxy);
    of_sources.chain(of_directories).next().unwrap()
}

#[rstest]
fn credentials_cross_the_network_unencrypted_only_if_that_is_allowed(
    #[values(RANCHER, DEVTRON, GCORE, NOCODB, SCIM, OKTA, KEYCLOAK, ENTRA, LDAP)] kind: &str,
) {
    let scheme = if kind == LDAP { "ldap" } else { "http" };
    let open = format!("{kind}\nurl = '{scheme}://idp.example.org'");
    let errors = errors_of(&open);
    assert!(
        errors.contains("[0].url: the credentials would cross the network unencrypted; write "),
        "{errors}"
    );
    assert!(errors.contains("or set allow_plaintext = true"), "{errors}");
    assert!(!errors.contains("s3cret"), "{errors}");
    load(&format!("{open}\nallow_plaintext = true"), &[]);
    load(&format!("{kind}\nurl = '{scheme}://127.0.0.1:8080'"), &[]);
    load(&format!("{kind}\nurl = '{scheme}s://idp.example.org'"), &[]);
}

#[test]
fn kinds_without_requests_have_no_such_keys() {
    let errors = errors_of(&format!("{FILE}\nallow_plaintext = true\nproxy = 'off'"));
    for key in ["allow_plaintext", "proxy"] {
        assert!(errors.contains(&format!("unknown key `{key}`")), "{errors}");
    }
    let errors = errors_of(&format!(
        "{LDAP}\nurl = 'ldaps://a.example.org'\nproxy = 'off'"
    ));
    assert!(errors.contains("unknown key `proxy`"), "{errors}");
    // They are not reported beside the real problem.
    let errors = errors_of(&format!("{SCIM}\nallow_plaintext = true\nproxy = 'off'"));
    assert!(!errors.contains("unknown key"), "{errors}");
}

#[rstest]
fn a_proxy_is_configured_or_that_of_the_environment(#[values(RANCHER, SCIM)] kind: &str) {
    const ENVIRONMENT: &[(&str, &str)] = &[
        ("HTTPS_PROXY", "http://ada:hush@proxy.example.org:3128"),
        ("NO_PROXY", "internal.example.org"),
    ];
    let external = format!("{kind}\nurl = 'https://api.example.org'");
    assert_eq!(proxy_of(&external, &[]), None);
    assert_eq!(
        proxy_of(&external, ENVIRONMENT).as_deref(),
        Some("http://proxy.example.org:3128")
    );
    let internal = format!("{kind}\nurl = 'https://a.internal.example.org'");
    assert_eq!(proxy_of(&internal, ENVIRONMENT), None);
    assert_eq!(
        proxy_of(&format!("{external}\nproxy = 'off'"), ENVIRONMENT),
        None
    );
    let own = format!("{external}\nproxy = 'http://bob:hush@other.example.org:8080'");
    assert_eq!(
        proxy_of(&own, ENVIRONMENT).as_deref(),
        Some("http://other.example.org:8080")
    );
    let secret = format!("{external}\nproxy = {{ env = 'PROXY' }}");
    let variables = [("PROXY", "https://bob:hush@other.example.org")];
    assert_eq!(
        proxy_of(&secret, &variables).as_deref(),
        Some("https://other.example.org")
    );
}

#[test]
fn an_unusable_proxy_is_refused_without_its_password() {
    let external = format!("{SCIM}\nurl = 'https://api.example.org'");
    for proxy in [
        "socks5://a:hush@b",
        "proxy.example.org:3128",
        "http://a:hush@b/path",
        "hush",
    ] {
        let errors = errors_of(&format!("{external}\nproxy = '{proxy}'"));
        assert!(
            errors.contains("proxy: is not the URL of a proxy"),
            "{errors}"
        );
        assert!(!errors.contains("hush"), "{errors}");
    }
    let errors = errors_with(&external, &[("ALL_PROXY", "socks5://a:hush@b:1080")]);
    assert!(
        errors.contains("the environment names the proxy socks5://b:1080"),
        "{errors}"
    );
    assert!(!errors.contains("hush"), "{errors}");
}
