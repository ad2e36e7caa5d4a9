//! How fast one session may speak. An honest Star stays far below these rates; one that floods is slowed, and with it no
//! other, because its own stream is read no faster.

use std::time::Duration;

use orbit_shared::session::StarMessage;
use tokio::time::Instant;

use crate::core::limits::{
    SESSION_WORDS_BURST, SESSION_WORDS_PER_SECOND_MAX, SESSION_WORK_BURST, SESSION_WORK_PER_SECOND_MAX,
};

/// The rates of one session.
#[derive(Debug)]
pub(super) struct Pace {
    /// Of heartbeats, notices and the like.
    words: Bucket,
    /// Of reports, batches of scans and answers.
    work: Bucket,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            words: Bucket::new(SESSION_WORDS_PER_SECOND_MAX, SESSION_WORDS_BURST),
            work: Bucket::new(SESSION_WORK_PER_SECOND_MAX, SESSION_WORK_BURST),
        }
    }

    /// Takes a message into account. Returns how long it must wait, if it must.
    pub(super) fn take(&mut self, message: &StarMessage) -> Option<Duration> {
        let bucket = match message {
            StarMessage::Report(_)
            | StarMessage::ScanBatch(_)
            | StarMessage::Compared { .. }
            | StarMessage::VaultAnswered { .. } => &mut self.work,
            StarMessage::Hello(_)
            | StarMessage::Heartbeat(_)
            | StarMessage::LifecycleChanged { .. }
            | StarMessage::DrainRequested { .. }
            | StarMessage::DamageFound { .. }
            | StarMessage::Noticed(_) => &mut self.words,
        };
        bucket.take(Instant::now())
    }
}

/// A token bucket of messages.
#[derive(Debug)]
struct Bucket {
    interval: Duration,
    burst: Duration,
    /// When all that was said would have been said at the greatest rate.
    spent_until: Instant,
}

impl Bucket {
    fn new(per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second;
        Self { interval, burst: interval * burst, spent_until: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> Option<Duration> {
        self.spent_until = self.spent_until.max(now) + self.interval;
        let ahead = self.spent_until.duration_since(now);
        ahead.checked_sub(self.burst).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use orbit_shared::bulletin::Severity;
    use orbit_shared::session::{Notice, Report};
    use orbit_shared::words::AssignmentId;

    use super::*;

    fn notice() -> StarMessage {
        let text = "many words".to_owned();
        StarMessage::Noticed(Notice { severity: Severity::Info, category: "test".to_owned(), text })
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_waits_and_a_burst_does_not() {
        let mut pace = Pace::new();
        for _ in 0..SESSION_WORDS_BURST {
            assert_eq!(pace.take(&notice()), None);
        }
        let wait = pace.take(&notice()).expect("the burst is over");
        let report = Report { number: 1, assignment: AssignmentId(1), outcomes: Vec::new() };
        assert_eq!(pace.take(&StarMessage::Report(report)), None, "work has a rate of its own");
        tokio::time::advance(wait + Duration::from_secs(1)).await;
        assert_eq!(pace.take(&notice()), None);
    }
}
