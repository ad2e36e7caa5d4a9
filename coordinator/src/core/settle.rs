//! Settling: what becomes of an item when its attempt has ended, well or badly.
//!
//! A report counts only for items that are in flight under exactly that assignment and Star; everything else is late,
//! changes nothing and is counted. So a report may be sent any number of times.

use std::sync::Arc;

use orbit_shared::bulletin::Severity;
use orbit_shared::dead_letter::{DeadLetterEntry, FailureReason};
use orbit_shared::entry::{Entry, join_path};
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::session::{
    CoordinatorMessage, Failure, FailureCause, Fault, ItemOutcome, ItemResult, Report,
};
use orbit_shared::time::Now;
use orbit_shared::words::{AssignmentId, ItemId, JobId, StarId};

use super::change::{ItemEnd, ItemEndRecord, PenalizedRecord};
use super::dispatch::InFlight;
use super::event::{Action, DeadItem, SessionId};
use super::job::Live;
use super::lane::{Queued, queue_key};
use super::{Change, Core, Effects};

impl Core {
    /// Takes a report, and acknowledges it once what follows from it is durable.
    pub(super) fn report_received(
        &mut self,
        now: Now,
        session: SessionId,
        star: &StarId,
        report: Report,
        fx: &mut Effects,
    ) {
        let is_failed = |outcome: &ItemOutcome| matches!(outcome.result, ItemResult::Failed(_));
        let is_any_failed = report.outcomes.iter().any(is_failed);
        for outcome in report.outcomes {
            self.item_ended(now, star, report.assignment, outcome, fx);
        }
        if let Some(assignment) = self.assignments.get(&report.assignment).filter(|live| live.star == *star) {
            if assignment.items.is_empty() {
                self.end_assignment(report.assignment, fx);
            } else if is_any_failed {
                // Items that ended well are known by their end; one that failed may be dispatched again, and a restart
                // must not find it in two assignments.
                fx.changes.push(Change::PutAssignment(assignment.record(report.assignment)));
            }
        }
        let message = CoordinatorMessage::ReportsAcknowledged { number: report.number };
        fx.actions.push(Action::Send { session, message });
    }

