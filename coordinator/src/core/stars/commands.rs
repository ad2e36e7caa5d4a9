//! What steers a Star: its lifecycle, its cordon and its guard.

use std::time::Duration;

use orbit_shared::backpressure::{BackpressureConfig, PauseReason};
use orbit_shared::bulletin::Severity;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::time::Now;
use orbit_shared::words::StarId;

use super::{Star, Stars, new_record, no_star};
use crate::core::limits::STARS_MAX;
use crate::core::refusal::{Refusal, Violation};
use crate::core::turn::Turn;

impl Stars {
    fn known_mut(&mut self, name: &StarId) -> Result<&mut Star, Refusal> {
        self.by_name.get_mut(name).ok_or_else(|| no_star(name))
    }

    /// Moves a lifecycle if it may go there. Returns whether it did.
    pub(super) fn go(&mut self, now: Now, name: &StarId, to: LifecycleState, reason: &str) -> bool {
        let star = self.by_name.get_mut(name).expect("whose lifecycle moves is known");
        let has_moved = star.go(now, to, reason);
        if has_moved {
            self.dirty.insert(name.clone());
        }
        has_moved
    }

    /// Makes a Star known that has not connected yet.
    pub(in crate::core) fn register(
        &mut self,
        turn: &mut Turn,
        name: &StarId,
        guard: BackpressureConfig,
    ) -> Result<(), Refusal> {
        if self.by_name.contains_key(name) {
            return Ok(());
        }
        if self.is_full() {
            return Err(Refusal::Full {
                problem: format!("the grid has {STARS_MAX} Stars already; remove one first"),
                retry_after: Duration::from_secs(60),
            });
        }
        self.insert(new_record(name, guard), turn.now);
        self.dirty.insert(name.clone());
        turn.record_star(ProvenanceType::StarRegistered, name);
        Ok(())
    }

    /// Gives a Star work, or takes a draining one back into service.
    pub(in crate::core) fn put_to_work(
        &mut self,
        turn: &mut Turn,
        name: &StarId,
        reason: &str,
    ) -> Result<(), Refusal> {
        let star = self.known_mut(name)?;
        match star.state() {
            LifecycleState::Scheduled => return Ok(()),
            LifecycleState::Registered => {}
            LifecycleState::Draining if star.wants_exit => {
                return Err(Refusal::WrongState {
                    problem: format!(
                        "{name} drains because its process was told to stop; start it again instead"
                    ),
                });
            }
            LifecycleState::Draining => {
                star.drain_deadline = None;
                self.go(turn.now, name, LifecycleState::Registered, "its drain was cancelled");
                self.tell_lifecycle(turn, name, LifecycleState::Registered, "its drain was cancelled");
            }
            LifecycleState::Shutdown => {
                return Err(Refusal::WrongState {
                    problem: format!(
                        "{name} is shut down; start its agent again, it then registers by itself"
                    ),
                });
            }
        }
        let by_whom = turn.done_by_actor("scheduled");
        self.schedule(turn, name, if reason.is_empty() { &by_whom } else { reason });
        Ok(())
    }

    /// Gives a Star work, if its lifecycle lets it.
    pub(in crate::core) fn schedule(&mut self, turn: &mut Turn, name: &StarId, reason: &str) {
        if self.go(turn.now, name, LifecycleState::Scheduled, reason) {
            self.tell_lifecycle(turn, name, LifecycleState::Scheduled, reason);
            turn.record_star(ProvenanceType::StarScheduled, name);
        }
    }

    /// Whether a Star is to be drained, or why it cannot be.
    pub(in crate::core) fn may_drain(&self, name: &StarId) -> Result<bool, Refusal> {
        match self.known(name)?.state() {
            LifecycleState::Draining => Ok(false),
            LifecycleState::Scheduled => Ok(true),
            state @ (LifecycleState::Registered | LifecycleState::Shutdown) => Err(Refusal::WrongState {
                problem: format!("{name} is {state}; only a scheduled Star can be drained"),
            }),
        }
    }

