//! Arguments of `orbit schedule`.

use clap::{ArgGroup, Subcommand};
use prost_types::Duration;

use super::SpecArgs;
use crate::parse::{ids, quantity};

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Make a job of the same kind again and again.
    Create(Box<CreateScheduleArgs>),
    /// List the schedules, with their next times and last jobs.
    Ls,
    /// Show one schedule with everything that its jobs are to do.
    Show(ScheduleIdArgs),
    /// Make no more jobs of a schedule. Jobs that run go on.
    Pause(PauseScheduleArgs),
    /// Make jobs of a schedule again, from its next time on.
    Resume(ScheduleIdArgs),
    /// Make one job of a schedule now.
    Run(ScheduleIdArgs),
    /// Forget a schedule. Jobs that it made stay as they are.
    Rm(ScheduleIdArgs),
}

/// Arguments of `orbit schedule create`.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("times").required(true))]
pub(crate) struct CreateScheduleArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    /// Now, and then each time so much later: 15m, 6h, 7d.
    #[arg(long, value_name = "DURATION", group = "times", value_parser = quantity::wire_duration)]
    pub(crate) every: Option<Duration>,
    /// Every day at this time in UTC, as HH:MM (repeatable).
    #[arg(long, value_name = "HH:MM", group = "times")]
    pub(crate) at: Vec<String>,
    /// A name for this request: creating again with the same one answers with the same schedule.
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
}

/// One schedule.
#[derive(Debug, clap::Args)]
pub(crate) struct ScheduleIdArgs {
    /// Number of the schedule.
    #[arg(value_name = "SCHEDULE", value_parser = ids::schedule)]
    pub(crate) schedule_id: u64,
}

/// One schedule, and why it is stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct PauseScheduleArgs {
    /// Number of the schedule.
    #[arg(value_name = "SCHEDULE", value_parser = ids::schedule)]
    pub(crate) schedule_id: u64,
    /// Why; shown with the schedule.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}
