//! Sends the same trees with Orbit Grid and with the programs that people use today, in turns, on this machine, and
//! prints the medians side by side, with the limits of the machine and with the targets. Every copy is compared with
//! its source before its cost counts.
//!
//! The meaning of the numbers is limited: everything runs on one machine and shares its cores and its disk, so they
//! show how much work a copy is, not how well a network is used. Most programs do not sync what they write and Orbit
//! Grid does, so the time until everything is on the disk is measured for all as well.

mod chart;
mod comparison;
mod data_set;
mod fresh_disk;
mod isolation;
mod limits;
mod measure;
mod peers;
mod plane;
mod programs;
mod report;
mod secured;
mod service;
mod targets;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum as _};

use comparison::Plan;
use data_set::{DataSet, Recipe};
use peers::Peer;
use programs::Programs;

/// Compares Orbit Grid with other programs and with the limits of this machine.
#[derive(Debug, Parser)]
#[command(name = "compare")]
struct Arguments {
    /// Data sets to send: S is 50,000 files of 1 to 16 KiB, L is 4 files of 512 MiB, D is 20 versions of a tree of
    /// 100 MiB, M is a real tree, S1M is 1,000,000 small files
    #[arg(long, value_delimiter = ',', default_value = "S,L,D,M", ignore_case = true)]
    sets: Vec<DataSet>,
    /// Programs to compare; all if not given
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// How often each program sends each set
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Part of the full size of a generated set, for a quick look
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// The real tree of set M; the Rust toolchain if not given
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,
    /// Let files of D that do not change keep their modification times; otherwise every version is rewritten
    #[arg(long)]
    keep_times: bool,
    /// Directory for the data, on the disk to measure; a temporary one if not given
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Directory of the programs of Orbit Grid; those of this build if not given, built when they are missing
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Seconds for which the file system is left alone after the copies of a round were removed
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    rest: u64,
    /// Make a new disk of this many GiB for every copy, in a file in the directory, so that no copy is slowed down by
    /// earlier ones; as root
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=1024))]
    fresh_disk: Option<u64>,
    /// Install the Debian packages of programs that are missing, as root
    #[arg(long)]
    install: bool,
    /// Measure on the loopback interface of the machine even where one of its own could be had
    #[arg(long)]
    shared_network: bool,
    /// Leave the limits of the machine out
    #[arg(long)]
    no_limits: bool,
    /// Print the targets too, and whether they are met
    #[arg(long)]
    targets: bool,
    /// Print JSON instead of tables, with every single run
    #[arg(long)]
    json: bool,
    /// Also draw the wall times into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(text) => {
            // If the reader has gone away, it needs no more output.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<String, String> {
    if !(arguments.scale > 0.0 && arguments.scale <= 10.0) {
        return Err(format!("--scale {} must be more than 0 and at most 10", arguments.scale));
    }
    let peers =
        if arguments.peers.is_empty() { Peer::value_variants().to_vec() } else { arguments.peers.clone() };
    let required: Vec<_> = peers.iter().filter_map(|peer| peer.requirement()).collect();
    programs::require(&required, arguments.install)?;
    let programs = Programs::find(arguments.programs.clone())?;
    // After everything that needs the network of the machine.
    let is_network_own = isolation::is_isolated();
    if !is_network_own && !arguments.shared_network && isolation::can_isolate() {
        return Err(isolation::isolate(programs.directory()));
    }
    let failed = |error: std::io::Error| format!("--directory: {error}");
    let mut builder = tempfile::Builder::new();
    builder.prefix("orbit-compare-");
    let directory = match &arguments.directory {
        Some(parent) => builder.tempdir_in(parent),
        None => builder.tempdir(),
    };
    let directory = directory.map_err(failed)?;
    let plan = Plan {
        sets: arguments.sets,
        peers,
        runs: arguments.runs,
        recipe: Recipe { scale: arguments.scale, keeps_times: arguments.keep_times, tree: arguments.tree },
        has_limits: !arguments.no_limits,
        rest: Duration::from_secs(arguments.rest),
        disk_gibibytes: arguments.fresh_disk,
    };
    let mut report = comparison::run(&plan, &programs, directory.path())?;
    report.is_network_own = is_network_own;
    if let Some(path) = &arguments.svg {
        chart::draw(&report, path)?;
    }
    Ok(if arguments.json { report.to_json() } else { report.to_table(arguments.targets) })
}
