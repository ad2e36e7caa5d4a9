//! Collecting garbage: chunks that no snapshot and no stage needs leave the universe, and then containers with few live
//! chunks are written anew.
//!
//! A chunk is **marked** in the transaction that takes its last reference, or here if it never had one. Once the undo window
//! has passed since, the collector of [`orbit_shared::ref_count`] gives leave to delete it if at that moment nobody
//! references or pins it; from then on, until its row is gone, it counts as not stored. Whoever needs it stores it again.
//!
//! Work is done in parts, each of which leaves everything in order, so a kill costs the part. Nothing holds others up for
//! longer than one transaction.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::ref_count::{GarbageCollector, GcConfig, References};
use orbit_shared::time::Monotonic;

use super::error::{PackedError, Result};
use super::pace::Courtesy;
use super::pins::Memory;
use super::universe::{Location, Row, Universe};
use super::{DELETED, PackedStore, records, spare};

/// Rows that are read at a time.
const ROWS_PER_READ: usize = 4096;
/// Chunks that are decided on at a time, while who asks for chunks waits.
const DECIDED_AT_ONCE: usize = 256;
/// Chunks that leave the universe in one transaction.
const REMOVED_PER_TRANSACTION: usize = 4096;

/// What a collection is asked.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// Only say what would be done.
    pub plan_only: bool,
    /// Collect also what could still be brought back.
    pub ignore_undo_window: bool,
    /// How many bytes should be free on the disk. If collecting what is due does not give that, what is in the undo window
    /// goes too, oldest first, and no more of it than needed.
    pub free_bytes_min: Option<u64>,
    /// A container is written anew when at least so many hundredths of it are garbage.
    pub garbage_percent_min: u8,
    /// Bytes that may be moved a second; absent: as fast as it goes. Either way those who read and write go first, unless
    /// `free_bytes_min` says that there is no time for that.
    pub bytes_per_second: Option<u64>,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self {
            plan_only: false,
            ignore_undo_window: false,
            free_bytes_min: None,
            garbage_percent_min: 20,
            bytes_per_second: None,
        }
    }
}

/// What a collection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectPhase {
    /// Looking at all chunks.
    Surveying,
    /// Taking chunks out of the universe.
    Removing,
    /// Writing containers anew.
    Compacting,
}

/// How far a collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectProgress {
    /// What it is at.
    pub phase: CollectPhase,
    /// How much of it is done: chunks, or containers.
    pub done: u64,
    /// How much there is.
    pub total: u64,
}

/// What a collection did, or would do.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CollectReport {
    /// Chunks that may go.
    pub chunks_reclaimable: u64,
    /// What they take on the disk.
    pub bytes_reclaimable: u64,
    /// Chunks that nobody needs and that are kept for the undo window.
    pub chunks_waiting: u64,
    /// What they take on the disk.
    pub bytes_waiting: u64,
    /// Chunks that have left the universe.
    pub chunks_removed: u64,
    /// Containers whose live chunks were moved, or would be.
    pub containers_rewritten: u64,
    /// Containers that are gone, or would be.
    pub containers_removed: u64,
    /// Bytes that were moved, or would be.
    pub bytes_copied: u64,
    /// By how much the files of containers have become less, or would.
    pub bytes_freed: u64,
    /// Containers that should have been written anew and were not, and why.
    pub containers_kept: Vec<(String, String)>,
}

/// What the collector asks: pins are in memory, references in the universe. The memory is locked meanwhile, so no pin comes
/// in between.
struct Held<'a> {
    memory: &'a Memory,
    universe: &'a Universe,
    /// Mistakes of tests.
    is_blind_to: [bool; 2],
}

impl References for Held<'_> {
    fn count(&self, hash: &ChunkHash) -> u64 {
        if self.is_blind_to[0] {
            return 0;
        }
        // Without an answer nothing is collected.
        self.universe.lookup(hash).map_or(u64::MAX, |row| row.map_or(0, |row| u64::from(row.references)))
    }

    fn is_pinned(&self, hash: &ChunkHash) -> bool {
        self.memory.is_pinned(hash) && !self.is_blind_to[1]
    }
}

