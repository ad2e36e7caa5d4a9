use std::time::Duration;

use super::*;
use crate::time::Monotonic;

const START: Monotonic = Monotonic::ZERO;
const ALL: usize = usize::MAX;

fn chunk(number: u8) -> ChunkHash {
    ChunkHash([number; CHUNK_HASH_BYTES])
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
    let mut refs = RefCountMap::new();
    assert_eq!((refs.increment(&chunk(1)), refs.increment(&chunk(1))), (1, 2));
    assert_eq!(refs.decrement(&chunk(1)), 1);
    assert_eq!((refs.count(&chunk(1)), refs.count(&chunk(2))), (1, 0));
}

#[test]
fn a_chunk_without_references_is_found() {
    let mut refs = RefCountMap::new();
    refs.increment(&chunk(1));
    refs.increment(&chunk(2));
    refs.decrement(&chunk(1));
    assert_eq!(refs.zero_ref_chunks().collect::<Vec<_>>(), [&chunk(1)]);
}

#[test]
fn decrementing_too_often_or_the_unknown_stays_at_zero() {
    let mut refs = RefCountMap::new();
    assert_eq!(refs.decrement(&chunk(1)), 0);
    assert!(refs.is_empty());
    refs.increment(&chunk(1));
    assert_eq!((refs.decrement(&chunk(1)), refs.decrement(&chunk(1))), (0, 0));
    assert_eq!(refs.increment(&chunk(1)), 1);
}

#[test]
fn an_owner_counts_once_however_often_it_is_replayed() {
    let mut refs = RefCountMap::new();
    assert!(refs.increment_for(7, &chunk(1)));
    assert!(!refs.increment_for(7, &chunk(1)));
    assert!(refs.increment_for(8, &chunk(1)));
    assert_eq!(refs.count(&chunk(1)), 2);
    assert!(refs.decrement_for(7, &chunk(1)));
    assert!(!refs.decrement_for(7, &chunk(1)));
    assert_eq!(refs.count(&chunk(1)), 1);
}

#[test]
fn an_anonymous_release_cannot_take_an_owners_reference() {
    let mut refs = RefCountMap::new();
    refs.increment_for(7, &chunk(1));
    assert_eq!(refs.decrement(&chunk(1)), 1);
}

#[test]
fn removing_an_owner_gives_the_chunks_that_only_it_held() {
    let mut refs = RefCountMap::new();
    for (owner, number) in [(1, 0), (1, 255), (1, 5), (2, 5), (0, 9), (2, 9)] {
        refs.increment_for(owner, &chunk(number));
    }
    assert_eq!(refs.remove_owner(&1), [chunk(0), chunk(255)]);
    assert_eq!((refs.count(&chunk(5)), refs.count(&chunk(9))), (1, 2));
    assert!(refs.remove_owner(&1).is_empty());
}

#[test]
fn a_pin_protects_whatever_the_count_and_ends_with_its_holder() {
    let mut refs = RefCountMap::new();
    refs.load(chunk(1), 0);
    assert!(refs.pin(3, &chunk(1)) && !refs.pin(3, &chunk(1)) && refs.pin(4, &chunk(1)));
    assert!(!refs.is_reclaimable(&chunk(1)));
    assert_eq!(refs.unpin_all(&3), 1);
    assert!(refs.is_pinned(&chunk(1)));
    assert!(refs.unpin(4, &chunk(1)) && !refs.unpin(4, &chunk(1)));
    assert!(refs.is_reclaimable(&chunk(1)));
}

#[test]
fn statistics_follow_without_a_scan() {
    let mut refs = RefCountMap::new();
    refs.increment(&chunk(1));
    refs.increment_for(7, &chunk(1));
    refs.load(chunk(2), 5);
    refs.load(chunk(2), 3);
    refs.load(chunk(3), 0);
    refs.pin(1, &chunk(3));
    let expected = RefCountStats { total_chunks: 3, zero_ref_chunks: 1, total_references: 5, total_pins: 1 };
    assert_eq!(refs.stats(), expected);
    assert_eq!(refs.len(), 3);
}

#[test]
fn remove_forgets_an_unreferenced_chunk_and_counting_starts_again() {
    let mut refs = RefCountMap::new();
    refs.increment(&chunk(1));
    refs.decrement(&chunk(1));
    assert!(refs.remove(&chunk(1)));
    assert_eq!((refs.len(), refs.zero_ref_chunks().count()), (0, 0));
    assert_eq!(refs.increment(&chunk(1)), 1);
}

#[test]
fn remove_refuses_what_is_referenced_pinned_or_unknown() {
    let mut refs = RefCountMap::new();
    assert!(!refs.remove(&chunk(1)));
    refs.increment(&chunk(1));
    refs.pin(1, &chunk(2));
    assert!(!refs.remove(&chunk(1)) && !refs.remove(&chunk(2)));
    assert_eq!(refs.count(&chunk(1)), 1);
}

