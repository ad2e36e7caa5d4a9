use proptest::prelude::*;

use super::*;

/// A disk of 1,000,000 bytes at work, with this many available.
fn disk(available: u64) -> HealthSample {
    HealthSample {
        disk_available_bytes: available,
        disk_total_bytes: 1_000_000,
        throughput_bytes_per_sec: 50_000_000,
        is_transferring: true,
        ..HealthSample::default()
    }
}

fn with_counts(error_count: u64, total_operations: u64) -> HealthSample {
    HealthSample { error_count, total_operations, ..disk(900_000) }
}

fn monitor() -> HealthMonitor {
    HealthMonitor::new(HealthConfig::default())
}

fn at(seconds: u64) -> Monotonic {
    Monotonic::from_ms(seconds * 1000)
}

fn kinds(advisories: &[Advisory]) -> Vec<AdvisoryKind> {
    advisories.iter().map(Advisory::kind).collect()
}

fn check_all(monitor: &mut HealthMonitor, samples: impl IntoIterator<Item = (u64, u64)>) -> Vec<Advisory> {
    let mut last = Vec::new();
    for (seconds, available) in samples {
        last = monitor.check(at(seconds), &disk(available));
    }
    last
}

#[test]
fn the_defaults_are_documented_ones() {
    let config = HealthConfig::default();
    assert_eq!((config.disk_critical_pct, config.disk_warning_pct), (95, 85));
    assert_eq!((config.throughput_floor_bytes_per_sec, config.error_rate_pct), (100_000, 5));
    assert_eq!(config.check_interval, Duration::from_secs(30));
    assert_eq!(config.prediction_horizon, Duration::from_secs(3600));
    assert_eq!((config.prediction_samples_min, config.prediction_span_min), (3, Duration::from_secs(10)));
    assert_eq!(serde_json::from_str::<HealthConfig>("{}").unwrap(), config);
}

#[test]
fn a_sound_star_is_healthy() {
    assert_eq!(monitor().check(at(0), &disk(500_000)), [Advisory::Healthy]);
}

#[test]
fn a_disk_96_percent_full_is_critical() {
    let advisories = monitor().check(at(0), &disk(40_000));
    assert_eq!(advisories, [Advisory::DiskCritical { available_bytes: 40_000, total_bytes: 1_000_000 }]);
}

#[test]
fn a_disk_90_percent_full_is_a_warning() {
    let advisories = monitor().check(at(0), &disk(100_000));
    assert_eq!(advisories, [Advisory::DiskWarning { available_bytes: 100_000, total_bytes: 1_000_000 }]);
}

#[test]
fn exactly_95_percent_is_critical_and_one_byte_less_is_not() {
    assert_eq!(kinds(&monitor().check(at(0), &disk(50_000))), [AdvisoryKind::DiskCritical]);
    assert_eq!(kinds(&monitor().check(at(0), &disk(50_001))), [AdvisoryKind::DiskWarning]);
}

#[test]
fn exactly_85_percent_is_a_warning_and_one_byte_less_is_not() {
    assert_eq!(kinds(&monitor().check(at(0), &disk(150_000))), [AdvisoryKind::DiskWarning]);
    assert_eq!(kinds(&monitor().check(at(0), &disk(150_001))), [AdvisoryKind::Healthy]);
}

#[test]
fn thresholds_in_bytes_hold_beside_those_in_percent() {
    let config = HealthConfig {
        disk_critical_available_bytes: 300_000,
        disk_warning_available_bytes: 500_000,
        ..HealthConfig::default()
    };
    let check = |available| kinds(&HealthMonitor::new(config.clone()).check(at(0), &disk(available)));
    assert_eq!(check(299_999), [AdvisoryKind::DiskCritical]);
    assert_eq!(check(300_000), [AdvisoryKind::DiskWarning]);
    assert_eq!(check(500_000), [AdvisoryKind::Healthy]);
}

#[test]
fn an_unknown_disk_is_not_judged() {
    let unknown = HealthSample { disk_available_bytes: 0, disk_total_bytes: 0, ..disk(0) };
    assert_eq!(monitor().check(at(0), &unknown), [Advisory::Healthy]);
}

