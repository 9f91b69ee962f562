//! The texts of errors with all their causes, which the JSON lines of `tracing` omit, and of panics.

use std::any::Any;
use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use futures_util::FutureExt;

/// Displays an error and its causes: `cannot open lapsed.db: permission denied`.
#[derive(Debug, Clone, Copy)]
pub struct Causes<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let cause_text = error.to_string();
            // Libraries often end their message with the message of the cause.
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            cause = error.source();
        }
        f.write_str(&text)
    }
}

thread_local! {
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs work of a library that panics on invalid input; `None` if it does. The panic hook reports nothing.
pub async fn contain_panics<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
    poll_fn(|context| {
        let outer = IS_CONTAINED.replace(true);
        let polled = work.as_mut().poll(context);
        IS_CONTAINED.set(outer);
        polled
    })
    .await
    .ok()
}

/// Whether [`contain_panics`] is at work on this thread.
pub fn contains_panics() -> bool {
    IS_CONTAINED.get()
}

/// The message of a caught panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn an_error_is_displayed_with_all_its_causes() {
        let first = Layer("disk full", None);
        let error = Layer(
            "cannot sweep",
            Some(Layer("cannot write", Some(first.into())).into()),
        );
        assert_eq!(
            Causes(&error).to_string(),
            "cannot sweep: cannot write: disk full"
        );
        let error = Layer(
            "cannot sweep: disk full",
            Some(Layer("disk full", None).into()),
        );
        assert_eq!(Causes(&error).to_string(), "cannot sweep: disk full");
    }

    #[tokio::test]
    async fn a_contained_panic_ends_only_its_work() {
        let work = async {
            tokio::task::yield_now().await;
            assert!(contains_panics());
            7
        };
        assert_eq!(contain_panics(work).await, Some(7));
        let lost = contain_panics(async { panic!("lost") }).await;
        assert_eq!(lost.map(|(): ()| ()), None);
        assert!(!contains_panics());
    }

    #[test]
    fn a_panic_is_displayed_with_its_message() {
        assert_eq!(panic_text(&"lost"), "lost");
        assert_eq!(panic_text(&"lost".to_owned()), "lost");
        assert_eq!(panic_text(&7), "no message");
    }
}
