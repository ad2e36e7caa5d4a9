//! The core without a driver: events in, effects out, nothing stored and nothing sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use orbit_coordinator::core::{
    Action, Command, Core, CoreConfig, Effects, Event, JobSpec, Location, Recovered, ReplyId, SessionId,
};
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::penalization::PenaltyConfig;
use orbit_shared::prioritizer::PrioritizerKind;
use orbit_shared::session::{CoordinatorMessage, Hello, Root, StarMessage};
use orbit_shared::time::Now;
use orbit_shared::words::StarId;
use uuid::Uuid;

use crate::entries::{Scan, all_stored};

const SESSION: SessionId = SessionId(1);

/// How long the core takes to plan, dispatch and settle so many items.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub(crate) fn measure(items: u64) -> Duration {
    let mut world = World::new();
    world.step(Event::SessionOpened { session: SESSION, hello: hello() });
    world.step(Event::CommandReceived { reply: ReplyId(1), command: create_job() });
    let number = world.scan.take().expect("a new job is scanned at once");
    let mut scan = Scan::new(number, items);
    let mut spent = Duration::ZERO;
    while let Some(batch) = scan.batch() {
        let start = Instant::now();
        world.say(StarMessage::ScanBatch(batch));
        spent += start.elapsed();
        // Everything is settled before the next batch, so that nothing has to be read back from a store.
        while let Some((assignment, sequences)) = world.assigned.pop_first() {
            world.reports += 1;
            let report = all_stored(world.reports, assignment, sequences.into_iter());
            let start = Instant::now();
            world.say(StarMessage::Report(report));
            spent += start.elapsed();
        }
    }
    assert_eq!(world.settled, items, "every item is settled");
    spent
}

struct World {
    core: Core,
    milliseconds: u64,
    scan: Option<u64>,
    assigned: BTreeMap<orbit_shared::words::AssignmentId, Vec<u64>>,
    reports: u64,
    settled: u64,
}

impl World {
    fn new() -> Self {
        let mut effects = Effects::default();
        let core = Core::recover(CoreConfig::default(), Recovered::default(), Now::from_ms(0), &mut effects);
        Self { core, milliseconds: 0, scan: None, assigned: BTreeMap::new(), reports: 0, settled: 0 }
    }

    fn say(&mut self, message: StarMessage) {
        if let StarMessage::Report(report) = &message {
            self.settled += report.outcomes.len() as u64;
        }
        self.step(Event::MessageReceived { session: SESSION, message });
    }

    /// One turn of one event.
    fn step(&mut self, event: Event) {
        self.milliseconds += 1;
        let now = Now::from_ms(self.milliseconds);
        let mut effects = Effects::default();
        self.core.step(now, event, &mut effects);
        self.core.finish_turn(now, &mut effects);
        for action in effects.actions {
            match action {
                Action::Assign { assignment, .. } => {
                    let sequences = assignment.items.iter().map(|item| item.sequence).collect();
                    self.assigned.insert(assignment.id, sequences);
                }
                Action::Send { message: CoordinatorMessage::StartScan(request), .. } => {
                    self.scan = Some(request.scan);
                }
                Action::LoadWindow { .. } => panic!("nothing is read back from a store"),
                Action::Reply { answer, .. } => drop(answer.expect("the job is taken")),
                Action::Send { .. } | Action::Heal { .. } | Action::Close { .. } => {}
            }
        }
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
    };
    Command::CreateJob { spec: Box::new(spec), request_id: String::new(), violations: Vec::new() }
}
