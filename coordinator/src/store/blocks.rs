//! Entries and ends of items in blocks: many neighbours in one record.
//!
//! A scan finds entries by the hundred and a report ends items by the hundred. A record of its own for each would be most
//! of what a commit costs, so a block holds the entries of 32 sequence numbers, or the ends of 128. A commit gathers what
//! it changes by block, and writes each block once.
//!
//! An entry block is 32 little-endian `u32`, where each entry ends, and then the entries as MessagePack; an entry that is
//! not there has no bytes. An end block is 128 little-endian `u32`: 0 for an item that has not ended, otherwise failed
//! attempts times 4 plus the end's code. Both stand behind the header of every record.

use std::collections::BTreeMap;

use orbit_shared::entry::Entry;
use orbit_shared::words::{ItemId, JobId};
use redb::{ReadableTable, Table, TableDefinition};

use super::StoreError;
use super::codec::{HEADER_BYTES, body, seal};
use crate::core::{ItemEnd, ItemEndRecord};

/// Job and number of the block.
type EntryKey = (u64, u64);
/// Job, destination and number of the block.
type EndKey = (u64, u32, u64);

pub(super) const ENTRIES: TableDefinition<EntryKey, &[u8]> = TableDefinition::new("entries");
pub(super) const ENDS: TableDefinition<EndKey, &[u8]> = TableDefinition::new("ends");

/// Sequence numbers that share a block of entries.
pub(super) const ENTRIES_PER_BLOCK: u64 = 32;
/// Sequence numbers that share a block of ends.
pub(super) const ENDS_PER_BLOCK: u64 = 128;

const WORD_BYTES: usize = 4;
const DIRECTORY_BYTES: usize = ENTRIES_PER_BLOCK as usize * WORD_BYTES;
const END_BLOCK_BYTES: usize = ENDS_PER_BLOCK as usize * WORD_BYTES;

/// What a commit changes, by block, until it is written.
#[derive(Debug, Default)]
pub(super) struct BlockChanges {
    entries: BTreeMap<EntryKey, BTreeMap<usize, Vec<u8>>>,
    ends: BTreeMap<EndKey, BTreeMap<usize, u32>>,
}

impl BlockChanges {
    /// An entry was found.
    pub(super) fn put_entry(&mut self, job: JobId, sequence: u64, entry: &Entry) {
        let encoded = rmp_serde::to_vec(entry).expect("an entry has no maps with unserializable keys");
        let (number, index) = place(sequence, ENTRIES_PER_BLOCK);
        self.entries.entry((job.0, number)).or_default().insert(index, encoded);
    }

    /// An item has ended, or `None`: is open again.
    pub(super) fn put_end(&mut self, item: ItemId, end: Option<&ItemEndRecord>) {
        let (number, index) = place(item.sequence, ENDS_PER_BLOCK);
        let word = end.map_or(0, encode_end);
        self.ends.entry((item.job.0, item.destination, number)).or_default().insert(index, word);
    }

    /// Writes everything gathered so far.
    pub(super) fn write(
        &mut self,
        entries: &mut Table<'_, EntryKey, &'static [u8]>,
        ends: &mut Table<'_, EndKey, &'static [u8]>,
    ) -> Result<(), redb::Error> {
        for (key, changed) in std::mem::take(&mut self.entries) {
            let block = {
                let before = entries.get(key)?;
                let before = before.as_ref().map(|block| body("entries", block.value())).transpose();
                entry_block(before.map_err(|error| corrupted(&error))?, &changed)
            };
            entries.insert(key, block.as_slice())?;
        }
        for (key, changed) in std::mem::take(&mut self.ends) {
            let mut block = vec![0; HEADER_BYTES + END_BLOCK_BYTES];
            if let Some(before) = ends.get(key)? {
                let before = body("ends", before.value()).map_err(|error| corrupted(&error))?;
                if before.len() != END_BLOCK_BYTES {
                    return Err(corrupted(&damaged("ends", "it has another length")));
                }
                block[HEADER_BYTES..].copy_from_slice(before);
            }
            for (index, word) in changed {
                let at = HEADER_BYTES + index * WORD_BYTES;
                block[at..at + WORD_BYTES].copy_from_slice(&word.to_le_bytes());
            }
            seal(&mut block);
            ends.insert(key, block.as_slice())?;
        }
        Ok(())
    }
}

