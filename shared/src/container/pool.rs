//! A directory of containers: an open one, and the others to read from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::format::CONTAINER_HEADER_BYTES;
use super::writer::chunk_length;
use super::{
    CONTAINER_SUFFIX, ContainerError, ContainerReader, ContainerWriter, PackedChunkRef, id_of_path,
    is_container_id, journal_path, sync_dir,
};
use crate::chunk_hash::ChunkHash;

/// Maximum number of containers that a pool keeps open for reading.
pub const CONTAINER_READERS_MAX: usize = 64;

/// Counters since a pool was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ContainerPoolStats {
    /// Containers begun.
    pub containers_created: u64,
    /// Chunks written.
    pub total_chunks: u64,
    /// Bytes of chunks written.
    pub total_bytes: u64,
    /// Bytes of chunks in the open container; 0 if there is none.
    pub active_container_size: u64,
}

/// A container that could not be opened again when the pool was opened. Its chunks may still be readable.
#[derive(Debug)]
pub struct DamagedContainer {
    /// Its file.
    pub path: PathBuf,
    /// The error.
    pub error: ContainerError,
}

/// Writes chunks into containers of a bounded size and reads them back.
///
/// An id is a sequence number, which continues after the highest one in the directory, and a random part, so that ids
/// differ between restarts, directories and Stars.
#[derive(Debug)]
pub struct ContainerPool {
    dir: PathBuf,
    max_bytes: u64,
    active: Option<ContainerWriter>,
    next_sequence: u64,
    /// Most recently used last.
    readers: Mutex<Vec<Arc<ContainerReader>>>,
    damaged: Vec<DamagedContainer>,
    stats: ContainerPoolStats,
}

impl ContainerPool {
    /// Opens a directory, which is created if needed, for containers of at most `max_bytes` bytes of chunks each. Of
    /// the containers that were left open, the newest one is continued if it has room; all others are sealed.
    ///
    /// # Errors
    ///
    /// The directory cannot be made or read. A damaged container is no error, see [`ContainerPool::damaged`].
    pub fn new(dir: impl AsRef<Path>, max_bytes: u64) -> Result<Self, ContainerError> {
        let dir = dir.as_ref().to_owned();
        std::fs::create_dir_all(&dir).map_err(ContainerError::io(&dir, "create the directory"))?;
        let mut pool = Self {
            dir,
            max_bytes,
            active: None,
            next_sequence: 0,
            readers: Mutex::new(Vec::new()),
            damaged: Vec::new(),
            stats: ContainerPoolStats::default(),
        };
        for (id, path) in pool.scan()? {
            let sequence = id.split('-').next().and_then(|number| number.parse::<u64>().ok());
            pool.next_sequence =
                pool.next_sequence.max(sequence.map_or(0, |number| number.saturating_add(1)));
            if let Err(error) = pool.take_up(&path) {
                pool.damaged.push(DamagedContainer { path, error });
            }
        }
        Ok(pool)
    }

    /// Writes a chunk, into a new container if the open one has no room for it. It can be read at once and is durable
    /// after [`ContainerPool::sync`].
    ///
    /// # Errors
    ///
    /// It is too large for any container, or the operating system reports an error.
    pub fn write_chunk(&mut self, bytes: &[u8]) -> Result<PackedChunkRef, ContainerError> {
        self.write_hashed(ChunkHash::of(bytes), bytes)
    }

    /// As [`ContainerPool::write_chunk`] for bytes whose hash the caller has just computed.
    ///
    /// # Errors
    ///
    /// As [`ContainerPool::write_chunk`].
    pub fn write_hashed(&mut self, hash: ChunkHash, bytes: &[u8]) -> Result<PackedChunkRef, ContainerError> {
        // Checked before anything is created, otherwise every attempt would leave an empty container.
        let length = u64::from(chunk_length(bytes.len() as u64, self.max_bytes)?);
        if self.active.as_ref().is_some_and(|active| !active.has_capacity(length)) {
            self.seal()?;
        }
        let active = match &mut self.active {
            Some(active) => active,
            None => {
                let created = ContainerWriter::create(self.next_path(), self.max_bytes)?;
                self.next_sequence += 1;
                self.stats.containers_created += 1;
                self.active.insert(created)
            }
        };
        let chunk_ref = active.append_hashed(hash, bytes)?;
        self.stats.total_chunks += 1;
        self.stats.total_bytes += length;
        Ok(chunk_ref)
    }

    /// Reads a chunk and checks its hash.
    ///
    /// # Errors
    ///
    /// There is no such container or place in it, or the bytes there have another hash.
    pub fn read_chunk(
        &self,
        chunk_ref: &PackedChunkRef,
        expected: &ChunkHash,
    ) -> Result<Vec<u8>, ContainerError> {
        self.reader(&chunk_ref.container_id)?.read_chunk(chunk_ref, expected)
    }

    /// Makes every chunk written so far durable.
    ///
    /// # Errors
    ///
    /// The chunks written since the last sync are lost and must be written again. The pool continues in a new
    /// container.
    pub fn sync(&mut self) -> Result<(), ContainerError> {
        let synced = self.active.as_mut().map_or(Ok(()), ContainerWriter::sync);
        if synced.is_err() {
            self.active = None;
        }
        synced
    }

