//! Health feedback: what a Star's monitor advises moves its guard, and is posted when it appears and when it is over.

use orbit_shared::backpressure::PauseReason;
use orbit_shared::bulletin::Severity;
use orbit_shared::integration::{GuardAction, health_to_backpressure};
use orbit_shared::session::{AdvisoryKind, AdvisoryNotice};
use orbit_shared::time::Now;
use orbit_shared::words::StarId;

use super::{Core, Effects};

impl Core {
    /// A Star's advisories are in: what is new is posted, and the guard follows.
    pub(super) fn advisories_changed(
        &mut self,
        now: Now,
        name: &StarId,
        before: &[AdvisoryNotice],
        fx: &mut Effects,
    ) {
        let Some(star) = self.stars.get_mut(name) else { return };
        let had = |kind: AdvisoryKind| before.iter().any(|advisory| advisory.kind == kind);
        let kinds: Vec<AdvisoryKind> = star.advisories.iter().map(|advisory| advisory.kind).collect();
        if !kinds.is_empty() {
            match health_to_backpressure(kinds.iter().copied()) {
                GuardAction::Pause { scale_after } => {
                    star.guard.pause(PauseReason::Health);
                    star.guard.set_scale(scale_after);
                }
                GuardAction::Scale { fraction } => {
                    star.guard.resume(PauseReason::Health);
                    star.guard.set_scale(fraction);
                }
                GuardAction::Restore { step } => {
                    star.guard.resume(PauseReason::Health);
                    star.guard.restore_scale(step);
                }
            }
        }
        let appeared: Vec<AdvisoryNotice> = star
            .advisories
            .iter()
            .filter(|advisory| advisory.kind != AdvisoryKind::Healthy && !had(advisory.kind))
            .cloned()
            .collect();
        for advisory in appeared {
            let severity = match advisory.kind {
                AdvisoryKind::DiskCritical => Severity::Error,
                AdvisoryKind::DiskWarning
                | AdvisoryKind::DiskExhaustionPredicted
                | AdvisoryKind::ThroughputLow
                | AdvisoryKind::ErrorRateHigh => Severity::Warning,
                AdvisoryKind::Healthy => Severity::Info,
            };
            self.post(
                now,
                fx,
                (severity, name.as_str(), "health"),
                None,
                &format!("{name}: {}", advisory.message),
            );
        }
        let cleared = before.iter().filter(|advisory| {
            advisory.kind != AdvisoryKind::Healthy && !kinds.contains(&advisory.kind) && !kinds.is_empty()
        });
        for advisory in cleared {
            let message = format!("{name}: {} no longer holds", advisory.kind);
            self.post(now, fx, (Severity::Info, name.as_str(), "health"), None, &message);
        }
    }
}
