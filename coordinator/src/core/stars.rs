//! Sessions, liveness and lifecycle of the Stars, as far as it is they who speak or fall silent.
//!
//! A Star's identity may come back at any time: it takes over with a new epoch, keeps what it still holds, and its old
//! session is closed. A Star that stays silent for its lease gives everything back, without a penalty.

use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::session::{CoordinatorMessage, Heartbeat, Hello};
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::{AssignmentId, StarId};

use super::event::{Action, CloseReason, SessionId};
use super::limits::{HEALTH_SAMPLES_MAX, STARS_MAX};
use super::refusal::Refusal;
use super::star::{Liveness, Star, StarRecord, TimedSample};
use super::{Core, Effects};

impl Core {
    /// A Star has said hello: who it is decides whether it may stay, what it still holds what it keeps.
    pub(super) fn session_opened(&mut self, now: Now, session: SessionId, hello: &Hello, fx: &mut Effects) {
        let name = hello.star_id.clone();
        let known = self.stars.get(&name);
        let is_taken =
            known.and_then(|star| star.record.identity).is_some_and(|owner| owner != hello.identity);
        if is_taken {
            let message = format!("another Star asked for the name {name} and was refused");
            self.post(now, fx, (Severity::Warning, name.as_str(), "identity"), None, &message);
            fx.actions.push(Action::Close { session, reason: CloseReason::NameTaken { star: name } });
            return;
        }
        if known.is_none() && self.stars.len() >= STARS_MAX {
            let reason = CloseReason::TooManyStars { max: STARS_MAX };
            fx.actions.push(Action::Close { session, reason });
            return;
        }
        if let Some(old) = known.and_then(|star| star.session) {
            self.close_session(old, CloseReason::Superseded { star: name.clone() }, fx);
        }
        self.forget_scans_of(&name);
        self.forget_yields_of(&name);
        self.note_held(&name);
        let is_new_process = self.admit(now, session, hello.clone(), fx);
        self.judge_held(now, &name, is_new_process, fx);
        let kept = self.keep_held(&name, &hello.held, is_new_process, fx);
        self.unpark(now, &name);
        let Some(star) = self.stars.get_mut(&name) else { return };
        let welcome = CoordinatorMessage::Welcome {
            epoch: star.record.epoch,
            heartbeat_interval: self.config.heartbeat_interval,
            lease: self.config.lease,
            kept,
        };
        fx.actions.push(Action::Send { session, message: welcome });
        let state = star.state();
        self.ask_for_catalogue(now, session, &name, fx);
        self.look_for_damage(now, &name, fx);
        self.look_for_damage_again(now, &name, fx);
        if is_new_process {
            self.record_star(now, ProvenanceType::StarRegistered, &name, fx);
            if !self.config.is_manual_schedule {
                self.schedule(now, &name, "scheduled after it registered", fx);
            }
        } else if state != hello.lifecycle {
            self.tell_lifecycle(&name, state, "the state before the session broke off", fx);
        }
    }

    /// Notes the Star and its session. Returns whether its process is new, so that it registers anew.
    fn admit(&mut self, now: Now, session: SessionId, hello: Hello, fx: &mut Effects) -> bool {
        let name = hello.star_id.clone();
        let guard = self.config.guard;
        let star = self
            .stars
            .entry(name.clone())
            .or_insert_with(|| Star::new(StarRecord::new(name.clone(), guard), now));
        let is_new_process = star.record.instance != Some(hello.instance);
        if is_new_process {
            star.begin_life(now, "its agent has started");
        }
        let was_lost = star.liveness == Liveness::Lost && star.record.identity.is_some();
        star.record.update(hello);
        star.session = Some(session);
        star.liveness = Liveness::Alive;
        star.last_heard = now.monotonic;
        star.is_dirty = true;
        self.sessions.insert(session, name.clone());
        if was_lost && !is_new_process {
            let message = format!("{name} is back");
            self.post(now, fx, (Severity::Info, name.as_str(), "liveness"), None, &message);
        }
        is_new_process
    }

