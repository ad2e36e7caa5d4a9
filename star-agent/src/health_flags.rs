//! The settings of a Star's health monitor: from which values it raises an advisory, and how much of the vault's disk it
//! keeps free.

use std::time::Duration;

use clap::Args;
use orbit_shared::health_monitor::HealthConfig;
use orbit_shared::quantity;

use crate::config::OptionsError;

/// How often the monitor judges a sample.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Minimum time that a forecast looks back on.
const TREND_SPAN: Duration = Duration::from_secs(60);

/// The flags; see their help texts.
#[derive(Debug, Clone, Args)]
pub struct HealthFlags {
    /// Percentage of a disk in use from which the Star warns
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = percent())]
    pub disk_warning_percent: u8,
    /// Percentage of a disk in use from which the Star takes no more work
    #[arg(long, value_name = "PERCENT", default_value_t = 95, value_parser = percent())]
    pub disk_critical_percent: u8,
    /// The Star also warns if fewer bytes are free on a disk, for example 20G; 0 turns this off
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = quantity::size)]
    pub disk_warning_free: u64,
    /// The Star also takes no more work if fewer bytes are free on a disk, for example 5G; 0 turns this off
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = quantity::size)]
    pub disk_critical_free: u64,
    /// The Star warns if a disk will be full within this time at the rate of the last samples; 0 turns this off
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = quantity::duration)]
    pub disk_forecast: Duration,
    /// Bytes that should stay free on the vault's disk, for example 20G: with fewer, garbage is collected without being asked,
    /// oldest first, even what could still be undeleted; 0 turns this off. Default: 1G, and on a small disk a twentieth of it
    #[arg(long, value_name = "BYTES", value_parser = quantity::size)]
    pub free_bytes_min: Option<u64>,
    /// Bytes a second below which a transfer is slow, for example 1M; 0 turns this off
    #[arg(long, value_name = "BYTES", default_value_t = 100_000, value_parser = quantity::size)]
    pub throughput_floor: u64,
    /// Percentage of failed operations above which the Star warns; 100 turns this off
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = percent())]
    pub error_percent: u8,
}

fn percent() -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(1..=100)
}

impl From<HealthFlags> for HealthConfig {
    fn from(flags: HealthFlags) -> Self {
        Self {
            disk_warning_pct: flags.disk_warning_percent,
            disk_critical_pct: flags.disk_critical_percent,
            disk_warning_available_bytes: flags.disk_warning_free,
            disk_critical_available_bytes: flags.disk_critical_free,
            prediction_horizon: flags.disk_forecast,
            throughput_floor_bytes_per_sec: flags.throughput_floor,
            error_rate_pct: flags.error_percent,
            ..of_a_star()
        }
    }
}

/// The settings of a Star without flags. A disk that a copy fills for a few seconds is no trend, and one sync can stop the
/// transfer for seconds.
pub(crate) fn of_a_star() -> HealthConfig {
    HealthConfig {
        check_interval: CHECK_INTERVAL,
        prediction_span_min: TREND_SPAN,
        ..HealthConfig::default()
    }
}

/// Checks that a disk that is critical is also worth a warning.
///
/// # Errors
/// The two settings that contradict each other.
pub(crate) fn check(config: &HealthConfig) -> Result<(), OptionsError> {
    let (warning, critical) = (config.disk_warning_pct, config.disk_critical_pct);
    if warning > critical {
        return Err(OptionsError::Thresholds(format!(
            "--disk-warning-percent {warning}: it must be at most --disk-critical-percent, which is {critical}"
        )));
    }
    let (warning, critical) = (config.disk_warning_available_bytes, config.disk_critical_available_bytes);
    if warning != 0 && warning < critical {
        return Err(OptionsError::Thresholds(format!(
            "--disk-warning-free {warning}: it must be at least --disk-critical-free, which is {critical}"
        )));
    }
    Ok(())
}
