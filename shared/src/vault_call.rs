//! What the coordinator asks of a vault, and what a vault answers, as both sides' cores see it.
//!
//! Every call stands for itself: it may be asked again after a lost answer, and then gives the same answer or a newer
//! one. What takes long (collecting, scrubbing) is begun by a call and looked at by the next one, so no answer is waited
//! for longer than [`limits::CALL_PATIENCE`]. The wire form stands in `orbit/v1/session.proto` and
//! `orbit/v1/vault.proto`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chunk_hash::ChunkHash;
use crate::entry::Entry;
use crate::sweep::{SweepInfo, SweepRequest};
use crate::time::WallTime;
use crate::words::{JobId, SnapshotId, StarId};

/// Bounds of the calls.
pub mod limits {
    use std::time::Duration;

    /// Calls that one vault has unanswered.
    pub const CALLS_PER_STAR_MAX: usize = 32;
    /// How long a vault may take for one answer.
    pub const CALL_PATIENCE: Duration = Duration::from_secs(30);
    /// After how long a vault answers that something goes on still.
    pub const STATUS_AFTER: Duration = Duration::from_secs(5);
    /// Snapshots, containers or entries in one answer.
    pub const PAGE_MAX: usize = 1000;
    /// Bytes of paths in one answer, except that one entry always fits.
    pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
    /// Stages that one answer names; the others are named when those have gone.
    pub const STAGES_MAX: usize = 1000;
    /// Damaged chunks that one answer names.
    pub const DAMAGED_MAX: usize = 64;
    /// Files that are named for one damaged chunk.
    pub const AFFECTED_MAX: usize = 100;
    /// Files at their sources that are named for one damaged chunk, because they may still have its content.
    pub const ORIGINS_MAX: usize = 8;
    /// Tags of one snapshot.
    pub const TAGS_MAX: usize = 32;
    /// Bytes of one tag.
    pub const TAG_BYTES_MAX: usize = 128;

    const _: () = assert!(STATUS_AFTER.as_secs() * 2 < CALL_PATIENCE.as_secs());
}

/// A snapshot, as its vault's record has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Its name.
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
    /// The operator's words for it.
    pub tags: Vec<String>,
    /// Whether some items of the job were given up, so that they are missing here.
    pub is_partial: bool,
    /// Entries in its tree.
    pub entry_count: u64,
    /// Regular files among them.
    pub file_count: u64,
    /// Bytes of their content.
    pub total_bytes: u64,
    /// Bytes that the vault grew by for it.
    pub added_bytes: u64,
    /// Files in its tree that changed while they were read.
    #[serde(default)]
    pub changed_count: u64,
}

/// What one job has stored for one destination is to become a snapshot.
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
    /// When the job was created. It tells a seal that is asked for again from the seal of another grid's job with the
    /// same number.
    pub create_time: WallTime,
    /// The operator's words for it.
    pub tags: Vec<String>,
    /// Whether some items were given up.
    pub is_partial: bool,
    /// How many entries the vault must have by now.
    pub entry_count: u64,
    /// How many files changed while they were read.
    #[serde(default)]
    pub changed_count: u64,
}

/// An entry of a snapshot's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// What it is.
    pub entry: Entry,
    /// Chunks of its content.
    pub chunk_count: u64,
    /// Names its content: the BLAKE3 hash of its chunks' hashes and lengths. All zero for what has no content.
    pub content_hash: [u8; 32],
}

/// A container, as `ListContainers` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its name within the vault.
    pub id: String,
    /// Bytes of its file.
    pub size_bytes: u64,
    /// Whether nothing is added to it any more.
    pub is_sealed: bool,
    /// Whether its own list of chunks is damaged.
    pub is_damaged: bool,
    /// When all of it was compared with its hashes last.
    pub check_time: Option<WallTime>,
}

/// Where a chunk lies in a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkPlace {
    /// The container.
    pub container: String,
    /// First byte within its file.
    pub offset: u64,
    /// Bytes there.
    pub stored_bytes: u64,
    /// Bytes of content.
    pub raw_bytes: u64,
    /// Places in the trees of snapshots that need it.
    pub reference_count: u64,
    /// Whether it was found damaged.
    pub is_damaged: bool,
}

/// Something that goes on for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It goes on.
    Running,
    /// It has ended well.
    Done,
    /// It has ended badly; the problem says how.
    Failed,
}

/// What a collection of garbage has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionInfo {
    /// Where it stands.
    pub progress: Progress,
    /// Whether nothing is to be changed.
    pub is_plan: bool,
    /// Chunks that nothing refers to and whose undo window is over.
    pub dead_chunks: u64,
    /// Their bytes on the disk.
    pub dead_bytes: u64,
    /// Chunks that nothing refers to and that may still be wanted back.
    pub waiting_chunks: u64,
    /// Their bytes on the disk.
    pub waiting_bytes: u64,
    /// Containers that were removed.
    pub removed_containers: u64,
    /// Bytes of live chunks that were moved to other containers.
    pub moved_bytes: u64,
    /// Bytes that went back to the file system.
    pub freed_bytes: u64,
    /// Why it failed; empty if it did not.
    pub problem: String,
}

/// A damaged chunk and what it hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedInfo {
    /// The chunk.
    pub hash: ChunkHash,
    /// What is wrong with it.
    pub problem: String,
    /// Snapshots and paths that need it, at most [`limits::AFFECTED_MAX`].
    pub affected: Vec<(SnapshotId, Vec<u8>)>,
    /// Whether there may be more of them than are named.
    pub is_partial: bool,
    /// Where its content came from, the newest snapshots first, at most [`limits::ORIGINS_MAX`].
    pub origins: Vec<ChunkOrigin>,
}

