//! Failures: penalties, dead letters, and the bounds that keep them from taking the job with them.

use std::cell::Cell;
use std::rc::Rc;

use orbit_shared::dead_letter::{DeadLetterFilter, FailureReason};
use orbit_shared::entry::Entry;
use orbit_shared::session::{FailureCause, Fault};
use orbit_shared::words::JobId;

use super::world::{World, failed, spec, stored};
use crate::core::{Answer, Command, ItemEnd, JobState, Refusal};

pub(super) fn fail_on(
    path: &'static str,
    cause: FailureCause,
) -> impl FnMut(&Entry) -> orbit_shared::session::ItemResult {
    move |entry| if entry.path == path.as_bytes() { failed(cause, Fault::Item) } else { stored(entry) }
}

#[test]
fn an_item_that_fails_for_a_while_is_tried_again_and_stored() {
    let mut world = World::of_three();
    let left = Rc::new(Cell::new(3));
    let failures = left.clone();
    world.behaviour = Box::new(move |entry| {
        if entry.path == b"f000004" && failures.get() > 0 {
            failures.set(failures.get() - 1);
            return failed(FailureCause::Transient, Fault::Item);
        }
        stored(entry)
    });
    let id = world.create(spec("star-1", &["star-2"]));
    let start = world.now_ms;
    world.settle();
    assert_eq!(left.get(), 0);
    assert_eq!(world.job(id).record.state(), JobState::Completed);
    assert_eq!(world.now_ms - start, 1000 + 2000 + 4000, "it waited 1, 2 and 4 seconds");
    world.assert_clean();
}

#[test]
fn the_fifth_failure_makes_a_dead_letter_and_the_rest_completes() {
    let mut world = World::of_three();
    world.behaviour = Box::new(fail_on("f000004", FailureCause::Transient));
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    let job = world.job(id);
    assert_eq!(job.record.state(), JobState::PartiallyCompleted);
    assert_eq!((job.tally.stored, job.tally.dead), (10, 1));
    let letter = world.core.dead_letters().entries().next().expect("a letter").clone();
    assert_eq!(letter.failure_reason, FailureReason::RetriesExhausted { attempts: 5 });
    assert_eq!(letter.source_path.as_deref(), Some(&b"/data/in/f000004"[..]));
    assert_eq!(letter.dest_path.as_deref(), Some(&b"/data/out/f000004"[..]));
    assert!(letter.first_failed_at < letter.last_failed_at);
    world.assert_clean();
}

#[test]
fn what_cannot_be_helped_by_trying_again_is_given_up_at_once() {
    for (cause, reason) in [
        (FailureCause::Permanent, FailureReason::PermanentError),
        (FailureCause::SourceMissing, FailureReason::SourceMissing),
        (FailureCause::DataCorruption, FailureReason::DataCorruption),
    ] {
        let mut world = World::of_three();
        world.behaviour = Box::new(fail_on("f000004", cause));
        world.create(spec("star-1", &["star-2"]));
        let start = world.now_ms;
        world.settle();
        assert_eq!(world.now_ms, start, "{cause:?} is not waited for");
        let letter = world.core.dead_letters().entries().next().expect("a letter");
        assert_eq!((letter.failure_reason, letter.attempts), (reason, 1));
    }
}

#[test]
fn a_retried_dead_letter_completes_its_job() {
    let mut world = World::of_three();
    world.behaviour = Box::new(fail_on("f000004", FailureCause::Permanent));
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    world.behaviour = Box::new(stored);
    let retry = Command::RetryDeadLetters(DeadLetterFilter::for_job(id));
    assert_eq!(world.command(retry), Ok(Answer::Count(1)));
    assert_eq!(world.job(id).record.state(), JobState::Running);
    world.settle();
    let job = world.job(id);
    assert_eq!(job.record.state(), JobState::Completed, "{}", job.reason);
    assert_eq!((job.tally.total, job.tally.stored, job.tally.dead), (11, 11, 0));
    assert!(world.store.dead_letters.is_empty());
    world.assert_clean();
}

