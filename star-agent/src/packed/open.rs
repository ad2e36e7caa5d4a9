//! Opens a store: the traces of a kill or of damage are repaired before the store is used.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::time::Duration;

use super::error::{PackedError, Result};
use super::indexing::{Indexed, index_containers};
use super::pins::Memory;
use super::records::Shelf;
use super::stage::{Stage, stage_of};
use super::tree::NodeCache;
use super::types::{DamagedChunk, SnapshotId, StageId};
use super::universe::{ROOT_UNKNOWN, Universe};
use super::{
    CONTAINERS, DELETED, NEXT_NUMBER, PackedConfig, PackedStore, RESERVE, SNAPSHOTS, STAGES, Syncs, TREES,
    UNIVERSE,
};
use orbit_shared::container::ContainerPool;
use orbit_shared::time::WallTime;

/// Maximum size of the cached pages of a universe, in bytes. The allocator needs a quarter more.
const UNIVERSE_CACHE_BYTES_MAX: usize = 384 * 1024 * 1024;

/// Prefix of the names of copies of indexes.
const COPY_PREFIX: &str = "orbit-index-";
/// Minimum age of a copy that is removed. A younger one may be under construction.
const COPY_AGE_MIN: Duration = Duration::from_secs(600);

/// What opening a store found and did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Why the universe was rebuilt, if it was.
    pub rebuilt: Option<String>,
    /// Chunks that were added to the universe.
    pub chunks_indexed: u64,
    /// Chunks that were durable and are lost, because a file has become shorter.
    pub chunks_lost: u64,
    /// Entries of stages whose content is lost. They are no longer staged, and must be stored again.
    pub entries_lost: u64,
    /// Containers whose lists of chunks cannot be read. Chunks that the universe has stay readable.
    pub damaged_containers: Vec<String>,
    /// Containers that the universe has and whose files are gone.
    pub missing_containers: Vec<u32>,
    /// Stages that cannot be read.
    pub damaged_stages: Vec<PathBuf>,
    /// Snapshots whose records cannot be read.
    pub damaged_snapshots: Vec<SnapshotId>,
}

impl Opened {
    /// Messages for the operator, one per line.
    pub fn findings(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(reason) = &self.rebuilt {
            found.push(format!("the index was built again: {reason}"));
        }
        found.extend(self.damaged_snapshots.iter().map(|id| format!("damaged: the record of snapshot {id}")));
        found.extend(self.missing_containers.iter().map(|number| format!("missing: container {number}")));
        if self.chunks_lost + self.entries_lost > 0 {
            found.push(format!("lost: {} chunks, {} staged entries", self.chunks_lost, self.entries_lost));
        }
        found
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.damaged_snapshots.is_empty()
            && self.missing_containers.is_empty()
            && self.chunks_lost + self.entries_lost == 0
    }
}

impl PackedStore {
    /// Opens the store in this directory, or makes one. The caller holds the lock of the vault. A universe that is
    /// damaged or missing is rebuilt.
    ///
    /// # Errors
    /// The disk reports an error.
    pub fn open(dir: &Path, mut config: PackedConfig) -> Result<Arc<Self>> {
        // Half of it is left for the list of chunks at a container's end.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
        config.container_bytes_max = config.container_bytes_max.min(limit.unwrap_or(u64::MAX) / 2);
        if config.is_read_only {
            return Self::open_read_only(dir, config);
        }
        let universe = dir.join(UNIVERSE);
        let noted = Universe::noted_damage(&universe);
        if noted.is_some() {
            Universe::remove(&universe)?;
        }
        let store = match Self::try_open(dir, config.clone(), noted, None) {
            // The universe can be rebuilt from the rest, at whatever point of opening it the damage was found.
            Err(PackedError::Universe { problem } | PackedError::UniverseFailed { problem }) => {
                Universe::remove(&universe)?;
                Self::try_open(dir, config, Some(problem), None)?
            }
            result => result?,
        };
        Universe::clear_noted_damage(&universe);
        Ok(store)
    }

