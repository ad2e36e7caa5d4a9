//! Uses a vault's packed store like a program: the stored content is derived from numbers, and each acknowledgement is
//! printed as a line, so that another process can tell after a kill what must be there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::time::WallTime;
use orbit_shared::words::{JobId, StarId};
use orbit_star::packed::{
    ChunkRef, CollectOptions, PackedConfig, PackedError, PackedStore, ScrubOptions, SnapshotId, SnapshotMeta,
    SourceName, StageId, TreeEntry,
};

/// Number of jobs that are sealed.
const JOBS: u64 = 4;
/// A job that is not sealed.
const OPEN_JOB: u64 = 9;
const FILES_PER_JOB: u64 = 6;

/// Small containers and little memory, so that everything happens often.
pub fn config() -> PackedConfig {
    PackedConfig {
        container_bytes_max: 16 * 1024,
        recent_chunks_max: 4,
        reserve_bytes: 64 * 1024,
        ..PackedConfig::default()
    }
}

/// The stage of a job.
pub fn stage(job: u64) -> StageId {
    StageId { job: JobId(job), destination: 0 }
}

/// The properties of the snapshot of a job.
pub fn meta(job: u64) -> SnapshotMeta {
    SnapshotMeta {
        source: SourceName { star: StarId::new("star-1").expect("a name"), path: b"/data".to_vec() },
        created: WallTime { seconds: i64::try_from(job).expect("a small number"), nanos: 0 },
        tags: vec![format!("job-{job}")],
        is_partial: false,
        expected_entries: None,
        changed_count: 0,
    }
}

/// The chunks of a file: one incompressible and one compressible.
pub fn chunks(number: u64) -> [Vec<u8>; 2] {
    let mut noise = Vec::new();
    while noise.len() < 3000 {
        let seed = [number.to_le_bytes(), (noise.len() as u64).to_le_bytes()].concat();
        noise.extend_from_slice(ChunkHash::of(&seed).as_bytes());
    }
    [noise, format!("text of file {number}. ").repeat(100).into_bytes()]
}

/// Stores a file's chunks and returns its entry.
///
/// # Errors
/// The store reports an error.
pub fn put(store: &PackedStore, stage: StageId, number: u64) -> Result<TreeEntry, PackedError> {
    let mut refs = Vec::new();
    let mut size = 0;
    for bytes in chunks(number) {
        let hash = ChunkHash::of(&bytes);
        store.put(stage, hash, &bytes)?;
        refs.push(ChunkRef { hash, length: u32::try_from(bytes.len()).expect("a small chunk") });
        size += bytes.len() as u64;
    }
    let path = format!("f{number:04}").into_bytes();
    let entry =
        Entry { path, kind: EntryKind::File { size }, mode: 0o644, modified: WallTime::default(), rank: 0 };
    Ok(TreeEntry { entry, chunks: refs })
}

/// The files of a job. Each job shares some with the one before.
pub fn files_of(job: u64) -> std::ops::Range<u64> {
    job * 3..job * 3 + FILES_PER_JOB
}

/// Collects everything that may be collected.
pub fn collect_all() -> CollectOptions {
    CollectOptions { ignore_undo_window: true, garbage_percent_min: 1, ..CollectOptions::default() }
}

/// Stores, seals, deletes and collects, and prints what is acknowledged.
///
/// # Errors
/// The store reports an error, or the output has no reader.
pub fn drive(dir: &Path, output: &mut dyn Write) -> io::Result<()> {
    let store = PackedStore::open(dir, config()).map_err(io::Error::other)?;
    let mut say = |line: String| writeln!(output, "{line}").and_then(|()| output.flush());
    let mut sealed: Vec<SnapshotId> = Vec::new();
    for job in 1..=JOBS {
        store_files(&store, job, &mut say)?;
        let record = store.seal(stage(job), &meta(job)).map_err(io::Error::other)?;
        say(format!("sealed {job} {}", record.id))?;
        sealed.push(record.id);
        if job % 2 == 0 {
            let oldest = sealed.remove(0);
            say(format!("deleting {oldest}"))?;
            store.delete_snapshot(&oldest).map_err(io::Error::other)?;
            say(format!("deleted {oldest}"))?;
            store.collect(&collect_all(), &|_| {}, &|| false).map_err(io::Error::other)?;
        }
    }
    store_files(&store, OPEN_JOB, &mut say)?;
    let options = ScrubOptions { everything: true, ..ScrubOptions::default() };
    store.scrub(&options, &|_| {}, &|| false).map_err(io::Error::other)?;
    say("done".to_owned())
}

