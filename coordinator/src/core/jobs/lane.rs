//! A lane: the items of one job that wait to go to one of its destinations.
//!
//! All waiting items are in the store, as an index ordered by priority key. In memory is a window on the front of that
//! index, so that memory follows what is about to move and not what is queued. The rule that keeps the two together:
//! every waiting item whose key is at or below the horizon is in the window, and what lies behind it is only in the
//! store. Items that come back from a penalty are a second, small map, because their durable place is another. Items
//! under suspicion (see `poison`) are a third: they wait behind all others but the directories.

use std::collections::BTreeMap;
use std::sync::Arc;

use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::prioritizer::{
    AgingConfig, AgingPolicy, ComposablePrioritizer, Pick, Priority, TransferItem,
};
use orbit_shared::time::Monotonic;

use super::suspicion::Suspicion;
use crate::core::change::QueueKey;
use crate::core::limits::{LANE_WINDOW_LOW, LANE_WINDOW_MAX};

/// Items behind the front of a lane among which a small one is looked for.
const LOOK_AHEAD_MAX: usize = 1024;

/// Everything but directories goes before the directories, which get their modes and times last.
const FILES_FIRST: u8 = 0;
const DIRECTORIES_LAST: u8 = 1;

/// One item that waits or is in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queued {
    /// Its sequence number in the job.
    pub sequence: u64,
    /// What the scan found.
    pub entry: Arc<Entry>,
    /// Whether it has failed before, and so stands among the penalties in the store instead of in the queue.
    pub is_penalty: bool,
    /// Since when it is in memory; what aging looks at.
    pub queued_at: Monotonic,
    /// How closely it is watched because agents died while they worked on it.
    pub suspicion: Suspicion,
}

impl Queued {
    /// An item that is in the store's queue, free of suspicion.
    pub(super) fn new(sequence: u64, entry: Arc<Entry>, now: Monotonic) -> Self {
        Self { sequence, entry, is_penalty: false, queued_at: now, suspicion: Suspicion::None }
    }

    /// Whether it is a directory.
    pub(super) fn is_directory(&self) -> bool {
        self.entry.kind == EntryKind::Directory
    }
}

/// The key of an item: its phase, then for directories the deepest first, for all else the job's chain of criteria.
pub(super) fn queue_key(
    order: &ComposablePrioritizer,
    sequence: u64,
    entry: &Entry,
    retry_count: u32,
) -> QueueKey {
    if entry.kind == EntryKind::Directory {
        let depth = match entry.path.len() {
            0 => 0,
            _ => 1 + entry.path.iter().filter(|&&byte| byte == b'/').count(),
        };
        let depth = u16::try_from(depth).unwrap_or(u16::MAX);
        let mut key = Vec::with_capacity(1 + 2 + 8);
        key.push(DIRECTORIES_LAST);
        key.extend((u16::MAX - depth).to_be_bytes());
        key.extend(sequence.to_be_bytes());
        return key;
    }
    let item = TransferItem {
        path: Vec::new(),
        priority: Priority::from_rank(entry.rank).unwrap_or(Priority::Normal),
        size: entry.size(),
        modified_at: entry.modified,
        queued_at: Monotonic::ZERO,
        retry_count,
        sequence,
    };
    let mut key = Vec::with_capacity(1 + order.key_bytes());
    key.push(FILES_FIRST);
    order.write_key(&item, &mut key);
    key
}

fn is_directory_key(key: &[u8]) -> bool {
    key.first() == Some(&DIRECTORIES_LAST)
}

/// Up to where the window knows the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Horizon {
    /// Every waiting item with a key up to this one is in the window.
    Key(QueueKey),
    /// Every waiting item is.
    End,
}

