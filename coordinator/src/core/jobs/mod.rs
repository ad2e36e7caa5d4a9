//! The jobs: what of them waits, is in flight, is penalized or has ended, and every decision about that.
//!
//! The Stars are only read here; what they hold of the jobs is in the hands ([`hands`]). Consequences for other parts are facts.

mod absences;
mod assignment;
mod commands;
mod comparing;
mod content_events;
mod dispatch;
mod drain;
mod evidence;
mod gates;
mod grants;
mod hands;
mod history;
mod job;
mod lane;
mod listed;
mod live;
mod on_way;
mod poison;
mod recover;
mod removals;
mod rescans;
mod scans;
mod seals;
mod settle;
mod space;
mod stalls;
mod suspects;
mod suspicion;
mod sweeps;
mod telling;
mod totals;
mod views;
mod yields;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::{AssignmentId, ItemId, JobId, SnapshotId, StarId};

use super::CoreConfig;
use super::change::Change;
use super::records::{JobRecord, JobSpec};
use super::seen::Seen;
use super::stars::{Star, Stars};
use super::turn::Turn;
use assignment::LiveAssignment;
pub(super) use commands::refuse_unfiltered;
use hands::Hands;
use job::{Job, Live};
pub use totals::Totals;
pub use views::{ItemPlace, ItemView, JobView, PenaltyView};
use yields::Yields;

/// So long after the grid has written to a Star its writing still shows in the trend of the disk.
const OWN_TREND: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Debug)]
pub(super) struct Jobs {
    jobs: BTreeMap<JobId, Job>,
    /// Those that have not ended. Nothing passes over the others at the end of a turn.
    open: BTreeSet<JobId>,
    /// Those that have ended and whose records may differ from what the store has.
    closed: BTreeSet<JobId>,
    /// Forgotten jobs, some of whose items are still in the store.
    forgotten: BTreeMap<JobId, JobRecord>,
    /// Jobs by the names of the requests that made them.
    requests: BTreeMap<String, JobId>,
    assignments: BTreeMap<AssignmentId, LiveAssignment>,
    in_flight: BTreeMap<ItemId, AssignmentId>,
    hands: Hands,
    yields: Yields,
    /// When the next items of an ended job are to be removed, if there are any.
    removal_at: Option<Monotonic>,
    /// What was done since the start.
    totals: Totals,
}

impl Jobs {
    /// A job that is known to be there.
    fn job(&self, id: JobId) -> &Job {
        self.jobs.get(&id).unwrap_or_else(|| panic!("job {id} is not there"))
    }

    /// The jobs that have not ended, by number.
    fn open_jobs(&self) -> impl Iterator<Item = &Job> + Clone {
        self.open.iter().map(|id| self.job(*id))
    }

    /// Their numbers.
    fn open_ids(&self) -> Vec<JobId> {
        self.open.iter().copied().collect()
    }

    /// The same, to be changed.
    fn job_mut(&mut self, id: JobId) -> &mut Job {
        self.jobs.get_mut(&id).unwrap_or_else(|| panic!("job {id} is not there"))
    }

    /// What is in memory of a job that is known to have something to do.
    fn live_mut(&mut self, id: JobId) -> &mut Live {
        self.job_mut(id).live.as_mut().unwrap_or_else(|| panic!("job {id} has ended"))
    }

