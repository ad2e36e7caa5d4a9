//! Yield: failures that are caused by a Star, and not by the items in flight to it.
//!
//! With penalties alone, an outage of half a minute would give up a whole queue. So there is a breaker for each place
//! that can fail as a whole. It opens when several different items failed there in a row, or at once if an item cannot
//! be the cause. Then the place yields: nothing is sent there, and the failures are taken back. After a delay that
//! grows with each failed attempt, one probe is sent, and its success closes the breaker.
//!
//! The breaker only counts and advises. Its owner refunds the penalties, holds back the items and sends the probe.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::bulletin::truncate_visibly;
use crate::time::{Monotonic, Now};

use super::ERROR_BYTES_MAX;

/// When a breaker opens, and how long it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct YieldConfig {
    /// The number of different items that must fail in a row, without a success in between, to open it.
    pub items_to_open: usize,
    /// The wait before the first probe.
    pub initial_delay: Duration,
    /// Maximum wait; each wait is twice the one before.
    pub max_delay: Duration,
}

impl Default for YieldConfig {
    fn default() -> Self {
        Self { items_to_open: 3, initial_delay: Duration::from_secs(1), max_delay: Duration::from_secs(30) }
    }
}

/// The consequence of a failure for its item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum YieldVerdict<K> {
    /// It counts against the item, for now.
    Counted,
    /// The place yields from now on. The failures of these items are to be taken back. They include the item that
    /// failed just now, unless its failure certainly had another cause.
    Opened {
        /// In key order.
        refunded: Vec<K>,
    },
    /// The place already yields: the failure does not count.
    Held,
}

/// Whether an item may be sent to the place of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum YieldGate {
    /// Any number may.
    Open,
    /// One may, as a probe, while no other is in flight.
    Probe,
    /// None may before this time.
    Until(Monotonic),
}

/// A breaker; see the module.
#[derive(Debug, Clone)]
pub struct StarYield<K> {
    config: YieldConfig,
    /// While closed: items that failed since the last success.
    suspects: BTreeSet<K>,
    open: Option<Open>,
}

#[derive(Debug, Clone)]
struct Open {
    since: Now,
    until: Monotonic,
    delay: Duration,
    last_error: String,
}

impl<K: Ord> StarYield<K> {
    /// A closed breaker.
    pub fn new(config: YieldConfig) -> Self {
        Self { config, suspects: BTreeSet::new(), open: None }
    }

    /// An item failed, probably because of the place.
    pub fn on_failure(&mut self, now: Now, key: K, error: &str) -> YieldVerdict<K> {
        if self.open.is_some() {
            self.on_failure_while_open(now, error);
            return YieldVerdict::Held;
        }
        self.suspects.insert(key);
        if self.suspects.len() < self.config.items_to_open {
            return YieldVerdict::Counted;
        }
        self.open(now, error)
    }

    /// An item failed with an error that it cannot have caused: the place could not be reached.
    pub fn on_sure_failure(&mut self, now: Now, error: &str) -> YieldVerdict<K> {
        if self.open.is_some() {
            self.on_failure_while_open(now, error);
            return YieldVerdict::Held;
        }
        self.open(now, error)
    }

    /// An item succeeded. Returns whether that closed an open breaker.
    pub fn on_success(&mut self) -> bool {
        self.suspects.clear();
        self.open.take().is_some()
    }

    fn open(&mut self, now: Now, error: &str) -> YieldVerdict<K> {
        let delay = self.config.initial_delay.min(self.config.max_delay);
        self.open = Some(Open {
            since: now,
            until: now.monotonic + delay,
            delay,
            last_error: truncate_visibly(error, ERROR_BYTES_MAX),
        });
        YieldVerdict::Opened { refunded: std::mem::take(&mut self.suspects).into_iter().collect() }
    }

    /// Work in flight when it opened may still fail, which is no news. A probe that fails makes the wait longer.
    fn on_failure_while_open(&mut self, now: Now, error: &str) {
        let Some(open) = &mut self.open else { return };
        if now.monotonic < open.until {
            return;
        }
        open.delay = open.delay.saturating_mul(2).min(self.config.max_delay);
        open.until = now.monotonic + open.delay;
        open.last_error = truncate_visibly(error, ERROR_BYTES_MAX);
    }

    /// What may be sent to the place now.
    pub fn gate(&self, now: Monotonic) -> YieldGate {
        match &self.open {
            None => YieldGate::Open,
            Some(open) if open.until <= now => YieldGate::Probe,
            Some(open) => YieldGate::Until(open.until),
        }
    }

    /// Since when it yields; `None` if it does not.
    pub fn since(&self) -> Option<Now> {
        self.open.as_ref().map(|open| open.since)
    }

    /// Total length of the current wait; zero while it is closed.
    pub fn delay(&self) -> Duration {
        self.open.as_ref().map_or(Duration::ZERO, |open| open.delay)
    }

