//! A directory of containers: the list of them, the open one that chunks are appended to, and open files for reading.
//!
//! The file name of a container begins with its number, which is never used again: the next number is recorded before a
//! container is created. A container that is full is sealed, and another one is begun. Appended chunks have sequence
//! numbers, so that one sync covers what any number of threads have appended before it. What a crash left open is
//! continued or sealed when the directory is opened; what cannot be is remembered as damaged, and its chunks stay
//! readable.
//!
//! The pool does not know which chunks it has: its owner has an index of them. Only one process may write to a directory
//! at a time, which the owner ensures.

mod appender;
mod files;
mod names;
mod readers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use self::appender::{AppendedChunk, Appender, Syncing};
pub use self::files::FileMark;
use self::names::{JOURNAL_SUFFIX, file_name, new_id, number_of, read_counter, write_counter};
pub use self::readers::CONTAINER_READERS_MAX;
use super::{
    CONTAINER_HEADER_BYTES, CONTAINER_SUFFIX, ContainerError, ContainerReader, ContainerWriter, Stored,
    sync_dir,
};
use crate::chunk_hash::ChunkHash;

/// The number that no container has.
pub const NO_CONTAINER: u32 = u32::MAX;

/// Size of the buffer of appended data, in bytes. It is written when it is full.
const BUFFER_BYTES: usize = 1024 * 1024;

/// One container on the disk.
#[derive(Debug, Clone)]
pub struct PooledContainer {
    /// Its file name without `.orbitpak`.
    pub id: String,
    /// Whether nothing is appended to it any more.
    pub is_sealed: bool,
    /// Whether its list of chunks is damaged.
    pub is_damaged: bool,
    /// Identity of its file when it was last checked.
    pub mark: Option<FileMark>,
}

/// See the module.
#[derive(Debug)]
pub struct ContainerPool {
    dir: PathBuf,
    /// Identity of the directory when it was opened.
    dir_mark: FileMark,
    /// The file with the next number.
    counter: PathBuf,
    max_bytes: u64,
    known: RwLock<BTreeMap<u32, PooledContainer>>,
    /// Most recently used last.
    readers: Mutex<Vec<(u32, Arc<ContainerReader>)>>,
    appender: Mutex<Appender>,
}

