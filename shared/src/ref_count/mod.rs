//! Reference counts of chunks, pins, and the collector of unreferenced chunks.
//!
//! [`RefCountMap`] counts the references to each chunk. The counts are in a [`CountStore`]: the index of a vault, which
//! is on the disk and has other facts about the chunk in the same row. [`Pins`] protects the chunks that a running job
//! needs although nothing references them yet. [`GarbageCollector`] leads an unreferenced chunk through mark, confirmation
//! that the index is durable, undo window, and deletion. The counts and the pins decide: the collector asks for both again
//! before it permits a deletion, so a mark is only a hint.
//!
//! None of them deletes anything. The vault removes rows of its index and rewrites containers to free the space.

mod collector;
#[cfg(test)]
mod model_tests;
mod pins;
#[cfg(test)]
mod tests;

pub use self::collector::{Cancellation, CollectTicket, GarbageCollector, GcConfig, MarkToken};
pub use self::pins::Pins;
use crate::chunk_hash::ChunkHash;

/// What the collector asks before it permits a deletion.
pub trait References {
    /// Number of references to the chunk; 0 if it is not known.
    fn count(&self, hash: &ChunkHash) -> u64;

    /// Whether the chunk is pinned.
    fn is_pinned(&self, hash: &ChunkHash) -> bool;

    /// Whether the chunk is neither referenced nor pinned.
    fn is_reclaimable(&self, hash: &ChunkHash) -> bool {
        !self.is_pinned(hash) && self.count(hash) == 0
    }
}

/// The count of one chunk.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Number of references to it.
    pub references: u32,
    /// When it lost the last reference, or was found without one, in seconds since 1970; 0 if it is not marked.
    pub marked: u64,
}

/// Where a [`RefCountMap`] has its counts.
pub trait CountStore {
    /// Why the store cannot be read or written.
    type Error;

    /// Calls `change` with the count of a chunk, or `None` if it is not known, and stores what it returns; `None` changes
    /// nothing. A chunk that was not known is known then. Everything else that is stored of a chunk stays.
    ///
    /// # Errors
    /// The store cannot be read or written.
    fn update(
        &mut self,
        hash: &ChunkHash,
        change: &mut dyn FnMut(Option<Count>) -> Option<Count>,
    ) -> Result<(), Self::Error>;

    /// Forgets a chunk.
    ///
    /// # Errors
    /// The store cannot be written.
    fn forget(&mut self, hash: &ChunkHash) -> Result<(), Self::Error>;
}

/// Counts the references to chunks, and marks those that have none.
///
/// A count does not overflow and does not fall below zero. A chunk stays known at zero references, with the time of its
/// mark, until [`RefCountMap::remove`]. A reference removes the mark.
#[derive(Debug, Default, Clone)]
pub struct RefCountMap<S> {
    store: S,
}

impl<S> RefCountMap<S> {
    /// Counts in this store.
    pub fn new(store: S) -> Self {
        Self { store }
    }

    /// The store, for the other facts that it has.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, for changes of the other facts that it has.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }
}

impl<S: CountStore> RefCountMap<S> {
    /// Adds `by` references. A chunk that is not known is counted too: it may be stored later.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn increment(&mut self, hash: &ChunkHash, by: u32) -> Result<u32, S::Error> {
        let mut after = 0;
        self.store.update(hash, &mut |count| {
            after = count.unwrap_or_default().references.saturating_add(by);
            Some(Count { references: after, marked: 0 })
        })?;
        Ok(after)
    }

    /// Removes a reference, and marks the chunk if it was the last one. Returns the references that remain. A chunk that
    /// is not known stays unknown.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn decrement(&mut self, hash: &ChunkHash, now: u64) -> Result<u32, S::Error> {
        let mut after = 0;
        self.store.update(hash, &mut |count| {
            after = count?.references.saturating_sub(1);
            let marked = if after == 0 { now.max(1) } else { 0 };
            Some(Count { references: after, marked })
        })?;
        Ok(after)
    }

    /// Marks a chunk that never had a reference. One that has a reference or a mark is not changed.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn mark(&mut self, hash: &ChunkHash, now: u64) -> Result<(), S::Error> {
        self.store.update(hash, &mut |count| {
            count
                .filter(|count| *count == Count::default())
                .map(|count| Count { marked: now.max(1), ..count })
        })
    }

    /// Forgets a chunk that is no longer stored. Returns `false` and does nothing if it is referenced or not known.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn remove(&mut self, hash: &ChunkHash) -> Result<bool, S::Error> {
        let mut is_free = false;
        self.store.update(hash, &mut |count| {
            is_free = count.is_some_and(|count| count.references == 0);
            None
        })?;
        if is_free {
            self.store.forget(hash)?;
        }
        Ok(is_free)
    }
}
