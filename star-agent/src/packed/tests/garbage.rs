//! Collects garbage while other threads need parts of it again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::packed::universe::Tables;
use crate::packed::{CollectOptions, CollectReport};

fn collect(store: &PackedStore, options: &CollectOptions) -> CollectReport {
    store.collect(options, &|_| {}, &|| false).unwrap()
}

/// A collection that removes all that it may.
pub(super) fn at_once() -> CollectOptions {
    CollectOptions { ignore_undo_window: true, garbage_percent_min: 1, ..CollectOptions::default() }
}

fn check(store: &PackedStore, record: &SnapshotRecord) {
    let entries = store.entries(&record.id, None, b"", usize::MAX).unwrap();
    assert_eq!(entries.len() as u64, record.entry_count);
    for entry in entries {
        assert_eq!(content(store, &entry).unwrap().len() as u64, entry.entry.size());
    }
}

#[test]
fn content_of_a_deleted_snapshot_is_removed_and_its_space_is_freed() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let (first, second) = (snapshot(&store, 1, 0..300), snapshot(&store, 2, 200..400));
    let before = store.totals().unwrap();
    assert_eq!(collect(&store, &at_once()).chunks_removed, 0, "all is needed");
    store.delete_snapshot(&first.id).unwrap();
    let plan = collect(&store, &CollectOptions { plan_only: true, ..at_once() });
    assert_eq!(
        store.totals().unwrap(),
        PackedTotals { snapshot_count: 1, ..before },
        "a plan changes nothing"
    );
    let report = collect(&store, &at_once());
    assert!(report.chunks_removed >= 400, "{report:?}");
    assert_eq!(
        (plan.chunks_reclaimable, plan.bytes_reclaimable),
        (report.chunks_reclaimable, report.bytes_reclaimable)
    );
    assert!(report.containers_kept.is_empty() && report.bytes_freed > 0, "{report:?}");
    let after = store.totals().unwrap();
    assert!(after.container_bytes * 10 < before.container_bytes * 7, "{before:?} {after:?}");
    check(&store, &second);
    assert!(store.deleted_snapshots().unwrap().is_empty());
    drop(store);
    let store = PackedStore::open(dir.path(), config()).unwrap();
    check(&store, &second);
    store.delete_snapshot(&second.id).unwrap();
    collect(&store, &at_once());
    assert_eq!(store.totals().unwrap().container_bytes, 0, "nothing is left");
}

#[test]
fn nothing_is_removed_within_the_undo_window_unless_the_disk_needs_space() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let record = snapshot(&store, 1, 0..50);
    store.delete_snapshot(&record.id).unwrap();
    let report = collect(&store, &CollectOptions::default());
    assert_eq!((report.chunks_removed, report.chunks_reclaimable), (0, 0));
    assert!(report.chunks_waiting > 100 && report.bytes_waiting > 100_000, "{report:?}");
    let pressed = CollectOptions { free_bytes_min: Some(u64::MAX), ..CollectOptions::default() };
    let report = collect(&store, &pressed);
    assert!(report.chunks_removed > 100 && report.chunks_waiting == 0, "{report:?}");
    assert!(report.bytes_freed > 100_000, "their containers are removed at once: {report:?}");
}

#[test]
fn what_a_stage_needs_is_kept_whatever_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let record = snapshot(&store, 1, 0..50);
    let entry = store.earlier(stage(2), &source(), b"dir/file-00007").unwrap().unwrap();
    store.delete_snapshot(&record.id).unwrap();
    collect(&store, &at_once());
    store.commit(stage(2), std::slice::from_ref(&entry)).unwrap();
    drop(store);
    let store = PackedStore::open(dir.path(), config()).unwrap();
    collect(&store, &at_once());
    assert_eq!(content(&store, &entry).unwrap().len() as u64, entry.entry.size());
    let again = store.seal(stage(2), &meta(2)).unwrap();
    collect(&store, &at_once());
    check(&store, &again);
    let abandoned = put_file(&store, stage(3), "x", &[noise(1000, 5000)]);
    store.commit(stage(3), &[abandoned]).unwrap();
    store.abandon(stage(3)).unwrap();
    assert_eq!(collect(&store, &at_once()).chunks_removed, 1);
    check(&store, &again);
}

const ROUNDS_MIN: u64 = 15;
const ROUNDS_MAX: u64 = 1000;

#[test]
fn collections_concurrent_with_writers_and_readers_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let kept = snapshot(&store, 1, 0..40);
    let is_done = AtomicBool::new(false);
    let removed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..2_u64)
            .map(|writer| {
                let (store, removed) = (&store, &removed);
                scope.spawn(move || {
                    // At least this many rounds, and on a busy machine until something was collected during them.
                    let rounds = (0..ROUNDS_MAX)
                        .take_while(|round| *round < ROUNDS_MIN || removed.load(Ordering::Relaxed) == 0);
                    for round in rounds {
                        // Half of what the last round has stored, which is being collected meanwhile.
                        let job = 100 + writer * ROUNDS_MAX + round;
                        let record = snapshot(store, job, round * 20..round * 20 + 40);
                        check(store, &record);
                        store.delete_snapshot(&record.id).unwrap();
                    }
                })
            })
            .collect();
        let collector = scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                removed.fetch_add(collect(&store, &at_once()).chunks_removed, Ordering::Relaxed);
                check(&store, &kept);
            }
        });
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        is_done.store(true, Ordering::Relaxed);
        collector.join().unwrap();
        ended.into_iter().for_each(|writer| writer.unwrap());
    });
    assert!(removed.into_inner() > 0, "nothing was collected beside {ROUNDS_MAX} rounds of two writers");
    check(&store, &kept);
    assert!(store.damaged().is_empty());
}

