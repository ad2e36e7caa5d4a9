//! Opening a store: what a kill or damage has left is put in order before anyone may use it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, RwLock};

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::container::ContainerReader;

use super::containers::Containers;
use super::error::{PackedError, Result};
use super::pins::Memory;
use super::records::Shelf;
use super::stage::{Stage, stage_of};
use super::tree::NodeCache;
use super::types::{DamagedChunk, SnapshotId, StageId};
use super::universe::{Location, ROOT_UNKNOWN, Universe};
use super::{CONTAINERS, DELETED, PackedConfig, PackedStore, RESERVE, SNAPSHOTS, STAGES, Syncs, UNIVERSE};
use orbit_shared::time::WallTime;

/// Entries that go into the universe in one transaction when it is built.
const INDEXED_PER_TRANSACTION: usize = 256 * 1024;
const ROWS_PER_READ: usize = 4096;
/// Bytes of pages of the largest universe that are kept; each takes a quarter more of the allocator's memory.
const UNIVERSE_CACHE_BYTES_MAX: usize = 384 * 1024 * 1024;

/// What opening a store found and did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Why the universe was built again, if it was.
    pub rebuilt: Option<String>,
    /// Chunks that were not in the universe and are now.
    pub chunks_indexed: u64,
    /// Chunks that were durable and are not there any more, because a file is shorter than it was.
    pub chunks_lost: u64,
    /// Entries of stages whose content is not there any more. They are not staged, and must be stored again.
    pub entries_lost: u64,
    /// Containers whose lists of chunks cannot be read. What the universe knows of them stays readable.
    pub damaged_containers: Vec<String>,
    /// Containers that the universe knows and that are gone.
    pub missing_containers: Vec<u32>,
    /// Stages that cannot be read.
    pub damaged_stages: Vec<PathBuf>,
    /// Snapshots whose records cannot be read.
    pub damaged_snapshots: Vec<SnapshotId>,
}

impl Opened {
    /// What somebody should know of it, each on a line.
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
    /// Opens the store in this directory, or makes one. The caller holds the lock of the vault. A universe that is damaged
    /// or missing is built again.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(dir: &Path, config: PackedConfig) -> Result<Arc<Self>> {
        let universe = dir.join(UNIVERSE);
        let noted = Universe::noted_damage(&universe);
        if noted.is_some() {
            Universe::remove(&universe)?;
        }
        let store = match Self::try_open(dir, config.clone(), noted) {
            // All that is in it can be had from the rest, wherever in opening it the damage was met.
            Err(PackedError::Universe { problem } | PackedError::UniverseFailed { problem }) => {
                Universe::remove(&universe)?;
                Self::try_open(dir, config, Some(problem))?
            }
            result => result?,
        };
        Universe::clear_noted_damage(&universe);
        Ok(store)
    }

    /// Opens the store, whose universe was removed if it had a `problem`.
    fn try_open(dir: &Path, config: PackedConfig, problem: Option<String>) -> Result<Arc<Self>> {
        for name in [CONTAINERS, STAGES, SNAPSHOTS, DELETED] {
            let dir = dir.join(name);
            fs::create_dir_all(&dir).map_err(PackedError::io(&dir, "create the directory"))?;
        }
        remove_leftovers(&dir.join(STAGES))?;
        let containers = Containers::open(&dir.join(CONTAINERS), config.container_bytes_max)?;
        let mut opened = Opened::default();
        let universe = open_universe(dir, &config, &containers, problem, &mut opened)?;
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
        let stages = open_stages(dir, &mut shelf, &mut memory, &mut opened)?;
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
            is_empty: AtomicBool::new(is_empty),
            activity: AtomicU64::new(0),
            #[cfg(test)]
            windows: super::tests::Windows::default(),
            opened,
            config,
        };
        store.reconcile()?;
        store.opened.entries_lost = store.check_stages()?;
        store.keep_reserve();
        Ok(Arc::new(store))
    }

    /// As [`PackedStore::open`], but builds the universe again whatever it looks like.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn rebuild(dir: &Path, config: PackedConfig) -> Result<Arc<Self>> {
        Universe::remove(&dir.join(UNIVERSE))?;
        Self::open(dir, config)
    }

    /// How many entries of stages lack content.
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

    /// Makes the universe count each snapshot that there is, and no other.
    fn reconcile(&self) -> Result<()> {
        let (records, damaged) = {
            let shelf = self.shelf();
            (shelf.records().clone(), shelf.damaged.clone())
        };
        for (id, root) in self.universe.owners()? {
            // One whose record cannot be read is still there.
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

    /// Takes the space that is given up on a full disk, if there is any.
    pub(super) fn keep_reserve(&self) {
        let path = self.dir.join(RESERVE);
        let bytes = self.config.reserve_bytes;
        if bytes == 0 || fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes) {
            return;
        }
        let reserved = File::create(&path).and_then(|file| {
            let flags = rustix::fs::FallocateFlags::empty();
            Ok(rustix::fs::fallocate(&file, flags, 0, bytes)?)
        });
        if reserved.is_err() {
            // Half a reserve would be taken for a whole one.
            let _ = fs::remove_file(&path);
        }
    }

    /// Gives the reserved space up, and says whether there was any.
    pub(super) fn give_up_reserve(&self) -> bool {
        fs::remove_file(self.dir.join(RESERVE)).is_ok()
    }
}

