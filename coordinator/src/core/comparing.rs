//! Comparing: before what a scan lists becomes items, the destinations are asked which of it they have already. What is
//! there is skipped at once: no queue, no assignment, no report. So listing an unchanged tree again costs little more
//! than looking at both ends.
//!
//! Nothing depends on an answer. A destination that is away, slow or has nothing is passed over, and what it was not
//! asked about becomes items that find out by themselves. Batches are taken in the order in which they came, since the
//! cursor of a scan is the path of the last entry that was taken.

use std::sync::Arc;
use std::time::Duration;

use orbit_shared::comparison::{Comparison, Unchanged};
use orbit_shared::entry::Entry;
use orbit_shared::session::{CoordinatorMessage, Failure};
use orbit_shared::words::{JobId, Layout};

use super::event::{Action, SessionId};
use super::gate::star_gate;
use super::job_record::Location;
use super::vaults::Purpose;
use super::{Core, Turn};

/// Questions that one Star has unanswered.
const COMPARISONS_PER_STAR_MAX: usize = 32;
/// How long an answer is waited for; never longer than the lease.
pub(super) const COMPARISON_PATIENCE: Duration = Duration::from_secs(5);
/// Batches that are passed over at most before a destination that had nothing is asked again.
const PASSED_OVER_MAX: u32 = 64;

/// A batch of a scan that waits for what the destinations say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub(super) number: u64,
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) is_last: bool,
    pub(super) failure: Option<Failure>,
    pub(super) matched: Vec<u32>,
    pub(super) skipped_mounts: Vec<Vec<u8>>,
    /// What each destination says.
    answers: Vec<Answered>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Answered {
    /// Not yet; the question's number.
    Awaited(u64),
    /// This is there already.
    Known(Unchanged),
    /// It was not asked, or did not answer.
    Unknown,
}

impl Listed {
    fn is_answered(&self) -> bool {
        !self.answers.iter().any(|answer| matches!(answer, Answered::Awaited(_)))
    }

    /// Whether a destination has an entry already.
    pub(super) fn is_unchanged(&self, destination: usize, index: usize) -> bool {
        match self.answers.get(destination) {
            Some(Answered::Known(unchanged)) => unchanged.contains(index),
            Some(Answered::Awaited(_) | Answered::Unknown) | None => false,
        }
    }
}

/// Whether it is worth the while to ask a destination. One that has nothing, as before a first copy, is asked ever more
/// seldom.
#[derive(Debug, Clone, Default)]
pub struct Attention {
    /// Batches still to be passed over.
    left: u32,
    /// As many were passed over last.
    before: u32,
}

impl Attention {
    fn is_due(&mut self) -> bool {
        let is_due = self.left == 0;
        self.left = self.left.saturating_sub(1);
        is_due
    }

    fn note(&mut self, has_found: bool) {
        self.before = if has_found { 0 } else { (self.before * 2).clamp(1, PASSED_OVER_MAX) };
        self.left = self.before;
    }
}

impl Core {
    /// Asks the destinations of a job about a batch, and puts the batch behind those that wait.
    pub(super) fn list_batch(&mut self, turn: &mut Turn, id: JobId, batch: orbit_shared::session::ScanBatch) {
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
        if let Some(scan) = self.jobs.get_mut(&id).and_then(|job| job.live.as_mut()?.scan.as_mut()) {
            scan.listed.push_back(listed);
        }
    }

    fn ask_for_comparison(
        &mut self,
        turn: &mut Turn,
        id: JobId,
        destination: usize,
        entries: &[Arc<Entry>],
    ) -> Option<u64> {
        let spec = &self.jobs.get(&id)?.record.spec;
        if entries.is_empty() || spec.layout != Layout::Files || spec.compares_content {
            return None;
        }
        let place = spec.destinations.get(destination)?.clone();
        let session = self.may_compare(&place)?;
        if !self.jobs.get_mut(&id)?.live.as_mut()?.attention.get_mut(destination)?.is_due() {
            return None;
        }
        let purpose = Purpose::Comparison { job: id, destination };
        Some(self.send_comparison(turn, session, &place, entries, purpose))
    }

    /// The session on which a destination can be asked what it has, if it can.
    pub(super) fn may_compare(&self, place: &Location) -> Option<SessionId> {
        let star = self.stars.get(&place.star_id)?;
        let is_held = star_gate(&place.star_id, "the destination", Some(star)).is_some();
        let is_busy = self.asks_of(&place.star_id, Purpose::is_comparison) >= COMPARISONS_PER_STAR_MAX;
        star.session.filter(|_| !is_held && !is_busy && !star.record.is_cordoned)
    }

    /// Asks a destination what it has; gives the question's number.
    pub(super) fn send_comparison(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        place: &Location,
        entries: &[Arc<Entry>],
        purpose: Purpose,
    ) -> u64 {
        let request = self.expect_answer(turn.now, session, &place.star_id, purpose);
        let comparison = Comparison { path: place.path.clone(), entries: entries.to_vec() };
        let message = CoordinatorMessage::Compare { request, comparison };
        turn.actions.push(Action::Send { session, message });
        request
    }

    /// A destination says what it has already.
    pub(super) fn compared(
        &mut self,
        turn: &mut Turn,
        session: SessionId,
        request: u64,
        unchanged: Unchanged,
    ) {
        match self.take_comparison(session, request) {
            Some(Purpose::Comparison { job, destination }) => {
                self.settle_comparison(job, destination, request, Some(unchanged));
            }
            Some(Purpose::PlanComparison { scan }) => {
                self.note_plan_progress(turn.now, scan);
                self.settle_plan_comparison(turn, scan, request, Some(&unchanged));
            }
            Some(_) | None => self.late_count += 1,
        }
    }

    /// What a destination says, or that it will say nothing.
    pub(super) fn settle_comparison(
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
    pub(super) fn take_listed(&mut self, turn: &mut Turn) {
        let ready = |job: &&super::Job| job.live.as_ref().is_some_and(|live| live.next_listed().is_some());
        let ready: Vec<JobId> = self.jobs.values().filter(ready).map(|job| job.record.id).collect();
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

impl super::job::Live {
    /// The batch that is to be taken next, if it can be.
    fn next_listed(&self) -> Option<&Listed> {
        self.scan.as_ref()?.listed.front().filter(|listed| listed.is_answered())
    }
}
