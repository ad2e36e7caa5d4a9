//! Counts over everything, for metrics: what this process has seen done, and what stands where now.
//!
//! The counts of what was done only grow, from 0 at the start of the process, whatever becomes of the jobs.

use std::collections::BTreeMap;

use orbit_shared::session::limits::ASSIGNMENTS_PER_STAR_MAX;
use orbit_shared::time::{Now, WallTime};
use orbit_shared::words::JobId;

use super::Jobs;
use crate::core::limits;
use crate::core::records::{JobState, Tally};

/// What was done since the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Items stored.
    pub stored: u64,
    /// Items that were there already.
    pub skipped: u64,
    /// Items given up.
    pub dead: u64,
    /// Attempts that failed and are tried again.
    pub penalized: u64,
    /// Bytes of the files that are stored or were there already.
    pub bytes_stored: u64,
    /// Bytes that crossed from Star to Star.
    pub bytes_transferred: u64,
    /// Bytes that did not have to.
    pub bytes_deduplicated: u64,
}

impl Totals {
    /// Counts what a tally has grown by. What shrinks, because dead letters are retried, was done all the same.
    pub(super) fn grow(&mut self, before: &Tally, after: &Tally) {
        let grown = |read: fn(&Tally) -> u64| read(after).saturating_sub(read(before));
        self.stored += grown(|tally| tally.stored);
        self.skipped += grown(|tally| tally.skipped);
        self.dead += grown(|tally| tally.dead);
        for (total, read) in [
            (&mut self.bytes_stored, (|tally| tally.bytes_stored) as fn(&Tally) -> u64),
            (&mut self.bytes_transferred, |tally| tally.bytes_transferred),
            (&mut self.bytes_deduplicated, |tally| tally.bytes_deduplicated),
        ] {
            *total = total.saturating_add(grown(read));
        }
    }
}

impl Jobs {
    /// What was done since the start of the process.
    pub(in crate::core) fn totals(&self) -> Totals {
        self.totals
    }

    /// Bytes a second that cross between Stars lately, of all jobs together.
    pub(in crate::core) fn bytes_per_second(&self, now: Now) -> u64 {
        let lives = self.open_jobs().filter_map(|job| job.live.as_ref());
        lives.map(|live| live.rate.bytes_per_second(now.monotonic)).fold(0, u64::saturating_add)
    }

    /// Jobs by state; every state is there.
    pub(in crate::core) fn by_state(&self) -> BTreeMap<JobState, u64> {
        let mut counts: BTreeMap<_, u64> = JobState::ALL.iter().map(|state| (*state, 0)).collect();
        for job in self.jobs.values() {
            *counts.entry(job.record.state()).or_default() += 1;
        }
        counts
    }

    /// The jobs that have ended, and when.
    pub(in crate::core) fn ended(&self) -> impl Iterator<Item = (JobId, WallTime)> {
        let ended = self.jobs.iter().filter_map(|(id, job)| Some((*id, job.record.end.as_ref()?.time)));
        ended.take(limits::ENDED_JOBS_MAX)
    }

    /// Items of all jobs that have not ended: those that wait, those that are penalized and those in flight.
    pub(in crate::core) fn open_count(&self) -> u64 {
        self.open_jobs().map(|job| job.record.tally().open()).sum()
    }

    /// Items that Stars work on.
    pub(in crate::core) fn in_flight_count(&self) -> usize {
        debug_assert!(self.assignments.len() <= limits::STARS_MAX * ASSIGNMENTS_PER_STAR_MAX);
        self.in_flight.len()
    }

    /// Items that wait out a penalty.
    pub(in crate::core) fn penalized_count(&self) -> usize {
        self.open_jobs().filter_map(|job| job.live.as_ref()).map(|live| live.penalized.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_not_undone_by_a_retry() {
        let mut totals = Totals::default();
        let (none, one) = (Tally::default(), Tally { dead: 1, bytes_stored: 5, ..Tally::default() });
        totals.grow(&none, &one);
        totals.grow(&one, &none);
        totals.grow(&none, &one);
        assert_eq!(totals, Totals { dead: 2, bytes_stored: 10, ..Totals::default() });
    }
}
