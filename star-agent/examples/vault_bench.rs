//! Measures the packed store alone: `vault_bench DIR small|versions|universe|garbage [COUNT]`.
//!
//! `small`: files of 1-16 KiB, committed in batches of 1024. `versions`: twenty versions of a tree of 100 MiB, 2 % of it
//! changed from one to the next. `universe`: look-ups among COUNT chunks. `garbage`: COUNT chunks of which half are
//! collected, beside a writer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::time::WallTime;
use orbit_shared::words::{JobId, StarId};
use orbit_star::packed::{
    ChunkRef, CollectOptions, PackedConfig, PackedStore, SnapshotMeta, SnapshotRecord, SourceName, StageId,
    TreeEntry,
};
use rand::{RngExt as _, SeedableRng as _};

fn stage(job: u64) -> StageId {
    StageId { job: JobId(job), destination: 0 }
}

fn meta(job: u64) -> SnapshotMeta {
    let star = StarId::new("bench").expect("a name");
    SnapshotMeta {
        source: SourceName { star, path: b"/data".to_vec() },
        created: WallTime { seconds: job as i64, nanos: 0 },
        tags: Vec::new(),
        is_partial: false,
        expected_entries: None,
        changed_count: 0,
    }
}

fn file(path: String, size: u64, chunks: Vec<ChunkRef>) -> TreeEntry {
    let kind = EntryKind::File { size };
    let entry = Entry { path: path.into_bytes(), kind, mode: 0o644, modified: WallTime::default(), rank: 0 };
    TreeEntry { entry, chunks }
}

/// Processor time that this process has used.
fn cpu() -> Duration {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(clock.tv_sec as u64, clock.tv_nsec as u32)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn measured<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (wall, before) = (Instant::now(), cpu());
    let result = work();
    say(&format!(
        "{what}: {:.3} s wall, {:.3} s cpu",
        wall.elapsed().as_secs_f64(),
        (cpu() - before).as_secs_f64()
    ));
    result
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn say(line: &str) {
    println!("{line}");
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned()
}

fn put(store: &PackedStore, stage: StageId, bytes: &[u8]) -> ChunkRef {
    let hash = ChunkHash::of(bytes);
    store.put(stage, hash, bytes).expect("the chunk is stored");
    ChunkRef { hash, length: bytes.len() as u32 }
}

fn stored_bytes(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let metadata = entry.metadata().expect("a file");
        sum += if metadata.is_dir() { stored_bytes(&entry.path()) } else { metadata.len() };
    }
    sum
}

fn small(dir: &Path, count: u64) {
    let mut random = rand::rngs::SmallRng::seed_from_u64(1);
    let files: Vec<Vec<u8>> = (0..count)
        .map(|_| {
            let mut bytes = vec![0; random.random_range(1024..16 * 1024)];
            random.fill(&mut bytes[..]);
            bytes
        })
        .collect();
    let store = open(dir);
    measured("put and commit", || {
        let mut batch = Vec::new();
        for (number, bytes) in files.iter().enumerate() {
            let chunk = put(&store, stage(1), bytes);
            batch.push(file(format!("d{}/f{number}", number / 1000), bytes.len() as u64, vec![chunk]));
            if batch.len() == 1024 {
                store.commit(stage(1), &batch).expect("a commit");
                batch.clear();
            }
        }
        store.commit(stage(1), &batch).expect("a commit");
    });
    let record = measured("seal", || store.seal(stage(1), &meta(1)).expect("a snapshot"));
    measured("earlier, and commit again", || {
        let source = meta(1).source;
        let mut batch = Vec::new();
        for number in 0..files.len() {
            let path = format!("d{}/f{number}", number / 1000);
            batch.push(
                store.earlier(stage(2), &source, path.as_bytes()).expect("an answer").expect("an entry"),
            );
            if batch.len() == 1024 {
                store.commit(stage(2), &batch).expect("a commit");
                batch.clear();
            }
        }
        store.commit(stage(2), &batch).expect("a commit");
    });
    measured("seal again", || store.seal(stage(2), &meta(2)).expect("a snapshot"));
    measured("read", || read_all(&store, &record));
    drop(store);
    measured("open", || drop(open(dir)));
    say(&format!("{} bytes on disk, {}", stored_bytes(dir), peak_memory()));
}

fn read_all(store: &PackedStore, record: &SnapshotRecord) {
    for entry in store.entries(&record.id, None, b"", usize::MAX).expect("entries") {
        for chunk in entry.chunks {
            store.read(&chunk.hash).expect("a chunk");
        }
    }
}

