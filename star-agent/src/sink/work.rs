//! The shared state of all jobs of one assignment, and the places of its items.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orbit_shared::entry::{EntryKind, TEMPORARY_PREFIX, join_path};
use orbit_shared::session::{AssignedItem, Assignment, ChunkCounts, Failure, ItemResult};
use orbit_shared::time::WallTime;
use orbit_shared::words::ItemId;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use tokio::sync::{OwnedRwLockReadGuard, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::checkpoints::{Checkpoint, Checkpoints};
use crate::meters::Meters;
use crate::roots::Place;
use crate::sink::claims::item_id;
use crate::sink::grain::Grains;
use crate::sink::kept_times::KeepsTimes;
use crate::sink::pull_core::WrittenItem;
use crate::sink::spelling::Spellings;
use crate::sink::syncers::WorkSyncers;

/// Mask of the permission bits that files get.
pub(super) const FILE_MODE_MASK: u32 = 0o1777;
/// Mask of the permission bits that directories get.
pub(super) const DIRECTORY_MODE_MASK: u32 = 0o3777;

/// One assignment under way.
pub(super) struct Work {
    pub(super) assignment: Arc<Assignment>,
    pub(super) place: Place,
    /// Prefix of temporary names; the item's sequence number follows.
    pub(super) prefix: String,
    pub(super) syncers: WorkSyncers,
    pub(super) grains: Arc<Grains>,
    pub(super) spellings: Arc<Spellings>,
    /// Directories that exist under exactly the spelling of this assignment.
    pub(super) ways: Mutex<BTreeSet<Vec<u8>>>,
    pub(super) meters: Arc<Meters>,
    pub(super) bases: Arc<Semaphore>,
    pub(super) checkpoints: Checkpoints,
    pub(super) started: Instant,
    pub(super) progress: Arc<AtomicU64>,
    pub(super) cancel: CancellationToken,
    pub(super) keeps_times: KeepsTimes,
    /// Held from the renames of a round until its directories are synced.
    pub(super) publishing: Mutex<Option<OwnedRwLockReadGuard<()>>>,
}

/// An item that is written and not yet synced and published.
#[derive(Debug)]
pub(super) struct Written {
    /// Index into the assignment's items.
    pub(super) item: usize,
    /// Whether it has its temporary name; otherwise it was changed in place.
    pub(super) is_temporary: bool,
    /// Whether its content must be synced. That of a symbolic link is in its directory entry.
    pub(super) has_content: bool,
    /// Its device.
    pub(super) device: u64,
    pub(super) size: u64,
    pub(super) bytes_transferred: u64,
    pub(super) bytes_deduplicated: u64,
    pub(super) chunks: ChunkCounts,
    /// Whether it was already right, so that nothing of it was changed.
    pub(super) is_untouched: bool,
    /// Whether the file changed while it was read.
    pub(super) is_changed: bool,
}

impl WrittenItem for Written {
    fn item(&self) -> usize {
        self.item
    }

    fn bytes(&self) -> u64 {
        self.bytes_transferred + self.bytes_deduplicated
    }

    fn result(&self, elapsed: Duration) -> ItemResult {
        if self.is_untouched {
            return ItemResult::Skipped;
        }
        ItemResult::Stored {
            size: self.size,
            bytes_transferred: self.bytes_transferred,
            bytes_deduplicated: self.bytes_deduplicated,
            duration: elapsed,
            is_changed: self.is_changed,
            chunks: self.chunks,
        }
    }
}

impl Work {
    /// The end of a publication: others may count what it has renamed as durable, or in doubt.
    pub(super) fn end_publication(&self) {
        drop(self.publishing.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    pub(super) fn item(&self, index: usize) -> &AssignedItem {
        &self.assignment.items[index]
    }

    /// The full path of an item's target, for messages.
    pub(super) fn target_path(&self, index: usize) -> Vec<u8> {
        join_path(&self.place.path, &self.item(index).entry.path)
    }

    /// Fails if an entry exists under another spelling of an item's path that its file system takes for the same.
    pub(super) fn check_spelling(&self, index: usize) -> Result<(), Failure> {
        let path = &self.item(index).entry.path;
        let shown = |path: &[u8]| join_path(&self.place.path, path);
        if self.place.single.is_none() {
            self.spellings.check_way(&self.place.tree, path, &self.ways, &shown)?;
        }
        match self.parent(index) {
            Ok((parent, name)) => self.spellings.check(&parent, name, &self.target_path(index)),
            // A missing entry has no spelling.
            Err(_) => Ok(()),
        }
    }

    /// The parent directory of an item's target, and the target's name.
    pub(super) fn parent(&self, index: usize) -> Result<(Arc<OwnedFd>, &[u8]), Errno> {
        match &self.place.single {
            Some(name) => Ok((self.place.tree.open_dir(b"")?, name)),
            None => self.place.tree.open_parent(&self.item(index).entry.path),
        }
    }

    /// As [`Self::parent`], and creates missing directories. Must be called before an entry is put there.
    pub(super) fn create_parent(&self, index: usize) -> Result<(Arc<OwnedFd>, &[u8]), Errno> {
        let (parent, name) = match &self.place.single {
            Some(name) => (self.place.tree.open_dir(b"")?, name.as_slice()),
            None => self.place.tree.create_parent(&self.item(index).entry.path)?,
        };
        self.keeps_times.note(&parent)?;
        Ok((parent, name))
    }

    /// The name under which an item is written.
    pub(super) fn temporary_name(&self, index: usize) -> String {
        temporary_name(&self.prefix, self.item(index).sequence)
    }

    pub(super) fn item_id(&self, index: usize) -> ItemId {
        item_id(&self.assignment, self.item(index))
    }
}

/// Whether the destination path itself is the target of the only item that is not a directory.
pub(super) fn is_single(assignment: &Assignment) -> bool {
    assignment.items.iter().any(|item| item.entry.path.is_empty() && item.entry.kind != EntryKind::Directory)
}

/// The prefix of the temporary names of an assignment: Star, job and destination.
pub(super) fn temporary_prefix(identity: Uuid, assignment: &Assignment) -> String {
    let mut prefix = String::from_utf8_lossy(TEMPORARY_PREFIX).into_owned();
    let (high, _) = identity.as_u64_pair();
    // Writing to a String cannot fail.
    let _ = write!(prefix, "{high:016x}-{}-{}-", assignment.job, assignment.destination);
    prefix
}

fn temporary_name(prefix: &str, sequence: u64) -> String {
    format!("{prefix}{sequence}")
}

/// Removes an item's temporary, if there is one.
pub(super) fn remove_temporary(place: &Place, prefix: &str, item: &AssignedItem) {
    if let Ok(parent) = parent_of(place, item) {
        // It usually does not exist.
        let _ = rustix::fs::unlinkat(&parent, temporary_name(prefix, item.sequence), AtFlags::empty());
    }
}

/// Removes the temporary of a large file that is kept.
pub(super) fn remove_kept(place: &Place, checkpoint: &Checkpoint) {
    let parent = match &place.single {
        Some(_) => place.tree.open_dir(b""),
        None => place.tree.open_parent(&checkpoint.path).map(|(parent, _)| parent),
    };
    if let Ok(parent) = parent {
        // It may have been published just before its record was to be removed.
        let _ = rustix::fs::unlinkat(&parent, &checkpoint.temporary, AtFlags::empty());
    }
}

/// The parent directory of an item's target.
pub(super) fn parent_of(place: &Place, item: &AssignedItem) -> Result<Arc<OwnedFd>, Errno> {
    match &place.single {
        Some(_) => place.tree.open_dir(b""),
        None => place.tree.open_parent(&item.entry.path).map(|(parent, _)| parent),
    }
}

/// Timestamps that set the modification time and keep the access time.
pub(crate) fn modified_at(time: WallTime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() },
    }
}
