//! What the coming and going of a Star means for its work, for what it was asked, and for the plans that it lists.

use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::session::{CoordinatorMessage, Heartbeat, Hello, ScanBatch};
use orbit_shared::time::Now;
use orbit_shared::words::StarId;

use super::calls::resolve_last_copies;
use super::plans::Taken;
use super::stars::{Admitted, has_forecast, without_forecast};
use super::{Action, CloseReason, Core, SessionId, Turn};

impl Core {
    /// A Star has said hello: who it is decides whether it may stay, what it still holds what it keeps.
    pub(super) fn session_opened(&mut self, turn: &mut Turn, session: SessionId, hello: &Hello) {
        let grid = (self.grid, self.config.takes_over);
        if !self.stars.may_join(turn, session, hello, grid) {
            return;
        }
        let name = hello.star_id.clone();
        if let Some(old) = self.stars.session_of(&name) {
            self.jobs.note_held(&name, self.plans.scans_on(&name));
            self.stars.tell_twin(turn, hello, self.config.heartbeat_interval);
            self.close_session(turn, old, CloseReason::Superseded { star: name.clone() });
        }
        self.jobs.forget_scans_of(&name);
        self.jobs.forget_yields_of(&name);
        let Admitted { is_first, is_new_process } =
            self.stars.admit(turn, session, hello.clone(), self.config.guard);
        self.stars.note_version(turn, &name, &hello.version);
        let begun = hello.begun.as_deref();
        let kept = self.on_jobs(turn, |jobs, turn| {
            if is_new_process && !is_first {
                jobs.judge_held(turn, &name, begun);
            }
            let kept = jobs.keep_held(turn, &name, &hello.held, is_new_process);
            jobs.unpark(turn.stars, turn.now, &name);
            kept
        });
        let star = self.stars.get(&name).expect("it was taken in just now");
        let welcome = CoordinatorMessage::Welcome {
            epoch: star.record.epoch,
            heartbeat_interval: self.config.heartbeat_interval,
            lease: self.config.lease,
            kept,
            grid: Some(self.grid),
        };
        turn.actions.push(Action::Send { session, message: welcome });
        let state = star.state();
        self.calls.ask_for_catalogue(turn, session, &name);
        self.calls.look_for_damage(turn, &self.stars, &name);
        self.calls.look_for_damage_again(turn, &self.stars, &name);
        if is_new_process {
            resolve_last_copies(turn, &name);
            turn.record_star(ProvenanceType::StarRegistered, &name);
            if !self.config.is_manual_schedule {
                self.stars.schedule(turn, &name, "scheduled after it registered");
            }
        } else if state != hello.lifecycle {
            self.stars.tell_lifecycle(turn, &name, state, "the state before the session broke off");
        }
    }

    /// A session's stream has ended. The lease decides what becomes of the Star's work.
    pub(super) fn session_closed(&mut self, turn: &mut Turn, session: SessionId) {
        let is_there =
            self.stars.named(session).is_some_and(|name| self.stars.session_of(name) == Some(session));
        self.plans.end_session(turn, session, is_there);
        self.calls.end_session(turn, session);
        // One that was closed from this side is not known any more, and one that was superseded is not its Star's.
        let Some((name, true)) = self.stars.end_session(session) else { return };
        self.jobs.note_held(&name, self.plans.scans_on(&name));
        self.stars.lose_session(&name);
        self.jobs.forget_scans_of(&name);
        let star = self.stars.get(&name).expect("who had a session is known");
        if star.state() == LifecycleState::Shutdown || star.wants_exit && self.jobs.held_count(&name) == 0 {
            self.star_gone(turn, &name, "its agent has left");
            return;
        }
        let message = format!("the session of {name} broke off; it has {:?} to come back", self.config.lease);
        turn.post((Severity::Warning, name.as_str(), "liveness"), None, &message);
    }

    /// Ends a session from this side.
    fn close_session(&mut self, turn: &mut Turn, session: SessionId, reason: CloseReason) {
        self.stars.close_session(turn, session, reason);
        self.plans.end_session(turn, session, false);
        self.calls.end_session(turn, session);
    }

    /// A Star does not keep to the protocol: its session ends, and its operator hears why.
    pub(super) fn violated(&mut self, turn: &mut Turn, session: SessionId, problem: String) {
        self.stars.tell_violation(turn, session, &problem);
        self.close_session(turn, session, CloseReason::ProtocolViolated { problem });
    }

    /// A Star has left for good: it is shut down and holds nothing.
    pub(super) fn star_gone(&mut self, turn: &mut Turn, name: &StarId, reason: &str) {
        self.on_jobs(turn, |jobs, turn| jobs.release_star(turn, name));
        self.jobs.note_left(name);
        self.stars.leave(turn, name, reason);
    }

