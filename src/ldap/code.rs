//! Result codes (RFC 4511 §4.1.9), in words, with what to do about each.

/// There is no such entry.
pub const NO_SUCH_OBJECT: u32 = 32;

/// No code of a server: the client itself understands no filter (draft-ietf-ldapext-ldap-c-api §7).
pub const FILTER_ERROR: u32 = 87;

/// What it is, and what to do.
pub const BAD_FILTER: Words = (
    "the filter makes no sense",
    "correct filter, as RFC 4515 has it",
);

/// What it is, and what to do.
type Words = (&'static str, &'static str);

/// What an answer to a bind means. Of its text only the number of Active Directory is used.
pub fn of_bind(code: u32, text: &str) -> Words {
    const CREDENTIALS: &str = "correct bind_dn and password";
    const ENCRYPT: &str = "write url with ldaps://, or starttls = true";
    match code {
        8 | 13 => ("it wants encryption first", ENCRYPT),
        49 => of_active_directory(text),
        19 => (
            "the account is locked, or its password must be changed",
            "unlock it, or set a new password that does not expire",
        ),
        34 => (
            "bind_dn is no name of an entry",
            "write it as cn=lapsed,ou=services,dc=example,dc=org",
        ),
        48 => ("it takes no such sign-in of this account", CREDENTIALS),
        50 => (
            "it has no right to sign in",
            "give the account the right to sign in",
        ),
        53 => (
            "the account is disabled, or such a sign-in is not allowed",
            "enable the account of bind_dn, and use encryption",
        ),
        51 | 52 => BUSY,
        NO_SUCH_OBJECT => ("there is no such account", CREDENTIALS),
        10 => ELSEWHERE,
        _ => OTHER,
    }
}

/// `80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data 533, v4563`.
fn of_active_directory(text: &str) -> Words {
    const MEND: &str = "mend that account, or name another in bind_dn";
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
    (reason, MEND)
}

const BUSY: Words = (
    "it is busy or stopped",
    "it is asked again at the next sweep; if that goes on, see the server's log",
);
const ELSEWHERE: Words = (
    "what was asked for is on another server",
    "correct base, or write that server as url; referrals are never followed",
);
const OTHER: Words = ("an error", "see the server's log");

/// What an answer to a search means: it holds a part, or nothing.
pub fn of_search(code: u32) -> Words {
    match code {
        1 => (
            "it does not count the connection as signed in",
            "correct bind_dn; Active Directory takes name@domain, too",
        ),
        3 => (
            "its time limit was reached",
            "raise that limit for the account of bind_dn, or let the attributes of filter be indexed",
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
        12 => (
            "it does not know an extension that was asked for",
            "see whether flavor is right",
        ),
        NO_SUCH_OBJECT => (
            "there is no such base, or the account does not see it",
            "correct base, or let the account of bind_dn read it",
        ),
        34 => (
            "a name is none of an entry",
            "correct base; it is written as dc=example,dc=org",
        ),
        50 => (
            "the account may not search there",
            "let the account of bind_dn search and read what is below base",
        ),
        53 => (
            "it does not want to answer such a search",
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
    fn active_directory_says_why_an_account_is_not_let_in() {
        let text = |data| {
            format!(
                "80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data {data}, v4563\0"
            )
        };
        assert_eq!(of_bind(49, &text("533")).0, "it is disabled");
        assert_eq!(of_bind(49, &text("701")).0, "it has expired");
        let wrong = "its name or password is wrong";
        assert_eq!(of_bind(49, &text("52e")).0, wrong);
        assert_eq!(of_bind(49, "").0, wrong);
        assert_eq!(of_bind(8, &text("533")).0, "it wants encryption first");
    }

    #[test]
    fn what_is_not_whole_says_how_to_get_it_whole() {
        for code in [1, 3, 4, 10, 11, 12, 32, 34, 50, 51, 53] {
            assert_ne!(of_search(code), OTHER, "{code}");
        }
        assert_eq!(of_search(80), OTHER);
    }
}
