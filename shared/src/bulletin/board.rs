//! The board itself: posting, making room, and reading.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use crate::time::{Monotonic, Now, WallTime};
use crate::words::JobId;

use super::{
    Bulletin, BulletinCounts, BulletinFilter, LABEL_BYTES_MAX, MESSAGE_BYTES_MAX, Severity, truncate_visibly,
};

/// How long after its first report a bulletin absorbs its repeats.
///
/// Counted from the first report and not from the last, so trouble that never stops comes back as a new bulletin every
/// window instead of ageing out of sight under one old id.
pub const COALESCE_WINDOW: Duration = Duration::from_secs(300);

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// The bulletin it became, or the one it repeats.
    pub id: u64,
    /// False when it only raised the count of a bulletin that was already there.
    pub is_new: bool,
    /// The bulletin that had to make room. It is `id` itself on a board that holds none.
    pub evicted: Option<u64>,
}

/// Identifies reports that say the same thing: a digest of severity, source, category, job and message.
type Sameness = u128;

/// A bounded collection of bulletins. Time is passed in.
///
/// Posting costs O(log n), and O(sources) more when something has to make room.
#[derive(Debug)]
pub struct BulletinBoard {
    capacity: usize,
    coalesce_window: Duration,
    next_id: u64,
    bulletins: BTreeMap<u64, Bulletin>,
    /// Ids on the board by source; no empty sets, so its keys are the sources that take part in sharing.
    by_source: BTreeMap<String, BTreeSet<u64>>,
    /// The newest bulletin of each kind that was posted here, and when it was first. Restored bulletins are absent:
    /// the monotonic clock they were posted by has ended.
    coalescing: BTreeMap<Sameness, (u64, Monotonic)>,
    posted: u64,
    dropped: u64,
}

