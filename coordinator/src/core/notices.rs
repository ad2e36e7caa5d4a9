//! What the core tells people: bulletins and provenance, both durable with the state they speak of.
//!
//! Every item is recorded at least twice, so the core says only who and what ([`ItemNote`]); the texts are put together
//! where the log is written, beside the core and not in it.

use std::sync::Arc;

use orbit_shared::bulletin::{Posted, Severity};
use orbit_shared::entry::{Entry, push_path};
use orbit_shared::integration::provenance_to_bulletin;
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::time::{Now, WallTime};
use orbit_shared::words::{ItemId, JobId, StarId};

use super::change::Change;
use super::job_record::Location;
use super::{Core, Turn};

/// The source of bulletins that are about no Star.
pub const COORDINATOR: &str = "coordinator";

/// The key of an event's context under which it says who asked for it.
pub const ACTOR: &str = "actor";

/// One thing to be recorded.
#[derive(Debug)]
pub enum Noted {
    /// About anything.
    Event(Box<ProvenanceEvent>),
    /// About an item that goes its usual way.
    Item(ItemNote),
}

/// A step of an item on its usual way. No such step is worth a bulletin.
#[derive(Debug)]
pub struct ItemNote {
    event_type: ProvenanceType,
    time: WallTime,
    item: ItemId,
    entry: Arc<Entry>,
    way: Arc<Way>,
    bytes: Option<u64>,
    duration_ms: Option<u64>,
}

/// From where to where the items of one destination go.
#[derive(Debug)]
pub struct Way {
    source: Location,
    destination: Location,
}

impl Way {
    /// From one place to the other.
    pub(super) fn new(source: &Location, destination: &Location) -> Arc<Self> {
        Arc::new(Self { source: source.clone(), destination: destination.clone() })
    }
}

impl Noted {
    /// The event that the log gets.
    pub fn into_event(self) -> ProvenanceEvent {
        match self {
            Self::Event(event) => *event,
            Self::Item(note) => note.into_event(),
        }
    }
}

impl ItemNote {
    fn into_event(self) -> ProvenanceEvent {
        let mut event = ProvenanceEvent::new(self.event_type, self.item.job);
        event.time = self.time;
        event.item = Some(self.item);
        event.star_id = Some(self.way.destination.star_id.clone());
        event.source = Some(display_location(&self.way.source, &self.entry.path));
        event.destination = Some(display_location(&self.way.destination, &self.entry.path));
        event.bytes = self.bytes;
        event.duration_ms = self.duration_ms;
        event
    }
}

impl Core {
    /// Posts a bulletin.
    pub(super) fn post(
        &mut self,
        turn: &mut Turn,
        (severity, source, category): (Severity, &str, &str),
        job: Option<JobId>,
        message: &str,
    ) {
        let posted = match &turn.actor {
            Some(actor) => {
                let message = format!("{message} (by {actor})");
                self.board.post(turn.now, severity, source, category, job, &message)
            }
            None => self.board.post(turn.now, severity, source, category, job, message),
        };
        self.keep_posted(turn, posted);
    }

    /// Makes durable what became of a report.
    pub(super) fn keep_posted(&mut self, turn: &mut Turn, posted: Posted) {
        if let Some(bulletin) = self.board.bulletin(posted.id) {
            turn.changes.push(Change::PutBulletin(bulletin.clone()));
        }
        if let Some(evicted) = posted.evicted {
            turn.changes.push(Change::RemoveBulletin(evicted));
        }
    }

    /// The store is gone: says so on the board, which from now on is in memory only.
    pub fn note_store_lost(&mut self, now: Now, problem: &str) {
        // Nothing can be made durable any more, so what this comes to is of no use.
        let mut lost = Turn::new(now);
        self.post(&mut lost, (Severity::Error, COORDINATOR, "store"), None, problem);
        self.store_problem = Some(problem.to_owned());
    }

    /// What is wrong with the store, if it is lost.
    pub fn store_problem(&self) -> Option<&str> {
        self.store_problem.as_deref()
    }

    /// Acknowledges what was said and does not hold any more.
    pub(super) fn resolve(
        &mut self,
        turn: &mut Turn,
        (severity, source, category): (Severity, &str, &str),
        is_resolved: impl Fn(&str) -> bool,
    ) {
        let said = self.board.by_source(source).into_iter().filter(|bulletin| {
            bulletin.severity == severity
                && bulletin.category == category
                && !bulletin.is_acknowledged
                && is_resolved(&bulletin.message)
        });
        let said: Vec<u64> = said.map(|bulletin| bulletin.id).collect();
        for id in self.board.acknowledge(&said) {
            if let Some(bulletin) = self.board.bulletin(id) {
                turn.changes.push(Change::PutBulletin(bulletin.clone()));
            }
        }
    }

    /// Records an event, and posts a bulletin if events of its type are worth one.
    pub(super) fn record(&mut self, turn: &mut Turn, event: ProvenanceEvent) {
        let mut event = event.with_time(turn.now.wall);
        if let Some(actor) = &turn.actor {
            event = event.with_context(ACTOR, actor);
        }
        if let Some(notice) = provenance_to_bulletin(&event) {
            self.post(
                turn,
                (notice.severity, &notice.source, notice.category),
                notice.job_id,
                &notice.message,
            );
        }
        turn.notes.push(Noted::Event(Box::new(event)));
    }

    /// Records a step of an item, with bytes and milliseconds where it has any.
    pub(super) fn record_step(
        &self,
        turn: &mut Turn,
        event_type: ProvenanceType,
        (item, entry): (ItemId, &Arc<Entry>),
        (bytes, duration_ms): (Option<u64>, Option<u64>),
    ) {
        let live = self.jobs.get(&item.job).and_then(|job| job.live.as_ref());
        let Some(way) = live.and_then(|live| live.ways.get(item.destination as usize)) else { return };
        let (entry, way) = (Arc::clone(entry), Arc::clone(way));
        let time = turn.now.wall;
        turn.notes.push(Noted::Item(ItemNote { event_type, time, item, entry, way, bytes, duration_ms }));
    }

    /// An event about an item, with the places it comes from and goes to.
    pub(super) fn item_event(
        &self,
        event_type: ProvenanceType,
        item: ItemId,
        path: &[u8],
    ) -> ProvenanceEvent {
        let mut event = ProvenanceEvent::new(event_type, item.job).with_item(item);
        if let Some(spec) = self.jobs.get(&item.job).map(|job| &job.record.spec) {
            event = event.with_source(display_location(&spec.source, path));
            if let Some(destination) = spec.destinations.get(item.destination as usize) {
                event = event
                    .with_star(destination.star_id.clone())
                    .with_destination(display_location(destination, path));
            }
        }
        event
    }

    /// An event about a Star.
    pub(super) fn star_event(&self, event_type: ProvenanceType, star: &StarId) -> ProvenanceEvent {
        ProvenanceEvent::new(event_type, None).with_star(star.clone())
    }
}

/// A place below a location, as `star-1:/data/photos/a.jpg`.
pub fn display_location(location: &Location, path: &[u8]) -> String {
    let star = location.star_id.as_str();
    let mut text = String::with_capacity(star.len() + location.path.len() + path.len() + 2);
    text.push_str(star);
    text.push(':');
    push_path(&mut text, &location.path);
    if !path.is_empty() {
        if location.path.last() != Some(&b'/') {
            text.push('/');
        }
        push_path(&mut text, path);
    }
    text
}
