//! Forgets what is older, or more, than an operator wants kept: ended jobs with their items and dead letters, bulletins,
//! and provenance events. A job that has not ended and an unacknowledged error are never forgotten.
//!
//! A job with many items is removed in steps, so that no commit is long. The first step hides the job and removes its dead
//! letters. The next steps remove its items, and the last one its record (`removals.rs`). The record stores that the job is
//! forgotten and how far the removal is, so a restart continues it.
//!
//! Ages are counted by the wall clock, which may be wrong. So records are looked at once an hour, first an hour after
//! the start, and a look after which the wall clock and the monotonic clock disagree forgets nothing.

use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::dead_letter::DeadLetterFilter;
use orbit_shared::time::{Monotonic, WallTime};
use orbit_shared::words::JobId;

use super::job::Job;
use super::limits::{ENDED_JOBS_DEFAULT, ENDED_JOBS_MAX, ITEMS_REMOVED_PER_TURN};
use super::{Action, COORDINATOR, Change, Core, Turn};

/// Time between two looks, and the greatest difference between the clocks with which a look forgets something.
const LOOK_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Records that one look forgets at most; the next look goes on.
const FORGOTTEN_PER_LOOK_MAX: usize = 1000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How much of what is over is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Ended jobs, at most [`ENDED_JOBS_MAX`].
    pub ended_job_count_max: usize,
    /// Time since a job ended.
    pub ended_job_age_max: Duration,
    /// Time since a bulletin was last reported.
    pub bulletin_age_max: Duration,
    /// Time since a provenance event.
    pub event_age_max: Duration,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            ended_job_count_max: ENDED_JOBS_DEFAULT,
            ended_job_age_max: DAY * 400,
            bulletin_age_max: DAY * 90,
            event_age_max: DAY * 400,
        }
    }
}

impl Core {
    /// Forgets the oldest ended jobs beyond the bound.
    pub(super) fn forget_surplus_jobs(&mut self, turn: &mut Turn) {
        let kept = self.config.history.ended_job_count_max.min(ENDED_JOBS_MAX);
        let ended: Vec<JobId> =
            self.jobs.values().filter(|job| job.live.is_none()).map(|job| job.record.id).collect();
        let mut room = ITEMS_REMOVED_PER_TURN;
        for &id in ended.iter().take(ended.len().saturating_sub(kept)) {
            self.forget_job(turn, id, (&format!("{kept} later jobs have ended since"), &mut room));
        }
    }

    /// Once an hour, forgets what is too old.
    pub(super) fn forget_old_history(&mut self, turn: &mut Turn) {
        let looked = *self.history_looked.get_or_insert(turn.now);
        let elapsed = turn.now.monotonic.since(looked.monotonic);
        if elapsed < LOOK_INTERVAL {
            return;
        }
        self.history_looked = Some(turn.now);
        let expected = looked.wall + elapsed;
        let drift = turn.now.wall.since(expected).max(expected.since(turn.now.wall));
        if drift > LOOK_INTERVAL {
            return;
        }
        self.forget_aged_jobs(turn);
        self.forget_aged_bulletins(turn);
        turn.actions
            .push(Action::ForgetEvents { before: earlier(turn.now.wall, self.config.history.event_age_max) });
    }

    /// When the next look is due.
    pub(super) fn next_history_deadline(&self) -> Option<Monotonic> {
        self.history_looked.map(|looked| looked.monotonic + LOOK_INTERVAL)
    }

    fn forget_aged_jobs(&mut self, turn: &mut Turn) {
        let before = earlier(turn.now.wall, self.config.history.ended_job_age_max);
        let is_aged = |end: WallTime| end < before;
        let ended = self.jobs.values().filter(|job| job.live.is_none());
        let aged = ended.filter(|job| job.record.end.as_ref().is_some_and(|end| is_aged(end.time)));
        let aged: Vec<JobId> = aged.map(|job| job.record.id).take(FORGOTTEN_PER_LOOK_MAX).collect();
        let days = self.config.history.ended_job_age_max.as_secs() / DAY.as_secs();
        let mut room = ITEMS_REMOVED_PER_TURN;
        for id in aged {
            self.forget_job(turn, id, (&format!("it ended more than {days} days ago"), &mut room));
        }
    }

    fn forget_aged_bulletins(&mut self, turn: &mut Turn) {
        let before = earlier(turn.now.wall, self.config.history.bulletin_age_max);
        for id in self.board.remove_before(before, FORGOTTEN_PER_LOOK_MAX) {
            turn.changes.push(Change::RemoveBulletin(id));
        }
    }

    /// Forgets an ended job with its dead letters and items. If it has more items than there is `room` for in this turn, they are
    /// removed in steps.
    fn forget_job(&mut self, turn: &mut Turn, id: JobId, (reason, room): (&str, &mut u64)) {
        let Some(Job { mut record, live, .. }) = self.jobs.remove(&id) else { return };
        assert!(live.is_none(), "job {id} is forgotten and has not ended");
        self.requests.remove(&record.request_id);
        for letter in self.dead_letters.take(&DeadLetterFilter::for_job(id)) {
            self.dead_entries.remove(&letter.dead_letter_id);
            turn.changes.push(Change::RemoveDeadLetter(letter.dead_letter_id));
        }
        self.dead_letters.remove_job(id);
        let items = record.items_left();
        if items > *room {
            record.is_forgotten = true;
            record.removed_before.get_or_insert(0);
            turn.changes.push(Change::PutJob(Box::new(record.clone())));
            self.remove_forgotten(record);
        } else {
            *room -= items;
            turn.changes.push(Change::ForgetJob(id));
        }
        let message = format!("job {id} was forgotten: {reason}");
        self.post(turn, (Severity::Info, COORDINATOR, "job"), Some(id), &message);
    }
}

/// The time that is so much earlier; the first time that there is if it would be before that.
fn earlier(time: WallTime, by: Duration) -> WallTime {
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    WallTime { seconds: time.seconds.saturating_sub(seconds), nanos: time.nanos }
}