impl ContainerPool {
    /// Opens the directory. Of the containers that were left open, the newest one is continued. All others are sealed;
    /// those that cannot be are remembered as damaged. `counter` is the file with the next number. A container holds at
    /// most `max_bytes` bytes of chunks. Nothing is changed if the directory `is_read_only`.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn open(
        dir: &Path,
        counter: &Path,
        max_bytes: u64,
        is_read_only: bool,
    ) -> Result<Self, ContainerError> {
        let (mut known, mut journals) = (BTreeMap::new(), Vec::new());
        let mut next_number = read_counter(counter)?;
        let mut doubles = Vec::new();
        for entry in fs::read_dir(dir).map_err(ContainerError::io(dir, "list the directory"))? {
            let path = entry.map_err(ContainerError::io(dir, "list the directory"))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if let Some(id) = name.strip_suffix(JOURNAL_SUFFIX) {
                journals.push((id.to_owned(), path));
            } else if let Some((number, id)) = number_of(name) {
                next_number = next_number.max(number + 1);
                if known.contains_key(&number) {
                    doubles.push(path);
                    continue;
                }
                let mark = fs::metadata(&path).ok().map(|metadata| FileMark::of(&metadata));
                known.insert(number, PooledContainer { id, is_sealed: true, is_damaged: false, mark });
            }
        }
        for path in doubles.into_iter().filter(|_| !is_read_only) {
            // This file was put there by hand. If no other container has its number and it has its own list of chunks,
            // it is used: a journal would not belong to it.
            if let Ok(writer) = ContainerWriter::open_append(&path, max_bytes) {
                writer.seal()?;
            }
            let id = new_id(next_number);
            let renamed = dir.join(file_name(&id));
            next_number += 1;
            write_counter(counter, next_number)?;
            fs::rename(&path, &renamed)
                .map_err(ContainerError::io(&path, "give another number to the container"))?;
            let mark = fs::metadata(&renamed).ok().map(|metadata| FileMark::of(&metadata));
            known.insert(next_number - 1, PooledContainer { id, is_sealed: true, is_damaged: false, mark });
        }
        // Left behind by a container that was removed, or whose creation was not finished.
        for (id, path) in journals.into_iter().filter(|_| !is_read_only) {
            if !known.values().any(|container| container.id == id) {
                let _ = fs::remove_file(path);
            }
        }
        let dir_metadata = fs::metadata(dir).map_err(ContainerError::io(dir, "look at the directory"))?;
        let containers = Self {
            dir: dir.to_owned(),
            dir_mark: FileMark::of(&dir_metadata),
            counter: counter.to_owned(),
            max_bytes,
            known: RwLock::new(known),
            readers: Mutex::new(Vec::new()),
            appender: Mutex::new(Appender { next_number, ..Appender::default() }),
        };
        if is_read_only {
            containers.note_open();
        } else {
            containers.take_up()?;
        }
        Ok(containers)
    }

    /// Records which containers were left open, when none can be continued.
    fn note_open(&self) {
        for (number, known) in self.snapshot() {
            if self.journal_of(&known.id).exists() {
                self.set_sealed(number, false);
            }
        }
    }

    fn take_up(&self) -> Result<(), ContainerError> {
        let mut appender = self.lock_appender();
        let all: Vec<_> = self.snapshot().into_iter().collect();
        for (number, known) in all {
            let path = self.path(&known.id);
            let journal = self.journal_of(&known.id);
            let is_open =
                journal.try_exists().map_err(ContainerError::io(&journal, "look at the journal"))?;
            if !is_open {
                let metadata =
                    fs::metadata(&path).map_err(ContainerError::io(&path, "look at the container"))?;
                if metadata.len() <= CONTAINER_HEADER_BYTES {
                    // Its creation was interrupted, or its content is lost. In both cases it holds no chunk.
                    fs::remove_file(&path)
                        .map_err(ContainerError::io(&path, "remove the empty container"))?;
                    self.lock_known().remove(&number);
                }
                continue;
            }
            match ContainerWriter::open_append(&path, self.max_bytes) {
                Ok(mut writer) => {
                    writer.set_buffer_bytes(BUFFER_BYTES);
                    if writer.recovery().damaged_record_count > 0 {
                        self.set_damaged(number);
                    }
                    self.set_sealed(number, false);
                    if let Some((older, writer)) = appender.active.replace((number, writer)) {
                        // A container that cannot be sealed stays readable, and the next start tries again.
                        let _ = self.finish(older, writer);
                    }
                }
                Err(_) => self.set_damaged(number),
            }
        }
        Ok(())
    }

    /// All containers by number, as they are now.
    pub fn snapshot(&self) -> BTreeMap<u32, PooledContainer> {
        self.lock_known_to_read().clone()
    }

    fn lock_known_to_read(&self) -> RwLockReadGuard<'_, BTreeMap<u32, PooledContainer>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a container; `None` if it does not exist.
    pub fn known(&self, number: u32) -> Option<PooledContainer> {
        self.lock_known_to_read().get(&number).cloned()
    }

    /// Whether a container exists.
    pub fn exists(&self, number: u32) -> bool {
        number != NO_CONTAINER && self.lock_known_to_read().contains_key(&number)
    }

    /// Its list of chunks is damaged.
    pub fn set_damaged(&self, number: u32) {
        if let Some(known) = self.lock_known().get_mut(&number) {
            known.is_damaged = true;
        }
    }

    fn set_sealed(&self, number: u32, is_sealed: bool) {
        let mark = self.path_of(number).and_then(|path| fs::metadata(path).ok());
        if let Some(known) = self.lock_known().get_mut(&number) {
            known.is_sealed = is_sealed;
            known.mark = mark.map(|metadata| FileMark::of(&metadata)).or(known.mark);
        }
    }

    /// Stores the current identity of a container's file.
    pub fn set_mark(&self, number: u32, mark: FileMark) {
        if let Some(known) = self.lock_known().get_mut(&number) {
            known.mark = Some(mark);
        }
    }

    /// Forgets a container whose file is gone.
    pub fn forget(&self, number: u32) {
        self.lock_known().remove(&number);
        self.close_readers(&BTreeSet::from([number]));
    }

    /// New containers get numbers from `least` on.
    pub fn raise_next_number(&self, least: u32) {
        let mut appender = self.lock_appender();
        appender.next_number = appender.next_number.max(least);
    }

    fn lock_known(&self) -> RwLockWriteGuard<'_, BTreeMap<u32, PooledContainer>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks appending. Syncs run without this lock.
    pub fn lock_appender(&self) -> MutexGuard<'_, Appender> {
        self.appender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a chunk to the open container, and begins another one if it is full. The chunk can be read at once, and is
    /// durable after the next sync.
    ///
    /// # Errors
    /// The chunk is too large for any container, the disk is full, or the operating system reports an error. If a full
    /// container could not be sealed, what was not durable in it is lost, see [`Appender::has_lost`].
    pub fn append(
        &self,
        appender: &mut Appender,
        hash: ChunkHash,
        stored: &Stored<'_>,
    ) -> Result<AppendedChunk, ContainerError> {
        if stored.length() > self.max_bytes {
            let (length, max_bytes) = (stored.length(), self.max_bytes);
            return Err(ContainerError::ChunkTooLarge { length, max_bytes });
        }
        let is_full =
            appender.active.as_ref().is_some_and(|(_, active)| !active.has_capacity(stored.length()));
        if is_full && let Some((number, writer)) = appender.active.take() {
            // An error here loses what is not durable. The caller finds out from `durable`.
            writer.seal()?;
            self.set_sealed(number, true);
            appender.durable = appender.sequence;
        }
        if appender.active.is_none() {
            let (number, writer) = self.create(appender)?;
            appender.active = Some((number, writer));
        }
        let Some((number, writer)) = &mut appender.active else { unreachable!("one was just begun") };
        let entry = writer.append_stored(hash, stored)?;
        appender.sequence += 1;
        let ordinal = u32::try_from(writer.chunks_written() - 1).unwrap_or(u32::MAX);
        Ok(AppendedChunk { container: *number, entry, ordinal, sequence: appender.sequence })
    }

    /// Creates a container without chunks, which the caller writes.
    ///
    /// # Errors
    /// The disk is full, or the operating system reports an error.
    pub fn create(&self, appender: &mut Appender) -> Result<(u32, ContainerWriter), ContainerError> {
        let number = appender.next_number;
        // Before it is used, since the index can have rows of every number that was ever used.
        write_counter(&self.counter, number + 1)?;
        appender.next_number = number + 1;
        let id = new_id(number);
        let path = self.path(&id);
        let mut writer = ContainerWriter::create(&path, self.max_bytes)?;
        writer.set_buffer_bytes(BUFFER_BYTES);
        let mark = fs::metadata(&path).map_err(ContainerError::io(&path, "look at the container"))?;
        let mark = Some(FileMark::of(&mark));
        self.lock_known().insert(number, PooledContainer { id, is_sealed: false, is_damaged: false, mark });
        Ok((number, writer))
    }

    /// Seals a container if it is the open one, which makes all of it durable. Returns whether it was.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn rotate(&self, number: u32) -> Result<bool, ContainerError> {
        let mut appender = self.lock_appender();
        let Some((_, writer)) = appender.active.take_if(|(active, _)| *active == number) else {
            return Ok(false);
        };
        self.finish(number, writer)?;
        appender.durable = appender.sequence;
        Ok(true)
    }

    /// Seals a container that [`ContainerPool::create`] has begun.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn finish(&self, number: u32, writer: ContainerWriter) -> Result<(), ContainerError> {
        writer.seal()?;
        self.set_sealed(number, true);
        Ok(())
    }

    /// Gives up appended chunks that cannot be written because the disk is full. If there were any, calls `lose` with
    /// the container and the number of chunks that it still has, and returns true. The chunks before them can be made
    /// durable then.
    pub fn give_up_held_back(&self, lose: impl FnOnce(u32, usize)) -> bool {
        let mut appender = self.lock_appender();
        let Some((number, writer)) = &mut appender.active else { return false };
        let has_given_up = writer.give_up_held_back() > 0;
        if has_given_up {
            lose(*number, writer.chunks_written());
        }
        has_given_up
    }

    /// Gives up chunks at the end of the open container, except durable ones and the first `needed(container)`. Calls
    /// `lose` with the container and the number of chunks that it still has. No sync may be under way.
    pub fn give_up_behind(&self, needed: impl FnOnce(u32) -> usize, lose: impl FnOnce(u32, usize)) {
        let mut appender = self.lock_appender();
        let Some((number, writer)) = &mut appender.active else { return };
        let before = writer.chunks_written();
        let kept = writer.give_up_behind(needed(*number));
        if kept < before {
            lose(*number, kept);
        }
    }

    /// Begins a sync of what was appended; `None` if all is durable.
    ///
    /// # Errors
    /// The buffered chunks cannot be written.
    pub fn begin_sync(&self) -> Result<Option<Syncing>, ContainerError> {
        let mut appender = self.lock_appender();
        let upto = appender.sequence;
        let begun = match &mut appender.active {
            Some((number, writer)) => writer.begin_sync()?.map(|pending| (*number, pending)),
            None => None,
        };
        if begun.is_none() && appender.active.is_some() {
            appender.durable = upto;
        }
        Ok(begun.map(|(number, pending)| Syncing { number, pending, upto }))
    }

    /// Ends a sync. If it failed, the container is given up and all of it that is not durable is lost. Returns the
    /// first and the last sequence number of that.
    pub fn finish_sync(&self, syncing: &Syncing, is_done: bool) -> Option<(u64, u64)> {
        let mut appender = self.lock_appender();
        let is_active = appender.active.as_ref().is_some_and(|(number, _)| *number == syncing.number);
        if is_active && let Some((_, writer)) = &mut appender.active {
            writer.finish_sync(&syncing.pending, is_done);
        }
        if is_done {
            appender.durable = appender.durable.max(syncing.upto);
            return None;
        }
        // It was sealed meanwhile, which has synced it again.
        if !is_active {
            return None;
        }
        appender.active = None;
        Some(appender.give_up())
    }

    /// The file of a container.
    pub fn path(&self, id: &str) -> PathBuf {
        self.dir.join(file_name(id))
    }

    /// The journal file of an open container.
    pub fn journal_of(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}{JOURNAL_SUFFIX}"))
    }

    /// The file of a container; `None` if it does not exist.
    pub fn path_of(&self, number: u32) -> Option<PathBuf> {
        self.known(number).map(|known| self.path(&known.id))
    }

    /// Writes the buffered data of a container, if it is the open one. Returns whether it is.
    ///
    /// # Errors
    /// The disk is full, or the operating system reports an error.
    pub fn flush(&self, number: u32) -> Result<bool, ContainerError> {
        let mut appender = self.lock_appender();
        match &mut appender.active {
            Some((active, writer)) if *active == number => {
                writer.flush()?;
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    /// The number of the open container.
    pub fn active(&self) -> Option<u32> {
        self.lock_appender().active.as_ref().map(|(number, _)| *number)
    }

    /// Removes a container whose chunks have been moved.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn remove(&self, number: u32) -> Result<(), ContainerError> {
        // Before its file, so that a check of the files does not report it missing.
        let Some(known) = self.lock_known().remove(&number) else { return Ok(()) };
        let path = self.path(&known.id);
        let journal = self.journal_of(&known.id);
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
        let removed = remove(&path).map_err(ContainerError::io(&path, "remove the container"));
        let removed = removed
            .and_then(|()| remove(&journal).map_err(ContainerError::io(&journal, "remove the journal")));
        if let Err(error) = removed {
            self.lock_known().insert(number, known);
            return Err(error);
        }
        self.close_readers(&BTreeSet::from([number]));
        sync_dir(&self.dir)
    }
}
