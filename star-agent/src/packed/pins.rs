//! The chunks in memory: those that are newer than the universe, those that a stage needs although no snapshot does, and
//! those that a collection is about to remove.

#![expect(clippy::disallowed_types, reason = "only membership is asked; what is iterated is sorted first")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::container::AppendedChunk;
use orbit_shared::ref_count::{GarbageCollector, Pins};

use super::types::{ChunkRef, DamagedChunk, StageId};
use super::universe::Location;

/// A hasher for keys that are hashes already.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn write_usize(&mut self, _: usize) {}
}

type Build = BuildHasherDefault<Identity>;
pub(super) type ByHash<T> = HashMap<[u8; 32], T, Build>;

/// Where a chunk was appended that is newer than the universe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Appended {
    pub(super) location: Location,
    /// Index of the chunk in its container, from 0.
    pub(super) ordinal: u32,
    pub(super) sequence: u64,
}

impl From<AppendedChunk> for Appended {
    fn from(chunk: AppendedChunk) -> Self {
        let location = Location::of(chunk.container, &chunk.entry);
        Self { location, ordinal: chunk.ordinal, sequence: chunk.sequence }
    }
}

/// Chunks that are newer than the universe.
pub(super) type Recent = ByHash<Appended>;

/// What memory knows of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recall {
    /// It is at this place.
    At(Location),
    /// It is being collected: its row in the universe does not count.
    Going,
    /// The universe must be read.
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) recent: Recent,
    /// Chunks that are being written into the universe.
    pub(super) frozen: Option<Arc<Recent>>,
    /// The chunks that stages need.
    pins: Pins<StageId>,
    /// Bytes that came with each stage.
    new_bytes: BTreeMap<StageId, u64>,
    /// The collector of the collection that is removing chunks now.
    pub(super) collector: Option<GarbageCollector>,
    /// The fault that a test injects: chunks that are being removed count as stored.
    #[cfg(test)]
    pub(super) hides_removal: bool,
    losses: u64,
    /// How often chunks were given up because the disk was full.
    pub(super) losses_to_full_disk: u64,
    pub(super) damaged: BTreeMap<ChunkHash, DamagedChunk>,
    /// Chunks that were damaged and have been stored again, not yet recorded in the universe.
    pub(super) healed: Vec<ChunkHash>,
}

