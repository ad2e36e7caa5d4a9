//! Dispatch: which items go to which Star next, and what is in flight.
//!
//! An assignment holds one permit of the destination's guard for each of its items. The permit is a value: settling,
//! withdrawing and losing an item all end in dropping it, so it comes back exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orbit_shared::backpressure::Permit;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::session::limits::{ASSIGNMENT_BYTES_MAX, ASSIGNMENT_ITEMS_MAX, ASSIGNMENTS_PER_STAR_MAX};
use orbit_shared::session::{AssignedItem, Assignment, CoordinatorMessage};
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::{AssignmentId, ItemId, JobId, StarId};

use super::change::AssignmentRecord;
use super::event::Action;
use super::lane::{Lane, QueueKey, Queued};
use super::limits::{LANE_LOAD_ITEMS, PENALIZED_PER_JOB_MAX};
use super::space::{self, Room};
use super::{Change, Core, Effects};

/// A batch is at most this part of what waits, so that a small job spreads over several assignments.
const BATCH_SHARE: usize = 4;
/// But at least this many items, where that many wait.
const BATCH_ITEMS_MIN: usize = 64;

/// One item in flight.
#[derive(Debug)]
pub struct InFlight {
    /// The item.
    pub queued: Queued,
    /// Its place in the guard.
    pub permit: Permit,
}

/// One attempt at a batch of items.
#[derive(Debug)]
pub struct LiveAssignment {
    /// Who holds it.
    pub star: StarId,
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
    /// Whether it holds one item alone, because sessions ended while Stars worked on that.
    pub is_quarantine: bool,
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
fn is_check_only(batch: &[InFlight]) -> bool {
    batch.first().is_some_and(|first| first.permit.byte_size() < first.queued.entry.size())
}

impl Core {
    /// Gives every Star that can take more what should go next, one batch of each lane in turn.
    pub(super) fn dispatch(&mut self, now: Now, fx: &mut Effects) {
        loop {
            let mut is_any = false;
            for (job, destination) in self.lanes_by_share() {
                is_any |= self.dispatch_lane(now, job, destination, fx);
            }
            if !is_any {
                return;
            }
        }
    }

    /// The lanes with something in memory, those with the fewest bytes in flight first.
    fn lanes_by_share(&self) -> Vec<(JobId, u32)> {
        let mut bytes: BTreeMap<(JobId, u32), u64> = BTreeMap::new();
        for job in self.jobs.values() {
            let Some(live) = &job.live else { continue };
            for (index, lane) in live.lanes.iter().enumerate() {
                if !lane.is_empty() {
                    bytes.insert((job.record.id, u32::try_from(index).unwrap_or(u32::MAX)), 0);
                }
            }
        }
        for assignment in self.assignments.values() {
            if let Some(bytes) = bytes.get_mut(&(assignment.job, assignment.destination)) {
                *bytes += assignment.items.values().map(|item| item.permit.byte_size()).sum::<u64>();
            }
        }
        let mut lanes: Vec<_> = bytes.into_iter().map(|(lane, bytes)| (bytes, lane)).collect();
        lanes.sort_unstable();
        lanes.into_iter().map(|(_, lane)| lane).collect()
    }