/// The waiting items of one job and destination.
#[derive(Debug)]
pub(super) struct Lane {
    window: BTreeMap<QueueKey, Queued>,
    /// Files of the window by sequence number, for aging.
    by_age: BTreeMap<u64, QueueKey>,
    retries: BTreeMap<QueueKey, Queued>,
    /// Files under suspicion, those under the least first.
    suspects: BTreeMap<(Suspicion, QueueKey), Queued>,
    horizon: Horizon,
    is_loading: bool,
    aging: AgingPolicy,
}

impl Lane {
    /// A lane that has not looked into the store yet.
    pub(super) fn new() -> Self {
        Self {
            window: BTreeMap::new(),
            by_age: BTreeMap::new(),
            retries: BTreeMap::new(),
            suspects: BTreeMap::new(),
            horizon: Horizon::Key(Vec::new()),
            is_loading: false,
            aging: AgingPolicy::new(AgingConfig::default()),
        }
    }

    /// A lane of a job that has no items yet, so that there is nothing to load.
    pub(super) fn new_empty() -> Self {
        Self { horizon: Horizon::End, ..Self::new() }
    }

    /// Adds an item that is in the store's queue, or comes back from an assignment. Beyond the horizon it stays there.
    pub(super) fn insert(&mut self, key: QueueKey, queued: Queued) {
        if let Horizon::Key(horizon) = &self.horizon
            && key > *horizon
            && !queued.is_penalty
        {
            return;
        }
        self.put(key, queued);
        if self.window.len() > LANE_WINDOW_MAX {
            self.shrink();
        }
    }

    fn put(&mut self, key: QueueKey, queued: Queued) {
        if queued.suspicion != Suspicion::None && !is_directory_key(&key) {
            self.suspects.insert((queued.suspicion, key), queued);
            return;
        }
        if queued.is_penalty {
            self.retries.insert(key, queued);
            return;
        }
        if !is_directory_key(&key) {
            self.by_age.insert(queued.sequence, key.clone());
        }
        self.window.insert(key, queued);
    }

    fn shrink(&mut self) {
        if let Some((_, queued)) = self.window.pop_last() {
            self.by_age.remove(&queued.sequence);
        }
        let horizon = self.window.last_key_value().map(|(key, _)| key.clone()).unwrap_or_default();
        // What is behind the horizon comes from the store again, suspects too.
        self.suspects.retain(|(_, key), queued| queued.is_penalty || *key <= horizon);
        self.horizon = Horizon::Key(horizon);
    }

    /// An item that waits in memory comes under suspicion, or under more of it.
    pub(super) fn suspect(&mut self, sequence: u64, suspicion: Suspicion) {
        let of = |queued: &Queued| queued.sequence == sequence;
        let waiting = self.by_age.get(&sequence).cloned();
        let retried = || self.retries.iter().find(|(_, queued)| of(queued)).map(|(key, _)| key.clone());
        let suspected =
            || self.suspects.iter().find(|(_, queued)| of(queued)).map(|((_, key), _)| key.clone());
        let Some(key) = waiting.or_else(retried).or_else(suspected) else { return };
        if let Some(queued) = self.remove(&key) {
            self.put(key, Queued { suspicion, ..queued });
        }
    }

    /// Items in memory that are under suspicion.
    pub(super) fn suspect_count(&self) -> usize {
        self.suspects.len()
    }

    /// Takes out the item that [`Lane::next`] named.
    pub(super) fn remove(&mut self, key: &QueueKey) -> Option<Queued> {
        let free = self.retries.remove(key).or_else(|| self.window.remove(key));
        let queued = free.or_else(|| {
            Suspicion::ALL.into_iter().find_map(|level| self.suspects.remove(&(level, key.clone())))
        })?;
        self.by_age.remove(&queued.sequence);
        Some(queued)
    }

    /// The item that should go next: the best, or now and then the oldest. Counts as a pick for aging.
    pub(super) fn next(&mut self, now: Monotonic) -> Option<QueueKey> {
        let best = self.best_key()?.clone();
        let Some(oldest) = self.by_age.first_key_value().map(|(_, key)| key) else { return Some(best) };
        if is_directory_key(&best) || best == *oldest {
            return Some(best);
        }
        let queued_at = |key| self.item(key).map_or(now, |queued| queued.queued_at);
        match self.aging.pick(now, queued_at(&best), queued_at(oldest)) {
            Pick::Best => Some(best),
            Pick::Oldest => Some(oldest.clone()),
        }
    }

