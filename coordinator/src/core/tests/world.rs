//! The world around a core under test: a store in memory, Stars that do as they are told, and a clock that is moved.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::comparison::{Comparison, Unchanged};
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::penalization::PenaltyConfig;
use orbit_shared::prioritizer::PrioritizerKind;
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::session::{
    Assignment, ChunkCounts, CoordinatorMessage, Failure, FailureCause, Fault, Heartbeat, Hello, ItemOutcome,
    ItemResult, Report, Root, ScanBatch, ScanRequest, StarMessage,
};
use orbit_shared::time::{Now, WallTime};
use orbit_shared::vault_call::limits::DAMAGED_MAX;
use orbit_shared::vault_call::{
    ChunkPlace, DamagedInfo, Renames, SealRequest, SnapshotInfo, VaultCall, VaultFailure, VaultProblem,
    VaultReply,
};
use orbit_shared::words::{AssignmentId, ItemId, JobId, SnapshotId, StarId};
use uuid::Uuid;

use super::store::FakeStore;
use crate::core::{
    Action, Answer, CloseReason, Command, Core, CoreConfig, Event, ItemEnd, JobSpec, JobView, Location,
    Noted, Planned, Recovered, Refusal, ReplyId, SessionId, Turn,
};
/// What a Star does with an item.
pub(super) type Behaviour = Box<dyn FnMut(&Entry) -> ItemResult>;

/// The same where it matters that nothing may be written.
pub(super) type Checked = Box<dyn FnMut(&Entry, bool) -> ItemResult>;

/// A Star that is connected.
pub(super) struct FakeStar {
    pub(super) session: SessionId,
    pub(super) held: BTreeMap<AssignmentId, Assignment>,
    pub(super) scans: VecDeque<ScanRequest>,
    pub(super) state: LifecycleState,
    /// Every state that it was told to go to.
    pub(super) told: Vec<LifecycleState>,
    /// Every job that it was told to forget.
    pub(super) ended_jobs: Vec<JobId>,
    pub(super) was_closed: Option<CloseReason>,
    /// The grid that its last welcome named.
    pub(super) grid: Option<Uuid>,
    /// What its vault was asked and has not answered.
    pub(super) calls: VecDeque<(u64, VaultCall)>,
    pub(super) reports: u64,
}

/// What a caller hears.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    Answer(Answer),
    Plan(Box<Planned>),
    Vault(Box<VaultReply>),
}

