//! Waiting for conditions in tests.

use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine; only a failing test waits this long.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Polls until there is a value.
///
/// # Panics
/// After a time-out.
pub fn wait_until<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(started.elapsed() < TIMEOUT, "timed out waiting: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
