//! Tests of the lifecycle, and of its order against random calls.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::time::{Monotonic, Now, WallTime};
use crate::words::StarId;

use LifecycleState::{Draining, Registered, Scheduled, Shutdown};

const START: Now = Now::from_ms(1_000);

fn registered() -> StarLifecycle {
    StarLifecycle::new(StarId::new("star-1").unwrap(), START)
}

fn scheduled() -> StarLifecycle {
    let mut life = registered();
    life.on_scheduled(START, "ready").unwrap();
    life
}

/// With one task that is not finished, due at 5,000 ms.
fn draining() -> StarLifecycle {
    let mut life = scheduled();
    life.task_started().unwrap();
    life.on_draining(START, Some(Monotonic::from_ms(5_000)), "maintenance").unwrap();
    life
}

fn shut_down() -> StarLifecycle {
    let mut life = registered();
    life.on_shutdown(START, "stopped").unwrap();
    life
}

fn refused(from: LifecycleState, to: LifecycleState) -> TransitionRefused {
    TransitionRefused { from, to }
}

#[test]
fn a_life_begins_registered() {
    let life = registered();
    assert_eq!((life.state(), life.registrations(), life.active_tasks()), (Registered, 1, 0));
    assert_eq!(life.star_id().as_str(), "star-1");
    assert_eq!(life.events().len(), 0);
}

#[test]
fn the_happy_path_has_three_events_in_order() {
    let mut life = registered();
    life.on_scheduled(Now::from_ms(1), "ready").unwrap();
    life.on_draining(Now::from_ms(2), None, "maintenance").unwrap();
    life.on_shutdown(Now::from_ms(3), "done").unwrap();
    let history: Vec<_> =
        life.events().map(|event| (event.from, event.to, event.at, event.reason.as_str())).collect();
    let at = WallTime::from_unix_ms;
    assert_eq!(
        history,
        [
            (Registered, Scheduled, at(1), "ready"),
            (Scheduled, Draining, at(2), "maintenance"),
            (Draining, Shutdown, at(3), "done"),
        ]
    );
}

#[test]
fn an_event_is_returned_as_it_is_remembered() {
    let mut life = registered();
    let event = life.on_scheduled(START, "ready").unwrap();
    assert_eq!(life.events().last(), Some(&event));
}

#[test]
fn a_refusal_says_what_was_tried_and_changes_nothing() {
    let mut life = registered();
    assert_eq!(life.on_draining(START, None, ""), Err(refused(Registered, Draining)));
    assert_eq!((life.state(), life.events().len()), (Registered, 0));
}

#[test]
fn a_star_can_be_forced_down_from_every_living_state() {
    for mut life in [registered(), scheduled(), draining()] {
        let from = life.state();
        let event = life.on_shutdown(START, "killed").unwrap();
        assert_eq!((event.from, event.to, life.state()), (from, Shutdown, Shutdown));
    }
}

#[test]
fn shutting_down_twice_is_refused() {
    assert_eq!(shut_down().on_shutdown(START, ""), Err(refused(Shutdown, Shutdown)));
}

#[test]
fn draining_twice_is_refused_and_keeps_the_deadline() {
    let mut life = draining();
    assert_eq!(life.on_draining(START, None, ""), Err(refused(Draining, Draining)));
    assert_eq!(life.drain_deadline(), Some(Monotonic::from_ms(5_000)));
}

#[test]
fn scheduling_a_draining_star_is_refused() {
    assert_eq!(draining().on_scheduled(START, ""), Err(refused(Draining, Scheduled)));
}

#[test]
fn nothing_follows_a_shutdown() {
    let mut life = shut_down();
    assert_eq!(life.on_scheduled(START, ""), Err(refused(Shutdown, Scheduled)));
    assert_eq!(life.on_draining(START, None, ""), Err(refused(Shutdown, Draining)));
    assert_eq!(life.register_again(START, ""), Err(refused(Shutdown, Registered)));
    assert_eq!((life.state(), life.events().len()), (Shutdown, 1));
}

#[test]
fn the_table_of_transitions_has_exactly_six() {
    let states = LifecycleState::ALL;
    let pairs = states.iter().flat_map(|&from| states.iter().map(move |&to| (from, to)));
    let allowed: Vec<_> = pairs.filter(|&(from, to)| check_transition(from, to).is_ok()).collect();
    assert_eq!(
        allowed,
        [
            (Registered, Scheduled),
            (Registered, Shutdown),
            (Scheduled, Draining),
            (Scheduled, Shutdown),
            (Draining, Registered),
            (Draining, Shutdown),
        ]
    );
}

