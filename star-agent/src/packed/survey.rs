//! Looks at all chunks before a collection: which are needed, which can be removed, and in which containers they are.

use std::collections::BTreeMap;

use super::PackedStore;
use super::collect::{CollectOptions, CollectPhase, CollectProgress, CollectReport};
use super::error::{PackedError, Result};
use super::universe::Row;

/// Rows that are read at a time.
const ROWS_PER_READ: usize = 4096;
const HOUR_SECONDS: u64 = 3600;

/// The content of one container.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Usage {
    /// Length of its file before the survey: bytes that came later are no garbage although no row was seen.
    pub(super) file_bytes: u64,
    /// Bytes of chunks that are kept.
    pub(super) live: u64,
    /// Bytes of chunks that can be removed.
    pub(super) due: u64,
}

/// The result of reading all rows.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) usage: BTreeMap<u32, Usage>,
    /// Number and bytes of chunks in the undo window, by the hour of their mark.
    waiting: BTreeMap<u64, (u64, u64)>,
    /// Their bytes in each container.
    waiting_in: BTreeMap<(u64, u32), u64>,
    due: (u64, u64),
}

impl PackedStore {
    /// Reads all rows, and marks chunks that are not held and never were. All chunks of `containers` are in the
    /// universe.
    pub(super) fn survey(
        &self,
        containers: BTreeMap<u32, u64>,
        now: u64,
        window: u64,
        plan_only: bool,
        progress: &dyn Fn(&CollectProgress),
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Survey> {
        let total = self.universe.chunk_count()?;
        let (mut survey, mut after, mut done) = (Survey::default(), None, 0);
        let sized = |(number, file_bytes)| (number, Usage { file_bytes, ..Usage::default() });
        survey.usage.extend(containers.into_iter().map(sized));
        loop {
            if is_cancelled() {
                return Err(PackedError::Cancelled);
            }
            progress(&CollectProgress { phase: CollectPhase::Surveying, done, total });
            let rows = self.universe.rows_after(after.as_ref(), ROWS_PER_READ)?;
            let Some((last, _)) = rows.last() else { return Ok(survey) };
            after = Some(*last);
            done += rows.len() as u64;
            let mut to_mark = Vec::new();
            {
                let memory = self.memory();
                for (hash, row) in &rows {
                    let is_free = row.references == 0 && !memory.is_needed(hash);
                    if is_free && row.marked == 0 {
                        to_mark.push(*hash);
                    }
                    survey.add(row, is_free, now, window);
                }
            }
            if !plan_only && !to_mark.is_empty() {
                self.universe.write(|tables| to_mark.iter().try_for_each(|hash| tables.mark(hash, now)))?;
            }
        }
    }

    /// The time before which marked chunks are removed early, because the disk is filling up.
    pub(super) fn forced_before(&self, survey: &Survey, options: &CollectOptions) -> Option<u64> {
        let available = self.available_bytes()?;
        let mut missing = options.free_bytes_min?.checked_sub(available)?.checked_sub(survey.due.1)?;
        let mut before = None;
        for (hour, (_, bytes)) in &survey.waiting {
            if missing == 0 {
                break;
            }
            before = Some((hour + 1) * HOUR_SECONDS);
            missing = missing.saturating_sub(*bytes);
        }
        before
    }
}

impl Survey {
    fn add(&mut self, row: &Row, is_free: bool, now: u64, window: u64) {
        let stored = u64::from(row.location.stored);
        let usage = self.usage.entry(row.location.container).or_default();
        // A chunk without a mark is marked now.
        let marked = if row.marked == 0 { now } else { row.marked };
        if !is_free {
            usage.live += stored;
        } else if marked.saturating_add(window) <= now {
            usage.due += stored;
            add(&mut self.due, 1, stored);
        } else {
            usage.live += stored;
            let hour = marked / HOUR_SECONDS;
            add(self.waiting.entry(hour).or_default(), 1, stored);
            *self.waiting_in.entry((hour, row.location.container)).or_default() += stored;
        }
    }

    /// Chunks that were marked before this are removed too.
    pub(super) fn force(&mut self, before: u64) {
        let first_kept = before.div_ceil(HOUR_SECONDS);
        let rest = self.waiting_in.split_off(&(first_kept, 0));
        for ((_, number), bytes) in std::mem::replace(&mut self.waiting_in, rest) {
            let usage = self.usage.entry(number).or_default();
            usage.live = usage.live.saturating_sub(bytes);
            usage.due += bytes;
        }
        let rest = self.waiting.split_off(&first_kept);
        for (chunks, bytes) in std::mem::replace(&mut self.waiting, rest).into_values() {
            add(&mut self.due, chunks, bytes);
        }
    }

    pub(super) fn report(&self) -> CollectReport {
        let waiting =
            self.waiting.values().fold((0, 0), |sum, (chunks, bytes)| (sum.0 + chunks, sum.1 + bytes));
        CollectReport {
            chunks_reclaimable: self.due.0,
            bytes_reclaimable: self.due.1,
            chunks_waiting: waiting.0,
            bytes_waiting: waiting.1,
            ..CollectReport::default()
        }
    }
}

fn add(sum: &mut (u64, u64), chunks: u64, bytes: u64) {
    sum.0 += chunks;
    sum.1 += bytes;
}
