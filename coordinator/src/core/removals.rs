//! Removing from the store the items of jobs that can never be taken up again: those that were cancelled, those that
//! listed more than a job may have, and those that are about to be forgotten (`history.rs`). Records, counts, dead letters
//! and events of the former stay.
//!
//! A job may have millions of items, so they go part by part, with time between for everything else.

use std::time::Duration;

use orbit_shared::time::Monotonic;
use orbit_shared::words::JobId;

use super::job::Job;
use super::job_record::JobState;
use super::limits::ITEMS_REMOVED_PER_TURN;
use super::{Change, Core, Turn};

/// Time between two parts.
const PAUSE: Duration = Duration::from_millis(20);

impl Job {
    /// The first item that is still to be removed.
    fn next_removal(&self) -> Option<u64> {
        self.record.removed_before.filter(|&next| next < self.record.scan.next_sequence)
    }

    /// How many entries of it the store still has.
    pub(super) fn items_left(&self) -> u64 {
        self.record.scan.next_sequence.saturating_sub(self.record.removed_before.unwrap_or(0))
    }
}

impl Core {
    /// From now on the items of an ended job are removed.
    pub(super) fn begin_removal(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let is_over = matches!(job.record.state(), JobState::Cancelled | JobState::Failed);
        assert!(is_over && job.live.is_none(), "items of job {id} are removed, which may still need them");
        job.record.removed_before = Some(0);
        job.is_dirty = true;
        self.removal_at.get_or_insert(Monotonic::ZERO);
    }

    /// The same for an ended job of any kind whose dead letters are gone, so that nothing can take it up again.
    pub(super) fn remove_before_forgetting(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        assert!(job.live.is_none(), "items of job {id} are removed, which has not ended");
        if job.record.removed_before.is_none() {
            job.record.removed_before = Some(0);
            job.is_dirty = true;
        }
        self.removal_at.get_or_insert(Monotonic::ZERO);
    }

    /// Removes the next part, if there is one and its time has come.
    pub(super) fn remove_items(&mut self, turn: &mut Turn) {
        if self.removal_at.is_none_or(|at| turn.now.monotonic < at) {
            return;
        }
        let next = self.jobs.values_mut().find_map(|job| job.next_removal().map(|from| (job, from)));
        let Some((job, from)) = next else {
            self.removal_at = None;
            // Those whose items are gone by now go themselves.
            self.forget_surplus_jobs(turn);
            return;
        };
        let until = job.record.scan.next_sequence.min(from + ITEMS_REMOVED_PER_TURN);
        job.record.removed_before = Some(until);
        job.is_dirty = true;
        let destinations = u32::try_from(job.record.tallies.len()).unwrap_or(u32::MAX);
        turn.changes.push(Change::RemoveItems { job: job.record.id, destinations, from, until });
        self.removal_at = Some(turn.now.monotonic + PAUSE);
    }

    /// When the next part is to be removed.
    pub(super) fn next_removal_deadline(&self) -> Option<Monotonic> {
        self.removal_at
    }
}
