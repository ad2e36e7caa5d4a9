//! The dead letters: what was given up, with what is needed to queue it again; durable with the counts of the jobs.
//!
//! A dead letter stays until its item is moved after all, or until it is discarded. While its item is tried again it keeps its
//! place and its history. Dead letters of chunks that no vault has any more (`losses.rs`) belong to no item.

mod losses;

use std::collections::{BTreeMap, BTreeSet};

use orbit_shared::dead_letter::{DeadLetterEntry, DeadLetterFilter, DeadLetterQueue};
use orbit_shared::entry::Entry;
use orbit_shared::words::{ItemId, JobId};

use super::change::{Change, DeadItem};
use super::limits::DEAD_LETTERS_MAX;
use super::turn::Turn;
pub(super) use losses::is_damaged;

/// See the module.
#[derive(Debug)]
pub(super) struct Letters {
    queue: DeadLetterQueue,
    /// What the scan found, by the number of the dead letter.
    entries: BTreeMap<u64, Entry>,
}

impl Letters {
    /// The dead letters as they are in the store.
    pub(super) fn recover(dead: Vec<DeadItem>, next_id: u64) -> Self {
        let mut queue = DeadLetterQueue::new(DEAD_LETTERS_MAX).with_next_id(next_id);
        let mut entries = BTreeMap::new();
        for DeadItem { letter, entry, is_retrying } in dead {
            entries.insert(letter.dead_letter_id, entry);
            queue.restore(letter, is_retrying);
        }
        let letters = Self { queue, entries };
        letters.check_all();
        letters
    }

    /// The dead letters themselves.
    pub(super) fn queue(&self) -> &DeadLetterQueue {
        &self.queue
    }

    /// Keeps a dead letter. One of the same item from before makes way.
    ///
    /// # Errors
    /// There is no room; gives how many there may be.
    pub(super) fn put(
        &mut self,
        turn: &mut Turn,
        letter: DeadLetterEntry,
        entry: Entry,
    ) -> Result<(), usize> {
        let (job, key) = (letter.job_id, letter.item_key.clone());
        let before = self.queue.entry(job, &key).map(|old| old.dead_letter_id);
        let id = self.queue.push(letter).map_err(|full| full.capacity)?;
        if let Some(old) = before {
            self.remove(turn, old);
        }
        let letter = self.queue.entry(job, &key).expect("it was put in just now").clone();
        assert_eq!(letter.dead_letter_id, id, "another letter of {key} than the one that was put in");
        self.entries.insert(id, entry.clone());
        turn.changes.push(Change::PutDeadLetter(Box::new(DeadItem { letter, entry, is_retrying: false })));
        self.check();
        Ok(())
    }

    /// An item has ended well: the letter that it was retried from goes.
    pub(super) fn settle(&mut self, turn: &mut Turn, item: ItemId) {
        if self.queue.has_any_of(item.job)
            && let Some(letter) = self.queue.settle(item.job, &item.to_string())
        {
            self.remove(turn, letter.dead_letter_id);
        }
    }

    /// Forgets what matches; the items stay counted as dead. Gives how many there were.
    pub(super) fn discard(&mut self, turn: &mut Turn, filter: &DeadLetterFilter) -> u64 {
        let chosen = self.queue.query(filter, usize::MAX);
        let chosen: Vec<u64> = chosen.into_iter().map(|letter| letter.dead_letter_id).collect();
        let gone = self.queue.acknowledge(&chosen);
        assert_eq!(gone.len(), chosen.len(), "letters that were found are not there: {chosen:?}");
        for letter in &gone {
            self.remove(turn, letter.dead_letter_id);
        }
        gone.len() as u64
    }

    /// A job is forgotten, and with it all its letters, those that are retried too.
    pub(super) fn forget_job(&mut self, turn: &mut Turn, job: JobId) {
        self.discard(turn, &DeadLetterFilter::for_job(job));
        let retried = self.queue.retrying().filter(|letter| letter.job_id == job);
        for id in retried.map(|letter| letter.dead_letter_id).collect::<Vec<_>>() {
            self.remove(turn, id);
        }
        self.queue.remove_job(job);
    }

    /// The jobs that letters which match belong to.
    pub(super) fn jobs(&self, filter: &DeadLetterFilter) -> BTreeSet<JobId> {
        self.queue.query(filter, usize::MAX).into_iter().map(|letter| letter.job_id).collect()
    }

    /// Takes what matches for another attempt: the letters, with what the scan found.
    pub(super) fn redrive(&mut self, filter: &DeadLetterFilter) -> Vec<(DeadLetterEntry, Entry)> {
        let letters = self.queue.redrive(filter, usize::MAX).into_iter();
        let with_entry = letters.filter_map(|letter| {
            let entry = self.entries.get(&letter.dead_letter_id)?.clone();
            Some((letter, entry))
        });
        with_entry.collect()
    }

    /// Makes durable that an item is tried again.
    pub(super) fn keep_retried(&self, turn: &mut Turn, letter: DeadLetterEntry, entry: Entry) {
        let is_retrying = self.queue.is_retrying(letter.job_id, &letter.item_key);
        assert!(is_retrying, "{} is tried again, and its letter is dead", letter.item_key);
        turn.changes.push(Change::PutDeadLetter(Box::new(DeadItem { letter, entry, is_retrying })));
    }

    /// A letter that was taken for another attempt stays dead after all.
    pub(super) fn put_back(&mut self, letter: DeadLetterEntry) {
        self.queue.settle(letter.job_id, &letter.item_key);
        self.queue.restore(letter, false);
        self.check();
    }

    /// Removes what belongs to a letter that is not in the queue any more.
    fn remove(&mut self, turn: &mut Turn, id: u64) {
        self.entries.remove(&id);
        turn.changes.push(Change::RemoveDeadLetter(id));
    }

    /// Panics if an invariant does not hold.
    pub(super) fn check(&self) {
        let stats = self.queue.stats();
        assert_eq!(
            self.entries.len(),
            stats.current_count + stats.retrying_count,
            "dead letters against what their items are: {stats:?}"
        );
    }

    /// The same for what would take a pass over everything.
    pub(super) fn check_all(&self) {
        for letter in self.queue.entries().chain(self.queue.retrying()) {
            let id = letter.dead_letter_id;
            assert!(self.entries.contains_key(&id), "letter {id} of {} has no entry", letter.item_key);
        }
    }
}