    /// Makes one assignment of a lane, unless a gate holds it.
    fn dispatch_lane(&mut self, now: Now, job_id: JobId, destination: u32, fx: &mut Effects) -> bool {
        // What was given up may have been all that kept the directories back, or one too many for the job.
        loop {
            if self.lane_gate(now, job_id, destination).is_some() {
                return false;
            }
            if !self.give_up_poison(now, job_id, destination, fx) {
                break;
            }
        }
        let items_max =
            if self.is_probe(now.monotonic, job_id, destination) { 1 } else { ASSIGNMENT_ITEMS_MAX };
        let items_max = self.items_max_by_strikes(job_id, destination).min(items_max);
        let Some(batch) = self.take_batch(now, job_id, destination, items_max) else { return false };
        let id = AssignmentId(self.counters.assignment);
        self.counters.assignment += 1;
        self.is_counters_dirty = true;
        self.send_assignment(id, job_id, destination, &batch, fx);
        for flight in &batch {
            let item = ItemId { job: job_id, destination, sequence: flight.queued.sequence };
            let before = self.in_flight.insert(item, id);
            assert!(before.is_none(), "{item} is dispatched while {before:?} holds it");
            let entry = &flight.queued.entry;
            let bytes = Some(entry.size());
            self.record_step(now, fx, ProvenanceType::FileStarted, (item, entry), (bytes, None));
        }
        let record = AssignmentRecord {
            id,
            star: self.destination_star(job_id, destination),
            job: job_id,
            destination,
            sequences: batch.iter().map(|flight| flight.queued.sequence).collect(),
        };
        self.begin_assignment(now, &record, batch);
        fx.changes.push(Change::PutAssignment(record));
        true
    }

    fn destination_star(&self, job: JobId, destination: u32) -> StarId {
        let job = self.jobs.get(&job).expect("a lane belongs to a job");
        job.record.spec.destinations[destination as usize].star_id.clone()
    }

    /// Notes an assignment as live.
    pub(super) fn begin_assignment(&mut self, now: Now, record: &AssignmentRecord, batch: Vec<InFlight>) {
        let is_quarantine = self.is_quarantine(&batch, record);
        let batch_is_check_only = is_check_only(&batch);
        let star = self.stars.get_mut(&record.star).expect("an assignment goes to a known Star");
        star.assignments.insert(record.id);
        let live = LiveAssignment {
            star: record.star.clone(),
            job: record.job,
            destination: record.destination,
            is_directories: batch.iter().any(|flight| flight.queued.is_directory()),
            items: batch.into_iter().map(|flight| (flight.queued.sequence, flight)).collect(),
            bytes_moved: 0,
            since: now.monotonic,
            progress_at: now.monotonic,
            has_begun: false,
            is_stalled: false,
            is_check_only: batch_is_check_only,
            is_quarantine,
        };
        self.assignments.insert(record.id, live);
    }

