//! The messages of a Star on its session.

use crate::bulletin::Severity;
use crate::comparison::Unchanged;
use crate::entry::Entry;
use crate::health_monitor::{AdvisoryKind, HealthSample};
use crate::lifecycle::LifecycleState;
use crate::vault_call::{VaultProblem, VaultReply};
use crate::words::{AssignmentId, StarId};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// A directory that a Star exports.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Root {
    /// Absolute path.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    /// Whether jobs may only read below it.
    pub is_read_only: bool,
}

/// The first message of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The Star's name.
    pub star_id: StarId,
    /// An id that is made at the first start and kept in the vault: the identity of this Star.
    pub identity: Uuid,
    /// An id that is made at every start of the process.
    pub instance: Uuid,
    /// Where other Stars reach its data plane, `host:port`.
    pub data_address: String,
    /// The exported directories.
    pub roots: Vec<Root>,
    /// Labels it was started with.
    pub labels: BTreeMap<String, String>,
    /// Version of the program.
    pub version: String,
    /// Assignments that it works on, or that have unacknowledged reports.
    pub held: Vec<AssignmentId>,
    /// Its lifecycle state: `Registered` for a process that has just started.
    pub lifecycle: LifecycleState,
    /// Assignments that the previous process had begun and not finished when it ended, according to the Star's journal;
    /// `None` from a Star that does not send them.
    pub begun: Option<Vec<AssignmentId>>,
    /// The grid that the Star belongs to; `None` for one that belongs to none yet, and from a Star that does not send
    /// it.
    pub grid: Option<Uuid>,
    /// The operator's rules for the priority of files, one per line.
    pub semantic_rules: Vec<String>,
}

/// A finding of a health monitor, in the form of a message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AdvisoryNotice {
    /// Its kind.
    pub kind: AdvisoryKind,
    /// The finding as text.
    pub message: String,
    /// Predicted seconds until the disk is full, if there is a prediction.
    pub predicted_seconds: Option<u64>,
}

/// A message for the operator, which becomes a bulletin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its severity.
    pub severity: Severity,
    /// Its category, in one word.
    pub category: String,
    /// Its text.
    pub text: String,
}

/// Sent at every heartbeat interval, regardless of other messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// The Star's lifecycle state.
    pub lifecycle: LifecycleState,
    /// Assignments it works on.
    pub active_tasks: u32,
    /// Pulls it serves to other Stars.
    pub served_pulls: u32,
    /// The sample taken for this heartbeat.
    pub sample: Option<HealthSample>,
    /// The advisories of the health monitor, worst first.
    pub advisories: Vec<AdvisoryNotice>,
    /// Bytes moved so far for each assignment it works on.
    pub progress: Vec<(AssignmentId, u64)>,
    /// The space below each writable root. A root whose file system gives no answer is missing.
    pub root_space: Vec<RootSpace>,
    /// Bytes of the containers in its vault.
    pub vault_bytes: Option<u64>,
    /// The disk of its vault; only the fields of the disk are set. Absent if nothing can be stored in the vault.
    pub vault_sample: Option<HealthSample>,
}

/// The available space of one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootSpace {
    /// The root, as the Star exports it.
    pub path: Vec<u8>,
    /// Bytes that can be written below it. Roots on one file system share them.
    pub available_bytes: u64,
}

/// Whose fault a failure is, as far as the Star can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Fault {
    /// The item's: another item may succeed.
    Item,
    /// The source Star's: it breaks off, refuses, or its disk fails.
    Source,
    /// That of the connection between the two Stars: the source could not be reached, so it does not depend on the
    /// item.
    Link,
    /// The destination Star's: its disk is full or fails.
    Destination,
}

/// The cause of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum FailureCause {
    /// A timeout, a lost connection, a file that changed while it was read.
    Transient,
    /// A retry cannot help.
    Permanent,
    /// The received content differs from what was sent.
    ChecksumMismatch,
    /// The source entry is gone.
    SourceMissing,
    /// The destination could not write it.
    DestinationError,
    /// Stored data is damaged.
    DataCorruption,
    /// An entry of another kind is in the item's place, or above it, and is not replaced.
    InTheWay,
}

