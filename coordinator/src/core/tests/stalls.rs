//! Stalls are reported and ended; a coordinator's own silence is held against nobody.

use orbit_shared::bulletin::BulletinFilter;
use orbit_shared::session::{Failure, FailureCause, Fault, Heartbeat, ScanBatch, StarMessage};
use orbit_shared::words::AssignmentId;

use super::world::{World, batch, failed, spec, star_id, stored, tree};
use crate::core::{JobState, Liveness};

/// Posted bulletins of a category.
fn posted(world: &World, category: &str) -> Vec<String> {
    let filter = BulletinFilter { category: Some(category.to_owned()), ..BulletinFilter::default() };
    world.core.board().query(&filter, 100).into_iter().map(|bulletin| bulletin.message.clone()).collect()
}

/// Heartbeats of every Star for a while; `progress` of star-2 as given.
fn beat(world: &mut World, seconds: u64, mut progress: impl FnMut(u64) -> Vec<(AssignmentId, u64)>) {
    for second in 0..seconds {
        let names: Vec<&'static str> = world.stars.keys().copied().collect();
        for name in names {
            let state = world.stars[name].state;
            let progress = if name == "star-2" { progress(second) } else { Vec::new() };
            let heartbeat = Heartbeat {
                lifecycle: state,
                active_tasks: 1,
                served_pulls: 0,
                sample: None,
                advisories: Vec::new(),
                progress,
                root_space: Vec::new(),
                vault_bytes: None,
                vault_sample: None,
            };
            world.say(name, StarMessage::Heartbeat(heartbeat));
        }
        world.pass(1000);
    }
}

#[test]
fn an_assignment_that_stands_still_is_reported_then_taken_back_and_tried_again() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    beat(&mut world, 58, |_| Vec::new());
    assert!(posted(&world, "stall").is_empty());
    beat(&mut world, 4, |_| Vec::new());
    assert_eq!(posted(&world, "stall").len(), 1, "{:?}", posted(&world, "stall"));
    assert!(posted(&world, "stall")[0].contains("star-2"));
    beat(&mut world, 200, |_| Vec::new());
    assert_eq!(posted(&world, "stall").len(), 1, "it is said once");
    assert!(!world.stars["star-2"].held.is_empty(), "it may still come on");
    beat(&mut world, 45, |_| Vec::new());
    assert!(posted(&world, "stall").iter().any(|text| text.contains("taken back")));
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
    assert_eq!(world.core.dead_letters().len(), 0);
    world.assert_clean();
}

#[test]
fn a_slow_assignment_and_those_that_wait_behind_it_are_left_alone() {
    let mut world = World::of_three();
    world.tree = tree(600);
    world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let held: Vec<AssignmentId> = world.stars["star-2"].held.keys().copied().collect();
    assert!(held.len() > 1, "several assignments: {held:?}");
    let first = held[0];
    beat(&mut world, 290, |second| vec![(first, second + 1)]);
    assert!(posted(&world, "stall").is_empty(), "{:?}", posted(&world, "stall"));
}

#[test]
fn a_scan_that_stands_still_is_reported_and_starts_again_where_it_was() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    let request = world.stars["star-1"].scans[0].clone();
    let entries = world.tree[..4].to_vec();
    let batch = batch(request.scan, 1, entries);
    world.say("star-1", StarMessage::ScanBatch(batch));
    while world.work("star-2") {}
    beat(&mut world, 61, |_| Vec::new());
    assert!(posted(&world, "stall").iter().any(|text| text.contains("listing")));
    beat(&mut world, 245, |_| Vec::new());
    let again = world.stars["star-1"].scans.back().expect("it is asked again").clone();
    assert_ne!(again.scan, request.scan);
    assert_eq!(again.resume_after, Some(world.tree[3].path.clone()));
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
    assert_eq!(world.job(id).tally.total, 11, "nothing is found twice");
}

#[test]
fn a_scan_that_breaks_off_again_and_again_starts_ever_more_seldom() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    let mut starts = Vec::new();
    for _ in 0..400 {
        if let Some(request) = world.stars.get_mut("star-1").and_then(|star| star.scans.pop_front()) {
            starts.push(world.now_ms / 1000);
            let failure = Failure {
                cause: FailureCause::Transient,
                fault: Fault::Source,
                message: "the root hangs".to_owned(),
            };
            let failure = Some(failure);
            let batch = ScanBatch { failure, ..batch(request.scan, 1, Vec::new()) };
            world.say("star-1", StarMessage::ScanBatch(batch));
        }
        beat(&mut world, 1, |_| Vec::new());
    }
    let waits: Vec<u64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits[..8], [1, 2, 4, 8, 16, 32, 60, 60], "{starts:?}");
    assert!(world.job(id).reason.contains("broke off"), "{}", world.job(id).reason);
    world.pass(60_000);
    world.settle();
    for _ in 0..3 {
        world.pass(60_000);
        for name in ["star-1", "star-2", "star-3"] {
            world.heartbeat(name);
        }
        world.settle();
    }
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
}

#[test]
fn a_coordinator_that_was_frozen_blames_nobody() {
    let mut world = World::of_three();
    world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let due = world.core.next_deadline(world.now());
    assert!(due.is_some());
    world.pass(3_600_000);
    for name in ["star-1", "star-2", "star-3"] {
        let star = world.core.star(&star_id(name)).expect("known");
        assert_eq!(star.liveness, Liveness::Alive, "{name} was not silent, the coordinator was");
    }
    assert!(!world.stars["star-2"].held.is_empty());
    assert!(posted(&world, "stall").is_empty());
    world.core.next_deadline(world.now());
    world.wait(60_000);
    world.wait(60_000);
    let star = world.core.star(&star_id("star-2")).expect("known");
    assert_ne!(star.liveness, Liveness::Alive, "silence from then on counts");
}

#[test]
fn a_stalled_destination_yields_and_its_items_lose_no_attempts() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    for _ in 0..6 {
        beat(&mut world, 310, |_| Vec::new());
    }
    assert_eq!(world.core.dead_letters().len(), 0);
    world.behaviour = Box::new(stored);
    for _ in 0..40 {
        world.settle();
        world.pass(1000);
    }
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
}

#[test]
fn a_failure_that_is_an_items_own_still_counts_beside_stalls() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|_| failed(FailureCause::Transient, Fault::Item));
    world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.core.dead_letters().len(), 11);
}
