//! A disk is never given more than it has room for, and what waits for room says so and goes when there is some.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use orbit_shared::health_monitor::HealthSample;
use orbit_shared::session::{FailureCause, Fault, Heartbeat, ItemResult, RootSpace, StarMessage};
use orbit_shared::words::ItemId;

use super::vaults::packed;
use super::world::{World, failed, file, spec, star_id, stored};
use crate::core::{Gate, JobState};

const GIB: u64 = 1 << 30;

/// A heartbeat of star-2 with so much space.
fn space(world: &mut World, available: u64) {
    let sample = HealthSample {
        disk_available_bytes: available,
        disk_total_bytes: 100 * GIB,
        ..HealthSample::default()
    };
    let heartbeat = Heartbeat {
        lifecycle: world.stars["star-2"].state,
        active_tasks: 0,
        served_pulls: 0,
        sample: Some(sample),
        advisories: Vec::new(),
        progress: Vec::new(),
        root_space: vec![RootSpace { path: b"/data".to_vec(), available_bytes: available }],
        vault_bytes: None,
        vault_sample: None,
    };
    world.say("star-2", StarMessage::Heartbeat(heartbeat));
}

fn held_bytes(world: &World) -> u64 {
    world.core.star(&star_id("star-2")).expect("known").guard.state().byte_size
}

#[test]
fn a_disk_with_one_gibibyte_free_never_has_two_on_their_way() {
    let mut world = World::of_three();
    world.tree = (0..40).map(|index| file(&format!("f{index:03}"), 100 << 20)).collect();
    let mut available = GIB;
    space(&mut world, available);
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    let mut stored_items = 0;
    for _ in 0..100 {
        assert!(held_bytes(&world) <= available, "{} on their way, {available} free", held_bytes(&world));
        let before = world.job(id).tally.stored;
        world.work("star-2");
        let now = world.job(id).tally.stored - before;
        stored_items += now;
        assert!(held_bytes(&world) + now * (100 << 20) <= available, "the sample is old");
        available -= now * (100 << 20);
        if available < (200 << 20) {
            // Somebody makes room.
            available += GIB;
        }
        space(&mut world, available);
    }
    assert_eq!(stored_items, 40);
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
    world.assert_clean();
}

/// A Star that has some files already, and refuses to write for an assignment that is only to be checked.
fn behave(world: &mut World, present: &[&str]) -> Rc<RefCell<BTreeSet<Vec<u8>>>> {
    let present: BTreeSet<Vec<u8>> = present.iter().map(|path| path.as_bytes().to_vec()).collect();
    let written = Rc::new(RefCell::new(BTreeSet::new()));
    let log = written.clone();
    world.checked = Some(Box::new(move |entry, is_check_only| {
        if present.contains(&entry.path) {
            return ItemResult::Skipped;
        }
        if is_check_only {
            return failed(FailureCause::DestinationError, Fault::Destination);
        }
        log.borrow_mut().insert(entry.path.clone());
        stored(entry)
    }));
    written
}

#[test]
fn an_item_that_does_not_fit_waits_for_room_and_lets_smaller_ones_pass() {
    let mut world = World::of_three();
    world.tree = vec![file("a-huge", 2 * GIB), file("b-there", 3 * GIB), file("c-small", 1000)];
    let written = behave(&mut world, &["b-there"]);
    space(&mut world, GIB);
    let mut chain = spec("star-1", &["star-2"]);
    chain.prioritizers = vec![orbit_shared::prioritizer::PrioritizerKind::LargestFirst];
    let id = world.create(chain);
    world.scan("star-1");
    for _ in 0..20 {
        world.work("star-2");
        space(&mut world, GIB);
    }
    assert_eq!(written.borrow().len(), 1, "only the small one is written: {written:?}");
    let job = world.job(id);
    assert_eq!((job.tally.stored, job.tally.skipped, job.tally.open()), (1, 1, 1));
    assert!(job.reason.contains("wait for room"), "{}", job.reason);
    let item = ItemId { job: id, destination: 0, sequence: 0 };
    let held = world.core.item(world.now(), item, &world.tree[0]).and_then(|view| view.held).expect("held");
    assert_eq!(held.gate, Gate::Guard);
    assert!(held.explanation.contains("2147483648"), "{}", held.explanation);
    assert_eq!(world.core.dead_letters().len(), 0);

    space(&mut world, 3 * GIB);
    while world.work("star-2") {}
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
    world.assert_clean();
}

