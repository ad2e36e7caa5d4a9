//! The removal of garbage from the universe, through the phases of one [`GarbageCollector`]:
//!
//! 1. **Mark**: rows without references whose time has come are read from the universe. The time of their mark is in the
//!    row, since the transaction that removed the last reference or since the survey.
//! 2. **Confirm**: everything that was stored before is made durable and written into the universe. From then on the
//!    index on the disk has every chunk and every reference that preceded the marks.
//! 3. **Collect**: the collector permits the deletion of chunks whose undo window has passed (or earlier, if the disk has
//!    too little space) if nothing references or pins them at that moment. Until its row is removed, such a chunk counts
//!    as not stored, so a job that needs it stores it again.
//!
//! The collector is in the memory of the store while it works: a job that pins a chunk cancels its mark. The phases are
//! repeated with a bounded number of marks until all rows have been read.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::ref_count::{CollectTicket, GarbageCollector, GcConfig, MarkToken, References};
use orbit_shared::time::Monotonic;

use super::PackedStore;
use super::collect::{CollectPhase, CollectProgress};
use super::error::{PackedError, Result};
use super::pace::Courtesy;
use super::pins::Memory;
use super::universe::{Location, Row, Universe};

/// Number of rows that are read at a time.
const ROWS_PER_READ: usize = 4096;
/// Number of chunks that are marked, confirmed or decided at a time. Lookups of chunks wait meanwhile.
const AT_ONCE: usize = 256;
/// Maximum number of chunks that are removed from the universe in one transaction.
const REMOVED_PER_TRANSACTION: usize = 4096;
/// Maximum number of marks at a time; one takes some 200 bytes of memory.
const MARKS_MAX: usize = 32 * 1024;

/// Selects the chunks that are due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) now: u64,
    /// The undo window, in seconds.
    pub(super) window: u64,
    /// Chunks that were marked before this are collected early.
    pub(super) forced: Option<u64>,
    /// Whether the undo window is ignored, for all chunks or for the forced ones.
    pub(super) is_early: bool,
    /// Whether writers wait for the collection.
    pub(super) is_urgent: bool,
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

/// The marks of one round, with the places of the chunks.
type Marks = BTreeMap<ChunkHash, (MarkToken, Location)>;

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

/// A collection whose collector is in the memory of the store, until this is dropped.
struct Removal<'a> {
    store: &'a PackedStore,
    due: &'a Due,
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        self.store.memory().collector = None;
    }
}

impl PackedStore {
    /// Removes what is due from the universe, and returns the number of chunks.
    pub(super) fn remove_due(
        &self,
        due: &Due,
        total: u64,
        progress: &dyn Fn(&CollectProgress),
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<u64> {
        let config = GcConfig { undo_window: Duration::from_secs(due.window) };
        self.memory().collector = Some(GarbageCollector::new(config));
        let removal = Removal { store: self, due };
        let mut after = None;
        let mut courtesy = Courtesy::new(&self.activity, due.is_urgent);
        loop {
            let marks = removal.mark(&mut after, &mut courtesy, is_cancelled)?;
            self.pass_window("chosen");
            removal.confirm(&marks)?;
            while removal.collect(&marks)? > 0 {
                let done = removal.collected();
                progress(&CollectProgress { phase: CollectPhase::Removing, done, total });
                courtesy.rest(is_cancelled);
                if is_cancelled() {
                    return Err(PackedError::Cancelled);
                }
            }
            if after.is_none() {
                return Ok(removal.collected());
            }
        }
    }
}

impl Removal<'_> {
    fn with_collector<T>(&self, act: impl FnOnce(&mut GarbageCollector) -> T) -> T {
        let mut memory = self.store.memory();
        act(memory.collector.as_mut().expect("it is there until the removal ends"))
    }

    fn collected(&self) -> u64 {
        self.with_collector(|collector| collector.total_collected())
    }