fn open(dir: &Path) -> Arc<PackedStore> {
    PackedStore::open(dir, PackedConfig::default()).expect("a store")
}

/// Lower-case words of a small vocabulary, as logs and sources have.
fn text(random: &mut rand::rngs::SmallRng, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 16);
    while bytes.len() < length {
        let word = ChunkHash::of(&random.random_range(0_u32..2000).to_le_bytes()).to_string();
        bytes.extend_from_slice(&word.as_bytes()[..random.random_range(2..10)]);
        bytes.push(b" \n"[usize::from(random.random_range(0..10) == 0)]);
    }
    bytes.truncate(length);
    bytes
}

/// 1,600 files of log-normal sizes, half of them text and half noise.
fn tree(random: &mut rand::rngs::SmallRng) -> Vec<Vec<u8>> {
    let texts: Vec<Vec<u8>> = (0..8).map(|_| text(random, 1 << 20)).collect();
    let mut files = Vec::new();
    for number in 0..1600 {
        // Twelve uniform numbers are nearly a normal one.
        let normal = (0..12).map(|_| random.random_range(0.0..1.0)).sum::<f64>() - 6.0;
        let size = (40_000.0 * normal.exp()).clamp(512.0, 1_048_576.0) as usize;
        let mut bytes = vec![0; size];
        if number % 2 == 0 {
            random.fill(&mut bytes[..]);
        } else {
            let text = &texts[random.random_range(0..texts.len())];
            let start = random.random_range(0..text.len());
            bytes = [&text[start..], &text[..start]].concat()[..size].to_vec();
        }
        files.push(bytes);
    }
    files
}

/// Makes one to four edits in each of as many files as it takes until 2 % of the bytes are new.
fn edit(random: &mut rand::rngs::SmallRng, files: &mut [Vec<u8>]) {
    let todo = files.iter().map(Vec::len).sum::<usize>() / 50;
    let mut done = 0;
    while done < todo {
        let index = random.random_range(0..files.len());
        let bytes = &mut files[index];
        for _ in 0..random.random_range(1..=4) {
            let length = random.random_range(64..=4096);
            let start = random.random_range(0..bytes.len());
            let end = bytes.len().min(start + length);
            let mut new = vec![0; length];
            random.fill(&mut new[..]);
            match random.random_range(0..100) {
                0..60 => bytes[start..end].copy_from_slice(&new[..end - start]),
                60..85 => drop(bytes.splice(start..start, new)),
                _ => drop(bytes.drain(start..end)),
            }
            done += length;
        }
    }
}

/// `ORBIT_CHUNK_BYTES` is the average size of a chunk.
fn versions(dir: &Path, count: u64) {
    let average = std::env::var("ORBIT_CHUNK_BYTES").map_or(65536, |text| text.parse().expect("a number"));
    let mut random = rand::rngs::SmallRng::seed_from_u64(1);
    let mut files = tree(&mut random);
    let store = open(dir);
    let mut edits = Duration::ZERO;
    measured("all versions, and their edits", || {
        for version in 1..=count {
            let mut batch = Vec::new();
            for (number, bytes) in files.iter().enumerate() {
                let cuts = fastcdc::v2020::FastCDC::new(bytes, average / 4, average, average * 4);
                let chunks =
                    cuts.map(|cut| put(&store, stage(version), &bytes[cut.offset..cut.offset + cut.length]));
                batch.push(file(format!("f{number}"), bytes.len() as u64, chunks.collect()));
            }
            store.commit(stage(version), &batch).expect("a commit");
            store.seal(stage(version), &meta(version)).expect("a snapshot");
            let before = cpu();
            edit(&mut random, &mut files);
            edits += cpu() - before;
        }
    });
    say(&format!("the edits: {:.3} s cpu", edits.as_secs_f64()));
    say(&format!("{} bytes on disk, {}", stored_bytes(dir), peak_memory()));
}

