//! Tests of the box, and of its bookkeeping against a model without indexes.

use proptest::prelude::*;

use super::*;

const START: Now = Now::from_ms(1_000_000);

fn at(ms: u64) -> Now {
    Now::from_ms(1_000_000 + ms)
}

fn after(ms: u64) -> Monotonic {
    at(ms).monotonic
}

/// 100 ms, doubling, at most 10 s, without chance.
fn config(max_penalties: u32) -> PenaltyConfig {
    PenaltyConfig {
        initial_delay: Duration::from_millis(100),
        max_delay: Duration::from_secs(10),
        backoff_factor: 2.0,
        max_penalties,
        jitter: 0.0,
    }
}

/// The wait that each of `count` failures in a row brings.
fn delays(config: PenaltyConfig, count: u32) -> Vec<Duration> {
    let mut penalties = PenaltyBox::new(config);
    (0..count)
        .map(|_| {
            penalties.penalize(START, "a", "e");
            penalties.record("a").unwrap().current_delay
        })
        .collect()
}

#[test]
fn the_defaults_are_those_of_the_specification() {
    let config = PenaltyConfig::default();
    assert_eq!((config.initial_delay, config.max_delay), (Duration::from_secs(1), Duration::from_secs(60)));
    assert_eq!((config.backoff_factor, config.max_penalties, config.jitter), (2.0, 5, 0.1));
    assert_eq!(config.validate(), Ok(()));
}

#[test]
fn a_penalised_key_waits_and_an_unknown_key_does_not() {
    let mut penalties = PenaltyBox::new(config(5));
    assert!(!penalties.penalize(START, "a", "refused"));
    assert!(!penalties.is_eligible(at(99), "a"));
    assert!(penalties.is_eligible(at(100), "a"));
    assert!(penalties.is_eligible(START, "b"));
}

#[test]
fn the_fifth_failure_exhausts_by_default() {
    let mut penalties = PenaltyBox::new(PenaltyConfig::default());
    let exhausted: Vec<bool> = (0..6).map(|_| penalties.penalize(START, "a", "e")).collect();
    assert_eq!(exhausted, [false, false, false, false, true, true]);
    assert_eq!(penalties.penalty_count("a"), 6);
}

#[test]
fn the_second_of_two_failures_exhausts() {
    let mut penalties = PenaltyBox::new(config(2));
    assert!(!penalties.penalize(START, "a", "e"));
    assert!(penalties.penalize(START, "a", "e"));
}

#[test]
fn without_allowed_failures_the_first_exhausts() {
    assert!(PenaltyBox::new(config(0)).penalize(START, "a", "e"));
    assert!(PenaltyBox::new(config(1)).penalize(START, "a", "e"));
}

#[test]
fn an_exhausted_key_never_becomes_eligible_by_time() {
    let mut penalties = PenaltyBox::new(config(2));
    penalties.penalize(START, "a", "e");
    penalties.penalize(START, "a", "e");
    let end = Now { monotonic: Monotonic::NEVER, wall: START.wall };
    assert!(!penalties.is_eligible(end, "a"));
    assert_eq!(penalties.take_eligible(end), Vec::<&str>::new());
    assert_eq!(penalties.next_eligible(), None);
    assert_eq!(penalties.record("a").unwrap().retry_after, Monotonic::NEVER);
}

#[test]
fn clearing_forgets_a_key() {
    let mut penalties = PenaltyBox::new(config(5));
    penalties.penalize(START, "a", "e");
    assert_eq!(penalties.clear("a").unwrap().penalty_count, 1);
    assert!(penalties.is_eligible(START, "a") && penalties.is_empty());
    assert_eq!(penalties.next_eligible(), None);
}

#[test]
fn clearing_an_unknown_key_changes_nothing() {
    let mut penalties = PenaltyBox::new(config(5));
    penalties.penalize(START, "a", "e");
    assert_eq!(penalties.clear("b"), None);
    assert_eq!(penalties.len(), 1);
}

#[test]
fn a_cleared_key_starts_again_at_one() {
    let mut penalties = PenaltyBox::new(config(5));
    penalties.penalize(START, "a", "e");
    penalties.penalize(START, "a", "e");
    penalties.clear("a");
    penalties.penalize(START, "a", "e");
    let record = penalties.record("a").unwrap();
    assert_eq!((record.penalty_count, record.current_delay), (1, Duration::from_millis(100)));
}

