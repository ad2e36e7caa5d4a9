//! The catalogue of snapshots follows the vaults, and no vault takes all its places.

use orbit_shared::time::WallTime;
use orbit_shared::vault_call::{Renames, SnapshotInfo, VaultCall, VaultReply};
use orbit_shared::words::{JobId, SnapshotId};

use super::vaults::{packed, said};
use super::world::{World, star_id};
use crate::core::limits::{SNAPSHOTS_FEW, SNAPSHOTS_MAX, SNAPSHOTS_RESERVED};
use crate::core::{Answer, Turn};
#[test]
fn a_vault_that_comes_back_under_another_name_is_listed_there_at_once_with_its_origin() {
    let mut world = World::of_three();
    world.create(packed("star-1", &["star-2"]));
    world.settle();
    let id = world.core.snapshots()[0].info.id;
    let copied = world.vaults["star-2"].clone();
    world.vaults.insert("star-3", copied);
    world.connect("star-3", 2, &[]);
    world.settle();
    assert_eq!(
        world.core.snapshots()[0].star.as_str(),
        "star-2",
        "the first one that spoke, while it is there"
    );
    assert_eq!(said(&world, "one is a copy of the other"), (1, 1));
    world.disconnect("star-2");
    world.connect("star-3", 3, &[]);
    while world.answer("star-3") {}
    let record = world.core.snapshot(id).expect("it is known").clone();
    assert_eq!(record.star.as_str(), "star-3");
    assert_eq!(record.origin.as_ref().map(|star| star.as_str()), Some("star-2"));
    assert_eq!(world.store.snapshots[&id], record);
}

#[test]
fn two_processes_that_are_one_star_are_an_error_on_the_board() {
    let mut world = World::of_three();
    world.disconnect("star-3");
    world.connect("star-3", 2, &[]);
    assert_eq!(said(&world, "two processes are star-3"), (0, 0), "it was started again");
    // The old session is open, and the process was heard just now.
    world.connect("star-2", 2, &[]);
    assert_eq!(said(&world, "two processes are star-2"), (1, 1));
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
    world.store = super::store::FakeStore::default();
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
fn a_snapshot_that_is_brought_back_is_in_the_catalogue_again_whatever_list_is_on_its_way() {
    let mut world = World::of_three();
    world.create(packed("star-1", &["star-2"]));
    world.settle();
    let before = world.core.snapshots()[0].clone();
    world.ask("star-2", VaultCall::DeleteSnapshot(before.info.id));
    while world.answer("star-2") {}
    assert!(world.core.snapshots().is_empty());
    // A list that is read now is answered after the snapshot is back.
    world.connect("star-2", 1, &[]);
    let star = world.stars.get_mut("star-2").expect("connected");
    let (list, _) = star.calls.pop_front().expect("the catalogue is asked for");
    let reply = world.ask("star-2", VaultCall::UndeleteSnapshot(before.info.id));
    while world.answer("star-2") {}
    let back = Answer::Vault(Box::new(VaultReply::Sealed(before.info.clone(), Renames::default())));
    assert_eq!(world.answered(reply), Some(Ok(back)));
    let answer = Ok(VaultReply::Snapshots { snapshots: Vec::new(), stages: Vec::new(), is_end: true });
    world.say("star-2", orbit_shared::session::StarMessage::VaultAnswered { request: list, answer });
    world.settle();
    assert_eq!(world.core.snapshots(), [&before]);
    assert_eq!(world.store.snapshots.len(), 1, "it is durable");
}

#[test]
fn one_vault_with_endless_snapshots_leaves_places_for_those_of_others() {
    let mut world = World::of_three();
    let info = |number: usize, star: &str| SnapshotInfo {
        id: SnapshotId((number as u128).to_be_bytes()),
        job: JobId(1),
        destination: 0,
        source_star: star_id(star),
        source_path: b"/".to_vec(),
        create_time: WallTime { seconds: 1, nanos: 0 },
        tags: Vec::new(),
        is_partial: false,
        entry_count: 1,
        file_count: 1,
        total_bytes: 1,
        added_bytes: 1,
        changed_count: 0,
        tree_hash: None,
    };
    let now = world.now();
    let mut turn = Turn::new(now);
    let mut add = |world: &mut World, star: &str, numbers: std::ops::Range<usize>| {
        for number in numbers {
            world.core.catalogue(&mut turn, &star_id(star), info(number, star));
        }
        turn.take();
        world.core.snapshots().iter().filter(|record| record.star == star_id(star)).count()
    };
    let flooded = add(&mut world, "star-1", 0..2 * SNAPSHOTS_MAX);
    assert_eq!(flooded, SNAPSHOTS_MAX - SNAPSHOTS_RESERVED);
    let honest = 2 * SNAPSHOTS_MAX..2 * SNAPSHOTS_MAX + SNAPSHOTS_FEW;
    assert_eq!(add(&mut world, "star-2", honest), SNAPSHOTS_FEW);
    let more = 3 * SNAPSHOTS_MAX..3 * SNAPSHOTS_MAX + 10;
    assert_eq!(add(&mut world, "star-1", more), flooded, "it has its share");
    let page = vec![info(5 * SNAPSHOTS_MAX, "star-1")];
    world.core.compare(&mut Turn::new(now), 0, &star_id("star-1"), (None, None), page);
    let told =
        world.core.board().by_source("star-1").iter().any(|told| told.message.contains("catalogue is full"));
    assert!(told, "{:?}", world.core.board().by_source("star-1"));
    // What goes gives its place back.
    world.core.forget_snapshots_of(&mut Turn::new(now), &star_id("star-1"));
    assert_eq!(add(&mut world, "star-1", 0..10), 10);
    assert_eq!(add(&mut world, "star-2", 4 * SNAPSHOTS_MAX..4 * SNAPSHOTS_MAX + 10), SNAPSHOTS_FEW + 10);
}
