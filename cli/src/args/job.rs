//! Arguments of `orbit job`.

use clap::Subcommand;
use orbit_proto::v1::Location;
use orbit_shared::words::ItemId;

use super::{MirrorArgs, SelectionArgs};
use crate::outcome::EXIT_CODES_HELP;
use crate::parse::{ids, location};
use crate::vocabulary;

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Create a job that copies a tree from one Star to others.
    Create(Box<CreateArgs>),
    /// Say what such a job would do, without doing it: what would move where, how long that takes, and whether it fits.
    Plan(Box<SpecArgs>),
    /// List jobs, newest first.
    Ls(ListJobsArgs),
    /// Show one job.
    Show(JobIdArgs),
    /// Watch a job until it ends; exits as `job create --wait` does.
    #[command(after_help = EXIT_CODES_HELP)]
    Watch(JobIdArgs),
    /// Stop dispatching a job's items; what is in flight ends by itself.
    Pause(PauseJobArgs),
    /// Let a paused job go on.
    Resume(JobIdArgs),
    /// End jobs. What was stored stays.
    Cancel(CancelJobsArgs),
    /// List a job's items with their states.
    Items(ItemsArgs),
    /// Say where one item is, what holds it, and when it can move.
    Explain(ExplainArgs),
}

/// What a job is to do.
#[derive(Debug, clap::Args)]
pub(crate) struct SpecArgs {
    /// Where the tree or single file is read, for example star-1:/data/photos.
    #[arg(value_name = "SRC", value_parser = location::parser())]
    pub(crate) source: Location,
    /// Where it goes: one or more places, for example star-2:/backup/photos.
    #[arg(value_name = "DST", value_parser = location::parser(), required = true)]
    pub(crate) destinations: Vec<Location>,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// In which form the destinations keep it [default: files].
    #[arg(long, value_name = "LAYOUT", value_parser = vocabulary::parser("Layout"))]
    pub(crate) layout: Option<i32>,
    /// A word for the snapshots that a packed job makes (repeatable).
    #[arg(long, value_name = "TEXT")]
    pub(crate) tag: Vec<String>,
    #[command(flatten)]
    pub(crate) mirror: MirrorArgs,
    /// Pause the job at this many dead letters [default: 10000].
    #[arg(long, value_name = "COUNT")]
    pub(crate) dead_letter_max: Option<i64>,
}

/// Arguments of `orbit job create`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES_HELP)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    /// A name for this request: creating again with the same one answers with the same job.
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
    /// Watch the job until it ends. Ctrl-C ends the watching, not the job.
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Arguments of `orbit job ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListJobsArgs {
    /// Only jobs in this state (repeatable).
    #[arg(long, value_name = "STATE", value_parser = vocabulary::parser("JobState"))]
    pub(crate) state: Vec<i32>,
    /// At most this many; 0 for all.
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub(crate) limit: u64,
}

/// One job.
#[derive(Debug, clap::Args)]
pub(crate) struct JobIdArgs {
    /// Number of the job.
    #[arg(value_name = "JOB", value_parser = ids::job)]
    pub(crate) job_id: u64,
}

/// One job, and why it is stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct PauseJobArgs {
    /// Number of the job.
    #[arg(value_name = "JOB", value_parser = ids::job)]
    pub(crate) job_id: u64,
    /// Why; shown with the job.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

/// Jobs, and why they are ended.
#[derive(Debug, clap::Args)]
pub(crate) struct CancelJobsArgs {
    /// Numbers of the jobs.
    #[arg(value_name = "JOB", value_parser = ids::job, required = true)]
    pub(crate) job_ids: Vec<u64>,
    /// Why; shown with the jobs.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

/// Arguments of `orbit job items`.
#[derive(Debug, clap::Args)]
pub(crate) struct ItemsArgs {
    /// Number of the job.
    #[arg(value_name = "JOB", value_parser = ids::job)]
    pub(crate) job_id: u64,
    /// Only items in this state (repeatable).
    #[arg(long, value_name = "STATE", value_parser = vocabulary::parser("ItemState"))]
    pub(crate) state: Vec<i32>,
    /// At most this many; 0 for all.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub(crate) limit: u64,
}

/// Arguments of `orbit job explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The item, for example 7/0/42; `orbit job items JOB` lists them.
    #[arg(value_name = "ITEM")]
    pub(crate) item_key: ItemId,
}
