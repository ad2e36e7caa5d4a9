//! One situation each.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::health_monitor::HealthSample;
use orbit_shared::session::{
    AssignedItem, Assignment, Failure, FailureCause, Fault, ItemOutcome, ItemResult, Report, RootSpace,
    ScanBatch, ScanRequest, limits,
};
use orbit_shared::time::WallTime;
use orbit_shared::words::{Epoch, JobId, Layout, StarId};
use uuid::Uuid;

use super::*;

const INTERVAL: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(10);

pub(crate) fn config() -> CoreConfig {
    CoreConfig {
        star_id: StarId::new("star-1").unwrap(),
        identity: Uuid::from_u128(1),
        instance: Uuid::from_u128(2),
        data_address: "127.0.0.1:7200".to_owned(),
        roots: Vec::new(),
        labels: BTreeMap::new(),
        version: "0".to_owned(),
        coordinator_count: 3,
        drain_timeout: Duration::from_secs(30),
        seed: 7,
    }
}

pub(crate) fn assignment(id: u64, item_count: u64) -> Assignment {
    let entry = Entry {
        path: b"a".to_vec(),
        kind: EntryKind::File { size: 1 },
        mode: 0o644,
        modified: WallTime::UNIX_EPOCH,
        rank: 50,
    };
    Assignment {
        id: AssignmentId(id),
        job: JobId(1),
        destination: 0,
        source_star: StarId::new("star-2").unwrap(),
        source_address: String::new(),
        source_path: b"/s".to_vec(),
        destination_path: b"/d".to_vec(),
        token: String::new(),
        items: (0..item_count).map(|sequence| AssignedItem { sequence, entry: entry.clone() }).collect(),
        is_check_only: false,
        layout: Layout::Files,
        source_snapshot: None,
        keeps_directory_times: false,
        trace: None,
    }
}

pub(super) fn skipped(sequence: u64) -> ItemOutcome {
    ItemOutcome { sequence, result: ItemResult::Skipped }
}

/// A Star and its clock.
struct Bench {
    core: StarCore,
    at_ms: u64,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { core: StarCore::new(config(), Now::from_ms(0)), at_ms: 0 };
        assert!(matches!(
            bench.step(Event::Started)[..],
            [Effect::Connect { session: 1, coordinator: 0, .. }]
        ));
        bench
    }

    fn welcomed() -> Self {
        let mut bench = Self::new();
        bench.hear(1, welcome(&[]));
        bench.wait();
        bench
    }

    fn working() -> Self {
        let mut bench = Self::welcomed();
        bench.hear(1, lifecycle(LifecycleState::Scheduled));
        bench
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.core.step(Now::from_ms(self.at_ms), event, &mut effects);
        effects
    }

    fn hear(&mut self, session: u64, message: CoordinatorMessage) -> Vec<Effect> {
        self.step(Event::FromCoordinator { session, message })
    }

    /// Goes to the next deadline.
    fn wait(&mut self) -> Vec<Effect> {
        let deadline = self.core.next_deadline().unwrap().elapsed();
        self.at_ms = self.at_ms.max(u64::try_from(deadline.as_nanos().div_ceil(1_000_000)).unwrap());
        self.step(Event::DeadlineReached(Vitals::default()))
    }

    fn lose(&mut self, session: u64) -> Vec<Effect> {
        self.step(Event::Disconnected { session, end: SessionEnd::Lost("gone".to_owned()) })
    }

    fn produce(&mut self, id: u64, sequences: std::ops::Range<u64>) -> Vec<Effect> {
        let outcomes = sequences.map(skipped).collect();
        self.step(Event::OutcomesProduced { assignment: AssignmentId(id), outcomes })
    }

    fn held(&self) -> Vec<u64> {
        self.core.held().map(|id| id.0).collect()
    }
}