/// A part of a file as a snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePart {
    /// Path below the source path; empty for the source path itself.
    pub path: Vec<u8>,
    /// First byte of the part.
    pub offset: u64,
    /// Bytes of the part.
    pub length: u32,
    /// Bytes of the whole file when it was stored.
    pub size: u64,
    /// When the file had been modified last, when it was stored.
    pub modified: WallTime,
}

/// The file that a chunk was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkOrigin {
    /// The snapshot that has it; where that was read is known of it.
    pub snapshot: SnapshotId,
    /// Which part of which file the chunk is.
    pub part: FilePart,
}

/// What a scrub has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubInfo {
    /// Where it stands.
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

/// What the coordinator asks of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultCall {
    /// Make a snapshot of what is stored. The same request gives the same snapshot.
    Seal(SealRequest),
    /// Give up what is stored of a job that will have no snapshot.
    Abandon {
        /// The job.
        job: JobId,
        /// Index of the destination.
        destination: u32,
    },
    /// Name the snapshots behind this one, and with the last of them the stages.
    ListSnapshots {
        /// Exclusive.
        after: Option<SnapshotId>,
    },
    /// Forget a snapshot. One that is not there is no mistake.
    DeleteSnapshot(SnapshotId),
    /// Name entries of a snapshot's tree, in its order.
    ListEntries {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Only this path and what is below it; empty for everything.
        path: Vec<u8>,
        /// Exclusive.
        after: Option<Vec<u8>>,
        /// At most so many.
        count_max: usize,
    },
    /// Name the containers behind this one.
    ListContainers {
        /// Exclusive.
        after: Option<String>,
        /// At most so many.
        count_max: usize,
    },
    /// Say where a chunk lies.
    LocateChunk(ChunkHash),
    /// Begin to collect garbage, or say how far it is. The answer comes when it has ended, or after
    /// [`limits::STATUS_AFTER`].
    Collect {
        /// Say what would be done, and do nothing.
        is_plan: bool,
        /// Also take what may still be wanted back.
        ignores_undo_window: bool,
    },
    /// Begin to check chunks against their hashes, or say how far it is; answered like `Collect`.
    Scrub {
        /// How many bytes a second may be read; 0 for no limit.
        bytes_per_second: u64,
        /// Everything, and not only what was not checked for long.
        is_everything: bool,
    },
    /// Name damaged chunks, in the order of their hashes.
    ListDamaged {
        /// Exclusive.
        after: Option<ChunkHash>,
    },
    /// Fetch a good copy of a damaged chunk from another vault, or from the file that it was.
    Heal(HealRequest),
    /// Begin to delete what a mirrored source has not, or say how far that is; answered like `Collect`. No matter of the
    /// vault, but of the same kind as what is asked of it.
    Sweep(Box<SweepRequest>),
}

impl VaultCall {
    /// The same call with the capability token that it needs; one that needs none is as it was.
    #[must_use]
    pub fn with_token(mut self, signed: String) -> Self {
        match &mut self {
            Self::Heal(HealRequest { token, .. }) => *token = signed,
            Self::Sweep(request) => request.token = signed,
            Self::Seal(_)
            | Self::Abandon { .. }
            | Self::ListSnapshots { .. }
            | Self::DeleteSnapshot(_)
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

/// Where a good copy of a damaged chunk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealRequest {
    /// The chunk.
    pub hash: ChunkHash,
    /// The Star that has it.
    pub source_star: StarId,
    /// Its data plane, `host:port`.
    pub source_address: String,
    /// Signed by the coordinator.
    pub token: String,
    /// The file to read it from; absent: that Star's vault has it.
    pub origin: Option<HealOrigin>,
}

/// A file at its source that may still have the content of a damaged chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealOrigin {
    /// The path that was read when it was stored.
    pub source_path: Vec<u8>,
    /// Which part of which file below it.
    pub part: FilePart,
}

/// What a vault answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultReply {
    /// The snapshot is durable.
    Sealed(SnapshotInfo),
    /// It is done.
    Done,
    /// Snapshots, by their names.
    Snapshots {
        /// They.
        snapshots: Vec<SnapshotInfo>,
        /// Jobs and destinations of which something is stored that is no snapshot.
        stages: Vec<(JobId, u32)>,
        /// Whether there are no more.
        is_end: bool,
    },
    /// Entries.
    Entries {
        /// They.
        entries: Vec<SnapshotEntry>,
        /// Whether there are no more.
        is_end: bool,
    },
    /// Containers.
    Containers {
        /// They.
        containers: Vec<ContainerInfo>,
        /// Whether there are no more.
        is_end: bool,
    },
    /// Where a chunk lies, if it does.
    Located(Option<ChunkPlace>),
    /// How far a collection is.
    Collection(CollectionInfo),
    /// How far a scrub is.
    Scrub(ScrubInfo),
    /// Damaged chunks, in the order of their hashes; there may be more if it is [`limits::DAMAGED_MAX`] of them.
    Damaged(Vec<DamagedInfo>),
    /// How far a sweep is.
    Swept(SweepInfo),
}

/// Why a vault could not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultFailure {
    /// It has no such thing.
    NotFound,
    /// Not now: something else is under way.
    Busy,
    /// Its disk is full.
    Full,
    /// What it has is damaged.
    Damaged,
    /// Anything else, as its message says. Another attempt may succeed.
    Failed,
}

/// A vault's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultProblem {
    /// What kind of failure it is.
    pub failure: VaultFailure,
    /// What was tried, and why it failed.
    pub message: String,
}

/// How long a seal that failed waits for its next attempt: longer with each, up to a minute.
pub fn seal_pause(before: Option<Duration>) -> Duration {
    const MIN: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(60);
    before.map_or(MIN, |before| (before * 2).min(MAX))
}
