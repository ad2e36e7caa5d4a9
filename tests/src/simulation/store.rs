//! A model of the durable store: the sum of all commits, with the invariants after each of them.
//!
//! It is independent of the core and only gets its changes, so it finds a core whose state differs from its store.
//! Violations are panics with the item's name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use orbit_coordinator::core::{
    AnswerRecord, AssignmentRecord, Change, Counters, DeadItem, Event, ItemEnd, ItemEndRecord, JobRecord,
    PenalizedRecord, QueueKey, Recovered, ScheduleRecord, SnapshotRecord, StarRecord,
};
use orbit_shared::bulletin::Bulletin;
use orbit_shared::entry::Entry;
use orbit_shared::words::{AssignmentId, ItemId, JobId, SnapshotId, StarId};
use uuid::Uuid;

/// See the module.
#[derive(Debug, Default)]
pub struct StoreModel {
    /// Jobs.
    pub jobs: BTreeMap<JobId, JobRecord>,
    /// The entries that scans found.
    pub entries: BTreeMap<(JobId, u64), Entry>,
    /// Paths of the entries: no path is found twice.
    paths: BTreeMap<(JobId, Vec<u8>), u64>,
    queue: BTreeMap<(JobId, u32, QueueKey), u64>,
    queued: BTreeSet<ItemId>,
    /// Items that have ended.
    pub ends: BTreeMap<ItemId, ItemEndRecord>,
    /// Ends of items that were removed with their cancelled job.
    pub ends_removed: BTreeMap<ItemId, ItemEndRecord>,
    penalties: BTreeMap<ItemId, PenalizedRecord>,
    /// Dead letters.
    pub dead_letters: BTreeMap<u64, DeadItem>,
    /// Live assignments.
    pub assignments: BTreeMap<AssignmentId, AssignmentRecord>,
    /// Stars.
    pub stars: BTreeMap<StarId, StarRecord>,
    bulletins: BTreeMap<u64, Bulletin>,
    /// The catalogue of snapshots.
    snapshots: BTreeMap<SnapshotId, SnapshotRecord>,
    schedules: BTreeMap<u64, ScheduleRecord>,
    answers: BTreeMap<u64, AnswerRecord>,
    counters: Counters,
    last_event: Option<u64>,
    grid: Option<Uuid>,
    /// Jobs with changes that were not checked.
    touched: BTreeSet<JobId>,
}

impl StoreModel {
    /// Applies all changes of a turn.
    pub fn commit(&mut self, changes: Vec<Change>) {
        for change in changes {
            let touched = self.apply(change);
            self.touched.extend(touched);
        }
    }

    /// Checks the jobs that were changed since the last time.
    pub fn check_touched(&mut self) {
        for job in std::mem::take(&mut self.touched) {
            self.check_every_item_in_one_place(job);
        }
    }

