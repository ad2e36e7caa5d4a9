//! What a Star by itself has against work: its lifecycle, its silence, its cordon, its guard.

use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::session::AdvisoryKind;
use orbit_shared::words::StarId;

use super::star::{Liveness, Star};
use crate::core::held::{Gate, Held};

/// What keeps a Star from taking part, if anything does.
pub(in crate::core) fn star_gate(name: &StarId, role: &str, star: Option<&Star>) -> Option<Held> {
    let Some(star) = star else {
        return Some(Held::new(Gate::Liveness, format!("{role} {name} is not known")));
    };
    match star.state() {
        LifecycleState::Scheduled => {}
        LifecycleState::Registered => {
            return Some(Held::new(
                Gate::Lifecycle,
                format!("{role} {name} is registered and not scheduled yet"),
            ));
        }
        LifecycleState::Draining if is_planted(Bug::DrainIgnored) => {}
        LifecycleState::Draining => {
            return Some(Held::new(Gate::Lifecycle, format!("{role} {name} is draining")));
        }
        LifecycleState::Shutdown => {
            return Some(Held::new(Gate::Lifecycle, format!("{role} {name} is shut down; start it again")));
        }
    }
    match (star.liveness, star.session) {
        (Liveness::Alive, Some(_)) => None,
        (Liveness::Alive | Liveness::Suspect, _) => {
            Some(Held::new(Gate::Liveness, format!("{role} {name} is not heard at the moment")))
        }
        (Liveness::Lost, _) => Some(Held::new(Gate::Liveness, format!("{role} {name} is lost"))),
    }
}

pub(in crate::core) fn destination_gate(name: &StarId, star: &Star) -> Option<Held> {
    // Without its vault a Star can write nothing down, so it stores nothing below its roots either.
    if star.advisories.iter().any(|advisory| advisory.kind == AdvisoryKind::VaultReadOnly) {
        let explanation =
            format!("the vault of {name} cannot be written to; mount it writable and restart its agent");
        return Some(Held::new(Gate::Guard, explanation));
    }
    if star.record.is_cordoned && !is_planted(Bug::CordonIgnored) {
        return Some(Held::new(Gate::Cordon, format!("{name} is cordoned")));
    }
    if star.guard.is_paused() {
        let reason = pause_reason(star);
        return Some(Held::new(Gate::Guard, format!("the guard of {name} is paused: {reason}")));
    }
    if star.guard.can_accept() {
        return None;
    }
    let state = star.guard.state();
    let explanation = format!(
        "the guard of {name} is full: {} of {} items, {} of {} bytes",
        state.object_count, state.max_object_count, state.byte_size, state.max_byte_size
    );
    Some(Held::new(Gate::Guard, explanation))
}

/// Why a guard is paused, in words; empty when it is not.
pub(in crate::core) fn pause_reason(star: &Star) -> String {
    let health = || {
        let worst = star.advisories.first();
        worst.map_or_else(|| "its health".to_owned(), |advisory| advisory.message.clone())
    };
    match (star.guard.is_paused(), &star.record.guard_pause) {
        (false, _) => String::new(),
        (true, Some(reason)) => reason.clone(),
        (true, None) => health(),
    }
}
