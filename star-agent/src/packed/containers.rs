//! The directory of containers: which there are, the one that grows, and open files of those that are read.
//!
//! A container has a number, which stands first in its file name and is never used again. What was appended is counted
//! in sequence, so that one sync covers whatever many threads have appended before it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::container::{
    CONTAINER_HEADER_BYTES, CONTAINER_READERS_MAX, ContainerError, ContainerReader, ContainerWriter,
    PendingSync, Stored,
};
use uuid::Uuid;

use super::error::{PackedError, Result};
use super::universe::{Location, NOWHERE};

const SUFFIX: &str = ".orbitpak";
const JOURNAL_SUFFIX: &str = ".orbitpak.journal";
/// What is appended is held back up to so many bytes and written at once.
const BUFFER_BYTES: usize = 1024 * 1024;

/// One container on the disk.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) is_sealed: bool,
    /// Whether its list of chunks is damaged.
    pub(super) is_damaged: bool,
}

#[derive(Debug)]
pub(super) struct Containers {
    dir: PathBuf,
    max_bytes: u64,
    known: RwLock<BTreeMap<u32, Known>>,
    /// Most recently used last.
    readers: Mutex<Vec<(u32, Arc<ContainerReader>)>>,
    appender: Mutex<Appender>,
}

/// What is appended to. Everything up to `durable` is safe.
#[derive(Debug, Default)]
pub(super) struct Appender {
    active: Option<(u32, ContainerWriter)>,
    next_number: u32,
    pub(super) sequence: u64,
    pub(super) durable: u64,
}

/// Where a chunk was appended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Appended {
    pub(super) location: Location,
    /// Which of the container's chunks it is, from 0.
    pub(super) ordinal: u32,
    pub(super) sequence: u64,
}

/// A sync that has begun, and the sequence that it covers.
pub(super) struct Syncing {
    number: u32,
    pending: PendingSync,
    pub(super) upto: u64,
}

impl Syncing {
    pub(super) fn run(&self) -> Result<()> {
        Ok(self.pending.run()?)
    }
}

impl Containers {
    /// Opens the directory. Of the containers that were left open the newest is taken up again; all others are sealed,
    /// and those that cannot be are remembered as damaged.
    pub(super) fn open(dir: &Path, max_bytes: u64) -> Result<Self> {
        fs::create_dir_all(dir).map_err(PackedError::io(dir, "create the directory"))?;
        let (mut known, mut journals) = (BTreeMap::new(), Vec::new());
        let mut next_number = 0;
        for entry in fs::read_dir(dir).map_err(PackedError::io(dir, "list the directory"))? {
            let path = entry.map_err(PackedError::io(dir, "list the directory"))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if let Some(id) = name.strip_suffix(JOURNAL_SUFFIX) {
                journals.push((id.to_owned(), path));
            } else if let Some((number, id)) = number_of(name) {
                next_number = next_number.max(number + 1);
                known.insert(number, Known { id, is_sealed: true, is_damaged: false });
            }
        }
        // Left behind by a container that was removed, or whose creation was never finished.
        for (id, path) in journals {
            if !known.values().any(|container| container.id == id) {
                let _ = fs::remove_file(path);
            }
        }
        let containers = Self {
            dir: dir.to_owned(),
            max_bytes,
            known: RwLock::new(known),
            readers: Mutex::new(Vec::new()),
            appender: Mutex::new(Appender { next_number, ..Appender::default() }),
        };
        containers.take_up()?;
        Ok(containers)
    }

    fn take_up(&self) -> Result<()> {
        let mut appender = self.lock_appender();
        let all: Vec<_> = self.snapshot().into_iter().collect();
        for (number, known) in all {
            let path = self.path(&known.id);
            let journal = self.dir.join(format!("{}{JOURNAL_SUFFIX}", known.id));
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
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn known(&self, number: u32) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    pub(super) fn exists(&self, number: u32) -> bool {
        number != NOWHERE && self.known.read().unwrap_or_else(PoisonError::into_inner).contains_key(&number)
    }

    pub(super) fn set_damaged(&self, number: u32) {
        if let Some(known) = self.lock_known().get_mut(&number) {
            known.is_damaged = true;
        }
    }

    fn set_sealed(&self, number: u32, is_sealed: bool) {
        if let Some(known) = self.lock_known().get_mut(&number) {
            known.is_sealed = is_sealed;
        }
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
        let id = format!("{number:010}-{}", Uuid::new_v4().simple());
        let mut writer = ContainerWriter::create(self.path(&id), self.max_bytes)?;
        appender.next_number += 1;
        writer.set_buffer_bytes(BUFFER_BYTES);
        self.lock_known().insert(number, Known { id, is_sealed: false, is_damaged: false });
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
        let Some(path) = self.path_of(number) else { return Ok(()) };
        let mut journal = path.clone().into_os_string();
        journal.push(".journal");
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
        remove(&path).map_err(PackedError::io(&path, "remove the container"))?;
        remove(Path::new(&journal)).map_err(PackedError::io(&path, "remove the journal of"))?;
        self.lock_known().remove(&number);
        self.lock_readers().retain(|(other, _)| *other != number);
        sync_dir(&self.dir)
    }

    fn lock_readers(&self) -> MutexGuard<'_, Vec<(u32, Arc<ContainerReader>)>> {
        // A list of open files is whole after every step.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Appender {
    /// What is not durable is lost: its first and last sequence. It counts as settled from now on.
    pub(super) fn give_up(&mut self) -> (u64, u64) {
        let lost = (self.durable + 1, self.sequence);
        self.durable = self.sequence;
        lost
    }

    /// Whether what was appended last is in a container that is gone.
    pub(super) fn has_lost(&self) -> bool {
        self.active.is_none() && self.durable < self.sequence
    }
}

/// The number and id in a container's file name.
fn number_of(name: &str) -> Option<(u32, String)> {
    let id = name.strip_suffix(SUFFIX)?;
    let number = id.split('-').next()?.parse::<u32>().ok().filter(|number| *number < NOWHERE - 1)?;
    Some((number, id.to_owned()))
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    let synced = fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(PackedError::io(dir, "sync the directory"))
}