/// Removes the blocks of items from one sequence number up to before another.
pub(super) fn remove(
    entries: &mut Table<'_, EntryKey, &'static [u8]>,
    ends: &mut Table<'_, EndKey, &'static [u8]>,
    (job, destinations): (JobId, u32),
    (from, until): (u64, u64),
) -> Result<(), redb::Error> {
    let blocks = |per_block: u64| (from / per_block, until.div_ceil(per_block));
    let (first, end) = blocks(ENTRIES_PER_BLOCK);
    entries.retain_in((job.0, first)..(job.0, end), |_, _| false)?;
    let (first, end) = blocks(ENDS_PER_BLOCK);
    for destination in 0..destinations {
        ends.retain_in((job.0, destination, first)..(job.0, destination, end), |_, _| false)?;
    }
    Ok(())
}

/// One entry, if there is one of this number.
pub(super) fn entry(
    table: &impl ReadableTable<EntryKey, &'static [u8]>,
    job: JobId,
    sequence: u64,
) -> Result<Option<Entry>, StoreError> {
    let (number, index) = place(sequence, ENTRIES_PER_BLOCK);
    let found = table.get((job.0, number)).map_err(redb::Error::from);
    match found.map_err(super::embedded::engine("read an entry"))? {
        Some(block) => entry_in(block.value(), index),
        None => Ok(None),
    }
}

/// Entries of a job from a number on, with their numbers.
pub(super) fn entries_from(
    table: &impl ReadableTable<EntryKey, &'static [u8]>,
    job: JobId,
    start: u64,
    limit: usize,
) -> Result<Vec<(u64, Entry)>, StoreError> {
    let failed = super::embedded::engine("listed entries");
    let first = start / ENTRIES_PER_BLOCK;
    let rows = table.range((job.0, first)..=(job.0, u64::MAX)).map_err(redb::Error::from).map_err(&failed)?;
    let mut found = Vec::new();
    for row in rows {
        let (key, block) = row.map_err(redb::Error::from).map_err(&failed)?;
        let (_, number) = key.value();
        for index in 0..ENTRIES_PER_BLOCK {
            let sequence = number * ENTRIES_PER_BLOCK + index;
            if sequence < start {
                continue;
            }
            if found.len() == limit {
                return Ok(found);
            }
            if let Some(entry) = entry_in(block.value(), index as usize)? {
                found.push((sequence, entry));
            }
        }
    }
    Ok(found)
}

/// How an item ended, if it has.
pub(super) fn end(
    table: &impl ReadableTable<EndKey, &'static [u8]>,
    item: ItemId,
) -> Result<Option<ItemEndRecord>, StoreError> {
    let (number, index) = place(item.sequence, ENDS_PER_BLOCK);
    let found = table.get((item.job.0, item.destination, number)).map_err(redb::Error::from);
    let Some(block) = found.map_err(super::embedded::engine("read an end"))? else { return Ok(None) };
    let words = body("ends", block.value())?;
    let word = word_at(words, index).ok_or_else(|| damaged("ends", "it is too short"))?;
    decode_end(word)
}

/// The block of a sequence number, and its index there.
fn place(sequence: u64, per_block: u64) -> (u64, usize) {
    (sequence / per_block, (sequence % per_block) as usize)
}

/// A block with what its body had before and what has changed.
fn entry_block(before: Option<&[u8]>, changed: &BTreeMap<usize, Vec<u8>>) -> Vec<u8> {
    let mut block = vec![0; HEADER_BYTES + DIRECTORY_BYTES];
    for index in 0..ENTRIES_PER_BLOCK as usize {
        match (changed.get(&index), before) {
            (Some(entry), _) => block.extend(entry),
            (None, Some(before)) => block.extend(slice_in(before, index).unwrap_or_default()),
            (None, None) => {}
        }
        // 32 entries of at most 8 KiB each.
        let end = (block.len() - HEADER_BYTES - DIRECTORY_BYTES) as u32;
        let at = HEADER_BYTES + index * WORD_BYTES;
        block[at..at + WORD_BYTES].copy_from_slice(&end.to_le_bytes());
    }
    seal(&mut block);
    block
}

fn entry_in(block: &[u8], index: usize) -> Result<Option<Entry>, StoreError> {
    let body = body("entries", block)?;
    let bytes = slice_in(body, index).ok_or_else(|| damaged("entries", "its directory makes no sense"))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    rmp_serde::from_slice(bytes).map(Some).map_err(|error| damaged("entries", &error.to_string()))
}