fn welcome(kept: &[u64]) -> CoordinatorMessage {
    CoordinatorMessage::Welcome {
        epoch: Epoch(1),
        heartbeat_interval: INTERVAL,
        lease: LEASE,
        kept: kept.iter().copied().map(AssignmentId).collect(),
    }
}

fn lifecycle(state: LifecycleState) -> CoordinatorMessage {
    CoordinatorMessage::SetLifecycle { state, reason: "told".to_owned() }
}

fn acknowledge(number: u64) -> CoordinatorMessage {
    CoordinatorMessage::ReportsAcknowledged { number }
}

fn assign(id: u64, item_count: u64) -> CoordinatorMessage {
    CoordinatorMessage::Assign(assignment(id, item_count))
}

fn scan(id: u64) -> CoordinatorMessage {
    CoordinatorMessage::StartScan(ScanRequest {
        scan: id,
        job: JobId(1),
        path: b"/s".to_vec(),
        include: Vec::new(),
        exclude: Vec::new(),
        resume_after: None,
        snapshot: None,
        limits: Default::default(),
        trace: None,
    })
}

fn reports(effects: &[Effect]) -> Vec<&Report> {
    let report = |effect| match effect {
        &Effect::Send(StarMessage::Report(ref report)) => Some(report),
        _ => None,
    };
    effects.iter().filter_map(report).collect()
}

fn heartbeats(effects: &[Effect]) -> Vec<&Heartbeat> {
    let heartbeat = |effect| match effect {
        &Effect::Send(StarMessage::Heartbeat(ref heartbeat)) => Some(heartbeat),
        _ => None,
    };
    effects.iter().filter_map(heartbeat).collect()
}

fn exit_code(effects: &[Effect]) -> Option<u8> {
    match effects.last() {
        Some(Effect::Exit { code, .. }) => Some(*code),
        _ => None,
    }
}

#[test]
fn a_failed_connection_is_tried_again_later_each_time_at_the_next_address() {
    let mut bench = Bench::new();
    let mut waits = Vec::new();
    for attempt in 1..12_u64 {
        let lost_at = bench.at_ms;
        bench.lose(attempt);
        let effects = bench.wait();
        waits.push(bench.at_ms - lost_at);
        let expected = usize::try_from(attempt).unwrap() % 3;
        assert!(
            matches!(effects[..], [Effect::Connect { session, coordinator, .. }] if session == attempt + 1 && coordinator == expected),
            "{effects:?}"
        );
    }
    assert!((100..=200).contains(&waits[0]), "{waits:?}");
    assert!(waits[7..].iter().all(|wait| (5_000..=10_000).contains(wait)), "{waits:?}");
}

#[test]
fn a_coordinator_that_does_not_answer_is_given_up() {
    let mut bench = Bench::new();
    let effects = bench.wait();
    assert_eq!(bench.at_ms, 10_000);
    assert_eq!(effects[0], Effect::Disconnect { session: 1 });
    assert!(matches!(bench.wait()[..], [Effect::Connect { session: 2, .. }]));
}

#[test]
fn a_refused_hello_ends_the_process_with_its_reason() {
    let mut bench = Bench::new();
    let end = SessionEnd::Refused("another identity holds star-1".to_owned());
    let effects = bench.step(Event::Disconnected { session: 1, end });
    assert_eq!(
        effects.last(),
        Some(&Effect::Exit { code: 1, reason: "another identity holds star-1".to_owned() })
    );
    assert_eq!(bench.core.next_deadline(), None);
    assert!(bench.hear(1, welcome(&[])).is_empty());
}

#[test]
fn heartbeats_go_out_at_once_and_then_at_the_interval() {
    let mut bench = Bench::new();
    bench.hear(1, welcome(&[]));
    assert_eq!(heartbeats(&bench.wait()).len(), 1);
    assert_eq!(bench.at_ms, 0);
    for second in 1..5 {
        let effects = bench.wait();
        assert_eq!(bench.at_ms, second * 1000);
        assert_eq!(heartbeats(&effects).len(), 1);
        assert!(effects.contains(&Effect::SampleHealth));
    }
}

