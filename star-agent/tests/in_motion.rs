//! Files that are written all the time are stored as they were read, and reported as changed. Files that did not change
//! during the second attempt are stored normally.
#![allow(clippy::unwrap_used, reason = "this is test code, also outside of test functions")]

mod support;

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use orbit_identity::network::Tcp;
use orbit_shared::session::{Assignment, ItemOutcome, ItemResult};
use orbit_shared::time::WallTime;
use orbit_shared::words::Layout;
use orbit_star::meters::Meters;
use orbit_star::packed::{PackedConfig, PackedStore, SnapshotMeta, SourceName, StageId, TreeEntry};
use orbit_star::sink::packed::PackedSink;
use orbit_telemetry::Spans;
use support::{JOB, Mounted, Pair, bytes, noise, roots, scan, star, temporaries};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A thread that does something to a file again and again, without a pause.
struct Writer {
    is_stopped: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Returns when it has written for the first time.
    fn start(path: &Path, mut write: impl FnMut(&mut File, u64) + Send + 'static) -> Self {
        let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let (is_stopped, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&is_stopped), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                write(&mut file, counted.fetch_add(1, Ordering::Relaxed));
            }
        });
        let writer = Self { is_stopped, rounds, thread: Some(thread) };
        writer.wait();
        writer
    }

    /// Returns when it has written since the call.
    fn wait(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        while self.rounds.load(Ordering::Relaxed) < before + 2 {
            std::thread::yield_now();
        }
    }

    fn appending(path: &Path) -> Self {
        let mut log = OpenOptions::new().append(true).open(path).unwrap();
        Self::start(path, move |_, round| writeln!(log, "line {round}").unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let joined = self.thread.take().unwrap().join();
        assert!(joined.is_ok() || std::thread::panicking());
    }
}

fn plant(pair: &Pair, length: usize) -> PathBuf {
    let path = pair.from().join("log");
    std::fs::write(&path, noise(length, 1)).unwrap();
    path
}

