//! The queue itself: refusing, reading, acknowledging and redriving.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::words::JobId;

use super::{DeadLetterEntry, DeadLetterFilter};

/// The state and the counters of the queue.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterStats {
    /// Number of dead entries.
    pub current_count: usize,
    /// Number of entries that are being retried and keep their place.
    pub retrying_count: usize,
    /// Maximum of both together.
    pub max_capacity: usize,
    /// Number of deaths accepted.
    pub total_received: u64,
    /// Number of those whose item was already in the queue.
    pub total_repeated: u64,
    /// Number of deaths refused because the queue was full.
    pub total_refused: u64,
}

/// The queue has no room. The entry is returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no room for the dead letter of item {} of job {}: {capacity} are kept", entry.item_key, entry.job_id)]
pub struct QueueFull {
    /// The entry, unchanged.
    pub entry: Box<DeadLetterEntry>,
    /// The limit that was reached, of the queue or of the job.
    pub capacity: usize,
}

/// The place of an item's entry.
#[derive(Debug, Clone, Copy)]
enum Place {
    Dead(u64),
    Retrying(u64),
}

/// A bounded collection of items that were given up, with at most one entry for each item of a job.
///
/// Entries are in order of their deaths. Finding one by its item or id costs O(log n).
#[derive(Debug)]
pub struct DeadLetterQueue {
    capacity: usize,
    job_capacity: usize,
    next_id: u64,
    dead: BTreeMap<u64, DeadLetterEntry>,
    retrying: BTreeMap<u64, DeadLetterEntry>,
    /// Every entry, dead or retrying, by job and item; no empty maps.
    places: BTreeMap<JobId, BTreeMap<String, Place>>,
    total_received: u64,
    total_repeated: u64,
    total_refused: u64,
}

