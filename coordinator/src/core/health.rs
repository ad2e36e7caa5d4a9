//! Health feedback: what a Star's monitor advises moves its guard, and is posted when it appears and when it is over.
//!
//! A Star sees how fast its disk fills, not what for. While jobs of the grid write to it, its forecast counts only if what
//! they have left does not fit: a migration that has room for all of it is no alarm.

use std::time::Duration;

use orbit_shared::backpressure::PauseReason;
use orbit_shared::bulletin::Severity;
use orbit_shared::integration::{GuardAction, health_to_backpressure};
use orbit_shared::session::{AdvisoryKind, AdvisoryNotice};
use orbit_shared::time::Now;
use orbit_shared::words::StarId;

use super::{Core, Turn};

/// So long after the grid has written to a Star its writing still shows in the trend of the disk.
const OWN_TREND: Duration = Duration::from_secs(600);

impl Core {
    /// A Star's advisories without a forecast that is only about what the grid itself is writing and has room for.
    pub(super) fn without_own_trend(
        &self,
        now: Now,
        name: &StarId,
        mut advisories: Vec<AdvisoryNotice>,
    ) -> Vec<AdvisoryNotice> {
        let is_forecast = |advisory: &AdvisoryNotice| advisory.kind == AdvisoryKind::DiskExhaustionPredicted;
        if advisories.iter().any(is_forecast) && self.is_own_trend(now, name) {
            advisories.retain(|advisory| !is_forecast(advisory));
            if advisories.is_empty() {
                let message = "healthy".to_owned();
                advisories.push(AdvisoryNotice {
                    kind: AdvisoryKind::Healthy,
                    message,
                    predicted_seconds: None,
                });
            }
        }
        advisories
    }

    /// Whether the grid writes to a Star, or did lately, and its disks have room for all that its jobs have left.
    fn is_own_trend(&self, now: Now, name: &StarId) -> bool {
        let Some(star) = self.stars.get(name) else { return false };
        let jobs = self.jobs.values().filter(|job| job.live.is_some());
        let places = jobs.flat_map(|job| job.record.spec.destinations.iter().zip(&job.record.tallies));
        let tallies = places.filter(|(place, _)| place.star_id == *name).map(|(_, tally)| tally);
        let left = tallies.clone().map(|tally| tally.bytes_total.saturating_sub(tally.bytes_stored));
        let left = left.fold(0, u64::saturating_add);
        let is_writing = tallies.count() > 0
            || star.wrote_at.is_some_and(|wrote_at| now.monotonic.since(wrote_at) < OWN_TREND);
        let vault = star.vault_sample.map(|sample| sample.disk_available_bytes);
        let room = star.root_space.iter().map(|space| space.available_bytes).chain(vault).min();
        is_writing && room.is_some_and(|room| room > left)
    }

    /// A Star's advisories are in: what is new is posted, and the guard follows.
    pub(super) fn advisories_changed(&mut self, turn: &mut Turn, name: &StarId, before: &[AdvisoryNotice]) {
        let Some(star) = self.stars.get_mut(name) else { return };
        // What a vault lacks may become more.
        let is_same = |one: &AdvisoryNotice, other: &AdvisoryNotice| {
            one.kind == other.kind
                && (one.kind != AdvisoryKind::VaultIncomplete || one.message == other.message)
        };
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
            .filter(|advisory| {
                advisory.kind != AdvisoryKind::Healthy && !before.iter().any(|known| is_same(known, advisory))
            })
            .cloned()
            .collect();
        for advisory in appeared {
            let severity = match advisory.kind {
                AdvisoryKind::VaultIncomplete | AdvisoryKind::VaultReadOnly | AdvisoryKind::DiskCritical => {
                    Severity::Error
                }
                AdvisoryKind::DiskWarning
                | AdvisoryKind::DiskExhaustionPredicted
                | AdvisoryKind::ThroughputLow
                | AdvisoryKind::ErrorRateHigh => Severity::Warning,
                AdvisoryKind::Healthy => Severity::Info,
            };
            self.post(
                turn,
                (severity, name.as_str(), category(advisory.kind)),
                None,
                &format!("{name}: {}", advisory.message),
            );
        }
        let cleared = before.iter().filter(|advisory| {
            advisory.kind != AdvisoryKind::Healthy && !kinds.contains(&advisory.kind) && !kinds.is_empty()
        });
        for advisory in cleared {
            let message = format!("{name}: {} no longer holds", advisory.kind);
            self.post(turn, (Severity::Info, name.as_str(), category(advisory.kind)), None, &message);
            if category(advisory.kind) == "vault" {
                let said = match advisory.kind {
                    AdvisoryKind::VaultReadOnly => format!("{name}: {}", advisory.message),
                    _ => format!("{name}: vault:"),
                };
                self.resolve(turn, (Severity::Error, name.as_str(), category(advisory.kind)), |message| {
                    message.starts_with(&said)
                });
            }
        }
    }
}

/// Where on the board an advisory is found.
fn category(kind: AdvisoryKind) -> &'static str {
    match kind {
        AdvisoryKind::VaultIncomplete | AdvisoryKind::VaultReadOnly => "vault",
        AdvisoryKind::DiskCritical
        | AdvisoryKind::DiskWarning
        | AdvisoryKind::DiskExhaustionPredicted
        | AdvisoryKind::ThroughputLow
        | AdvisoryKind::ErrorRateHigh
        | AdvisoryKind::Healthy => "health",
    }
}
