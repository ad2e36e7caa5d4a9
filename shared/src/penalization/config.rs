//! How long a failed item waits, and after how many failures it is given up.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The backoff of a [`super::PenaltyBox`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PenaltyConfig {
    /// The wait after the first failure.
    pub initial_delay: Duration,
    /// Maximum wait after any failure, including the first.
    pub max_delay: Duration,
    /// The factor by which each further failure multiplies the wait. Below 1 the wait shrinks.
    pub backoff_factor: f64,
    /// The number of the failure that exhausts an item: with 5 it is the fifth. 0 and 1 both exhaust at the first.
    pub max_penalties: u32,
    /// Maximum share of a wait that is taken away at random, from 0 (none) to below 1.
    ///
    /// Items that failed together should not all be retried together. Jitter only shortens waits, so neither the
    /// schedule nor `max_delay` is exceeded, and items that wait for the maximum are spread as well.
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

/// Why a [`PenaltyConfig`] is invalid.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PenaltyConfigError {
    /// Failures would be retried without any wait.
    #[error("initial_delay must be more than zero")]
    InitialDelayZero,
    /// Every wait would be cut to zero.
    #[error("max_delay must be more than zero")]
    MaxDelayZero,
    /// The first wait would be cut.
    #[error("initial_delay {initial_delay:?} exceeds max_delay {max_delay:?}")]
    InitialDelayExceedsMax {
        /// The configured first wait.
        initial_delay: Duration,
        /// The configured maximum.
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
    /// Checks every field and reports all errors, not only the first one.
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
    /// It is initial_delay * backoff_factor^(penalty_count - 1) to the nanosecond and at most `max_delay`. It is
    /// defined even for an invalid configuration: if it cannot be computed, it is `max_delay`.
    pub fn delay_after(&self, penalty_count: u32) -> Duration {
        let exponent = i32::try_from(penalty_count.saturating_sub(1)).unwrap_or(i32::MAX);
        let seconds = self.initial_delay.as_secs_f64() * self.backoff_factor.powi(exponent);
        Duration::try_from_secs_f64(seconds).unwrap_or(self.max_delay).min(self.max_delay)
    }

    /// `delay` minus the share of the jitter that `chance` takes: 0 none, 1 all.
    pub(super) fn jittered(&self, delay: Duration, chance: f64) -> Duration {
        let seconds = delay.as_secs_f64() * (1.0 - self.jitter * chance);
        Duration::try_from_secs_f64(seconds).unwrap_or(delay).min(delay)
    }

    /// Whether an item that has failed `penalty_count` times is given up.
    pub fn is_exhausted_at(&self, penalty_count: u32) -> bool {
        penalty_count >= self.max_penalties
    }
}
