//! Penalization: an item that fails waits longer each time, and is given up after a number of failures.
//!
//! The box only counts and advises. It neither retries nor dead-letters: its owner asks for
//! [`PenaltyBox::next_eligible`], takes the keys whose wait is over with [`PenaltyBox::take_eligible`], and acts when
//! [`PenaltyBox::penalize`] returns that a key is exhausted. Taking a key does not reset it: its failures stay counted
//! until [`PenaltyBox::clear`], otherwise an item that always fails would never be exhausted.
//!
//! [`PenaltyBox::refund`] takes back a failure that turns out to be a Star's fault and not the item's, so that an
//! outage of a Star does not exhaust every item in flight to it. [`StarYield`] decides when that is the case.

mod config;
mod star_yield;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bulletin::truncate_visibly;
use crate::time::{Monotonic, Now, WallTime};

pub use config::{PenaltyConfig, PenaltyConfigError};
pub use star_yield::{StarYield, YieldConfig, YieldGate, YieldVerdict};

/// Maximum length of an error text in a record, in bytes. A longer one is cut with a mark.
pub const ERROR_BYTES_MAX: usize = 1024;

/// The record of a key that has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PenaltyRecord {
    /// Number of failures, without refunded ones.
    pub penalty_count: u32,
    /// When the wait ends; [`Monotonic::NEVER`] once exhausted, [`Monotonic::ZERO`] after a refund.
    pub retry_after: Monotonic,
    /// The message of the last failure.
    pub last_error: String,
    /// The wait after the last failure; zero once exhausted and after a refund.
    pub current_delay: Duration,
    /// When the key first failed.
    pub first_failed_at: WallTime,
    /// When the key last failed.
    pub last_failed_at: WallTime,
    /// Whether the key has failed too often and is not to be retried.
    pub is_exhausted: bool,
}

/// The number of keys in the box by state. The three parts add up to the total.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PenaltyStats {
    /// Keys with a record.
    pub total_tracked: usize,
    /// Of these, waiting.
    pub penalized: usize,
    /// Keys among them that can be retried.
    pub eligible: usize,
    /// Of these, given up.
    pub exhausted: usize,
}

/// Why a failure was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PenaltyError {
    /// The key has no record yet, and the box is full.
    #[error("the penalty box is full: it remembers {capacity} keys")]
    Full {
        /// The capacity.
        capacity: usize,
    },
}

/// Records which keys failed, how often, and until when they wait. The time is an argument.
///
/// Every operation on one key costs O(log n), including [`Self::next_eligible`]. Lists of keys cost O(log n) for each
/// key listed or due; [`Self::exhausted_keys`] and [`Self::iter`] cost O(n).
#[derive(Debug, Clone)]
pub struct PenaltyBox<K = String> {
    config: PenaltyConfig,
    capacity: usize,
    records: BTreeMap<K, PenaltyRecord>,
    /// Keys that wait, by the end of their wait. A key is removed when it is taken; its record stays.
    waiting: BTreeSet<(Monotonic, K)>,
    exhausted_count: usize,
    chance: Chance,
}

impl<K: Ord + Clone> PenaltyBox<K> {
    /// An empty box with a fixed seed.
    pub fn new(config: PenaltyConfig) -> Self {
        Self::with_seed(config, 0)
    }

    /// An empty box whose jitter depends on `seed`: with the same seed, the same calls return the same waits.
    pub fn with_seed(config: PenaltyConfig, seed: u64) -> Self {
        Self {
            config,
            capacity: usize::MAX,
            records: BTreeMap::new(),
            waiting: BTreeSet::new(),
            exhausted_count: 0,
            chance: Chance(seed),
        }
    }

