//! The board itself: posting, eviction, and reading.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use crate::time::{Monotonic, Now, WallTime};
use crate::words::JobId;

use super::{
    Bulletin, BulletinCounts, BulletinFilter, LABEL_BYTES_MAX, MESSAGE_BYTES_MAX, Severity, truncate_visibly,
};

/// How long after its first report a bulletin counts repeats.
///
/// The time is counted from the first report and not from the last one. So a problem that never stops becomes a new
/// bulletin in every window, instead of getting out of sight under one old id.
pub const COALESCE_WINDOW: Duration = Duration::from_secs(300);

/// The result of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// The bulletin that was made, or that was repeated.
    pub id: u64,
    /// False if only the count of an existing bulletin was raised.
    pub is_new: bool,
    /// The bulletin that was evicted. It is `id` itself if the capacity is 0.
    pub evicted: Option<u64>,
}

/// Identifies reports with the same content: a digest of severity, source, category, job and message.
type Sameness = u128;

/// A bounded collection of bulletins. The time is an argument.
///
/// Posting costs O(log n), and additionally O(sources) if a bulletin must be evicted.
#[derive(Debug)]
pub struct BulletinBoard {
    capacity: usize,
    coalesce_window: Duration,
    next_id: u64,
    bulletins: BTreeMap<u64, Bulletin>,
    /// Ids by source. There are no empty sets, so the keys are the sources that share the board.
    by_source: BTreeMap<String, BTreeSet<u64>>,
    /// The newest bulletin of each content that was posted here, and when it was first posted. Restored bulletins are
    /// absent: the monotonic clock of their process has ended.
    coalescing: BTreeMap<Sameness, (u64, Monotonic)>,
    /// The content that each bulletin was posted with here, whatever it was amended to since.
    posted_as: BTreeMap<u64, Sameness>,
    posted: u64,
    dropped: u64,
}

impl BulletinBoard {
    /// An empty board for at most `capacity` bulletins, whose first id is 1. With capacity 0 it only counts.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            coalesce_window: COALESCE_WINDOW,
            next_id: 1,
            bulletins: BTreeMap::new(),
            by_source: BTreeMap::new(),
            coalescing: BTreeMap::new(),
            posted_as: BTreeMap::new(),
            posted: 0,
            dropped: 0,
        }
    }

    /// Replaces [`COALESCE_WINDOW`]. With zero, only reports of the same instant are combined.
    pub fn with_coalesce_window(mut self, window: Duration) -> Self {
        self.coalesce_window = window;
        self
    }

    /// The board of an earlier process: its bulletins, and ids that continue after all that were used.
    ///
    /// `next_id` is the last value of [`Self::next_id`]; a higher id of a bulletin raises it. If there are more than
    /// `capacity` bulletins, some are evicted as if they had been posted.
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
    /// If a bulletin with the same content was first posted within the coalescing window, its count is raised, unless
    /// it was acknowledged: then the report is news and becomes a new bulletin. Texts that are too long are cut with a
    /// mark.
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
        self.posted_as.insert(id, sameness);
        let evicted = self.place(bulletin);
        assert!(
            self.coalescing.len() <= self.bulletins.len(),
            "{} of {} bulletins count repeats",
            self.coalescing.len(),
            self.bulletins.len()
        );
        Posted { id, is_new: true, evicted }
    }

    /// Raises the count of a bulletin and replaces its message: it stands for several similar reports. Returns whether
    /// it did; a bulletin that was evicted or acknowledged is not changed.
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

    /// Takes over how a bulletin stands on the board that this one follows: it is new there, was repeated, amended or
    /// acknowledged. A board that receives every change in order shows and counts the same as the other.
    pub fn follow(&mut self, bulletin: Bulletin) {
        let known = self.bulletins.get_mut(&bulletin.id);
        let before = known.as_ref().map_or(0, |known| known.repeat_count);
        self.posted = self.posted.saturating_add(bulletin.repeat_count.saturating_sub(before));
        if let Some(known) = known {
            assert_eq!(known.source, bulletin.source, "bulletin {} has changed hands", bulletin.id);
            *known = bulletin;
            return;
        }
        self.next_id = self.next_id.max(bulletin.id.saturating_add(1));
        self.place(bulletin);
    }

    /// Takes over that a bulletin is not on the other board any more.
    pub fn forget(&mut self, id: u64) {
        self.remove(id);
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

    /// At most `limit` bulletins that match `filter`.
    ///
    /// In descending order of ids. With `after_id` in ascending order, so that a reader that asks again with the last
    /// id it got misses nothing, however small `limit` is.
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

    /// Marks bulletins as seen. Returns the ids that were not marked before. Ids that are not on the board are ignored.
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

    /// Number of bulletins of each severity.
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

    /// Removes bulletins that were last reported before a time, at most `limit`, the oldest first, except errors that
    /// are not acknowledged. Returns their ids.
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

    /// Removes all bulletins. Ids and counters continue.
    pub fn clear(&mut self) {
        self.bulletins.clear();
        self.by_source.clear();
        self.coalescing.clear();
        self.posted_as.clear();
    }

    /// The id of the next new bulletin. The owner stores it for [`Self::restore`].
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Number of bulletins with a greater id that are no longer on the board.
    pub fn missing_after(&self, id: u64) -> u64 {
        let given = self.next_id.saturating_sub(1).saturating_sub(id);
        let kept = self.bulletins.range((Bound::Excluded(id), Bound::Unbounded)).count() as u64;
        assert!(kept <= given, "{kept} bulletins are on the board of {given} that were given ids after {id}");
        given - kept
    }

    /// Number of bulletins that were evicted.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The capacity given to [`Self::new`].
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of bulletins on the board.
    pub fn len(&self) -> usize {
        self.bulletins.len()
    }

    /// Whether the board is empty.
    pub fn is_empty(&self) -> bool {
        self.bulletins.is_empty()
    }

    /// Counts a repeat on the bulletin that it repeats, if that still counts repeats.
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

    /// Adds a new bulletin and returns the one that was evicted.
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

    /// The oldest bulletin of the source with the most bulletins. If several sources have as many, it is the oldest of
    /// all theirs.
    ///
    /// With s sources, and one bulletin more than the capacity, the largest source has more than capacity / s
    /// bulletins. So a source that stays within that share never loses one to others.
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
        if let Some(sameness) = self.posted_as.remove(&id)
            && self.coalescing.get(&sameness).is_some_and(|&(held, _)| held == id)
        {
            self.coalescing.remove(&sameness);
        }
    }
}

/// Digests what makes two reports equal. Every text is preceded by its length, so that different splits differ.
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