#[test]
fn a_dead_letter_that_dies_again_keeps_its_history() {
    let mut world = World::of_three();
    world.behaviour = Box::new(fail_on("f000004", FailureCause::Permanent));
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    world.command(Command::RetryDeadLetters(DeadLetterFilter::for_job(id))).expect("retries");
    world.crash();
    for name in ["star-1", "star-2", "star-3"] {
        world.connect(name, 1, &[]);
    }
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::PartiallyCompleted);
    let letter = world.core.dead_letters().entries().next().expect("a letter");
    assert_eq!(letter.deaths(), 2);
    assert_eq!(world.store.dead_letters.len(), 1);
}

#[test]
fn a_retry_names_what_to_retry() {
    let mut world = World::of_three();
    let retry = world.command(Command::RetryDeadLetters(DeadLetterFilter::default()));
    assert!(matches!(retry, Err(Refusal::Invalid(_))), "{retry:?}");
    let other = world.command(Command::RetryDeadLetters(DeadLetterFilter::for_job(JobId(9))));
    assert_eq!(other, Ok(Answer::Count(0)));
}

#[test]
fn discarded_dead_letters_stay_counted() {
    let mut world = World::of_three();
    world.behaviour = Box::new(fail_on("f000004", FailureCause::Permanent));
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    let discard = Command::DiscardDeadLetters(DeadLetterFilter::for_job(id));
    assert_eq!(world.command(discard), Ok(Answer::Count(1)));
    assert_eq!(world.job(id).tally.dead, 1);
    assert!(world.store.dead_letters.is_empty());
    assert_eq!(world.ended(ItemEnd::Dead), 1);
}

#[test]
fn a_job_at_its_dead_letter_limit_pauses_and_loses_nothing() {
    let mut world = World::of_three();
    world.tree = super::world::tree(600);
    world.behaviour = Box::new(|_| failed(FailureCause::Permanent, Fault::Item));
    let mut limited = spec("star-1", &["star-2"]);
    limited.dead_letter_max = 2;
    let id = world.create(limited);
    world.settle();
    let job = world.job(id);
    assert_eq!(job.record.state(), JobState::Paused);
    assert_eq!(job.tally.total, job.tally.dead + job.tally.open());
    assert_eq!(world.core.dead_letters().len() as u64, job.tally.dead, "every death has its letter");
    assert!(job.reason.contains("dead letters"), "{}", job.reason);
}

#[test]
fn failures_of_a_source_that_is_gone_are_not_held_against_the_items() {
    let mut world = World::of_three();
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    world.disconnect("star-1");
    world.behaviour = Box::new(|_| failed(FailureCause::Transient, Fault::Source));
    while world.work("star-2") {}
    assert_eq!(world.job(id).penalized, 0);
    world.behaviour = Box::new(stored);
    world.connect("star-1", 2, &[]);
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
}

#[test]
fn forgiven_items_are_tried_at_once() {
    let mut world = World::of_three();
    world.behaviour = Box::new(fail_on("f000004", FailureCause::Transient));
    let id = world.create(spec("star-1", &["star-2"]));
    world.scan("star-1");
    while world.work("star-2") {}
    assert_eq!(world.job(id).penalized, 1);
    world.behaviour = Box::new(stored);
    let clear = Command::ClearPenalties { job: Some(id), item: None };
    assert_eq!(world.command(clear), Ok(Answer::Count(1)));
    while world.work("star-2") {}
    assert_eq!(world.job(id).record.state(), JobState::Completed);
    world.assert_clean();
}

#[test]
fn a_fifo_that_became_a_file_is_stored_by_a_retry_also_after_a_restart() {
    let mut world = World::of_three();
    let kind = orbit_shared::entry::EntryKind::Fifo;
    world.tree.push(Entry { kind, ..super::world::file("pipe", 0) });
    let id = world.create(spec("star-1", &["star-2"]));
    world.settle();
    assert_eq!(world.job(id).tally.dead, 1);
    world.command(Command::RetryDeadLetters(DeadLetterFilter::for_job(id))).expect("retries");
    world.crash();
    for name in ["star-1", "star-2", "star-3"] {
        world.connect(name, 1, &[]);
    }
    world.behaviour = Box::new(|entry| {
        assert!(entry.kind.is_carried(), "{entry:?} is given to a Star");
        stored(entry)
    });
    world.settle();
    assert_eq!(world.job(id).record.state(), JobState::Completed);
}
