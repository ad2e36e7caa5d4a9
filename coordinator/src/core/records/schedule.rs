//! Schedules: what their jobs are to do, and when.

use std::time::Duration;

use orbit_shared::time::WallTime;
use orbit_shared::words::JobId;
use serde::{Deserialize, Serialize};

use super::job::JobSpec;
use crate::core::refusal::Violation;

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
    pub(in crate::core) fn next(&self, before: WallTime, now: WallTime) -> WallTime {
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
    pub(in crate::core) fn latest(&self, now: WallTime) -> WallTime {
        let now = now + CLOCK_ADJUSTMENT;
        match self {
            Self::Interval(interval) => now + *interval,
            Self::Daily(_) => self.next(now, now),
        }
    }

    /// Times that have passed since one that is due, that one not counted.
    pub(in crate::core) fn missed(&self, due: WallTime, now: WallTime) -> u64 {
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
    /// Who changed it last, for example `operator:alice`; empty if it was never changed, or the caller is not known.
    #[serde(default)]
    pub edited_by: String,
}

impl ScheduleRecord {
    /// Tells its states before and after each change from each other; 1 at first.
    pub fn revision(&self) -> u64 {
        self.edits.saturating_add(1)
    }
}

/// What a schedule is to be from now on.
#[derive(Debug)]
pub struct ScheduleEdit {
    /// Which.
    pub schedule: u64,
    /// What each job is to do.
    pub spec: JobSpec,
    /// When.
    pub times: ScheduleTimes,
    /// The revision that the edit was made from.
    pub expected_revision: u64,
    /// What was found wrong with the request before it came here.
    pub violations: Vec<Violation>,
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