#[test]
fn a_heartbeat_carries_the_last_sample_and_the_progress_of_what_is_held() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 1));
    let sample = HealthSample { disk_total_bytes: 9, ..HealthSample::default() };
    let root_space = vec![RootSpace { path: b"/data".to_vec(), available_bytes: 7 }];
    let sampled = Sampled { sample, advisories: Vec::new(), root_space: root_space.clone() };
    bench.step(Event::HealthSampled(sampled));
    bench.at_ms += 1000;
    let progress = BTreeMap::from([(AssignmentId(5), 42), (AssignmentId(6), 1)]);
    let effects = bench.step(Event::DeadlineReached(Vitals { served_pulls: 3, progress }));
    let heartbeat = heartbeats(&effects)[0];
    assert_eq!(heartbeat.sample, Some(sample));
    assert_eq!(heartbeat.root_space, root_space);
    assert_eq!(heartbeat.progress, [(AssignmentId(5), 42)]);
    assert_eq!((heartbeat.active_tasks, heartbeat.served_pulls), (1, 3));
}

#[test]
fn an_assignment_is_forgotten_when_its_last_outcome_is_acknowledged() {
    let mut bench = Bench::working();
    let effects = bench.hear(1, assign(5, 3));
    assert!(matches!(effects[..], [Effect::StartAssignment(_)]));
    assert_eq!(reports(&bench.produce(5, 0..2))[0].number, 1);
    assert_eq!(reports(&bench.produce(5, 2..3))[0].number, 2);
    assert!(bench.hear(1, acknowledge(1)).is_empty());
    assert_eq!(bench.held(), [5]);
    assert_eq!(bench.hear(1, acknowledge(2)), [Effect::ForgetAssignment(AssignmentId(5))]);
    assert_eq!(bench.held(), [0_u64; 0]);
}

#[test]
fn a_second_outcome_of_an_item_is_not_reported() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    assert_eq!(reports(&bench.produce(5, 0..1)).len(), 1);
    assert!(bench.produce(5, 0..1).is_empty());
}

#[test]
fn work_that_ends_without_outcomes_has_failed() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 3));
    bench.produce(5, 0..1);
    let effects = bench.step(Event::WorkEnded { assignment: AssignmentId(5) });
    let outcomes = &reports(&effects)[0].outcomes;
    assert_eq!(outcomes.len(), 2);
    assert!(outcomes.iter().all(|outcome| matches!(
        outcome.result,
        ItemResult::Failed(Failure { cause: FailureCause::Transient, fault: Fault::Destination, .. })
    )));
}

#[test]
fn reports_wait_for_room_and_then_take_turns() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 200));
    bench.hear(1, assign(6, 200));
    for sequence in 0..100 {
        bench.produce(5, sequence..sequence + 1);
        bench.produce(6, sequence..sequence + 1);
    }
    assert_eq!(bench.core.unacknowledged(), limits::REPORTS_UNACKED_MAX);
    let effects = bench.hear(1, acknowledge(2));
    let made: Vec<_> =
        reports(&effects).iter().map(|report| (report.assignment.0, report.outcomes.len())).collect();
    assert_eq!(made, [(5, 68), (6, 68)]);
}

#[test]
fn an_assignment_that_comes_while_no_work_is_taken_is_refused_item_by_item() {
    let mut bench = Bench::welcomed();
    let effects = bench.hear(1, assign(5, 4));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::StartAssignment(_))));
    assert_eq!(reports(&effects)[0].outcomes.len(), 4);
    bench.hear(1, acknowledge(1));
    assert_eq!(bench.held(), [0_u64; 0]);
}

