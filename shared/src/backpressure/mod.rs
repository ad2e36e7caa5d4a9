//! Backpressure: limits what is in flight to one destination, in objects and in bytes.
//!
//! Dispatched work holds a [`Permit`] from [`BackpressureGuard::try_reserve`]. The permit is a value: dropping it
//! releases what it reserved, exactly once, whether after success, failure, cancellation or the loss of a Star.
//!
//! A guard admits while both dimensions are under their limits. So an object larger than the whole byte limit still
//! passes if nothing else is in flight, and the limit is exceeded by at most one reservation.
//!
//! The guard only decides; it does not queue, wake or retry. A caller that was refused asks again when a permit was
//! given back.

mod guard;
mod load;
#[cfg(test)]
#[cfg(loom)]
mod loom_tests;
mod registry;
mod sync;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use guard::{BackpressureGuard, Permit};
pub use registry::BackpressureRegistry;

/// Maximum object limit, and maximum number of objects that a guard counts: 24 bits.
pub const OBJECT_COUNT_MAX: u64 = load::COUNT_MAX;
/// Maximum byte limit, and maximum number of bytes that a guard counts: 40 bits, 1 TiB minus one.
pub const BYTE_SIZE_MAX: u64 = load::BYTES_MAX;

/// The limits of a [`BackpressureGuard`]. More is admitted only while both dimensions are under them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackpressureConfig {
    /// Number of objects. 0 admits nothing.
    pub max_object_count: u64,
    /// Number of bytes. 0 admits nothing.
    pub max_byte_size: u64,
}

impl Default for BackpressureConfig {
    fn default() -> Self {
        Self { max_object_count: 10_000, max_byte_size: 1 << 30 }
    }
}

/// Why a [`BackpressureConfig`] is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackpressureConfigError {
    /// The object limit is 0, so that nothing would ever be admitted, or above the maximum that a guard counts.
    #[error("max_object_count {0} must be from 1 to {OBJECT_COUNT_MAX}")]
    ObjectCount(u64),
    /// The byte limit is 0, so that nothing would ever be admitted, or above the maximum that a guard counts.
    #[error("max_byte_size {0} must be from 1 to {BYTE_SIZE_MAX}")]
    ByteSize(u64),
}

impl BackpressureConfig {
    /// Checks both limits and reports all errors.
    ///
    /// A guard accepts any configuration: it reduces limits to the maximum that it can count, and admits nothing at 0.
    /// To stop a destination for a while, pause its guard; a limit of 0 in a configuration is a mistake.
    pub fn validate(self) -> Result<(), Vec<BackpressureConfigError>> {
        let mut errors = Vec::new();
        if !(1..=OBJECT_COUNT_MAX).contains(&self.max_object_count) {
            errors.push(BackpressureConfigError::ObjectCount(self.max_object_count));
        }
        if !(1..=BYTE_SIZE_MAX).contains(&self.max_byte_size) {
            errors.push(BackpressureConfigError::ByteSize(self.max_byte_size));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// Why a guard is paused. Each reason is resumed separately; the guard is open when no reason is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// An operator.
    Operator,
    /// The health of the destination, for example a full disk.
    Health,
}

impl PauseReason {
    /// All reasons.
    pub const ALL: [Self; 2] = [Self::Operator, Self::Health];

    /// The name used on the wire and as a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Health => "health",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Operator => 1,
            Self::Health => 2,
        }
    }
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The state of a guard at one moment. Count and bytes are consistent: they come from one atomic read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackpressureState {
    /// Number of objects in flight.
    pub object_count: u64,
    /// Number of bytes in flight.
    pub byte_size: u64,
    /// The object limit in force, after scaling.
    pub max_object_count: u64,
    /// The byte limit in force, after scaling.
    pub max_byte_size: u64,
    /// Whether no more is admitted now.
    pub is_backpressured: bool,
    /// `object_count` divided by its limit; above 1 if the limit is exceeded. 1 at a limit of 0.
    pub object_utilization: f64,
    /// `byte_size` divided by its limit; above 1 if the limit is exceeded. 1 at a limit of 0.
    pub byte_utilization: f64,
    /// The share of the configured limits in force, from 0 to 1.
    pub scale: f64,
    /// The reasons of the pause; empty if there is none.
    pub paused_by: Vec<PauseReason>,
}
