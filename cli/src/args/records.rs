//! Arguments of the commands over what the grid records: bulletins, dead letters, penalties and provenance.

use std::time::Duration;

use clap::{ArgGroup, Subcommand};
use orbit_shared::words::ItemId;
use prost_types::Timestamp;

use crate::parse::{ids, quantity};
use crate::vocabulary;

/// Arguments of `orbit bulletins`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BulletinsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<BulletinCommand>,
    /// At least this severe.
    #[arg(long, value_name = "SEVERITY", value_parser = vocabulary::parser("Severity"))]
    pub(crate) min_severity: Option<i32>,
    /// Only about this Star; `coordinator` for the coordinator itself.
    #[arg(long, value_name = "STAR", default_value = "")]
    pub(crate) star: String,
    /// Only of this category, for example disk or lifecycle.
    #[arg(long, value_name = "CATEGORY", default_value = "")]
    pub(crate) category: String,
    /// Only about this job.
    #[arg(long, value_name = "JOB", value_parser = ids::job)]
    pub(crate) job: Option<u64>,
    /// Only after the bulletin with this number, oldest first.
    #[arg(long, value_name = "ID", value_parser = ids::bulletin, default_value_t = 0)]
    pub(crate) after: u64,
    /// Only since this time: RFC 3339, or 2h for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = quantity::time, conflicts_with = "follow")]
    pub(crate) since: Option<Timestamp>,
    /// At most this many.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub(crate) limit: i32,
    /// Go on with each new bulletin until interrupted.
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BulletinCommand {
    /// Mark bulletins as seen.
    Ack {
        /// Their numbers.
        #[arg(value_name = "ID", value_parser = ids::bulletin, required = true, num_args = 1..=1000)]
        ids: Vec<u64>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    /// List dead letters.
    Ls {
        #[command(flatten)]
        filter: DeadLetterFilter,
        /// At most this many; 0 for all.
        #[arg(long, value_name = "COUNT", default_value_t = 1000)]
        limit: u64,
    },
    /// Show one dead letter in full.
    Show {
        /// Its number.
        #[arg(value_name = "ID", value_parser = ids::dead_letter)]
        id: u64,
    },
    /// Queue the items of the chosen dead letters again. Name them, or give at least one filter.
    #[command(group = ArgGroup::new("choice").required(true).multiple(true).args(["ids", "job", "reason", "star", "item"]))]
    Retry {
        /// Their numbers, as `orbit dead-letters ls` has them.
        #[arg(value_name = "ID", value_parser = ids::dead_letter, conflicts_with_all = ["job", "reason", "star", "item"])]
        ids: Vec<u64>,
        #[command(flatten)]
        filter: DeadLetterFilter,
    },
    /// Forget the chosen dead letters; their items stay counted as dead. Name them, or give at least one filter.
    #[command(group = ArgGroup::new("choice").required(true).multiple(true).args(["ids", "job", "reason", "star", "item"]))]
    Discard {
        /// Their numbers, as `orbit dead-letters ls` has them.
        #[arg(value_name = "ID", value_parser = ids::dead_letter, conflicts_with_all = ["job", "reason", "star", "item"])]
        ids: Vec<u64>,
        #[command(flatten)]
        filter: DeadLetterFilter,
    },
}

/// Which dead letters: all conditions that are given must hold.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct DeadLetterFilter {
    /// Only of this job.
    #[arg(long, value_name = "JOB", value_parser = ids::job)]
    pub(crate) job: Option<u64>,
    /// Only with this reason.
    #[arg(long, value_name = "REASON", value_parser = vocabulary::parser("FailureReason"))]
    pub(crate) reason: Option<i32>,
    /// Only with this destination Star.
    #[arg(long, value_name = "STAR")]
    pub(crate) star: Option<String>,
    /// Only this item, for example 7/0/42.
    #[arg(long, value_name = "ITEM")]
    pub(crate) item: Option<ItemId>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PenaltyCommand {
    /// List the penalized items.
    Ls {
        /// Only of this job.
        #[arg(long, value_name = "JOB", value_parser = ids::job)]
        job: Option<u64>,
        /// At most this many; 0 for all.
        #[arg(long, value_name = "COUNT", default_value_t = 1000)]
        limit: u64,
    },
    /// Forgive items: they are eligible at once and their failures are forgotten.
    Clear(PenaltyFilter),
}

/// Arguments of `orbit penalties clear`.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("choice").required(true).multiple(true))]
pub(crate) struct PenaltyFilter {
    /// All of this job.
    #[arg(long, value_name = "JOB", value_parser = ids::job, group = "choice")]
    pub(crate) job: Option<u64>,
    /// This item, for example 7/0/42.
    #[arg(long, value_name = "ITEM", group = "choice")]
    pub(crate) item: Option<ItemId>,
}

/// Arguments of `orbit provenance`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProvenanceArgs {
    /// Only of this type.
    #[arg(long = "type", value_name = "TYPE", value_parser = vocabulary::parser("ProvenanceType"))]
    pub(crate) kind: Option<i32>,
    /// Only of this job.
    #[arg(long, value_name = "JOB", value_parser = ids::job)]
    pub(crate) job: Option<u64>,
    /// Only of this Star.
    #[arg(long, value_name = "STAR", default_value = "")]
    pub(crate) star: String,
    /// Only about this chunk: its BLAKE3 hash in hexadecimal.
    #[arg(long, value_name = "HASH", default_value = "", conflicts_with = "follow")]
    pub(crate) chunk: String,
    /// Only about this item, for example 7/0/42.
    #[arg(long, value_name = "ITEM", conflicts_with = "follow")]
    pub(crate) item: Option<ItemId>,
    /// Only since this time: RFC 3339, or 2h for two hours ago.
    #[arg(long, value_name = "TIME", value_parser = quantity::time, conflicts_with = "follow")]
    pub(crate) since: Option<Timestamp>,
    /// Only before this time.
    #[arg(long, value_name = "TIME", value_parser = quantity::time, conflicts_with = "follow")]
    pub(crate) until: Option<Timestamp>,
    /// Only with exactly this source, as star:path.
    #[arg(long, value_name = "PLACE", default_value = "", conflicts_with = "follow")]
    pub(crate) source: String,
    /// Only with exactly this destination, as star:path.
    #[arg(long, value_name = "PLACE", default_value = "", conflicts_with = "follow")]
    pub(crate) destination: String,
    /// Only the event with this number.
    #[arg(long, value_name = "ID", value_parser = ids::event, conflicts_with = "follow")]
    pub(crate) event: Option<u64>,
    /// Only about at least this many bytes, for example 1M.
    #[arg(long, value_name = "SIZE", value_parser = quantity::size, conflicts_with = "follow")]
    pub(crate) min_bytes: Option<u64>,
    /// Only about at most this many bytes.
    #[arg(long, value_name = "SIZE", value_parser = quantity::size, conflicts_with = "follow")]
    pub(crate) max_bytes: Option<u64>,
    /// Only what took at least this long, for example 500ms or 2m.
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration, conflicts_with = "follow")]
    pub(crate) min_duration: Option<Duration>,
    /// Only what took at most this long.
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration, conflicts_with = "follow")]
    pub(crate) max_duration: Option<Duration>,
    /// Only with this text in the error, in upper or lower case as given.
    #[arg(long, value_name = "TEXT", default_value = "", conflicts_with = "follow")]
    pub(crate) error: String,
    /// Only with an error (true), or only without one (false).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", conflicts_with = "follow")]
    pub(crate) has_error: Option<bool>,
    /// At most this many; 0 for all.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub(crate) limit: u64,
    /// Show each new event until interrupted.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// With --follow: start after the event with this number instead of with the next one.
    #[arg(long, value_name = "ID", value_parser = ids::event, default_value_t = 0, requires = "follow")]
    pub(crate) after: u64,
}
