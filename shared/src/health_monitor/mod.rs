//! The health monitor: judges the samples of a Star, and returns advisories.
//!
//! [`HealthMonitor::check`] takes one sample and returns all current advisories, worst first. An advisory begins when a
//! value crosses its threshold, and ends when the value has left it by a margin, so that it does not flap. Disk
//! exhaustion is forecast by least squares, see the `forecast` module. The monitor takes no samples and acts on
//! nothing.

mod advisory;
mod forecast;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::advisory::{Advisory, AdvisoryKind};
use crate::time::Monotonic;

/// Maximum number of samples that are kept for the forecast. Older ones are dropped.
pub const HEALTH_HISTORY_SAMPLES_MAX: usize = 60;

/// Thresholds and margins. Percentages are whole numbers; one above 100 is never reached and so turns a check off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// The disk is critical from this percentage in use.
    pub disk_critical_pct: u8,
    /// The disk is worth a warning from this percentage in use.
    pub disk_warning_pct: u8,
    /// The disk is also critical with fewer bytes available; 0 turns this off.
    pub disk_critical_available_bytes: u64,
    /// The disk is also worth a warning with fewer bytes available; 0 turns this off.
    pub disk_warning_available_bytes: u64,
    /// How many percentage points below its threshold the use must fall before a disk advisory is withdrawn.
    pub disk_margin_pct: u8,
    /// A transfer with fewer bytes per second is slow.
    pub throughput_floor_bytes_per_sec: u64,
    /// Percentage by which the floor must be exceeded before the advisory is withdrawn.
    pub throughput_margin_pct: u8,
    /// More than this percentage of failed operations is too many.
    pub error_rate_pct: u8,
    /// Percentage points by which the rate must fall below that before the advisory is withdrawn.
    pub error_rate_margin_pct: u8,
    /// The error rate is judged once this many operations have ended since it was last judged.
    pub error_rate_operations_min: u64,
    /// If they take longer than this, the rate is unknown and its advisory is withdrawn.
    pub error_rate_window: Duration,
    /// How often the owner should sample; the monitor does not depend on it.
    pub check_interval: Duration,
    /// Exhaustion is announced if it is expected within this time.
    pub prediction_horizon: Duration,
    /// Percentage by which the horizon must be exceeded before the forecast is withdrawn.
    pub prediction_margin_pct: u8,
    /// Minimum number of samples for a forecast.
    pub prediction_samples_min: usize,
    /// Minimum time between the first and the last sample of a forecast.
    pub prediction_span_min: Duration,
    /// Minimum share of the variance that the line of a forecast must explain (the R² of the fit).
    pub prediction_r2_min: f64,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            disk_critical_pct: 95,
            disk_warning_pct: 85,
            disk_critical_available_bytes: 0,
            disk_warning_available_bytes: 0,
            disk_margin_pct: 1,
            throughput_floor_bytes_per_sec: 100_000,
            throughput_margin_pct: 10,
            error_rate_pct: 5,
            error_rate_margin_pct: 1,
            error_rate_operations_min: 20,
            error_rate_window: Duration::from_secs(300),
            check_interval: Duration::from_secs(30),
            prediction_horizon: Duration::from_secs(3600),
            prediction_margin_pct: 10,
            prediction_samples_min: 3,
            prediction_span_min: Duration::from_secs(10),
            prediction_r2_min: 0.9,
        }
    }
}

/// One sample of a Star and its disk.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSample {
    /// Bytes that can still be written.
    pub disk_available_bytes: u64,
    /// The size of the volume; 0 if it is unknown, and then the disk is not judged.
    pub disk_total_bytes: u64,
    /// Bytes that are still available but already promised to accepted work; the forecast leaves them out.
    pub reserved_bytes: u64,
    /// Payload moved per second since the previous sample.
    pub throughput_bytes_per_sec: u64,
    /// Whether there was something to move during that whole time. Otherwise the throughput is not judged.
    pub is_transferring: bool,
    /// Operations that have failed since the Star started.
    pub error_count: u64,
    /// Operations that have ended since the Star started, with or without an error.
    pub total_operations: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum DiskLevel {
    Fine,
    Warning,
    Critical,
}

/// Cumulative counters at the start of the window in which the error rate is being measured.
#[derive(Debug, Default, Clone, Copy)]
struct ErrorWindow {
    started_at: Option<Monotonic>,
    error_count: u64,
    total_operations: u64,
}

/// Judges the samples of one Star and volume.
#[derive(Debug, Clone)]
pub struct HealthMonitor {
    config: HealthConfig,
    history: VecDeque<(Monotonic, HealthSample)>,
    disk_level: DiskLevel,
    error_window: ErrorWindow,
    /// The advisories of the last check, worst first.
    active: Vec<Advisory>,
}

impl HealthMonitor {
    /// A monitor that has not seen anything.
    pub fn new(config: HealthConfig) -> Self {
        Self {
            config,
            history: VecDeque::with_capacity(HEALTH_HISTORY_SAMPLES_MAX),
            disk_level: DiskLevel::Fine,
            error_window: ErrorWindow::default(),
            active: Vec::new(),
        }
    }

