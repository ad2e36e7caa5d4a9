//! What dead letters say on the board, and when those of vanished files go.
//!
//! The dead letters of one job that have the same reason are one bulletin with a count and some examples: a thousand files
//! that went the same way are one piece of news. Files that vanished from a live source are a class apart. They are no fault
//! of the grid, and a later job of the same places that completes shows that nothing is missing any more: it takes them away.

use orbit_shared::bulletin::Severity;
use orbit_shared::dead_letter::{DeadLetterFilter, FailureKind, FailureReason};
use orbit_shared::integration::provenance_to_bulletin;
use orbit_shared::provenance::ProvenanceEvent;
use orbit_shared::words::JobId;

use super::job_record::JobSpec;
use super::{Change, Core, Noted, Turn};

/// Category of bulletins about vanished files.
const VANISHED: &str = "vanished";
/// Paths that a bulletin names beside the first.
const EXAMPLES_MAX: usize = 3;

/// What was said about the dead letters of a job that have one reason.
#[derive(Debug)]
pub struct LetterNotice {
    bulletin: u64,
    /// What the first one was.
    first: String,
    /// Some of the others.
    examples: Vec<String>,
    count: u64,
}

impl Core {
    /// Records that an item was given up, and says so on the board together with the others that went the same way.
    pub(super) fn record_letter(
        &mut self,
        turn: &mut Turn,
        job: JobId,
        reason: FailureReason,
        event: ProvenanceEvent,
    ) {
        let event = event.with_time(turn.now.wall);
        if let Some(draft) = provenance_to_bulletin(&event) {
            let is_vanished = reason == FailureReason::SourceMissing;
            let (severity, category) =
                if is_vanished { (Severity::Warning, VANISHED) } else { (draft.severity, draft.category) };
            let path = event.source.clone().unwrap_or_default();
            if !self.amend_letter(turn, job, reason.kind(), path) {
                let posted =
                    self.board.post(turn.now, severity, &draft.source, category, Some(job), &draft.message);
                self.keep_posted(turn, posted);
                if let Some(live) = self.jobs.get_mut(&job).and_then(|job| job.live.as_mut()) {
                    let notice = LetterNotice {
                        bulletin: posted.id,
                        first: draft.message,
                        examples: Vec::new(),
                        count: 1,
                    };
                    live.letters_said.insert(reason.kind(), notice);
                }
            }
        }
        turn.notes.push(Noted::Event(Box::new(event)));
    }

    /// Adds one to a bulletin about the same; returns whether there is one.
    fn amend_letter(&mut self, turn: &mut Turn, job: JobId, reason: FailureKind, path: String) -> bool {
        let live = self.jobs.get_mut(&job).and_then(|job| job.live.as_mut());
        let Some(notice) = live.and_then(|live| live.letters_said.get_mut(&reason)) else { return false };
        notice.count += 1;
        if notice.examples.len() < EXAMPLES_MAX {
            notice.examples.push(path);
        }
        let message = format!(
            "{}; {} more items of job {job} for the same reason, among them {}; `orbit dead-letters ls --job {job}` shows all",
            notice.first,
            notice.count - 1,
            notice.examples.join(", ")
        );
        let id = notice.bulletin;
        if !self.board.amend(turn.now, id, &message) {
            return false;
        }
        if let Some(bulletin) = self.board.bulletin(id) {
            turn.changes.push(Change::PutBulletin(bulletin.clone()));
        }
        true
    }

    /// A job has completed: what earlier jobs of the same places could not find at the source is no news any more.
    pub(super) fn clear_vanished(&mut self, turn: &mut Turn, completed: JobId) {
        let Some(spec) = self.jobs.get(&completed).map(|job| &job.record.spec) else { return };
        let is_same =
            |other: &JobSpec| other.source == spec.source && other.destinations == spec.destinations;
        let earlier = self.jobs.range(..completed).filter(|(_, job)| {
            job.live.is_none() && job.record.tally().vanished > 0 && is_same(&job.record.spec)
        });
        let earlier: Vec<JobId> = earlier.map(|(&id, _)| id).collect();
        for job in earlier {
            let filter = DeadLetterFilter {
                reason: Some(FailureKind::SourceMissing),
                ..DeadLetterFilter::for_job(job)
            };
            for letter in self.dead_letters.take(&filter) {
                self.dead_entries.remove(&letter.dead_letter_id);
                turn.changes.push(Change::RemoveDeadLetter(letter.dead_letter_id));
            }
            let said = self.board.by_job(job).into_iter().filter(|bulletin| bulletin.category == VANISHED);
            let ids: Vec<u64> = said.map(|bulletin| bulletin.id).collect();
            for id in self.board.acknowledge(&ids) {
                if let Some(bulletin) = self.board.bulletin(id) {
                    turn.changes.push(Change::PutBulletin(bulletin.clone()));
                }
            }
        }
    }
}
