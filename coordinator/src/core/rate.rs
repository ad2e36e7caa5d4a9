//! Bytes and time: what a job moved lately, and what its bandwidth limit leaves for now.

use std::collections::VecDeque;
use std::time::Duration;

use orbit_shared::time::{Monotonic, WallTime};
use serde::{Deserialize, Serialize};

/// The span over which a rate is measured.
const RATE_SPAN: Duration = Duration::from_secs(10);
/// A rate keeps at most one sum for each such slot of its span.
const RATE_SLOT: Duration = Duration::from_millis(250);

/// Bytes a second over the last ten seconds.
#[derive(Debug, Default)]
pub(super) struct Rate {
    started_at: Option<Monotonic>,
    slots: VecDeque<(Monotonic, u64)>,
}

impl Rate {
    /// Counts bytes that have just moved.
    pub(super) fn record(&mut self, now: Monotonic, bytes: u64) {
        self.started_at.get_or_insert(now);
        match self.slots.back_mut() {
            Some((at, sum)) if now.since(*at) < RATE_SLOT => *sum = sum.saturating_add(bytes),
            Some(_) | None => self.slots.push_back((now, bytes)),
        }
        while self.slots.front().is_some_and(|&(at, _)| now.since(at) > RATE_SPAN) {
            self.slots.pop_front();
        }
    }

    /// Bytes a second, over ten seconds or since the first byte, whichever is shorter.
    pub(super) fn bytes_per_second(&self, now: Monotonic) -> u64 {
        let Some(started_at) = self.started_at else { return 0 };
        let span = now.since(started_at).clamp(RATE_SLOT, RATE_SPAN);
        let recent = self.slots.iter().filter(|&&(at, _)| now.since(at) <= RATE_SPAN);
        let bytes: u128 = recent.map(|&(_, bytes)| u128::from(bytes)).sum();
        (bytes * 1000 / span.as_millis()).try_into().unwrap_or(u64::MAX)
    }
}

/// Minutes of a day.
pub const DAY_MINUTES: u16 = 24 * 60;

/// A limit of bandwidth at some time of every day, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BandwidthWindow {
    /// The minute of the day with which it begins.
    pub start_minute: u16,
    /// The minute of the day before which it ends. Not after the first: it goes on over midnight.
    pub end_minute: u16,
    /// Bytes a second; 0 for no limit.
    pub max_bytes_per_second: u64,
}

impl BandwidthWindow {
    /// Whether a time lies in it.
    pub fn contains(&self, time: WallTime) -> bool {
        let minute = u16::try_from(time.seconds.rem_euclid(86_400) / 60).unwrap_or(0);
        let (start, end) = (self.start_minute, self.end_minute);
        if start < end { (start..end).contains(&minute) } else { minute >= start || minute < end }
    }
}

/// A token bucket: a second's worth of bytes may be taken at once, and one item may overdraw it.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_per_second: u64,
    available: i128,
    filled_at: Monotonic,
}

impl Budget {
    /// A full bucket; a rate of 0 means no limit.
    pub(super) fn new(bytes_per_second: u64, now: Monotonic) -> Self {
        Self { bytes_per_second, available: i128::from(bytes_per_second), filled_at: now }
    }

    /// Another rate from now on. What is in the bucket, or missing in it, stays, but no more than a second's worth.
    pub(super) fn set_rate(&mut self, bytes_per_second: u64, now: Monotonic) {
        if bytes_per_second == self.bytes_per_second {
            return;
        }
        let rate = i128::from(bytes_per_second);
        let left = if self.bytes_per_second == 0 { rate } else { self.filled(now) };
        *self = Self { bytes_per_second, available: left.clamp(-rate, rate), filled_at: now };
    }

    /// The rate; 0 for no limit.
    pub(super) fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// Whether an item may be dispatched now.
    pub(super) fn is_open(&self, now: Monotonic) -> bool {
        self.opens_at(now).is_none()
    }

