//! Garbage collection: chunks that neither a snapshot nor a stage needs are removed from the universe, and then
//! containers with few live chunks are rewritten.
//!
//! A chunk is **marked** in the transaction that removes its last reference, or here if it never had one. When the undo
//! window has passed since, the collector of [`orbit_shared::ref_count`] permits its deletion if nothing references or
//! pins it at that moment. From then on, until its row is removed, it counts as not stored, so a job that needs it
//! stores it again.
//!
//! The work is done in parts, each of which leaves the store consistent, so a kill loses only the current part. Other
//! operations wait at most for one transaction.

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

/// Number of rows that are read at a time.
const ROWS_PER_READ: usize = 4096;
/// Number of chunks that are decided at a time. Lookups of chunks wait meanwhile.
const DECIDED_AT_ONCE: usize = 256;
/// Maximum number of chunks that are removed from the universe in one transaction.
const REMOVED_PER_TRANSACTION: usize = 4096;

/// The options of a collection.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// Only return what would be done.
    pub plan_only: bool,
    /// Also collect what could still be undeleted.
    pub ignore_undo_window: bool,
    /// Number of bytes that should be free on the disk. If collecting what is due does not achieve that, content in the
    /// undo window is collected too, oldest first, and no more of it than needed.
    pub free_bytes_min: Option<u64>,
    /// A container is rewritten when at least this percentage of it is garbage.
    pub garbage_percent_min: u8,
    /// Maximum number of bytes moved per second; absent: unlimited. In both cases readers and writers have priority,
    /// unless `free_bytes_min` makes the collection urgent.
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

/// The phase of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectPhase {
    /// Looks at all chunks.
    Surveying,
    /// Removes chunks from the universe.
    Removing,
    /// Rewrites containers.
    Compacting,
}

/// The progress of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectProgress {
    /// The current phase.
    pub phase: CollectPhase,
    /// What is done: number of chunks, or of containers.
    pub done: u64,
    /// The total.
    pub total: u64,
}

/// What a collection did, or would do.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CollectReport {
    /// Chunks that can be removed.
    pub chunks_reclaimable: u64,
    /// Their size on the disk.
    pub bytes_reclaimable: u64,
    /// Chunks that are not needed and are kept for the undo window.
    pub chunks_waiting: u64,
    /// Their size on the disk.
    pub bytes_waiting: u64,
    /// Chunks that were removed from the universe.
    pub chunks_removed: u64,
    /// Containers whose live chunks were moved, or would be.
    pub containers_rewritten: u64,
    /// Containers that were removed, or would be.
    pub containers_removed: u64,
    /// Bytes that were moved, or would be.
    pub bytes_copied: u64,
    /// By how many bytes the container files have shrunk, or would.
    pub bytes_freed: u64,
    /// Containers that were to be rewritten and were not, with the reasons.
    pub containers_kept: Vec<(String, String)>,
}

/// What the collector consults: pins in memory, and references in the universe. The memory is locked meanwhile, so no
/// pin can be added.
struct Held<'a> {
    memory: &'a Memory,
    universe: &'a Universe,
    /// Faults that tests inject.
    is_blind_to: [bool; 2],
}

impl References for Held<'_> {
    fn count(&self, hash: &ChunkHash) -> u64 {
        if self.is_blind_to[0] {
            return 0;
        }
        // If the lookup fails, nothing is collected.
        self.universe.lookup(hash).map_or(u64::MAX, |row| row.map_or(0, |row| u64::from(row.references)))
    }

    fn is_pinned(&self, hash: &ChunkHash) -> bool {
        self.memory.is_needed(hash) && !self.is_blind_to[1]
    }
}

impl PackedStore {
    /// Collects what is not needed, concurrently with readers and writers. If it is cancelled or killed, the next call
    /// continues.
    ///
    /// # Errors
    /// A part of a tree cannot be read, so it is not known what is needed; or the disk reports an error.
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
            // The universe could not be changed: try again, with the space that is reserved for this.
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
        // On a disk that is filling up, writers wait for the collection.
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

    /// On a full disk the universe could not even record what can be removed.
    fn make_room_to_collect(&self, plan_only: bool) {
        let is_full = self.available_bytes().is_some_and(|bytes| bytes < self.config.reserve_bytes);
        if is_full && !plan_only {
            self.give_up_reserve();
        }
    }

    /// Bytes that can still be written to the disk.
    pub(super) fn available_bytes(&self) -> Option<u64> {
        let found = rustix::fs::statvfs(&self.dir).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// A chunk without a row is garbage, so the index must be complete. The roots of snapshots show whether an empty
    /// index is right.
    fn check_index(&self, is_urgent: bool, is_cancelled: &dyn Fn() -> bool) -> Result<()> {
        let roots: Vec<_> = self.shelf().records().values().map(|record| record.root.hash).collect();
        let mut courtesy = Courtesy::new(&self.activity, is_urgent);
        self.universe.check_rows(&roots, ROWS_PER_READ, || {
            courtesy.rest(is_cancelled);
            if is_cancelled() { Err(PackedError::Cancelled) } else { Ok(()) }
        })
    }

    /// All trees must be counted, otherwise what they need would look like garbage.
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

    /// Removes what is due from the universe, and returns the number of chunks.
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
        }
        let mut removed = 0;
        for (ticket, is_gone) in tickets.iter().zip(result?) {
            if is_gone {
                memory.damaged.remove(&ticket.hash);
            }
            let is_answered =
                if is_gone { collector.acknowledge(ticket) } else { collector.deletion_failed(ticket) };
            assert!(is_answered, "the ticket of chunk {} is out", ticket.hash);
            removed += u64::from(is_gone);
        }
        Ok(removed)
    }

    /// Forgets deleted snapshots that can no longer be undeleted.
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

/// Seconds of the wall clock, in the collector's type.
fn at(seconds: u64) -> Monotonic {
    Monotonic::from_elapsed(Duration::from_secs(seconds))
}

/// Selects the marks that are due.
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
