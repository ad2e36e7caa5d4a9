//! Health feedback: what a Star's monitor advises moves its guard, and is posted when it appears and when it is over.

use orbit_shared::bulletin::Severity;
use orbit_shared::integration::{health_category, health_to_backpressure, health_to_bulletin};
use orbit_shared::session::{AdvisoryKind, AdvisoryNotice};
use orbit_shared::words::StarId;

use super::Stars;
use crate::core::saying::Wording;
use crate::core::turn::Turn;

/// Whether a monitor foresees that a disk will be full.
pub(in crate::core) fn has_forecast(advisories: &[AdvisoryNotice]) -> bool {
    advisories.iter().any(is_forecast)
}

fn is_forecast(advisory: &AdvisoryNotice) -> bool {
    advisory.kind == AdvisoryKind::DiskExhaustionPredicted
}

/// Advisories without a forecast that is only about what the grid itself is writing and has room for.
pub(in crate::core) fn without_forecast(mut advisories: Vec<AdvisoryNotice>) -> Vec<AdvisoryNotice> {
    advisories.retain(|advisory| !is_forecast(advisory));
    if advisories.is_empty() {
        let message = "healthy".to_owned();
        advisories.push(AdvisoryNotice { kind: AdvisoryKind::Healthy, message, predicted_seconds: None });
    }
    advisories
}

impl Stars {
    /// A Star's advisories are in: what is new is posted, and the guard follows.
    pub(in crate::core) fn advisories_changed(
        &self,
        turn: &mut Turn,
        name: &StarId,
        before: &[AdvisoryNotice],
    ) {
        let star = self.get(name).expect("who has a session is known");
        let guard = self.guards.get(name).expect("every Star has a guard");
        // What a vault lacks may become more.
        let is_same = |one: &AdvisoryNotice, other: &AdvisoryNotice| {
            one.kind == other.kind
                && (one.kind != AdvisoryKind::VaultIncomplete || one.message == other.message)
        };
        let kinds: Vec<AdvisoryKind> = star.advisories.iter().map(|advisory| advisory.kind).collect();
        if !kinds.is_empty() {
            health_to_backpressure(kinds.iter().copied()).apply(guard);
        }
        let is_new = |advisory: &&AdvisoryNotice| !before.iter().any(|known| is_same(known, advisory));
        for advisory in star.advisories.iter().filter(is_new) {
            if let Some(draft) = health_to_bulletin(name, advisory.kind, &advisory.message) {
                turn.post((draft.severity, &draft.source, draft.category), draft.job_id, &draft.message);
            }
        }
        let cleared = before.iter().filter(|advisory| {
            advisory.kind != AdvisoryKind::Healthy && !kinds.contains(&advisory.kind) && !kinds.is_empty()
        });
        for advisory in cleared {
            let category = health_category(advisory.kind);
            let message = format!("{name}: {} no longer holds", advisory.kind);
            turn.post((Severity::Info, name.as_str(), category), None, &message);
            let said = match advisory.kind {
                AdvisoryKind::VaultReadOnly => format!("{name}: {}", advisory.message),
                AdvisoryKind::VaultIncomplete => format!("{name}: vault:"),
                AdvisoryKind::DiskCritical
                | AdvisoryKind::DiskExhaustionPredicted
                | AdvisoryKind::ErrorRateHigh
                | AdvisoryKind::DiskWarning
                | AdvisoryKind::ThroughputLow
                | AdvisoryKind::Healthy => continue,
            };
            turn.resolve((Severity::Error, name.as_str(), category), vec![Wording::Begins(said)]);
        }
    }
}
