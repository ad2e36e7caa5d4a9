//! How long a coordinator takes to start with a store that holds many open items, and how much memory. The store is
//! filled here; a second process opens it, so that its memory is measured separately.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::Parser;
use orbit_coordinator::core::{
    Change, Core, CoreConfig, JobRecord, JobSpec, Location, ScanRecord, Tally, Turn,
};
use orbit_coordinator::store::{EmbeddedStore, Store};
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::penalization::PenaltyConfig;
use orbit_shared::prioritizer::PrioritizerKind;
use orbit_shared::time::{Now, WallTime};
use orbit_shared::words::{ItemId, JobId, StarId};

const JOB: JobId = JobId(1);
/// Number of items in one commit, as in a turn of a very busy coordinator.
const BATCH: u64 = 20_000;
/// Number of items that a lane loads first.
const FIRST_ITEMS: usize = 4096;

type Problem = Box<dyn std::error::Error>;

/// Measures how a coordinator starts with many open items.
#[derive(Debug, Parser)]
#[command(name = "recovery")]
struct Arguments {
    /// Open items in the store
    #[arg(long, default_value_t = 1_000_000)]
    items: u64,
    /// Directory for the store, on the disk to measure; a temporary one if not given
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Open this store and print what that took; what the program calls itself with
    #[arg(long, hide = true)]
    open: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.open {
        Some(path) => open(path),
        None => fill_and_open(&arguments),
    };
    match result {
        Ok(text) => {
            // If the reader has gone away, it needs no more output.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn fill_and_open(arguments: &Arguments) -> Result<String, Problem> {
    let temporary = tempfile::tempdir()?;
    let directory = arguments.directory.as_deref().unwrap_or(temporary.path());
    let path = directory.join("recovery.redb");
    fill(&path, arguments.items)?;
    let size = std::fs::metadata(&path)?.len();
    let child = Command::new(std::env::current_exe()?).arg("--open").arg(&path).output()?;
    std::fs::remove_file(&path)?;
    if !child.status.success() {
        return Err(String::from_utf8_lossy(&child.stderr).into_owned().into());
    }
    let measured = String::from_utf8_lossy(&child.stdout).into_owned();
    Ok(format!("{} open items, a store of {} MiB: {measured}", arguments.items, size >> 20))
}

/// Opens the store as a coordinator does, up to the first items that it could dispatch.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn open(path: &Path) -> Result<String, Problem> {
    let start = Instant::now();
    let store = EmbeddedStore::open(path)?;
    let opened = start.elapsed();
    let mut turn = Turn::new(Now::from_ms(0));
    let _core = Core::recover(&mut turn, CoreConfig::default(), store.recover()?);
    let first = store.queue_page(JOB, 0, b"", FIRST_ITEMS)?;
    let whole = start.elapsed();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim();
    Ok(format!(
        "verified and opened in {:.2} s, its first {} items at hand after {:.2} s, peak memory {peak}\n",
        opened.as_secs_f64(),
        first.items.len(),
        whole.as_secs_f64()
    ))
}

fn fill(path: &Path, items: u64) -> Result<(), Problem> {
    let store = EmbeddedStore::open(path)?;
    store.commit(&[Change::PutJob(Box::new(job(items)?))])?;
    let mut start = 0;
    while start < items {
        let end = items.min(start + BATCH);
        let changes: Vec<Change> = (start..end).flat_map(changes_of).collect();
        store.commit(&changes)?;
        start = end;
    }
    Ok(())
}

/// What a scan makes durable for one entry.
fn changes_of(sequence: u64) -> [Change; 2] {
    let path = format!("archive/{:03}/{:05}/photograph-{sequence:08}.jpg", sequence % 997, sequence / 100);
    let entry = Entry {
        path: path.into_bytes(),
        kind: EntryKind::File { size: 4096 },
        mode: 0o644,
        modified: WallTime::UNIX_EPOCH,
        rank: 50,
    };
    let item = ItemId { job: JOB, destination: 0, sequence };
    let key = sequence.to_be_bytes().to_vec();
    [Change::PutEntry { job: JOB, sequence, entry: entry.into() }, Change::Enqueue { item, key }]
}

fn job(items: u64) -> Result<JobRecord, Problem> {
    let place = |name: &str| {
        let star_id = StarId::new(name).map_err(|error| error.to_string())?;
        Ok::<_, Problem>(Location { star_id, path: b"/data".to_vec() })
    };
    let spec = JobSpec {
        source: place("star-1")?,
        destinations: vec![place("star-2")?],
        include: Vec::new(),
        exclude: Vec::new(),
        prioritizers: PrioritizerKind::DEFAULT_CHAIN.to_vec(),
        penalty: PenaltyConfig::default(),
        max_bytes_per_second: 0,
        dead_letter_max: 10_000,
        layout: orbit_shared::words::Layout::Files,
        snapshot: None,
        tags: Vec::new(),
        limits: Default::default(),
        is_one_file_system: false,
        bandwidth_windows: Vec::new(),
        caller: None,
        mirror: None,
        paths: Vec::new(),
        compares_content: false,
    };
    Ok(JobRecord {
        id: JOB,
        spec,
        request_id: String::new(),
        create_time: WallTime::UNIX_EPOCH,
        pause: None,
        scan: ScanRecord { is_done: true, next_sequence: items, ..ScanRecord::default() },
        tallies: vec![Tally { total: items, open_files: items, ..Tally::default() }],
        end: None,
        snapshots: Vec::new(),
        seal_failures: Default::default(),
        sweeps: Vec::new(),
        created_by: String::new(),
        removed_before: None,
        is_forgotten: false,
        sweeps_voided: 0,
        run_of: None,
        deleted_before: 0,
    })
}
