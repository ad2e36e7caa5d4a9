//! Connects the patterns: translates the result of one into the input of the next.
//!
//! These are pure translations. The owner of the instances calls them, stores the result and acts on it. So the owner
//! decides that a penalty box feeds a dead-letter queue, not either of the two.

use crate::backpressure::{BackpressureGuard, PauseReason};
use crate::bulletin::Severity;
use crate::dead_letter::{DeadLetterEntry, FailureReason};
use crate::health_monitor::AdvisoryKind;
use crate::penalization::PenaltyRecord;
use crate::provenance::{ProvenanceEvent, ProvenanceType};
use crate::words::{ItemId, JobId, StarId};

/// The share of a guard's limits in force while its destination will soon be full.
pub const FILLING_SCALE: f64 = 0.25;
/// The share in force while its destination is slow or fails often.
pub const SLOW_SCALE: f64 = 0.5;
/// The share that is restored with every check without a finding.
pub const RESTORE_STEP: f64 = 0.25;

/// The source of a bulletin that no Star has caused.
pub const COORDINATOR_SOURCE: &str = "coordinator";

/// Penalty to dead letter: the entry for an item whose penalties are exhausted; `None` while it may be retried.
///
/// `named` is the reason that the last failure names, if it names one: that a checksum was wrong each time says more than that
/// there were so many times. The caller fills in Star and paths, which the penalty box does not know.
pub fn penalty_to_dead_letter(
    item: ItemId,
    record: &PenaltyRecord,
    named: Option<FailureReason>,
) -> Option<DeadLetterEntry> {
    if !record.is_exhausted {
        return None;
    }
    let reason = named.unwrap_or(FailureReason::RetriesExhausted { attempts: record.penalty_count });
    let entry =
        DeadLetterEntry::new(item.job, item.to_string(), reason, &record.last_error, record.last_failed_at);
    Some(DeadLetterEntry { first_failed_at: record.first_failed_at, attempts: record.penalty_count, ..entry })
}

/// The action on the guards of a destination after a health check.
///
/// Every check yields exactly one action, which depends on nothing before, so the next one makes up for a missed one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GuardAction {
    /// Admit nothing more. Also set the scale to `scale_after`, so that only a little is admitted after the pause.
    Pause {
        /// The scale after the pause.
        scale_after: f64,
    },
    /// End the health pause, and set the scale.
    Scale {
        /// From 0 to 1.
        fraction: f64,
    },
    /// End the health pause, and take one step back towards the full limits.
    Restore {
        /// The share of the full limits to add.
        step: f64,
    },
}

impl GuardAction {
    /// Applies the action to one guard. A pause by the operator is not affected.
    pub fn apply(self, guard: &BackpressureGuard) {
        match self {
            Self::Pause { scale_after } => {
                guard.pause(PauseReason::Health);
                guard.set_scale(scale_after);
            }
            Self::Scale { fraction } => {
                guard.set_scale(fraction);
                guard.resume(PauseReason::Health);
            }
            Self::Restore { step } => {
                guard.restore_scale(step);
                guard.resume(PauseReason::Health);
            }
        }
    }
}

/// Health to backpressure: a full disk pauses; a disk that will be full, and a slow or failing Star, shrink the limits;
/// anything else restores them step by step. The worst advisory decides.
pub fn health_to_backpressure(advisories: impl IntoIterator<Item = AdvisoryKind>) -> GuardAction {
    let mut action = GuardAction::Restore { step: RESTORE_STEP };
    for kind in advisories {
        let fraction = match kind {
            AdvisoryKind::DiskCritical => return GuardAction::Pause { scale_after: FILLING_SCALE },
            AdvisoryKind::DiskExhaustionPredicted => FILLING_SCALE,
            AdvisoryKind::ErrorRateHigh | AdvisoryKind::ThroughputLow => SLOW_SCALE,
            // Moving less at a time does not free disk space. The forecast shows whether it will suffice.
            AdvisoryKind::VaultIncomplete
            | AdvisoryKind::VaultReadOnly
            | AdvisoryKind::DiskWarning
            | AdvisoryKind::Healthy => continue,
        };
        action = match action {
            GuardAction::Scale { fraction: before } => GuardAction::Scale { fraction: before.min(fraction) },
            GuardAction::Restore { .. } => GuardAction::Scale { fraction },
            GuardAction::Pause { .. } => action,
        };
    }
    action
}

