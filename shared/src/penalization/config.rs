//! How long a failed item waits, and when it has failed too often.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The back-off of a [`super::PenaltyBox`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PenaltyConfig {
    /// The wait after the first failure.
    pub initial_delay: Duration,
    /// The longest wait after any failure, the first included.
    pub max_delay: Duration,
    /// What each further failure multiplies the wait by. Below 1 the wait shrinks.
    pub backoff_factor: f64,
    /// The failure that exhausts an item: with 5 it is the fifth. 0 and 1 both exhaust at the first.
    pub max_penalties: u32,
    /// The largest part of a wait that chance takes away, from 0 (none) to below 1.
    ///
    /// Items that failed together should not all come back together. Chance only ever shortens, so neither the
    /// schedule nor `max_delay` is exceeded, and items that wait at the maximum still spread.
    pub jitter: f64,
}

impl Default for PenaltyConfig {
    fn default() -> Self {
        Self {
            initial_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            backoff_factor: 2.0,
            max_penalties: 5,
            jitter: 0.1,
        }
    }
}

/// Why a [`PenaltyConfig`] makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PenaltyConfigError {
    /// Failures would be retried without any wait.
    #[error("initial_delay must be more than zero")]
    InitialDelayZero,
    /// Every wait would be cut to nothing.
    #[error("max_delay must be more than zero")]
    MaxDelayZero,
    /// The first wait would be cut already.
    #[error("initial_delay {initial_delay:?} exceeds max_delay {max_delay:?}")]
    InitialDelayExceedsMax {
        /// The configured first wait.
        initial_delay: Duration,
        /// The configured longest wait.
        max_delay: Duration,
    },
    /// The factor is zero, negative, infinite or not a number.
    #[error("backoff_factor {0} must be a number above zero")]
    BackoffFactor(f64),
    /// The jitter is negative, 1 or more, or not a number.
    #[error("jitter {0} must be at least 0 and below 1")]
    Jitter(f64),
}

impl PenaltyConfig {
    /// Checks every field and reports everything that is wrong, not only the first thing.
    pub fn validate(&self) -> Result<(), Vec<PenaltyConfigError>> {
        let mut errors = Vec::new();
        if self.initial_delay.is_zero() {
            errors.push(PenaltyConfigError::InitialDelayZero);
        }
        if self.max_delay.is_zero() {
            errors.push(PenaltyConfigError::MaxDelayZero);
        } else if self.initial_delay > self.max_delay {
            let (initial_delay, max_delay) = (self.initial_delay, self.max_delay);
            errors.push(PenaltyConfigError::InitialDelayExceedsMax { initial_delay, max_delay });
        }
        if !(self.backoff_factor.is_finite() && self.backoff_factor > 0.0) {
            errors.push(PenaltyConfigError::BackoffFactor(self.backoff_factor));
        }
        if !(0.0..1.0).contains(&self.jitter) {
            errors.push(PenaltyConfigError::Jitter(self.jitter));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The wait after failure number `penalty_count`, counted from 1, before jitter.
    ///
    /// It is initial_delay * backoff_factor^(penalty_count - 1) to the nanosecond and at most `max_delay`. It is defined
    /// for a configuration that does not validate too: what cannot be computed is `max_delay`.
    pub fn delay_after(&self, penalty_count: u32) -> Duration {
        let exponent = i32::try_from(penalty_count.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.initial_delay.as_secs_f64() * self.backoff_factor.powi(exponent);
        Duration::try_from_secs_f64(seconds).unwrap_or(self.max_delay).min(self.max_delay)
    }

    /// `delay` less the share of the jitter that `chance` takes, 0 none to 1 all.
    pub(super) fn jittered(&self, delay: Duration, chance: f64) -> Duration {
        let seconds = delay.as_secs_f64() * (1.0 - self.jitter * chance);
        Duration::try_from_secs_f64(seconds).unwrap_or(delay).min(delay)
    }

    /// Whether an item that has failed `penalty_count` times is given up.
    pub fn is_exhausted_at(&self, penalty_count: u32) -> bool {
        penalty_count >= self.max_penalties
    }
}
