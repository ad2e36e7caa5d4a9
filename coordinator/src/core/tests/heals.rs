//! Damage in a vault: found, healed from others or from the source, or named as lost.

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::session::StarMessage;
use orbit_shared::time::WallTime;
use orbit_shared::vault_call::{ChunkOrigin, DamagedInfo, FilePart, VaultCall};
use orbit_shared::words::{JobId, SnapshotId};

use super::vaults::packed;
use super::world::World;
use crate::core::{Answer, Command};
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
