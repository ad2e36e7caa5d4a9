//! The real coordinator and the real Stars, including services, drivers, data plane and disks, over a simulated network
//! that fails: many seeds, each a separate run.
//!
//! A seed decides the tree, the settings and the faults, and its run must end with the job completed and equal trees.
//! It is no exact replay: disk jobs run on threads, identities and keys are random. `SEED=n cargo test -p orbit-tests
//! --test turmoil -- --nocapture` runs the schedule of one seed again, with a trace; `ORBIT_TURMOIL_SEEDS=n` is the
//! number of seeds.
//!
//! The simulation of the cores (`simulation`) replays exactly, checks invariants after every step and takes far more
//! seeds; real processes (`faults`) are really killed and use real time. This suite tests the code between the two:
//! services, keepalive, reconnects, pulls that break off, drivers.

mod faults;
mod hosts;
mod network;
mod planted;
mod world;

use std::time::Duration;

use orbit_tests::simulation::runner;

/// Number of seeds in one run, unless the environment sets it. The first half is the same in every run.
const SEEDS: u64 = 50;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_job_is_completed_once_its_network_and_its_programs_work_again() {
    if let Some(seed) = number("SEED") {
        // The time of a line is that of the simulation, which the faults between them show.
        let filter = tracing_subscriber::EnvFilter::new("info,turmoil=off");
        tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false).init();
        let outcome = world::run(seed, true);
        return println!("seed {seed}: {outcome:?}");
    }
    let count = number("ORBIT_TURMOIL_SEEDS").unwrap_or(SEEDS);
    let random = runner::random_seeds(count / 2);
    let seeds: Vec<u64> = (0..count.div_ceil(2)).chain(random).collect();
    let outcomes = runner::on_all_cores(&seeds, |&seed| runner::caught(seed, || world::run(seed, false)));
    let (mut failures, mut elapsed, mut longest) = (Vec::new(), Duration::ZERO, (Duration::ZERO, 0));
    for (outcome, seed) in outcomes.into_iter().zip(seeds) {
        match outcome {
            Ok(outcome) => {
                elapsed += outcome.elapsed;
                longest = longest.max((outcome.mended, seed));
            }
            Err(failure) => failures.push(failure),
        }
    }
    let (mended, seed) = longest;
    println!(
        "{count} seeds, {elapsed:?} of simulated time; the last job ended {mended:?} after all was mended (seed {seed})"
    );
    assert!(failures.is_empty(), "{}", runner::report_of("turmoil", &failures));
}
