//! Jobs of schedules: at their times, and by hand.
//!
//! The job of a time and the schedule's next time are made durable together, so no time makes two jobs, whatever crashes.
//! Times that pass while a job of the schedule goes on are left out; times that passed while no coordinator ran are made
//! good by one job. The next time follows the clock: one that is further away than the schedule allows, because the clock
//! was ahead when it was reckoned, is reckoned again.

use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::time::{Monotonic, Now};

use super::event::Answer;
use super::limits::REQUEST_ID_BYTES_MAX;
use super::refusal::Refusal;
use super::schedules::{ScheduleRecord, ScheduleTimes};
use super::{COORDINATOR, Core, Turn};

/// The wall clock is looked at at least so often while a schedule waits: somebody may have set it.
const CLOCK_LOOK: Duration = Duration::from_secs(60);

impl Core {
    /// Makes one job of a schedule now.
    pub(super) fn run_schedule(
        &mut self,
        turn: &mut Turn,
        id: u64,
        request_id: String,
    ) -> Result<Answer, Refusal> {
        if request_id.len() > REQUEST_ID_BYTES_MAX {
            let problem = format!("is longer than {REQUEST_ID_BYTES_MAX} bytes");
            return Err(Refusal::invalid("request_id", problem));
        }
        if let Some(job) = self.requests.get(&request_id).and_then(|job| self.jobs.get(job))
            && let Some(schedule) = job.record.run_of
        {
            return match schedule == id {
                true => Ok(Answer::Job(job.record.id)),
                false => Err(Refusal::name_used(&request_id, "job", &format!(": job {}", job.record.id))),
            };
        }
        let mut record = self.known_schedule(id)?;
        let answer = self.create_job(turn, record.spec.clone(), request_id, Vec::new())?;
        if let Answer::Job(job) = answer {
            if let Some(made) = self.jobs.get_mut(&job) {
                made.record.run_of = Some(id);
                made.is_dirty = true;
            }
            record.last_job = record.last_job.max(Some(job));
            record.problem.clear();
            self.keep_schedule(turn, record);
        }
        Ok(answer)
    }

    /// Makes the job of a time, on the schedule's behalf.
    fn create_scheduled_job(&mut self, turn: &mut Turn, record: &ScheduleRecord) -> Result<Answer, Refusal> {
        turn.actor = Some(format!("schedule:{}", record.id));
        let made = self.create_job(turn, record.spec.clone(), String::new(), Vec::new());
        turn.actor = None;
        made
    }

    /// Reckons the next times again that the clock has left too far away.
    fn follow_clock(&mut self, turn: &mut Turn) {
        let is_far = |record: &&ScheduleRecord| record.next_time > record.times.latest(turn.now.wall);
        let far: Vec<ScheduleRecord> = self.schedules.values().filter(is_far).cloned().collect();
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
            self.post(turn, (Severity::Warning, COORDINATOR, "schedule"), record.last_job, &message);
            self.keep_schedule(turn, record);
        }
    }

    /// Makes the jobs whose time has come.
    pub(super) fn run_due_schedules(&mut self, turn: &mut Turn) {
        self.follow_clock(turn);
        let is_due = |record: &&ScheduleRecord| record.pause.is_none() && record.next_time <= turn.now.wall;
        let due: Vec<ScheduleRecord> = self.schedules.values().filter(is_due).cloned().collect();
        for mut record in due {
            let id = record.id;
            self.say_missed(turn, &record);
            let going_on =
                record.last_job.filter(|job| self.jobs.get(job).is_some_and(|job| job.live.is_some()));
            let made = match going_on {
                Some(job) => Err(format!("job {job} of it has not ended")),
                None => match self.create_scheduled_job(turn, &record) {
                    Ok(Answer::Job(job)) => Ok(job),
                    Ok(other) => Err(format!("the coordinator answers {other:?}")),
                    Err(refusal) => Err(refusal.to_string()),
                },
            };
            match made {
                Ok(job) => {
                    record.last_job = Some(job);
                    record.problem.clear();
                }
                Err(problem) => {
                    let severity = if going_on.is_some() { Severity::Warning } else { Severity::Error };
                    let message = format!("schedule {id} has made no job at its time: {problem}");
                    self.post(turn, (severity, COORDINATOR, "schedule"), going_on, &message);
                    record.problem = format!("no job was made at its last time: {problem}");
                }
            }
            record.next_time = record.times.next(record.next_time, turn.now.wall);
            self.keep_schedule(turn, record);
        }
    }

    /// Posts a bulletin if times of a schedule that is due have passed since.
    pub(super) fn say_missed(&mut self, turn: &mut Turn, record: &ScheduleRecord) {
        let missed = record.times.missed(record.next_time, turn.now.wall);
        if missed == 0 {
            return;
        }
        let message = format!(
            "schedule {} was due at {} and {missed} times since; one job makes up for all of them. Either no coordinator ran or the clock was set forward",
            record.id, record.next_time
        );
        self.post(turn, (Severity::Warning, COORDINATOR, "schedule"), record.last_job, &message);
    }

    /// When the next job is made, as far as that can be known from a clock that may be set.
    pub(super) fn next_schedule_deadline(&self, now: Now) -> Option<Monotonic> {
        let waiting = self.schedules.values().filter(|record| record.pause.is_none());
        let next = waiting.map(|record| record.next_time).min()?;
        Some(now.monotonic + next.since(now.wall).min(CLOCK_LOOK))
    }
}
