//! Limits background work: to a number of bytes per second, and to a share of the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Maximum length of one wait. Longer waits are divided, so that a cancellation is noticed.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// Counts bytes from its creation on.
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

    /// Counts more bytes, and waits until they are due.
    pub(super) fn pass(&mut self, bytes: u64, is_cancelled: &dyn Fn() -> bool) {
        self.bytes += bytes;
        let Some(rate) = self.bytes_per_second else { return };
        let due = Duration::from_secs_f64(self.bytes as f64 / rate as f64);
        wait(&|| due.checked_sub(self.started.elapsed()), is_cancelled);
    }
}

/// While others are active, background work uses one part of the time in this many. With two processors the others keep
/// more than four fifths of their throughput.
const REST_PARTS: u32 = 3;
/// Maximum length of a rest, so that the work ends at some time.
const REST_MAX: Duration = Duration::from_secs(2);

/// Gives readers and writers priority: background work rests twice as long as it has worked if others are active.
#[derive(Debug)]
pub(super) struct Courtesy<'a> {
    /// Counts the operations of others.
    activity: &'a AtomicU64,
    seen: u64,
    since: Instant,
    is_urgent: bool,
}

impl<'a> Courtesy<'a> {
    /// Urgent work does not rest.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long work took is measured, and decides only how long it rests"
    )]
    pub(super) fn new(activity: &'a AtomicU64, is_urgent: bool) -> Self {
        Self { activity, seen: activity.load(Ordering::Relaxed), since: Instant::now(), is_urgent }
    }

    /// A part of the work is done.
    #[expect(
        clippy::disallowed_methods,
        reason = "how long work took is measured, and decides only how long it rests"
    )]
    pub(super) fn rest(&mut self, is_cancelled: &dyn Fn() -> bool) {
        if !self.is_urgent && self.activity.load(Ordering::Relaxed) != self.seen {
            let rest = (self.since.elapsed() * REST_PARTS).min(REST_MAX);
            wait(&|| rest.checked_sub(self.since.elapsed()), is_cancelled);
        }
        self.seen = self.activity.load(Ordering::Relaxed);
        self.since = Instant::now();
    }
}

/// Waits until no time is left. Nothing notifies it, since it waits for time only.
fn wait(rest: &dyn Fn() -> Option<Duration>, is_cancelled: &dyn Fn() -> bool) {
    let (never, lock) = (Condvar::new(), Mutex::new(()));
    while let Some(rest) = rest().filter(|rest| !rest.is_zero())
        && !is_cancelled()
    {
        let held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(never.wait_timeout(held, rest.min(WAIT_MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_limited_per_second_unless_the_work_is_cancelled() {
        let mut pace = Pace::new(Some(1_000_000));
        pace.pass(50_000, &|| false);
        assert!(pace.started.elapsed() >= Duration::from_millis(50));
        let mut stopped = Pace::new(Some(1));
        stopped.pass(1_000_000, &|| true);
        Pace::new(None).pass(u64::MAX, &|| false);
    }

    #[test]
    fn work_rests_while_others_are_at_work_unless_it_is_urgent() {
        let activity = AtomicU64::new(0);
        let took = |is_urgent, is_busy: bool| {
            let mut courtesy = Courtesy::new(&activity, is_urgent);
            courtesy.since -= Duration::from_millis(10);
            activity.fetch_add(u64::from(is_busy), Ordering::Relaxed);
            let before = courtesy.since;
            courtesy.rest(&|| false);
            courtesy.since - before
        };
        let rested = Duration::from_millis(10) * REST_PARTS;
        assert!(took(false, true) >= rested);
        assert!(took(true, true) < rested);
        assert!(took(false, false) < rested);
    }
}
