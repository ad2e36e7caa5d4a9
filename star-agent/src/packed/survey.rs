//! Looks at all chunks before a collection: which are needed, which can be removed, and in which containers they are.

use std::collections::BTreeMap;

use super::PackedStore;
use super::collect::{CollectOptions, CollectPhase, CollectProgress, CollectReport};
use super::compact::ENTRY_BYTES;
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
    /// Bytes of chunks that are kept, with their entries in the list of the container.
    pub(super) live: u64,
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

    /// The time before which marked chunks are removed early, because the disk is filling up. They are removed only if the
    /// space is missing after all other garbage is gone, and only if their containers can be rewritten in the space that is
    /// left: otherwise snapshots could no longer be undeleted, and no space would be free.
    pub(super) fn forced_before(&self, survey: &Survey, options: &CollectOptions) -> Option<u64> {
        let available = self.available_bytes()?;
        let missing = options.free_bytes_min?.checked_sub(available)?;
        let missing = missing.checked_sub(survey.garbage(available, options.garbage_percent_min))?;
        survey.forced_before(missing, available)
    }
}

impl Survey {
    /// Bytes of garbage in the containers that will be rewritten, if that much space is available to rewrite them in.
    fn garbage(&self, available: u64, percent_min: u8) -> u64 {
        let in_one = |usage: &Usage| {
            let garbage = usage.file_bytes.saturating_sub(usage.live);
            let is_rewritten = garbage * 100 >= usage.file_bytes * u64::from(percent_min);
            if is_rewritten && usage.live <= available { garbage } else { 0 }
        };
        self.usage.values().map(in_one).sum()
    }

    /// The end of the last hour whose chunks must be removed so that `missing` bytes more become free. Hours count only if
    /// they free something.
    fn forced_before(&self, missing: u64, available: u64) -> Option<u64> {
        let (mut freed, mut before) = (0, None);
        let mut forced: BTreeMap<u32, u64> = BTreeMap::new();
        for hour in self.waiting.keys() {
            if freed >= missing {
                break;
            }
            for ((_, number), bytes) in self.waiting_in.range((*hour, 0)..=(*hour, u32::MAX)) {
                *forced.entry(*number).or_default() += bytes;
            }
            let fits = |number: &u32, bytes: u64| {
                let live = self.usage.get(number).map_or(0, |usage| usage.live);
                live.saturating_sub(bytes) <= available
            };
            let now =
                forced.iter().filter(|(number, bytes)| fits(number, **bytes)).map(|(_, bytes)| bytes).sum();
            if now > freed {
                (freed, before) = (now, Some((hour + 1) * HOUR_SECONDS));
            }
        }
        before
    }

    fn add(&mut self, row: &Row, is_free: bool, now: u64, window: u64) {
        let stored = u64::from(row.location.stored);
        let usage = self.usage.entry(row.location.container).or_default();
        let with_entry = stored + ENTRY_BYTES;
        // A chunk without a mark is marked now.
        let marked = if row.marked == 0 { now } else { row.marked };
        if !is_free {
            usage.live += with_entry;
        } else if marked.saturating_add(window) <= now {
            add(&mut self.due, 1, stored);
        } else {
            usage.live += with_entry;
            let hour = marked / HOUR_SECONDS;
            add(self.waiting.entry(hour).or_default(), 1, stored);
            *self.waiting_in.entry((hour, row.location.container)).or_default() += with_entry;
        }
    }

    /// Chunks that were marked before this are removed too.
    pub(super) fn force(&mut self, before: u64) {
        let first_kept = before.div_ceil(HOUR_SECONDS);
        let rest = self.waiting_in.split_off(&(first_kept, 0));
        for ((_, number), bytes) in std::mem::replace(&mut self.waiting_in, rest) {
            let usage = self.usage.entry(number).or_default();
            usage.live = usage.live.saturating_sub(bytes);
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Containers with their bytes and what of them is kept; and what waits of each hour, by container.
    fn survey(containers: &[(u32, u64, u64)], waiting: &[(u64, u32, u64)]) -> Survey {
        let mut survey = Survey::default();
        for &(number, file_bytes, live) in containers {
            survey.usage.insert(number, Usage { file_bytes, live });
        }
        for &(hour, number, bytes) in waiting {
            add(survey.waiting.entry(hour).or_default(), 1, bytes);
            survey.waiting_in.insert((hour, number), bytes);
        }
        survey
    }

    #[test]
    fn no_more_hours_are_forced_than_space_is_missing() {
        let survey = survey(&[(1, 100 * MIB, 100 * MIB)], &[(5, 1, MIB), (6, 1, MIB), (7, 1, MIB)]);
        assert_eq!(survey.forced_before(2 * MIB, 200 * MIB), Some(7 * HOUR_SECONDS));
        assert_eq!(survey.forced_before(0, 200 * MIB), None);
    }

    #[test]
    fn nothing_is_forced_in_containers_that_cannot_be_rewritten() {
        let large = survey(&[(1, 4000 * MIB, 4000 * MIB)], &[(5, 1, 100 * MIB)]);
        assert_eq!(large.forced_before(MIB, 900 * MIB), None);
        let both = survey(
            &[(1, 4000 * MIB, 4000 * MIB), (2, 64 * MIB, 64 * MIB)],
            &[(5, 1, 100 * MIB), (6, 2, 10 * MIB)],
        );
        assert_eq!(both.forced_before(MIB, 900 * MIB), Some(7 * HOUR_SECONDS), "the second can be");
    }

    #[test]
    fn garbage_that_needs_no_force_counts_if_its_container_is_rewritten() {
        let survey = survey(&[(1, 100, 50), (2, 100, 97), (3, 1000, 500)], &[]);
        assert_eq!(survey.garbage(400, 5), 50, "too little garbage in one, too little room for another");
    }
}
