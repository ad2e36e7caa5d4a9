//! Settling: what becomes of an item when its attempt has ended, well or badly.
//!
//! A report counts only for items that are in flight under exactly that assignment and Star; everything else is late,
//! changes nothing and is counted. So a report may be sent any number of times.

use std::sync::Arc;

use orbit_shared::bulletin::Severity;
use orbit_shared::dead_letter::{DeadLetterEntry, FailureReason};
use orbit_shared::entry::{Entry, join_path};
use orbit_shared::integration::penalty_to_dead_letter;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::session::{
    CoordinatorMessage, Failure, FailureCause, Fault, ItemOutcome, ItemResult, Report,
};
use orbit_shared::time::Now;
use orbit_shared::words::{AssignmentId, ItemId, JobId, StarId};

use super::Jobs;
use super::assignment::InFlight;
use super::content_events::ContentSums;
use super::job::Live;
use super::lane::{Queued, queue_key};
use crate::core::change::Change;
use crate::core::change::{ItemEnd, ItemEndRecord, PenalizedRecord};
use crate::core::event::{Action, SessionId};
use crate::core::fact::Fact;
use crate::core::notices::COORDINATOR;
use crate::core::records::Tally;
use crate::core::seen::Seen;
use crate::core::stars::Stars;
use crate::core::turn::Turn;

impl Jobs {
    /// Takes a report, and acknowledges it once what follows from it is durable.
    pub(in crate::core) fn report_received(
        &mut self,
        turn: &mut Seen<'_>,
        session: SessionId,
        star: &StarId,
        report: Report,
    ) {
        let is_failed = |outcome: &ItemOutcome| matches!(outcome.result, ItemResult::Failed(_));
        let is_any_failed = report.outcomes.iter().any(is_failed);
        let mut sums = ContentSums::default();
        for outcome in report.outcomes {
            self.item_ended(turn, star, report.assignment, outcome, &mut sums);
        }
        self.record_content(turn, report.assignment, &sums);
        if let Some(assignment) = self.assignments.get(&report.assignment).filter(|live| live.star == *star) {
            if assignment.items.is_empty() {
                self.end_assignment(turn, report.assignment);
            } else if is_any_failed {
                // Items that ended well are known by their end; one that failed may be dispatched again, and a restart
                // must not find it in two assignments.
                turn.changes.push(Change::PutAssignment(assignment.record(report.assignment)));
            }
        }
        let message = CoordinatorMessage::ReportsAcknowledged { number: report.number };
        turn.actions.push(Action::Send { session, message });
    }

    fn item_ended(
        &mut self,
        turn: &mut Seen<'_>,
        star: &StarId,
        assignment_id: AssignmentId,
        outcome: ItemOutcome,
        sums: &mut ContentSums,
    ) {
        let by_sequence = |(item, _): &(&ItemId, &AssignmentId)| item.sequence == outcome.sequence;
        let assignment_id = if is_planted(Bug::StaleReportAccepted) {
            self.in_flight.iter().find(by_sequence).map_or(assignment_id, |(_, id)| *id)
        } else {
            assignment_id
        };
        let assignment = self.assignments.get_mut(&assignment_id).filter(|live| live.star == *star);
        let ended = assignment.and_then(|assignment| {
            let flight = assignment.items.remove(&outcome.sequence)?;
            assignment.note_progress(turn.now.monotonic);
            Some((assignment.job, assignment.destination, flight, assignment.is_check_only))
        });
        let Some((job, destination, flight, is_check_only)) = ended else {
            turn.late += 1;
            return;
        };
        self.hands.of_mut(star).progress_at = turn.now.monotonic;
        let item = ItemId { job, destination, sequence: outcome.sequence };
        let held = self.in_flight.remove(&item);
        assert_eq!(held, Some(assignment_id), "{item} ended under an assignment that did not hold it");
        match outcome.result {
            ItemResult::Stored {
                size,
                bytes_transferred,
                bytes_deduplicated,
                duration,
                is_changed,
                chunks,
            } => {
                if is_changed {
                    self.item_changed(turn, item, &flight.queued.entry.path);
                }
                let moved = (size, bytes_transferred, bytes_deduplicated);
                self.item_stored(turn, item, assignment_id, moved, &flight);
                self.place_succeeded(turn, item);
                let hand = self.hands.of_mut(star);
                hand.bytes_since_sample = hand.bytes_since_sample.saturating_add(size);
                hand.wrote_at = Some(turn.now.monotonic);
                let spent_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                let of = (item, &flight.queued.entry);
                self.record_step(turn, ProvenanceType::FileCompleted, of, (Some(size), Some(spent_ms)));
                let named = (item, flight.queued.entry.path.as_slice());
                sums.add(named, (bytes_transferred, bytes_deduplicated), chunks, spent_ms);
                if is_planted(Bug::PermitLeaked) {
                    std::mem::forget(flight);
                }
            }
            ItemResult::Skipped => {
                self.finish_item(turn, item, &flight, ItemEnd::Skipped);
                self.tally(item, |tally| {
                    tally.skipped += 1;
                    tally.bytes_stored = tally.bytes_stored.saturating_add(flight.queued.entry.size());
                });
                let of = (item, &flight.queued.entry);
                self.record_step(turn, ProvenanceType::FileSkipped, of, (None, None));
            }
            ItemResult::Failed(failure) if is_check_only && failure.fault == Fault::Destination => {
                self.park(item, flight.queued);
            }
            ItemResult::Failed(failure)
                if failure.cause == FailureCause::InTheWay && self.may_wait_for_sweep(item) =>
            {
                self.wait_for_sweep(item, flight.queued);
            }
            ItemResult::Failed(failure) => self.item_failed(turn, item, flight, &failure),
        }
    }

