//! Sessions and liveness: who may join, who is heard, and who has been silent for too long.

use std::time::Duration;

use orbit_shared::backpressure::BackpressureConfig;
use orbit_shared::bulletin::Severity;
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::ProvenanceType;
use orbit_shared::session::{AdvisoryNotice, Heartbeat, Hello};
use orbit_shared::time::Now;
use orbit_shared::words::StarId;
use uuid::Uuid;

use super::{Liveness, Stars, TimedSample, new_record};
use crate::core::event::{Action, CloseReason, SessionId};
use crate::core::limits::{
    HEALTH_SAMPLES_MAX, SESSION_WORDS_PER_SECOND_MAX, SESSION_WORK_PER_SECOND_MAX, STARS_MAX,
};
use crate::core::turn::Turn;

/// A Star that was heard within so many heartbeats is alive when another process says that it is this Star.
const TWIN_HEARTBEATS: u32 = 2;

/// How a Star was taken in.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) struct Admitted {
    /// Whether no process of it was known.
    pub(in crate::core) is_first: bool,
    /// Whether its process is another than the last one, so that it registers again.
    pub(in crate::core) is_new_process: bool,
}

impl Stars {
    /// Whether a Star that has said hello may stay. If not, its session is closed.
    pub(in crate::core) fn may_join(
        &self,
        turn: &mut Turn,
        session: SessionId,
        hello: &Hello,
        (ours, takes_over): (Uuid, bool),
    ) -> bool {
        let name = &hello.star_id;
        let known = self.get(name);
        if known.and_then(|star| star.record.identity).is_some_and(|owner| owner != hello.identity) {
            let message = format!("another Star asked for the name {name} and was refused");
            turn.post((Severity::Warning, name.as_str(), "identity"), None, &message);
            let reason = CloseReason::NameTaken { star: name.clone() };
            turn.actions.push(Action::Close { session, reason });
            return false;
        }
        if let Some(theirs) = hello.grid.filter(|grid| *grid != ours) {
            if !takes_over {
                let reason = CloseReason::OtherGrid { star: name.clone(), theirs, ours };
                let message = format!("{name} was refused: {reason}");
                turn.post((Severity::Error, name.as_str(), "grid"), None, &message);
                turn.actions.push(Action::Close { session, reason });
                return false;
            }
            let message = format!("{name} belonged to grid {theirs} and was taken over into grid {ours}");
            turn.post((Severity::Warning, name.as_str(), "grid"), None, &message);
        }
        if known.is_none() && self.is_full() {
            let reason = CloseReason::TooManyStars { max: STARS_MAX };
            turn.actions.push(Action::Close { session, reason });
            return false;
        }
        true
    }

    /// Another process says that it is a Star which was heard just now. One that was killed and started again has lost its
    /// session first, or was silent for a while.
    pub(in crate::core) fn tell_twin(&self, turn: &mut Turn, hello: &Hello, heartbeat_interval: Duration) {
        let Some(star) = self.get(&hello.star_id) else { return };
        let is_heard = turn.now.monotonic.since(star.last_heard) < heartbeat_interval * TWIN_HEARTBEATS;
        if star.record.instance == Some(hello.instance) || star.liveness != Liveness::Alive || !is_heard {
            return;
        }
        let name = hello.star_id.as_str();
        let message = format!(
            "two processes are {name} with one identity: the one at {} was told to end, the one at {} has taken over; if the vault \
             was copied, stop one of them, and give the copy a name and an identity of its own (another --star-id, and no \
             file `identity` in its --vault)",
            star.record.data_address, hello.data_address
        );
        turn.post((Severity::Error, name, "liveness"), None, &message);
    }

