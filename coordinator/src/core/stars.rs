//! Sessions, liveness and lifecycle of the Stars, as far as it is they who speak or fall silent.
//!
//! A Star's identity may come back at any time: it takes over with a new epoch, keeps what it still holds, and its old
//! session is closed. A Star that stays silent for its lease gives everything back, without a penalty.

use std::collections::BTreeMap;
use std::time::Duration;

use orbit_shared::bulletin::Severity;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::session::{CoordinatorMessage, Heartbeat, Hello};
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::{AssignmentId, StarId};

use super::event::{Action, CloseReason, SessionId};
use super::limits::{
    HEALTH_SAMPLES_MAX, SESSION_WORDS_PER_SECOND_MAX, SESSION_WORK_PER_SECOND_MAX, STARS_MAX,
};
use super::refusal::Refusal;
use super::star::{Liveness, Star, StarRecord, TimedSample};
use super::{Core, Turn};

/// A Star that was heard within so many heartbeats is alive when another process says that it is this Star.
const TWIN_HEARTBEATS: u32 = 2;

impl Core {
    /// A Star has said hello: who it is decides whether it may stay, what it still holds what it keeps.
    pub(super) fn session_opened(&mut self, turn: &mut Turn, session: SessionId, hello: &Hello) {
        let name = hello.star_id.clone();
        let known = self.stars.get(&name);
        let is_taken =
            known.and_then(|star| star.record.identity).is_some_and(|owner| owner != hello.identity);
        if is_taken {
            let message = format!("another Star asked for the name {name} and was refused");
            self.post(turn, (Severity::Warning, name.as_str(), "identity"), None, &message);
            turn.actions.push(Action::Close { session, reason: CloseReason::NameTaken { star: name } });
            return;
        }
        if let Some(theirs) = hello.grid.filter(|grid| *grid != self.grid) {
            let ours = self.grid;
            if !self.config.takes_over {
                let reason = CloseReason::OtherGrid { star: name.clone(), theirs, ours };
                let message = format!("{name} was refused: {reason}");
                self.post(turn, (Severity::Error, name.as_str(), "grid"), None, &message);
                turn.actions.push(Action::Close { session, reason });
                return;
            }
            let message = format!("{name} belonged to grid {theirs} and was taken over into grid {ours}");
            self.post(turn, (Severity::Warning, name.as_str(), "grid"), None, &message);
        }
        let known = self.stars.get(&name);
        if known.is_none() && self.stars.len() >= STARS_MAX {
            let reason = CloseReason::TooManyStars { max: STARS_MAX };
            turn.actions.push(Action::Close { session, reason });
            return;
        }
        let old = known.and_then(|star| star.session);
        self.note_held(&name);
        if let Some(old) = old {
            self.tell_twin(turn, hello);
            self.close_session(turn, old, CloseReason::Superseded { star: name.clone() });
        }
        self.forget_scans_of(&name);
        self.forget_yields_of(&name);
        let is_first = known_process(&self.stars, &name).is_none();
        let is_new_process = self.admit(turn, session, hello.clone());
        self.note_version(turn, &name, &hello.version);
        if is_new_process && !is_first {
            self.judge_held(turn, &name, hello.begun.as_deref());
        }
        let kept = self.keep_held(turn, &name, &hello.held, is_new_process);
        self.unpark(turn.now, &name);
        let Some(star) = self.stars.get_mut(&name) else { return };
        let welcome = CoordinatorMessage::Welcome {
            epoch: star.record.epoch,
            heartbeat_interval: self.config.heartbeat_interval,
            lease: self.config.lease,
            kept,
            grid: Some(self.grid),
        };
        turn.actions.push(Action::Send { session, message: welcome });
        let state = star.state();
        self.ask_for_catalogue(turn, session, &name);
        self.look_for_damage(turn, &name);
        self.look_for_damage_again(turn, &name);
        if is_new_process {
            self.resolve_last_copies(turn, &name);
            self.record_star(turn, ProvenanceType::StarRegistered, &name);
            if !self.config.is_manual_schedule {
                self.schedule(turn, &name, "scheduled after it registered");
            }
        } else if state != hello.lifecycle {
            self.tell_lifecycle(turn, &name, state, "the state before the session broke off");
        }
    }

