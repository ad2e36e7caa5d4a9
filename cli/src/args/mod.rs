//! The command line. What each flag means to the grid stands in the protos; here it is said in an operator's words.

mod identity;
mod job;
mod records;
mod schedule;
mod star;
mod vault;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use orbit_identity::LocalUser;
use orbit_proto::v1::BandwidthWindow;
use prost_types::{Duration, Timestamp};

pub(crate) use self::identity::{CreateTokenArgs, IdentityCommand, JoinArgs, KeysCommand, TokenCommand};
pub(crate) use self::job::{
    CancelJobsArgs, CreateArgs, ItemsArgs, JobCommand, JobIdArgs, ListJobsArgs, PauseJobArgs, SpecArgs,
};
pub(crate) use self::records::{
    BulletinCommand, BulletinsArgs, DeadLetterCommand, DeadLetterFilter, PenaltyCommand, PenaltyFilter,
    ProvenanceArgs,
};
pub(crate) use self::schedule::{
    Clearable, CreateScheduleArgs, EditScheduleArgs, PauseScheduleArgs, ScheduleCommand, ScheduleIdArgs,
};
pub(crate) use self::star::{
    DrainArgs, GuardCommand, GuardLimitsArgs, ReasonArgs, ShutdownArgs, StarCommand, StarIdArgs,
};
pub(crate) use self::vault::{GcArgs, PruneArgs, RestoreArgs, ScrubArgs, SnapshotCommand, SnapshotFilter};
use crate::outcome::EXIT_CODES_HELP;
use crate::output::Color;
use crate::parse::{ids, paths, quantity, window};
use crate::vocabulary;

/// Moves bulk data between machines: copies trees, and shows and steers an Orbit grid.
///
/// `orbit copy SRC DST` needs no servers. Everything else talks to a coordinator.
#[derive(Debug, Parser)]
#[command(name = "orbit", version, propagate_version = true, after_help = EXIT_CODES_HELP, max_term_width = 110)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct GlobalArgs {
    /// The coordinator to talk to; https:// for one that speaks TLS, unix:/PATH for a Unix socket.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:7100")]
    pub(crate) coordinator: String,
    /// Directory of the identity for a coordinator that speaks TLS [default: that of the context in use].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) identity: Option<PathBuf>,
    /// The grid, by the name of its context: its coordinator and identity [default: the one in use; `orbit context ls`].
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "identity")]
    pub(crate) context: Option<String>,
    /// User of this machine, or @GROUP, whose servers are trusted without TLS, beside this user and root (repeatable).
    #[arg(long, global = true, value_name = "USER|@GROUP", value_delimiter = ',')]
    pub(crate) local_users: Vec<LocalUser>,
    /// Print the answers of the coordinator as JSON (canonical proto3), one object a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When tables have colours. NO_COLOR, CLICOLOR_FORCE and TERM=dumb are heard too unless this says always or never.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) color: Color,
    /// What of the log of `copy` and `demo` goes to standard error: error, warn, info, debug, or a tracing filter.
    #[arg(long, global = true, value_name = "FILTER", default_value = "error")]
    pub(crate) log: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Copy a file or a tree on this machine, with the whole grid in this process.
    Copy(CopyArgs),
    /// Show a coordinator and three Stars at work on a generated tree, in this process.
    Demo(DemoArgs),
    /// Create, watch and steer jobs.
    #[command(subcommand)]
    Job(JobCommand),
    /// Make jobs again and again, by the clock.
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Show and steer Stars.
    #[command(subcommand)]
    Star(StarCommand),
    /// Show and set how much work each Star may hold.
    #[command(subcommand)]
    Guard(GuardCommand),
    /// Show and forgive the items that failed and wait for another attempt.
    #[command(subcommand)]
    Penalties(PenaltyCommand),
    /// Show the bulletin board: what an operator should know.
    Bulletins(BulletinsArgs),
    /// Show, retry and discard the items that were given up.
    #[command(subcommand)]
    DeadLetters(DeadLetterCommand),
    /// Show what happened to what, and when.
    Provenance(ProvenanceArgs),
    /// Show, restore, compare and forget the snapshots in vaults.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Free what no snapshot in a vault needs any more.
    Gc(GcArgs),
    /// Compare what is in a vault with its hashes, and heal what is damaged.
    Scrub(ScrubArgs),
    /// Show what the health monitor advises about each Star.
    Health(HealthArgs),
    /// Copy the coordinator's state, consistently, while it works.
    Backup(BackupArgs),
    /// Get an identity for a coordinator that speaks TLS, with a join token.
    Join(JoinArgs),
    /// Show the grids that this user has joined, and choose one.
    #[command(subcommand)]
    Context(ContextCommand),
    /// Make, list and cancel join tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Replace the key that signs grants between Stars.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Show and revoke who may do what.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Show the grid on one screen: Stars, jobs, guards and the newest warnings.
    Status,
    /// Ask whether a coordinator or a Star serves, as health probes do: exits 0, or 1 with the reason.
    Ping(PingArgs),
    /// Watch the grid live on the whole terminal.
    Top(TopArgs),
    /// Follow everything that happens: bulletins, and the events of jobs and Stars, as they come.
    Events(EventsArgs),
    /// Print a script that completes this command's words in a shell.
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsArgs),
    /// Write the manual pages into a directory: of this command, its subcommands and the two servers.
    Man(ManArgs),
}

