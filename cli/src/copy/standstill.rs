//! Tells a copy that goes on from one that cannot without a person: as when the destination is full, or read-only.
//!
//! No operator can intervene in a foreground copy. So it is given up if nothing has moved, and no item has waited for another
//! attempt, for a certain time.

use std::time::Duration;

use orbit_proto::v1::{Job, JobState};
use tokio::time::Instant;

/// How long nothing may move. A disk that hiccups is back by then.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same of a mirror: items may wait for a sweep, which shows only what it has deleted.
const PATIENCE_WITH_A_SWEEP: Duration = Duration::from_secs(600);

/// What of a job shows that it goes on.
type Marks = (u64, u64, u64, u64, u64);

/// See the module.
#[derive(Debug)]
pub(super) struct Standstill {
    since: Instant,
    marks: Marks,
}

impl Standstill {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, marks: Marks::default() }
    }

    /// Looks at the job; why it is to be given up, if it is.
    pub(super) fn look(&mut self, now: Instant, job: &Job) -> Option<String> {
        let progress = job.progress.unwrap_or_default();
        let ended = progress.items_stored + progress.items_skipped + progress.items_dead;
        let marks = (
            progress.items_total,
            ended,
            progress.bytes_stored,
            progress.bytes_transferred,
            progress.entries_deleted,
        );
        let spec = job.spec.as_ref();
        let is_slowed =
            spec.is_some_and(|spec| spec.max_bytes_per_second > 0 || !spec.bandwidth_windows.is_empty());
        let can_go_on = job.state() != JobState::Running
            || ended == progress.items_total
            || progress.items_in_flight > 0
            || progress.items_penalized > 0
            || is_slowed;
        if can_go_on || marks != self.marks {
            // An item that is sent to see whether it works now moves nothing, and does not begin the wait again.
            if marks != self.marks || is_slowed || progress.items_in_flight == 0 {
                *self = Self { since: now, marks };
            }
            return None;
        }
        let is_mirror = spec.is_some_and(|spec| spec.mirror.is_some());
        let patience = if is_mirror { PATIENCE_WITH_A_SWEEP } else { PATIENCE };
        (now.duration_since(self.since) >= patience).then(|| job.state_reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use orbit_proto::v1::JobProgress;

    use super::*;

    fn job(stored: u64, in_flight: u64) -> Job {
        let progress = JobProgress {
            items_total: 5,
            items_stored: stored,
            items_in_flight: in_flight,
            ..JobProgress::default()
        };
        Job {
            state: JobState::Running.into(),
            progress: Some(progress),
            state_reason: "no room".to_owned(),
            ..Job::default()
        }
    }

    #[test]
    fn a_job_of_which_nothing_moves_is_given_up_and_one_that_moves_is_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut standstill = Standstill::new(start);
        assert_eq!(standstill.look(at(0), &job(1, 0)), None);
        assert_eq!(standstill.look(at(10), &job(2, 0)), None, "it moved");
        assert_eq!(standstill.look(at(20), &job(2, 1)), None, "something is tried");
        assert_eq!(standstill.look(at(24), &job(2, 0)), None);
        assert_eq!(standstill.look(at(25), &job(2, 0)), Some("no room".to_owned()));
    }

    #[test]
    fn what_waits_for_another_attempt_or_a_rate_is_not_given_up() {
        let start = Instant::now();
        let mut standstill = Standstill::new(start);
        let mut waiting = job(1, 0);
        waiting.progress.as_mut().unwrap().items_penalized = 1;
        let mut slowed = job(1, 0);
        slowed.spec.get_or_insert_default().max_bytes_per_second = 1;
        for job in [waiting, slowed, job(5, 0), Job { state: JobState::Scanning.into(), ..job(1, 0) }] {
            for seconds in [0, 20, 40] {
                assert_eq!(standstill.look(start + Duration::from_secs(seconds), &job), None);
            }
        }
    }
}
