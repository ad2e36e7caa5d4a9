//! Makes data durable: first chunks, then the records of a stage that name them, then the universe if it lags behind.

use std::sync::{Arc, MutexGuard, PoisonError};

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::container::{ContainerPool, Syncing};

use super::error::{PackedError, Result};
use super::pins::Recent;
use super::stage::Stage;
use super::types::{StageId, TreeEntry};
use super::universe::{Tables, Universe};
use super::{PackedStore, STAGES, Syncs};

/// Recent chunks are written into the universe when there is one for this many that it has.
const KNOWN_PER_RECENT: usize = 32;
/// Maximum number of recent chunks. When it is reached, they are written into the universe.
const RECENT_CHUNKS_MAX: usize = 512 * 1024;

impl PackedStore {
    fn lock_syncs(&self) -> MutexGuard<'_, Syncs> {
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every chunk durable that was appended before and is not lost. One sync serves all waiting threads.
    pub(super) fn make_durable(&self) -> Result<()> {
        let target = self.containers.lock_appender().sequence();
        let mut syncs = self.lock_syncs();
        loop {
            if syncs.durable >= target {
                return Ok(());
            }
            if !syncs.is_running {
                break;
            }
            syncs = self.synced.wait(syncs).unwrap_or_else(PoisonError::into_inner);
        }
        syncs.is_running = true;
        drop(syncs);
        let result = self.sync();
        self.end_turn();
        result
    }

    /// Ends the turn of the thread that may sync.
    fn end_turn(&self) {
        let durable = self.containers.lock_appender().durable();
        let mut syncs = self.lock_syncs();
        syncs.is_running = false;
        syncs.durable = syncs.durable.max(durable);
        drop(syncs);
        self.synced.notify_all();
    }

    /// On a full disk: releases the space of the last chunks that are not durable and that none of these entries needs.
    /// The entries are committed next. Otherwise parts of files that did not fit would occupy the space that smaller
    /// files need. Chunks of other threads are given up as well; their commits report which chunks are missing.
    pub fn give_up_unneeded(&self, entries: &[&TreeEntry]) {
        let mut syncs = self.lock_syncs();
        while syncs.is_running {
            syncs = self.synced.wait(syncs).unwrap_or_else(PoisonError::into_inner);
        }
        syncs.is_running = true;
        drop(syncs);
        self.containers.give_up_behind(
            |number| {
                let needed = self.memory().last_of(number, entries.iter().flat_map(|entry| &entry.chunks));
                needed.map_or(0, |ordinal| ordinal as usize + 1)
            },
            |number, kept| self.memory().lose_behind(number, kept),
        );
        self.end_turn();
    }

    /// How often chunks were given up because the disk was full.
    pub fn losses_to_full_disk(&self) -> u64 {
        self.memory().losses_to_full_disk
    }

    fn sync(&self) -> Result<()> {
        let begun = self.containers.begin_sync().map_err(PackedError::from);
        let full = match begun {
            Err(error) if error.is_full() => error,
            begun => return begun?.map_or(Ok(()), |syncing| self.run_sync(&syncing)),
        };
        // What was written before the disk was full is made durable nevertheless.
        if self.containers.give_up_held_back(|number, kept| self.memory().lose_behind(number, kept))
            && let Some(syncing) = self.containers.begin_sync()?
        {
            self.run_sync(&syncing)?;
        }
        Err(full)
    }

    fn run_sync(&self, syncing: &Syncing) -> Result<()> {
        let result = syncing.run().map_err(PackedError::from);
        if let Some(lost) = self.containers.finish_sync(syncing, result.is_ok()) {
            self.memory().lose(lost);
        }
        result
    }

    /// Makes these entries durable as part of the stage, and with them every chunk that was put or found before. An
    /// entry replaces an earlier one with the same path.
    ///
    /// # Errors
    /// A chunk of an entry is not stored and must be sent again; or the disk is full or reports an error. Then none of
    /// the entries is recorded.
    pub fn commit(&self, stage: StageId, entries: &[TreeEntry]) -> Result<()> {
        self.refuse_read_only()?;
        let log = self.open_stage(stage)?;
        loop {
            let losses = self.memory().losses();
            self.check_chunks(stage, entries)?;
            self.make_durable()?;
            // Chunks that were there may have been lost by a failed sync, possibly of another thread.
            if self.memory().losses() == losses {
                break;
            }
        }
        log.append(entries)?;
        match self.flush_if_behind() {
            // They are durable nevertheless. What is missing in the universe stays in memory until there is space.
            Err(error) if error.is_full() => Ok(()),
            flushed => flushed,
        }
    }