#[test]
fn what_waits_for_room_survives_a_restart_and_goes_with_a_cancelled_job() {
    let mut world = World::of_three();
    world.tree = vec![file("a-huge", 2 * GIB), file("b-huge", 2 * GIB)];
    behave(&mut world, &[]);
    space(&mut world, GIB);
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    while world.work("star-2") {}
    world.crash();
    world.connect("star-2", 1, &[]);
    space(&mut world, GIB);
    world.connect("star-1", 1, &[]);
    while world.work("star-2") {}
    assert_eq!(world.job(id).tally.open(), 2);
    let cancel = crate::core::Command::CancelJob { job: id, reason: String::new() };
    world.command(cancel).expect("cancels");
    world.assert_clean();
}

/// A heartbeat of star-2, whose roots lie on two disks, one of them small.
fn two_disks(world: &mut World) {
    let space = |path: &[u8], available_bytes| RootSpace { path: path.to_vec(), available_bytes };
    let heartbeat = Heartbeat {
        lifecycle: world.stars["star-2"].state,
        active_tasks: 0,
        served_pulls: 0,
        sample: None,
        advisories: Vec::new(),
        progress: Vec::new(),
        root_space: vec![space(b"/data", 100 * GIB), space(b"/small", GIB)],
        vault_bytes: None,
        vault_sample: None,
    };
    world.say("star-2", StarMessage::Heartbeat(heartbeat));
}

#[test]
fn each_root_has_the_room_of_its_own_disk() {
    let mut world = World::of_three();
    world.tree = vec![file("a-huge", 2 * GIB)];
    let written = behave(&mut world, &[]);
    world.stars.remove("star-2");
    world.roots = vec!["/data", "/small"];
    world.connect("star-2", 2, &[]);
    two_disks(&mut world);
    let mut to_small = spec("star-1", &["star-2"]);
    to_small.destinations[0].path = b"/small/tree".to_vec();
    let small = world.create(to_small);
    world.scan("star-1");
    while world.work("star-2") {}
    assert_eq!((written.borrow().len(), world.job(small).tally.open()), (0, 1), "it has no room there");
    let large = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    while world.work("star-2") {}
    assert_eq!(world.job(large).record.state(), JobState::Completed, "{}", world.job(large).reason);
}

#[test]
fn before_the_first_heartbeat_nobody_knows_the_room() {
    let mut world = World::of_three();
    world.tree = vec![file("a-huge", 2 * GIB)];
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    while world.work("star-2") {}
    assert_eq!(world.job(id).record.state(), JobState::Completed, "{}", world.job(id).reason);
}

/// A heartbeat of star-2, whose vault has a disk of its own.
fn vault_disk(world: &mut World, available: u64) {
    let vault = HealthSample {
        disk_available_bytes: available,
        disk_total_bytes: 100 * GIB,
        ..HealthSample::default()
    };
    let heartbeat = Heartbeat {
        lifecycle: world.stars["star-2"].state,
        active_tasks: 0,
        served_pulls: 0,
        sample: Some(vault),
        advisories: Vec::new(),
        progress: Vec::new(),
        root_space: vec![RootSpace { path: b"/data".to_vec(), available_bytes: 100 * GIB }],
        vault_bytes: None,
        vault_sample: Some(vault),
    };
    world.say("star-2", StarMessage::Heartbeat(heartbeat));
}

#[test]
fn a_packed_job_has_the_room_of_the_vaults_disk_and_what_may_still_fit_is_tried() {
    let mut world = World::of_three();
    world.tree = vec![file("a-huge", 2 * GIB), file("b-shrinks", 3 * GIB), file("c-small", 1000)];
    // The vault compresses one of the two so well that it fits.
    let tried = behave(&mut world, &["b-shrinks"]);
    vault_disk(&mut world, GIB);
    let id = world.create(packed("star-1", &["star-2"]));
    world.scan("star-1");
    for _ in 0..20 {
        world.work("star-2");
        vault_disk(&mut world, GIB);
    }
    let job = world.job(id);
    assert_eq!((tried.borrow().len(), job.tally.open()), (1, 1), "{}", job.reason);
    let item = ItemId { job: id, destination: 0, sequence: 0 };
    let held = world.core.item(world.now(), item, &world.tree[0]).and_then(|view| view.held).expect("held");
    assert!(held.explanation.contains("1073741824 bytes free for its vault"), "{}", held.explanation);
    vault_disk(&mut world, 3 * GIB);
    while world.work("star-2") {}
    assert_eq!(world.job(id).tally.open(), 0, "{}", world.job(id).reason);
    world.assert_clean();
}
