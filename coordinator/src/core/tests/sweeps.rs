//! Mirrors end when every destination has deleted what the source does not have, whatever else failed.

use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::session::{FailureCause, Fault, StarMessage};
use orbit_shared::sweep::{SweepInfo, SweepRequest};
use orbit_shared::vault_call::{Progress, VaultCall, VaultFailure, VaultProblem, VaultReply};
use orbit_shared::words::JobId;

use super::world::{Heard, World, failed, spec, stored};
use crate::core::{Command, Event, JobSpec, JobState, MirrorPolicy, Refusal};

pub(super) fn mirror(destinations: &[&str]) -> JobSpec {
    let mirror = MirrorPolicy { max_delete_percent: 25, trash: Some(".trash".to_owned()) };
    JobSpec { mirror: Some(mirror), exclude: vec!["*.tmp".to_owned()], ..spec("star-1", destinations) }
}

fn swept(found: u64, extra: u64) -> SweepInfo {
    let progress = Progress::Done;
    SweepInfo { progress, found, extra, deleted: extra, ..SweepInfo::BEGUN }
}

impl World {
    /// Everything but what destinations are asked about sweeps.
    pub(super) fn work_all(&mut self, names: &[&'static str]) {
        let is_working = |world: &mut Self, name| {
            let is_busy = world.scan(name) | world.work(name);
            let is_sweep = matches!(world.stars[name].calls.front(), Some((_, VaultCall::Sweep(_))));
            is_busy | (!is_sweep && world.answer(name))
        };
        while names.iter().any(|&name| is_working(self, name)) {}
    }

    /// The sweep that a destination is asked for.
    pub(super) fn sweep_of(&self, name: &str) -> Option<SweepRequest> {
        match self.stars[name].calls.front() {
            Some((_, VaultCall::Sweep(sweep))) => Some(SweepRequest::clone(sweep)),
            _ => None,
        }
    }

    fn say_swept(&mut self, name: &'static str, answer: Result<SweepInfo, VaultProblem>) {
        let star = self.stars.get_mut(name).expect("connected");
        let (request, call) = star.calls.pop_front().expect("it was asked");
        assert!(matches!(call, VaultCall::Sweep(_)), "{call:?}");
        self.say(name, StarMessage::VaultAnswered { request, answer: answer.map(VaultReply::Swept) });
    }

    pub(super) fn state(&self, job: JobId) -> (JobState, String) {
        let job = self.job(job);
        (job.record.state(), job.reason)
    }
}

pub(super) const ALL: [&str; 3] = ["star-1", "star-2", "star-3"];

#[test]
fn a_mirror_ends_when_every_destination_has_swept() {
    let mut world = World::of_three();
    let id = world.create(mirror(&["star-2", "star-3"]));
    assert!(world.sweep_of("star-2").is_none(), "nothing is deleted before everything is there");
    world.work_all(&ALL);
    let sweep = world.sweep_of("star-2").expect("all items have ended");
    assert_eq!(sweep.scan.exclude, ["*.tmp", "/.trash"], "the trash is never swept");
    assert_eq!((sweep.max_delete_percent, sweep.is_plan, sweep.scan.job), (25, false, id));
    world.say_swept("star-2", Ok(SweepInfo { progress: Progress::Running, found: 7, ..swept(7, 0) }));
    let (state, reason) = world.state(id);
    assert!(state == JobState::Running && reason.contains("7 entries looked at"), "{state:?} {reason}");
    let again = world.sweep_of("star-2").expect("it is asked how far it is");
    assert_eq!((again.operation, again.destination), (sweep.operation, sweep.destination));
    world.say_swept("star-2", Ok(swept(10, 2)));
    assert_eq!(world.state(id).0, JobState::Running, "the other one is not done");
    world.say_swept("star-3", Ok(swept(10, 1)));
    let (state, reason) = world.state(id);
    assert!(state == JobState::Completed && reason.contains("3 entries"), "{state:?} {reason}");
    assert_eq!(world.store.jobs[&id].deleted(), 3, "what was deleted is durable");
    let said = world.core.board().by_job(id).into_iter().find(|bulletin| bulletin.source == "star-3");
    let message = said.map(|bulletin| bulletin.message.clone()).unwrap_or_default();
    assert!(
        message.contains("1 entries at star-3:/data/out that are not at the source were moved"),
        "{message}"
    );
    world.assert_clean();
}

#[test]
fn a_destination_that_must_not_delete_so_much_fails_the_job_and_says_what_to_do() {
    let mut world = World::of_three();
    let id = world.create(mirror(&["star-2"]));
    world.work_all(&ALL);
    let refused = SweepInfo { deleted: 0, is_refused: true, ..swept(10, 9) };
    world.say_swept("star-2", Ok(refused));
    let (state, reason) = world.state(id);
    assert_eq!(state, JobState::Failed);
    for part in ["star-2:/data/out", "9 of the 10", "25 %", "max_delete_percent"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

#[test]
fn what_cannot_be_deleted_makes_the_end_partial() {
    let mut world = World::of_three();
    let id = world.create(mirror(&["star-2"]));
    world.work_all(&ALL);
    let problem = "cannot delete /data/out/x: denied".to_owned();
    world.say_swept("star-2", Ok(SweepInfo { failed: 1, deleted: 1, problem, ..swept(10, 2) }));
    let (state, reason) = world.state(id);
    assert!(state == JobState::PartiallyCompleted && reason.contains("/data/out/x"), "{state:?} {reason}");
}

#[test]
fn what_could_not_be_moved_keeps_nothing_else_from_being_deleted() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|entry| match entry.path.ends_with(b"3") {
        true => failed(FailureCause::Permanent, Fault::Item),
        false => stored(entry),
    });
    let id = world.create(mirror(&["star-2"]));
    world.work_all(&ALL);
    assert!(world.sweep_of("star-2").is_some(), "{:?}", world.state(id));
    world.say_swept("star-2", Ok(swept(10, 2)));
    let (state, reason) = world.state(id);
    assert_eq!(state, JobState::PartiallyCompleted);
    assert!(reason.contains("could not be moved") && reason.contains("2 entries"), "{reason}");
    world.behaviour = Box::new(stored);
    world.command(Command::RetryDeadLetters(DeadLetterFilter::for_job(id))).expect("they can be tried again");
    world.work_all(&ALL);
    world.say_swept("star-2", Ok(swept(10, 1)));
    let (state, reason) = world.state(id);
    assert!(state == JobState::Completed && reason.contains("3 entries"), "both sweeps count: {reason}");
    assert_eq!(world.store.jobs[&id].deleted(), 3);
}

/// A mirror with a dead letter, whose sweep was asked for when the letter is retried.
fn retried_while_it_is_swept() -> (World, JobId, SweepRequest) {
    let mut world = World::of_three();
    world.behaviour = Box::new(|entry| match entry.path.ends_with(b"3") {
        true => failed(FailureCause::Permanent, Fault::Item),
        false => stored(entry),
    });
    let id = world.create(mirror(&["star-2"]));
    world.work_all(&ALL);
    let sweep = world.sweep_of("star-2").expect("all items have ended");
    world.behaviour = Box::new(stored);
    world.command(Command::RetryDeadLetters(DeadLetterFilter::for_job(id))).expect("it can be tried again");
    (world, id, sweep)
}

#[test]
fn a_mirror_whose_dead_letter_is_retried_while_it_is_swept_ends() {
    let (mut world, id, earlier) = retried_while_it_is_swept();
    world.say_swept("star-2", Ok(SweepInfo { progress: Progress::Running, ..swept(7, 0) }));
    assert!(world.sweep_of("star-2").is_none(), "an item is open");
    world.work_all(&ALL);
    let sweep = world.sweep_of("star-2").expect("all items have ended");
    assert_ne!(sweep.operation, earlier.operation, "the Star would join the earlier one");
    world.say_swept("star-2", Ok(swept(10, 1)));
    assert_eq!(world.state(id).0, JobState::Completed, "{}", world.state(id).1);
    world.assert_clean();
}

#[test]
fn what_a_sweep_deleted_before_a_retry_is_counted_and_said() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|entry| match entry.path.ends_with(b"3") {
        true => failed(FailureCause::Permanent, Fault::Item),
        false => stored(entry),
    });
    let id = world.create(mirror(&["star-2"]));
    world.work_all(&ALL);
    assert!(world.sweep_of("star-2").is_some());
    world.say_swept("star-2", Ok(SweepInfo { progress: Progress::Running, deleted: 2, ..swept(7, 2) }));
    assert!(world.sweep_of("star-2").is_some(), "it is asked how far it is");
    world.behaviour = Box::new(stored);
    world.command(Command::RetryDeadLetters(DeadLetterFilter::for_job(id))).expect("it can be tried again");
    // The answer that was on its way: three more were deleted before the Star heard of the retry.
    world.say_swept("star-2", Ok(SweepInfo { progress: Progress::Running, deleted: 5, ..swept(9, 5) }));
    let said = world.core.board().by_job(id).into_iter().any(|bulletin| {
        bulletin.source == "star-2" && bulletin.message.contains("5 entries at star-2:/data/out")
    });
    assert!(said, "deletions are said");
    world.work_all(&ALL);
    world.say_swept("star-2", Ok(swept(10, 1)));
    let (state, reason) = world.state(id);
    assert!(state == JobState::Completed && reason.contains("6 entries"), "{state:?} {reason}");
    world.assert_clean();
}

