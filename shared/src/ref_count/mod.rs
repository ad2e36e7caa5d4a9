//! Reference counts of chunks, and the collector of unreferenced ones.
//!
//! [`RefCountMap`] counts the references to a chunk. [`GarbageCollector`] leads an unreferenced chunk through mark,
//! durable removal from the index, undo window and deletion. The map decides: the collector asks it again before it
//! permits a deletion, so a mark is only a hint.
//!
//! Neither deletes anything. The vault decides which containers are rewritten to free the space.

mod collector;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use self::collector::{
    Cancellation, CollectTicket, GarbageCollector, GcConfig, GcSnapshot, MarkSnapshot, MarkToken,
};
use crate::chunk_hash::{CHUNK_HASH_BYTES, ChunkHash};

/// What the collector asks before it permits a deletion. A [`RefCountMap`] answers from memory; the index of a vault,
/// which can be far larger, from disk.
pub trait References {
    /// Number of references to the chunk; 0 if it is not known.
    fn count(&self, hash: &ChunkHash) -> u64;

    /// Whether the chunk is pinned.
    fn is_pinned(&self, hash: &ChunkHash) -> bool;

    /// Whether the chunk is neither referenced nor pinned.
    fn is_reclaimable(&self, hash: &ChunkHash) -> bool {
        self.count(hash) == 0 && !self.is_pinned(hash)
    }
}

impl<O: Ord + Clone> References for RefCountMap<O> {
    fn count(&self, hash: &ChunkHash) -> u64 {
        Self::count(self, hash)
    }

    fn is_pinned(&self, hash: &ChunkHash) -> bool {
        Self::is_pinned(self, hash)
    }
}

/// Totals over a [`RefCountMap`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RefCountStats {
    /// Number of known chunks, referenced or not.
    pub total_chunks: u64,
    /// Number of chunks without a reference, pinned or not.
    pub zero_ref_chunks: u64,
    /// Number of references to all chunks.
    pub total_references: u64,
    /// Number of pins on all chunks.
    pub total_pins: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Entry {
    /// Number of references without an owner.
    anonymous: u64,
    owners: u64,
    pins: u64,
}

impl Entry {
    fn references(&self) -> u64 {
        self.anonymous.saturating_add(self.owners)
    }
}

/// The references to chunks.
///
/// References belong to owners of type `O`, such as snapshots. Adding or removing one twice is the same as once, so a
/// replayed journal cannot count twice. [`RefCountMap::increment`] and [`RefCountMap::decrement`] count without an
/// owner, for callers that can guarantee that each of their calls happens once.
///
/// A **pin** is a short-lived reference of a running assignment. It also belongs to an `O`; the end of the assignment's
/// lease removes all of its pins at once.
///
/// A chunk stays known at zero references until [`RefCountMap::remove`]. All operations are O(log n).
#[derive(Debug, Clone)]
pub struct RefCountMap<O = u64> {
    entries: BTreeMap<ChunkHash, Entry>,
    /// The entries without references, so that they need not be searched.
    zero: BTreeSet<ChunkHash>,
    owned: BTreeSet<(O, ChunkHash)>,
    pinned: BTreeSet<(O, ChunkHash)>,
    total_references: u64,
}

impl<O> Default for RefCountMap<O> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            zero: BTreeSet::new(),
            owned: BTreeSet::new(),
            pinned: BTreeSet::new(),
            total_references: 0,
        }
    }
}

impl RefCountMap {
    /// An empty map whose owners are numbers.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<O: Ord + Clone> RefCountMap<O> {
    /// Adds a reference without an owner and returns the new count.
    pub fn increment(&mut self, hash: &ChunkHash) -> u64 {
        self.change(hash, |entry| entry.anonymous = entry.anonymous.saturating_add(1))
    }

    /// Removes a reference without an owner and returns the new count. An unknown chunk stays unknown, and without such
    /// a reference nothing changes; the references of owners are not affected.
    pub fn decrement(&mut self, hash: &ChunkHash) -> u64 {
        if !self.entries.contains_key(hash) {
            return 0;
        }
        self.change(hash, |entry| entry.anonymous = entry.anonymous.saturating_sub(1))
    }

    /// Adds the owner's reference; `false` if it had one already.
    pub fn increment_for(&mut self, owner: O, hash: &ChunkHash) -> bool {
        let is_new = self.owned.insert((owner, *hash));
        if is_new {
            self.change(hash, |entry| entry.owners += 1);
        }
        is_new
    }

