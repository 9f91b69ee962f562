//! LDAP products, and the attributes that each uses for accounts.

use uuid::Uuid;

use crate::upstream::Error;
use crate::upstream::ldap::{Entry, Session, escape};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// OpenLDAP, and servers with the same operational attributes.
    OpenLdap,
    /// 389 Directory Server, alone or in FreeIPA.
    Ds389,
    ActiveDirectory,
}

/// As written in the configuration.
pub const FLAVORS: &[(&str, Flavor)] = &[
    ("openldap", Flavor::OpenLdap),
    ("389ds", Flavor::Ds389),
    ("ad", Flavor::ActiveDirectory),
];

/// The capability of Active Directory (MS-ADTS §3.1.1.3.4.3.1).
const ACTIVE_DIRECTORY: &str = "1.2.840.113556.1.4.800";

/// The server's description of itself (RFC 4512 §5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootDse {
    pub flavor: Flavor,
    /// The roots of its trees.
    pub contexts: Vec<String>,
}

impl RootDse {
    /// # Errors
    /// When it cannot be read, or the product is neither recognised nor configured.
    pub async fn fetch(session: &mut Session, configured: Option<Flavor>) -> Result<Self, Error> {
        const ATTRIBUTES: [&str; 6] = [
            "objectClass",
            "supportedCapabilities",
            "vendorName",
            "vendorVersion",
            "namingContexts",
            "defaultNamingContext",
        ];
        let entry = session.read_entry("", &ATTRIBUTES).await?;
        let flavor = configured.or_else(|| detect(entry.as_ref()?));
        let flavor = flavor.ok_or_else(|| {
            let fix = "set flavor to openldap (also for compatible servers), 389ds or ad";
            Error::rights("the server does not report its product", fix)
        })?;
        let texts = |name| {
            let entry = entry.iter();
            entry.flat_map(move |entry| entry.texts(name).map(str::to_owned))
        };
        let mut contexts: Vec<String> = texts("defaultNamingContext").collect();
        if contexts.is_empty() {
            contexts = texts("namingContexts").collect();
        }
        Ok(Self { flavor, contexts })
    }
}

fn detect(entry: &Entry) -> Option<Flavor> {
    let has = |name, part: &str| entry.texts(name).any(|text| text.contains(part));
    if has("supportedCapabilities", ACTIVE_DIRECTORY) {
        Some(Flavor::ActiveDirectory)
    } else if has("vendorName", "389") || has("vendorVersion", "389-Directory") {
        Some(Flavor::Ds389)
    } else if has("objectClass", "OpenLDAProotDSE") {
        Some(Flavor::OpenLdap)
    } else {
        None
    }
}