    /// Takes one sample and returns all current advisories, worst first, or only [`Advisory::Healthy`] if there are
    /// none.
    pub fn check(&mut self, now: Monotonic, sample: &HealthSample) -> Vec<Advisory> {
        if self.history.len() == HEALTH_HISTORY_SAMPLES_MAX {
            self.history.pop_front();
        }
        self.history.push_back((now, *sample));

        let found = [
            self.judge_disk(sample),
            self.judge_exhaustion(),
            self.judge_throughput(sample),
            self.judge_error_rate(now, sample),
        ];
        let mut advisories: Vec<Advisory> = found.into_iter().flatten().collect();
        advisories.sort_by_key(Advisory::rank);

        self.active.clone_from(&advisories);
        if advisories.is_empty() {
            advisories.push(Advisory::Healthy);
        }
        advisories
    }

    /// Its configuration.
    pub fn config(&self) -> &HealthConfig {
        &self.config
    }

    fn is_active(&self, kind: AdvisoryKind) -> bool {
        self.active.iter().any(|advisory| advisory.kind() == kind)
    }

    fn judge_disk(&mut self, sample: &HealthSample) -> Option<Advisory> {
        let config = &self.config;
        let reaches = |pct: u8, available_bytes: u64, is_held: bool| {
            let (pct, available_bytes) = if is_held {
                let kept = available_bytes.saturating_add(share(available_bytes, config.disk_margin_pct));
                (pct.saturating_sub(config.disk_margin_pct), kept)
            } else {
                (pct, available_bytes)
            };
            is_used(sample, pct) || sample.disk_available_bytes < available_bytes
        };
        let is_critical = reaches(
            config.disk_critical_pct,
            config.disk_critical_available_bytes,
            self.disk_level == DiskLevel::Critical,
        );
        let is_warning = reaches(
            config.disk_warning_pct,
            config.disk_warning_available_bytes,
            self.disk_level >= DiskLevel::Warning,
        );
        self.disk_level = if sample.disk_total_bytes == 0 {
            DiskLevel::Fine
        } else if is_critical {
            DiskLevel::Critical
        } else if is_warning {
            DiskLevel::Warning
        } else {
            DiskLevel::Fine
        };
        let (available_bytes, total_bytes) = (sample.disk_available_bytes, sample.disk_total_bytes);
        match self.disk_level {
            DiskLevel::Fine => None,
            DiskLevel::Warning => Some(Advisory::DiskWarning { available_bytes, total_bytes }),
            DiskLevel::Critical => Some(Advisory::DiskCritical { available_bytes, total_bytes }),
        }
    }

    fn judge_exhaustion(&self) -> Option<Advisory> {
        let is_held = self.is_active(AdvisoryKind::DiskExhaustionPredicted);
        let seconds = forecast::seconds_to_exhaustion(&self.config, &self.history, is_held)?;
        let horizon = self.config.prediction_horizon.as_secs_f64();
        let horizon = if is_held {
            horizon * (1.0 + f64::from(self.config.prediction_margin_pct) / 100.0)
        } else {
            horizon
        };
        // A float-to-integer cast saturates, and the value is below the horizon anyway.
        (seconds < horizon).then_some(Advisory::DiskExhaustionPredicted { seconds_remaining: seconds as u64 })
    }

    fn judge_throughput(&self, sample: &HealthSample) -> Option<Advisory> {
        let floor = self.config.throughput_floor_bytes_per_sec;
        let limit = if self.is_active(AdvisoryKind::ThroughputLow) {
            floor.saturating_add(share(floor, self.config.throughput_margin_pct))
        } else {
            floor
        };
        let is_low = sample.is_transferring && sample.throughput_bytes_per_sec < limit;
        is_low.then_some(Advisory::ThroughputLow {
            current_bytes_per_sec: sample.throughput_bytes_per_sec,
            floor_bytes_per_sec: floor,
        })
    }

    fn judge_error_rate(&mut self, now: Monotonic, sample: &HealthSample) -> Option<Advisory> {
        let held =
            self.active.iter().find(|advisory| advisory.kind() == AdvisoryKind::ErrorRateHigh).copied();
        let window = self.error_window;
        let has_restarted =
            sample.total_operations < window.total_operations || sample.error_count < window.error_count;
        let window = if has_restarted { ErrorWindow::default() } else { window };
        let started_at = window.started_at.unwrap_or(now);
        let operation_count = sample.total_operations - window.total_operations;
        // More errors than operations are a miscount of the Star. The percentage must not exceed 100 because of it.
        let error_count = (sample.error_count - window.error_count).min(operation_count);

        let is_enough = operation_count > 0 && operation_count >= self.config.error_rate_operations_min;
        let is_over = now.since(started_at) > self.config.error_rate_window;
        if !is_enough && !is_over {
            self.error_window = ErrorWindow { started_at: Some(started_at), ..window };
            return held;
        }
        self.error_window = ErrorWindow {
            started_at: Some(now),
            error_count: sample.error_count,
            total_operations: sample.total_operations,
        };
        let limit_pct = self.config.error_rate_pct;
        let margin_pct = if held.is_some() { self.config.error_rate_margin_pct } else { 0 };
        let acceptable = u128::from(operation_count) * u128::from(limit_pct.saturating_sub(margin_pct));
        let is_high = is_enough && u128::from(error_count) * 100 > acceptable;
        is_high.then_some(Advisory::ErrorRateHigh { error_count, operation_count, limit_pct })
    }
}

fn share(bytes: u64, pct: u8) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(pct) / 100).unwrap_or(u64::MAX)
}

/// Whether at least `pct` percent of the volume are in use, without rounding.
fn is_used(sample: &HealthSample, pct: u8) -> bool {
    let used = sample.disk_total_bytes.saturating_sub(sample.disk_available_bytes);
    u128::from(used) * 100 >= u128::from(sample.disk_total_bytes) * u128::from(pct)
}
