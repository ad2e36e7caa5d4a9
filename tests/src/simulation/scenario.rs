//! The parameters of one seed: the size of the world, its limits, and the kinds of faults.

use std::time::Duration;

use orbit_coordinator::core::limits::ITEMS_PER_JOB_MAX;
use orbit_coordinator::core::{CoreConfig, HistoryLimits};
use orbit_shared::backpressure::BackpressureConfig;
use orbit_shared::penalization::PenaltyConfig;
use uuid::Uuid;

use super::chance::Chance;

/// The kinds of faults in a run. Each is enabled in about half of all runs, so that some runs are calm enough to get
/// far and others have every fault at once.
#[derive(Debug, Clone)]
pub struct Troubles {
    /// The coordinator is killed.
    pub coordinator_crashes: bool,
    /// Stars are killed.
    pub star_crashes: bool,
    /// Machines of Stars lose power.
    pub power_losses: bool,
    /// Stars are stopped for a while.
    pub freezes: bool,
    /// Stars get signals to end.
    pub signals: bool,
    /// Sessions break.
    pub breaks: bool,
    /// One direction of a session is held back.
    pub partitions: bool,
    /// Stars cannot reach each other.
    pub data_partitions: bool,
    /// Disks are full or fail.
    pub disks: bool,
    /// Single items fail.
    pub items: bool,
    /// The source changes.
    pub sources: bool,
    /// Wall clocks jump.
    pub clocks: bool,
    /// Scans break off.
    pub scans: bool,
    /// Operators pause, drain, limit and cancel.
    pub operators: bool,
    /// Health monitors report advisories.
    pub health: bool,
    /// Reports arrive twice.
    pub repeats: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Number of Stars.
    pub star_count: usize,
    /// Entries below the root of a tree, at least.
    pub entries_min: u64,
    /// Entries below the root of a tree, at most.
    pub entries_max: u64,
    /// Number of jobs.
    pub job_count: usize,
    /// When everything is repaired.
    pub healing_ms: u64,
    /// Maximum time between two faults.
    pub trouble_every_ms: u64,
    /// Maximum delay of a message without faults.
    pub delay_max_ms: u64,
    /// Maximum duration of a step of work.
    pub work_max_ms: u64,
    /// Entries in one batch of a scan, at most.
    pub batch_max: u64,
    /// The coordinator's configuration.
    pub core: CoreConfig,
    /// The penalties of jobs.
    pub penalty: PenaltyConfig,
    /// Number of dead letters at which a job pauses.
    pub dead_letter_max: u64,
    /// The bandwidth limit of jobs.
    pub max_bytes_per_second: u64,
    /// The kinds of faults.
    pub troubles: Troubles,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(chance: &mut Chance) -> Self {
        let lease_ms = chance.pick(&[1_500, 3_000, 8_000, 15_000]);
        let guard = match chance.below(4) {
            0 => BackpressureConfig { max_object_count: 1, max_byte_size: 1 },
            1 => BackpressureConfig { max_object_count: chance.between(1, 8), max_byte_size: 50_000 },
            _ => BackpressureConfig::default(),
        };
        let mut often = || chance.percent(45);
        let troubles = Troubles {
            coordinator_crashes: often(),
            star_crashes: often(),
            power_losses: often(),
            freezes: often(),
            signals: often(),
            breaks: often(),
            partitions: often(),
            data_partitions: often(),
            disks: often(),
            items: often(),
            sources: often(),
            clocks: often(),
            scans: often(),
            operators: often(),
            health: often(),
            repeats: often(),
        };
        // Sometimes a tree that does not fit into the window of a lane.
        let is_large = chance.percent(1);
        Self {
            star_count: if is_large { 2 } else { chance.between(2, 4) as usize },
            entries_min: if is_large { 2_300 } else { 0 },
            entries_max: if is_large { 3_000 } else { chance.pick(&[3, 12, 40, 80]) },
            job_count: if is_large { 1 } else { chance.between(1, 3) as usize },
            healing_ms: chance.pick(&[5_000, 15_000, 40_000, 90_000]),
            trouble_every_ms: chance.pick(&[60, 200, 800, 2_500]),
            delay_max_ms: chance.pick(&[1, 20, 300]),
            work_max_ms: chance.pick(&[2, 50, 600]),
            batch_max: if is_large { 400 } else { chance.pick(&[1, 3, 20]) },
            core: CoreConfig {
                lease: Duration::from_millis(lease_ms),
                heartbeat_interval: Duration::from_millis((lease_ms / 6).max(300)),
                // Mostly longer than any run, so that the handling of stalls does not hide other faults.
                stall_after: Duration::from_millis(lease_ms * chance.pick(&[1, 20, 100_000, 100_000])),
                is_manual_schedule: chance.percent(10),
                guard,
                seed: chance.draw(),
                fresh_grid: Uuid::from_u128(1),
                takes_over: false,
                history: HistoryLimits::default(),
                items_per_job_max: ITEMS_PER_JOB_MAX,
            },
            penalty: PenaltyConfig {
                initial_delay: Duration::from_millis(chance.pick(&[1, 200, 1_000])),
                max_delay: Duration::from_secs(chance.pick(&[1, 8])),
                backoff_factor: chance.pick(&[1.0, 2.0, 3.0]),
                max_penalties: chance.pick(&[1, 2, 3, 5, 20]),
                jitter: chance.pick(&[0.0, 0.1, 0.5]),
            },
            dead_letter_max: chance.pick(&[1, 3, 10_000]),
            max_bytes_per_second: if chance.percent(15) { 30_000_000 } else { 0 },
            troubles,
        }
    }
}
