//! What is on its way to a Star, by size: its disks must have room for all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use orbit_shared::session::limits::{ASSIGNMENT_ITEMS_MAX, ASSIGNMENTS_PER_STAR_MAX};

/// What one item counts for at most. No disk has room for more, and all items of a Star's assignments can be added up.
const CARRIED_BYTES_MAX: u64 = 1 << 50;
const _: () = assert!(
    CARRIED_BYTES_MAX.checked_mul((ASSIGNMENTS_PER_STAR_MAX * ASSIGNMENT_ITEMS_MAX) as u64).is_some()
);

/// Sum of the sizes of what is on its way to a Star.
#[derive(Debug, Clone, Default)]
pub(super) struct OnWay(Arc<AtomicU64>);

impl OnWay {
    /// Counts an item's bytes until the returned value is dropped.
    pub(super) fn carry(&self, bytes: u64) -> Carried {
        let bytes = bytes.min(CARRIED_BYTES_MAX);
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Carried { on_way: self.clone(), bytes }
    }

    /// Bytes of all that is on its way.
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bytes of one item that is on its way.
#[derive(Debug)]
pub(super) struct Carried {
    on_way: OnWay,
    bytes: u64,
}

impl Carried {
    /// How many they are; 0 for an item that goes only to be checked.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        let before = self.on_way.0.fetch_sub(self.bytes, Ordering::Relaxed);
        assert!(before >= self.bytes, "{before} bytes were on their way, {} arrive", self.bytes);
    }
}