#[test]
fn load_overwrites_and_zero_appears_in_the_zero_list() {
    let mut refs = RefCountMap::new();
    refs.load(chunk(1), 5);
    refs.load(chunk(1), 2);
    refs.load(chunk(2), 0);
    assert_eq!(refs.count(&chunk(1)), 2);
    assert_eq!(refs.zero_ref_chunks().collect::<Vec<_>>(), [&chunk(2)]);
}

#[test]
fn none_or_all_chunks_may_be_at_zero() {
    let mut refs = RefCountMap::new();
    let all: Vec<_> = (0..9).map(chunk).collect();
    all.iter().for_each(|hash| assert_eq!(refs.increment(hash), 1));
    assert_eq!(refs.zero_ref_chunks().count(), 0);
    all.iter().for_each(|hash| assert_eq!(refs.decrement(hash), 0));
    assert!(refs.zero_ref_chunks().eq(&all));
}

#[test]
fn nothing_is_collected_before_it_is_confirmed() {
    let (mut gc, refs) = (collector(), RefCountMap::new());
    let tokens = [1, 2].map(|number| gc.mark_reclaimable(START, chunk(number)));
    assert!(gc.collect(START, &refs, ALL).is_empty());
    assert_eq!((gc.pending_count(), gc.ready_count()), (2, 0));
    for (number, token) in [1, 2].into_iter().zip(tokens) {
        assert!(gc.confirm_wal_synced(&chunk(number), token));
        assert!(gc.is_wal_synced(&chunk(number)));
    }
    let tickets = gc.collect(START, &refs, ALL);
    assert_eq!(hashes(&tickets), [chunk(1), chunk(2)]);
    assert_eq!(gc.total_collected(), 0);
    assert!(tickets.iter().all(|ticket| gc.acknowledge(ticket)));
    assert_eq!(gc.total_collected(), 2);
}

#[test]
fn a_confirmation_is_for_one_chunk_only() {
    let (mut gc, refs) = (collector(), RefCountMap::new());
    mark_and_confirm(&mut gc, START, chunk(1));
    gc.mark_reclaimable(START, chunk(2));
    assert!(!gc.is_wal_synced(&chunk(2)));
    assert_eq!(hashes(&gc.collect(START, &refs, ALL)), [chunk(1)]);
}

#[test]
fn a_confirmation_of_an_older_mark_does_not_release_a_newer_one() {
    let (mut gc, refs) = (collector(), RefCountMap::new());
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
    let (mut gc, mut refs) = (collector(), RefCountMap::new());
    mark_and_confirm(&mut gc, START, chunk(1));
    refs.increment(&chunk(1));
    assert_eq!(gc.on_referenced(&chunk(1)), Cancellation::Cancelled);
    assert_eq!(gc.on_referenced(&chunk(1)), Cancellation::NotMarked);
    assert!(gc.collect(START, &refs, ALL).is_empty());
}

#[test]
fn collect_checks_the_counts_even_without_a_cancellation() {
    let (mut gc, mut refs) = (collector(), RefCountMap::new());
    mark_and_confirm(&mut gc, START, chunk(1));
    refs.increment(&chunk(1));
    assert!(gc.collect(START, &refs, ALL).is_empty());
    refs.decrement(&chunk(1));
    assert!(gc.collect(START, &refs, ALL).is_empty(), "the mark is gone and the chunk must be marked again");
    assert_eq!(gc.mark_token(&chunk(1)), None);
}

#[test]
fn a_pinned_chunk_waits_for_its_pin() {
    let (mut gc, mut refs) = (collector(), RefCountMap::new());
    mark_and_confirm(&mut gc, START, chunk(1));
    refs.pin(1, &chunk(1));
    assert!(gc.collect(START, &refs, ALL).is_empty());
    refs.unpin_all(&1);
    assert_eq!(hashes(&gc.collect(START, &refs, ALL)), [chunk(1)]);
}

#[test]
fn marking_twice_is_marking_once() {
    let (mut gc, refs) = (collector(), RefCountMap::new());
    let token = mark_and_confirm(&mut gc, START, chunk(1));
    assert_eq!(gc.mark_reclaimable(START, chunk(1)), token);
    assert!(gc.is_wal_synced(&chunk(1)));
    assert_eq!(gc.collect(START, &refs, ALL).len(), 1);
    gc.mark_reclaimable(START, chunk(1));
    assert!(gc.collect(START, &refs, ALL).is_empty());
}

#[test]
fn a_second_collect_returns_nothing_again() {
    let (mut gc, refs) = (collector(), RefCountMap::new());
    mark_and_confirm(&mut gc, START, chunk(1));
    assert_eq!(gc.collect(START, &refs, ALL).len(), 1);
    assert!(gc.collect(START, &refs, ALL).is_empty());
    assert_eq!(gc.deleting_count(), 1);
}

