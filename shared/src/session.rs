//! What a Star and the coordinator say to each other on a session, as both sides' cores see it.
//!
//! The wire form stands in `orbit/v1/session.proto`; only the conversions know it. Both directions are bounded by the
//! protocol itself: a Star has at most [`limits::REPORTS_UNACKED_MAX`] reports and [`limits::SCAN_BATCHES_UNACKED_MAX`]
//! batches of a scan without an acknowledgement, so neither side ever has to drop a message.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::comparison::{Comparison, Unchanged};
use crate::entry::Entry;
use crate::filter::FileLimits;
pub use crate::health_monitor::AdvisoryKind;
use crate::health_monitor::HealthSample;
use crate::lifecycle::LifecycleState;
use crate::trace_context::TraceContext;
use crate::vault_call::{VaultCall, VaultProblem, VaultReply};
use crate::words::{AssignmentId, Epoch, JobId, Layout, SnapshotId, StarId};

/// Bounds of the session protocol.
pub mod limits {
    /// Reports that a Star may have sent without an acknowledgement.
    pub const REPORTS_UNACKED_MAX: usize = 64;
    /// Batches of one scan that a Star may have sent without an acknowledgement.
    pub const SCAN_BATCHES_UNACKED_MAX: usize = 8;
    /// Entries in one batch of a scan.
    pub const SCAN_BATCH_ENTRIES_MAX: usize = 1024;
    /// Bytes of paths and link targets in one batch of a scan, except that one entry always fits.
    pub const SCAN_BATCH_BYTES_MAX: usize = 256 * 1024;
    /// Scans that one Star runs at a time; further ones wait at the coordinator.
    pub const SCANS_PER_STAR_MAX: usize = 4;
    /// Items in one assignment.
    pub const ASSIGNMENT_ITEMS_MAX: usize = 1024;
    /// Bytes of file content in one assignment, except that one item always fits.
    pub const ASSIGNMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
    /// Assignments that one Star holds at a time.
    pub const ASSIGNMENTS_PER_STAR_MAX: usize = 8;
    /// Assignments that a hello or a heartbeat may name: those worked on, and those whose reports are unacknowledged.
    pub const HELD_MAX: usize = ASSIGNMENTS_PER_STAR_MAX + REPORTS_UNACKED_MAX;
    /// Directories that one Star exports.
    pub const ROOTS_PER_STAR_MAX: usize = 256;
    /// Labels that one Star carries.
    pub const LABELS_PER_STAR_MAX: usize = 64;
    /// Globs to include, and as many to exclude, in one scan.
    pub const SCAN_GLOBS_MAX: usize = 1024;
    /// Public keys that are good at a time.
    pub const VERIFICATION_KEYS_MAX: usize = 16;
    /// Advisories in one heartbeat.
    pub const ADVISORIES_MAX: usize = 16;
    /// Size of an encoded session message.
    pub const SESSION_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

    // The small-frame guard of HTTP/2 implementations closes a connection over a few thousand unread small messages;
    // whatever may be unacknowledged must stay far below that.
    const _: () = assert!(REPORTS_UNACKED_MAX + SCAN_BATCHES_UNACKED_MAX * SCANS_PER_STAR_MAX < 1000);
    // An assignment of the longest paths and link targets must fit one message.
    const _: () = assert!(ASSIGNMENT_ITEMS_MAX * (4096 + 4096 + 64) <= SESSION_MESSAGE_BYTES_MAX);
}

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
}

impl FailureCause {
    /// Whether an item that failed so is worth another attempt.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Transient | Self::ChecksumMismatch | Self::DestinationError => true,
            Self::Permanent | Self::SourceMissing | Self::DataCorruption => false,
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
}

/// One item of an assignment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AssignedItem {
    /// Its sequence number within the job and destination.
    pub sequence: u64,
    /// What the scan found.
    pub entry: Entry,
}

