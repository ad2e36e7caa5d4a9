//! Dead letters of one kind are one bulletin, vanished files are a class of their own, and so are files in motion.

use orbit_shared::bulletin::{Bulletin, BulletinFilter, Severity};
use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::session::{FailureCause, Fault, ItemResult};

use super::world::{World, directory, failed, file, spec, stored, tree};
use crate::core::{Command, JobState};

fn posted(world: &World, category: &str) -> Vec<Bulletin> {
    let filter = BulletinFilter { category: Some(category.to_owned()), ..BulletinFilter::default() };
    world.core.board().query(&filter, 2000).into_iter().cloned().collect()
}

#[test]
fn a_thousand_dead_letters_of_one_kind_are_one_bulletin_with_a_count_and_examples() {
    let mut world = World::of_three();
    world.tree = tree(1200);
    world.behaviour = Box::new(|entry| match entry.path.as_slice() {
        b"" => stored(entry),
        b"f000007" => failed(FailureCause::DataCorruption, Fault::Item),
        _ => failed(FailureCause::Permanent, Fault::Item),
    });
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.job(id).tally.dead, 1200);
    let said = posted(&world, "dead-letter");
    assert_eq!(said.len(), 2, "one for each kind: {said:#?}");
    let many = said.iter().find(|bulletin| bulletin.repeat_count > 1).expect("one counts");
    assert_eq!(many.repeat_count, 1199);
    assert!(many.message.contains("1198 more items") && many.message.contains("f000001"), "{}", many.message);
    let durable = world.store.bulletins.get(&many.id).expect("it is durable");
    assert_eq!(durable.repeat_count, 1199);
}

#[test]
fn vanished_files_are_counted_apart_and_a_later_complete_job_of_the_same_places_clears_them() {
    let mut world = World::of_three();
    world.tree = tree(300);
    let vanished = |entry: &orbit_shared::entry::Entry| match entry.path.as_slice() {
        path if path.ends_with(b"9") => failed(FailureCause::SourceMissing, Fault::Item),
        _ => stored(entry),
    };
    world.behaviour = Box::new(vanished);
    let first = world.create(spec("star-1", &["star-2"]));
    let elsewhere = world.create(spec("star-1", &["star-3"]));
    world.settle();
    let job = world.job(first);
    assert_eq!(job.record.state(), JobState::PartiallyCompleted);
    assert_eq!((job.tally.dead, job.tally.vanished), (30, 30));
    assert!(job.reason.contains("30 of them because they vanished"), "{}", job.reason);
    let said = posted(&world, "vanished");
    assert_eq!(said.len(), 2, "one for each job: {said:#?}");
    assert!(
        said.iter().all(|bulletin| bulletin.severity == Severity::Warning && bulletin.repeat_count == 30)
    );
    assert!(posted(&world, "dead-letter").is_empty());

    world.behaviour = Box::new(stored);
    let second = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.job(second).record.state(), JobState::Completed);
    let letters: Vec<_> = world.core.dead_letters().entries().map(|letter| letter.job_id).collect();
    assert_eq!(letters.len(), 30, "those of the other place stay");
    assert!(letters.iter().all(|job| *job == elsewhere));
    let open = posted(&world, "vanished").into_iter().filter(|bulletin| !bulletin.is_acknowledged);
    assert_eq!(open.map(|bulletin| bulletin.job_id).collect::<Vec<_>>(), [Some(elsewhere)]);
    assert_eq!(world.store.dead_letters.len(), 30);
    world.crash();
    assert_eq!(world.core.dead_letters().len(), 30);
}

#[test]
fn a_vanished_file_that_is_back_is_not_counted_as_vanished_any_more() {
    let mut world = World::of_three();
    world.behaviour = Box::new(super::failures::fail_on("f000004", FailureCause::SourceMissing));
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.job(id).tally.vanished, 1);
    world.behaviour = Box::new(stored);
    let filter = orbit_shared::dead_letter::DeadLetterFilter::for_job(id);
    world.command(crate::core::Command::RetryDeadLetters(filter)).expect("it is there");
    world.settle();
    let job = world.job(id);
    assert_eq!((job.record.state(), job.tally.dead, job.tally.vanished), (JobState::Completed, 0, 0));
}

#[test]
fn files_that_changed_while_they_were_read_are_counted_and_said_once_for_each_job() {
    let mut world = World::of_three();
    world.tree = tree(300);
    world.behaviour = Box::new(|entry| match (stored(entry), entry.path.ends_with(b"9")) {
        (ItemResult::Stored { size, bytes_transferred, bytes_deduplicated, duration, chunks, .. }, true) => {
            let is_changed = true;
            ItemResult::Stored { size, bytes_transferred, bytes_deduplicated, duration, is_changed, chunks }
        }
        (result, _) => result,
    });
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    let job = world.job(id);
    assert_eq!((job.record.state(), job.tally.changed, job.tally.dead), (JobState::Completed, 30, 0));
    assert!(job.reason.contains("30 files changed while they were read"), "{}", job.reason);
    let said = posted(&world, "changed-while-read");
    let [one] = said.as_slice() else { panic!("once for each job: {said:#?}") };
    assert_eq!((one.severity, one.repeat_count), (Severity::Warning, 30));
    assert!(one.message.contains("30 files") && one.message.contains("f000009"), "{}", one.message);
    assert_eq!(world.store.bulletins.get(&one.id).map(|durable| durable.repeat_count), Some(30));
}

#[test]
fn a_retried_dead_letter_of_a_directory_that_could_not_be_listed_brings_all_that_is_in_it() {
    let mut world = World::of_three();
    let unreadable = Entry { kind: EntryKind::Unreadable { errno: 13 }, ..directory("closed") };
    let gone = Entry { kind: EntryKind::Unreadable { errno: 5 }, ..directory("gone") };
    world.tree = tree(20);
    world.tree.insert(1, unreadable);
    world.tree.push(gone);
    let id = world.create(spec("star-1", &["star-2", "star-3"]));
    world.settle();
    assert_eq!((world.job(id).record.state(), world.job(id).tally.dead), (JobState::PartiallyCompleted, 4));
    // Its rights are given, and the other one was removed.
    world.tree.pop();
    world.tree[1] = directory("closed");
    let inside = [file("closed/a", 10), directory("closed/deep"), file("closed/deep/b", 20)];
    world.tree.splice(2..2, inside);
    world.command(Command::RetryDeadLetters(DeadLetterFilter::for_job(id))).expect("retries");
    world.settle();
    let job = world.job(id);
    // The root, the files, the directory and what is in it, and what is gone.
    assert_eq!((job.tally.total, job.tally.dead, job.tally.vanished), (2 * (1 + 20 + 4 + 1), 2, 2));
    assert_eq!(job.tally.stored, 2 * (1 + 20 + 4));
}
