//! Appends to one container.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{
    CHUNK_BYTES_MAX, CONTAINER_ENTRY_COUNT_MAX, CONTAINER_HEADER_BYTES, check_header, encode_index, header,
};
use super::journal::{self, Journal, PendingRecords};
use super::{
    ContainerEntry, ContainerError, Stored, decompress, id_of_path, journal_path, parent_of, reserve_space,
    sync_dir,
};
use crate::chunk_hash::ChunkHash;

/// A sync that has begun.
#[derive(Debug)]
pub struct PendingSync {
    path: PathBuf,
    file: Arc<File>,
    records: PendingRecords,
    end: usize,
}

impl PendingSync {
    /// Makes the bytes durable, and then their records.
    ///
    /// # Errors
    ///
    /// The operating system reports an error. It is not known what is durable.
    pub fn run(&self) -> Result<(), ContainerError> {
        self.file.sync_data().map_err(ContainerError::io(&self.path, "sync the container"))?;
        self.records.write()
    }
}

/// What opening a container for appending found and cut off.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes cut off the end of the container: chunks that were never synced, or part of one.
    pub data_bytes_cut: u64,
    /// Bytes cut off the end of the journal.
    pub journal_bytes_cut: u64,
    /// Unreadable records in the middle of the journal. Their chunks are in the container, but it does not list them
    /// any more.
    pub damaged_record_count: usize,
}

/// One container, open for appending.
///
/// A chunk can be read as soon as [`ContainerWriter::append_stored`] has returned its place and it was flushed. It is durable and
/// listed once [`ContainerWriter::sync`] has returned. Dropping a writer leaves an open container, which
/// [`ContainerWriter::open_append`] continues at its last sync.
#[derive(Debug)]
pub struct ContainerWriter {
    path: PathBuf,
    container_id: String,
    file: Arc<File>,
    journal: Journal,
    max_bytes: u64,
    end: u64,
    /// The last bytes before `end`, which are not in the file yet.
    buffer: Vec<u8>,
    buffer_bytes: usize,
    entries: Vec<ContainerEntry>,
    /// Number of `entries` that are in the journal.
    durable_count: usize,
    has_failed: bool,
    recovery: Recovery,
}

impl ContainerWriter {
    /// Creates a container for at most `max_bytes` bytes of chunks. The container and its name are durable. The path
    /// must be the container's id and `.orbitpak`.
    ///
    /// # Errors
    ///
    /// The file exists, or the operating system reports an error.
    pub fn create(path: impl AsRef<Path>, max_bytes: u64) -> Result<Self, ContainerError> {
        let path = path.as_ref();
        let container_id = id_of_path(path)?;
        // The container's name is created first, since a journal beside a sealed container would open it again.
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(ContainerError::io(path, "create the container"))?;
        let journal = Journal::create(journal_path(path))?;
        let written = file.write_all_at(&header(), 0).and_then(|()| file.sync_all());
        written.map_err(ContainerError::io(path, "write the header"))?;
        sync_dir(parent_of(path))?;
        Ok(Self {
            path: path.to_owned(),
            container_id,
            file: Arc::new(file),
            journal,
            max_bytes,
            end: CONTAINER_HEADER_BYTES,
            buffer: Vec::new(),
            buffer_bytes: 0,
            entries: Vec::new(),
            durable_count: 0,
            has_failed: false,
            recovery: Recovery::default(),
        })
    }

    /// Opens an unsealed container again, and cuts off what was not synced when its last writer ended.
    ///
    /// # Errors
    ///
    /// The container is missing, sealed, or damaged beyond a torn tail.
    pub fn open_append(path: impl AsRef<Path>, max_bytes: u64) -> Result<Self, ContainerError> {
        let path = path.as_ref();
        let container_id = id_of_path(path)?;
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(ContainerError::io(path, "open the container"))?;
        let file_end = file.metadata().map_err(ContainerError::io(path, "open the container"))?.len();
        let Some(mut replay) = journal::replay(&journal_path(path), file_end)? else {
            return Err(ContainerError::Sealed { path: path.to_owned() });
        };
        // The disk may have reported a sync falsely. What is after the last good chunk never counted.
        while replay.entries.last().is_some_and(|last| !is_intact(&file, last)) {
            replay.entries.pop();
            replay.record_ends.pop();
        }
        let (end, journal_end) = (replay.data_end(), replay.journal_end());
        if replay.entries.is_empty() && file_end < CONTAINER_HEADER_BYTES {
            // Its creation was interrupted.
            file.write_all_at(&header(), 0).map_err(ContainerError::io(path, "write the header"))?;
        }
        check_header(&file, path)?;
        let cut = file.set_len(end).and_then(|()| file.sync_all());
        cut.map_err(ContainerError::io(path, "cut the container"))?;
        let journal = Journal::open(journal_path(path), journal_end)?;
        sync_dir(parent_of(path))?;
        let recovery = Recovery {
            data_bytes_cut: file_end.saturating_sub(end),
            journal_bytes_cut: replay.file_end.saturating_sub(journal_end),
            damaged_record_count: replay.damaged_count,
        };
        Ok(Self {
            path: path.to_owned(),
            container_id,
            file: Arc::new(file),
            journal,
            max_bytes,
            end,
            buffer: Vec::new(),
            buffer_bytes: 0,
            durable_count: replay.entries.len(),
            entries: replay.entries,
            has_failed: false,
            recovery,
        })
    }

