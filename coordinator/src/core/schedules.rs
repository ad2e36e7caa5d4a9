//! Schedules: specifications that become jobs again and again, by the coordinator's wall clock.
//!
//! When they make jobs is in `schedule_runs.rs`, what an edit changes in `schedule_edits.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_shared::time::WallTime;
use orbit_shared::words::JobId;
use serde::{Deserialize, Serialize};

use super::event::Answer;
use super::job_record::JobSpec;
use super::limits::{DAILY_TIMES_MAX, SCHEDULES_MAX};
use super::rate::DAY_MINUTES;
use super::refusal::{Refusal, Violation};
use super::{Change, Core, Turn};

/// The shortest and the longest time between two jobs of a schedule.
const INTERVAL_MIN: Duration = Duration::from_secs(60);
const INTERVAL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// A clock that is set back by no more than this has been adjusted, not corrected: no time comes twice for it.
const CLOCK_ADJUSTMENT: Duration = Duration::from_secs(60);
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// When jobs are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScheduleTimes {
    /// At once, and then each time so much later.
    Interval(Duration),
    /// At these minutes of every day in UTC.
    Daily(Vec<u16>),
}

impl ScheduleTimes {
    /// The first time after `now`. An interval counts from the time before it, so that it does not drift.
    pub(super) fn next(&self, before: WallTime, now: WallTime) -> WallTime {
        match self {
            Self::Interval(interval) => {
                let nanos = interval.as_nanos().max(1);
                let periods = now.since(before).as_nanos() / nanos + 1;
                let later = u64::try_from(nanos * periods).map_or(Duration::MAX, Duration::from_nanos);
                before + later
            }
            Self::Daily(minutes) => {
                let midnight = now.seconds - now.seconds.rem_euclid(DAY_SECONDS);
                let of_day = |day: i64| {
                    let at = move |minute: &u16| midnight + day * DAY_SECONDS + i64::from(*minute) * 60;
                    minutes.iter().map(at)
                };
                let next = of_day(0).chain(of_day(1)).filter(|at| *at > now.seconds).min();
                WallTime { seconds: next.unwrap_or(midnight + DAY_SECONDS), nanos: 0 }
            }
        }
    }
}

impl ScheduleTimes {
    /// The latest that the next time may be away: anything later was reckoned by a clock that was ahead.
    pub(super) fn latest(&self, now: WallTime) -> WallTime {
        let now = now + CLOCK_ADJUSTMENT;
        match self {
            Self::Interval(interval) => now + *interval,
            Self::Daily(_) => self.next(now, now),
        }
    }

    /// Times that have passed since one that is due, that one not counted.
    pub(super) fn missed(&self, due: WallTime, now: WallTime) -> u64 {
        let since = now.since(due).as_secs();
        match self {
            Self::Interval(interval) => since / interval.as_secs().max(1),
            Self::Daily(minutes) => since / DAY_SECONDS.unsigned_abs() * minutes.len() as u64,
        }
    }
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// Its number.
    pub id: u64,
    /// What each job is to do.
    pub spec: JobSpec,
    /// When.
    pub times: ScheduleTimes,
    /// The caller's name for the request; empty for none.
    pub request_id: String,
    /// When it was created.
    pub create_time: WallTime,
    /// When the next job is made, unless it is paused.
    pub next_time: WallTime,
    /// The job that was made last.
    pub last_job: Option<JobId>,
    /// Why it is paused, if it is.
    pub pause: Option<String>,
    /// Why no job was made at the last time; empty if one was.
    pub problem: String,
    /// When a job of it was completed last, without a dead letter.
    #[serde(default)]
    pub last_success_time: Option<WallTime>,
    /// How often its specification or its times were changed.
    #[serde(default)]
    pub edits: u64,
    /// A digest of what it was created with, once that was changed.
    #[serde(default)]
    pub created_as: Option<u64>,
    /// Who changed it last, for example `operator:alice`; empty if nobody did, or it is not known.
    #[serde(default)]
    pub edited_by: String,
}

impl ScheduleRecord {
    /// Tells its states before and after each change from each other; 1 at first.
    pub fn revision(&self) -> u64 {
        self.edits.saturating_add(1)
    }
}

/// All schedules, by their numbers.
pub(super) type Schedules = BTreeMap<u64, ScheduleRecord>;

impl Core {
    /// Checks a specification whole and keeps it with its times.
    pub(super) fn create_schedule(
        &mut self,
        turn: &mut Turn,
        (spec, times): (JobSpec, ScheduleTimes),
        request_id: String,
        mut violations: Vec<Violation>,
    ) -> Result<Answer, Refusal> {
        let is_it = |record: &&ScheduleRecord| !request_id.is_empty() && record.request_id == request_id;
        if let Some(record) = self.schedules.values().find(is_it) {
            return match violations.is_empty() && record.was_created_with(&spec, &times) {
                true => Ok(Answer::Schedule(record.id)),
                false => {
                    Err(Refusal::name_used(&request_id, "schedule", &format!(": schedule {}", record.id)))
                }
            };
        }
        self.validate_spec(&spec, &request_id, &mut violations);
        check_times(&times, &mut violations);
        if !violations.is_empty() {
            return Err(Refusal::Invalid(violations));
        }
        if self.schedules.len() >= SCHEDULES_MAX {
            let problem = format!("{SCHEDULES_MAX} schedules are there already; delete one");
            return Err(Refusal::Full { problem, retry_after: INTERVAL_MIN });
        }
        let id = self.counters.schedule;
        self.counters.schedule += 1;
        self.is_counters_dirty = true;
        let next_time = match times {
            ScheduleTimes::Interval(_) => turn.now.wall,
            ScheduleTimes::Daily(_) => times.next(turn.now.wall, turn.now.wall),
        };
        let record = ScheduleRecord {
            id,
            spec,
            times,
            request_id,
            create_time: turn.now.wall,
            next_time,
            last_job: None,
            pause: None,
            problem: String::new(),
            last_success_time: None,
            edits: 0,
            created_as: None,
            edited_by: String::new(),
        };
        self.keep_schedule(turn, record);
        Ok(Answer::Schedule(id))
    }