#[test]
fn what_is_stored_again_while_it_is_collected_is_there_after_the_index_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let record = snapshot(&store, 1, 0..10);
    store.delete_snapshot(&record.id).unwrap();
    let weak = Arc::downgrade(&store);
    store.windows.at("decided", move || {
        let store = weak.upgrade().unwrap();
        let again = put_file(&store, stage(2), "again", &[noise(3, 3000)]);
        store.make_durable().unwrap();
        store.flush().unwrap();
        store.commit(stage(2), &[again]).unwrap();
    });
    assert!(collect(&store, &at_once()).chunks_removed > 1);
    let record = store.seal(stage(2), &meta(2)).unwrap();
    collect(&store, &at_once());
    check(&store, &record);
}

#[test]
fn what_comes_during_a_collection_is_not_taken_for_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let large = PackedConfig { container_bytes_max: 64 << 20, ..config() };
    let store = PackedStore::open(dir.path(), large).unwrap();
    let records = [snapshot(&store, 1, 0..100), snapshot(&store, 2, 100..110)];
    store.delete_snapshot(&records[1].id).unwrap();
    // The container grows to several times its size after the survey. A tenth of its content at that time is garbage.
    let weak = Arc::downgrade(&store);
    store.windows.at("surveyed", move || {
        let record = snapshot(&weak.upgrade().unwrap(), 3, 200..600);
        assert_eq!(record.file_count, 400);
    });
    let options = CollectOptions { garbage_percent_min: 20, ..at_once() };
    let report = collect(&store, &options);
    assert!(report.chunks_removed > 0, "{report:?}");
    assert_eq!((report.containers_rewritten, report.bytes_copied), (0, 0), "{report:?}");
    check(&store, &records[0]);
}

#[test]
fn counts_equal_those_of_a_rebuilt_universe() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let records: Vec<_> = (0..6).map(|job| snapshot(&store, job, job * 10..job * 10 + 40)).collect();
    for index in [1, 4] {
        store.delete_snapshot(&records[index].id).unwrap();
    }
    store.undelete_snapshot(&records[4].id).unwrap();
    let counts = |store: &PackedStore| {
        store.flush().unwrap();
        let rows = store.universe.rows_after(None, usize::MAX).unwrap();
        rows.into_iter().map(|(hash, row)| (hash, row.references)).collect::<Vec<_>>()
    };
    let before = counts(&store);
    drop(store);
    std::fs::remove_file(dir.path().join(UNIVERSE)).unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    assert_eq!(counts(&store), before);
}

#[test]
fn nothing_is_collected_with_an_index_that_lacks_a_snapshot() {
    for is_all_gone in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = PackedStore::open(dir.path(), config()).unwrap();
        let record = snapshot(&store, 1, 0..20);
        let rows = store.universe.rows_after(None, usize::MAX).unwrap();
        let is_hidden = |hash: &ChunkHash| is_all_gone || *hash == record.root.hash;
        let hide = |tables: &mut Tables<'_>| {
            let mut hidden = rows.iter().filter(|(hash, _)| is_hidden(hash));
            hidden.try_for_each(|(hash, _)| tables.forget_blindly(hash))
        };
        store.universe.write(hide).unwrap();
        let before = store.containers.lengths();
        let refused = store.collect(&at_once(), &|_| {}, &|| false).unwrap_err();
        assert!(matches!(refused, PackedError::Universe { .. }), "{refused}");
        assert_eq!(store.containers.lengths(), before);
        drop(store);
        let store = PackedStore::open(dir.path(), config()).unwrap();
        assert!(store.opened().rebuilt.is_some());
        check(&store, &record);
        assert_eq!(collect(&store, &at_once()).chunks_removed, 0);
    }
}

#[test]
fn a_container_of_small_chunks_without_garbage_is_not_rewritten_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    // Their entries in the list of the container are a third of its bytes.
    let chunks: Vec<_> = (0..3000).map(|seed| noise(seed, 100)).collect();
    let entry = put_file(&store, stage(1), "small", &chunks);
    store.commit(stage(1), &[entry]).unwrap();
    let record = store.seal(stage(1), &meta(1)).unwrap();
    let options = CollectOptions { garbage_percent_min: 5, ..CollectOptions::default() };
    collect(&store, &options);
    let report = collect(&store, &options);
    assert_eq!((report.containers_rewritten, report.bytes_freed), (0, 0), "{report:?}");
    check(&store, &record);
}