/// Arguments of `orbit context`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List the grids that this user has joined.
    Ls,
    /// Talk to this grid from now on.
    Use {
        /// Its name, as `orbit context ls` shows it.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

const COMPLETIONS_HELP: &str = "\
The script asks this command at each Tab, so that Stars, jobs, snapshots, schedules, contexts and places of the grid are \
completed too; a coordinator that does not answer within a second is passed over. The package installs it.

For bash: orbit completions bash > ~/.local/share/bash-completion/completions/orbit
For zsh:  orbit completions zsh > a directory of $fpath, as _orbit
For fish: orbit completions fish > ~/.config/fish/completions/orbit.fish";

/// Arguments of `orbit completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Arguments of `orbit man`.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Where the pages go; made if it is missing.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// Arguments of `orbit top`.
#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    /// How often to look.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = quantity::duration)]
    pub(crate) interval: std::time::Duration,
}

/// Arguments of `orbit events`.
#[derive(Debug, clap::Args)]
pub(crate) struct EventsArgs {
    /// Only about this job.
    #[arg(long, value_name = "JOB", value_parser = ids::job)]
    pub(crate) job: Option<u64>,
    /// Only about this Star.
    #[arg(long, value_name = "STAR", default_value = "")]
    pub(crate) star: String,
    /// The events of single items too, which are many.
    #[arg(long)]
    pub(crate) items: bool,
}

const BACKUP_HELP: &str = "\
The copy is made on the coordinator's machine, below its --backup-dir, and is a data directory: a coordinator that is \
started with --data-dir on it goes on from that moment.";

/// Arguments of `orbit backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = BACKUP_HELP)]
pub(crate) struct BackupArgs {
    /// Name of the backup's directory [default: made from the time].
    #[arg(value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) name: String,
}

