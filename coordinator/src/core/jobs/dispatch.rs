//! Dispatch: which items go to which Star next, and what is in flight.
//!
//! An assignment holds one permit of the destination's guard for each of its items. The permit is a value: settling,
//! withdrawing and losing an item all end in dropping it, so it comes back exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::session::limits::{
    ASSIGNMENT_BYTES_MAX, ASSIGNMENT_ITEMS_MAX, ASSIGNMENTS_PER_STAR_MAX, LARGE_FILE_WINDOW_BYTES,
};
use orbit_shared::session::{AssignedItem, Assignment, CoordinatorMessage};
use orbit_shared::time::Now;
use orbit_shared::words::{AssignmentId, ItemId, JobId, StarId};

use super::Jobs;
use super::assignment::{InFlight, LiveAssignment, guard_charge, is_check_only, is_large};
use super::job::Job;
use super::lane::{Lane, Queued};
use super::space::{self, Room};
use super::suspects::Suspect;
use super::suspicion::Suspicion;
use crate::core::change::Change;
use crate::core::change::{AssignmentRecord, QueueKey};
use crate::core::event::Action;
use crate::core::held::{Gate, Held};
use crate::core::limits::{
    ASSIGNMENTS_PER_SOURCE_MAX, LANE_LOAD_ITEMS, LARGE_ASSIGNMENTS_PER_STAR_MAX, PENALIZED_PER_JOB_MAX,
};
use crate::core::records::destination_number;
use crate::core::seen::Seen;
use crate::core::stars::Stars;
use crate::core::turn::Turn;

/// A batch is at most this part of what waits, so that a small job spreads over several assignments.
const BATCH_SHARE: usize = 4;
/// But at least this many items, where that many wait.
const BATCH_ITEMS_MIN: usize = 64;

impl Jobs {
    /// Gives every Star that can take more what should go next, one batch of each lane in turn.
    pub(in crate::core) fn dispatch(&mut self, turn: &mut Seen<'_>) {
        loop {
            let mut is_any = false;
            for (job, destination) in self.lanes_by_share() {
                is_any |= self.dispatch_lane(turn, job, destination);
            }
            if !is_any {
                return;
            }
        }
    }

    /// The lanes with something in memory: first those whose next item is to be tried alone and can be, then those with the
    /// fewest bytes in flight, and among equals the one that was served longest ago.
    fn lanes_by_share(&self) -> Vec<(JobId, u32)> {
        let mut shares: BTreeMap<(JobId, u32), (bool, u64, AssignmentId)> = BTreeMap::new();
        for job in self.open_jobs() {
            let live = job.live.as_ref().expect("a job that is open has not ended");
            for (index, lane) in live.lanes.iter().enumerate() {
                if !lane.is_empty() {
                    let lane = (job.record.id, destination_number(index));
                    let is_later = !self.is_trial_due(lane.0, lane.1);
                    shares.insert(lane, (is_later, 0, live.last_assignments[index]));
                }
            }
        }
        for assignment in self.assignments.values() {
            if let Some((_, bytes, _)) = shares.get_mut(&(assignment.job, assignment.destination)) {
                *bytes += assignment.items.values().map(|item| item.permit.byte_size()).sum::<u64>();
            }
        }
        let mut lanes: Vec<_> = shares.into_iter().map(|(lane, share)| (share, lane)).collect();
        lanes.sort_unstable();
        lanes.into_iter().map(|(_, lane)| lane).collect()
    }

    /// Makes one assignment of a lane, unless a gate holds it.
    fn dispatch_lane(&mut self, turn: &mut Seen<'_>, job_id: JobId, destination: u32) -> bool {
        // What was given up may have been all that kept the directories back, or one too many for the job.
        loop {
            if self.lane_gate(turn.stars, turn.now, job_id, destination).is_some() {
                return false;
            }
            if !self.give_up_poison(turn, job_id, destination) {
                break;
            }
        }
        let items_max = if self.is_probe(turn.stars, turn.now.monotonic, job_id, destination) {
            1
        } else {
            ASSIGNMENT_ITEMS_MAX
        };
        let items_max = self.items_max_by_suspicion(job_id, destination).min(items_max);
        let Some(batch) = self.take_batch(turn.stars, turn.now, job_id, destination, items_max) else {
            return false;
        };
        let id = AssignmentId(turn.counters.assignment);
        turn.counters.assignment += 1;
        self.send_assignment(turn, id, job_id, destination, &batch);
        for flight in &batch {
            let item = ItemId { job: job_id, destination, sequence: flight.queued.sequence };
            let before = self.in_flight.insert(item, id);
            assert!(before.is_none(), "{item} is dispatched while {before:?} holds it");
            let entry = &flight.queued.entry;
            let bytes = Some(entry.size());
            self.record_step(turn, ProvenanceType::FileStarted, (item, entry), (bytes, None));
        }
        let record = AssignmentRecord {
            id,
            star: self.destination_star(job_id, destination),
            job: job_id,
            destination,
            sequences: batch.iter().map(|flight| flight.queued.sequence).collect(),
        };
        self.begin_assignment(turn.now, &record, batch);
        turn.changes.push(Change::PutAssignment(record));
        true
    }

