//! The work on an assignment, around the product's machine of its items ([`PullCore`]): claims and the journal before it,
//! cleaning after it, and the time that everything takes. `destination` executes what the machine wants done.
//!
//! Each step takes time, and anything can happen between two of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use orbit_shared::entry::join_path;
use orbit_shared::session::{Assignment, ItemOutcome, ItemResult};
use orbit_shared::words::{AssignmentId, StarId};
use orbit_star::core::Event;
use orbit_star::sink::claims::{items_of, leftovers};
use orbit_star::sink::pull_core::{Effect, Event as PullEvent, PullCore, RoundLimits, Target};

use super::World;
use super::agenda::Happening;
use super::destination::{Written, temporary_of};
use super::star::Star;
use super::tree::version_of;
use super::vault::{is_packed, promise_of};

/// The phase of work on an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Claim,
    Plan,
    Deliver,
    /// Withdrawn, without claims; what is left of it must still be removed.
    Clean,
}

/// A pull under way.
#[derive(Debug)]
pub(super) struct Pulling {
    pub(super) items: VecDeque<usize>,
    pub(super) is_broken: bool,
}

/// Work on one assignment.
#[derive(Debug)]
pub struct Running {
    pub(super) assignment: Arc<Assignment>,
    phase: Phase,
    core: PullCore<Written>,
    effects: VecDeque<Effect<Written>>,
    pub(super) pulling: Option<Pulling>,
    /// The version that each item has at the destination.
    pub(super) versions: BTreeMap<usize, u64>,
    is_cancelled: bool,
    /// Whether its machine knows that it is cancelled.
    is_ending: bool,
    /// Its job has ended: what is stored of it is removed.
    is_over: bool,
    pub(super) bytes_moved: u64,
}

impl Running {
    /// Whether it pulls from a Star.
    pub fn is_pulling_from(&self, star: &StarId) -> bool {
        self.assignment.source_star == *star && self.pulling.is_some()
    }

    /// Number of bytes moved so far.
    pub fn bytes_moved(&self) -> u64 {
        self.bytes_moved
    }

    /// The path of an item's target.
    pub(super) fn target(&self, index: usize) -> Vec<u8> {
        join_path(&self.assignment.destination_path, &self.assignment.items[index].entry.path)
    }

    /// The machine takes what happened.
    pub(super) fn take(&mut self, event: PullEvent<Written>) {
        let mut effects = Vec::new();
        self.core.step(event, &mut effects);
        self.effects.extend(effects);
    }

    /// The assignment was withdrawn: nothing more is pulled or reported.
    fn cancel(&mut self) {
        self.is_ending = true;
        self.pulling = None;
        self.take(PullEvent::Cancelled);
        self.effects.retain(|effect| !matches!(effect, Effect::Report(_) | Effect::Pull { .. }));
    }
}

impl Star {
    /// Removes the partly written files of an ended attempt. Files of another attempt are kept.
    pub fn remove_temporaries(&mut self, assignment: &Assignment) {
        let items = items_of(assignment);
        for index in leftovers(assignment, |_| false) {
            if self.claims.may_clean(items[index]) {
                self.disk.remove(&temporary_of(assignment, index));
            }
        }
    }
}

impl World {
    /// Begins work on an assignment: it is in the journal before anything is written.
    pub(super) fn start_work(&mut self, star: usize, assignment: Assignment) {
        let id = assignment.id;
        let assignment = Arc::new(assignment);
        let target = if is_packed(&assignment) { Target::Vault } else { Target::Files };
        let items_max = if self.scenario.entries_min > 0 { 200 } else { 8 };
        let limits = RoundLimits { items: self.chance.between(1, items_max) as usize, bytes: u64::MAX };
        let running = Running {
            core: PullCore::new(target, limits, Arc::clone(&assignment)),
            assignment,
            phase: Phase::Claim,
            effects: VecDeque::new(),
            pulling: None,
            versions: BTreeMap::new(),
            is_cancelled: false,
            is_ending: false,
            is_over: false,
            bytes_moved: 0,
        };
        self.stars[star].running.insert(id, running);
        self.plan_work(star, id);
    }

    /// Withdraws work. A round that has begun is finished. If its job has ended, what was stored of it is removed.
    pub(super) fn stop_work(&mut self, star: usize, id: AssignmentId, is_over: bool) {
        let owner = &mut self.stars[star];
        if let Some(running) = owner.running.get_mut(&id) {
            running.is_cancelled = true;
            running.is_over |= is_over;
            return;
        }
        if let Some(assignment) = owner.journal.get(&id).filter(|_| is_over) {
            owner.vault.abandon_job(assignment.job);
        }
        self.forget_work(star, id);
    }