    /// Limits the number of keys that [`Self::try_penalize`] accepts.
    pub fn with_capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Records a failure of `key` and returns whether that exhausts it.
    ///
    /// It always records, even beyond the capacity: an owner whose keys are already limited, because each is in flight
    /// or in a bounded window, needs no second limit here. Others use [`Self::try_penalize`].
    pub fn penalize(&mut self, now: Now, key: K, error: &str) -> bool {
        let (key, mut record) = self.unfile(&key).unwrap_or_else(|| (key, PenaltyRecord::new(now.wall)));
        record.penalty_count = record.penalty_count.saturating_add(1);
        record.last_error = truncate_visibly(error, ERROR_BYTES_MAX);
        record.last_failed_at = now.wall;
        record.is_exhausted = self.config.is_exhausted_at(record.penalty_count);
        if record.is_exhausted {
            record.current_delay = Duration::ZERO;
            record.retry_after = Monotonic::NEVER;
        } else {
            record.current_delay = self.draw_delay(record.penalty_count);
            record.retry_after = now.monotonic + record.current_delay;
        }
        let is_exhausted = record.is_exhausted;
        self.file(key, record, Wait::Due);
        is_exhausted
    }

    /// Like [`Self::penalize`], but refuses a key without a record when the box is full. A known key always goes
    /// through.
    pub fn try_penalize(&mut self, now: Now, key: K, error: &str) -> Result<bool, PenaltyError> {
        if self.is_full() && !self.records.contains_key(&key) {
            return Err(PenaltyError::Full { capacity: self.capacity });
        }
        Ok(self.penalize(now, key, error))
    }

    /// Takes back the last failure of `key`, because something else was at fault.
    ///
    /// Returns the number of remaining failures. The key is eligible at once, even if it was exhausted. Without
    /// remaining failures it is forgotten. Returns `None` for a key without a record. [`Self::take_eligible`] does not
    /// return a refunded key: the caller already has it.
    pub fn refund<Q>(&mut self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (key, mut record) = self.unfile(key)?;
        record.penalty_count = record.penalty_count.saturating_sub(1);
        if record.penalty_count == 0 {
            return Some(0);
        }
        record.is_exhausted = self.config.is_exhausted_at(record.penalty_count);
        record.current_delay = Duration::ZERO;
        record.retry_after = if record.is_exhausted { Monotonic::NEVER } else { Monotonic::ZERO };
        let left = record.penalty_count;
        self.file(key, record, Wait::Over);
        Some(left)
    }

