//! Injected bugs: each of these faults makes some seed of a limited number fail.
//!
//! Only faults are used whose effect shows from outside, in a tree, a guard or the end of a job. The simulation of the
//! cores, which checks invariants after every step, uses all of them.

use orbit_shared::plant::{Bug, Planted};
use orbit_tests::simulation::runner;

/// Number of seeds within which a fault must show.
const SEEDS_MAX: u64 = 40;
/// Faults in the coordinator's part of the session, in its recovery, and in the Star's part.
const BUGS: [Bug; 8] = [
    Bug::PermitLeaked,
    Bug::PermitReleasedTwice,
    Bug::ReleasedItemNotQueued,
    Bug::EndForgotten,
    Bug::DequeueForgotten,
    Bug::CounterForgotten,
    Bug::DirectoriesTooEarly,
    Bug::ReportsNotSentAgain,
];

/// The seed that finds a fault, and its failure.
fn find(bug: Bug) -> Option<runner::Failure> {
    let _planted = Planted::new(bug);
    (0..SEEDS_MAX).find_map(|seed| runner::caught(seed, || crate::world::run(seed, false)).err())
}

#[test]
fn planted_bugs_that_show_from_outside_are_found() {
    if super::number("SEED").is_some() {
        return;
    }
    let found = runner::on_all_cores(&BUGS, |&bug| (bug, find(bug)));
    let mut missed = Vec::new();
    for (bug, failure) in found {
        match failure {
            Some((seed, why)) => println!("{bug:?}: seed {seed}: {why:.300}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS_MAX} seeds: {missed:?}");
}
