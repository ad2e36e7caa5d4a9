//! Jobs of schedules: at their times, and by hand.
//!
//! The job of a time and the schedule's next time are made durable together, so no time makes two jobs, whatever crashes.
//! Times that pass while a job of the schedule goes on are left out; times that passed while no coordinator ran are made
//! good by one job. The next time follows the clock: one that is further away than the schedule allows, because the clock
//! was ahead when it was reckoned, is reckoned again.

use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::JobId;

use super::Schedules;
use crate::core::notices::COORDINATOR;
use crate::core::records::{ScheduleRecord, ScheduleTimes};
use crate::core::turn::Turn;

/// The wall clock is looked at at least so often while a schedule waits: somebody may have set it.
const CLOCK_LOOK: Duration = Duration::from_secs(60);

/// What came of the time of a schedule.
#[derive(Debug)]
pub(in crate::core) enum Run {
    /// This job was made.
    Made(JobId),
    /// The job before it has not ended.
    GoesOn(JobId),
    /// No job could be made.
    Refused(String),
}

impl Schedules {
    /// A job was made of a schedule by hand.
    pub(in crate::core) fn note_run(&mut self, turn: &mut Turn, mut record: ScheduleRecord, job: JobId) {
        record.last_job = record.last_job.max(Some(job));
        record.problem.clear();
        self.keep(turn, record);
    }

    /// Reckons the next times again that the clock has left too far away.
    pub(in crate::core) fn follow_clock(&mut self, turn: &mut Turn) {
        let is_far = |record: &&ScheduleRecord| record.next_time > record.times.latest(turn.now.wall);
        let far: Vec<ScheduleRecord> = self.by_id.values().filter(is_far).cloned().collect();
        for mut record in far {
            let before = record.next_time;
            record.next_time = match record.times {
                ScheduleTimes::Interval(interval) => turn.now.wall + interval,
                ScheduleTimes::Daily(_) => record.times.next(turn.now.wall, turn.now.wall),
            };
            let message = format!(
                "the clock was set back: schedule {} was due at {}, which is further away than its times are, and is due at {} now; see whether this machine's clock is right",
                record.id, before, record.next_time
            );
            turn.post((Severity::Warning, COORDINATOR, "schedule"), record.last_job, &message);
            self.keep(turn, record);
        }
    }

    /// The schedules whose time has come.
    pub(in crate::core) fn due(&self, now: Now) -> Vec<ScheduleRecord> {
        let is_due = |record: &&ScheduleRecord| record.pause.is_none() && record.next_time <= now.wall;
        self.by_id.values().filter(is_due).cloned().collect()
    }

    /// Keeps what came of a schedule's time, together with its next one.
    pub(in crate::core) fn note_time(&mut self, turn: &mut Turn, mut record: ScheduleRecord, run: Run) {
        let failed = match run {
            Run::Made(job) => {
                record.last_job = Some(job);
                record.problem.clear();
                None
            }
            Run::GoesOn(job) => {
                Some((Severity::Warning, Some(job), format!("job {job} of it has not ended")))
            }
            Run::Refused(problem) => Some((Severity::Error, None, problem)),
        };
        if let Some((severity, job, problem)) = failed {
            let message = format!("schedule {} has made no job at its time: {problem}", record.id);
            turn.post((severity, COORDINATOR, "schedule"), job, &message);
            record.problem = format!("no job was made at its last time: {problem}");
        }
        record.next_time = record.times.next(record.next_time, turn.now.wall);
        assert!(record.next_time > turn.now.wall, "schedule {} is due again at once", record.id);
        self.keep(turn, record);
    }

    /// When the next job is made, as far as that can be known from a clock that may be set.
    pub(in crate::core) fn next_deadline(&self, now: Now) -> Option<Monotonic> {
        let waiting = self.by_id.values().filter(|record| record.pause.is_none());
        let next = waiting.map(|record| record.next_time).min()?;
        Some(now.monotonic + next.since(now.wall).min(CLOCK_LOOK))
    }
}

impl ScheduleRecord {
    /// Posts a bulletin if times of a schedule that is due have passed since.
    pub(in crate::core) fn say_missed(&self, turn: &mut Turn) {
        let missed = self.times.missed(self.next_time, turn.now.wall);
        if missed == 0 {
            return;
        }
        let message = format!(
            "schedule {} was due at {} and {missed} times since; one job makes up for all of them. Either no coordinator ran or the clock was set forward",
            self.id, self.next_time
        );
        turn.post((Severity::Warning, COORDINATOR, "schedule"), self.last_job, &message);
    }
}