#[test]
fn stats_count_waiting_eligible_and_exhausted_keys() {
    let mut penalties = PenaltyBox::new(config(2));
    penalties.penalize(START, "exhausted", "e");
    penalties.penalize(START, "exhausted", "e");
    penalties.penalize(START, "due", "e");
    penalties.penalize(at(50), "waiting", "e");
    let stats = penalties.stats(at(100));
    assert_eq!(stats, PenaltyStats { total_tracked: 3, penalized: 1, eligible: 1, exhausted: 1 });
    penalties.take_eligible(at(100));
    assert_eq!(penalties.stats(at(100)), stats);
    penalties.clear("exhausted");
    assert_eq!(penalties.stats(at(100)).exhausted, 0);
}

#[test]
fn waits_double() {
    assert_eq!(delays(config(9), 3), [100, 200, 400].map(Duration::from_millis));
}

#[test]
fn waits_are_capped() {
    let config = PenaltyConfig {
        initial_delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(5),
        backoff_factor: 10.0,
        ..config(9)
    };
    assert_eq!(delays(config, 3), [1, 5, 5].map(Duration::from_secs));
}

#[test]
fn the_first_wait_is_capped_too() {
    let config = PenaltyConfig {
        initial_delay: Duration::from_secs(100),
        max_delay: Duration::from_secs(5),
        ..config(9)
    };
    assert_eq!(delays(config, 1), [Duration::from_secs(5)]);
}

#[test]
fn waits_below_a_millisecond_stay_waits() {
    let config = PenaltyConfig { initial_delay: Duration::from_micros(300), ..config(9) };
    assert_eq!(delays(config, 3), [300, 600, 1200].map(Duration::from_micros));
}

#[test]
fn a_factor_below_one_shrinks_the_wait() {
    let config = PenaltyConfig { initial_delay: Duration::from_secs(1), backoff_factor: 0.5, ..config(9) };
    assert_eq!(delays(config, 2), [1000, 500].map(Duration::from_millis));
}

#[test]
fn a_count_beyond_any_exponent_waits_the_maximum() {
    assert_eq!(config(9).delay_after(u32::MAX), Duration::from_secs(10));
    let broken = PenaltyConfig { backoff_factor: f64::NAN, ..config(9) };
    assert_eq!(broken.delay_after(2), Duration::from_secs(10));
}

#[test]
fn jitter_only_shortens_and_by_no_more_than_its_share() {
    let config = PenaltyConfig { jitter: 0.25, max_penalties: u32::MAX, ..config(0) };
    let mut penalties = PenaltyBox::with_seed(config.clone(), 7);
    let mut distinct = BTreeSet::new();
    for key in 0..200 {
        for count in 1..=10 {
            penalties.penalize(START, key, "e");
            let (full, delay) = (config.delay_after(count), penalties.record(&key).unwrap().current_delay);
            assert!(delay <= full && delay >= full.mul_f64(0.7499), "{count}: {delay:?} of {full:?}");
            distinct.insert(delay);
        }
    }
    assert!(distinct.len() > 1_900, "only {} different waits", distinct.len());
}

#[test]
fn one_seed_gives_one_schedule() {
    let schedule = |seed| {
        let mut penalties = PenaltyBox::with_seed(PenaltyConfig::default(), seed);
        for key in 0..50 {
            penalties.penalize(START, key, "e");
        }
        penalties.iter().map(|(_, record)| record.retry_after).collect::<Vec<_>>()
    };
    assert_eq!(schedule(1), schedule(1));
    assert_ne!(schedule(1), schedule(2));
}

#[test]
fn a_fresh_box_is_empty() {
    let penalties = PenaltyBox::<String>::new(PenaltyConfig::default());
    assert!(penalties.is_empty());
    assert_eq!(penalties.stats(START), PenaltyStats::default());
    assert_eq!(penalties.record("a"), None);
    assert_eq!((penalties.penalty_count("a"), penalties.next_eligible()), (0, None));
}

#[test]
fn penalised_keys_come_in_the_order_in_which_they_return() {
    let mut penalties = PenaltyBox::new(config(5));
    penalties.penalize(at(20), "c", "e");
    penalties.penalize(at(0), "b", "e");
    penalties.penalize(at(10), "a", "e");
    assert_eq!(penalties.penalized_keys(at(20)), [&"b", &"a", &"c"]);
    assert_eq!(penalties.penalized_keys(at(100)), [&"a", &"c"]);
}

