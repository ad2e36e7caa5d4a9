//! What the core tells people: bulletins and provenance, both durable with the state they speak of.
//!
//! Every item is recorded at least twice, so the core says only who and what ([`ItemNote`]); the texts are put together
//! where the log is written, beside the core and not in it.

use std::sync::Arc;

use orbit_shared::entry::{Entry, push_path};
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::time::WallTime;
use orbit_shared::words::ItemId;

use super::records::Location;

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
    pub(super) event_type: ProvenanceType,
    pub(super) time: WallTime,
    pub(super) item: ItemId,
    pub(super) entry: Arc<Entry>,
    pub(super) way: Arc<Way>,
    pub(super) bytes: Option<u64>,
    pub(super) duration_ms: Option<u64>,
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
