//! Packed jobs end with their snapshots; the catalogue is what the vaults have; who asks a vault always hears.

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::session::{FailureCause, Fault, StarMessage};
use orbit_shared::time::WallTime;
use orbit_shared::vault_call::{
    ChunkOrigin, DamagedInfo, FilePart, VaultCall, VaultFailure, VaultProblem, VaultReply,
};
use orbit_shared::words::{JobId, Layout, SnapshotId};

use super::world::{World, failed, spec, stored};
use crate::core::{Answer, Command, JobSpec, JobState, Refusal};

fn packed(source: &str, destinations: &[&str]) -> JobSpec {
    let mut spec = JobSpec { layout: Layout::Packed, ..spec(source, destinations) };
    spec.destinations.iter_mut().for_each(|place| place.path.clear());
    spec
}

fn restore(from: &str, snapshot: SnapshotId, to: &str) -> JobSpec {
    let mut spec = JobSpec { snapshot: Some(snapshot), ..spec(from, &[to]) };
    spec.source.path = b"/".to_vec();
    spec
}

fn problem(failure: VaultFailure) -> Option<VaultProblem> {
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
    assert!(matches!(&refused, Refusal::WrongState { problem } if problem.contains("anew")), "{refused}");
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::PartiallyCompleted);
    let record = world.core.snapshots()[0];
    assert!(record.info.is_partial);
    assert_eq!(record.info.entry_count, 10);
    let refused = world.command(Command::RetryDeadLetters(filter())).expect_err("it is sealed");
    assert!(matches!(&refused, Refusal::WrongState { problem } if problem.contains("anew")), "{refused}");
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
fn the_catalogue_follows_the_vault() {
    let mut world = World::of_three();
    let first = world.create(packed("star-1", &["star-2"]));
    let second = world.create(packed("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.core.snapshots().len(), 2);
    world.disconnect("star-2");
    assert_eq!(world.core.snapshots().len(), 2, "a Star that is away keeps its snapshots listed");
    world.vaults.get_mut("star-2").expect("a vault").retain(|info| info.job == second);
    world.connect("star-2", 1, &[]);
    world.settle();
    let known: Vec<JobId> = world.core.snapshots().iter().map(|record| record.info.job).collect();
    assert_eq!(known, [second], "that of job {first} is gone");
    // A coordinator that has lost everything learns of what the vaults have.
    world.store = super::world::FakeStore::default();
    world.crash();
    world.connect("star-2", 2, &[]);
    world.settle();
    assert_eq!(world.core.snapshots().len(), 1);
}

#[test]
fn a_deletion_overtakes_a_list_that_is_on_its_way() {
    let mut world = World::of_three();
    world.create(packed("star-1", &["star-2"]));
    world.settle();
    let id = world.core.snapshots()[0].info.id;
    let before = world.vaults["star-2"].clone();
    world.connect("star-2", 1, &[]);
    let reply = world.ask("star-2", VaultCall::DeleteSnapshot(id));
    // The list was read before, and its answer comes after that of the deletion.
    let star = world.stars.get_mut("star-2").expect("connected");
    let (list, _) = star.calls.pop_front().expect("the catalogue is asked for");
    while world.answer("star-2") {}
    assert_eq!(world.answered(reply), Some(Ok(Answer::Vault(Box::new(VaultReply::Done)))));
    let answer = Ok(VaultReply::Snapshots { snapshots: before, stages: Vec::new(), is_end: true });
    world.say("star-2", orbit_shared::session::StarMessage::VaultAnswered { request: list, answer });
    world.settle();
    assert!(world.core.snapshots().is_empty() && world.store.snapshots.is_empty());
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
fn a_damaged_chunk_is_healed_from_a_vault_that_has_it_or_becomes_a_dead_letter_that_names_what_it_hits() {
    let mut world = World::of_three();
    let job = world.create(packed("star-1", &["star-2"]));
    world.settle();
    let id = world.core.snapshots()[0].info.id;
    let hash = |byte| ChunkHash([byte; 32]);
    let damaged = |byte: u8| DamagedInfo {
        hash: hash(byte),
        problem: "bits have changed".to_owned(),
        affected: vec![(id, b"a/b".to_vec()), (id, b"c".to_vec())],
        is_partial: false,
        origins: Vec::new(),
    };
    world.damaged.insert("star-2", vec![damaged(1), damaged(2)]);
    world.copies.insert(("star-3", hash(1)));
    world.connect("star-2", 1, &[]);
    world.settle();
    assert_eq!(world.damaged["star-2"], [damaged(2)], "one is healed");
    let filter = DeadLetterFilter::for_job(job);
    let letters = world.core.dead_letters().query(&filter, 10);
    assert_eq!(letters.len(), 1, "{letters:?}");
    let text = &letters[0].last_error;
    assert!(text.contains(&id.to_string()) && text.contains("a/b") && text.contains(": c"), "{text}");
    assert_eq!(world.store.dead_letters.len(), 1);

    // Somebody brings a good copy, and asks to try again.
    world.copies.insert(("star-1", hash(2)));
    assert_eq!(world.command(Command::RetryDeadLetters(filter)), Ok(Answer::Count(1)));
    world.settle();
    assert!(world.damaged["star-2"].is_empty());
    assert!(world.store.dead_letters.is_empty(), "what is healed is no dead letter any more");
}

/// A damaged chunk that is the first byte of a file, as the snapshot has it.
fn damaged_part(number: u8, snapshot: SnapshotId) -> DamagedInfo {
    let path = format!("f{number}").into_bytes();
    let part = FilePart { path: path.clone(), offset: 0, length: 1, size: 9, modified: WallTime::UNIX_EPOCH };
    DamagedInfo {
        hash: ChunkHash([number; 32]),
        problem: "bits have changed".to_owned(),
        affected: vec![(snapshot, path)],
        is_partial: false,
        origins: vec![ChunkOrigin { snapshot, part }],
    }
}

/// Three Stars and a snapshot of star-1 in the vault of star-2.
fn world_with_snapshot() -> (World, JobId, SnapshotId) {
    let mut world = World::of_three();
    let job = world.create(packed("star-1", &["star-2"]));
    world.settle();
    let id = world.core.snapshots()[0].info.id;
    (world, job, id)
}

fn letters(world: &World, job: JobId) -> Vec<String> {
    let letters = world.core.dead_letters().query(&DeadLetterFilter::for_job(job), 1000);
    letters.iter().map(|letter| letter.last_error.clone()).collect()
}

#[test]
fn more_damage_than_one_list_names_is_healed_behind_what_nobody_can_heal() {
    let (mut world, job, id) = world_with_snapshot();
    world.damaged.insert("star-2", (0..200).map(|number| damaged_part(number, id)).collect());
    // Nobody has the first hundred: more than a list.
    world.copies.extend((100..200).map(|number| ("star-3", ChunkHash([number; 32]))));
    world.say("star-2", StarMessage::DamageFound { chunks: 200, problem: String::new() });
    world.settle();
    let left: Vec<u8> = world.damaged["star-2"].iter().map(|info| info.hash.0[0]).collect();
    assert_eq!(left, (0..100).collect::<Vec<u8>>(), "whatever somebody has is healed");
    assert_eq!(letters(&world, job).len(), 100);
    // A Star that comes back may bring what was missing.
    world.copies.extend((0..50).map(|number| ("star-3", ChunkHash([number; 32]))));
    world.connect("star-3", 1, &[]);
    world.settle();
    assert_eq!(world.damaged["star-2"].len(), 50);
    assert_eq!(letters(&world, job).len(), 50);
    world.assert_clean();
}

#[test]
fn when_the_vault_that_is_asked_goes_away_the_next_one_is_asked() {
    let (mut world, job, id) = world_with_snapshot();
    world.damaged.insert("star-2", vec![damaged_part(1, id)]);
    for name in ["star-1", "star-3"] {
        world.copies.insert((name, ChunkHash([1; 32])));
    }
    world.say("star-2", StarMessage::DamageFound { chunks: 1, problem: String::new() });
    while world.answer("star-2") {}
    // One of the two is asked, and leaves before it answers.
    let is_asked = |world: &World, name| {
        let calls = &world.stars[name].calls;
        calls.iter().any(|(_, call)| matches!(call, VaultCall::LocateChunk(_)))
    };
    let first = if is_asked(&world, "star-3") { "star-3" } else { "star-1" };
    assert!(is_asked(&world, first));
    world.disconnect(first);
    world.settle();
    assert!(world.damaged["star-2"].is_empty());
    assert!(letters(&world, job).is_empty());
}

#[test]
fn a_vault_that_does_not_answer_in_time_is_passed_over_and_its_late_answer_changes_nothing() {
    let (mut world, job, id) = world_with_snapshot();
    world.damaged.insert("star-2", vec![damaged_part(1, id)]);
    world.unchanged.insert(ChunkHash([1; 32]));
    world.say("star-2", StarMessage::DamageFound { chunks: 1, problem: String::new() });
    while world.answer("star-2") {}
    // Both others are silent, one after the other; their heartbeats go on.
    for _ in 0..2 {
        for _ in 0..4 {
            ["star-1", "star-2", "star-3"].into_iter().for_each(|name| world.heartbeat(name));
            world.pass(10_000);
        }
    }
    world.settle();
    assert!(world.damaged["star-2"].is_empty(), "the file at the source has it");
    assert!(letters(&world, job).is_empty());
}

#[test]
fn what_no_vault_has_is_fetched_from_its_source_or_is_a_dead_letter_that_says_why_that_has_it_not() {
    let (mut world, job, id) = world_with_snapshot();
    world.damaged.insert("star-2", vec![damaged_part(1, id), damaged_part(2, id)]);
    world.unchanged.insert(ChunkHash([1; 32]));
    world.say("star-2", StarMessage::DamageFound { chunks: 2, problem: "a list is damaged".to_owned() });
    world.settle();
    assert_eq!(world.damaged["star-2"], [damaged_part(2, id)]);
    assert_eq!(world.healed, ["star-1:/data/in/f1"]);
    let told = letters(&world, job);
    assert!(told.len() == 1 && told[0].contains("star-1 has changed") && told[0].contains("f2"), "{told:?}");
    // Looked for again without success, it stays the one dead letter that it is.
    world.say("star-2", StarMessage::DamageFound { chunks: 1, problem: String::new() });
    world.settle();
    assert_eq!(letters(&world, job), told);

    // Without its source there is nobody to ask.
    world.disconnect("star-1");
    world.say("star-2", StarMessage::DamageFound { chunks: 1, problem: String::new() });
    world.settle();
    let told = letters(&world, job);
    assert!(told.len() == 1 && told[0].contains("star-1 is not connected"), "{told:?}");
    world.unchanged.insert(ChunkHash([2; 32]));
    world.connect("star-1", 1, &[]);
    world.settle();
    assert!(world.damaged["star-2"].is_empty(), "its source has come back");
    assert!(letters(&world, job).is_empty());
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
