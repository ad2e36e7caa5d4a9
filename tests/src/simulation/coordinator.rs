//! A shell around the coordinator's turn machine, as its driver is: an inbox, a commit that takes time, and the execution
//! of what is due. A crash can come at any point of a commit and between two actions.

use std::collections::{BTreeMap, VecDeque};

use orbit_coordinator::core::{Change, Command, Core, Event, Noted, ReplyId, SessionId};
use orbit_coordinator::turns::{Commit, Turns, last_committed_event};
use orbit_shared::provenance::ProvenanceEvent;
use orbit_shared::session::{Hello, StarMessage};
use orbit_shared::time::{Monotonic, Now, WallTime};

use super::World;
use super::actions::Window;
use super::agenda::Happening;
use super::checks::Before;
use super::log::LogModel;
use super::network::{LinkId, Up};
use super::store::StoreModel;

/// Where a commit is interrupted by a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// Nothing of the turn is durable.
    BeforeLog,
    /// Some of its events are in the log.
    WithinLog,
    /// All of its events are in the log; the commit of the store fails.
    BeforeCommit,
    /// The turn is durable, and some of its actions were executed.
    WithinActions,
}

impl CrashPoint {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::BeforeLog, Self::WithinLog, Self::BeforeCommit, Self::WithinActions];
}

/// A message in the driver's inbox.
#[derive(Debug)]
pub enum Request {
    /// An event.
    Event(Event),
    /// A Star has said hello on a link.
    Hello {
        /// The link.
        link: LinkId,
        /// The hello.
        hello: Hello,
    },
    /// A command of an operator.
    Command {
        /// The receiver of the answer.
        reply: ReplyId,
        /// The command.
        command: Command,
    },
    /// A reader wants to look at the core.
    Look(Look),
}

/// A look at the core between two turns.
#[derive(Debug)]
pub struct Look;

/// The coordinator, its store and its log. The latter two outlive its process.
#[derive(Debug)]
pub struct Coordinator {
    /// The turn machine of the process; `None` while it is down.
    pub turns: Option<Turns<Look>>,
    /// Number of the process.
    pub generation: u32,
    /// Its durable store.
    pub store: StoreModel,
    /// Its provenance log.
    pub log: LogModel,
    /// Where the next turn is interrupted.
    pub crash: Option<CrashPoint>,
    /// Error of its wall clock.
    pub wall_skew_ms: i64,
    /// The commit that is under way.
    commit: Option<Commit>,
    inbox: VecDeque<Request>,
    is_turn_due: bool,
    started_ms: u64,
    next_session: u64,
    /// The Star of each session of this process, including ended ones.
    speakers: BTreeMap<SessionId, usize>,
    /// The deadline of the core.
    pub deadline: Option<Monotonic>,
    /// Number of the deadline. Only the last one counts.
    pub wish: u64,
    /// Number of turns at one moment, to notice a core in a loop.
    turns_now: (u64, u32),
}

impl Coordinator {
    /// A coordinator that has never run.
    pub fn new() -> Self {
        Self {
            turns: None,
            generation: 0,
            store: StoreModel::default(),
            log: LogModel::default(),
            crash: None,
            wall_skew_ms: 0,
            commit: None,
            inbox: VecDeque::new(),
            is_turn_due: false,
            started_ms: 0,
            next_session: 0,
            speakers: BTreeMap::new(),
            deadline: None,
            wish: 0,
            turns_now: (0, 0),
        }
    }
}

impl Coordinator {
    /// The Star of a session.
    pub fn speaker(&self, session: SessionId) -> Option<usize> {
        self.speakers.get(&session).copied()
    }

    /// The core of the process; `None` while it is down.
    pub fn core(&self) -> Option<&Core> {
        self.turns.as_ref().map(Turns::core)
    }

    /// Changes that are not durable: those of the commit under way, and those of the current turn.
    pub fn pending_changes(&self) -> impl Iterator<Item = &Change> {
        let committing = self.commit.iter().flat_map(|commit| &commit.changes);
        committing.chain(self.gathered_changes())
    }

