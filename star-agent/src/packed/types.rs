//! The words of the packed store: stages, entries, snapshots, and what it says about itself.

use std::fmt;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::Entry;
use orbit_shared::time::WallTime;
use orbit_shared::vault_call::FilePart;
pub use orbit_shared::words::SnapshotId;
use orbit_shared::words::{JobId, StarId};

/// What one job has stored so far for one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId {
    /// The job.
    pub job: JobId,
    /// Which of its destinations.
    pub destination: u32,
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.job, self.destination)
    }
}

/// A piece of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkRef {
    /// Its name.
    pub hash: ChunkHash,
    /// How many bytes it has, uncompressed.
    pub length: u32,
}

/// One entry of a stage or a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Path, kind, mode and times.
    pub entry: Entry,
    /// The content of a file, in order; empty for everything else.
    pub chunks: Vec<ChunkRef>,
}

/// Where the entries of a snapshot came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceName {
    /// The source Star.
    pub star: StarId,
    /// The source path on it.
    pub path: Vec<u8>,
}

/// What the job says about the snapshot that its stage becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// Where it came from.
    pub source: SourceName,
    /// When the job was created. A second seal of the same stage is known by it.
    pub created: WallTime,
    /// What an operator calls it.
    pub tags: Vec<String>,
    /// Whether some entries of the source are missing in it.
    pub is_partial: bool,
    /// How many different paths must be in the stage; fewer is an error. Absent: whatever is there.
    pub expected_entries: Option<u64>,
    /// How many files changed while they were read.
    pub changed_count: u64,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Its name.
    pub id: SnapshotId,
    /// The stage that it was.
    pub stage: StageId,
    /// Where it came from.
    pub source: SourceName,
    /// When the job was created.
    pub created: WallTime,
    /// When it became a snapshot.
    pub sealed: WallTime,
    /// What an operator calls it.
    pub tags: Vec<String>,
    /// Whether some entries of the source are missing in it.
    pub is_partial: bool,
    /// Entries of all kinds.
    pub entry_count: u64,
    /// Files among them.
    pub file_count: u64,
    /// Bytes of all files together.
    pub total_bytes: u64,
    /// Bytes on the disk that came with it, compressed and without what was there before.
    pub new_bytes: u64,
    /// The node that its tree begins at.
    pub root: ChunkRef,
    /// Files that changed while they were read.
    pub changed_count: u64,
}

/// Where a chunk lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkPlace {
    /// Which container: its file name without `.orbitpak`.
    pub container_id: String,
    /// Position of its first byte in the file.
    pub offset: u64,
    /// How many bytes of the file it takes.
    pub stored_length: u32,
    /// How many bytes it has.
    pub length: u32,
    /// How many tree nodes hold it; 0 for one that only a stage holds, or nobody.
    pub references: u32,
}

/// A chunk that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedChunk {
    /// Its name.
    pub hash: ChunkHash,
    /// When that was found.
    pub found: WallTime,
    /// What is wrong, in words for a person.
    pub problem: String,
}

/// What a chunk that cannot be read is part of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Affected {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The path in it; for a part of the tree, the first path that it holds.
    pub path: Vec<u8>,
    /// Which part of which file it is. Absent: it is a part of the tree, so that all paths that it holds are out of reach.
    pub part: Option<FilePart>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its file name without `.orbitpak`.
    pub container_id: String,
    /// Length of its file.
    pub file_bytes: u64,
    /// Whether nothing is appended to it any more.
    pub is_sealed: bool,
    /// Whether its list of chunks is damaged; the next collection writes it anew.
    pub is_damaged: bool,
    /// When all of it was last checked.
    pub checked: Option<WallTime>,
}

/// Totals over the store.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PackedTotals {
    /// Chunks stored.
    pub chunk_count: u64,
    /// Containers.
    pub container_count: u64,
    /// Bytes of their files.
    pub container_bytes: u64,
    /// Snapshots.
    pub snapshot_count: u64,
    /// Stages that are not snapshots yet.
    pub stage_count: u64,
    /// Chunks known to be damaged.
    pub damaged_count: u64,
}
