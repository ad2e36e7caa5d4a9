//! A turn: what happened at one moment, and what it comes to.
//!
//! Every part of the core that decides something is handed the turn, reads the moment from it and adds to it. What it
//! holds when the turn ends is the driver's business: changes and events are made durable first, and only then are the
//! actions executed, in order.

use orbit_shared::time::Now;

use super::{Action, Change, Noted};

/// One turn of the core.
#[derive(Debug)]
pub struct Turn {
    /// The moment of the event that is being taken, or of the end of the turn.
    pub now: Now,
    /// What the store must hold.
    pub changes: Vec<Change>,
    /// What the provenance log must hold; the event numbers are given by the log.
    pub notes: Vec<Noted>,
    /// What to do then.
    pub actions: Vec<Action>,
    /// Who asked for what is being executed.
    pub(super) actor: Option<String>,
}

impl Turn {
    /// A turn that begins now, with nothing in it.
    pub fn new(now: Now) -> Self {
        Self { now, changes: Vec::new(), notes: Vec::new(), actions: Vec::new(), actor: None }
    }

    /// The same turn, a moment later.
    pub fn at(&mut self, now: Now) -> &mut Self {
        self.now = now;
        self
    }

    /// What has come together so far. The turn goes on with nothing in it.
    pub fn take(&mut self) -> Self {
        let now = self.now;
        std::mem::replace(self, Self::new(now))
    }

    /// What was done, and by whom: a reason for a change that came without one.
    pub(super) fn done_by_actor(&self, done: &str) -> String {
        format!("{done} by {}", self.actor.as_deref().unwrap_or("an operator"))
    }

    /// Whether it came to nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.notes.is_empty() && self.actions.is_empty()
    }
}
