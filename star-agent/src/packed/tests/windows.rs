//! A chunk that is needed again in any window of a collection survives: a seeded world is compared with a simple model
//! of what is needed, with an operation in every window.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::packed::CollectOptions;

type Hook = Box<dyn FnMut(&'static str) + Send>;

/// What a test does in the windows of a collection, and which fault it has injected.
#[derive(Default)]
pub(in crate::packed) struct Windows {
    hook: Mutex<Option<Hook>>,
    mistake: Mutex<Option<&'static str>>,
}

impl fmt::Debug for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Windows")
    }
}

impl Windows {
    pub(in crate::packed) fn pass(&self, name: &'static str) {
        let lock = || self.hook.lock().unwrap_or_else(PoisonError::into_inner);
        // Outside of the lock, since the hook may pass a window itself.
        let Some(mut hook) = lock().take() else { return };
        hook(name);
        lock().get_or_insert(hook);
    }

    pub(in crate::packed) fn has(&self, mistake: &'static str) -> bool {
        *self.mistake.lock().unwrap_or_else(PoisonError::into_inner) == Some(mistake)
    }

    /// Runs `act` once, when a collection reaches this window.
    pub(in crate::packed) fn at(&self, wanted: &'static str, act: impl FnOnce() + Send + 'static) {
        let mut act = Some(act);
        self.set(Some(Box::new(move |name| {
            if name == wanted
                && let Some(act) = act.take()
            {
                act();
            }
        })));
    }

    fn set(&self, hook: Option<Hook>) {
        *self.hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }
}

/// The seeds to run; a thousand take some 25 seconds of one core.
fn seeds() -> std::ops::Range<u64> {
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ORBIT_TEST_GC_SEEDS").unwrap_or(2000),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Faults that are injected into a collection. At least one of the seeds must find each.
const MISTAKES: [&str; 3] = ["references unseen", "pins unseen", "deletion untold"];
const SEEDS_TO_FIND: u64 = 200;

const FILES: u64 = 24;

struct World {
    random: SmallRng,
    next_job: u64,
    /// The numbers of the files that each open stage has committed, and each snapshot has.
    stages: BTreeMap<u64, BTreeSet<u64>>,
    snapshots: BTreeMap<SnapshotId, BTreeSet<u64>>,
    seen: BTreeSet<&'static str>,
}

fn bytes(number: u64) -> Vec<u8> {
    noise(number, 300 + number as usize * 7)
}

impl World {
    /// One operation of a user.
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
        // As a job does: only chunks that are not stored are sent.
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

    /// Checks that everything that is needed is there.
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

/// Runs one seed. Returns the windows in which an operation was done. Panics if anything that is needed is lost.
fn run(seed: u64, mistake: Option<&'static str>) -> BTreeSet<&'static str> {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let config = PackedConfig { container_bytes_max: 4096, recent_chunks_max: 6, ..config() };
    let store = PackedStore::open(dir.path(), config).unwrap();
    *store.windows.mistake.lock().unwrap() = mistake;
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
        let options =
            CollectOptions { ignore_undo_window: true, garbage_percent_min: 1, ..CollectOptions::default() };
        // With a limit, so that it does not rest for the operations in its windows.
        let options = CollectOptions { free_bytes_min: Some(u64::MAX), ..options };
        store.collect(&options, &|_| {}, &|| false).unwrap();
        store.windows.set(None);
        world.lock().unwrap().check(&store);
    }
    drop(store);
    let store = PackedStore::open(dir.path(), self::config()).unwrap();
    let world = world.lock().unwrap();
    world.check(&store);
    assert!(store.damaged().is_empty());
    world.seen.clone()
}

/// The windows that a run has seen, or its error.
fn try_run(seed: u64, mistake: Option<&'static str>) -> Result<BTreeSet<&'static str>, String> {
    std::panic::catch_unwind(|| run(seed, mistake)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it panics").to_owned()
    })
}

#[test]
fn chunks_needed_again_in_any_window_survive() {
    let (next, found) = (AtomicU64::new(seeds().start), Mutex::new((BTreeSet::new(), Vec::new())));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < seeds().end
                {
                    let ended = try_run(seed, None);
                    let mut found = found.lock().unwrap();
                    match ended {
                        Ok(seen) => found.0.extend(seen),
                        Err(why) => found.1.push(format!("SEED={seed}: {why}")),
                    }
                }
            });
        }
    });
    let (windows, failures) = found.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(
        number("SEED").is_some()
            || windows == BTreeSet::from(["surveyed", "chosen", "decided", "removed", "moved", "switched"]),
        "{windows:?}"
    );
}

#[test]
fn a_collection_that_does_not_check_again_is_found() {
    if number("SEED").is_some() {
        return;
    }
    for mistake in MISTAKES {
        let found = (0..SEEDS_TO_FIND).find_map(|seed| Some((seed, try_run(seed, Some(mistake)).err()?)));
        let (seed, why) = found.unwrap_or_else(|| panic!("{mistake}: not found in {SEEDS_TO_FIND} seeds"));
        println!("{mistake}: seed {seed}: {why}");
    }
}