    /// Opens a read-only store. Its index is copied to the directory for temporary files, or built there from the
    /// containers, because opening it may have to repair it.
    fn open_read_only(dir: &Path, config: PackedConfig) -> Result<Arc<Self>> {
        let universe = dir.join(UNIVERSE);
        remove_dead_copies(&std::env::temp_dir());
        let copy = |is_new: bool| {
            let temporary = std::env::temp_dir();
            let made = tempfile::Builder::new().prefix(COPY_PREFIX).tempdir_in(&temporary);
            let made = made.map_err(PackedError::io(&temporary, "copy the index to"))?;
            if !is_new && universe.exists() {
                fs::copy(&universe, made.path().join(UNIVERSE))
                    .map_err(PackedError::io(&universe, "copy the index"))?;
            }
            Ok::<_, PackedError>(made)
        };
        let noted = Universe::noted_damage(&universe);
        let first = copy(noted.is_some())?;
        match Self::try_open(dir, config.clone(), noted, Some(first)) {
            Err(PackedError::Universe { problem } | PackedError::UniverseFailed { problem }) => {
                Self::try_open(dir, config, Some(problem), Some(copy(true)?))
            }
            result => result,
        }
    }

    /// Opens the store. If there was a `problem` with the universe, it was removed.
    fn try_open(
        dir: &Path,
        config: PackedConfig,
        problem: Option<String>,
        copy: Option<tempfile::TempDir>,
    ) -> Result<Arc<Self>> {
        if !config.is_read_only {
            for name in [CONTAINERS, STAGES, SNAPSHOTS, DELETED, TREES] {
                let dir = dir.join(name);
                fs::create_dir_all(&dir).map_err(PackedError::io(&dir, "create the directory"))?;
            }
            remove_leftovers(&dir.join(STAGES))?;
        }
        let index = copy.as_ref().map_or_else(|| dir.to_owned(), |copy| copy.path().to_owned());
        let (max_bytes, is_read_only) = (config.container_bytes_max, config.is_read_only);
        let containers =
            ContainerPool::open(&dir.join(CONTAINERS), &dir.join(NEXT_NUMBER), max_bytes, is_read_only)?;
        let mut opened = Opened::default();
        let (universe, indexed) = open_universe(&index, &config, &containers, problem, &mut opened)?;
        let mut shelf = Shelf::read(&dir.join(SNAPSHOTS))?;
        opened.damaged_snapshots = shelf.damaged.iter().copied().collect();
        opened.damaged_containers = containers
            .snapshot()
            .into_values()
            .filter(|known| known.is_damaged)
            .map(|known| known.id)
            .collect();
        let mut memory = Memory::default();
        for (hash, found, problem) in universe.damaged()? {
            let found = WallTime { seconds: i64::try_from(found).unwrap_or(0), nanos: 0 };
            memory.damaged.insert(hash, DamagedChunk { hash, found, problem });
        }
        // A stage can only be continued if the store is writable.
        let stages = match config.is_read_only {
            true => Stages::new(),
            false => open_stages(dir, &mut shelf, &mut memory, &mut opened)?,
        };
        let is_empty = universe.chunk_count()? == 0;
        let mut store = Self {
            dir: dir.to_owned(),
            containers,
            universe,
            memory: Mutex::new(memory),
            syncs: Mutex::new(Syncs::default()),
            synced: Condvar::new(),
            flushing: Mutex::new(()),
            stages: RwLock::new(stages),
            snapshots: RwLock::new(shelf),
            sealing: Mutex::new(()),
            collecting: Mutex::new(()),
            scrubbing: Mutex::new(()),
            scrubs_wanted: AtomicU64::new(0),
            nodes: NodeCache::default(),
            trouble: Mutex::default(),
            is_empty: AtomicBool::new(is_empty),
            activity: AtomicU64::new(0),
            deletions: AtomicU64::new(0),
            #[cfg(test)]
            windows: super::tests::Windows::default(),
            opened,
            _copy: copy,
            config,
        };
        let is_whole = indexed.findings.is_empty() && !indexed.is_rebuilt && store.damaged().is_empty();
        if !is_whole {
            store.mend_trees()?;
        }
        store.reconcile()?;
        store.recall_missing(&indexed)?;
        store.opened.entries_lost = store.check_stages()?;
        store.remove_spares()?;
        store.keep_reserve();
        Ok(Arc::new(store))
    }