    /// Another process says that it is a Star which was heard just now. One that was killed and started again has lost its
    /// session first, or was silent for a while.
    fn tell_twin(&mut self, turn: &mut Turn, hello: &Hello) {
        let Some(star) = self.stars.get(&hello.star_id) else { return };
        let is_heard =
            turn.now.monotonic.since(star.last_heard) < self.config.heartbeat_interval * TWIN_HEARTBEATS;
        if star.record.instance == Some(hello.instance) || star.liveness != Liveness::Alive || !is_heard {
            return;
        }
        let name = hello.star_id.clone();
        let message = format!(
            "two processes are {name} with one identity: the one at {} was told to end, the one at {} has taken over; if the vault \
             was copied, stop one of them, and give the copy a name and an identity of its own (another --star-id, and no \
             file `identity` in its --vault)",
            star.record.data_address, hello.data_address
        );
        self.post(turn, (Severity::Error, name.as_str(), "liveness"), None, &message);
    }

    /// Notes the Star and its session. Returns whether its process is new, so that it registers again.
    fn admit(&mut self, turn: &mut Turn, session: SessionId, hello: Hello) -> bool {
        let name = hello.star_id.clone();
        let guard = self.config.guard;
        let star = self
            .stars
            .entry(name.clone())
            .or_insert_with(|| Star::new(StarRecord::new(name.clone(), guard), turn.now));
        let is_new_process = star.record.instance != Some(hello.instance);
        if is_new_process {
            star.begin_life(turn.now, "its agent has started");
        }
        let was_lost = star.liveness == Liveness::Lost && star.record.identity.is_some();
        star.record.update(hello);
        star.session = Some(session);
        star.session_since = turn.now.monotonic;
        star.liveness = Liveness::Alive;
        star.last_heard = turn.now.monotonic;
        star.is_dirty = true;
        self.sessions.insert(session, name.clone());
        if was_lost && !is_new_process {
            let message = format!("{name} is back");
            self.post(turn, (Severity::Info, name.as_str(), "liveness"), None, &message);
        }
        is_new_process
    }

    /// Which of the assignments that a Star says it holds it keeps. What it does not hold any more is given back.
    fn keep_held(
        &mut self,
        turn: &mut Turn,
        name: &StarId,
        held: &[AssignmentId],
        is_new_process: bool,
    ) -> Vec<AssignmentId> {
        let Some(star) = self.stars.get(name) else { return Vec::new() };
        let is_kept = |id: &AssignmentId| !is_new_process && held.contains(id);
        let (kept, gone): (Vec<_>, Vec<_>) = star.assignments.iter().copied().partition(is_kept);
        for id in gone {
            self.release_assignment(turn, id);
        }
        kept
    }

