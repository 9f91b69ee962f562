//! `[[directory]] kind = "ldap"`.

use url::Url;

use crate::config::field::Field;
use crate::config::table::Table;
use crate::directories::{Kind, ldap};

pub(super) fn parse(table: &mut Table) -> Option<Kind> {
    let url = table.required("url", "ldaps://ldap.example.org", parse_server_url);
    let example = "cn=lapsed,ou=services,dc=example,dc=org";
    let bind_dn = table.required("bind_dn", example, Field::string);
    let password = table.required_secret("password", "ldap-password");
    let base = table.required("base", "ou=people,dc=example,dc=org", Field::string);
    let filter = table.text("filter");
    let why = "is not an LDAP filter; write for example (&(objectClass=inetOrgPerson)(mail=*))";
    let is_filter = |filter: &String| ldap::is_valid_filter(filter);
    let filter = table.check("filter", filter, is_filter, why);
    let ca_file = table.path("ca_file");
    let starttls = table.boolean("starttls", false);
    let flavor = table.optional("flavor", |field| field.choice(ldap::FLAVORS));
    let shadow_expire = table.boolean("shadow_expire", false);
    let access = ldap::Access {
        url: url?,
        starttls,
        bind_dn: bind_dn?,
        password: password?,
        ca_file,
    };
    if starttls && access.url.scheme() == "ldaps" {
        table.refuse("starttls", "is for ldap://; ldaps:// is always encrypted");
    }
    if access.exposes_password() {
        table.refuse(
            "url",
            "the password would cross the network unencrypted; write ldaps:// or set starttls = true",
        );
    }
    Some(Kind::Ldap(ldap::Config {
        access,
        base: base?,
        filter,
        flavor,
        shadow_expire,
    }))
}

/// Scheme, host and port only; the other parts of RFC 4516 are keys of their own.
fn parse_server_url(field: &Field) -> Result<Url, String> {
    const FORM: &str = "write for example ldaps://ldap.example.org";
    let url = field.text()?.parse::<Url>();
    let url = url.map_err(|error| format!("is not a URL ({error}); {FORM}"))?;
    if !matches!(url.scheme(), "ldap" | "ldaps") || url.host_str().is_none_or(str::is_empty) {
        return Err(format!(
            "must begin with ldaps:// or ldap:// and name a host; {FORM}"
        ));
    }
    let has_user = !url.username().is_empty() || url.password().is_some();
    let has_path = !matches!(url.path(), "" | "/");
    if has_user || has_path || url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "may contain only scheme, host and port; the rest has its own keys; {FORM}"
        ));
    }
    Ok(url)
}
