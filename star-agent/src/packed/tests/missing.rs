//! Files of a vault that are deleted, truncated, replaced and swapped while it is stopped and while it runs: missing
//! content is never counted as stored, and the next backup can be restored exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::damage::quick_dir;
use super::*;

type Files = BTreeMap<String, Vec<Vec<u8>>>;

/// The files of a source, each with its chunks.
fn source_files() -> Files {
    (0..12).map(|seed| (format!("dir/{seed:03}"), vec![noise(seed, 3000), noise(seed + 1000, 700)])).collect()
}

fn small() -> PackedConfig {
    PackedConfig { container_bytes_max: 16 * 1024, ..config() }
}

/// Does what a packed job does: takes over unchanged files, and sends the rest.
fn store_all(store: &PackedStore, stage: StageId, files: &Files) -> Result<()> {
    store.check_presence()?;
    for (path, chunks) in files {
        let entry = match store.earlier(stage, &source(), path.as_bytes())? {
            Some(known) => known,
            None => put_file(store, stage, path, chunks),
        };
        store.commit(stage, &[entry])?;
    }
    Ok(())
}

fn backup(store: &PackedStore, job: u64, files: &Files) -> Result<SnapshotRecord> {
    store_all(store, stage(job), files)?;
    store.seal(stage(job), &meta(job as i64))
}

fn assert_restores(store: &PackedStore, record: &SnapshotRecord, files: &Files, what: &str) {
    let entries =
        store.entries(&record.id, None, b"", usize::MAX).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(entries.len(), files.len(), "{what}");
    for entry in entries {
        let path = String::from_utf8(entry.entry.path.clone()).unwrap();
        let bytes = content(store, &entry).unwrap_or_else(|error| panic!("{what}: {path}: {error}"));
        assert_eq!(bytes, files[&path].concat(), "{what}: {path}");
    }
}

/// All files of a store, by their paths in it.
fn all_files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut pending) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap().map(|entry| entry.unwrap()) {
            let kind = if entry.file_type().unwrap().is_dir() { &mut pending } else { &mut found };
            kind.push(entry.path());
        }
    }
    found.sort();
    found
}

fn containers(dir: &Path) -> Vec<PathBuf> {
    let files = all_files(dir).into_iter();
    files.filter(|path| path.extension().is_some_and(|extension| extension == "orbitpak")).collect()
}

/// The kinds of damage to one file.
const DAMAGE: [&str; 5] = ["delete", "cut", "empty", "replace", "swap"];

fn damage(dir: &Path, path: &Path, how: &str) {
    let bytes = fs::read(path).unwrap();
    match how {
        "delete" => fs::remove_file(path).unwrap(),
        "cut" => fs::File::options().write(true).open(path).unwrap().set_len(bytes.len() as u64 / 2).unwrap(),
        "empty" => fs::write(path, b"").unwrap(),
        "replace" => {
            let other = path.with_extension("other");
            fs::write(&other, noise(4711, bytes.len())).unwrap();
            fs::rename(other, path).unwrap();
        }
        _ => {
            // Exchanged with another file of its kind, if there is one.
            let extension = path.extension();
            let is_kin = |other: &PathBuf| {
                other != path && other.parent() == path.parent() && other.extension() == extension
            };
            let Some(other) = all_files(dir).into_iter().find(is_kin) else { return };
            let (middle, one) = (path.with_extension("middle"), path);
            fs::rename(one, &middle).unwrap();
            fs::rename(&other, one).unwrap();
            fs::rename(&middle, &other).unwrap();
        }
    }
}

/// Two snapshots and a stage, in sealed containers and an open one.
fn plant(dir: &Path, files: &Files) -> Arc<PackedStore> {
    let store = PackedStore::open(dir, small()).unwrap();
    backup(&store, 1, files).unwrap();
    let mut more = files.clone();
    more.insert("dir/more".to_owned(), vec![noise(55, 2000)]);
    backup(&store, 2, &more).unwrap();
    let staged = put_file(&store, stage(3), "staged", &[noise(77, 900)]);
    store.commit(stage(3), &[staged]).unwrap();
    store
}