fn store_files(
    store: &Arc<PackedStore>,
    job: u64,
    say: &mut dyn FnMut(String) -> io::Result<()>,
) -> io::Result<()> {
    let numbers: Vec<u64> = files_of(job).collect();
    for part in numbers.chunks(3) {
        let entries: Result<Vec<_>, _> = part.iter().map(|number| put(store, stage(job), *number)).collect();
        store.commit(stage(job), &entries.map_err(io::Error::other)?).map_err(io::Error::other)?;
        part.iter().try_for_each(|number| say(format!("committed {job} {number}")))?;
    }
    Ok(())
}

/// What was acknowledged.
#[derive(Debug, Default)]
pub struct Acknowledged {
    committed: BTreeMap<u64, BTreeSet<u64>>,
    sealed: BTreeMap<u64, SnapshotId>,
    deleting: BTreeSet<SnapshotId>,
    deleted: BTreeSet<SnapshotId>,
    /// Whether everything was acknowledged.
    pub is_done: bool,
}

impl Acknowledged {
    /// Reads the lines of [`drive`]. The last one may be truncated.
    pub fn read(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |index: usize| words[index].parse::<u64>().expect("a number");
            let id = |index: usize| words[index].parse::<SnapshotId>().expect("an id");
            match words[0] {
                "committed" => {
                    found.committed.entry(number(1)).or_default().insert(number(2));
                }
                "sealed" => {
                    found.sealed.insert(number(1), id(2));
                }
                "deleting" => {
                    found.deleting.insert(id(1));
                }
                "deleted" => {
                    found.deleted.insert(id(1));
                }
                "done" => found.is_done = true,
                other => panic!("no such line: {other}"),
            }
        }
        found
    }

    /// Asserts that the store has everything that was acknowledged, with the right bytes, and can be used further.
    pub fn assert_kept(&self, dir: &Path, what: &str) {
        let store = PackedStore::open(dir, config()).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(store.opened().rebuilt, None, "{what}: the universe does not survive a kill");
        self.assert_there(&store, what);
        let options = ScrubOptions { everything: true, ..ScrubOptions::default() };
        let report =
            store.scrub(&options, &|_| {}, &|| false).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(report.damaged_chunks.is_empty() && report.damaged_files.is_empty(), "{what}: {report:?}");
        store.collect(&collect_all(), &|_| {}, &|| false).unwrap_or_else(|error| panic!("{what}: {error}"));
        self.assert_there(&store, what);
        let entry = put(&store, stage(77), 1000).expect("a vault that was killed takes more");
        store.commit(stage(77), &[entry]).expect("a vault that was killed takes more");
    }

    fn assert_there(&self, store: &PackedStore, what: &str) {
        for (job, numbers) in &self.committed {
            let snapshot = store.snapshots().into_iter().find(|record| record.stage == stage(*job));
            if self.sealed.get(job).is_some_and(|id| self.deleting.contains(id)) {
                assert!(snapshot.is_none_or(|record| !self.deleted.contains(&record.id)), "{what}");
                continue;
            }
            if let Some(id) = self.sealed.get(job) {
                assert_eq!(snapshot.as_ref().map(|record| record.id), Some(*id), "{what}: job {job} is gone");
            }
            for number in numbers {
                let path = format!("f{number:04}").into_bytes();
                let entry = match &snapshot {
                    Some(record) => store.entry(&record.id, &path),
                    None => store.staged(stage(*job), &path),
                };
                let entry = entry.unwrap_or_else(|error| panic!("{what}: {error}"));
                let entry = entry.unwrap_or_else(|| panic!("{what}: file {number} of job {job} is gone"));
                for (chunk, bytes) in entry.chunks.iter().zip(chunks(*number)) {
                    let found = store.read(&chunk.hash).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert!(found == bytes, "{what}: file {number} of job {job} has other bytes");
                }
            }
        }
    }
}
