//! Yield: what becomes of items when the place they go to, or the way there, fails as a whole.
//!
//! A breaker stands before each destination root, because a disk fails for all that is written to it, and before each
//! way from one Star to another. While one is open, its lanes are held by [`Gate::Yield`], failures do not count against
//! the items, and after each wait one probe goes through. All others flow on. Breakers are not durable: after a restart
//! a few failures open them again, and those are refunded like the first.

use std::collections::BTreeMap;

use orbit_shared::bulletin::Severity;
use orbit_shared::entry::{Entry, display_path};
use orbit_shared::penalization::{StarYield, YieldConfig, YieldGate, YieldVerdict};
use orbit_shared::session::{Failure, Fault};
use orbit_shared::time::Monotonic;
use orbit_shared::words::{ItemId, JobId, StarId};

use super::Jobs;
use super::lane::queue_key;
use crate::core::change::Change;
use crate::core::change::PenalizedRecord;
use crate::core::held::{Gate, Held};
use crate::core::seen::Seen;
use crate::core::stars::Stars;

const CATEGORY: &str = "yield";

/// Places that failed lately; those that yield among them.
#[derive(Debug, Default)]
pub(super) struct Yields {
    by_place: BTreeMap<YieldPlace, StarYield<ItemId>>,
}

/// What can fail as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum YieldPlace {
    /// A root of a destination Star.
    Root {
        /// The Star.
        star: StarId,
        /// The root's path.
        root: Vec<u8>,
    },
    /// The way between two Stars.
    Route {
        /// The Star that is read.
        source: StarId,
        /// The Star that pulls from it.
        destination: StarId,
    },
}

impl YieldPlace {
    /// The Star that an operator should look at first.
    fn star(&self) -> &StarId {
        match self {
            Self::Root { star, .. } => star,
            Self::Route { source, .. } => source,
        }
    }

    fn concerns(&self, name: &StarId) -> bool {
        match self {
            Self::Root { star, .. } => star == name,
            Self::Route { source, destination } => source == name || destination == name,
        }
    }
}

impl std::fmt::Display for YieldPlace {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Root { star, root } => write!(out, "writing to {star}:{}", display_path(root)),
            Self::Route { source, destination } => write!(out, "the way from {source} to {destination}"),
        }
    }
}

impl Jobs {
    /// The places that a lane's items depend on.
    fn places(&self, stars: &Stars, job: JobId, destination: u32) -> Option<[YieldPlace; 2]> {
        let spec = &self.jobs.get(&job)?.record.spec;
        let place = spec.destinations.get(destination as usize)?;
        let star = stars.get(&place.star_id)?;
        let root =
            star.record.root_of(&place.path).map_or_else(|| place.path.clone(), |root| root.path.clone());
        Some([
            YieldPlace::Root { star: place.star_id.clone(), root },
            YieldPlace::Route { source: spec.source.star_id.clone(), destination: place.star_id.clone() },
        ])
    }

    /// An item was stored: its way and its root work.
    pub(super) fn place_succeeded(&mut self, turn: &mut Seen<'_>, item: ItemId) {
        if self.yields.by_place.is_empty() {
            return;
        }
        for place in self.places(turn.stars, item.job, item.destination).into_iter().flatten() {
            let Some(mut breaker) = self.yields.by_place.remove(&place) else { continue };
            if breaker.on_success() {
                let message = format!("{place} works again");
                let star = place.star().to_string();
                turn.post((Severity::Info, &star, CATEGORY), None, &message);
            }
        }
    }

    /// Whether a failure that is worth another attempt counts against its item. If it does not, the item just waits.
    pub(super) fn counts_against_item(
        &mut self,
        turn: &mut Seen<'_>,
        item: ItemId,
        failure: &Failure,
    ) -> bool {
        let Some([root, route]) = self.places(turn.stars, item.job, item.destination) else { return true };
        let place = match failure.fault {
            Fault::Item => return true,
            Fault::Destination => root,
            Fault::Source | Fault::Link => route,
        };
        let new = || StarYield::new(YieldConfig::default());
        let breaker = self.yields.by_place.entry(place.clone()).or_insert_with(new);
        let verdict = match failure.fault {
            Fault::Link => breaker.on_sure_failure(turn.now, &failure.message),
            Fault::Item | Fault::Source | Fault::Destination => {
                breaker.on_failure(turn.now, item, &failure.message)
            }
        };
        match verdict {
            YieldVerdict::Counted => true,
            YieldVerdict::Held => false,
            YieldVerdict::Opened { refunded } => {
                for other in refunded.into_iter().filter(|other| *other != item) {
                    self.refund(turn, other);
                }
                let message = format!(
                    "{place} fails, and not for one item alone: {}. Nothing more is sent that way but one attempt now and then; what waits for it loses no attempts",
                    failure.message
                );
                let star = place.star().to_string();
                turn.post((Severity::Warning, &star, CATEGORY), None, &message);
                false
            }
        }
    }

