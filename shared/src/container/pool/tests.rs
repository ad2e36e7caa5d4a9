use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::container::ContainerEntry;

const LARGE: u64 = 1 << 20;

fn temp_dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The pool of a directory; its counter is beside it.
fn open(dir: &TempDir, max_bytes: u64) -> ContainerPool {
    let containers = dir.path().join("containers");
    fs::create_dir_all(&containers).unwrap();
    ContainerPool::open(&containers, &dir.path().join("next"), max_bytes, false).unwrap()
}

fn file_count(dir: &TempDir) -> usize {
    fs::read_dir(dir.path().join("containers")).unwrap().count()
}

fn append(pool: &ContainerPool, bytes: &[u8]) -> Result<AppendedChunk, ContainerError> {
    pool.append(&mut pool.lock_appender(), ChunkHash::of(bytes), &Stored::raw(bytes))
}

/// What was appended, or lost if the sync fails, is known from the sequence numbers.
fn sync(pool: &ContainerPool) {
    if let Some(syncing) = pool.begin_sync().unwrap() {
        syncing.run().unwrap();
        assert_eq!(pool.finish_sync(&syncing, true), None);
    }
    let appender = pool.lock_appender();
    assert_eq!(appender.durable(), appender.sequence());
}

fn read(pool: &ContainerPool, chunk: &AppendedChunk) -> Vec<u8> {
    pool.read(chunk.container, &chunk.entry).unwrap().unwrap()
}

/// Every chunk that the containers list, with the number of its container.
fn listed(pool: &ContainerPool) -> Vec<(u32, ContainerEntry)> {
    let mut all = Vec::new();
    for number in pool.snapshot().into_keys() {
        let entries = pool.reader(number).unwrap().unwrap().entries().unwrap();
        all.extend(entries.into_iter().map(|entry| (number, entry)));
    }
    all.sort();
    all
}

#[test]
fn a_chunk_can_be_read_before_any_sync() {
    let dir = temp_dir();
    let pool = open(&dir, LARGE);
    let chunk = append(&pool, b"fresh").unwrap();
    assert_eq!(read(&pool, &chunk), b"fresh");
    assert_eq!((chunk.ordinal, chunk.sequence, pool.lock_appender().durable()), (0, 1, 0));
}

#[test]
fn a_chunk_larger_than_any_container_is_refused_and_leaves_nothing_behind() {
    let dir = temp_dir();
    let pool = open(&dir, 100);
    for _ in 0..3 {
        let refused = append(&pool, &[0; 101]);
        assert!(matches!(refused, Err(ContainerError::ChunkTooLarge { length: 101, max_bytes: 100 })));
    }
    assert_eq!((file_count(&dir), pool.active(), pool.total_bytes()), (0, None, 0));
    sync(&pool);
}

#[test]
fn the_pool_rotates_when_the_next_chunk_does_not_fit() {
    let dir = temp_dir();
    let pool = open(&dir, 100);
    let chunks: Vec<_> = (0..3).map(|byte| append(&pool, &[byte; 50]).unwrap()).collect();
    let containers: Vec<_> = chunks.iter().map(|chunk| chunk.container).collect();
    assert_eq!((containers, pool.active()), (vec![0, 0, 1], Some(1)));
    assert!(pool.known(0).unwrap().is_sealed && !pool.known(1).unwrap().is_sealed);
    assert_eq!(pool.lock_appender().durable(), 2, "what was sealed is durable");
    for (byte, chunk) in (0..).zip(&chunks) {
        assert_eq!(read(&pool, chunk), [byte; 50]);
    }
    assert!(pool.rotate(1).unwrap() && !pool.rotate(1).unwrap());
    assert!(pool.known(1).unwrap().is_sealed && pool.active().is_none());
}

#[test]
fn a_restarted_pool_continues_and_never_uses_a_number_again() {
    let dir = temp_dir();
    let pool = open(&dir, LARGE);
    let first = append(&pool, b"first").unwrap();
    assert!(pool.rotate(first.container).unwrap());
    let second = append(&pool, b"second").unwrap();
    sync(&pool);
    append(&pool, b"not durable").unwrap();
    drop(pool);
    let pool = open(&dir, LARGE);
    let third = append(&pool, b"third").unwrap();
    assert_eq!((third.container, third.ordinal), (second.container, 1), "the open container is continued");
    for (chunk, bytes) in [(first, &b"first"[..]), (second, b"second"), (third, b"third")] {
        assert_eq!(read(&pool, &chunk), bytes);
    }
    assert!(pool.rotate(second.container).unwrap());
    pool.remove(second.container).unwrap();
    assert!(!pool.exists(second.container) && pool.reader(second.container).unwrap().is_none());
    drop(pool);
    let pool = open(&dir, LARGE);
    assert_eq!(append(&pool, b"fourth").unwrap().container, second.container + 1);
}