#[test]
fn a_backup_is_restored_exactly_whatever_has_happened_to_a_file_of_the_vault() {
    let files = source_files();
    let template = quick_dir();
    drop(plant(template.path(), &files));
    for planted in all_files(template.path()) {
        for how in DAMAGE {
            let name = planted.strip_prefix(template.path()).unwrap();
            let what = format!("{how} {} while it is stopped", name.display());
            let dir = quick_dir();
            super::damage::copy_dir(template.path(), dir.path());
            damage(dir.path(), &dir.path().join(name), how);
            let store =
                PackedStore::open(dir.path(), small()).unwrap_or_else(|error| panic!("{what}: {error}"));
            let record = backup(&store, 9, &files).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_restores(&store, &record, &files, &what);
            drop(store);
            let store = PackedStore::open(dir.path(), small()).unwrap();
            assert_restores(&store, &record, &files, &what);
        }
    }
}

#[test]
fn a_backup_is_restored_exactly_whatever_happens_to_a_file_of_a_vault_in_use() {
    let files = source_files();
    let count = {
        let dir = quick_dir();
        drop(plant(dir.path(), &files));
        all_files(dir.path()).len()
    };
    for index in 0..count {
        for how in DAMAGE {
            let dir = quick_dir();
            let store = plant(dir.path(), &files);
            // Reading opens the files and caches nodes.
            let before = store.snapshots();
            let _ = before.iter().map(|record| assert_restores_some(&store, record)).count();
            let path = all_files(dir.path())[index].clone();
            let what = format!("{how} {} while it runs", path.strip_prefix(dir.path()).unwrap().display());
            damage(dir.path(), &path, how);
            let backed_up = backup(&store, 9, &files);
            if let Ok(record) = &backed_up {
                assert_restores(&store, record, &files, &what);
            }
            drop(store);
            let store =
                PackedStore::open(dir.path(), small()).unwrap_or_else(|error| panic!("{what}: {error}"));
            let record = match backed_up {
                Ok(record) => record,
                // The error says so, and a restart rebuilds it.
                Err(PackedError::Universe { .. } | PackedError::UniverseFailed { .. })
                    if path.ends_with(UNIVERSE) =>
                {
                    backup(&store, 10, &files).unwrap_or_else(|error| panic!("{what}: {error}"))
                }
                Err(error) => panic!("{what}: {error}"),
            };
            assert_restores(&store, &record, &files, &format!("{what}, and after a restart"));
        }
    }
}

fn assert_restores_some(store: &PackedStore, record: &SnapshotRecord) {
    for entry in store.entries(&record.id, None, b"", usize::MAX).unwrap() {
        content(store, &entry).unwrap();
    }
}

#[test]
fn a_loss_after_the_last_item_prevents_the_snapshot_and_the_next_job_stores_it() {
    let files = source_files();
    for at in ["before the seal", "built"] {
        let dir = quick_dir();
        let store = plant(dir.path(), &files);
        store_all(&store, stage(9), &files).unwrap();
        let paths = containers(dir.path());
        let remove = move || paths.iter().for_each(|path| drop(fs::remove_file(path)));
        if at == "built" {
            store.windows.at(at, remove);
        } else {
            remove();
        }
        let error = store.seal(stage(9), &meta(9)).unwrap_err();
        assert!(matches!(error, PackedError::MissingChunk { .. }), "{at}: {error}");
        assert_eq!(store.snapshots().len(), 2, "{at}");
        let told = store.tell_missing().unwrap();
        assert!(told.contains("is missing") && told.contains("cannot be restored whole"), "{told}");
        store.abandon(stage(9)).unwrap();
        let record = backup(&store, 10, &files).unwrap();
        assert_restores(&store, &record, &files, at);
    }
}

#[test]
fn missing_content_is_reported_until_it_is_restored_also_after_a_restart() {
    let files = source_files();
    let dir = quick_dir();
    let store = plant(dir.path(), &files);
    assert_eq!(store.tell_missing(), None);
    for path in containers(dir.path()) {
        fs::remove_file(path).unwrap();
    }
    assert!(store.check_presence().unwrap());
    assert!(!store.check_presence().unwrap(), "once");
    let told = store.tell_missing().unwrap();
    assert!(told.contains("cannot be restored whole"), "{told}");
    drop(store);
    let store = PackedStore::open(dir.path(), small()).unwrap();
    let told = store.tell_missing().unwrap();
    assert!(told.contains("is missing"), "{told}");
    let mut more = files;
    more.insert("dir/more".to_owned(), vec![noise(55, 2000)]);
    let first = backup(&store, 8, &source_files()).unwrap();
    backup(&store, 9, &more).unwrap();
    let told = (0..10).map(|_| store.tell_missing()).collect::<Vec<_>>();
    assert!(told[0].as_ref().unwrap().contains("no chunk that a snapshot needs is missing now"), "{told:?}");
    assert_eq!(told[9], None);
    for record in store.snapshots() {
        assert_restores_some(&store, &record);
    }
    assert_restores(&store, &first, &source_files(), "healed by the backup");
}