    /// Takes the items of one batch out of a lane, each with its permit. `None` when not even one was admitted.
    fn take_batch(
        &mut self,
        now: Now,
        job_id: JobId,
        destination: u32,
        items_max: usize,
    ) -> Option<Vec<InFlight>> {
        let job = self.jobs.get_mut(&job_id)?;
        let live = job.live.as_mut()?;
        let place = job.record.spec.destinations.get(destination as usize)?;
        let star = self.stars.get(&place.star_id)?;
        let guard = &star.guard;
        let lane: &mut Lane = live.lanes.get_mut(destination as usize)?;
        let items_max =
            (lane.len() / BATCH_SHARE).clamp(BATCH_ITEMS_MIN, ASSIGNMENT_ITEMS_MAX).min(items_max);
        let first_size = lane.item(lane.best_key()?)?.entry.size();
        let room = space::room(star, &place.path, live.parked.len(), first_size);
        let mut batch: Vec<InFlight> = Vec::new();
        let mut bytes = 0;
        while batch.len() < items_max && bytes < ASSIGNMENT_BYTES_MAX && live.budget.is_open(now.monotonic) {
            let Some(key) = lane.next(now.monotonic) else { break };
            let Some(queued) = lane.item(&key) else { break };
            let size = queued.entry.size();
            let is_other_phase =
                batch.first().is_some_and(|first| first.queued.is_directory() != queued.is_directory());
            // Items that are under suspicion do not travel with those that are not.
            let strikes = |sequence| live.strikes.get(&(destination, sequence)).copied().unwrap_or(0);
            let is_other_suspicion =
                batch.first().is_some_and(|first| strikes(first.queued.sequence) != strikes(queued.sequence));
            if is_other_phase
                || is_other_suspicion
                || (!batch.is_empty() && bytes + size > ASSIGNMENT_BYTES_MAX)
            {
                break;
            }
            let (is_admitted, size) = match room {
                Room::Bytes(max) => (bytes + size <= max, size),
                Room::CheckOnly { beyond } => (size > beyond, 0),
                Room::None => (false, size),
            };
            if !is_admitted {
                break;
            }
            let Some(permit) = guard.try_reserve(1, size) else { break };
            let queued = lane.remove(&key).expect("the lane has just named it");
            live.budget.take(now.monotonic, size);
            bytes += size;
            batch.push(InFlight { queued, permit });
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn send_assignment(
        &self,
        id: AssignmentId,
        job_id: JobId,
        destination: u32,
        batch: &[InFlight],
        fx: &mut Effects,
    ) {
        let record = &self.jobs.get(&job_id).expect("a lane belongs to a job").record;
        let spec = &record.spec;
        let place = &spec.destinations[destination as usize];
        let source = self.stars.get(&spec.source.star_id).expect("the gate has seen the source");
        let session = self.stars.get(&place.star_id).and_then(|star| star.session);
        let session = session.expect("the gate has seen the destination's session");
        let items = batch.iter().map(|flight| AssignedItem {
            sequence: flight.queued.sequence,
            entry: orbit_shared::entry::Entry::clone(&flight.queued.entry),
        });
        let assignment = Assignment {
            id,
            job: job_id,
            destination,
            source_star: spec.source.star_id.clone(),
            source_address: source.record.data_address.clone(),
            source_path: spec.source.path.clone(),
            destination_path: place.path.clone(),
            token: String::new(),
            items: items.collect(),
            is_check_only: is_check_only(batch),
            layout: spec.layout,
            source_snapshot: spec.snapshot,
            // Files go before the directories, unless they are tried again.
            keeps_directory_times: record.scan.is_done
                && record.tallies[destination as usize].open_directories == 0,
            trace: Some(record.trace().child("assignment", id.0)),
        };
        fx.actions.push(Action::Assign { session, assignment, destination_star: place.star_id.clone() });
    }

    /// Whether a Star's hands are full.
    pub(super) fn is_at_assignment_limit(&self, star: &StarId) -> bool {
        self.stars.get(star).is_none_or(|star| star.assignments.len() >= ASSIGNMENTS_PER_STAR_MAX)
    }

    /// Whether so many items of a job wait out penalties that its dispatch waits for them.
    pub(super) fn is_at_penalty_limit(&self, job: JobId) -> bool {
        let live = self.jobs.get(&job).and_then(|job| job.live.as_ref());
        live.is_some_and(|live| live.penalized.len() >= PENALIZED_PER_JOB_MAX)
    }

    /// Asks the store for more where a lane runs low.
    pub(super) fn load_windows(&mut self, fx: &mut Effects) {
        for job in self.jobs.values_mut() {
            let Some(live) = &mut job.live else { continue };
            for (index, lane) in live.lanes.iter_mut().enumerate() {
                if let Some(after) = lane.begin_load() {
                    fx.actions.push(Action::LoadWindow {
                        job: job.record.id,
                        destination: u32::try_from(index).unwrap_or(u32::MAX),
                        after,
                        limit: LANE_LOAD_ITEMS,
                    });
                }
            }
        }
    }

    /// Takes what the store has read, without what is in flight.
    pub(super) fn window_loaded(
        &mut self,
        now: Now,
        (job_id, destination): (JobId, u32),
        items: Vec<(QueueKey, u64, orbit_shared::entry::Entry)>,
        is_end: bool,
    ) {
        let in_flight = &self.in_flight;
        let Some(live) = self.jobs.get_mut(&job_id).and_then(|job| job.live.as_mut()) else { return };
        let Some(lane) = live.lanes.get_mut(destination as usize) else { return };
        let last_key = items.last().map(|(key, _, _)| key.clone());
        let waiting = items.into_iter().filter_map(|(key, sequence, entry)| {
            let item = ItemId { job: job_id, destination, sequence };
            let entry = Arc::new(entry);
            let queued = Queued { sequence, entry, is_penalty: false, queued_at: now.monotonic };
            (!in_flight.contains_key(&item)).then_some((key, queued))
        });
        lane.loaded(waiting.collect(), last_key, is_end);
    }

    /// Gives back all that a Star holds, without a penalty. If its session is still there it is told, so that a Star
    /// which was only frozen stops working on what others are given now.
    pub(super) fn release_star(&mut self, name: &StarId, fx: &mut Effects) {
        let Some(star) = self.stars.get(name) else { return };
        let session = star.session;
        for id in star.assignments.clone() {
            if let Some(session) = session {
                let message = CoordinatorMessage::Withdraw { assignment: id, is_job_over: false };
                fx.actions.push(Action::Send { session, message });
            }
            self.release_assignment(id, fx);
        }
    }

    /// Gives back what is left of an assignment: its items wait again, and no failure is counted.
    pub(super) fn release_assignment(&mut self, id: AssignmentId, fx: &mut Effects) {
        let Some(assignment) = self.end_assignment(id, fx) else { return };
        for (_, flight) in assignment.items {
            let item = ItemId {
                job: assignment.job,
                destination: assignment.destination,
                sequence: flight.queued.sequence,
            };
            self.in_flight.remove(&item);
            if !is_planted(Bug::ReleasedItemNotQueued) {
                self.put_back(item, flight.queued);
            }
        }
    }

    /// An item waits again, where it stood before.
    pub(super) fn put_back(&mut self, item: ItemId, queued: Queued) {
        let Some(live) = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut()) else { return };
        live.wait(item, queued);
    }

    /// Withdraws all that is in flight for a job that is ending.
    pub(super) fn withdraw_job(&mut self, job: JobId, fx: &mut Effects) {
        let of_job = self.assignments.iter().filter(|(_, assignment)| assignment.job == job);
        let ids: Vec<(AssignmentId, StarId)> =
            of_job.map(|(&id, assignment)| (id, assignment.star.clone())).collect();
        for (id, star) in ids {
            if let Some(session) = self.stars.get(&star).and_then(|star| star.session)
                && !is_planted(Bug::WithdrawForgotten)
            {
                let message = CoordinatorMessage::Withdraw { assignment: id, is_job_over: true };
                fx.actions.push(Action::Send { session, message });
            }
            self.release_assignment(id, fx);
        }
    }

    /// Tells the destinations of a job that ended with items open that no other attempt will come. A Star that is not
    /// connected is not told, and finds out by itself when nobody comes back.
    pub(super) fn announce_end(&self, job: JobId, fx: &mut Effects) {
        let is_of_use = |job: &&super::Job| {
            job.record.tally().open() > 0 || !job.record.is_sealed() || !job.record.is_swept()
        };
        let Some(job) = self.jobs.get(&job).filter(is_of_use) else { return };
        let stars: BTreeSet<&StarId> =
            job.record.spec.destinations.iter().map(|destination| &destination.star_id).collect();
        for session in stars.into_iter().filter_map(|star| self.stars.get(star)?.session) {
            let message = CoordinatorMessage::JobEnded { job: job.record.id };
            fx.actions.push(Action::Send { session, message });
        }
    }

    /// Forgets an assignment. Whoever calls this decides what becomes of the items that are left.
    pub(super) fn end_assignment(&mut self, id: AssignmentId, fx: &mut Effects) -> Option<LiveAssignment> {
        let assignment = self.assignments.remove(&id)?;
        if let Some(star) = self.stars.get_mut(&assignment.star) {
            star.assignments.remove(&id);
        }
        fx.changes.push(Change::RemoveAssignment(id));
        Some(assignment)
    }
}