#[test]
fn an_assignment_above_the_bound_is_refused() {
    let mut bench = Bench::working();
    for id in 0..limits::ASSIGNMENTS_PER_STAR_MAX as u64 {
        assert!(reports(&bench.hear(1, assign(id, 1))).is_empty());
    }
    assert_eq!(reports(&bench.hear(1, assign(99, 1))).len(), 1);
}

#[test]
fn a_withdrawn_assignment_leaves_nothing_behind() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 3));
    bench.produce(5, 0..1);
    bench.hear(1, assign(6, 3));
    let withdraw =
        |id, is_job_over| CoordinatorMessage::Withdraw { assignment: AssignmentId(id), is_job_over };
    let effects = bench.hear(1, withdraw(5, true));
    assert_eq!(effects, [Effect::AbandonAssignment(AssignmentId(5))]);
    assert_eq!(bench.hear(1, withdraw(6, false)), [Effect::StopAssignment(AssignmentId(6))]);
    assert_eq!((bench.held().len(), bench.core.unacknowledged()), (0, 0));
    assert!(bench.produce(5, 1..3).is_empty());
    assert!(bench.step(Event::WorkEnded { assignment: AssignmentId(5) }).is_empty());
    assert_eq!(bench.hear(1, CoordinatorMessage::JobEnded { job: JobId(1) }), [Effect::ForgetJob(JobId(1))]);
}

#[test]
fn work_goes_on_without_a_session_and_is_reported_in_the_next() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    bench.produce(5, 0..1);
    bench.lose(1);
    assert!(bench.produce(5, 1..2).is_empty());
    let effects = bench.wait();
    assert!(
        matches!(&effects[..], [Effect::Connect { hello, .. }] if hello.held == [AssignmentId(5)] && hello.lifecycle == LifecycleState::Scheduled),
        "{effects:?}"
    );
    let effects = bench.hear(2, welcome(&[5]));
    let numbers: Vec<_> = reports(&effects).iter().map(|report| report.number).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(bench.hear(2, acknowledge(2)), [Effect::ForgetAssignment(AssignmentId(5))]);
}

#[test]
fn a_welcome_drops_what_it_does_not_keep() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    bench.hear(1, assign(6, 2));
    bench.produce(5, 0..1);
    bench.lose(1);
    bench.wait();
    let effects = bench.hear(2, welcome(&[6]));
    assert!(effects.contains(&Effect::StopAssignment(AssignmentId(5))));
    assert!(reports(&effects).is_empty());
    assert_eq!(bench.held(), [6]);
}

#[test]
fn a_welcome_that_keeps_what_was_given_up_since_the_hello_is_answered_with_a_new_hello() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    bench.lose(1);
    let effects = bench.wait();
    let [Effect::Connect { session: 2, hello, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(hello.held, [AssignmentId(5)]);
    // The coordinator hangs until the lease is over, then reads that hello.
    bench.at_ms = 9_000;
    while bench.held() == [5] {
        bench.wait();
    }
    let session = bench.core.link.session();
    let effects = match session {
        Some(session) => bench.hear(session, welcome(&[5])),
        None => {
            let effects = bench.wait();
            let Some(Effect::Connect { session, .. }) = effects.last() else { panic!("{effects:?}") };
            let session = *session;
            bench.hear(session, welcome(&[5]))
        }
    };
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Disconnect { .. })), "{effects:?}");
    let effects = bench.wait();
    let Some(Effect::Connect { hello, .. }) = effects.last() else { panic!("{effects:?}") };
    assert!(hello.held.is_empty(), "the new hello says that nothing is held");
}

#[test]
fn everything_is_dropped_when_the_lease_ends_without_a_session() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    bench.produce(5, 0..1);
    bench.lose(1);
    let mut stopped = Vec::new();
    while bench.at_ms < 11_000 && stopped.is_empty() {
        let effects = bench.wait();
        if let Some(Effect::Connect { session, .. }) = effects.last() {
            let session = *session;
            bench.lose(session);
        }
        stopped.extend(effects.into_iter().filter(|effect| matches!(effect, Effect::StopAssignment(_))));
    }
    assert_eq!(stopped, [Effect::StopAssignment(AssignmentId(5))]);
    assert_eq!(bench.at_ms, 10_000);
    assert_eq!((bench.held().len(), bench.core.unacknowledged()), (0, 0));
}

