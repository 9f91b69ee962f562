//! `lapsed explain EMAIL`: a person's tokens, and the latest notices to them.

use crate::cli::exit::{Failure, Result};
use crate::cli::identity;
use crate::cli::notice::NoticeLine;
use crate::cli::output::{Sheet, View};
use crate::domain::Address;
use crate::engine::DEAD_ADDRESS_TTL;
use crate::store::{NoticeFilter, Store};
use crate::time::shift;

/// How many notices are shown.
const MAX_NOTICES: i64 = 20;

/// The page about a person, if `text` is an address and not the name of a token.
pub(super) async fn find_page(
    store: &Store,
    text: &str,
    domain: &str,
    view: View,
) -> Result<Option<String>> {
    let Ok(person) = text.parse::<Address>() else {
        return Ok(None);
    };
    let mut tx = store.begin_read().await?;
    if !tx.find_tokens_by_name(text, 1).await?.is_empty() {
        return Ok(None);
    }
    let filter = NoticeFilter {
        recipient_key: Some(person.key().to_owned()),
        ..NoticeFilter::default()
    };
    let notices = tx.list_notices(&filter, None, MAX_NOTICES).await?;
    let refused_since = shift(view.now, -DEAD_ADDRESS_TTL);
    let dead = tx.load_dead_addresses(refused_since).await?;
    drop(tx);
    let tokens = identity::load_tokens(store, &person, view.now).await?;
    if tokens.is_empty() && notices.is_empty() {
        let error = anyhow::anyhow!("{person} has issued no token and got no notice");
        let hint = "`lapsed identity show EMAIL` shows what directories report";
        return Err(Failure::failed(error).hint(hint).into());
    }
    let mut sheet = Sheet::new(view);
    sheet.section(person.as_str());
    if let Some((_, reason)) = dead.iter().find(|(key, _)| key == person.key()) {
        sheet.text(&format!(
            "A mail server refused the address, so others are notified: {reason}"
        ));
        sheet.text("`lapsed address clear EMAIL` uses it again.");
    }
    sheet.section("Tokens");
    sheet.table(&tokens, &["ISSUER"]);
    sheet.section("Latest notices");
    let lines: Vec<_> = notices
        .into_iter()
        .map(|notice| NoticeLine::new(notice, domain))
        .collect();
    sheet.table(&lines, &["RECIPIENT"]);
    sheet.section("More");
    sheet.text("`lapsed explain ID` explains the notices of one token.");
    sheet.text("`lapsed notice list --recipient EMAIL` lists all notices to a person.");
    Ok(Some(sheet.into_text()))
}
