//! A progress bar on standard error, shown only on a terminal.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressBarIter, ProgressDrawTarget, ProgressStyle};

/// A bar that is removed when dropped, so that no error leaves half a bar behind.
pub struct Progress(ProgressBar);

impl Progress {
    /// Counts bytes; `total` is unknown for standard input.
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

    pub fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    /// Shows how many rows the bytes so far had.
    pub fn show_rows(&self, rows: u64) {
        // Formatting costs more than reading a row, so update rarely.
        if rows.is_multiple_of(1024) && !self.0.is_hidden() {
            self.0.set_message(format!("{} rows", HumanCount(rows)));
        }
    }

    /// Wraps a reader and counts its bytes.
    pub fn wrap_reader<R: Read>(&self, inner: R) -> ProgressBarIter<R> {
        self.0.wrap_read(inner)
    }

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
    fn a_wrapped_reader_counts_its_bytes() {
        let progress = Progress::bytes(Some(11));
        let mut text = String::new();
        progress
            .wrap_reader(&b"hello world"[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!((progress.position(), text.as_str()), (11, "hello world"));
    }

    #[test]
    fn every_template_is_valid() {
        for total in [None, Some(10)] {
            Progress::bytes(total).show_rows(1024);
            let rows = Progress::rows(total);
            rows.advance(3);
            assert_eq!(rows.position(), 3);
        }
    }
}
