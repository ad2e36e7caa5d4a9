//! The packed store of a vault: chunks in containers, their places in the universe, and stages and snapshots on top.
//!
//! ```text
//! VAULT/packed/containers/*.orbitpak   chunks; everything else follows from them and the snapshots
//!              universe.redb           where each chunk lies and how many need it; built again when it is lost
//!              stages/JOB-DESTINATION  what a job has stored and is not a snapshot yet
//!              snapshots/ID            a record that names the root of a tree; the tree is chunks
//!              trees/ID                root and inner nodes of the tree once more, for when a container is cut
//!              deleted/ID              snapshots that can be brought back within the undo window
//!              next-container          the number that the next container gets; none is used twice
//!              reserve                 space that is given up on a full disk, so that garbage can be collected
//! ```
//!
//! All calls block, and can be made from any number of threads. A chunk is durable once [`PackedStore::commit`] has
//! returned, and is not collected while a stage or a snapshot needs it. The store knows nothing of callers, the
//! network, and files outside of the vault.

mod chunks;
mod codec;
mod collect;
mod commit;
mod compact;
mod deleted;
mod error;
mod heal;
mod indexing;
mod open;
mod pace;
mod pins;
mod presence;
mod records;
mod removal;
mod renames;
mod scrub;
mod snapshots;
mod sort;
mod spare;
mod stage;
mod survey;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod universe;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use orbit_shared::container::{CONTAINER_BYTES_MAX_DEFAULT, ContainerPool};
use orbit_shared::time::WallTime;

pub use self::collect::{CollectOptions, CollectPhase, CollectProgress, CollectReport};
pub use self::error::{PackedError, Result};
pub use self::open::Opened;
use self::pins::Memory;
use self::presence::Trouble;
use self::records::Shelf;
pub use self::scrub::{ScrubOptions, ScrubProgress, ScrubReport};
pub use self::snapshots::{EntryPage, TreeGap};
use self::stage::Stage;
use self::tree::NodeCache;
pub use self::types::{
    Affected, ChunkPlace, ChunkRef, ContainerInfo, DamagedChunk, PackedTotals, SnapshotId, SnapshotMeta,
    SnapshotRecord, SourceName, StageId, TreeEntry,
};
use self::universe::Universe;

const CONTAINERS: &str = "containers";
const UNIVERSE: &str = "universe.redb";
const STAGES: &str = "stages";
const SNAPSHOTS: &str = "snapshots";
const DELETED: &str = "deleted";
const TREES: &str = "trees";
const RESERVE: &str = "reserve";
/// The file with the number of the next container.
const NEXT_NUMBER: &str = "next-container";

/// Default level of zstd. Level 1 takes half the time for small files, but up to twice the space for repetitive
/// content.
pub const COMPRESSION_LEVEL_DEFAULT: i32 = 3;

/// Default of the bytes that should stay free on the disk of a vault; on a small disk it is a twentieth of it.
pub const FREE_BYTES_MIN_DEFAULT: u64 = 1024 * 1024 * 1024;

/// The settings of a packed store.
#[derive(Debug, Clone)]
pub struct PackedConfig {
    /// Size of the chunks in a container, in bytes, after which another container is begun.
    pub container_bytes_max: u64,
    /// Level of zstd. Chunks that do not shrink are stored uncompressed.
    pub compression_level: i32,
    /// How long content that no snapshot needs is kept, so that a deleted snapshot can be undeleted.
    pub undo_window: Duration,
    /// Memory for pages of the universe, in bytes. A universe that is large when it is opened gets more.
    pub universe_cache_bytes: usize,
    /// Maximum number of chunks that are not yet in the universe. It is higher for a large universe.
    pub recent_chunks_max: usize,
    /// Memory for sorting the entries of a stage, in bytes.
    pub sort_bytes: usize,
    /// Size of the reserve that is released on a full disk, in bytes.
    pub reserve_bytes: u64,
    /// Number of bytes that should stay free on the disk, 0: any; absent: a twentieth of the disk, at most
    /// [`FREE_BYTES_MIN_DEFAULT`].
    pub free_bytes_min: Option<u64>,
    /// Whether the store is opened read-only, with a copy of its index elsewhere.
    pub is_read_only: bool,
    /// The wall clock.
    pub now: fn() -> WallTime,
}

