//! The coordinator's calls to a vault and the vault's answers, as both sides' cores use them.
//!
//! Every call is independent: it can be repeated after a lost answer, and then returns the same answer or a newer one.
//! A call begins a long operation (collection, scrub), and the next one returns its progress, so no answer takes longer
//! than [`limits::CALL_PATIENCE`]. The wire format is in `orbit/v1/session.proto` and `orbit/v1/vault.proto`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chunk_hash::ChunkHash;
use crate::entry::Entry;
use crate::sweep::{SweepInfo, SweepRequest};
use crate::time::WallTime;
use crate::words::{JobId, SnapshotId, StarId};

/// Limits of the calls.
pub mod limits {
    use std::time::Duration;

    /// Maximum number of unanswered calls of one vault.
    pub const CALLS_PER_STAR_MAX: usize = 32;
    /// Timeout of a vault's answer.
    pub const CALL_PATIENCE: Duration = Duration::from_secs(30);
    /// Time after which a vault answers that an operation is still running.
    pub const STATUS_AFTER: Duration = Duration::from_secs(5);
    /// Maximum number of snapshots, containers or entries in one answer.
    pub const PAGE_MAX: usize = 1000;
    /// Maximum total length of paths in one answer, in bytes, except that one entry always fits.
    pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
    /// Maximum number of stages in one answer. The others are listed when those are gone.
    pub const STAGES_MAX: usize = 1000;
    /// Maximum number of damaged chunks in one answer.
    pub const DAMAGED_MAX: usize = 64;
    /// Maximum number of files that are named for one damaged chunk.
    pub const AFFECTED_MAX: usize = 100;
    /// Maximum number of source files that are named for one damaged chunk, because they may still have its content.
    pub const ORIGINS_MAX: usize = 8;
    /// Maximum number of renamed files that are named with a new snapshot.
    pub const RENAMES_MAX: usize = 100;
    /// Maximum number of tags of one snapshot.
    pub const TAGS_MAX: usize = 32;
    /// Maximum length of a tag, in bytes.
    pub const TAG_BYTES_MAX: usize = 128;

    const _: () = assert!(STATUS_AFTER.as_secs() * 2 < CALL_PATIENCE.as_secs());
}

/// A snapshot, as in its vault's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// The job that stored it.
    pub job: JobId,
    /// Index of the destination within that job.
    pub destination: u32,
    /// The Star that was read.
    pub source_star: StarId,
    /// The path that was read there.
    #[serde(with = "serde_bytes")]
    pub source_path: Vec<u8>,
    /// When the job was created.
    pub create_time: WallTime,
    /// The operator's tags.
    pub tags: Vec<String>,
    /// Whether some items of the job were given up, so that they are missing.
    pub is_partial: bool,
    /// Number of entries in its tree.
    pub entry_count: u64,
    /// Number of regular files among them.
    pub file_count: u64,
    /// Total size of their content in bytes.
    pub total_bytes: u64,
    /// Bytes by which the vault grew.
    pub added_bytes: u64,
    /// Number of files in its tree that changed while they were read.
    #[serde(default)]
    pub changed_count: u64,
    /// Hash of the root of its tree. Equal trees have equal roots in every vault. Absent if the Star is of an earlier
    /// version.
    #[serde(default)]
    pub tree_hash: Option<ChunkHash>,
}

/// A file that a snapshot has under another path than the previous snapshot of the same source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// Its path in the previous snapshot, which no longer exists.
    pub from: Vec<u8>,
    /// Its path in the snapshot, which did not exist before.
    pub to: Vec<u8>,
    /// Size of its content in bytes.
    pub bytes: u64,
}

/// The files that a snapshot has under other paths than the previous snapshot of the same source.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Renames {
    /// The first ones by their new paths, at most [`limits::RENAMES_MAX`].
    pub first: Vec<Rename>,
    /// Number of all of them.
    pub count: u64,
    /// Total size of their content in bytes.
    pub bytes: u64,
}

/// A request to make a snapshot of what one job has stored for one destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRequest {
    /// The job.
    pub job: JobId,
    /// Index of the destination.
    pub destination: u32,
    /// The Star that was read.
    pub source_star: StarId,
    /// The path that was read there.
    pub source_path: Vec<u8>,
    /// When the job was created. It distinguishes a repeated request from one for another grid's job with the same
    /// number.
    pub create_time: WallTime,
    /// The operator's tags.
    pub tags: Vec<String>,
    /// Whether some items were given up.
    pub is_partial: bool,
    /// Number of entries that the vault must have.
    pub entry_count: u64,
    /// Number of files that changed while they were read.
    #[serde(default)]
    pub changed_count: u64,
}