    /// Buffers up to `bytes` bytes of chunks and writes them at once. They can be read after
    /// [`ContainerWriter::flush`].
    pub fn set_buffer_bytes(&mut self, bytes: usize) {
        self.buffer_bytes = bytes;
    }

    /// Appends a chunk. A wrong hash makes a chunk that cannot be read.
    ///
    /// # Errors
    ///
    /// It does not fit, or cannot be written; then the container is unchanged.
    pub fn append_stored(
        &mut self,
        hash: ChunkHash,
        stored: &Stored<'_>,
    ) -> Result<ContainerEntry, ContainerError> {
        self.check_usable()?;
        let length = chunk_length(stored.length(), self.max_bytes)?;
        if stored.raw_length > CHUNK_BYTES_MAX {
            let (length, max_bytes) = (u64::from(stored.raw_length), u64::from(CHUNK_BYTES_MAX));
            return Err(ContainerError::ChunkTooLarge { length, max_bytes });
        }
        if !self.has_capacity(u64::from(length)) {
            return Err(ContainerError::Full { path: self.path.clone() });
        }
        // A chunk without space for its record could not be made durable.
        self.journal.reserve(self.entries.len() - self.durable_count + 1)?;
        if self.buffer.len() + length as usize > self.buffer_bytes {
            self.flush()?;
        }
        if length as usize > self.buffer_bytes {
            let written = self.file.write_all_at(&stored.bytes, self.end);
            written.map_err(ContainerError::io(&self.path, "write a chunk"))?;
        } else {
            self.buffer.extend_from_slice(&stored.bytes);
        }
        let entry = ContainerEntry { hash, offset: self.end, length, raw_length: stored.raw_length };
        self.end += u64::from(length);
        self.entries.push(entry);
        Ok(entry)
    }

    /// Writes the buffered chunks, so that they can be read.
    ///
    /// # Errors
    ///
    /// What could not be written stays buffered, and can be written later.
    pub fn flush(&mut self) -> Result<(), ContainerError> {
        while !self.buffer.is_empty() {
            match self.file.write_at(&self.buffer, self.flushed_end()) {
                Ok(0) => {
                    let error = std::io::Error::from(std::io::ErrorKind::WriteZero);
                    return Err(ContainerError::io(&self.path, "write chunks")(error));
                }
                Ok(written) => drop(self.buffer.drain(..written)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ContainerError::io(&self.path, "write chunks")(error)),
            }
        }
        Ok(())
    }

    /// Gives up the buffered chunks that cannot be written, so that those that were written completely can be made
    /// durable. Returns the number of chunks given up.
    pub fn give_up_held_back(&mut self) -> usize {
        let (written, before) = (self.flushed_end(), self.entries.len());
        let is_written = |entry: &ContainerEntry| entry.end() <= written;
        let kept = before - self.entries.iter().rev().take_while(|entry| !is_written(entry)).count();
        self.give_up_behind(kept);
        assert!(self.entries.len() == kept, "what is durable was written");
        before - kept
    }

    /// Gives up all chunks except the first `kept` and the durable ones, and frees their space. No sync may be under
    /// way. Returns the number of chunks that remain.
    pub fn give_up_behind(&mut self, kept: usize) -> usize {
        let kept = kept.clamp(self.durable_count, self.entries.len());
        if let Some(first) = self.entries.get(kept) {
            let (end, written) = (first.offset, self.flushed_end());
            self.entries.truncate(kept);
            self.buffer.truncate(end.saturating_sub(written) as usize);
            self.end = end;
            // If it cannot be cut, the next chunk is written over it.
            let _ = self.file.set_len(end.min(written));
        }
        kept
    }