#[test]
fn more_available_than_there_is_does_not_wrap() {
    assert_eq!(monitor().check(at(0), &disk(2_000_000)), [Advisory::Healthy]);
    let huge = HealthSample { disk_available_bytes: 0, disk_total_bytes: u64::MAX, ..disk(0) };
    assert_eq!(kinds(&monitor().check(at(0), &huge)), [AdvisoryKind::DiskCritical]);
}

#[test]
fn a_value_on_the_line_does_not_flap() {
    let mut monitor = monitor();
    check_all(&mut monitor, [(0, 50_000)]);
    for (turn, available) in [50_001, 50_000, 59_999, 50_001, 60_000].into_iter().enumerate() {
        let advisories = monitor.check(at(turn as u64 + 1), &disk(available));
        assert_eq!(kinds(&advisories), [AdvisoryKind::DiskCritical], "{available}");
    }
    assert_eq!(kinds(&monitor.check(at(9), &disk(60_001))), [AdvisoryKind::DiskWarning]);
    assert_eq!(kinds(&monitor.check(at(10), &disk(160_000))), [AdvisoryKind::DiskWarning]);
    assert_eq!(kinds(&monitor.check(at(11), &disk(160_001))), [AdvisoryKind::Healthy]);
}

#[test]
fn low_throughput_carries_both_numbers() {
    let sample = HealthSample { throughput_bytes_per_sec: 50_000, ..disk(900_000) };
    assert_eq!(
        monitor().check(at(0), &sample),
        [Advisory::ThroughputLow { current_bytes_per_sec: 50_000, floor_bytes_per_sec: 100_000 }]
    );
}

#[test]
fn a_stall_with_work_at_hand_is_low_throughput() {
    let sample = HealthSample { throughput_bytes_per_sec: 0, ..disk(900_000) };
    assert_eq!(kinds(&monitor().check(at(0), &sample)), [AdvisoryKind::ThroughputLow]);
}

#[test]
fn an_idle_star_is_not_slow() {
    let sample = HealthSample { throughput_bytes_per_sec: 0, is_transferring: false, ..disk(900_000) };
    assert_eq!(monitor().check(at(0), &sample), [Advisory::Healthy]);
}

#[test]
fn throughput_at_the_floor_is_enough_but_recovers_only_above_it() {
    let pace = |throughput_bytes_per_sec| HealthSample { throughput_bytes_per_sec, ..disk(900_000) };
    let mut monitor = monitor();
    assert_eq!(kinds(&monitor.check(at(0), &pace(100_000))), [AdvisoryKind::Healthy]);
    assert_eq!(kinds(&monitor.check(at(1), &pace(99_999))), [AdvisoryKind::ThroughputLow]);
    assert_eq!(kinds(&monitor.check(at(2), &pace(109_999))), [AdvisoryKind::ThroughputLow]);
    assert_eq!(kinds(&monitor.check(at(3), &pace(110_000))), [AdvisoryKind::Healthy]);
}

#[test]
fn five_percent_of_errors_are_accepted_and_six_are_not() {
    assert_eq!(monitor().check(at(0), &with_counts(5, 100)), [Advisory::Healthy]);
    assert_eq!(
        monitor().check(at(0), &with_counts(6, 100)),
        [Advisory::ErrorRateHigh { error_count: 6, operation_count: 100, limit_pct: 5 }]
    );
}

#[test]
fn many_errors_among_very_many_operations_are_fine() {
    assert_eq!(monitor().check(at(0), &with_counts(1_000, 1_000_000)), [Advisory::Healthy]);
}

#[test]
fn few_operations_are_not_judged_but_add_up() {
    let mut monitor = monitor();
    assert_eq!(kinds(&monitor.check(at(0), &with_counts(10, 10))), [AdvisoryKind::Healthy]);
    assert_eq!(kinds(&monitor.check(at(30), &with_counts(10, 20))), [AdvisoryKind::ErrorRateHigh]);
}

#[test]
fn the_error_rate_is_that_of_the_recent_operations() {
    let mut monitor = monitor();
    monitor.check(at(0), &with_counts(0, 1_000_000));
    let advisories = monitor.check(at(30), &with_counts(50, 1_000_100));
    assert_eq!(advisories, [Advisory::ErrorRateHigh { error_count: 50, operation_count: 100, limit_pct: 5 }]);
    assert_eq!(kinds(&monitor.check(at(60), &with_counts(50, 1_000_200))), [AdvisoryKind::Healthy]);
}

