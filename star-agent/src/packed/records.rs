//! Snapshot records: small files named by the snapshot's id. Each contains its record twice, so that a damaged byte
//! does not lose a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use orbit_shared::words::{JobId, StarId};

use super::codec::{Decoder, Encoder, open_record, seal_record};
use super::error::{PackedError, Result};
use super::types::{SnapshotId, SnapshotRecord, SourceName, StageId};

const MAGIC: &[u8; 8] = b"ORBITSNP";
const VERSION: u32 = 1;

/// All snapshots.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    records: BTreeMap<SnapshotId, SnapshotRecord>,
    newest: BTreeMap<SourceName, SnapshotId>,
    /// Snapshots whose records cannot be read.
    pub(super) damaged: BTreeSet<SnapshotId>,
}

impl Shelf {
    pub(super) fn records(&self) -> &BTreeMap<SnapshotId, SnapshotRecord> {
        &self.records
    }

    /// The newest snapshot of the same source.
    pub(super) fn newest_of(&self, source: &SourceName) -> Option<&SnapshotRecord> {
        self.newest.get(source).and_then(|id| self.records.get(id))
    }

    /// The snapshot of the same source that was made before this one.
    pub(super) fn previous_of(&self, record: &SnapshotRecord) -> Option<&SnapshotRecord> {
        let order = |one: &SnapshotRecord| (one.sealed, one.id);
        let others = self.records.values().filter(|other| other.source == record.source);
        others.filter(|other| order(other) < order(record)).max_by_key(|other| order(other))
    }

    pub(super) fn insert(&mut self, record: SnapshotRecord) {
        let newest = self.newest.get(&record.source).and_then(|id| self.records.get(id));
        if newest.is_none_or(|newest| (newest.sealed, newest.id) < (record.sealed, record.id)) {
            self.newest.insert(record.source.clone(), record.id);
        }
        self.damaged.remove(&record.id);
        self.records.insert(record.id, record);
    }

    pub(super) fn remove(&mut self, id: &SnapshotId) {
        self.damaged.remove(id);
        let Some(record) = self.records.remove(id) else { return };
        self.newest.remove(&record.source);
        let others = self.records.values().filter(|other| other.source == record.source);
        if let Some(newest) = others.max_by_key(|other| (other.sealed, other.id)) {
            self.newest.insert(newest.source.clone(), newest.id);
        }
    }

    /// Reads the records of a directory.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let mut shelf = Self::default();
        for id in ids(dir)? {
            match read(dir, &id)? {
                Some(found) => shelf.insert(found.record),
                None => {
                    shelf.damaged.insert(id);
                }
            }
        }
        Ok(shelf)
    }
}

/// The ids of all records in a directory.
pub(super) fn ids(dir: &Path) -> Result<Vec<SnapshotId>> {
    let failed = |error| PackedError::io(dir, "list the snapshots")(error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        found.extend(name.to_str().and_then(|name| name.parse::<SnapshotId>().ok()));
    }
    Ok(found)
}

/// Removes a record. The removal is not synced: a record that reappears is removed again.
pub(super) fn remove(dir: &Path, id: &SnapshotId) -> Result<()> {
    let path = dir.join(id.to_string());
    fs::remove_file(&path).map_err(PackedError::io(&path, "remove the snapshot"))
}

/// A record that was read.
pub(super) struct Found {
    pub(super) record: SnapshotRecord,
    /// Whether the whole file is undamaged.
    pub(super) is_whole: bool,
}

/// Reads one record; `None` if both copies are damaged.
pub(super) fn read(dir: &Path, id: &SnapshotId) -> Result<Option<Found>> {
    let path = dir.join(id.to_string());
    let bytes = fs::read(&path).map_err(PackedError::io(&path, "read the snapshot"))?;
    // Both copies have the same length, so each is half of the file. A truncated file still begins with the first copy.
    let whole =
        |copy: &[u8]| open_record(MAGIC, VERSION, copy).and_then(decode).filter(|record| record.id == *id);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let (first, second) = (whole(first), whole(second));
    if let (Some(record), Some(other)) = (&first, &second) {
        let is_whole = record == other && bytes.len().is_multiple_of(2);
        return Ok(Some(Found { record: record.clone(), is_whole }));
    }
    let cut = || {
        bytes.get(12..16).and_then(|length| {
            let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
            bytes.get(..length.checked_add(48)?).and_then(whole)
        })
    };
    Ok(first.or(second).or_else(cut).map(|record| Found { record, is_whole: false }))
}

/// Writes a record atomically.
pub(super) fn write(dir: &Path, record: &SnapshotRecord) -> Result<()> {
    let name = record.id.to_string();
    let copy = seal_record(MAGIC, VERSION, &encode(record));
    let written = crate::vault::publish(dir, &name, &copy.repeat(2));
    written.map_err(PackedError::io(&dir.join(name), "write the snapshot"))
}