    /// Marks the next rows that are due, a bounded number. `after` is the last row that was read, `None` at the end.
    fn mark(
        &self,
        after: &mut Option<ChunkHash>,
        courtesy: &mut Courtesy<'_>,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Marks> {
        let mut marks = Marks::new();
        loop {
            if is_cancelled() {
                return Err(PackedError::Cancelled);
            }
            let rows = self.store.universe.rows_after(after.as_ref(), ROWS_PER_READ)?;
            *after = rows.last().map(|(last, _)| *last);
            let due: Vec<_> = rows.into_iter().filter(|(_, row)| self.due.is_due(row)).collect();
            for part in due.chunks(AT_ONCE) {
                let mut memory = self.store.memory();
                // A later pin cancels a mark. What is pinned already would keep its mark when it is unpinned, although its undo
                // window begins then.
                let is_blind = self.store.is_planted("pins unseen");
                let free: Vec<_> =
                    part.iter().filter(|(hash, _)| is_blind || !memory.is_needed(hash)).collect();
                let collector = memory.collector.as_mut().expect("it is there until the removal ends");
                for (hash, row) in free {
                    let token = collector.mark_reclaimable(at(row.marked), *hash);
                    marks.insert(*hash, (token, row.location));
                }
            }
            let marked = self.with_collector(|collector| collector.mark_count());
            if after.is_none() || marked + ROWS_PER_READ > MARKS_MAX {
                return Ok(marks);
            }
            courtesy.rest(is_cancelled);
        }
    }

    /// Makes the index durable with all that preceded the marks, and confirms them.
    fn confirm(&self, marks: &Marks) -> Result<()> {
        if marks.is_empty() {
            return Ok(());
        }
        self.store.make_durable()?;
        self.store.flush()?;
        let all: Vec<_> = marks.iter().map(|(hash, (token, _))| (*hash, *token)).collect();
        for part in all.chunks(AT_ONCE) {
            self.with_collector(|collector| {
                for (hash, token) in part {
                    // A mark that is gone was cancelled: its chunk is needed again.
                    collector.confirm_wal_synced(hash, *token);
                }
            });
        }
        Ok(())
    }

    /// Removes chunks whose deletion the collector permits, in one transaction. Returns the number of permits; 0 if there
    /// are none any more.
    fn collect(&self, marks: &Marks) -> Result<usize> {
        let tickets = self.permits();
        if tickets.is_empty() {
            return Ok(0);
        }
        self.store.pass_window("decided");
        let removed = self.store.universe.write(|tables| {
            #[cfg(test)]
            if self.store.is_planted("references unseen") {
                tickets.iter().try_for_each(|ticket| tables.forget_blindly(&ticket.hash))?;
            }
            let forget = |ticket: &CollectTicket| tables.forget(&ticket.hash, marks[&ticket.hash].1);
            tickets.iter().map(forget).collect::<Result<Vec<_>>>()
        });
        self.store.pass_window("removed");
        self.answer(&tickets, removed)?;
        Ok(tickets.len())
    }

    /// The permits for the next chunks. From now on these count as not stored.
    fn permits(&self) -> Vec<CollectTicket> {
        let store = self.store;
        let mut tickets = Vec::new();
        while tickets.len() < REMOVED_PER_TRANSACTION {
            let mut memory = store.memory();
            #[cfg(test)]
            {
                memory.hides_removal = store.is_planted("deletion untold");
            }
            let mut collector = memory.collector.take().expect("it is there until the removal ends");
            let is_blind_to = [store.is_planted("references unseen"), store.is_planted("pins unseen")];
            let held = Held { memory: &memory, universe: &store.universe, is_blind_to };
            let given = if self.due.is_early {
                collector.collect_early(&held, AT_ONCE)
            } else {
                collector.collect(at(self.due.now), &held, AT_ONCE)
            };
            memory.collector = Some(collector);
            if given.is_empty() {
                break;
            }
            tickets.extend(given);
        }
        tickets
    }

    /// Tells the collector which chunks were removed.
    fn answer(&self, tickets: &[CollectTicket], removed: Result<Vec<bool>>) -> Result<()> {
        let mut memory = self.store.memory();
        let memory = &mut *memory;
        let collector = memory.collector.as_mut().expect("it is there until the removal ends");
        let removed = removed.inspect_err(|_| {
            for ticket in tickets {
                collector.deletion_failed(ticket);
            }
        })?;
        for (ticket, is_gone) in tickets.iter().zip(removed) {
            // A chunk that was stored again meanwhile has no ticket any more, and no row at its old place.
            if is_gone {
                memory.damaged.remove(&ticket.hash);
                collector.acknowledge(ticket);
            } else {
                collector.keep(ticket);
            }
        }
        Ok(())
    }
}

/// Seconds of the wall clock, in the collector's type.
fn at(seconds: u64) -> Monotonic {
    Monotonic::from_elapsed(Duration::from_secs(seconds))
}
