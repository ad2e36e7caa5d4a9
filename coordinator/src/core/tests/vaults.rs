//! Packed jobs end with their snapshots; the catalogue is what the vaults have; who asks a vault always hears.

use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::session::{FailureCause, Fault};
use orbit_shared::vault_call::{VaultCall, VaultFailure, VaultProblem};
use orbit_shared::words::{JobId, Layout, SnapshotId};

use super::world::{World, failed, spec, stored};
use crate::core::{Command, JobSpec, JobState, Refusal};

pub(super) fn packed(source: &str, destinations: &[&str]) -> JobSpec {
    let mut spec = JobSpec { layout: Layout::Packed, ..spec(source, destinations) };
    spec.destinations.iter_mut().for_each(|place| place.path.clear());
    spec
}

pub(super) fn restore(from: &str, snapshot: SnapshotId, to: &str) -> JobSpec {
    let mut spec = JobSpec { snapshot: Some(snapshot), ..spec(from, &[to]) };
    spec.source.path = b"/".to_vec();
    spec
}

pub(super) fn problem(failure: VaultFailure) -> Option<VaultProblem> {
    Some(VaultProblem { failure, message: "it did not work".to_owned() })
}

#[test]
fn a_packed_job_ends_when_every_vault_has_its_snapshot() {
    let mut world = World::of_three();
    let id = world.create(packed("star-1", &["star-2", "star-3"]));
    while world.scan("star-1") | world.work("star-2") | world.work("star-3") {}
    while world.answer("star-2") {}
    let job = world.job(id);
    assert_eq!(job.record.state(), JobState::Running, "one vault has not answered");
    assert!(job.reason.contains("star-3 makes the snapshot"), "{}", job.reason);
    while world.answer("star-3") {}
    let job = world.job(id);
    assert_eq!(job.record.state(), JobState::Completed, "{}", job.reason);
    let known = world.core.snapshots();
    assert_eq!(known.len(), 2);
    assert!(known.iter().all(|record| record.info.entry_count == 11 && !record.info.is_partial));
    assert_eq!(job.record.snapshots.iter().flatten().count(), 2);
    assert_eq!(world.store.snapshots.len(), 2, "the catalogue is durable");
    world.assert_clean();
}

/// Time passes, in which star-1 and star-2 are heard.
pub(super) fn idle(world: &mut World, seconds: u64) {
    for _ in 0..seconds / 2 {
        world.pass(2_000);
        world.heartbeat("star-1");
        world.heartbeat("star-2");
    }
}

/// Bulletins that say something, and how many of them are not acknowledged.
pub(super) fn said(world: &World, text: &str) -> (usize, usize) {
    let all = world.core.board().recent(usize::MAX);
    let found: Vec<_> = all.into_iter().filter(|bulletin| bulletin.message.contains(text)).collect();
    (found.len(), found.iter().filter(|bulletin| !bulletin.is_acknowledged).count())
}

#[test]
fn each_vault_is_sealed_by_itself_and_a_place_that_is_away_is_told() {
    let mut world = World::of_three();
    world.disconnect("star-3");
    idle(&mut world, 12);
    let id = world.create(packed("star-1", &["star-2", "star-3"]));
    let waits = "waits for star-3, which is not connected";
    while world.scan("star-1") | world.work("star-2") | world.answer("star-2") {}
    assert_eq!(world.core.snapshots().len(), 1, "nothing else holds up the vault that is well");
    assert_eq!(world.job(id).record.state(), JobState::Running);
    assert_eq!(said(&world, waits), (1, 1), "told at once, and once");
    idle(&mut world, 14 * 60);
    assert_eq!(said(&world, waits).0, 1);
    idle(&mut world, 46 * 60);
    assert_eq!(said(&world, waits).0, 2, "again after a quarter of an hour, and not soon after that");
    world.connect("star-3", 1, &[]);
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
    assert_eq!(said(&world, waits).1, 0, "what does not hold any more is acknowledged");
    assert_eq!(world.core.snapshots().len(), 2);
    world.assert_clean();
}

