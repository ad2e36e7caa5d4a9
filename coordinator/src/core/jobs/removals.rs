//! Removing from the store the items of jobs that can never be taken up again: those that were cancelled, those that
//! listed more than a job may have, and those that are forgotten (`history.rs`). The records, counts, dead letters and events
//! of all but the forgotten ones stay.
//!
//! A job may have millions of items, so they go part by part, with time between for everything else.

use std::time::Duration;

use orbit_shared::time::Monotonic;
use orbit_shared::words::JobId;

use super::Jobs;
use super::job::Job;
use crate::core::change::Change;
use crate::core::limits::ITEMS_REMOVED_PER_TURN;
use crate::core::records::{JobRecord, JobState, destination_number};
use crate::core::turn::Turn;

/// Time between two parts.
const PAUSE: Duration = Duration::from_millis(20);

impl JobRecord {
    /// How many entries of it the store still has.
    pub(super) fn items_left(&self) -> u64 {
        self.scan.next_sequence.saturating_sub(self.removed_before.unwrap_or(0))
    }

    /// Removes the next part of its items.
    fn remove_part(&mut self) -> Change {
        let from = self.removed_before.unwrap_or(0);
        let until = self.scan.next_sequence.min(from + ITEMS_REMOVED_PER_TURN);
        self.removed_before = Some(until);
        let destinations = destination_number(self.tallies.len());
        Change::RemoveItems { job: self.id, destinations, from, until }
    }
}

impl Jobs {
    /// From now on the items of an ended job are removed.
    pub(super) fn begin_removal(&mut self, id: JobId) {
        let job = self.jobs.get_mut(&id).expect("a job whose items are removed is kept");
        let is_over = matches!(job.record.state(), JobState::Cancelled | JobState::Failed);
        assert!(is_over && job.live.is_none(), "items of job {id} are removed, which may still need them");
        job.record.removed_before = Some(0);
        job.is_dirty = true;
        self.closed.insert(id);
        self.removal_at.get_or_insert(Monotonic::ZERO);
    }

    /// The same for a job that is forgotten.
    pub(super) fn remove_forgotten(&mut self, record: JobRecord) {
        self.forgotten.insert(record.id, record);
        self.removal_at.get_or_insert(Monotonic::ZERO);
    }

    /// Removes the next part, if there is one and its time has come.
    pub(in crate::core) fn remove_items(&mut self, turn: &mut Turn) {
        if self.removal_at.is_none_or(|at| turn.now.monotonic < at) {
            return;
        }
        self.removal_at = Some(turn.now.monotonic + PAUSE);
        let is_due = |job: &&mut Job| job.record.removed_before.is_some() && job.record.items_left() > 0;
        if let Some(job) = self.jobs.values_mut().find(is_due) {
            turn.changes.push(job.record.remove_part());
            job.is_dirty = true;
            self.closed.insert(job.record.id);
        } else if let Some(mut first) = self.forgotten.first_entry() {
            if first.get().items_left() <= ITEMS_REMOVED_PER_TURN {
                turn.changes.push(Change::ForgetJob(first.remove().id));
            } else {
                turn.changes.push(first.get_mut().remove_part());
                turn.changes.push(Change::PutJob(Box::new(first.get().clone())));
            }
        } else {
            self.removal_at = None;
        }
    }

    /// When the next part is to be removed.
    pub(super) fn next_removal_deadline(&self) -> Option<Monotonic> {
        self.removal_at
    }
}
