//! Listings that go from the store to the output page by page, so that a million rows take the
//! memory of a thousand.

use std::io::Write;

use super::{
    output::{Printer, Row},
    setup::store_failure,
};
use crate::store;

/// Rows to a page, each of which is read in a transaction of its own: a reader that pauses (`less`)
/// must not keep one open.
const PAGE: i64 = 1000;

/// Prints rows until there are no more, or as many as were asked for. `next` reads the page after
/// the row it is given; `shown` makes of a row what is printed.
pub(super) async fn pages<T, R: Row>(
    printer: &mut Printer<R, impl Write, impl Write>,
    limit: Option<u64>,
    mut next: impl AsyncFnMut(Option<&T>, i64) -> store::Result<Vec<T>>,
    shown: impl Fn(&T) -> store::Result<R>,
) -> anyhow::Result<()> {
    let mut left = limit.unwrap_or(u64::MAX);
    let mut last: Option<T> = None;
    while left > 0 {
        let wanted = i64::try_from(left).map_or(PAGE, |left| left.min(PAGE));
        let mut page = next(last.as_ref(), wanted).await.map_err(store_failure)?;
        for item in &page {
            printer.row(&shown(item).map_err(store_failure)?)?;
        }
        let count = page.len() as u64;
        left -= count.min(left);
        if count < wanted.unsigned_abs() {
            break;
        }
        last = page.pop();
    }
    Ok(())
}
