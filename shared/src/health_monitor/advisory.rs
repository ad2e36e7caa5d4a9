//! The findings of a check, and their texts for an operator.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of an advisory, without its numbers, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvisoryKind {
    /// Files of a Star's vault are missing, truncated or replaced. The Star reports it, not a sample.
    VaultIncomplete,
    /// A Star's vault is on a read-only file system. The Star reports it, not a sample.
    VaultReadOnly,
    /// See [`Advisory::DiskCritical`].
    DiskCritical,
    /// See [`Advisory::DiskExhaustionPredicted`].
    DiskExhaustionPredicted,
    /// See [`Advisory::ErrorRateHigh`].
    ErrorRateHigh,
    /// See [`Advisory::DiskWarning`].
    DiskWarning,
    /// See [`Advisory::ThroughputLow`].
    ThroughputLow,
    /// See [`Advisory::Healthy`].
    Healthy,
}

impl AdvisoryKind {
    /// All kinds, worst first.
    pub const ALL: [Self; 8] = [
        Self::VaultIncomplete,
        Self::VaultReadOnly,
        Self::DiskCritical,
        Self::DiskExhaustionPredicted,
        Self::ErrorRateHigh,
        Self::DiskWarning,
        Self::ThroughputLow,
        Self::Healthy,
    ];

    /// Its name in metrics and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VaultIncomplete => "vault_incomplete",
            Self::VaultReadOnly => "vault_read_only",
            Self::DiskCritical => "disk_critical",
            Self::DiskExhaustionPredicted => "disk_exhaustion_predicted",
            Self::ErrorRateHigh => "error_rate_high",
            Self::DiskWarning => "disk_warning",
            Self::ThroughputLow => "throughput_low",
            Self::Healthy => "healthy",
        }
    }
}

impl fmt::Display for AdvisoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One finding of a check. Its text form is a sentence for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Advisory {
    /// The disk is so full that no new work should be sent there.
    DiskCritical {
        /// Bytes that are still available.
        available_bytes: u64,
        /// Size of the volume.
        total_bytes: u64,
    },
    /// The disk is getting full.
    DiskWarning {
        /// Bytes that are still available.
        available_bytes: u64,
        /// Size of the volume.
        total_bytes: u64,
    },
    /// At the current rate the disk will soon be full.
    DiskExhaustionPredicted {
        /// Seconds until then.
        seconds_remaining: u64,
    },
    /// There is work, and it makes little or no progress.
    ThroughputLow {
        /// Current bytes per second.
        current_bytes_per_sec: u64,
        /// Minimum of the expected bytes per second.
        floor_bytes_per_sec: u64,
    },
    /// Too many operations fail.
    ErrorRateHigh {
        /// Failed operations in the window that was judged.
        error_count: u64,
        /// All operations in the window that was judged.
        operation_count: u64,
        /// Maximum acceptable percentage.
        limit_pct: u8,
    },
    /// Nothing to report.
    Healthy,
}

impl Advisory {
    /// Its kind.
    pub const fn kind(&self) -> AdvisoryKind {
        match self {
            Self::DiskCritical { .. } => AdvisoryKind::DiskCritical,
            Self::DiskWarning { .. } => AdvisoryKind::DiskWarning,
            Self::DiskExhaustionPredicted { .. } => AdvisoryKind::DiskExhaustionPredicted,
            Self::ThroughputLow { .. } => AdvisoryKind::ThroughputLow,
            Self::ErrorRateHigh { .. } => AdvisoryKind::ErrorRateHigh,
            Self::Healthy => AdvisoryKind::Healthy,
        }
    }

    /// Its severity: 0 is the worst.
    pub const fn rank(&self) -> u8 {
        self.kind() as u8
    }
}

impl fmt::Display for Advisory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::DiskCritical { available_bytes, total_bytes } => {
                let pct = used_pct(available_bytes, total_bytes);
                write!(
                    f,
                    "disk critical: {pct}% used, {available_bytes} of {total_bytes} bytes available; free space on it"
                )
            }
            Self::DiskWarning { available_bytes, total_bytes } => {
                let pct = used_pct(available_bytes, total_bytes);
                write!(f, "disk filling up: {pct}% used, {available_bytes} of {total_bytes} bytes available")
            }
            Self::DiskExhaustionPredicted { seconds_remaining } => {
                write!(f, "disk full in about {} minutes at the present pace", seconds_remaining.div_ceil(60))
            }
            Self::ThroughputLow { current_bytes_per_sec: 0, floor_bytes_per_sec } => {
                write!(
                    f,
                    "transfer stalled: 0 bytes/s with work at hand, at least {floor_bytes_per_sec} expected"
                )
            }
            Self::ThroughputLow { current_bytes_per_sec, floor_bytes_per_sec } => {
                write!(
                    f,
                    "transfer slow: {current_bytes_per_sec} bytes/s, at least {floor_bytes_per_sec} expected"
                )
            }
            Self::ErrorRateHigh { error_count, operation_count, limit_pct } => {
                write!(
                    f,
                    "many errors: {error_count} of {operation_count} operations failed, more than {limit_pct}%"
                )
            }
            Self::Healthy => f.write_str("healthy"),
        }
    }
}

fn used_pct(available_bytes: u64, total_bytes: u64) -> u128 {
    let used = total_bytes.saturating_sub(available_bytes);
    u128::from(used) * 100 / u128::from(total_bytes).max(1)
}