#[test]
fn a_cancelled_job_keeps_the_snapshots_that_are_made() {
    let mut world = World::of_three();
    world.disconnect("star-3");
    let id = world.create(packed("star-1", &["star-2", "star-3"]));
    while world.scan("star-1") | world.work("star-2") | world.answer("star-2") {}
    world.command(Command::CancelJob { job: id, reason: String::new() }).expect("it runs");
    let job = world.job(id);
    assert_eq!(job.record.state(), JobState::Cancelled);
    assert!(job.reason.contains("in the vault of star-2"), "{}", job.reason);
    assert_eq!((world.core.snapshots().len(), world.vaults["star-2"].len()), (1, 1));
}

#[test]
fn a_vault_that_lost_what_it_had_fails_the_job_when_the_others_have_their_snapshots() {
    let mut world = World::of_three();
    world.disconnect("star-3");
    let id = world.create(packed("star-1", &["star-2", "star-3"]));
    while world.scan("star-1") | world.work("star-2") {}
    world.seal_problem = problem(VaultFailure::Damaged);
    while world.answer("star-2") {}
    assert_eq!(world.job(id).record.state(), JobState::Running);
    world.crash();
    for star in ["star-1", "star-2", "star-3"] {
        world.connect(star, 1, &[]);
    }
    world.settle();
    let job = world.job(id);
    assert_eq!(job.record.state(), JobState::Failed);
    let reason = &job.reason;
    assert!(reason.contains("star-2 cannot seal") && reason.contains("in the vault of star-3"), "{reason}");
    assert_eq!(world.core.snapshots().len(), 1);
}

#[test]
fn a_crash_or_a_lost_session_at_any_point_of_sealing_makes_one_snapshot() {
    for (is_crash, calls_before) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let mut world = World::of_three();
        let id = world.create(packed("star-1", &["star-2"]));
        while world.scan("star-1") | world.work("star-2") {}
        // The first calls are those after the hello: for the catalogue, and for damage.
        world.answer("star-2");
        world.answer("star-2");
        if calls_before == 1 {
            // The vault has sealed, and its answer is lost.
            let seal = world.stars.get_mut("star-2").and_then(|star| star.calls.front().cloned());
            let Some((_, VaultCall::Seal(seal))) = seal else { panic!("{seal:?} is no seal") };
            let _ = super::world::seal_in(world.vaults.entry("star-2").or_default(), &seal);
        }
        if is_crash {
            world.crash();
            world.connect("star-1", 1, &[]);
        }
        world.connect("star-2", 1, &[]);
        world.settle();
        assert_eq!(world.job(id).record.state(), JobState::Completed, "{is_crash} {calls_before}");
        assert_eq!((world.vaults["star-2"].len(), world.core.snapshots().len()), (1, 1));
    }
}

#[test]
fn a_vault_that_cannot_seal_for_now_is_asked_again_and_one_that_lost_what_it_had_fails_the_job() {
    let mut world = World::of_three();
    world.seal_problem = problem(VaultFailure::Full);
    let id = world.create(packed("star-1", &["star-2"]));
    world.settle();
    let job = world.job(id);
    assert!(job.reason.contains("is asked again: it did not work"), "{}", job.reason);
    assert!(world.wait(2_000), "there is a time for the next attempt");
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);

    world.seal_problem = problem(VaultFailure::NotFound);
    let id = world.create(packed("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Failed);
    assert_eq!(world.stars["star-2"].ended_jobs, [id], "what it has of the job is of no use");
}

#[test]
fn what_is_missing_in_a_snapshot_is_said_and_cannot_be_put_in_later() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|entry| match entry.path.ends_with(b"3") {
        true => failed(FailureCause::Permanent, Fault::Item),
        false => stored(entry),
    });
    let id = world.create(packed("star-1", &["star-2"]));
    let filter = || DeadLetterFilter::for_job(id);
    while world.scan("star-1") | world.work("star-2") {}
    // From here on the vault may make the snapshot at any moment, and its answer may be under way.
    let refused = world.command(Command::RetryDeadLetters(filter())).expect_err("it is being sealed");
    assert!(matches!(&refused, Refusal::WrongState { problem } if problem.contains("again")), "{refused}");
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::PartiallyCompleted);
    let record = world.core.snapshots()[0];
    assert!(record.info.is_partial);
    assert_eq!(record.info.entry_count, 10);
    let refused = world.command(Command::RetryDeadLetters(filter())).expect_err("it is sealed");
    assert!(matches!(&refused, Refusal::WrongState { problem } if problem.contains("again")), "{refused}");
}