fn encode(record: &SnapshotRecord) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.0.extend_from_slice(&record.id.0);
    encoder.u64(record.stage.job.0);
    encoder.u32(record.stage.destination);
    encoder.bytes(record.source.star.as_str().as_bytes());
    encoder.bytes(&record.source.path);
    encoder.time(record.created);
    encoder.time(record.sealed);
    encoder.u8(u8::from(record.is_partial));
    encoder.u64(record.entry_count);
    encoder.u64(record.file_count);
    encoder.u64(record.total_bytes);
    encoder.u64(record.new_bytes);
    encoder.chunk(&record.root);
    encoder.u32(u32::try_from(record.tags.len()).unwrap_or(u32::MAX));
    for tag in &record.tags {
        encoder.bytes(tag.as_bytes());
    }
    // Only if there are any, so that other records are the same as before this field existed.
    if record.changed_count > 0 {
        encoder.u64(record.changed_count);
    }
    encoder.0
}

fn decode(payload: &[u8]) -> Option<SnapshotRecord> {
    let mut fields = Decoder(payload);
    let id = SnapshotId(fields.array()?);
    let stage = StageId { job: JobId(fields.u64()?), destination: fields.u32()? };
    let star = StarId::new(std::str::from_utf8(fields.bytes()?).ok()?).ok()?;
    let source = SourceName { star, path: fields.bytes()?.to_vec() };
    let (created, sealed) = (fields.time()?, fields.time()?);
    let is_partial = fields.u8()? == 1;
    let (entry_count, file_count) = (fields.u64()?, fields.u64()?);
    let (total_bytes, new_bytes) = (fields.u64()?, fields.u64()?);
    let root = fields.chunk()?;
    let count = fields.u32()?;
    let tag = |fields: &mut Decoder<'_>| Some(std::str::from_utf8(fields.bytes()?).ok()?.to_owned());
    let mut tags = Vec::new();
    for _ in 0..count {
        tags.push(tag(&mut fields)?);
    }
    let changed_count = if fields.is_at_end() { 0 } else { fields.u64()? };
    let record = SnapshotRecord {
        id,
        stage,
        source,
        created,
        sealed,
        tags,
        is_partial,
        entry_count,
        file_count,
        total_bytes,
        new_bytes,
        root,
        changed_count,
    };
    fields.is_at_end().then_some(record)
}

#[cfg(test)]
mod tests {
    use orbit_shared::chunk_hash::ChunkHash;
    use orbit_shared::time::WallTime;

    use super::*;
    use crate::packed::types::ChunkRef;

    fn record(id: u8, sealed: i64) -> SnapshotRecord {
        SnapshotRecord {
            id: SnapshotId([id; 16]),
            stage: StageId { job: JobId(7), destination: 1 },
            source: SourceName { star: StarId::new("star-1").unwrap(), path: b"/data".to_vec() },
            created: WallTime { seconds: 5, nanos: 1 },
            sealed: WallTime { seconds: sealed, nanos: 2 },
            tags: vec!["a".to_owned(), "b".to_owned()],
            is_partial: true,
            entry_count: 1,
            file_count: 2,
            total_bytes: 3,
            new_bytes: 4,
            root: ChunkRef { hash: ChunkHash::of(b"root"), length: 10 },
            changed_count: u64::from(id) - 1,
        }
    }

    #[test]
    fn a_changed_byte_loses_no_snapshot_and_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let record = record(1, 6);
        write(dir.path(), &record).unwrap();
        let path = dir.path().join(record.id.to_string());
        let whole = fs::read(&path).unwrap();
        assert!(read(dir.path(), &record.id).unwrap().unwrap().is_whole);
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 0x80;
            fs::write(&path, &changed).unwrap();
            let found = read(dir.path(), &record.id).unwrap().unwrap();
            assert!(found.record == record && !found.is_whole, "{index}");
        }
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let found = read(dir.path(), &record.id).unwrap();
            assert_eq!(found.is_some(), length >= whole.len() / 2, "{length}");
            assert!(found.is_none_or(|found| found.record == record && !found.is_whole), "{length}");
        }
    }

    #[test]
    fn the_newest_snapshot_of_a_source_is_known_after_additions_and_removals() {
        let mut shelf = Shelf::default();
        let source = record(1, 1).source;
        for (id, sealed) in [(1, 10), (2, 30), (3, 20)] {
            shelf.insert(record(id, sealed));
        }
        let newest = |shelf: &Shelf| shelf.newest_of(&source).map(|record| record.id.0[0]);
        assert_eq!(newest(&shelf), Some(2));
        shelf.remove(&SnapshotId([2; 16]));
        assert_eq!(newest(&shelf), Some(3));
        shelf.remove(&SnapshotId([3; 16]));
        shelf.remove(&SnapshotId([1; 16]));
        assert_eq!(newest(&shelf), None);
    }
}