/// An entry of a snapshot's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// The entry.
    pub entry: Entry,
    /// Number of chunks of its content.
    pub chunk_count: u64,
    /// Identifies its content: the BLAKE3 hash of its chunks' hashes and lengths. All zero for an entry without
    /// content.
    pub content_hash: [u8; 32],
}

/// A container, as `ListContainers` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its id within the vault.
    pub id: String,
    /// Bytes of its file.
    pub size_bytes: u64,
    /// Whether it is sealed: nothing is appended any more.
    pub is_sealed: bool,
    /// Whether its own list of chunks is damaged.
    pub is_damaged: bool,
    /// When all of it was last compared with its hashes.
    pub check_time: Option<WallTime>,
}

/// The place of a chunk in a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The container.
    pub container: String,
    /// Offset in its file.
    pub offset: u64,
    /// Stored length in bytes.
    pub stored_bytes: u64,
    /// Length of the content in bytes.
    pub raw_bytes: u64,
    /// Number of tree nodes that hold it.
    pub reference_count: u64,
    /// Whether it was found damaged.
    pub is_damaged: bool,
}

/// The state of a long operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It is running.
    Running,
    /// It has succeeded.
    Done,
    /// It has failed; the problem says why.
    Failed,
}

/// The progress or result of a garbage collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionInfo {
    /// Its state.
    pub progress: Progress,
    /// Whether nothing is to be changed.
    pub is_plan: bool,
    /// Chunks without references whose undo window is over.
    pub dead_chunks: u64,
    /// Their bytes on the disk.
    pub dead_bytes: u64,
    /// Chunks without references that can still be undeleted.
    pub waiting_chunks: u64,
    /// Their bytes on the disk.
    pub waiting_bytes: u64,
    /// Containers that were removed.
    pub removed_containers: u64,
    /// Bytes of live chunks that were moved to other containers.
    pub moved_bytes: u64,
    /// Bytes that were returned to the file system.
    pub freed_bytes: u64,
    /// Why it failed; empty if it did not.
    pub problem: String,
}

/// A damaged chunk and the files that it affects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedInfo {
    /// The chunk.
    pub hash: ChunkHash,
    /// The problem.
    pub problem: String,
    /// Snapshots and paths that need it, at most [`limits::AFFECTED_MAX`].
    pub affected: Vec<(SnapshotId, Vec<u8>)>,
    /// Whether there may be more than are listed.
    pub is_partial: bool,
    /// Where its content came from, the newest snapshots first, at most [`limits::ORIGINS_MAX`].
    pub origins: Vec<ChunkOrigin>,
}

/// A part of a file in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePart {
    /// Path below the source path; empty for the source path itself.
    pub path: Vec<u8>,
    /// Offset of the part.
    pub offset: u64,
    /// Length of the part in bytes.
    pub length: u32,
    /// Size of the whole file when it was stored.
    pub size: u64,
    /// Modification time of the file when it was stored.
    pub modified: WallTime,
}

/// The file that a chunk was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkOrigin {
    /// The snapshot that contains it, whose source is known.
    pub snapshot: SnapshotId,
    /// The part of the file that the chunk is.
    pub part: FilePart,
}

/// The progress or result of a scrub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubInfo {
    /// Its state.
    pub progress: Progress,
    /// Chunks that were read and compared with their hash.
    pub checked_chunks: u64,
    /// Their bytes on the disk.
    pub checked_bytes: u64,
    /// Chunks that were found damaged by this scrub.
    pub damaged_chunks: u64,
    /// Why it failed; empty if it did not.
    pub problem: String,
}

