//! What the faces may see of the core: snapshots, taken between turns, so they show only what is durable. Read only.

use std::collections::BTreeMap;

#[cfg(test)]
use orbit_shared::bulletin::BulletinBoard;
use orbit_shared::capability::Capability;
use orbit_shared::dead_letter::DeadLetterQueue;
use orbit_shared::entry::Entry;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::session::LivePull;
use orbit_shared::time::{Now, WallTime};
use orbit_shared::words::{AssignmentId, ItemId, JobId, SnapshotId, StarId};

use super::Core;
use super::calls::{LAST_COPY, REMOVED};
use super::event::SessionId;
use super::jobs::{ItemView, JobView, PenaltyView, Totals};
use super::records::{Answered, JobState, RequestName, ScheduleRecord, SnapshotRecord};
use super::refusal::Refusal;
use super::stars::{Star, pause_reason};

impl Core {
    /// One job.
    pub fn job(&self, id: JobId, now: Now) -> Option<JobView> {
        self.jobs.view(&self.stars, id, now)
    }

    /// Jobs with lower numbers than `before`, newest first, each looked at when it is asked for.
    pub fn each_job(
        &self,
        before: Option<JobId>,
        states: &[JobState],
        now: Now,
    ) -> impl Iterator<Item = JobView> {
        self.jobs.each_view(&self.stars, before, states, now)
    }

    /// Where an item is and what holds it.
    pub fn item(&self, now: Now, item: ItemId, entry: &Entry) -> Option<ItemView> {
        self.jobs.item(&self.stars, now, item, entry)
    }

    /// Penalized items with higher keys than `after`, by key.
    pub fn each_penalty(
        &self,
        job: Option<JobId>,
        after: Option<ItemId>,
        now: Now,
    ) -> impl Iterator<Item = PenaltyView> {
        self.jobs.each_penalty(job, after, now)
    }

    /// What was done since the start of the process.
    pub fn totals(&self) -> Totals {
        self.jobs.totals()
    }

    /// Bytes a second that cross between Stars lately, of all jobs together.
    pub fn bytes_per_second(&self, now: Now) -> u64 {
        self.jobs.bytes_per_second(now)
    }

    /// Jobs by state; every state is there.
    pub fn jobs_by_state(&self) -> BTreeMap<JobState, u64> {
        self.jobs.by_state()
    }

    /// The jobs that have ended, and when.
    pub fn ended_jobs(&self) -> impl Iterator<Item = (JobId, WallTime)> {
        self.jobs.ended()
    }

    /// Items of all jobs that have not ended: those that wait, those that are penalized and those in flight.
    pub fn open_count(&self) -> u64 {
        self.jobs.open_count()
    }

    /// Items that Stars work on.
    pub fn in_flight_count(&self) -> usize {
        self.jobs.in_flight_count()
    }

    /// Items that wait out a penalty.
    pub fn penalized_count(&self) -> usize {
        self.jobs.penalized_count()
    }

    /// One Star.
    pub fn star(&self, id: &StarId) -> Option<&Star> {
        self.stars.get(id)
    }

    /// All Stars, by name.
    pub fn stars(&self) -> impl Iterator<Item = &Star> {
        self.stars.iter()
    }

    /// The Stars whose vaults can be asked now.
    pub fn connected_stars(&self) -> Vec<StarId> {
        self.stars.connected()
    }

    /// Sessions that are open.
    pub fn session_count(&self) -> usize {
        self.stars.session_count()
    }

    /// How many assignments a Star holds.
    pub fn held_count(&self, star: &Star) -> usize {
        self.jobs.held_count(&star.record.star_id)
    }

    /// How many scans run on a Star, for jobs and for plans.
    pub fn scan_count(&self, star: &Star) -> usize {
        let name = &star.record.star_id;
        self.jobs.scans_on(name) + self.plans.scans_on(name)
    }

    /// Whether a Star is draining and has nothing left to do, for itself or for others.
    pub fn is_drained(&self, star: &Star) -> bool {
        star.is_drained(self.held_count(star))
    }