    /// Which of the assignments that a Star says it holds it keeps. What it does not hold any more is given back.
    fn keep_held(
        &mut self,
        name: &StarId,
        held: &[AssignmentId],
        is_new_process: bool,
        fx: &mut Effects,
    ) -> Vec<AssignmentId> {
        let Some(star) = self.stars.get(name) else { return Vec::new() };
        let is_kept = |id: &AssignmentId| !is_new_process && held.contains(id);
        let (kept, gone): (Vec<_>, Vec<_>) = star.assignments.iter().copied().partition(is_kept);
        for id in gone {
            self.release_assignment(id, fx);
        }
        kept
    }

    /// A session's stream has ended. The lease decides what becomes of the Star's work.
    pub(super) fn session_closed(&mut self, now: Now, session: SessionId, fx: &mut Effects) {
        self.end_asks(session, fx);
        let Some(name) = self.sessions.remove(&session) else { return };
        let Some(star) = self.stars.get_mut(&name) else { return };
        if star.session != Some(session) {
            return;
        }
        self.note_held(&name);
        let Some(star) = self.stars.get_mut(&name) else { return };
        star.session = None;
        star.liveness = star.liveness.max(Liveness::Suspect);
        star.served_pulls = 0;
        let (state, wants_exit, holds) = (star.state(), star.wants_exit, star.assignments.len());
        self.forget_scans_of(&name);
        if state == LifecycleState::Shutdown || wants_exit && holds == 0 {
            self.star_gone(now, &name, "its agent has left", fx);
            return;
        }
        let message = format!("the session of {name} broke off; it has {:?} to come back", self.config.lease);
        self.post(now, fx, (Severity::Warning, name.as_str(), "liveness"), None, &message);
    }

    /// A Star has left for good: it is shut down and holds nothing.
    pub(super) fn star_gone(&mut self, now: Now, name: &StarId, reason: &str, fx: &mut Effects) {
        self.release_star(name, fx);
        let Some(star) = self.stars.get_mut(name) else { return };
        star.liveness = Liveness::Lost;
        star.is_dirty = true;
        // It left of its own will; nothing that it held is to blame.
        star.held_at_end.clear();
        star.go(now, LifecycleState::Shutdown, reason);
        let message = format!("{name} has left the grid: {reason}");
        self.post(now, fx, (Severity::Info, name.as_str(), "lifecycle"), None, &message);
        self.record_star(now, ProvenanceType::StarDeregistered, name, fx);
    }

    /// Ends a session from this side.
    pub(super) fn close_session(&mut self, session: SessionId, reason: CloseReason, fx: &mut Effects) {
        let closed = if is_planted(Bug::StaleSessionHeard) {
            self.sessions.get(&session).cloned()
        } else {
            self.sessions.remove(&session)
        };
        if let Some(name) = closed
            && let Some(star) = self.stars.get_mut(&name)
            && star.session == Some(session)
        {
            star.session = None;
            star.liveness = star.liveness.max(Liveness::Suspect);
        }
        self.end_asks(session, fx);
        fx.actions.push(Action::Close { session, reason });
    }

    /// Anything that a Star says shows that it lives.
    pub(super) fn star_heard(&mut self, now: Now, name: &StarId, fx: &mut Effects) {
        let Some(star) = self.stars.get_mut(name) else { return };
        star.last_heard = now.monotonic;
        if star.liveness != Liveness::Alive {
            star.liveness = Liveness::Alive;
            let message = format!("{name} is heard again");
            self.post(now, fx, (Severity::Info, name.as_str(), "liveness"), None, &message);
        }
    }