/// Arguments of `orbit ping`.
#[derive(Debug, clap::Args)]
pub(crate) struct PingArgs {
    /// Whom to ask, a coordinator or a Star, for example http://127.0.0.1:7200 [default: the coordinator].
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// What to move and how, for `copy` as for `job create`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct SelectionArgs {
    /// Move only what matches one of these gitignore-style globs (repeatable). Every byte counts; \xNN is the byte NN.
    #[arg(long, value_name = "GLOB", value_parser = paths::glob_parser())]
    pub(crate) include: Vec<String>,
    /// Leave out what matches one of these gitignore-style globs (repeatable).
    #[arg(long, value_name = "GLOB", value_parser = paths::glob_parser())]
    pub(crate) exclude: Vec<String>,
    /// Move only the files and directories that this file names, one path below the source a line, or each ended by a NUL; - for
    /// standard input. What is not there is a dead letter.
    #[arg(long, value_name = "FILE")]
    pub(crate) files_from: Option<PathBuf>,
    /// Tell by content what is there already, and not by size, time and mode. Both ends read what they have; only hashes cross.
    #[arg(long)]
    pub(crate) checksum: bool,
    /// Do not enter directories of the source on another file system than the source: mount points. They are made, and what is in
    /// them at the destination stays.
    #[arg(long, short = 'x')]
    pub(crate) one_file_system: bool,
    /// Leave out files smaller than this: 512K, 10M, 1.5GiB, 20MB.
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) min_size: Option<u64>,
    /// Leave out files larger than this.
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    pub(crate) max_size: Option<u64>,
    /// Leave out files modified longer ago than this: 12h, 30d, or a time such as 2026-02-03T04:05:06Z.
    #[arg(long, value_name = "AGE", value_parser = quantity::time)]
    pub(crate) max_age: Option<Timestamp>,
    /// Leave out files modified more recently than this.
    #[arg(long, value_name = "AGE", value_parser = quantity::time)]
    pub(crate) min_age: Option<Timestamp>,
    /// Move at most this much a second: 10M, 1.5GiB/s, 800kB/s, or off. K, M, G, T are powers of 1024.
    #[arg(long, value_name = "RATE", value_parser = quantity::rate)]
    pub(crate) bwlimit: Option<i64>,
    /// Another limit at some time of every day, in UTC: 08:00-18:00=10M, 22:00-06:00=off (repeatable; the first that
    /// fits decides).
    #[arg(long, value_name = "FROM-TO=RATE", value_parser = window::parse)]
    pub(crate) bwlimit_at: Vec<BandwidthWindow>,
    /// What goes first; the first one that tells two items apart decides (repeatable) [default: semantic,
    /// smallest-first, oldest-first].
    #[arg(long, value_name = "CRITERION", value_parser = vocabulary::parser("Prioritizer"))]
    pub(crate) prioritizer: Vec<i32>,
    /// Give an item up at its failure with this number [default: 5].
    #[arg(long, value_name = "COUNT")]
    pub(crate) max_penalties: Option<u32>,
    /// How long an item waits after its first failure [default: 1s].
    #[arg(long, value_name = "DURATION", value_parser = quantity::wire_duration)]
    pub(crate) initial_delay: Option<Duration>,
    /// The longest that an item waits between attempts [default: 60s].
    #[arg(long, value_name = "DURATION", value_parser = quantity::wire_duration)]
    pub(crate) max_delay: Option<Duration>,
    /// Each further wait is this many times longer [default: 2].
    #[arg(long, value_name = "FACTOR")]
    pub(crate) backoff_factor: Option<f64>,
}

const COPY_HELP: &str = "\
DST becomes an image of SRC: the contents of a directory SRC appear in DST, which is created when it is missing. \
A single file goes to DST itself, or into it when DST is a directory or ends with a slash. \
What is already there unchanged is skipped; what exists only in DST stays. \
Ctrl-C cancels, and keeps what was copied.";