impl PackedStore {
    /// Collects what nobody needs, beside everyone who reads and writes. Cancelled or killed, it goes on where it was when it
    /// is called again.
    ///
    /// # Errors
    /// A part of a tree cannot be read, so that nobody can say what is needed; or the disk refuses.
    pub fn collect(
        &self,
        options: &CollectOptions,
        progress: &dyn Fn(&CollectProgress),
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<CollectReport> {
        self.refuse_read_only()?;
        let _one_at_a_time = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_room_to_collect(options.plan_only);
        match self.collect_once(options, progress, is_cancelled) {
            // The universe could not be told: once more, with the space that is kept for this.
            Err(error) if error.is_full() && !options.plan_only && self.give_up_reserve() => {
                self.collect_once(options, progress, is_cancelled)
            }
            result => result,
        }
    }

    fn collect_once(
        &self,
        options: &CollectOptions,
        progress: &dyn Fn(&CollectProgress),
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<CollectReport> {
        self.check_trees(is_cancelled)?;
        let containers = self.containers.lengths();
        self.make_durable()?;
        self.flush()?;
        let now = self.now_seconds();
        let window = if options.ignore_undo_window { 0 } else { self.config.undo_window.as_secs() };
        // On a disk that is filling up, collecting is what writers wait for.
        let is_urgent = options.free_bytes_min.is_some();
        self.check_index(is_urgent, is_cancelled)?;
        let mut survey = self.survey(containers, now, window, options.plan_only, progress, is_cancelled)?;
        self.pass_window("surveyed");
        let forced = self.forced_before(&survey, options);
        if let Some(before) = forced {
            survey.force(before);
        }
        let mut report = survey.report();
        if !options.plan_only {
            let is_early = options.ignore_undo_window || forced.is_some();
            let due = Due { now, window, forced, is_early, is_urgent };
            report.chunks_removed =
                self.remove_due(&due, report.chunks_reclaimable, progress, is_cancelled)?;
        }
        self.compact(&survey.usage, options, &mut report, progress, is_cancelled)?;
        if !options.plan_only {
            self.forget_deleted()?;
            self.keep_reserve();
        }
        Ok(report)
    }

    /// On a full disk the universe could not even be told what may go.
    fn make_room_to_collect(&self, plan_only: bool) {
        let is_full = self.available_bytes().is_some_and(|bytes| bytes < self.config.reserve_bytes);
        if is_full && !plan_only {
            self.give_up_reserve();
        }
    }

    /// Bytes that may still be written to the disk.
    pub(super) fn available_bytes(&self) -> Option<u64> {
        let found = rustix::fs::statvfs(&self.dir).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// What has no row is garbage, so the index must be whole. The roots of snapshots show that it is not empty for no reason.
    fn check_index(&self, is_urgent: bool, is_cancelled: &dyn Fn() -> bool) -> Result<()> {
        let roots: Vec<_> = self.shelf().records().values().map(|record| record.root.hash).collect();
        let mut courtesy = Courtesy::new(&self.activity, is_urgent);
        self.universe.check_rows(&roots, ROWS_PER_READ, || {
            courtesy.rest(is_cancelled);
            if is_cancelled() { Err(PackedError::Cancelled) } else { Ok(()) }
        })
    }

    /// All trees must be counted, or what they need would look like garbage.
    fn check_trees(&self, is_cancelled: &dyn Fn() -> bool) -> Result<()> {
        self.release(is_cancelled)?;
        let mut count = self.shelf().damaged.len() as u64;
        for hash in self.universe.uncounted_nodes()? {
            let is_counted =
                self.universe.write(|tables| tables.expand(&hash, &|hash| self.children(hash)))?;
            count += u64::from(!is_counted);
        }
        if count > 0 { Err(PackedError::TreeDamaged { count }) } else { Ok(()) }
    }

    /// Takes what is due out of the universe, and says how many chunks those were.
    fn remove_due(
        &self,
        due: &Due,
        total: u64,
        progress: &dyn Fn(&CollectProgress),
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<u64> {
        let (mut after, mut removed) = (None, 0);
        let mut batch = Vec::new();
        let mut courtesy = Courtesy::new(&self.activity, due.is_urgent);
        loop {
            if is_cancelled() {
                return Err(PackedError::Cancelled);
            }
            let rows = self.universe.rows_after(after.as_ref(), ROWS_PER_READ)?;
            after = rows.last().map(|(last, _)| *last);
            batch.extend(rows.into_iter().filter(|(_, row)| due.is_due(row)));
            if batch.len() >= REMOVED_PER_TRANSACTION || after.is_none() {
                removed += self.remove(due, &std::mem::take(&mut batch))?;
                progress(&CollectProgress { phase: CollectPhase::Removing, done: removed, total });
                courtesy.rest(is_cancelled);
            }
            if after.is_none() {
                return Ok(removed);
            }
        }
    }

    fn remove(&self, due: &Due, candidates: &[(ChunkHash, Row)]) -> Result<u64> {
        if candidates.is_empty() {
            return Ok(0);
        }
        self.pass_window("chosen");
        let places: BTreeMap<ChunkHash, Location> =
            candidates.iter().map(|(hash, row)| (*hash, row.location)).collect();
        let mut collector = GarbageCollector::new(GcConfig { undo_window: Duration::from_secs(due.window) });
        let mut tickets = Vec::new();
        for part in candidates.chunks(DECIDED_AT_ONCE) {
            for (hash, row) in part {
                let token = collector.mark_reclaimable(at(row.marked), *hash);
                // The mark was read from the universe, whose transactions are durable.
                assert!(collector.confirm_wal_synced(hash, token), "chunk {hash} was just marked");
            }
            let mut memory = self.memory();
            let is_blind_to = [self.is_planted("references unseen"), self.is_planted("pins unseen")];
            let held = Held { memory: &memory, universe: &self.universe, is_blind_to };
            let given = if due.is_early {
                collector.collect_early(&held, usize::MAX)
            } else {
                collector.collect(at(due.now), &held, usize::MAX)
            };
            for ticket in given.iter().filter(|_| !self.is_planted("deletion untold")) {
                memory.begin_delete(&ticket.hash);
            }
            tickets.extend(given);
        }
        self.pass_window("decided");
        let result = self.universe.write(|tables| {
            #[cfg(test)]
            if self.is_planted("references unseen") {
                tickets.iter().try_for_each(|ticket| tables.forget_blindly(&ticket.hash))?;
            }
            let forget = |hash: &ChunkHash| tables.forget(hash, places[hash]);
            tickets.iter().map(|ticket| &ticket.hash).map(forget).collect::<Result<Vec<_>>>()
        });
        self.pass_window("removed");
        let mut memory = self.memory();
        for ticket in &tickets {
            memory.end_delete(&ticket.hash);
            memory.damaged.remove(&ticket.hash);
        }
        drop(memory);
        let mut removed = 0;
        for (ticket, is_gone) in tickets.iter().zip(result?) {
            let is_answered =
                if is_gone { collector.acknowledge(ticket) } else { collector.deletion_failed(ticket) };
            assert!(is_answered, "the ticket of chunk {} is out", ticket.hash);
            removed += u64::from(is_gone);
        }
        Ok(removed)
    }

    /// Forgets deleted snapshots that cannot be brought back any more.
    fn forget_deleted(&self) -> Result<()> {
        let _one_at_a_time = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = self.dir.join(DELETED);
        for record in self.deleted_snapshots()? {
            if self.find(&record.root.hash)?.is_none() {
                records::remove(&dir, &record.id)?;
                spare::remove(&self.dir, &record.id)?;
            }
        }
        Ok(())
    }
}

/// Seconds of the civil clock, as the collector counts.
fn at(seconds: u64) -> Monotonic {
    Monotonic::from_elapsed(Duration::from_secs(seconds))
}

/// Which marks are due.
struct Due {
    now: u64,
    window: u64,
    forced: Option<u64>,
    is_early: bool,
    is_urgent: bool,
}

impl Due {
    fn is_due(&self, row: &Row) -> bool {
        let is_past = row.marked.saturating_add(self.window) <= self.now;
        let is_forced = self.forced.is_some_and(|before| row.marked < before);
        row.references == 0
            && row.marked > 0
            && (is_past || is_forced || self.is_early && self.forced.is_none())
    }
}
