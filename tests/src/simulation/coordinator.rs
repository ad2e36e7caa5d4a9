//! The coordinator's driver, as in `coordinator/src/driver.rs`: steps the events of a turn, finishes it, appends the
//! events, commits the changes, and only then acts. A crash can come between any two of these.

use std::collections::{BTreeMap, VecDeque};

use orbit_coordinator::core::{Action, Change, Command, Core, Event, Noted, ReplyId, SessionId, Turn};
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::ProvenanceEvent;
use orbit_shared::session::{Hello, StarMessage};
use orbit_shared::time::{Monotonic, Now, WallTime};

use super::World;
use super::agenda::Happening;
use super::checks::Before;
use super::log::LogModel;
use super::network::{LinkId, Up};
use super::store::StoreModel;

/// Where a turn is interrupted by a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// Nothing of the turn is durable.
    BeforeLog,
    /// Some of its events are in the log.
    WithinLog,
    /// All of its events are in the log.
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
}

/// The coordinator, its store and its log. The latter two outlive its process.
#[derive(Debug)]
pub struct Coordinator {
    /// The process; `None` while it is down.
    pub core: Option<Core>,
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
    inbox: VecDeque<Request>,
    is_turn_due: bool,
    started_ms: u64,
    next_session: u64,
    /// The Star of each session of this process, including ended ones.
    speakers: BTreeMap<SessionId, usize>,
    turn: Turn,
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
            core: None,
            generation: 0,
            store: StoreModel::default(),
            log: LogModel::default(),
            crash: None,
            wall_skew_ms: 0,
            inbox: VecDeque::new(),
            is_turn_due: false,
            started_ms: 0,
            next_session: 0,
            speakers: BTreeMap::new(),
            turn: Turn::new(Now::default()),
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

    /// The changes of the current turn so far.
    pub fn pending_changes(&self) -> &[Change] {
        &self.turn.changes
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
        if self.coordinator.core.is_some() {
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
        self.coordinator.log.recover(recovered.last_event);
        let now = self.coordinator_now();
        let mut turn = Turn::new(now);
        self.coordinator.core = Some(Core::recover(&mut turn, self.scenario.core.clone(), recovered));
        self.coordinator.turn = turn;
        self.plan_turn();
    }

    /// Kills the coordinator: uncommitted changes are lost, and so are its messages in flight.
    pub(super) fn crash_coordinator(&mut self) {
        if self.coordinator.core.take().is_none() {
            return;
        }
        let generation = self.coordinator.generation;
        self.note(format_args!("coordinator {generation} is killed"));
        let coordinator = &mut self.coordinator;
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

    /// Puts a message into the driver's inbox.
    pub(super) fn request(&mut self, request: Request) {
        if self.coordinator.core.is_none() {
            return;
        }
        self.coordinator.inbox.push_back(request);
        self.plan_turn();
    }

    fn plan_turn(&mut self) {
        if self.coordinator.is_turn_due {
            return;
        }
        self.coordinator.is_turn_due = true;
        // While a commit runs, the inbox fills.
        let delay_ms = if self.chance.percent(30) { self.chance.between(0, 20) } else { 0 };
        let generation = self.coordinator.generation;
        self.agenda.add(self.now_ms + delay_ms, Happening::CoordinatorTurn { generation });
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
            && self.coordinator.core.is_some()
        {
            self.coordinator.deadline = None;
            self.plan_turn();
        }
    }

    /// One turn of the driver.
    pub(super) fn turn(&mut self, generation: u32) {
        if generation != self.coordinator.generation || self.coordinator.core.is_none() {
            return;
        }
        self.coordinator.is_turn_due = false;
        self.notice_spinning();
        let count = self.coordinator.inbox.len();
        let taken = if count > 1 && self.chance.percent(20) {
            self.chance.between(1, count as u64) as usize
        } else {
            count
        };
        for _ in 0..taken {
            let Some(request) = self.coordinator.inbox.pop_front() else { break };
            self.take(request);
        }
        if !self.coordinator.inbox.is_empty() {
            self.plan_turn();
        }
        if self.end_turn() {
            self.arm_coordinator();
        }
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
        };
        self.step(event);
    }

    fn step(&mut self, event: Event) {
        let now = self.coordinator_now();
        let before = Before::of(self, &event);
        let Some(core) = &mut self.coordinator.core else { return };
        core.step(self.coordinator.turn.at(now), event);
        self.check_step(&before);
    }

    /// Finishes the turn; false if the process crashed in it.
    fn end_turn(&mut self) -> bool {
        loop {
            let now = self.coordinator_now();
            let Some(core) = &mut self.coordinator.core else { return false };
            core.finish_turn(self.coordinator.turn.at(now));
            let Turn { changes, notes, actions, .. } = self.coordinator.turn.take();
            let provenance: Vec<_> = notes.into_iter().map(Noted::into_event).collect();
            self.check_actions(&actions);
            self.check_withdrawals(&changes, &actions);
            self.check_bounds_of_coordinator();
            let is_quiet = changes.is_empty() && provenance.is_empty() && actions.is_empty();
            if !is_quiet && let Some(point) = self.coordinator.crash.take() {
                self.crash_at(point, changes, provenance, actions);
                return false;
            }
            let loads = if is_planted(Bug::ToldBeforeCommit) {
                let loads = self.act(actions);
                self.make_durable(changes, provenance);
                loads
            } else {
                self.make_durable(changes, provenance);
                self.act(actions)
            };
            // Checking a large world after each turn would take longer than the run.
            let is_looked_at = !is_quiet && (self.scenario.entries_min == 0 || self.chance.percent(5));
            if let Some(core) = &self.coordinator.core
                && is_looked_at
            {
                core.check();
                self.check_store();
                self.coordinator.store.check_touched();
            }
            if loads.is_empty() {
                return true;
            }
            for (job, destination, after, limit) in loads {
                // A page can be shorter than requested.
                let page_max = if self.scenario.entries_min > 0 { 1_000 } else { 20 };
                let limit = limit.min(self.chance.between(1, page_max) as usize);
                let event = self.coordinator.store.page(job, destination, &after, limit);
                self.step(event);
            }
        }
    }

    fn make_durable(&mut self, mut changes: Vec<Change>, events: Vec<ProvenanceEvent>) {
        self.check_ends(&changes, &events);
        if !events.is_empty() {
            changes.push(Change::PutLastEvent(self.coordinator.log.append(events)));
        }
        self.coordinator.store.commit(changes);
    }

    /// The process crashes within a turn.
    fn crash_at(
        &mut self,
        point: CrashPoint,
        changes: Vec<Change>,
        mut provenance: Vec<ProvenanceEvent>,
        mut actions: Vec<Action>,
    ) {
        self.note(format_args!("crash {point:?}"));
        if is_planted(Bug::ToldBeforeCommit) {
            self.act(actions);
            return self.crash_coordinator();
        }
        match point {
            CrashPoint::BeforeLog => {}
            CrashPoint::WithinLog => {
                provenance.truncate(self.chance.below(provenance.len() as u64 + 1) as usize);
                self.coordinator.log.append(provenance);
            }
            CrashPoint::BeforeCommit => drop(self.coordinator.log.append(provenance)),
            CrashPoint::WithinActions => {
                self.make_durable(changes, provenance);
                actions.truncate(self.chance.below(actions.len() as u64 + 1) as usize);
                self.act(actions);
            }
        }
        self.crash_coordinator();
    }
}
