//! A schedule can be changed: later jobs follow, earlier ones do not, and no change is lost.

use std::time::Duration;

use orbit_shared::words::JobId;

use super::schedules::{HOUR_MS, hourly};
use super::world::{World, spec};
use crate::core::{
    Answer, Command, JobSpec, JobState, Refusal, RequestName, ScheduleEdit, ScheduleTimes, Violation,
};

fn every(hours: u64) -> ScheduleTimes {
    ScheduleTimes::Interval(Duration::from_secs(hours * 3600))
}

fn excluding(glob: &str) -> JobSpec {
    JobSpec { exclude: vec![glob.to_owned()], ..spec("star-1", &["star-2"]) }
}

fn edit(schedule: u64, spec: JobSpec, times: ScheduleTimes, expected_revision: u64) -> Command {
    let violations = Vec::new();
    Command::UpdateSchedule(Box::new(ScheduleEdit { schedule, spec, times, expected_revision, violations }))
}

const MINUTE: Duration = Duration::from_secs(60);

impl World {
    /// How long it is until the next time of a schedule.
    fn until_next(&self, id: u64) -> Duration {
        self.known(id).next_time.since(self.now().wall)
    }
}

#[test]
fn an_edit_changes_the_next_time_and_later_jobs_and_survives_a_crash() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    assert_eq!((world.known(id).revision(), world.job(JobId(1)).record.state()), (1, JobState::Scanning));
    let began = world.job(JobId(1)).record.spec;
    let done = world.command(edit(id, excluding("*.tmp"), every(3), 1)).expect("it makes sense");
    assert_eq!(done, Answer::Schedule(id));
    let record = world.known(id);
    assert_eq!((record.revision(), record.last_job), (2, Some(JobId(1))));
    assert_eq!(world.until_next(id), Duration::from_secs(3 * 3600));
    assert_eq!(world.jobs_made(), 1, "an edit makes no job");
    assert_eq!(world.job(JobId(1)).record.spec, began, "what runs goes on as it began");
    world.crash();
    for name in ["star-1", "star-2", "star-3"] {
        world.connect(name, 1, &[]);
    }
    assert_eq!(world.known(id), record);
    world.settle();
    assert_eq!(world.job(JobId(1)).record.state(), JobState::Completed);
    world.pass_time(2 * HOUR_MS);
    assert_eq!(world.jobs_made(), 1, "the times of before have no effect");
    world.pass_time(HOUR_MS);
    assert_eq!(world.jobs_made(), 2);
    assert_eq!(world.job(JobId(2)).record.spec.exclude, ["*.tmp"]);
}

#[test]
fn an_edit_that_was_made_from_an_earlier_revision_is_refused() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    world.command(edit(id, excluding("a"), hourly(), 1)).expect("it is the first");
    let before = world.known(id);
    for stale in [0, 1, 3] {
        let refused = world.command(edit(id, excluding("b"), hourly(), stale));
        let Err(Refusal::WrongState { problem }) = refused else { panic!("{refused:?}") };
        assert!(problem.contains("revision 2") && problem.contains("changed the schedule"), "{problem}");
    }
    assert_eq!(world.known(id), before);
    world.command(edit(id, excluding("b"), hourly(), 2)).expect("it is made from the newest");
    assert_eq!(world.known(id).spec.exclude, ["b"]);
}

#[test]
fn an_edit_of_other_things_than_the_times_leaves_the_next_time() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    world.settle();
    world.pass_time(HOUR_MS / 4);
    let next = world.known(id).next_time;
    world.command(edit(id, excluding("a"), hourly(), 1)).expect("it makes sense");
    assert_eq!((world.known(id).next_time, world.known(id).revision()), (next, 2));
    world.command(edit(id, excluding("a"), hourly(), 2)).expect("it says what is so already");
    assert_eq!(world.known(id).revision(), 2, "nothing was changed");
    world.command(edit(id, excluding("a"), ScheduleTimes::Daily(vec![90]), 2)).expect("it makes sense");
    assert_eq!(world.known(id).next_time.seconds.rem_euclid(24 * 3600), 90 * 60);
}

#[test]
fn a_paused_schedule_stays_paused() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    world.settle();
    world.command(Command::PauseSchedule { schedule: id, reason: "swap".into() }).expect("it is known");
    world.command(edit(id, excluding("a"), every(2), 1)).expect("a pause is no change");
    assert_eq!(world.known(id).pause.as_deref(), Some("swap"));
    world.pass_time(3 * HOUR_MS);
    assert_eq!(world.jobs_made(), 1);
    world.command(Command::ResumeSchedule { schedule: id }).expect("it is known");
    assert_eq!(world.until_next(id), Duration::from_secs(3600));
}

#[test]
fn a_time_that_has_come_makes_its_job_all_the_same() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    world.settle();
    for name in ["star-1", "star-2", "star-3"] {
        world.heartbeat(name);
    }
    world.now_ms += HOUR_MS;
    world.command(edit(id, excluding("a"), every(5), 1)).expect("it makes sense");
    assert_eq!((world.jobs_made(), world.known(id).last_job), (2, Some(JobId(2))));
    assert_eq!(world.until_next(id), Duration::from_secs(5 * 3600));
}