#[test]
fn a_container_that_is_put_back_is_used_again() {
    let files = source_files();
    let dir = quick_dir();
    let store = plant(dir.path(), &files);
    let record = store.snapshots()[0].clone();
    let aside = quick_dir();
    let paths = containers(dir.path());
    for path in &paths {
        fs::copy(path, aside.path().join(path.file_name().unwrap())).unwrap();
        fs::remove_file(path).unwrap();
    }
    store.check_presence().unwrap();
    assert!(store.tell_missing().is_some());
    drop(store);
    for path in &paths {
        fs::copy(aside.path().join(path.file_name().unwrap()), path).unwrap();
    }
    let store = PackedStore::open(dir.path(), small()).unwrap();
    assert_restores_some(&store, &record);
}

#[test]
fn no_number_of_a_container_is_used_twice() {
    let dir = quick_dir();
    let mut used = BTreeSet::new();
    let mut add = |dir: &Path| {
        for path in containers(dir) {
            assert!(used.insert(path.file_name().unwrap().to_string_lossy()[..10].to_owned()), "{path:?}");
        }
    };
    for (job, lost) in
        [(1, "containers"), (2, "containers and index"), (3, "containers and counter"), (4, "")]
    {
        let store = PackedStore::open(dir.path(), small()).unwrap();
        snapshot(&store, job, job * 100..job * 100 + 5);
        drop(store);
        add(dir.path());
        containers(dir.path()).into_iter().for_each(|path| fs::remove_file(path).unwrap());
        match lost {
            "containers and index" => fs::remove_file(dir.path().join(UNIVERSE)).unwrap(),
            "containers and counter" => fs::remove_file(dir.path().join(NEXT_NUMBER)).unwrap(),
            _ => {}
        }
    }
}

#[test]
fn a_second_container_with_the_same_number_gets_another_and_both_are_read() {
    let (dir, other) = (quick_dir(), quick_dir());
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let record = snapshot(&store, 1, 0..4);
    drop(store);
    let store = PackedStore::open(other.path(), config()).unwrap();
    snapshot(&store, 1, 50..54);
    let shared = ChunkHash::of(&noise(51, 3000));
    drop(store);
    for path in all_files(&other.path().join(CONTAINERS)) {
        let name = path.file_name().unwrap();
        fs::copy(&path, dir.path().join(CONTAINERS).join(name)).unwrap();
    }
    let store = PackedStore::open(dir.path(), config()).unwrap();
    assert_restores_some(&store, &record);
    assert_eq!(store.read(&shared).unwrap(), noise(51, 3000));
}

#[test]
fn an_unmounted_directory_loses_nothing() {
    let dir = quick_dir();
    let store = PackedStore::open(dir.path(), config()).unwrap();
    let record = snapshot(&store, 1, 0..4);
    let (there, away) = (dir.path().join(CONTAINERS), dir.path().join("away"));
    fs::rename(&there, &away).unwrap();
    fs::create_dir(&there).unwrap();
    let error = store.check_presence().unwrap_err();
    assert!(matches!(error, PackedError::Moved { .. }), "{error}");
    assert!(store.seal(stage(2), &meta(2)).is_err());
    fs::remove_dir(&there).unwrap();
    fs::rename(&away, &there).unwrap();
    assert!(!store.check_presence().unwrap());
    assert_restores_some(&store, &record);
}

