//! From what somebody types for a token to the token.

use std::fmt::Write as _;

use super::{exit::Failure, setup::store_failure};
use crate::domain::{Token, TokenId, TokenRef};
use crate::store::Tx;

/// How many of several candidates are named.
const NAMED: usize = 5;

/// The one token that `reference` names; an error says how to find or tell apart what it meant.
pub(super) async fn token(tx: &mut Tx, reference: &TokenRef) -> anyhow::Result<Token> {
    match reference {
        TokenRef::External(source, external_id) => {
            let id = TokenId::of(source, external_id);
            let found = tx.tokens_by_id(&[id]).await.map_err(store_failure)?;
            found.into_iter().next().ok_or_else(|| {
                let error = anyhow::anyhow!("source {source:?} has no token {external_id:?}");
                let hint = "`lapsed token list --format csv` shows the source and external id of every token";
                Failure::failed(error).hint(hint).into()
            })
        }
        TokenRef::Prefix(prefix) => {
            let limit = i64::try_from(NAMED + 1).unwrap_or(i64::MAX);
            let mut found = tx
                .tokens_matching(prefix, limit)
                .await
                .map_err(store_failure)?;
            match (found.pop(), found.is_empty()) {
                (Some(only), true) => Ok(only),
                (Some(last), false) => {
                    found.push(last);
                    Err(ambiguous(prefix, &found).into())
                }
                (None, _) => {
                    let error = anyhow::anyhow!("no token's id begins with {prefix}");
                    let hint = "`lapsed token list` shows the ids in its first column; SOURCE/EXTERNAL_ID names a token too";
                    Err(Failure::failed(error).hint(hint).into())
                }
            }
        }
    }
}

fn ambiguous(prefix: &str, found: &[Token]) -> Failure {
    let mut text = format!("several tokens' ids begin with {prefix}:");
    for token in found.iter().take(NAMED) {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n  {}  {}/{}  {}",
            token.id,
            token.source,
            token.external_id,
            token.label()
        );
    }
    if found.len() > NAMED {
        text.push_str("\n  and more");
    }
    Failure::failed(anyhow::anyhow!(text)).hint("give more digits, or SOURCE/EXTERNAL_ID")
}
