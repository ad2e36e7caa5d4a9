//! Listing the source: starting scans, taking their batches, and going on after a break.
//!
//! A scan's order is fixed, so the path of the last entry in the store is all that is needed to go on: after a lost
//! Star or a restart, a new scan starts behind it. A batch is acknowledged after its entries are durable.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::entry::{Entry, EntryKind, display_path, is_passing_errno, join_path};
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::session::limits::{SCAN_BATCHES_UNACKED_MAX, SCANS_PER_STAR_MAX};
use orbit_shared::session::{CoordinatorMessage, Failure, FailureCause, Fault, ScanBatch, ScanRequest};
use orbit_shared::time::WallTime;
use orbit_shared::words::{ItemId, JobId, StarId};

use super::Jobs;
use super::lane::{Queued, queue_key};
use super::listed::Listed;
use super::live::RunningScan;
use crate::core::change::Change;
use crate::core::change::{ItemEnd, ItemEndRecord};
use crate::core::event::{Action, SessionId};
use crate::core::limits::LISTED_BYTES_PER_ITEM;
use crate::core::records::{JobState, destination_number};
use crate::core::seen::Seen;

/// The wait after a listing broke off; it doubles with each that brings nothing, up to the longest.
const SCAN_PAUSE_MIN: Duration = Duration::from_secs(1);
const SCAN_PAUSE_MAX: Duration = Duration::from_secs(60);
/// The error number of what does not exist.
pub(super) const NO_ENTRY: i32 = 2;

impl Jobs {
    /// Starts the scans of all jobs whose source Star can take one.
    pub(in crate::core) fn start_scans(&mut self, turn: &mut Seen<'_>, planned: &BTreeMap<StarId, usize>) {
        for id in self.open_ids() {
            let job = self.jobs.get_mut(&id).expect("a job that is open is known");
            let live = job.live.as_mut().expect("a job that is open has not ended");
            let is_pausing = live.scan_pause.is_some_and(|(until, _)| turn.now.monotonic < until);
            if live.scan.is_some() || is_pausing || job.record.scan.is_done || job.record.pause.is_some() {
                continue;
            }
            let source = &job.record.spec.source;
            let Some(star) = turn.stars.get(&source.star_id) else { continue };
            let Some(session) = star.session else { continue };
            let hand = self.hands.of_mut(&source.star_id);
            let scans = hand.scans + planned.get(&source.star_id).copied().unwrap_or(0);
            if !star.accepts_work() || scans >= SCANS_PER_STAR_MAX {
                continue;
            }
            let id = turn.counters.scan;
            turn.counters.scan += 1;
            hand.scans += 1;
            live.scan = Some(RunningScan {
                id,
                last_batch: 0,
                progress_at: turn.now.monotonic,
                is_stalled: false,
                listed: VecDeque::new(),
            });
            let paths = job.record.paths_to_scan();
            let request = ScanRequest {
                scan: id,
                job: job.record.id,
                path: source.path.clone(),
                include: job.record.spec.include.clone(),
                exclude: job.record.spec.all_excluded(),
                paths,
                resume_after: job.record.scan.cursor.clone().map(serde_bytes::ByteBuf::into_vec),
                snapshot: job.record.spec.snapshot,
                limits: job.record.spec.limits,
                is_one_file_system: job.record.spec.is_one_file_system,
                trace: Some(job.record.trace()),
            };
            turn.actions.push(Action::Send { session, message: CoordinatorMessage::StartScan(request) });
        }
    }

    /// Takes a batch, if it is the next one of a scan that runs.
    ///
    /// # Errors
    /// The Star does not keep to the protocol, and how.
    pub(in crate::core) fn scan_batch_received(
        &mut self,
        turn: &mut Seen<'_>,
        session: SessionId,
        star: &StarId,
        batch: ScanBatch,
    ) -> Result<(), String> {
        let Some(job_id) = self.job_of_scan(star, batch.scan, batch.number) else {
            turn.late += 1;
            let cancel = CoordinatorMessage::CancelScan { scan: batch.scan };
            turn.actions.push(Action::Send { session, message: cancel });
            return Ok(());
        };
        let scan = self.live_mut(job_id).scan.as_mut().expect("it was found by its scan");
        if scan.listed.len() >= SCAN_BATCHES_UNACKED_MAX {
            return Err(format!(
                "more than {SCAN_BATCHES_UNACKED_MAX} batches of a scan without an acknowledgement"
            ));
        }
        scan.last_batch = batch.number;
        scan.progress_at = turn.now.monotonic;
        scan.is_stalled = false;
        self.list_batch(turn, job_id, batch);
        Ok(())
    }

