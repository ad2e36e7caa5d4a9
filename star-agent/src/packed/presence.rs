//! Checks whether the files of containers are still those that were written, and handles files that are not.
//!
//! A check costs one `stat` per container. It is made before each assignment, before and after a tree is built for a
//! snapshot, when a read finds damage, and with every health sample. It reads no content; a scrub does. A container
//! that is missing, truncated, replaced or swapped is closed, and its rows are compared with the current list of its
//! file (`indexing.rs`). Chunks that are lost count as not stored, so the next job sends them. The chunks that
//! snapshots lack are reported until none is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

use super::error::{PackedError, Result};
use super::indexing::{self, Indexed};
use super::{CONTAINERS, PackedStore};

/// Number of rows that are read at a time.
const ROWS_PER_READ: usize = 4096;
/// Minimum number of reports of a finding, even if the chunks are sent again meanwhile.
const TELLINGS_MIN: u32 = 5;
/// With at most this many chunks, the missing ones are counted for every report.
const COUNTED_ALWAYS_MAX: u64 = 20_000;
/// With more chunks, the missing ones are counted for one in this many reports.
const TELLINGS_PER_COUNT: u32 = 60;
/// Maximum number of findings that are reported in full.
const FINDINGS_TOLD_MAX: usize = 5;

/// What is missing in a vault.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// The findings, by subject.
    findings: BTreeMap<String, String>,
    /// Number of chunks that snapshots need and that are lost.
    lost_count: u64,
    /// How often the findings were reported.
    told: u32,
}

impl PackedStore {
    /// Total size of the containers in bytes, as far as they were written to their files.
    pub fn container_bytes(&self) -> u64 {
        self.containers.total_bytes()
    }

    /// Checks whether every container is still the file that was written. Returns whether one was not. Its chunks count
    /// as not stored from then on, unless they are found elsewhere.
    ///
    /// # Errors
    /// The directory is not the one that was opened, or the disk reports an error.
    pub fn check_presence(&self) -> Result<bool> {
        let active = self.containers.lock_appender().active_end();
        let changed = self.changed(active)?;
        let unlisted = active.filter(|(number, _)| !changed.contains(number) && self.is_unlisted(*number));
        if changed.is_empty() && unlisted.is_none() {
            return Ok(false);
        }
        // No chunk is being written into the index meanwhile.
        let flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((number, _)) = unlisted {
            // Without a journal its chunks would be unknown after a restart. Once sealed, the container lists them
            // itself.
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

    fn changed(&self, active: Option<(u32, u64)>) -> Result<BTreeSet<u32>> {
        let changed = self.containers.changed(active)?;
        changed.ok_or_else(|| PackedError::Moved { path: self.dir.join(CONTAINERS) })
    }

    /// Closes the containers whose files have changed, and forgets the chunks that were appended to them.
    fn close_changed(&self) -> Result<BTreeSet<u32>> {
        let mut appender = self.containers.lock_appender();
        let active = appender.active_end();
        let changed = self.changed(active)?;
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

    /// Whether an open container has lost its journal.
    fn is_unlisted(&self, number: u32) -> bool {
        let journal = self.containers.known(number).map(|known| self.containers.journal_of(&known.id));
        journal.is_some_and(|journal| matches!(journal.try_exists(), Ok(false)))
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records what was found missing, durably.
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

    /// Loads what an earlier process has found missing.
    pub(super) fn recall_missing(&self, indexed: &Indexed) -> Result<()> {
        let noted: BTreeMap<_, _> = self.universe.findings()?.into_iter().collect();
        if noted.is_empty() && indexed.findings.is_empty() && !indexed.is_rebuilt {
            return Ok(());
        }
        self.trouble().findings = noted;
        self.note_missing(indexed)
    }

    /// Number of chunks that snapshots need and that are lost.
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

    /// Whether something was found missing and is not completely restored.
    pub(super) fn has_trouble(&self) -> bool {
        let trouble = self.trouble();
        !trouble.findings.is_empty() || trouble.lost_count > 0
    }

    /// The message about missing content, if there is any. Repeated calls check from time to time whether it has been
    /// restored.
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