    /// Takes a Star in with its session.
    pub(in crate::core) fn admit(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        hello: Hello,
        guard: BackpressureConfig,
    ) -> Admitted {
        let name = hello.star_id.clone();
        if !self.by_name.contains_key(&name) {
            self.insert(new_record(&name, guard), turn.now);
        }
        let star = self.by_name.get_mut(&name).expect("it is there by now");
        assert!(star.session.is_none(), "{name} is taken in and has {:?}", star.session);
        let is_first = star.record.instance.is_none();
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
        self.absent.remove(&name);
        self.watch_silence(&name);
        self.dirty.insert(name.clone());
        if was_lost && !is_new_process {
            let message = format!("{name} is back");
            turn.post((Severity::Info, name.as_str(), "liveness"), None, &message);
        }
        self.sessions.insert(session, name);
        Admitted { is_first, is_new_process }
    }

    /// Forgets a session; gives whose it was, and whether it was the one that this Star has now.
    pub(in crate::core) fn end_session(&mut self, session: SessionId) -> Option<(StarId, bool)> {
        let name = self.sessions.remove(&session)?;
        let is_current = self.session_of(&name) == Some(session);
        Some((name, is_current))
    }

    /// The current session of a Star is over. The lease decides what becomes of its work.
    pub(in crate::core) fn lose_session(&mut self, name: &StarId) {
        let star = self.by_name.get_mut(name).expect("who had a session is known");
        star.session = None;
        // It was said on that session; the next heartbeat says it again.
        star.served_pulls = 0;
        star.liveness = star.liveness.max(Liveness::Suspect);
        self.absent.insert(name.clone());
        self.watch_silence(name);
    }

    /// Ends a session from this side.
    pub(in crate::core) fn close_session(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        reason: CloseReason,
    ) {
        let closed = if is_planted(Bug::StaleSessionHeard) {
            self.sessions.get(&session).cloned()
        } else {
            self.sessions.remove(&session)
        };
        if let Some(name) = closed.filter(|name| self.session_of(name) == Some(session)) {
            self.lose_session(&name);
        }
        turn.actions.push(Action::Close { session, reason });
    }

    /// A Star does not keep to the protocol: its operator hears why its session ends.
    pub(in crate::core) fn tell_violation(&self, turn: &mut Turn, session: SessionId, problem: &str) {
        // A session that was closed already ends all the same.
        let Some(name) = self.named(session) else { return };
        let message = format!("{name} does not keep to the protocol and was cut off: {problem}");
        turn.post((Severity::Error, name.as_str(), "protocol"), None, &message);
    }

    /// A Star sends more messages than it may.
    pub(in crate::core) fn session_slowed(&self, turn: &mut Turn, session: SessionId) {
        let Some(name) = self.named(session) else { return };
        let message = format!(
            "{name} sends more messages than {SESSION_WORDS_PER_SECOND_MAX} of its own or {SESSION_WORK_PER_SECOND_MAX} about work \
             a second and is read no faster; see what its agent does"
        );
        turn.post((Severity::Warning, name.as_str(), "protocol"), None, &message);
    }

    /// Anything that a Star says shows that it lives.
    pub(in crate::core) fn heard(&mut self, turn: &mut Turn, name: &StarId) {
        let star = self.by_name.get_mut(name).expect("who has a session is known");
        star.last_heard = turn.now.monotonic;
        if star.liveness != Liveness::Alive {
            star.liveness = Liveness::Alive;
            let message = format!("{name} is heard again");
            turn.post((Severity::Info, name.as_str(), "liveness"), None, &message);
        }
        self.watch_silence(name);
    }

    /// Takes what a heartbeat says of the Star itself: the health sample, the room on its disks. Its advisories follow.
    pub(in crate::core) fn take_sample(&mut self, now: Now, name: &StarId, heartbeat: &mut Heartbeat) {
        let star = self.by_name.get_mut(name).expect("who has a session is known");
        star.served_pulls = heartbeat.served_pulls;
        if let Some(sample) = heartbeat.sample {
            if star.samples.len() >= HEALTH_SAMPLES_MAX {
                star.samples.pop_front();
            }
            star.samples.push_back(TimedSample { time: now.wall, sample });
        }
        star.root_space = std::mem::take(&mut heartbeat.root_space);
        star.vault_bytes = heartbeat.vault_bytes;
        star.vault_sample = heartbeat.vault_sample;
    }