    /// The end of what was written to the file; the rest is buffered.
    pub fn flushed_end(&self) -> u64 {
        self.end - self.buffer.len() as u64
    }

    /// Allocates disk space for this many more bytes of chunks.
    ///
    /// # Errors
    ///
    /// There is not enough space.
    pub fn reserve(&self, bytes: u64) -> Result<(), ContainerError> {
        reserve_space(&self.file, self.end, bytes).map_err(ContainerError::io(&self.path, "reserve space"))
    }

    /// Makes every chunk appended so far durable: first the bytes, then their records.
    ///
    /// # Errors
    ///
    /// Nothing appended since the last successful sync is durable, and the writer cannot be used any more: after a
    /// failed sync the next one may succeed without having written what the failed one dropped.
    pub fn sync(&mut self) -> Result<(), ContainerError> {
        let Some(pending) = self.begin_sync()? else { return Ok(()) };
        let result = pending.run();
        self.finish_sync(&pending, result.is_ok());
        result
    }

    /// The first half of [`ContainerWriter::sync`]: the work for [`PendingSync::run`], which can run while chunks are
    /// appended. `None` if all is durable.
    ///
    /// # Errors
    ///
    /// Buffered chunks cannot be written, and stay buffered.
    pub fn begin_sync(&mut self) -> Result<Option<PendingSync>, ContainerError> {
        self.check_usable()?;
        self.flush()?;
        if self.durable_count == self.entries.len() {
            return Ok(None);
        }
        let records = self.journal.pending(&self.entries[self.durable_count..]);
        let (path, file) = (self.path.clone(), Arc::clone(&self.file));
        Ok(Some(PendingSync { path, file, records, end: self.entries.len() }))
    }

    /// The second half. If syncs overlap, each counts for what it covers.
    pub fn finish_sync(&mut self, pending: &PendingSync, is_done: bool) {
        if !is_done {
            self.has_failed = true;
        } else if pending.end > self.durable_count {
            self.journal.advance(pending.end - self.durable_count);
            self.durable_count = pending.end;
        }
    }

    /// Syncs, appends the index and removes the journal. Nothing can be appended afterwards.
    ///
    /// # Errors
    ///
    /// The container stays open, with what was synced.
    pub fn seal(mut self) -> Result<(), ContainerError> {
        self.sync()?;
        let index = encode_index(&self.entries);
        // A failed append may have left bytes after the end, and the index must be the last part of the file.
        let written = self.file.set_len(self.end).and_then(|()| self.file.write_all_at(&index, self.end));
        let written = written.and_then(|()| self.file.sync_all());
        written.map_err(ContainerError::io(&self.path, "write the index"))?;
        self.journal.remove()?;
        sync_dir(parent_of(&self.path))
    }

    /// Whether a chunk of this length fits.
    pub fn has_capacity(&self, length: u64) -> bool {
        let size = self.current_size().checked_add(length);
        size.is_some_and(|size| size <= self.max_bytes) && self.entries.len() < CONTAINER_ENTRY_COUNT_MAX
    }

    /// Its id.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// Total size of its chunks in bytes, without header and index.
    fn current_size(&self) -> u64 {
        self.end - CONTAINER_HEADER_BYTES
    }

    /// Its chunks, synced or not.
    pub fn entries(&self) -> &[ContainerEntry] {
        &self.entries
    }

    /// Number of chunks in it.
    pub fn chunks_written(&self) -> usize {
        self.entries.len()
    }

    /// What opening it found.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    fn check_usable(&self) -> Result<(), ContainerError> {
        if self.has_failed { Err(ContainerError::SyncFailed { path: self.path.clone() }) } else { Ok(()) }
    }
}

/// The length in its stored type, if a container of this size can hold it.
pub(super) fn chunk_length(length: u64, max_bytes: u64) -> Result<u32, ContainerError> {
    let max_bytes = max_bytes.min(u64::from(u32::MAX));
    match u32::try_from(length) {
        Ok(stored) if length <= max_bytes => Ok(stored),
        _ => Err(ContainerError::ChunkTooLarge { length, max_bytes }),
    }
}

fn is_intact(file: &File, entry: &ContainerEntry) -> bool {
    let mut bytes = vec![0; entry.length as usize];
    if file.read_exact_at(&mut bytes, entry.offset).is_err() {
        return false;
    }
    let raw =
        if entry.length == entry.raw_length { Some(bytes) } else { decompress(&bytes, entry.raw_length) };
    raw.is_some_and(|raw| ChunkHash::of(&raw) == entry.hash)
}
