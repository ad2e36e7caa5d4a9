//! Garbage collection: chunks that neither a snapshot nor a stage needs are removed from the universe, and then
//! containers with few live chunks are rewritten.
//!
//! The index has the time at which a chunk lost its last reference; a survey adds it for chunks that never had one. Each
//! collection has one [`GarbageCollector`], which `removal.rs` leads through its three phases. This file decides which
//! chunks are due: those whose undo window has passed, and, if the disk has less space than it should have, as many of
//! the others as are needed, oldest first.
//!
//! The work is done in parts, each of which leaves the store consistent, so a kill loses only the current part. Other
//! operations wait at most for one transaction.

use std::sync::PoisonError;

use super::error::{PackedError, Result};
use super::pace::Courtesy;
use super::removal::Due;
use super::{DELETED, FREE_BYTES_MIN_DEFAULT, PackedStore, records, spare};

/// Number of rows that are read at a time.
const ROWS_PER_READ: usize = 4096;

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
        let is_urgent = self.is_urgent(options);
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

    /// Whether the disk has less space than it should have.
    pub(super) fn is_urgent(&self, options: &CollectOptions) -> bool {
        let available = options.free_bytes_min.and_then(|min| Some((min, self.available_bytes()?)));
        available.is_some_and(|(min, available)| available < min)
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
        self.space().map(|(available, _)| available)
    }

    /// Bytes that can still be written to the disk, and its size.
    fn space(&self) -> Option<(u64, u64)> {
        let found = rustix::fs::statvfs(&self.dir).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some((bytes(found.f_bavail), bytes(found.f_blocks)))
    }

    /// Number of bytes that should be free on the disk.
    pub fn free_bytes_min(&self) -> u64 {
        let default = || self.space().map_or(0, |(_, total)| (total / 20).min(FREE_BYTES_MIN_DEFAULT));
        self.config.free_bytes_min.unwrap_or_else(default)
    }

    /// If fewer bytes are free than should be: how many are, and how many should be.
    pub fn missing_space(&self) -> Option<(u64, u64)> {
        let (available, min) = (self.available_bytes()?, self.free_bytes_min());
        (available < min).then_some((available, min))
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
