//! Yield: an outage of a Star costs its items nothing, and holds up nobody else.

use std::cell::Cell;
use std::rc::Rc;

use orbit_shared::entry::Entry;
use orbit_shared::session::{FailureCause, Fault, ItemResult};
use orbit_shared::words::{ItemId, JobId};

use super::world::{World, failed, spec, star_id, stored, tree};
use crate::core::{Gate, JobState};

const TEN_MINUTES_MS: u64 = 600_000;

/// Fails everything by such a fault for as long as the switch is on.
fn outage(
    switch: &Rc<Cell<bool>>,
    cause: FailureCause,
    fault: Fault,
) -> impl FnMut(&Entry) -> ItemResult + use<> {
    let switch = switch.clone();
    move |entry| if switch.get() { failed(cause, fault) } else { stored(entry) }
}

/// Lets time pass while the Stars work and are heard.
fn live_through(world: &mut World, ms: u64) {
    let end = world.now_ms + ms;
    while world.now_ms < end {
        let names: Vec<&'static str> = world.stars.keys().copied().collect();
        for name in names {
            while world.work(name) {}
            world.heartbeat(name);
        }
        world.pass(500);
    }
}

fn assert_outlived(cause: FailureCause, fault: Fault, count: u64) {
    let mut world = World::of_three();
    world.tree = tree(count);
    let is_out = Rc::new(Cell::new(true));
    world.behaviour = Box::new(outage(&is_out, cause, fault));
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    live_through(&mut world, TEN_MINUTES_MS);
    assert_eq!(world.core.dead_letters().len(), 0, "{cause:?} {fault:?}");
    assert_eq!(world.job(id).record.state(), JobState::Running);
    assert!(world.job(id).reason.contains("star-2"), "{}", world.job(id).reason);
    is_out.set(false);
    live_through(&mut world, 60_000);
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
    assert!(world.core.yields_of(&star_id("star-2")).is_empty());
    world.assert_clean();
}

#[test]
fn ten_minutes_without_a_disk_cost_no_dead_letter() {
    assert_outlived(FailureCause::DestinationError, Fault::Destination, 300);
}

#[test]
fn ten_minutes_with_a_source_that_breaks_off_cost_no_dead_letter() {
    assert_outlived(FailureCause::Transient, Fault::Source, 300);
}

#[test]
fn ten_minutes_without_a_way_between_two_stars_cost_no_dead_letter_even_for_a_single_file() {
    assert_outlived(FailureCause::Transient, Fault::Link, 1);
}

#[test]
fn failures_before_it_opened_are_taken_back() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|_| failed(FailureCause::DestinationError, Fault::Destination));
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    world.work("star-2");
    assert_eq!(world.job(id).penalized, 0, "the first two were penalized and refunded");
    assert!(world.store.penalties.is_empty(), "{:?}", world.store.penalties);
    assert_eq!(world.store.queue.len(), 11, "everything is queued where it stood");
    let item = ItemId { job: id, destination: 0, sequence: 1 };
    let view = world.core.item(world.now(), item, &world.tree[1]).expect("known");
    let held = view.held.expect("it is held");
    assert_eq!(held.gate, Gate::Yield, "{held:?}");
    assert!(held.opens_at.is_some() && held.explanation.contains("star-2"), "{held:?}");
    assert_eq!(world.core.yields_of(&star_id("star-2")).len(), 1);
}

#[test]
fn one_probe_goes_at_a_time_and_ever_more_seldom() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|_| failed(FailureCause::DestinationError, Fault::Destination));
    world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    while world.work("star-2") {}
    world.given.clear();
    live_through(&mut world, TEN_MINUTES_MS);
    assert!((20..30).contains(&world.given.len()), "{} probes in ten minutes", world.given.len());
}

#[test]
fn other_destinations_and_the_other_root_flow_on() {
    let mut world = World::of_three();
    world.tree = tree(2000);
    world.behaviour = Box::new(|_| failed(FailureCause::Transient, Fault::Link));
    let id = world.create(spec("star-1", &["star-2", "star-3"]));
    world.scan("star-1");
    world.work("star-2");
    world.behaviour = Box::new(stored);
    while world.work("star-3") {}
    assert_eq!(world.job(id).record.tallies[1].open(), 0, "star-3 has everything in no time");
    assert_eq!(world.job(id).record.tallies[0].stored, 0);
}

#[test]
fn an_item_that_fails_alone_is_given_up_although_it_blames_the_star() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|entry| match entry.path.as_slice() {
        b"f000004" => failed(FailureCause::DestinationError, Fault::Destination),
        _ => stored(entry),
    });
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::PartiallyCompleted);
    assert_eq!(world.core.dead_letters().len(), 1);
}

#[test]
fn a_star_that_comes_back_is_tried_at_once() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|_| failed(FailureCause::Transient, Fault::Link));
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    live_through(&mut world, 120_000);
    world.behaviour = Box::new(stored);
    world.disconnect("star-1");
    world.connect("star-1", 2, &[]);
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
    assert_eq!(id, JobId(1));
}

#[test]
fn what_was_refunded_is_still_there_after_a_restart() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|_| failed(FailureCause::DestinationError, Fault::Destination));
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    while world.work("star-2") {}
    world.crash();
    world.behaviour = Box::new(stored);
    for name in ["star-1", "star-2", "star-3"] {
        world.connect(name, 1, &[]);
    }
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
    world.assert_clean();
}

#[test]
fn an_item_that_had_failed_before_it_was_refunded_goes_on_after_a_restart() {
    let mut world = World::of_three();
    let round = Rc::new(Cell::new(0));
    let seen = round.clone();
    // First everything fails by its own fault, so that each item keeps one failure when later ones are taken back.
    world.behaviour = Box::new(move |_| match seen.get() {
        0 => failed(FailureCause::Transient, Fault::Item),
        _ => failed(FailureCause::DestinationError, Fault::Destination),
    });
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    while world.work("star-2") {}
    round.set(1);
    world.pass(1000);
    while world.work("star-2") {}
    assert!(!world.store.penalties.is_empty());
    assert_eq!(world.job(id).penalized, 0, "all were refunded or held");
    world.crash();
    world.behaviour = Box::new(stored);
    for name in ["star-1", "star-2", "star-3"] {
        world.connect(name, 1, &[]);
    }
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
    world.assert_clean();
}
