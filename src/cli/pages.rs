//! Prints listings page by page, so that a million rows need the memory of one page.

use super::exit::Result;
use super::output::{Printer, Row};
use crate::store;

/// Each page has its own transaction, so that a paused reader (`less`) keeps none open.
const PAGE_SIZE: i64 = 1000;

/// Prints up to `limit` rows. `next` loads the page after a row; `to_row` converts a stored row.
pub(super) async fn print_pages<T: Clone, R: Row>(
    printer: &mut Printer<'_, R>,
    limit: Option<u64>,
    mut next: impl AsyncFnMut(Option<&T>, i64) -> store::Result<Vec<T>>,
    to_row: impl Fn(T) -> R,
) -> Result<()> {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut last: Option<T> = None;
    while left > 0 {
        let wanted = i64::try_from(left).map_or(PAGE_SIZE, |left| left.min(PAGE_SIZE));
        let page = next(last.as_ref(), wanted).await?;
        let count = page.len() as u64;
        last = page.last().cloned();
        for item in page {
            printer.print_row(&to_row(item))?;
        }
        left -= count.min(left);
        if count < wanted.unsigned_abs() {
            break;
        }
    }
    Ok(())
}
