//! Listing the source: starting scans, taking their batches, and going on after a break.
//!
//! A scan's order is fixed, so the path of the last entry in the store is all that is needed to go on: after a lost
//! Star or a restart, a new scan starts behind it. A batch is acknowledged after its entries are durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::entry::{Entry, EntryKind, display_path, join_path};
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::session::limits::{SCAN_BATCHES_UNACKED_MAX, SCANS_PER_STAR_MAX};
use orbit_shared::session::{CoordinatorMessage, Failure, FailureCause, Fault, ScanBatch, ScanRequest};
use orbit_shared::time::Now;
use orbit_shared::words::{ItemId, JobId, StarId};

use super::change::{ItemEnd, ItemEndRecord};
use super::comparing::Listed;
use super::event::{Action, CloseReason, SessionId};
use super::job::{JobState, RunningScan};
use super::lane::{Queued, queue_key};
use super::{Change, Core, Effects};

/// The wait after a listing broke off; it doubles with each that brings nothing, up to the longest.
const SCAN_PAUSE_MIN: Duration = Duration::from_secs(1);
const SCAN_PAUSE_MAX: Duration = Duration::from_secs(60);

impl Core {
    /// Starts the scans of all jobs whose source Star can take one.
    pub(super) fn start_scans(&mut self, now: Now, fx: &mut Effects) {
        for job in self.jobs.values_mut() {
            let Some(live) = &mut job.live else { continue };
            let is_pausing = live.scan_pause.is_some_and(|(until, _)| now.monotonic < until);
            if live.scan.is_some() || is_pausing || job.record.scan.is_done || job.record.pause.is_some() {
                continue;
            }
            let source = &job.record.spec.source;
            let Some(star) = self.stars.get_mut(&source.star_id) else { continue };
            let Some(session) = star.session else { continue };
            if !star.lifecycle.accepts_work() || star.scans >= SCANS_PER_STAR_MAX {
                continue;
            }
            let id = self.counters.scan;
            self.counters.scan += 1;
            self.is_counters_dirty = true;
            star.scans += 1;
            live.scan = Some(RunningScan {
                id,
                last_batch: 0,
                progress_at: now.monotonic,
                is_stalled: false,
                listed: VecDeque::new(),
            });
            let request = ScanRequest {
                scan: id,
                job: job.record.id,
                path: source.path.clone(),
                include: job.record.spec.include.clone(),
                exclude: job.record.spec.all_excluded(),
                resume_after: job.record.scan.cursor.clone().map(serde_bytes::ByteBuf::into_vec),
                snapshot: job.record.spec.snapshot,
                limits: job.record.spec.limits,
                trace: Some(job.record.trace()),
            };
            fx.actions.push(Action::Send { session, message: CoordinatorMessage::StartScan(request) });
        }
    }

    /// Takes a batch, if it is the next one of a scan that runs.
    pub(super) fn scan_batch_received(
        &mut self,
        now: Now,
        session: SessionId,
        star: &StarId,
        batch: ScanBatch,
        fx: &mut Effects,
    ) {
        if self.plan_batch_received(now, session, &batch, fx) {
            return;
        }
        let Some(job_id) = self.job_of_scan(star, batch.scan, batch.number) else {
            self.late_count += 1;
            let cancel = CoordinatorMessage::CancelScan { scan: batch.scan };
            fx.actions.push(Action::Send { session, message: cancel });
            return;
        };
        let running = self.jobs.get_mut(&job_id).and_then(|job| job.live.as_mut()?.scan.as_mut());
        let Some(scan) = running else { return };
        if scan.listed.len() >= SCAN_BATCHES_UNACKED_MAX {
            let problem =
                format!("more than {SCAN_BATCHES_UNACKED_MAX} batches of a scan without an acknowledgement");
            return self.close_session(session, CloseReason::ProtocolViolated { problem }, fx);
        }
        scan.last_batch = batch.number;
        scan.progress_at = now.monotonic;
        scan.is_stalled = false;
        self.list_batch(now, job_id, batch, fx);
    }

    /// Makes items of a batch about which the destinations have said what they have.
    pub(super) fn take_batch_of_scan(&mut self, now: Now, job_id: JobId, batch: Listed, fx: &mut Effects) {
        for (index, entry) in batch.entries.iter().enumerate() {
            self.add_entry(now, job_id, entry, |destination| batch.is_unchanged(destination, index), fx);
        }
        let Some(job) = self.jobs.get_mut(&job_id) else { return };
        job.is_dirty = true;
        let Some(live) = &mut job.live else { return };
        let is_over = batch.is_last || batch.failure.is_some();
        if !is_over {
            live.scan_pause = None;
        }
        // What was given up just now may have paused the job, and with it the scan.
        let scan = live.scan.as_ref().map(|scan| scan.id);
        if let (Some(scan), Some(star)) = (scan, self.stars.get_mut(&job.record.spec.source.star_id)) {
            if is_over {
                live.scan = None;
                star.scans = star.scans.saturating_sub(1);
            }
            if let Some(session) = star.session {
                let message = CoordinatorMessage::ScanAcknowledged { scan, number: batch.number };
                fx.actions.push(Action::Send { session, message });
            }
        }
        match batch.failure {
            Some(failure) => self.scan_failed(now, job_id, &failure, fx),
            None if batch.is_last => job.record.scan.is_done = true,
            None => {}
        }
    }