/// The bytes of one entry; `None` where the directory makes no sense.
fn slice_in(body: &[u8], index: usize) -> Option<&[u8]> {
    let start = if index == 0 { 0 } else { word_at(body, index - 1)? };
    let end = word_at(body, index)?;
    body.get(DIRECTORY_BYTES + start as usize..DIRECTORY_BYTES + end as usize)
}

fn word_at(words: &[u8], index: usize) -> Option<u32> {
    let bytes = words.get(index * WORD_BYTES..(index + 1) * WORD_BYTES)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// Attempts are far fewer than 2^30: each waits for a second at least.
fn encode_end(record: &ItemEndRecord) -> u32 {
    let code = match record.end {
        ItemEnd::Stored => 1,
        ItemEnd::Skipped => 2,
        ItemEnd::Dead => 3,
    };
    (record.attempts << 2) | code
}

fn decode_end(word: u32) -> Result<Option<ItemEndRecord>, StoreError> {
    let end = match word & 3 {
        1 => ItemEnd::Stored,
        2 => ItemEnd::Skipped,
        3 => ItemEnd::Dead,
        _ if word == 0 => return Ok(None),
        _ => return Err(damaged("ends", "an end has no kind")),
    };
    Ok(Some(ItemEndRecord { end, attempts: word >> 2 }))
}

/// Damage that shows while a block is changed. The commit fails, so that nothing is built on it.
fn corrupted(error: &StoreError) -> redb::Error {
    redb::Error::Corrupted(error.to_string())
}

fn damaged(table: &'static str, problem: &str) -> StoreError {
    StoreError::Damaged { table, problem: problem.to_owned() }
}

#[cfg(test)]
mod tests {
    use orbit_shared::entry::EntryKind;
    use orbit_shared::time::WallTime;
    use proptest::prelude::*;

    use super::*;
    use crate::core::Change;
    use crate::store::{EmbeddedStore, Store as _};

    const JOB: JobId = JobId(3);

    fn named(sequence: u64) -> Entry {
        let path = format!("directory/{sequence}").into_bytes();
        let kind = EntryKind::File { size: sequence };
        Entry { path, kind, mode: 0o644, modified: WallTime::UNIX_EPOCH, rank: 2 }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        // However a scan and reports are cut into commits, each entry and end is what was last said of it.
        #[test]
        fn blocks_hold_what_single_records_would(
            cuts in proptest::collection::vec(1_u64..70, 1..6),
            said in proptest::collection::vec((0_u64..300, proptest::option::of((0_u8..3, 0_u32..9))), 0..200),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let store = EmbeddedStore::open(&directory.path().join("store")).unwrap();
            let mut next = 0;
            for cut in cuts {
                let entry = |sequence| Change::PutEntry { job: JOB, sequence, entry: named(sequence).into() };
                store.commit(&(next..next + cut).map(entry).collect::<Vec<_>>()).unwrap();
                next += cut;
            }
            let mut ends = BTreeMap::new();
            for part in said.chunks(37) {
                let mut changes = Vec::new();
                for &(sequence, end) in part {
                    let item = ItemId { job: JOB, destination: 1, sequence };
                    let kinds = [ItemEnd::Stored, ItemEnd::Skipped, ItemEnd::Dead];
                    let record =
                        end.map(|(kind, attempts)| ItemEndRecord { end: kinds[usize::from(kind)], attempts });
                    changes.push(record.map_or(Change::RemoveEnd(item), |record| Change::PutEnd { item, record }));
                    ends.insert(sequence, record);
                }
                store.commit(&changes).unwrap();
            }
            let listed = store.items(JOB, 2, 5, 1000).unwrap();
            prop_assert_eq!(listed.len() as u64, next.saturating_sub(5));
            for (entry, items) in listed {
                let sequence = items[0].id.sequence;
                prop_assert_eq!(&entry, &named(sequence));
                prop_assert_eq!(items[0].end, None);
                prop_assert_eq!(items[1].end, ends.get(&sequence).copied().flatten());
            }
            let beyond = ItemId { job: JOB, destination: 1, sequence: next };
            prop_assert_eq!(store.item(beyond).unwrap(), None);
        }
    }
}
