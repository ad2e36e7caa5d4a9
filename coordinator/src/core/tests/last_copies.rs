//! Who drains, shuts down or removes a Star with the only copy of a snapshot is warned.

use super::vaults::{packed, said};
use super::world::{World, star_id};
use crate::core::Command;

const WARNING: &str = "it has the only copy of";

fn drain(star: &str) -> Command {
    Command::DrainStar { star: star_id(star), reason: String::new(), deadline: None }
}

fn warnings(world: &World, star: &str) -> Vec<String> {
    world.core.departure_warnings(world.core.star(&star_id(star)).expect("known"))
}

#[test]
fn the_drain_of_the_only_copy_is_warned_of_until_the_star_is_taken_back() {
    let mut world = World::of_three();
    for _ in 0..7 {
        world.create(packed("star-1", &["star-2"]));
    }
    world.settle();
    world.command(drain("star-2")).expect("drains");
    let [warning] = &warnings(&world, "star-2")[..] else { panic!("one warning") };
    assert!(warning.contains("the only copy of 7 snapshots") && warning.contains("and 2 more"), "{warning}");
    let newest = world.core.snapshots()[0].info.id.to_string();
    assert!(warning.contains(&newest) && warning.contains("star-1:/data"), "{warning}");
    assert_eq!(said(&world, WARNING), (1, 1));
    let schedule = Command::ScheduleStar { star: star_id("star-2"), reason: String::new() };
    world.command(schedule).expect("taken back");
    assert_eq!(said(&world, WARNING), (1, 0));
    assert_eq!(warnings(&world, "star-2"), Vec::<String>::new());
    // What has no snapshot leaves without a warning.
    world.command(drain("star-3")).expect("drains");
    assert_eq!(said(&world, WARNING), (1, 0));
}

#[test]
fn a_copy_at_a_star_that_stays_is_enough_and_one_that_leaves_too_is_none() {
    let mut world = World::of_three();
    world.create(packed("star-1", &["star-2", "star-3"]));
    world.settle();
    world.command(drain("star-2")).expect("drains");
    assert_eq!(said(&world, WARNING), (0, 0), "star-3 has a copy");
    world.command(drain("star-3")).expect("drains");
    assert_eq!(said(&world, "star-3 is draining, and it has the only copy of 1 snapshot"), (1, 1));
    assert_eq!(warnings(&world, "star-2").len(), 1, "now nothing of it stays");
}

#[test]
fn vaults_of_an_earlier_version_have_copies_of_what_one_job_stored() {
    let mut world = World::of_three();
    world.create(packed("star-1", &["star-2", "star-3"]));
    world.settle();
    for (star, process) in [("star-2", 2), ("star-3", 3)] {
        world.vaults.get_mut(star).expect("a vault").iter_mut().for_each(|info| info.tree_hash = None);
        world.disconnect(star);
        world.connect(star, process, &[]);
        world.settle();
        world.command(drain("star-2")).expect("drains");
        assert_eq!(warnings(&world, "star-2"), Vec::<String>::new(), "{star}");
        let schedule = Command::ScheduleStar { star: star_id("star-2"), reason: String::new() };
        world.command(schedule).expect("taken back");
    }
    // Another job of the same source is no copy.
    world.create(packed("star-1", &["star-2"]));
    world.settle();
    world.command(drain("star-2")).expect("drains");
    assert!(warnings(&world, "star-2")[0].contains("the only copy of 1 snapshot:"));
}

#[test]
fn a_forced_end_and_a_removal_are_warned_of_and_a_restart_takes_the_warning_back() {
    let mut world = World::of_three();
    world.create(packed("star-1", &["star-2"]));
    world.settle();
    let shutdown = Command::ShutdownStar { star: star_id("star-2"), reason: String::new(), force: true };
    world.command(shutdown).expect("shuts down");
    assert_eq!(said(&world, "star-2 is shut down, and it has the only copy"), (1, 1));
    world.disconnect("star-2");
    world.connect("star-2", 2, &[]);
    world.settle();
    assert_eq!(said(&world, "star-2 is shut down, and it has the only copy"), (1, 0));
    world.command(drain("star-2")).expect("drains");
    let shutdown = Command::ShutdownStar { star: star_id("star-2"), reason: String::new(), force: false };
    world.command(shutdown).expect("is drained");
    assert_eq!(said(&world, "star-2 is draining, and it has the only copy"), (1, 1), "once is enough");
    world.disconnect("star-2");
    assert!(world.core.last_copy_warning(&star_id("star-2")).is_some());
    world.command(Command::RemoveStar { star: star_id("star-2") }).expect("removed");
    assert_eq!(said(&world, "star-2 was removed from the grid, and it has the only copy"), (1, 1));
    assert!(world.core.last_copy_warning(&star_id("star-2")).is_none());
    let answered = world.core.removal_warning(&star_id("star-2"));
    assert!(answered.is_some_and(|text| text.contains("the only copy of 1 snapshot")));
    assert_eq!(world.core.removal_warning(&star_id("star-3")), None);
}
