//! Guards: a Star never holds more than it may, and what it held comes back exactly once.

use super::world::{World, spec, star_id};
use crate::core::{Command, JobState, Refusal};

#[test]
fn a_star_never_holds_more_items_than_its_guard_admits() {
    let mut world = World::of_three();
    let limits = |count| Command::SetGuardLimits {
        star: star_id("star-2"),
        max_object_count: Some(count),
        max_byte_size: None,
    };
    world.command(limits(3)).expect("sets");
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    loop {
        let held: usize = world.stars["star-2"].held.values().map(|assignment| assignment.items.len()).sum();
        assert!(held <= 3, "{held} items at once");
        if !world.work("star-2") {
            break;
        }
    }
    assert_eq!(world.job(id).record.state(), JobState::Completed);
}

#[test]
fn an_item_larger_than_the_byte_limit_passes_an_empty_guard() {
    let mut world = World::of_three();
    let command =
        Command::SetGuardLimits { star: star_id("star-2"), max_object_count: None, max_byte_size: Some(10) };
    world.command(command).expect("sets");
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
}

#[test]
fn limits_that_make_no_sense_are_refused_by_field() {
    let mut world = World::of_three();
    let command = Command::SetGuardLimits {
        star: star_id("star-2"),
        max_object_count: Some(0),
        max_byte_size: Some(u64::MAX),
    };
    let Err(Refusal::Invalid(violations)) = world.command(command) else { panic!("accepted") };
    let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["max_object_count", "max_byte_size"]);
}

#[test]
fn a_paused_guard_stops_dispatch_and_a_resumed_one_goes_on() {
    let mut world = World::of_three();
    let pause = Command::PauseGuard { star: star_id("star-2"), reason: "backup window".to_owned() };
    world.command(pause).expect("pauses");
    let id = world.create(spec("star-1", &["star-2", "star-3"]));
    world.settle();
    assert_eq!(world.job(id).tally.stored, 11, "the other destination is served");
    world.crash();
    for name in ["star-1", "star-2", "star-3"] {
        world.connect(name, 1, &[]);
    }
    world.settle();
    assert_eq!(world.job(id).tally.stored, 11, "the pause survives a restart");
    world.command(Command::ResumeGuard { star: star_id("star-2") }).expect("resumes");
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
}

#[test]
fn a_cordoned_star_is_given_nothing_new() {
    let mut world = World::of_three();
    world.command(Command::CordonStar { star: star_id("star-2"), is_cordoned: true }).expect("cordons");
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.given, []);
    assert!(world.job(id).reason.contains("star-2 is cordoned"), "{}", world.job(id).reason);
    world.command(Command::CordonStar { star: star_id("star-2"), is_cordoned: false }).expect("uncordons");
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
}

#[test]
fn two_jobs_for_one_star_share_it() {
    let mut world = World::of_three();
    world.tree = super::world::tree(2000);
    let first = world.create(spec("star-1", &["star-2"]));
    let mut other = spec("star-1", &["star-2"]);
    other.destinations[0].path = b"/data/other".to_vec();
    let second = world.create(other);
    world.scan("star-1");
    world.scan("star-1");
    for _ in 0..8 {
        world.work("star-2");
    }
    let (first, second) = (world.job(first).in_flight, world.job(second).in_flight);
    assert!(
        2 * first.min(second) > first.max(second),
        "{first} and {second} items in flight: the one that had less is served first"
    );
}
