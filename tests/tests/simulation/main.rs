//! Simulates the whole grid: many seeds, each a separate run.
//!
//! `SEED=n cargo test -p orbit-tests --test simulation` replays one seed and prints its trace; `ORBIT_SIM_SEEDS=count`
//! is the number of random seeds after the fixed ones.

mod planted;

use orbit_tests::simulation::{self, runner};

/// Number of fixed seeds in every run of the tests.
const FIXED_SEEDS: u64 = 300;
/// Number of random seeds after them, unless the environment sets it.
const RANDOM_SEEDS: u64 = 100;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn every_seed_comes_to_rest_with_every_item_in_its_place() {
    if let Some(seed) = number("SEED") {
        let outcome = simulation::run(seed, true);
        return println!("seed {seed}: {outcome:?}");
    }
    let random = runner::random_seeds(number("ORBIT_SIM_SEEDS").unwrap_or(RANDOM_SEEDS));
    let seeds: Vec<u64> = (0..FIXED_SEEDS).chain(random).collect();
    let failures = runner::run_all(&seeds);
    assert!(failures.is_empty(), "{}", runner::report(&failures));
}

#[test]
fn one_seed_replays_one_run() {
    if number("SEED").is_some() {
        return;
    }
    for seed in [3, 17, 99] {
        assert_eq!(simulation::run(seed, false), simulation::run(seed, false), "seed {seed}");
    }
}