/// The arguments of the board's `post`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulletinDraft {
    /// The importance.
    pub severity: Severity,
    /// The Star it comes from, or [`COORDINATOR_SOURCE`].
    pub source: String,
    /// The kind of problem.
    pub category: &'static str,
    /// The job it concerns.
    pub job_id: Option<JobId>,
    /// The problem, as text.
    pub message: String,
}

/// Provenance to bulletin board: the events that may need an action of an operator. All others are history only.
pub fn provenance_to_bulletin(event: &ProvenanceEvent) -> Option<BulletinDraft> {
    let cause = event.error.as_deref().unwrap_or("no cause was recorded");
    let (severity, category, message) = match event.event_type {
        ProvenanceType::ChunkDeadLettered => {
            let what = subject(event);
            (Severity::Error, "dead-letter", format!("{what} dead-lettered: {cause}"))
        }
        ProvenanceType::JobFailed => (Severity::Error, "job", format!("Job failed: {cause}")),
        // The copy is good again, but the cause of the damage may damage more.
        ProvenanceType::ChunkHealed => {
            (Severity::Warning, "integrity", format!("{} was damaged and has been healed", subject(event)))
        }
        ProvenanceType::ChunkCreated
        | ProvenanceType::ChunkDeduplicated
        | ProvenanceType::ChunkTransferred
        | ProvenanceType::ChunkVerified
        | ProvenanceType::ChunkPenalized
        | ProvenanceType::ChunkPacked
        | ProvenanceType::FileRenamed
        | ProvenanceType::FileSkipped
        | ProvenanceType::FileStarted
        | ProvenanceType::FileCompleted
        | ProvenanceType::JobCreated
        | ProvenanceType::JobResumed
        | ProvenanceType::JobCompleted
        | ProvenanceType::StarRegistered
        | ProvenanceType::StarScheduled
        | ProvenanceType::StarDraining
        | ProvenanceType::StarDeregistered => return None,
    };
    let source = event.star_id.as_ref().map_or(COORDINATOR_SOURCE, StarId::as_str).to_owned();
    Some(BulletinDraft { severity, source, category, job_id: event.job_id, message })
}

/// Health to bulletin board: the text of an advisory for operators. It is meant for the advisories that have just
/// begun; [`AdvisoryKind::Healthy`] is not reported.
pub fn health_to_bulletin(star_id: &StarId, kind: AdvisoryKind, text: &str) -> Option<BulletinDraft> {
    let severity = match kind {
        AdvisoryKind::VaultIncomplete | AdvisoryKind::VaultReadOnly | AdvisoryKind::DiskCritical => {
            Severity::Error
        }
        AdvisoryKind::DiskExhaustionPredicted
        | AdvisoryKind::DiskWarning
        | AdvisoryKind::ErrorRateHigh
        | AdvisoryKind::ThroughputLow => Severity::Warning,
        AdvisoryKind::Healthy => return None,
    };
    let message = format!("{star_id}: {text}");
    let (source, category) = (star_id.as_str().to_owned(), health_category(kind));
    Some(BulletinDraft { severity, source, category, job_id: None, message })
}

/// The category of bulletins about an advisory: what an operator looks after, the vault or the machine.
pub fn health_category(kind: AdvisoryKind) -> &'static str {
    match kind {
        AdvisoryKind::VaultIncomplete | AdvisoryKind::VaultReadOnly => "vault",
        AdvisoryKind::DiskCritical
        | AdvisoryKind::DiskExhaustionPredicted
        | AdvisoryKind::ErrorRateHigh
        | AdvisoryKind::DiskWarning
        | AdvisoryKind::ThroughputLow
        | AdvisoryKind::Healthy => "health",
    }
}