    /// The job whose running scan expects exactly this batch from this Star.
    fn job_of_scan(&self, star: &StarId, scan: u64, number: u64) -> Option<JobId> {
        let job = self.jobs.values().find(|job| {
            let running = job.live.as_ref().and_then(|live| live.scan.as_ref());
            running.is_some_and(|running| running.id == scan && running.last_batch + 1 == number)
        })?;
        (job.record.spec.source.star_id == *star).then_some(job.record.id)
    }

    /// Makes one item for each destination; where it is there already, unchanged, the item has ended with that.
    fn add_entry(
        &mut self,
        now: Now,
        job_id: JobId,
        entry: &Arc<Entry>,
        is_unchanged: impl Fn(usize) -> bool,
        fx: &mut Effects,
    ) {
        let Some(job) = self.jobs.get_mut(&job_id) else { return };
        let Some(live) = &mut job.live else { return };
        let sequence = job.record.scan.next_sequence;
        job.record.scan.next_sequence += 1;
        if !is_planted(Bug::CursorForgotten) {
            job.record.scan.cursor = Some(serde_bytes::ByteBuf::from(entry.path.clone()));
        }
        fx.changes.push(Change::PutEntry { job: job_id, sequence, entry: Arc::clone(entry) });
        let is_directory = entry.kind == EntryKind::Directory;
        let source_path = job.record.spec.source.path.clone();
        let (mut given_up, mut skipped) = (Vec::new(), Vec::new());
        for (index, tally) in job.record.tallies.iter_mut().enumerate() {
            let item =
                ItemId { job: job_id, destination: u32::try_from(index).unwrap_or(u32::MAX), sequence };
            tally.total += 1;
            tally.bytes_total += entry.size();
            if !is_directory && is_unchanged(index) {
                tally.skipped += 1;
                tally.bytes_stored += entry.size();
                self.totals.skipped += 1;
                self.totals.bytes_stored += entry.size();
                let record = ItemEndRecord { end: ItemEnd::Skipped, attempts: 0 };
                fx.changes.push(Change::PutEnd { item, record });
                skipped.push(item);
                continue;
            }
            *tally.open_mut(is_directory) += 1;
            if !entry.kind.is_carried() {
                given_up.push(item);
                continue;
            }
            let key = queue_key(&live.order, sequence, entry, 0);
            fx.changes.push(Change::Enqueue { item, key: key.clone() });
            let queued =
                Queued { sequence, entry: Arc::clone(entry), is_penalty: false, queued_at: now.monotonic };
            live.lanes[index].insert(key, queued);
        }
        for item in skipped {
            self.record_step(now, fx, ProvenanceType::FileSkipped, (item, entry), (None, None));
        }
        for item in given_up {
            let failure = uncarried(&source_path, entry);
            self.give_up(now, item, Entry::clone(entry), &failure, 1, fx);
        }
    }

    /// A scan ended without having listed the tree.
    fn scan_failed(&mut self, now: Now, job_id: JobId, failure: &Failure, fx: &mut Effects) {
        if failure.cause.is_retryable() {
            let Some(job) = self.jobs.get_mut(&job_id) else { return };
            let source = job.record.spec.source.star_id.clone();
            if let Some(live) = &mut job.live {
                let wait =
                    live.scan_pause.map_or(SCAN_PAUSE_MIN, |(_, before)| before * 2).min(SCAN_PAUSE_MAX);
                live.scan_pause = Some((now.monotonic + wait, wait));
            }
            let message = format!(
                "listing the source of job {job_id} broke off and will start again where it was: {}",
                failure.message
            );
            self.post(now, fx, (Severity::Warning, source.as_str(), "scan"), Some(job_id), &message);
        } else {
            let reason = format!("the source cannot be listed: {}", failure.message);
            self.end_job(now, job_id, JobState::Failed, &reason, fx);
        }
    }

    /// Forgets the scans that ran on a Star whose session has ended; they start again when it is back.
    pub(super) fn forget_scans_of(&mut self, star: &StarId) {
        for job in self.jobs.values_mut().filter(|job| job.record.spec.source.star_id == *star) {
            if let Some(live) = &mut job.live {
                live.scan = None;
                live.scan_pause = None;
            }
        }
        if let Some(star) = self.stars.get_mut(star) {
            star.scans = 0;
        }
    }

    /// Stops the scan of a job that is over or paused.
    pub(super) fn stop_scan(&mut self, job_id: JobId, fx: &mut Effects) {
        let Some(job) = self.jobs.get_mut(&job_id) else { return };
        let Some(scan) = job.live.as_mut().and_then(|live| live.scan.take()) else { return };
        let Some(star) = self.stars.get_mut(&job.record.spec.source.star_id) else { return };
        star.scans = star.scans.saturating_sub(1);
        if let Some(session) = star.session {
            let message = CoordinatorMessage::CancelScan { scan: scan.id };
            fx.actions.push(Action::Send { session, message });
        }
    }
}

/// Why an entry of such a kind cannot be moved.
fn uncarried(source_path: &[u8], entry: &Entry) -> Failure {
    let path = display_path(&join_path(source_path, &entry.path));
    let message = match entry.kind {
        EntryKind::Unreadable { errno } => {
            format!("{path}: the scan could not read it: {}", std::io::Error::from_raw_os_error(errno))
        }
        EntryKind::File { .. }
        | EntryKind::Directory
        | EntryKind::Symlink { .. }
        | EntryKind::Fifo
        | EntryKind::Socket
        | EntryKind::CharacterDevice
        | EntryKind::BlockDevice => {
            format!(
                "{path} is {}, which has no content that could be moved; exclude it",
                entry.kind.describe()
            )
        }
    };
    Failure { cause: FailureCause::Permanent, fault: Fault::Item, message }
}
