//! The real coordinator and the real Stars, services, drivers, data plane and disks included, over a simulated network
//! that fails: many seeds, each a run of its own.
//!
//! A seed decides the tree, the settings and the faults, and its run must end with the job completed and the trees alike.
//! It is not a replay to the byte: disk jobs run on threads, identities and keys are random. `SEED=n cargo test -p
//! orbit-tests --test turmoil -- --nocapture` runs the schedule of one seed again, with a trace; `ORBIT_TURMOIL_SEEDS=n`
//! says how many seeds to take.
//!
//! The simulation of the cores (`simulation`) replays exactly, looks inside after every step and takes far more seeds; real
//! processes (`faults`) die for good and keep real time. Here the code between the two is tried: services, keepalive,
//! reconnects, pulls that break off, drivers.

mod faults;
mod hosts;
mod network;
mod planted;
mod world;

use std::time::Duration;

use orbit_tests::simulation::runner;

/// Seeds of one run, unless the environment says otherwise. The first half is the same in every run.
const SEEDS: u64 = 50;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_job_is_completed_once_its_network_and_its_programs_work_again() {
    if let Some(seed) = number("SEED") {
        // The time of a line is the simulation's, which the faults between them tell.
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
