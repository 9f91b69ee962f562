//! Finds the token that a reference on the command line names.

use std::fmt::Write as _;

use super::exit::{Failure, Result};
use crate::domain::{Token, TokenId, TokenRef};
use crate::store::Tx;

/// How many matches an ambiguous reference lists.
const MAX_LISTED_MATCHES: usize = 5;

/// The token that `reference` names. The error says how to write a reference that names one.
pub(super) async fn find_token(tx: &mut Tx, reference: &TokenRef) -> Result<Token> {
    match reference {
        TokenRef::External(source, external_id) => {
            let id = TokenId::new(source, external_id);
            let found = tx.load_tokens(&[id]).await?;
            found.into_iter().next().ok_or_else(|| {
                let error = anyhow::anyhow!("source {source:?} has no token {external_id:?}");
                let hint = "`lapsed token list --format csv` shows the source and external id of every token";
                Failure::failed(error).hint(hint).into()
            })
        }
        TokenRef::Prefix(prefix) => {
            let limit = i64::try_from(MAX_LISTED_MATCHES + 1).unwrap_or(i64::MAX);
            let mut found = tx.find_tokens_by_prefix(prefix, limit).await?;
            match (found.pop(), found.is_empty()) {
                (Some(only), true) => Ok(only),
                (Some(last), false) => {
                    found.push(last);
                    Err(ambiguous_error(prefix, &found).into())
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

fn ambiguous_error(prefix: &str, found: &[Token]) -> Failure {
    let mut text = format!("several tokens' ids begin with {prefix}:");
    for token in found.iter().take(MAX_LISTED_MATCHES) {
        let _ = write!(
            text,
            "\n  {}  {}/{}  {}",
            token.id,
            token.source,
            token.external_id,
            token.label()
        );
    }
    if found.len() > MAX_LISTED_MATCHES {
        text.push_str("\n  and more");
    }
    Failure::failed(anyhow::anyhow!(text)).hint("give more digits, or SOURCE/EXTERNAL_ID")
}
