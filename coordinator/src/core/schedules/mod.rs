//! Schedules: specifications that become jobs again and again, by the coordinator's wall clock.
//!
//! When they make jobs is in `runs.rs`, what an edit changes in `edits.rs`.

mod edits;
mod runs;

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_shared::words::JobId;

use super::change::Change;
use super::limits::{DAILY_TIMES_MAX, SCHEDULES_MAX};
use super::rate::DAY_MINUTES;
use super::records::{JobSpec, ScheduleRecord, ScheduleTimes};
use super::refusal::{Refusal, Violation};
use super::turn::Turn;
pub(super) use runs::Run;

/// The shortest and the longest time between two jobs of a schedule.
const INTERVAL_MIN: Duration = Duration::from_secs(60);
const INTERVAL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// All schedules.
#[derive(Debug, Default)]
pub(super) struct Schedules {
    by_id: BTreeMap<u64, ScheduleRecord>,
}

impl Schedules {
    /// The schedules as they are in the store.
    pub(super) fn recover(records: Vec<ScheduleRecord>) -> Self {
        let schedules = Self { by_id: records.into_iter().map(|record| (record.id, record)).collect() };
        schedules.check_all();
        schedules
    }

    /// The schedule that a request of this name has made before, if it has.
    ///
    /// # Errors
    /// It was another request.
    pub(super) fn made_by(
        &self,
        request_id: &str,
        spec: &JobSpec,
        times: &ScheduleTimes,
    ) -> Result<Option<u64>, Refusal> {
        let is_it = |record: &&ScheduleRecord| !request_id.is_empty() && record.request_id == request_id;
        let Some(record) = self.by_id.values().find(is_it) else { return Ok(None) };
        match record.was_created_with(spec, times) {
            true => Ok(Some(record.id)),
            false => Err(Refusal::name_used(request_id, "schedule", &format!(": schedule {}", record.id))),
        }
    }

    /// Keeps a specification that was checked with its times, under the next number.
    pub(super) fn create(
        &mut self,
        turn: &mut Turn,
        (spec, times): (JobSpec, ScheduleTimes),
        request_id: String,
        next: &mut u64,
    ) -> Result<u64, Refusal> {
        if self.by_id.len() >= SCHEDULES_MAX {
            let problem = format!("{SCHEDULES_MAX} schedules are there already; delete one");
            return Err(Refusal::Full { problem, retry_after: INTERVAL_MIN });
        }
        let id = *next;
        *next += 1;
        assert!(!self.by_id.contains_key(&id), "schedule {id} is there already");
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
        self.keep(turn, record);
        Ok(id)
    }

    /// Notes at the schedule that a job of it is completed.
    pub(super) fn note_success(&mut self, turn: &mut Turn, job: JobId) {
        let made = self.by_id.values().find(|record| record.last_job == Some(job));
        if let Some(mut record) = made.cloned() {
            record.last_success_time = Some(turn.now.wall);
            self.keep(turn, record);
        }
    }

    /// Makes no more jobs of a schedule.
    pub(super) fn pause(&mut self, turn: &mut Turn, id: u64, reason: &str) -> Result<u64, Refusal> {
        let mut record = self.known(id)?;
        record.pause = Some(if reason.is_empty() { turn.done_by_actor("paused") } else { reason.to_owned() });
        self.keep(turn, record);
        Ok(id)
    }

    /// Makes jobs again, from the next time on.
    pub(super) fn resume(&mut self, turn: &mut Turn, id: u64) -> Result<u64, Refusal> {
        let mut record = self.known(id)?;
        if record.pause.take().is_some() && record.next_time <= turn.now.wall {
            record.next_time = record.times.next(record.next_time, turn.now.wall);
        }
        self.keep(turn, record);
        Ok(id)
    }

    /// Forgets a schedule.
    pub(super) fn delete(&mut self, turn: &mut Turn, id: u64) -> Result<(), Refusal> {
        self.by_id.remove(&id).ok_or_else(|| no_schedule(id))?;
        turn.changes.push(Change::RemoveSchedule(id));
        Ok(())
    }

    /// All behind one, in the order of their creation.
    pub(super) fn after(&self, after: u64) -> impl Iterator<Item = &ScheduleRecord> {
        self.by_id.range(after.saturating_add(1)..).map(|(_, record)| record)
    }

    /// One schedule.
    pub(super) fn get(&self, id: u64) -> Result<&ScheduleRecord, Refusal> {
        self.by_id.get(&id).ok_or_else(|| no_schedule(id))
    }

    fn known(&self, id: u64) -> Result<ScheduleRecord, Refusal> {
        self.get(id).cloned()
    }

    fn keep(&mut self, turn: &mut Turn, record: ScheduleRecord) {
        turn.changes.push(Change::PutSchedule(Box::new(record.clone())));
        self.by_id.insert(record.id, record);
        assert!(self.by_id.len() <= SCHEDULES_MAX, "{} schedules are kept", self.by_id.len());
    }

    /// Panics if an invariant does not hold; takes a pass over everything.
    pub(super) fn check_all(&self) {
        for (id, record) in &self.by_id {
            assert_eq!(*id, record.id, "a schedule under another number");
            assert!(record.id > 0, "a schedule without a number: {record:?}");
        }
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
