//! Sample letters about tokens and users of the token service.

use std::net::IpAddr;

use chrono::TimeDelta;

use super::parts::{letter, now, token};
use crate::domain::{Basis, LOCAL_SOURCE, Token};
use crate::notify::letter::{AlertEntry, Entry, Letter, OldSecretEntry};

pub(super) fn of_service(token: Token) -> Token {
    Token {
        source: LOCAL_SOURCE.to_owned(),
        external_id: "lp3fK9x2QwAb".to_owned(),
        ..token
    }
}

fn old_secret_entry(token: Token) -> OldSecretEntry {
    OldSecretEntry {
        ends_at: now() + TimeDelta::hours(4),
        addresses: [[10, 1, 2, 3], [10, 1, 2, 4]].map(IpAddr::from).to_vec(),
        basis: Basis::Issuer,
        page: None,
        alert: AlertEntry {
            title: format!("The old secret of token {} is still used", token.label()),
            text: format!(
                "The token was regenerated, and something still uses its old secret, which ends soon. Put the new \
                 secret there.\n\nSee where it is used from:\n\n    lapsed token show {}",
                token.external_id
            ),
        },
        token,
    }
}

pub(super) fn old_secret() -> Letter {
    let entry = old_secret_entry(of_service(token("ci-deploy")));
    letter("19", vec![Entry::OldSecret(entry)])
}

pub(super) fn old_secret_bare() -> Letter {
    let token = Token {
        description: None,
        issuer: None,
        issuer_name: None,
        account: None,
        ..token("")
    };
    let entry = OldSecretEntry {
        ends_at: now() - TimeDelta::hours(2),
        addresses: Vec::new(),
        basis: Basis::Admin,
        ..old_secret_entry(of_service(token))
    };
    letter("20", vec![Entry::OldSecret(entry)])
}

/// Users of the service who lost access, where it follows the directories.
pub(super) fn stopped() -> Letter {
    let alert = AlertEntry {
        title: "The tokens of 2 users no longer work: access was lost".to_owned(),
        text: "A directory reports that these users of the token service lost access, and [service] \
               follow_directories is on. What uses their tokens is refused from now on. The tokens work again once a \
               directory reports the user as active.\n\n    \
               ada@example.org: hr: status \"disabled\" in people.csv, line 7\n    \
               grace@example.org: hr: status \"disabled\" in people.csv, line 9\n\n\
               See the tokens of one of them:\n\n    lapsed token list --issuer EMAIL"
            .to_owned(),
    };
    letter("21", vec![Entry::Alert(alert)])
}