    /// Takes an item's last failure back and lets it wait where it stood before. One that is in flight again keeps it.
    fn refund(&mut self, turn: &mut Seen<'_>, item: ItemId) {
        let Some(live) = self.jobs.get_mut(&item.job).and_then(|job| job.live.as_mut()) else { return };
        let Some(mut queued) = live.penalized.remove(&item) else { return };
        let left = live.penalties.refund(&item).unwrap_or(0);
        let key = queue_key(&live.order, item.sequence, &queued.entry, left);
        match live.penalties.record(&item) {
            Some(record) => {
                let record = PenalizedRecord { record: record.clone(), entry: Entry::clone(&queued.entry) };
                turn.changes.push(Change::PutPenalty { item, record: Box::new(record) });
            }
            None => {
                turn.changes.push(Change::RemovePenalty(item));
                turn.changes.push(Change::Enqueue { item, key: key.clone() });
                queued.is_penalty = false;
                queued.queued_at = turn.now.monotonic;
            }
        }
        live.lanes[item.destination as usize].insert(key, queued);
    }

    /// What holds a lane because a place of its yields.
    pub(super) fn yield_gate(
        &self,
        stars: &Stars,
        now: Monotonic,
        job: JobId,
        destination: u32,
    ) -> Option<Held> {
        if self.yields.by_place.is_empty() {
            return None;
        }
        self.places(stars, job, destination)?.into_iter().find_map(|place| {
            let breaker = self.yields.by_place.get(&place)?;
            let error = breaker.last_error();
            match breaker.gate(now) {
                YieldGate::Open => None,
                YieldGate::Until(until) => Some(Held {
                    opens_at: Some(until),
                    ..Held::new(Gate::Yield, format!("{place} yields: {error}"))
                }),
                YieldGate::Probe => self
                    .is_on_its_way(stars, &place)
                    .then(|| Held::new(Gate::Yield, format!("{place} yields and is being tried: {error}"))),
            }
        })
    }

    /// Whether what a lane may send now is one item, to see whether its places work again.
    pub(super) fn is_probe(&self, stars: &Stars, now: Monotonic, job: JobId, destination: u32) -> bool {
        let is_probe = |place| {
            self.yields
                .by_place
                .get(place)
                .is_some_and(|breaker: &StarYield<ItemId>| breaker.gate(now) == YieldGate::Probe)
        };
        !self.yields.by_place.is_empty()
            && self.places(stars, job, destination).iter().flatten().any(is_probe)
    }

    fn is_on_its_way(&self, stars: &Stars, place: &YieldPlace) -> bool {
        let of = |job, destination| self.places(stars, job, destination);
        let mut live = self.assignments.values();
        live.any(|live| of(live.job, live.destination).is_some_and(|places| places.contains(place)))
    }

    /// Forgets what is held against a Star whose session is new: it may be mended.
    pub(in crate::core) fn forget_yields_of(&mut self, name: &StarId) {
        self.yields.by_place.retain(|place, _| !place.concerns(name));
    }

    /// What of a Star yields now, in words.
    pub(in crate::core) fn yields_of(&self, name: &StarId) -> Vec<String> {
        let open = self
            .yields
            .by_place
            .iter()
            .filter(|(place, breaker)| place.concerns(name) && breaker.since().is_some());
        open.map(|(place, breaker)| format!("{place}: {}", breaker.last_error())).collect()
    }

    /// When the next probe may go.
    pub(super) fn next_yield_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let waits = self.yields.by_place.values().filter_map(|breaker| match breaker.gate(now) {
            YieldGate::Until(until) => Some(until),
            YieldGate::Open | YieldGate::Probe => None,
        });
        waits.min()
    }
}