    /// Makes items of a batch about which the destinations have said what they have.
    pub(super) fn take_batch_of_scan(&mut self, turn: &mut Seen<'_>, job_id: JobId, batch: Listed) {
        if let Some(reason) = self.beyond_bounds(turn.config.items_per_job_max, job_id, &batch.entries) {
            self.end_job(turn, job_id, JobState::Failed, &reason);
            self.begin_removal(job_id);
            return;
        }
        let is_again = self.jobs.get(&job_id).is_some_and(|job| !job.record.scan.again.is_empty());
        for (index, entry) in batch.entries.iter().enumerate() {
            let is_unchanged = |destination| batch.is_unchanged(destination, index);
            match is_again {
                true => self.add_listed_again(turn, job_id, entry, is_unchanged),
                false => self.add_entry(turn, job_id, entry, is_unchanged),
            }
        }
        if let Some(job) = self.jobs.get_mut(&job_id).filter(|_| !is_again) {
            let parts = job.record.filter_parts();
            let matched = batch.matched.iter().filter(|&&part| u64::from(part) < parts);
            job.record.scan.matched.get_or_insert_default().extend(matched);
        }
        if let Some(job) = self.jobs.get_mut(&job_id) {
            job.record.scan.skipped_mounts.note(&batch.skipped_mounts);
        }
        if batch.is_last && batch.failure.is_none() {
            match is_again {
                true => self.end_listing_again(turn, job_id),
                false => self.add_missing_paths(turn, job_id),
            }
            self.say_skipped_mounts(turn, job_id);
        }
        let job = self.jobs.get_mut(&job_id).expect("a job whose source is listed is known");
        job.is_dirty = true;
        let live = job.live.as_mut().expect("a job whose source is listed has not ended");
        let is_over = batch.is_last || batch.failure.is_some();
        if !is_over {
            live.scan_pause = None;
        }
        // What was given up just now may have paused the job, and with it the scan.
        let scan = live.scan.as_ref().map(|scan| scan.id);
        let source = &job.record.spec.source.star_id;
        if let Some(scan) = scan {
            if is_over {
                live.scan = None;
                self.hands.of_mut(source).end_scan();
            }
            if let Some(session) = turn.stars.session_of(source) {
                let message = CoordinatorMessage::ScanAcknowledged { scan, number: batch.number };
                turn.actions.push(Action::Send { session, message });
            }
        }
        match batch.failure {
            Some(failure) => self.scan_failed(turn, job_id, &failure),
            None if batch.is_last => job.record.scan.is_done = true,
            None => {}
        }
    }

    /// Why a job cannot take these entries too, if it cannot.
    fn beyond_bounds(&mut self, items_max: u64, job_id: JobId, entries: &[Arc<Entry>]) -> Option<String> {
        let job = self.jobs.get_mut(&job_id)?;
        let scan = &mut job.record.scan;
        scan.listed_bytes = scan.listed_bytes.saturating_add(entries.iter().map(|entry| weight(entry)).sum());
        let listed = scan.next_sequence.saturating_add(entries.len() as u64);
        let items = listed.saturating_mul(job.record.tallies.len() as u64);
        let bytes_max = items_max.saturating_mul(LISTED_BYTES_PER_ITEM);
        let problem = if items > items_max {
            format!("more than {items_max} items, counted for each destination")
        } else if job.record.scan.listed_bytes > bytes_max {
            format!("paths of more than {bytes_max} bytes together")
        } else {
            return None;
        };
        let source = &job.record.spec.source;
        Some(format!(
            "Star {} lists {problem}, below {}: that is the most that one job may have; divide the source among several jobs, or \
             start the coordinator with a greater --max-items-per-job",
            source.star_id,
            display_path(&source.path)
        ))
    }

    /// The job whose running scan expects exactly this batch from this Star.
    fn job_of_scan(&self, star: &StarId, scan: u64, number: u64) -> Option<JobId> {
        let job = self.open_jobs().find(|job| {
            let running = job.live.as_ref().and_then(|live| live.scan.as_ref());
            running.is_some_and(|running| running.id == scan && running.last_batch + 1 == number)
        })?;
        (job.record.spec.source.star_id == *star).then_some(job.record.id)
    }