    /// The changes of the current turn so far.
    pub fn gathered_changes(&self) -> &[Change] {
        self.turns.as_ref().map(Turns::gathered_changes).unwrap_or_default()
    }
}

impl Default for Coordinator {
    fn default() -> Self {
        Self::new()
    }
}

/// Midday, so that a clock can jump in both directions.
const WALL_START_MS: i64 = 1_700_000_000_000;

/// A wall clock with this error.
pub fn wall(at_ms: u64, skew_ms: i64) -> WallTime {
    WallTime::from_unix_ms((WALL_START_MS + at_ms as i64 + skew_ms).max(0) as u64)
}

impl World {
    /// The coordinator's clocks.
    pub(super) fn coordinator_now(&self) -> Now {
        let coordinator = &self.coordinator;
        Now {
            monotonic: Monotonic::from_ms(self.now_ms - coordinator.started_ms),
            wall: wall(self.now_ms, coordinator.wall_skew_ms),
        }
    }

    /// Starts the coordinator with the content of its store and log.
    pub(super) fn start_coordinator(&mut self) {
        if self.coordinator.turns.is_some() {
            return;
        }
        let coordinator = &mut self.coordinator;
        coordinator.generation += 1;
        coordinator.started_ms = self.now_ms;
        coordinator.next_session = 0;
        coordinator.speakers.clear();
        coordinator.deadline = None;
        let generation = self.coordinator.generation;
        self.note(format_args!("coordinator {generation} starts"));
        let recovered = self.coordinator.store.recovered();
        self.coordinator.log.recover(last_committed_event(&recovered));
        let (config, now) = (self.scenario.core.clone(), self.coordinator_now());
        self.coordinator.turns = Some(Turns::recover(config, recovered, now));
        self.plan_turn();
    }

    /// Kills the coordinator. A commit under way is interrupted somewhere.
    pub(super) fn crash_coordinator(&mut self) {
        if self.coordinator.turns.is_none() {
            return;
        }
        match self.coordinator.commit.take() {
            Some(commit) => {
                let point = self.chance.pick(&CrashPoint::ALL);
                self.crash_at(point, commit);
            }
            None => self.end_coordinator(),
        }
    }

    /// The process ends: changes that are not durable are lost, and so are its messages in flight.
    fn end_coordinator(&mut self) {
        let generation = self.coordinator.generation;
        self.note(format_args!("coordinator {generation} is killed"));
        let coordinator = &mut self.coordinator;
        coordinator.turns = None;
        coordinator.commit = None;
        coordinator.inbox.clear();
        coordinator.is_turn_due = false;
        coordinator.crash = None;
        for link in self.network.all() {
            self.cut_link(link, false, true);
        }
        self.operator.forget_pending();
        let down_ms = self.chance.between(1, 3_000);
        self.agenda.add(self.now_ms + down_ms, Happening::CoordinatorStart);
    }

    /// Puts a message into the driver's inbox. While a commit runs, the driver usually takes it at once.
    pub(super) fn request(&mut self, request: Request) {
        let Some(turns) = &self.coordinator.turns else { return };
        if self.coordinator.commit.is_none() {
            self.coordinator.inbox.push_back(request);
            return self.plan_turn();
        }
        if turns.has_room() && self.coordinator.inbox.is_empty() && self.chance.percent(80) {
            return self.take(request);
        }
        self.coordinator.inbox.push_back(request);
    }

    fn plan_turn(&mut self) {
        if self.coordinator.is_turn_due {
            return;
        }
        self.coordinator.is_turn_due = true;
        let at_ms = self.now_ms + self.moment_ms();
        let generation = self.coordinator.generation;
        self.agenda.add(at_ms, Happening::CoordinatorTurn { generation });
    }

    /// How long something of the driver takes: usually not noticeable.
    fn moment_ms(&mut self) -> u64 {
        if self.chance.percent(30) { self.chance.between(0, 20) } else { 0 }
    }

