//! How much of what is over a coordinator keeps: flags, and the settings they become.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use orbit_shared::quantity;

use crate::core::HistoryLimits;
use crate::core::limits::ENDED_JOBS_MAX;

/// How long, and how many, records are kept.
#[derive(Debug, Clone, Args)]
pub struct KeepFlags {
    /// Ended jobs to keep with their items and dead letters; the oldest are forgotten first
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=ENDED_JOBS_MAX as i64))]
    pub keep_jobs: u32,
    /// How long an ended job is kept
    #[arg(long, value_name = "TIME", default_value = "400d", value_parser = quantity::duration)]
    pub keep_jobs_for: Duration,
    /// How long a bulletin is kept after its last report; unacknowledged errors stay
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = quantity::duration)]
    pub keep_bulletins_for: Duration,
    /// How long provenance events are kept
    #[arg(long, value_name = "TIME", default_value = "400d", value_parser = quantity::duration)]
    pub keep_events_for: Duration,
    /// How much of the provenance events is kept; the oldest files go first
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = quantity::size)]
    pub keep_event_bytes: u64,
    /// Backups to keep in --backup-dir; the oldest is removed after a new one is complete, 0 keeps all
    #[arg(long, value_name = "COUNT", default_value = "100")]
    pub keep_backups: usize,
}

impl KeepFlags {
    /// What the core forgets.
    pub(crate) fn history(&self) -> HistoryLimits {
        HistoryLimits {
            ended_job_count_max: usize::try_from(self.keep_jobs).unwrap_or(ENDED_JOBS_MAX),
            ended_job_age_max: self.keep_jobs_for,
            bulletin_age_max: self.keep_bulletins_for,
            event_age_max: self.keep_events_for,
        }
    }
}

/// Where backups go, and how many are kept.
#[derive(Debug, Clone)]
pub(crate) struct Backups {
    /// The directory.
    pub(crate) directory: PathBuf,
    /// Complete backups that are kept; 0 keeps all.
    pub(crate) count_max: usize,
}
