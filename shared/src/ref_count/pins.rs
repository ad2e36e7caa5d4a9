//! Pins: chunks that a running job needs although nothing references them yet.
//!
//! A pin is eight bytes of a hash, since a job can pin many millions of chunks. If two chunks have the same ones, they pin
//! each other: one chunk too many is kept, and never one too few.

use std::collections::{BTreeMap, BTreeSet};

use crate::chunk_hash::ChunkHash;

/// The pins of holders of type `H`. All pins of a holder end together, for example when its job does.
#[derive(Debug, Clone)]
pub struct Pins<H> {
    held: BTreeMap<H, BTreeSet<u64>>,
}

impl<H> Default for Pins<H> {
    fn default() -> Self {
        Self { held: BTreeMap::new() }
    }
}

impl<H: Ord> Pins<H> {
    /// Protects a chunk from collection, whatever its count, even one that is not stored yet.
    pub fn pin(&mut self, holder: H, hash: &ChunkHash) {
        self.held.entry(holder).or_default().insert(short(hash));
    }

    /// Removes all pins of a holder.
    pub fn unpin_all(&mut self, holder: &H) {
        self.held.remove(holder);
    }

    /// Whether any holder has pinned the chunk.
    pub fn is_pinned(&self, hash: &ChunkHash) -> bool {
        let short = short(hash);
        self.held.values().any(|pins| pins.contains(&short))
    }
}

fn short(hash: &ChunkHash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