#[test]
fn one_bad_container_does_not_stop_the_pool() {
    let dir = temp_dir();
    let containers = dir.path().join("containers");
    fs::create_dir(&containers).unwrap();
    fs::write(containers.join("0000000007-bad.orbitpak"), b"rubbish that is longer than a header").unwrap();
    fs::write(containers.join("0000000008-bad.orbitpak"), b"rubbish").unwrap();
    fs::write(containers.join("0000000008-bad.orbitpak.journal"), b"rubbish").unwrap();
    fs::write(containers.join("0000000009-empty.orbitpak"), b"").unwrap();
    fs::write(containers.join("notes.txt"), b"left alone").unwrap();
    let pool = open(&dir, LARGE);
    assert!(pool.known(8).unwrap().is_damaged, "it cannot be continued");
    assert_eq!(append(&pool, b"x").unwrap().container, 10);
    sync(&pool);
    assert!(pool.reader(7).is_ok() && pool.known(7).unwrap().is_damaged, "its header is no header");
    assert!(containers.join("notes.txt").exists());
    assert!(!containers.join("0000000009-empty.orbitpak").exists());
}

#[test]
fn open_files_are_bounded_and_opened_again() {
    let dir = temp_dir();
    let pool = open(&dir, 1);
    let chunks: Vec<_> = (0..70).map(|byte| append(&pool, &[byte]).unwrap()).collect();
    for _ in 0..2 {
        for (byte, chunk) in (0..).zip(&chunks) {
            assert_eq!(read(&pool, chunk), [byte]);
        }
    }
    assert_eq!(pool.readers.lock().unwrap().len(), CONTAINER_READERS_MAX);
}

#[test]
fn a_failed_sync_loses_exactly_what_was_not_durable() {
    let dir = temp_dir();
    let pool = open(&dir, LARGE);
    append(&pool, b"durable").unwrap();
    sync(&pool);
    for bytes in [&b"lost"[..], b"lost too"] {
        append(&pool, bytes).unwrap();
    }
    let syncing = pool.begin_sync().unwrap().unwrap();
    assert_eq!(pool.finish_sync(&syncing, false), Some((2, 3)));
    assert_eq!((pool.active(), pool.lock_appender().durable()), (None, 3));
    let next = append(&pool, b"next").unwrap();
    assert_eq!((next.container, next.sequence), (1, 4), "it continues in another container");
    sync(&pool);
}

#[test]
fn chunks_behind_the_needed_ones_are_given_up() {
    let dir = temp_dir();
    let pool = open(&dir, LARGE);
    append(&pool, b"durable").unwrap();
    sync(&pool);
    append(&pool, b"needed").unwrap();
    append(&pool, b"not needed").unwrap();
    let mut lost = None;
    pool.give_up_behind(|number| if number == 0 { 2 } else { 0 }, |number, kept| lost = Some((number, kept)));
    assert_eq!(lost, Some((0, 2)));
    sync(&pool);
    assert_eq!(listed(&pool).len(), 2);
}

#[test]
fn a_file_that_is_replaced_cut_or_removed_has_changed_and_one_that_grows_has_not() {
    let dir = temp_dir();
    let pool = open(&dir, 100);
    for byte in 0..7 {
        append(&pool, &[byte; 50]).unwrap();
    }
    sync(&pool);
    let changed = || pool.changed(pool.lock_appender().active_end()).unwrap();
    assert_eq!(changed(), Some(BTreeSet::new()));
    append(&pool, b"more").unwrap();
    sync(&pool);
    assert_eq!(changed(), Some(BTreeSet::new()), "the open one may grow");
    fs::remove_file(pool.path_of(0).unwrap()).unwrap();
    let cut = fs::OpenOptions::new().write(true).open(pool.path_of(1).unwrap()).unwrap();
    cut.set_len(30).unwrap();
    fs::copy(pool.path_of(2).unwrap(), dir.path().join("copy")).unwrap();
    fs::rename(dir.path().join("copy"), pool.path_of(2).unwrap()).unwrap();
    assert_eq!(changed(), Some(BTreeSet::from([0, 1, 2])));
    assert!(pool.check_file(3).is_ok() && pool.check_file(0).is_err());
    fs::rename(dir.path().join("containers"), dir.path().join("elsewhere")).unwrap();
    fs::create_dir(dir.path().join("containers")).unwrap();
    assert_eq!(changed(), None, "nothing is known about what is in another directory");
}

#[test]
fn a_second_file_with_a_used_number_gets_another_number() {
    let dir = temp_dir();
    let pool = open(&dir, LARGE);
    append(&pool, b"a").unwrap();
    assert!(pool.rotate(0).unwrap());
    let first = pool.path_of(0).unwrap();
    drop(pool);
    fs::copy(&first, first.with_file_name("0000000000-again.orbitpak")).unwrap();
    let pool = open(&dir, LARGE);
    assert_eq!(pool.snapshot().into_keys().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(listed(&pool).len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_chunks_round_trip_and_are_listed_after_a_restart(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..30),
        restarts in prop::collection::vec(any::<bool>(), 30),
    ) {
        let dir = temp_dir();
        let mut pool = open(&dir, 700);
        let mut written = Vec::new();
        for (chunk, is_restart) in chunks.iter().zip(restarts) {
            written.push(append(&pool, chunk).unwrap());
            if is_restart {
                sync(&pool);
                drop(pool);
                pool = open(&dir, 700);
            }
        }
        sync(&pool);
        for (chunk, appended) in chunks.iter().zip(&written) {
            prop_assert_eq!(&read(&pool, appended), chunk);
        }
        let mut all: Vec<_> = written.iter().map(|chunk| (chunk.container, chunk.entry)).collect();
        all.sort();
        prop_assert_eq!(listed(&pool), all);
    }
}
