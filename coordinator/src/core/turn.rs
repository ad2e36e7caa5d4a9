//! A turn: the events of one moment and their results.
//!
//! Every part of the core that decides something gets the turn, reads the time from it and adds its results to it. When the
//! turn ends, the driver makes the changes and events durable, and only then executes the actions, in order.

use orbit_shared::bulletin::Severity;
use orbit_shared::integration::provenance_to_bulletin;
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::time::Now;
use orbit_shared::words::{JobId, StarId};

use super::change::Change;
use super::event::Action;
use super::fact::Fact;
use super::notices::{ACTOR, Noted};
use super::saying::{Notice, Saying, Wording};

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
    /// What is to be said to operators; the board takes it up at the end of each step.
    pub(super) sayings: Vec<Saying>,
    /// What parts have to tell each other; it is taken to them before anything else happens.
    pub(super) facts: Vec<Fact>,
    /// Reports and answers that came too late to count.
    pub(super) late: u64,
    /// Who asked for what is being executed.
    pub(super) actor: Option<String>,
}

impl Turn {
    /// A turn that begins now, with nothing in it.
    pub fn new(now: Now) -> Self {
        Self {
            now,
            changes: Vec::new(),
            notes: Vec::new(),
            actions: Vec::new(),
            sayings: Vec::new(),
            facts: Vec::new(),
            late: 0,
            actor: None,
        }
    }

    /// The same turn, a moment later.
    pub fn at(&mut self, now: Now) -> &mut Self {
        self.now = now;
        self
    }

    /// Takes the results so far. The turn goes on with none.
    pub fn take(&mut self) -> Self {
        assert!(self.sayings.is_empty(), "what was said is on no board: {:?}", self.sayings);
        assert!(self.facts.is_empty(), "facts were not routed: {:?}", self.facts);
        let now = self.now;
        std::mem::replace(self, Self::new(now))
    }

    /// What was done, and by whom: a reason for a change that came without one.
    pub(super) fn done_by_actor(&self, done: &str) -> String {
        format!("{done} by {}", self.actor.as_deref().unwrap_or("an operator"))
    }

    /// Whether it has no results.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.notes.is_empty() && self.actions.is_empty() && self.sayings.is_empty()
    }

    /// Posts a bulletin.
    pub(super) fn post(
        &mut self,
        (severity, source, category): (Severity, &str, &str),
        job: Option<JobId>,
        message: &str,
    ) {
        let message = match &self.actor {
            Some(actor) => format!("{message} (by {actor})"),
            None => message.to_owned(),
        };
        let (source, category) = (source.to_owned(), category.to_owned());
        self.sayings.push(Saying::Post(Notice { severity, source, category, job, message }));
    }

    /// Acknowledges what was said and does not hold any more: bulletins with one of these wordings.
    pub(super) fn resolve(
        &mut self,
        (severity, source, category): (Severity, &str, &str),
        wordings: Vec<Wording>,
    ) {
        let (source, category) = (source.to_owned(), category.to_owned());
        self.sayings.push(Saying::Resolve { severity, source, category, wordings });
    }

    /// Records an event, and posts a bulletin if events of its type are worth one.
    pub(super) fn record(&mut self, event: ProvenanceEvent) {
        let mut event = event.with_time(self.now.wall);
        if let Some(actor) = &self.actor {
            event = event.with_context(ACTOR, actor);
        }
        if let Some(notice) = provenance_to_bulletin(&event) {
            self.post((notice.severity, &notice.source, notice.category), notice.job_id, &notice.message);
        }
        self.notes.push(Noted::Event(Box::new(event)));
    }

    /// Records an event of a Star.
    pub(super) fn record_star(&mut self, event_type: ProvenanceType, star: &StarId) {
        self.record(ProvenanceEvent::new(event_type, None).with_star(star.clone()));
    }
}