/// A core with everything around it.
pub(super) struct World {
    pub(super) core: Core,
    pub(super) config: CoreConfig,
    pub(super) store: FakeStore,
    pub(super) stars: BTreeMap<&'static str, FakeStar>,
    pub(super) now_ms: u64,
    /// How far the wall clock is ahead of the monotonic one.
    pub(super) wall_offset_s: i64,
    /// What any Star finds when it scans.
    pub(super) tree: Vec<Entry>,
    pub(super) behaviour: Behaviour,
    /// Decides instead of `behaviour` where a test sets it; told whether nothing may be written.
    pub(super) checked: Option<Checked>,
    /// What the vault of each Star has, and what it could not seal for now.
    pub(super) vaults: BTreeMap<&'static str, Vec<SnapshotInfo>>,
    pub(super) seal_problem: Option<VaultProblem>,
    /// Snapshots that were deleted and can be brought back.
    pub(super) deleted: BTreeMap<SnapshotId, SnapshotInfo>,
    /// What is damaged in which vault, and which vault has which chunk whole.
    pub(super) damaged: BTreeMap<&'static str, Vec<DamagedInfo>>,
    pub(super) copies: BTreeSet<(&'static str, ChunkHash)>,
    /// Chunks whose files are at their source as they were.
    pub(super) unchanged: BTreeSet<ChunkHash>,
    /// From where chunks were healed.
    pub(super) healed: Vec<String>,
    /// Events about chunks that moved or were stored, and about renamed files.
    pub(super) content_events: Vec<ProvenanceEvent>,
    /// What a vault finds when it makes a snapshot.
    pub(super) renames: Renames,
    /// The version that Stars say in their hellos.
    pub(super) version: &'static str,
    /// Jobs and destinations of which every vault says that it has something.
    pub(super) stages: Vec<(JobId, u32)>,
    /// What every Star exports, writable.
    pub(super) roots: Vec<&'static str>,
    /// Items that a Star was given, in order.
    pub(super) given: Vec<(StarId, ItemId)>,
    /// The rate of each assignment, in order.
    pub(super) rates: Vec<(StarId, u64)>,
    /// Paths that every destination has already, unchanged; `None` while no destination answers.
    pub(super) present: Option<BTreeSet<Vec<u8>>>,
    /// What the next Star that connects says that its process before had begun.
    pub(super) begun: Option<Vec<AssignmentId>>,
    /// Which grid each Star belongs to, as its vault has it.
    pub(super) grids: BTreeMap<&'static str, Uuid>,
    /// Up to when events were to be forgotten last.
    pub(super) forgotten_events_before: Option<WallTime>,
    /// How many comparisons were asked for.
    pub(super) asked: usize,
    questions: VecDeque<(SessionId, u64, Comparison)>,
    answers: BTreeMap<ReplyId, Result<Heard, Refusal>>,
    next_session: u64,
    next_reply: u64,
}

pub(super) fn star_id(name: &str) -> StarId {
    StarId::new(name).expect("a name")
}

pub(super) fn file(path: &str, size: u64) -> Entry {
    let kind = EntryKind::File { size };
    Entry { path: path.as_bytes().to_vec(), kind, mode: 0o644, modified: WallTime::UNIX_EPOCH, rank: 50 }
}

pub(super) fn directory(path: &str) -> Entry {
    Entry { kind: EntryKind::Directory, ..file(path, 0) }
}

/// A root and `count` files of 1,000 bytes.
pub(super) fn tree(count: u64) -> Vec<Entry> {
    let mut entries = vec![directory("")];
    entries.extend((0..count).map(|index| file(&format!("f{index:06}"), 1000)));
    entries
}

pub(super) fn stored(entry: &Entry) -> ItemResult {
    ItemResult::Stored {
        size: entry.size(),
        bytes_transferred: entry.size(),
        bytes_deduplicated: 0,
        chunks: ChunkCounts { transferred: 1, ..ChunkCounts::default() },
        duration: std::time::Duration::from_millis(1),
        is_changed: false,
    }
}

pub(super) fn failed(cause: FailureCause, fault: Fault) -> ItemResult {
    ItemResult::Failed(Failure { cause, fault, message: "it did not work".to_owned() })
}

pub(super) fn spec(source: &str, destinations: &[&str]) -> JobSpec {
    let place = |name: &str, path: &str| Location { star_id: star_id(name), path: path.as_bytes().to_vec() };
    JobSpec {
        source: place(source, "/data/in"),
        destinations: destinations.iter().map(|name| place(name, "/data/out")).collect(),
        include: Vec::new(),
        exclude: Vec::new(),
        prioritizers: PrioritizerKind::DEFAULT_CHAIN.to_vec(),
        penalty: PenaltyConfig { jitter: 0.0, ..PenaltyConfig::default() },
        max_bytes_per_second: 0,
        dead_letter_max: 10_000,
        layout: orbit_shared::words::Layout::Files,
        snapshot: None,
        tags: Vec::new(),
        limits: Default::default(),
        is_one_file_system: false,
        bandwidth_windows: Vec::new(),
        caller: None,
        mirror: None,
        paths: Vec::new(),
        compares_content: false,
    }
}

/// What a vault does that is asked for a snapshot, for the first time or again.
pub(super) fn seal_in(vault: &mut Vec<SnapshotInfo>, seal: &SealRequest) -> SnapshotInfo {
    let is_it = |info: &&SnapshotInfo| (info.job, info.destination) == (seal.job, seal.destination);
    if let Some(info) = vault.iter().find(is_it) {
        return info.clone();
    }
    let mut name = [0; 16];
    name[0] = u8::try_from(seal.job.0).expect("few jobs");
    name[1] = u8::try_from(seal.destination).expect("few destinations");
    let info = SnapshotInfo {
        id: SnapshotId(name),
        job: seal.job,
        destination: seal.destination,
        source_star: seal.source_star.clone(),
        source_path: seal.source_path.clone(),
        create_time: seal.create_time,
        tags: seal.tags.clone(),
        is_partial: seal.is_partial,
        entry_count: seal.entry_count,
        file_count: seal.entry_count,
        total_bytes: 0,
        added_bytes: 0,
        changed_count: seal.changed_count,
        tree_hash: Some(ChunkHash::of(&seal.job.0.to_le_bytes())),
    };
    vault.push(info.clone());
    info
}

/// A batch of a scan behind which more follow.
pub(super) fn batch(scan: u64, number: u64, entries: Vec<Entry>) -> ScanBatch {
    ScanBatch {
        scan,
        number,
        entries,
        is_last: false,
        failure: None,
        matched: Vec::new(),
        skipped_mounts: Vec::new(),
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(CoreConfig::default())
    }

    pub(super) fn with(config: CoreConfig) -> Self {
        let mut turn = Turn::new(Now::from_ms(1000));
        let core = Core::recover(&mut turn, config.clone(), Recovered::default());
        let mut world = Self {
            core,
            config,
            store: FakeStore::default(),
            stars: BTreeMap::new(),
            now_ms: 1000,
            wall_offset_s: 0,
            tree: tree(10),
            behaviour: Box::new(stored),
            checked: None,
            vaults: BTreeMap::new(),
            seal_problem: None,
            damaged: BTreeMap::new(),
            copies: BTreeSet::new(),
            unchanged: BTreeSet::new(),
            healed: Vec::new(),
            stages: Vec::new(),
            roots: vec!["/data"],
            given: Vec::new(),
            rates: Vec::new(),
            present: Some(BTreeSet::new()),
            begun: None,
            deleted: BTreeMap::new(),
            grids: BTreeMap::new(),
            forgotten_events_before: None,
            content_events: Vec::new(),
            renames: Renames::default(),
            version: env!("CARGO_PKG_VERSION"),
            asked: 0,
            questions: VecDeque::new(),
            answers: BTreeMap::new(),
            next_session: 0,
            next_reply: 0,
        };
        world.finish(turn);
        world
    }

    /// Three Stars that are connected and scheduled.
    pub(super) fn of_three() -> Self {
        let mut world = Self::new();
        for name in ["star-1", "star-2", "star-3"] {
            world.connect(name, 1, &[]);
        }
        world
    }

    pub(super) fn now(&self) -> Now {
        let now = Now::from_ms(self.now_ms);
        let wall = WallTime { seconds: now.wall.seconds + self.wall_offset_s, ..now.wall };
        Now { wall, ..now }
    }

    /// One turn of the driver.
    pub(super) fn turn(&mut self, events: Vec<Event>) {
        let mut turn = Turn::new(self.now());
        for event in events {
            self.core.step(&mut turn, event);
        }
        self.finish(turn);
        self.answer_questions();
    }

    /// The destinations say what they have of what was listed, while they answer.
    fn answer_questions(&mut self) {
        let Some(present) = &self.present else { return };
        let Some((session, request, comparison)) = self.questions.pop_front() else { return };
        let mut unchanged = Unchanged::default();
        let entries = comparison.entries.iter().enumerate();
        entries
            .filter(|(_, entry)| present.contains(&entry.path))
            .for_each(|(index, _)| unchanged.insert(index));
        let message = StarMessage::Compared { request, unchanged };
        self.turn(vec![Event::MessageReceived { session, message }]);
    }

    fn finish(&mut self, mut turn: Turn) {
        loop {
            self.core.finish_turn(turn.at(self.now()));
            let Turn { changes, notes, actions, .. } = turn.take();
            for event in notes.into_iter().map(Noted::into_event) {
                match event.event_type {
                    ProvenanceType::ChunkHealed => self.healed.extend(event.source),
                    ProvenanceType::ChunkCreated
                    | ProvenanceType::ChunkDeduplicated
                    | ProvenanceType::ChunkTransferred
                    | ProvenanceType::ChunkVerified
                    | ProvenanceType::ChunkPacked
                    | ProvenanceType::FileRenamed => self.content_events.push(event),
                    _ => {}
                }
            }
            for change in changes {
                self.store.apply(change);
            }
            self.core.check();
            let mut is_loading = false;
            for action in actions {
                if let Action::LoadWindow { job, destination, after, limit } = action {
                    is_loading = true;
                    let page = self.store.page(job, destination, &after, limit);
                    self.core.step(&mut turn, page);
                } else {
                    self.execute(action);
                }
            }
            if !is_loading {
                assert!(turn.is_empty(), "a load had effects of its own");
                return;
            }
        }
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::Send { session, message } => {
                let Some(star) = self.stars.values_mut().find(|star| star.session == session) else { return };
                match message {
                    CoordinatorMessage::SetLifecycle { state, .. } => {
                        // A Star refuses a transition that its lifecycle does not have.
                        if orbit_shared::lifecycle::check_transition(star.state, state).is_ok() {
                            star.state = state;
                        }
                        star.told.push(state);
                    }
                    CoordinatorMessage::Withdraw { assignment, .. } => drop(star.held.remove(&assignment)),
                    CoordinatorMessage::StartScan(request) => star.scans.push_back(request),
                    CoordinatorMessage::CancelScan { scan } => star.scans.retain(|known| known.scan != scan),
                    CoordinatorMessage::Welcome { kept, grid, .. } => {
                        star.held.retain(|id, _| kept.contains(id));
                        star.grid = grid;
                    }
                    CoordinatorMessage::JobEnded { job } => star.ended_jobs.push(job),
                    CoordinatorMessage::Compare { request, comparison } => {
                        self.asked += 1;
                        self.questions.push_back((session, request, comparison));
                    }
                    CoordinatorMessage::CallVault { request, call } => star.calls.push_back((request, call)),
                    CoordinatorMessage::Assign(_)
                    | CoordinatorMessage::VerificationKeys(_)
                    | CoordinatorMessage::ScanAcknowledged { .. }
                    | CoordinatorMessage::ReportsAcknowledged { .. } => {}
                }
            }
            Action::Assign { session, assignment, grant } => {
                let destination_star = grant.destination_star;
                self.rates.push((destination_star.clone(), grant.max_bytes_per_second));
                for item in &assignment.items {
                    let id = ItemId {
                        job: assignment.job,
                        destination: assignment.destination,
                        sequence: item.sequence,
                    };
                    self.given.push((destination_star.clone(), id));
                }
                let star = self.stars.values_mut().find(|star| star.session == session);
                let star = star.expect("work goes to a session that is open");
                assert_eq!(star.state, LifecycleState::Scheduled, "{destination_star} is given work");
                star.held.insert(assignment.id, assignment);
            }
            Action::SignedCall { session, request, call, capability } => {
                match &call {
                    VaultCall::Heal(heal) => assert_eq!(capability.source_star, heal.source_star),
                    VaultCall::Sweep(sweep) => assert_eq!(capability.source_path, sweep.source_path),
                    other => panic!("{other:?} needs no capability"),
                }
                if let Some(star) = self.stars.values_mut().find(|star| star.session == session) {
                    star.calls.push_back((request, call));
                }
            }
            Action::Close { session, reason } => {
                if let Some(star) = self.stars.values_mut().find(|star| star.session == session) {
                    star.was_closed = Some(reason);
                }
            }
            Action::ForgetEvents { before } => self.forgotten_events_before = Some(before),
            Action::Reply { reply, answer } => {
                drop(self.answers.insert(reply, answer.map(Heard::Answer)));
            }
            Action::ReplyPlan { reply, answer } => {
                drop(self.answers.insert(reply, answer.map(Heard::Plan)));
            }
            Action::ReplyVault { reply, answer } => {
                drop(self.answers.insert(reply, answer.map(Heard::Vault)));
            }

            Action::LoadWindow { .. } => unreachable!("loads are answered by the turn"),
        }
    }

