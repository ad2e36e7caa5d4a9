use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use super::*;
use crate::chunk_hash::CHUNK_HASH_BYTES;
use crate::time::Monotonic;

const START: Monotonic = Monotonic::ZERO;
const ALL: usize = usize::MAX;

pub(super) fn chunk(number: u8) -> ChunkHash {
    ChunkHash([number; CHUNK_HASH_BYTES])
}

/// Counts in memory.
#[derive(Debug, Default)]
pub(super) struct InMemory(pub(super) BTreeMap<ChunkHash, Count>);

impl CountStore for InMemory {
    type Error = Infallible;

    fn update(
        &mut self,
        hash: &ChunkHash,
        change: &mut dyn FnMut(Option<Count>) -> Option<Count>,
    ) -> Result<(), Infallible> {
        if let Some(count) = change(self.0.get(hash).copied()) {
            self.0.insert(*hash, count);
        }
        Ok(())
    }

    fn forget(&mut self, hash: &ChunkHash) -> Result<(), Infallible> {
        self.0.remove(hash);
        Ok(())
    }
}

/// The counts and the pins that the collector asks.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) counts: RefCountMap<InMemory>,
    pub(super) pins: Pins<u64>,
}

impl References for Held {
    fn count(&self, hash: &ChunkHash) -> u64 {
        self.counts.store().0.get(hash).map_or(0, |count| count.references.into())
    }

    fn is_pinned(&self, hash: &ChunkHash) -> bool {
        self.pins.is_pinned(hash)
    }
}

impl Held {
    fn increment(&mut self, number: u8) -> u32 {
        let Ok(count) = self.counts.increment(&chunk(number), 1);
        count
    }

    fn decrement(&mut self, number: u8, now: u64) -> u32 {
        let Ok(count) = self.counts.decrement(&chunk(number), now);
        count
    }

    fn remove(&mut self, number: u8) -> bool {
        let Ok(is_removed) = self.counts.remove(&chunk(number));
        is_removed
    }

    fn known(&self, number: u8) -> Option<Count> {
        self.counts.store().0.get(&chunk(number)).copied()
    }
}

/// A collector without undo window.
fn collector() -> GarbageCollector {
    GarbageCollector::new(GcConfig { undo_window: Duration::ZERO })
}

fn mark_and_confirm(gc: &mut GarbageCollector, now: Monotonic, hash: ChunkHash) -> MarkToken {
    let token = gc.mark_reclaimable(now, hash);
    assert!(gc.confirm_wal_synced(&hash, token));
    token
}

fn hashes(tickets: &[CollectTicket]) -> Vec<ChunkHash> {
    tickets.iter().map(|ticket| ticket.hash).collect()
}

#[test]
fn counts_rise_and_fall_and_unknown_chunks_have_none() {
    let mut refs = Held::default();
    assert_eq!((refs.increment(1), refs.increment(1)), (1, 2));
    assert_eq!(refs.decrement(1, 7), 1);
    assert_eq!((refs.count(&chunk(1)), refs.count(&chunk(2))), (1, 0));
    let Ok(many) = refs.counts.increment(&chunk(1), 5);
    assert_eq!(many, 6);
    let Ok(full) = refs.counts.increment(&chunk(1), u32::MAX);
    assert_eq!(full, u32::MAX, "a count does not overflow");
}

#[test]
fn a_chunk_is_marked_by_its_last_release_and_a_reference_removes_the_mark() {
    let mut refs = Held::default();
    refs.increment(1);
    refs.increment(1);
    refs.decrement(1, 7);
    assert_eq!(refs.known(1), Some(Count { references: 1, marked: 0 }));
    refs.decrement(1, 8);
    assert_eq!(refs.known(1), Some(Count { references: 0, marked: 8 }));
    refs.increment(1);
    assert_eq!(refs.known(1), Some(Count { references: 1, marked: 0 }));
    refs.decrement(1, 0);
    assert_eq!(refs.known(1), Some(Count { references: 0, marked: 1 }), "zero means no mark");
}

#[test]
fn only_a_chunk_that_never_had_a_reference_or_a_mark_is_marked_afterwards() {
    let mut refs = Held::default();
    refs.counts.store_mut().0.insert(chunk(1), Count::default());
    refs.increment(2);
    refs.increment(3);
    refs.decrement(3, 5);
    for number in 1..5 {
        let Ok(()) = refs.counts.mark(&chunk(number), 9);
    }
    let marked = [1, 2, 3, 4].map(|number| refs.known(number).map(|count| count.marked));
    assert_eq!(marked, [Some(9), Some(0), Some(5), None]);
}

