//! Copies the same trees with `orbit copy` and with rsync from a local daemon, in turns, on this machine, and prints the
//! medians side by side. Every copy is compared with its source before its time counts.
//!
//! What the numbers are not: both programs run on one machine and share its cores and its disk, so they say how much
//! work a copy is, not how a network is filled. rsync does not sync what it writes and Orbit Grid does, so the time
//! until everything is on the disk is measured for both as well.

mod data_set;
mod measure;
mod peers;
mod report;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use data_set::DataSet;
use peers::Peer;
use report::Report;

/// Compares Orbit Grid with rsync on this machine.
#[derive(Debug, Parser)]
#[command(name = "compare")]
struct Arguments {
    /// Data sets to copy: S is 50,000 files of 1 to 16 KiB, L is 4 files of 512 MiB
    #[arg(long, value_delimiter = ',', default_value = "S,L")]
    sets: Vec<DataSet>,
    /// Copies by each program of each set
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Part of the full size of a set, for a quick look
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Directory for the data, on the disk to measure; a temporary one if not given
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The `orbit` to measure; the one beside this program if not given, built when it is missing
    #[arg(long)]
    orbit: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(text) => {
            // A reader that has gone away wants no more.
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
    let failed = |error: std::io::Error| format!("--directory: {error}");
    let mut builder = tempfile::Builder::new();
    builder.prefix("orbit-compare-");
    let directory = match &arguments.directory {
        Some(parent) => builder.tempdir_in(parent),
        None => builder.tempdir(),
    };
    let directory = directory.map_err(failed)?;
    let peers = [Peer::rsync()?, Peer::orbit(arguments.orbit)?];
    let mut report = Report::default();
    for set in arguments.sets {
        let source = directory.path().join(format!("{set:?}"));
        progress(&format!("generating {set:?}"));
        let size = set.generate(&source, arguments.scale).map_err(failed)?;
        report.begin(set, size);
        for round in 0..arguments.runs {
            let mut order = [&peers[0], &peers[1]];
            // Whoever goes second finds a warmer machine.
            if round % 2 == 1 {
                order.reverse();
            }
            for peer in order {
                progress(&format!("{set:?}, run {}: {}", round + 1, peer.name()));
                report.add(peer.name(), peer.copy(&source, directory.path())?);
            }
        }
        std::fs::remove_dir_all(&source).map_err(failed)?;
    }
    Ok(if arguments.json { report.to_json() } else { report.to_table() })
}

/// What goes on is told on standard error, so that standard output is the result alone.
fn progress(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
