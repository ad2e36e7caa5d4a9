//! Comparing: before what a scan lists becomes items, the destinations are asked which of it they have already. What is
//! there is skipped at once: no queue, no assignment, no report. So listing an unchanged tree again costs little more
//! than looking at both ends.
//!
//! Nothing depends on an answer. A destination that is away, slow or has nothing is passed over, and what it was not
//! asked about becomes items that find out by themselves. Batches are taken in the order in which they came, since the
//! cursor of a scan is the path of the last entry that was taken.

use std::sync::Arc;

use orbit_shared::comparison::Unchanged;
use orbit_shared::entry::Entry;
use orbit_shared::session::ScanBatch;
use orbit_shared::words::{JobId, Layout};

use super::Jobs;
use super::job::{Job, Live};
use super::listed::{Answered, Listed};
use crate::core::calls::Purpose;
use crate::core::seen::Seen;

impl Jobs {
    /// Asks the destinations of a job about a batch, and puts the batch behind those that wait.
    pub(super) fn list_batch(&mut self, turn: &mut Seen<'_>, id: JobId, batch: ScanBatch) {
        let entries: Vec<_> = batch.entries.into_iter().map(Arc::new).collect();
        let count = self.jobs.get(&id).map_or(0, |job| job.record.spec.destinations.len());
        let answers = (0..count)
            .map(|destination| match self.ask_for_comparison(turn, id, destination, &entries) {
                Some(request) => Answered::Awaited(request),
                None => Answered::Unknown,
            })
            .collect();
        let (number, is_last, failure, matched) = (batch.number, batch.is_last, batch.failure, batch.matched);
        let skipped_mounts = batch.skipped_mounts;
        let listed = Listed { number, entries, is_last, failure, matched, skipped_mounts, answers };
        let scan = self.live_mut(id).scan.as_mut().expect("a batch is listed by a scan that runs");
        scan.listed.push_back(listed);
    }

    fn ask_for_comparison(
        &mut self,
        turn: &mut Seen<'_>,
        id: JobId,
        destination: usize,
        entries: &[Arc<Entry>],
    ) -> Option<u64> {
        let spec = &self.jobs.get(&id)?.record.spec;
        if entries.is_empty() || spec.layout != Layout::Files || spec.compares_content {
            return None;
        }
        let place = spec.destinations.get(destination)?.clone();
        let session = turn.asks.may_compare(turn.stars, &place)?;
        if !self.jobs.get_mut(&id)?.live.as_mut()?.attention.get_mut(destination)?.is_due() {
            return None;
        }
        let purpose = Purpose::Comparison { job: id, destination };
        Some(turn.asks.send_comparison(turn.turn, session, &place, entries, purpose))
    }

    /// What a destination says, or that it will say nothing.
    pub(in crate::core) fn compared(
        &mut self,
        id: JobId,
        destination: usize,
        request: u64,
        unchanged: Option<Unchanged>,
    ) {
        // The job may have ended, or its scan have begun again.
        let Some(live) = self.jobs.get_mut(&id).and_then(|job| job.live.as_mut()) else { return };
        if let Some(attention) = live.attention.get_mut(destination) {
            attention.note(unchanged.as_ref().is_some_and(|unchanged| !unchanged.is_empty()));
        }
        let listed = live.scan.iter_mut().flat_map(|scan| &mut scan.listed);
        let mut answers = listed.filter_map(|listed| listed.answers.get_mut(destination));
        if let Some(answer) = answers.find(|answer| **answer == Answered::Awaited(request)) {
            *answer = unchanged.map_or(Answered::Unknown, Answered::Known);
        }
    }

    /// Takes all batches about which everything is known that will be.
    pub(in crate::core) fn take_listed(&mut self, turn: &mut Seen<'_>) {
        let ready = |job: &&Job| job.live.as_ref().is_some_and(|live| live.next_listed().is_some());
        let ready: Vec<JobId> = self.open_jobs().filter(ready).map(|job| job.record.id).collect();
        for id in ready {
            while let Some(listed) = self.pop_listed(id) {
                self.take_batch_of_scan(turn, id, listed);
            }
        }
    }

    fn pop_listed(&mut self, id: JobId) -> Option<Listed> {
        let live = self.jobs.get_mut(&id)?.live.as_mut()?;
        live.next_listed()?;
        live.scan.as_mut()?.listed.pop_front()
    }
}

impl Live {
    /// The batch that is to be taken next, if it can be.
    fn next_listed(&self) -> Option<&Listed> {
        self.scan.as_ref()?.listed.front().filter(|listed| listed.is_answered())
    }
}