    /// Messages from a Star have arrived on a link.
    pub(super) fn hear_star(&mut self, id: LinkId, up: Up) {
        let generation = self.coordinator.generation;
        let Some(link) = self.network.link(id) else { return };
        if link.generation != generation || !link.is_coordinator_end_open {
            return;
        }
        match (up, link.session) {
            (Up::Message(message), None) => match *message {
                StarMessage::Hello(hello) => self.request(Request::Hello { link: id, hello }),
                other => panic!("a session starts with a hello, not with {other:?}"),
            },
            (Up::Message(message), Some(session)) => {
                self.request(Request::Event(Event::MessageReceived { session, message: *message }));
            }
            (Up::End, session) => self.end_coordinator_side(id, session),
        }
    }

    /// The coordinator finds a session closed.
    fn end_coordinator_side(&mut self, id: LinkId, session: Option<SessionId>) {
        if let Some(link) = self.network.link(id) {
            link.is_coordinator_end_open = false;
        }
        if let Some(session) = session {
            self.request(Request::Event(Event::SessionClosed { session }));
        }
        self.network.forget_closed(id);
    }

    /// A deadline of the core has come.
    pub(super) fn coordinator_deadline(&mut self, generation: u32, wish: u64) {
        if generation == self.coordinator.generation
            && wish == self.coordinator.wish
            && self.coordinator.turns.is_some()
        {
            self.coordinator.deadline = None;
            self.plan_turn();
        }
    }

    /// The driver takes what is in its inbox, and ends the turn.
    pub(super) fn turn(&mut self, generation: u32) {
        if generation != self.coordinator.generation || self.coordinator.turns.is_none() {
            return;
        }
        self.coordinator.is_turn_due = false;
        if self.coordinator.commit.is_some() {
            // The inbox is looked at again after the commit.
            return;
        }
        self.notice_spinning();
        if self.chance.percent(10) {
            self.coordinator.inbox.push_back(Request::Look(Look));
        }
        let count = self.coordinator.inbox.len();
        let taken = if count > 1 && self.chance.percent(20) {
            self.chance.between(1, count as u64) as usize
        } else {
            count
        };
        for _ in 0..taken {
            if !self.coordinator.turns.as_ref().is_some_and(Turns::has_room) {
                break;
            }
            let Some(request) = self.coordinator.inbox.pop_front() else { break };
            self.take(request);
        }
        self.end_turn();
    }

    fn notice_spinning(&mut self) {
        let (at_ms, count) = self.coordinator.turns_now;
        let count = if at_ms == self.now_ms { count + 1 } else { 0 };
        self.coordinator.turns_now = (self.now_ms, count);
        assert!(count < 2_000, "the coordinator spins: {count} turns at one moment");
    }

    fn take(&mut self, request: Request) {
        let event = match request {
            Request::Event(event) => event,
            Request::Hello { link, hello } => {
                let coordinator = &mut self.coordinator;
                coordinator.next_session += 1;
                let session = SessionId(coordinator.next_session);
                let Some(link) = self.network.link(link) else { return };
                link.session = Some(session);
                coordinator.speakers.insert(session, link.star);
                self.note(format_args!(
                    "{} opens session {} holding {:?}",
                    hello.star_id, session.0, hello.held
                ));
                Event::SessionOpened { session, hello }
            }
            Request::Command { reply, command } => {
                self.note(format_args!("operator: {command:?}"));
                Event::CommandReceived { reply, command, actor: None }
            }
            Request::Look(look) => {
                let Some(turns) = &mut self.coordinator.turns else { return };
                return turns.look(look);
            }
        };
        self.step(event);
    }

    fn step(&mut self, event: Event) {
        let now = self.coordinator_now();
        let before = Before::of(self, &event);
        let Some(turns) = &mut self.coordinator.turns else { return };
        turns.step(now, event);
        self.check_step(&before);
    }