    /// Notes at the schedule that a job of it is completed.
    pub(super) fn note_schedule_success(&mut self, turn: &mut Turn, job: JobId) {
        let made = self.schedules.values().find(|record| record.last_job == Some(job));
        if let Some(mut record) = made.cloned() {
            record.last_success_time = Some(turn.now.wall);
            self.keep_schedule(turn, record);
        }
    }

    /// Makes no more jobs of a schedule.
    pub(super) fn pause_schedule(
        &mut self,
        turn: &mut Turn,
        id: u64,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        let mut record = self.known_schedule(id)?;
        record.pause = Some(if reason.is_empty() { turn.done_by_actor("paused") } else { reason.to_owned() });
        self.keep_schedule(turn, record);
        Ok(Answer::Schedule(id))
    }

    /// Makes jobs again, from the next time on.
    pub(super) fn resume_schedule(&mut self, turn: &mut Turn, id: u64) -> Result<Answer, Refusal> {
        let mut record = self.known_schedule(id)?;
        if record.pause.take().is_some() && record.next_time <= turn.now.wall {
            record.next_time = record.times.next(record.next_time, turn.now.wall);
        }
        self.keep_schedule(turn, record);
        Ok(Answer::Schedule(id))
    }

    /// Forgets a schedule.
    pub(super) fn delete_schedule(&mut self, turn: &mut Turn, id: u64) -> Result<Answer, Refusal> {
        self.schedules.remove(&id).ok_or_else(|| no_schedule(id))?;
        turn.changes.push(Change::RemoveSchedule(id));
        Ok(Answer::Done)
    }

    /// All schedules behind one, in the order of their creation.
    pub fn schedules(&self, after: u64) -> impl Iterator<Item = &ScheduleRecord> {
        self.schedules.range(after.saturating_add(1)..).map(|(_, record)| record)
    }

    /// One schedule.
    pub fn schedule_record(&self, id: u64) -> Result<&ScheduleRecord, Refusal> {
        self.schedules.get(&id).ok_or_else(|| no_schedule(id))
    }

    pub(super) fn known_schedule(&self, id: u64) -> Result<ScheduleRecord, Refusal> {
        self.schedule_record(id).cloned()
    }

    pub(super) fn keep_schedule(&mut self, turn: &mut Turn, record: ScheduleRecord) {
        turn.changes.push(Change::PutSchedule(Box::new(record.clone())));
        self.schedules.insert(record.id, record);
    }
}

fn no_schedule(id: u64) -> Refusal {
    Refusal::NotFound { what: format!("schedule {id}; ListSchedules shows those there are") }
}

pub(super) fn check_times(times: &ScheduleTimes, violations: &mut Vec<Violation>) {
    let mut add = |field: &str, problem: String| {
        if !violations.iter().any(|violation| violation.field.starts_with("times")) {
            violations.push(Violation::new(field, problem));
        }
    };
    match times {
        ScheduleTimes::Interval(interval) => {
            if !(INTERVAL_MIN..=INTERVAL_MAX).contains(interval) {
                let problem = format!("is {interval:?}, must be one minute to 366 days");
                add("times.interval", problem);
            }
        }
        ScheduleTimes::Daily(minutes) => {
            if minutes.is_empty() || minutes.len() > DAILY_TIMES_MAX {
                add(
                    "times.daily_times",
                    format!("has {} times, 1 to {DAILY_TIMES_MAX} are possible", minutes.len()),
                );
            }
            if minutes.iter().any(|minute| *minute >= DAY_MINUTES) {
                add("times.daily_times", "has a time that no day has".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime { seconds, nanos: 0 }
    }

    #[test]
    fn an_interval_keeps_its_beat_and_leaves_out_what_has_passed() {
        let times = ScheduleTimes::Interval(Duration::from_secs(100));
        assert_eq!(times.next(at(1000), at(1000)), at(1100));
        assert_eq!(times.next(at(1000), at(1099)), at(1100));
        assert_eq!(times.next(at(1000), at(1100)), at(1200));
        assert_eq!(times.next(at(1000), at(5055)), at(5100));
        assert_eq!(times.next(at(1000), at(900)), at(1100), "a clock that was set back");
    }

    #[test]
    fn times_of_the_day_come_every_day() {
        let times = ScheduleTimes::Daily(vec![60, 1439]);
        let day = 20_000 * DAY_SECONDS;
        assert_eq!(times.next(at(0), at(day)), at(day + 3600));
        assert_eq!(times.next(at(0), at(day + 3600)), at(day + 1439 * 60));
        assert_eq!(times.next(at(0), at(day + 1439 * 60)), at(day + DAY_SECONDS + 3600));
    }
}