    /// Begins the stage if it does not exist, and reserves disk space for its next commits. Called before the first
    /// chunk is put, so that what fits on the disk can still be committed when it is full.
    ///
    /// # Errors
    /// The disk is full or reports an error.
    pub fn begin_stage(&self, stage: StageId) -> Result<()> {
        self.refuse_read_only()?;
        self.open_stage(stage)?.keep_room();
        Ok(())
    }

    /// Checks that every chunk of the entries is stored, and pins it for the stage.
    fn check_chunks(&self, stage: StageId, entries: &[TreeEntry]) -> Result<()> {
        let hashes: Vec<ChunkHash> =
            entries.iter().flat_map(|entry| &entry.chunks).map(|chunk| chunk.hash).collect();
        let found = self.contains(stage, &hashes)?;
        match found.iter().position(|is_found| !is_found) {
            None => Ok(()),
            Some(index) => {
                let hash = hashes[index];
                let names = |entry: &&TreeEntry| entry.chunks.iter().any(|chunk| chunk.hash == hash);
                let path = entries.iter().find(names).map(|entry| entry.entry.path.clone());
                Err(PackedError::MissingChunk { path: path.unwrap_or_default(), hash })
            }
        }
    }

    /// The stage, which is begun if it does not exist.
    pub(super) fn open_stage(&self, id: StageId) -> Result<Arc<Stage>> {
        if let Some(stage) = self.stage(id) {
            return Ok(stage);
        }
        let mut stages = self.stages.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = stages.get(&id) {
            return Ok(Arc::clone(stage));
        }
        let stage = Arc::new(Stage::create(&self.dir.join(STAGES), id)?);
        stages.insert(id, Arc::clone(&stage));
        Ok(stage)
    }

    fn flush_if_behind(&self) -> Result<()> {
        let recent = self.memory().recent.len();
        if recent < self.config.recent_chunks_max {
            return Ok(());
        }
        // In a large universe each new chunk costs a page write, unless many are written together.
        let known = usize::try_from(self.universe.chunk_count()?).unwrap_or(usize::MAX);
        let worthwhile = (known / KNOWN_PER_RECENT).min(RECENT_CHUNKS_MAX);
        if recent < worthwhile { Ok(()) } else { self.flush() }
    }

    /// Writes all that is durable into the universe.
    pub(super) fn flush(&self) -> Result<()> {
        self.flush_and(None)
    }

    /// As [`PackedStore::flush`], with `change` in the same transaction.
    pub(super) fn flush_and(&self, change: Option<&mut Change<'_>>) -> Result<()> {
        let _one_at_a_time = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let durable = self.containers.lock_appender().durable();
        let (frozen, healed) = {
            let mut memory = self.memory();
            (memory.freeze(durable), std::mem::take(&mut memory.healed))
        };
        let result = index(&self.universe, &self.containers, &frozen, &healed, change);
        let mut memory = self.memory();
        if result.is_err() {
            memory.healed.extend(healed);
        }
        memory.thaw(result.is_ok());
        result
    }
}

/// A further change within a transaction.
pub(super) type Change<'a> = dyn FnMut(&mut Tables<'_>) -> Result<()> + 'a;

/// Writes recent chunks into the universe, and how much of each container it covers.
fn index(
    universe: &Universe,
    containers: &ContainerPool,
    recent: &Recent,
    healed: &[ChunkHash],
    change: Option<&mut Change<'_>>,
) -> Result<()> {
    if recent.is_empty() && healed.is_empty() && change.is_none() {
        return Ok(());
    }
    let mut rows: Vec<_> = recent.iter().collect();
    rows.sort_unstable_by_key(|(hash, _)| **hash);
    let mut indexed = std::collections::BTreeMap::new();
    for (hash, appended) in recent {
        let last = indexed.entry(appended.location.container).or_insert((appended.ordinal, *hash));
        *last = (*last).max((appended.ordinal, *hash));
    }
    universe.write(|tables| {
        for (hash, appended) in rows {
            tables.place(&ChunkHash(*hash), appended.location)?;
        }
        for (number, (ordinal, last)) in indexed {
            let mut row = tables.container(number)?;
            if row.indexed <= ordinal {
                row.indexed = ordinal.saturating_add(1);
                if let Some(known) = containers.known(number) {
                    tables.put_anchor(number, &known.id, ordinal, ChunkHash(last))?;
                }
            }
            tables.put_container(number, &row)?;
        }
        for hash in healed {
            tables.remove_damaged(hash)?;
        }
        change.map_or(Ok(()), |change| change(tables))
    })
}
