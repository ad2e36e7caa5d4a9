//! Injected bugs: each fault makes some seed of a limited number fail, and without a fault the same seeds pass.
//!
//! This shows the value of the simulation: a suite that finds nothing because there is nothing to find looks the same
//! as one that does not look. `BUG=name` limits the search to one fault.

use orbit_shared::plant::{Bug, Planted};
use orbit_tests::simulation::runner;

/// Number of seeds that must pass without a fault.
const SEEDS_MAX: u64 = 2000;
/// Number of seeds within which a fault must show. Most show in the first few; a fault that needs two rare events at
/// once takes longer.
const SEEDS_TO_FIND: u64 = 4000;

/// The seed that finds a fault, and its failure.
fn find(bug: Bug) -> Option<runner::Failure> {
    let planted = Planted::new(bug);
    let (seed, why) = (0..SEEDS_TO_FIND).find_map(|seed| runner::run_one(seed).err())?;
    drop(planted);
    if let Err((_, why)) = runner::run_one(seed) {
        panic!("seed {seed} fails without {bug:?} as well: {why}");
    }
    Some((seed, why))
}

#[test]
fn every_planted_bug_is_found() {
    if super::number("SEED").is_some() {
        return;
    }
    let is_left_out = |bug: &Bug| std::env::var("BUG").is_ok_and(|name| name != format!("{bug:?}"));
    let bugs: Vec<Bug> = Bug::ALL.into_iter().filter(|bug| !is_left_out(bug)).collect();
    let found = runner::on_all_cores(&bugs, |&bug| {
        let failure = find(bug);
        if let Some((seed, why)) = &failure {
            println!("{bug:?}: seed {seed}: {}", first_line(why));
        }
        (bug, failure)
    });
    let missed: Vec<Bug> =
        found.iter().filter(|(_, failure)| failure.is_none()).map(|(bug, _)| *bug).collect();
    assert!(missed.is_empty(), "not found within {SEEDS_TO_FIND} seeds: {missed:?}");
}

#[test]
fn the_same_seeds_pass_without_a_planted_bug() {
    if super::number("SEED").is_some() {
        return;
    }
    let seeds: Vec<u64> = (0..SEEDS_MAX).collect();
    let failures = runner::run_all(&seeds);
    assert!(failures.is_empty(), "{}", runner::report(&failures));
}

/// The text of a panic, without its place.
fn first_line(why: &str) -> String {
    why.lines().skip(1).take(1).collect()
}
