//! The catalogue of snapshots follows the vaults.

use orbit_shared::vault_call::{Renames, VaultCall, VaultReply};
use orbit_shared::words::JobId;

use super::vaults::{packed, said};
use super::world::{Heard, World};

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
    assert_eq!(world.answered(reply), Some(Ok(Heard::Vault(Box::new(VaultReply::Done)))));
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
    let back = Heard::Vault(Box::new(VaultReply::Sealed(before.info.clone(), Renames::default())));
    assert_eq!(world.answered(reply), Some(Ok(back)));
    let answer = Ok(VaultReply::Snapshots { snapshots: Vec::new(), stages: Vec::new(), is_end: true });
    world.say("star-2", orbit_shared::session::StarMessage::VaultAnswered { request: list, answer });
    world.settle();
    assert_eq!(world.core.snapshots(), [&before]);
    assert_eq!(world.store.snapshots.len(), 1, "it is durable");
}
