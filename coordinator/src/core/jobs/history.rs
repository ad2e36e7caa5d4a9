//! Forgets ended jobs that are older, or more, than an operator wants kept, with their items and dead letters.
//!
//! A job with many items is removed in steps, so that no commit is long. The first step hides the job and removes its dead
//! letters. The next steps remove its items, and the last one its record (`removals.rs`). The record stores that the job is
//! forgotten and how far the removal is, so a restart continues it.

use orbit_shared::bulletin::Severity;
use orbit_shared::time::WallTime;
use orbit_shared::words::JobId;

use super::Jobs;
use super::job::Job;
use crate::core::change::Change;
use crate::core::history::{DAY, FORGOTTEN_PER_LOOK_MAX, earlier};
use crate::core::limits::{ENDED_JOBS_MAX, ITEMS_REMOVED_PER_TURN};
use crate::core::notices::COORDINATOR;
use crate::core::seen::Seen;

impl Jobs {
    /// Forgets the oldest ended jobs beyond the bound.
    pub(super) fn forget_surplus_jobs(&mut self, turn: &mut Seen<'_>) {
        let kept = turn.config.history.ended_job_count_max.min(ENDED_JOBS_MAX);
        let ended: Vec<JobId> =
            self.jobs.values().filter(|job| job.live.is_none()).map(|job| job.record.id).collect();
        let mut room = ITEMS_REMOVED_PER_TURN;
        for &id in ended.iter().take(ended.len().saturating_sub(kept)) {
            self.forget_job(turn, id, (&format!("{kept} later jobs have ended since"), &mut room));
        }
    }

    /// Forgets the jobs that have ended too long ago.
    pub(in crate::core) fn forget_aged_jobs(&mut self, turn: &mut Seen<'_>) {
        let before = earlier(turn.now.wall, turn.config.history.ended_job_age_max);
        let is_aged = |end: WallTime| end < before;
        let ended = self.jobs.values().filter(|job| job.live.is_none());
        let aged = ended.filter(|job| job.record.end.as_ref().is_some_and(|end| is_aged(end.time)));
        let aged: Vec<JobId> = aged.map(|job| job.record.id).take(FORGOTTEN_PER_LOOK_MAX).collect();
        let days = turn.config.history.ended_job_age_max.as_secs() / DAY.as_secs();
        let mut room = ITEMS_REMOVED_PER_TURN;
        for id in aged {
            self.forget_job(turn, id, (&format!("it ended more than {days} days ago"), &mut room));
        }
    }

    /// Forgets an ended job with its dead letters and items. If it has more items than there is `room` for in this turn, they are
    /// removed in steps.
    fn forget_job(&mut self, turn: &mut Seen<'_>, id: JobId, (reason, room): (&str, &mut u64)) {
        let Job { mut record, live, .. } = self.jobs.remove(&id).expect("a job that is forgotten is known");
        assert!(live.is_none(), "job {id} is forgotten and has not ended");
        self.requests.remove(&record.request_id);
        turn.letters.forget_job(turn.turn, id);
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
        turn.post((Severity::Info, COORDINATOR, "job"), Some(id), &message);
    }
}
