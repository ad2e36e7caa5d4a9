//! Why an item was given up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why an item was given up, with the details of that reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// It failed temporarily too often.
    RetriesExhausted {
        /// The number of attempts.
        attempts: u32,
    },
    /// It failed in a way that a retry cannot change.
    PermanentError,
    /// The received content differs from what was sent.
    ChecksumMismatch,
    /// It no longer existed when it was to be read.
    SourceMissing,
    /// The destination could not write it, for example for lack of space or permission.
    DestinationError,
    /// It could not be compressed, decompressed or decoded.
    DataCorruption,
}

/// A [`FailureReason`] without its details, for filters and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// See [`FailureReason::RetriesExhausted`].
    RetriesExhausted,
    /// See [`FailureReason::PermanentError`].
    PermanentError,
    /// See [`FailureReason::ChecksumMismatch`].
    ChecksumMismatch,
    /// See [`FailureReason::SourceMissing`].
    SourceMissing,
    /// See [`FailureReason::DestinationError`].
    DestinationError,
    /// See [`FailureReason::DataCorruption`].
    DataCorruption,
}

impl FailureReason {
    /// The reason without its details.
    pub const fn kind(self) -> FailureKind {
        match self {
            Self::RetriesExhausted { attempts: _ } => FailureKind::RetriesExhausted,
            Self::PermanentError => FailureKind::PermanentError,
            Self::ChecksumMismatch => FailureKind::ChecksumMismatch,
            Self::SourceMissing => FailureKind::SourceMissing,
            Self::DestinationError => FailureKind::DestinationError,
            Self::DataCorruption => FailureKind::DataCorruption,
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RetriesExhausted { attempts: 1 } => f.pad("retries exhausted after 1 attempt"),
            Self::RetriesExhausted { attempts } => write!(f, "retries exhausted after {attempts} attempts"),
            Self::PermanentError => f.pad("permanent error"),
            Self::ChecksumMismatch => f.pad("checksum mismatch"),
            Self::SourceMissing => f.pad("source missing"),
            Self::DestinationError => f.pad("destination error"),
            Self::DataCorruption => f.pad("data corruption"),
        }
    }
}

impl FailureKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::RetriesExhausted,
        Self::PermanentError,
        Self::ChecksumMismatch,
        Self::SourceMissing,
        Self::DestinationError,
        Self::DataCorruption,
    ];

    /// The name used on the wire, in files and as a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RetriesExhausted => "retries_exhausted",
            Self::PermanentError => "permanent_error",
            Self::ChecksumMismatch => "checksum_mismatch",
            Self::SourceMissing => "source_missing",
            Self::DestinationError => "destination_error",
            Self::DataCorruption => "data_corruption",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
