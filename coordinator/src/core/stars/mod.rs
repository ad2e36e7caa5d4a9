//! The Stars: who they are, whether they are heard, where their lifecycles stand, and what their guards let through.
//!
//! A Star's identity may come back at any time: it takes over with a new epoch, and its old session is closed. What Stars hold
//! of the jobs is not known here.

mod commands;
mod gates;
mod health;
mod sessions;
mod star;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use orbit_shared::backpressure::{BackpressureConfig, BackpressureRegistry};
use orbit_shared::lifecycle::LifecycleState;
use orbit_shared::session::CoordinatorMessage;
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::StarId;

use super::change::Change;
use super::event::{Action, SessionId};
use super::limits::STARS_MAX;
use super::records::StarRecord;
use super::refusal::Refusal;
use super::turn::Turn;
pub(super) use gates::{destination_gate, pause_reason, star_gate};
pub(super) use health::{has_forecast, without_forecast};
pub(super) use sessions::Admitted;
pub use star::{Liveness, Star, TimedSample};

/// See the module.
#[derive(Debug)]
pub(super) struct Stars {
    by_name: BTreeMap<StarId, Star>,
    sessions: BTreeMap<SessionId, StarId>,
    /// The guards of all Stars.
    guards: BackpressureRegistry,
    /// How long a silent Star keeps what it holds.
    lease: Duration,
    /// When the silence of a Star becomes news, for those that are not lost.
    silences: BTreeSet<(Monotonic, StarId)>,
    /// Those without a session.
    absent: BTreeSet<StarId>,
    /// Those whose drain has a deadline or that asked to be let go, and perhaps some more.
    leaving: BTreeSet<StarId>,
    /// Those whose records differ from what the store has.
    dirty: BTreeSet<StarId>,
}

impl Stars {
    /// The Stars as they are in the store; none is connected.
    pub(super) fn recover(records: Vec<StarRecord>, lease: Duration, now: Now) -> Self {
        let mut stars = Self {
            by_name: BTreeMap::new(),
            sessions: BTreeMap::new(),
            guards: BackpressureRegistry::new(),
            lease,
            silences: BTreeSet::new(),
            absent: BTreeSet::new(),
            leaving: BTreeSet::new(),
            dirty: BTreeSet::new(),
        };
        for record in records {
            stars.insert(record, now);
        }
        stars.check_all();
        stars
    }

    fn insert(&mut self, record: StarRecord, now: Now) {
        let name = record.star_id.clone();
        let guard = self.guards.register(name.clone(), record.guard);
        let before = self.by_name.insert(name.clone(), Star::new(record, guard, now));
        assert!(before.is_none(), "{name} is there already");
        self.absent.insert(name);
    }

    /// One Star.
    pub(super) fn get(&self, name: &StarId) -> Option<&Star> {
        self.by_name.get(name)
    }

    /// One Star, or that there is none.
    pub(super) fn known(&self, name: &StarId) -> Result<&Star, Refusal> {
        self.get(name).ok_or_else(|| no_star(name))
    }

