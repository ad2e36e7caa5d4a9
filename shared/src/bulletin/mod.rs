//! The bulletin board: one feed of what is wrong anywhere in the grid, for people to read.
//!
//! A bulletin is something somebody may have to act on; what merely happened goes to provenance. The board is bounded,
//! and two rules keep it useful when things go badly: a repeat of the same bulletin raises a count instead of taking
//! another place, and when the board is full the loudest source gives up its oldest bulletin, so that one noisy Star
//! cannot push the others' alerts out.
//!
//! The board keeps nothing beyond its own memory. Every change it makes is in what its methods return ([`Posted`], the
//! ids from [`BulletinBoard::acknowledge`]), so an owner can make the same change in a store and rebuild the board from
//! it with [`BulletinBoard::restore`].

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

/// The longest message the board keeps, in bytes; a longer one is cut and says so.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// The longest source or category the board keeps, in bytes.
pub const LABEL_BYTES_MAX: usize = 128;

/// How much a bulletin matters. The order is the order of urgency, so a threshold is a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nobody has to do anything.
    Info,
    /// Will become a problem if nobody does anything.
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

/// One thing that somebody should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bulletin {
    /// Counts up from 1 over the life of the grid; never given twice.
    pub id: u64,
    /// When it was last reported.
    pub time: WallTime,
    /// When it was first reported; equal to `time` until it repeats.
    pub first_time: WallTime,
    /// The Star it comes from, or `coordinator`.
    pub source: String,
    /// What kind of trouble, for example `disk` or `dead-letter`.
    pub category: String,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, for a person.
    pub message: String,
    /// The job it concerns, if it concerns one.
    pub job_id: Option<JobId>,
    /// How many times it was reported, at least 1.
    pub repeat_count: u64,
    /// Whether somebody has said that they have seen it.
    pub is_acknowledged: bool,
}

/// How many bulletins the board holds of each severity, and how many it no longer holds.
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
    /// Reports received since the board was made, repeats included.
    pub posted: u64,
    /// Bulletins that had to make room since the board was made, including those that never found any.
    pub dropped: u64,
}
