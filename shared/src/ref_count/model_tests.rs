//! The map and the collector against a model, over random sequences of operations.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::time::Monotonic;

const START: Monotonic = Monotonic::ZERO;
const ALL: usize = usize::MAX;

fn chunk(number: u8) -> ChunkHash {
    ChunkHash([number; CHUNK_HASH_BYTES])
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Reference { owner: u64, number: u8, tells_collector: bool },
    Release { owner: u64, number: u8 },
    RemoveOwner(u64),
    Pin { holder: u64, number: u8 },
    UnpinAll(u64),
    Mark(u8),
    Confirm { number: u8, is_stale: bool },
    Advance(u64),
    Collect { count_max: usize, is_early: bool },
    Answer { is_deleted: bool },
    Crash,
}

fn any_op() -> impl Strategy<Value = Op> {
    let (who, which) = (0..3u64, 0..6u8);
    prop_oneof![
        3 => (who.clone(), which.clone(), any::<bool>())
            .prop_map(|(owner, number, tells_collector)| Op::Reference { owner, number, tells_collector }),
        4 => (who.clone(), which.clone()).prop_map(|(owner, number)| Op::Release { owner, number }),
        1 => who.clone().prop_map(Op::RemoveOwner),
        1 => (who.clone(), which.clone()).prop_map(|(holder, number)| Op::Pin { holder, number }),
        2 => who.prop_map(Op::UnpinAll),
        4 => which.clone().prop_map(Op::Mark),
        4 => (which, prop::bool::weighted(0.2))
            .prop_map(|(number, is_stale)| Op::Confirm { number, is_stale }),
        2 => (0..2_000u64).prop_map(Op::Advance),
        3 => (0..4usize, prop::bool::weighted(0.2))
            .prop_map(|(count_max, is_early)| Op::Collect { count_max, is_early }),
        3 => any::<bool>().prop_map(|is_deleted| Op::Answer { is_deleted }),
        1 => Just(Op::Crash),
    ]
}

/// The collector and a minimal model of who holds what and which deletions were permitted.
struct World {
    refs: RefCountMap,
    gc: GarbageCollector,
    now: Monotonic,
    references: BTreeSet<(u64, u8)>,
    pins: BTreeSet<(u64, u8)>,
    confirmed: BTreeSet<u8>,
    out: Vec<CollectTicket>,
}

const WINDOW: GcConfig = GcConfig { undo_window: Duration::from_secs(1) };

impl World {
    fn new() -> Self {
        Self {
            refs: RefCountMap::new(),
            gc: GarbageCollector::new(WINDOW),
            now: START,
            references: BTreeSet::new(),
            pins: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            out: Vec::new(),
        }
    }

    fn is_held(&self, number: u8) -> bool {
        self.references.iter().chain(&self.pins).any(|(_, held)| *held == number)
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Reference { owner, number, tells_collector } => {
                self.refs.increment_for(owner, &chunk(number));
                self.references.insert((owner, number));
                if tells_collector && self.gc.on_referenced(&chunk(number)) == Cancellation::Cancelled {
                    self.confirmed.remove(&number);
                }
            }
            Op::Release { owner, number } => {
                assert_eq!(
                    self.refs.decrement_for(owner, &chunk(number)),
                    self.references.remove(&(owner, number))
                );
            }
            Op::RemoveOwner(owner) => {
                self.refs.remove_owner(&owner);
                self.references.retain(|(other, _)| *other != owner);
            }
            Op::Pin { holder, number } => {
                assert_eq!(self.refs.pin(holder, &chunk(number)), self.pins.insert((holder, number)));
            }
            Op::UnpinAll(holder) => {
                self.refs.unpin_all(&holder);
                self.pins.retain(|(other, _)| *other != holder);
            }
            Op::Mark(number) => {
                if self.gc.mark_token(&chunk(number)).is_none() {
                    self.confirmed.remove(&number);
                }
                self.gc.mark_reclaimable(self.now, chunk(number));
            }
            Op::Confirm { number, is_stale } => self.confirm(number, is_stale),
            Op::Advance(ms) => self.now = self.now + Duration::from_millis(ms),
            Op::Collect { count_max, is_early } => self.collect(count_max, is_early),
            Op::Answer { is_deleted } => self.answer(is_deleted),
            Op::Crash => {
                self.gc = GarbageCollector::restore(WINDOW, self.now, &self.gc.snapshot(self.now));
                self.out.clear();
            }
        }
    }

    fn confirm(&mut self, number: u8, is_stale: bool) {
        let Some(token) = self.gc.mark_token(&chunk(number)) else { return };
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
    }

    fn answer(&mut self, is_deleted: bool) {
        let Some(ticket) = self.out.pop() else { return };
        if is_deleted {
            assert!(self.gc.acknowledge(&ticket));
            self.confirmed.remove(&ticket.hash.0[0]);
        } else {
            assert!(self.gc.deletion_failed(&ticket));
        }
    }

    fn check(&self) {
        for number in 0..6 {
            let count = self.references.iter().filter(|(_, held)| *held == number).count();
            assert_eq!(self.refs.count(&chunk(number)), count as u64);
        }
        let known = self.refs.entries.iter();
        let zero: Vec<_> = known.filter(|(_, entry)| entry.references() == 0).map(|(hash, _)| hash).collect();
        assert_eq!(self.refs.zero_ref_chunks().collect::<Vec<_>>(), zero);
        assert_eq!(self.refs.stats().total_references, self.references.len() as u64);
        assert_eq!(self.gc.deleting_count(), self.out.len());
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
            world.answer(false);
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
