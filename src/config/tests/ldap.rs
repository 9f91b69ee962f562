//! `[[directory]] kind = "ldap"`.

use super::*;
use crate::directories::{Kind, ldap};

const LDAP: &str = "[[directory]]
    name = 'people'
    kind = 'ldap'
    bind_dn = 'cn=lapsed,dc=example,dc=org'
    password = 's3cret'
    base = 'dc=example,dc=org'\n";

fn load_ldap(keys: &str) -> ldap::Config {
    let config = load(&format!("{LDAP}{keys}"), &[]);
    match &config.directories[0].kind {
        Kind::Ldap(config) => config.clone(),
        other => panic!("{other:?}"),
    }
}

fn errors_for(keys: &str) -> String {
    let errors = errors_of(&format!("{LDAP}{keys}"));
    assert!(!errors.contains("s3cret"), "{errors}");
    errors
}

#[test]
fn only_the_url_is_required_besides_the_login() {
    let config = load_ldap("url = 'ldaps://ldap.example.org:1636'");
    assert_eq!(config.access.url.as_str(), "ldaps://ldap.example.org:1636");
    assert!(!config.access.starttls && !config.shadow_expire);
    assert_eq!((config.filter, config.flavor), (None, None));
    assert_eq!(config.access.ca_file, None);
}

#[test]
fn all_keys_are_read() {
    let config = load_ldap(
        "url = 'ldap://ldap.example.org'
         starttls = true
         ca_file = 'ca.pem'
         filter = '(&(objectClass=inetOrgPerson)(mail=*))'
         flavor = '389ds'
         shadow_expire = true
         outside_filter = 'lost'
         client_certificate = 'client.pem'
         client_key = 's3cret'",
    );
    assert_eq!(config.outside_filter, ldap::OutsideFilter::Lost);
    let certificate = config.access.client_certificate.clone().unwrap();
    assert_eq!(certificate.path, Path::new("/etc/client.pem"));
    assert!(config.access.starttls && config.shadow_expire);
    assert_eq!(config.flavor, Some(ldap::Flavor::Ds389));
    assert_eq!(
        config.access.ca_file.as_deref(),
        Some(Path::new("/etc/ca.pem"))
    );
    assert!(config.filter.is_some());
}

#[test]
fn no_password_crosses_the_network_unencrypted() {
    let errors = errors_for("url = 'ldap://ldap.example.org'");
    assert!(
        errors.contains("directory[0].url: the credentials would cross"),
        "{errors}"
    );
    load_ldap("url = 'ldap://127.0.0.1:1389'");
    load_ldap("url = 'ldap://localhost'");
    let errors = errors_for("url = 'ldaps://ldap.example.org'\nstarttls = true");
    assert!(
        errors.contains("directory[0].starttls: is for ldap://"),
        "{errors}"
    );
}

#[test]
fn an_invalid_url_or_filter_is_rejected() {
    for url in [
        "https://ldap.example.org",
        "ldap.example.org",
        "ldaps://",
        "ldaps://lapsed:s3cret@ldap.example.org",
        "ldaps://ldap.example.org/dc=example,dc=org",
        "ldaps://ldap.example.org?sub",
        "ldapi:///var/run/ldapi",
    ] {
        let errors = errors_for(&format!("url = '{url}'"));
        assert!(
            errors.contains("write for example ldaps://ldap.example.org"),
            "{errors}"
        );
    }
    let errors = errors_for("url = 'ldaps://ldap.example.org'\nfilter = '(mail=*'");
    assert!(
        errors.contains("directory[0].filter: is not an LDAP filter"),
        "{errors}"
    );
    let errors = errors_for("url = 'ldaps://ldap.example.org'\nflavor = 'opendlap'");
    assert!(errors.contains("did you mean `openldap`?"), "{errors}");
}

#[test]
fn every_missing_key_is_reported() {
    let errors = errors_of("[[directory]]\nname = 'people'\nkind = 'ldap'");
    for key in ["url", "bind_dn", "password", "base"] {
        assert!(
            errors.contains(&format!("directory[0].{key} is missing")),
            "{errors}"
        );
    }
}

#[test]
fn a_client_certificate_has_a_key_and_needs_tls() {
    let url = "url = 'ldaps://ldap.example.org'\n";
    let both = "client_certificate = 'client.pem'\nclient_key = 's3cret'";
    for (keys, words) in [
        (
            format!("{url}client_certificate = 'client.pem'"),
            "set client_key",
        ),
        (
            format!("{url}client_key = 's3cret'"),
            "the key of client_certificate, which is missing",
        ),
        (
            format!("url = 'ldap://127.0.0.1'\n{both}"),
            "is shown over TLS only",
        ),
        (
            format!("{url}outside_filter = 'lost'"),
            "has no effect without filter",
        ),
    ] {
        let errors = errors_for(&keys);
        assert!(errors.contains(words), "{errors}");
    }
}