    fn destination_star(&self, job: JobId, destination: u32) -> StarId {
        let job = self.jobs.get(&job).expect("a lane belongs to a job");
        job.record.spec.destinations[destination as usize].star_id.clone()
    }

    /// Notes an assignment as live.
    pub(super) fn begin_assignment(&mut self, now: Now, record: &AssignmentRecord, batch: Vec<InFlight>) {
        let suspicion = batch.first().map_or(Suspicion::None, |first| first.queued.suspicion);
        let batch_is_check_only = is_check_only(&batch);
        let batch_is_large = batch.first().is_some_and(|first| is_large(first.queued.entry.size()));
        let job = self.jobs.get_mut(&record.job).expect("an assignment belongs to a job");
        let source = job.record.spec.source.star_id.clone();
        if let Some(live) = &mut job.live {
            live.last_assignments[record.destination as usize] = record.id;
        }
        let live = LiveAssignment {
            star: record.star.clone(),
            source,
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
            suspicion,
            is_large: batch_is_large,
        };
        self.begin_trial(now.monotonic, record.id, &live);
        self.hands.of_mut(&record.star).assignments.insert(record.id);
        self.hands.of_mut(&live.source).reads += 1;
        let before = self.assignments.insert(record.id, live);
        assert!(before.is_none(), "assignment {} is live already: {before:?}", record.id);
    }

