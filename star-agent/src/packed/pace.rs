//! Keeps background work to a number of bytes a second.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A wait is cut into parts of this length, so that a wish to stop is heard.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Counts bytes from its making on.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: Option<u64>,
    started: Instant,
    bytes: u64,
}

impl Pace {
    #[expect(
        clippy::disallowed_methods,
        reason = "a rate is measured against the clock, and decides nothing else"
    )]
    pub(super) fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            bytes_per_second: bytes_per_second.filter(|rate| *rate > 0),
            started: Instant::now(),
            bytes: 0,
        }
    }

    /// So many bytes more; waits until they are due.
    pub(super) fn pass(&mut self, bytes: u64, is_cancelled: &dyn Fn() -> bool) {
        self.bytes += bytes;
        let Some(rate) = self.bytes_per_second else { return };
        let due = Duration::from_secs_f64(self.bytes as f64 / rate as f64);
        // Nobody notifies: what is waited for is time itself.
        let (never, lock) = (Condvar::new(), Mutex::new(()));
        while let Some(rest) = due.checked_sub(self.started.elapsed()).filter(|rest| !rest.is_zero())
            && !is_cancelled()
        {
            let held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            drop(never.wait_timeout(held, rest.min(WAIT_MAX)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_unless_someone_wants_to_stop() {
        let mut pace = Pace::new(Some(1_000_000));
        pace.pass(50_000, &|| false);
        assert!(pace.started.elapsed() >= Duration::from_millis(50));
        let mut stopped = Pace::new(Some(1));
        stopped.pass(1_000_000, &|| true);
        Pace::new(None).pass(u64::MAX, &|| false);
    }
}