    /// All Stars, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Star> {
        self.by_name.values()
    }

    /// Those without a session, by name.
    pub(super) fn absent(&self) -> impl Iterator<Item = &Star> {
        self.absent.iter().filter_map(|name| self.by_name.get(name))
    }

    /// The session of a Star.
    pub(super) fn session_of(&self, name: &StarId) -> Option<SessionId> {
        self.get(name)?.session
    }

    /// Whose session it is.
    pub(super) fn named(&self, session: SessionId) -> Option<&StarId> {
        self.sessions.get(&session)
    }

    /// Sessions that are open.
    pub(super) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Those that have a session, by name.
    pub(super) fn connected(&self) -> Vec<StarId> {
        let connected = self.iter().filter(|star| star.session.is_some());
        connected.map(|star| star.record.star_id.clone()).collect()
    }

    /// The guards of all Stars.
    pub(super) fn guards(&self) -> &BackpressureRegistry {
        &self.guards
    }

    /// Forgets a Star that has no session.
    pub(super) fn remove(&mut self, turn: &mut Turn, name: &StarId) {
        let star = self.by_name.remove(name);
        assert!(star.is_some_and(|star| star.session.is_none()), "{name} is forgotten and connected");
        self.guards.remove(name);
        self.silences.retain(|(_, of)| of != name);
        for names in [&mut self.absent, &mut self.leaving, &mut self.dirty] {
            names.remove(name);
        }
        turn.changes.push(Change::RemoveStar(name.clone()));
    }

    /// Tells a Star where its lifecycle is to stand.
    pub(super) fn tell_lifecycle(&self, turn: &mut Turn, name: &StarId, state: LifecycleState, reason: &str) {
        // A Star that is away hears it in its next welcome.
        let Some(session) = self.session_of(name) else { return };
        let message = CoordinatorMessage::SetLifecycle { state, reason: reason.to_owned() };
        turn.actions.push(Action::Send { session, message });
    }

    /// Adds every record that differs from what the store has.
    pub(super) fn gather(&mut self, turn: &mut Turn) {
        for name in std::mem::take(&mut self.dirty) {
            let star = self.by_name.get(&name).expect("a Star that is removed is not dirty");
            turn.changes.push(Change::PutStar(Box::new(star.record.clone())));
        }
        self.check();
    }

    fn is_full(&self) -> bool {
        self.by_name.len() >= STARS_MAX
    }

    /// The silence of a Star begins, or ends, or has gone on for long: keeps when it is news next.
    fn watch_silence(&mut self, name: &StarId) {
        let Some(star) = self.by_name.get_mut(name) else { return };
        let due = match star.liveness {
            Liveness::Alive => Some(star.last_heard + self.lease / 2),
            Liveness::Suspect => Some(star.last_heard + self.lease),
            Liveness::Lost => None,
        };
        if star.silence_due == due {
            return;
        }
        if let Some(before) = std::mem::replace(&mut star.silence_due, due) {
            let was_there = self.silences.remove(&(before, name.clone()));
            assert!(was_there, "the silence of {name} was not watched until {before:?}");
        }
        self.silences.extend(due.map(|due| (due, name.clone())));
    }

    /// When the next Star becomes suspect or lost, or a drain is overdue.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        let silence = self.silences.first().map(|(due, _)| *due);
        let leaving = self.leaving.iter().filter_map(|name| self.by_name.get(name)?.drain_deadline);
        silence.into_iter().chain(leaving).min()
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        let (stars, absent) = (self.by_name.len(), self.absent.len());
        assert!(stars <= STARS_MAX, "{stars} Stars are known");
        assert_eq!(stars, self.guards.len(), "Stars against their guards");
        assert!(
            self.sessions.len() + absent >= stars,
            "{} sessions, {absent} of {stars} Stars away",
            self.sessions.len()
        );
        assert!(self.silences.len() <= stars, "{} silences of {stars} Stars", self.silences.len());
        assert!(self.dirty.is_empty(), "records of {:?} are not kept", self.dirty);
    }

    /// The same for what would take a pass over everything.
    pub(super) fn check_all(&self) {
        for (session, name) in &self.sessions {
            let has = self.session_of(name) == Some(*session);
            assert!(has, "{session:?} of {name} is not the session that {name} has");
        }
        for (name, star) in &self.by_name {
            assert_eq!(star.session.is_none(), self.absent.contains(name), "whether {name} is away");
            let due = star.silence_due.map(|due| (due, name.clone()));
            assert!(
                due.is_none_or(|due| self.silences.contains(&due)),
                "the silence of {name} is not watched"
            );
            let is_own = self.guards.get(name).is_some_and(|guard| Arc::ptr_eq(guard, &star.guard));
            assert!(is_own, "{name} has another guard than the one that is registered");
            let is_leaving = star.wants_exit || star.drain_deadline.is_some();
            assert!(!is_leaving || self.leaving.contains(name), "{name} leaves and is not looked at");
        }
    }
}

/// A Star that was named and has not connected yet.
fn new_record(name: &StarId, guard: BackpressureConfig) -> StarRecord {
    StarRecord::new(name.clone(), guard)
}

/// There is no such Star.
pub(super) fn no_star(name: &StarId) -> Refusal {
    Refusal::NotFound { what: format!("Star {name}; ListStars shows those there are") }
}