impl BulletinBoard {
    /// An empty board for at most `capacity` bulletins, whose first id is 1. A board for none still counts.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            coalesce_window: COALESCE_WINDOW,
            next_id: 1,
            bulletins: BTreeMap::new(),
            by_source: BTreeMap::new(),
            coalescing: BTreeMap::new(),
            posted: 0,
            dropped: 0,
        }
    }

    /// Replaces [`COALESCE_WINDOW`]; zero coalesces only reports of the same instant.
    pub fn with_coalesce_window(mut self, window: Duration) -> Self {
        self.coalesce_window = window;
        self
    }

    /// A board as it was before a restart: its bulletins, and ids that go on after every id ever given.
    ///
    /// `next_id` is what [`Self::next_id`] said then; an id found on a bulletin raises it further. Bulletins beyond
    /// `capacity` make room as if they had been posted.
    pub fn restore(capacity: usize, bulletins: impl IntoIterator<Item = Bulletin>, next_id: u64) -> Self {
        let mut board = Self::new(capacity);
        board.next_id = next_id.max(1);
        let ordered: BTreeMap<u64, Bulletin> =
            bulletins.into_iter().map(|bulletin| (bulletin.id, bulletin)).collect();
        for bulletin in ordered.into_values() {
            board.next_id = board.next_id.max(bulletin.id.saturating_add(1));
            board.place(bulletin);
        }
        board
    }

    /// Reports something.
    ///
    /// A report that says the same as a bulletin first posted no longer than the coalescing window ago raises that
    /// bulletin's count, unless somebody has acknowledged it: what they have seen is over, this is new. Over-long texts
    /// are cut visibly.
    pub fn post(
        &mut self,
        now: Now,
        severity: Severity,
        source: &str,
        category: &str,
        job: Option<JobId>,
        message: &str,
    ) -> Posted {
        self.posted = self.posted.saturating_add(1);
        let bulletin = Bulletin {
            id: self.next_id,
            time: now.wall,
            first_time: now.wall,
            source: truncate_visibly(source, LABEL_BYTES_MAX),
            category: truncate_visibly(category, LABEL_BYTES_MAX),
            severity,
            message: truncate_visibly(message, MESSAGE_BYTES_MAX),
            job_id: job,
            repeat_count: 1,
            is_acknowledged: false,
        };
        let sameness = sameness_of(&bulletin);
        if let Some(id) = self.coalesce(now, sameness) {
            return Posted { id, is_new: false, evicted: None };
        }
        let id = bulletin.id;
        self.next_id = self.next_id.saturating_add(1);
        self.coalescing.insert(sameness, (id, now.monotonic));
        let evicted = self.place(bulletin);
        debug_assert!(self.coalescing.len() <= self.bulletins.len());
        Posted { id, is_new: true, evicted }
    }

    /// Raises the count of a bulletin and puts other words in it: it stands for several reports that are alike and not the
    /// same. Returns whether it did; one that has left the board or was acknowledged stays as it is.
    pub fn amend(&mut self, now: Now, id: u64, message: &str) -> bool {
        let Some(bulletin) = self.bulletins.get_mut(&id).filter(|bulletin| !bulletin.is_acknowledged) else {
            return false;
        };
        self.posted = self.posted.saturating_add(1);
        bulletin.repeat_count = bulletin.repeat_count.saturating_add(1);
        bulletin.time = now.wall;
        bulletin.message = truncate_visibly(message, MESSAGE_BYTES_MAX);
        true
    }

    /// The newest `count` bulletins, newest first.
    pub fn recent(&self, count: usize) -> Vec<&Bulletin> {
        self.query(&BulletinFilter::default(), count)
    }

    /// Bulletins at least as urgent as `least`, newest first.
    pub fn by_severity(&self, least: Severity) -> Vec<&Bulletin> {
        self.query(&BulletinFilter { min_severity: Some(least), ..BulletinFilter::default() }, usize::MAX)
    }

    /// Bulletins from `source`, newest first.
    pub fn by_source(&self, source: &str) -> Vec<&Bulletin> {
        let ids = self.by_source.get(source).into_iter().flatten().rev();
        ids.filter_map(|id| self.bulletins.get(id)).collect()
    }

    /// Bulletins in `category`, newest first.
    pub fn by_category(&self, category: &str) -> Vec<&Bulletin> {
        let filter = BulletinFilter { category: Some(category.to_owned()), ..BulletinFilter::default() };
        self.query(&filter, usize::MAX)
    }

    /// Bulletins about `job`, newest first.
    pub fn by_job(&self, job: JobId) -> Vec<&Bulletin> {
        self.query(&BulletinFilter { job_id: Some(job), ..BulletinFilter::default() }, usize::MAX)
    }

    /// Warnings and errors, newest first.
    pub fn issues(&self) -> Vec<&Bulletin> {
        self.by_severity(Severity::Warning)
    }

    /// At most `limit` bulletins that meet `filter`.
    ///
    /// Newest first, that is by descending id. Only with `after_id` it is oldest first, so that a reader who asks again
    /// with the last id it got misses nothing however small its `limit` is.
    pub fn query(&self, filter: &BulletinFilter, limit: usize) -> Vec<&Bulletin> {
        let is_match = |bulletin: &&Bulletin| filter.matches(bulletin);
        match filter.after_id {
            Some(after) => {
                let newer = self.bulletins.range((Bound::Excluded(after), Bound::Unbounded));
                newer.map(|(_, bulletin)| bulletin).filter(is_match).take(limit).collect()
            }
            None => self.bulletins.values().rev().filter(is_match).take(limit).collect(),
        }
    }

    /// The bulletin `id`, while it is on the board.
    pub fn bulletin(&self, id: u64) -> Option<&Bulletin> {
        self.bulletins.get(&id)
    }

    /// Marks bulletins as seen, and returns the ids for which that was news. Ids not on the board are passed over.
    pub fn acknowledge(&mut self, ids: &[u64]) -> Vec<u64> {
        let mut changed = Vec::new();
        for &id in ids {
            if let Some(bulletin) = self.bulletins.get_mut(&id)
                && !bulletin.is_acknowledged
            {
                bulletin.is_acknowledged = true;
                changed.push(id);
            }
        }
        changed
    }

    /// How many bulletins there are of each severity.
    pub fn counts(&self) -> BulletinCounts {
        let mut counts = BulletinCounts {
            total: self.bulletins.len(),
            posted: self.posted,
            dropped: self.dropped,
            ..BulletinCounts::default()
        };
        for bulletin in self.bulletins.values() {
            match bulletin.severity {
                Severity::Info => counts.info += 1,
                Severity::Warning => counts.warnings += 1,
                Severity::Error => counts.errors += 1,
            }
        }
        counts
    }

    /// Takes bulletins off the board that were last reported before a time, the oldest first and at most `limit` of them,
    /// except errors that are not acknowledged. Returns their ids.
    pub fn remove_before(&mut self, before: WallTime, limit: usize) -> Vec<u64> {
        let is_over = |bulletin: &&Bulletin| {
            bulletin.time < before && (bulletin.is_acknowledged || bulletin.severity < Severity::Error)
        };
        let over: Vec<u64> =
            self.bulletins.values().filter(is_over).map(|bulletin| bulletin.id).take(limit).collect();
        for &id in &over {
            self.remove(id);
        }
        over
    }

    /// Takes every bulletin off the board. Ids go on from where they are, and so do the counters.
    pub fn clear(&mut self) {
        self.bulletins.clear();
        self.by_source.clear();
        self.coalescing.clear();
    }

    /// The id that the next new bulletin gets; the owner keeps it for [`Self::restore`].
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// How many bulletins with a greater id than this are not on the board any more.
    pub fn missing_after(&self, id: u64) -> u64 {
        let given = self.next_id.saturating_sub(1).saturating_sub(id);
        let kept = self.bulletins.range((Bound::Excluded(id), Bound::Unbounded)).count() as u64;
        assert!(kept <= given, "{kept} bulletins are on the board of {given} that were given ids after {id}");
        given - kept
    }

    /// Bulletins that had to make room so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The bound given to [`Self::new`].
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bulletins on the board.
    pub fn len(&self) -> usize {
        self.bulletins.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bulletins.is_empty()
    }

    /// Counts a repeat on the bulletin it repeats, if that may still absorb it.
    fn coalesce(&mut self, now: Now, sameness: Sameness) -> Option<u64> {
        let &(id, first) = self.coalescing.get(&sameness)?;
        let bulletin = self.bulletins.get_mut(&id)?;
        if bulletin.is_acknowledged || now.monotonic.since(first) > self.coalesce_window {
            return None;
        }
        bulletin.repeat_count = bulletin.repeat_count.saturating_add(1);
        bulletin.time = now.wall;
        Some(id)
    }

    /// Puts a new bulletin up and returns the one that had to make room.
    fn place(&mut self, bulletin: Bulletin) -> Option<u64> {
        self.by_source.entry(bulletin.source.clone()).or_default().insert(bulletin.id);
        self.bulletins.insert(bulletin.id, bulletin);
        if self.bulletins.len() <= self.capacity {
            return None;
        }
        let evicted = self.oldest_of_loudest()?;
        self.remove(evicted);
        self.dropped = self.dropped.saturating_add(1);
        Some(evicted)
    }

    /// The oldest bulletin of the source with the most. Among equals it is the oldest of them all.
    ///
    /// The loudest of s sources on a board one over its capacity has more than capacity / s bulletins, so a source
    /// that stays within that share loses nothing to the others.
    fn oldest_of_loudest(&self) -> Option<u64> {
        let sources = self.by_source.values();
        let oldest =
            sources.filter_map(|ids| ids.first().map(|&first| (ids.len(), std::cmp::Reverse(first))));
        oldest.max().map(|(_, first)| first.0)
    }

    fn remove(&mut self, id: u64) {
        let Some(bulletin) = self.bulletins.remove(&id) else { return };
        if let Some(ids) = self.by_source.get_mut(&bulletin.source) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_source.remove(&bulletin.source);
            }
        }
        let sameness = sameness_of(&bulletin);
        if self.coalescing.get(&sameness).is_some_and(|&(held, _)| held == id) {
            self.coalescing.remove(&sameness);
        }
    }
}

/// Digests what makes two reports the same. Every text is preceded by its length, so no two splits look alike.
fn sameness_of(bulletin: &Bulletin) -> Sameness {
    let mut hasher = blake3::Hasher::new();
    for text in [bulletin.severity.as_str(), &bulletin.source, &bulletin.category, &bulletin.message] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    if let Some(job) = bulletin.job_id {
        hasher.update(&job.0.to_le_bytes());
    }
    let digest = hasher.finalize();
    let (half, _) = digest.as_bytes().split_at(16);
    half.iter().fold(0, |sum, &byte| (sum << 8) | Sameness::from(byte))
}
