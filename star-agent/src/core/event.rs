//! The events that the core of a Star takes, and the effects that it wants executed.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_shared::comparison::{Comparison, Unchanged};
use orbit_shared::health_monitor::HealthSample;
use orbit_shared::session::{
    AdvisoryNotice, Assignment, CoordinatorMessage, Hello, ItemOutcome, Keys, Notice, Root, RootSpace,
    ScanBatch, ScanRequest, StarMessage,
};
use orbit_shared::vault_call::{VaultCall, VaultProblem, VaultReply};
use orbit_shared::words::{AssignmentId, JobId, StarId};
use uuid::Uuid;

/// The state of the Star's machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The sample.
    pub sample: HealthSample,
    /// The advisories of the monitor, worst first.
    pub advisories: Vec<AdvisoryNotice>,
    /// The space below each writable root.
    pub root_space: Vec<RootSpace>,
    /// Bytes of the containers in its vault.
    pub vault_bytes: Option<u64>,
    /// The disk of its vault; `None` if nothing can be stored there.
    pub vault_sample: Option<HealthSample>,
    /// Messages for the operator, oldest first.
    pub notices: Vec<Notice>,
}

/// The identity and the settings of the Star.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Its name.
    pub star_id: StarId,
    /// An id that is made at its first start and kept in the vault.
    pub identity: Uuid,
    /// An id that is made at every start.
    pub instance: Uuid,
    /// Where other Stars reach its data plane, `host:port`.
    pub data_address: String,
    /// The exported directories.
    pub roots: Vec<Root>,
    /// Labels it was started with.
    pub labels: BTreeMap<String, String>,
    /// Version of the program.
    pub version: String,
    /// Number of coordinator addresses to rotate through; at least 1.
    pub coordinator_count: usize,
    /// Timeout of a drain that a signal asked for.
    pub drain_timeout: Duration,
    /// Seed for the jitter of reconnects.
    pub seed: u64,
    /// Assignments in the journal: the process before this one had begun them.
    pub begun: Vec<AssignmentId>,
    /// The grid that it belongs to, according to its vault; `None` if it belongs to none yet.
    pub grid: Option<Uuid>,
    /// The operator's rules for the priority of files, one per line.
    pub semantic_rules: Vec<String>,
}

/// Values for the next heartbeat, which only the driver can read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Pulls that it serves to other Stars now.
    pub served_pulls: u32,
    /// Bytes moved so far, by running assignment.
    pub progress: BTreeMap<AssignmentId, u64>,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// It could not be opened, or broke: another attempt can help.
    Lost(String),
    /// Another session with this identity has taken over: a second process on a copy of the vault, or an earlier hello
    /// of this process that was delayed.
    Superseded(String),
    /// The coordinator refuses this Star, and another attempt cannot help.
    Refused(String),
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The process has started.
    Started,
    /// A message of the coordinator on this session.
    FromCoordinator {
        /// The session, as [`Effect::Connect`] numbered it.
        session: u64,
        /// The message.
        message: CoordinatorMessage,
    },
    /// A session ended, or could not be opened.
    Disconnected {
        /// The session, as [`Effect::Connect`] numbered it.
        session: u64,
        /// Why.
        end: SessionEnd,
    },
    /// Items of an assignment ended.
    OutcomesProduced {
        /// The assignment.
        assignment: AssignmentId,
        /// How they ended.
        outcomes: Vec<ItemOutcome>,
    },
    /// The work on an assignment has ended; there will be no more outcomes.
    WorkEnded {
        /// The assignment.
        assignment: AssignmentId,
    },
    /// A scan has a batch to send.
    ScanBatchProduced {
        /// The run, as [`Effect::StartScan`] numbered it.
        run: u64,
        /// The batch.
        batch: ScanBatch,
    },
    /// The sample that [`Effect::SampleHealth`] asked for.
    HealthSampled(Sampled),
    /// The destination was compared with a listing.
    Compared {
        /// The session on which it was asked.
        session: u64,
        /// The question.
        request: u64,
        /// The entries that are already there.
        unchanged: Unchanged,
    },
    /// The vault has answered a call.
    VaultAnswered {
        /// The session on which it was asked.
        session: u64,
        /// The call.
        request: u64,
        /// The answer.
        answer: Result<VaultReply, VaultProblem>,
    },
    /// The vault has found damage by itself.
    DamageFound {
        /// Damaged chunks.
        chunks: u64,
        /// What else is damaged; empty if nothing is.
        problem: String,
    },
    /// There is a message for the operator.
    Noticed(Notice),
    /// The process was asked to end.
    SignalReceived,
    /// The time of [`StarCore::next_deadline`](super::StarCore::next_deadline) has come.
    DeadlineReached(Vitals),
}

/// Effects, which the driver must execute in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Store in the vault which grid this Star belongs to.
    KeepGrid(Uuid),
    /// Open a session; `hello` is its first message.
    Connect {
        /// The number of the attempt.
        session: u64,
        /// The index of the address to use.
        coordinator: usize,
        /// The hello.
        hello: Box<Hello>,
    },
    /// Close a session that is no longer needed.
    Disconnect {
        /// The session.
        session: u64,
    },
    /// Send on the session that is open.
    Send(StarMessage),
    /// Write an assignment to the journal, then work on it.
    StartAssignment(Assignment),
    /// Stop working on an assignment, clean up after it and remove it from the journal. Its items may be assigned
    /// again.
    StopAssignment(AssignmentId),
    /// As [`Effect::StopAssignment`], but the job has ended: nothing is kept for another attempt.
    AbandonAssignment(AssignmentId),
    /// Remove what is kept of a job for later attempts: there will be none.
    ForgetJob(JobId),
    /// Every outcome of an assignment is safe at the coordinator: remove it from the journal.
    ForgetAssignment(AssignmentId),
    /// List a tree. It may produce as many batches as the session protocol allows without an acknowledgement.
    StartScan {
        /// The number of the scan in this process, so that messages of a stopped scan can be ignored.
        run: u64,
        /// The tree to list.
        request: ScanRequest,
    },
    /// Stop a scan.
    StopScan {
        /// The run.
        run: u64,
    },
    /// Let a scan produce more batches.
    GrantScanCredit {
        /// The run.
        run: u64,
        /// How many more.
        count: u64,
    },
    /// Accept only tokens under these keys, and use the new grants.
    UpdateKeys(Keys),
    /// Compare a destination with a listing; the answer comes back as [`Event::Compared`].
    Compare {
        /// The session on which it is asked.
        session: u64,
        /// The question.
        request: u64,
        /// The comparison.
        comparison: Comparison,
    },
    /// Call the vault; its answer comes back as [`Event::VaultAnswered`].
    CallVault {
        /// The session on which it is asked.
        session: u64,
        /// The call.
        request: u64,
        /// The arguments of the call.
        call: VaultCall,
    },
    /// Take a health sample in the background.
    SampleHealth,
    /// End the process. No effect follows this one.
    Exit {
        /// Its exit code.
        code: u8,
        /// Why.
        reason: String,
    },
    /// Write a log line for the operator.
    Log {
        /// Whether it is a warning.
        is_warning: bool,
        /// The text.
        text: String,
    },
}
