//! The directory of containers: the list of them, the open one, and open files for reading.
//!
//! The file name of a container begins with its number, which is never reused: the next number is recorded before a
//! container is created. Appended chunks have sequence numbers, so that one sync covers what any number of threads have
//! appended before it. `presence.rs` checks whether a file is still the same one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::container::{
    CONTAINER_HEADER_BYTES, CONTAINER_READERS_MAX, ContainerError, ContainerReader, ContainerWriter, Stored,
};

use super::PackedConfig;
pub(super) use super::appender::{Appended, Appender, Syncing};
pub(super) use super::container_names::sync_dir;
use super::container_names::{JOURNAL_SUFFIX, SUFFIX, new_id, number_of, read_counter, write_counter};
use super::error::{PackedError, Result};
use super::presence::FileMark;
use super::universe::{Location, NOWHERE};

/// Size of the buffer of appended data, in bytes. It is written when it is full.
const BUFFER_BYTES: usize = 1024 * 1024;

/// One container on the disk.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) is_sealed: bool,
    /// Whether its list of chunks is damaged.
    pub(super) is_damaged: bool,
    /// Identity of its file when it was last checked.
    pub(super) mark: Option<FileMark>,
}

#[derive(Debug)]
pub(super) struct Containers {
    pub(super) dir: PathBuf,
    /// Identity of the directory when it was opened.
    pub(super) dir_mark: FileMark,
    /// The file with the next number.
    counter: PathBuf,
    max_bytes: u64,
    known: RwLock<BTreeMap<u32, Known>>,
    /// Most recently used last.
    readers: Mutex<Vec<(u32, Arc<ContainerReader>)>>,
    appender: Mutex<Appender>,
}

impl Containers {
    /// Opens the directory. Of the containers that were left open, the newest one is continued. All others are sealed;
    /// those that cannot be are remembered as damaged. `counter` is the file with the next number.
    pub(super) fn open(dir: &Path, counter: &Path, config: &PackedConfig) -> Result<Self> {
        let (max_bytes, is_read_only) = (config.container_bytes_max, config.is_read_only);
        let (mut known, mut journals) = (BTreeMap::new(), Vec::new());
        let mut next_number = read_counter(counter)?;
        let mut doubles = Vec::new();
        for entry in fs::read_dir(dir).map_err(PackedError::io(dir, "list the directory"))? {
            let path = entry.map_err(PackedError::io(dir, "list the directory"))?.path();
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
                known.insert(number, Known { id, is_sealed: true, is_damaged: false, mark });
            }
        }
        for path in doubles.into_iter().filter(|_| !is_read_only) {
            // This file was put there by hand. If no other container has its number and it has its own list of chunks,
            // it is used: a journal would not belong to it.
            if let Ok(writer) = ContainerWriter::open_append(&path, max_bytes) {
                writer.seal()?;
            }
            let id = new_id(next_number);
            let renamed = dir.join(format!("{id}{SUFFIX}"));
            next_number += 1;
            write_counter(counter, next_number)?;
            fs::rename(&path, &renamed).map_err(PackedError::io(&path, "give another number to"))?;
            let mark = fs::metadata(&renamed).ok().map(|metadata| FileMark::of(&metadata));
            known.insert(next_number - 1, Known { id, is_sealed: true, is_damaged: false, mark });
        }
        // Left behind by a container that was removed, or whose creation was not finished.
        for (id, path) in journals.into_iter().filter(|_| !is_read_only) {
            if !known.values().any(|container| container.id == id) {
                let _ = fs::remove_file(path);
            }
        }
        let dir_metadata = fs::metadata(dir).map_err(PackedError::io(dir, "look at the directory"))?;
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

