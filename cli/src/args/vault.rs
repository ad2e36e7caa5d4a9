//! Arguments of the commands over vaults: snapshots, garbage and scrubs.

use clap::{ArgGroup, Subcommand};
use orbit_proto::v1::Location;

use crate::outcome::EXIT_CODES_HELP;
use crate::parse::{location, paths, quantity};

/// A path of any bytes. By this name, since clap takes a `Vec` for a list of values.
pub(crate) type BytesPath = Vec<u8>;

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// List snapshots, newest first.
    Ls {
        #[command(flatten)]
        filter: SnapshotFilter,
        /// At most this many; 0 for all.
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: u64,
    },
    /// Show one snapshot, and the first entries of its tree.
    Show {
        /// Its name, the beginning of it, `latest`, or `latest:PATH`: the latest of that source, or a path in the latest.
        #[arg(value_name = "SNAPSHOT")]
        snapshot: String,
        /// Only this path of its tree and what is below it.
        #[arg(value_name = "PATH", default_value = "", hide_default_value = true, value_parser = paths::path_parser())]
        path: BytesPath,
        /// At most this many entries; 0 for all.
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: u64,
    },
    /// Copy a snapshot, or a part of it, back to files.
    #[command(after_help = EXIT_CODES_HELP)]
    Restore(Box<RestoreArgs>),
    /// Forget snapshots. `orbit gc` then frees what nothing else needs.
    Rm {
        /// Their names, or the beginnings of them.
        #[arg(value_name = "SNAPSHOT", required = true)]
        snapshots: Vec<String>,
    },
    /// Bring back deleted snapshots, while a collection has taken none of their content.
    Undelete {
        /// Their whole names, as `orbit snapshot rm` has shown them.
        #[arg(value_name = "SNAPSHOT", required = true)]
        snapshots: Vec<String>,
        /// The Star whose vault has them; by default every connected vault is asked.
        #[arg(long, value_name = "STAR", default_value = "", hide_default_value = true)]
        star: String,
    },
    /// Say what differs between two snapshots: + added, - removed, M other content, m other mode, time or kind.
    Diff {
        /// The older one.
        #[arg(value_name = "OLD")]
        old: String,
        /// The newer one.
        #[arg(value_name = "NEW")]
        new: String,
    },
    /// Write one file of a snapshot to standard output.
    Cat {
        /// The snapshot.
        #[arg(value_name = "SNAPSHOT")]
        snapshot: String,
        /// The file's path in its tree; not needed behind `latest:PATH`.
        #[arg(value_name = "PATH", value_parser = paths::path_parser())]
        path: Option<BytesPath>,
    },
    /// Forget the snapshots that no rule keeps, and say of each one why. Rules look at each vault and source by itself, and
    /// count partial snapshots apart: none of them takes the place of a whole one.
    #[command(group = ArgGroup::new("rule").required(true).multiple(true).args([
        "keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly", "keep_tag",
    ]))]
    Prune(PruneArgs),
}

/// Which snapshots.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct SnapshotFilter {
    /// Only those in the vault of this Star.
    #[arg(long, value_name = "STAR", default_value = "", hide_default_value = true)]
    pub(crate) star: String,
    /// Only those that were read from here, for example star-1:/data/photos.
    #[arg(long, value_name = "SOURCE", value_parser = location::parser())]
    pub(crate) source: Option<Location>,
    /// Only those with this tag (repeatable; all of them count).
    #[arg(long, value_name = "TEXT")]
    pub(crate) tag: Vec<String>,
}

/// Arguments of `orbit snapshot restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The snapshot: its name, the beginning of it, `latest`, or `latest:PATH` (the latest of that source, or a path in it).
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,
    /// Where it goes, for example star-2:/data/back.
    #[arg(value_name = "DST", value_parser = location::parser())]
    pub(crate) destination: Location,
    /// Only this path of its tree and what is below it.
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true, value_parser = paths::path_parser())]
    pub(crate) path: BytesPath,
    /// Take a file that is there for unchanged by its size, time and mode, and not by its content.
    #[arg(long)]
    pub(crate) no_checksum: bool,
    /// Restore only what matches one of these gitignore-style globs (repeatable).
    #[arg(long, value_name = "GLOB", value_parser = paths::glob_parser())]
    pub(crate) include: Vec<String>,
    /// Leave out what matches one of these gitignore-style globs (repeatable).
    #[arg(long, value_name = "GLOB", value_parser = paths::glob_parser())]
    pub(crate) exclude: Vec<String>,
    /// Move at most this much a second, as in `orbit job create`.
    #[arg(long, value_name = "RATE", value_parser = quantity::rate)]
    pub(crate) bwlimit: Option<i64>,
    /// A name for this request: asking again with the same one answers with the same job.
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,
    /// Watch the job until it ends. Ctrl-C ends the watching, not the job.
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Arguments of `orbit snapshot prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    pub(crate) filter: SnapshotFilter,
    /// Keep the newest so many.
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    pub(crate) keep_last: u32,
    /// Keep the newest of each of the last so many hours that have one.
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    pub(crate) keep_hourly: u32,
    /// The same of days; days, weeks, months and years are those of UTC.
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    pub(crate) keep_daily: u32,
    /// The same of weeks.
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    pub(crate) keep_weekly: u32,
    /// The same of months.
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    pub(crate) keep_monthly: u32,
    /// The same of years.
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    pub(crate) keep_yearly: u32,
    /// Keep those with this tag (repeatable; any of them counts).
    #[arg(long, value_name = "TEXT")]
    pub(crate) keep_tag: Vec<String>,
    /// Say what would go and why, and delete nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask. Without it a terminal is asked, and a script is refused.
    #[arg(long)]
    pub(crate) yes: bool,
}

const GC_HELP: &str = "\
What no snapshot needs stays for an undo window of a day. The collection goes on beside everything else; interrupting \
this command does not end it.";

/// Arguments of `orbit gc`.
#[derive(Debug, clap::Args)]
#[command(after_help = GC_HELP)]
pub(crate) struct GcArgs {
    /// The Star whose vault it is.
    #[arg(value_name = "STAR")]
    pub(crate) star: String,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Take also what was dropped so lately that it could be wanted back.
    #[arg(long)]
    pub(crate) ignore_undo_window: bool,
}

/// Arguments of `orbit scrub`.
#[derive(Debug, clap::Args)]
pub(crate) struct ScrubArgs {
    /// The Star whose vault it is.
    #[arg(value_name = "STAR")]
    pub(crate) star: String,
    /// Check everything, and not only what was not checked for long.
    #[arg(long)]
    pub(crate) all: bool,
    /// Read at most this much a second, as in `orbit job create`.
    #[arg(long, value_name = "RATE", value_parser = quantity::rate)]
    pub(crate) bwlimit: Option<i64>,
}