    /// Applies one change. Returns the job whose items it is about.
    fn apply(&mut self, change: Change) -> Option<JobId> {
        match change {
            Change::PutJob(record) => {
                let id = record.id;
                self.jobs.insert(id, *record);
                return Some(id);
            }
            Change::ForgetJob(job) => self.forget(job),
            Change::ClearQueue(job) => {
                self.queue.retain(|(of, _, _), _| *of != job);
                self.queued.retain(|item| item.job != job);
                return Some(job);
            }
            Change::RemoveItems { job, destinations: _, from, until } => {
                self.entries.retain(|(of, sequence), _| *of != job || !(from..until).contains(sequence));
                self.paths.retain(|(of, _), sequence| *of != job || !(from..until).contains(sequence));
                let is_removed = |item: &ItemId| item.job == job && (from..until).contains(&item.sequence);
                let (removed, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
                    std::mem::take(&mut self.ends).into_iter().partition(|(item, _)| is_removed(item));
                self.ends = kept;
                self.ends_removed.extend(removed);
                return Some(job);
            }
            Change::PutEntry { job, sequence, entry } => {
                let known = self.paths.insert((job, entry.path.clone()), sequence);
                assert!(
                    known.is_none_or(|known| known == sequence),
                    "found once: {:?} of job {job} is {known:?} and {sequence}",
                    entry.path
                );
                self.entries.insert((job, sequence), Arc::unwrap_or_clone(entry));
                return Some(job);
            }
            Change::Enqueue { item, key } => {
                let is_new = self.queue.insert((item.job, item.destination, key), item.sequence).is_none();
                assert!(is_new && self.queued.insert(item), "queued once: {item} is in the queue already");
                return Some(item.job);
            }
            Change::Dequeue { item, key } => {
                let before = self.queue.remove(&(item.job, item.destination, key));
                let is_known = before == Some(item.sequence) && self.queued.remove(&item);
                assert!(
                    is_known,
                    "dequeued from its place: {item} is not in the queue where the core thinks"
                );
                return Some(item.job);
            }
            Change::PutEnd { item, record } => {
                let before = self.ends.insert(item, record);
                assert_eq!(before, None, "ends once: {item} ends a second time");
                return Some(item.job);
            }
            Change::RemoveEnd(item) => {
                let before = self.ends.remove(&item);
                assert!(before.is_some(), "revived from an end: {item} had not ended");
                return Some(item.job);
            }
            Change::PutPenalty { item, record } => {
                self.check_penalty(item, &record);
                self.penalties.insert(item, *record);
                return Some(item.job);
            }
            Change::RemovePenalty(item) => {
                self.penalties.remove(&item);
                return Some(item.job);
            }
            Change::PutDeadLetter(dead) => drop(self.dead_letters.insert(dead.letter.dead_letter_id, *dead)),
            Change::RemoveDeadLetter(id) => drop(self.dead_letters.remove(&id)),
            Change::PutAssignment(record) => drop(self.assignments.insert(record.id, record)),
            Change::RemoveAssignment(id) => {
                return self.assignments.remove(&id).map(|record| record.job);
            }
            Change::PutStar(record) => drop(self.stars.insert(record.star_id.clone(), *record)),
            Change::RemoveStar(id) => drop(self.stars.remove(&id)),
            Change::PutBulletin(bulletin) => drop(self.bulletins.insert(bulletin.id, bulletin)),
            Change::RemoveBulletin(id) => drop(self.bulletins.remove(&id)),
            Change::PutSnapshot(record) => drop(self.snapshots.insert(record.info.id, *record)),
            Change::RemoveSnapshot(id) => {
                let before = self.snapshots.remove(&id);
                assert!(before.is_some(), "what is forgotten was known: snapshot {id}");
            }
            Change::PutSchedule(record) => drop(self.schedules.insert(record.id, *record)),
            Change::RemoveSchedule(id) => drop(self.schedules.remove(&id)),
            Change::PutAnswer(record) => drop(self.answers.insert(record.number, *record)),
            Change::RemoveAnswer(number) => drop(self.answers.remove(&number)),
            Change::PutCounters(counters) => self.put_counters(counters),
            Change::PutGrid(grid) => self.grid = Some(grid),
            Change::PutLastEvent(number) => self.last_event = Some(number),
        }
        None
    }

    fn forget(&mut self, job: JobId) {
        self.jobs.remove(&job);
        self.entries.retain(|(of, _), _| *of != job);
        self.paths.retain(|(of, _), _| *of != job);
        self.ends.retain(|item, _| item.job != job);
        self.queue.retain(|(of, _, _), _| *of != job);
        self.queued.retain(|item| item.job != job);
    }

    fn put_counters(&mut self, counters: Counters) {
        let old = self.counters;
        let is_forward = counters.job >= old.job
            && counters.assignment >= old.assignment
            && counters.scan >= old.scan
            && counters.dead_letter >= old.dead_letter
            && counters.bulletin >= old.bulletin;
        assert!(is_forward, "numbers are given once: {old:?} became {counters:?}");
        self.counters = counters;
    }

    fn check_penalty(&self, item: ItemId, record: &PenalizedRecord) {
        let Some(job) = self.jobs.get(&item.job) else { return };
        let count = record.record.penalty_count;
        let max = job.spec.penalty.max_penalties.max(1);
        assert!(count >= 1 && count < max, "penalties are bounded: {item} has {count} of {max} and waits");
    }

    /// Every item of a job is in exactly one place, and its tallies fit.
    pub fn check_every_item_in_one_place(&self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        if job.removed_before.is_some() {
            return self.check_assigned_once(id);
        }
        let count = self.entries.range((id, 0)..=(id, u64::MAX)).count() as u64;
        assert_eq!(count, job.scan.next_sequence, "entries of job {id} are numbered without a gap");
        for (index, tally) in job.tallies.iter().enumerate() {
            let destination = index as u32;
            let (mut stored, mut skipped, mut dead, mut open) = (0, 0, 0, 0);
            for sequence in 0..count {
                let item = ItemId { job: id, destination, sequence };
                let (is_queued, is_penalized) =
                    (self.queued.contains(&item), self.penalties.contains_key(&item));
                let end = self.ends.get(&item).map(|record| record.end);
                let places = usize::from(is_queued) + usize::from(is_penalized) + usize::from(end.is_some());
                let is_given_up = job.end.is_some() && places == 0;
                assert!(
                    places == 1 || is_given_up,
                    "one place: {item} is queued {is_queued}, penalized {is_penalized}, ended {end:?}"
                );
                match end {
                    Some(ItemEnd::Stored) => stored += 1,
                    Some(ItemEnd::Skipped) => skipped += 1,
                    Some(ItemEnd::Dead) => dead += 1,
                    None => open += 1,
                }
            }
            let counted = (count, stored, skipped, dead, open);
            let told = (tally.total, tally.stored, tally.skipped, tally.dead, tally.open());
            assert_eq!(counted, told, "tallies add up: job {id}, destination {destination}");
        }
        self.check_assigned_once(id);
    }

    /// No item is in two assignments.
    fn check_assigned_once(&self, job: JobId) {
        let mut assigned = BTreeMap::new();
        for record in self.assignments.values().filter(|record| record.job == job) {
            for &sequence in &record.sequences {
                let item = ItemId { job, destination: record.destination, sequence };
                if self.ends.contains_key(&item) {
                    continue;
                }
                let before = assigned.insert(item, record.id);
                assert!(before.is_none(), "assigned once: {item} is in {before:?} and {}", record.id);
            }
        }
    }

    /// Every dead item of a remembered job has a dead letter, and no dead letter is about a stored item.
    pub fn check_dead_letters(&self) {
        let letters: BTreeMap<String, bool> =
            self.dead_letters.values().map(|dead| (dead.letter.item_key.clone(), dead.is_retrying)).collect();
        assert_eq!(letters.len(), self.dead_letters.len(), "one letter an item: {:?}", self.dead_letters);
        for (item, record) in &self.ends {
            let letter = letters.get(&item.to_string());
            match record.end {
                ItemEnd::Dead => {
                    // A later job of the same places that has found everything clears letters of what had vanished.
                    let job = self.jobs.get(&item.job);
                    let may_be_cleared = job.is_some_and(|job| job.end.is_some() && job.tally().vanished > 0);
                    let is_there = letter == Some(&false) || letter.is_none() && may_be_cleared;
                    assert!(is_there, "a letter for each dead item: {item}, {letter:?}");
                }
                ItemEnd::Stored | ItemEnd::Skipped => {
                    assert_eq!(letter, None, "no letter for a stored item: {item}");
                }
            }
        }
    }

    /// Nothing is left over of an ended job, and each request made one job.
    pub fn check_nothing_left_over(&self) {
        for (id, job) in &self.jobs {
            if job.end.is_none() {
                continue;
            }
            assert!(self.queued.iter().all(|item| item.job != *id), "job {id} has ended and queues items");
            assert!(
                self.penalties.keys().all(|item| item.job != *id),
                "job {id} has ended and penalizes items"
            );
            assert!(
                self.assignments.values().all(|of| of.job != *id),
                "job {id} has ended and assigns items"
            );
        }
        let requests = self.jobs.values().filter(|job| !job.request_id.is_empty()).map(|job| &job.request_id);
        let mut seen = BTreeSet::new();
        for request in requests {
            assert!(seen.insert(request), "one job a request: {request}");
        }
    }

    /// Items that are in a live assignment of a Star and have not ended.
    pub fn items_held_by(&self, star: &StarId) -> u64 {
        let of_star = self.assignments.values().filter(|record| record.star == *star);
        let open = of_star.flat_map(|record| {
            record.sequences.iter().map(|&sequence| ItemId {
                job: record.job,
                destination: record.destination,
                sequence,
            })
        });
        open.filter(|item| !self.ends.contains_key(item)).count() as u64
    }

    /// How often an item has failed, according to the store.
    pub fn penalty_count(&self, item: ItemId) -> u32 {
        self.penalties.get(&item).map_or(0, |record| record.record.penalty_count)
    }

    /// The number of the last committed event.
    pub fn last_event(&self) -> Option<u64> {
        self.last_event
    }

    /// Reads further items of a queue, up to a limit. Fewer than requested do not mean its end.
    pub fn page(&self, job: JobId, destination: u32, after: &QueueKey, limit: usize) -> Event {
        let start = (job, destination, after.clone());
        let rows = self.queue.range(start..(job, destination + 1, QueueKey::new()));
        let mut rows = rows.filter(|((_, _, key), _)| key != after).peekable();
        let items = rows.by_ref().take(limit).map(|((_, _, key), &sequence)| {
            let entry = self.entries.get(&(job, sequence)).expect("what is queued was found").clone();
            (key.clone(), sequence, entry)
        });
        let items = items.collect();
        Event::WindowLoaded { job, destination, items, is_end: rows.peek().is_none() }
    }

    /// The state that a new core continues with.
    pub fn recovered(&self) -> Recovered {
        let open = |record: &AssignmentRecord| {
            let mut record = record.clone();
            let (job, destination) = (record.job, record.destination);
            record
                .sequences
                .retain(|&sequence| !self.ends.contains_key(&ItemId { job, destination, sequence }));
            let entries =
                record.sequences.iter().filter_map(|sequence| self.entries.get(&(job, *sequence)).cloned());
            let entries = entries.collect();
            (record, entries)
        };
        Recovered {
            jobs: self.jobs.values().cloned().collect(),
            stars: self.stars.values().cloned().collect(),
            assignments: self.assignments.values().map(open).collect(),
            penalties: self.penalties.iter().map(|(item, record)| (*item, record.clone())).collect(),
            dead_letters: self.dead_letters.values().cloned().collect(),
            bulletins: self.bulletins.values().cloned().collect(),
            snapshots: self.snapshots.values().cloned().collect(),
            schedules: self.schedules.values().cloned().collect(),
            answers: self.answers.values().cloned().collect(),
            counters: self.counters,
            last_event: self.last_event,
            grid: self.grid,
        }
    }
}