    /// Takes an item's bytes. If the bucket is open, any amount may be taken.
    pub(super) fn take(&mut self, now: Monotonic, bytes: u64) {
        if self.bytes_per_second > 0 {
            self.available = self.filled(now) - i128::from(bytes);
            self.filled_at = now;
        }
    }

    /// What is in the bucket at a time: never more than a second's worth.
    fn filled(&self, now: Monotonic) -> i128 {
        let rate = i128::from(self.bytes_per_second);
        let nanos = i128::try_from(now.since(self.filled_at).as_nanos()).unwrap_or(i128::MAX / rate);
        (self.available + nanos.saturating_mul(rate) / 1_000_000_000).min(rate)
    }

    /// When the bucket opens; `None` when it is open.
    pub(super) fn opens_at(&self, now: Monotonic) -> Option<Monotonic> {
        if self.bytes_per_second == 0 || self.filled(now) > 0 {
            return None;
        }
        let rate = i128::from(self.bytes_per_second);
        let missing = 1 - self.filled(now);
        let wait = missing.saturating_mul(1_000_000_000).div_euclid(rate) + 1;
        Some(now + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_ms(ms)
    }

    #[test]
    fn a_rate_forgets_what_moved_more_than_ten_seconds_ago() {
        let mut rate = Rate::default();
        assert_eq!(rate.bytes_per_second(at(0)), 0);
        rate.record(at(0), 1000);
        assert_eq!(rate.bytes_per_second(at(1000)), 1000);
        rate.record(at(5000), 1000);
        assert_eq!(rate.bytes_per_second(at(10_000)), 200);
        assert_eq!(rate.bytes_per_second(at(12_000)), 100);
        assert_eq!(rate.bytes_per_second(at(60_000)), 0);
    }

    #[test]
    fn a_window_may_go_over_midnight_or_last_all_day() {
        let window =
            |start_minute, end_minute| BandwidthWindow { start_minute, end_minute, max_bytes_per_second: 1 };
        let time = |minute: i64| WallTime { seconds: 5 * 86_400 + minute * 60 + 59, nanos: 0 };
        assert!(window(480, 1080).contains(time(480)) && !window(480, 1080).contains(time(1080)));
        let night = window(1320, 360);
        assert!(night.contains(time(1400)) && night.contains(time(359)) && !night.contains(time(360)));
        assert!(window(60, 60).contains(time(59)) && window(60, 60).contains(time(60)));
    }

    #[test]
    fn another_rate_forgives_a_debt_of_more_than_a_second_and_gives_no_more_than_one() {
        let mut budget = Budget::new(10, at(0));
        budget.take(at(0), 1_000_000);
        budget.set_rate(1000, at(1));
        assert!(!budget.is_open(at(500)) && budget.is_open(at(1100)));
        budget.set_rate(0, at(1100));
        assert!(budget.is_open(at(1100)));
        budget.set_rate(5, at(1100));
        budget.take(at(1100), 6);
        assert!(!budget.is_open(at(1100)) && budget.is_open(at(1500)));
    }

    #[test]
    fn a_budget_lets_one_item_overdraw_and_then_waits_it_off() {
        let mut budget = Budget::new(1000, at(0));
        assert!(budget.is_open(at(0)));
        budget.take(at(0), 3000);
        assert!(!budget.is_open(at(1000)));
        let opens_at = budget.opens_at(at(1000)).expect("it is overdrawn");
        assert!(opens_at > at(2000) && opens_at < at(2010), "{opens_at:?}");
        assert!(budget.is_open(opens_at));
    }

    #[test]
    fn a_budget_without_a_limit_is_always_open() {
        let mut budget = Budget::new(0, at(0));
        budget.take(at(0), u64::MAX);
        assert!(budget.is_open(at(0)));
    }

    #[test]
    fn an_idle_budget_saves_up_one_second_at_most() {
        let mut budget = Budget::new(1000, at(0));
        budget.take(at(0), 1000);
        assert!(budget.is_open(at(3_600_000)));
        budget.take(at(3_600_000), 1001);
        assert!(!budget.is_open(at(3_600_000)));
    }
}
