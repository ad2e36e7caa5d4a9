//! Making durable: chunks first, then the records of a stage that name them, and the universe when it has fallen behind.

use std::sync::{Arc, MutexGuard, PoisonError};

use orbit_shared::chunk_hash::ChunkHash;

use super::error::{PackedError, Result};
use super::pins::Recent;
use super::stage::Stage;
use super::types::{StageId, TreeEntry};
use super::universe::{Tables, Universe};
use super::{PackedStore, STAGES, Syncs};

/// A universe is told of new chunks when there is one for so many that it knows,
const KNOWN_PER_RECENT: usize = 32;
/// and at the latest when there are so many.
const RECENT_CHUNKS_MAX: usize = 512 * 1024;

impl PackedStore {
    fn lock_syncs(&self) -> MutexGuard<'_, Syncs> {
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every chunk durable that was appended before and is not lost. One sync serves all threads that wait.
    pub(super) fn make_durable(&self) -> Result<()> {
        let target = self.containers.lock_appender().sequence;
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
        let durable = self.containers.lock_appender().durable;
        let mut syncs = self.lock_syncs();
        syncs.is_running = false;
        syncs.durable = syncs.durable.max(durable);
        drop(syncs);
        self.synced.notify_all();
        result
    }

    fn sync(&self) -> Result<()> {
        let Some(syncing) = self.containers.begin_sync()? else { return Ok(()) };
        let result = syncing.run();
        if let Some(lost) = self.containers.finish_sync(&syncing, result.is_ok()) {
            self.memory().lose(lost);
        }
        result
    }

    /// Makes these entries durable as part of the stage, and with them every chunk that was put or found before. An entry
    /// with the same path as an earlier one replaces it.
    ///
    /// # Errors
    /// A chunk of an entry is not stored, so that it must be sent again; or the disk is full or refuses. Then none of the
    /// entries is recorded.
    pub fn commit(&self, stage: StageId, entries: &[TreeEntry]) -> Result<()> {
        let log = self.open_stage(stage)?;
        loop {
            let losses = self.memory().losses();
            self.check_chunks(stage, entries)?;
            self.make_durable()?;
            // What was there may have been lost by a failed sync, of another thread too.
            if self.memory().losses() == losses {
                break;
            }
        }
        log.append(entries)?;
        self.flush_if_behind()
    }

    /// Every chunk of the entries must be stored, and is pinned for the stage.
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

    /// The stage, which is begun if it is not there.
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
        // Into a large universe each chunk costs a page, unless many come at once.
        let known = usize::try_from(self.universe.chunk_count()?).unwrap_or(usize::MAX);
        let worthwhile = (known / KNOWN_PER_RECENT).min(RECENT_CHUNKS_MAX);
        if recent < worthwhile { Ok(()) } else { self.flush() }
    }

    /// Brings the universe up to what is durable.
    pub(super) fn flush(&self) -> Result<()> {
        self.flush_and(None)
    }

    /// The same, and `change` in the same transaction.
    pub(super) fn flush_and(&self, change: Option<&mut Change<'_>>) -> Result<()> {
        let _one_at_a_time = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let durable = self.containers.lock_appender().durable;
        let (frozen, healed) = {
            let mut memory = self.memory();
            (memory.freeze(durable), std::mem::take(&mut memory.healed))
        };
        let result = index(&self.universe, &frozen, &healed, change);
        let mut memory = self.memory();
        if result.is_err() {
            memory.healed.extend(healed);
        }
        memory.thaw(result.is_ok());
        result
    }
}

/// What else is changed in a transaction.
pub(super) type Change<'a> = dyn FnMut(&mut Tables<'_>) -> Result<()> + 'a;

/// Writes what is recent into the universe, and how far each container is in it.
fn index(
    universe: &Universe,
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
    for appended in recent.values() {
        let end = indexed.entry(appended.location.container).or_insert(0);
        *end = (*end).max(appended.ordinal.saturating_add(1));
    }
    universe.write(|tables| {
        for (hash, appended) in rows {
            tables.place(&ChunkHash(*hash), appended.location)?;
        }
        for (number, end) in indexed {
            let mut row = tables.container(number)?;
            row.indexed = row.indexed.max(end);
            tables.put_container(number, &row)?;
        }
        for hash in healed {
            tables.remove_damaged(hash)?;
        }
        change.map_or(Ok(()), |change| change(tables))
    })
}