    fn item_ended(
        &mut self,
        now: Now,
        star: &StarId,
        assignment_id: AssignmentId,
        outcome: ItemOutcome,
        fx: &mut Effects,
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
            assignment.note_progress(now.monotonic);
            Some((assignment.job, assignment.destination, flight, assignment.is_check_only))
        });
        let Some((job, destination, flight, is_check_only)) = ended else {
            self.late_count += 1;
            return;
        };
        if let Some(star) = self.stars.get_mut(star) {
            star.progress_at = now.monotonic;
        }
        let item = ItemId { job, destination, sequence: outcome.sequence };
        let held = self.in_flight.remove(&item);
        assert_eq!(held, Some(assignment_id), "{item} ended under an assignment that did not hold it");
        match outcome.result {
            ItemResult::Stored { size, bytes_transferred, bytes_deduplicated, duration } => {
                let moved = (size, bytes_transferred, bytes_deduplicated);
                self.item_stored(now, item, assignment_id, moved, &flight, fx);
                self.place_succeeded(now, item, fx);
                if let Some(star) = self.stars.get_mut(star) {
                    star.bytes_since_sample += size;
                }
                let spent_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                let of = (item, &flight.queued.entry);
                self.record_step(now, fx, ProvenanceType::FileCompleted, of, (Some(size), Some(spent_ms)));
                if is_planted(Bug::PermitLeaked) {
                    std::mem::forget(flight);
                }
            }
            ItemResult::Skipped => {
                self.finish_item(item, &flight, ItemEnd::Skipped, fx);
                self.tally(item, |tally| {
                    tally.skipped += 1;
                    tally.bytes_stored += flight.queued.entry.size();
                });
                let of = (item, &flight.queued.entry);
                self.record_step(now, fx, ProvenanceType::FileSkipped, of, (None, None));
            }
            ItemResult::Failed(failure) if is_check_only && failure.fault == Fault::Destination => {
                self.park(item, flight.queued);
            }
            ItemResult::Failed(failure) => self.item_failed(now, item, flight, &failure, fx),
        }
    }

    fn item_stored(
        &mut self,
        now: Now,
        item: ItemId,
        assignment: AssignmentId,
        (size, transferred, deduplicated): (u64, u64, u64),
        flight: &InFlight,
        fx: &mut Effects,
    ) {
        self.finish_item(item, flight, ItemEnd::Stored, fx);
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
            tally.bytes_total = tally.bytes_total - flight.queued.entry.size() + size;
            tally.bytes_stored += size;
            tally.bytes_transferred += transferred;
            tally.bytes_deduplicated += deduplicated;
        });
        if let Some(live) = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut()) {
            live.rate.record(now.monotonic, fresh);
        }
    }

    /// A Star says how far an assignment is; what is new of it counts for the job's rate.
    pub(super) fn progress_reported(&mut self, now: Now, star: &StarId, id: AssignmentId, bytes: u64) {
        let Some(assignment) = self.assignments.get_mut(&id).filter(|live| live.star == *star) else {
            return;
        };
        let fresh = bytes.saturating_sub(assignment.bytes_moved);
        assignment.bytes_moved = assignment.bytes_moved.max(bytes);
        let job = assignment.job;
        if fresh > 0 {
            assignment.note_progress(now.monotonic);
            if let Some(star) = self.stars.get_mut(star) {
                star.progress_at = now.monotonic;
            }
        }
        if let Some(live) = self.jobs.get_mut(&job).and_then(|job| job.live.as_mut()) {
            live.rate.record(now.monotonic, fresh);
        }
    }

    /// An item is done with: nothing of it waits, and no failure is remembered.
    fn finish_item(&mut self, item: ItemId, flight: &InFlight, end: ItemEnd, fx: &mut Effects) {
        let Some(job) = self.jobs.get_mut(&item.job) else { return };
        let Some(live) = &mut job.live else { return };
        let queued = &flight.queued;
        live.strikes.remove(&(item.destination, item.sequence));
        leave_queue(live, item, queued, fx);
        let attempts = live.penalties.clear(&item).map_or(0, |record| record.penalty_count);
        if !is_planted(Bug::EndForgotten) {
            fx.changes.push(Change::PutEnd { item, record: ItemEndRecord { end, attempts } });
        }
        if self.dead_letters.has_any_of(item.job)
            && let Some(letter) = self.dead_letters.settle(item.job, &item.to_string())
        {
            self.dead_entries.remove(&letter.dead_letter_id);
            fx.changes.push(Change::RemoveDeadLetter(letter.dead_letter_id));
        }
        let is_directory = queued.is_directory();
        self.tally(item, |tally| *tally.open_mut(is_directory) -= 1);
    }

    fn tally(&mut self, item: ItemId, change: impl FnOnce(&mut super::Tally)) {
        let Some(job) = self.jobs.get_mut(&item.job) else { return };
        job.is_dirty = true;
        let tally = &mut job.record.tallies[item.destination as usize];
        let before = *tally;
        change(tally);
        self.totals.grow(&before, tally);
    }

    /// An attempt failed: the item waits, is given up, or goes back if it was no fault of its own.
    pub(super) fn item_failed(
        &mut self,
        now: Now,
        item: ItemId,
        flight: InFlight,
        failure: &Failure,
        fx: &mut Effects,
    ) {
        let is_of_source = matches!(failure.fault, Fault::Source | Fault::Link);
        let is_source_gone = is_of_source && !self.is_source_connected(item.job);
        let is_retryable = failure.cause.is_retryable();
        if (is_source_gone && !is_planted(Bug::RefundForgotten))
            || self.is_refused_by_destination(item, failure)
            || (is_retryable && !self.counts_against_item(now, item, failure, fx))
        {
            self.put_back(item, flight.queued);
            return;
        }
        let Some(live) = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut()) else { return };
        let path = flight.queued.entry.path.clone();
        let is_over = !is_retryable || live.penalties.penalize(now, item, &failure.message);
        if is_over {
            let attempts = live.penalties.penalty_count(&item) + u32::from(!is_retryable);
            let InFlight { queued, permit } = flight;
            drop(permit);
            leave_queue(live, item, &queued, fx);
            self.note_corruption(now, item.job, failure, fx);
            self.give_up(now, item, Arc::unwrap_or_clone(queued.entry), failure, attempts, fx);
            return;
        }
        let mut queued = flight.queued;
        if !queued.is_penalty {
            let key = queue_key(&live.order, item.sequence, &queued.entry, 0);
            fx.changes.push(Change::Dequeue { item, key });
            queued.is_penalty = true;
        }
        if let Some(record) = live.penalties.record(&item) {
            let record = PenalizedRecord { record: record.clone(), entry: Entry::clone(&queued.entry) };
            fx.changes.push(Change::PutPenalty { item, record: Box::new(record) });
        }
        live.penalized.insert(item, queued);
        self.totals.penalized += 1;
        let event =
            self.item_event(ProvenanceType::ChunkPenalized, item, &path).with_error(failure.message.clone());
        self.record(now, fx, event);
    }

    /// Whether a Star sent work back that reached it when it had begun to drain.
    fn is_refused_by_destination(&self, item: ItemId, failure: &Failure) -> bool {
        let is_refusal = failure.fault == Fault::Destination && failure.cause == FailureCause::Transient;
        let job = self.jobs.get(&item.job);
        let place = job.and_then(|job| job.record.spec.destinations.get(item.destination as usize));
        let star = place.and_then(|place| self.stars.get(&place.star_id));
        is_refusal && star.is_some_and(|star| !star.lifecycle.accepts_work())
    }

    fn is_source_connected(&self, job: JobId) -> bool {
        let job = self.jobs.get(&job);
        let source = job.and_then(|job| self.stars.get(&job.record.spec.source.star_id));
        source.is_some_and(|star| star.session.is_some())
    }

    /// Makes an item a dead letter. It must be in no other place any more; its count of open items is settled here.
    pub(super) fn give_up(
        &mut self,
        now: Now,
        item: ItemId,
        entry: Entry,
        failure: &Failure,
        attempts: u32,
        fx: &mut Effects,
    ) {
        let Some(job) = self.jobs.get_mut(&item.job) else { return };
        let spec = &job.record.spec;
        let place = &spec.destinations[item.destination as usize];
        let reason = reason_of(failure.cause, attempts);
        let first_failed_at = job
            .live
            .as_mut()
            .and_then(|live| live.penalties.clear(&item))
            .map_or(now.wall, |record| record.first_failed_at);
        let mut letter = DeadLetterEntry::new(item.job, item.to_string(), reason, &failure.message, now.wall);
        letter.star_id = Some(place.star_id.clone());
        letter.attempts = attempts;
        letter.first_failed_at = first_failed_at;
        letter.source_path = Some(join_path(&spec.source.path, &entry.path));
        letter.dest_path = Some(join_path(&place.path, &entry.path));
        let before = self.dead_letters.entry(item.job, &item.to_string()).map(|old| old.dead_letter_id);
        let id = match self.dead_letters.push(letter) {
            Ok(id) => id,
            Err(full) => return self.dead_letters_full(now, item, entry, full.capacity, fx),
        };
        if let Some(old) = before {
            self.dead_entries.remove(&old);
            fx.changes.push(Change::RemoveDeadLetter(old));
        }
        self.dead_entries.insert(id, entry.clone());
        if let Some(letter) = self.dead_letters.entry(item.job, &item.to_string()) {
            let dead = DeadItem { letter: letter.clone(), entry: entry.clone(), is_retrying: false };
            fx.changes.push(Change::PutDeadLetter(Box::new(dead)));
        }
        let record = ItemEndRecord { end: ItemEnd::Dead, attempts };
        fx.changes.push(Change::PutEnd { item, record });
        let is_directory = entry.kind == orbit_shared::entry::EntryKind::Directory;
        self.tally(item, |tally| {
            *tally.open_mut(is_directory) -= 1;
            tally.dead += 1;
        });
        let event = self
            .item_event(ProvenanceType::ChunkDeadLettered, item, &entry.path)
            .with_error(format!("{reason}: {}", failure.message));
        self.record(now, fx, event);
        self.pause_at_dead_letter_limit(now, item.job, fx);
    }

    /// A job with as many dead letters as it may have pauses, so that somebody looks.
    fn pause_at_dead_letter_limit(&mut self, now: Now, id: JobId, fx: &mut Effects) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let dead: u64 = job.record.tally().dead;
        if dead < job.record.spec.dead_letter_max || job.record.pause.is_some() || job.live.is_none() {
            return;
        }
        let reason = format!(
            "{dead} items are dead letters, the most that job {id} may have; look at them, then retry or discard them and resume the job"
        );
        job.record.pause = Some(reason.clone());
        self.stop_scan(id, fx);
        self.post(now, fx, (Severity::Error, super::COORDINATOR, "dead-letter"), Some(id), &reason);
    }

    /// There is no room for another dead letter: the item waits again and the job pauses. Nothing is lost.
    fn dead_letters_full(&mut self, now: Now, item: ItemId, entry: Entry, capacity: usize, fx: &mut Effects) {
        let Some(job) = self.jobs.get_mut(&item.job) else { return };
        let Some(live) = &mut job.live else { return };
        let key = queue_key(&live.order, item.sequence, &entry, 0);
        fx.changes.push(Change::Enqueue { item, key: key.clone() });
        let (sequence, entry) = (item.sequence, Arc::new(entry));
        let queued = Queued { sequence, entry, is_penalty: false, queued_at: now.monotonic };
        live.lanes[item.destination as usize].insert(key, queued);
        job.is_dirty = true;
        if job.record.pause.is_some() {
            return;
        }
        let reason = format!(
            "the grid holds {capacity} dead letters, the most it can; retry or discard some, then resume"
        );
        job.record.pause = Some(reason.clone());
        self.stop_scan(item.job, fx);
        self.post(now, fx, (Severity::Error, super::COORDINATOR, "dead-letter"), Some(item.job), &reason);
    }
}

/// An item waits no more: it leaves its durable place.
pub(super) fn leave_queue(live: &Live, item: ItemId, queued: &Queued, fx: &mut Effects) {
    if queued.is_penalty {
        fx.changes.push(Change::RemovePenalty(item));
    } else if !is_planted(Bug::DequeueForgotten) {
        let key = queue_key(&live.order, item.sequence, &queued.entry, 0);
        fx.changes.push(Change::Dequeue { item, key });
    }
}

/// The reason that a dead letter carries: the last failure's own where it names one, else that attempts ran out.
fn reason_of(cause: FailureCause, attempts: u32) -> FailureReason {
    match cause {
        FailureCause::Transient => FailureReason::RetriesExhausted { attempts },
        FailureCause::Permanent => FailureReason::PermanentError,
        FailureCause::ChecksumMismatch => FailureReason::ChecksumMismatch,
        FailureCause::SourceMissing => FailureReason::SourceMissing,
        FailureCause::DestinationError => FailureReason::DestinationError,
        FailureCause::DataCorruption => FailureReason::DataCorruption,
    }
}