#[test]
fn the_newest_snapshot_is_readable_except_for_the_content_of_a_truncated_or_lost_container() {
    let medium = || PackedConfig { container_bytes_max: 256 * 1024, ..config() };
    let files: Files = (0..6000)
        .map(|seed| (format!("directory/of/some/length/{seed:05}"), vec![noise(seed, 40)]))
        .collect();
    for (how, is_running) in [("cut", true), ("cut", false), ("lost", true), ("lost", false)] {
        let what = format!("{how}, running: {is_running}");
        let dir = quick_dir();
        let store = PackedStore::open(dir.path(), medium()).unwrap();
        let stored: Vec<_> =
            files.iter().map(|(path, chunks)| put_file(&store, stage(1), path, chunks)).collect();
        store.commit(stage(1), &stored).unwrap();
        let record = store.seal(stage(1), &meta(1)).unwrap();
        let root = store.locate(&record.root.hash).unwrap().unwrap();
        let path = dir.path().join(CONTAINERS).join(format!("{}.orbitpak", root.container_id));
        let gone: BTreeSet<ChunkHash> = store.universe_chunks_in(&root.container_id);
        let held = is_running.then_some(store);
        match how {
            "cut" => {
                let end = root.offset + u64::from(root.stored_length) - 1;
                fs::File::options().write(true).open(&path).unwrap().set_len(end).unwrap();
            }
            _ => fs::remove_file(&path).unwrap(),
        }
        let store = held.unwrap_or_else(|| PackedStore::open(dir.path(), medium()).unwrap());
        store.check_presence().unwrap();
        let page = store.page(&record.id, None, b"", usize::MAX).unwrap();
        if how == "cut" {
            assert!(page.gaps.is_empty(), "{what}: {:?}", page.gaps);
            assert_restores(&store, &record, &files, &what);
            continue;
        }
        assert!(!page.entries.is_empty(), "{what}: what is in other containers is listed");
        assert!(page.gaps.iter().all(|gap| gone.contains(&gap.hash)), "{what}: {:?}", page.gaps);
        for entry in page.entries {
            let is_lost = entry.chunks.iter().any(|chunk| gone.contains(&chunk.hash));
            assert_eq!(content(&store, &entry).is_err(), is_lost, "{what}");
        }
    }
}

impl PackedStore {
    fn universe_chunks_in(&self, container: &str) -> BTreeSet<ChunkHash> {
        self.flush().unwrap();
        let number = container[..10].parse().unwrap();
        let entries = crate::packed::indexing::entries_of(&self.universe, number).unwrap();
        entries.into_iter().map(|entry| entry.hash).collect()
    }
}

/// Length and time of change of every file of a directory.
fn state_of(dir: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let state = |path: PathBuf| {
        let metadata = fs::metadata(&path).unwrap();
        (path, (metadata.len(), metadata.modified().unwrap()))
    };
    all_files(dir).into_iter().map(state).collect()
}

#[test]
fn a_read_only_store_is_read_and_not_changed() {
    let files = source_files();
    for has_index in [true, false] {
        let dir = quick_dir();
        let store = plant(dir.path(), &files);
        let record = store.snapshots().into_iter().find(|record| record.stage == stage(1)).unwrap();
        drop(store);
        if !has_index {
            fs::remove_file(dir.path().join(UNIVERSE)).unwrap();
        }
        let before = state_of(dir.path());
        let config = PackedConfig { is_read_only: true, reserve_bytes: 4096, ..small() };
        let store = PackedStore::open(dir.path(), config).unwrap();
        assert!(store.is_read_only());
        assert_restores(&store, &record, &files, "read-only");
        assert!(!store.check_presence().unwrap());
        let refused = |error: PackedError| matches!(error, PackedError::ReadOnly { .. });
        let new = noise(9999, 100);
        assert!(refused(store.put(stage(4), ChunkHash::of(&new), &new).unwrap_err()));
        assert!(refused(store.commit(stage(4), &[]).unwrap_err()));
        assert!(refused(store.seal(stage(4), &meta(4)).unwrap_err()));
        assert!(refused(store.delete_snapshot(&record.id).unwrap_err()));
        assert!(refused(
            store.collect(&crate::packed::CollectOptions::default(), &|_| {}, &|| false).unwrap_err()
        ));
        let everything = crate::packed::ScrubOptions { everything: true, ..Default::default() };
        assert!(store.scrub(&everything, &|_| {}, &|| false).unwrap().is_clean());
        drop(store);
        assert_eq!(state_of(dir.path()), before, "index there: {has_index}");
        let store = PackedStore::open(dir.path(), small()).unwrap();
        assert_eq!(store.stages(), [stage(3)], "what was staged is there when it can be written to again");
        assert_restores(&store, &record, &files, "writable again");
    }
}
