//! What is not there is not present: whether the files of containers are still those that were written, and what happens
//! when they are not.
//!
//! A look costs one `stat` for each container, so it is taken before each assignment, before and after a tree is built for
//! a snapshot, when a read meets damage, and with every health sample. Bytes are not read: that is what a scrub does. A
//! container that is missing, cut, replaced or swapped is closed, and its rows are compared with what its file lists now
//! (`indexing.rs`); chunks that are nowhere any more count as not stored, so that the next job sends them. What snapshots
//! lack then is told until nothing is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{MutexGuard, PoisonError};

use super::PackedStore;
use super::containers::{Containers, Known};
use super::error::{PackedError, Result};
use super::indexing::{self, Indexed};

/// Rows that are read at a time.
const ROWS_PER_READ: usize = 4096;
/// So often what is missing is told at least, also if it is sent again meanwhile.
const TELLINGS_MIN: u32 = 5;
/// With fewer chunks it is counted for each telling what is still missing,
const COUNTED_ALWAYS_MAX: u64 = 20_000;
/// and otherwise for one of so many.
const TELLINGS_PER_COUNT: u32 = 60;
/// Findings that are told in full.
const FINDINGS_TOLD_MAX: usize = 5;

/// What a file was when it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileMark {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileMark {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Whether it is the same file, whatever was written to it.
    fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// What is missing of a vault.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// What was found, by what it is about.
    findings: BTreeMap<String, String>,
    /// Chunks that snapshots need and that are nowhere.
    lost_count: u64,
    /// How often it was told.
    told: u32,
}

impl Containers {
    /// Containers whose files are not what they were when they were last looked at. `active` is the one that grows, with the
    /// bytes that were written to it before this call.
    pub(super) fn changed(&self, active: Option<(u32, u64)>) -> Result<BTreeSet<u32>> {
        // A directory that was unmounted says nothing of what was in it.
        let dir = self.look_at(&self.dir)?.filter(|found| found.is_same_file(&self.dir_mark));
        dir.ok_or_else(|| PackedError::Moved { path: self.dir.clone() })?;
        let mut changed = BTreeSet::new();
        for (number, known) in self.snapshot() {
            let found = self.look_at(&self.path(&known.id))?;
            // It may have been sealed or removed since the list was made.
            let Some(known) = self.known(number) else { continue };
            let is_same = match (found, known.mark) {
                (Some(found), Some(mark)) if known.is_sealed => found == mark,
                (Some(found), Some(mark)) => {
                    let written = active.filter(|(growing, _)| *growing == number).map_or(0, |(_, end)| end);
                    found.is_same_file(&mark) && found.bytes >= written
                }
                (_, _) => false,
            };
            if !is_same {
                changed.insert(number);
            }
        }
        Ok(changed)
    }

    /// Bytes of all container files. `active` is the one that grows, with its end.
    fn total_bytes(&self, active: Option<(u32, u64)>) -> u64 {
        let grown = |number: u32| active.filter(|(growing, _)| *growing == number).map(|(_, end)| end);
        let known = self.lock_known_to_read();
        let size = |(&number, known): (&u32, &Known)| {
            grown(number).unwrap_or_else(|| known.mark.map_or(0, |mark| mark.bytes))
        };
        known.iter().map(size).sum()
    }

    fn look_at(&self, path: &std::path::Path) -> Result<Option<FileMark>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(FileMark::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PackedError::io(path, "look at")(error)),
        }
    }

    /// Makes sure that a container which somebody writes is still under its name.
    pub(super) fn check_file(&self, number: u32) -> Result<()> {
        let known = self.known(number);
        let path = known.as_ref().map_or_else(|| self.dir.clone(), |known| self.path(&known.id));
        let found = self.look_at(&path)?;
        let is_there = known
            .and_then(|known| known.mark)
            .zip(found)
            .is_some_and(|(mark, found)| found.is_same_file(&mark));
        if is_there {
            return Ok(());
        }
        Err(PackedError::io(&path, "find the container that is being written")(
            io::ErrorKind::NotFound.into(),
        ))
    }
}

impl PackedStore {
    /// Bytes of the containers, as far as they were written to their files.
    pub fn container_bytes(&self) -> u64 {
        let active = self.containers.lock_appender().active_end();
        self.containers.total_bytes(active)
    }

    /// Looks whether every container is still the file that was written, and says whether one was not. Its chunks count as
    /// not stored from then on, unless they are found elsewhere.
    ///
    /// # Errors
    /// The directory is not the one that was opened, or the disk refuses.
    pub fn check_presence(&self) -> Result<bool> {
        let active = self.containers.lock_appender().active_end();
        let changed = self.containers.changed(active)?;
        let unlisted = active.filter(|(number, _)| !changed.contains(number) && self.is_unlisted(*number));
        if changed.is_empty() && unlisted.is_none() {
            return Ok(false);
        }
        // Nothing is on its way into the index meanwhile.
        let flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((number, _)) = unlisted {
            // Without a journal nobody would know its chunks after a restart; sealed it lists them itself.
            self.containers.rotate(number)?;
        }
        let changed = self.close_changed()?;
        if changed.is_empty() {
            return Ok(false);
        }
        self.nodes.clear();
        let indexed = indexing::index_containers(&self.universe, &self.containers, Some(&changed));
        self.memory().lose_in(&BTreeSet::new());
        drop(flushing);
        let indexed = indexed?;
        self.mend_trees()?;
        self.note_missing(&indexed)?;
        Ok(true)
    }