impl DeadLetterQueue {
    /// An empty queue for at most `capacity` entries, whose first id is 1. With capacity 0 it refuses everything.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            job_capacity: capacity,
            next_id: 1,
            dead: BTreeMap::new(),
            retrying: BTreeMap::new(),
            places: BTreeMap::new(),
            total_received: 0,
            total_repeated: 0,
            total_refused: 0,
        }
    }

    /// Also limits the entries of each job, so that one broken job cannot fill the queue for the others.
    pub fn with_job_capacity(mut self, job_capacity: usize) -> Self {
        self.job_capacity = job_capacity;
        self
    }

    /// Assigns ids from `next_id` on: the value of [`Self::next_id`] before a restart.
    pub fn with_next_id(mut self, next_id: u64) -> Self {
        self.next_id = self.next_id.max(next_id);
        self
    }

    /// Adds a death and returns its id.
    ///
    /// If the item is already in the queue, dead or retrying, its entry is replaced under the new id and keeps the
    /// earlier death in its history. That needs no further room and is never refused.
    pub fn push(&mut self, mut entry: DeadLetterEntry) -> Result<u64, QueueFull> {
        let before = self.take_out(entry.job_id, &entry.item_key);
        if before.is_none() && self.is_full_for(entry.job_id) {
            self.total_refused = self.total_refused.saturating_add(1);
            let capacity = if self.is_full() { self.capacity } else { self.job_capacity };
            return Err(QueueFull { entry: Box::new(entry), capacity });
        }
        entry.bound();
        if let Some(before) = before {
            self.total_repeated = self.total_repeated.saturating_add(1);
            entry.inherit(before);
        }
        let id = self.next_id;
        self.next_id = self.next_id.saturating_add(1);
        self.total_received = self.total_received.saturating_add(1);
        entry.dead_letter_id = id;
        self.put_in(entry, Place::Dead(id));
        Ok(id)
    }

    /// Restores an entry from before a restart under its own id, as dead or as retrying.
    ///
    /// The limits do not apply, since an accepted entry stays. If the item is already in the queue, the entry with the
    /// greater id stays. If the id is already in the queue, its entry stays.
    pub fn restore(&mut self, entry: DeadLetterEntry, is_retrying: bool) {
        let id = entry.dead_letter_id;
        self.next_id = self.next_id.max(id.saturating_add(1));
        let is_newer_held =
            self.entry(entry.job_id, &entry.item_key).is_some_and(|held| held.dead_letter_id > id);
        if is_newer_held || self.dead.contains_key(&id) || self.retrying.contains_key(&id) {
            return;
        }
        self.take_out(entry.job_id, &entry.item_key);
        self.put_in(entry, if is_retrying { Place::Retrying(id) } else { Place::Dead(id) });
    }

    /// The oldest `count` dead entries, oldest first. They stay until they are acknowledged.
    pub fn peek(&self, count: usize) -> Vec<&DeadLetterEntry> {
        self.dead.values().take(count).collect()
    }

    /// Removes dead entries that are safe elsewhere, and returns them. Ignores an id that is no longer there: it was
    /// acknowledged before, is being retried, or its item has died again since.
    pub fn acknowledge(&mut self, ids: &[u64]) -> Vec<DeadLetterEntry> {
        ids.iter().filter_map(|&id| self.remove_dead(id)).collect()
    }

    /// Reads all dead entries, to be removed by [`Drain::acknowledge`]. Dropping the result removes nothing.
    pub fn drain(&mut self) -> Drain<'_> {
        let ids = self.dead.keys().copied().collect();
        Drain { queue: self, ids }
    }

    /// Removes the dead entries that match `filter` and returns them, oldest first: they are discarded, or the caller
    /// retries them and keeps their history. To retry them from the queue, use [`Self::redrive`].
    pub fn take(&mut self, filter: &DeadLetterFilter) -> Vec<DeadLetterEntry> {
        let ids = self.matching(filter, usize::MAX);
        self.acknowledge(&ids)
    }

    /// Retries at most `limit` dead entries that match `filter`, oldest first.
    ///
    /// Returns copies. The queue keeps its entries, no longer dead, until [`Self::settle`] or another death. An entry
    /// that is already being retried is not returned again.
    pub fn redrive(&mut self, filter: &DeadLetterFilter, limit: usize) -> Vec<DeadLetterEntry> {
        let mut sent = Vec::new();
        for id in self.matching(filter, limit) {
            if let Some(entry) = self.remove_dead(id) {
                sent.push(entry.clone());
                self.put_in(entry, Place::Retrying(id));
            }
        }
        sent
    }

    /// Whether there is an entry of a job, dead or being retried.
    pub fn has_any_of(&self, job: JobId) -> bool {
        self.places.get(&job).is_some_and(|places| !places.is_empty())
    }

    /// Removes an item that was being retried and succeeded. For any other item returns `None` and changes nothing.
    pub fn settle(&mut self, job: JobId, item_key: &str) -> Option<DeadLetterEntry> {
        match self.place(job, item_key)? {
            Place::Retrying(_) => self.take_out(job, item_key),
            Place::Dead(_) => None,
        }
    }

    /// Removes all entries of a deleted job, dead or retrying, and returns their number.
    pub fn remove_job(&mut self, job: JobId) -> usize {
        let places = self.places.remove(&job).unwrap_or_default();
        for place in places.values() {
            match place {
                Place::Dead(id) => self.dead.remove(id),
                Place::Retrying(id) => self.retrying.remove(id),
            };
        }
        places.len()
    }

    /// Every dead entry, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &DeadLetterEntry> {
        self.dead.values()
    }

    /// The entries that are being retried, oldest death first.
    pub fn retrying(&self) -> impl DoubleEndedIterator<Item = &DeadLetterEntry> {
        self.retrying.values()
    }

    /// The dead entries of `job`, oldest first. The cost depends on the entries of that job only.
    pub fn entries_for_job(&self, job: JobId) -> Vec<&DeadLetterEntry> {
        self.query(&DeadLetterFilter::for_job(job), usize::MAX)
    }

    /// At most `limit` dead entries that meet `filter`, oldest first.
    pub fn query(&self, filter: &DeadLetterFilter, limit: usize) -> Vec<&DeadLetterEntry> {
        let ids = self.matching(filter, limit);
        ids.iter().filter_map(|id| self.dead.get(id)).collect()
    }

    /// The entry of an item, dead or retrying.
    pub fn entry(&self, job: JobId, item_key: &str) -> Option<&DeadLetterEntry> {
        match self.place(job, item_key)? {
            Place::Dead(id) => self.dead.get(&id),
            Place::Retrying(id) => self.retrying.get(&id),
        }
    }

    /// Whether an item is being retried.
    pub fn is_retrying(&self, job: JobId, item_key: &str) -> bool {
        matches!(self.place(job, item_key), Some(Place::Retrying(_)))
    }

    /// Whether the queue as a whole has no room for another item.
    pub fn is_full(&self) -> bool {
        self.dead.len() + self.retrying.len() >= self.capacity
    }

    /// Whether there is no room for another item of `job`.
    pub fn is_full_for(&self, job: JobId) -> bool {
        self.is_full() || self.places.get(&job).map_or(0, BTreeMap::len) >= self.job_capacity
    }

    /// Dead entries.
    pub fn len(&self) -> usize {
        self.dead.len()
    }

    /// Whether nothing is dead.
    pub fn is_empty(&self) -> bool {
        self.dead.is_empty()
    }

    /// The id of the next death. The owner stores it for [`Self::with_next_id`].
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// The state and the counters of the queue.
    pub fn stats(&self) -> DeadLetterStats {
        DeadLetterStats {
            current_count: self.dead.len(),
            retrying_count: self.retrying.len(),
            max_capacity: self.capacity,
            total_received: self.total_received,
            total_repeated: self.total_repeated,
            total_refused: self.total_refused,
        }
    }

    /// Ids of the dead entries that match `filter`, oldest first, found by the most selective index for the filter.
    fn matching(&self, filter: &DeadLetterFilter, limit: usize) -> Vec<u64> {
        let after = filter.after_id.map_or(Bound::Unbounded, Bound::Excluded);
        let Some(job) = filter.job_id else {
            let newer = self.dead.range((after, Bound::Unbounded));
            return newer.filter(|(_, entry)| filter.matches(entry)).map(|(&id, _)| id).take(limit).collect();
        };
        let Some(places) = self.places.get(&job) else { return Vec::new() };
        let is_match = |id: &u64| self.dead.get(id).is_some_and(|entry| filter.matches(entry));
        let dead = |place: &Place| match place {
            Place::Dead(id) => Some(*id),
            Place::Retrying(_) => None,
        };
        let mut ids: Vec<u64> = match &filter.item_key {
            Some(key) => places.get(key).and_then(dead).filter(is_match).into_iter().collect(),
            None => places.values().filter_map(dead).filter(is_match).collect(),
        };
        ids.sort_unstable();
        ids.truncate(limit);
        ids
    }

    fn place(&self, job: JobId, item_key: &str) -> Option<Place> {
        self.places.get(&job)?.get(item_key).copied()
    }

    fn put_in(&mut self, entry: DeadLetterEntry, place: Place) {
        self.places.entry(entry.job_id).or_default().insert(entry.item_key.clone(), place);
        let displaced = match place {
            Place::Dead(id) => self.dead.insert(id, entry),
            Place::Retrying(id) => self.retrying.insert(id, entry),
        };
        debug_assert!(displaced.is_none(), "two entries under one id: {displaced:?}");
    }

    fn take_out(&mut self, job: JobId, item_key: &str) -> Option<DeadLetterEntry> {
        let places = self.places.get_mut(&job)?;
        let place = places.remove(item_key)?;
        if places.is_empty() {
            self.places.remove(&job);
        }
        match place {
            Place::Dead(id) => self.dead.remove(&id),
            Place::Retrying(id) => self.retrying.remove(&id),
        }
    }

    fn remove_dead(&mut self, id: u64) -> Option<DeadLetterEntry> {
        let entry = self.dead.get(&id)?;
        let (job, item_key) = (entry.job_id, entry.item_key.clone());
        self.take_out(job, &item_key)
    }
}

/// The dead entries at one moment, still in the queue. Made by [`DeadLetterQueue::drain`].
#[derive(Debug)]
#[must_use = "a drain that is dropped removes nothing"]
pub struct Drain<'a> {
    queue: &'a mut DeadLetterQueue,
    ids: Vec<u64>,
}

impl Drain<'_> {
    /// The entries that would be removed, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &DeadLetterEntry> {
        self.ids.iter().filter_map(|id| self.queue.dead.get(id))
    }

    /// Removes the entries, which are now safe elsewhere, and returns them.
    pub fn acknowledge(self) -> Vec<DeadLetterEntry> {
        self.queue.acknowledge(&self.ids)
    }
}