    /// Takes a heartbeat: the health sample, the advisories, the progress.
    pub(super) fn heartbeat_received(
        &mut self,
        now: Now,
        name: &StarId,
        heartbeat: Heartbeat,
        fx: &mut Effects,
    ) {
        for &(assignment, bytes) in &heartbeat.progress {
            self.progress_reported(now, name, assignment, bytes);
        }
        let Some(star) = self.stars.get_mut(name) else { return };
        star.served_pulls = heartbeat.served_pulls;
        if let Some(sample) = heartbeat.sample {
            if star.samples.len() >= HEALTH_SAMPLES_MAX {
                star.samples.pop_front();
            }
            star.samples.push_back(TimedSample { time: now.wall, sample });
            star.bytes_since_sample = 0;
        }
        star.root_space = heartbeat.root_space;
        let before = std::mem::replace(&mut star.advisories, heartbeat.advisories);
        let state = star.state();
        self.advisories_changed(now, name, &before, fx);
        self.unpark(now, name);
        if heartbeat.lifecycle != state {
            self.lifecycle_reported(now, name, heartbeat.lifecycle, "as its heartbeat says", fx);
        }
    }

    /// A Star says where its lifecycle stands. That it has shut down is for it to say; where it stands elsewhere than
    /// it was told, it is told again.
    pub(super) fn lifecycle_reported(
        &mut self,
        now: Now,
        name: &StarId,
        reported: LifecycleState,
        reason: &str,
        fx: &mut Effects,
    ) {
        let Some(star) = self.stars.get_mut(name) else { return };
        let state = star.state();
        match (reported, state) {
            (LifecycleState::Shutdown, _) => {
                star.go(now, LifecycleState::Shutdown, reason);
            }
            (LifecycleState::Draining, LifecycleState::Scheduled) => {
                self.tell_lifecycle(name, LifecycleState::Registered, "it is not draining any more", fx);
                self.tell_lifecycle(name, state, "as the coordinator has it", fx);
            }
            (LifecycleState::Registered | LifecycleState::Scheduled | LifecycleState::Draining, _)
                if reported != state =>
            {
                self.tell_lifecycle(name, state, "as the coordinator has it", fx);
            }
            (LifecycleState::Registered | LifecycleState::Scheduled | LifecycleState::Draining, _) => {}
        }
    }

    /// A Star's process was told to stop: it is drained, and then let go.
    pub(super) fn drain_requested(&mut self, now: Now, name: &StarId, reason: &str, fx: &mut Effects) {
        let Some(star) = self.stars.get_mut(name) else { return };
        star.wants_exit = true;
        match star.state() {
            LifecycleState::Registered => {
                self.shut_down(now, name, reason, fx);
            }
            LifecycleState::Scheduled => {
                self.drain(now, name, reason, None, fx);
            }
            LifecycleState::Draining | LifecycleState::Shutdown => {}
        }
    }

    /// Lets go the Stars that asked for it and have nothing left.
    pub(super) fn end_drained_stars(&mut self, now: Now, fx: &mut Effects) {
        let is_ready = |star: &&Star| star.wants_exit && star.session.is_some() && star.is_drained();
        let ready: Vec<StarId> =
            self.stars.values().filter(is_ready).map(|star| star.record.star_id.clone()).collect();
        for name in ready {
            self.shut_down(now, &name, "drained, as its agent had asked", fx);
        }
        let is_overdue = |star: &&mut Star| star.drain_deadline.is_some_and(|at| at <= now.monotonic);
        let mut overdue = Vec::new();
        for star in self.stars.values_mut().filter(is_overdue) {
            star.drain_deadline = None;
            if star.state() == LifecycleState::Draining && !star.is_drained() {
                overdue.push(star.record.star_id.clone());
            }
        }
        for name in overdue {
            let blockers = self.stars.get(&name).map(|star| self.drain_blockers(star, now));
            let blockers = blockers.unwrap_or_default().join("; ");
            let message = format!(
                "{name} should be drained by now, but {blockers}. Wait, take it back with ScheduleStar, or end it with ShutdownStar and force"
            );
            self.post(now, fx, (Severity::Warning, name.as_str(), "lifecycle"), None, &message);
        }
    }

