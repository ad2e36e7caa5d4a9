//! The cost of a large packed vault: look-ups among many millions of chunks, and a collection of half of them
//! concurrently with writers. The vault is filled here; a second process opens it, so that its memory is measured
//! separately.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::time::WallTime;
use orbit_shared::words::{JobId, StarId};
use orbit_star::packed::{
    ChunkRef, CollectOptions, PackedConfig, PackedStore, SnapshotMeta, SourceName, StageId, TreeEntry,
};

/// As in a Star, so that the memory is comparable.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of chunks of one file.
const CHUNKS_PER_FILE: u64 = 4;
/// Number of files that a job commits at once.
const FILES_PER_COMMIT: u64 = 256;
/// Number of chunks that are stored between two syncs when only the index is measured.
const CHUNKS_PER_COMMIT: u64 = 100_000;
/// Number of hashes in one lookup, as in one request between Stars.
const HASHES_PER_QUESTION: u64 = 1024;
/// Size of chunks for look-ups, in bytes; they are this small since only their rows matter.
const TINY_BYTES: usize = 16;
/// Number of tiny chunks in one container: as many as a container of 4 GiB has chunks of 64 KiB.
const TINY_PER_CONTAINER: u64 = 64 * 1024;
/// First number of the chunks of a writer, which must differ from those of the vault.
const WRITER_FIRST: u64 = 1 << 40;

type Problem = Box<dyn std::error::Error>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Look-ups of chunks that are there and of chunks that are not
    Lookups,
    /// A collection of every other file, alone and beside a writer
    Garbage,
}

/// Measures a vault that holds many chunks.
#[derive(Debug, Parser)]
#[command(name = "vault_scale")]
struct Arguments {
    /// What to measure
    what: What,
    /// Chunks in the vault: 10,000,000 for look-ups and 1,000,000 for a collection when it is not given
    #[arg(long)]
    chunks: Option<u64>,
    /// Bytes of a chunk that is collected
    #[arg(long, default_value_t = 4096)]
    chunk_bytes: usize,
    /// Collect without a writer beside
    #[arg(long)]
    alone: bool,
    /// How long to measure look-ups, and a writer before and after a collection
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Directory for the vault, on the disk to measure; a temporary one if not given
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Measure the vault in this directory; what the program calls itself with
    #[arg(long, hide = true)]
    open: Option<PathBuf>,
}

impl Arguments {
    fn chunks(&self) -> u64 {
        self.chunks.unwrap_or(match self.what {
            What::Lookups => 10_000_000,
            What::Garbage => 1_000_000,
        })
    }

    fn config(&self) -> PackedConfig {
        let config = PackedConfig::default();
        match self.what {
            What::Lookups => {
                PackedConfig { container_bytes_max: TINY_PER_CONTAINER * TINY_BYTES as u64, ..config }
            }
            What::Garbage => config,
        }
    }
}