#[test]
fn a_high_error_rate_is_withdrawn_only_below_its_margin() {
    let mut monitor = monitor();
    monitor.check(at(0), &with_counts(10, 100));
    assert_eq!(kinds(&monitor.check(at(1), &with_counts(15, 200))), [AdvisoryKind::ErrorRateHigh]);
    assert_eq!(kinds(&monitor.check(at(2), &with_counts(19, 300))), [AdvisoryKind::Healthy]);
}

#[test]
fn a_high_error_rate_is_forgotten_when_nothing_happens_any_more() {
    let mut monitor = monitor();
    monitor.check(at(0), &with_counts(10, 100));
    assert_eq!(kinds(&monitor.check(at(300), &with_counts(10, 100))), [AdvisoryKind::ErrorRateHigh]);
    assert_eq!(kinds(&monitor.check(at(301), &with_counts(10, 100))), [AdvisoryKind::Healthy]);
}

#[test]
fn counters_that_start_again_are_counted_from_zero() {
    let mut monitor = monitor();
    monitor.check(at(0), &with_counts(100, 100_000));
    assert_eq!(
        monitor.check(at(30), &with_counts(20, 40)),
        [Advisory::ErrorRateHigh { error_count: 20, operation_count: 40, limit_pct: 5 }]
    );
}

#[test]
fn all_advisories_that_hold_are_given_worst_first() {
    let sample =
        HealthSample { throughput_bytes_per_sec: 1, error_count: 50, total_operations: 100, ..disk(100_000) };
    assert_eq!(
        kinds(&monitor().check(at(0), &sample)),
        [AdvisoryKind::ErrorRateHigh, AdvisoryKind::DiskWarning, AdvisoryKind::ThroughputLow]
    );
    let worse = HealthSample { disk_available_bytes: 0, ..sample };
    assert_eq!(kinds(&monitor().check(at(0), &worse))[0], AdvisoryKind::DiskCritical);
}

#[test]
fn the_history_is_pruned_to_its_cap() {
    let mut monitor = monitor();
    check_all(&mut monitor, (0..75).map(|second| (second, 900_000)));
    assert_eq!(monitor.history.len(), HEALTH_HISTORY_SAMPLES_MAX);
    assert_eq!(monitor.history[0].0, at(15));
}

#[test]
fn a_steady_fall_is_forecast_to_the_second() {
    let last = check_all(&mut monitor(), (0..=10).map(|turn| (turn * 30, 800_000 - turn * 30 * 1_000)));
    assert_eq!(last, [Advisory::DiskExhaustionPredicted { seconds_remaining: 500 }]);
}

#[test]
fn the_forecast_leaves_reserved_bytes_out() {
    let mut monitor = monitor();
    let mut last = Vec::new();
    for turn in 0..=10 {
        let sample = HealthSample { reserved_bytes: 200_000, ..disk(800_000 - turn * 30_000) };
        last = monitor.check(at(turn * 30), &sample);
    }
    assert_eq!(last, [Advisory::DiskExhaustionPredicted { seconds_remaining: 300 }]);
}

#[test]
fn two_samples_or_less_than_ten_seconds_predict_nothing() {
    assert_eq!(check_all(&mut monitor(), [(0, 900_000), (60, 500_000)]), [Advisory::Healthy]);
    let short = [(0, 900_000), (3, 800_000), (6, 700_000), (9, 600_000)];
    assert_eq!(check_all(&mut monitor(), short), [Advisory::Healthy]);
    let long = [(0, 900_000), (3, 800_000), (6, 700_000), (10, 566_000)];
    assert_eq!(kinds(&check_all(&mut monitor(), long)), [AdvisoryKind::DiskExhaustionPredicted]);
}

#[test]
fn a_flat_or_emptying_disk_predicts_nothing() {
    assert_eq!(check_all(&mut monitor(), (0..20).map(|turn| (turn * 30, 500_000))), [Advisory::Healthy]);
    let emptying = (0..20).map(|turn| (turn * 30, 500_000 + turn * 5_000));
    assert_eq!(check_all(&mut monitor(), emptying), [Advisory::Healthy]);
}

