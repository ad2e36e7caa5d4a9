//! What a Star says on its session.

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
    /// Made at the first start and kept in the vault: who this Star is.
    pub identity: Uuid,
    /// Made at every start of the process.
    pub instance: Uuid,
    /// Where other Stars reach its data plane, `host:port`.
    pub data_address: String,
    /// What it exports.
    pub roots: Vec<Root>,
    /// Labels it was started with.
    pub labels: BTreeMap<String, String>,
    /// Version of the program.
    pub version: String,
    /// Assignments it still works on or has unacknowledged reports of.
    pub held: Vec<AssignmentId>,
    /// Where its lifecycle stands: `Registered` for a process that has just started.
    pub lifecycle: LifecycleState,
    /// Assignments that the process before this one had begun and not finished when it ended, as the Star's journal has
    /// them; `None` from a Star that does not say.
    pub begun: Option<Vec<AssignmentId>>,
    /// The grid that the Star belongs to; `None` for one that belongs to none yet, and from a Star that does not say.
    pub grid: Option<Uuid>,
}

/// A health monitor's finding, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AdvisoryNotice {
    /// What it is about.
    pub kind: AdvisoryKind,
    /// The finding in words.
    pub message: String,
    /// Seconds until the disk is full, where that was predicted.
    pub predicted_seconds: Option<u64>,
}

/// Something at a Star that its operator should hear of; it becomes a bulletin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, in one word.
    pub category: String,
    /// What it is.
    pub text: String,
}

/// Sent at every heartbeat interval, whatever else happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// Where the Star's lifecycle stands.
    pub lifecycle: LifecycleState,
    /// Assignments it works on.
    pub active_tasks: u32,
    /// Pulls it serves to other Stars.
    pub served_pulls: u32,
    /// The sample taken for this heartbeat.
    pub sample: Option<HealthSample>,
    /// What the health monitor says of it, worst first.
    pub advisories: Vec<AdvisoryNotice>,
    /// Bytes moved so far for each assignment it works on.
    pub progress: Vec<(AssignmentId, u64)>,
    /// The room below each root that can be written to; a root that cannot be asked is missing.
    pub root_space: Vec<RootSpace>,
    /// Bytes of the containers in its vault.
    pub vault_bytes: Option<u64>,
}

/// The room that one root has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootSpace {
    /// The root, as the Star exports it.
    pub path: Vec<u8>,
    /// Bytes that may still be written below it. Roots on one file system share them.
    pub available_bytes: u64,
}

/// Whose fault a failure is, as far as the Star can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Fault {
    /// The item's own: another item may well succeed.
    Item,
    /// The source Star's: it breaks off, refuses, its disk fails.
    Source,
    /// That of the way between the two Stars: the source could not even be reached, so no item had a part in it.
    Link,
    /// The destination Star's: its disk is full or fails.
    Destination,
}

/// What a failure was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum FailureCause {
    /// A timeout, a lost connection, a file that changed while it was read.
    Transient,
    /// Trying again cannot help.
    Permanent,
    /// What arrived was not what was sent.
    ChecksumMismatch,
    /// The source entry is gone.
    SourceMissing,
    /// The destination could not write it.
    DestinationError,
    /// Stored data is damaged.
    DataCorruption,
    /// Something of another kind stands at the item's place, or above it, and is not replaced.
    InTheWay,
}

impl FailureCause {
    /// The cause in words.
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

    /// Whether an item that failed so is worth another attempt.
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
    /// What it was.
    pub cause: FailureCause,
    /// Whose fault it is.
    pub fault: Fault,
    /// What was tried, on which path, and what the system said.
    pub message: String,
}

/// How one attempt at an item ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemResult {
    /// Verified, written, synced and published.
    Stored {
        /// Size of what is now at the destination, in bytes.
        size: u64,
        /// Bytes of content that crossed from the source.
        bytes_transferred: u64,
        /// Bytes of content that the destination had already.
        bytes_deduplicated: u64,
        /// From the start of the attempt to its publication.
        duration: Duration,
        /// Whether the file changed while it was read, at each attempt: what is stored is what was read.
        is_changed: bool,
    },
    /// Was there already, unchanged.
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
    /// Whether the walk is complete.
    pub is_last: bool,
    /// Why the scan cannot go on at all, for example because its path does not exist. Implies `is_last`.
    pub failure: Option<Failure>,
    /// Which globs and listed paths have matched something since the batch before, as
    /// [`Filter::matched`](crate::filter::Filter::matched) numbers them.
    pub matched: Vec<u32>,
    /// Mount points that were not entered since the batch before, because the scan stays in one file system. Each is noted
    /// before its entry.
    pub skipped_mounts: Vec<Vec<u8>>,
}

/// What a Star says.
#[derive(Debug, Clone, PartialEq)]
pub enum StarMessage {
    /// Who it is; first and only once.
    Hello(Hello),
    /// That it lives, and how it fares.
    Heartbeat(Heartbeat),
    /// How items ended.
    Report(Report),
    /// What a scan found.
    ScanBatch(ScanBatch),
    /// Its lifecycle moved.
    LifecycleChanged {
        /// The state after.
        state: LifecycleState,
        /// Why.
        reason: String,
    },
    /// It was asked to stop and wants to be drained first.
    DrainRequested {
        /// Why.
        reason: String,
    },
    /// Which of the entries that it was asked about it has already.
    Compared {
        /// The question.
        request: u64,
        /// Those.
        unchanged: Unchanged,
    },
    /// The answer of its vault to a call.
    VaultAnswered {
        /// The call.
        request: u64,
        /// What the vault says.
        answer: Result<VaultReply, VaultProblem>,
    },
    /// Its vault has found damage by itself. Said again by the next check if it is lost.
    DamageFound {
        /// Damaged chunks; the vault names them when it is asked.
        chunks: u64,
        /// What else is damaged, in words; empty if nothing is.
        problem: String,
    },
    /// Something its operator should hear of.
    Noticed(Notice),
}