fn universe(dir: &Path, count: u64) {
    let config = PackedConfig { container_bytes_max: 1 << 40, ..PackedConfig::default() };
    let store = PackedStore::open(dir, config).expect("a store");
    let name = |number: u64| ChunkHash::of(&number.to_le_bytes());
    measured("fill", || {
        for number in 0..count {
            store.put(stage(1), name(number), &number.to_le_bytes()).expect("a chunk");
            if number % 65536 == 65535 {
                store.commit(stage(1), &[]).expect("a commit");
            }
        }
        store.commit(stage(1), &[]).expect("a commit");
    });
    let asked = 1_000_000.min(count);
    let mut random = rand::rngs::SmallRng::seed_from_u64(2);
    for batch in [1, 256, 4096] {
        for miss in [0, count] {
            let hashes: Vec<_> = (0..asked).map(|_| name(miss + random.random_range(0..count))).collect();
            let what =
                format!("{asked} look-ups by {batch}, {}", if miss == 0 { "found" } else { "not found" });
            measured(&what, || {
                for part in hashes.chunks(batch) {
                    let found = store.contains(stage(2), part).expect("an answer");
                    assert!(found.iter().all(|is_known| *is_known == (miss == 0)));
                }
            });
        }
    }
    say(&format!("{} bytes on disk, {}", stored_bytes(dir), peak_memory()));
}

fn garbage(dir: &Path, count: u64) {
    let store = open(dir);
    let bytes_of = |number: u64| {
        let mut bytes = vec![0; 2048];
        rand::rngs::SmallRng::seed_from_u64(number).fill(&mut bytes[..]);
        bytes
    };
    measured("fill", || {
        for number in 0..count {
            // The chunks alternate between two jobs, so that garbage and needed chunks are interleaved.
            let job = 1 + number % 2;
            let chunk = put(&store, stage(job), &bytes_of(number));
            if number % 1024 < 2 {
                let entry = file(format!("f{number:09}"), 2048, vec![chunk]);
                store.commit(stage(job), &[entry]).expect("a commit");
            }
        }
    });
    for job in 1..=2 {
        let mut batch = Vec::new();
        for number in (job - 1..count).step_by(2) {
            let hash = ChunkHash::of(&bytes_of(number));
            batch.push(file(format!("f{number:09}"), 2048, vec![ChunkRef { hash, length: 2048 }]));
            if batch.len() == 4096 {
                store.commit(stage(job), &std::mem::take(&mut batch)).expect("a commit");
            }
        }
        store.commit(stage(job), &batch).expect("a commit");
        let record = measured("seal", || store.seal(stage(job), &meta(job)).expect("a snapshot"));
        if job == 1 {
            measured("delete", || store.delete_snapshot(&record.id).expect("deleted"));
        }
    }
    say(&format!("{} bytes on disk, {}", stored_bytes(dir), peak_memory()));
    let options = CollectOptions { ignore_undo_window: true, ..CollectOptions::default() };
    let plan = CollectOptions { plan_only: true, ignore_undo_window: true, ..CollectOptions::default() };
    say(&format!("{:?}", measured("plan", || store.collect(&plan, &|_| {}, &|| false).expect("a plan"))));
    let alone = measured("writer alone", || write_for(&store, 10, 1 << 40, &AtomicBool::new(false)));
    let is_done = AtomicBool::new(false);
    let (beside, report) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_for(&store, 11, 2 << 40, &is_done));
        let report = measured("collect", || store.collect(&options, &|_| {}, &|| false).expect("collected"));
        is_done.store(true, Ordering::Relaxed);
        (writer.join().expect("a writer"), report)
    });
    say(&format!("{report:?}"));
    say(&format!("writer: {alone:.0} chunks/s alone, {beside:.0} beside the collection"));
    say(&format!("{} bytes on disk, {}", stored_bytes(dir), peak_memory()));
}

/// Stores chunks until `is_done`, but no longer than 3 seconds for job 10 and 60 seconds for others. Returns chunks per
/// second.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn write_for(store: &PackedStore, job: u64, first: u64, is_done: &AtomicBool) -> f64 {
    let started = Instant::now();
    let mut number = 0;
    let mut bytes = vec![0; 8192];
    while !is_done.load(Ordering::Relaxed)
        && started.elapsed() < Duration::from_secs(if job == 10 { 3 } else { 60 })
    {
        rand::rngs::SmallRng::seed_from_u64(first + number).fill(&mut bytes[..]);
        put(store, stage(job), &bytes);
        number += 1;
        if number % 256 == 0 {
            store.commit(stage(job), &[]).expect("a commit");
        }
    }
    number as f64 / started.elapsed().as_secs_f64()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("a directory");
    let what = arguments.next().expect("what to measure");
    let count = arguments.next().map(|count| count.parse().expect("a number"));
    let dir = Path::new(&dir);
    match what.as_str() {
        "small" => small(dir, count.unwrap_or(50_000)),
        "versions" => versions(dir, count.unwrap_or(20)),
        "universe" => universe(dir, count.unwrap_or(10_000_000)),
        "garbage" => garbage(dir, count.unwrap_or(1_000_000)),
        other => panic!("there is no {other}"),
    }
}
