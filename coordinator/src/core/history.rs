//! Forgets what is older than an operator wants kept: ended jobs (`jobs/history.rs`), bulletins, and provenance events. A job that
//! has not ended and an unacknowledged error are never forgotten.
//!
//! Ages are counted by the wall clock, which may be wrong. So records are looked at once an hour, first an hour after
//! the start, and a look after which the wall clock and the monotonic clock disagree forgets nothing.

use std::time::Duration;

use orbit_shared::time::{Monotonic, Now, WallTime};

use super::event::Action;
use super::limits::ENDED_JOBS_DEFAULT;
use super::saying::Saying;
use super::turn::Turn;

/// Time between two looks, and the greatest difference between the clocks with which a look forgets something.
const LOOK_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Records that one look forgets at most; the next look goes on.
pub(super) const FORGOTTEN_PER_LOOK_MAX: usize = 1000;
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How much of what is over is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Ended jobs, at most [`super::limits::ENDED_JOBS_MAX`].
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

/// When it was last looked for what is too old to be kept.
#[derive(Debug, Default)]
pub(super) struct Looks {
    last: Option<Now>,
}

impl Looks {
    /// Whether something is to be forgotten now: once an hour, unless the clocks disagree.
    pub(super) fn is_due(&mut self, now: Now) -> bool {
        let last = *self.last.get_or_insert(now);
        let elapsed = now.monotonic.since(last.monotonic);
        if elapsed < LOOK_INTERVAL {
            return false;
        }
        self.last = Some(now);
        let expected = last.wall + elapsed;
        let drift = now.wall.since(expected).max(expected.since(now.wall));
        drift <= LOOK_INTERVAL
    }

    /// When the next look is due.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.last.map(|last| last.monotonic + LOOK_INTERVAL)
    }
}

/// Forgets bulletins and events that are too old.
pub(super) fn forget_old(turn: &mut Turn, limits: &HistoryLimits) {
    let before = earlier(turn.now.wall, limits.bulletin_age_max);
    turn.sayings.push(Saying::Forget { before, max: FORGOTTEN_PER_LOOK_MAX });
    let before = earlier(turn.now.wall, limits.event_age_max);
    turn.actions.push(Action::ForgetEvents { before });
}

/// The time that is so much earlier; the first time that there is if it would be before that.
pub(super) fn earlier(time: WallTime, by: Duration) -> WallTime {
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    WallTime { seconds: time.seconds.saturating_sub(seconds), nanos: time.nanos }
}
