//! The journal beside an open container: which of its chunks are durable.
//!
//! ```text
//! 0    magic "ORBITJNL" (8)  version u32 (4)  zero (4)
//! 16   record (56) ...
//! ```
//!
//! A record is an entry (48) and the first 8 bytes of its BLAKE3 hash. It is written after its chunk was synced, so a
//! record proves that its chunk is durable. Records have a fixed length: a damaged one in the middle does not affect
//! those after it. Damaged ones at the end are the result of a crash and are cut off.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{
    CONTAINER_ENTRY_COUNT_MAX, CONTAINER_HEADER_BYTES, ENTRY_BYTES, decode_entry, encode_entry,
};
use super::{ContainerEntry, ContainerError, is_disk_full, reserve_space};

const JOURNAL_MAGIC: &[u8; 8] = b"ORBITJNL";
const JOURNAL_VERSION: u32 = 1;
const JOURNAL_HEADER_BYTES: usize = 16;
const CHECK_BYTES: usize = 8;
const RECORD_BYTES: usize = ENTRY_BYTES + CHECK_BYTES;
/// Number of bytes by which the allocated space for records grows.
const RESERVED_BYTES: u64 = 64 * 1024;
const JOURNAL_BYTES_MAX: u64 = (JOURNAL_HEADER_BYTES + CONTAINER_ENTRY_COUNT_MAX * 2 * RECORD_BYTES) as u64;

/// An open journal.
#[derive(Debug)]
pub(super) struct Journal {
    file: Arc<File>,
    path: PathBuf,
    end: u64,
    /// End of the allocated space.
    reserved_end: u64,
}

/// Records that are not in the journal yet.
#[derive(Debug)]
pub(super) struct PendingRecords {
    file: Arc<File>,
    path: PathBuf,
    at: u64,
    records: Vec<u8>,
}

impl PendingRecords {
    /// Writes the records and makes them durable. It can be repeated.
    pub(super) fn write(&self) -> Result<(), ContainerError> {
        let written = self.file.write_all_at(&self.records, self.at).and_then(|()| self.file.sync_data());
        written.map_err(ContainerError::io(&self.path, "write the journal"))
    }
}

/// The content of a journal.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The chunks, in order of their offsets.
    pub(super) entries: Vec<ContainerEntry>,
    /// The end of each entry's record, so that the journal can be cut after it.
    pub(super) record_ends: Vec<u64>,
    /// Number of damaged records with good ones after them.
    pub(super) damaged_count: usize,
    /// Length of the file.
    pub(super) file_end: u64,
}

impl Journal {
    /// Creates a journal. All but its name is durable. A leftover of the same name is overwritten: the caller has just
    /// created the container.
    pub(super) fn create(path: PathBuf) -> Result<Self, ContainerError> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        let file = options.map_err(ContainerError::io(&path, "create the journal"))?;
        let written = file.write_all_at(&journal_header(), 0).and_then(|()| file.sync_all());
        written.map_err(ContainerError::io(&path, "write the journal"))?;
        let end = JOURNAL_HEADER_BYTES as u64;
        Ok(Self { file: Arc::new(file), path, end, reserved_end: end })
    }

    /// Opens a journal for appending at its end.
    pub(super) fn open(path: PathBuf, end: u64) -> Result<Self, ContainerError> {
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.map_err(ContainerError::io(&path, "open the journal"))?;
        let cut = file.set_len(end).and_then(|()| file.sync_all());
        cut.map_err(ContainerError::io(&path, "cut the journal"))?;
        Ok(Self { file: Arc::new(file), path, end, reserved_end: end })
    }

    /// Allocates disk space for `count` records after the existing ones, and for some more if there is space: chunks
    /// that fit can then be made durable after the disk is full.
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), ContainerError> {
        let needed = (count * RECORD_BYTES) as u64;
        if self.end + needed <= self.reserved_end {
            return Ok(());
        }
        let reserve = |bytes| reserve_space(&self.file, self.end, bytes).map(|()| self.end + bytes);
        let reserved = match reserve(needed + RESERVED_BYTES) {
            Err(error) if is_disk_full(&error) => reserve(needed),
            reserved => reserved,
        };
        self.reserved_end =
            reserved.map_err(ContainerError::io(&self.path, "reserve space for the journal"))?;
        Ok(())
    }

    /// The records that make these entries durable, after the existing ones. [`Journal::advance`] moves the end.
    pub(super) fn pending(&self, entries: &[ContainerEntry]) -> PendingRecords {
        let mut records = Vec::with_capacity(entries.len() * RECORD_BYTES);
        for entry in entries {
            let bytes = encode_entry(entry);
            records.extend(bytes);
            records.extend(check(&bytes));
        }
        PendingRecords { file: Arc::clone(&self.file), path: self.path.clone(), at: self.end, records }
    }

    /// `count` more records are durable.
    pub(super) fn advance(&mut self, count: usize) {
        self.end += (count * RECORD_BYTES) as u64;
    }

    /// Removes the journal: its container is sealed.
    pub(super) fn remove(self) -> Result<(), ContainerError> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ContainerError::io(&self.path, "remove the journal")(error))
            }
            // It was removed already. The index has all of its content.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Reads a journal; `None` if there is none. Records of chunks beyond `data_end` count as damaged.
pub(super) fn replay(path: &Path, data_end: u64) -> Result<Option<Replay>, ContainerError> {
    let io = |error| ContainerError::io(path, "read the journal")(error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let file_end = file.metadata().map_err(io)?.len();
    if file_end > JOURNAL_BYTES_MAX {
        return Err(ContainerError::damaged(path, "the journal is longer than it can be"));
    }
    let mut bytes = vec![0; file_end as usize];
    file.read_exact_at(&mut bytes, 0).map_err(io)?;
    let Some(records) = bytes.strip_prefix(&journal_header()) else {
        return Err(ContainerError::damaged(path, "the journal's header"));
    };
    let mut replay = Replay { file_end, ..Replay::default() };
    let (mut bad_count, mut expected) = (0, CONTAINER_HEADER_BYTES);
    let mut record_end = JOURNAL_HEADER_BYTES as u64;
    for record in records.chunks_exact(RECORD_BYTES) {
        record_end += RECORD_BYTES as u64;
        let (entry, found) = record.split_at(ENTRY_BYTES);
        let entry = decode_entry(entry, data_end)
            .filter(|entry| found == check(&record[..ENTRY_BYTES]) && entry.offset >= expected);
        match entry {
            Some(entry) => {
                expected = entry.end();
                replay.damaged_count += std::mem::take(&mut bad_count);
                replay.entries.push(entry);
                replay.record_ends.push(record_end);
            }
            None => bad_count += 1,
        }
    }
    Ok(Some(replay))
}

impl Replay {
    /// The end of the journal's last good record.
    pub(super) fn journal_end(&self) -> u64 {
        self.record_ends.last().copied().unwrap_or(JOURNAL_HEADER_BYTES as u64)
    }

    /// The end of the last durable chunk.
    pub(super) fn data_end(&self) -> u64 {
        self.entries.last().map_or(CONTAINER_HEADER_BYTES, ContainerEntry::end)
    }
}

fn journal_header() -> [u8; JOURNAL_HEADER_BYTES] {
    let mut header = [0; JOURNAL_HEADER_BYTES];
    header[..8].copy_from_slice(JOURNAL_MAGIC);
    header[8..12].copy_from_slice(&JOURNAL_VERSION.to_le_bytes());
    header
}

fn check(entry: &[u8]) -> [u8; CHECK_BYTES] {
    super::format::array(&blake3::hash(entry).as_bytes()[..CHECK_BYTES])
}