    /// Every outcome is safe.
    pub(super) fn forget_work(&mut self, star: usize, id: AssignmentId) {
        self.stars[star].journal.remove(&id);
    }

    fn plan_work(&mut self, star: usize, assignment: AssignmentId) {
        let slow = if self.chance.percent(3) { self.chance.between(0, 4_000) } else { 0 };
        let running = self.stars[star].running.get(&assignment);
        // Cleaning waits for other blocking work.
        let share = if running.is_some_and(|running| running.phase == Phase::Clean) { 4 } else { 1 };
        let at_ms = self.now_ms + self.chance.between(0, share * self.scenario.work_max_ms) + slow;
        let process = self.stars[star].process;
        self.agenda.add(at_ms, Happening::WorkStep { star, process, assignment });
    }

    /// Work advances by one step.
    pub(super) fn work_step(&mut self, star: usize, process: u32, id: AssignmentId) {
        if self.stars[star].process != process {
            return;
        }
        if self.stars[star].is_frozen {
            return self.plan_work(star, id);
        }
        let Some(mut running) = self.stars[star].running.remove(&id) else { return };
        let is_over = match running.phase {
            Phase::Claim => self.claim(star, &mut running),
            Phase::Plan => self.plan(star, &mut running),
            Phase::Deliver => self.deliver_items(star, &mut running),
            Phase::Clean => true,
        };
        if is_over && self.end_work(star, &mut running) {
            self.post_to_star(star, process, Event::WorkEnded { assignment: id });
        } else {
            self.stars[star].running.insert(id, running);
            self.plan_work(star, id);
        }
    }

    fn claim(&mut self, star: usize, running: &mut Running) -> bool {
        if running.is_cancelled {
            return true;
        }
        let star = &mut self.stars[star];
        if star.claims.try_take(&items_of(&running.assignment)) {
            star.journal.insert(running.assignment.id, running.assignment.as_ref().clone());
            running.phase = Phase::Plan;
        }
        false
    }

    fn plan(&mut self, star: usize, running: &mut Running) -> bool {
        running.phase = Phase::Deliver;
        if !running.is_cancelled {
            let planned = self.plan_items(star, running);
            running.take(PullEvent::Planned(planned));
        }
        false
    }

    /// Pulls some items, or executes an effect. Returns whether all is done.
    fn deliver_items(&mut self, star: usize, running: &mut Running) -> bool {
        if running.is_cancelled && !running.is_ending {
            running.cancel();
        }
        // A round is under way beside the pull.
        let pulls = running.pulling.is_some() && (running.effects.is_empty() || self.chance.percent(50));
        if pulls {
            self.pull_some(star, running);
        } else if let Some(effect) = running.effects.pop_front() {
            self.execute(star, running, effect);
        }
        running.core.is_over() && running.effects.is_empty()
    }

    /// Releases the claims of ended work. If it was withdrawn, cleans up afterwards. Returns whether that is complete.
    fn end_work(&mut self, star: usize, running: &mut Running) -> bool {
        let star = &mut self.stars[star];
        match running.phase {
            Phase::Claim | Phase::Clean => {}
            Phase::Plan | Phase::Deliver => star.claims.release(&items_of(&running.assignment)),
        }
        if running.is_cancelled && running.phase != Phase::Clean {
            running.phase = Phase::Clean;
            return false;
        }
        if running.is_cancelled {
            star.remove_temporaries(&running.assignment);
            star.journal.remove(&running.assignment.id);
            if running.is_over {
                star.vault.abandon_job(running.assignment.job);
            }
        }
        true
    }

    /// Sends outcomes. What is reported as stored is promised to be there from now on.
    pub(super) fn report(&mut self, star: usize, running: &Running, outcomes: Vec<ItemOutcome>) {
        let assignment = &running.assignment;
        for outcome in &outcomes {
            match outcome.result {
                ItemResult::Stored { .. } | ItemResult::Skipped => {}
                ItemResult::Failed(_) => continue,
            }
            let is_it = |item: &orbit_shared::session::AssignedItem| item.sequence == outcome.sequence;
            let index = assignment.items.iter().position(is_it).expect("an outcome is about an item");
            let entry = &assignment.items[index].entry;
            let version = running.versions.get(&index).copied().unwrap_or_else(|| version_of(entry));
            let place = if is_packed(assignment) {
                promise_of(assignment.job, assignment.destination, &entry.path)
            } else {
                running.target(index)
            };
            let promised = self.promised.entry((star, place)).or_default();
            *promised = (*promised).max(version);
        }
        let (process, assignment) = (self.stars[star].process, assignment.id);
        self.post_to_star(star, process, Event::OutcomesProduced { assignment, outcomes });
    }
}