impl Flavor {
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenLdap => "OpenLDAP",
            Self::Ds389 => "389-DS",
            Self::ActiveDirectory => "Active Directory",
        }
    }

    /// Selects people, unless a filter is configured.
    pub(super) fn people_filter(self) -> &'static str {
        match self {
            Self::OpenLdap | Self::Ds389 => "(mail=*)",
            // Contacts and groups also have mailboxes.
            Self::ActiveDirectory => {
                "(&(objectCategory=person)(objectClass=user)(|(mail=*)(userPrincipalName=*)(proxyAddresses=*)))"
            }
        }
    }

    /// The attributes to read. Operational attributes must be named.
    pub(super) fn attributes(self) -> &'static [&'static str] {
        match self {
            Self::OpenLdap => &[
                "entryUUID",
                "mail",
                "displayName",
                "cn",
                "uid",
                "gidNumber",
                "pwdAccountLockedTime",
                "pwdEndTime",
                "shadowExpire",
            ],
            Self::Ds389 => &[
                "nsUniqueId",
                "ipaUniqueID",
                "mail",
                "displayName",
                "cn",
                "uid",
                "gidNumber",
                "nsAccountLock",
                "krbPrincipalExpiration",
                "shadowExpire",
            ],
            Self::ActiveDirectory => &[
                "objectGUID",
                "mail",
                "proxyAddresses",
                "userPrincipalName",
                "displayName",
                "cn",
                "primaryGroupID",
                "userAccountControl",
                "accountExpires",
                "isDeleted",
            ],
        }
    }

    /// Attributes with the immutable id; the first one present counts.
    pub(super) fn id_attributes(self) -> &'static [&'static str] {
        match self {
            Self::OpenLdap => &["entryUUID"],
            // FreeIPA lets accounts read ipaUniqueID, but not nsUniqueId.
            Self::Ds389 => &["ipaUniqueID", "nsUniqueId"],
            Self::ActiveDirectory => &["objectGUID"],
        }
    }

    pub(super) fn id(self, entry: &Entry) -> Option<String> {
        match self {
            Self::OpenLdap | Self::Ds389 => {
                let mut texts = self.id_attributes().iter().map(|name| entry.text(name));
                Some(texts.find_map(|text| text)?.to_ascii_lowercase())
            }
            // The first three parts are little-endian (MS-DTYP §2.3.4.2).
            Self::ActiveDirectory => {
                let bytes = entry.bytes("objectGUID")?.try_into().ok()?;
                Some(Uuid::from_bytes_le(bytes).to_string())
            }
        }
    }

    pub(super) fn id_filter(self, id: &str) -> String {
        let id = escape(id);
        let names = self.id_attributes().iter();
        let terms: String = names.map(|name| format!("({name}={id})")).collect();
        format!("(|{terms})")
    }

    /// Selects people whose id can be read.
    pub(super) fn people_with_id_filter(self, people: &str) -> String {
        let names = self.id_attributes().iter();
        let terms: String = names.map(|name| format!("({name}=*)")).collect();
        format!("(&{people}(|{terms}))")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_detected_from_its_root_dse() {
        let root = |attributes: &[(&str, &str)]| {
            let attributes: Vec<_> = attributes
                .iter()
                .map(|(name, value)| (*name, value.as_bytes()))
                .collect();
            detect(&Entry::new("", &attributes))
        };
        let ad = [
            ("supportedCapabilities", "1.2.840.113556.1.4.1670"),
            ("supportedCapabilities", "1.2.840.113556.1.4.800"),
        ];
        assert_eq!(root(&ad), Some(Flavor::ActiveDirectory));
        let openldap = [("objectClass", "top"), ("objectClass", "OpenLDAProotDSE")];
        assert_eq!(root(&openldap), Some(Flavor::OpenLdap));
        let project = [("objectClass", "top"), ("vendorName", "389 Project")];
        assert_eq!(root(&project), Some(Flavor::Ds389));
        let redhat = [("vendorVersion", "389-Directory/2.3.1 B2023.060.2127")];
        assert_eq!(root(&redhat), Some(Flavor::Ds389));
        assert_eq!(root(&[("vendorName", "Apache Software Foundation")]), None);
    }

    #[test]
    fn ids_have_the_form_of_each_product() {
        let guid: [u8; 16] = [
            0xbd, 0xf3, 0x47, 0x14, 0x3c, 0x2b, 0x1a, 0x40, 0x9e, 0x8f, 1, 2, 3, 4, 5, 6,
        ];
        let entry = Entry::new("cn=x", &[("objectGUID", &guid)]);
        let id = Flavor::ActiveDirectory.id(&entry);
        assert_eq!(id.as_deref(), Some("1447f3bd-2b3c-401a-9e8f-010203040506"));
        let short = Entry::new("cn=x", &[("objectGUID", b"short")]);
        assert_eq!(Flavor::ActiveDirectory.id(&short), None);

        let both: [(&str, &[u8]); 2] = [("nsUniqueId", b"1-2-3-4"), ("ipaUniqueID", b"AB-C")];
        let both = Entry::new("cn=x", &both);
        assert_eq!(Flavor::Ds389.id(&both).as_deref(), Some("ab-c"));
        assert_eq!(Flavor::OpenLdap.id(&both), None);
    }

    #[test]
    fn an_id_cannot_change_a_filter() {
        assert_eq!(
            Flavor::OpenLdap.id_filter("*)(mail=*"),
            "(|(entryUUID=\\2a\\29\\28mail=\\2a))"
        );
    }
}
