//! The map and the collector against a model, over random sequences of operations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::tests::{Held, chunk};
use super::*;
use crate::time::Monotonic;

const START: Monotonic = Monotonic::ZERO;
const ALL: usize = usize::MAX;

#[derive(Debug, Clone, Copy)]
enum Op {
    Reference { number: u8, tells_collector: bool },
    Release { number: u8, now: u64 },
    Pin { holder: u64, number: u8 },
    UnpinAll(u64),
    Mark(u8),
    Confirm { number: u8, is_stale: bool },
    Advance(u64),
    Collect { count_max: usize, is_early: bool },
    Answer(Ending),
    StoreAgain(u8),
    NextCollection,
}

#[derive(Debug, Clone, Copy)]
enum Ending {
    Deleted,
    Kept,
    Failed,
}

fn any_op() -> impl Strategy<Value = Op> {
    let (who, which) = (0..3u64, 0..6u8);
    prop_oneof![
        3 => (which.clone(), any::<bool>())
            .prop_map(|(number, tells_collector)| Op::Reference { number, tells_collector }),
        5 => (which.clone(), 0..9u64).prop_map(|(number, now)| Op::Release { number, now }),
        1 => (who.clone(), which.clone()).prop_map(|(holder, number)| Op::Pin { holder, number }),
        2 => who.prop_map(Op::UnpinAll),
        4 => which.clone().prop_map(Op::Mark),
        1 => which.clone().prop_map(Op::StoreAgain),
        4 => (which, prop::bool::weighted(0.2))
            .prop_map(|(number, is_stale)| Op::Confirm { number, is_stale }),
        2 => (0..2_000u64).prop_map(Op::Advance),
        3 => (0..4usize, prop::bool::weighted(0.2))
            .prop_map(|(count_max, is_early)| Op::Collect { count_max, is_early }),
        3 => prop_oneof![Just(Ending::Deleted), Just(Ending::Kept), Just(Ending::Failed)].prop_map(Op::Answer),
        1 => Just(Op::NextCollection),
    ]
}

/// The collector and a minimal model of who holds what and which deletions were permitted.
struct World {
    refs: Held,
    gc: GarbageCollector,
    now: Monotonic,
    references: BTreeMap<u8, u32>,
    marked: BTreeMap<u8, u64>,
    pins: BTreeSet<(u64, u8)>,
    tokens: BTreeMap<u8, MarkToken>,
    confirmed: BTreeSet<u8>,
    out: Vec<CollectTicket>,
}

const WINDOW: GcConfig = GcConfig { undo_window: Duration::from_secs(1) };

impl World {
    fn new() -> Self {
        Self {
            refs: Held::default(),
            gc: GarbageCollector::new(WINDOW),
            now: START,
            references: BTreeMap::new(),
            marked: BTreeMap::new(),
            pins: BTreeSet::new(),
            tokens: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            out: Vec::new(),
        }
    }

    fn is_held(&self, number: u8) -> bool {
        self.references.get(&number).is_some_and(|count| *count > 0)
            || self.pins.iter().any(|(_, held)| *held == number)
    }