#[test]
fn one_spike_does_not_predict() {
    let mut monitor = monitor();
    check_all(&mut monitor, (0..10).map(|turn| (turn * 30, 800_000)));
    assert_eq!(monitor.check(at(300), &disk(300_000)), [Advisory::Healthy]);
    assert_eq!(monitor.check(at(330), &disk(800_000)), [Advisory::Healthy]);
}

#[test]
fn a_slow_fall_beyond_the_horizon_is_not_announced_and_withdrawn_only_beyond_a_margin() {
    // 100 bytes a second: 3,600 seconds before the end there are 360,000 bytes left.
    let falling = |from: u64| (0..=10).map(move |turn| (turn * 30, from - turn * 3_000));
    assert_eq!(check_all(&mut monitor(), falling(390_001)), [Advisory::Healthy]);
    let mut monitor = monitor();
    assert_eq!(kinds(&check_all(&mut monitor, falling(389_900))), [AdvisoryKind::DiskExhaustionPredicted]);
}

#[test]
fn noise_without_a_trend_predicts_nothing() {
    let noise = [7, 2, 9, 4, 1, 8, 3, 6, 5, 2, 7, 1].into_iter().enumerate();
    let samples = noise.map(|(turn, jitter)| (turn as u64 * 30, 300_000 + jitter * 900));
    assert_eq!(check_all(&mut monitor(), samples), [Advisory::Healthy]);
}

#[test]
fn a_clean_up_does_not_hide_the_refill_after_it() {
    let mut monitor = monitor();
    check_all(&mut monitor, (0..30).map(|turn| (turn * 30, 400_000 - turn * 6_000)));
    let refill = (0..4).map(|turn| (900 + turn * 30, 900_000 - turn * 60_000));
    assert_eq!(
        check_all(&mut monitor, refill),
        [Advisory::DiskExhaustionPredicted { seconds_remaining: 360 }]
    );
}

#[test]
fn advisories_have_texts_for_operators() {
    let text = |advisory: Advisory| advisory.to_string();
    assert_eq!(
        text(Advisory::DiskCritical { available_bytes: 40, total_bytes: 1000 }),
        "disk critical: 96% used, 40 of 1000 bytes available; free space on it"
    );
    assert_eq!(
        text(Advisory::DiskExhaustionPredicted { seconds_remaining: 90 }),
        "disk full in about 2 minutes at the present pace"
    );
    assert!(
        text(Advisory::ThroughputLow { current_bytes_per_sec: 0, floor_bytes_per_sec: 5 })
            .contains("stalled")
    );
    for (kind, rank) in AdvisoryKind::ALL.into_iter().zip(0..) {
        assert_eq!(kind as u8, rank);
    }
}

proptest! {
    #[test]
    fn a_check_never_panics_and_never_answers_nothing(
        samples in prop::collection::vec((any::<[u64; 6]>(), any::<bool>(), 0..100_000u64), 1..80),
    ) {
        let mut monitor = monitor();
        for ([available, total, reserved, pace, errors, operations], is_transferring, seconds) in samples {
            let sample = HealthSample {
                disk_available_bytes: available,
                disk_total_bytes: total,
                reserved_bytes: reserved,
                throughput_bytes_per_sec: pace,
                is_transferring,
                error_count: errors,
                total_operations: operations,
            };
            let advisories = monitor.check(at(seconds), &sample);
            prop_assert!(!advisories.is_empty());
            prop_assert!(advisories.is_sorted_by_key(Advisory::rank));
            let is_healthy = advisories.contains(&Advisory::Healthy);
            prop_assert_eq!(is_healthy, advisories.len() == 1 && monitor.active.is_empty());
        }
    }

    #[test]
    fn any_steady_fall_is_forecast_where_it_ends(start in 200_000..1_000_000u64, pace in 1..200u64) {
        let mut monitor = monitor();
        let last = check_all(&mut monitor, (0..30).map(|turn| (turn * 30, start - turn * 30 * pace)));
        let expected = (start - 29 * 30 * pace) / pace;
        let forecast = last.iter().find_map(|advisory| match advisory {
            Advisory::DiskExhaustionPredicted { seconds_remaining } => Some(*seconds_remaining),
            _ => None,
        });
        if expected < 3590 {
            prop_assert!(forecast.is_some_and(|seconds| seconds.abs_diff(expected) <= 1), "{:?}", last);
        } else if expected > 4000 {
            prop_assert_eq!(forecast, None);
        }
    }
}