    /// Makes one item for each destination of an entry that is new to the job; where it is there already, unchanged, the item has ended with that.
    pub(super) fn add_entry(
        &mut self,
        turn: &mut Seen<'_>,
        job_id: JobId,
        entry: &Arc<Entry>,
        is_unchanged: impl Fn(usize) -> bool,
    ) {
        let job = self.jobs.get_mut(&job_id).expect("a job whose source is listed is known");
        let live = job.live.as_mut().expect("a job whose source is listed has not ended");
        let sequence = job.record.scan.next_sequence;
        job.record.scan.next_sequence += 1;
        if !is_planted(Bug::CursorForgotten) {
            job.record.scan.cursor = Some(serde_bytes::ByteBuf::from(entry.path.clone()));
        }
        turn.changes.push(Change::PutEntry { job: job_id, sequence, entry: Arc::clone(entry) });
        let is_directory = entry.kind == EntryKind::Directory;
        let source_path = job.record.spec.source.path.clone();
        let (mut given_up, mut skipped) = (Vec::new(), Vec::new());
        for (index, tally) in job.record.tallies.iter_mut().enumerate() {
            let item = ItemId { job: job_id, destination: destination_number(index), sequence };
            tally.total += 1;
            tally.bytes_total = tally.bytes_total.saturating_add(entry.size());
            if !is_directory && is_unchanged(index) {
                tally.skipped += 1;
                tally.bytes_stored = tally.bytes_stored.saturating_add(entry.size());
                self.totals.skipped += 1;
                self.totals.bytes_stored = self.totals.bytes_stored.saturating_add(entry.size());
                let record = ItemEndRecord { end: ItemEnd::Skipped, attempts: 0 };
                turn.changes.push(Change::PutEnd { item, record });
                skipped.push(item);
                continue;
            }
            *tally.open_mut(is_directory) += 1;
            if !entry.kind.is_carried() {
                given_up.push(item);
                continue;
            }
            let key = queue_key(&live.order, sequence, entry, 0);
            turn.changes.push(Change::Enqueue { item, key: key.clone() });
            let queued = Queued::new(sequence, Arc::clone(entry), turn.now.monotonic);
            live.lanes[index].insert(key, queued);
        }
        for item in skipped {
            self.record_step(turn, ProvenanceType::FileSkipped, (item, entry), (None, None));
        }
        for item in given_up {
            let failure = uncarried(&source_path, entry);
            self.give_up(turn, item, Entry::clone(entry), &failure, 1);
        }
    }

    /// Listed paths that were not found are entries that cannot be moved.
    fn add_missing_paths(&mut self, turn: &mut Seen<'_>, job_id: JobId) {
        let missing = self.job(job_id).record.missing_paths();
        for path in missing {
            let kind = EntryKind::Unreadable { errno: NO_ENTRY };
            let entry = Entry { path, kind, mode: 0, modified: WallTime::UNIX_EPOCH, rank: 0 };
            self.add_entry(turn, job_id, &Arc::new(entry), |_| false);
        }
    }

    /// A scan ended without having listed the tree.
    fn scan_failed(&mut self, turn: &mut Seen<'_>, job_id: JobId, failure: &Failure) {
        if failure.cause.is_retryable() {
            let job = self.job_mut(job_id);
            let source = job.record.spec.source.star_id.clone();
            if let Some(live) = &mut job.live {
                let wait =
                    live.scan_pause.map_or(SCAN_PAUSE_MIN, |(_, before)| before * 2).min(SCAN_PAUSE_MAX);
                live.scan_pause = Some((turn.now.monotonic + wait, wait));
            }
            let message = format!(
                "listing the source of job {job_id} broke off and will start again where it was: {}",
                failure.message
            );
            turn.post((Severity::Warning, source.as_str(), "scan"), Some(job_id), &message);
        } else {
            let reason = format!("the source cannot be listed: {}", failure.message);
            self.end_job(turn, job_id, JobState::Failed, &reason);
        }
    }

    /// Forgets the scans that ran on a Star whose session has ended; they start again when it is back.
    pub(in crate::core) fn forget_scans_of(&mut self, star: &StarId) {
        for id in self.open_ids() {
            if self.job(id).record.spec.source.star_id == *star {
                let live = self.live_mut(id);
                live.scan = None;
                live.scan_pause = None;
            }
        }
        self.hands.of_mut(star).scans = 0;
    }

    /// Stops the scan of a job that is over or paused.
    pub(super) fn stop_scan(&mut self, turn: &mut Seen<'_>, job_id: JobId) {
        let job = self.jobs.get_mut(&job_id).expect("a job whose listing stops is known");
        let Some(scan) = job.live.as_mut().and_then(|live| live.scan.take()) else { return };
        let source = &job.record.spec.source.star_id;
        self.hands.of_mut(source).end_scan();
        if let Some(session) = turn.stars.session_of(source) {
            let message = CoordinatorMessage::CancelScan { scan: scan.id };
            turn.actions.push(Action::Send { session, message });
        }
    }
}

/// Bytes that an entry's names take.
fn weight(entry: &Entry) -> u64 {
    let target = match &entry.kind {
        EntryKind::Symlink { target } => target.len(),
        EntryKind::File { .. }
        | EntryKind::Directory
        | EntryKind::Fifo
        | EntryKind::Socket
        | EntryKind::CharacterDevice
        | EntryKind::BlockDevice
        | EntryKind::Unreadable { .. } => 0,
    };
    (entry.path.len() + target) as u64
}

/// Why an entry of such a kind cannot be moved.
pub(super) fn uncarried(source_path: &[u8], entry: &Entry) -> Failure {
    let path = display_path(&join_path(source_path, &entry.path));
    if entry.kind == (EntryKind::Unreadable { errno: NO_ENTRY }) {
        let message = format!("{path} was asked for and is not at the source");
        return Failure { cause: FailureCause::SourceMissing, fault: Fault::Item, message };
    }
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
    let is_passing = matches!(entry.kind, EntryKind::Unreadable { errno } if is_passing_errno(errno));
    let cause = if is_passing { FailureCause::Transient } else { FailureCause::Permanent };
    Failure { cause, fault: Fault::Item, message }
}