/// One attempt at a batch of items, held by one Star under a lease.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Assignment {
    /// Its name; never used twice.
    pub id: AssignmentId,
    /// The job.
    pub job: JobId,
    /// Index of the destination within the job.
    pub destination: u32,
    /// The Star to pull from.
    pub source_star: StarId,
    /// Its data plane, `host:port`.
    pub source_address: String,
    /// The source path of the job.
    #[serde(with = "serde_bytes")]
    pub source_path: Vec<u8>,
    /// The path at this Star that corresponds to it.
    #[serde(with = "serde_bytes")]
    pub destination_path: Vec<u8>,
    /// Signed by the coordinator; the source Star serves nothing without it.
    pub token: String,
    /// What to move.
    pub items: Vec<AssignedItem>,
    /// Whether nothing is to be written: items that are there already are skipped, all others fail for want of room.
    #[serde(default)]
    pub is_check_only: bool,
    /// Whether the items become files at the destination path, or chunks in this Star's vault.
    #[serde(default)]
    pub layout: Layout,
    /// The source is not a directory but this snapshot in the source Star's vault; the source path lies in its tree.
    #[serde(default)]
    pub source_snapshot: Option<SnapshotId>,
    /// The directories of the tree are done already and keep their modification times.
    #[serde(default)]
    pub keeps_directory_times: bool,
    /// The span that the work on it is part of.
    #[serde(default)]
    pub trace: Option<TraceContext>,
}

/// A tree to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRequest {
    /// Its number; never used twice by one coordinator.
    pub scan: u64,
    /// The job it is for.
    pub job: JobId,
    /// Absolute path to list.
    pub path: Vec<u8>,
    /// When not empty, only entries that match one of these gitignore-style globs, and the directories above them.
    pub include: Vec<String>,
    /// Entries that match one of these are left out, with everything below them.
    pub exclude: Vec<String>,
    /// Start after this path: it was the last one of an earlier scan of the same tree.
    pub resume_after: Option<Vec<u8>>,
    /// List the tree of this snapshot in the Star's vault instead of a directory; the path lies in that tree.
    pub snapshot: Option<SnapshotId>,
    /// Which regular files are listed.
    pub limits: FileLimits,
    /// The span that the scan is part of.
    pub trace: Option<TraceContext>,
}

/// What the coordinator says.
#[derive(Debug, Clone, PartialEq)]
pub enum CoordinatorMessage {
    /// The answer to `Hello`.
    Welcome {
        /// The number of this session.
        epoch: Epoch,
        /// How often to send a heartbeat.
        heartbeat_interval: Duration,
        /// How long the coordinator waits for one before it gives the Star's work away.
        lease: Duration,
        /// Those of the held assignments that the Star keeps. It drops the others.
        kept: Vec<AssignmentId>,
    },
    /// Public keys that sign capability tokens, newest first. A token under any other key is refused.
    VerificationKeys(Vec<Vec<u8>>),
    /// Move the lifecycle to this state.
    SetLifecycle {
        /// `Registered`, `Scheduled`, `Draining` or `Shutdown`.
        state: LifecycleState,
        /// Why.
        reason: String,
    },
    /// Work on these items.
    Assign(Assignment),
    /// Stop working on an assignment and forget it.
    Withdraw {
        /// Which.
        assignment: AssignmentId,
        /// Whether its job has ended, so that nothing of it is of use to a later attempt.
        is_job_over: bool,
    },
    /// A job has ended before all of it was done: what is kept of it for a later attempt is of no use.
    JobEnded {
        /// Which.
        job: JobId,
    },
    /// List a tree.
    StartScan(ScanRequest),
    /// Batches of a scan up to this number are safe; as many more may be sent.
    ScanAcknowledged {
        /// The scan.
        scan: u64,
        /// The last safe batch.
        number: u64,
    },
    /// Stop a scan.
    CancelScan {
        /// The scan.
        scan: u64,
    },
    /// Reports up to this number are safe and can be forgotten.
    ReportsAcknowledged {
        /// The last safe report.
        number: u64,
    },
    /// Say which of these entries are at the destination already, unchanged.
    Compare {
        /// Names the question on this session.
        request: u64,
        /// The question.
        comparison: Comparison,
    },
    /// Ask the Star's vault for something. It may have as many calls unanswered as
    /// [`CALLS_PER_STAR_MAX`](crate::vault_call::limits::CALLS_PER_STAR_MAX).
    CallVault {
        /// Names the call on this session.
        request: u64,
        /// What is asked.
        call: VaultCall,
    },
}
