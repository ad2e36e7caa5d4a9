//! Jobs that stay in one file system: what they say of the mount points that were not entered, and what a mirror keeps below
//! them.

use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::session::{ScanBatch, StarMessage};
use orbit_shared::words::JobId;

use super::sweeps::{ALL, mirror};
use super::world::{Heard, World, batch, directory, spec};
use crate::core::{Command, Event, JobSpec, JobState, Planned};

/// A mirror that stays in one file system, and whose source has as many mount points.
fn mirror_with_mounts(world: &mut World, count: usize) -> JobId {
    let id = world.create(JobSpec { is_one_file_system: true, ..mirror(&["star-2"]) });
    list_with_mounts(world, count);
    world.work_all(&ALL);
    id
}

fn list_with_mounts(world: &mut World, count: usize) {
    let scan = world.stars.get_mut("star-1").and_then(|star| star.scans.pop_front()).expect("a scan").scan;
    let skipped_mounts = (0..count).map(|number| format!("mnt/{number}").into_bytes()).collect();
    let batch = ScanBatch { is_last: true, skipped_mounts, ..batch(scan, 1, world.tree.clone()) };
    world.say("star-1", StarMessage::ScanBatch(batch));
}

#[test]
fn a_sweep_is_told_the_mount_points_that_were_not_entered_also_after_a_restart() {
    let mut world = World::of_three();
    mirror_with_mounts(&mut world, 2);
    let expected = [b"mnt/0".to_vec(), b"mnt/1".to_vec()];
    assert_eq!(world.sweep_of("star-2").expect("it is asked").skipped_mounts, expected);
    world.crash();
    world.connect("star-1", 1, &[]);
    world.connect("star-2", 1, &[]);
    world.work_all(&["star-1", "star-2"]);
    assert_eq!(world.sweep_of("star-2").expect("it is asked").skipped_mounts, expected);
}

#[test]
fn a_mirror_with_more_mount_points_than_are_remembered_deletes_nothing_and_says_so() {
    let mut world = World::of_three();
    let id = mirror_with_mounts(&mut world, 257);
    assert!(world.sweep_of("star-2").is_none(), "it does not know what to keep");
    let (state, reason) = world.state(id);
    assert_eq!(state, JobState::Failed, "{reason}");
    for part in ["nothing was deleted at star-2:/data/out", "257 mount points", "--exclude"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    let said = world.core.board().by_job(id).into_iter().filter(|bulletin| bulletin.category == "mirror");
    assert_eq!(said.filter(|bulletin| bulletin.message.contains("257 mount points")).count(), 1);
    assert_eq!(world.job(id).tally.stored, 11, "everything is copied all the same");

    let planned = plan_with_mounts(&mut world, mirror(&["star-2"]), 257);
    let deletion = planned.places[0].deletion.as_ref().expect("it is known");
    let is_said = deletion.problem.starts_with("the source has 257 mount points");
    assert!(deletion.is_refused && is_said, "{deletion:?}");
}

#[test]
fn a_plan_of_a_copy_says_nothing_of_deletions_however_many_mount_points_there_are() {
    let mut world = World::of_three();
    let planned = plan_with_mounts(&mut world, spec("star-1", &["star-2", "star-3"]), 257);
    assert_eq!(planned.skipped_mounts.count, 257);
    assert!(planned.places.iter().all(|place| place.deletion.is_none()), "{:?}", planned.places);
}

/// What a job would do that stays in one file system.
fn plan_with_mounts(world: &mut World, spec: JobSpec, count: usize) -> Planned {
    let reply = world.new_reply();
    let spec = Box::new(JobSpec { is_one_file_system: true, ..spec });
    world.turn(vec![Event::PlanAsked { reply, spec, violations: Vec::new() }]);
    list_with_mounts(world, count);
    world.work_all(&ALL);
    let Some(Ok(Heard::Plan(planned))) = world.answered(reply) else { panic!("no plan") };
    *planned
}

#[test]
fn mount_points_that_only_a_later_listing_finds_are_said_too() {
    let mut world = World::of_three();
    world.tree.push(Entry { kind: EntryKind::Unreadable { errno: 13 }, ..directory("closed") });
    let id = world.create(JobSpec { is_one_file_system: true, ..spec("star-1", &["star-2"]) });
    list_with_mounts(&mut world, 1);
    world.work_all(&ALL);
    assert_eq!(world.state(id).0, JobState::PartiallyCompleted);
    for count in [1, 2, 2] {
        let retry = Command::RetryDeadLetters(DeadLetterFilter::for_job(id));
        world.command(retry).expect("it can be tried again");
        list_with_mounts(&mut world, count);
        world.work_all(&ALL);
        let said = world.store.bulletins.values().filter(|bulletin| bulletin.category == "mounts");
        let said: Vec<_> =
            said.map(|bulletin| bulletin.message.split(": ").last().unwrap_or_default()).collect();
        assert_eq!(said, &["mnt/0", "mnt/0, mnt/1"][..count]);
        world.crash();
        world.connect("star-1", 1, &[]);
        world.connect("star-2", 1, &[]);
    }
}