    /// Whether a job is there and has not ended.
    pub(super) fn is_live(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.live.is_some())
    }

    /// The job that has not ended and reads from a snapshot, if there is one.
    pub(super) fn reader_of(&self, snapshot: SnapshotId) -> Option<JobId> {
        let reads_it = |job: &&Job| job.record.spec.snapshot == Some(snapshot);
        self.open_jobs().find(reads_it).map(|job| job.record.id)
    }

    /// The job that has not ended and needs a Star, if there is one.
    pub(super) fn user_of(&self, star: &StarId) -> Option<JobId> {
        let uses_it = |job: &&Job| job.record.spec.names(star);
        self.open_jobs().find(uses_it).map(|job| job.record.id)
    }

    /// Whether what a vault has staged belongs to a destination of a job that goes on.
    pub(super) fn is_stage_open(&self, star: &StarId, id: JobId, destination: u32) -> bool {
        self.jobs.get(&id).is_some_and(|job| {
            let place = job.record.spec.destinations.get(destination as usize);
            job.live.is_some() && place.is_some_and(|place| place.star_id == *star)
        })
    }

    /// How many scans a Star runs for jobs.
    pub(super) fn scans_on(&self, star: &StarId) -> usize {
        self.hands.of(star).scans
    }

    /// A Star has shown by a sample what room its disks have.
    pub(super) fn note_sample(&mut self, star: &StarId) {
        self.hands.of_mut(star).bytes_since_sample = 0;
    }

    /// A Star is forgotten; no job that goes on needs it.
    pub(super) fn forget_star(&mut self, star: &StarId) {
        self.hands.forget(star);
    }

    /// Which of the assignments that a Star says it holds it keeps. What it does not hold any more is given back.
    pub(super) fn keep_held(
        &mut self,
        turn: &mut Seen<'_>,
        name: &StarId,
        held: &[AssignmentId],
        is_new_process: bool,
    ) -> Vec<AssignmentId> {
        let is_kept = |id: &AssignmentId| !is_new_process && held.contains(id);
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.hands.of(name).assignments.iter().copied().partition(is_kept);
        for id in gone {
            self.release_assignment(turn, id);
        }
        kept
    }

    /// Whether the grid writes to a Star, or did lately, and its disks have room for all that its jobs have left. A Star sees how
    /// fast its disk fills, not what for: a migration that has room for all of it is no alarm.
    pub(super) fn is_own_trend(&self, now: Now, star: &Star) -> bool {
        let name = &star.record.star_id;
        let places =
            self.open_jobs().flat_map(|job| job.record.spec.destinations.iter().zip(&job.record.tallies));
        let tallies = places.filter(|(place, _)| place.star_id == *name).map(|(_, tally)| tally);
        let left = tallies.clone().map(|tally| tally.bytes_total.saturating_sub(tally.bytes_stored));
        let left = left.fold(0, u64::saturating_add);
        let is_writing = tallies.count() > 0
            || self.hands.of(name).wrote_at.is_some_and(|wrote_at| now.monotonic.since(wrote_at) < OWN_TREND);
        let vault = star.vault_sample.map(|sample| sample.disk_available_bytes);
        let room = star.root_space.iter().map(|space| space.available_bytes).chain(vault).min();
        is_writing && room.is_some_and(|room| room > left)
    }

    /// Adds every record that differs from what the store has.
    pub(super) fn gather(&mut self, turn: &mut Turn) {
        let mut closed = std::mem::take(&mut self.closed);
        closed.extend(&self.open);
        for id in closed {
            // One that was closed may have been forgotten since.
            let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_dirty) else { continue };
            job.is_dirty = false;
            turn.changes.push(Change::PutJob(Box::new(job.record.clone())));
        }
        self.check();
    }

    /// When something of the jobs is due.
    pub(super) fn next_deadline(
        &self,
        stars: &Stars,
        config: &CoreConfig,
        now: Monotonic,
    ) -> Option<Monotonic> {
        let deadlines = [
            self.next_job_deadline(now),
            self.next_yield_deadline(now),
            self.next_stall_deadline((stars, config.stall_after)),
            self.next_seal_deadline(now),
            self.next_sweep_deadline(now),
            self.next_suspicion_deadline(stars, now),
            self.next_absence_deadline(stars, now),
            self.next_removal_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        let (flying, held) = (self.in_flight.len(), self.assignments.len());
        let (open, known) = (self.open.len(), self.jobs.len());
        assert!(open <= known, "{open} of {known} jobs have not ended");
        assert!(flying == 0 || held > 0, "{flying} items are in flight and no assignment holds them");
    }

    /// The same for what would take a pass over everything: an item that has not ended is in exactly one place, and a Star's guard
    /// holds exactly what its live assignments hold.
    pub(super) fn check_all(&self, stars: &Stars) {
        self.check_permits(stars);
        self.check_in_flight();
        self.check_tallies();
    }

    /// Items of a job that wait in memory.
    #[cfg(test)]
    pub(super) fn in_memory(&self, id: JobId) -> usize {
        let live = self.jobs.get(&id).and_then(|job| job.live.as_ref());
        live.map_or(0, |live| live.lanes.iter().map(lane::Lane::len).sum())
    }

    fn check_permits(&self, stars: &Stars) {
        let mut held: BTreeMap<&StarId, (u64, u64, u64)> = BTreeMap::new();
        for assignment in self.assignments.values() {
            let sum = held.entry(&assignment.star).or_default();
            for flight in assignment.items.values() {
                sum.0 += flight.permit.object_count();
                sum.1 += flight.permit.byte_size();
                sum.2 += flight.carried.bytes();
            }
        }
        for (name, state) in stars.guards().all_states() {
            let expected = held.get(name).copied().unwrap_or_default();
            let on_way = self.hands.of(name).on_way.bytes();
            let found = (state.object_count, state.byte_size, on_way);
            assert_eq!(found, expected, "guard of {name} against its assignments");
        }
    }

    fn check_in_flight(&self) {
        let mut count = 0;
        let mut reads: BTreeMap<&StarId, usize> = BTreeMap::new();
        for (id, assignment) in &self.assignments {
            let hand = self.hands.of(&assignment.star);
            assert!(hand.assignments.contains(id), "assignment {id} is unknown to {}", assignment.star);
            *reads.entry(&assignment.source).or_default() += 1;
            for &sequence in assignment.items.keys() {
                let item = ItemId { job: assignment.job, destination: assignment.destination, sequence };
                assert_eq!(self.in_flight.get(&item), Some(id), "{item} of assignment {id} is not in flight");
                count += 1;
            }
        }
        assert_eq!(count, self.in_flight.len(), "items in flight that no assignment holds");
        let running: BTreeSet<(&StarId, u64)> = self
            .jobs
            .values()
            .filter_map(|job| Some((&job.record.spec.source.star_id, job.live.as_ref()?.scan.as_ref()?.id)))
            .collect();
        for (name, hand) in self.hands.iter() {
            let expected = reads.get(name).copied().unwrap_or(0);
            assert_eq!(hand.reads, expected, "what is read from {name}");
            for id in &hand.assignments {
                assert!(self.assignments.contains_key(id), "{name} holds {id}, which is over");
            }
            let scans = running.iter().filter(|(of, _)| *of == name).count();
            assert_eq!(hand.scans, scans, "scans that run on {name}");
        }
    }

    fn check_tallies(&self) {
        for job in self.jobs.values() {
            let id = job.record.id;
            assert_eq!(job.live.is_some(), self.open.contains(&id), "whether job {id} is open");
            for tally in &job.record.tallies {
                let ended = tally.stored + tally.skipped + tally.dead;
                assert_eq!(tally.total, ended + tally.open(), "tally of job {id}: {tally:?}");
            }
            let Some(live) = &job.live else { continue };
            for item in live.penalized.keys() {
                assert!(!self.in_flight.contains_key(item), "{item} is penalized and in flight");
            }
            let in_memory: usize = live.lanes.iter().map(lane::Lane::len).sum::<usize>()
                + live.penalized.len()
                + live.parked.len()
                + live.blocked.len();
            let of_job = self.in_flight.keys().filter(|item| item.job == id).count();
            let known = (in_memory + of_job) as u64;
            let open = job.record.tally().open();
            assert!(known <= open, "job {id}: {known} items in memory, {open} open");
            if live.lanes.iter().all(|lane| !lane.has_more_in_store()) {
                assert_eq!(known, open, "job {id}: items are nowhere");
            }
        }
    }
}

impl JobSpec {
    /// Whether it names a Star.
    pub(super) fn names(&self, star: &StarId) -> bool {
        self.source.star_id == *star || self.destinations.iter().any(|place| place.star_id == *star)
    }
}