    /// Gives a Star no new work, if its lifecycle lets it; whether it does.
    pub(in crate::core) fn begin_drain(
        &mut self,
        turn: &mut Turn,
        name: &StarId,
        reason: &str,
        deadline: Option<Duration>,
    ) -> bool {
        if !self.go(turn.now, name, LifecycleState::Draining, reason) {
            return false;
        }
        let star = self.by_name.get_mut(name).expect("whose lifecycle moved is known");
        star.drain_deadline = deadline.map(|after| turn.now.monotonic + after);
        self.leaving.insert(name.clone());
        self.tell_lifecycle(turn, name, LifecycleState::Draining, reason);
        let message = format!("{name} is draining: {reason}");
        turn.post((Severity::Info, name.as_str(), "lifecycle"), None, &message);
        true
    }

    /// A Star's process was told to stop. Gives where its lifecycle stands.
    pub(in crate::core) fn note_exit_wanted(&mut self, name: &StarId) -> LifecycleState {
        let star = self.by_name.get_mut(name).expect("who has a session is known");
        star.wants_exit = true;
        let state = star.state();
        self.leaving.insert(name.clone());
        state
    }

    /// The Stars that leave, by name: those that asked to be let go, and those whose drain is overdue, which is said once.
    pub(in crate::core) fn leaving(&mut self, now: Now) -> (Vec<StarId>, Vec<StarId>) {
        let by_name = &self.by_name;
        self.leaving.retain(|name| {
            by_name.get(name).is_some_and(|star| star.wants_exit || star.drain_deadline.is_some())
        });
        let (mut asked, mut overdue) = (Vec::new(), Vec::new());
        for name in &self.leaving {
            let star = self.by_name.get_mut(name).expect("who leaves is known");
            if star.wants_exit && star.session.is_some() {
                asked.push(name.clone());
            }
            if star.drain_deadline.is_some_and(|at| at <= now.monotonic) {
                star.drain_deadline = None;
                overdue.push(name.clone());
            }
        }
        (asked, overdue)
    }

    /// Ends a Star's process, if its lifecycle lets it. Whether it is connected and was told; `None` if nothing was done.
    pub(in crate::core) fn begin_shutdown(
        &mut self,
        turn: &mut Turn,
        name: &StarId,
        reason: &str,
    ) -> Option<bool> {
        if !self.go(turn.now, name, LifecycleState::Shutdown, reason) {
            return None;
        }
        self.tell_lifecycle(turn, name, LifecycleState::Shutdown, reason);
        Some(self.session_of(name).is_some())
    }

    /// Keeps work away from a Star, or no longer.
    pub(in crate::core) fn cordon(&mut self, name: &StarId, is_cordoned: bool) -> Result<(), Refusal> {
        let star = self.known_mut(name)?;
        if std::mem::replace(&mut star.record.is_cordoned, is_cordoned) != is_cordoned {
            self.dirty.insert(name.clone());
        }
        Ok(())
    }

    /// Changes what a Star may hold. What it holds already stays.
    pub(in crate::core) fn set_guard_limits(
        &mut self,
        name: &StarId,
        max_object_count: Option<u64>,
        max_byte_size: Option<u64>,
    ) -> Result<(), Refusal> {
        let star = self.known_mut(name)?;
        let limits = BackpressureConfig {
            max_object_count: max_object_count.unwrap_or(star.record.guard.max_object_count),
            max_byte_size: max_byte_size.unwrap_or(star.record.guard.max_byte_size),
        };
        limits.validate().map_err(|errors| {
            let violations = errors.into_iter().map(|error| {
                let text = error.to_string();
                let field = text.split(' ').next().unwrap_or_default().to_owned();
                Violation::new(field, text)
            });
            Refusal::Invalid(violations.collect())
        })?;
        star.record.guard = limits;
        star.guard.set_limits(limits);
        self.dirty.insert(name.clone());
        Ok(())
    }

    /// Stops dispatch to a Star.
    pub(in crate::core) fn pause_guard(
        &mut self,
        turn: &Turn,
        name: &StarId,
        reason: String,
    ) -> Result<(), Refusal> {
        let by_whom = turn.done_by_actor("paused");
        let star = self.known_mut(name)?;
        star.guard.pause(PauseReason::Operator);
        star.record.guard_pause = Some(if reason.is_empty() { by_whom } else { reason });
        self.dirty.insert(name.clone());
        Ok(())
    }

    /// Takes an operator's pause back; a pause for the Star's health stays.
    pub(in crate::core) fn resume_guard(&mut self, name: &StarId) -> Result<(), Refusal> {
        let star = self.known_mut(name)?;
        star.guard.resume(PauseReason::Operator);
        star.record.guard_pause = None;
        self.dirty.insert(name.clone());
        Ok(())
    }
}
