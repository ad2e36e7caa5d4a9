//! Compares a listing with a destination before anything is dispatched: which of the entries are already there,
//! unchanged?
//!
//! An answer describes the moment at which it was given, like the check at the beginning of every attempt. Nothing
//! depends on it: an entry that is not known to be unchanged becomes an item like any other.

use std::sync::Arc;

use crate::entry::Entry;

/// A question to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The path at the destination that corresponds to the source path.
    pub path: Vec<u8>,
    /// Entries of the source, in the order of the walk.
    pub entries: Vec<Arc<Entry>>,
}

/// Which of the entries are at the destination, unchanged and durable: one bit for each, by its index in the question.
/// A missing bit is 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unchanged(Vec<u8>);

impl Unchanged {
    /// From its bytes: the entry with index 8 b + i is bit i of byte b, the lowest bit first.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Its bytes, as [`Self::from_bytes`] takes them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Adds an entry.
    pub fn insert(&mut self, index: usize) {
        let byte = index / 8;
        if self.0.len() <= byte {
            self.0.resize(byte + 1, 0);
        }
        self.0[byte] |= 1 << (index % 8);
    }

    /// Whether an entry is unchanged.
    pub fn contains(&self, index: usize) -> bool {
        self.0.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
    }

    /// Whether nothing is unchanged.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_inserted_also_after_a_journey(indices in prop::collection::btree_set(0_usize..1100, 0..60)) {
            let mut unchanged = Unchanged::default();
            indices.iter().for_each(|index| unchanged.insert(*index));
            let arrived = Unchanged::from_bytes(unchanged.into_bytes());
            let held: BTreeSet<usize> = (0..1200).filter(|index| arrived.contains(*index)).collect();
            prop_assert_eq!(arrived.is_empty(), indices.is_empty());
            prop_assert_eq!(held, indices);
        }
    }
}