#[test]
fn a_cancelled_job_and_stages_that_nobody_needs_are_abandoned() {
    let mut world = World::of_three();
    let id = world.create(packed("star-1", &["star-2"]));
    while world.scan("star-1") | world.work("star-2") {}
    world.command(Command::CancelJob { job: id, reason: String::new() }).expect("it runs");
    assert_eq!(world.stars["star-2"].ended_jobs, [id], "although every item has ended");
    let running = world.create(packed("star-1", &["star-2"]));
    world.stages = vec![(id, 0), (running, 0), (JobId(77), 0)];
    world.connect("star-2", 1, &[]);
    world.answer("star-2");
    while world.answer("star-2") {}
    assert_eq!(world.stages, [(running, 0)], "only the running job's is kept");
}

#[test]
fn who_asks_a_vault_hears_also_when_it_leaves_is_silent_or_is_not_there() {
    let mut world = World::of_three();
    world.settle();
    let call = || VaultCall::ListDamaged { after: None };
    let lost = world.ask("star-2", call());
    world.disconnect("star-2");
    let answer = world.answered(lost);
    assert!(matches!(answer, Some(Err(Refusal::Unavailable { .. }))), "{answer:?}");
    let nobody = world.ask("star-2", call());
    assert!(matches!(world.answered(nobody), Some(Err(Refusal::WrongState { .. }))));
    let unknown = world.ask("star-9", call());
    assert!(matches!(world.answered(unknown), Some(Err(Refusal::NotFound { .. }))));
    let silent = world.ask("star-3", call());
    assert_eq!(world.answered(silent), None);
    for _ in 0..40 {
        world.now_ms += 1_000;
        world.heartbeat("star-3");
    }
    assert!(matches!(world.answered(silent), Some(Err(Refusal::Unavailable { .. }))));
    let replies: Vec<_> = (0..40).map(|_| world.ask("star-1", call())).collect();
    let full = replies.into_iter().filter_map(|reply| world.answered(reply)).count();
    assert_eq!(full, 8, "a vault has a bounded number of calls to answer");
}

#[test]
fn a_restore_reads_a_snapshot_that_is_known_and_keeps_it_from_being_deleted() {
    let mut world = World::of_three();
    world.create(packed("star-1", &["star-2"]));
    world.settle();
    let id = world.core.snapshots()[0].info.id;
    let job = world.create(restore("star-2", id, "star-3"));
    let scan = &world.stars["star-2"].scans[0];
    assert_eq!((scan.snapshot, scan.path.as_slice()), (Some(id), &b"/"[..]));
    let refused = world.ask("star-2", VaultCall::DeleteSnapshot(id));
    assert!(matches!(world.answered(refused), Some(Err(Refusal::WrongState { .. }))));
    world.scan("star-2");
    let assignment = world.stars["star-3"].held.values().next().expect("work");
    assert_eq!((assignment.source_snapshot, assignment.layout), (Some(id), Layout::Files));
    world.settle();
    assert_eq!(world.job(job).record.state(), JobState::Completed);
}

#[test]
fn every_bad_field_of_a_packed_job_or_a_restore_is_named() {
    let mut world = World::of_three();
    let mut fields = |spec: JobSpec| {
        let command =
            Command::CreateJob { spec: Box::new(spec), request_id: String::new(), violations: Vec::new() };
        match world.command(command) {
            Err(Refusal::Invalid(violations)) => {
                violations.into_iter().map(|violation| violation.field).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    let mut bad = packed("star-1", &["star-2", "star-2"]);
    bad.destinations[0].path = b"/data/out".to_vec();
    bad.tags = vec![String::new(), "a\nb".to_owned()];
    assert_eq!(
        fields(bad),
        ["spec.tags[0]", "spec.tags[1]", "spec.destinations[0].path", "spec.destinations[1].path"]
    );
    let mut bad = restore("star-2", SnapshotId([9; 16]), "star-3");
    bad.source.path = b"/a/../b".to_vec();
    bad.tags = vec!["t".to_owned()];
    assert_eq!(fields(bad), ["spec.source.snapshot_id", "spec.source.path", "spec.tags"]);
}
