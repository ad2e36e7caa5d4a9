//! Small things that are remembered of a job while it has something to do.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use orbit_shared::sweep::SweepInfo;
use orbit_shared::time::Monotonic;
use orbit_shared::words::StarId;

use super::listed::Listed;

/// A scan that runs on a Star for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunningScan {
    /// Its number.
    pub id: u64,
    /// The last batch that was taken.
    pub last_batch: u64,
    /// When it last came on.
    pub progress_at: Monotonic,
    /// Whether it was reported as stalled.
    pub is_stalled: bool,
    /// Batches that came and are not taken, because the destinations are still to say what they have of them.
    pub listed: VecDeque<Listed>,
}

/// How far the seal of one destination is.
#[derive(Debug, Default)]
pub(super) struct Seal {
    /// Whether a vault is about it.
    pub(super) is_asked: bool,
    /// When it may be asked for again, and how long the wait was.
    pub(super) pause: Option<(Monotonic, Duration)>,
    /// Why the last attempt failed.
    pub(super) problem: String,
}

/// How far the sweep of one destination is.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Whether the destination is about it.
    pub(super) is_asked: bool,
    /// When it may be asked again, and how long the wait was.
    pub(super) pause: Option<(Monotonic, Duration)>,
    /// Why the last attempt failed.
    pub(super) problem: String,
    /// What it said last.
    pub(super) info: Option<SweepInfo>,
}

impl Sweep {
    /// Entries that it has deleted, as far as the destination has said.
    pub(super) fn deleted_so_far(&self) -> u64 {
        self.info.as_ref().map_or(0, |info| info.deleted)
    }
}

/// When a job's wait for a Star is reported again, and the pause before that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absence {
    pub(super) next: Monotonic,
    pub(super) pause: Duration,
}

/// Absences that were reported, by Star.
pub(super) type Absences = BTreeMap<StarId, Absence>;
