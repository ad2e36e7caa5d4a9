//! Drains, signals and shutdowns.

use super::*;

#[test]
fn the_first_signal_asks_for_a_drain_and_the_coordinators_shutdown_ends_it() {
    let mut bench = Bench::working();
    bench.hear(1, assign(5, 1));
    assert_eq!(bench.step(Event::SignalReceived), [Effect::Send(drain_request())]);
    let effects = bench.hear(1, lifecycle(LifecycleState::Draining));
    let changed =
        StarMessage::LifecycleChanged { state: LifecycleState::Draining, reason: "ordered".to_owned() };
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
fn a_star_that_leaves_by_itself_tells_a_connected_coordinator() {
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
fn an_invalid_lifecycle_transition_is_not_made() {
    let mut bench = Bench::welcomed();
    let effects = bench.hear(1, lifecycle(LifecycleState::Draining));
    assert!(matches!(effects[..], [Effect::Log { is_warning: true, .. }]));
    assert_eq!(bench.core.lifecycle(), LifecycleState::Registered);
}

#[test]
fn a_drain_can_be_cancelled() {
    let mut bench = Bench::working();
    for state in [LifecycleState::Draining, LifecycleState::Registered, LifecycleState::Scheduled] {
        bench.hear(1, lifecycle(state));
        assert_eq!(bench.core.lifecycle(), state);
    }
    assert!(matches!(bench.hear(1, assign(5, 1))[..], [Effect::StartAssignment(_)]));
}