    /// The best item's key. What is under suspicion comes behind all but the directories.
    pub(super) fn best_key(&self) -> Option<&QueueKey> {
        let free = self.best_free_key();
        if free.is_some_and(|key| !is_directory_key(key)) {
            return free;
        }
        self.suspects.first_key_value().map(|((_, key), _)| key).or(free)
    }

    fn best_free_key(&self) -> Option<&QueueKey> {
        match (self.window.first_key_value(), self.retries.first_key_value()) {
            (Some((window, _)), Some((retry, _))) => Some(window.min(retry)),
            (Some((key, _)), None) | (None, Some((key, _))) => Some(key),
            (None, None) => None,
        }
    }

    /// The first key of a file up to a size that is not under suspicion, among the next of those that wait.
    pub(super) fn first_up_to(&self, size: u64) -> Option<QueueKey> {
        let is_small = |queued: &Queued| !queued.is_directory() && queued.entry.size() <= size;
        let waiting = self.window.iter().take(LOOK_AHEAD_MAX).chain(self.retries.iter().take(LOOK_AHEAD_MAX));
        waiting.filter(|(_, queued)| is_small(queued)).map(|(key, _)| key).min().cloned()
    }

    /// The item under a key.
    pub(super) fn item(&self, key: &QueueKey) -> Option<&Queued> {
        let free = self.retries.get(key).or_else(|| self.window.get(key));
        free.or_else(|| match self.suspects.is_empty() {
            true => None,
            false => Suspicion::ALL.into_iter().find_map(|level| self.suspects.get(&(level, key.clone()))),
        })
    }

    /// Whether the next item is a directory.
    pub(super) fn is_at_directories(&self) -> bool {
        self.best_key().is_some_and(|key| is_directory_key(key))
    }

    /// Whether nothing waits in memory.
    pub(super) fn is_empty(&self) -> bool {
        self.window.is_empty() && self.retries.is_empty() && self.suspects.is_empty()
    }

    /// Items in memory.
    pub(super) fn len(&self) -> usize {
        self.window.len() + self.retries.len() + self.suspects.len()
    }

    /// Items in memory that go before a key.
    pub(super) fn count_before(&self, key: &QueueKey) -> usize {
        self.window.range::<QueueKey, _>(..key).count() + self.retries.range::<QueueKey, _>(..key).count()
    }

    /// If the window runs low and the store has more: the key to load after. Answered by [`Lane::loaded`].
    pub(super) fn begin_load(&mut self) -> Option<QueueKey> {
        match &self.horizon {
            Horizon::Key(key) if !self.is_loading && self.window.len() < LANE_WINDOW_LOW => {
                self.is_loading = true;
                Some(key.clone())
            }
            Horizon::Key(_) | Horizon::End => None,
        }
    }

    /// Takes what the store has after the horizon, without the items that are in flight. `last_key` is the last key
    /// that was read, `is_end` whether there are no more.
    pub(super) fn loaded(
        &mut self,
        items: Vec<(QueueKey, Queued)>,
        last_key: Option<QueueKey>,
        is_end: bool,
    ) {
        assert!(self.is_loading, "a load was answered that nobody began");
        self.is_loading = false;
        for (key, queued) in items {
            self.put(key, queued);
        }
        match (is_end, last_key) {
            (true, _) => self.horizon = Horizon::End,
            (false, Some(key)) => self.horizon = Horizon::Key(key),
            (false, None) => {}
        }
    }

    /// Whether more may be in the store than is in memory.
    pub(super) fn has_more_in_store(&self) -> bool {
        self.horizon != Horizon::End
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self::new()
    }
}
