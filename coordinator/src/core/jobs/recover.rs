//! The jobs as another coordinator left them in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orbit_shared::entry::Entry;
use orbit_shared::plant::{Bug, is_planted};
use orbit_shared::provenance::{ProvenanceEvent, ProvenanceType};
use orbit_shared::time::{Monotonic, Now};
use orbit_shared::words::{ItemId, JobId, StarId};

use super::assignment::{InFlight, guard_charge};
use super::hands::Hands;
use super::job::Job;
use super::lane::Queued;
use super::yields::Yields;
use super::{Jobs, Totals};
use crate::core::change::{AssignmentRecord, Change, PenalizedRecord};
use crate::core::records::JobRecord;
use crate::core::stars::Stars;
use crate::core::turn::Turn;

impl Jobs {
    /// Jobs that go on where the store stands.
    pub(in crate::core) fn recover(turn: &mut Turn, seed: u64, records: Vec<JobRecord>) -> Self {
        let (forgotten, records): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.is_forgotten);
        let jobs: BTreeMap<JobId, Job> = records
            .into_iter()
            .map(|record| (record.id, Job::new(record, turn.now.monotonic, seed)))
            .collect();
        let requests = jobs.values().filter(|job| !job.record.request_id.is_empty());
        let requests = requests.map(|job| (job.record.request_id.clone(), job.record.id)).collect();
        let open = jobs.iter().filter(|(_, job)| job.live.is_some()).map(|(id, _)| *id).collect();
        Self {
            jobs,
            open,
            closed: BTreeSet::new(),
            requests,
            forgotten: forgotten.into_iter().map(|record| (record.id, record)).collect(),
            assignments: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            hands: Hands::default(),
            yields: Yields::default(),
            // Whether there is anything left to remove is seen then.
            removal_at: Some(Monotonic::ZERO),
            totals: Totals::default(),
        }
    }

    /// Records that the jobs which have not ended and are not paused go on after a restart.
    pub(in crate::core) fn note_resumed(&self, turn: &mut Turn) {
        let goes_on = |job: &&Job| job.record.pause.is_none();
        for job in self.open_jobs().filter(goes_on) {
            turn.record(ProvenanceEvent::new(ProvenanceType::JobResumed, job.record.id));
        }
    }

    /// Takes over what waits out penalties and what Stars may still work on. Gives the Stars that hold something.
    pub(in crate::core) fn recover_items(
        &mut self,
        turn: &mut Turn,
        stars: &Stars,
        penalties: Vec<(ItemId, PenalizedRecord)>,
        assignments: Vec<(AssignmentRecord, Vec<Entry>)>,
    ) -> Vec<StarId> {
        for (item, penalized) in penalties {
            let live = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut());
            let Some(live) = live.filter(|_| !is_planted(Bug::PenaltyForgottenAtRestart)) else { continue };
            live.penalties.restore(turn.now, item, penalized.record);
            let queued = Queued::new(item.sequence, Arc::new(penalized.entry), turn.now.monotonic);
            live.penalized.insert(item, Queued { is_penalty: true, ..queued });
        }
        let mut holders = Vec::new();
        for (record, entries) in assignments {
            if self.recover_assignment(turn, stars, &record, entries) {
                holders.push(record.star);
            }
        }
        self.queue_refunded(turn.now);
        holders
    }

    /// Queues the items that no Star works on and whose last penalty was taken back: no wait of theirs would end.
    fn queue_refunded(&mut self, now: Now) {
        for id in self.open_ids() {
            let live = self.live_mut(id);
            let (ready, waiting): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut live.penalized)
                .into_iter()
                .partition(|(item, _)| live.penalties.is_eligible(now, item));
            live.penalized = waiting;
            for (item, queued) in ready {
                live.wait(item, queued);
            }
        }
    }

    /// Takes over an assignment whose Star may still work on it. All of it stays the Star's, also beyond a limit that was
    /// lowered since and although its guard is paused: it was admitted once, and an item must not wait and be worked on.
    fn recover_assignment(
        &mut self,
        turn: &mut Turn,
        stars: &Stars,
        record: &AssignmentRecord,
        entries: Vec<Entry>,
    ) -> bool {
        let live = self.jobs.get_mut(&record.job).and_then(|job| job.live.as_mut());
        let (Some(star), Some(live)) = (stars.get(&record.star), live) else {
            turn.changes.push(Change::RemoveAssignment(record.id));
            return false;
        };
        let on_way = self.hands.of_mut(&record.star).on_way.clone();
        let mut batch = Vec::new();
        for (&sequence, entry) in record.sequences.iter().zip(entries) {
            let item = ItemId { job: record.job, destination: record.destination, sequence };
            let is_penalty = live.penalized.remove(&item).is_some();
            let entry = Arc::new(entry);
            let queued = Queued { is_penalty, ..Queued::new(sequence, entry, turn.now.monotonic) };
            let size = queued.entry.size();
            let permit = star.guard.take_over(1, guard_charge(size));
            let before = self.in_flight.insert(item, record.id);
            assert!(before.is_none(), "{item} is in two assignments: {before:?} and {}", record.id);
            batch.push(InFlight { queued, permit, carried: on_way.carry(size) });
        }
        self.begin_assignment(turn.now, record, batch);
        true
    }
}
