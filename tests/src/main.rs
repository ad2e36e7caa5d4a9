//! `orbit-tests soak`: the tests that find more the longer they run, for any length of time.

use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use orbit_tests::simulation::runner;

/// Number of seeds between two checks of the clock.
const SEEDS_PER_ROUND: u64 = 5000;
/// Number of kills of real processes in each round.
const KILLS_PER_ROUND: &str = "200";

/// Runs the tests of Orbit Grid for longer than a test run has time for.
#[derive(Debug, Parser)]
#[command(name = "orbit-tests")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Simulate seeds that no run has had, and kill real processes, in turns; ends at the first failure
    Soak {
        /// For so long
        #[arg(long, default_value_t = 1.0)]
        hours: f64,
        /// Simulate only; killing real processes compiles the programs first
        #[arg(long)]
        no_kills: bool,
    },
}

fn main() -> ExitCode {
    let Task::Soak { hours, no_kills } = Arguments::parse().command;
    let Ok(time) = Duration::try_from_secs_f64(hours * 3600.0) else {
        say(&format!("error: --hours {hours} is no time"));
        return ExitCode::from(2);
    };
    soak(time, !no_kills)
}

#[expect(clippy::disallowed_methods, reason = "how long to go on is what this program is told")]
fn soak(time: Duration, is_killing: bool) -> ExitCode {
    let start = Instant::now();
    let mut seeds = 0;
    while start.elapsed() < time {
        let round: Vec<u64> = runner::random_seeds(SEEDS_PER_ROUND).collect();
        let failures = runner::run_all(&round);
        if !failures.is_empty() {
            say(&runner::report(&failures));
            return ExitCode::FAILURE;
        }
        seeds += SEEDS_PER_ROUND;
        say(&format!("{} s: {seeds} seeds passed", start.elapsed().as_secs()));
        if is_killing && !kill() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// One round of the kill loop, as in the tests. It prints its own failures.
fn kill() -> bool {
    let mut command = Command::new("cargo");
    command.args(["test", "-p", "orbit-tests", "--test", "faults", "kills", "--", "--nocapture"]);
    match command.env("ORBIT_TEST_KILLS", KILLS_PER_ROUND).status() {
        Ok(status) => status.success(),
        Err(error) => {
            say(&format!("error: cargo cannot be started: {error}"));
            false
        }
    }
}

fn say(text: &str) {
    // Without a reader it continues; the exit code is the result.
    let _ = writeln!(std::io::stdout(), "{text}");
}
