//! The whole grid in one thread, without a clock, a disk or a network: the real cores of coordinator and Star, the real
//! machines of a coordinator's turns and of the items of an assignment, and models of everything around them that can fail in
//! every way that the design considers.
//!
//! One seed decides one run: its size, its limits, its faults and their times. A run has a period of faults, after
//! which everything is repaired, and must then come to rest. [`checks`] has the invariants after every step, `rest`
//! those at the end. Not simulated: the content of files, the container format, gRPC and real clocks; those have tests
//! with real processes.

mod actions;
pub mod agenda;
pub mod chance;
pub mod checks;
pub mod coordinator;
pub mod destination;
pub mod disk;
mod links;
pub mod log;
pub mod network;
pub mod operator;
mod rest;
pub mod runner;
pub mod scan;
pub mod scenario;
pub mod star;
pub mod store;
pub mod trace;
pub mod tree;
mod trouble;
pub mod vault;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use orbit_shared::words::AssignmentId;

use self::agenda::{Agenda, Happening};
use self::chance::Chance;
use self::checks::TurnNotes;
use self::coordinator::Coordinator;
use self::network::Network;
use self::operator::Operator;
use self::scenario::Scenario;
use self::star::Star;
use self::trace::Trace;
use self::tree::SourceTree;

/// Number of steps after which a run counts as stuck in a loop.
const STEPS_MAX: u64 = 2_000_000;

/// The result of a run without violations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// A hash that distinguishes runs.
    pub trace_hash: u64,
    /// Simulated time in milliseconds.
    pub lasted_ms: u64,
    /// Number of events.
    pub steps: u64,
    /// Number of processes of the coordinator.
    pub coordinators: u32,
    /// Number of processes of Stars.
    pub stars: u32,
    /// Number of items at their destinations.
    pub stored: u64,
    /// Number of items that were given up.
    pub dead: u64,
}

/// The state of everything.
#[derive(Debug)]
pub struct World {
    chance: Chance,
    trace: Trace,
    agenda: Agenda,
    scenario: Scenario,
    now_ms: u64,
    network: Network,
    coordinator: Coordinator,
    stars: Vec<Star>,
    operator: Operator,
    is_healing: bool,
    /// Whether a source was changed after its start.
    is_source_changed: bool,
    /// Whether dead letters were retried, so that directories were written into after their end.
    is_anything_redriven: bool,
    /// The version that each Star has reported for a path.
    promised: BTreeMap<(usize, Vec<u8>), u64>,
    /// Assignments that were sent to a Star.
    told: BTreeSet<AssignmentId>,
    turn_notes: TurnNotes,
}

/// Runs one seed to its end. Panics if an invariant is violated.
pub fn run(seed: u64, is_traced: bool) -> Outcome {
    let mut world = World::new(seed, is_traced);
    world.start();
    let mut steps = 0;
    while !(world.is_healing && world.is_over()) {
        let Some((at_ms, happening)) = world.agenda.take_first() else {
            panic!("nothing more would ever happen")
        };
        world.now_ms = at_ms;
        world.happen(happening);
        steps += 1;
        assert!(steps < STEPS_MAX, "a run has an end: {steps} steps");
    }
    let tallies = world.coordinator.store.jobs.values().map(|job| job.tally());
    let (stored, dead) =
        tallies.fold((0, 0), |sum, tally| (sum.0 + tally.stored + tally.skipped, sum.1 + tally.dead));
    Outcome {
        trace_hash: world.trace.hash(),
        lasted_ms: world.now_ms,
        steps,
        coordinators: world.coordinator.generation,
        stars: world.stars.iter().map(|star| star.process).sum(),
        stored,
        dead,
    }
}

impl World {
    /// The world of a seed at its beginning.
    fn new(seed: u64, is_traced: bool) -> Self {
        let mut chance = Chance::new(seed);
        let scenario = Scenario::draw(&mut chance);
        let stars = (0..scenario.star_count)
            .map(|index| {
                let entries = chance.between(scenario.entries_min, scenario.entries_max);
                Star::new(index, SourceTree::grow(&mut chance, entries))
            })
            .collect();
        Self {
            trace: Trace::new(is_traced),
            agenda: Agenda::default(),
            now_ms: 0,
            network: Network::new(scenario.star_count),
            coordinator: Coordinator::new(),
            stars,
            operator: Operator::default(),
            is_healing: false,
            is_source_changed: false,
            is_anything_redriven: false,
            promised: BTreeMap::new(),
            told: BTreeSet::new(),
            turn_notes: TurnNotes::default(),
            scenario,
            chance,
        }
    }

    fn start(&mut self) {
        self.trace.note(0, format_args!("{:?}", self.scenario));
        self.think_of_jobs();
        self.agenda.add(0, Happening::CoordinatorStart);
        for star in 0..self.stars.len() {
            let at_ms = self.chance.between(0, 2_000);
            self.agenda.add(at_ms, Happening::StarStart { star });
        }
        self.agenda.add(500, Happening::Operator);
        self.agenda.add(1_000, Happening::Trouble);
        self.agenda.add(self.scenario.healing_ms, Happening::Healing);
    }

    fn note(&mut self, line: fmt::Arguments<'_>) {
        self.trace.note(self.now_ms, line);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Delivery { link, is_up } => self.deliver(link, is_up),
            Happening::KeepaliveEnded { link } => self.keepalive_ended(link),
            Happening::CoordinatorTurn { generation } => self.turn(generation),
            Happening::CommitEnded { generation } => self.commit_ended(generation),
            Happening::CoordinatorDeadline { generation, wish } => {
                self.coordinator_deadline(generation, wish);
            }
            Happening::CoordinatorStart => self.start_coordinator(),
            Happening::StarDeadline { star, process, wish } => self.star_deadline(star, process, wish),
            Happening::StarStart { star } => self.start_star(star),
            Happening::StarInbox { star, process, event } => self.hear_star_inbox(star, process, *event),
            Happening::Thaw { star } => self.thaw(star),
            Happening::WorkStep { star, process, assignment } => self.work_step(star, process, assignment),
            Happening::ScanStep { star, process, run } => self.scan_step(star, process, run),
            Happening::Operator => self.operate(),
            Happening::Trouble => self.break_something(),
            Happening::Mending(mending) => self.mend(mending),
            Happening::Healing => self.heal(),
        }
    }
}