#[test]
fn every_state_has_one_name_everywhere() {
    assert_eq!(
        LifecycleState::ALL.map(LifecycleState::as_str),
        ["registered", "scheduled", "draining", "shutdown"]
    );
    for state in LifecycleState::ALL {
        let text = serde_json::to_string(&state).unwrap();
        assert_eq!(text, format!("\"{state}\""));
        assert_eq!(serde_json::from_str::<LifecycleState>(&text).unwrap(), state);
    }
}

#[test]
fn an_event_survives_serialisation() {
    let mut life = draining();
    let event = life.on_shutdown(START, "killed").unwrap();
    let text = serde_json::to_string(&event).unwrap();
    assert_eq!(serde_json::from_str::<LifecycleEvent>(&text).unwrap(), event);
}

#[test]
fn only_a_scheduled_star_takes_work() {
    for mut life in [registered(), draining(), shut_down()] {
        let before = life.active_tasks();
        let refusal = life.task_started().unwrap_err();
        assert_eq!((refusal.state, refusal.star_id.as_str()), (life.state(), "star-1"));
        assert!(!life.accepts_work() && life.active_tasks() == before);
    }
    let mut life = scheduled();
    assert!(life.accepts_work());
    assert_eq!(life.task_started(), Ok(()));
    assert_eq!(life.active_tasks(), 1);
}

#[test]
fn an_end_without_a_beginning_is_reported() {
    let mut life = scheduled();
    assert!(!life.task_completed());
    life.task_started().unwrap();
    assert!(life.task_completed());
    assert!(!life.task_completed());
    assert_eq!(life.active_tasks(), 0);
}

#[test]
fn a_drain_ends_with_its_last_task() {
    let mut life = scheduled();
    life.task_started().unwrap();
    life.task_started().unwrap();
    life.on_draining(START, None, "").unwrap();
    assert!(!life.is_drained());
    assert!(life.task_completed());
    assert!(!life.is_drained());
    assert!(life.task_completed());
    assert!(life.is_drained());
}

#[test]
fn only_a_draining_star_is_drained() {
    assert!(!registered().is_drained() && !scheduled().is_drained() && !shut_down().is_drained());
}

#[test]
fn a_forced_shutdown_says_what_it_abandoned() {
    let mut life = scheduled();
    life.task_started().unwrap();
    life.task_started().unwrap();
    let event = life.on_shutdown(START, "killed").unwrap();
    assert_eq!((event.abandoned_tasks, life.active_tasks()), (2, 0));
    assert!(!life.task_completed());
}

#[test]
fn a_shutdown_after_a_drain_abandons_nothing() {
    let mut life = draining();
    assert!(life.task_completed());
    assert_eq!(life.on_shutdown(START, "done").unwrap().abandoned_tasks, 0);
}

#[test]
fn registering_again_cancels_a_drain() {
    let mut life = draining();
    let event = life.register_again(START, "kept after all").unwrap();
    assert_eq!((event.from, event.to, event.abandoned_tasks), (Draining, Registered, 0));
    assert_eq!((life.active_tasks(), life.registrations(), life.drain_deadline()), (1, 2, None));
    life.on_scheduled(START, "").unwrap();
    assert!(life.accepts_work());
}

#[test]
fn only_a_draining_star_registers_again() {
    assert_eq!(registered().register_again(START, ""), Err(refused(Registered, Registered)));
    assert_eq!(scheduled().register_again(START, ""), Err(refused(Scheduled, Registered)));
}

#[test]
fn a_drain_is_overdue_from_its_deadline_on_while_it_waits() {
    let mut life = draining();
    assert!(!life.is_drain_overdue(Now::from_ms(4_999)));
    assert!(life.is_drain_overdue(Now::from_ms(5_000)));
    assert!(life.task_completed());
    assert!(!life.is_drain_overdue(Now::from_ms(5_000)));
}

#[test]
fn a_drain_without_a_deadline_is_never_overdue() {
    let mut life = scheduled();
    life.task_started().unwrap();
    life.on_draining(START, None, "").unwrap();
    assert!(!life.is_drain_overdue(Now { monotonic: Monotonic::NEVER, ..START }));
}

#[test]
fn a_drain_says_what_it_waits_for() {
    let mut life = draining();
    let expected = DrainBlockers {
        active_tasks: 1,
        draining_for: Duration::from_millis(6_000),
        overdue_by: Some(Duration::from_millis(2_000)),
    };
    assert_eq!(life.drain_blockers(Now::from_ms(7_000)), Some(expected));
    assert_eq!(life.drain_blockers(Now::from_ms(4_000)).unwrap().overdue_by, None);
    assert!(life.task_completed());
    assert_eq!(life.drain_blockers(Now::from_ms(7_000)), None);
    assert_eq!(scheduled().drain_blockers(Now::from_ms(7_000)), None);
}

