//! The core without a driver: events in, effects out, nothing stored and nothing sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use orbit_coordinator::core::{
    Action, Command, Core, CoreConfig, Event, JobSpec, Location, Recovered, ReplyId, SessionId, Turn,
};
use orbit_shared::comparison::Unchanged;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::penalization::PenaltyConfig;
use orbit_shared::prioritizer::PrioritizerKind;
use orbit_shared::session::{CoordinatorMessage, Hello, Report, Root, StarMessage};
use orbit_shared::time::Now;
use orbit_shared::words::{AssignmentId, StarId};
use uuid::Uuid;

use crate::tree::{Scan, all_stored};

const SESSION: SessionId = SessionId(1);

/// How long the core takes to plan, dispatch and settle `items` items.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub fn measure(items: u64) -> Duration {
    let mut spent = Duration::ZERO;
    move_items(items, |core, message| {
        let start = Instant::now();
        drop(core.say(message));
        spent += start.elapsed();
    });
    spent
}

/// Moves `items` items. `hand_over` gets each message of the Star and passes it to the core.
pub fn move_items(items: u64, mut hand_over: impl FnMut(&mut CoreAlone, StarMessage)) {
    let mut core = CoreAlone::new();
    let mut scan = core.scan(items);
    while let Some(batch) = scan.batch() {
        hand_over(&mut core, StarMessage::ScanBatch(batch));
        // Everything is settled before the next batch, so that nothing has to be read from a store.
        while let Some(report) = core.next_report() {
            hand_over(&mut core, StarMessage::Report(report));
        }
    }
    assert_eq!(core.settled, items, "every item is settled");
}

/// A core with one Star, which is source and destination of one job.
#[derive(Debug)]
pub struct CoreAlone {
    core: Core,
    milliseconds: u64,
    scan: u64,
    assigned: BTreeMap<AssignmentId, Vec<u64>>,
    reports: u64,
    settled: u64,
    /// The results of turns that were not taken yet.
    pending: Turn,
}

impl CoreAlone {
    /// The Star is connected, and the job waits for the results of its scan.
    pub fn new() -> Self {
        let mut pending = Turn::new(Now::from_ms(0));
        let core = Core::recover(&mut pending, CoreConfig::default(), Recovered::default());
        let mut alone = Self {
            core,
            milliseconds: 0,
            scan: 0,
            assigned: BTreeMap::new(),
            reports: 0,
            settled: 0,
            pending,
        };
        alone.turn(Event::SessionOpened { session: SESSION, hello: hello() });
        alone.command(create_job());
        assert_ne!(alone.scan, 0, "a new job is scanned at once");
        alone
    }

    /// The job's scan, of a tree with this many files.
    pub fn scan(&self, entries: u64) -> Scan {
        Scan::new(self.scan, entries)
    }

    /// One turn with one message. Its assignments are kept for [`CoreAlone::next_report`]; all other results, and those
    /// from before the first message, are returned.
    pub fn say(&mut self, message: StarMessage) -> Turn {
        if let StarMessage::Report(report) = &message {
            self.settled += report.outcomes.len() as u64;
        }
        self.turn(Event::MessageReceived { session: SESSION, message });
        self.pending.take()
    }

    /// The report of the oldest assignment without one: all of its items are stored.
    pub fn next_report(&mut self) -> Option<Report> {
        let (assignment, sequences) = self.assigned.pop_first()?;
        self.reports += 1;
        Some(all_stored(self.reports, assignment, sequences.into_iter()))
    }

    /// Number of items that are assigned and not reported.
    pub fn assigned_count(&self) -> usize {
        self.assigned.values().map(Vec::len).sum()
    }

    /// From now on items wait in their lane.
    pub fn pause(&mut self) {
        self.command(Command::PauseGuard { star: star(), reason: String::new() });
    }

    /// Dispatches the items that wait in the lane.
    pub fn resume(&mut self) {
        self.command(Command::ResumeGuard { star: star() });
    }

    fn command(&mut self, command: Command) {
        self.turn(Event::CommandReceived { reply: ReplyId(1), command, actor: None });
    }

    fn turn(&mut self, event: Event) {
        self.milliseconds += 1;
        let now = Now::from_ms(self.milliseconds);
        self.core.step(self.pending.at(now), event);
        self.core.finish_turn(&mut self.pending);
        let mut questions = Vec::new();
        for action in std::mem::take(&mut self.pending.actions) {
            match action {
                Action::Send { message: CoordinatorMessage::Compare { request, .. }, .. } => {
                    questions.push(request);
                }
                Action::Assign { assignment, .. } => {
                    let sequences = assignment.items.iter().map(|item| item.sequence).collect();
                    self.assigned.insert(assignment.id, sequences);
                }
                Action::Send { message: CoordinatorMessage::StartScan(request), .. } => {
                    self.scan = request.scan;
                }
                Action::LoadWindow { .. } => panic!("nothing is read back from a store"),
                Action::Reply { answer, .. } => drop(answer.expect("the command is taken")),
                Action::ReplyPlan { .. } | Action::ReplyVault { .. } => {
                    panic!("no command of this test has a plan or a vault as its answer");
                }
                Action::Send { .. }
                | Action::SignedCall { .. }
                | Action::Close { .. }
                | Action::ForgetEvents { .. } => {}
            }
        }
        // The destination has nothing, and is asked less and less often.
        for request in questions {
            let message = StarMessage::Compared { request, unchanged: Unchanged::default() };
            self.turn(Event::MessageReceived { session: SESSION, message });
        }
    }
}

impl Default for CoreAlone {
    fn default() -> Self {
        Self::new()
    }
}

fn star() -> StarId {
    StarId::new("star-1").expect("a name")
}

fn hello() -> Hello {
    Hello {
        star_id: star(),
        identity: Uuid::from_u128(1),
        instance: Uuid::from_u128(2),
        data_address: "127.0.0.1:1".to_owned(),
        roots: vec![Root { path: b"/".to_vec(), is_read_only: false }],
        labels: BTreeMap::new(),
        version: String::new(),
        held: Vec::new(),
        lifecycle: LifecycleState::Registered,
        begun: None,
        grid: None,
        semantic_rules: Vec::new(),
    }
}

fn create_job() -> Command {
    let place = |path: &str| Location { star_id: star(), path: path.as_bytes().to_vec() };
    let spec = JobSpec {
        source: place("/source"),
        destinations: vec![place("/destination")],
        include: Vec::new(),
        exclude: Vec::new(),
        prioritizers: PrioritizerKind::DEFAULT_CHAIN.to_vec(),
        penalty: PenaltyConfig::default(),
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
    };
    Command::CreateJob { spec: Box::new(spec), request_id: String::new(), violations: Vec::new() }
}
