//! The commands that steer Stars: their lifecycle, their cordon and their guard.

use std::time::Duration;

use orbit_shared::backpressure::{BackpressureConfig, PauseReason};
use orbit_shared::bulletin::Severity;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::words::StarId;

use super::event::Answer;
use super::last_copies::REMOVED;
use super::limits::STARS_MAX;
use super::refusal::{Refusal, Violation};
use super::star::{Star, StarRecord};
use super::stars::no_star;
use super::{COORDINATOR, Change, Core, Turn};

impl Core {
    fn star_mut(&mut self, name: &StarId) -> Result<&mut Star, Refusal> {
        self.stars.get_mut(name).ok_or_else(|| no_star(name))
    }

    /// Makes a Star known that has not connected yet.
    pub(super) fn register_star(&mut self, turn: &mut Turn, name: StarId) -> Result<Answer, Refusal> {
        if self.stars.contains_key(&name) {
            return Ok(Answer::Star(name));
        }
        if self.stars.len() >= STARS_MAX {
            return Err(Refusal::Full {
                problem: format!("the grid has {STARS_MAX} Stars already; remove one first"),
                retry_after: Duration::from_secs(60),
            });
        }
        let mut star = Star::new(StarRecord::new(name.clone(), self.config.guard), turn.now);
        star.is_dirty = true;
        self.stars.insert(name.clone(), star);
        self.record_star(turn, ProvenanceType::StarRegistered, &name);
        Ok(Answer::Star(name))
    }