#[test]
fn an_edit_is_checked_as_a_new_schedule_is_and_changes_nothing_if_it_is_refused() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    let before = world.known(id);
    let nowhere = spec("nobody", &["star-2"]);
    let refused = world.command(edit(id, nowhere, ScheduleTimes::Daily(Vec::new()), 1));
    let Err(Refusal::Invalid(violations)) = refused else { panic!("{refused:?}") };
    let fields: Vec<&str> = violations.iter().map(|Violation { field, .. }| field.as_str()).collect();
    assert_eq!(fields, ["spec.source.star_id", "times.daily_times"]);
    let refused = world.command(edit(9, excluding("a"), hourly(), 1));
    assert!(matches!(refused, Err(Refusal::NotFound { .. })), "{refused:?}");
    assert_eq!(world.known(id), before);
}

#[test]
fn an_edit_that_is_sent_again_changes_nothing_a_second_time() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    let request = RequestName { method: "UpdateSchedule".into(), id: "once".into(), digest: 7 };
    let named = || {
        let command = Box::new(edit(id, excluding("a"), every(2), 1));
        Command::Once { request: request.clone(), command }
    };
    assert_eq!(world.command(named()), Ok(Answer::Schedule(id)));
    world.crash();
    assert_eq!(world.command(named()), Ok(Answer::Schedule(id)), "although its revision has passed");
    assert_eq!(world.known(id).revision(), 2);
}

fn create(spec: JobSpec, times: ScheduleTimes) -> Command {
    let (request_id, violations) = ("create".to_owned(), Vec::new());
    Command::CreateSchedule { spec: Box::new(spec), times, request_id, violations }
}

#[test]
fn the_request_that_created_a_schedule_can_be_sent_again_after_an_edit() {
    let mut world = World::of_three();
    let first = || create(spec("star-1", &["star-2"]), hourly());
    let Ok(Answer::Schedule(id)) = world.command(first()) else { panic!("it makes sense") };
    assert_eq!(world.command(first()), Ok(Answer::Schedule(id)));
    for revision in [1, 2] {
        world.command(edit(id, excluding("a"), every(revision + 1), revision)).expect("it makes sense");
        world.crash();
        assert_eq!(world.command(first()), Ok(Answer::Schedule(id)), "it was edited {revision} times");
    }
    for other in [create(excluding("a"), every(3)), create(spec("star-1", &["star-2"]), every(3))] {
        let refused = world.command(other);
        assert!(matches!(refused, Err(Refusal::NameUsed { .. })), "another request: {refused:?}");
    }
    assert_eq!((world.known(id).revision(), world.core.schedules(0).count()), (3, 1));
}

#[test]
fn a_run_by_hand_can_be_sent_again_after_an_edit() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    let Ok(Answer::Schedule(other)) = world.command(create(spec("star-1", &["star-2"]), hourly())) else {
        panic!("it makes sense")
    };
    world.settle();
    let run = |schedule| Command::RunSchedule { schedule, request_id: "by hand".into() };
    let made = world.command(run(id)).expect("it can be run");
    let count = world.jobs_made();
    world.settle();
    world.command(edit(id, excluding("a"), hourly(), 1)).expect("it makes sense");
    let before = world.known(id);
    world.crash();
    assert_eq!(world.command(run(id)).as_ref(), Ok(&made));
    let refused = world.command(run(other));
    assert!(matches!(refused, Err(Refusal::NameUsed { .. })), "of another schedule: {refused:?}");
    assert_eq!((world.known(id), world.jobs_made()), (before, count), "nothing is done a second time");
    world.command(Command::DeleteSchedule { schedule: id }).expect("it is known");
    assert_eq!(world.command(run(id)), Ok(made), "the job is there still");
}

#[test]
fn who_edited_a_schedule_is_said_and_kept() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    let command = edit(id, excluding("a"), hourly(), 1);
    world.command_by(Some("operator:alice"), command).expect("it is the first");
    world.crash();
    let refused = world.command_by(Some("operator:bob"), edit(id, excluding("b"), hourly(), 1));
    let Err(Refusal::WrongState { problem }) = refused else { panic!("{refused:?}") };
    assert!(problem.contains("operator:alice has changed the schedule"), "{problem}");
    world.command_by(Some("operator:bob"), edit(id, excluding("a"), hourly(), 2)).expect("nothing changes");
    assert_eq!(world.said(), ["schedule 1 was changed and has revision 2 now (by operator:alice)"]);
}

#[test]
fn times_that_passed_before_an_edit_are_counted_by_the_times_of_before() {
    for (times, other, expected) in
        [(every(24), ScheduleTimes::Interval(MINUTE), 0), (every(1), every(24), 33)]
    {
        let mut world = World::of_three();
        let id = world.schedule(times).expect("it makes sense");
        world.settle();
        // The clock jumps, and the next thing that happens is the edit.
        world.now_ms += 34 * HOUR_MS;
        let command = edit(id, excluding("a"), other, 1);
        world.command_by(Some("operator:alice"), command).expect("it makes sense");
        let said: Vec<String> =
            world.said().into_iter().filter(|text| text.contains("times since")).collect();
        assert_eq!(said.len(), usize::from(expected > 0), "{said:?}");
        let is_right =
            |text: &String| text.contains(&format!("and {expected} times since")) && !text.contains("alice");
        assert!(said.iter().all(is_right), "{said:?}");
        assert_eq!(world.jobs_made(), 2, "the time that had come makes its job");
    }
}
