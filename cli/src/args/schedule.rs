//! Arguments of `orbit schedule`.

use clap::{ArgGroup, Subcommand, ValueEnum};
use orbit_proto::v1::Location;
use prost_types::Duration;

use super::{SelectionArgs, SpecArgs};
use crate::parse::{ids, location, quantity};
use crate::vocabulary;

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Make a job of the same kind again and again.
    Create(Box<CreateScheduleArgs>),
    /// List the schedules, with their next times and last jobs.
    Ls,
    /// Show one schedule with everything that its jobs are to do.
    Show(ScheduleIdArgs),
    /// Change what the later jobs of a schedule do, or when they are made. Jobs that run go on as they began.
    Edit(Box<EditScheduleArgs>),
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

const EDIT_HELP: &str = "\
What no flag names stays as it is. A flag that can be repeated replaces all its values: `--exclude` does not add to the \
list. `--clear FLAG` removes the value of a flag, or takes it back to its default; it comes before the other flags.

If the times change, the next job is made at the next of them, and --every counts from now. If somebody else changes the \
schedule at the same moment, one of the two edits is refused.";

/// Arguments of `orbit schedule edit`.
#[derive(Debug, clap::Args)]
#[command(after_help = EDIT_HELP, group = ArgGroup::new("times"))]
pub(crate) struct EditScheduleArgs {
    /// Number of the schedule.
    #[arg(value_name = "SCHEDULE", value_parser = ids::schedule)]
    pub(crate) schedule_id: u64,
    /// Each time so much later, for the first time so much from now: 15m, 6h, 7d.
    #[arg(long, value_name = "DURATION", group = "times", value_parser = quantity::wire_duration)]
    pub(crate) every: Option<Duration>,
    /// Every day at this time in UTC, as HH:MM (repeatable).
    #[arg(long, value_name = "HH:MM", group = "times")]
    pub(crate) at: Vec<String>,
    /// Where the tree or single file is read, for example star-1:/data/photos.
    #[arg(long, value_name = "SRC", value_parser = location::parser())]
    pub(crate) from: Option<Location>,
    /// Where it goes, for example star-2:/backup/photos (repeatable).
    #[arg(long, value_name = "DST", value_parser = location::parser())]
    pub(crate) to: Vec<Location>,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// In which form the destinations keep it.
    #[arg(long, value_name = "LAYOUT", value_parser = vocabulary::parser("Layout"))]
    pub(crate) layout: Option<i32>,
    /// A word for the snapshots that a packed job makes (repeatable).
    #[arg(long, value_name = "TEXT")]
    pub(crate) tag: Vec<String>,
    /// Delete at the destination what the source does not have, once everything is copied.
    #[arg(long)]
    pub(crate) mirror: bool,
    /// Delete nothing, and fail, if more than this share of what the destination has would go.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) max_delete: Option<u32>,
    /// Move what would be deleted into a directory of this name at the destination instead, by the number of the job.
    #[arg(long, value_name = "NAME")]
    pub(crate) trash: Option<String>,
    /// Pause a job at this many dead letters.
    #[arg(long, value_name = "COUNT")]
    pub(crate) dead_letter_max: Option<i64>,
    /// Remove the value of this flag, or take it back to its default (repeatable).
    #[arg(long, value_name = "FLAG", value_enum)]
    pub(crate) clear: Vec<Clearable>,
}

/// Flags of `orbit schedule edit` whose values can be removed. The others always have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Clearable {
    Include,
    Exclude,
    FilesFrom,
    Checksum,
    OneFileSystem,
    MinSize,
    MaxSize,
    MaxAge,
    MinAge,
    Bwlimit,
    BwlimitAt,
    Prioritizer,
    MaxPenalties,
    InitialDelay,
    MaxDelay,
    BackoffFactor,
    Layout,
    Tag,
    Mirror,
    MaxDelete,
    Trash,
    DeadLetterMax,
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