    /// Removes the owner's reference; `false` if it had none.
    pub fn decrement_for(&mut self, owner: O, hash: &ChunkHash) -> bool {
        let was_held = self.owned.remove(&(owner, *hash));
        if was_held {
            self.change(hash, |entry| entry.owners -= 1);
        }
        was_held
    }

    /// Removes all references of an owner and returns the chunks that have none now.
    pub fn remove_owner(&mut self, owner: &O) -> Vec<ChunkHash> {
        let mut orphans = Vec::new();
        for hash in held_by(&self.owned, owner) {
            self.decrement_for(owner.clone(), &hash);
            if self.count(&hash) == 0 {
                orphans.push(hash);
            }
        }
        orphans
    }

    /// Protects a chunk from collection, whatever its count, even one that is not known yet; `false` if the holder has
    /// already pinned it.
    pub fn pin(&mut self, holder: O, hash: &ChunkHash) -> bool {
        let is_new = self.pinned.insert((holder, *hash));
        if is_new {
            self.change(hash, |entry| entry.pins += 1);
        }
        is_new
    }

    /// Removes a pin; `false` if the holder had none on the chunk.
    pub fn unpin(&mut self, holder: O, hash: &ChunkHash) -> bool {
        let was_held = self.pinned.remove(&(holder, *hash));
        if was_held {
            self.change(hash, |entry| entry.pins -= 1);
        }
        was_held
    }

    /// Removes all pins of a holder, whose lease has ended. Returns their number.
    pub fn unpin_all(&mut self, holder: &O) -> usize {
        let held = held_by(&self.pinned, holder);
        for hash in &held {
            self.unpin(holder.clone(), hash);
        }
        held.len()
    }

    /// Number of references to the chunk; 0 if it is not known.
    pub fn count(&self, hash: &ChunkHash) -> u64 {
        self.entries.get(hash).map_or(0, Entry::references)
    }

    /// Whether the chunk is pinned.
    pub fn is_pinned(&self, hash: &ChunkHash) -> bool {
        self.entries.get(hash).is_some_and(|entry| entry.pins > 0)
    }

    /// Whether the chunk is neither referenced nor pinned.
    pub fn is_reclaimable(&self, hash: &ChunkHash) -> bool {
        self.entries.get(hash).is_none_or(|entry| entry.references() == 0 && entry.pins == 0)
    }

    /// The known chunks without a reference, in the order of their hashes; some may be pinned.
    pub fn zero_ref_chunks(&self) -> impl Iterator<Item = &ChunkHash> {
        self.zero.iter()
    }

    /// Forgets a chunk that is no longer stored. Returns `false` and does nothing if it is referenced, pinned or
    /// unknown.
    pub fn remove(&mut self, hash: &ChunkHash) -> bool {
        if !self.entries.contains_key(hash) || !self.is_reclaimable(hash) {
            return false;
        }
        self.zero.remove(hash);
        self.entries.remove(hash);
        true
    }

    /// Sets the number of references without an owner of a chunk, as read from an index; 0 makes the chunk known.
    pub fn load(&mut self, hash: ChunkHash, count: u64) {
        self.change(&hash, |entry| entry.anonymous = count);
    }

    /// Number of known chunks.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no chunk is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Totals, without a scan.
    pub fn stats(&self) -> RefCountStats {
        RefCountStats {
            total_chunks: self.entries.len() as u64,
            zero_ref_chunks: self.zero.len() as u64,
            total_references: self.total_references,
            total_pins: self.pinned.len() as u64,
        }
    }

    /// The only place where an entry changes, so that the zero set and the total are updated.
    fn change(&mut self, hash: &ChunkHash, change: impl FnOnce(&mut Entry)) -> u64 {
        let entry = self.entries.entry(*hash).or_default();
        let before = entry.references();
        change(entry);
        let after = entry.references();
        if after == 0 {
            self.zero.insert(*hash);
        } else {
            self.zero.remove(hash);
        }
        self.total_references = self.total_references.saturating_sub(before).saturating_add(after);
        after
    }
}

fn held_by<O: Ord + Clone>(held: &BTreeSet<(O, ChunkHash)>, owner: &O) -> Vec<ChunkHash> {
    let first = (owner.clone(), ChunkHash([0; CHUNK_HASH_BYTES]));
    let last = (owner.clone(), ChunkHash([u8::MAX; CHUNK_HASH_BYTES]));
    held.range(first..=last).map(|(_, hash)| *hash).collect()
}