#[test]
fn the_result_of_a_sweep_from_before_a_retry_does_not_count() {
    let (mut world, id, earlier) = retried_while_it_is_swept();
    while world.scan("star-1") | world.work("star-1") | world.work("star-2") {}
    // The item has moved, and the earlier sweep is answered now.
    assert_eq!(world.sweep_of("star-2").map(|sweep| sweep.operation), Some(earlier.operation));
    world.say_swept("star-2", Ok(swept(10, 1)));
    assert_eq!(world.state(id).0, JobState::Running, "it is not swept since");
    let sweep = world.sweep_of("star-2").expect("it is asked for");
    world.crash();
    world.connect("star-1", 1, &[]);
    world.connect("star-2", 1, &[]);
    world.work_all(&["star-1", "star-2"]);
    let again = world.sweep_of("star-2").expect("it is asked for again");
    assert_eq!(again.operation, sweep.operation, "the Star joins the one that it has begun");
    world.say_swept("star-2", Ok(swept(10, 2)));
    let (state, reason) = world.state(id);
    assert!(state == JobState::Completed && reason.contains("3 entries"), "{state:?} {reason}");
}

#[test]
fn what_is_in_the_way_is_swept_before_its_item_moves() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|entry| match entry.path.ends_with(b"3") {
        true => failed(FailureCause::InTheWay, Fault::Item),
        false => stored(entry),
    });
    let id = world.create(mirror(&["star-2", "star-3"]));
    world.work_all(&ALL);
    assert!(world.sweep_of("star-2").is_some() && world.sweep_of("star-3").is_some());
    assert_eq!(world.state(id).0, JobState::Running);
    world.behaviour = Box::new(stored);
    world.say_swept("star-2", Ok(swept(10, 1)));
    world.work_all(&ALL);
    assert_eq!(world.state(id).0, JobState::Running, "star-3 is not swept");
    world.say_swept("star-3", Ok(swept(10, 1)));
    world.work_all(&ALL);
    assert_eq!(world.state(id).0, JobState::Completed, "{}", world.state(id).1);
    world.assert_clean();
}