    /// Takes a heartbeat: the health sample, the advisories, the progress.
    pub(super) fn heartbeat_received(&mut self, turn: &mut Turn, name: &StarId, mut heartbeat: Heartbeat) {
        for &(assignment, bytes) in &heartbeat.progress {
            self.jobs.progress_reported(turn.now, name, assignment, bytes);
        }
        if heartbeat.sample.is_some() {
            self.jobs.note_sample(name);
        }
        self.stars.take_sample(turn.now, name, &mut heartbeat);
        let mut advisories = heartbeat.advisories;
        let star = self.stars.get(name).expect("who has a session is known");
        if has_forecast(&advisories) && self.jobs.is_own_trend(turn.now, star) {
            advisories = without_forecast(advisories);
        }
        let state = star.state();
        let before = self.stars.replace_advisories(name, advisories);
        self.stars.advisories_changed(turn, name, &before);
        self.jobs.unpark(&self.stars, turn.now, name);
        if heartbeat.lifecycle != state {
            self.stars.lifecycle_reported(turn, name, heartbeat.lifecycle, "as its heartbeat says");
        }
    }

    /// Takes a batch of a scan, for a plan or for a job.
    pub(super) fn scan_batch_received(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        star: &StarId,
        batch: ScanBatch,
    ) {
        let taken = match self.on_plans(turn, |plans, turn| plans.batch_received(turn, session, &batch)) {
            Taken::Yes => Ok(()),
            Taken::No => {
                self.on_jobs(turn, |jobs, turn| jobs.scan_batch_received(turn, session, star, batch))
            }
            Taken::Violation(problem) => Err(problem),
        };
        if let Err(problem) = taken {
            self.violated(turn, session, problem);
        }
    }

    /// A Star's process was told to stop: it is drained, and then let go.
    pub(super) fn drain_requested(&mut self, turn: &mut Turn, name: &StarId, reason: &str) {
        match self.stars.note_exit_wanted(name) {
            LifecycleState::Registered => self.shut_down(turn, name, reason),
            LifecycleState::Scheduled => self.drain(turn, name, reason, None),
            LifecycleState::Draining | LifecycleState::Shutdown => {}
        }
    }

    /// Gives a Star no new work, and says what would leave with it.
    pub(super) fn drain(&mut self, turn: &mut Turn, name: &StarId, reason: &str, deadline: Option<Duration>) {
        if !self.stars.begin_drain(turn, name, reason, deadline) {
            return;
        }
        let star = self.stars.get(name).expect("its drain has begun just now");
        for warning in self.jobs.drain_warnings(star) {
            let message = format!("{name} is draining, and {warning}");
            turn.post((Severity::Warning, name.as_str(), "lifecycle"), None, &message);
        }
        self.calls.catalogue().warn_of_last_copies(turn, &self.stars, name, "is draining");
        turn.record_star(ProvenanceType::StarDraining, name);
    }

    /// Ends a Star's process, if its lifecycle lets it.
    pub(super) fn shut_down(&mut self, turn: &mut Turn, name: &StarId, reason: &str) {
        self.on_jobs(turn, |jobs, turn| jobs.release_star(turn, name));
        let was_draining = self.stars.get(name).is_some_and(|star| star.state() == LifecycleState::Draining);
        let Some(is_told) = self.stars.begin_shutdown(turn, name, reason) else { return };
        // Who drained it was warned then.
        if !was_draining {
            self.calls.catalogue().warn_of_last_copies(turn, &self.stars, name, "is shut down");
        }
        if !is_told {
            self.star_gone(turn, name, reason);
        }
    }

    /// Lets go the Stars that asked for it and have nothing left, and says whose drain is overdue.
    pub(super) fn end_drained_stars(&mut self, turn: &mut Turn) {
        let (asked, overdue) = self.stars.leaving(turn.now);
        for name in asked {
            let star = self.stars.get(&name).expect("who leaves is known");
            if star.is_drained(self.jobs.held_count(&name)) {
                self.shut_down(turn, &name, "drained, as its agent had asked");
            }
        }
        for name in overdue {
            let star = self.stars.get(&name).expect("who leaves is known");
            if star.state() != LifecycleState::Draining || star.is_drained(self.jobs.held_count(&name)) {
                continue;
            }
            let blockers = self.jobs.drain_blockers(star, turn.now).join("; ");
            let message = format!(
                "{name} should be drained by now, but {blockers}. Wait, take it back with ScheduleStar, or end it with ShutdownStar and force"
            );
            turn.post((Severity::Warning, name.as_str(), "lifecycle"), None, &message);
        }
    }

    /// If this process was frozen or starved beyond the time at which it wanted to be woken, the silence of that time was
    /// its own.
    pub(super) fn forgive_own_silence(&mut self, now: Now) {
        let late = self.wake_at.take().map_or(Duration::ZERO, |at| now.monotonic.since(at));
        if late >= self.config.lease / 4 {
            self.stars.forgive_silence(now);
            self.jobs.forgive_standstill(&self.stars, now.monotonic, late);
        }
    }

    /// Lets the silence of Stars have its effects.
    pub(super) fn expire_stars(&mut self, turn: &mut Turn) {
        for name in self.stars.expire(turn) {
            let held = self.jobs.held_count(&name);
            if !is_planted(Bug::LostStarKeepsWork) {
                self.on_jobs(turn, |jobs, turn| jobs.release_star(turn, &name));
            }
            self.stars.tell_lost(turn, &name, held);
        }
    }
}