#[test]
fn confirming_what_is_not_marked_changes_nothing() {
    let mut gc = collector();
    let token = gc.mark_reclaimable(START, chunk(1));
    assert!(!gc.confirm_wal_synced(&chunk(2), token));
    assert_eq!((gc.pending_count(), gc.ready_count()), (1, 0));
}

#[test]
fn a_failed_deletion_is_ready_again_and_an_acknowledged_one_is_not() {
    let (mut gc, refs) = (collector(), RefCountMap::new());
    mark_and_confirm(&mut gc, START, chunk(1));
    let ticket = gc.collect(START, &refs, ALL)[0];
    assert!(gc.deletion_failed(&ticket) && !gc.deletion_failed(&ticket));
    let again = gc.collect(START, &refs, ALL)[0];
    assert!(gc.acknowledge(&again) && !gc.acknowledge(&again));
    assert!(gc.collect(START, &refs, ALL).is_empty());
    assert_eq!((gc.total_collected(), gc.deleting_count()), (1, 0));
}

#[test]
fn a_reference_to_a_chunk_being_deleted_is_too_late() {
    let (mut gc, mut refs) = (collector(), RefCountMap::new());
    mark_and_confirm(&mut gc, START, chunk(1));
    let ticket = gc.collect(START, &refs, ALL)[0];
    refs.increment(&chunk(1));
    assert_eq!(gc.on_referenced(&chunk(1)), Cancellation::BeingDeleted);
    assert!(gc.deletion_failed(&ticket));
    assert!(gc.collect(START, &refs, ALL).is_empty());
}

#[test]
fn the_undo_window_applies_to_its_end_and_early_collection_ignores_it() {
    let refs = RefCountMap::new();
    let mut gc = GarbageCollector::new(GcConfig { undo_window: Duration::from_secs(10) });
    mark_and_confirm(&mut gc, START, chunk(9));
    mark_and_confirm(&mut gc, Monotonic::from_ms(1), chunk(1));
    assert!(gc.collect(Monotonic::from_ms(9_999), &refs, ALL).is_empty());
    assert_eq!(gc.plan(Monotonic::from_ms(10_000), &refs, ALL), [chunk(9)]);
    assert_eq!(hashes(&gc.clone().collect(Monotonic::from_ms(10_000), &refs, ALL)), [chunk(9)]);
    gc.mark_reclaimable(START, chunk(2));
    assert_eq!(hashes(&gc.collect_early(&refs, 1)), [chunk(9)], "oldest first");
    assert_eq!(hashes(&gc.collect_early(&refs, ALL)), [chunk(1)], "the unconfirmed one stays");
}

#[test]
fn collection_is_bounded_and_a_plan_changes_nothing() {
    let (mut gc, refs) = (collector(), RefCountMap::new());
    for number in 0..10 {
        mark_and_confirm(&mut gc, START, chunk(number));
    }
    assert_eq!(gc.plan(START, &refs, 4), hashes(&gc.clone().collect(START, &refs, 4)));
    assert_eq!(gc.collect(START, &refs, 4).len(), 4);
    assert_eq!(gc.ready_count(), 6);
    assert!(gc.collect(START, &refs, 0).is_empty());
}

#[test]
fn no_state_is_lost_in_a_crash() {
    let refs = RefCountMap::new();
    let config = GcConfig { undo_window: Duration::from_secs(10) };
    let mut gc = GarbageCollector::new(config);
    mark_and_confirm(&mut gc, START, chunk(1));
    let pending = gc.mark_reclaimable(START, chunk(2));
    let ticket = gc.collect_early(&refs, 1)[0];
    let json = serde_json::to_string(&gc.snapshot(Monotonic::from_ms(4_000))).unwrap();

    let restarted = Monotonic::from_ms(5);
    let mut gc = GarbageCollector::restore(config, restarted, &serde_json::from_str(&json).unwrap());
    assert!(!gc.acknowledge(&ticket), "a ticket of the process before is not out any more");
    assert_eq!((gc.pending_count(), gc.ready_count(), gc.deleting_count()), (1, 1, 0));
    assert!(gc.collect(Monotonic::from_ms(6_004), &refs, ALL).is_empty());
    assert_eq!(hashes(&gc.collect(Monotonic::from_ms(6_005), &refs, ALL)), [chunk(1)]);
    assert!(gc.confirm_wal_synced(&chunk(2), pending));
    assert_ne!(gc.mark_reclaimable(START, chunk(3)), pending);
}

#[test]
fn a_chunk_goes_through_its_whole_life() {
    let (mut gc, mut refs) = (collector(), RefCountMap::new());
    refs.increment(&chunk(1));
    assert_eq!(refs.decrement(&chunk(1)), 0);
    mark_and_confirm(&mut gc, START, chunk(1));
    let ticket = gc.collect(START, &refs, ALL)[0];
    assert!(gc.acknowledge(&ticket) && refs.remove(&chunk(1)));
    assert_eq!(gc.mark_token(&chunk(1)), None);
    assert!(refs.is_empty());
}