/// Arguments of `orbit copy`.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{COPY_HELP}\n\n{EXIT_CODES_HELP}"))]
pub(crate) struct CopyArgs {
    /// File or directory to copy.
    #[arg(value_name = "SRC")]
    pub(crate) source: PathBuf,
    /// Where it goes.
    #[arg(value_name = "DST")]
    pub(crate) destination: PathBuf,
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    #[command(flatten)]
    pub(crate) mirror: MirrorArgs,
    /// Wait while the destination is full or cannot be written, instead of ending the copy.
    #[arg(long)]
    pub(crate) wait_for_space: bool,
    /// Keep the state of the grid here instead of in a temporary directory, so that its records outlive the copy.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// What becomes of what only a destination has.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct MirrorArgs {
    /// Delete at the destination what the source does not have, once everything is copied. What include, exclude and the
    /// limits of size and age leave out stays.
    #[arg(long)]
    pub(crate) mirror: bool,
    /// Delete nothing, and fail, if more than this share of what the destination has would go [default: 25].
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100), requires = "mirror")]
    pub(crate) max_delete: Option<u32>,
    /// Move what would be deleted into a directory of this name at the destination instead, by the number of the job.
    #[arg(long, value_name = "NAME", requires = "mirror")]
    pub(crate) trash: Option<String>,
}

/// Arguments of `orbit demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Keep the generated tree, its copies and the state of the grid, and say where they are.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// Arguments of `orbit health`.
#[derive(Debug, clap::Args)]
pub(crate) struct HealthArgs {
    /// Only of this Star.
    #[arg(long, value_name = "STAR")]
    pub(crate) star: Option<String>,
    /// The last samples of this Star instead of its advisories.
    #[arg(long, value_name = "STAR", conflicts_with = "star")]
    pub(crate) history: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    fn check_variables(path: &mut Vec<String>, command: &clap::Command) {
        let mut line = vec!["orbit".to_owned()];
        line.extend(path.iter().cloned());
        line.push("--help".to_owned());
        let args = line.into_iter().map(std::ffi::OsString::from);
        let nothing = |_: &std::path::Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        let parsed =
            orbit_program::settings::parse_with_environment(Args::command(), args, |_| None, nothing);
        let help = parsed.unwrap_err().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        for long in command.get_arguments().filter_map(clap::Arg::get_long) {
            let variable = format!("[env: ORBIT_{}]", long.replace('-', "_").to_uppercase());
            assert!(help.contains(&variable), "{path:?} --{long} has no variable: {help}");
        }
        for below in command.get_subcommands() {
            path.push(below.get_name().to_owned());
            check_variables(path, below);
            path.pop();
        }
    }

    #[test]
    fn every_flag_of_every_command_has_a_variable() {
        check_variables(&mut Vec::new(), &Args::command());
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for line in ["orbit --json star ls", "orbit star ls --json", "orbit star --json ls"] {
            assert!(parse(line).unwrap().global.json, "{line}");
        }
        assert_eq!(parse("orbit status --coordinator http://h:1").unwrap().global.coordinator, "http://h:1");
    }

    #[test]
    fn a_job_has_one_source_and_destinations() {
        let args =
            parse("orbit job create a:/s b:/d c:/d --prioritizer newest-first --bwlimit 10M --wait").unwrap();
        let Some(Command::Job(JobCommand::Create(create))) = args.command else { panic!("{args:?}") };
        assert_eq!(create.spec.source.star_id, "a");
        assert_eq!(create.spec.destinations.len(), 2);
        assert_eq!(create.spec.selection.prioritizer, [5]);
        assert_eq!(create.spec.selection.bwlimit, Some(10 << 20));
        assert!(create.wait);
    }

    #[test]
    fn mistakes_are_usage_errors() {
        for line in [
            "orbit job create a:/s",
            "orbit job create a:s b:/d",
            "orbit job show seven",
            "orbit dead-letters retry",
            "orbit penalties clear",
            "orbit guard set s",
            "orbit bulletins --min-severity loud",
            "orbit job explain 7/0",
            "orbit schedule edit",
            "orbit schedule edit 1 --at 02:00 --every 6h",
            "orbit schedule edit 1 --clear every",
            "orbit copy a b --bwlimit fast",
            "orbit snapshot rm",
            "orbit snapshot restore 12ab there",
            "orbit snapshot prune --dry-run",
            "orbit gc",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