    fn item_stored(
        &mut self,
        turn: &mut Seen<'_>,
        item: ItemId,
        assignment: AssignmentId,
        (size, transferred, deduplicated): (u64, u64, u64),
        flight: &InFlight,
    ) {
        self.finish_item(turn, item, flight, ItemEnd::Stored);
        // Bytes that the Star has spoken of before, while it moved them, are not counted a second time.
        let mut fresh = transferred;
        if let Some(assignment) = self.assignments.get_mut(&assignment) {
            let known = assignment.bytes_moved.min(transferred);
            assignment.bytes_moved -= known;
            fresh -= known;
        }
        self.tally(item, |tally| {
            tally.stored += 1;
            // The file may have grown or shrunk since it was scanned; what counts is what is there now.
            // Sums saturate: what a Star says of sizes may be untrue.
            tally.bytes_total =
                tally.bytes_total.saturating_sub(flight.queued.entry.size()).saturating_add(size);
            tally.bytes_stored = tally.bytes_stored.saturating_add(size);
            tally.bytes_transferred = tally.bytes_transferred.saturating_add(transferred);
            tally.bytes_deduplicated = tally.bytes_deduplicated.saturating_add(deduplicated);
        });
        if let Some(live) = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut()) {
            live.rate.record(turn.now.monotonic, fresh);
        }
    }

    /// A Star says how far an assignment is; what is new of it counts for the job's rate.
    pub(in crate::core) fn progress_reported(
        &mut self,
        now: Now,
        star: &StarId,
        id: AssignmentId,
        bytes: u64,
    ) {
        // Progress of what was taken back meanwhile is late, and worth nothing.
        let Some(assignment) = self.assignments.get_mut(&id).filter(|live| live.star == *star) else {
            return;
        };
        let fresh = bytes.saturating_sub(assignment.bytes_moved);
        assignment.bytes_moved = assignment.bytes_moved.max(bytes);
        let job = assignment.job;
        if fresh > 0 {
            assignment.note_progress(now.monotonic);
            self.hands.of_mut(star).progress_at = now.monotonic;
        }
        if let Some(live) = self.jobs.get_mut(&job).and_then(|job| job.live.as_mut()) {
            live.rate.record(now.monotonic, fresh);
        }
    }

    /// An item is done with: nothing of it waits, and no failure is remembered.
    fn finish_item(&mut self, turn: &mut Seen<'_>, item: ItemId, flight: &InFlight, end: ItemEnd) {
        let job = self.jobs.get_mut(&item.job).expect("an item in flight belongs to a job");
        let live = job.live.as_mut().expect("a job with an item in flight has not ended");
        let queued = &flight.queued;
        live.suspects.remove(&(item.destination, item.sequence));
        leave_queue(turn, live, item, queued);
        let attempts = live.penalties.clear(&item).map_or(0, |record| record.penalty_count);
        if !is_planted(Bug::EndForgotten) {
            turn.changes.push(Change::PutEnd { item, record: ItemEndRecord { end, attempts } });
        }
        turn.letters.settle(turn.turn, item);
        let is_directory = queued.is_directory();
        let spec = &job.record.spec;
        let place = spec.destinations.get(item.destination as usize).map(|place| &place.star_id);
        for name in place.into_iter().chain([&spec.source.star_id]) {
            self.hands.of_mut(name).held_at_end.forget(item);
        }
        self.tally(item, |tally| *tally.open_mut(is_directory) -= 1);
    }

    pub(super) fn tally(&mut self, item: ItemId, change: impl FnOnce(&mut Tally)) {
        let job = self.jobs.get_mut(&item.job).expect("an item that is counted belongs to a job");
        job.is_dirty = true;
        let tally = &mut job.record.tallies[item.destination as usize];
        let before = *tally;
        change(tally);
        self.totals.grow(&before, tally);
    }

    /// An attempt failed: the item waits, is given up, or goes back if it was no fault of its own.
    pub(super) fn item_failed(
        &mut self,
        turn: &mut Seen<'_>,
        item: ItemId,
        flight: InFlight,
        failure: &Failure,
    ) {
        let is_of_source = matches!(failure.fault, Fault::Source | Fault::Link);
        let is_source_gone = is_of_source && !self.is_source_connected(turn.stars, item.job);
        let is_retryable = failure.cause.is_retryable();
        if (is_source_gone && !is_planted(Bug::RefundForgotten))
            || self.is_refused_by_destination(turn.stars, item, failure)
            || (is_retryable && !self.counts_against_item(turn, item, failure))
        {
            self.put_back(item, flight.queued);
            return;
        }
        let live = self.live_mut(item.job);
        let path = flight.queued.entry.path.clone();
        let is_over = !is_retryable || live.penalties.penalize(turn.now, item, &failure.message);
        if is_over {
            let attempts = live.penalties.penalty_count(&item) + u32::from(!is_retryable);
            let InFlight { queued, permit, carried } = flight;
            drop((permit, carried));
            live.suspects.remove(&(item.destination, item.sequence));
            leave_queue(turn, live, item, &queued);
            self.note_corruption(turn, item.job, failure);
            self.give_up(turn, item, Arc::unwrap_or_clone(queued.entry), failure, attempts);
            return;
        }
        let mut queued = flight.queued;
        if !queued.is_penalty {
            let key = queue_key(&live.order, item.sequence, &queued.entry, 0);
            turn.changes.push(Change::Dequeue { item, key });
            queued.is_penalty = true;
        }
        if let Some(record) = live.penalties.record(&item) {
            let record = PenalizedRecord { record: record.clone(), entry: Entry::clone(&queued.entry) };
            turn.changes.push(Change::PutPenalty { item, record: Box::new(record) });
        }
        live.penalized.insert(item, queued);
        self.totals.penalized += 1;
        let event =
            self.item_event(ProvenanceType::ChunkPenalized, item, &path).with_error(failure.message.clone());
        turn.record(event);
    }

    /// A file could not be read from a vault because what it has is damaged.
    fn note_corruption(&self, turn: &mut Seen<'_>, job: JobId, failure: &Failure) {
        let spec = &self.job(job).record.spec;
        if failure.cause == FailureCause::DataCorruption && spec.snapshot.is_some() {
            turn.facts.push(Fact::DamageSeen(spec.source.star_id.clone()));
        }
    }

    /// Whether a Star sent work back that reached it when it had begun to drain.
    fn is_refused_by_destination(&self, stars: &Stars, item: ItemId, failure: &Failure) -> bool {
        let is_refusal = failure.fault == Fault::Destination && failure.cause == FailureCause::Transient;
        let job = self.jobs.get(&item.job);
        let place = job.and_then(|job| job.record.spec.destinations.get(item.destination as usize));
        let star = place.and_then(|place| stars.get(&place.star_id));
        is_refusal && star.is_some_and(|star| !star.accepts_work())
    }

    fn is_source_connected(&self, stars: &Stars, job: JobId) -> bool {
        let job = self.jobs.get(&job);
        job.is_some_and(|job| stars.session_of(&job.record.spec.source.star_id).is_some())
    }

    /// Makes an item a dead letter. It must be in no other place any more; its count of open items is settled here.
    pub(super) fn give_up(
        &mut self,
        turn: &mut Seen<'_>,
        item: ItemId,
        entry: Entry,
        failure: &Failure,
        attempts: u32,
    ) {
        let job = self.jobs.get_mut(&item.job).expect("an item that is given up belongs to a job");
        let spec = &job.record.spec;
        let place = &spec.destinations[item.destination as usize];
        let named = reason_named(failure.cause);
        let record = job.live.as_mut().and_then(|live| live.penalties.clear(&item));
        let spent = record.as_ref().and_then(|record| penalty_to_dead_letter(item, record, named));
        let mut letter = spent.unwrap_or_else(|| {
            let reason = named.unwrap_or(FailureReason::RetriesExhausted { attempts });
            DeadLetterEntry {
                first_failed_at: record.map_or(turn.now.wall, |record| record.first_failed_at),
                attempts,
                ..DeadLetterEntry::new(item.job, item.to_string(), reason, &failure.message, turn.now.wall)
            }
        });
        assert_eq!(letter.attempts, attempts, "attempts at {item}, which is given up: {letter:?}");
        let reason = letter.failure_reason;
        letter.star_id = Some(place.star_id.clone());
        letter.source_path = Some(join_path(&spec.source.path, &entry.path));
        letter.dest_path = Some(join_path(&place.path, &entry.path));
        if let Err(capacity) = turn.letters.put(turn.turn, letter, entry.clone()) {
            return self.dead_letters_full(turn, item, entry, capacity);
        }
        let record = ItemEndRecord { end: ItemEnd::Dead, attempts };
        turn.changes.push(Change::PutEnd { item, record });
        let is_directory = entry.kind == orbit_shared::entry::EntryKind::Directory;
        let is_vanished = reason == FailureReason::SourceMissing;
        self.tally(item, |tally| {
            *tally.open_mut(is_directory) -= 1;
            tally.dead += 1;
            tally.vanished += u64::from(is_vanished);
        });
        let event = self
            .item_event(ProvenanceType::ChunkDeadLettered, item, &entry.path)
            .with_error(format!("{reason}: {}", failure.message));
        self.record_letter(turn, item.job, reason, event);
        self.pause_at_dead_letter_limit(turn, item.job);
    }

    /// A job with as many dead letters as it may have pauses, so that somebody looks.
    fn pause_at_dead_letter_limit(&mut self, turn: &mut Seen<'_>, id: JobId) {
        let job = self.jobs.get_mut(&id).expect("a dead letter belongs to a job");
        let dead: u64 = job.record.tally().dead;
        if dead < job.record.spec.dead_letter_max || job.record.pause.is_some() || job.live.is_none() {
            return;
        }
        let reason = format!(
            "{dead} items are dead letters, the most that job {id} may have; look at them, then retry or discard them and resume the job"
        );
        job.record.pause = Some(reason.clone());
        self.stop_scan(turn, id);
        turn.post((Severity::Error, COORDINATOR, "dead-letter"), Some(id), &reason);
    }

    /// There is no room for another dead letter: the item waits again and the job pauses. Nothing is lost.
    fn dead_letters_full(&mut self, turn: &mut Seen<'_>, item: ItemId, entry: Entry, capacity: usize) {
        let job = self.jobs.get_mut(&item.job).expect("an item that is given up belongs to a job");
        let live = job.live.as_mut().expect("a job that gives an item up has not ended");
        let key = queue_key(&live.order, item.sequence, &entry, 0);
        turn.changes.push(Change::Enqueue { item, key: key.clone() });
        let queued = Queued::new(item.sequence, Arc::new(entry), turn.now.monotonic);
        live.lanes[item.destination as usize].insert(key, queued);
        job.is_dirty = true;
        if job.record.pause.is_some() {
            return;
        }
        let oldest = turn.letters.queue().peek(1).first().map(|letter| letter.job_id);
        let oldest = oldest.map(|job| format!(" The oldest is one of job {job}")).unwrap_or_default();
        let reason = format!(
            "the grid holds {capacity} dead letters, the most it can; retry or discard some, then resume.{oldest}"
        );
        job.record.pause = Some(reason.clone());
        self.stop_scan(turn, item.job);
        turn.post((Severity::Error, COORDINATOR, "dead-letter"), Some(item.job), &reason);
    }
}

/// An item waits no more: it leaves its durable place.
pub(super) fn leave_queue(turn: &mut Turn, live: &Live, item: ItemId, queued: &Queued) {
    if queued.is_penalty {
        turn.changes.push(Change::RemovePenalty(item));
    } else if !is_planted(Bug::DequeueForgotten) {
        let key = queue_key(&live.order, item.sequence, &queued.entry, 0);
        turn.changes.push(Change::Dequeue { item, key });
    }
}

/// The reason that a failure names for a dead letter, if it names one: else attempts ran out.
fn reason_named(cause: FailureCause) -> Option<FailureReason> {
    match cause {
        FailureCause::Transient => None,
        FailureCause::Permanent => Some(FailureReason::PermanentError),
        FailureCause::ChecksumMismatch => Some(FailureReason::ChecksumMismatch),
        FailureCause::SourceMissing => Some(FailureReason::SourceMissing),
        FailureCause::DestinationError | FailureCause::InTheWay => Some(FailureReason::DestinationError),
        FailureCause::DataCorruption => Some(FailureReason::DataCorruption),
    }
}
