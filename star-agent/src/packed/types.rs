//! The types of the packed store: stages, entries, snapshots, and its reports about itself.

use std::fmt;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::Entry;
use orbit_shared::time::WallTime;
use orbit_shared::vault_call::FilePart;
pub use orbit_shared::words::SnapshotId;
use orbit_shared::words::{JobId, StarId};

/// The id of a stage: what one job has stored so far for one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId {
    /// The job.
    pub job: JobId,
    /// The index of the destination.
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
    /// Its hash.
    pub hash: ChunkHash,
    /// Its uncompressed length in bytes.
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

/// What the job sets for the snapshot that its stage becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The source.
    pub source: SourceName,
    /// When the job was created. It identifies a repeated seal of the same stage.
    pub created: WallTime,
    /// Tags that an operator gave.
    pub tags: Vec<String>,
    /// Whether some entries of the source are missing.
    pub is_partial: bool,
    /// Number of different paths that must be in the stage; fewer is an error. Absent: any number.
    pub expected_entries: Option<u64>,
    /// Number of files that changed while they were read.
    pub changed_count: u64,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Its id.
    pub id: SnapshotId,
    /// The stage that it was made from.
    pub stage: StageId,
    /// The source.
    pub source: SourceName,
    /// When the job was created.
    pub created: WallTime,
    /// When it was made.
    pub sealed: WallTime,
    /// Tags that an operator gave.
    pub tags: Vec<String>,
    /// Whether some entries of the source are missing.
    pub is_partial: bool,
    /// Number of entries of all kinds.
    pub entry_count: u64,
    /// Number of files among them.
    pub file_count: u64,
    /// Total size of all files in bytes.
    pub total_bytes: u64,
    /// Bytes that it has added to the disk, compressed.
    pub new_bytes: u64,
    /// The root node of its tree.
    pub root: ChunkRef,
    /// Number of files that changed while they were read.
    pub changed_count: u64,
}

/// The place of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The container: its file name without `.orbitpak`.
    pub container_id: String,
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Its length in the file, in bytes.
    pub stored_length: u32,
    /// Its uncompressed length in bytes.
    pub length: u32,
    /// Number of tree nodes that hold it; 0 if only a stage or nothing holds it.
    pub references: u32,
}

/// A chunk that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedChunk {
    /// Its hash.
    pub hash: ChunkHash,
    /// When the damage was found.
    pub found: WallTime,
    /// The problem, as text.
    pub problem: String,
}

/// What an unreadable chunk is part of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Affected {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The path in it; for a part of the tree, the first path in that part.
    pub path: Vec<u8>,
    /// The part of the file. Absent: the chunk is a part of the tree, so no path in it can be read.
    pub part: Option<FilePart>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its file name without `.orbitpak`.
    pub container_id: String,
    /// Length of its file.
    pub file_bytes: u64,
    /// Whether it is sealed: nothing is appended any more.
    pub is_sealed: bool,
    /// Whether its list of chunks is damaged; the next collection rewrites it.
    pub is_damaged: bool,
    /// When all of it was last checked.
    pub checked: Option<WallTime>,
}

/// Totals over the store.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PackedTotals {
    /// Number of stored chunks.
    pub chunk_count: u64,
    /// Containers.
    pub container_count: u64,
    /// Total size of their files in bytes.
    pub container_bytes: u64,
    /// Snapshots.
    pub snapshot_count: u64,
    /// Stages that have not become snapshots.
    pub stage_count: u64,
    /// Number of chunks known to be damaged.
    pub damaged_count: u64,
}
