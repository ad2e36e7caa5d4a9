//! A chunk that is needed again in any window of a collection survives: a seeded world beside the simplest model of who
//! needs what, with something done in every window.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::packed::CollectOptions;

type Hook = Box<dyn FnMut(&'static str) + Send>;

/// What a test does in the windows of a collection.
#[derive(Default)]
pub(in crate::packed) struct Windows(Mutex<Option<Hook>>);

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Windows")
    }
}

impl Windows {
    pub(in crate::packed) fn pass(&self, name: &'static str) {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Out of the lock: what is done may itself pass a window.
        let Some(mut hook) = lock().take() else { return };
        hook(name);
        lock().get_or_insert(hook);
    }

    fn set(&self, hook: Option<Hook>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }
}

/// How many seeds; a thousand take a minute.
fn seeds() -> u64 {
    std::env::var("ORBIT_TEST_GC_SEEDS").map_or(150, |text| text.parse().expect("a number of seeds"))
}

const FILES: u64 = 24;

struct World {
    random: SmallRng,
    next_job: u64,
    /// What each open stage has committed, and each snapshot holds, as numbers of files.
    stages: BTreeMap<u64, BTreeSet<u64>>,
    snapshots: BTreeMap<SnapshotId, BTreeSet<u64>>,
    seen: BTreeSet<&'static str>,
}

fn bytes(number: u64) -> Vec<u8> {
    noise(number, 300 + number as usize * 7)
}

impl World {
    /// Something that a user does.
    fn act(&mut self, store: &PackedStore) {
        match self.random.random_range(0..10) {
            0..5 => self.store_some(store),
            5 => self.seal(store),
            6 => self.abandon(store),
            7 => self.delete(store),
            8 => self.commit_earlier(store),
            _ => self.check(store),
        }
    }

    fn some_stage(&mut self) -> u64 {
        if self.stages.is_empty() || self.random.random_range(0..4) == 0 {
            self.next_job += 1;
            self.stages.insert(self.next_job, BTreeSet::new());
        }
        let index = self.random.random_range(0..self.stages.len());
        *self.stages.keys().nth(index).unwrap()
    }

    fn store_some(&mut self, store: &PackedStore) {
        let job = self.some_stage();
        let numbers: Vec<u64> =
            (0..self.random.random_range(1..5)).map(|_| self.random.random_range(0..FILES)).collect();
        let hashes: Vec<_> = numbers.iter().map(|number| ChunkHash::of(&bytes(*number))).collect();
        // As a job does: only what is not known is sent.
        let known = store.contains(stage(job), &hashes).unwrap();
        let mut entries = Vec::new();
        for (number, is_known) in numbers.iter().zip(known) {
            let chunk = bytes(*number);
            let hash = ChunkHash::of(&chunk);
            if !is_known {
                store.put(stage(job), hash, &chunk).unwrap();
            }
            let mut entry = put_file(store, stage(0), &format!("f{number}"), &[]);
            entry.chunks.push(ChunkRef { hash, length: chunk.len() as u32 });
            entries.push(entry);
        }
        store.commit(stage(job), &entries).unwrap();
        self.stages.get_mut(&job).unwrap().extend(numbers);
    }

    fn seal(&mut self, store: &PackedStore) {
        let Some((job, numbers)) = self.stages.pop_first() else { return };
        let record = store.seal(stage(job), &meta(job as i64)).unwrap();
        self.snapshots.insert(record.id, numbers);
    }

    fn abandon(&mut self, store: &PackedStore) {
        let Some((job, _)) = self.stages.pop_last() else { return };
        store.abandon(stage(job)).unwrap();
    }

    fn delete(&mut self, store: &PackedStore) {
        let Some((id, _)) = self.snapshots.pop_first() else { return };
        store.delete_snapshot(&id).unwrap();
    }

    fn commit_earlier(&mut self, store: &PackedStore) {
        let number = self.random.random_range(0..FILES);
        let job = self.some_stage();
        let path = format!("f{number}");
        let Some(entry) = store.earlier(stage(job), &source(), path.as_bytes()).unwrap() else { return };
        store.commit(stage(job), &[entry]).unwrap();
        self.stages.get_mut(&job).unwrap().insert(number);
    }

    /// Everything that anyone needs is there.
    fn check(&self, store: &PackedStore) {
        for number in self.stages.values().chain(self.snapshots.values()).flatten() {
            let expected = bytes(*number);
            assert_eq!(store.read(&ChunkHash::of(&expected)).unwrap(), expected);
        }
        for (id, numbers) in &self.snapshots {
            assert_eq!(store.entries(id, None, b"", 100).unwrap().len(), numbers.len());
        }
    }
}

#[test]
fn what_is_needed_again_in_any_window_survives() {
    let mut windows = BTreeSet::new();
    for seed in 0..seeds() {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let config = PackedConfig { container_bytes_max: 4096, recent_chunks_max: 6, ..config() };
        let store = PackedStore::open(dir.path(), config).unwrap();
        let world = Arc::new(Mutex::new(World {
            random: SmallRng::seed_from_u64(seed),
            next_job: 0,
            stages: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            seen: BTreeSet::new(),
        }));
        for _ in 0..5 {
            for _ in 0..6 {
                world.lock().unwrap().act(&store);
            }
            let (weak, hooked) = (Arc::downgrade(&store), Arc::clone(&world));
            store.windows.set(Some(Box::new(move |name| {
                let mut world = hooked.lock().unwrap();
                world.seen.insert(name);
                for _ in 0..world.random.random_range(0..3) {
                    world.act(&weak.upgrade().unwrap());
                }
            })));
            let options = CollectOptions {
                ignore_undo_window: true,
                garbage_percent_min: 1,
                ..CollectOptions::default()
            };
            // With a limit, so that it does not rest for those who work in its windows.
            let options = CollectOptions { free_bytes_min: Some(0), ..options };
            store
                .collect(&options, &|_| {}, &|| false)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            store.windows.set(None);
            world.lock().unwrap().check(&store);
        }
        drop(store);
        let store = PackedStore::open(dir.path(), self::config()).unwrap();
        let world = world.lock().unwrap();
        world.check(&store);
        assert!(store.damaged().is_empty(), "seed {seed}");
        windows.extend(&world.seen);
    }
    assert_eq!(windows, BTreeSet::from(["surveyed", "decided", "removed", "moved", "switched"]));
}