#[test]
fn a_hello_that_names_work_whose_lease_ends_meanwhile_is_taken_back() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    bench.lose(1);
    let session = loop {
        let effects = bench.wait();
        let Some(Effect::Connect { session, hello, .. }) = effects.last() else { panic!("{effects:?}") };
        assert_eq!(hello.held, [AssignmentId(5)]);
        if bench.at_ms + 2_000 > 10_000 {
            break *session;
        }
        bench.lose(*session);
    };
    let effects = bench.wait();
    assert_eq!(bench.at_ms, 10_000);
    assert!(effects.contains(&Effect::StopAssignment(AssignmentId(5))), "{effects:?}");
    assert!(effects.contains(&Effect::Disconnect { session }), "{effects:?}");
    bench.hear(session, welcome(&[5]));
    assert!(!bench.core.link.is_welcomed(), "the answer to the old hello comes too late");
    let effects = bench.wait();
    let Some(Effect::Connect { hello, .. }) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(hello.held, []);
}

#[test]
fn a_superseded_star_tries_again_and_leaves_if_that_happens_again_soon() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    let superseded = |bench: &mut Bench, session| {
        bench.step(Event::Disconnected { session, end: SessionEnd::Superseded("taken over".to_owned()) })
    };
    let effects = superseded(&mut bench, 1);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Exit { .. })), "{effects:?}");
    let effects = bench.wait();
    let Some(Effect::Connect { session, hello, .. }) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(hello.held, [AssignmentId(5)], "its work goes on");
    let session = *session;
    bench.hear(session, welcome(&[5]));
    bench.at_ms += 9_000;
    let effects = superseded(&mut bench, session);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Exit { code: 1, .. })), "{effects:?}");
}

#[test]
fn a_star_that_is_superseded_now_and_then_stays() {
    let mut bench = Bench::working();
    let mut session = 1;
    for _ in 0..5 {
        let end = SessionEnd::Superseded("a hello was long under way".to_owned());
        let effects = bench.step(Event::Disconnected { session, end });
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Exit { .. })), "{effects:?}");
        bench.wait();
        session += 1;
        bench.hear(session, welcome(&[]));
        bench.at_ms += 10_000;
    }
}

#[test]
fn an_old_session_is_not_heard() {
    let mut bench = Bench::working();
    bench.lose(1);
    bench.wait();
    assert!(bench.hear(1, assign(5, 1)).is_empty());
    assert!(bench.lose(1).is_empty());
    assert!(bench.hear(2, welcome(&[])).iter().all(|effect| matches!(effect, Effect::Log { .. })));
}

#[test]
fn a_message_before_the_welcome_or_a_second_welcome_breaks_the_session() {
    let mut bench = Bench::new();
    assert!(bench.hear(1, acknowledge(1)).contains(&Effect::Disconnect { session: 1 }));
    let mut bench = Bench::working();
    assert!(bench.hear(1, welcome(&[])).contains(&Effect::Disconnect { session: 1 }));
}

#[test]
fn a_scan_sends_its_batches_and_gets_credit_as_they_are_acknowledged() {
    let mut bench = Bench::welcomed();
    assert!(matches!(bench.hear(1, scan(3))[..], [Effect::StartScan { run: 1, .. }]));
    let batch = |number, is_last| {
        let batch = ScanBatch { scan: 3, number, entries: Vec::new(), is_last, failure: None };
        Event::ScanBatchProduced { run: 1, batch }
    };
    assert_eq!(bench.step(batch(1, false)).len(), 1);
    assert_eq!(bench.step(batch(2, false)).len(), 1);
    let safe = |number| CoordinatorMessage::ScanAcknowledged { scan: 3, number };
    assert_eq!(bench.hear(1, safe(2)), [Effect::GrantScanCredit { run: 1, count: 2 }]);
    assert!(bench.hear(1, safe(1)).is_empty());
    assert!(bench.hear(1, safe(99)).is_empty());
    bench.step(batch(3, true));
    assert_eq!(bench.hear(1, safe(3)), [Effect::StopScan { run: 1 }]);
}