#[test]
fn decrementing_too_often_or_the_unknown_stays_at_zero() {
    let mut refs = Held::default();
    assert_eq!((refs.decrement(1, 1), refs.known(1)), (0, None));
    refs.increment(1);
    assert_eq!((refs.decrement(1, 1), refs.decrement(1, 1)), (0, 0));
    assert_eq!(refs.increment(1), 1);
}

#[test]
fn a_pin_protects_whatever_the_count_and_ends_with_its_holder() {
    let mut refs = Held::default();
    refs.pins.pin(3, &chunk(1));
    refs.pins.pin(3, &chunk(1));
    refs.pins.pin(4, &chunk(1));
    assert!(!refs.is_reclaimable(&chunk(1)));
    refs.pins.unpin_all(&3);
    assert!(refs.is_pinned(&chunk(1)) && !refs.is_pinned(&chunk(2)));
    refs.pins.unpin_all(&4);
    assert!(refs.is_reclaimable(&chunk(1)));
}

#[test]
fn remove_forgets_an_unreferenced_chunk_and_refuses_all_others() {
    let mut refs = Held::default();
    refs.increment(1);
    assert!(!refs.remove(1) && !refs.remove(2));
    refs.decrement(1, 1);
    assert!(refs.remove(1) && !refs.remove(1));
    assert_eq!(refs.increment(1), 1, "counting starts again");
}

#[test]
fn nothing_is_collected_before_it_is_confirmed() {
    let (mut gc, refs) = (collector(), Held::default());
    let tokens = [1, 2].map(|number| gc.mark_reclaimable(START, chunk(number)));
    assert!(gc.collect(START, &refs, ALL).is_empty() && gc.collect_early(&refs, ALL).is_empty());
    for (number, token) in [1, 2].into_iter().zip(tokens) {
        assert!(gc.confirm_wal_synced(&chunk(number), token));
    }
    let tickets = gc.collect(START, &refs, ALL);
    assert_eq!(hashes(&tickets), [chunk(1), chunk(2)]);
    assert_eq!(gc.total_collected(), 0);
    assert!(tickets.iter().all(|ticket| gc.acknowledge(ticket)));
    assert_eq!((gc.total_collected(), gc.mark_count()), (2, 0));
}

#[test]
fn a_confirmation_is_for_one_chunk_only() {
    let (mut gc, refs) = (collector(), Held::default());
    mark_and_confirm(&mut gc, START, chunk(1));
    let token = gc.mark_reclaimable(START, chunk(2));
    assert!(!gc.confirm_wal_synced(&chunk(3), token));
    assert_eq!(hashes(&gc.collect(START, &refs, ALL)), [chunk(1)]);
}

#[test]
fn a_confirmation_of_an_older_mark_does_not_release_a_newer_one() {
    let (mut gc, refs) = (collector(), Held::default());
    let old = gc.mark_reclaimable(START, chunk(1));
    assert_eq!(gc.on_referenced(&chunk(1)), Cancellation::Cancelled);
    let new = gc.mark_reclaimable(START, chunk(1));
    assert_ne!(old, new);
    assert!(!gc.confirm_wal_synced(&chunk(1), old));
    assert!(gc.collect(START, &refs, ALL).is_empty());
    assert!(gc.confirm_wal_synced(&chunk(1), new));
}

#[test]
fn a_reference_after_the_mark_cancels_it() {
    let (mut gc, mut refs) = (collector(), Held::default());
    mark_and_confirm(&mut gc, START, chunk(1));
    refs.increment(1);
    assert_eq!(gc.on_referenced(&chunk(1)), Cancellation::Cancelled);
    assert_eq!(gc.on_referenced(&chunk(1)), Cancellation::NotMarked);
    assert!(gc.collect(START, &refs, ALL).is_empty());
}

#[test]
fn collect_checks_counts_and_pins_even_without_a_cancellation() {
    let (mut gc, mut refs) = (collector(), Held::default());
    mark_and_confirm(&mut gc, START, chunk(1));
    mark_and_confirm(&mut gc, START, chunk(2));
    refs.increment(1);
    refs.pins.pin(7, &chunk(2));
    assert!(gc.collect(START, &refs, ALL).is_empty());
    refs.decrement(1, 1);
    refs.pins.unpin_all(&7);
    assert!(
        gc.collect(START, &refs, ALL).is_empty(),
        "the marks are gone and the chunks must be marked again"
    );
    assert_eq!(gc.mark_count(), 0);
}

