//! Damage of every kind: reads never return wrong bytes, damage is found, and it heals from a second copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use orbit_shared::vault_call::FilePart;

use super::garbage::at_once;
use super::*;
use crate::packed::{ScrubOptions, ScrubReport};

fn scrub(store: &PackedStore) -> ScrubReport {
    store.scrub(&ScrubOptions { everything: true, ..ScrubOptions::default() }, &|_| {}, &|| false).unwrap()
}

/// Makes two snapshots, sealed containers and an open one, and a stage. Returns the content of each path.
fn plant(dir: &Path) -> BTreeMap<(SnapshotId, Vec<u8>), Vec<u8>> {
    let store = PackedStore::open(dir, PackedConfig { container_bytes_max: 6000, ..config() }).unwrap();
    for (job, seeds) in [(1, 0..3), (2, 2..4)] {
        snapshot(&store, job, seeds);
    }
    let file = put_file(&store, stage(3), "staged", &[noise(77, 900)]);
    store.commit(stage(3), &[file]).unwrap();
    assert!(scrub(&store).is_clean());
    everything(&store).into_iter().map(|(key, bytes)| (key, bytes.expect("nothing is damaged"))).collect()
}

/// The content of every path of every snapshot that can be read.
fn everything(store: &PackedStore) -> BTreeMap<(SnapshotId, Vec<u8>), Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for record in store.snapshots() {
        let page = store.page(&record.id, None, b"", usize::MAX).unwrap();
        for entry in page.entries {
            found.insert((record.id, entry.entry.path.clone()), content(store, &entry).ok());
        }
    }
    found
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in [CONTAINERS, SNAPSHOTS, STAGES] {
        found.extend(fs::read_dir(dir.join(name)).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.sort();
    found
}

pub(super) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Opens a damaged copy, and checks that reads return no wrong bytes, that damage is found and that it heals.
fn survive(
    template: &Path,
    second: &PackedStore,
    name: &Path,
    bytes: &[u8],
    truth: &BTreeMap<(SnapshotId, Vec<u8>), Vec<u8>>,
    what: &str,
) {
    let copy = quick_dir();
    copy_dir(template, copy.path());
    fs::write(copy.path().join(name), bytes).unwrap();
    let store = PackedStore::open(copy.path(), config()).unwrap();
    for (key, content) in everything(&store) {
        assert!(content.is_none_or(|content| content == truth[&key]), "{what}: wrong bytes");
    }
    let opened = store.opened().clone();
    let is_found_open = !opened.damaged_snapshots.is_empty()
        || !opened.damaged_stages.is_empty()
        || !opened.damaged_containers.is_empty()
        || opened.chunks_lost + opened.entries_lost > 0;
    let report = scrub(&store);
    let is_stage = name.starts_with(STAGES);
    // A torn end of an unsealed container looks like a crash, and loses only what is then found missing.
    assert!(is_found_open || is_stage || !report.is_clean(), "{what}: not found: {opened:?}");

    for damaged in store.damaged() {
        if let Ok(good) = second.read(&damaged.hash) {
            store.replace(&damaged.hash, &good).unwrap();
        }
    }
    let healed = everything(&store);
    for ((id, path), content) in truth {
        if opened.damaged_snapshots.contains(id) {
            continue;
        }
        assert_eq!(healed[&(*id, path.clone())].as_ref(), Some(content), "{what}: not healed");
    }
    if opened.damaged_snapshots.is_empty() {
        store.collect(&at_once(), &|_| {}, &|| false).unwrap();
        let after = scrub(&store);
        assert!(after.damaged_chunks.is_empty(), "{what}: {after:?}");
    }
}

/// A directory in memory, if there is one: a store is opened there thousands of times.
pub(super) fn quick_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// One byte in this many is changed; 1 takes minutes.
fn step() -> usize {
    std::env::var("ORBIT_TEST_FLIP_STEP").map_or(61, |text| text.parse().expect("a number of bytes"))
}

#[test]
fn each_changed_byte_is_found_and_healed_and_never_returned() {
    let (dir, template) = (quick_dir(), quick_dir());
    let truth = plant(dir.path());
    copy_dir(dir.path(), template.path());
    let second = PackedStore::open(dir.path(), config()).unwrap();
    let mut offset = 0;
    for path in files(template.path()) {
        let whole = fs::read(&path).unwrap();
        let name = path.strip_prefix(template.path()).unwrap();
        while offset < whole.len() {
            let mut changed = whole.clone();
            changed[offset] ^= 1 << (offset % 8);
            survive(
                template.path(),
                &second,
                name,
                &changed,
                &truth,
                &format!("{} byte {offset}", name.display()),
            );
            offset += step();
        }
        // Not at the same offsets of every file.
        offset -= whole.len();
    }
}

#[test]
fn each_file_cut_at_any_64th_is_found_and_healed_and_never_read_wrong() {
    let (dir, template) = (quick_dir(), quick_dir());
    let truth = plant(dir.path());
    copy_dir(dir.path(), template.path());
    let second = PackedStore::open(dir.path(), config()).unwrap();
    for path in files(template.path()) {
        let whole = fs::read(&path).unwrap();
        let name = path.strip_prefix(template.path()).unwrap();
        let step = (step() / 16).max(1);
        for part in (0..64).step_by(step) {
            let length = whole.len() * part / 64;
            survive(
                template.path(),
                &second,
                name,
                &whole[..length],
                &truth,
                &format!("{} cut at {length}", name.display()),
            );
        }
    }
}

#[test]
fn a_damaged_universe_gives_no_wrong_answer() {
    let dir = tempfile::tempdir().unwrap();
    let truth = plant(dir.path());
    let path = dir.path().join(UNIVERSE);
    let whole = fs::read(&path).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut rebuilt = 0;
    for at in used.iter().step_by((used.len() * step() / 25_000).max(1)) {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        let mut changed = whole.clone();
        changed[*at] ^= 0x40;
        fs::write(copy.path().join(UNIVERSE), &changed).unwrap();
        let store = PackedStore::open(copy.path(), config()).unwrap();
        rebuilt += usize::from(store.opened().rebuilt.is_some());
        let found: Result<()> = (|| {
            for record in store.snapshots() {
                for entry in store.entries(&record.id, None, b"", usize::MAX)? {
                    let mut bytes = Vec::new();
                    for chunk in &entry.chunks {
                        bytes.extend(store.read_of(&record.id, &chunk.hash)?);
                    }
                    assert_eq!(bytes, truth[&(record.id, entry.entry.path.clone())], "byte {at}");
                }
            }
            Ok(())
        })();
        // Chunks that it does not show must not be taken for garbage.
        let collected = store.collect(&at_once(), &|_| {}, &|| false);
        let scrubbed = store.scrub(&ScrubOptions::default(), &|_| {}, &|| false);
        drop(store);
        // Damage that was found in use is repaired at the next start, and only then.
        let store = PackedStore::open(copy.path(), config()).unwrap();
        let is_met = found.is_err() || scrubbed.is_err() || collected.is_err();
        assert_eq!(store.opened().rebuilt.is_some(), is_met, "byte {at}: {found:?}, {scrubbed:?}");
        assert!(everything(&store).values().all(Option::is_some), "byte {at}");
        drop(store);
        let store = PackedStore::open(copy.path(), config()).unwrap();
        assert_eq!(store.opened().rebuilt, None, "byte {at}");
    }
    assert!(rebuilt > 0);
}

#[test]
fn a_lost_chunk_affects_the_files_that_need_it_and_is_requested_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let records = [snapshot(&store, 1, 0..20), snapshot(&store, 2, 10..30)];
    let entry = store.entry(&records[0].id, b"dir/file-00015").unwrap().unwrap();
    let lost = entry.chunks[0].hash;
    let bytes = store.read(&lost).unwrap();
    let place = store.locate(&lost).unwrap().unwrap();
    let path = dir.path().join(CONTAINERS).join(format!("{}.orbitpak", place.container_id));
    let mut container = fs::read(&path).unwrap();
    container[place.offset as usize] ^= 1;
    fs::write(&path, container).unwrap();
    assert!(matches!(store.read(&lost), Err(PackedError::DamagedChunk { .. })));
    // A chunk that nothing needs comes with it: each is found separately.
    let others = BTreeSet::from([lost, ChunkHash([9; 32]), entry.chunks[1].hash]);
    let (mut affected, is_complete) = store.affected(&others, 10, &|| false).unwrap();
    assert!(is_complete);
    let hit = |record: &SnapshotRecord, offset: u64, chunk: &ChunkRef| {
        let path = b"dir/file-00015".to_vec();
        let modified = WallTime { seconds: 5, nanos: 6 };
        let size = entry.entry.size();
        let part = FilePart { path: path.clone(), offset, length: chunk.length, size, modified };
        Affected { snapshot: record.id, path, part: Some(part) }
    };
    let hits = |offset, chunk| {
        let mut hits = [hit(&records[0], offset, chunk), hit(&records[1], offset, chunk)];
        hits.sort();
        hits
    };
    affected.values_mut().for_each(|hits| hits.sort());
    assert_eq!(affected.len(), 2, "{affected:?}");
    assert_eq!(affected[&lost], hits(0, &entry.chunks[0]));
    assert_eq!(affected[&entry.chunks[1].hash], hits(3000, &entry.chunks[1]), "after the first chunk");
    let (affected, is_complete) = store.affected(&BTreeSet::from([lost]), 1, &|| false).unwrap();
    assert_eq!((affected[&lost].len(), is_complete), (1, false), "no more than are wanted");
    assert_eq!(store.contains(STAGE, &[lost]).unwrap(), [false], "a job sends it again");
    drop(store);
    let store = PackedStore::open(dir.path(), config()).unwrap();
    assert_eq!(store.damaged().len(), 1, "remembered across restarts");
    assert!(store.put(STAGE, lost, &bytes).unwrap());
    assert_eq!(store.read(&lost).unwrap(), bytes);
    assert!(store.damaged().is_empty());
    assert!(matches!(store.replace(&lost, b"other"), Err(PackedError::WrongBytes { .. })));
    store.replace(&lost, &bytes).unwrap();
}

#[test]
fn a_scrub_continues_at_the_position_of_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    snapshot(&store, 1, 0..100);
    let count = store.totals().unwrap().container_count;
    assert!(count >= 4);
    drop(store);
    let part = ScrubOptions { bytes_max: Some(1), ..ScrubOptions::default() };
    for done in 1..=count {
        assert_eq!(scrub_with(dir.path(), &part).containers_checked, 1);
        let checked = PackedStore::open(dir.path(), config()).unwrap();
        let checked =
            checked.containers().unwrap().iter().filter(|container| container.checked.is_some()).count();
        assert_eq!(checked as u64, done);
    }
}

fn scrub_with(dir: &Path, options: &ScrubOptions) -> ScrubReport {
    let store = PackedStore::open(dir, config()).unwrap();
    store.scrub(options, &|_| {}, &|| false).unwrap()
}