#[test]
fn scans_end_with_their_session_and_what_they_still_say_is_not_sent() {
    let mut bench = Bench::welcomed();
    bench.hear(1, scan(3));
    assert!(bench.lose(1).contains(&Effect::StopScan { run: 1 }));
    bench.wait();
    bench.hear(2, welcome(&[]));
    assert!(matches!(bench.hear(2, scan(3))[..], [Effect::StartScan { run: 2, .. }]));
    let batch = ScanBatch { scan: 3, number: 1, entries: Vec::new(), is_last: false, failure: None };
    assert!(bench.step(Event::ScanBatchProduced { run: 1, batch }).is_empty());
}

#[test]
fn a_scan_above_the_bound_is_answered_with_a_failure() {
    let mut bench = Bench::welcomed();
    for id in 0..limits::SCANS_PER_STAR_MAX as u64 {
        bench.hear(1, scan(id));
    }
    let effects = bench.hear(1, scan(99));
    assert!(
        matches!(&effects[..], [Effect::Send(StarMessage::ScanBatch(batch))] if batch.scan == 99 && batch.failure.is_some())
    );
    assert_eq!(bench.hear(1, CoordinatorMessage::CancelScan { scan: 1 }), [Effect::StopScan { run: 2 }]);
}

#[test]
fn the_first_signal_asks_for_a_drain_and_the_coordinators_shutdown_ends_it() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 1));
    assert_eq!(bench.step(Event::SignalReceived), [Effect::Send(drain_request())]);
    let effects = bench.hear(1, lifecycle(LifecycleState::Draining));
    let changed =
        StarMessage::LifecycleChanged { state: LifecycleState::Draining, reason: "told".to_owned() };
    assert!(effects.contains(&Effect::Send(changed)));
    bench.produce(5, 0..1);
    let effects = bench.hear(1, acknowledge(1));
    assert_eq!(heartbeats(&effects)[0].active_tasks, 0);
    let effects = bench.hear(1, lifecycle(LifecycleState::Shutdown));
    assert_eq!(exit_code(&effects), Some(0));
}

#[test]
fn a_drain_that_takes_too_long_ends_anyway() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 1));
    bench.step(Event::SignalReceived);
    let effects = loop {
        let effects = bench.wait();
        if exit_code(&effects).is_some() {
            break effects;
        }
    };
    assert_eq!((exit_code(&effects), bench.at_ms), (Some(0), 30_000));
    assert!(effects.contains(&Effect::StopAssignment(AssignmentId(5))));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut bench = Bench::working();
    bench.step(Event::SignalReceived);
    assert_eq!(exit_code(&bench.step(Event::SignalReceived)), Some(143));
}

#[test]
fn a_star_that_leaves_by_itself_says_so_to_a_coordinator_that_listens() {
    let has_said = |effects: &[Effect]| {
        let shutdown = LifecycleState::Shutdown;
        effects.iter().any(
            |effect| matches!(effect, Effect::Send(StarMessage::LifecycleChanged { state, .. }) if *state == shutdown),
        )
    };
    let mut bench = Bench::working();
    bench.step(Event::SignalReceived);
    assert!(has_said(&bench.step(Event::SignalReceived)));
    let mut bench = Bench::working();
    let end = SessionEnd::Refused("superseded".to_owned());
    assert!(!has_said(&bench.step(Event::Disconnected { session: 1, end })));
}