/// How much of a file was stored. A small one may be read between two writes; a large one must have changed meanwhile.
fn stored_in_motion(result: &ItemResult) -> u64 {
    let ItemResult::Stored { size, is_changed, .. } = result else { panic!("{result:?}") };
    assert!(*is_changed || *size < 8 << 20, "{result:?}");
    *size
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_appended_to_is_stored_up_to_its_first_size_and_reported_as_changed() {
    // In one message, in one segment, and in several segments.
    for length in [10_000, 3 << 20, 40 << 20] {
        let pair = Pair::new().await;
        let log = plant(&pair, length);
        let writer = Writer::appending(&log);
        // The second time there is an older version, whose chunk names are requested first.
        for _ in 0..2 {
            writer.wait();
            let results = pair.copy(&pair.from(), &pair.to()).await;
            let size = stored_in_motion(&results[&b"log"[..]]);
            let copied = std::fs::read(pair.to().join("log")).unwrap();
            assert_eq!(copied.len() as u64, size);
            assert!(size >= length as u64, "{size}");
            assert!(std::fs::read(&log).unwrap().starts_with(&copied), "it is no prefix");
        }
        drop(writer);
        let results = pair.copy(&pair.from(), &pair.to()).await;
        let result = &results[&b"log"[..]];
        assert!(matches!(result, ItemResult::Stored { is_changed: false, .. }), "{result:?}");
        assert!(std::fs::read(&log).unwrap() == std::fs::read(pair.to().join("log")).unwrap());
        assert!(temporaries(&pair.to()).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_overwritten_in_place_or_truncated_is_stored_as_it_is() {
    for length in [10_000_u64, 40 << 20] {
        let pair = Pair::new().await;
        let path = plant(&pair, length as usize);
        let writer = Writer::start(&path, move |file, round| {
            file.write_all_at(&round.to_le_bytes(), round * 4096 % (length - 8)).unwrap();
        });
        for _ in 0..2 {
            writer.wait();
            let results = pair.copy(&pair.from(), &pair.to()).await;
            assert_eq!(stored_in_motion(&results[&b"log"[..]]), length);
        }
        drop(writer);
        let writer = Writer::start(&path, move |file, round| {
            file.set_len(length - round % 7 * (length / 8)).unwrap();
        });
        for _ in 0..2 {
            writer.wait();
            let results = pair.copy(&pair.from(), &pair.to()).await;
            let size = stored_in_motion(&results[&b"log"[..]]);
            assert!(size <= length);
            assert_eq!(std::fs::metadata(pair.to().join("log")).unwrap().len(), size);
        }
        drop(writer);
        let results = pair.copy(&pair.from(), &pair.to()).await;
        assert!(matches!(results[&b"log"[..]], ItemResult::Stored { is_changed: false, .. }), "{results:?}");
        assert!(std::fs::read(&path).unwrap() == std::fs::read(pair.to().join("log")).unwrap());
        assert!(temporaries(&pair.to()).is_empty());
    }
}

/// A vault in addition to a pair.
struct Packing {
    pair: Pair,
    sink: Arc<PackedSink>,
    store: Arc<PackedStore>,
    _vault: tempfile::TempDir,
}

impl Packing {
    async fn new() -> Self {
        let (pair, vault) = (Pair::new().await, tempfile::tempdir().unwrap());
        let store = PackedStore::open(vault.path(), PackedConfig::default()).unwrap();
        let meters = Arc::new(Meters::default());
        let network = Arc::new(Tcp::default());
        let sink =
            PackedSink::new(star("destination"), Arc::clone(&store), meters, network, Spans::default());
        Self { pair, sink, store, _vault: vault }
    }

    /// Stores the file of the source. Returns the result, and its entry with its content.
    async fn store(&self) -> (ItemResult, TreeEntry, Vec<u8>) {
        let entries = scan(roots(&self.pair.from(), true), &self.pair.from()).await.0;
        let assignment = self.pair.assignment(&self.pair.from(), Path::new("/"), entries);
        let assignment = Assignment { layout: Layout::Packed, ..assignment };
        let (outcomes, mut received) = mpsc::channel::<Vec<ItemOutcome>>(16);
        self.sink.execute(assignment, outcomes, Arc::default(), CancellationToken::new()).await;
        let mut results = Vec::new();
        while let Some(batch) = received.recv().await {
            results.extend(batch);
        }
        let of_file = results.into_iter().find(|outcome| outcome.sequence == 1).unwrap();
        let stage = StageId { job: JOB, destination: 0 };
        let meta = SnapshotMeta {
            source: SourceName { star: star("source"), path: bytes(&self.pair.from()) },
            created: WallTime::default(),
            tags: Vec::new(),
            is_partial: false,
            expected_entries: Some(2),
            changed_count: 1,
        };
        let record = self.store.seal(stage, &meta).unwrap();
        assert_eq!(record.changed_count, 1);
        let entry = self.store.entry(&record.id, b"log").unwrap().unwrap();
        let read = |chunk: &orbit_star::packed::ChunkRef| self.store.read(&chunk.hash).unwrap();
        let content = entry.chunks.iter().flat_map(read).collect();
        (of_file.result, entry, content)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_also_stores_files_that_change_while_they_are_read() {
    for length in [10_000, 40 << 20] {
        let packing = Packing::new().await;
        let log = plant(&packing.pair, length);
        let writer = Writer::appending(&log);
        // The second time the vault has a snapshot, and names are requested first.
        for _ in 0..2 {
            writer.wait();
            let (result, entry, content) = packing.store().await;
            let size = stored_in_motion(&result);
            assert_eq!((entry.entry.size(), content.len() as u64), (size, size));
            assert!(std::fs::read(&log).unwrap().starts_with(&content), "it is no prefix");
        }
        drop(writer);
        let writer = Writer::start(&log, move |file, round| {
            file.set_len(length as u64 - round % 7 * (length as u64 / 8)).unwrap();
        });
        let (result, entry, content) = packing.store().await;
        assert_eq!(stored_in_motion(&result), entry.entry.size());
        assert_eq!(entry.entry.size(), content.len() as u64);
        drop(writer);
        let (result, _, content) = packing.store().await;
        assert!(matches!(result, ItemResult::Stored { is_changed: false, .. }), "{result:?}");
        assert!(std::fs::read(&log).unwrap() == content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_file_system_with_clones_a_file_is_stored_as_it_was_at_one_moment() {
    let (place, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let image = other.path().join("image");
    let Some(disk) = Mounted::mount(place.path(), &image, &["mkfs.btrfs", "-q"], &["-o", "loop"]) else {
        eprintln!("no file system that shares blocks can be mounted here: nothing was tried");
        return;
    };
    let source = tempfile::tempdir_in(&disk.path).unwrap();
    let pair = Pair::between(source, other, false).await;
    // Every version has one number up to the writer's position, and the previous number after it.
    let length = 8_u64 << 20;
    let path = plant(&pair, 0);
    File::options().write(true).open(&path).unwrap().write_all_at(&vec![0; length as usize], 0).unwrap();
    let writer = Writer::start(&path, move |file, round| {
        let (turn, part) = (round / 2048, round % 2048);
        file.write_all_at(&[turn as u8 + 1; 4096], part * 4096).unwrap();
    });
    let to = pair.to().join("copy");
    let results = pair.copy(&pair.from(), &to).await;
    drop(writer);
    let result = &results[&b"log"[..]];
    assert!(matches!(result, ItemResult::Stored { is_changed: false, .. }), "{result:?}");
    let copied = std::fs::read(to.join("log")).unwrap();
    assert_eq!(copied.len() as u64, length);
    let steps = copied.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(steps <= 1, "a mixture of {steps} versions");
    assert_eq!(std::fs::read_dir(pair.from()).unwrap().count(), 1);
}
