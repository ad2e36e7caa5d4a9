//! The directory of containers: which there are, the one that grows, and open files of those that are read.
//!
//! A container has a number, which stands first in its file name and is never used again: the next one is written down
//! before its container is created. What was appended is counted in sequence, so that one sync covers whatever many threads
//! have appended before it. Whether a file is still the one that it was, `presence.rs` asks.

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

/// What is appended is held back up to so many bytes and written at once.
const BUFFER_BYTES: usize = 1024 * 1024;

/// One container on the disk.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) is_sealed: bool,
    /// Whether its list of chunks is damaged.
    pub(super) is_damaged: bool,
    /// Its file as it was last seen.
    pub(super) mark: Option<FileMark>,
}

#[derive(Debug)]
pub(super) struct Containers {
    pub(super) dir: PathBuf,
    /// The directory as it was opened.
    pub(super) dir_mark: FileMark,
    /// The file that holds the next number.
    counter: PathBuf,
    max_bytes: u64,
    known: RwLock<BTreeMap<u32, Known>>,
    /// Most recently used last.
    readers: Mutex<Vec<(u32, Arc<ContainerReader>)>>,
    appender: Mutex<Appender>,
}

impl Containers {
    /// Opens the directory. Of the containers that were left open the newest is taken up again; all others are sealed,
    /// and those that cannot be are remembered as damaged. `counter` is the file that holds the next number.
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
            // Somebody has put it there. Under a number that no other container has it is as good as any, if it lists its
            // chunks itself: a journal would not follow it at once.
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
        // Left behind by a container that was removed, or whose creation was never finished.
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

    /// Notes which containers were left open, where none can be taken up.
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
                    // Its creation was interrupted, or nothing is left of it. Either way it holds no chunk.
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
                        // One that cannot be sealed stays readable, and the next start tries again.
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

    /// Notes what the file of a container is now.
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

    /// Closes the files of these containers: an open file that was removed or replaced can still be read.
    pub(super) fn close_readers(&self, numbers: &BTreeSet<u32>) {
        self.lock_readers().retain(|(other, _)| !numbers.contains(other));
    }

    /// No number below this one is given to a new container.
    pub(super) fn raise_next_number(&self, least: u32) {
        let mut appender = self.lock_appender();
        appender.next_number = appender.next_number.max(least);
    }

    fn lock_known(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<u32, Known>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends wait for each other here, and syncs for none of them.
    pub(super) fn lock_appender(&self) -> MutexGuard<'_, Appender> {
        self.appender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a chunk to the container that grows, and begins another if it is full.
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
            // An error here loses what is not durable; the caller finds out by `durable`.
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

    /// Begins a container that nothing is appended to yet.
    pub(super) fn create(&self, appender: &mut Appender) -> Result<(u32, ContainerWriter)> {
        let number = appender.next_number;
        // Before it is used: the index may have rows of every number that was used once.
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

    /// Seals the container that grows, if it is this one. All of it is durable.
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

    /// Gives up chunks that were appended and cannot be written because the disk is full. Calls `lose` with the container and
    /// the number of chunks that it still has, and returns true, if there were any. The chunks before them can be made durable
    /// then.
    pub(super) fn give_up_held_back(&self, lose: impl FnOnce(u32, usize)) -> bool {
        let mut appender = self.lock_appender();
        let Some((number, writer)) = &mut appender.active else { return false };
        let has_given_up = writer.give_up_held_back() > 0;
        if has_given_up {
            lose(*number, writer.chunks_written());
        }
        has_given_up
    }

    /// Gives up chunks at the end of the container that grows, except durable ones and the first `needed(container)` of it.
    /// Calls `lose` with the container and the number of chunks that it still has. No sync may be under way.
    pub(super) fn give_up_behind(&self, needed: impl FnOnce(u32) -> usize, lose: impl FnOnce(u32, usize)) {
        let mut appender = self.lock_appender();
        let Some((number, writer)) = &mut appender.active else { return };
        let before = writer.chunks_written();
        let kept = writer.give_up_behind(needed(*number));
        if kept < before {
            lose(*number, kept);
        }
    }

    /// Begins to make durable what was appended. Nothing if it is.
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

    /// Ends a sync. If it failed, the container is given up and what it has not made durable is lost; the first and the last
    /// sequence of that are the answer.
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
        // Sealed meanwhile, which has synced it anew.
        if !is_active {
            return None;
        }
        appender.active = None;
        Some(appender.give_up())
    }

    /// Lengths of all files that can be looked at.
    pub(super) fn lengths(&self) -> BTreeMap<u32, u64> {
        let all = self.snapshot().into_iter();
        all.filter_map(|(number, known)| Some((number, fs::metadata(self.path(&known.id)).ok()?.len())))
            .collect()
    }

    pub(super) fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}{SUFFIX}"))
    }

    /// The file beside a container that grows.
    pub(super) fn journal_of(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}{JOURNAL_SUFFIX}"))
    }

    pub(super) fn path_of(&self, number: u32) -> Option<PathBuf> {
        self.known(number).map(|known| self.path(&known.id))
    }

    /// As [`Containers::reader`], but looks at the file anew.
    pub(super) fn reopen(&self, number: u32) -> Result<Option<Arc<ContainerReader>>> {
        self.lock_readers().retain(|(other, _)| *other != number);
        self.reader(number)
    }

    /// A container that is open for reading. Nothing if it is not there any more.
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
                // Its chunks are as good as before.
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

    /// Reads a chunk and checks it. Nothing if its container is not there any more.
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

    /// Writes what is held back of the container that grows, if it is this one.
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

    /// The number of the container that grows.
    pub(super) fn active(&self) -> Option<u32> {
        self.lock_appender().active.as_ref().map(|(number, _)| *number)
    }

    /// Removes a container whose chunks live elsewhere.
    pub(super) fn remove(&self, number: u32) -> Result<()> {
        // Before its file, so that it is not missed by a check of the files.
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
        // A list of open files is whole after every step.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