impl FailureCause {
    /// The cause as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Permanent => "permanent",
            Self::ChecksumMismatch => "checksum mismatch",
            Self::SourceMissing => "source missing",
            Self::DestinationError => "destination error",
            Self::DataCorruption => "data corruption",
            Self::InTheWay => "in the way",
        }
    }

    /// Whether an item with this failure is worth a retry.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Transient | Self::ChecksumMismatch | Self::DestinationError => true,
            Self::Permanent | Self::SourceMissing | Self::DataCorruption | Self::InTheWay => false,
        }
    }
}

/// Why one attempt at an item failed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// The cause.
    pub cause: FailureCause,
    /// Whose fault it is.
    pub fault: Fault,
    /// The operation that failed, the path, and the error.
    pub message: String,
}

/// Counts of the chunks of an item's content, in one attempt. All are 0 if the Star is of an earlier version.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ChunkCounts {
    /// Chunks that were received. Each was compared with its hash.
    pub transferred: u64,
    /// Chunks that the destination already had.
    pub deduplicated: u64,
    /// Chunks that the vault did not have before and that were written into its containers.
    pub packed: u64,
    /// Bytes of their content.
    pub packed_bytes: u64,
}

/// The result of one attempt at an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemResult {
    /// Verified, written, synced and published.
    Stored {
        /// Size of the entry that is now at the destination, in bytes.
        size: u64,
        /// Bytes of content that were received from the source.
        bytes_transferred: u64,
        /// Bytes of content that the destination already had.
        bytes_deduplicated: u64,
        /// From the start of the attempt to its publication.
        duration: Duration,
        /// Whether the file changed while it was read, at each attempt: the content is what was read.
        is_changed: bool,
        /// Its chunks.
        chunks: ChunkCounts,
    },
    /// It was already there, unchanged.
    Skipped,
    /// Not done.
    Failed(Failure),
}

/// The end of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemOutcome {
    /// The item, by its sequence number within the assignment's job and destination.
    pub sequence: u64,
    /// How it ended.
    pub result: ItemResult,
}

/// Outcomes of items of one assignment. Sent again until it is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Counts the reports of this process, from 1.
    pub number: u64,
    /// The assignment they belong to.
    pub assignment: AssignmentId,
    /// The outcomes. The assignment ends when every item of it has had one.
    pub outcomes: Vec<ItemOutcome>,
}

/// Part of a scan's result, in the order of the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanBatch {
    /// The scan.
    pub scan: u64,
    /// Counts the batches of this scan, from 1.
    pub number: u64,
    /// What was found.
    pub entries: Vec<Entry>,
    /// Whether the scan is complete.
    pub is_last: bool,
    /// Why the scan cannot continue, for example because its path does not exist. Implies `is_last`.
    pub failure: Option<Failure>,
    /// Which globs and listed paths have matched since the previous batch, as
    /// [`Filter::matched`](crate::filter::Filter::matched) numbers them.
    pub matched: Vec<u32>,
    /// Mount points that were not entered since the previous batch, because the scan stays in one file system. Each is
    /// reported before its entry.
    pub skipped_mounts: Vec<Vec<u8>>,
}

/// A message of a Star.
#[derive(Debug, Clone, PartialEq)]
pub enum StarMessage {
    /// The first message, sent once.
    Hello(Hello),
    /// A sign of life, with samples.
    Heartbeat(Heartbeat),
    /// The outcomes of items.
    Report(Report),
    /// The entries that a scan found.
    ScanBatch(ScanBatch),
    /// Its lifecycle state has changed.
    LifecycleChanged {
        /// The new state.
        state: LifecycleState,
        /// Why.
        reason: String,
    },
    /// It was asked to stop and wants to be drained first.
    DrainRequested {
        /// Why.
        reason: String,
    },
    /// The answer to a comparison.
    Compared {
        /// The question.
        request: u64,
        /// The entries that are already there.
        unchanged: Unchanged,
    },
    /// The answer of its vault to a call.
    VaultAnswered {
        /// The call.
        request: u64,
        /// The answer.
        answer: Result<VaultReply, VaultProblem>,
    },
    /// Its vault has found damage by itself. If this message is lost, the next check reports it again.
    DamageFound {
        /// Number of damaged chunks. The vault names them when it is asked.
        chunks: u64,
        /// Other damage, as text; empty if there is none.
        problem: String,
    },
    /// A message for the operator.
    Noticed(Notice),
}
