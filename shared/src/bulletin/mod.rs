//! The bulletin board: one list of the problems in the grid, for operators.
//!
//! A bulletin may need an action; events that need none are in the provenance log only. The board is bounded. Two rules
//! keep it useful when there are many problems: a repeat of a bulletin raises a count instead of taking another place;
//! and when the board is full, the source with the most bulletins loses its oldest one, so that one noisy Star cannot
//! evict the others' alerts.
//!
//! The board is in memory only. Its methods return every change ([`Posted`], the ids from
//! [`BulletinBoard::acknowledge`]), so that an owner can make the same change in a store and restore the board from it
//! with [`BulletinBoard::restore`].

mod board;
mod filter;
mod shared;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::WallTime;
use crate::words::JobId;

pub use board::{BulletinBoard, COALESCE_WINDOW, Posted};
pub use filter::BulletinFilter;
pub use shared::SharedBulletinBoard;
pub use text::truncate_visibly;

/// Maximum length of a message, in bytes. A longer one is cut with a mark.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// Maximum length of a source or category, in bytes. A longer one is cut with a mark.
pub const LABEL_BYTES_MAX: usize = 128;

/// The importance of a bulletin. The order is that of urgency, so a threshold is a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; no action is needed.
    Info,
    /// Will become a problem without an action.
    Warning,
    /// Something has failed.
    Error,
}

impl Severity {
    /// Every severity, least urgent first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Error];

    /// The name used on the wire and in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A message to the operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bulletin {
    /// Counts up from 1 over the life of the grid; never reused.
    pub id: u64,
    /// When it was last reported.
    pub time: WallTime,
    /// When it was first reported; equal to `time` until it repeats.
    pub first_time: WallTime,
    /// The Star it comes from, or `coordinator`.
    pub source: String,
    /// The kind of problem, for example `disk` or `dead-letter`.
    pub category: String,
    /// Its importance.
    pub severity: Severity,
    /// The problem, as text.
    pub message: String,
    /// The job that it concerns, if any.
    pub job_id: Option<JobId>,
    /// How many times it was reported, at least 1.
    pub repeat_count: u64,
    /// Whether an operator has acknowledged it.
    pub is_acknowledged: bool,
}

/// The number of bulletins of each severity on the board, and of those no longer on it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulletinCounts {
    /// Bulletins on the board.
    pub total: usize,
    /// Of these, [`Severity::Info`].
    pub info: usize,
    /// Of these, [`Severity::Warning`].
    pub warnings: usize,
    /// Of these, [`Severity::Error`].
    pub errors: usize,
    /// Reports since the board was made, including repeats.
    pub posted: u64,
    /// Bulletins that were evicted since the board was made, including those that were never on it.
    pub dropped: u64,
}
