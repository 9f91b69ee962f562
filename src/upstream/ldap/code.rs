//! Result codes (RFC 4511 §4.1.9), with an explanation and a fix for each.

pub const NO_SUCH_OBJECT: u32 = 32;

/// A code of the client, which could not parse the filter (draft-ietf-ldapext-ldap-c-api §7).
pub const FILTER_ERROR: u32 = 87;

pub const BAD_FILTER: Explanation = ("the filter is invalid", "correct filter (RFC 4515)");

type Explanation = (&'static str, &'static str);

/// Explains the result of a bind. Of its text only Active Directory's error number is used.
pub fn explain_bind(code: u32, text: &str) -> Explanation {
    const CREDENTIALS: &str = "correct bind_dn and password";
    const ENCRYPT: &str = "write url with ldaps://, or starttls = true";
    match code {
        8 | 13 => ("it requires encryption", ENCRYPT),
        49 => explain_active_directory(text),
        19 => (
            "the account is locked, or its password must be changed",
            "unlock it, or set a new password that does not expire",
        ),
        34 => (
            "bind_dn is not a DN",
            "write it as cn=lapsed,ou=services,dc=example,dc=org",
        ),
        48 => (
            "it does not allow this kind of bind for the account",
            CREDENTIALS,
        ),
        50 => (
            "the account has no right to bind",
            "give the account the right to bind",
        ),
        53 => (
            "the account is disabled, or this kind of bind is not allowed",
            "enable the account of bind_dn, and use encryption",
        ),
        51 | 52 => BUSY,
        NO_SUCH_OBJECT => ("there is no such account", CREDENTIALS),
        10 => ELSEWHERE,
        _ => OTHER,
    }
}

/// `80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data 533, v4563`.
fn explain_active_directory(text: &str) -> Explanation {
    const FIX: &str = "fix that account, or set bind_dn to another";
    let (_, data) = text.split_once("data ").unwrap_or_default();
    let data = data.split([',', ' ']).next().unwrap_or_default();
    let reason = match data {
        "525" => "there is no such account",
        "530" => "it may not sign in at this time",
        "531" => "it may not sign in from here",
        "532" => "its password has expired",
        "533" => "it is disabled",
        "701" => "it has expired",
        "773" => "its password must be changed",
        "775" => "it is locked",
        _ => {
            return (
                "its name or password is wrong",
                "correct bind_dn and password",
            );
        }
    };
    (reason, FIX)
}

const BUSY: Explanation = (
    "it is busy or stopped",
    "lapsed tries again at the next sweep; if the error persists, see the server's log",
);
const ELSEWHERE: Explanation = (
    "the entry is on another server",
    "correct base, or set url to that server; referrals are not followed",
);
const OTHER: Explanation = ("an error", "see the server's log");

/// Explains the result of a search that is incomplete or empty.
pub fn explain_search(code: u32) -> Explanation {
    match code {
        1 => (
            "it does not consider the connection authenticated",
            "correct bind_dn; Active Directory also accepts name@domain",
        ),
        3 => (
            "its time limit was reached",
            "raise that limit for the account of bind_dn, or index the attributes in filter",
        ),
        4 => (
            "its size limit was reached",
            "raise that limit for the account of bind_dn; in OpenLDAP: limits dn.exact=\"…\" size=unlimited",
        ),
        10 => ELSEWHERE,
        11 => (
            "its limit for searches was reached",
            "raise that limit for the account of bind_dn; in 389-DS: nsLookThroughLimit and nsPagedLookThroughLimit",
        ),
        12 => ("it does not support a requested extension", "check flavor"),
        NO_SUCH_OBJECT => (
            "the base does not exist, or the account cannot see it",
            "correct base, or let the account of bind_dn read it",
        ),
        34 => (
            "a name is not a DN",
            "correct base; it is written as dc=example,dc=org",
        ),
        50 => (
            "the account may not search there",
            "let the account of bind_dn search and read what is below base",
        ),
        53 => (
            "it refuses such a search",
            "let the account of bind_dn search, or use another filter",
        ),
        51 | 52 => BUSY,
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_directory_reports_why_a_bind_fails() {
        let text = |data| {
            format!(
                "80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data {data}, v4563\0"
            )
        };
        assert_eq!(explain_bind(49, &text("533")).0, "it is disabled");
        assert_eq!(explain_bind(49, &text("701")).0, "it has expired");
        let wrong = "its name or password is wrong";
        assert_eq!(explain_bind(49, &text("52e")).0, wrong);
        assert_eq!(explain_bind(49, "").0, wrong);
        assert_eq!(explain_bind(8, &text("533")).0, "it requires encryption");
    }

    #[test]
    fn every_code_of_an_incomplete_search_has_an_explanation() {
        for code in [1, 3, 4, 10, 11, 12, 32, 34, 50, 51, 53] {
            assert_ne!(explain_search(code), OTHER, "{code}");
        }
        assert_eq!(explain_search(80), OTHER);
    }
}
