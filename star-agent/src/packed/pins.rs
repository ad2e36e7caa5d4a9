//! What is in memory of chunks: those that are newer than the universe, and who needs which although no snapshot holds it.
//!
//! A pin is eight bytes of a hash. Two chunks that share them pin each other, which keeps one too many and never one too
//! few.

#![expect(clippy::disallowed_types, reason = "only membership is asked; what is iterated is sorted first")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use orbit_shared::chunk_hash::ChunkHash;

use super::containers::Appended;
use super::types::{ChunkRef, DamagedChunk, StageId};
use super::universe::Location;

/// A hasher for what is a hash already.
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

/// Chunks that are newer than the universe.
pub(super) type Recent = ByHash<Appended>;

fn short(hash: &ChunkHash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// What memory says of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recall {
    /// It lies here.
    At(Location),
    /// It is being collected: what the universe says of it does not count.
    Going,
    /// The universe must be asked.
    Unknown,
}

/// What one stage needs.
#[derive(Debug, Default)]
struct Pins {
    chunks: HashSet<u64, Build>,
    new_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) recent: Recent,
    /// What is on its way into the universe.
    pub(super) frozen: Option<Arc<Recent>>,
    pins: BTreeMap<StageId, Pins>,
    deleting: HashSet<[u8; 32], Build>,
    losses: u64,
    /// How often something was given up because the disk was full.
    pub(super) losses_to_full_disk: u64,
    pub(super) damaged: BTreeMap<ChunkHash, DamagedChunk>,
    /// Chunks that were damaged and have been stored again; the universe has not heard of it.
    pub(super) healed: Vec<ChunkHash>,
}

impl Memory {
    pub(super) fn recall(&self, hash: &ChunkHash) -> Recall {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.get(hash.as_bytes()));
        match self.recent.get(hash.as_bytes()).or_else(frozen) {
            Some(appended) => Recall::At(appended.location),
            None if self.deleting.contains(hash.as_bytes()) => Recall::Going,
            None => Recall::Unknown,
        }
    }

    /// The stage needs the chunk from now on.
    pub(super) fn pin(&mut self, stage: StageId, hash: &ChunkHash) {
        self.pins.entry(stage).or_default().chunks.insert(short(hash));
    }

    pub(super) fn is_pinned(&self, hash: &ChunkHash) -> bool {
        let short = short(hash);
        self.pins.values().any(|pins| pins.chunks.contains(&short))
    }

    /// A chunk of so many bytes came with the stage.
    pub(super) fn add_new_bytes(&mut self, stage: StageId, bytes: u64) {
        self.pins.entry(stage).or_default().new_bytes += bytes;
    }

    /// Bytes that came with the stage since the store was opened.
    pub(super) fn new_bytes(&self, stage: StageId) -> u64 {
        self.pins.get(&stage).map_or(0, |pins| pins.new_bytes)
    }

    /// The stage needs nothing any more.
    pub(super) fn unpin_all(&mut self, stage: StageId) {
        self.pins.remove(&stage);
    }

    /// The chunk is about to leave the universe. Whoever asks for it from now on is told that it is not there.
    pub(super) fn begin_delete(&mut self, hash: &ChunkHash) {
        self.deleting.insert(*hash.as_bytes());
    }

    pub(super) fn end_delete(&mut self, hash: &ChunkHash) {
        self.deleting.remove(hash.as_bytes());
    }

    /// How often something that was appended has been lost.
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    /// Forgets what was appended in this range, since it is lost.
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

    /// Which chunk of a container is the last of these, by its ordinal.
    pub(super) fn last_of<'a>(
        &self,
        container: u32,
        chunks: impl Iterator<Item = &'a ChunkRef>,
    ) -> Option<u32> {
        let appended = chunks.filter_map(|chunk| self.recent.get(chunk.hash.as_bytes()));
        appended.filter(|appended| appended.location.container == container).map(|found| found.ordinal).max()
    }

    /// Forgets what was appended to a container behind its first `kept` chunks: it was given up on a full disk.
    pub(super) fn lose_behind(&mut self, container: u32, kept: usize) {
        self.losses += 1;
        self.losses_to_full_disk += 1;
        self.recent.retain(|_, appended| {
            appended.location.container != container || (appended.ordinal as usize) < kept
        });
    }

    /// Forgets what lies in these containers: their files are not what was written.
    pub(super) fn lose_in(&mut self, numbers: &BTreeSet<u32>) {
        self.losses += 1;
        self.recent.retain(|_, appended| !numbers.contains(&appended.location.container));
    }

    /// Takes what is durable out of `recent`, for the universe.
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
                self.deleting.remove(hash);
            } else {
                self.recent.entry(*hash).or_insert(*appended);
            }
        }
    }
}
