//! A coordinator that is killed between any two turns goes on where it was.

use orbit_shared::entry::Entry;
use orbit_shared::session::{FailureCause, Fault};

use super::world::{World, batch, failed, spec, stored};
use crate::core::{Command, ItemEnd, JobState};

const NAMES: [&str; 3] = ["star-1", "star-2", "star-3"];

/// Reconnects everybody with what they hold.
fn reconnect(world: &mut World) {
    for name in NAMES {
        let held: Vec<_> = world.stars[name].held.keys().copied().collect();
        world.connect(name, 1, &held);
    }
}

#[test]
fn a_crash_at_any_point_of_a_job_loses_nothing_and_stores_nothing_twice() {
    for crash_at in 0..14 {
        let mut world = World::of_three();
        world.tree = super::world::tree(500);
        let id = world.create(spec("star-1", &["star-2", "star-3"]));
        for step in 0..14 {
            if step == crash_at {
                world.crash();
                reconnect(&mut world);
            }
            let name = NAMES[1 + step % 2];
            if !world.scan("star-1") {
                world.work(name);
            }
        }
        world.settle();
        let job = world.job(id);
        assert_eq!(job.record.state(), JobState::Completed, "crash at {crash_at}: {}", job.reason);
        assert_eq!((job.tally.total, job.tally.stored), (1002, 1002), "crash at {crash_at}");
        assert_eq!(world.given.len(), 1002, "crash at {crash_at}: no item was given out twice");
        world.assert_clean();
    }
}

#[test]
fn a_scan_goes_on_behind_the_last_entry_that_is_safe() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    let request = world.stars["star-1"].scans[0].clone();
    let batch = batch(request.scan, 1, world.tree[..4].to_vec());
    world.say("star-1", orbit_shared::session::StarMessage::ScanBatch(batch));
    world.crash();
    reconnect(&mut world);
    let again = world.stars["star-1"].scans[0].clone();
    assert_eq!(again.resume_after, Some(world.tree[3].path.clone()));
    assert_ne!(again.scan, request.scan);
    world.settle();
    assert_eq!(world.job(id).tally.total, 11);
    assert_eq!(world.ended(ItemEnd::Stored), 11);
}

#[test]
fn penalties_and_their_counts_survive() {
    let mut world = World::of_three();
    let fail = |entry: &Entry| {
        if entry.path == b"f000002" { failed(FailureCause::Transient, Fault::Item) } else { stored(entry) }
    };
    world.behaviour = Box::new(fail);
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    while world.work("star-2") {}
    for failures in 1..5 {
        assert_eq!(world.job(id).penalized, 1, "after {failures} failures");
        world.crash();
        reconnect(&mut world);
        let penalty = world.core.each_penalty(None, None, world.now()).next();
        assert_eq!(penalty.map(|view| view.count), Some(failures));
        while world.job(id).penalized == 1 {
            world.now_ms += 100;
            world.turn(vec![crate::core::Event::DeadlineReached]);
            for name in NAMES {
                world.heartbeat(name);
            }
            while world.work("star-2") && world.job(id).penalized == 0 {}
            if world
                .core
                .each_penalty(None, None, world.now())
                .next()
                .is_some_and(|view| view.count > failures)
            {
                break;
            }
            if world.job(id).record.state().is_end() {
                break;
            }
        }
    }
    world.settle();
    assert_eq!(world.job(id).tally.dead, 1);
}

#[test]
fn a_star_that_does_not_come_back_after_a_restart_gives_its_work_back() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    assert_eq!(world.job(id).in_flight, 10);
    world.crash();
    assert_eq!(world.job(id).in_flight, 10, "it has one lease to come back");
    world.pass(15_000);
    assert_eq!(world.job(id).in_flight, 0);
    world.connect("star-1", 1, &[]);
    world.connect("star-2", 2, &[]);
    world.settle();
    assert_eq!(world.job(id).tally.stored, 11);
}

#[test]
fn a_star_keeps_what_it_works_on_although_its_guard_admits_nothing_after_a_restart() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    assert_eq!(world.job(id).in_flight, 10);
    let star = super::world::star_id("star-2");
    let limits =
        Command::SetGuardLimits { star: star.clone(), max_object_count: Some(1), max_byte_size: Some(1) };
    world.command(limits).expect("a limit");
    world.command(Command::PauseGuard { star: star.clone(), reason: String::new() }).expect("a pause");
    for _ in 0..2 {
        world.crash();
        assert_eq!(world.job(id).in_flight, 10, "what was admitted stays");
        reconnect(&mut world);
        assert_eq!(world.job(id).in_flight, 10, "and is kept");
    }
    while world.work("star-2") {}
    assert_eq!(world.job(id).tally.stored, 10);
    world.command(Command::ResumeGuard { star }).expect("a pause ends");
    world.settle();
    assert_eq!(world.given.len(), 11, "nothing was given out twice");
    world.assert_clean();
}

#[test]
fn numbers_are_never_given_twice() {
    let mut world = World::of_three();
    let first = world.create(spec("star-1", &["star-2"]));
    world.settle();
    let bulletin = world.core.board().next_id();
    world.crash();
    reconnect(&mut world);
    let second = world.create(spec("star-1", &["star-3"]));
    assert!(second > first);
    assert!(world.core.board().next_id() >= bulletin);
}

#[test]
fn damage_of_the_store_is_a_bulletin_and_the_grid_goes_on() {
    let mut world = World::of_three();
    world.turn(vec![crate::core::Event::StoreDamaged { problem: "table jobs is damaged".to_owned() }]);
    let told = world.core.board().by_category("store");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].severity, orbit_shared::bulletin::Severity::Error);
    assert_eq!(told[0].message, "table jobs is damaged");
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
}
