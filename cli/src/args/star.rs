//! Arguments of `orbit star` and `orbit guard`.

use clap::{ArgGroup, Subcommand};
use prost_types::Duration;

use crate::parse::quantity;

#[derive(Debug, Subcommand)]
pub(crate) enum StarCommand {
    /// List the Stars.
    Ls,
    /// Show one Star.
    Show(StarIdArgs),
    /// Watch all Stars: each is shown again whenever it changes.
    Watch,
    /// Send a Star no new work; what it holds ends by itself.
    Drain(DrainArgs),
    /// Keep new work away from a Star without draining it.
    Cordon(StarIdArgs),
    /// Take a cordon back.
    Uncordon(StarIdArgs),
    /// End a Star's process. Without --force it must be drained.
    Shutdown(ShutdownArgs),
    /// Let a Star receive work; takes a draining one back into service.
    Schedule(ReasonArgs),
    /// Forget a Star that is not connected, so that another may take its name.
    Remove(StarIdArgs),
}

/// One Star.
#[derive(Debug, clap::Args)]
pub(crate) struct StarIdArgs {
    /// Name of the Star.
    #[arg(value_name = "STAR")]
    pub(crate) star_id: String,
}

/// One Star, and why.
#[derive(Debug, clap::Args)]
pub(crate) struct ReasonArgs {
    /// Name of the Star.
    #[arg(value_name = "STAR")]
    pub(crate) star_id: String,
    /// Why; kept in the Star's history.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
}

/// Arguments of `orbit star drain`.
#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) star: ReasonArgs,
    /// How long its work may take; after that a bulletin says what still blocks.
    #[arg(long, value_name = "DURATION", value_parser = quantity::wire_duration)]
    pub(crate) deadline: Option<Duration>,
    /// Wait until it is drained.
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Arguments of `orbit star shutdown`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShutdownArgs {
    #[command(flatten)]
    pub(crate) star: ReasonArgs,
    /// End it although it is not drained; what it holds goes back to the queue.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GuardCommand {
    /// List the guards: what each Star holds and may hold.
    Ls,
    /// Set how much a Star may hold. A limit that is not given stays.
    Set(GuardLimitsArgs),
    /// Stop dispatch to a Star; what it holds ends by itself.
    Pause(ReasonArgs),
    /// Take a pause back.
    Resume(StarIdArgs),
}

/// Arguments of `orbit guard set`.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("limit").required(true).multiple(true))]
pub(crate) struct GuardLimitsArgs {
    /// Name of the Star.
    #[arg(value_name = "STAR")]
    pub(crate) star_id: String,
    /// Items at once.
    #[arg(long, value_name = "COUNT", group = "limit")]
    pub(crate) max_objects: Option<i64>,
    /// Bytes at once: 512M, 1GiB.
    #[arg(long, value_name = "SIZE", group = "limit", value_parser = quantity::size)]
    pub(crate) max_bytes: Option<u64>,
}
