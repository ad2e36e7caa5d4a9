//! What is recorded and said of items: their steps, that they changed while they were read, and that they were given up.

use std::sync::Arc;

use orbit_shared::bulletin::Severity;
use orbit_shared::dead_letter::{DeadLetterFilter, FailureKind, FailureReason};
use orbit_shared::entry::{Entry, display_path};
use orbit_shared::integration::provenance_to_bulletin;
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::words::{ItemId, JobId};

use super::Jobs;
use crate::core::notices::Noted;
use crate::core::notices::{ItemNote, display_location};
use crate::core::records::JobSpec;
use crate::core::saying::{Kind, Notice, Saying};
use crate::core::seen::Seen;

/// Category of bulletins about vanished files.
const VANISHED: &str = "vanished";
/// Category of bulletins about files that changed while they were read.
const CHANGED: &str = "changed-while-read";
/// Category of bulletins about mount points that were not entered.
const MOUNTS: &str = "mounts";

impl Jobs {
    /// Records a step of an item, with bytes and milliseconds where it has any.
    pub(super) fn record_step(
        &self,
        turn: &mut Seen<'_>,
        event_type: ProvenanceType,
        (item, entry): (ItemId, &Arc<Entry>),
        (bytes, duration_ms): (Option<u64>, Option<u64>),
    ) {
        let live = self.job(item.job).live.as_ref().expect("a job with an item on its way has not ended");
        let way = &live.ways[item.destination as usize];
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

    /// Records that an item was given up, and says so on the board together with the others that went the same way. Files that
    /// vanished from a live source are a class apart: they are no fault of the grid.
    pub(super) fn record_letter(
        &mut self,
        turn: &mut Seen<'_>,
        job: JobId,
        reason: FailureReason,
        event: ProvenanceEvent,
    ) {
        let event = event.with_time(turn.now.wall);
        if let Some(draft) = provenance_to_bulletin(&event) {
            let is_vanished = reason == FailureReason::SourceMissing;
            let (severity, category) =
                if is_vanished { (Severity::Warning, VANISHED) } else { (draft.severity, draft.category) };
            let notice = Notice {
                severity,
                source: draft.source,
                category: category.to_owned(),
                job: Some(job),
                message: draft.message,
            };
            let (kind, example) = (Kind::Letters(reason.kind()), event.source.clone().unwrap_or_default());
            turn.sayings.push(Saying::Count { kind, job, notice, example });
        }
        turn.notes.push(Noted::Event(Box::new(event)));
    }

    /// Counts a file that changed while it was read, and says so together with the others of its job: it is perhaps no version
    /// that its source ever had.
    pub(super) fn item_changed(&mut self, turn: &mut Seen<'_>, item: ItemId, path: &[u8]) {
        self.tally(item, |tally| tally.changed += 1);
        let source = &self.job(item.job).record.spec.source;
        let notice = Notice {
            severity: Severity::Warning,
            source: source.star_id.to_string(),
            category: CHANGED.to_owned(),
            job: Some(item.job),
            message: String::new(),
        };
        let example = display_location(source, path);
        turn.sayings.push(Saying::Count { kind: Kind::Changed, job: item.job, notice, example });
    }

    /// A job has completed: what earlier jobs of the same places could not find at the source is no news any more.
    pub(super) fn clear_vanished(&mut self, turn: &mut Seen<'_>, completed: JobId) {
        let spec = &self.job(completed).record.spec;
        let is_same =
            |other: &JobSpec| other.source == spec.source && other.destinations == spec.destinations;
        let earlier = self.jobs.range(..completed).filter(|(_, job)| {
            job.live.is_none() && job.record.tally().vanished > 0 && is_same(&job.record.spec)
        });
        let earlier: Vec<JobId> = earlier.map(|(&id, _)| id).collect();
        for job in earlier {
            let reason = Some(FailureKind::SourceMissing);
            turn.letters.discard(turn.turn, &DeadLetterFilter { reason, ..DeadLetterFilter::for_job(job) });
            turn.sayings.push(Saying::Settle { job, category: VANISHED });
        }
    }
    /// Posts a bulletin about the mount points of a job's source that were not entered, when the source is listed, and once
    /// more if a later listing finds others.
    pub(super) fn say_skipped_mounts(&mut self, turn: &mut Seen<'_>, id: JobId) {
        let job = self.job_mut(id);
        let mounts = &mut job.record.scan.skipped_mounts;
        if mounts.said == mounts.count {
            return;
        }
        mounts.said = mounts.count;
        job.is_dirty = true;
        let (source, words) = (&job.record.spec.source, job.record.scan.skipped_mounts.words());
        let message = format!(
            "job {id} stays in the file system of {}:{}: {words}",
            source.star_id,
            display_path(&source.path)
        );
        let star = source.star_id.clone();
        turn.post((Severity::Info, star.as_str(), MOUNTS), Some(id), &message);
    }
}
