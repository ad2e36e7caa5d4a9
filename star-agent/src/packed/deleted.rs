//! Deletes snapshots, and undeletes them within the undo window.

use std::fs;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::words::JobId;

use super::error::{PackedError, Result};
use super::records::{self, Shelf};
use super::sync_dir;
use super::tree::NodeSource as _;
use super::types::{SnapshotId, SnapshotRecord, StageId};
use super::{DELETED, PackedStore, SNAPSHOTS};

/// Attempts to pin a tree while chunks are lost.
const PINS_MAX: usize = 3;
/// Maximum number of chunks that change in one transaction when a snapshot is deleted.
const RELEASED_PER_TRANSACTION: usize = 64 * 1024;
/// The stage that pins chunks while a snapshot is undeleted. No job has this number.
const UNDELETE: StageId = StageId { job: JobId(u64::MAX), destination: u32::MAX };

impl PackedStore {
    /// Deletes a snapshot. What no other snapshot needs is kept for the undo window, within which
    /// [`PackedStore::undelete_snapshot`] restores it.
    ///
    /// # Errors
    /// There is no such snapshot, or the disk reports an error.
    pub fn delete_snapshot(&self, id: &SnapshotId) -> Result<()> {
        self.refuse_read_only()?;
        let _one_at_a_time = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = {
            let shelf = self.shelf();
            shelf.records().contains_key(id) || shelf.damaged.contains(id)
        };
        if !is_known {
            return Err(PackedError::UnknownSnapshot(*id));
        }
        let (from, to) = (self.dir.join(SNAPSHOTS), self.dir.join(DELETED));
        let name = id.to_string();
        fs::rename(from.join(&name), to.join(&name))
            .map_err(PackedError::io(&from.join(&name), "delete the snapshot"))?;
        sync_dir(&to)?;
        sync_dir(&from)?;
        self.change_shelf(|shelf| shelf.remove(id));
        self.own(id, None)?;
        self.release(&|| false)?;
        self.deletions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Number of snapshots that were deleted and stages that were abandoned since the store was opened.
    pub fn deletions(&self) -> u64 {
        self.deletions.load(Ordering::Relaxed)
    }

    /// Releases what deleted snapshots held, in parts, so that others can write in between.
    pub(super) fn release(&self, is_cancelled: &dyn Fn() -> bool) -> Result<()> {
        let part = || {
            self.universe
                .write(|tables| tables.release_some(RELEASED_PER_TRANSACTION, &|hash| self.children(hash)))
        };
        while self.universe.has_releases()? {
            if is_cancelled() {
                return Err(PackedError::Cancelled);
            }
            part()?;
        }
        Ok(())
    }

    /// Snapshots that were deleted and can be undeleted.
    ///
    /// # Errors
    /// The disk reports an error.
    pub fn deleted_snapshots(&self) -> Result<Vec<SnapshotRecord>> {
        let shelf = Shelf::read(&self.dir.join(DELETED))?;
        Ok(shelf.records().values().cloned().collect())
    }

    /// Undeletes a snapshot.
    ///
    /// # Errors
    /// It was not deleted, or part of it is already collected.
    pub fn undelete_snapshot(&self, id: &SnapshotId) -> Result<SnapshotRecord> {
        self.refuse_read_only()?;
        let _one_at_a_time = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        // A request that is sent again, because the answer to the first one was lost or late, gets the same answer.
        if let Some(record) = self.shelf().records().get(id) {
            return Ok(record.clone());
        }
        let (from, to) = (self.dir.join(DELETED), self.dir.join(SNAPSHOTS));
        let name = id.to_string();
        if !from.join(&name).exists() {
            return Err(PackedError::UnknownSnapshot(*id));
        }
        let found = records::read(&from, id)?;
        let record = found.ok_or(PackedError::damaged(&from.join(&name), "the record"))?.record;
        let whole =
            self.pin_durable_tree(&record.root.hash).and_then(|()| self.own(id, Some(&record.root.hash)));
        self.memory().unpin_all(UNDELETE);
        whole?;
        fs::rename(from.join(&name), to.join(&name))
            .map_err(PackedError::io(&to.join(&name), "bring back the snapshot"))?;
        sync_dir(&to)?;
        sync_dir(&from)?;
        self.change_shelf(|shelf| shelf.insert(record.clone()));
        Ok(record)
    }

    /// Pins all of a tree and makes it durable: a chunk that was collected may have been put again a moment ago.
    fn pin_durable_tree(&self, root: &ChunkHash) -> Result<()> {
        for _ in 0..PINS_MAX {
            let losses = self.memory().losses();
            self.pin_tree(root)?;
            self.make_durable()?;
            self.flush()?;
            if self.memory().losses() == losses {
                return Ok(());
            }
        }
        Err(PackedError::io(&self.dir, "bring back the snapshot in")(std::io::Error::other(
            "chunks are lost again and again while it is brought back",
        )))
    }

    /// Pins all of a tree, or returns which chunk is missing.
    fn pin_tree(&self, root: &ChunkHash) -> Result<()> {
        let mut pending = vec![*root];
        while let Some(hash) = pending.pop() {
            if !self.contains(UNDELETE, &[hash])?[0] {
                return Err(PackedError::UnknownChunk { hash });
            }
            let children = self.node(&hash)?.children();
            let known = self.contains(UNDELETE, &children.chunks)?;
            if let Some(index) = known.iter().position(|is_known| !is_known) {
                return Err(PackedError::UnknownChunk { hash: children.chunks[index] });
            }
            pending.extend(children.nodes);
        }
        Ok(())
    }
}
