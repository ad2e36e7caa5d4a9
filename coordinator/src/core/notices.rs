//! What the core tells people: bulletins and provenance, both durable with the state they speak of.

use orbit_shared::bulletin::Severity;
use orbit_shared::entry::push_path;
use orbit_shared::integration::provenance_to_bulletin;
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::time::Now;
use orbit_shared::words::{ItemId, JobId, StarId};

use super::change::Change;
use super::job::Location;
use super::{Core, Effects};

/// The source of bulletins that are about no Star.
pub const COORDINATOR: &str = "coordinator";

impl Core {
    /// Posts a bulletin.
    pub(super) fn post(
        &mut self,
        now: Now,
        fx: &mut Effects,
        (severity, source, category): (Severity, &str, &str),
        job: Option<JobId>,
        message: &str,
    ) {
        let posted = self.board.post(now, severity, source, category, job, message);
        if let Some(bulletin) = self.board.bulletin(posted.id) {
            fx.changes.push(Change::PutBulletin(bulletin.clone()));
        }
        if let Some(evicted) = posted.evicted {
            fx.changes.push(Change::RemoveBulletin(evicted));
        }
    }

    /// Records an event, and posts a bulletin if events of its type are worth one.
    pub(super) fn record(&mut self, now: Now, fx: &mut Effects, event: ProvenanceEvent) {
        let event = event.with_time(now.wall);
        if let Some(notice) = provenance_to_bulletin(&event) {
            self.post(
                now,
                fx,
                (notice.severity, &notice.source, notice.category),
                notice.job_id,
                &notice.message,
            );
        }
        fx.provenance.push(event);
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