    /// A Star says hello; `process` tells its processes apart.
    pub(super) fn connect(&mut self, name: &'static str, process: u128, held: &[AssignmentId]) -> SessionId {
        self.connect_as(name, 100, process, held)
    }

    pub(super) fn connect_as(
        &mut self,
        name: &'static str,
        identity: u128,
        process: u128,
        held: &[AssignmentId],
    ) -> SessionId {
        self.next_session += 1;
        let session = SessionId(self.next_session);
        let old = self.stars.remove(name);
        let is_same = old.is_some() && !held.is_empty();
        let (held_before, state, reports) = match old {
            Some(old) if is_same => (old.held, old.state, old.reports),
            Some(old) => (BTreeMap::new(), LifecycleState::Registered, old.reports),
            None => (BTreeMap::new(), LifecycleState::Registered, 0),
        };
        let star = FakeStar {
            session,
            held: held_before,
            scans: VecDeque::new(),
            state,
            told: Vec::new(),
            ended_jobs: Vec::new(),
            was_closed: None,
            grid: None,
            calls: VecDeque::new(),
            reports,
        };
        self.stars.insert(name, star);
        let hello = Hello {
            star_id: star_id(name),
            identity: Uuid::from_u128(identity),
            instance: Uuid::from_u128(process),
            data_address: format!("{name}:7200"),
            roots: self
                .roots
                .iter()
                .map(|path| Root { path: path.as_bytes().to_vec(), is_read_only: false })
                .collect(),
            labels: BTreeMap::new(),
            version: self.version.to_owned(),
            held: held.to_vec(),
            lifecycle: state,
            begun: self.begun.take(),
            grid: self.grids.get(name).copied(),
            semantic_rules: Vec::new(),
        };
        self.turn(vec![Event::SessionOpened { session, hello }]);
        session
    }

