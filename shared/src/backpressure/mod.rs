//! Backpressure: how much may be on its way to one destination, in objects and in bytes.
//!
//! Work that is dispatched holds a [`Permit`] from [`BackpressureGuard::try_reserve`]. The permit is a value: dropping
//! it, on success, failure, cancellation or the loss of a Star alike, releases what it reserved, exactly once.
//!
//! A guard admits while both dimensions are under their limits. So an object larger than the whole byte limit still
//! passes when nothing else is on its way, and the limit is overshot by at most one reservation.
//!
//! The guard decides; it does not queue, wake or retry. Whoever was refused asks again when a permit has come back.

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

/// The largest object limit, and the most objects that one guard counts: 24 bits of them.
pub const OBJECT_COUNT_MAX: u64 = load::COUNT_MAX;
/// The largest byte limit, and the most bytes that one guard counts: 40 bits of them, 1 TiB less one.
pub const BYTE_SIZE_MAX: u64 = load::BYTES_MAX;

/// The limits of a [`BackpressureGuard`]. What is on its way must be under both for more to be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackpressureConfig {
    /// Objects. 0 admits nothing.
    pub max_object_count: u64,
    /// Bytes. 0 admits nothing.
    pub max_byte_size: u64,
}

impl Default for BackpressureConfig {
    fn default() -> Self {
        Self { max_object_count: 10_000, max_byte_size: 1 << 30 }
    }
}

/// Why a [`BackpressureConfig`] makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackpressureConfigError {
    /// The object limit is 0, so nothing would ever be admitted, or more than a guard can count.
    #[error("max_object_count {0} must be from 1 to {OBJECT_COUNT_MAX}")]
    ObjectCount(u64),
    /// The byte limit is 0, so nothing would ever be admitted, or more than a guard can count.
    #[error("max_byte_size {0} must be from 1 to {BYTE_SIZE_MAX}")]
    ByteSize(u64),
}

impl BackpressureConfig {
    /// Checks both limits and reports everything that is wrong.
    ///
    /// A guard takes any configuration: it cuts what it cannot count to what it can, and admits nothing at 0. To stop a
    /// destination for a while, pause its guard; a limit of 0 in a configuration is a mistake.
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

/// Who has paused a guard. Each resumes only its own pause, and the guard is open when nobody pauses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// A person.
    Operator,
    /// The health of the destination, a full disk for example.
    Health,
}

impl PauseReason {
    /// Every reason.
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

/// A guard at one moment. Count and bytes belong together: they come from one atomic read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackpressureState {
    /// Objects on their way.
    pub object_count: u64,
    /// Bytes on their way.
    pub byte_size: u64,
    /// The object limit in force, after scaling.
    pub max_object_count: u64,
    /// The byte limit in force, after scaling.
    pub max_byte_size: u64,
    /// Whether nothing more is admitted now.
    pub is_backpressured: bool,
    /// `object_count` as a part of its limit: 1 is full, more is the overshoot. 1 at a limit of 0.
    pub object_utilization: f64,
    /// `byte_size` as a part of its limit: 1 is full, more is the overshoot. 1 at a limit of 0.
    pub byte_utilization: f64,
    /// The part of the configured limits that is in force, from 0 to 1.
    pub scale: f64,
    /// Who pauses the guard; empty when nobody does.
    pub paused_by: Vec<PauseReason>,
}