fn main() -> ExitCode {
    orbit_program::memory::return_freed_soon();
    let arguments = Arguments::parse();
    let result = match &arguments.open {
        Some(path) => measure(&arguments, path),
        None => fill_and_measure(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "error: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// If the reader has gone away, it needs no more output.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn fill_and_measure(arguments: &Arguments) -> Result<(), Problem> {
    let directory = match &arguments.directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let start = now();
    let store = PackedStore::open(directory.path(), arguments.config())?;
    match arguments.what {
        What::Lookups => fill_tiny(&store, arguments.chunks())?,
        What::Garbage => fill_files(&store, arguments)?,
    }
    drop(store);
    say(&format!("filled with {} chunks in {:.1} s", arguments.chunks(), start.elapsed().as_secs_f64()));
    let mut child = Command::new(std::env::current_exe()?);
    child.args(std::env::args_os().skip(1)).arg("--open").arg(directory.path());
    if !child.status()?.success() {
        return Err("the measuring process failed".into());
    }
    Ok(())
}

fn measure(arguments: &Arguments, path: &Path) -> Result<(), Problem> {
    let start = now();
    let store = PackedStore::open(path, arguments.config())?;
    let memory = memory("VmRSS")?;
    say(&format!("opened in {:.2} s, {} MiB resident", start.elapsed().as_secs_f64(), memory >> 20));
    match arguments.what {
        What::Lookups => measure_lookups(&store, arguments)?,
        What::Garbage => measure_garbage(&store, arguments)?,
    }
    say(&format!("peak memory of the process {} MiB", self::memory("VmHWM")? >> 20));
    Ok(())
}

/// A value in bytes from the kernel's status of this process.
fn memory(name: &str) -> Result<u64, Problem> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kibibytes: u64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse()?;
    Ok(kibibytes << 10)
}

fn stage(job: u64) -> StageId {
    StageId { job: JobId(job), destination: 0 }
}

/// Incompressible bytes that are the same in every run.
fn noise(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

// ---- look-ups

fn fill_tiny(store: &PackedStore, chunks: u64) -> Result<(), Problem> {
    for number in 0..chunks {
        let bytes = noise(number, TINY_BYTES);
        store.put(stage(number / CHUNKS_PER_COMMIT), ChunkHash::of(&bytes), &bytes)?;
        if (number + 1).is_multiple_of(CHUNKS_PER_COMMIT) || number + 1 == chunks {
            store.commit(stage(number / CHUNKS_PER_COMMIT), &[])?;
            store.abandon(stage(number / CHUNKS_PER_COMMIT))?;
        }
    }
    Ok(())
}

fn measure_lookups(store: &PackedStore, arguments: &Arguments) -> Result<(), Problem> {
    for (name, first) in [("present", 0), ("absent", WRITER_FIRST)] {
        for threads in [1, 2] {
            let asked = AtomicU64::new(0);
            let start = now();
            std::thread::scope(|scope| {
                let asking = |thread| ask(store, arguments, first, thread, &asked);
                let threads: Vec<_> =
                    (0..threads).map(|thread| scope.spawn(move || asking(thread))).collect();
                threads.into_iter().try_for_each(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(_) => Err("a thread panicked".to_owned()),
                })
            })?;
            let rate = asked.into_inner() as f64 / start.elapsed().as_secs_f64();
            say(&format!("{name}, {threads} threads: {rate:.0} look-ups a second"));
        }
    }
    let resident = memory("VmRSS")?;
    let chunks = arguments.chunks();
    say(&format!("{} MiB resident, {:.1} bytes a chunk", resident >> 20, resident as f64 / chunks as f64));
    Ok(())
}

/// Looks up chunks in an order that does not depend on their rows.
fn ask(
    store: &PackedStore,
    arguments: &Arguments,
    first: u64,
    thread: u64,
    asked: &AtomicU64,
) -> Result<(), String> {
    let stage = stage(WRITER_FIRST + thread);
    let start = now();
    let mut number = thread.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while start.elapsed() < Duration::from_secs(arguments.seconds) {
        let question: Vec<_> = (0..HASHES_PER_QUESTION)
            .map(|_| {
                number =
                    number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ChunkHash::of(&noise(first + (number >> 16) % arguments.chunks(), TINY_BYTES))
            })
            .collect();
        let known = store.contains(stage, &question).map_err(|error| error.to_string())?;
        if known.iter().any(|is_known| *is_known != (first == 0)) {
            return Err("a look-up gave the wrong answer".to_owned());
        }
        asked.fetch_add(HASHES_PER_QUESTION, Ordering::Relaxed);
    }
    store.abandon(stage).map_err(|error| error.to_string())
}

// ---- garbage

/// Two jobs that alternate, so that every container holds as much of one as of the other; then the second one's
/// snapshot is deleted.
fn fill_files(store: &PackedStore, arguments: &Arguments) -> Result<(), Problem> {
    let files = arguments.chunks() / CHUNKS_PER_FILE;
    for first in (0..files).step_by(2 * FILES_PER_COMMIT as usize) {
        for job in 0..2 {
            let numbers = (first..files.min(first + 2 * FILES_PER_COMMIT)).filter(|number| number % 2 == job);
            write_files(store, stage(job), numbers, arguments.chunk_bytes)?;
        }
    }
    for job in 0..2 {
        let record = store.seal(stage(job), &meta())?;
        if job == 1 {
            store.delete_snapshot(&record.id)?;
        }
    }
    Ok(())
}

fn meta() -> SnapshotMeta {
    let star = StarId::new("star-1").unwrap_or_else(|error| unreachable!("{error}"));
    SnapshotMeta {
        source: SourceName { star, path: b"/data".to_vec() },
        created: WallTime::UNIX_EPOCH,
        tags: Vec::new(),
        is_partial: false,
        expected_entries: None,
        changed_count: 0,
    }
}

/// As a job does: only chunks that are not stored are put; then all are committed.
fn write_files(
    store: &PackedStore,
    stage: StageId,
    numbers: impl Iterator<Item = u64>,
    chunk_bytes: usize,
) -> Result<u64, Problem> {
    let mut entries = Vec::new();
    for number in numbers {
        let mut chunks = Vec::new();
        for part in 0..CHUNKS_PER_FILE {
            let bytes = noise(number * CHUNKS_PER_FILE + part, chunk_bytes);
            let hash = ChunkHash::of(&bytes);
            store.put(stage, hash, &bytes)?;
            chunks.push(ChunkRef { hash, length: chunk_bytes as u32 });
        }
        let kind = EntryKind::File { size: CHUNKS_PER_FILE * chunk_bytes as u64 };
        let path = format!("{:05}/{number:012}", number / 256).into_bytes();
        let entry = Entry { path, kind, mode: 0o644, modified: WallTime::UNIX_EPOCH, rank: 0 };
        entries.push(TreeEntry { entry, chunks });
    }
    store.commit(stage, &entries)?;
    Ok(entries.len() as u64 * CHUNKS_PER_FILE)
}

/// Available bytes on the file system of the vault.
fn available(store: &PackedStore) -> Result<u64, Problem> {
    let found = rustix::fs::statvfs(store.path())?;
    Ok(found.f_bavail * found.f_frsize)
}

fn measure_garbage(store: &Arc<PackedStore>, arguments: &Arguments) -> Result<(), Problem> {
    let (written, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    let before = (store.totals()?.container_bytes, available(store)?);
    let options = CollectOptions { ignore_undo_window: true, ..CollectOptions::default() };
    let collect = || -> Result<(), Problem> {
        let start = now();
        let report = store.collect(&options, &|_| {}, &|| false)?;
        say(&format!(
            "collected in {:.1} s: {} chunks removed, {} of {} MiB of containers freed, {} MiB moved",
            start.elapsed().as_secs_f64(),
            report.chunks_removed,
            report.bytes_freed >> 20,
            before.0 >> 20,
            report.bytes_copied >> 20,
        ));
        Ok(())
    };
    if arguments.alone {
        collect()?;
        let freed = available(store)?.saturating_sub(before.1);
        say(&format!("{} MiB more are available on the file system", freed >> 20));
        return Ok(());
    }
    std::thread::scope(|scope| -> Result<(), Problem> {
        let writer = scope.spawn(|| keep_writing(store, arguments, &written, &is_done));
        let quiet = || rate_while(&written, || rest(arguments.seconds));
        quiet();
        let first = quiet();
        let mut result = Ok(());
        let beside = rate_while(&written, || result = collect());
        let last = quiet();
        is_done.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| "the writer panicked")??;
        result?;
        say(&format!(
            "a writer stores {first:.0} chunks a second before, {beside:.0} beside the collection and {last:.0} after it"
        ));
        Ok(())
    })
}

#[expect(clippy::disallowed_methods, reason = "what is measured here is how much happens in a time")]
fn rest(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

/// Number of chunks written per second during a function.
fn rate_while(written: &AtomicU64, run: impl FnOnce()) -> f64 {
    let (start, before) = (now(), written.load(Ordering::Relaxed));
    run();
    (written.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64()
}

fn keep_writing(
    store: &PackedStore,
    arguments: &Arguments,
    written: &AtomicU64,
    is_done: &AtomicBool,
) -> Result<(), String> {
    let mut next = WRITER_FIRST;
    let stage = stage(2);
    while !is_done.load(Ordering::Relaxed) {
        let numbers = next..next + FILES_PER_COMMIT;
        next += FILES_PER_COMMIT;
        let count = write_files(store, stage, numbers, arguments.chunk_bytes);
        written.fetch_add(count.map_err(|error| error.to_string())?, Ordering::Relaxed);
    }
    Ok(())
}
