//! Tests of the store's public interface.

mod damage;
mod garbage;
mod missing;
mod renames;
mod windows;

pub(super) use windows::Windows;

use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::words::{JobId, StarId};

use super::*;
use orbit_shared::chunk_hash::ChunkHash;

pub(super) const STAGE: StageId = StageId { job: JobId(7), destination: 0 };

pub(super) fn config() -> PackedConfig {
    PackedConfig {
        reserve_bytes: 0,
        container_bytes_max: 64 * 1024,
        recent_chunks_max: 16,
        ..PackedConfig::default()
    }
}

pub(super) fn stage(job: u64) -> StageId {
    StageId { job: JobId(job), destination: 0 }
}

pub(super) fn source() -> SourceName {
    SourceName { star: StarId::new("star-1").unwrap(), path: b"/data".to_vec() }
}

pub(super) fn meta(created: i64) -> SnapshotMeta {
    SnapshotMeta {
        source: source(),
        created: WallTime { seconds: created, nanos: 0 },
        tags: vec!["daily".to_owned()],
        is_partial: false,
        expected_entries: None,
        changed_count: 0,
    }
}

/// Incompressible bytes that are the same in every run.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Stores content as chunks and returns the entry of a file with it.
pub(super) fn put_file(store: &PackedStore, stage: StageId, path: &str, chunks: &[Vec<u8>]) -> TreeEntry {
    let mut refs = Vec::new();
    for bytes in chunks {
        let hash = ChunkHash::of(bytes);
        store.put(stage, hash, bytes).unwrap();
        refs.push(ChunkRef { hash, length: bytes.len() as u32 });
    }
    let size = chunks.iter().map(|bytes| bytes.len() as u64).sum();
    let kind = EntryKind::File { size };
    let modified = WallTime { seconds: 5, nanos: 6 };
    let entry = Entry { path: path.as_bytes().to_vec(), kind, mode: 0o640, modified, rank: 1 };
    TreeEntry { entry, chunks: refs }
}

pub(super) fn content(store: &PackedStore, entry: &TreeEntry) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for chunk in &entry.chunks {
        bytes.extend(store.read(&chunk.hash)?);
    }
    Ok(bytes)
}

/// A snapshot of `count` files, each of a chunk of noise and one of text.
pub(super) fn snapshot(store: &PackedStore, job: u64, seeds: std::ops::Range<u64>) -> SnapshotRecord {
    let files: Vec<_> = seeds
        .map(|seed| {
            let chunks = [noise(seed, 3000), format!("text {seed} ").repeat(200).into_bytes()];
            put_file(store, stage(job), &format!("dir/file-{seed:05}"), &chunks)
        })
        .collect();
    store.commit(stage(job), &files).unwrap();
    store.seal(stage(job), &meta(job as i64)).unwrap()
}

#[test]
fn committed_entries_survive_a_restart_and_become_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    assert!(store.is_empty());
    let chunks = [noise(1, 40_000), b"abc ".repeat(9000)];
    let file = put_file(&store, STAGE, "a/b", &chunks);
    assert_eq!(store.read(&file.chunks[0].hash).unwrap(), chunks[0], "readable at once");
    store.commit(STAGE, std::slice::from_ref(&file)).unwrap();
    assert!(!store.is_empty());
    drop(store);

    let store = PackedStore::open(dir.path(), config()).unwrap();
    assert_eq!(store.opened().rebuilt, None);
    assert_eq!(store.staged(STAGE, b"a/b").unwrap(), Some(file.clone()));
    assert_eq!(store.staged(STAGE, b"a").unwrap(), None);
    assert_eq!(content(&store, &file).unwrap(), chunks.concat());
    let record = store.seal(STAGE, &meta(1)).unwrap();
    assert_eq!((record.entry_count, record.file_count, record.total_bytes), (1, 1, 76_000));
    assert_eq!(store.seal(STAGE, &meta(1)).unwrap(), record, "again gives the same");
    drop(store);

    let store = PackedStore::open(dir.path(), config()).unwrap();
    assert_eq!(store.snapshots(), std::slice::from_ref(&record));
    assert_eq!(store.entries(&record.id, None, b"", 10).unwrap(), std::slice::from_ref(&file));
    assert_eq!(store.entry(&record.id, b"a/b").unwrap(), Some(file.clone()));
    assert_eq!(store.earlier(stage(8), &source(), b"a/b").unwrap(), Some(file));
    assert!(store.stages().is_empty());
}

#[test]
fn a_chunk_is_stored_once_and_an_entry_needs_all_of_its_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let (bytes, other) = (noise(1, 5000), noise(2, 5000));
    let (hash, missing) = (ChunkHash::of(&bytes), ChunkHash::of(&other));
    assert!(store.put(STAGE, hash, &bytes).unwrap());
    assert!(!store.put(stage(8), hash, &bytes).unwrap());
    assert_eq!(store.contains(STAGE, &[missing, hash]).unwrap(), [false, true]);
    let mut entry = put_file(&store, STAGE, "x", &[bytes]);
    entry.chunks.push(ChunkRef { hash: missing, length: 5000 });
    let error = store.commit(STAGE, &[entry]).unwrap_err();
    assert!(matches!(error, PackedError::MissingChunk { hash, .. } if hash == missing), "{error}");
    assert_eq!(store.staged(STAGE, b"x").unwrap(), None);
}