    /// The message of the last failure; empty while it is closed.
    pub fn last_error(&self) -> &str {
        self.open.as_ref().map_or("", |open| &open.last_error)
    }

    /// Whether it has no state at all.
    pub fn is_clear(&self) -> bool {
        self.open.is_none() && self.suspects.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn breaker() -> StarYield<u32> {
        StarYield::new(YieldConfig::default())
    }

    fn at(ms: u64) -> Now {
        Now::from_ms(ms)
    }

    #[test]
    fn three_different_items_open_it_and_get_their_failures_back() {
        let mut breaker = breaker();
        assert_eq!(breaker.on_failure(at(0), 7, "refused"), YieldVerdict::Counted);
        assert_eq!(breaker.on_failure(at(1), 7, "refused"), YieldVerdict::Counted);
        assert_eq!(breaker.on_failure(at(2), 3, "refused"), YieldVerdict::Counted);
        assert_eq!(breaker.gate(at(2).monotonic), YieldGate::Open);
        let verdict = breaker.on_failure(at(3), 5, "no space");
        assert_eq!(verdict, YieldVerdict::Opened { refunded: vec![3, 5, 7] });
        assert_eq!(breaker.gate(at(3).monotonic), YieldGate::Until(at(1003).monotonic));
        assert_eq!((breaker.since(), breaker.last_error()), (Some(at(3)), "no space"));
    }

    #[test]
    fn a_success_between_keeps_it_closed() {
        let mut breaker = breaker();
        for round in 0..10 {
            assert_eq!(breaker.on_failure(at(round), 1, "x"), YieldVerdict::Counted);
            assert_eq!(breaker.on_failure(at(round), 2, "x"), YieldVerdict::Counted);
            assert!(!breaker.on_success());
        }
        assert!(breaker.is_clear());
    }

    #[test]
    fn a_failure_that_no_item_can_cause_opens_it_at_once() {
        let mut breaker = breaker();
        breaker.on_failure(at(0), 1, "x");
        let verdict = breaker.on_sure_failure(at(0), "connection refused");
        assert_eq!(verdict, YieldVerdict::Opened { refunded: vec![1] });
        assert_eq!(breaker.on_sure_failure(at(1), "connection refused"), YieldVerdict::Held);
    }

    #[test]
    fn only_a_failed_probe_makes_the_wait_longer_up_to_the_maximum() {
        let mut breaker = breaker();
        breaker.on_sure_failure(at(0), "x");
        assert_eq!(breaker.on_failure(at(999), 1, "late"), YieldVerdict::Held);
        assert_eq!(breaker.gate(at(1000).monotonic), YieldGate::Probe);
        let mut now_ms = 1000;
        for expected in [2, 4, 8, 16, 30, 30] {
            assert_eq!(breaker.on_failure(at(now_ms), 1, "probe"), YieldVerdict::Held);
            assert_eq!(breaker.delay(), Duration::from_secs(expected));
            now_ms += expected * 1000;
            assert_eq!(breaker.gate(at(now_ms - 1).monotonic), YieldGate::Until(at(now_ms).monotonic));
            assert_eq!(breaker.gate(at(now_ms).monotonic), YieldGate::Probe);
        }
    }

    #[test]
    fn a_success_closes_it_and_the_next_opening_starts_again() {
        let mut breaker = breaker();
        breaker.on_sure_failure(at(0), "x");
        breaker.on_sure_failure(at(1000), "x");
        assert!(breaker.on_success());
        assert!(breaker.is_clear());
        assert_eq!(breaker.gate(at(1000).monotonic), YieldGate::Open);
        breaker.on_sure_failure(at(2000), "x");
        assert_eq!(breaker.delay(), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn counted_failures_are_refunded_once_or_forgotten_by_a_success(
            steps in prop::collection::vec((0u8..4, 0u32..6, 0u64..2000), 1..200),
        ) {
            let mut breaker = breaker();
            let mut counted = BTreeSet::new();
            let mut now_ms = 0;
            for (kind, key, pause_ms) in steps {
                now_ms += pause_ms;
                let was_open = breaker.since().is_some();
                let verdict = match kind {
                    0 => { breaker.on_success(); counted.clear(); continue }
                    1 => breaker.on_sure_failure(at(now_ms), "x"),
                    _ => breaker.on_failure(at(now_ms), key, "x"),
                };
                match verdict {
                    YieldVerdict::Counted => { prop_assert!(!was_open); counted.insert(key); }
                    YieldVerdict::Held => prop_assert!(was_open),
                    YieldVerdict::Opened { refunded } => {
                        prop_assert!(!was_open && breaker.since().is_some());
                        if kind > 1 { counted.insert(key); }
                        let before: Vec<u32> = std::mem::take(&mut counted).into_iter().collect();
                        prop_assert_eq!(refunded, before);
                    }
                }
                prop_assert!(counted.len() < YieldConfig::default().items_to_open);
                prop_assert!(breaker.delay() <= YieldConfig::default().max_delay);
            }
        }
    }
}
