//! What the work of jobs means for each Star: what it holds, what is read from it, what it died over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use orbit_shared::time::Monotonic;
use orbit_shared::words::{AssignmentId, ItemId, StarId};

use super::on_way::OnWay;
use super::suspects::{HeldAtEnd, Trial};
use crate::core::limits::DEATHS_KEPT_MAX;

/// What one Star has in its hands.
#[derive(Debug, Default)]
pub(super) struct Hand {
    /// What it holds.
    pub(super) assignments: BTreeSet<AssignmentId>,
    /// Live assignments that are read from it.
    pub(super) reads: usize,
    /// Scans that run on it for jobs.
    pub(super) scans: usize,
    /// The one item that it works on alone.
    pub(super) trial: Option<Trial>,
    /// When any of what it holds last came on.
    pub(super) progress_at: Monotonic,
    /// When it last stored something for a job.
    pub(super) wrote_at: Option<Monotonic>,
    /// Bytes that it has stored since the last sample, which does not show them yet.
    pub(super) bytes_since_sample: u64,
    /// Bytes of all that is on its way to it, whole files counted: what its disks must have room for.
    pub(super) on_way: OnWay,
    /// What it held, or was read from it, when its last session ended; if its process died, they are under suspicion.
    pub(super) held_at_end: HeldAtEnd,
    /// When its process died lately, oldest first, with the item that was all it had in its hands, if there was one.
    pub(super) deaths: VecDeque<(Monotonic, Option<ItemId>)>,
}

impl Hand {
    /// Whether it has nothing to do, and nothing is read from its Star.
    pub(super) fn is_empty(&self) -> bool {
        self.assignments.is_empty() && self.reads == 0
    }

    /// A scan that ran on it for a job has ended.
    pub(super) fn end_scan(&mut self) {
        assert!(self.scans > 0, "a scan has ended where none runs");
        self.scans -= 1;
    }

    /// Keeps a death of the Star's agent, with the item that was all it had in its hands, if there was one.
    pub(super) fn note_death(&mut self, now: Monotonic, alone: Option<ItemId>) {
        self.deaths.push_back((now, alone));
        if self.deaths.len() > DEATHS_KEPT_MAX {
            self.deaths.pop_front();
        }
    }
}

/// The hands of all Stars.
#[derive(Debug, Default)]
pub(super) struct Hands {
    by_star: BTreeMap<StarId, Hand>,
    /// Of those that never had anything.
    empty: Hand,
}

impl Hands {
    /// What a Star has.
    pub(super) fn of(&self, star: &StarId) -> &Hand {
        self.by_star.get(star).unwrap_or(&self.empty)
    }

    /// The same, to be changed.
    pub(super) fn of_mut(&mut self, star: &StarId) -> &mut Hand {
        if !self.by_star.contains_key(star) {
            self.by_star.insert(star.clone(), Hand::default());
        }
        self.by_star.get_mut(star).expect("it is there by now")
    }

    /// All that ever had something, by Star.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&StarId, &Hand)> {
        self.by_star.iter()
    }

    /// The same, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&StarId, &mut Hand)> {
        self.by_star.iter_mut()
    }

    /// A Star is forgotten.
    pub(super) fn forget(&mut self, star: &StarId) {
        let hand = self.by_star.remove(star).unwrap_or_default();
        assert!(hand.assignments.is_empty(), "{star} is forgotten and holds {:?}", hand.assignments);
    }
}
