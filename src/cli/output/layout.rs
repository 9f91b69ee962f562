//! The widths of a table's columns, decided once from the first rows, and the formatted lines.

use std::collections::BTreeSet;

use console::{measure_text_width, truncate_str};

use super::row::{Cell, Row, STRONG, View};
use crate::text;

const COLUMN_GAP: usize = 2;

/// The widths of the columns; `None` for an omitted column.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    widths: Vec<Option<usize>>,
    /// Which columns hold ids, which are cut without an ellipsis.
    ids: Vec<bool>,
}

pub(super) fn row_cells<R: Row>(row: &R, view: &View) -> Vec<Cell> {
    R::COLUMNS
        .iter()
        .map(|column| (column.cell)(row, view))
        .collect()
}

impl Layout {
    /// Fits the columns to the terminal, if there is one: narrows them by rank, then omits them.
    /// The columns in `hidden` are always omitted.
    pub fn fit<R: Row>(rows: &[Vec<Cell>], hidden: &[&str], view: &View) -> Self {
        let natural = natural_widths::<R>(rows, hidden, view);
        let columns = R::COLUMNS.iter();
        let ids = columns.map(|column| column.prefix.is_some()).collect();
        let mut widths = natural.clone();
        let Some(available) = view.width else {
            return Self { widths, ids };
        };
        while !narrow::<R>(&mut widths, available, |min_width| min_width) {
            let Some(index) = highest_rank::<R>(&widths) else {
                narrow::<R>(&mut widths, available, |_| 1);
                break;
            };
            for (width, natural) in widths.iter_mut().zip(&natural) {
                *width = width.and(*natural);
            }
            widths[index] = None;
        }
        Self { widths, ids }
    }

    /// The titles of the omitted columns.
    pub fn omitted_titles<R: Row>(&self) -> Vec<&'static str> {
        let columns = R::COLUMNS.iter().zip(&self.widths);
        columns
            .filter(|(_, width)| width.is_none())
            .map(|(column, _)| column.title)
            .collect()
    }

    pub fn header<R: Row>(&self, view: &View) -> String {
        let titles: Vec<_> = R::COLUMNS
            .iter()
            .map(|column| Cell::new(column.title).style(STRONG))
            .collect();
        self.line(&titles, view)
    }

    /// One row, without a line break.
    pub fn line(&self, cells: &[Cell], view: &View) -> String {
        let mut line = String::new();
        let mut blank = 0;
        for ((cell, width), is_id) in cells.iter().zip(&self.widths).zip(&self.ids) {
            let Some(width) = *width else { continue };
            let shown = match view.width {
                Some(_) if *is_id => cell.text.get(..width).unwrap_or(&cell.text).into(),
                Some(_) => truncate_str(&cell.text, width, "…"),
                None => cell.text.as_str().into(),
            };
            line.extend(std::iter::repeat_n(' ', blank));
            let fenced = if view.width.is_some() {
                text::isolate(&shown)
            } else {
                shown.clone()
            };
            line.push_str(&view.paint(cell.style, &fenced));
            blank = width.saturating_sub(measure_text_width(&shown)) + COLUMN_GAP;
        }
        line
    }
}

/// The widths at which nothing is cut except ids on a terminal.
fn natural_widths<R: Row>(rows: &[Vec<Cell>], hidden: &[&str], view: &View) -> Vec<Option<usize>> {
    let columns = R::COLUMNS.iter().enumerate();
    columns
        .map(|(index, column)| {
            let texts = || rows.iter().map(|cells| cells[index].text.as_str());
            let widest = match column.prefix {
                Some(min_width) if view.width.is_some() => {
                    Some(unique_prefix_length(texts(), min_width))
                }
                _ => texts().map(measure_text_width).max(),
            };
            let width = widest.unwrap_or_default().max(column.title.len());
            (!hidden.contains(&column.title)).then_some(width)
        })
        .collect()
}

/// How many first characters distinguish these ids, at least `min_width`.
fn unique_prefix_length<'a>(ids: impl Iterator<Item = &'a str>, min_width: usize) -> usize {
    let ids: BTreeSet<_> = ids.collect();
    let lengths = ids.iter().zip(ids.iter().skip(1)).map(|(id, next)| {
        let pairs = id.bytes().zip(next.bytes());
        pairs.take_while(|(one, other)| one == other).count() + 1
    });
    lengths.max().unwrap_or_default().max(min_width)
}

/// Narrows the elastic columns to a floor derived from their minimum width: the highest rank first, of
/// equal ranks the widest. Returns whether everything fits.
fn narrow<R: Row>(
    widths: &mut [Option<usize>],
    available: usize,
    floor: fn(usize) -> usize,
) -> bool {
    let kept = widths.iter().flatten().count();
    let total = widths.iter().flatten().sum::<usize>() + COLUMN_GAP * kept.saturating_sub(1);
    let mut excess = total.saturating_sub(available);
    while excess > 0 {
        let columns = R::COLUMNS.iter().zip(widths.iter_mut());
        let elastic = columns.filter_map(|(column, width)| {
            let (width, min_width) = (width.as_mut()?, column.min_width?);
            (*width > floor(min_width)).then_some((column.rank, width))
        });
        let Some((_, widest)) = elastic.max_by_key(|(rank, width)| (*rank, **width)) else {
            return false;
        };
        *widest -= 1;
        excess -= 1;
    }
    true
}

fn highest_rank<R: Row>(widths: &[Option<usize>]) -> Option<usize> {
    (0..widths.len())
        .filter(|index| widths[*index].is_some() && R::COLUMNS[*index].rank > 0)
        .max_by_key(|index| R::COLUMNS[*index].rank)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(measure_text_width("日本語"), 6);
        assert_eq!(truncate_str("日本語", 5, "…"), "日本…");
        assert_eq!(truncate_str("日本語", 4, "…"), "日…");
    }

    proptest! {
        #[test]
        fn a_cut_text_fits(text in "\\PC*", width in 1_usize..40) {
            let text = text::clean(&text);
            prop_assert!(measure_text_width(&truncate_str(&text, width, "…")) <= width);
        }
    }
}