impl Memory {
    pub(super) fn recall(&self, hash: &ChunkHash) -> Recall {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.get(hash.as_bytes()));
        match self.recent.get(hash.as_bytes()).or_else(frozen) {
            Some(appended) => Recall::At(appended.location),
            None if self.is_deleting(hash) => Recall::Going,
            None => Recall::Unknown,
        }
    }

    fn is_deleting(&self, hash: &ChunkHash) -> bool {
        #[cfg(test)]
        if self.hides_removal {
            return false;
        }
        self.collector.as_ref().is_some_and(|collector| collector.is_deleting(hash))
    }

    /// From now on the stage needs the chunk. A collection that has marked it leaves it alone, unless it is too late:
    /// then [`Memory::recall`] says so, and the chunk must be stored again.
    pub(super) fn pin(&mut self, stage: StageId, hash: &ChunkHash) {
        self.pins.pin(stage, hash);
        if let Some(collector) = &mut self.collector {
            collector.on_referenced(hash);
        }
    }

    /// Whether a chunk must not be collected now, whatever the universe says. One that has just been stored, or is on its way into
    /// the universe, counts too: the row that a collection has read may be the one that is being written.
    pub(super) fn is_needed(&self, hash: &ChunkHash) -> bool {
        matches!(self.recall(hash), Recall::At(_)) || self.pins.is_pinned(hash)
    }

    /// A chunk of this size came with the stage.
    pub(super) fn add_new_bytes(&mut self, stage: StageId, bytes: u64) {
        *self.new_bytes.entry(stage).or_default() += bytes;
    }

    /// Bytes that came with the stage since the store was opened.
    pub(super) fn new_bytes(&self, stage: StageId) -> u64 {
        self.new_bytes.get(&stage).copied().unwrap_or(0)
    }

    /// From now on the stage needs no chunks.
    pub(super) fn unpin_all(&mut self, stage: StageId) {
        self.pins.unpin_all(&stage);
        self.new_bytes.remove(&stage);
    }

    /// How often appended chunks were lost.
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    /// Forgets the chunks that were appended in this range, since they are lost.
    pub(super) fn lose(&mut self, (first, last): (u64, u64)) {
        self.losses += 1;
        let is_lost = |appended: &Appended| (first..=last).contains(&appended.sequence);
        let lost: Vec<_> = self
            .recent
            .iter()
            .filter(|(_, appended)| is_lost(appended))
            .map(|(hash, _)| ChunkHash(*hash))
            .collect();
        for hash in lost {
            self.recent.remove(hash.as_bytes());
        }
    }

    /// The ordinal of the last of these chunks in a container.
    pub(super) fn last_of<'a>(
        &self,
        container: u32,
        chunks: impl Iterator<Item = &'a ChunkRef>,
    ) -> Option<u32> {
        let appended = chunks.filter_map(|chunk| self.recent.get(chunk.hash.as_bytes()));
        appended.filter(|appended| appended.location.container == container).map(|found| found.ordinal).max()
    }

    /// Forgets the chunks of a container after the first `kept` ones: they were given up on a full disk.
    pub(super) fn lose_behind(&mut self, container: u32, kept: usize) {
        self.losses += 1;
        self.losses_to_full_disk += 1;
        self.recent.retain(|_, appended| {
            appended.location.container != container || (appended.ordinal as usize) < kept
        });
    }

    /// Forgets the chunks in these containers: their files are not those that were written.
    pub(super) fn lose_in(&mut self, numbers: &BTreeSet<u32>) {
        self.losses += 1;
        self.recent.retain(|_, appended| !numbers.contains(&appended.location.container));
    }

    /// Takes the durable chunks out of `recent`, for the universe.
    pub(super) fn freeze(&mut self, durable: u64) -> Arc<Recent> {
        let is_all = self.recent.values().all(|appended| appended.sequence <= durable);
        let frozen = if is_all {
            std::mem::take(&mut self.recent)
        } else {
            self.recent.extract_if(|_, appended| appended.sequence <= durable).collect()
        };
        let frozen = Arc::new(frozen);
        self.frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// What was frozen is in the universe, or must be tried again. A chunk that was stored again while it was being collected
    /// has a new place there now, which a collection of the old one leaves alone.
    pub(super) fn thaw(&mut self, is_indexed: bool) {
        let Some(frozen) = self.frozen.take() else { return };
        for (hash, appended) in frozen.iter() {
            if is_indexed {
                if let Some(collector) = &mut self.collector {
                    collector.on_stored_again(&ChunkHash(*hash));
                }
            } else {
                self.recent.entry(*hash).or_insert(*appended);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use orbit_shared::ref_count::{GcConfig, References};
    use orbit_shared::time::Monotonic;

    /// Nothing needs a chunk.
    struct Free;

    impl References for Free {
        fn count(&self, _: &ChunkHash) -> u64 {
            0
        }

        fn is_pinned(&self, _: &ChunkHash) -> bool {
            false
        }
    }

    const STAGE: StageId = StageId { job: orbit_shared::words::JobId(1), destination: 0 };

    #[test]
    fn a_chunk_is_needed_from_its_storing_until_it_is_in_the_universe_and_while_a_stage_pins_it() {
        let hash = ChunkHash::of(b"content");
        let appended = Appended { location: Location::NOWHERE, ordinal: 0, sequence: 1 };
        let mut memory = Memory::default();
        assert!(!memory.is_needed(&hash));
        memory.recent.insert(*hash.as_bytes(), appended);
        assert!(memory.is_needed(&hash));
        let frozen = memory.freeze(1);
        assert!(frozen.len() == 1 && memory.is_needed(&hash), "its row may be the one that is written now");
        memory.thaw(true);
        assert!(!memory.is_needed(&hash));
        memory.pin(STAGE, &hash);
        assert!(memory.is_needed(&hash));
        memory.unpin_all(STAGE);
        assert!(!memory.is_needed(&hash));
    }

    #[test]
    fn a_chunk_that_is_stored_again_while_it_goes_is_asked_for_in_the_universe_once_it_is_there() {
        let hash = ChunkHash::of(b"content");
        let appended = Appended { location: Location::NOWHERE, ordinal: 0, sequence: 1 };
        let mut memory = Memory::default();
        let mut collector = GarbageCollector::new(GcConfig { undo_window: std::time::Duration::ZERO });
        let token = collector.mark_reclaimable(Monotonic::ZERO, hash);
        assert!(collector.confirm_wal_synced(&hash, token));
        memory.collector = Some(collector.clone());
        memory.pin(STAGE, &hash);
        assert!(collector.collect_early(&Free, 1).len() == 1, "nothing needs it");
        let cancelled = memory.collector.replace(collector).expect("it was put there");
        assert_eq!(cancelled.mark_count(), 0, "a pin cancels the mark");
        assert_eq!(memory.recall(&hash), Recall::Going);
        memory.recent.insert(*hash.as_bytes(), appended);
        memory.freeze(1);
        assert_eq!(memory.recall(&hash), Recall::At(Location::NOWHERE));
        memory.thaw(true);
        assert_eq!(memory.recall(&hash), Recall::Unknown);
    }
}
