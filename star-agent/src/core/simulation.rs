//! Seeded random runs of a Star against a coordinator that loses sessions, withdraws work, and forgets.
//!
//! After every step, at most the allowed number of reports is unacknowledged, and only held assignments run. At the end
//! of every run, each item of an assignment that was not withdrawn has had exactly one outcome.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use orbit_shared::session::{Report, limits};
use orbit_shared::words::Epoch;
use proptest::prelude::*;

use super::tests::{assignment, config, skipped};
use super::*;

/// What the coordinator knows about one assignment.
struct Believed {
    item_count: u64,
    settled: BTreeMap<u64, u32>,
}

struct World {
    core: StarCore,
    at_ms: u64,
    session: Option<u64>,
    is_welcomed: bool,
    believed: BTreeMap<AssignmentId, Believed>,
    running: BTreeMap<AssignmentId, VecDeque<u64>>,
    next_assignment: u64,
    last_report: u64,
    /// Items in acknowledged reports. Later reports may be safe at the coordinator although the Star does not know it.
    settled_items: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            core: StarCore::new(config(), Now::from_ms(0)),
            at_ms: 0,
            session: None,
            is_welcomed: false,
            believed: BTreeMap::new(),
            running: BTreeMap::new(),
            next_assignment: 1,
            last_report: 0,
            settled_items: 0,
        };
        world.step(Event::Started);
        world
    }

    fn step(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.core.step(Now::from_ms(self.at_ms), event, &mut effects);
        for effect in effects {
            self.execute(effect);
        }
        assert!(self.core.unacknowledged() <= limits::REPORTS_UNACKED_MAX);
        let held: Vec<AssignmentId> = self.core.held().collect();
        assert!(self.running.keys().all(|id| held.contains(id)), "something runs that is not held");
    }

    fn execute(&mut self, effect: Effect) {
        match effect {
            Effect::Connect { session, hello, .. } => {
                assert!(hello.held.len() <= limits::HELD_MAX, "a hello names too many");
                self.session = Some(session);
                self.is_welcomed = false;
            }
            Effect::Disconnect { .. } => self.session = None,
            Effect::Send(StarMessage::Report(report)) => self.hear(&report),
            Effect::StartAssignment(assignment) => {
                let items = assignment.items.iter().map(|item| item.sequence).collect();
                self.running.insert(assignment.id, items);
            }
            Effect::StopAssignment(id) | Effect::AbandonAssignment(id) => {
                self.running.remove(&id);
                // The coordinator gives what the Star drops to another one.
                self.believed.remove(&id);
            }
            Effect::ForgetAssignment(id) => {
                self.running.remove(&id);
                let believed = self.believed.remove(&id).expect("only what was acknowledged is forgotten");
                assert_eq!(
                    believed.settled.len() as u64,
                    believed.item_count,
                    "{id} was forgotten too early"
                );
            }
            Effect::Send(_)
            | Effect::SampleHealth
            | Effect::Log { .. }
            | Effect::UpdateKeys(_)
            | Effect::KeepGrid(_) => {}
            Effect::StartScan { .. } | Effect::StopScan { .. } | Effect::GrantScanCredit { .. } => {}
            Effect::Compare { request, .. } => panic!("unexpected comparison: {request}"),
            Effect::CallVault { request, .. } => panic!("unexpected call of the vault: {request}"),
            Effect::ForgetJob(job) => panic!("no job has ended: {job}"),
            Effect::Exit { code, reason } => panic!("unexpected exit: {code} {reason}"),
        }
    }

    fn hear(&mut self, report: &Report) {
        let Some(believed) = self.believed.get_mut(&report.assignment) else { return };
        let is_repeated = report.number <= self.last_report;
        for outcome in &report.outcomes {
            let count = believed.settled.entry(outcome.sequence).or_default();
            assert!(is_repeated || *count == 0, "item {} was reported twice", outcome.sequence);
            self.settled_items += u64::from(*count == 0);
            *count += 1;
        }
        self.last_report = self.last_report.max(report.number);
    }

    fn say(&mut self, message: CoordinatorMessage) {
        if let Some(session) = self.session {
            self.step(Event::FromCoordinator { session, message });
        }
    }

    fn welcome(&mut self, is_forgetful: bool) {
        let kept: Vec<AssignmentId> =
            if is_forgetful { Vec::new() } else { self.believed.keys().copied().collect() };
        self.is_welcomed = true;
        let second = Duration::from_secs(1);
        self.say(CoordinatorMessage::Welcome {
            epoch: Epoch(1),
            heartbeat_interval: second,
            lease: 3 * second,
            kept,
            grid: None,
        });
        if self.core.lifecycle() == LifecycleState::Registered {
            let reason = String::new();
            self.say(CoordinatorMessage::SetLifecycle { state: LifecycleState::Scheduled, reason });
        }
    }

    fn act(&mut self, choice: u8, amount: u8) {
        match choice % 8 {
            0 if self.session.is_some() && !self.is_welcomed => self.welcome(amount.is_multiple_of(16)),
            1 if self.is_welcomed && self.session.is_some() => {
                let id = AssignmentId(self.next_assignment);
                self.next_assignment += 1;
                let item_count = u64::from(amount) + 1;
                self.believed.insert(id, Believed { item_count, settled: BTreeMap::new() });
                self.say(CoordinatorMessage::Assign(assignment(id.0, item_count)));
            }
            2 if self.is_welcomed => {
                let number = self.last_report.saturating_sub(u64::from(amount % 8));
                self.say(CoordinatorMessage::ReportsAcknowledged { number });
            }
            3 if amount < 32 => {
                if let Some(session) = self.session.take() {
                    self.is_welcomed = false;
                    let end = SessionEnd::Lost("cut".to_owned());
                    self.step(Event::Disconnected { session, end });
                }
            }
            4 if amount < 16 && self.is_welcomed => {
                if let Some(id) = self.believed.keys().next().copied() {
                    self.say(CoordinatorMessage::Withdraw {
                        assignment: id,
                        is_job_over: amount.is_multiple_of(2),
                    });
                }
            }
            5 => self.pass_time(),
            _ => self.work(usize::from(amount)),
        }
    }

    fn pass_time(&mut self) {
        let deadline = self.core.next_deadline().expect("a Star always waits for something").elapsed();
        self.at_ms = self.at_ms.max(u64::try_from(deadline.as_millis()).expect("times are small") + 1);
        self.step(Event::DeadlineReached(Vitals::default()));
    }

    fn work(&mut self, amount: usize) {
        let ids: Vec<AssignmentId> = self.running.keys().copied().collect();
        let Some(id) = ids.get(amount % ids.len().max(1)).copied() else { return };
        let items = self.running.get_mut(&id).expect("it runs");
        let done: Vec<u64> = items.drain(..items.len().min(amount / 4 + 1)).collect();
        let is_over = items.is_empty();
        let outcomes = done.into_iter().map(skipped).collect();
        self.step(Event::OutcomesProduced { assignment: id, outcomes });
        if is_over {
            self.running.remove(&id);
            self.step(Event::WorkEnded { assignment: id });
        }
    }

    /// An undisturbed end: all held work is finished and acknowledged.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.core.held().next().is_none() && self.believed.is_empty() {
                return;
            }
            if self.session.is_none() {
                self.pass_time();
            } else if !self.is_welcomed {
                self.welcome(false);
            }
            self.work(255);
            let number = self.last_report;
            if self.is_welcomed {
                self.say(CoordinatorMessage::ReportsAcknowledged { number });
            }
            let held: Vec<AssignmentId> = self.core.held().collect();
            // An assignment that was sent into a session that was cut never arrived.
            self.believed.retain(|id, _| held.contains(id));
        }
        panic!("some outcomes were never delivered: {:?}", self.core);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_outcome_is_delivered_once_whatever_the_sessions_do(
        choices in prop::collection::vec(any::<(u8, u8)>(), 0..400),
    ) {
        let mut world = World::new();
        for (choice, amount) in choices {
            world.act(choice, amount);
        }
        world.settle();
        prop_assert_eq!(world.core.unacknowledged(), 0);
        prop_assert!(world.running.is_empty());
    }
}