#[test]
fn a_stage_that_lacks_entries_does_not_become_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let file = put_file(&store, STAGE, "x", &[noise(1, 100)]);
    store.commit(STAGE, &[file.clone(), file]).unwrap();
    let short = SnapshotMeta { expected_entries: Some(2), ..meta(1) };
    let error = store.seal(STAGE, &short).unwrap_err();
    assert!(matches!(error, PackedError::StageIncomplete { expected: 2, found: 1, .. }), "{error}");
    // The coordinator does not know of all that was stored.
    let right = SnapshotMeta { expected_entries: Some(0), ..meta(1) };
    assert_eq!(store.seal(STAGE, &right).unwrap().entry_count, 1);
    assert_eq!(store.seal(stage(9), &meta(2)).unwrap().entry_count, 0, "a job that stored nothing");
}

#[test]
fn a_tree_of_many_new_chunks_is_sealed_while_they_go_into_the_universe() {
    let dir = tempfile::tempdir().unwrap();
    let config = PackedConfig { reserve_bytes: 0, ..PackedConfig::default() };
    let store = PackedStore::open(dir.path(), config.clone()).unwrap();
    // More than one leaf, and enough chunks for a thread.
    let file = |number: u64| put_file(&store, STAGE, &format!("{number:05}"), &[noise(number, 20)]);
    let mut files: Vec<_> = (0..5000).map(file).collect();
    store.commit(STAGE, &files).unwrap();
    assert_eq!(store.universe.chunk_count().unwrap(), 0);
    let record = store.seal(STAGE, &meta(1)).unwrap();
    drop(store);

    let store = PackedStore::open(dir.path(), config).unwrap();
    assert_eq!(store.opened().chunks_indexed, 0, "the universe knew all");
    files.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
    assert_eq!(store.entries(&record.id, None, b"", usize::MAX).unwrap(), files);
    for file in &files {
        assert_eq!(store.locate(&file.chunks[0].hash).unwrap().unwrap().references, 1);
    }
    assert_eq!(content(&store, &files[4999]).unwrap(), noise(4999, 20));
}

#[test]
fn entries_come_in_pages_by_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let record = snapshot(&store, 1, 0..50);
    let all = store.entries(&record.id, None, b"", usize::MAX).unwrap();
    assert_eq!(all.len(), 50);
    let mut pages = Vec::new();
    while let page = store
        .entries(&record.id, pages.last().map(|last: &TreeEntry| &last.entry.path[..]), b"dir/file-0001", 3)
        .unwrap()
        && !page.is_empty()
    {
        pages.extend(page);
    }
    assert_eq!(pages, all[10..20]);
    let unknown = SnapshotId([9; 16]);
    assert!(matches!(store.entries(&unknown, None, b"", 1), Err(PackedError::UnknownSnapshot(_))));
}

#[test]
fn a_deleted_snapshot_can_be_brought_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let (first, second) = (snapshot(&store, 1, 0..20), snapshot(&store, 2, 10..30));
    store.delete_snapshot(&first.id).unwrap();
    assert_eq!(store.snapshots(), [second]);
    assert_eq!(store.deleted_snapshots().unwrap(), std::slice::from_ref(&first));
    assert_eq!(store.undelete_snapshot(&first.id).unwrap(), first);
    // The answer can be lost, so the same request is answered again.
    assert_eq!(store.undelete_snapshot(&first.id).unwrap(), first);
    assert_eq!(store.snapshots().len(), 2);
    for entry in store.entries(&first.id, None, b"", 100).unwrap() {
        content(&store, &entry).unwrap();
    }
    assert!(store.delete_snapshot(&SnapshotId([9; 16])).is_err());
}

#[test]
fn a_lost_universe_is_rebuilt_from_the_containers() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let records = [snapshot(&store, 1, 0..40), snapshot(&store, 2, 20..60)];
    let shared = store.entry(&records[0].id, b"dir/file-00030").unwrap().unwrap().chunks[0].hash;
    let before = store.locate(&shared).unwrap().unwrap();
    drop(store);
    for damage in [None, Some(&b"not a database"[..])] {
        let path = dir.path().join(UNIVERSE);
        match damage {
            None => std::fs::remove_file(&path).unwrap(),
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
        }
        let store = PackedStore::open(dir.path(), config()).unwrap();
        assert!(store.opened().rebuilt.is_some());
        assert_eq!(store.locate(&shared).unwrap().unwrap(), before, "places and counts are as they were");
        for record in &records {
            for entry in store.entries(&record.id, None, b"", 100).unwrap() {
                content(&store, &entry).unwrap();
            }
        }
    }
}