/// The subject of an event, as far as it has one.
fn subject(event: &ProvenanceEvent) -> String {
    match (&event.chunk_hash, &event.item, &event.source) {
        (Some(hash), ..) => format!("Chunk {hash}"),
        (None, Some(item), _) => format!("Item {item}"),
        (None, None, Some(source)) => format!("A chunk of {source}"),
        (None, None, None) => "A chunk".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backpressure::BackpressureConfig;
    use crate::bulletin::BulletinBoard;
    use crate::chunk_hash::ChunkHash;
    use crate::dead_letter::DeadLetterQueue;
    use crate::health_monitor::{Advisory, HealthConfig, HealthMonitor, HealthSample};
    use crate::penalization::{PenaltyBox, PenaltyConfig};
    use crate::time::{Now, WallTime};

    const ITEM: ItemId = ItemId { job: JobId(7), destination: 0, sequence: 42 };

    fn star() -> StarId {
        StarId::new("star-1").unwrap()
    }

    fn full_disk() -> Advisory {
        Advisory::DiskCritical { available_bytes: 1, total_bytes: 100 }
    }

    fn slow() -> Advisory {
        Advisory::ThroughputLow { current_bytes_per_sec: 1, floor_bytes_per_sec: 2 }
    }

    fn filling() -> Advisory {
        Advisory::DiskExhaustionPredicted { seconds_remaining: 60 }
    }

    #[test]
    fn the_fifth_failure_goes_to_the_dead_letter_queue_with_its_history() {
        let mut penalties = PenaltyBox::new(PenaltyConfig::default());
        let mut letters = DeadLetterQueue::new(10);
        for failure in 1..=5 {
            let is_exhausted = penalties.penalize(Now::from_ms(failure * 1000), ITEM, "connection refused");
            let entry = penalty_to_dead_letter(ITEM, penalties.record(&ITEM).unwrap(), None);
            assert_eq!(is_exhausted, entry.is_some());
            if let Some(entry) = entry {
                letters.push(entry).unwrap();
            }
        }
        let entries = letters.entries_for_job(JobId(7));
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].item_key, "7/0/42");
        assert_eq!(entries[0].failure_reason, FailureReason::RetriesExhausted { attempts: 5 });
        assert_eq!(entries[0].last_error, "connection refused");
        assert_eq!(entries[0].first_failed_at, WallTime::from_unix_ms(1000));
        assert_eq!(entries[0].last_failed_at, WallTime::from_unix_ms(5000));
        let named = Some(FailureReason::ChecksumMismatch);
        let entry = penalty_to_dead_letter(ITEM, penalties.record(&ITEM).unwrap(), named).unwrap();
        assert_eq!((entry.failure_reason, entry.attempts), (FailureReason::ChecksumMismatch, 5));
    }

    #[test]
    fn a_full_disk_pauses_whatever_else_holds() {
        let expected = GuardAction::Pause { scale_after: FILLING_SCALE };
        assert_eq!(
            health_to_backpressure([full_disk(), slow()].map(|advisory: Advisory| advisory.kind())),
            expected
        );
        assert_eq!(
            health_to_backpressure([slow(), full_disk()].map(|advisory: Advisory| advisory.kind())),
            expected
        );
    }

    #[test]
    fn the_smallest_scale_wins_in_any_order() {
        assert_eq!(
            health_to_backpressure([slow()].map(|advisory: Advisory| advisory.kind())),
            GuardAction::Scale { fraction: SLOW_SCALE }
        );
        let expected = GuardAction::Scale { fraction: FILLING_SCALE };
        assert_eq!(
            health_to_backpressure([filling(), slow()].map(|advisory: Advisory| advisory.kind())),
            expected
        );
        assert_eq!(
            health_to_backpressure([slow(), filling()].map(|advisory: Advisory| advisory.kind())),
            expected
        );
    }

    #[test]
    fn health_and_a_mere_warning_restore_step_by_step() {
        let expected = GuardAction::Restore { step: RESTORE_STEP };
        let warning = Advisory::DiskWarning { available_bytes: 10, total_bytes: 100 };
        assert_eq!(
            health_to_backpressure([Advisory::Healthy].map(|advisory: Advisory| advisory.kind())),
            expected
        );
        assert_eq!(health_to_backpressure([warning].map(|advisory: Advisory| advisory.kind())), expected);
        assert_eq!(health_to_backpressure([]), expected);
    }

    #[test]
    fn a_guard_pauses_and_opens_again_by_steps_but_not_against_the_operator() {
        let guard = BackpressureGuard::new("star-1", BackpressureConfig::default());
        health_to_backpressure([full_disk().kind()]).apply(&guard);
        assert!(guard.is_paused());
        let scales = [Advisory::Healthy; 4].map(|healthy| {
            health_to_backpressure([healthy.kind()]).apply(&guard);
            assert!(!guard.is_paused());
            guard.scale()
        });
        assert_eq!(scales, [0.5, 0.75, 1.0, 1.0]);
        health_to_backpressure([slow().kind()]).apply(&guard);
        health_to_backpressure([slow().kind()]).apply(&guard);
        assert_eq!(
            guard.scale().to_bits(),
            SLOW_SCALE.to_bits(),
            "a lasting advisory does not shrink it again"
        );
        guard.pause(PauseReason::Operator);
        health_to_backpressure([Advisory::Healthy.kind()]).apply(&guard);
        assert!(guard.is_paused());
    }

    #[test]
    fn a_dead_lettered_chunk_is_posted_as_an_error() {
        let hash = ChunkHash::of(b"x");
        let event = ProvenanceEvent::new(ProvenanceType::ChunkDeadLettered, JobId(7))
            .with_star(star())
            .with_chunk_hash(hash)
            .with_error("connection refused");
        let draft = provenance_to_bulletin(&event).unwrap();
        let mut board = BulletinBoard::new(10);
        board.post(
            Now::from_ms(1),
            draft.severity,
            &draft.source,
            draft.category,
            draft.job_id,
            &draft.message,
        );
        let posted = board.by_job(JobId(7));
        assert_eq!((posted[0].source.as_str(), posted[0].category.as_str()), ("star-1", "dead-letter"));
        assert_eq!(posted[0].severity, Severity::Error);
        assert_eq!(posted[0].message, format!("Chunk {hash} dead-lettered: connection refused"));
    }

    #[test]
    fn a_failure_without_a_star_or_a_cause_still_has_a_text() {
        let event = ProvenanceEvent::new(ProvenanceType::JobFailed, JobId(7));
        let draft = provenance_to_bulletin(&event).unwrap();
        assert_eq!((draft.source.as_str(), draft.category), ("coordinator", "job"));
        assert_eq!(draft.message, "Job failed: no cause was recorded");
        let event = ProvenanceEvent::new(ProvenanceType::ChunkDeadLettered, None).with_item(ITEM);
        let message = provenance_to_bulletin(&event).unwrap().message;
        assert_eq!(message, "Item 7/0/42 dead-lettered: no cause was recorded");
    }

    #[test]
    fn only_events_that_need_an_action_become_bulletins() {
        let posted = ProvenanceType::ALL
            .into_iter()
            .filter(|event_type| provenance_to_bulletin(&ProvenanceEvent::new(*event_type, None)).is_some());
        let expected =
            [ProvenanceType::ChunkHealed, ProvenanceType::ChunkDeadLettered, ProvenanceType::JobFailed];
        assert_eq!(posted.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_disk_that_fills_up_pauses_warns_once_and_recovers_by_steps() {
        let mut monitor = HealthMonitor::new(HealthConfig::default());
        let mut before = Vec::new();
        let mut check = |seconds: u64, available: u64| {
            let sample = HealthSample {
                disk_available_bytes: available,
                disk_total_bytes: 1000,
                ..HealthSample::default()
            };
            let advisories = monitor.check(Now::from_ms(seconds * 1000).monotonic, &sample);
            let known = std::mem::replace(&mut before, advisories.clone());
            let is_new = |new: &&Advisory| known.iter().all(|old| old.kind() != new.kind());
            let drafts = advisories
                .iter()
                .filter(is_new)
                .filter_map(|advisory| health_to_bulletin(&star(), advisory.kind(), &advisory.to_string()));
            (health_to_backpressure(advisories.iter().map(Advisory::kind)), drafts.collect::<Vec<_>>())
        };
        let (action, drafts) = check(0, 40);
        assert_eq!(action, GuardAction::Pause { scale_after: FILLING_SCALE });
        assert_eq!((drafts.len(), drafts[0].severity, drafts[0].category), (1, Severity::Error, "health"));
        let (action, drafts) = check(30, 40);
        assert!(matches!(action, GuardAction::Pause { .. }) && drafts.is_empty());
        let (action, drafts) = check(60, 900);
        assert!(matches!(action, GuardAction::Restore { .. }) && drafts.is_empty());
    }
}