#[test]
fn exhausted_keys_are_those_that_failed_too_often() {
    let mut penalties = PenaltyBox::new(config(2));
    for key in ["a", "b", "b", "c", "c"] {
        penalties.penalize(START, key, "e");
    }
    assert_eq!(penalties.exhausted_keys(), [&"b", &"c"]);
}

#[test]
fn a_record_keeps_the_last_error_and_both_times() {
    let mut penalties = PenaltyBox::new(config(5));
    penalties.penalize(at(0), "a", "first");
    penalties.penalize(at(70), "a", "second");
    let record = penalties.record("a").unwrap();
    assert_eq!(record.last_error, "second");
    assert_eq!((record.first_failed_at, record.last_failed_at), (at(0).wall, at(70).wall));
    assert_eq!(record.retry_after, after(270));
}

#[test]
fn an_over_long_error_is_cut_visibly() {
    let mut penalties = PenaltyBox::new(config(5));
    penalties.penalize(START, "a", &"é".repeat(5_000));
    let error = &penalties.record("a").unwrap().last_error;
    assert!(error.len() <= ERROR_BYTES_MAX && error.ends_with("[cut]"));
}

#[test]
fn many_keys_are_tracked_separately() {
    let mut penalties = PenaltyBox::new(config(5));
    for n in 0..200 {
        penalties.penalize(START, format!("key-{n}"), "e");
    }
    assert_eq!(penalties.penalized_keys(START).len(), 200);
    assert!((0..200).all(|n| !penalties.is_eligible(START, format!("key-{n}").as_str())));
}

#[test]
fn taking_a_key_does_not_reset_its_failures() {
    let mut penalties = PenaltyBox::new(config(5));
    let mut failures = 0;
    let mut now = START;
    while !penalties.penalize(now, "a", "e") {
        failures += 1;
        assert!(failures < 10, "a key that fails each time is never exhausted");
        now.monotonic = penalties.next_eligible().unwrap();
        assert_eq!(penalties.take_eligible(now), ["a"]);
    }
    assert_eq!(failures, 4);
}

#[test]
fn each_wait_is_returned_once_and_in_order() {
    let mut penalties = PenaltyBox::new(config(5));
    penalties.penalize(at(10), "b", "e");
    penalties.penalize(at(0), "a", "e");
    penalties.penalize(at(50), "c", "e");
    assert_eq!(penalties.next_eligible(), Some(after(100)));
    assert_eq!(penalties.pop_eligible(at(99)), None);
    assert_eq!(penalties.take_eligible(at(110)), ["a", "b"]);
    assert_eq!(penalties.pop_eligible(at(110)), None);
    assert_eq!(penalties.next_eligible(), Some(after(150)));
    assert!(penalties.is_eligible(at(110), "a"));
    assert_eq!(penalties.penalty_count("a"), 1);
}

#[test]
fn a_refund_takes_back_one_failure_and_frees_the_key() {
    let mut penalties = PenaltyBox::new(config(5));
    penalties.penalize(START, "a", "e");
    penalties.penalize(START, "a", "e");
    assert_eq!(penalties.refund("a"), Some(1));
    assert!(penalties.is_eligible(START, "a"));
    assert_eq!(penalties.next_eligible(), None);
    penalties.penalize(START, "a", "e");
    assert_eq!(penalties.record("a").unwrap().current_delay, Duration::from_millis(200));
}

#[test]
fn a_refund_of_the_only_failure_forgets_the_key() {
    let mut penalties = PenaltyBox::new(config(5));
    penalties.penalize(START, "a", "e");
    assert_eq!(penalties.refund("a"), Some(0));
    assert!(penalties.is_empty());
    assert_eq!(penalties.refund("a"), None);
}

#[test]
fn a_refund_brings_an_exhausted_key_back() {
    let mut penalties = PenaltyBox::new(config(2));
    penalties.penalize(START, "a", "e");
    penalties.penalize(START, "a", "e");
    assert_eq!(penalties.refund("a"), Some(1));
    assert!(penalties.is_eligible(START, "a") && penalties.exhausted_keys().is_empty());
    assert_eq!(penalties.stats(START).exhausted, 0);
}

