//! The warnings that PostgreSQL sends with the result of a statement. sqlx only logs them.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The target of sqlx's log lines about what a server sends beside a result.
const TARGET: &str = "sqlx::postgres::notice";

thread_local! {
    /// The last warning that arrived on this thread.
    static WARNING: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; also returns the last warning that a server sent meanwhile. Needs a [`layer`].
pub async fn collect<T>(work: impl Future<Output = T>) -> (T, Option<String>) {
    let mut work = pin!(work);
    let mut warning = None;
    let output = poll_fn(|context| {
        // sqlx logs while it is polled, on this thread.
        WARNING.take();
        let poll = work.as_mut().poll(context);
        if let Some(arrived) = WARNING.take() {
            warning = Some(arrived);
        }
        poll
    })
    .await;
    (output, warning)
}

/// The part of the log that [`collect`] needs, regardless of the log level.
pub fn layer<S>() -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let filter = FilterFn::new(is_warning).with_max_level_hint(Level::WARN);
    Layer::<S>::with_filter(Collector, filter)
}

fn is_warning(metadata: &Metadata<'_>) -> bool {
    *metadata.level() == Level::WARN && metadata.target() == TARGET
}

struct Collector;

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        WARNING.set(Some(text.0));
    }
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    async fn warn(text: &str) {
        tokio::task::yield_now().await;
        tracing::warn!(target: TARGET, "{text}");
        tokio::task::yield_now().await;
    }

    #[tokio::test]
    async fn a_warning_belongs_to_the_future_that_is_polled() {
        let subscriber = tracing_subscriber::registry().with(layer());
        let _log = tracing::subscriber::set_default(subscriber);
        let quiet = collect(tokio::task::yield_now());
        let (((), found), ((), none)) = tokio::join!(collect(warn("not replicated")), quiet);
        assert_eq!(found.as_deref(), Some("not replicated"));
        assert_eq!(none, None);
        warn("nobody collects this").await;
        assert_eq!(collect(async {}).await, ((), None));
    }

    #[tokio::test]
    async fn other_targets_and_levels_are_no_warnings() {
        let subscriber = tracing_subscriber::registry().with(layer());
        let _log = tracing::subscriber::set_default(subscriber);
        let work = async {
            tracing::warn!("of another target");
            tracing::info!(target: TARGET, "a notice");
        };
        assert_eq!(collect(work).await, ((), None));
    }
}