#[test]
fn what_stays_in_the_way_is_a_dead_letter_at_once() {
    let mut world = World::of_three();
    world.behaviour = Box::new(|entry| match entry.path.ends_with(b"3") {
        true => failed(FailureCause::InTheWay, Fault::Item),
        false => stored(entry),
    });
    let id = world.create(mirror(&["star-2"]));
    world.work_all(&ALL);
    // As when what is left out of the job is in the directory that is in the way; and once more after a crash.
    world.crash();
    world.connect("star-1", 1, &[]);
    world.connect("star-2", 1, &[]);
    world.work_all(&["star-1", "star-2"]);
    world.say_swept("star-2", Ok(swept(10, 0)));
    world.work_all(&["star-1", "star-2"]);
    let (state, reason) = world.state(id);
    assert_eq!(state, JobState::PartiallyCompleted, "{reason}");
    world.assert_clean();
}

#[test]
fn a_sweep_that_fails_or_whose_answer_is_lost_is_asked_for_again() {
    let mut world = World::of_three();
    let id = world.create(mirror(&["star-2"]));
    world.work_all(&ALL);
    let message = "star-1 does not answer".to_owned();
    world.say_swept("star-2", Err(VaultProblem { failure: VaultFailure::Failed, message }));
    let (state, reason) = world.state(id);
    assert!(state == JobState::Running && reason.contains("is asked again: star-1"), "{state:?} {reason}");
    assert!(world.sweep_of("star-2").is_none(), "after a pause");
    assert!(world.wait(2_000), "there is a time for the next attempt");
    assert!(world.sweep_of("star-2").is_some());
    // The answer is lost with the session, and with the coordinator.
    world.connect("star-2", 1, &[]);
    world.work_all(&ALL);
    assert!(world.sweep_of("star-2").is_some());
    world.crash();
    world.connect("star-1", 1, &[]);
    world.connect("star-2", 1, &[]);
    world.work_all(&["star-1", "star-2"]);
    world.say_swept("star-2", Ok(swept(10, 0)));
    let (state, reason) = world.state(id);
    assert!(
        state == JobState::Completed && reason.contains("nothing had to be deleted"),
        "{state:?} {reason}"
    );
}

