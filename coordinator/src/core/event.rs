//! What happens to the core, and what it wants done: past tense in, imperative out.

use std::time::Duration;

use orbit_shared::capability::Capability;
use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::entry::Entry;
use orbit_shared::session::{Assignment, CoordinatorMessage, Hello, StarMessage};
use orbit_shared::time::WallTime;
use orbit_shared::vault_call::{VaultCall, VaultReply};
use orbit_shared::words::{JobId, StarId};
use uuid::Uuid;

use super::change::QueueKey;
use super::records::{JobSpec, Planned, RequestName, ScheduleEdit, ScheduleTimes};
use super::refusal::{Refusal, Violation};

/// Names one session for the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Names one caller who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// A Star has said hello.
    SessionOpened {
        /// The new session.
        session: SessionId,
        /// Who it is.
        hello: Hello,
    },
    /// A Star has said something else.
    MessageReceived {
        /// On which session.
        session: SessionId,
        /// What.
        message: StarMessage,
    },
    /// A session's stream has ended.
    SessionClosed {
        /// Which.
        session: SessionId,
    },
    /// A Star has said something that no message may say.
    ProtocolViolated {
        /// On which session.
        session: SessionId,
        /// What is wrong with it.
        problem: String,
    },
    /// A Star says more than it may, and is read more slowly.
    SessionSlowed {
        /// On which session.
        session: SessionId,
    },
    /// An operator has asked for something.
    CommandReceived {
        /// Who waits for the answer.
        reply: ReplyId,
        /// What.
        command: Command,
        /// Who asks, for example `operator:alice`; `None` if it is not known.
        actor: Option<String>,
    },
    /// Somebody wants to know what a job would do.
    PlanAsked {
        /// Who waits for the answer.
        reply: ReplyId,
        /// The job.
        spec: Box<JobSpec>,
        /// What was found wrong with the request before it came here.
        violations: Vec<Violation>,
    },
    /// Somebody wants something of a vault.
    VaultAsked {
        /// Who waits for the answer.
        reply: ReplyId,
        /// Whose vault.
        star: StarId,
        /// What.
        call: VaultCall,
    },
    /// The store has answered a [`Action::LoadWindow`].
    WindowLoaded {
        /// The lane's job.
        job: JobId,
        /// The lane's destination.
        destination: u32,
        /// What follows in the queue: key, sequence number and entry.
        items: Vec<(QueueKey, u64, Entry)>,
        /// Whether the queue has nothing after these.
        is_end: bool,
    },
    /// Verification beside commits has found that the store is damaged.
    StoreDamaged {
        /// What was found, and what to do.
        problem: String,
    },
    /// The moment that [`super::Core::next_deadline`] named has come.
    DeadlineReached,
}

/// What an operator asks for.
#[derive(Debug)]
pub enum Command {
    /// A new job.
    CreateJob {
        /// What to move.
        spec: Box<JobSpec>,
        /// The caller's name for the request.
        request_id: String,
        /// What was found wrong with the request before it came here.
        violations: Vec<Violation>,
    },
    /// A new schedule.
    CreateSchedule {
        /// What each job is to do.
        spec: Box<JobSpec>,
        /// When.
        times: ScheduleTimes,
        /// The caller's name for the request.
        request_id: String,
        /// What was found wrong with the request before it came here.
        violations: Vec<Violation>,
    },
    /// Make no more jobs of a schedule.
    PauseSchedule {
        /// Which.
        schedule: u64,
        /// Why.
        reason: String,
    },
    /// Make jobs of a schedule again.
    ResumeSchedule {
        /// Which.
        schedule: u64,
    },
    /// Make one job of a schedule now.
    RunSchedule {
        /// Which.
        schedule: u64,
        /// The caller's name for the request.
        request_id: String,
    },
    /// Make the later jobs of a schedule by another specification, or at other times.
    UpdateSchedule(Box<ScheduleEdit>),
    /// Forget a schedule.
    DeleteSchedule {
        /// Which.
        schedule: u64,
    },
    /// Stop dispatching a job.
    PauseJob {
        /// Which.
        job: JobId,
        /// Why.
        reason: String,
    },
    /// Dispatch again.
    ResumeJob {
        /// Which.
        job: JobId,
    },
    /// End a job.
    CancelJob {
        /// Which.
        job: JobId,
        /// Why.
        reason: String,
    },
    /// Make a Star known.
    RegisterStar {
        /// Its name.
        star: StarId,
    },
    /// Give a Star work, or take it back into service.
    ScheduleStar {
        /// Which.
        star: StarId,
        /// Why.
        reason: String,
    },
    /// Give a Star no new work.
    DrainStar {
        /// Which.
        star: StarId,
        /// Why.
        reason: String,
        /// How long its work may take before that is worth a bulletin.
        deadline: Option<Duration>,
    },
    /// End a Star's process.
    ShutdownStar {
        /// Which.
        star: StarId,
        /// Why.
        reason: String,
        /// Although it is not drained.
        force: bool,
    },
    /// Keep work away from a Star, or no longer.
    CordonStar {
        /// Which.
        star: StarId,
        /// Whether it is to be cordoned.
        is_cordoned: bool,
    },
    /// Forget a Star.
    RemoveStar {
        /// Which.
        star: StarId,
    },
    /// Change what a Star may hold.
    SetGuardLimits {
        /// Which.
        star: StarId,
        /// Items.
        max_object_count: Option<u64>,
        /// Bytes.
        max_byte_size: Option<u64>,
    },
    /// Stop dispatch to a Star.
    PauseGuard {
        /// Which.
        star: StarId,
        /// Why.
        reason: String,
    },
    /// Take an operator's pause back.
    ResumeGuard {
        /// Which.
        star: StarId,
    },
    /// Forgive items.
    ClearPenalties {
        /// Of this job.
        job: Option<JobId>,
        /// This item.
        item: Option<orbit_shared::words::ItemId>,
    },
    /// Queue dead letters again.
    RetryDeadLetters(DeadLetterFilter),
    /// Forget dead letters.
    DiscardDeadLetters(DeadLetterFilter),
    /// Mark bulletins as seen.
    AcknowledgeBulletins(Vec<u64>),
    /// A command that has a name: under the same name it is executed once.
    Once {
        /// Its name.
        request: RequestName,
        /// What is asked for.
        command: Box<Command>,
    },
    /// Remember an answer that no command gave.
    Remember {
        /// The name of the request.
        request: RequestName,
        /// The answer.
        told: Vec<u8>,
    },
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It concerns this job.
    Job(JobId),
    /// It concerns this Star.
    Star(StarId),
    /// It concerns this schedule.
    Schedule(u64),
    /// It changed so many things.
    Count(u64),
    /// It is done.
    Done,
}