#[test]
fn a_full_box_refuses_new_keys_and_still_counts_known_ones() {
    let mut penalties = PenaltyBox::new(config(5)).with_capacity(1);
    assert_eq!(penalties.try_penalize(START, "a", "e"), Ok(false));
    assert_eq!(penalties.try_penalize(START, "b", "e"), Err(PenaltyError::Full { capacity: 1 }));
    assert_eq!(penalties.try_penalize(START, "a", "e"), Ok(false));
    assert_eq!((penalties.penalty_count("a"), penalties.penalty_count("b")), (2, 0));
    penalties.clear("a");
    assert_eq!(penalties.try_penalize(START, "b", "e"), Ok(false));
}

#[test]
fn a_restart_neither_ends_nor_extends_a_wait() {
    let mut before = PenaltyBox::new(config(5));
    before.penalize(START, "a", "e");
    before.penalize(START, "a", "e");
    let record = before.record("a").unwrap().clone();
    let record: PenaltyRecord = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
    // A new process: its monotonic clock starts again, the wall clock went on by 50 ms.
    let now = Now { monotonic: Monotonic::from_ms(3), wall: at(50).wall };
    let mut penalties = PenaltyBox::new(config(5));
    penalties.restore(now, "a", record.clone());
    assert_eq!(penalties.next_eligible(), Some(Monotonic::from_ms(153)));
    assert_eq!(penalties.penalty_count("a"), 2);
    // The wall clock was set back by a day: the wait is still no longer than it was.
    let early = Now { monotonic: Monotonic::from_ms(3), wall: WallTime::UNIX_EPOCH };
    penalties.restore(early, "a", record);
    assert_eq!(penalties.next_eligible(), Some(Monotonic::from_ms(203)));
    assert_eq!(penalties.len(), 1);
}

#[test]
fn a_restored_key_is_judged_by_the_present_configuration() {
    let mut before = PenaltyBox::new(config(2));
    before.penalize(START, "a", "e");
    before.penalize(START, "a", "e");
    let record = before.record("a").unwrap().clone();
    let mut same = PenaltyBox::new(config(2));
    same.restore(START, "a", record.clone());
    assert_eq!((same.exhausted_keys(), same.next_eligible()), (vec![&"a"], None));
    let mut patient = PenaltyBox::new(config(9));
    patient.restore(START, "a", record);
    assert!(patient.is_eligible(START, "a"));
}

#[test]
fn a_restored_wait_is_no_longer_than_is_allowed_now() {
    let mut before = PenaltyBox::new(config(5));
    before.penalize(START, "a", "e");
    let record = before.record("a").unwrap().clone();
    let mut hasty = PenaltyBox::new(PenaltyConfig { max_delay: Duration::from_millis(30), ..config(5) });
    hasty.restore(START, "a", record);
    assert_eq!(hasty.next_eligible(), Some(after(30)));
}

#[test]
fn every_error_of_a_configuration_is_reported() {
    let config = PenaltyConfig {
        initial_delay: Duration::ZERO,
        max_delay: Duration::ZERO,
        backoff_factor: -2.0,
        max_penalties: 0,
        jitter: 1.0,
    };
    let expected = [
        PenaltyConfigError::InitialDelayZero,
        PenaltyConfigError::MaxDelayZero,
        PenaltyConfigError::BackoffFactor(-2.0),
        PenaltyConfigError::Jitter(1.0),
    ];
    assert_eq!(config.validate(), Err(expected.to_vec()));
}

#[test]
fn values_that_are_not_a_number_are_refused() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0] {
        assert!(PenaltyConfig { backoff_factor: bad, ..config(5) }.validate().is_err(), "{bad}");
    }
    for bad in [f64::NAN, f64::INFINITY, -0.1, 1.0] {
        assert!(PenaltyConfig { jitter: bad, ..config(5) }.validate().is_err(), "{bad}");
    }
    let reversed = PenaltyConfig { initial_delay: Duration::from_secs(11), ..config(5) };
    assert!(reversed.validate().is_err());
}

