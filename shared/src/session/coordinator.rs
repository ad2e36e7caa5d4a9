//! The messages of the coordinator on the session of a Star.

use crate::comparison::Comparison;
use crate::entry::Entry;
use crate::filter::FileLimits;
use crate::lifecycle::LifecycleState;
use crate::trace_context::TraceContext;
use crate::vault_call::VaultCall;
use crate::words::{AssignmentId, Epoch, JobId, Layout, SnapshotId, StarId};
use std::time::Duration;
use uuid::Uuid;

/// One item of an assignment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AssignedItem {
    /// Its sequence number within the job and destination.
    pub sequence: u64,
    /// The entry that the scan found.
    pub entry: Entry,
}

/// One attempt at a batch of items, held by one Star under a lease.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Assignment {
    /// Its id; never reused.
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
    /// The destination path at this Star.
    #[serde(with = "serde_bytes")]
    pub destination_path: Vec<u8>,
    /// The token, signed by the coordinator. The source Star serves nothing without it.
    pub token: String,
    /// The items to move.
    pub items: Vec<AssignedItem>,
    /// Whether nothing is to be written: items that are already there are skipped, all others fail for lack of space.
    #[serde(default)]
    pub is_check_only: bool,
    /// Whether the items become files at the destination path, or chunks in this Star's vault.
    #[serde(default)]
    pub layout: Layout,
    /// The snapshot in the source Star's vault that is the source, instead of a directory. The source path is in its
    /// tree.
    #[serde(default)]
    pub source_snapshot: Option<SnapshotId>,
    /// Whether the directories of the tree are already done, so that their modification times must be preserved.
    #[serde(default)]
    pub keeps_directory_times: bool,
    /// The parent span of the work.
    #[serde(default)]
    pub trace: Option<TraceContext>,
    /// Whether an existing file counts as unchanged only if its content is equal.
    #[serde(default)]
    pub compares_content: bool,
}

/// A tree to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRequest {
    /// Its number; never reused by one coordinator.
    pub scan: u64,
    /// The job it is for.
    pub job: JobId,
    /// Absolute path to list.
    pub path: Vec<u8>,
    /// If not empty, only entries that match one of these gitignore-style globs, and the directories above them, are
    /// listed.
    pub include: Vec<String>,
    /// Entries that match one of these are left out, with everything below them.
    pub exclude: Vec<String>,
    /// Paths below `path` that are listed too, each with everything below it.
    pub paths: Vec<Vec<u8>>,
    /// Start after this path, which was the last one of an earlier scan of the same tree.
    pub resume_after: Option<Vec<u8>>,
    /// List the tree of this snapshot in the Star's vault instead of a directory. The path is in that tree.
    pub snapshot: Option<SnapshotId>,
    /// Which regular files are listed.
    pub limits: FileLimits,
    /// The parent span of the scan.
    pub trace: Option<TraceContext>,
    /// Whether directories on another file system than the path itself are not entered.
    pub is_one_file_system: bool,
}

/// The valid keys, and the consequences of a change of keys for grants and pulls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Public keys that sign grants, newest first. A grant under any other key is refused.
    pub public: Vec<Vec<u8>>,
    /// New grants for assignments that the Star holds, for the pulls that it opens from now on.
    pub grants: Vec<RenewedGrant>,
    /// The pulls from the Star that may go on although their grant has become invalid.
    pub live: Vec<LivePull>,
}

/// A new grant that replaces the one in an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewedGrant {
    /// The assignment.
    pub assignment: AssignmentId,
    /// The grant, signed.
    pub token: String,
}

/// The pulls of one job by one Star.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LivePull {
    /// The job.
    pub job: JobId,
    /// The Star that pulls.
    pub destination: StarId,
}

/// A message of the coordinator.
#[derive(Debug, Clone, PartialEq)]
pub enum CoordinatorMessage {
    /// The answer to `Hello`.
    Welcome {
        /// The number of this session.
        epoch: Epoch,
        /// How often to send a heartbeat.
        heartbeat_interval: Duration,
        /// How long the coordinator waits for a heartbeat before it gives the Star's work to others.
        lease: Duration,
        /// The held assignments that the Star keeps. It drops the others.
        kept: Vec<AssignmentId>,
        /// The grid that the Star belongs to from now on; `None` from a coordinator that does not send it.
        grid: Option<Uuid>,
    },
    /// The keys that are valid from now on.
    VerificationKeys(Keys),
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
        /// Whether its job has ended, so that nothing is kept for a later attempt.
        is_job_over: bool,
    },
    /// A job has ended early: nothing is kept of it for a later attempt.
    JobEnded {
        /// Which.
        job: JobId,
    },
    /// List a tree.
    StartScan(ScanRequest),
    /// Batches of a scan up to this number are safe. The Star may send as many more.
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
    /// Report which of these entries are at the destination already, unchanged.
    Compare {
        /// Identifies the question on this session.
        request: u64,
        /// The question.
        comparison: Comparison,
    },
    /// Call the Star's vault. At most [`CALLS_PER_STAR_MAX`](crate::vault_call::limits::CALLS_PER_STAR_MAX) calls are
    /// unanswered at a time.
    CallVault {
        /// Identifies the call on this session.
        request: u64,
        /// The call.
        call: VaultCall,
    },
}
