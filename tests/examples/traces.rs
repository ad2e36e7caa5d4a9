//! Prints the hash of the events of many simulated runs, one line for each seed.
//!
//! `cargo run -p orbit-tests --example traces -- 10000 > before`, make a change that must not affect the coordinator's
//! decisions, run it again and compare: equal lines mean that the same events happened in the same order.

use std::io::Write;

use orbit_tests::simulation::runner;

/// Number of seeds that are run unless the command line sets it.
const SEEDS: u64 = 1000;

fn main() -> std::io::Result<()> {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let seeds: Vec<u64> = (0..count).collect();
    let mut out = std::io::stdout().lock();
    for result in runner::on_all_cores(&seeds, |&seed| (seed, runner::run_one(seed))) {
        match result {
            (seed, Ok(outcome)) => {
                writeln!(out, "{seed} {:016x} {} steps", outcome.trace_hash, outcome.steps)?;
            }
            (seed, Err((_, why))) => writeln!(out, "{seed} failed: {}", why.replace('\n', " "))?,
        }
    }
    Ok(())
}
