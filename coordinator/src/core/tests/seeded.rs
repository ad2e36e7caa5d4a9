//! Seeded runs: random crashes, losses and failures, with every invariant checked after every turn.

use orbit_shared::session::{FailureCause, Fault};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::world::{World, failed, spec, stored, tree};
use crate::core::JobState;

const NAMES: [&str; 3] = ["star-1", "star-2", "star-3"];

fn run(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::of_three();
    world.tree = tree(rng.random_range(1..400));
    // In some worlds the destinations have something already.
    let present = world.tree.iter().filter(|_| seed.is_multiple_of(3) && rng.random_range(0..2) == 0);
    world.present = Some(present.map(|entry| entry.path.clone()).collect());
    let mut chance = StdRng::seed_from_u64(seed + 1);
    world.behaviour = Box::new(move |entry| match chance.random_range(0..20) {
        0 => failed(FailureCause::Transient, Fault::Item),
        1 => failed(FailureCause::ChecksumMismatch, Fault::Item),
        2 => failed(FailureCause::Transient, Fault::Source),
        _ => stored(entry),
    });
    let id = world.create(spec("star-1", &["star-2", "star-3"]));
    let mut process = 10;
    for _ in 0..rng.random_range(5..60) {
        let name = NAMES[rng.random_range(0..3)];
        match rng.random_range(0..12) {
            0 => {
                world.crash();
                for name in NAMES {
                    let held: Vec<_> = world.stars[name].held.keys().copied().collect();
                    world.connect(name, 1, &held);
                }
            }
            1 => {
                process += 1;
                world.connect(name, process, &[]);
            }
            2 => world.pass(rng.random_range(0..20_000)),
            3 | 4 => NAMES.iter().for_each(|name| world.heartbeat(name)),
            5 | 6 => drop(world.scan(name)),
            _ => drop(world.work(name)),
        }
    }
    // Heal: everybody comes back as a new process, and nothing fails any more.
    world.behaviour = Box::new(stored);
    for name in NAMES {
        process += 1;
        world.connect(name, process, &[]);
    }
    world.settle();
    let job = world.job(id);
    let tally = job.tally;
    assert!(job.record.state().is_end(), "seed {seed}: {:?} {tally:?} {}", job.record.state(), job.reason);
    assert_eq!(tally.total, 2 * world.tree.len() as u64, "seed {seed}");
    assert_eq!(tally.total, tally.stored + tally.skipped + tally.dead, "seed {seed}");
    let is_partial = job.record.state() == JobState::PartiallyCompleted;
    assert_eq!(is_partial, tally.dead > 0, "seed {seed}");
    world.assert_clean();
}

#[test]
fn every_seed_ends_with_every_item_in_one_place() {
    match std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => run(seed),
        None => (0..300).for_each(run),
    }
}