    /// If this process was frozen or starved beyond the time at which it wanted to be woken, the silence of that time was
    /// its own: every Star has a whole lease again, and nothing has stood still meanwhile.
    pub(super) fn forgive_own_silence(&mut self, now: Now) {
        let late = self.wake_at.take().map_or(Duration::ZERO, |at| now.monotonic.since(at));
        if late < self.config.lease / 4 {
            return;
        }
        for star in self.stars.values_mut().filter(|star| star.session.is_some()) {
            star.last_heard = now.monotonic;
            star.progress_at = (star.progress_at + late).min(now.monotonic);
        }
        for assignment in self.assignments.values_mut() {
            assignment.progress_at = (assignment.progress_at + late).min(now.monotonic);
        }
        for scan in self.jobs.values_mut().filter_map(|job| job.live.as_mut()?.scan.as_mut()) {
            scan.progress_at = (scan.progress_at + late).min(now.monotonic);
        }
    }

    /// Lets silence have its effects.
    pub(super) fn expire_stars(&mut self, now: Now, fx: &mut Effects) {
        let (suspect_after, lease) = (self.config.lease / 2, self.config.lease);
        let mut suspects = Vec::new();
        let mut lost = Vec::new();
        for star in self.stars.values_mut() {
            let silence = now.monotonic.since(star.last_heard);
            match star.liveness {
                Liveness::Alive if silence >= suspect_after => {
                    star.liveness = Liveness::Suspect;
                    suspects.push(star.record.star_id.clone());
                }
                Liveness::Suspect if silence >= lease => {
                    star.liveness = Liveness::Lost;
                    lost.push((star.record.star_id.clone(), star.assignments.len()));
                }
                Liveness::Alive | Liveness::Suspect | Liveness::Lost => {}
            }
        }
        for name in suspects {
            let message = format!("{name} has not been heard for {suspect_after:?}; it is given nothing new");
            self.post(now, fx, (Severity::Warning, name.as_str(), "liveness"), None, &message);
        }
        for (name, held) in lost {
            if !is_planted(Bug::LostStarKeepsWork) {
                self.release_star(&name, fx);
            }
            let message = format!(
                "{name} is lost: not heard for {lease:?}. The {held} assignments that it held wait for it; see whether its machine and agent run"
            );
            self.post(now, fx, (Severity::Error, name.as_str(), "liveness"), None, &message);
        }
    }

    /// When the next Star becomes suspect or lost, or a drain is overdue.
    pub(super) fn next_star_deadline(&self) -> Option<Monotonic> {
        let (suspect_after, lease) = (self.config.lease / 2, self.config.lease);
        let deadlines = self.stars.values().filter_map(|star| {
            let silence = match star.liveness {
                Liveness::Alive => Some(star.last_heard + suspect_after),
                Liveness::Suspect => Some(star.last_heard + lease),
                Liveness::Lost => None,
            };
            [silence, star.drain_deadline].into_iter().flatten().min()
        });
        deadlines.min()
    }

    pub(super) fn tell_lifecycle(
        &mut self,
        name: &StarId,
        state: LifecycleState,
        reason: &str,
        fx: &mut Effects,
    ) {
        if let Some(session) = self.stars.get(name).and_then(|star| star.session) {
            let message = CoordinatorMessage::SetLifecycle { state, reason: reason.to_owned() };
            fx.actions.push(Action::Send { session, message });
        }
    }

    pub(super) fn record_star(
        &mut self,
        now: Now,
        event_type: ProvenanceType,
        name: &StarId,
        fx: &mut Effects,
    ) {
        let event = self.star_event(event_type, name);
        self.record(now, fx, event);
    }
}

/// There is no such Star.
pub(super) fn no_star(name: &StarId) -> Refusal {
    Refusal::NotFound { what: format!("Star {name}; ListStars shows those there are") }
}