    /// A session's stream has ended. The lease decides what becomes of the Star's work.
    pub(super) fn session_closed(&mut self, turn: &mut Turn, session: SessionId) {
        self.end_asks(turn, session);
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
            self.star_gone(turn, &name, "its agent has left");
            return;
        }
        let message = format!("the session of {name} broke off; it has {:?} to come back", self.config.lease);
        self.post(turn, (Severity::Warning, name.as_str(), "liveness"), None, &message);
    }

    /// A Star has left for good: it is shut down and holds nothing.
    pub(super) fn star_gone(&mut self, turn: &mut Turn, name: &StarId, reason: &str) {
        self.release_star(turn, name);
        let Some(star) = self.stars.get_mut(name) else { return };
        star.liveness = Liveness::Lost;
        star.is_dirty = true;
        // It left on request; nothing that it held is to blame.
        star.held_at_end = super::poison::HeldAtEnd::left();
        star.go(turn.now, LifecycleState::Shutdown, reason);
        let message = format!("{name} has left the grid: {reason}");
        self.post(turn, (Severity::Info, name.as_str(), "lifecycle"), None, &message);
        self.record_star(turn, ProvenanceType::StarDeregistered, name);
    }

    /// Ends a session from this side.
    pub(super) fn close_session(&mut self, turn: &mut Turn, session: SessionId, reason: CloseReason) {
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
        self.end_asks(turn, session);
        turn.actions.push(Action::Close { session, reason });
    }

    /// A Star does not keep to the protocol: its session ends, and its operator hears why.
    pub(super) fn violated(&mut self, turn: &mut Turn, session: SessionId, problem: String) {
        if let Some(name) = self.sessions.get(&session).cloned() {
            let message = format!("{name} does not keep to the protocol and was cut off: {problem}");
            self.post(turn, (Severity::Error, name.as_str(), "protocol"), None, &message);
        }
        self.close_session(turn, session, CloseReason::ProtocolViolated { problem });
    }

    /// A Star sends more messages than it may.
    pub(super) fn session_slowed(&mut self, turn: &mut Turn, session: SessionId) {
        let Some(name) = self.sessions.get(&session).cloned() else { return };
        let message = format!(
            "{name} sends more messages than {SESSION_WORDS_PER_SECOND_MAX} of its own or {SESSION_WORK_PER_SECOND_MAX} about work \
             a second and is read no faster; see what its agent does"
        );
        self.post(turn, (Severity::Warning, name.as_str(), "protocol"), None, &message);
    }

    /// Anything that a Star says shows that it lives.
    pub(super) fn star_heard(&mut self, turn: &mut Turn, name: &StarId) {
        let Some(star) = self.stars.get_mut(name) else { return };
        star.last_heard = turn.now.monotonic;
        if star.liveness != Liveness::Alive {
            star.liveness = Liveness::Alive;
            let message = format!("{name} is heard again");
            self.post(turn, (Severity::Info, name.as_str(), "liveness"), None, &message);
        }
    }

    /// Takes a heartbeat: the health sample, the advisories, the progress.
    pub(super) fn heartbeat_received(&mut self, turn: &mut Turn, name: &StarId, heartbeat: Heartbeat) {
        for &(assignment, bytes) in &heartbeat.progress {
            self.progress_reported(turn.now, name, assignment, bytes);
        }
        let Some(star) = self.stars.get_mut(name) else { return };
        star.served_pulls = heartbeat.served_pulls;
        if let Some(sample) = heartbeat.sample {
            if star.samples.len() >= HEALTH_SAMPLES_MAX {
                star.samples.pop_front();
            }
            star.samples.push_back(TimedSample { time: turn.now.wall, sample });
            star.bytes_since_sample = 0;
        }
        star.root_space = heartbeat.root_space;
        star.vault_bytes = heartbeat.vault_bytes;
        star.vault_sample = heartbeat.vault_sample;
        let advisories = self.without_own_trend(turn.now, name, heartbeat.advisories);
        let Some(star) = self.stars.get_mut(name) else { return };
        let before = std::mem::replace(&mut star.advisories, advisories);
        let state = star.state();
        self.advisories_changed(turn, name, &before);
        self.unpark(turn.now, name);
        if heartbeat.lifecycle != state {
            self.lifecycle_reported(turn, name, heartbeat.lifecycle, "as its heartbeat says");
        }
    }

    /// A Star says where its lifecycle stands. That it has shut down is for it to say; where it stands elsewhere than
    /// it was told, it is told again.
    pub(super) fn lifecycle_reported(
        &mut self,
        turn: &mut Turn,
        name: &StarId,
        reported: LifecycleState,
        reason: &str,
    ) {
        let Some(star) = self.stars.get_mut(name) else { return };
        let state = star.state();
        match (reported, state) {
            (LifecycleState::Shutdown, _) => {
                star.go(turn.now, LifecycleState::Shutdown, reason);
            }
            (LifecycleState::Draining, LifecycleState::Scheduled) => {
                self.tell_lifecycle(turn, name, LifecycleState::Registered, "it is not draining any more");
                self.tell_lifecycle(turn, name, state, "as the coordinator has it");
            }
            (LifecycleState::Registered | LifecycleState::Scheduled | LifecycleState::Draining, _)
                if reported != state =>
            {
                self.tell_lifecycle(turn, name, state, "as the coordinator has it");
            }
            (LifecycleState::Registered | LifecycleState::Scheduled | LifecycleState::Draining, _) => {}
        }
    }

    /// A Star's process was told to stop: it is drained, and then let go.
    pub(super) fn drain_requested(&mut self, turn: &mut Turn, name: &StarId, reason: &str) {
        let Some(star) = self.stars.get_mut(name) else { return };
        star.wants_exit = true;
        match star.state() {
            LifecycleState::Registered => {
                self.shut_down(turn, name, reason);
            }
            LifecycleState::Scheduled => {
                self.drain(turn, name, reason, None);
            }
            LifecycleState::Draining | LifecycleState::Shutdown => {}
        }
    }

    /// Lets go the Stars that asked for it and have nothing left.
    pub(super) fn end_drained_stars(&mut self, turn: &mut Turn) {
        let is_ready = |star: &&Star| star.wants_exit && star.session.is_some() && star.is_drained();
        let ready: Vec<StarId> =
            self.stars.values().filter(is_ready).map(|star| star.record.star_id.clone()).collect();
        for name in ready {
            self.shut_down(turn, &name, "drained, as its agent had asked");
        }
        let is_overdue = |star: &&mut Star| star.drain_deadline.is_some_and(|at| at <= turn.now.monotonic);
        let mut overdue = Vec::new();
        for star in self.stars.values_mut().filter(is_overdue) {
            star.drain_deadline = None;
            if star.state() == LifecycleState::Draining && !star.is_drained() {
                overdue.push(star.record.star_id.clone());
            }
        }
        for name in overdue {
            let blockers = self.stars.get(&name).map(|star| self.drain_blockers(star, turn.now));
            let blockers = blockers.unwrap_or_default().join("; ");
            let message = format!(
                "{name} should be drained by now, but {blockers}. Wait, take it back with ScheduleStar, or end it with ShutdownStar and force"
            );
            self.post(turn, (Severity::Warning, name.as_str(), "lifecycle"), None, &message);
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
    pub(super) fn expire_stars(&mut self, turn: &mut Turn) {
        let (suspect_after, lease) = (self.config.lease / 2, self.config.lease);
        let mut suspects = Vec::new();
        let mut lost = Vec::new();
        for star in self.stars.values_mut() {
            let silence = turn.now.monotonic.since(star.last_heard);
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
            self.post(turn, (Severity::Warning, name.as_str(), "liveness"), None, &message);
        }
        for (name, held) in lost {
            if !is_planted(Bug::LostStarKeepsWork) {
                self.release_star(turn, &name);
            }
            let message = format!(
                "{name} is lost: not heard for {lease:?}. The {held} assignments that it held wait for it; see whether its machine and agent run"
            );
            self.post(turn, (Severity::Error, name.as_str(), "liveness"), None, &message);
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
        turn: &mut Turn,
        name: &StarId,
        state: LifecycleState,
        reason: &str,
    ) {
        if let Some(session) = self.stars.get(name).and_then(|star| star.session) {
            let message = CoordinatorMessage::SetLifecycle { state, reason: reason.to_owned() };
            turn.actions.push(Action::Send { session, message });
        }
    }

    pub(super) fn record_star(&mut self, turn: &mut Turn, event_type: ProvenanceType, name: &StarId) {
        let event = self.star_event(event_type, name);
        self.record(turn, event);
    }
}

/// The process of a Star that said hello last, if any did.
fn known_process(stars: &BTreeMap<StarId, Star>, name: &StarId) -> Option<uuid::Uuid> {
    stars.get(name).and_then(|star| star.record.instance)
}

/// There is no such Star.
pub(super) fn no_star(name: &StarId) -> Refusal {
    Refusal::NotFound { what: format!("Star {name}; ListStars shows those there are") }
}