    /// As [`PackedStore::open`], but always rebuilds the universe.
    ///
    /// # Errors
    /// The disk reports an error.
    pub fn rebuild(dir: &Path, config: PackedConfig) -> Result<Arc<Self>> {
        Universe::remove(&dir.join(UNIVERSE))?;
        Self::open(dir, config)
    }

    /// Number of entries of stages without their content.
    fn check_stages(&self) -> Result<u64> {
        let mut count = 0;
        for id in self.stages() {
            let Some(stage) = self.stage(id) else { continue };
            stage.entries(|entry| {
                count += u64::from(self.lacks(id, &entry)?.is_some());
                Ok(())
            })?;
        }
        Ok(count)
    }

    /// Makes the universe count exactly the existing snapshots.
    fn reconcile(&self) -> Result<()> {
        let (records, damaged) = {
            let shelf = self.shelf();
            (shelf.records().clone(), shelf.damaged.clone())
        };
        for (id, root) in self.universe.owners()? {
            // A snapshot whose record cannot be read still exists.
            if !records.contains_key(&id) && !damaged.contains(&id) {
                self.own(&id, None)?;
            } else if self.universe.lookup(&root)?.is_none() {
                return Err(PackedError::bad_universe(ROOT_UNKNOWN));
            }
        }
        for record in records.values() {
            self.own(&record.id, Some(&record.root.hash))?;
        }
        for hash in self.universe.uncounted_nodes()? {
            self.universe.write(|tables| tables.expand(&hash, &|hash| self.children(hash)))?;
        }
        self.release(&|| false)?;
        if !self.memory().damaged.is_empty() {
            self.record_damaged();
        }
        Ok(())
    }

    /// Allocates the reserve for a full disk, if there is space.
    pub(super) fn keep_reserve(&self) {
        let path = self.dir.join(RESERVE);
        let bytes = self.config.reserve_bytes;
        if bytes == 0
            || self.is_read_only()
            || fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes)
        {
            return;
        }
        let reserved = File::create(&path).and_then(|file| {
            let flags = rustix::fs::FallocateFlags::empty();
            Ok(rustix::fs::fallocate(&file, flags, 0, bytes)?)
        });
        if reserved.is_err() {
            // A partial reserve would be taken for a complete one.
            let _ = fs::remove_file(&path);
        }
    }

    /// Releases the reserve. Returns whether there was one.
    pub(super) fn give_up_reserve(&self) -> bool {
        fs::remove_file(self.dir.join(RESERVE)).is_ok()
    }
}

/// Removes copies of indexes that a killed process has left. A copy in use is locked by its engine; a new one may not
/// be locked yet.
fn remove_dead_copies(temporary: &Path) {
    let Ok(entries) = fs::read_dir(temporary) else { return };
    for entry in entries.flatten() {
        let is_copy = entry.file_name().as_encoded_bytes().starts_with(COPY_PREFIX.as_bytes());
        let Some(metadata) = entry.metadata().ok().filter(|metadata| is_copy && metadata.is_dir()) else {
            continue;
        };
        let is_ours = metadata.uid() == rustix::process::geteuid().as_raw();
        let is_old = metadata
            .modified()
            .ok()
            .and_then(|time| time.elapsed().ok())
            .is_some_and(|age| age > COPY_AGE_MIN);
        let is_in_use = match File::open(entry.path().join(UNIVERSE)) {
            Ok(file) => {
                rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err()
            }
            Err(_) => false,
        };
        if is_ours && is_old && !is_in_use && fs::remove_dir_all(entry.path()).is_ok() {
            tracing::info!(path = %entry.path().display(), "removed the copy of an index that a killed process left");
        }
    }
}