/// Opens the universe and brings it up to the containers. One that is not there is built from them; `problem` says why.
fn open_universe(
    dir: &Path,
    config: &PackedConfig,
    containers: &Containers,
    problem: Option<String>,
    opened: &mut Opened,
) -> Result<Universe> {
    let path = dir.join(UNIVERSE);
    // Without containers there was nothing in it: the first start was killed.
    if !path.exists() && !containers.snapshot().is_empty() {
        opened.rebuilt = Some(problem.unwrap_or_else(|| "it was missing".to_owned()));
    }
    // A large one is given more, up to about 50 bytes for each chunk.
    let quarter = fs::metadata(&path).map_or(0, |metadata| metadata.len() / 4);
    let cache_bytes = usize::try_from(quarter).unwrap_or(0).min(UNIVERSE_CACHE_BYTES_MAX);
    let universe = Universe::open(&path, cache_bytes.max(config.universe_cache_bytes))?;
    index_containers(&universe, containers, opened)?;
    Ok(universe)
}

/// Brings into the universe what the containers have and it has not.
fn index_containers(universe: &Universe, containers: &Containers, opened: &mut Opened) -> Result<()> {
    let known = containers.snapshot();
    let mut batch = Batch::default();
    let mut short = Vec::new();
    let rows: std::collections::BTreeMap<_, _> = universe.containers()?.into_iter().collect();
    opened.missing_containers = rows.keys().filter(|number| !known.contains_key(number)).copied().collect();
    for (number, container) in &known {
        let row = rows.get(number).copied().unwrap_or_default();
        if row.is_damaged {
            containers.set_damaged(*number);
        }
        let Some(path) = containers.path_of(*number) else { continue };
        let file_bytes = fs::metadata(&path).map_err(PackedError::io(&path, "look at the container"))?.len();
        if container.is_sealed && row.sealed_bytes == file_bytes {
            continue;
        }
        if ContainerReader::open(&path).is_err() {
            containers.set_damaged(*number);
        }
        let Ok(entries) = ContainerReader::open_damaged(&path).and_then(|reader| reader.entries()) else {
            containers.set_damaged(*number);
            short.push((*number, file_bytes));
            continue;
        };
        let indexed = row.indexed as usize;
        if indexed > entries.len() {
            short.push((*number, entries.last().map_or(0, |last| last.offset + u64::from(last.length))));
        }
        opened.chunks_indexed += entries.len().saturating_sub(indexed) as u64;
        batch.extend(*number, &entries[indexed.min(entries.len())..]);
        batch.ends.push((*number, entries.len(), if container.is_sealed { file_bytes } else { 0 }));
        if batch.rows.len() >= INDEXED_PER_TRANSACTION {
            batch.write(universe)?;
        }
    }
    batch.write(universe)?;
    if !short.is_empty() {
        opened.chunks_lost = forget_lost(universe, &short)?;
    }
    Ok(())
}

#[derive(Default)]
struct Batch {
    rows: Vec<(ChunkHash, Location)>,
    /// Containers that are indexed up to so many entries, and the length of those that are sealed.
    ends: Vec<(u32, usize, u64)>,
}

impl Batch {
    fn extend(&mut self, number: u32, entries: &[orbit_shared::container::ContainerEntry]) {
        self.rows.extend(entries.iter().map(|entry| (entry.hash, Location::of(number, entry))));
    }

    fn write(&mut self, universe: &Universe) -> Result<()> {
        if self.ends.is_empty() {
            return Ok(());
        }
        // Stable: of several places of one chunk the newest is the last.
        self.rows.sort_by_key(|(hash, _)| *hash);
        universe.write(|tables| {
            for (hash, location) in self.rows.drain(..) {
                tables.place(&hash, location)?;
            }
            for (number, count, sealed_bytes) in self.ends.drain(..) {
                let row = tables.container(number)?;
                let indexed = u32::try_from(count).unwrap_or(u32::MAX);
                tables
                    .put_container(number, &super::universe::ContainerRow { indexed, sealed_bytes, ..row })?;
            }
            Ok(())
        })
    }
}

/// Forgets where chunks lie that are behind the end of their container: they were cut off, and must be stored anew.
fn forget_lost(universe: &Universe, short: &[(u32, u64)]) -> Result<u64> {
    let (mut after, mut count) = (None, 0);
    loop {
        let rows = universe.rows_after(after.as_ref(), ROWS_PER_READ)?;
        let Some((last, _)) = rows.last() else { return Ok(count) };
        after = Some(*last);
        let is_lost = |location: &Location| {
            let end = location.offset.saturating_add(u64::from(location.stored));
            short.iter().any(|(number, file_end)| *number == location.container && end > *file_end)
        };
        let lost: Vec<_> = rows.iter().filter(|(_, row)| is_lost(&row.location)).collect();
        count += lost.len() as u64;
        if !lost.is_empty() {
            universe.write(|tables| {
                for (hash, row) in &lost {
                    tables.move_row(hash, row.location, Location::NOWHERE)?;
                }
                Ok(())
            })?;
        }
    }
}

type Stages = std::collections::BTreeMap<StageId, Arc<Stage>>;

/// Opens all stages and pins what they need. One that has become a snapshot is removed.
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
