//! Poison: an item that takes the agents down that work on it.
//!
//! When a Star's process dies, whatever it held or was being read from it gets a strike. Most of it is innocent, so
//! suspicion isolates: items with one strike travel in small batches of their own, items with two alone, one at a time
//! in the whole grid. An item whose third session dies is given up. Strikes end with a success, and with the coordinator's
//! process: a restart forgets suspicion, never an item.

use std::sync::Arc;

use orbit_shared::bulletin::Severity;
use orbit_shared::session::limits::ASSIGNMENT_ITEMS_MAX;
use orbit_shared::session::{Failure, FailureCause, Fault};
use orbit_shared::time::Now;
use orbit_shared::words::{ItemId, JobId, StarId};

use super::change::AssignmentRecord;
use super::dispatch::InFlight;
use super::settle::leave_queue;
use super::{Core, Effects};

/// So many sessions that died under an item make it poison.
const STRIKES_MAX: u32 = 3;
/// Items with one strike that travel together.
const SUSPECTS_PER_BATCH: usize = 16;

impl Core {
    /// A Star's session is ending: notes what it held and what was being read from it.
    pub(super) fn note_held(&mut self, name: &StarId) {
        let is_of =
            |job: &JobId| self.jobs.get(job).is_some_and(|job| job.record.spec.source.star_id == *name);
        let involved = self.assignments.values().filter(|live| live.star == *name || is_of(&live.job));
        let items: Vec<ItemId> = involved
            .flat_map(|live| {
                let (job, destination) = (live.job, live.destination);
                live.items.keys().map(move |&sequence| ItemId { job, destination, sequence })
            })
            .collect();
        if let Some(star) = self.stars.get_mut(name)
            && star.session.is_some()
        {
            star.held_at_end = items;
        }
    }

    /// A Star is back. If its process died, what it held then is under suspicion; if it was only out of reach, nothing is.
    pub(super) fn judge_held(&mut self, now: Now, name: &StarId, is_new_process: bool, fx: &mut Effects) {
        let Some(star) = self.stars.get_mut(name) else { return };
        let held = std::mem::take(&mut star.held_at_end);
        if !is_new_process || held.is_empty() {
            return;
        }
        let mut worst: Option<(u32, ItemId)> = None;
        for item in held {
            let Some(live) = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut()) else { continue };
            let strikes = live.strikes.entry((item.destination, item.sequence)).or_default();
            *strikes += 1;
            worst = worst.max(Some((*strikes, item)));
        }
        if let Some((strikes, item)) = worst.filter(|(strikes, _)| *strikes > 1) {
            let message = format!(
                "the agent of {name} died and has started again; item {item} was being worked on at {strikes} such ends, and goes alone from now on"
            );
            self.post(now, fx, (Severity::Warning, name.as_str(), "poison"), Some(item.job), &message);
        }
    }

    /// The item that is next in a lane, and its strikes.
    fn next_suspect(&self, job: JobId, destination: u32) -> Option<(u64, u32)> {
        let live = self.jobs.get(&job)?.live.as_ref()?;
        if live.strikes.is_empty() {
            return None;
        }
        let lane = live.lanes.get(destination as usize)?;
        let sequence = lane.item(lane.best_key()?)?.sequence;
        Some((sequence, live.strikes.get(&(destination, sequence)).copied()?))
    }

    /// Gives up the item at the front of a lane if it is poison. Returns whether it was.
    pub(super) fn give_up_poison(
        &mut self,
        now: Now,
        job: JobId,
        destination: u32,
        fx: &mut Effects,
    ) -> bool {
        let Some((sequence, STRIKES_MAX..)) = self.next_suspect(job, destination) else { return false };
        let item = ItemId { job, destination, sequence };
        let Some(live) = self.jobs.get_mut(&job).and_then(|job| job.live.as_mut()) else { return false };
        let lane = &mut live.lanes[destination as usize];
        let Some(queued) = lane.best_key().cloned().and_then(|key| lane.remove(&key)) else { return false };
        live.strikes.remove(&(destination, sequence));
        leave_queue(live, item, &queued, fx);
        let failure = Failure {
            cause: FailureCause::Permanent,
            fault: Fault::Item,
            message: format!(
                "{STRIKES_MAX} times the agent of a Star died while this was being moved; see what is special about it, then retry it"
            ),
        };
        self.give_up(now, item, Arc::unwrap_or_clone(queued.entry), &failure, STRIKES_MAX, fx);
        true
    }

    /// How many items may travel with the one that is next in a lane.
    pub(super) fn items_max_by_strikes(&self, job: JobId, destination: u32) -> usize {
        let Some((_, strikes)) = self.next_suspect(job, destination) else { return ASSIGNMENT_ITEMS_MAX };
        if strikes < 2 {
            return SUSPECTS_PER_BATCH;
        }
        let is_busy = self.assignments.values().any(|live| live.is_quarantine);
        usize::from(!is_busy)
    }

    /// Whether a batch is one item under strong suspicion.
    pub(super) fn is_quarantine(&self, batch: &[InFlight], record: &AssignmentRecord) -> bool {
        let live = self.jobs.get(&record.job).and_then(|job| job.live.as_ref());
        let strikes = |sequence| live.and_then(|live| live.strikes.get(&(record.destination, sequence)));
        batch.first().is_some_and(|first| strikes(first.queued.sequence).is_some_and(|&count| count > 1))
    }
}