/// Opens the universe and updates it from the containers. If it does not exist, it is built from them; `problem` says
/// why.
fn open_universe(
    dir: &Path,
    config: &PackedConfig,
    containers: &ContainerPool,
    problem: Option<String>,
    opened: &mut Opened,
) -> Result<(Universe, Indexed)> {
    let path = dir.join(UNIVERSE);
    // Without containers it was empty: the first start was killed.
    if !path.exists() && !containers.snapshot().is_empty() {
        opened.rebuilt = Some(problem.unwrap_or_else(|| "it was missing".to_owned()));
    }
    // A large universe gets more memory, up to about 50 bytes per chunk.
    let quarter = fs::metadata(&path).map_or(0, |metadata| metadata.len() / 4);
    let cache_bytes = usize::try_from(quarter).unwrap_or(0).min(UNIVERSE_CACHE_BYTES_MAX);
    let universe = Universe::open(&path, cache_bytes.max(config.universe_cache_bytes))?;
    let indexed = index_containers(&universe, containers, None)?;
    opened.chunks_indexed = indexed.chunks_indexed;
    opened.chunks_lost = indexed.chunks_lost;
    opened.missing_containers.clone_from(&indexed.missing);
    Ok((universe, indexed))
}

type Stages = std::collections::BTreeMap<StageId, Arc<Stage>>;

/// Opens all stages and pins the chunks that they need. A stage that has become a snapshot is removed.
fn open_stages(dir: &Path, shelf: &mut Shelf, memory: &mut Memory, opened: &mut Opened) -> Result<Stages> {
    let dir = dir.join(STAGES);
    let sealed: BTreeSet<_> = shelf.records().keys().copied().collect();
    let mut stages = Stages::new();
    for entry in fs::read_dir(&dir).map_err(PackedError::io(&dir, "list the stages"))? {
        let path = entry.map_err(PackedError::io(&dir, "list the stages"))?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()).and_then(stage_of) else { continue };
        let pin = |entry: &super::types::TreeEntry| {
            for chunk in &entry.chunks {
                memory.pin(id, &chunk.hash);
            }
        };
        match Stage::open(&path, id, pin) {
            Ok(stage) if sealed.contains(&SnapshotId(stage.uuid)) => {
                stage.remove()?;
                memory.unpin_all(id);
            }
            Ok(stage) => {
                stages.insert(id, Arc::new(stage));
            }
            Err(PackedError::Damaged { .. }) => {
                memory.unpin_all(id);
                opened.damaged_stages.push(path);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(stages)
}

/// Removes files that were being written when an earlier process ended.
fn remove_leftovers(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(PackedError::io(dir, "list the stages"))? {
        let path = entry.map_err(PackedError::io(dir, "list the stages"))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("sorting-") || name.ends_with(".tmp") {
            fs::remove_file(&path).map_err(PackedError::io(&path, "remove"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn copies_of_an_index_of_a_killed_process_are_removed_unless_they_are_new_or_in_use() {
        let temporary = tempfile::tempdir().unwrap();
        let make = |name: &str, is_old: bool| {
            let copy = temporary.path().join(name);
            fs::create_dir(&copy).unwrap();
            let index = File::create(copy.join(UNIVERSE)).unwrap();
            if is_old {
                File::open(&copy).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }
            (copy, index)
        };
        let (dead, _) = make("orbit-index-dead", true);
        let (new, _) = make("orbit-index-new", false);
        let (used, index) = make("orbit-index-used", true);
        let (other, _) = make("other", true);
        rustix::fs::flock(&index, rustix::fs::FlockOperation::LockExclusive).unwrap();
        remove_dead_copies(temporary.path());
        assert!(!dead.exists() && new.exists() && used.exists() && other.exists());
        drop(index);
        remove_dead_copies(temporary.path());
        assert!(!used.exists(), "its process has ended");
    }
}