#[test]
fn a_configuration_survives_serialisation_and_fills_in_defaults() {
    let text = serde_json::to_string(&config(3)).unwrap();
    assert_eq!(serde_json::from_str::<PenaltyConfig>(&text).unwrap(), config(3));
    let sparse: PenaltyConfig = serde_json::from_str(r#"{"max_penalties": 3}"#).unwrap();
    assert_eq!(sparse, PenaltyConfig { max_penalties: 3, ..PenaltyConfig::default() });
    assert!(serde_json::from_str::<PenaltyConfig>(r#"{"max_penaltys": 3}"#).is_err());
}

/// One call on the box, on one of a few keys.
#[derive(Debug, Clone)]
enum Call {
    Penalize(u8),
    Refund(u8),
    Clear(u8),
    Pop,
    Wait(u64),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = prop_oneof![
        4 => (0_u8..6).prop_map(Call::Penalize),
        1 => (0_u8..6).prop_map(Call::Refund),
        1 => (0_u8..6).prop_map(Call::Clear),
        2 => Just(Call::Pop),
        3 => (0_u64..500).prop_map(Call::Wait),
    ];
    prop::collection::vec(call, 0..120)
}

/// A key in the model: failures, end of the wait, and whether that wait has not been returned yet.
#[derive(Debug, Clone, Copy)]
struct Modelled {
    count: u32,
    until: u64,
    is_waiting: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_indexes_agree_with_a_model_without_indexes(calls in calls()) {
        const MAX: u32 = 4;
        let mut penalties = PenaltyBox::new(config(MAX));
        let mut model: BTreeMap<u8, Modelled> = BTreeMap::new();
        let mut ms = 0;
        for call in calls {
            match call {
                Call::Penalize(key) => {
                    let count = model.get(&key).map_or(0, |known| known.count) + 1;
                    prop_assert_eq!(penalties.penalize(at(ms), key, "e"), count >= MAX);
                    let until = ms + (100_u64 << (count - 1).min(20)).min(10_000);
                    model.insert(key, Modelled { count, until, is_waiting: count < MAX });
                }
                Call::Refund(key) => {
                    let left = model.get(&key).map(|known| known.count - 1);
                    prop_assert_eq!(penalties.refund(&key), left);
                    model.remove(&key);
                    if let Some(count @ 1..) = left {
                        model.insert(key, Modelled { count, until: 0, is_waiting: false });
                    }
                }
                Call::Clear(key) => {
                    prop_assert_eq!(penalties.clear(&key).is_some(), model.remove(&key).is_some());
                }
                Call::Pop => {
                    let waiting = model.iter().filter(|(_, known)| known.is_waiting && known.until <= ms);
                    let due = waiting.map(|(key, known)| (known.until, *key)).min();
                    prop_assert_eq!(penalties.pop_eligible(at(ms)), due.map(|(_, key)| key));
                    if let Some(known) = due.and_then(|(_, key)| model.get_mut(&key)) {
                        known.is_waiting = false;
                    }
                }
                Call::Wait(passed) => ms += passed,
            }
            let next = model.values().filter(|known| known.is_waiting).map(|known| known.until).min();
            prop_assert_eq!(penalties.next_eligible(), next.map(after));
            let exhausted = model.values().filter(|known| known.count >= MAX).count();
            let stats = penalties.stats(at(ms));
            prop_assert_eq!((stats.total_tracked, stats.exhausted), (model.len(), exhausted));
            let eligible = model.iter().filter(|(_, known)| known.count < MAX && known.until <= ms).count();
            prop_assert_eq!((stats.eligible, stats.penalized), (eligible, model.len() - exhausted - eligible));
            for key in 0..6 {
                let is_eligible = model.get(&key).is_none_or(|known| known.count < MAX && known.until <= ms);
                prop_assert_eq!(penalties.is_eligible(at(ms), &key), is_eligible);
            }
        }
    }

    #[test]
    fn no_wait_exceeds_the_maximum(
        initial_ms in 0_u64..100_000,
        max_ms in 0_u64..100_000,
        factor in prop_oneof![0.01_f64..20.0, Just(f64::NAN), Just(-3.0), Just(f64::INFINITY)],
        jitter in prop_oneof![0.0_f64..1.0, Just(f64::NAN), Just(-2.0)],
        count in 1_u32..40,
    ) {
        let max_delay = Duration::from_millis(max_ms);
        let initial_delay = Duration::from_millis(initial_ms);
        let config =
            PenaltyConfig { initial_delay, max_delay, backoff_factor: factor, max_penalties: 99, jitter };
        for delay in delays(config, count) {
            prop_assert!(delay <= max_delay);
        }
    }
}
