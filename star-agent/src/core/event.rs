//! What happens to a Star, and what its core wants done about it.

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

/// How the Star fares.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The sample.
    pub sample: HealthSample,
    /// What the monitor says of it, worst first.
    pub advisories: Vec<AdvisoryNotice>,
    /// The room below each root that can be written to.
    pub root_space: Vec<RootSpace>,
    /// Bytes of the containers in its vault.
    pub vault_bytes: Option<u64>,
    /// What the operator should hear of, in the order in which it was seen.
    pub notices: Vec<Notice>,
}

/// Who the Star is, and how it behaves.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// Its name.
    pub star_id: StarId,
    /// Made at its first start, kept in the vault.
    pub identity: Uuid,
    /// Made at every start.
    pub instance: Uuid,
    /// Where other Stars reach its data plane, `host:port`.
    pub data_address: String,
    /// What it exports.
    pub roots: Vec<Root>,
    /// Labels it was started with.
    pub labels: BTreeMap<String, String>,
    /// Version of the program.
    pub version: String,
    /// How many coordinator addresses there are to rotate through; at least 1.
    pub coordinator_count: usize,
    /// How long a drain that a signal asked for may take.
    pub drain_timeout: Duration,
    /// Seeds the jitter of reconnects.
    pub seed: u64,
    /// Assignments that the process before this one had begun, as the journal has them.
    pub begun: Vec<AssignmentId>,
    /// The grid that it belongs to, as its vault has it; `None` if it belongs to none yet.
    pub grid: Option<Uuid>,
}

/// What only the driver can read, for the heartbeat that is due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Pulls that it serves to other Stars now.
    pub served_pulls: u32,
    /// Bytes moved so far by each assignment that runs.
    pub progress: BTreeMap<AssignmentId, u64>,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// It could not be opened, or broke: worth another attempt.
    Lost(String),
    /// Another session with this identity has taken over: a second process on a copy of the vault, or an earlier hello of
    /// this one that was long under way.
    Superseded(String),
    /// The coordinator will not have this Star, and another attempt cannot help.
    Refused(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The process has started.
    Started,
    /// The coordinator said something on this session.
    FromCoordinator {
        /// The session, as [`Effect::Connect`] numbered it.
        session: u64,
        /// What it said.
        message: CoordinatorMessage,
    },
    /// A session ended, or never came to be.
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
    /// The work on an assignment is over; no more outcomes will come of it.
    WorkEnded {
        /// The assignment.
        assignment: AssignmentId,
    },
    /// A scan found something.
    ScanBatchProduced {
        /// The run, as [`Effect::StartScan`] numbered it.
        run: u64,
        /// What it found.
        batch: ScanBatch,
    },
    /// The sample that was asked for.
    HealthSampled(Sampled),
    /// The destination was compared with a listing.
    Compared {
        /// The session on which it was asked.
        session: u64,
        /// The question.
        request: u64,
        /// What is there already.
        unchanged: Unchanged,
    },
    /// The vault has answered a call.
    VaultAnswered {
        /// The session on which it was asked.
        session: u64,
        /// The call.
        request: u64,
        /// What the vault says.
        answer: Result<VaultReply, VaultProblem>,
    },
    /// The vault has found damage without having been asked to look.
    DamageFound {
        /// Damaged chunks.
        chunks: u64,
        /// What else is damaged; empty if nothing is.
        problem: String,
    },
    /// The process was asked to end.
    SignalReceived,
    /// The time of [`StarCore::next_deadline`](super::StarCore::next_deadline) has come.
    DeadlineReached(Vitals),
}

/// What the driver must do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write down in the vault which grid this Star belongs to.
    KeepGrid(Uuid),
    /// Open a session; `hello` is its first message.
    Connect {
        /// Numbers the attempts.
        session: u64,
        /// Which of the addresses to use.
        coordinator: usize,
        /// Who is calling.
        hello: Box<Hello>,
    },
    /// Close a session; nothing more is wanted of it.
    Disconnect {
        /// The session.
        session: u64,
    },
    /// Send on the session that is open.
    Send(StarMessage),
    /// Write an assignment to the journal, then work on it.
    StartAssignment(Assignment),
    /// Stop working on an assignment, clean up after it and take it out of the journal. Its items may come again.
    StopAssignment(AssignmentId),
    /// The same, and its job has ended: nothing is kept for another attempt.
    AbandonAssignment(AssignmentId),
    /// Remove what is kept of a job for later attempts: none will come.
    ForgetJob(JobId),
    /// Every outcome of an assignment is safe at the coordinator: take it out of the journal.
    ForgetAssignment(AssignmentId),
    /// List a tree. It may produce as many batches as the session protocol allows without an acknowledgement.
    StartScan {
        /// Numbers the scans of this process, so that what a stopped one still says is not heard.
        run: u64,
        /// What to list.
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
    /// Believe tokens under these keys and no other, and use the new grants.
    UpdateKeys(Keys),
    /// Compare a destination with a listing; the answer comes back as [`Event::Compared`].
    Compare {
        /// The session on which it is asked.
        session: u64,
        /// The question.
        request: u64,
        /// What to compare.
        comparison: Comparison,
    },
    /// Ask the vault for something; its answer comes back as [`Event::VaultAnswered`].
    CallVault {
        /// The session on which it is asked.
        session: u64,
        /// The call.
        request: u64,
        /// What is asked.
        call: VaultCall,
    },
    /// Take a health sample, in its own time.
    SampleHealth,
    /// End the process. Nothing follows.
    Exit {
        /// Its exit code.
        code: u8,
        /// Why.
        reason: String,
    },
    /// Tell the operator.
    Log {
        /// Whether something is wrong.
        is_warning: bool,
        /// What.
        text: String,
    },
}