    /// Gives a Star work, or takes a draining one back into service.
    pub(super) fn schedule_star(
        &mut self,
        turn: &mut Turn,
        name: &StarId,
        reason: &str,
    ) -> Result<Answer, Refusal> {
        let star = self.star_mut(name)?;
        match star.state() {
            LifecycleState::Scheduled => return Ok(Answer::Star(name.clone())),
            LifecycleState::Registered => {}
            LifecycleState::Draining if star.wants_exit => {
                return Err(Refusal::WrongState {
                    problem: format!(
                        "{name} drains because its process was told to stop; start it again instead"
                    ),
                });
            }
            LifecycleState::Draining => {
                star.go(turn.now, LifecycleState::Registered, "its drain was cancelled");
                star.drain_deadline = None;
                self.tell_lifecycle(turn, name, LifecycleState::Registered, "its drain was cancelled");
                self.resolve_last_copies(turn, name);
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
        let reason = if reason.is_empty() { &by_whom } else { reason };
        self.schedule(turn, name, reason);
        Ok(Answer::Star(name.clone()))
    }

    pub(super) fn schedule(&mut self, turn: &mut Turn, name: &StarId, reason: &str) {
        let Some(star) = self.stars.get_mut(name) else { return };
        if !star.go(turn.now, LifecycleState::Scheduled, reason) {
            return;
        }
        self.tell_lifecycle(turn, name, LifecycleState::Scheduled, reason);
        self.record_star(turn, ProvenanceType::StarScheduled, name);
    }

    /// Gives a Star no new work.
    pub(super) fn drain_star(
        &mut self,
        turn: &mut Turn,
        name: &StarId,
        reason: &str,
        deadline: Option<Duration>,
    ) -> Result<Answer, Refusal> {
        let star = self.star_mut(name)?;
        let state = star.state();
        match state {
            LifecycleState::Draining => return Ok(Answer::Star(name.clone())),
            LifecycleState::Scheduled => {}
            LifecycleState::Registered | LifecycleState::Shutdown => {
                return Err(Refusal::WrongState {
                    problem: format!("{name} is {state}; only a scheduled Star can be drained"),
                });
            }
        }
        let by_whom = turn.done_by_actor("drained");
        let reason = if reason.is_empty() { &by_whom } else { reason };
        self.drain(turn, name, reason, deadline);
        Ok(Answer::Star(name.clone()))
    }

    pub(super) fn drain(&mut self, turn: &mut Turn, name: &StarId, reason: &str, deadline: Option<Duration>) {
        let Some(star) = self.stars.get_mut(name) else { return };
        if !star.go(turn.now, LifecycleState::Draining, reason) {
            return;
        }
        star.drain_deadline = deadline.map(|after| turn.now.monotonic + after);
        self.tell_lifecycle(turn, name, LifecycleState::Draining, reason);
        let message = format!("{name} is draining: {reason}");
        self.post(turn, (Severity::Info, name.as_str(), "lifecycle"), None, &message);
        let warnings = self.stars.get(name).map(|star| self.drain_warnings(star)).unwrap_or_default();
        for warning in warnings {
            let message = format!("{name} is draining, and {warning}");
            self.post(turn, (Severity::Warning, name.as_str(), "lifecycle"), None, &message);
        }
        self.warn_of_last_copies(turn, name, "is draining");
        self.record_star(turn, ProvenanceType::StarDraining, name);
    }

    /// Ends a Star's process.
    pub(super) fn shutdown_star(
        &mut self,
        turn: &mut Turn,
        name: &StarId,
        reason: &str,
        force: bool,
    ) -> Result<Answer, Refusal> {
        let star = self.stars.get(name).ok_or_else(|| no_star(name))?;
        if star.state() == LifecycleState::Shutdown {
            return Ok(Answer::Star(name.clone()));
        }
        if !force && !star.is_drained() {
            let blockers = self.drain_blockers(star, turn.now);
            let problem = if blockers.is_empty() {
                format!("{name} is {}; drain it first, or set force", star.state())
            } else {
                format!("{name} is not drained: {}; wait, or set force", blockers.join("; "))
            };
            return Err(Refusal::WrongState { problem });
        }
        let by_whom = turn.done_by_actor("shut down");
        let reason = if reason.is_empty() { &by_whom } else { reason };
        self.shut_down(turn, name, reason);
        Ok(Answer::Star(name.clone()))
    }

    pub(super) fn shut_down(&mut self, turn: &mut Turn, name: &StarId, reason: &str) {
        self.release_star(turn, name);
        let Some(star) = self.stars.get_mut(name) else { return };
        let was_draining = star.state() == LifecycleState::Draining;
        if !star.go(turn.now, LifecycleState::Shutdown, reason) {
            return;
        }
        // Who drained it was warned then.
        if !was_draining {
            self.warn_of_last_copies(turn, name, "is shut down");
        }
        if self.stars.get(name).is_some_and(|star| star.session.is_some()) {
            self.tell_lifecycle(turn, name, LifecycleState::Shutdown, reason);
        } else {
            self.star_gone(turn, name, reason);
        }
    }

    /// Keeps work away from a Star, or no longer.
    pub(super) fn cordon_star(&mut self, name: &StarId, is_cordoned: bool) -> Result<Answer, Refusal> {
        let star = self.star_mut(name)?;
        star.is_dirty |= star.record.is_cordoned != is_cordoned;
        star.record.is_cordoned = is_cordoned;
        Ok(Answer::Star(name.clone()))
    }

    /// Forgets a Star that is not connected and that no unfinished job needs.
    pub(super) fn remove_star(&mut self, turn: &mut Turn, name: &StarId) -> Result<Answer, Refusal> {
        let star = self.star_mut(name)?;
        if star.session.is_some() {
            return Err(Refusal::WrongState {
                problem: format!("{name} is connected; drain it and shut it down first"),
            });
        }
        let needs = |spec: &super::JobSpec| {
            spec.source.star_id == *name || spec.destinations.iter().any(|place| place.star_id == *name)
        };
        let job = self.jobs.values().find(|job| job.live.is_some() && needs(&job.record.spec));
        if let Some(job) = job {
            return Err(Refusal::WrongState {
                problem: format!("job {} needs {name} and has not ended; cancel it first", job.record.id),
            });
        }
        let orphans: Vec<String> = self
            .schedules(0)
            .filter(|record| needs(&record.spec))
            .map(|record| record.id.to_string())
            .collect();
        if !orphans.is_empty() {
            let message = format!(
                "{name} was removed, and schedules name it: {}; they make no jobs until a Star of this name registers; delete them if none will",
                orphans.join(", ")
            );
            self.post(turn, (Severity::Warning, COORDINATOR, "schedule"), None, &message);
        }
        self.release_star(turn, name);
        self.warn_of_last_copies(turn, name, REMOVED);
        self.forget_snapshots_of(turn, name);
        self.stars.remove(name);
        self.ask_for_catalogues(turn);
        self.unhealed.remove(name);
        turn.changes.push(Change::RemoveStar(name.clone()));
        self.record_star(turn, ProvenanceType::StarDeregistered, name);
        Ok(Answer::Done)
    }

    /// Changes what a Star may hold. What it holds already stays.
    pub(super) fn set_guard_limits(
        &mut self,
        name: &StarId,
        max_object_count: Option<u64>,
        max_byte_size: Option<u64>,
    ) -> Result<Answer, Refusal> {
        let star = self.star_mut(name)?;
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
        star.is_dirty = true;
        Ok(Answer::Star(name.clone()))
    }

    /// Stops dispatch to a Star.
    pub(super) fn pause_guard(
        &mut self,
        turn: &Turn,
        name: &StarId,
        reason: String,
    ) -> Result<Answer, Refusal> {
        let by_whom = turn.done_by_actor("paused");
        let star = self.star_mut(name)?;
        let reason = if reason.is_empty() { by_whom } else { reason };
        star.guard.pause(PauseReason::Operator);
        star.record.guard_pause = Some(reason);
        star.is_dirty = true;
        Ok(Answer::Star(name.clone()))
    }

    /// Takes an operator's pause back; a pause for the Star's health stays.
    pub(super) fn resume_guard(&mut self, name: &StarId) -> Result<Answer, Refusal> {
        let star = self.star_mut(name)?;
        star.guard.resume(PauseReason::Operator);
        star.record.guard_pause = None;
        star.is_dirty = true;
        Ok(Answer::Star(name.clone()))
    }
}