#[test]
fn marking_twice_is_marking_once() {
    let (mut gc, refs) = (collector(), Held::default());
    let token = mark_and_confirm(&mut gc, START, chunk(1));
    assert_eq!(gc.mark_reclaimable(START, chunk(1)), token);
    assert_eq!(gc.collect(START, &refs, ALL).len(), 1);
    gc.mark_reclaimable(START, chunk(1));
    assert!(gc.collect(START, &refs, ALL).is_empty());
}

#[test]
fn a_second_collect_returns_nothing_again() {
    let (mut gc, refs) = (collector(), Held::default());
    mark_and_confirm(&mut gc, START, chunk(1));
    assert_eq!(gc.collect(START, &refs, ALL).len(), 1);
    assert!(gc.collect(START, &refs, ALL).is_empty());
    assert!(gc.is_deleting(&chunk(1)) && !gc.is_deleting(&chunk(2)));
}

#[test]
fn a_failed_deletion_is_ready_again_and_an_answered_one_is_not() {
    let (mut gc, refs) = (collector(), Held::default());
    mark_and_confirm(&mut gc, START, chunk(1));
    let ticket = gc.collect(START, &refs, ALL)[0];
    assert!(gc.deletion_failed(&ticket) && !gc.deletion_failed(&ticket));
    assert!(!gc.is_deleting(&chunk(1)));
    let again = gc.collect(START, &refs, ALL)[0];
    assert!(gc.acknowledge(&again) && !gc.acknowledge(&again) && !gc.keep(&again));
    mark_and_confirm(&mut gc, START, chunk(2));
    let kept = gc.collect(START, &refs, ALL)[0];
    assert!(gc.keep(&kept) && !gc.keep(&kept));
    assert!(gc.collect(START, &refs, ALL).is_empty());
    assert_eq!((gc.total_collected(), gc.mark_count()), (1, 0));
}

#[test]
fn a_reference_to_a_chunk_being_deleted_is_too_late_and_one_stored_again_is_not_deleted() {
    let (mut gc, mut refs) = (collector(), Held::default());
    mark_and_confirm(&mut gc, START, chunk(1));
    let ticket = gc.collect(START, &refs, ALL)[0];
    refs.increment(1);
    assert_eq!(gc.on_referenced(&chunk(1)), Cancellation::BeingDeleted);
    gc.on_stored_again(&chunk(1));
    assert!(!gc.is_deleting(&chunk(1)));
    assert!(!gc.acknowledge(&ticket), "the ticket was for the copy before");
    assert!(gc.collect(START, &refs, ALL).is_empty());
    assert_eq!(gc.total_collected(), 0);
}

#[test]
fn the_undo_window_applies_to_its_end_and_early_collection_ignores_it() {
    let refs = Held::default();
    let mut gc = GarbageCollector::new(GcConfig { undo_window: Duration::from_secs(10) });
    mark_and_confirm(&mut gc, START, chunk(9));
    mark_and_confirm(&mut gc, Monotonic::from_ms(1), chunk(1));
    assert!(gc.collect(Monotonic::from_ms(9_999), &refs, ALL).is_empty());
    assert_eq!(hashes(&gc.clone().collect(Monotonic::from_ms(10_000), &refs, ALL)), [chunk(9)]);
    gc.mark_reclaimable(START, chunk(2));
    assert_eq!(hashes(&gc.collect_early(&refs, 1)), [chunk(9)], "oldest first");
    assert_eq!(hashes(&gc.collect_early(&refs, ALL)), [chunk(1)], "the unconfirmed one stays");
}

#[test]
fn collection_is_bounded() {
    let (mut gc, refs) = (collector(), Held::default());
    for number in 0..10 {
        mark_and_confirm(&mut gc, START, chunk(number));
    }
    assert_eq!(gc.collect(START, &refs, 4).len(), 4);
    assert!(gc.collect(START, &refs, 0).is_empty());
    assert_eq!((gc.collect(START, &refs, ALL).len(), gc.mark_count()), (6, 10));
}

#[test]
fn a_chunk_goes_through_its_whole_life() {
    let (mut gc, mut refs) = (collector(), Held::default());
    refs.increment(1);
    assert_eq!(refs.decrement(1, 3), 0);
    mark_and_confirm(&mut gc, START, chunk(1));
    let ticket = gc.collect(START, &refs, ALL)[0];
    assert!(refs.remove(1) && gc.acknowledge(&ticket));
    assert_eq!((gc.mark_count(), refs.known(1)), (0, None));
}
