//! Tests of the guard. `loom_tests` checks concurrent use exhaustively.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::words::StarId;

fn config(max_object_count: u64, max_byte_size: u64) -> BackpressureConfig {
    BackpressureConfig { max_object_count, max_byte_size }
}

fn guard(max_object_count: u64, max_byte_size: u64) -> Arc<BackpressureGuard> {
    Arc::new(BackpressureGuard::new("star-1", config(max_object_count, max_byte_size)))
}

fn star(name: &str) -> StarId {
    StarId::new(name).unwrap()
}

/// The objects and bytes in flight.
fn load(guard: &BackpressureGuard) -> (u64, u64) {
    let state = guard.state();
    (state.object_count, state.byte_size)
}

#[test]
fn the_defaults_are_those_of_the_specification() {
    assert_eq!(BackpressureConfig::default(), config(10_000, 1_073_741_824));
    assert_eq!(BackpressureConfig::default().validate(), Ok(()));
}

#[test]
fn the_object_limit_closes_the_guard() {
    let guard = guard(2, 1_000);
    let _held = [guard.try_reserve(1, 1).unwrap(), guard.try_reserve(1, 1).unwrap()];
    assert!(!guard.can_accept() && guard.try_reserve(1, 1).is_none());
}

#[test]
fn the_byte_limit_closes_the_guard() {
    let guard = guard(100, 1_000);
    let _held = guard.try_reserve(1, 1_000).unwrap();
    assert!(!guard.can_accept() && guard.try_reserve(1, 1).is_none());
}

#[test]
fn one_below_the_limit_is_open_and_at_the_limit_is_closed() {
    let guard = guard(10, 1_000);
    let _nine = guard.try_reserve(9, 999).unwrap();
    assert!(guard.can_accept());
    let _tenth = guard.try_reserve(1, 0).unwrap();
    assert!(!guard.can_accept());
}

#[test]
fn work_taken_over_is_counted_whatever_the_guard_admits() {
    let guard = guard(1, 10);
    guard.pause(PauseReason::Operator);
    let held = [guard.take_over(1, 100), guard.take_over(2, 5)];
    assert_eq!(load(&guard), (3, 105));
    guard.resume(PauseReason::Operator);
    assert!(!guard.can_accept(), "it is beyond its limits until enough has ended");
    drop(held);
    assert_eq!(load(&guard), (0, 0));
    assert!(guard.can_accept());
}

#[test]
fn a_permit_given_back_reopens_the_guard() {
    let guard = guard(1, 1_000);
    let permit = guard.try_reserve(1, 10).unwrap();
    assert!(guard.try_reserve(1, 10).is_none());
    drop(permit);
    assert!(guard.can_accept());
    assert_eq!(load(&guard), (0, 0));
}

#[test]
fn all_permits_given_back_leave_nothing() {
    let guard = guard(100, 1_000);
    let permits: Vec<Permit> = (0..10).map(|n| guard.try_reserve(1, n).unwrap()).collect();
    assert_eq!(load(&guard), (10, 45));
    drop(permits);
    assert_eq!(load(&guard), (0, 0));
}

#[test]
fn a_refusal_reserves_nothing() {
    let guard = guard(1, 1_000);
    let _held = guard.try_reserve(1, 10).unwrap();
    assert!(guard.try_reserve(1, 10).is_none());
    assert_eq!(load(&guard), (1, 10));
}

#[test]
fn with_both_limits_met_releasing_one_keeps_it_closed() {
    let guard = guard(2, 100);
    let mut permit = guard.try_reserve(2, 100).unwrap();
    drop(permit.split(1, 0).unwrap());
    assert_eq!(load(&guard), (1, 100));
    assert!(!guard.can_accept());
    drop(permit.split(0, 1).unwrap());
    assert!(guard.can_accept());
}

#[test]
fn an_oversized_object_passes_an_empty_guard_and_only_one_does() {
    let guard = guard(100, 1_000);
    let permit = guard.try_reserve(1, 1_000_000).unwrap();
    assert!(guard.try_reserve(1, 1_000_000).is_none());
    assert_eq!(guard.state().byte_utilization, 1_000.0);
    drop(permit);
    assert!(guard.try_reserve(1, 1_000_000).is_some());
}

#[test]
fn a_batch_does_not_overshoot_the_object_limit_unless_it_is_alone() {
    let guard = guard(10, 1_000);
    let alone = guard.try_reserve(25, 1).unwrap();
    assert_eq!(load(&guard), (25, 1));
    drop(alone);
    let _six = guard.try_reserve(6, 1).unwrap();
    assert!(guard.try_reserve(5, 1).is_none());
    assert!(guard.try_reserve(4, 1).is_some());
}

