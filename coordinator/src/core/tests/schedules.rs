//! Schedules make a job at each of their times, once, whatever crashes, and never two at a time.

use std::time::Duration;

use orbit_shared::words::JobId;

use super::world::{World, spec};
use crate::core::{Answer, Command, JobState, Refusal, ScheduleRecord, ScheduleTimes};

pub(super) const HOUR_MS: u64 = 3_600_000;

impl World {
    pub(super) fn schedule(&mut self, times: ScheduleTimes) -> Result<u64, Refusal> {
        let (spec, request_id) = (Box::new(spec("star-1", &["star-2"])), "nightly".to_owned());
        let command = Command::CreateSchedule { spec, times, request_id, violations: Vec::new() };
        match self.command(command)? {
            Answer::Schedule(id) => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn known(&self, id: u64) -> ScheduleRecord {
        let record = self.core.schedule_record(id).expect("it is known").clone();
        assert_eq!(self.store.schedules.get(&id), Some(&record), "what is known is durable");
        record
    }

    pub(super) fn jobs_made(&self) -> usize {
        self.store.jobs.len()
    }

    /// Moves both clocks, deadline by deadline, while both Stars stay in touch.
    pub(super) fn pass_time(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            let step = (end - self.now_ms).min(5_000);
            self.now_ms += step;
            for name in ["star-1", "star-2", "star-3"] {
                self.heartbeat(name);
            }
            self.turn(vec![crate::core::Event::DeadlineReached]);
        }
    }
}

pub(super) fn hourly() -> ScheduleTimes {
    ScheduleTimes::Interval(Duration::from_secs(3600))
}

#[test]
fn an_hourly_schedule_makes_a_job_at_once_and_then_every_hour() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    assert_eq!(world.schedule(hourly()).expect("the same request"), id);
    let other = world.schedule(ScheduleTimes::Interval(Duration::from_secs(7200)));
    assert!(matches!(other, Err(Refusal::NameUsed { .. })), "other times under the same name: {other:?}");
    assert_eq!(world.known(id).last_job, Some(JobId(1)));
    world.settle();
    assert_eq!(world.job(JobId(1)).record.state(), JobState::Completed);
    let ended = world.job(JobId(1)).record.end.as_ref().map(|end| end.time);
    assert_eq!(world.known(id).last_success_time, ended);
    world.pass_time(HOUR_MS - 10_000);
    assert_eq!(world.jobs_made(), 1);
    world.pass_time(10_000);
    assert_eq!(world.jobs_made(), 2);
    world.settle();
    world.pass_time(HOUR_MS);
    assert_eq!((world.jobs_made(), world.known(id).last_job), (3, Some(JobId(3))));
    let at = world.core.next_deadline(world.now()).expect("there is a next time");
    assert!(at > world.now().monotonic, "it does not spin");
}

#[test]
fn while_a_job_goes_on_no_other_is_made_and_that_is_said() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    world.pass_time(2 * HOUR_MS);
    assert_eq!(world.jobs_made(), 1, "nobody has worked on the first one");
    assert!(world.known(id).problem.contains("job 1 of it has not ended"), "{}", world.known(id).problem);
    let told = world.store.bulletins.values().filter(|bulletin| bulletin.category == "schedule").count();
    assert!(told > 0);
    world.settle();
    world.pass_time(HOUR_MS);
    assert_eq!(world.jobs_made(), 2);
    assert_eq!(world.known(id).problem, "");
}

#[test]
fn times_that_passed_while_no_coordinator_ran_are_made_good_by_one_job() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    world.settle();
    world.now_ms += 5 * HOUR_MS + 1_000;
    world.crash();
    for name in ["star-1", "star-2", "star-3"] {
        world.connect(name, 1, &[]);
    }
    assert_eq!(world.jobs_made(), 2);
    world.settle();
    world.crash();
    world.connect("star-1", 1, &[]);
    assert_eq!(world.jobs_made(), 2, "no time makes two jobs");
    let next = world.known(id).next_time;
    assert_eq!(next.since(world.known(id).create_time), Duration::from_secs(6 * 3600));
}

#[test]
fn a_paused_schedule_makes_no_jobs_but_by_hand_and_goes_on_with_its_next_time() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    world.settle();
    world.command(Command::PauseSchedule { schedule: id, reason: "swap".into() }).expect("it is known");
    world.pass_time(3 * HOUR_MS);
    assert_eq!(world.jobs_made(), 1);
    let run = || Command::RunSchedule { schedule: id, request_id: "by hand".into() };
    assert!(matches!(world.command(run()), Ok(Answer::Job(JobId(2)))));
    assert!(matches!(world.command(run()), Ok(Answer::Job(JobId(2)))), "the same request, the same job");
    let other = Command::CreateJob {
        spec: Box::new(spec("star-1", &["star-3"])),
        request_id: "by hand".into(),
        violations: Vec::new(),
    };
    assert!(matches!(world.command(other), Err(Refusal::NameUsed { .. })));
    world.settle();
    world.command(Command::ResumeSchedule { schedule: id }).expect("it is known");
    assert_eq!(world.jobs_made(), 2, "what passed meanwhile was not wanted");
    world.pass_time(HOUR_MS);
    assert_eq!(world.jobs_made(), 3);
    world.command(Command::DeleteSchedule { schedule: id }).expect("it is known");
    world.settle();
    world.pass_time(2 * HOUR_MS);
    assert_eq!(world.jobs_made(), 3);
    assert!(matches!(world.core.schedule_record(id), Err(Refusal::NotFound { .. })));
    assert!(world.store.schedules.is_empty());
}

