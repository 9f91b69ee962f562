//! `[[directory]] kind = "ldap"`.

use url::Url;

use crate::config::{field::Field, table::Table};
use crate::directories::{Kind, ldap};

/// Reads its keys.
pub(super) fn read(table: &mut Table) -> Option<Kind> {
    let text = |field: &Field| field.text().map(str::to_owned);
    let url = table.required("url", "url = \"ldaps://ldap.example.org\"", server);
    let example = "bind_dn = \"cn=lapsed,ou=services,dc=example,dc=org\"";
    let bind_dn = table.required("bind_dn", example, text);
    let example = "password = { file = \"ldap-password\" }";
    let password = table.required("password", example, Field::secret);
    let example = "base = \"ou=people,dc=example,dc=org\"";
    let base = table.required("base", example, text);
    let filter = table.optional("filter", |field| {
        let filter = field.text()?;
        let why = "is no LDAP filter; write for example (&(objectClass=inetOrgPerson)(mail=*))";
        let is_filter = ldap::is_filter(filter);
        is_filter.then(|| filter.to_owned()).ok_or(why.to_owned())
    });
    let ca_file = table.optional("ca_file", Field::path);
    let starttls = table.or("starttls", false, Field::flag);
    let flavor = table.optional("flavor", |field| field.word(ldap::FLAVORS));
    let shadow_expire = table.or("shadow_expire", false, Field::flag);
    let access = ldap::Access {
        url: url?,
        starttls,
        bind_dn: bind_dn?,
        password: password?,
        ca_file,
    };
    if starttls && access.url.scheme() == "ldaps" {
        table.refuse(
            "starttls",
            "is for ldap://, ldaps:// is encrypted from the start",
        );
    }
    if access.is_readable() {
        table.refuse(
            "url",
            "the password would cross the network readable; write ldaps://, or starttls = true",
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

/// A server, without what else RFC 4516 puts into a URL.
fn server(field: &Field) -> Result<Url, String> {
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
            "must be scheme, host and port alone, the rest has keys of its own; {FORM}"
        ));
    }
    Ok(url)
}