    /// Takes the items of one batch out of a lane, each with its permit. `None` when not even one was admitted.
    fn take_batch(
        &mut self,
        stars: &Stars,
        now: Now,
        job_id: JobId,
        destination: u32,
        items_max: usize,
    ) -> Option<Vec<InFlight>> {
        let large_is_held = self.large_gate(stars, job_id, destination).is_some();
        let job = self.jobs.get_mut(&job_id)?;
        let live = job.live.as_mut()?;
        let place = job.record.spec.destinations.get(destination as usize)?;
        let star = stars.get(&place.star_id)?;
        let hand = self.hands.of(&place.star_id);
        let guard = &star.guard;
        let lane: &mut Lane = live.lanes.get_mut(destination as usize)?;
        let items_max =
            (lane.len() / BATCH_SHARE).clamp(BATCH_ITEMS_MIN, ASSIGNMENT_ITEMS_MAX).min(items_max);
        // Large files that hold their share already let the small ones behind them pass.
        let front = lane.item(lane.best_key()?)?;
        let passes_large = large_is_held && is_large(front.entry.size());
        let first_size = match passes_large {
            true => lane.item(&lane.first_up_to(ASSIGNMENT_BYTES_MAX)?)?.entry.size(),
            false => front.entry.size(),
        };
        let room = space::room(star, hand, &place.path, live.parked.len(), first_size);
        let mut batch: Vec<InFlight> = Vec::new();
        let mut bytes = 0;
        while batch.len() < items_max && bytes < ASSIGNMENT_BYTES_MAX && live.budget.is_open(now.monotonic) {
            let next = match passes_large {
                true => lane.first_up_to(ASSIGNMENT_BYTES_MAX),
                false => lane.next(now.monotonic),
            };
            let Some(key) = next else { break };
            let Some(queued) = lane.item(&key) else { break };
            let size = queued.entry.size();
            if large_is_held && is_large(size) {
                break;
            }
            let is_other_phase =
                batch.first().is_some_and(|first| first.queued.is_directory() != queued.is_directory());
            // Items that are under suspicion do not travel with those that are not.
            let is_other_suspicion =
                batch.first().is_some_and(|first| first.queued.suspicion != queued.suspicion);
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
            let Some(permit) = guard.try_reserve(1, guard_charge(size)) else { break };
            let carried = hand.on_way.carry(size);
            let queued = lane.remove(&key).expect("the lane has just named it");
            live.budget.take(now.monotonic, size);
            bytes = bytes.saturating_add(size);
            batch.push(InFlight { queued, permit, carried });
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn send_assignment(
        &self,
        turn: &mut Seen<'_>,
        id: AssignmentId,
        job_id: JobId,
        destination: u32,
        batch: &[InFlight],
    ) {
        let job = self.jobs.get(&job_id).expect("a lane belongs to a job");
        let record = &job.record;
        let spec = &record.spec;
        let place = &spec.destinations[destination as usize];
        let source = turn.stars.get(&spec.source.star_id).expect("the gate has seen the source");
        let session = turn.stars.session_of(&place.star_id);
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
            compares_content: spec.compares_content,
            trace: Some(record.trace().child("assignment", id.0)),
        };
        let grant = job.grant(destination).expect("a lane belongs to a destination");
        turn.actions.push(Action::Assign { session, assignment, grant });
    }

    /// Whether a Star's hands are full.
    pub(super) fn is_at_assignment_limit(&self, star: &StarId) -> bool {
        self.hands.of(star).assignments.len() >= ASSIGNMENTS_PER_STAR_MAX
    }

    /// Whether a Star holds as many assignments of one source as it may: the others are for other sources.
    pub(super) fn is_at_source_limit(&self, star: &StarId, source: &StarId) -> bool {
        let of_source = self.hands.of(star).assignments.iter().filter_map(|id| self.assignments.get(id));
        of_source.filter(|live| live.source == *source).count() >= ASSIGNMENTS_PER_SOURCE_MAX
    }

    /// What holds a large file at the front of a lane: large files leave a share of a Star's hands and of its guard to
    /// what is small.
    pub(super) fn large_gate(&self, stars: &Stars, job: JobId, destination: u32) -> Option<Held> {
        let job = self.jobs.get(&job)?;
        let name = &job.record.spec.destinations.get(destination as usize)?.star_id;
        let star = stars.get(name)?;
        let of_star = self.hands.of(name).assignments.iter().filter_map(|id| self.assignments.get(id));
        let count = of_star.filter(|live| live.is_large).count();
        let state = star.guard.state();
        let is_beyond = state.byte_size.saturating_add(LARGE_FILE_WINDOW_BYTES) > state.max_byte_size / 4 * 3;
        (count >= LARGE_ASSIGNMENTS_PER_STAR_MAX || count > 0 && is_beyond).then(|| {
            let explanation = format!(
                "{name} receives {count} large files at a time and takes only small ones beside them; {} of {} bytes of its guard are taken",
                state.byte_size, state.max_byte_size
            );
            Held::new(Gate::Guard, explanation)
        })
    }

    /// Whether so many items of a job wait out penalties that its dispatch waits for them.
    pub(super) fn is_at_penalty_limit(&self, job: JobId) -> bool {
        let live = self.jobs.get(&job).and_then(|job| job.live.as_ref());
        live.is_some_and(|live| live.penalized.len() >= PENALIZED_PER_JOB_MAX)
    }

    /// Asks the store for more where a lane runs low.
    pub(in crate::core) fn load_windows(&mut self, turn: &mut Turn) {
        for id in self.open_ids() {
            let live = self.live_mut(id);
            for (index, lane) in live.lanes.iter_mut().enumerate() {
                if let Some(after) = lane.begin_load() {
                    turn.actions.push(Action::LoadWindow {
                        job: id,
                        destination: destination_number(index),
                        after,
                        limit: LANE_LOAD_ITEMS,
                    });
                }
            }
        }
    }

    /// Takes what the store has read, without what is in flight.
    pub(in crate::core) fn window_loaded(
        &mut self,
        now: Now,
        (job_id, destination): (JobId, u32),
        items: Vec<(QueueKey, u64, orbit_shared::entry::Entry)>,
        is_end: bool,
    ) {
        let in_flight = &self.in_flight;
        let Some(live) = self.jobs.get_mut(&job_id).and_then(|job| job.live.as_mut()) else { return };
        let (parked, blocked) = (&live.parked, &live.blocked);
        let lane = &mut live.lanes[destination as usize];
        let last_key = items.last().map(|(key, _, _)| key.clone());
        let suspects = &live.suspects;
        let waiting = items.into_iter().filter_map(|(key, sequence, entry)| {
            let item = ItemId { job: job_id, destination, sequence };
            let suspect = suspects.get(&(destination, sequence));
            let suspicion = suspect.map_or(Suspicion::None, Suspect::suspicion);
            let queued = Queued { suspicion, ..Queued::new(sequence, Arc::new(entry), now.monotonic) };
            let is_elsewhere =
                in_flight.contains_key(&item) || parked.contains_key(&item) || blocked.contains_key(&item);
            (!is_elsewhere).then_some((key, queued))
        });
        lane.loaded(waiting.collect(), last_key, is_end);
    }

    /// Gives back all that a Star holds, without a penalty. If its session is still there it is told, so that a Star
    /// which was only frozen stops working on what others are given now.
    pub(in crate::core) fn release_star(&mut self, turn: &mut Seen<'_>, name: &StarId) {
        let session = turn.stars.session_of(name);
        for id in self.hands.of(name).assignments.clone() {
            if let Some(session) = session {
                let message = CoordinatorMessage::Withdraw { assignment: id, is_job_over: false };
                turn.actions.push(Action::Send { session, message });
            }
            self.release_assignment(turn, id);
        }
    }

    /// Gives back what is left of an assignment: its items wait again, and no failure is counted.
    pub(super) fn release_assignment(&mut self, turn: &mut Seen<'_>, id: AssignmentId) {
        let assignment = self.end_assignment(turn, id);
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
        self.live_mut(item.job).wait(item, queued);
    }

    /// Withdraws all that is in flight for a job that is ending.
    pub(super) fn withdraw_job(&mut self, turn: &mut Seen<'_>, job: JobId) {
        let of_job = self.assignments.iter().filter(|(_, assignment)| assignment.job == job);
        let ids: Vec<(AssignmentId, StarId)> =
            of_job.map(|(&id, assignment)| (id, assignment.star.clone())).collect();
        for (id, star) in ids {
            if let Some(session) = turn.stars.session_of(&star)
                && !is_planted(Bug::WithdrawForgotten)
            {
                let message = CoordinatorMessage::Withdraw { assignment: id, is_job_over: true };
                turn.actions.push(Action::Send { session, message });
            }
            self.release_assignment(turn, id);
        }
    }

    /// Takes back all that is in flight for a job that is paused: its items wait again, and what is recorded of large files
    /// stays for the next attempt.
    pub(super) fn recall_job(&mut self, turn: &mut Seen<'_>, job: JobId) {
        let of_job = self.assignments.iter().filter(|(_, assignment)| assignment.job == job);
        let ids: Vec<(AssignmentId, StarId)> =
            of_job.map(|(&id, assignment)| (id, assignment.star.clone())).collect();
        for (id, star) in ids {
            if let Some(session) = turn.stars.session_of(&star) {
                let message = CoordinatorMessage::Withdraw { assignment: id, is_job_over: false };
                turn.actions.push(Action::Send { session, message });
            }
            self.release_assignment(turn, id);
        }
    }

    /// Tells the destinations of a job that ended with items open that no other attempt will come. A Star that is not
    /// connected gets no message, and notices it when no further attempt comes.
    pub(super) fn announce_end(&self, turn: &mut Seen<'_>, job: JobId) {
        let is_of_use = |job: &&Job| {
            job.record.tally().open() > 0
                || !job.record.is_sealed()
                || !job.record.seal_failures.is_empty()
                || !job.record.is_swept()
                // A sweep that was made void may still run.
                || job.record.sweeps_voided > 0
        };
        let Some(job) = self.jobs.get(&job).filter(is_of_use) else { return };
        let stars: BTreeSet<&StarId> =
            job.record.spec.destinations.iter().map(|destination| &destination.star_id).collect();
        for session in stars.into_iter().filter_map(|star| turn.stars.session_of(star)) {
            let message = CoordinatorMessage::JobEnded { job: job.record.id };
            turn.actions.push(Action::Send { session, message });
        }
    }

    /// Forgets an assignment. The caller decides what becomes of the items that are left.
    pub(super) fn end_assignment(&mut self, turn: &mut Seen<'_>, id: AssignmentId) -> LiveAssignment {
        let assignment = self.assignments.remove(&id);
        let assignment = assignment.unwrap_or_else(|| panic!("assignment {id} ends and is not live"));
        self.end_trial(id, &assignment);
        let was_held = self.hands.of_mut(&assignment.star).assignments.remove(&id);
        assert!(was_held, "{} did not hold assignment {id}", assignment.star);
        let reads = &mut self.hands.of_mut(&assignment.source).reads;
        assert!(*reads > 0, "nothing is read from {}, and assignment {id} was", assignment.source);
        *reads -= 1;
        turn.changes.push(Change::RemoveAssignment(id));
        assignment
    }
}