#[test]
fn time_in_a_state_grows_and_restarts_with_the_next_state() {
    let mut life = registered();
    assert_eq!(life.time_in_state(START), Duration::ZERO);
    assert_eq!(life.time_in_state(Now::from_ms(1_500)), Duration::from_millis(500));
    life.on_scheduled(Now::from_ms(2_000), "").unwrap();
    assert_eq!(life.time_in_state(Now::from_ms(2_100)), Duration::from_millis(100));
}

#[test]
fn two_stars_are_independent() {
    let mut one = scheduled();
    let two = StarLifecycle::new(StarId::new("star-2").unwrap(), START);
    one.task_started().unwrap();
    assert_eq!((two.state(), two.active_tasks(), two.events().len()), (Registered, 0, 0));
}

#[test]
fn a_history_is_bounded_and_counts_what_it_lost() {
    let mut life = registered();
    for _ in 0..30 {
        life.on_scheduled(START, "").unwrap();
        life.on_draining(START, None, "").unwrap();
        life.register_again(START, "").unwrap();
    }
    assert_eq!((life.events().len(), life.events_dropped()), (EVENTS_MAX, 90 - EVENTS_MAX as u64));
    assert_eq!(life.events().last().unwrap().to, Registered);
}

#[test]
fn an_over_long_reason_is_cut_visibly() {
    let event = registered().on_scheduled(START, &"é".repeat(5_000)).unwrap();
    assert!(event.reason.len() <= REASON_BYTES_MAX && event.reason.ends_with("[cut]"));
}

#[test]
fn a_mirror_follows_its_star_and_refuses_invalid_transitions() {
    let mut mirror = registered();
    assert_eq!(mirror.apply_remote(START, Registered, ""), Ok(None));
    assert!(mirror.apply_remote(START, Scheduled, "").unwrap().is_some());
    assert_eq!(mirror.apply_remote(START, Registered, ""), Err(refused(Scheduled, Registered)));
    assert!(mirror.apply_remote(START, Draining, "").unwrap().is_some());
    assert_eq!(mirror.apply_remote(START, Scheduled, ""), Err(refused(Draining, Scheduled)));
    assert!(mirror.apply_remote(START, Registered, "").unwrap().is_some());
    assert_eq!(mirror.registrations(), 2);
    assert!(mirror.apply_remote(START, Shutdown, "").unwrap().is_some());
    assert_eq!(mirror.apply_remote(START, Registered, ""), Err(refused(Shutdown, Registered)));
}

#[test]
fn a_mirror_can_begin_in_the_middle_of_a_life() {
    let life = StarLifecycle::resumed(StarId::new("star-1").unwrap(), Scheduled, START);
    assert!(life.accepts_work() && life.events().len() == 0);
}

/// One call on a life.
#[derive(Debug, Clone, Copy)]
enum Call {
    Schedule,
    Drain,
    Shutdown,
    RegisterAgain,
    Start,
    Complete,
    Remote(LifecycleState),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        3 => Just(Call::Schedule),
        2 => Just(Call::Drain),
        1 => Just(Call::Shutdown),
        2 => Just(Call::RegisterAgain),
        5 => Just(Call::Start),
        4 => Just(Call::Complete),
        2 => prop::sample::select(&LifecycleState::ALL[..]).prop_map(Call::Remote),
    ];
    prop::collection::vec(call, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_life_goes_forward_except_by_registering_again(calls in calls()) {
        let mut life = registered();
        let (mut begun, mut ended, mut abandoned) = (0, 0, 0);
        for call in calls {
            let before = life.state();
            let event = match call {
                Call::Schedule => life.on_scheduled(START, "").ok(),
                Call::Drain => life.on_draining(START, None, "").ok(),
                Call::Shutdown => life.on_shutdown(START, "").ok(),
                Call::RegisterAgain => life.register_again(START, "").ok(),
                Call::Remote(state) => life.apply_remote(START, state, "").ok().flatten(),
                Call::Start => {
                    let is_started = life.task_started().is_ok();
                    prop_assert_eq!(is_started, before == Scheduled);
                    begun += u64::from(is_started);
                    None
                }
                Call::Complete => {
                    ended += u64::from(life.task_completed());
                    None
                }
            };
            match &event {
                Some(event) => {
                    prop_assert_eq!((event.from, event.to), (before, life.state()));
                    prop_assert!(event.from < event.to || (event.from, event.to) == (Draining, Registered));
                    abandoned += event.abandoned_tasks;
                }
                None => prop_assert_eq!(life.state(), before),
            }
            prop_assert_eq!(life.active_tasks(), begun - ended - abandoned);
            prop_assert_eq!(life.is_drained(), life.state() == Draining && life.active_tasks() == 0);
        }
        let returns = life.events().filter(|event| event.to == Registered).count() as u64;
        prop_assert_eq!(life.registrations(), 1 + returns);
        let history: Vec<_> = life.events().collect();
        prop_assert!(history.windows(2).all(|pair| pair[0].to == pair[1].from));
    }
}