    pub(super) fn say(&mut self, name: &str, message: StarMessage) {
        let session = self.stars[name].session;
        self.turn(vec![Event::MessageReceived { session, message }]);
    }

    pub(super) fn disconnect(&mut self, name: &str) {
        let session = self.stars[name].session;
        self.turn(vec![Event::SessionClosed { session }]);
    }

    pub(super) fn heartbeat(&mut self, name: &str) {
        let star = &self.stars[name];
        let heartbeat = Heartbeat {
            lifecycle: star.state,
            active_tasks: u32::try_from(star.held.len()).expect("few"),
            served_pulls: 0,
            sample: None,
            advisories: Vec::new(),
            progress: Vec::new(),
            root_space: Vec::new(),
            vault_bytes: None,
            vault_sample: None,
        };
        self.say(name, StarMessage::Heartbeat(heartbeat));
    }

    pub(super) fn command(&mut self, command: Command) -> Result<Answer, Refusal> {
        self.command_by(None, command)
    }

    pub(super) fn command_by(&mut self, actor: Option<&str>, command: Command) -> Result<Answer, Refusal> {
        self.next_reply += 1;
        let reply = ReplyId(self.next_reply);
        self.turn(vec![Event::CommandReceived { reply, command, actor: actor.map(str::to_owned) }]);
        match self.answers.remove(&reply).expect("every command is answered in its turn")? {
            Heard::Answer(answer) => Ok(answer),
            other => panic!("the answer of a command is {other:?}"),
        }
    }

