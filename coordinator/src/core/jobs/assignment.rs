//! A live assignment: one attempt at a batch of items by one Star, and what each of them holds.

use std::collections::BTreeMap;

use orbit_shared::backpressure::Permit;
use orbit_shared::session::limits::{ASSIGNMENT_BYTES_MAX, LARGE_FILE_WINDOW_BYTES};
use orbit_shared::time::Monotonic;
use orbit_shared::words::{AssignmentId, JobId, StarId};

use super::lane::Queued;
use super::on_way::Carried;
use super::suspicion::Suspicion;
use crate::core::change::AssignmentRecord;
/// One item in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The item.
    pub queued: Queued,
    /// Its place in the guard.
    pub permit: Permit,
    /// Its bytes among those that the destination must have room for.
    pub carried: Carried,
}

/// Bytes that a file of some size takes of a guard: of a large one, what is on its way at a time.
pub(super) fn guard_charge(size: u64) -> u64 {
    size.min(LARGE_FILE_WINDOW_BYTES)
}

/// Whether a file travels in an assignment without others.
pub(super) fn is_large(size: u64) -> bool {
    size > ASSIGNMENT_BYTES_MAX
}

/// One attempt at a batch of items.
#[derive(Debug)]
pub(super) struct LiveAssignment {
    /// Who holds it.
    pub star: StarId,
    /// The Star that it is read from.
    pub source: StarId,
    /// Its job.
    pub job: JobId,
    /// Its destination within the job.
    pub destination: u32,
    /// Items without an outcome, by sequence number.
    pub items: BTreeMap<u64, InFlight>,
    /// Whether it holds directories.
    pub is_directories: bool,
    /// Bytes that the Star said it has moved for items without an outcome.
    pub bytes_moved: u64,
    /// When it was made.
    pub since: Monotonic,
    /// When it last came on.
    pub progress_at: Monotonic,
    /// Whether it has come on at all.
    pub has_begun: bool,
    /// Whether it was reported as stalled.
    pub is_stalled: bool,
    /// Whether its Star is to write nothing.
    pub is_check_only: bool,
    /// How closely its items are watched.
    pub suspicion: Suspicion,
    /// Whether it holds one large file.
    pub is_large: bool,
}

impl LiveAssignment {
    /// Something of it came on.
    pub(super) fn note_progress(&mut self, now: Monotonic) {
        self.progress_at = now;
        self.has_begun = true;
        self.is_stalled = false;
    }

    /// Its durable form: what is left of it.
    pub(super) fn record(&self, id: AssignmentId) -> AssignmentRecord {
        AssignmentRecord {
            id,
            star: self.star.clone(),
            job: self.job,
            destination: self.destination,
            sequences: self.items.keys().copied().collect(),
        }
    }
}

/// Whether a batch's items go to be checked: they have size but take no room.
pub(super) fn is_check_only(batch: &[InFlight]) -> bool {
    batch.first().is_some_and(|first| first.carried.bytes() < first.queued.entry.size())
}
