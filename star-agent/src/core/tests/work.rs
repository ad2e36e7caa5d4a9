//! Assignments, scans and their reports.

use super::*;

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
fn items_without_an_outcome_have_failed_when_the_work_ends() {
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
fn reports_wait_for_room_and_assignments_take_turns() {
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
fn an_assignment_above_the_limit_is_refused() {
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
fn a_hello_is_withdrawn_if_the_lease_of_its_work_ends_meanwhile() {
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
fn a_scan_sends_its_batches_and_gets_credit_as_they_are_acknowledged() {
    let mut bench = Bench::welcomed();
    assert!(matches!(bench.hear(1, scan(3))[..], [Effect::StartScan { run: 1, .. }]));
    let batch = |number, is_last| {
        let batch = ScanBatch {
            scan: 3,
            number,
            entries: Vec::new(),
            is_last,
            failure: None,
            matched: Vec::new(),
            skipped_mounts: Vec::new(),
        };
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
fn scans_end_with_their_session_and_their_later_batches_are_not_sent() {
    let mut bench = Bench::welcomed();
    bench.hear(1, scan(3));
    assert!(bench.lose(1).contains(&Effect::StopScan { run: 1 }));
    bench.wait();
    bench.hear(2, welcome(&[]));
    assert!(matches!(bench.hear(2, scan(3))[..], [Effect::StartScan { run: 2, .. }]));
    let batch = ScanBatch {
        scan: 3,
        number: 1,
        entries: Vec::new(),
        is_last: false,
        failure: None,
        matched: Vec::new(),
        skipped_mounts: Vec::new(),
    };
    assert!(bench.step(Event::ScanBatchProduced { run: 1, batch }).is_empty());
}

#[test]
fn a_scan_above_the_limit_is_answered_with_a_failure() {
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
fn a_long_failure_message_is_cut_at_a_character_boundary() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 1));
    let failure =
        Failure { cause: FailureCause::Permanent, fault: Fault::Item, message: "€".repeat(100_000) };
    let outcomes = vec![ItemOutcome { sequence: 0, result: ItemResult::Failed(failure) }];
    let effects = bench.step(Event::OutcomesProduced { assignment: AssignmentId(5), outcomes });
    let ItemResult::Failed(failure) = &reports(&effects)[0].outcomes[0].result else { panic!("it failed") };
    assert_eq!(failure.message.len(), 4095);
}