    /// Takes the advisories of a Star; gives those of before.
    pub(in crate::core) fn replace_advisories(
        &mut self,
        name: &StarId,
        advisories: Vec<AdvisoryNotice>,
    ) -> Vec<AdvisoryNotice> {
        let star = self.by_name.get_mut(name).expect("who has a session is known");
        std::mem::replace(&mut star.advisories, advisories)
    }

    /// A Star says where its lifecycle stands. That it has shut down is for it to say; where it stands elsewhere than
    /// it was told, it is told again.
    pub(in crate::core) fn lifecycle_reported(
        &mut self,
        turn: &mut Turn,
        name: &StarId,
        reported: LifecycleState,
        reason: &str,
    ) {
        let state = self.get(name).expect("who has a session is known").state();
        match (reported, state) {
            (LifecycleState::Shutdown, _) => {
                self.go(turn.now, name, LifecycleState::Shutdown, reason);
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

    /// If this process was frozen or starved for so long, the silence of that time was its own: every Star has a whole lease
    /// again.
    pub(in crate::core) fn forgive_silence(&mut self, now: Now) {
        for name in self.connected() {
            let star = self.by_name.get_mut(&name).expect("who has a session is known");
            star.last_heard = now.monotonic;
            self.watch_silence(&name);
        }
    }

    /// Lets silence have its effects; gives the Stars that are lost by it, by name.
    pub(in crate::core) fn expire(&mut self, turn: &mut Turn) -> Vec<StarId> {
        let now = turn.now.monotonic;
        let due = self.silences.iter().take_while(|(due, _)| *due <= now);
        let mut due: Vec<StarId> = due.map(|(_, name)| name.clone()).collect();
        due.sort_unstable();
        let mut lost = Vec::new();
        for name in due {
            let star = self.by_name.get_mut(&name).expect("whose silence is watched is known");
            match star.liveness {
                Liveness::Alive => {
                    star.liveness = Liveness::Suspect;
                    let message = format!(
                        "{name} has not been heard for {:?}; it is given nothing new",
                        self.lease / 2
                    );
                    turn.post((Severity::Warning, name.as_str(), "liveness"), None, &message);
                }
                Liveness::Suspect => {
                    star.liveness = Liveness::Lost;
                    lost.push(name.clone());
                }
                Liveness::Lost => panic!("the silence of {name} is watched, which is lost"),
            }
            self.watch_silence(&name);
        }
        lost
    }

    /// Says that a Star is lost, which held so many assignments.
    pub(in crate::core) fn tell_lost(&self, turn: &mut Turn, name: &StarId, held: usize) {
        let message = format!(
            "{name} is lost: not heard for {:?}. The {held} assignments that it held wait for it; see whether its machine and agent run",
            self.lease
        );
        turn.post((Severity::Error, name.as_str(), "liveness"), None, &message);
    }

    /// A Star that may hold something of before a restart has one lease to come back.
    pub(in crate::core) fn await_return(&mut self, name: &StarId) {
        let star = self.by_name.get_mut(name).expect("who holds an assignment is known");
        star.liveness = Liveness::Suspect;
        self.watch_silence(name);
    }

    /// A Star has left for good.
    pub(in crate::core) fn leave(&mut self, turn: &mut Turn, name: &StarId, reason: &str) {
        let star = self.by_name.get_mut(name).expect("who leaves is known");
        star.liveness = Liveness::Lost;
        self.watch_silence(name);
        self.dirty.insert(name.clone());
        self.go(turn.now, name, LifecycleState::Shutdown, reason);
        let message = format!("{name} has left the grid: {reason}");
        turn.post((Severity::Info, name.as_str(), "lifecycle"), None, &message);
        turn.record_star(ProvenanceType::StarDeregistered, name);
    }
}