#[test]
fn a_mirror_whose_source_is_away_waits_and_a_cancelled_one_is_given_up() {
    let mut world = World::of_three();
    let id = world.create(mirror(&["star-2"]));
    world.work_all(&ALL);
    world.say_swept("star-2", Ok(SweepInfo { progress: Progress::Failed, ..swept(0, 0) }));
    world.disconnect("star-1");
    assert!(world.wait(2_000));
    assert!(world.sweep_of("star-2").is_none(), "nobody could be asked what the source has");
    assert!(world.state(id).1.contains("star-1"), "{}", world.state(id).1);
    world.command(Command::CancelJob { job: id, reason: String::new() }).expect("it can be cancelled");
    assert_eq!(world.stars["star-2"].ended_jobs, [id], "a sweep that goes on is to stop");
}

#[test]
fn a_plan_of_a_mirror_says_what_would_be_deleted() {
    let mut world = World::of_three();
    let reply = world.new_reply();
    let spec = Box::new(mirror(&["star-2", "star-3"]));
    world.turn(vec![Event::PlanAsked { reply, spec, violations: Vec::new() }]);
    world.work_all(&ALL);
    assert!(world.answered(reply).is_none(), "the destinations have not said what would go");
    let sweep = world.sweep_of("star-2").expect("it is asked");
    assert!(sweep.is_plan && sweep.scan.job == JobId(0));
    world.say_swept("star-2", Ok(SweepInfo { progress: Progress::Running, ..swept(1, 0) }));
    world.say_swept("star-2", Ok(SweepInfo { deleted: 0, ..swept(8, 2) }));
    let message = "it does not work".to_owned();
    world.say_swept("star-3", Err(VaultProblem { failure: VaultFailure::Failed, message }));
    let Some(Ok(Heard::Plan(planned))) = world.answered(reply) else { panic!("no plan") };
    assert_eq!(planned.places[0].deletion.as_ref().map(|sweep| (sweep.extra, sweep.found)), Some((2, 8)));
    assert!(planned.places[1].deletion.is_none());
}

#[test]
fn a_mirror_that_makes_no_sense_is_refused() {
    let mut world = World::of_three();
    for (trash, percent, field) in [
        (Some("a/b"), 25, "spec.mirror.trash_directory"),
        (Some(".."), 25, "spec.mirror.trash_directory"),
        (Some("*"), 25, "spec.mirror.trash_directory"),
        (None, 101, "spec.mirror.max_delete_percent"),
    ] {
        let policy = MirrorPolicy { max_delete_percent: percent, trash: trash.map(str::to_owned) };
        let spec = JobSpec { mirror: Some(policy), ..spec("star-1", &["star-2"]) };
        let (spec, request_id) = (Box::new(spec), String::new());
        let refused = world.command(Command::CreateJob { spec, request_id, violations: Vec::new() });
        let refused = refused.expect_err("it makes no sense");
        let Refusal::Invalid(violations) = refused else { panic!("{refused}") };
        assert_eq!(violations[0].field, field);
    }
    let mut above = mirror(&["star-1"]);
    above.destinations[0].path = b"/data".to_vec();
    above.source.path = b"/data/in/tree".to_vec();
    let (spec, request_id) = (Box::new(above), String::new());
    let refused = world.command(Command::CreateJob { spec, request_id, violations: Vec::new() });
    let Err(Refusal::Invalid(violations)) = refused else { panic!("it would delete its source") };
    assert!(
        violations.iter().any(|violation| violation.description.contains("above the source")),
        "{violations:?}"
    );
}