    /// Forgets `key`, because it succeeded or is no longer wanted, and returns its record.
    pub fn clear<Q>(&mut self, key: &Q) -> Option<PenaltyRecord>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.unfile(key).map(|(_, record)| record)
    }

    /// Whether `key` can be tried now. A key that never failed can; an exhausted one never can, however long ago.
    pub fn is_eligible<Q>(&self, now: Now, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.records.get(key).is_none_or(|record| !record.is_exhausted && record.retry_after <= now.monotonic)
    }

    /// How often `key` has failed.
    pub fn penalty_count<Q>(&self, key: &Q) -> u32
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.record(key).map_or(0, |record| record.penalty_count)
    }

    /// The record of `key`, if it has failed.
    pub fn record<Q>(&self, key: &Q) -> Option<&PenaltyRecord>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.records.get(key)
    }

    /// When [`Self::take_eligible`] returns the next key; in the past if it would do so now. `None` if no key waits.
    pub fn next_eligible(&self) -> Option<Monotonic> {
        self.waiting.first().map(|&(at, _)| at)
    }

    /// Takes the key whose wait ended first, if it has ended. Each wait is returned once; the failures stay counted.
    pub fn pop_eligible(&mut self, now: Now) -> Option<K> {
        if self.next_eligible()? > now.monotonic {
            return None;
        }
        self.waiting.pop_first().map(|(_, key)| key)
    }

    /// Takes every key whose wait has ended, in the order in which the waits ended.
    pub fn take_eligible(&mut self, now: Now) -> Vec<K> {
        std::iter::from_fn(|| self.pop_eligible(now)).collect()
    }

    /// The keys that wait now, in the order in which their waits end.
    pub fn penalized_keys(&self, now: Now) -> Vec<&K> {
        let from_last = self.waiting.iter().rev().take_while(|(at, _)| *at > now.monotonic);
        let mut keys: Vec<&K> = from_last.map(|(_, key)| key).collect();
        keys.reverse();
        keys
    }

    /// The keys that are given up, in key order.
    pub fn exhausted_keys(&self) -> Vec<&K> {
        self.iter().filter(|(_, record)| record.is_exhausted).map(|(key, _)| key).collect()
    }

    /// Every key with its record, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &PenaltyRecord)> {
        self.records.iter()
    }

    /// The number of keys that wait, can be tried, and are given up. Costs O(keys that are due and not taken).
    pub fn stats(&self, now: Now) -> PenaltyStats {
        let due = self.waiting.iter().take_while(|(at, _)| *at <= now.monotonic).count();
        let penalized = self.waiting.len() - due;
        PenaltyStats {
            total_tracked: self.records.len(),
            penalized,
            eligible: self.records.len() - penalized - self.exhausted_count,
            exhausted: self.exhausted_count,
        }
    }

    /// Restores the record of `key` from before a restart.
    ///
    /// The monotonic clock of that process has ended, so the wait is measured again: the rest of `current_delay` by the
    /// wall clock, and never more than `current_delay` (nor `max_delay`), even if that clock was changed meanwhile.
    /// [`Self::take_eligible`] returns the key once, unless its last penalty had been refunded. Whether it is exhausted
    /// depends on the count and this box's configuration, which may have changed. A record without failures is dropped.
    /// The capacity does not apply, since an existing record stays.
    pub fn restore(&mut self, now: Now, key: K, mut record: PenaltyRecord) {
        self.unfile(&key);
        if record.penalty_count == 0 {
            return;
        }
        record.is_exhausted = self.config.is_exhausted_at(record.penalty_count);
        let wait = if record.current_delay.is_zero() { Wait::Over } else { Wait::Due };
        if record.is_exhausted {
            record.current_delay = Duration::ZERO;
            record.retry_after = Monotonic::NEVER;
        } else {
            record.current_delay = record.current_delay.min(self.config.max_delay);
            let passed = now.wall.since(record.last_failed_at);
            record.retry_after = now.monotonic + record.current_delay.saturating_sub(passed);
        }
        self.file(key, record, wait);
    }

    /// The box's configuration.
    pub fn config(&self) -> &PenaltyConfig {
        &self.config
    }

    /// Whether [`Self::try_penalize`] would refuse a new key.
    pub fn is_full(&self) -> bool {
        self.records.len() >= self.capacity
    }

    /// Number of keys with a record.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no key has a record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn draw_delay(&mut self, penalty_count: u32) -> Duration {
        let delay = self.config.delay_after(penalty_count);
        if self.config.jitter == 0.0 { delay } else { self.config.jittered(delay, self.chance.draw()) }
    }

    /// Removes a record and its place in the order of waits.
    fn unfile<Q>(&mut self, key: &Q) -> Option<(K, PenaltyRecord)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (key, record) = self.records.remove_entry(key)?;
        if record.is_exhausted {
            self.exhausted_count -= 1;
        }
        let place = (record.retry_after, key);
        self.waiting.remove(&place);
        Some((place.1, record))
    }

    fn file(&mut self, key: K, record: PenaltyRecord, wait: Wait) {
        if record.is_exhausted {
            self.exhausted_count += 1;
        } else {
            match wait {
                Wait::Due => {
                    self.waiting.insert((record.retry_after, key.clone()));
                }
                Wait::Over => {}
            }
        }
        self.records.insert(key, record);
        debug_assert!(self.waiting.len() + self.exhausted_count <= self.records.len());
    }
}

impl PenaltyRecord {
    /// A record without failures.
    fn new(at: WallTime) -> Self {
        Self {
            penalty_count: 0,
            retry_after: Monotonic::ZERO,
            last_error: String::new(),
            current_delay: Duration::ZERO,
            first_failed_at: at,
            last_failed_at: at,
            is_exhausted: false,
        }
    }
}

/// Whether [`PenaltyBox::take_eligible`] will return a key that is not exhausted.
#[derive(Clone, Copy)]
enum Wait {
    Due,
    Over,
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): 64 bits of state suffice
/// to spread retries, and the sequence is the same on every machine.
#[derive(Debug, Clone)]
struct Chance(u64);

impl Chance {
    /// The next number from 0 to below 1.
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // The upper 53 bits are what an f64 holds exactly.
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}
