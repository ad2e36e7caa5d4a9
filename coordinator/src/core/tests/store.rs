//! A store in memory, as the core sees one.

use std::collections::BTreeMap;
use std::sync::Arc;

use orbit_shared::entry::Entry;
use orbit_shared::words::{AssignmentId, ItemId, JobId, SnapshotId, StarId};
use uuid::Uuid;

use crate::core::{
    AnswerRecord, AssignmentRecord, Change, Counters, DeadItem, Event, ItemEndRecord, JobRecord,
    PenalizedRecord, QueueKey, Recovered, ScheduleRecord, SnapshotRecord, StarRecord,
};
/// What a store would hold.
#[derive(Debug, Default, Clone)]
pub(super) struct FakeStore {
    pub(super) jobs: BTreeMap<JobId, JobRecord>,
    pub(super) entries: BTreeMap<(JobId, u64), Entry>,
    pub(super) queue: BTreeMap<(JobId, u32, QueueKey), u64>,
    pub(super) ends: BTreeMap<ItemId, ItemEndRecord>,
    pub(super) penalties: BTreeMap<ItemId, PenalizedRecord>,
    pub(super) dead_letters: BTreeMap<u64, DeadItem>,
    pub(super) assignments: BTreeMap<AssignmentId, AssignmentRecord>,
    pub(super) stars: BTreeMap<StarId, StarRecord>,
    pub(super) bulletins: BTreeMap<u64, orbit_shared::bulletin::Bulletin>,
    pub(super) snapshots: BTreeMap<SnapshotId, SnapshotRecord>,
    pub(super) schedules: BTreeMap<u64, ScheduleRecord>,
    pub(super) answers: BTreeMap<u64, AnswerRecord>,
    pub(super) counters: Counters,
    pub(super) grid: Option<Uuid>,
}

impl FakeStore {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::PutJob(record) => drop(self.jobs.insert(record.id, *record)),
            Change::ForgetJob(job) => {
                self.jobs.remove(&job);
                self.entries.retain(|(of, _), _| *of != job);
                self.ends.retain(|item, _| item.job != job);
                self.queue.retain(|(of, _, _), _| *of != job);
            }
            Change::ClearQueue(job) => self.queue.retain(|(of, _, _), _| *of != job),
            Change::RemoveItems { job, destinations: _, from, until } => {
                self.entries.retain(|(of, sequence), _| *of != job || !(from..until).contains(sequence));
                self.ends.retain(|item, _| item.job != job || !(from..until).contains(&item.sequence));
            }
            Change::PutEntry { job, sequence, entry } => {
                drop(self.entries.insert((job, sequence), Arc::unwrap_or_clone(entry)));
            }
            Change::Enqueue { item, key } => {
                let before = self.queue.insert((item.job, item.destination, key), item.sequence);
                assert_eq!(before, None, "{item} is queued twice");
            }
            Change::Dequeue { item, key } => {
                let before = self.queue.remove(&(item.job, item.destination, key));
                assert_eq!(before, Some(item.sequence), "{item} is taken from a queue that does not have it");
            }
            Change::PutEnd { item, record } => {
                let before = self.ends.insert(item, record);
                assert_eq!(before, None, "{item} ends twice");
            }
            Change::RemoveEnd(item) => drop(self.ends.remove(&item)),
            Change::PutPenalty { item, record } => drop(self.penalties.insert(item, *record)),
            Change::RemovePenalty(item) => drop(self.penalties.remove(&item)),
            Change::PutDeadLetter(dead) => drop(self.dead_letters.insert(dead.letter.dead_letter_id, *dead)),
            Change::RemoveDeadLetter(id) => drop(self.dead_letters.remove(&id)),
            Change::PutAssignment(record) => drop(self.assignments.insert(record.id, record)),
            Change::RemoveAssignment(id) => drop(self.assignments.remove(&id)),
            Change::PutStar(record) => drop(self.stars.insert(record.star_id.clone(), *record)),
            Change::RemoveStar(id) => drop(self.stars.remove(&id)),
            Change::PutBulletin(bulletin) => drop(self.bulletins.insert(bulletin.id, bulletin)),
            Change::RemoveBulletin(id) => drop(self.bulletins.remove(&id)),
            Change::PutSnapshot(record) => drop(self.snapshots.insert(record.info.id, *record)),
            Change::RemoveSnapshot(id) => drop(self.snapshots.remove(&id)),
            Change::PutSchedule(record) => drop(self.schedules.insert(record.id, *record)),
            Change::RemoveSchedule(id) => drop(self.schedules.remove(&id)),
            Change::PutAnswer(record) => drop(self.answers.insert(record.number, *record)),
            Change::RemoveAnswer(number) => drop(self.answers.remove(&number)),
            Change::PutCounters(counters) => self.counters = counters,
            Change::PutGrid(grid) => self.grid = Some(grid),
            Change::PutLastEvent(_) => unreachable!("the driver adds it, not the core"),
        }
    }

    pub(super) fn page(&self, job: JobId, destination: u32, after: &QueueKey, limit: usize) -> Event {
        let start = (job, destination, after.clone());
        let rows = self.queue.range(start..(job, destination + 1, QueueKey::new()));
        let mut rows = rows.filter(|((_, _, key), _)| key != after).peekable();
        let items = rows
            .by_ref()
            .take(limit)
            .map(|((_, _, key), &sequence)| (key.clone(), sequence, self.entries[&(job, sequence)].clone()));
        let items = items.collect();
        Event::WindowLoaded { job, destination, items, is_end: rows.peek().is_none() }
    }

    pub(super) fn recovered(&self) -> Recovered {
        let open = |record: &AssignmentRecord| {
            let is_open = |sequence: &u64| {
                let item = ItemId { job: record.job, destination: record.destination, sequence: *sequence };
                !self.ends.contains_key(&item)
            };
            let mut record = record.clone();
            record.sequences.retain(is_open);
            let entries =
                record.sequences.iter().map(|sequence| self.entries[&(record.job, *sequence)].clone());
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
            grid: self.grid,
            last_event: None,
        }
    }
}