#[test]
fn an_object_beyond_what_can_be_counted_is_charged_and_given_back_in_full() {
    let guard = guard(u64::MAX, u64::MAX);
    assert_eq!(guard.config(), config(OBJECT_COUNT_MAX, BYTE_SIZE_MAX));
    let small = guard.try_reserve(1, 5).unwrap();
    let huge = guard.try_reserve(1, u64::MAX).unwrap();
    assert_eq!((huge.byte_size(), load(&guard)), (BYTE_SIZE_MAX - 5, (2, BYTE_SIZE_MAX)));
    drop(huge);
    assert_eq!(load(&guard), (1, 5));
    drop(small);
    let huge = guard.try_reserve(u64::MAX, 0).unwrap();
    assert_eq!(huge.object_count(), OBJECT_COUNT_MAX);
    drop(huge);
    assert_eq!(load(&guard), (0, 0));
}

#[test]
fn an_empty_reservation_changes_nothing() {
    let guard = guard(1, 1);
    let nothing = guard.try_reserve(0, 0).unwrap();
    guard.record_enqueue(0, 0);
    guard.record_dequeue(0, 0);
    assert_eq!(load(&guard), (0, 0));
    drop(nothing);
    assert!(guard.can_accept());
}

#[test]
fn a_permit_splits_without_changing_the_guard() {
    let guard = guard(10, 100);
    let mut permit = guard.try_reserve(3, 30).unwrap();
    let part = permit.split(1, 10).unwrap();
    assert_eq!((permit.object_count(), permit.byte_size()), (2, 20));
    assert_eq!((part.object_count(), part.byte_size()), (1, 10));
    assert_eq!(load(&guard), (3, 30));
    drop(part);
    assert_eq!(load(&guard), (2, 20));
    assert!(permit.split(3, 0).is_none() && permit.split(0, 21).is_none());
    drop(permit);
    assert_eq!(load(&guard), (0, 0));
}

#[test]
fn a_permit_is_given_back_when_its_holder_panics() {
    let guard = guard(1, 10);
    let permit = guard.try_reserve(1, 5).unwrap();
    let holder = std::thread::spawn(move || {
        let _permit = permit;
        panic!("the holder is lost");
    });
    assert!(holder.join().is_err());
    assert_eq!(load(&guard), (0, 0));
}

#[test]
fn observers_are_seen_by_admission() {
    let guard = guard(2, 1_000);
    guard.record_enqueue(2, 10);
    assert!(!guard.can_accept() && guard.try_reserve(1, 1).is_none());
    guard.record_dequeue(1, 5);
    assert!(guard.can_accept());
    assert_eq!(load(&guard), (1, 5));
}

#[test]
fn more_ends_than_starts_show_as_nothing() {
    let guard = guard(10, 100);
    guard.record_enqueue(1, 10);
    guard.record_dequeue(5, 50);
    assert_eq!(load(&guard), (0, 0));
}

#[test]
fn an_end_seen_before_its_start_leaks_nothing() {
    let guard = guard(10, 100);
    guard.record_dequeue(1, 9);
    guard.record_enqueue(1, 9);
    assert_eq!(load(&guard), (0, 0));
    guard.record_enqueue(1, 9);
    assert_eq!(load(&guard), (1, 9));
}

#[test]
fn no_mistake_of_an_observer_makes_a_permit_count_for_less() {
    let guard = guard(1, 100);
    guard.record_dequeue(1_000, 1_000_000);
    let _held = guard.try_reserve(1, 1).unwrap();
    assert!(guard.try_reserve(1, 1).is_none());
    assert_eq!(load(&guard), (1, 1));
}

#[test]
fn utilisation_is_the_share_of_the_limit_in_use() {
    let guard = guard(10, 1_000);
    let _half = guard.try_reserve(5, 500).unwrap();
    let state = guard.state();
    assert_eq!((state.object_utilization, state.byte_utilization), (0.5, 0.5));
    assert!(!state.is_backpressured);
}

#[test]
fn the_utilisation_of_a_limit_of_zero_is_one() {
    let guard = guard(0, 0);
    let state = guard.state();
    assert_eq!((state.object_utilization, state.byte_utilization), (1.0, 1.0));
    assert!(state.is_backpressured && guard.try_reserve(0, 0).is_none());
}