#[test]
fn a_job_that_cannot_be_made_is_said_and_tried_again_at_the_next_time() {
    let mut world = World::of_three();
    let id = world.schedule(hourly()).expect("it makes sense");
    world.settle();
    world.disconnect("star-2");
    world.command(Command::RemoveStar { star: super::world::star_id("star-2") }).expect("it can be removed");
    let told = world.core.board().by_category("schedule");
    assert!(told.iter().any(|bulletin| bulletin.message.contains("schedules name it: 1;")), "{told:?}");
    world.stars.remove("star-2");
    world.now_ms += HOUR_MS;
    world.turn(vec![crate::core::Event::DeadlineReached]);
    assert_eq!(world.jobs_made(), 1);
    assert!(world.known(id).problem.contains("star-2"), "{}", world.known(id).problem);
    world.connect("star-1", 1, &[]);
    world.connect("star-2", 1, &[]);
    world.now_ms += HOUR_MS;
    world.turn(vec![crate::core::Event::DeadlineReached]);
    assert_eq!((world.jobs_made(), world.known(id).problem.as_str()), (2, ""));
}

#[test]
fn times_that_make_no_sense_are_refused() {
    for times in [
        ScheduleTimes::Interval(Duration::from_secs(59)),
        ScheduleTimes::Interval(Duration::from_secs(400 * 86_400)),
        ScheduleTimes::Daily(Vec::new()),
        ScheduleTimes::Daily(vec![1440]),
    ] {
        let refused = World::of_three().schedule(times).expect_err("it makes no sense");
        let Refusal::Invalid(violations) = refused else { panic!("{refused}") };
        assert!(violations[0].field.starts_with("times."), "{violations:?}");
    }
}

const YEAR_S: i64 = 365 * 24 * 3600;

impl World {
    /// The wall clock is set; the monotonic one goes on by a second.
    fn set_clock(&mut self, seconds: i64) {
        self.wall_offset_s = seconds;
        self.now_ms += 1000;
        for name in ["star-1", "star-2", "star-3"] {
            self.heartbeat(name);
        }
        self.settle();
    }

    /// What bulletins say of schedules, from the oldest on.
    pub(super) fn said(&self) -> Vec<String> {
        let category = Some("schedule".to_owned());
        let filter = orbit_shared::bulletin::BulletinFilter {
            category,
            ..orbit_shared::bulletin::BulletinFilter::default()
        };
        let mut said: Vec<String> =
            self.core.board().query(&filter, 100).iter().map(|bulletin| bulletin.message.clone()).collect();
        said.reverse();
        said
    }
}

#[test]
fn a_clock_that_was_years_ahead_once_leaves_no_schedule_waiting_for_years() {
    for times in [hourly(), ScheduleTimes::Daily(vec![60, 120])] {
        let mut world = World::of_three();
        let id = world.schedule(times).expect("it makes sense");
        world.settle();
        let before = world.jobs_made();
        world.set_clock(10 * YEAR_S);
        assert_eq!(world.jobs_made(), before + 1, "one job makes up for all that was missed");
        assert!(world.said()[0].contains("times since"), "{:?}", world.said());
        world.set_clock(0);
        let next = world.known(id).next_time;
        let away = next.since(world.now().wall);
        assert!(away > Duration::ZERO && away <= Duration::from_secs(3600), "due at {next}");
        assert!(world.said()[1].contains("set back") && world.said()[1].contains(&next.to_string()));
        world.settle();
        world.pass_time(2 * HOUR_MS);
        assert!(world.jobs_made() > before + 1, "it runs again");
    }
}

#[test]
fn a_clock_that_is_adjusted_by_seconds_makes_no_time_come_twice() {
    for times in [hourly(), ScheduleTimes::Daily(vec![60])] {
        let mut world = World::of_three();
        let id = world.schedule(times).expect("it makes sense");
        world.settle();
        world.pass_time(HOUR_MS);
        let (made, next) = (world.jobs_made(), world.known(id).next_time);
        world.set_clock(-30);
        world.pass_time(60_000);
        assert_eq!((world.jobs_made(), world.known(id).next_time), (made, next));
        assert!(world.said().is_empty(), "{:?}", world.said());
    }
}