    /// Seals the open container, if there is one.
    ///
    /// # Errors
    ///
    /// As [`ContainerPool::sync`].
    pub fn seal(&mut self) -> Result<(), ContainerError> {
        self.active.take().map_or(Ok(()), ContainerWriter::seal)
    }

    /// Counters since it was opened.
    pub fn stats(&self) -> ContainerPoolStats {
        let active_container_size = self.active.as_ref().map_or(0, ContainerWriter::current_size);
        ContainerPoolStats { active_container_size, ..self.stats }
    }

    /// The containers that could not be opened again.
    pub fn damaged(&self) -> &[DamagedContainer] {
        &self.damaged
    }

    /// The ids of all containers in the directory, in order.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn container_ids(&self) -> Result<Vec<String>, ContainerError> {
        Ok(self.scan()?.into_keys().collect())
    }

    /// Every durable chunk and its place, from the containers alone, one container after the other. A container whose
    /// list is damaged yields one error, and the others are still read.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn rebuild_index(
        &self,
    ) -> Result<impl Iterator<Item = Result<(ChunkHash, PackedChunkRef), ContainerError>>, ContainerError>
    {
        let paths = self.scan()?.into_values();
        Ok(paths.flat_map(|path| match listed_chunks(&path) {
            Ok(chunks) => chunks.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        }))
    }

    /// Number of containers that are open for reading, at most [`CONTAINER_READERS_MAX`].
    pub fn open_reader_count(&self) -> usize {
        self.lock_readers().len()
    }

    /// Removes a container whose chunks have been moved.
    ///
    /// # Errors
    ///
    /// There is no such container, or it is the open one.
    pub fn remove_container(&mut self, container_id: &str) -> Result<(), ContainerError> {
        let path = self.path_of(container_id)?;
        if self.active.as_ref().is_some_and(|active| active.container_id() == container_id) {
            let in_use = std::io::ErrorKind::ResourceBusy.into();
            return Err(ContainerError::io(&path, "remove the container that grows")(in_use));
        }
        self.lock_readers().retain(|reader| reader.container_id() != container_id);
        std::fs::remove_file(&path).map_err(ContainerError::io(&path, "remove the container"))?;
        // It exists only if the container could not be opened again. A journal alone is never read.
        let _ = std::fs::remove_file(journal_path(&path));
        sync_dir(&self.dir)
    }

    fn take_up(&mut self, path: &Path) -> Result<(), ContainerError> {
        let io = |error| ContainerError::io(path, "look at the container")(error);
        if !journal_path(path).try_exists().map_err(io)? {
            // Without journal and index, and too short for a chunk: its creation was interrupted.
            if std::fs::metadata(path).map_err(io)?.len() <= CONTAINER_HEADER_BYTES {
                std::fs::remove_file(path).map_err(ContainerError::io(path, "remove the empty container"))?;
            }
            return Ok(());
        }
        let writer = ContainerWriter::open_append(path, self.max_bytes)?;
        // Containers come in order of their numbers, so the one before is older.
        if let Some(older) = self.active.replace(writer) {
            let path = older.path().to_owned();
            if let Err(error) = older.seal() {
                self.damaged.push(DamagedContainer { path, error });
            }
        }
        Ok(())
    }

    /// All containers in the directory by id. Other files are ignored.
    fn scan(&self) -> Result<BTreeMap<String, PathBuf>, ContainerError> {
        let io = |error| ContainerError::io(&self.dir, "list the directory")(error);
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&self.dir).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if let Ok(id) = id_of_path(&path) {
                found.insert(id, path);
            }
        }
        Ok(found)
    }

    fn next_path(&self) -> PathBuf {
        let id = format!("{:010}-{}", self.next_sequence, Uuid::new_v4().simple());
        self.dir.join(format!("{id}.{CONTAINER_SUFFIX}"))
    }

    fn path_of(&self, container_id: &str) -> Result<PathBuf, ContainerError> {
        // An id can come from a damaged index or from the wire, and must not lead out of the directory.
        let path = self.dir.join(format!("{container_id}.{CONTAINER_SUFFIX}"));
        if is_container_id(container_id) { Ok(path) } else { Err(ContainerError::BadName { path }) }
    }

    fn reader(&self, container_id: &str) -> Result<Arc<ContainerReader>, ContainerError> {
        let path = self.path_of(container_id)?;
        let mut readers = self.lock_readers();
        let cached = readers.iter().position(|reader| reader.container_id() == container_id);
        let reader = match cached {
            Some(index) => readers.remove(index),
            None => Arc::new(ContainerReader::open(path)?),
        };
        if readers.len() >= CONTAINER_READERS_MAX {
            readers.remove(0);
        }
        readers.push(Arc::clone(&reader));
        Ok(reader)
    }

    fn lock_readers(&self) -> std::sync::MutexGuard<'_, Vec<Arc<ContainerReader>>> {
        // A list of open files is consistent after every step.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listed_chunks(path: &Path) -> Result<Vec<(ChunkHash, PackedChunkRef)>, ContainerError> {
    let reader = ContainerReader::open(path)?;
    let entries = reader.entries()?;
    Ok(entries.iter().map(|entry| (entry.hash, reader.chunk_ref(entry))).collect())
}