    /// Closes the containers whose files have changed, and forgets what was appended to them.
    fn close_changed(&self) -> Result<BTreeSet<u32>> {
        let mut appender = self.containers.lock_appender();
        let active = appender.active_end();
        let changed = self.containers.changed(active)?;
        if let Some((number, _)) = active
            && changed.contains(&number)
        {
            let lost = appender.drop_active();
            self.memory().lose(lost);
        }
        drop(appender);
        if !changed.is_empty() {
            self.memory().lose_in(&changed);
            self.containers.close_readers(&changed);
        }
        Ok(changed)
    }

    /// Whether a container that grows has lost its journal.
    fn is_unlisted(&self, number: u32) -> bool {
        let journal = self.containers.known(number).map(|known| self.containers.journal_of(&known.id));
        journal.is_some_and(|journal| matches!(journal.try_exists(), Ok(false)))
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was found missing, also over a restart.
    pub(super) fn note_missing(&self, indexed: &Indexed) -> Result<()> {
        if !indexed.findings.is_empty() {
            self.universe.write(|tables| {
                let mut findings = indexed.findings.iter();
                findings.try_for_each(|(about, text)| tables.put_finding(about, text))
            })?;
        }
        let lost_count = self.count_lost()?;
        let mut trouble = self.trouble();
        trouble.findings.extend(indexed.findings.clone());
        trouble.lost_count = lost_count;
        trouble.told = 0;
        Ok(())
    }

    /// Takes up what an earlier process has found missing.
    pub(super) fn recall_missing(&self, indexed: &Indexed) -> Result<()> {
        let noted: BTreeMap<_, _> = self.universe.findings()?.into_iter().collect();
        if noted.is_empty() && indexed.findings.is_empty() && !indexed.is_rebuilt {
            return Ok(());
        }
        self.trouble().findings = noted;
        self.note_missing(indexed)
    }

    /// Chunks that snapshots need and that are nowhere.
    fn count_lost(&self) -> Result<u64> {
        let (mut after, mut count) = (None, 0);
        loop {
            let rows = self.universe.rows_after(after.as_ref(), ROWS_PER_READ)?;
            let Some((last, _)) = rows.last() else { return Ok(count) };
            after = Some(*last);
            let memory = self.memory();
            count += rows
                .iter()
                .filter(|(hash, row)| {
                    row.references > 0
                        && !self.containers.exists(row.location.container)
                        && !matches!(memory.recall(hash), super::pins::Recall::At(_))
                })
                .count() as u64;
        }
    }

    /// Whether something was found missing that is not all there again.
    pub(super) fn has_trouble(&self) -> bool {
        let trouble = self.trouble();
        !trouble.findings.is_empty() || trouble.lost_count > 0
    }

    /// What an operator should know of what is missing, if anything is. Called again and again, it looks from time to time
    /// whether it is there again.
    pub fn tell_missing(&self) -> Option<String> {
        if !self.has_trouble() {
            return None;
        }
        let told = {
            let mut trouble = self.trouble();
            trouble.told = trouble.told.saturating_add(1);
            trouble.told
        };
        let is_small = self.universe.chunk_count().is_ok_and(|count| count <= COUNTED_ALWAYS_MAX);
        if (is_small || told.is_multiple_of(TELLINGS_PER_COUNT))
            && let Ok(lost_count) = self.count_lost()
        {
            self.trouble().lost_count = lost_count;
        }
        if told > TELLINGS_MIN
            && self.trouble().lost_count == 0
            && self.universe.write(|tables| tables.clear_findings()).is_ok()
        {
            *self.trouble() = Trouble::default();
            return None;
        }
        Some(self.trouble().to_string())
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut told: Vec<&str> =
            self.findings.values().map(String::as_str).take(FINDINGS_TOLD_MAX).collect();
        let more = self.findings.len().saturating_sub(FINDINGS_TOLD_MAX);
        let more = format!("and {more} more");
        if self.findings.len() > FINDINGS_TOLD_MAX {
            told.push(&more);
        }
        let told = if told.is_empty() { "its index was built again".to_owned() } else { told.join("; ") };
        if self.lost_count == 0 {
            return write!(f, "vault: {told}; no chunk that a snapshot needs is missing now");
        }
        write!(
            f,
            "vault: {told}; {} chunks that snapshots need are missing, so those snapshots cannot be restored whole. The next \
             backup of the same source stores what it has of them; `orbit scrub` asks other vaults and sources for the rest. If \
             the files still exist, stop the Star, put them back into packed/containers, and start it again",
            self.lost_count
        )
    }
}