    /// The collector forgets a mark.
    fn unmark(&mut self, number: u8) {
        self.tokens.remove(&number);
        self.confirmed.remove(&number);
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Reference { number, tells_collector } => {
                let Ok(count) = self.refs.counts.increment(&chunk(number), 1);
                let known = self.references.entry(number).or_insert(0);
                *known += 1;
                assert_eq!(count, *known);
                self.marked.remove(&number);
                if tells_collector && self.gc.on_referenced(&chunk(number)) == Cancellation::Cancelled {
                    self.unmark(number);
                }
            }
            Op::Release { number, now } => {
                let Ok(count) = self.refs.counts.decrement(&chunk(number), now);
                if let Some(known) = self.references.get_mut(&number) {
                    *known = known.saturating_sub(1);
                    assert_eq!(count, *known);
                    if *known == 0 {
                        self.marked.insert(number, now.max(1));
                    }
                }
            }
            Op::Pin { holder, number } => {
                self.refs.pins.pin(holder, &chunk(number));
                self.pins.insert((holder, number));
            }
            Op::UnpinAll(holder) => {
                self.refs.pins.unpin_all(&holder);
                self.pins.retain(|(other, _)| *other != holder);
            }
            Op::Mark(number) => {
                let token = self.gc.mark_reclaimable(self.now, chunk(number));
                let known = *self.tokens.entry(number).or_insert(token);
                assert_eq!(known, token, "a mark keeps its token");
            }
            Op::Confirm { number, is_stale } => self.confirm(number, is_stale),
            Op::Advance(ms) => self.now = self.now + Duration::from_millis(ms),
            Op::Collect { count_max, is_early } => self.collect(count_max, is_early),
            Op::Answer(ending) => self.answer(ending),
            Op::StoreAgain(number) => {
                self.gc.on_stored_again(&chunk(number));
                self.unmark(number);
                self.out.retain(|ticket| ticket.hash != chunk(number));
            }
            Op::NextCollection => {
                self.gc = GarbageCollector::new(WINDOW);
                self.tokens.clear();
                self.confirmed.clear();
                self.out.clear();
            }
        }
    }

    fn confirm(&mut self, number: u8, is_stale: bool) {
        let Some(token) = self.tokens.get(&number).copied() else { return };
        if is_stale {
            let stale = GarbageCollector::new(WINDOW).mark_reclaimable(START, chunk(99));
            assert_eq!(self.gc.confirm_wal_synced(&chunk(number), stale), stale == token);
            if stale != token {
                return;
            }
        }
        assert!(self.gc.confirm_wal_synced(&chunk(number), token));
        self.confirmed.insert(number);
    }

    fn collect(&mut self, count_max: usize, is_early: bool) {
        let before = self.gc.mark_count();
        let tickets = if is_early {
            self.gc.collect_early(&self.refs, count_max)
        } else {
            self.gc.collect(self.now, &self.refs, count_max)
        };
        assert!(tickets.len() <= count_max);
        for ticket in tickets {
            let number = ticket.hash.0[0];
            assert!(!self.is_held(number), "chunk {number} is held and was collected");
            assert!(self.confirmed.contains(&number), "chunk {number} was collected unconfirmed");
            assert!(self.out.iter().all(|other| other.hash != ticket.hash), "chunk {number} collected twice");
            self.out.push(ticket);
        }
        // What is held has lost its mark, if the collector came to it.
        if self.gc.mark_count() < before {
            let held: Vec<u8> =
                self.confirmed.iter().copied().filter(|number| self.is_held(*number)).collect();
            for number in held {
                let token = self.tokens[&number];
                if !self.gc.confirm_wal_synced(&chunk(number), token) {
                    self.unmark(number);
                }
            }
        }
    }

    fn answer(&mut self, ending: Ending) {
        let Some(ticket) = self.out.pop() else { return };
        assert!(self.gc.is_deleting(&ticket.hash));
        match ending {
            Ending::Deleted => assert!(self.gc.acknowledge(&ticket)),
            Ending::Kept => assert!(self.gc.keep(&ticket)),
            Ending::Failed => {
                assert!(self.gc.deletion_failed(&ticket));
                return;
            }
        }
        self.unmark(ticket.hash.0[0]);
    }

    fn check(&self) {
        for number in 0..6 {
            let count = self.references.get(&number).copied().unwrap_or(0);
            assert_eq!(self.refs.count(&chunk(number)), u64::from(count));
            let marked = self.refs.counts.store().0.get(&chunk(number)).map_or(0, |count| count.marked);
            assert_eq!(marked, self.marked.get(&number).copied().unwrap_or(0));
            let is_out = self.out.iter().any(|ticket| ticket.hash == chunk(number));
            assert_eq!(self.gc.is_deleting(&chunk(number)), is_out);
        }
        assert_eq!(self.gc.mark_count(), self.tokens.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn the_collector_takes_only_what_nobody_holds_once_and_in_the_end_everything(
        ops in prop::collection::vec(any_op(), 1..120),
    ) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
            world.check();
        }
        while !world.out.is_empty() {
            world.answer(Ending::Failed);
        }
        (0..3).for_each(|holder| world.apply(Op::UnpinAll(holder)));
        let garbage: BTreeSet<u8> = (0..6).filter(|number| !world.is_held(*number)).collect();
        for number in &garbage {
            world.apply(Op::Mark(*number));
            world.apply(Op::Confirm { number: *number, is_stale: false });
        }
        world.apply(Op::Advance(1_000));
        world.collect(ALL, false);
        let collected: BTreeSet<u8> = world.out.iter().map(|ticket| ticket.hash.0[0]).collect();
        prop_assert_eq!(collected, garbage);
    }
}