    /// What keeps a draining Star from being drained: what, how much, and until when as far as that is known.
    pub fn drain_blockers(&self, star: &Star, now: Now) -> Vec<String> {
        self.jobs.drain_blockers(star, now)
    }

    /// What a draining Star would take away, in words: items that are not copied yet, and snapshots of which no other vault has a
    /// copy.
    pub fn departure_warnings(&self, star: &Star) -> Vec<String> {
        let mut warnings = self.jobs.drain_warnings(star);
        if star.state() == LifecycleState::Draining {
            warnings.extend(self.last_copy_warning(&star.record.star_id));
        }
        warnings
    }

    /// What would be lost to the grid with a Star, in words: the number of snapshots that only it has, and the newest of them.
    pub fn last_copy_warning(&self, name: &StarId) -> Option<String> {
        self.calls.catalogue().last_copy_warning(&self.stars, name)
    }

    /// The warning that was posted when a Star was removed.
    pub fn removal_warning(&self, name: &StarId) -> Option<String> {
        let posted = self.board.shown().by_source(name.as_str()).into_iter();
        let is_it = |message: &str| message.starts_with(&format!("{name} {REMOVED}"));
        let mut posted =
            posted.filter(|bulletin| bulletin.category == LAST_COPY && !bulletin.is_acknowledged);
        posted.find(|bulletin| is_it(&bulletin.message)).map(|bulletin| bulletin.message.clone())
    }

    /// What of a Star yields now, in words.
    pub fn yields_of(&self, name: &StarId) -> Vec<String> {
        self.jobs.yields_of(name)
    }

    /// Why a Star's guard is paused; empty when it is not.
    pub fn pause_reason(&self, star: &Star) -> String {
        pause_reason(star)
    }

    /// What each assignment that a session's Star holds needs a grant for.
    pub fn grants_of(&self, session: SessionId) -> Vec<(AssignmentId, Capability)> {
        self.stars.named(session).map(|star| self.jobs.grants_of(star)).unwrap_or_default()
    }

    /// The pulls that may run from a session's Star.
    pub fn live_pulls_from(&self, session: SessionId) -> Vec<LivePull> {
        let source = self.stars.named(session);
        source.map(|source| self.jobs.live_pulls_from(&self.stars, source)).unwrap_or_default()
    }

    /// Snapshots, newest first.
    pub fn snapshots(&self) -> Vec<&SnapshotRecord> {
        self.calls.catalogue().newest_first()
    }

    /// One snapshot.
    pub fn snapshot(&self, id: SnapshotId) -> Option<&SnapshotRecord> {
        self.calls.catalogue().get(id)
    }

    /// Where a snapshot can be read now, and what an operator's program may do there.
    ///
    /// # Errors
    /// It is not known, or its Star is not connected.
    pub fn readable_snapshot(&self, id: SnapshotId) -> Result<(String, Capability), Refusal> {
        self.calls.catalogue().readable(&self.stars, id)
    }

    /// The bulletin board. Readers see another, which follows it when a turn is durable.
    #[cfg(test)]
    pub(super) fn board(&self) -> &BulletinBoard {
        self.board.shown()
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> &DeadLetterQueue {
        self.letters.queue()
    }

    /// The result of an earlier request, if it is remembered.
    ///
    /// # Errors
    /// Its name belongs to another request.
    pub fn answered(&self, request: &RequestName) -> Result<Option<&Answered>, Refusal> {
        self.answers.answered(request)
    }

    /// All schedules behind one, in the order of their creation.
    pub fn schedules(&self, after: u64) -> impl Iterator<Item = &ScheduleRecord> {
        self.schedules.after(after)
    }

    /// One schedule.
    ///
    /// # Errors
    /// There is none of this number.
    pub fn schedule_record(&self, id: u64) -> Result<&ScheduleRecord, Refusal> {
        self.schedules.get(id)
    }

    /// What is wrong with the store, if it is lost.
    pub fn store_problem(&self) -> Option<&str> {
        self.store_problem.as_deref()
    }

    /// Reports and batches that came too late to count, since the start.
    pub fn late_count(&self) -> u64 {
        self.late_count
    }
}
