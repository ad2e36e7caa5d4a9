//! A turn: the events of one moment and their results.
//!
//! Every part of the core that decides something gets the turn, reads the time from it and adds its results to it. When the
//! turn ends, the driver makes the changes and events durable, and only then executes the actions, in order.

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

    /// Takes the results so far. The turn goes on with none.
    pub fn take(&mut self) -> Self {
        let now = self.now;
        std::mem::replace(self, Self::new(now))
    }

    /// What was done, and by whom: a reason for a change that came without one.
    pub(super) fn done_by_actor(&self, done: &str) -> String {
        format!("{done} by {}", self.actor.as_deref().unwrap_or("an operator"))
    }

    /// Whether it has no results.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.notes.is_empty() && self.actions.is_empty()
    }
}
