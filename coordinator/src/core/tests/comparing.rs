//! What a destination has already never becomes work, and what it does not say holds nothing up.

use std::collections::BTreeSet;

use orbit_shared::comparison::Unchanged;
use orbit_shared::session::StarMessage;

use super::world::{World, batch, directory, file, spec, tree};
use crate::core::{CloseReason, ItemEnd, JobState};

fn paths(paths: &[&str]) -> Option<BTreeSet<Vec<u8>>> {
    Some(paths.iter().map(|path| path.as_bytes().to_vec()).collect())
}

#[test]
fn what_is_there_unchanged_is_skipped_without_an_assignment() {
    let mut world = World::of_three();
    world.tree = vec![directory(""), file("a", 10), file("b", 20), file("c", 30)];
    world.present = paths(&["", "a", "c"]);
    let job = world.create(spec("star-1", &["star-2", "star-3"]));
    world.settle();
    let view = world.job(job);
    assert_eq!(view.record.state(), JobState::Completed);
    let tally = view.record.tallies[1];
    assert_eq!((tally.total, tally.skipped, tally.stored), (4, 2, 2), "the directory is never compared");
    assert_eq!((tally.bytes_total, tally.bytes_stored), (60, 60));
    assert_eq!((world.core.totals().skipped, world.core.totals().bytes_stored), (4, 120));
    let given: BTreeSet<u64> = world.given.iter().map(|(_, item)| item.sequence).collect();
    assert_eq!(given, BTreeSet::from([0, 2]), "the directory and b");
    let skipped = world.store.ends.values().filter(|record| record.end == ItemEnd::Skipped).count();
    assert_eq!(skipped, 4, "two files at two places");
    world.crash();
    assert_eq!(world.job(job).record.tallies[0].skipped, 2);
}

#[test]
fn a_destination_that_does_not_answer_is_waited_for_a_while_and_then_passed_over() {
    let mut world = World::of_three();
    world.present = None;
    let job = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    assert_eq!(world.job(job).record.tally().total, 0, "the batch waits");
    assert_eq!(world.job(job).record.state(), JobState::Scanning);
    while world.job(job).record.tally().total == 0 {
        world.heartbeat("star-1");
        world.heartbeat("star-2");
        assert!(world.wait(5_000), "it is not waited for longer");
    }
    world.settle();
    assert_eq!(world.job(job).record.tally().stored, 11);
}

#[test]
fn a_destination_that_goes_away_is_not_waited_for() {
    let mut world = World::of_three();
    world.present = None;
    let job = world.create(spec("star-1", &["star-2", "star-3"]));
    world.scan("star-1");
    world.disconnect("star-2");
    assert_eq!(world.job(job).record.tally().total, 0, "star-3 may still answer");
    world.disconnect("star-3");
    assert_eq!(world.job(job).record.tally().total, 22);
}

#[test]
fn an_answer_to_a_scan_that_is_over_changes_nothing() {
    let mut world = World::of_three();
    world.present = None;
    let job = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    world.disconnect("star-1");
    assert_eq!(world.job(job).record.tally().total, 0, "nothing of it was acknowledged");
    world.present = paths(&["f000001"]);
    world.connect("star-1", 2, &[]);
    // The answer about the first scan comes now, and the second scan is compared again.
    world.settle();
    let tally = world.job(job).record.tally();
    assert_eq!((tally.total, tally.skipped, tally.stored), (11, 1, 10));
}

#[test]
fn an_answer_to_no_question_is_late() {
    let mut world = World::of_three();
    let unchanged = Unchanged::from_bytes(vec![0xff]);
    world.say("star-2", StarMessage::Compared { request: 77, unchanged });
    assert_eq!(world.core.late_count, 1);
}

#[test]
fn a_place_that_has_nothing_is_asked_ever_more_seldom_and_one_that_has_is_asked_each_time() {
    for (present, expected) in [(vec![], 6), (vec!["f000000"], 40)] {
        let mut world = World::of_three();
        world.tree = tree(40);
        world.present = paths(&present);
        let job = world.create(spec("star-1", &["star-2"]));
        let scan =
            world.stars.get_mut("star-1").and_then(|star| star.scans.pop_front()).expect("a scan").scan;
        for number in 1..=40 {
            // Each batch lists what is there, if anything is.
            let entries = vec![file(if present.is_empty() { "new" } else { "f000000" }, number)];
            let batch = batch(scan, number, entries);
            world.say("star-1", StarMessage::ScanBatch(batch));
        }
        assert_eq!(world.asked, expected, "batches of which {present:?} is there");
        assert_eq!(world.job(job).record.tally().total, 40);
    }
}

#[test]
fn a_star_that_sends_more_batches_than_it_may_is_cut_off() {
    let mut world = World::of_three();
    world.present = None;
    world.create(spec("star-1", &["star-2"]));
    let scan = world.stars.get_mut("star-1").and_then(|star| star.scans.pop_front()).expect("a scan").scan;
    for number in 1..=9 {
        let entries = vec![file("f", number)];
        let batch = batch(scan, number, entries);
        world.say("star-1", StarMessage::ScanBatch(batch));
    }
    let closed = world.stars["star-1"].was_closed.clone();
    assert!(matches!(closed, Some(CloseReason::ProtocolViolated { .. })), "{closed:?}");
}