/// Why the coordinator ends a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// Another identity holds the name.
    #[error(
        "the name {star} belongs to another Star: start this one under another --star-id, with the vault that {star} was first started with, or take the name free with RemoveStar"
    )]
    NameTaken {
        /// The name.
        star: StarId,
    },
    /// The same identity has connected again.
    #[error("a newer session of {star} has taken over; is the same vault used by two processes?")]
    Superseded {
        /// The Star.
        star: StarId,
    },
    /// The grid is full.
    #[error("the grid has {max} Stars already; remove one first")]
    TooManyStars {
        /// The bound.
        max: usize,
    },
    /// The Star belongs to another grid.
    #[error(
        "{star} belongs to grid {theirs}, and this coordinator speaks for grid {ours}. If its --data-dir should hold that grid, stop it and see whether the directory is the right one, mounted and whole (orbit backup makes copies). If the Stars are to leave their grid for this one, start the coordinator once with --new-grid"
    )]
    OtherGrid {
        /// The Star.
        star: StarId,
        /// Its grid.
        theirs: Uuid,
        /// The coordinator's.
        ours: Uuid,
    },
    /// The coordinator has lost its store.
    #[error("{problem}")]
    StoreLost {
        /// How it shows, and what to do.
        problem: String,
    },
    /// The Star was removed while it was connected.
    #[error("{star} was removed from the grid")]
    Removed {
        /// The Star.
        star: StarId,
    },
    /// The Star did not keep to the protocol.
    #[error("protocol violation: {problem}")]
    ProtocolViolated {
        /// How.
        problem: String,
    },
}

/// What the core wants done, after what it changed is durable.
#[derive(Debug)]
pub enum Action {
    /// Say something to a Star.
    Send {
        /// On which session.
        session: SessionId,
        /// What.
        message: CoordinatorMessage,
    },
    /// Give a Star work. The driver signs the assignment's token when it executes this.
    Assign {
        /// On which session.
        session: SessionId,
        /// The work, with an empty token.
        assignment: Assignment,
        /// What the token must allow.
        grant: Capability,
    },
    /// Ask a Star for something that needs a capability. The driver signs it when it executes this.
    SignedCall {
        /// On which session.
        session: SessionId,
        /// The number of the call.
        request: u64,
        /// What is asked, with an empty token.
        call: VaultCall,
        /// What the token must allow.
        capability: Capability,
    },
    /// End a session.
    Close {
        /// Which.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
    /// Read on in a lane's queue; answered at once, before anything else happens, by [`Event::WindowLoaded`].
    LoadWindow {
        /// The lane's job.
        job: JobId,
        /// The lane's destination.
        destination: u32,
        /// Where to go on; exclusive.
        after: QueueKey,
        /// How many at most.
        limit: usize,
    },
    /// Drop files of the provenance log whose events are all older.
    ForgetEvents {
        /// Than this.
        before: WallTime,
    },
    /// Answer the caller of a command.
    Reply {
        /// Whom.
        reply: ReplyId,
        /// What.
        answer: Result<Answer, Refusal>,
    },
    /// Tell a caller what a job would do.
    ReplyPlan {
        /// Whom.
        reply: ReplyId,
        /// What.
        answer: Result<Box<Planned>, Refusal>,
    },
    /// Tell a caller what a vault says.
    ReplyVault {
        /// Whom.
        reply: ReplyId,
        /// What.
        answer: Result<Box<VaultReply>, Refusal>,
    },
}