    fn take_up(&self) -> Result<()> {
        let mut appender = self.lock_appender();
        let all: Vec<_> = self.snapshot().into_iter().collect();
        for (number, known) in all {
            let path = self.path(&known.id);
            let journal = self.journal_of(&known.id);
            let is_open = journal.try_exists().map_err(PackedError::io(&journal, "look at the journal"))?;
            if !is_open {
                let metadata =
                    fs::metadata(&path).map_err(PackedError::io(&path, "look at the container"))?;
                if metadata.len() <= CONTAINER_HEADER_BYTES {
                    // Its creation was interrupted, or its content is lost. In both cases it holds no chunk.
                    fs::remove_file(&path).map_err(PackedError::io(&path, "remove the empty container"))?;
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

    /// All containers by number.
    pub(super) fn snapshot(&self) -> BTreeMap<u32, Known> {
        self.lock_known_to_read().clone()
    }

    pub(super) fn lock_known_to_read(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known(&self, number: u32) -> Option<Known> {
        self.lock_known_to_read().get(&number).cloned()
    }

    pub(super) fn exists(&self, number: u32) -> bool {
        number != NOWHERE && self.lock_known_to_read().contains_key(&number)
    }

    pub(super) fn set_damaged(&self, number: u32) {
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
    pub(super) fn set_mark(&self, number: u32, mark: FileMark) {
        if let Some(known) = self.lock_known().get_mut(&number) {
            known.mark = Some(mark);
        }
    }

    /// Forgets a container whose file is gone.
    pub(super) fn forget(&self, number: u32) {
        self.lock_known().remove(&number);
        self.close_readers(&BTreeSet::from([number]));
    }

    /// Closes the files of these containers, since an open file can still be read after it was removed or replaced.
    pub(super) fn close_readers(&self, numbers: &BTreeSet<u32>) {
        self.lock_readers().retain(|(other, _)| !numbers.contains(other));
    }

    /// New containers get numbers from `least` on.
    pub(super) fn raise_next_number(&self, least: u32) {
        let mut appender = self.lock_appender();
        appender.next_number = appender.next_number.max(least);
    }

    fn lock_known(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u32, Known>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks appending. Syncs run without this lock.
    pub(super) fn lock_appender(&self) -> MutexGuard<'_, Appender> {
        self.appender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a chunk to the open container, and begins another one if it is full.
    pub(super) fn append(
        &self,
        appender: &mut Appender,
        hash: ChunkHash,
        stored: &Stored<'_>,
    ) -> Result<Appended> {
        if stored.length() > self.max_bytes {
            let (length, max_bytes) = (stored.length(), self.max_bytes);
            return Err(ContainerError::ChunkTooLarge { length, max_bytes }.into());
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
        Ok(Appended { location: Location::of(*number, &entry), ordinal, sequence: appender.sequence })
    }

    /// Creates a container without chunks.
    pub(super) fn create(&self, appender: &mut Appender) -> Result<(u32, ContainerWriter)> {
        let number = appender.next_number;
        // Before it is used, since the index can have rows of every number that was ever used.
        write_counter(&self.counter, number + 1)?;
        appender.next_number = number + 1;
        let id = new_id(number);
        let path = self.path(&id);
        let mut writer = ContainerWriter::create(&path, self.max_bytes)?;
        writer.set_buffer_bytes(BUFFER_BYTES);
        let mark = fs::metadata(&path).map_err(PackedError::io(&path, "look at the container"))?;
        let mark = Some(FileMark::of(&mark));
        self.lock_known().insert(number, Known { id, is_sealed: false, is_damaged: false, mark });
        Ok((number, writer))
    }

    /// Seals a container if it is the open one. All of it is durable.
    pub(super) fn rotate(&self, number: u32) -> Result<bool> {
        let mut appender = self.lock_appender();
        let Some((_, writer)) = appender.active.take_if(|(active, _)| *active == number) else {
            return Ok(false);
        };
        self.finish(number, writer)?;
        appender.durable = appender.sequence;
        Ok(true)
    }

    /// Seals a container that [`Containers::create`] has begun.
    pub(super) fn finish(&self, number: u32, writer: ContainerWriter) -> Result<()> {
        writer.seal()?;
        self.set_sealed(number, true);
        Ok(())
    }

    /// Gives up appended chunks that cannot be written because the disk is full. If there were any, calls `lose` with
    /// the container and the number of chunks that it still has, and returns true. The chunks before them can be made
    /// durable then.
    pub(super) fn give_up_held_back(&self, lose: impl FnOnce(u32, usize)) -> bool {
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
    pub(super) fn give_up_behind(&self, needed: impl FnOnce(u32) -> usize, lose: impl FnOnce(u32, usize)) {
        let mut appender = self.lock_appender();
        let Some((number, writer)) = &mut appender.active else { return };
        let before = writer.chunks_written();
        let kept = writer.give_up_behind(needed(*number));
        if kept < before {
            lose(*number, kept);
        }
    }

    /// Begins a sync of what was appended; `None` if all is durable.
    pub(super) fn begin_sync(&self) -> Result<Option<Syncing>> {
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
    pub(super) fn finish_sync(&self, syncing: &Syncing, is_done: bool) -> Option<(u64, u64)> {
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

    /// Lengths of all files whose metadata can be read.
    pub(super) fn lengths(&self) -> BTreeMap<u32, u64> {
        let all = self.snapshot().into_iter();
        all.filter_map(|(number, known)| Some((number, fs::metadata(self.path(&known.id)).ok()?.len())))
            .collect()
    }

    pub(super) fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}{SUFFIX}"))
    }

    /// The journal file of an open container.
    pub(super) fn journal_of(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}{JOURNAL_SUFFIX}"))
    }

    pub(super) fn path_of(&self, number: u32) -> Option<PathBuf> {
        self.known(number).map(|known| self.path(&known.id))
    }

    /// As [`Containers::reader`], but opens the file again.
    pub(super) fn reopen(&self, number: u32) -> Result<Option<Arc<ContainerReader>>> {
        self.lock_readers().retain(|(other, _)| *other != number);
        self.reader(number)
    }

    /// A container, opened for reading; `None` if it no longer exists.
    pub(super) fn reader(&self, number: u32) -> Result<Option<Arc<ContainerReader>>> {
        let mut readers = self.lock_readers();
        if let Some(index) = readers.iter().rposition(|(other, _)| *other == number) {
            let found = readers.remove(index);
            let reader = Arc::clone(&found.1);
            readers.push(found);
            return Ok(Some(reader));
        }
        let Some(path) = self.path_of(number) else { return Ok(None) };
        let reader = match ContainerReader::open(&path) {
            Ok(reader) => Arc::new(reader),
            Err(ContainerError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error @ (ContainerError::Io { .. } | ContainerError::BadName { .. })) => {
                return Err(error.into());
            }
            Err(_) => {
                // Its chunks are not affected.
                self.set_damaged(number);
                Arc::new(ContainerReader::open_damaged(&path)?)
            }
        };
        if readers.len() >= CONTAINER_READERS_MAX {
            readers.remove(0);
        }
        readers.push((number, Arc::clone(&reader)));
        Ok(Some(reader))
    }

    /// Reads a chunk and checks it; `None` if its container no longer exists.
    pub(super) fn read(&self, hash: &ChunkHash, location: Location) -> Result<Option<Vec<u8>>> {
        let Some(reader) = self.reader(location.container)? else { return Ok(None) };
        let entry = location.entry(hash);
        match reader.read_entry(&entry) {
            Err(ContainerError::OutOfBounds { .. }) if self.flush(location.container)? => {
                Ok(Some(reader.read_entry(&entry)?))
            }
            read => Ok(Some(read?)),
        }
    }

    /// Writes the buffered data of a container, if it is the open one.
    pub(super) fn flush(&self, number: u32) -> Result<bool> {
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
    pub(super) fn active(&self) -> Option<u32> {
        self.lock_appender().active.as_ref().map(|(number, _)| *number)
    }

    /// Removes a container whose chunks have been moved.
    pub(super) fn remove(&self, number: u32) -> Result<()> {
        // Before its file, so that a check of the files does not report it missing.
        let Some(known) = self.lock_known().remove(&number) else { return Ok(()) };
        let path = self.path(&known.id);
        let journal = self.journal_of(&known.id);
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
        let removed = remove(&path).map_err(PackedError::io(&path, "remove the container"));
        let removed =
            removed.and_then(|()| remove(&journal).map_err(PackedError::io(&path, "remove the journal of")));
        if let Err(error) = removed {
            self.lock_known().insert(number, known);
            return Err(error);
        }
        self.close_readers(&BTreeSet::from([number]));
        sync_dir(&self.dir)
    }

    fn lock_readers(&self) -> MutexGuard<'_, Vec<(u32, Arc<ContainerReader>)>> {
        // A list of open files is consistent after every step.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
