//! Aging: when an item that has waited for long overtakes better ones.
//!
//! It is applied when an item is chosen and is not part of the key, because a key that changes with time cannot be
//! stored.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Monotonic;

/// When an item that has waited for long overtakes better ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgingConfig {
    /// An item that has waited longer than this is overdue.
    pub promote_after: Duration,
    /// At least one pick in this many takes the oldest item, overdue or not; 1 makes the queue first in, first out.
    pub oldest_every: NonZeroU32,
}

impl Default for AgingConfig {
    fn default() -> Self {
        Self {
            promote_after: Duration::from_secs(600),
            oldest_every: NonZeroU32::new(16).expect("16 is not 0"),
        }
    }
}

/// Which item to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// The item with the lowest key.
    Best,
    /// The item that has waited for the longest time; among equals the one with the lowest sequence number.
    Oldest,
}

/// Decides for each pick whether the best or the oldest item is taken, so that no item starves.
///
/// The rule: a pick takes the oldest item
///
/// 1. when the `oldest_every - 1` picks before it did not, or
/// 2. when the oldest item is overdue, the best is not, and the pick before it did not.
///
/// The first half needs no clock and limits every wait: an item with `n` older ones before it is taken within
/// `oldest_every * (n + 1)` picks, whatever else arrives. The second half shortens the wait when young items keep
/// overtaking an overdue one. It never takes more than every second pick, so an urgent item that arrives after a long
/// overdue backlog does not wait for the backlog.
#[derive(Debug, Clone)]
pub struct AgingPolicy {
    config: AgingConfig,
    best_in_a_row: u32,
}

impl AgingPolicy {
    /// A policy without any picks.
    pub fn new(config: AgingConfig) -> Self {
        Self { config, best_in_a_row: 0 }
    }

    /// Its configuration.
    pub fn config(&self) -> &AgingConfig {
        &self.config
    }

    /// Decides one pick, given when the best and the oldest item were queued. Must be called once for each item that is
    /// really taken.
    pub fn pick(&mut self, now: Monotonic, best_queued_at: Monotonic, oldest_queued_at: Monotonic) -> Pick {
        let is_overdue = |queued_at| now.since(queued_at) > self.config.promote_after;
        let is_turn = self.best_in_a_row >= self.config.oldest_every.get() - 1;
        let is_overtaken =
            self.best_in_a_row > 0 && is_overdue(oldest_queued_at) && !is_overdue(best_queued_at);
        if is_turn || is_overtaken {
            self.best_in_a_row = 0;
            Pick::Oldest
        } else {
            self.best_in_a_row += 1;
            Pick::Best
        }
    }
}
