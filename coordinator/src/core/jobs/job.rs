//! A job: what was asked, how far it is, and what of it waits, is penalized or has ended.
//!
//! [`JobRecord`] is the durable part and is all that is kept of a job that has ended. [`Job::live`] exists while there
//! is something left to do; it can be rebuilt from the record and the store at any time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orbit_shared::penalization::PenaltyBox;
use orbit_shared::prioritizer::ComposablePrioritizer;
use orbit_shared::time::Monotonic;
use orbit_shared::words::{AssignmentId, ItemId};

use super::lane::{Lane, Queued, queue_key};
use super::listed::Attention;
use super::live::{Absences, RunningScan, Seal, Sweep};
use super::suspects::Suspect;
use super::suspicion::Suspicion;
use crate::core::notices::Way;
use crate::core::rate::{Budget, Rate};
use crate::core::records::JobRecord;
/// What is in memory while a job has something to do.
#[derive(Debug)]
pub(super) struct Live {
    /// One lane for each destination.
    pub lanes: Vec<Lane>,
    /// Who waits out a penalty.
    pub penalties: PenaltyBox<ItemId>,
    /// The items behind the penalties.
    pub penalized: BTreeMap<ItemId, Queued>,
    /// Items that wait until their destination's disk has room for them.
    pub parked: BTreeMap<ItemId, Queued>,
    /// Items of a mirror in whose way something is that the sweep of their destination will clear.
    pub blocked: BTreeMap<ItemId, Queued>,
    /// Items that agents had in their hands when they died, by destination and sequence number.
    pub suspects: BTreeMap<(u32, u64), Suspect>,
    /// The last assignment of each destination: of lanes with equal shares the one that waited longest is next.
    pub last_assignments: Vec<AssignmentId>,
    /// The scan, while it runs.
    pub scan: Option<RunningScan>,
    /// When a listing that broke off may start again, and the wait that led there.
    pub scan_pause: Option<(Monotonic, Duration)>,
    /// How far the seals are, by destination.
    pub seals: BTreeMap<u32, Seal>,
    /// Places that it waits for and that are away, as far as that was reported.
    pub(super) absences: Absences,
    /// How far the sweeps are, by destination.
    pub sweeps: BTreeMap<u32, Sweep>,
    /// Entries that sweeps have deleted which were made void while they ran, as far as they are counted: by destination and
    /// operation.
    pub voided_sweeps: BTreeMap<(u32, u64), u64>,
    /// Which destinations are asked what they have already.
    pub attention: Vec<Attention>,
    /// Whether its bandwidth limit is the same all day.
    pub has_one_rate: bool,
    /// What of the bandwidth limit is left.
    pub budget: Budget,
    /// What moved lately.
    pub rate: Rate,
    /// The order of dispatch.
    pub order: ComposablePrioritizer,
    /// The way to each destination.
    pub ways: Vec<Arc<Way>>,
}

/// A job.
#[derive(Debug)]
pub(super) struct Job {
    /// What survives a restart.
    pub record: JobRecord,
    /// What is rebuilt after one; `None` once the job has ended.
    pub live: Option<Live>,
    /// Whether the record differs from what the store has.
    pub is_dirty: bool,
}

impl Job {
    /// A job that has just been created or recovered.
    pub(super) fn new(record: JobRecord, now: Monotonic, seed: u64) -> Self {
        let live = record.end.is_none().then(|| Live::new(&record, now, seed));
        Self { record, live, is_dirty: false }
    }

    /// Puts an ended job back to work.
    pub(super) fn revive(&mut self, now: Monotonic, seed: u64) -> &mut Live {
        self.record.end = None;
        self.is_dirty = true;
        if self.record.spec.mirror.is_some() {
            self.void_sweeps();
        }
        let record = &self.record;
        self.live.get_or_insert_with(|| Live::new(record, now, seed))
    }

    /// Every destination is to be swept again, also one whose sweep is running: it does not know what comes now. What was
    /// deleted so far stays counted.
    fn void_sweeps(&mut self) {
        let operation = self.record.sweep_operation();
        let running = self.live.as_mut().map(|live| std::mem::take(&mut live.sweeps)).unwrap_or_default();
        for (destination, sweep) in running {
            if self.record.swept(destination as usize).is_none()
                && let Some(live) = &mut self.live
            {
                let deleted = sweep.deleted_so_far();
                self.record.deleted_before = self.record.deleted_before.saturating_add(deleted);
                live.voided_sweeps.insert((destination, operation), deleted);
            }
        }
        self.record.deleted_before = self.record.deleted();
        self.record.sweeps.clear();
        self.record.sweeps_voided = self.record.sweeps_voided.saturating_add(1);
    }
}

impl Live {
    /// An item waits in its lane, at the place that its order and its failures so far give it.
    pub(super) fn wait(&mut self, item: ItemId, queued: Queued) {
        let suspicion = self.suspicion_of(item.destination, item.sequence);
        let queued = Queued { suspicion, ..queued };
        let retry_count = self.penalties.penalty_count(&item);
        let key = queue_key(&self.order, item.sequence, &queued.entry, retry_count);
        self.lanes[item.destination as usize].insert(key, queued);
    }

    /// How closely an item is watched.
    pub(super) fn suspicion_of(&self, destination: u32, sequence: u64) -> Suspicion {
        self.suspects.get(&(destination, sequence)).map_or(Suspicion::None, Suspect::suspicion)
    }

    fn new(record: &JobRecord, now: Monotonic, seed: u64) -> Self {
        Self {
            lanes: record.spec.destinations.iter().map(|_| Lane::new()).collect(),
            penalties: PenaltyBox::with_seed(record.spec.penalty.clone(), seed ^ record.id.0),
            penalized: BTreeMap::new(),
            parked: BTreeMap::new(),
            blocked: BTreeMap::new(),
            suspects: BTreeMap::new(),
            last_assignments: vec![AssignmentId(0); record.spec.destinations.len()],
            scan: None,
            scan_pause: None,
            seals: BTreeMap::new(),
            absences: BTreeMap::new(),
            sweeps: BTreeMap::new(),
            voided_sweeps: BTreeMap::new(),
            attention: vec![Attention::default(); record.spec.destinations.len()],
            has_one_rate: record.spec.bandwidth_windows.is_empty(),
            budget: Budget::new(record.spec.max_bytes_per_second, now),
            rate: Rate::default(),
            order: ComposablePrioritizer::from_kinds(&record.spec.prioritizers),
            ways: record.spec.destinations.iter().map(|to| Way::new(&record.spec.source, to)).collect(),
        }
    }
}

/// How long the rest of a job takes at a rate, if that is known.
pub(super) fn estimate(bytes_left: u64, bytes_per_second: u64) -> Option<Duration> {
    (bytes_per_second > 0).then(|| Duration::from_secs(bytes_left.div_ceil(bytes_per_second)))
}
