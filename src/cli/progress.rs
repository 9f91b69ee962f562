//! Progress of long work: a bar on standard error while that is a terminal, nothing otherwise.

use std::{
    io::{IsTerminal, Read},
    time::Duration,
};

use indicatif::{HumanCount, ProgressBar, ProgressBarIter, ProgressDrawTarget, ProgressStyle};

/// A bar that goes away when dropped, so that no error path leaves half a bar behind.
pub struct Progress(ProgressBar);

impl Progress {
    /// Counts bytes, of `total` where it is known (it is not for standard input).
    #[must_use]
    pub fn bytes(total: Option<u64>) -> Self {
        let known =
            "{bar:32} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg} (about {eta} left)";
        Self::new(
            total,
            known,
            "{spinner} {bytes} {binary_bytes_per_sec} {msg}",
        )
    }

    /// Counts rows, of `total` where it is known.
    #[must_use]
    pub fn rows(total: Option<u64>) -> Self {
        let known = "{bar:32} {human_pos}/{human_len} {msg} (about {eta} left)";
        Self::new(total, known, "{spinner} {human_pos} {msg}")
    }

    fn new(total: Option<u64>, known: &str, unknown: &str) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = if total.is_some() { known } else { unknown };
        let style = ProgressStyle::with_template(template).expect("the templates are constants");
        bar.set_style(style.progress_chars("=> "));
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self(bar)
    }

    /// So many more bytes or rows are done.
    pub fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    /// How many rows these bytes held so far.
    pub fn rows_so_far(&self, rows: u64) {
        // Formatting costs more than reading a row: only now and then.
        if rows.is_multiple_of(1024) && !self.0.is_hidden() {
            self.0.set_message(format!("{} rows", HumanCount(rows)));
        }
    }

    /// Counts the bytes that are read through it.
    pub fn reader<R: Read>(&self, inner: R) -> ProgressBarIter<R> {
        self.0.wrap_read(inner)
    }

    /// How far it has come.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.0.position()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn bytes_read_through_it_are_counted() {
        let progress = Progress::bytes(Some(11));
        let mut text = String::new();
        progress
            .reader(&b"hello world"[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!((progress.position(), text.as_str()), (11, "hello world"));
    }

    #[test]
    fn every_template_is_one() {
        for total in [None, Some(10)] {
            Progress::bytes(total).rows_so_far(1024);
            let rows = Progress::rows(total);
            rows.advance(3);
            assert_eq!(rows.position(), 3);
        }
    }
}