#[test]
fn new_limits_hold_at_once_and_keep_what_is_on_its_way() {
    let guard = guard(10, 1_000);
    let held: Vec<Permit> = (0..6).map(|_| guard.try_reserve(1, 10).unwrap()).collect();
    guard.set_limits(config(5, 1_000));
    assert!(!guard.can_accept());
    assert_eq!(load(&guard), (6, 60));
    drop(held);
    assert!(guard.can_accept());
    assert_eq!(guard.config(), config(5, 1_000));
}

#[test]
fn a_paused_guard_admits_nothing_and_keeps_what_is_on_its_way() {
    let guard = guard(10, 1_000);
    let held = guard.try_reserve(1, 1).unwrap();
    guard.pause(PauseReason::Health);
    assert!(guard.is_paused() && !guard.can_accept() && guard.try_reserve(1, 1).is_none());
    assert!(guard.state().is_backpressured);
    drop(held);
    assert_eq!(load(&guard), (0, 0));
    guard.resume(PauseReason::Health);
    assert!(guard.try_reserve(1, 1).is_some());
}

#[test]
fn recovered_health_does_not_undo_the_operators_pause() {
    let guard = guard(10, 1_000);
    guard.pause(PauseReason::Operator);
    guard.pause(PauseReason::Health);
    guard.pause(PauseReason::Health);
    assert_eq!(guard.state().paused_by, [PauseReason::Operator, PauseReason::Health]);
    guard.resume(PauseReason::Health);
    assert_eq!(guard.state().paused_by, [PauseReason::Operator]);
    assert!(!guard.can_accept());
    guard.resume(PauseReason::Operator);
    assert!(guard.can_accept());
}

#[test]
fn a_shrunk_guard_comes_back_step_by_step() {
    let guard = guard(100, 1_000);
    guard.set_scale(0.5);
    let state = guard.state();
    assert_eq!((state.max_object_count, state.max_byte_size, state.scale), (50, 500, 0.5));
    assert_eq!(guard.restore_scale(0.25), 0.75);
    assert_eq!(guard.state().max_object_count, 75);
    assert_eq!(guard.restore_scale(0.25), 1.0);
    assert_eq!(guard.restore_scale(0.25), 1.0);
    assert_eq!(guard.state().max_object_count, 100);
    assert_eq!(guard.config(), config(100, 1_000));
}

#[test]
fn a_scale_above_zero_leaves_room_for_one_and_zero_for_none() {
    let guard = guard(3, 3);
    guard.set_scale(0.000_001);
    assert!(guard.try_reserve(1, 5).is_some());
    guard.set_scale(0.0);
    assert!(guard.try_reserve(1, 5).is_none());
}

#[test]
fn an_invalid_scale_is_ignored() {
    let guard = guard(100, 1_000);
    for (fraction, scale) in [(7.0, 1.0), (0.5, 0.5), (f64::NAN, 0.5), (-1.0, 0.0), (f64::INFINITY, 1.0)] {
        guard.set_scale(fraction);
        assert_eq!(guard.scale(), scale, "{fraction}");
    }
    assert_eq!(guard.restore_scale(f64::NAN), 1.0);
}

#[test]
fn a_guard_knows_its_name() {
    assert_eq!(guard(1, 1).name(), "star-1");
}

#[test]
fn every_error_of_a_configuration_is_reported() {
    let errors = config(0, BYTE_SIZE_MAX + 1).validate().unwrap_err();
    let expected =
        [BackpressureConfigError::ObjectCount(0), BackpressureConfigError::ByteSize(BYTE_SIZE_MAX + 1)];
    assert_eq!(errors, expected);
    assert_eq!(config(OBJECT_COUNT_MAX, BYTE_SIZE_MAX).validate(), Ok(()));
}