    /// Ends the turn, and begins its commit if it has one.
    fn end_turn(&mut self) {
        loop {
            let now = self.coordinator_now();
            let Some(turns) = &mut self.coordinator.turns else { return };
            let commit = turns.end(now);
            self.check_bounds_of_coordinator();
            if let Some(commit) = commit {
                self.check_held_actions(&commit.changes);
                self.coordinator.commit = Some(commit);
                self.execute_due();
                let at_ms = self.now_ms + self.moment_ms();
                let generation = self.coordinator.generation;
                return self.agenda.add(at_ms, Happening::CommitEnded { generation });
            }
            self.check_held_actions(&[]);
            if !self.execute_due() {
                return self.turn_ended();
            }
        }
    }

    /// The commit of a turn ends, or the process crashes in it.
    pub(super) fn commit_ended(&mut self, generation: u32) {
        if generation != self.coordinator.generation {
            return;
        }
        let Some(commit) = self.coordinator.commit.take() else { return };
        if let Some(point) = self.coordinator.crash.take() {
            return self.crash_at(point, commit);
        }
        self.make_durable(commit);
        if let Some(turns) = &mut self.coordinator.turns {
            turns.committed();
        }
        if self.execute_due() { self.end_turn() } else { self.turn_ended() }
    }

    /// Executes what is due. Returns whether windows were requested; they are loaded then.
    fn execute_due(&mut self) -> bool {
        let Some(turns) = &mut self.coordinator.turns else { return false };
        let due = turns.take_due();
        let windows = self.act(due);
        let has_windows = !windows.is_empty();
        for Window { job, destination, after, limit } in windows {
            // A page can be shorter than requested.
            let page_max = if self.scenario.entries_min > 0 { 1_000 } else { 20 };
            let limit = limit.min(self.chance.between(1, page_max) as usize);
            let event = self.coordinator.store.page(job, destination, &after, limit);
            self.step(event);
        }
        has_windows
    }

    /// Everything of a turn is done: views look, and the driver goes on or waits.
    fn turn_ended(&mut self) {
        let Some(turns) = &mut self.coordinator.turns else { return };
        let views = turns.take_views();
        let is_idle = turns.is_idle();
        // Checking a large world after each turn would take longer than the run.
        let is_looked_at = is_idle && (self.scenario.entries_min == 0 || self.chance.percent(5));
        if is_looked_at || !views.is_empty() {
            self.check_store();
            self.coordinator.store.check_touched();
        }
        if !is_idle || !self.coordinator.inbox.is_empty() {
            return self.plan_turn();
        }
        self.arm_coordinator();
    }

    fn make_durable(&mut self, commit: Commit) {
        let Commit { mut changes, notes } = commit;
        let events = events_of(notes);
        self.check_ends(&changes, &events);
        if !events.is_empty() {
            changes.push(Change::PutLastEvent(self.coordinator.log.append(events)));
        }
        self.coordinator.store.commit(changes);
    }

    /// The process crashes within a commit, or right after it.
    fn crash_at(&mut self, point: CrashPoint, commit: Commit) {
        self.note(format_args!("crash {point:?}"));
        match point {
            CrashPoint::BeforeLog => {}
            CrashPoint::WithinLog => {
                let mut events = events_of(commit.notes);
                events.truncate(self.chance.below(events.len() as u64 + 1) as usize);
                self.coordinator.log.append(events);
            }
            CrashPoint::BeforeCommit => {
                self.coordinator.log.append(events_of(commit.notes));
                let now = self.coordinator_now();
                if let Some(turns) = &mut self.coordinator.turns {
                    turns.lose_store(now, "the commit failed");
                    assert!(turns.take_due().is_empty(), "what is not durable is not told");
                }
            }
            CrashPoint::WithinActions => {
                self.make_durable(commit);
                if let Some(turns) = &mut self.coordinator.turns {
                    turns.committed();
                    let mut due = turns.take_due();
                    due.truncate(self.chance.below(due.len() as u64 + 1) as usize);
                    self.act(due);
                }
            }
        }
        self.end_coordinator();
    }
}

fn events_of(notes: Vec<Noted>) -> Vec<ProvenanceEvent> {
    notes.into_iter().map(Noted::into_event).collect()
}
