//! `[[directory]] kind = "ldap"`.

use super::*;
use crate::directories::{Kind, ldap};

const LDAP: &str = "[[directory]]
    name = 'people'
    kind = 'ldap'
    bind_dn = 'cn=lapsed,dc=example,dc=org'
    password = 's3cret'
    base = 'dc=example,dc=org'\n";

fn loaded(keys: &str) -> ldap::Config {
    let config = load(&format!("{LDAP}{keys}"), &[]);
    match &config.directories[0].kind {
        Kind::Ldap(config) => config.clone(),
        other => panic!("{other:?}"),
    }
}

fn refused(keys: &str) -> String {
    let told = told(&format!("{LDAP}{keys}"));
    assert!(!told.contains("s3cret"), "{told}");
    told
}

#[test]
fn a_server_is_a_url_and_the_rest_has_defaults() {
    let config = loaded("url = 'ldaps://ldap.example.org:1636'");
    assert_eq!(config.access.url.as_str(), "ldaps://ldap.example.org:1636");
    assert!(!config.access.starttls && !config.shadow_expire);
    assert_eq!((config.filter, config.flavor), (None, None));
    assert_eq!(config.access.ca_file, None);
}

#[test]
fn everything_can_be_said() {
    let config = loaded(
        "url = 'ldap://ldap.example.org'
         starttls = true
         ca_file = 'ca.pem'
         filter = '(&(objectClass=inetOrgPerson)(mail=*))'
         flavor = '389ds'
         shadow_expire = true",
    );
    assert!(config.access.starttls && config.shadow_expire);
    assert_eq!(config.flavor, Some(ldap::Flavor::Ds389));
    assert_eq!(
        config.access.ca_file.as_deref(),
        Some(Path::new("/etc/ca.pem"))
    );
    assert!(config.filter.is_some());
}

#[test]
fn no_password_crosses_the_network_readable() {
    let told = refused("url = 'ldap://ldap.example.org'");
    assert!(
        told.contains("directory[0].url: the password would cross"),
        "{told}"
    );
    loaded("url = 'ldap://127.0.0.1:1389'");
    loaded("url = 'ldap://localhost'");
    let told = refused("url = 'ldaps://ldap.example.org'\nstarttls = true");
    assert!(
        told.contains("directory[0].starttls: is for ldap://"),
        "{told}"
    );
}

#[test]
fn what_is_no_server_or_no_filter_is_refused() {
    for url in [
        "https://ldap.example.org",
        "ldap.example.org",
        "ldaps://",
        "ldaps://lapsed:s3cret@ldap.example.org",
        "ldaps://ldap.example.org/dc=example,dc=org",
        "ldaps://ldap.example.org?sub",
        "ldapi:///var/run/ldapi",
    ] {
        let told = refused(&format!("url = '{url}'"));
        assert!(
            told.contains("write for example ldaps://ldap.example.org"),
            "{told}"
        );
    }
    let told = refused("url = 'ldaps://ldap.example.org'\nfilter = '(mail=*'");
    assert!(
        told.contains("directory[0].filter: is no LDAP filter"),
        "{told}"
    );
    let told = refused("url = 'ldaps://ldap.example.org'\nflavor = 'opendlap'");
    assert!(told.contains("did you mean `openldap`?"), "{told}");
}

#[test]
fn what_is_missing_is_named() {
    let told = told("[[directory]]\nname = 'people'\nkind = 'ldap'");
    for key in ["url", "bind_dn", "password", "base"] {
        assert!(
            told.contains(&format!("directory[0].{key} is missing")),
            "{told}"
        );
    }
}