#[test]
fn without_a_coordinator_a_signal_ends_the_process_when_its_work_is_done() {
    let mut bench = Bench::new();
    bench.lose(1);
    assert_eq!(exit_code(&bench.step(Event::SignalReceived)), Some(0));
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    bench.lose(1);
    assert_eq!(exit_code(&bench.step(Event::SignalReceived)), None);
    assert_eq!(exit_code(&bench.produce(5, 0..1)), None);
    assert_eq!(exit_code(&bench.produce(5, 1..2)), Some(0));
}

#[test]
fn a_signal_while_the_hello_is_out_waits_for_the_answer() {
    let mut bench = Bench::new();
    assert_eq!(bench.step(Event::SignalReceived), []);
    assert!(bench.hear(1, welcome(&[])).contains(&Effect::Send(drain_request())));
    for state in [LifecycleState::Scheduled, LifecycleState::Draining] {
        bench.hear(1, lifecycle(state));
    }
    assert_eq!(exit_code(&bench.hear(1, lifecycle(LifecycleState::Shutdown))), Some(0));
    let mut bench = Bench::new();
    bench.step(Event::SignalReceived);
    assert_eq!(exit_code(&bench.wait()), Some(0), "no answer came in time");
    let mut bench = Bench::welcomed();
    assert_eq!(bench.step(Event::SignalReceived), [Effect::Send(drain_request())], "work may be on its way");
}

#[test]
fn a_drain_that_was_asked_for_is_asked_for_again_in_the_next_session() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    bench.step(Event::SignalReceived);
    bench.lose(1);
    bench.wait();
    assert!(bench.hear(2, welcome(&[5])).contains(&Effect::Send(drain_request())));
    assert!(reports(&bench.hear(2, assign(6, 1)))[0].assignment == AssignmentId(6));
}

#[test]
fn a_shutdown_drops_everything_and_exits_with_zero() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 2));
    bench.hear(1, scan(3));
    let effects = bench.hear(1, lifecycle(LifecycleState::Shutdown));
    assert!(effects.contains(&Effect::StopAssignment(AssignmentId(5))));
    assert!(effects.contains(&Effect::StopScan { run: 1 }));
    assert_eq!(exit_code(&effects), Some(0));
}

#[test]
fn a_transition_that_no_life_has_is_not_made() {
    let mut bench = Bench::welcomed();
    let effects = bench.hear(1, lifecycle(LifecycleState::Draining));
    assert!(matches!(effects[..], [Effect::Log { is_warning: true, .. }]));
    assert_eq!(bench.core.lifecycle(), LifecycleState::Registered);
}

#[test]
fn a_drain_can_be_taken_back() {
    let mut bench = Bench::working();
    for state in [LifecycleState::Draining, LifecycleState::Registered, LifecycleState::Scheduled] {
        bench.hear(1, lifecycle(state));
        assert_eq!(bench.core.lifecycle(), state);
    }
    assert!(matches!(bench.hear(1, assign(5, 1))[..], [Effect::StartAssignment(_)]));
}

#[test]
fn a_failure_message_without_end_is_shortened_at_a_character() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 1));
    let failure =
        Failure { cause: FailureCause::Permanent, fault: Fault::Item, message: "€".repeat(100_000) };
    let outcomes = vec![ItemOutcome { sequence: 0, result: ItemResult::Failed(failure) }];
    let effects = bench.step(Event::OutcomesProduced { assignment: AssignmentId(5), outcomes });
    let ItemResult::Failed(failure) = &reports(&effects)[0].outcomes[0].result else { panic!("it failed") };
    assert_eq!(failure.message.len(), 4095);
}

#[test]
fn new_keys_are_passed_on() {
    let mut bench = Bench::welcomed();
    let effects = bench.hear(1, CoordinatorMessage::VerificationKeys(vec![vec![1]]));
    assert_eq!(effects, [Effect::UpdateKeys(vec![vec![1]])]);
}