#[test]
fn configuration_and_state_survive_serialisation() {
    let sparse: BackpressureConfig = serde_json::from_str(r#"{"max_object_count": 7}"#).unwrap();
    assert_eq!(sparse, config(7, 1 << 30));
    let guard = guard(7, 70);
    guard.pause(PauseReason::Operator);
    let text = serde_json::to_string(&guard.state()).unwrap();
    assert!(text.contains(r#""paused_by":["operator"]"#), "{text}");
    assert_eq!(serde_json::from_str::<BackpressureState>(&text).unwrap(), guard.state());
}

#[test]
fn every_pause_reason_has_one_name_everywhere() {
    for reason in PauseReason::ALL {
        assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{}\"", reason.as_str()));
        assert_eq!(reason.to_string(), reason.as_str());
    }
}

#[test]
fn a_registry_finds_guards_and_knows_which_admit_more() {
    let mut registry = BackpressureRegistry::new();
    let one = registry.register(star("star-1"), config(1, 100));
    registry.register(star("star-2"), config(1, 100));
    let _held = one.try_reserve(1, 1).unwrap();
    assert_eq!(registry.available_destinations(), [&star("star-2")]);
    assert!(registry.any_backpressured());
    assert_eq!(registry.get(&star("star-1")).unwrap().name(), "star-1");
    assert!(registry.get(&star("star-9")).is_none());
    assert!(registry.all_states()[&star("star-1")].is_backpressured);
    assert!(!registry.all_states()[&star("star-2")].is_backpressured);
}

#[test]
fn when_all_guards_are_full_none_is_available() {
    let mut registry = BackpressureRegistry::new();
    let guards = ["a", "b"].map(|name| registry.register(star(name), config(1, 1)));
    let _held = guards.each_ref().map(|guard| guard.try_reserve(1, 1).unwrap());
    assert!(registry.available_destinations().is_empty());
}

#[test]
fn an_empty_registry_has_no_states_and_no_backpressure() {
    let registry = BackpressureRegistry::new();
    assert!(registry.is_empty() && registry.all_states().is_empty());
    assert!(!registry.any_backpressured());
}

#[test]
fn registering_twice_keeps_one_guard_and_what_is_on_its_way() {
    let mut registry = BackpressureRegistry::new();
    let first = registry.register(star("star-1"), config(10, 100));
    let _held = first.try_reserve(1, 5).unwrap();
    let second = registry.register(star("star-1"), config(99, 999));
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!((registry.len(), load(&second), second.config()), (1, (1, 5), config(10, 100)));
}

#[test]
fn a_removed_guard_still_takes_its_permits_back() {
    let mut registry = BackpressureRegistry::new();
    let permit = registry.register(star("star-1"), config(10, 100)).try_reserve(1, 5).unwrap();
    let guard = registry.remove(&star("star-1")).unwrap();
    assert!(registry.remove(&star("star-1")).is_none());
    assert_eq!(load(&guard), (1, 5));
    drop(permit);
    assert_eq!(load(&guard), (0, 0));
}

#[test]
fn producers_on_many_threads_never_pass_the_object_limit() {
    let guard = guard(100, 1 << 30);
    let (peak, admitted) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let Some(permit) = guard.try_reserve(30, 3_000) else { continue };
                    let (count, bytes) = load(&guard);
                    assert_eq!(bytes, count * 100, "count and bytes are not of one moment");
                    peak.fetch_max(count, Ordering::Relaxed);
                    admitted.fetch_add(1, Ordering::Relaxed);
                    drop(permit);
                }
            });
        }
    });
    assert!(peak.into_inner() <= 100 && admitted.into_inner() > 0);
    assert_eq!(load(&guard), (0, 0));
}

#[test]
fn balanced_observers_on_many_threads_end_at_nothing() {
    let guard = guard(10_000, 1 << 30);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|_| guard.record_dequeue(1, 64)));
            scope.spawn(|| (0..1_000).for_each(|_| guard.record_enqueue(1, 64)));
        }
    });
    assert_eq!(load(&guard), (0, 0));
    guard.record_enqueue(1, 64);
    assert_eq!(load(&guard), (1, 64));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// At every step the guard's load is that of its live permits, and it admits by its rule.
    #[test]
    fn the_load_is_the_sum_of_the_live_permits(
        limits in (1_u64..8, 1_u64..200),
        calls in prop::collection::vec((0_u64..4, 0_u64..150, any::<prop::sample::Index>(), 0_u8..4), 0..80),
    ) {
        let guard = guard(limits.0, limits.1);
        let mut held: Vec<Permit> = Vec::new();
        for (count, bytes, which, action) in calls {
            let (held_count, held_bytes) = load(&guard);
            match action {
                0 | 1 => {
                    let is_open = held_count < limits.0 && held_bytes < limits.1;
                    let fits = held_count == 0 || held_count + count <= limits.0;
                    let permit = guard.try_reserve(count, bytes);
                    prop_assert_eq!(permit.is_some(), is_open && fits);
                    held.extend(permit);
                }
                2 if !held.is_empty() => drop(held.swap_remove(which.index(held.len()))),
                3 if !held.is_empty() => {
                    let whole = which.index(held.len());
                    let part = held[whole].split(count, bytes);
                    held.extend(part);
                }
                _ => {}
            }
            let sum = held.iter().fold((0, 0), |sum, permit| {
                (sum.0 + permit.object_count(), sum.1 + permit.byte_size())
            });
            prop_assert_eq!(load(&guard), sum);
        }
        drop(held);
        prop_assert_eq!(load(&guard), (0, 0));
    }
}