    pub(super) fn create(&mut self, spec: JobSpec) -> JobId {
        let command =
            Command::CreateJob { spec: Box::new(spec), request_id: String::new(), violations: Vec::new() };
        match self.command(command) {
            Ok(Answer::Job(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn job(&self, id: JobId) -> JobView {
        self.core.job(id, self.now()).expect("the job is known")
    }

    /// Moves the clock to the next deadline, as the driver would; false if there is none within `limit_ms`.
    pub(super) fn wait(&mut self, limit_ms: u64) -> bool {
        let now = self.now();
        let Some(at) = self.core.next_deadline(now) else { return false };
        let at_ms = u64::try_from(at.elapsed().as_micros().div_ceil(1000)).expect("soon").max(self.now_ms);
        if at_ms > self.now_ms + limit_ms {
            return false;
        }
        self.now_ms = at_ms;
        self.turn(vec![Event::DeadlineReached]);
        true
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.turn(vec![Event::DeadlineReached]);
    }

    /// Runs every scan that a Star was asked for, in one batch, from where it was asked to start.
    pub(super) fn scan(&mut self, name: &str) -> bool {
        let star = self.stars.get_mut(name).expect("connected");
        let Some(request) = star.scans.pop_front() else { return false };
        let start = match &request.resume_after {
            Some(after) => 1 + self.tree.iter().position(|entry| entry.path == *after).expect("the cursor"),
            None => 0,
        };
        let entries = self.tree[start..].to_vec();
        let batch = ScanBatch { is_last: true, ..batch(request.scan, 1, entries) };
        self.say(name, StarMessage::ScanBatch(batch));
        true
    }

    /// Answers the oldest call of a Star's vault.
    pub(super) fn answer(&mut self, name: &'static str) -> bool {
        let star = self.stars.get_mut(name).expect("connected");
        let Some((request, call)) = star.calls.pop_front() else { return false };
        let vault = self.vaults.entry(name).or_default();
        let answer = match call {
            VaultCall::Seal(_) if self.seal_problem.is_some() => Err(self.seal_problem.take().expect("one")),
            VaultCall::Seal(seal) => Ok(VaultReply::Sealed(seal_in(vault, &seal), self.renames.clone())),
            VaultCall::ListSnapshots { .. } => Ok(VaultReply::Snapshots {
                snapshots: vault.clone(),
                stages: self.stages.clone(),
                is_end: true,
            }),
            VaultCall::DeleteSnapshot(id) => {
                self.deleted.extend(vault.extract_if(.., |info| info.id == id).map(|info| (info.id, info)));
                Ok(VaultReply::Done)
            }
            VaultCall::UndeleteSnapshot(id) => match self.deleted.remove(&id) {
                Some(info) => {
                    vault.push(info.clone());
                    Ok(VaultReply::Sealed(info, Renames::default()))
                }
                None => {
                    Err(VaultProblem { failure: VaultFailure::NotFound, message: "no such one".to_owned() })
                }
            },
            VaultCall::Abandon { job, destination } => {
                self.stages.retain(|stage| *stage != (job, destination));
                Ok(VaultReply::Done)
            }
            VaultCall::ListDamaged { after } => {
                let damaged = self.damaged.get(name).into_iter().flatten();
                let damaged = damaged.filter(|info| after.is_none_or(|after| info.hash > after));
                Ok(VaultReply::Damaged(damaged.take(DAMAGED_MAX).cloned().collect()))
            }
            VaultCall::LocateChunk(hash) => {
                let place = ChunkPlace {
                    container: "c".to_owned(),
                    offset: 16,
                    stored_bytes: 5,
                    raw_bytes: 5,
                    reference_count: 1,
                    is_damaged: false,
                };
                Ok(VaultReply::Located(self.copies.contains(&(name, hash)).then_some(place)))
            }
            VaultCall::Heal(heal) if heal.origin.is_some() && !self.unchanged.contains(&heal.hash) => {
                let message = format!("{} has changed", heal.source_star);
                Err(VaultProblem { failure: VaultFailure::Failed, message })
            }
            VaultCall::Heal(heal) => {
                let damaged = self.damaged.entry(name).or_default();
                damaged.retain(|info| info.hash != heal.hash);
                Ok(VaultReply::Done)
            }
            other => panic!("{other:?} is not for this fake"),
        };
        self.say(name, StarMessage::VaultAnswered { request, answer });
        true
    }

    /// Asks a vault for something; the answer is there once the vault has answered.
    pub(super) fn ask(&mut self, name: &str, call: VaultCall) -> ReplyId {
        self.next_reply += 1;
        let reply = ReplyId(self.next_reply);
        self.turn(vec![Event::VaultAsked { reply, star: star_id(name), call }]);
        reply
    }

    /// Names one more caller.
    pub(super) fn new_reply(&mut self) -> ReplyId {
        self.next_reply += 1;
        ReplyId(self.next_reply)
    }

    pub(super) fn answered(&mut self, reply: ReplyId) -> Option<Result<Heard, Refusal>> {
        self.answers.remove(&reply)
    }

    /// Reports every item of the oldest assignment that a Star holds.
    pub(super) fn work(&mut self, name: &str) -> bool {
        let Some((&id, _)) = self.stars[name].held.first_key_value() else { return false };
        let assignment = self.stars.get_mut(name).and_then(|star| star.held.remove(&id)).expect("held");
        let mut outcomes = Vec::new();
        for item in &assignment.items {
            let result = match &mut self.checked {
                Some(checked) => checked(&item.entry, assignment.is_check_only),
                None => (self.behaviour)(&item.entry),
            };
            outcomes.push(ItemOutcome { sequence: item.sequence, result });
        }
        self.report(name, id, outcomes);
        true
    }

    pub(super) fn report(&mut self, name: &str, assignment: AssignmentId, outcomes: Vec<ItemOutcome>) {
        let star = self.stars.get_mut(name).expect("connected");
        star.reports += 1;
        let number = star.reports;
        self.say(name, StarMessage::Report(Report { number, assignment, outcomes }));
    }

    /// Lets everybody work until nothing moves, waiting out penalties.
    pub(super) fn settle(&mut self) {
        let names: Vec<&'static str> = self.stars.keys().copied().collect();
        for _ in 0..100_000 {
            let mut is_any = false;
            for &name in &names {
                if self.stars[name].was_closed.is_none() {
                    is_any |= self.scan(name) | self.work(name) | self.answer(name);
                }
            }
            if is_any {
                continue;
            }
            for &name in &names {
                self.heartbeat(name);
            }
            let is_waiting = self.core.each_job(None, &[], self.now()).any(|job| job.penalized > 0);
            if !is_waiting || !self.wait(100_000) {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Ends the coordinator without a word and starts another on what is durable.
    pub(super) fn crash(&mut self) {
        let mut turn = Turn::new(self.now());
        self.core = Core::recover(&mut turn, self.config.clone(), self.store.recovered());
        for star in self.stars.values_mut() {
            star.scans.clear();
            star.calls.clear();
        }
        self.finish(turn);
    }

    pub(super) fn ended(&self, end: ItemEnd) -> usize {
        self.store.ends.values().filter(|record| record.end == end).count()
    }

    /// Nothing of any job is left over in the store.
    pub(super) fn assert_clean(&self) {
        assert!(self.store.queue.is_empty(), "queued: {:?}", self.store.queue);
        assert!(self.store.penalties.is_empty(), "penalized: {:?}", self.store.penalties);
        assert!(self.store.assignments.is_empty(), "assigned: {:?}", self.store.assignments);
        let given: BTreeSet<_> = self.stars.values().flat_map(|star| star.held.keys()).collect();
        assert!(given.is_empty(), "held: {given:?}");
    }
}