impl Default for PackedConfig {
    fn default() -> Self {
        Self {
            container_bytes_max: CONTAINER_BYTES_MAX_DEFAULT,
            compression_level: COMPRESSION_LEVEL_DEFAULT,
            undo_window: Duration::from_secs(24 * 60 * 60),
            universe_cache_bytes: 64 * 1024 * 1024,
            recent_chunks_max: 128 * 1024,
            sort_bytes: 32 * 1024 * 1024,
            reserve_bytes: 4 * 1024 * 1024,
            free_bytes_min: None,
            is_read_only: false,
            now: orbit_program::clock::wall,
        }
    }
}

/// The packed store of one vault, shared by all that use it.
#[derive(Debug)]
pub struct PackedStore {
    dir: PathBuf,
    config: PackedConfig,
    containers: ContainerPool,
    universe: Universe,
    /// Lock order: after the appender, never before it.
    memory: Mutex<Memory>,
    syncs: Mutex<Syncs>,
    synced: Condvar,
    /// Held while recent chunks are written into the universe.
    flushing: Mutex<()>,
    stages: RwLock<BTreeMap<StageId, Arc<Stage>>>,
    snapshots: RwLock<Shelf>,
    /// Held while snapshots are added or removed.
    sealing: Mutex<()>,
    collecting: Mutex<()>,
    scrubbing: Mutex<()>,
    /// Number of scrubs that run or wait and do not give way to others.
    scrubs_wanted: AtomicU64,
    nodes: NodeCache,
    /// What is missing.
    trouble: Mutex<Trouble>,
    /// Whether the store has never had a chunk, so that lookups can be skipped.
    is_empty: AtomicBool,
    /// Counts calls of readers and writers, for background work.
    activity: AtomicU64,
    /// Counts what has made garbage: deleted snapshots and abandoned stages.
    deletions: AtomicU64,
    #[cfg(test)]
    windows: tests::Windows,
    opened: Opened,
    /// The directory with the copy of the index, of a read-only store.
    _copy: Option<tempfile::TempDir>,
}

/// One thread syncs for all that wait.
#[derive(Debug, Default)]
struct Syncs {
    is_running: bool,
    durable: u64,
}

impl PackedStore {
    /// What opening the store found and did.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Whether it is read-only.
    pub fn is_read_only(&self) -> bool {
        self.config.is_read_only
    }

    /// An error if the store is read-only.
    fn refuse_read_only(&self) -> Result<()> {
        if self.is_read_only() { Err(PackedError::ReadOnly { path: self.dir.clone() }) } else { Ok(()) }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A point of a collection in which others may do anything. Tests hook into it.
    fn pass_window(&self, _name: &'static str) {
        #[cfg(test)]
        self.windows.pass(_name);
    }

    /// Whether a test has injected this fault into a collection, to show that it would be found.
    fn is_planted(&self, _mistake: &'static str) -> bool {
        #[cfg(test)]
        let is_planted = self.windows.has(_mistake);
        #[cfg(not(test))]
        let is_planted = false;
        is_planted
    }

    fn now_seconds(&self) -> u64 {
        u64::try_from((self.config.now)().seconds).unwrap_or(0)
    }

    fn stage(&self, id: StageId) -> Option<Arc<Stage>> {
        self.stages.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

/// Makes the names in a directory durable, with fsync.
fn sync_dir(dir: &Path) -> Result<()> {
    let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(PackedError::io(dir, "sync the directory"))
}