/// A call to a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultCall {
    /// Make a snapshot of what is stored. The same request returns the same snapshot.
    Seal(SealRequest),
    /// Give up what is stored of a job that will have no snapshot.
    Abandon {
        /// The job.
        job: JobId,
        /// Index of the destination.
        destination: u32,
    },
    /// List the snapshots after this one, and with the last page the stages.
    ListSnapshots {
        /// Exclusive.
        after: Option<SnapshotId>,
    },
    /// Delete a snapshot. It is no error if it does not exist.
    DeleteSnapshot(SnapshotId),
    /// Bring back a deleted snapshot; answered like `Seal`. All of its content must still be there.
    UndeleteSnapshot(SnapshotId),
    /// List entries of a snapshot's tree, in order.
    ListEntries {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Only this path and what is below it; empty for everything.
        path: Vec<u8>,
        /// Exclusive.
        after: Option<Vec<u8>>,
        /// The maximum number.
        count_max: usize,
    },
    /// List the containers after this one.
    ListContainers {
        /// Exclusive.
        after: Option<String>,
        /// The maximum number.
        count_max: usize,
    },
    /// Return the place of a chunk.
    LocateChunk(ChunkHash),
    /// Begin a garbage collection, or return its progress. The answer comes when it has ended, or after
    /// [`limits::STATUS_AFTER`].
    Collect {
        /// Only return what would be done.
        is_plan: bool,
        /// Also collect what can still be undeleted.
        ignores_undo_window: bool,
    },
    /// Begin to check chunks against their hashes, or return the progress; answered like `Collect`.
    Scrub {
        /// Maximum number of bytes read per second; 0 for no limit.
        bytes_per_second: u64,
        /// Check everything, not only what was not checked for long.
        is_everything: bool,
    },
    /// List damaged chunks, in order of their hashes.
    ListDamaged {
        /// Exclusive.
        after: Option<ChunkHash>,
    },
    /// Fetch a good copy of a damaged chunk from another vault, or from the file that it came from.
    Heal(HealRequest),
    /// Begin to delete what a mirrored source does not have, or return the progress; answered like `Collect`. This does
    /// not concern the vault, but it is the same kind of call.
    Sweep(Box<SweepRequest>),
}

impl VaultCall {
    /// The same call with the capability token that it needs. A call that needs none is not changed.
    #[must_use]
    pub fn with_token(mut self, signed: String) -> Self {
        match &mut self {
            Self::Heal(HealRequest { token, .. }) => *token = signed,
            Self::Sweep(request) => request.token = signed,
            Self::Seal(_)
            | Self::Abandon { .. }
            | Self::ListSnapshots { .. }
            | Self::DeleteSnapshot(_)
            | Self::UndeleteSnapshot(_)
            | Self::ListEntries { .. }
            | Self::ListContainers { .. }
            | Self::LocateChunk(_)
            | Self::Collect { .. }
            | Self::Scrub { .. }
            | Self::ListDamaged { .. } => {}
        }
        self
    }
}

/// The place of a good copy of a damaged chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealRequest {
    /// The chunk.
    pub hash: ChunkHash,
    /// The Star that has it.
    pub source_star: StarId,
    /// Its data plane, `host:port`.
    pub source_address: String,
    /// The token, signed by the coordinator.
    pub token: String,
    /// The file to read it from; absent: that Star's vault has it.
    pub origin: Option<HealOrigin>,
}

/// A file at its source that may still have the content of a damaged chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealOrigin {
    /// The path that was read when it was stored.
    pub source_path: Vec<u8>,
    /// The part of the file below that path.
    pub part: FilePart,
}

/// An answer of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultReply {
    /// The snapshot is durable. Some of its files may be files of the previous snapshot under other paths.
    Sealed(SnapshotInfo, Renames),
    /// It is done.
    Done,
    /// Snapshots, by id.
    Snapshots {
        /// The snapshots.
        snapshots: Vec<SnapshotInfo>,
        /// Jobs and destinations with stages that are no snapshots.
        stages: Vec<(JobId, u32)>,
        /// Whether there are no more.
        is_end: bool,
    },
    /// Entries.
    Entries {
        /// The entries.
        entries: Vec<SnapshotEntry>,
        /// Whether there are no more.
        is_end: bool,
    },
    /// Containers.
    Containers {
        /// The containers.
        containers: Vec<ContainerInfo>,
        /// Whether there are no more.
        is_end: bool,
    },
    /// The place of a chunk, if it is stored.
    Located(Option<ChunkPlace>),
    /// The progress of a collection.
    Collection(CollectionInfo),
    /// The progress of a scrub.
    Scrub(ScrubInfo),
    /// Damaged chunks, in the order of their hashes; there may be more if it is [`limits::DAMAGED_MAX`] of them.
    Damaged(Vec<DamagedInfo>),
    /// The progress of a sweep.
    Swept(SweepInfo),
}

/// Why a vault could not execute a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultFailure {
    /// It does not exist.
    NotFound,
    /// Not now: another operation is running.
    Busy,
    /// Its disk is full.
    Full,
    /// The data is damaged.
    Damaged,
    /// Another reason, in the message. A retry may succeed.
    Failed,
}

/// An error of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultProblem {
    /// The kind of failure.
    pub failure: VaultFailure,
    /// The operation and why it failed.
    pub message: String,
}

/// Pause before the next attempt of a failed seal: longer with each attempt, up to a minute.
pub fn seal_pause(before: Option<Duration>) -> Duration {
    const MIN: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(60);
    before.map_or(MIN, |before| (before * 2).min(MAX))
}
