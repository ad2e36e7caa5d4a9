//! Spare trees: a second copy of the root and the inner nodes of each snapshot's tree, outside of the containers.
//!
//! The root of a tree is written last, so a container that lost a single byte at its end would lose the newest
//! snapshot. The file `trees/ID` is read only when a node is missing or damaged; the node is then stored again in a
//! container. Leaves and content have no second copy. A snapshot of an earlier version has no such file and is read
//! normally.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use orbit_shared::chunk_hash::ChunkHash;

use super::codec::{Decoder, Encoder, open_record, seal_record};
use super::error::{PackedError, Result};
use super::tree::{Node, NodeSource as _};
use super::types::{ChunkRef, SnapshotId};
use super::{DELETED, PackedStore, SNAPSHOTS, TREES, records};

const MAGIC: &[u8; 8] = b"ORBITTRE";
const VERSION: u32 = 1;

impl PackedStore {
    fn trees(&self) -> PathBuf {
        self.dir.join(TREES)
    }

    /// Durably writes the spare of a tree whose nodes are stored.
    pub(super) fn write_spare(&self, id: &SnapshotId, root: &ChunkRef) -> Result<()> {
        let mut nodes = Encoder::default();
        let mut pending = vec![root.hash];
        while let Some(hash) = pending.pop() {
            let bytes = self.read_chunk(&hash)?;
            nodes.bytes(&bytes);
            // Leaves have no spare, except one that is the root.
            if Node::level(&bytes).is_some_and(|level| level > 1) {
                pending.extend(self.node(&hash)?.children().nodes);
            }
        }
        let (dir, name) = (self.trees(), id.to_string());
        let written = crate::vault::publish(&dir, &name, &seal_record(MAGIC, VERSION, &nodes.0));
        written.map_err(PackedError::io(&dir.join(name), "write the tree"))
    }

    /// Stores unreadable nodes of a tree again, as far as its spare has them. Returns whether there were any.
    pub(super) fn mend_tree(&self, id: &SnapshotId) -> Result<bool> {
        if self.is_read_only() {
            return Ok(false);
        }
        let mut is_mended = false;
        let losses = self.memory().losses();
        for bytes in read_spare(&self.trees(), id)? {
            let hash = ChunkHash::of(&bytes);
            match self.read_chunk(&hash) {
                Ok(_) => continue,
                Err(PackedError::DamagedChunk { .. } | PackedError::UnknownChunk { .. }) => {}
                Err(error) => return Err(error),
            }
            self.append(None, hash, &bytes, true)?;
            is_mended = true;
        }
        if is_mended {
            self.make_durable()?;
            self.flush()?;
        }
        // Appended nodes may have been given up on a full disk, or lost by a failed sync of another thread.
        Ok(is_mended && self.memory().losses() == losses)
    }

    /// Removes the spares of snapshots that do not exist.
    pub(super) fn remove_spares(&self) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        let kept: BTreeSet<SnapshotId> = [SNAPSHOTS, DELETED]
            .into_iter()
            .map(|name| records::ids(&self.dir.join(name)))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        for id in records::ids(&self.trees())?.into_iter().filter(|id| !kept.contains(id)) {
            remove(&self.dir, &id)?;
        }
        Ok(())
    }

    /// [`PackedStore::mend_tree`] for all snapshots. Counts in the universe what could not be counted before.
    pub(super) fn mend_trees(&self) -> Result<()> {
        let mut is_mended = false;
        let ids: Vec<_> = self.shelf().records().keys().copied().collect();
        for id in ids {
            is_mended |= self.mend_tree(&id)?;
        }
        if is_mended {
            for hash in self.universe.uncounted_nodes()? {
                self.universe.write(|tables| tables.expand(&hash, &|hash| self.children(hash)))?;
            }
        }
        Ok(())
    }
}

/// The nodes of a spare tree; none if the file is missing or damaged.
fn read_spare(dir: &Path, id: &SnapshotId) -> Result<Vec<Vec<u8>>> {
    let path = dir.join(id.to_string());
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(PackedError::io(&path, "read the tree")(error)),
    };
    let mut nodes = Vec::new();
    let mut fields = Decoder(open_record(MAGIC, VERSION, &bytes).unwrap_or_default());
    while let Some(node) = fields.bytes() {
        nodes.push(node.to_vec());
    }
    Ok(nodes)
}

/// Removes the spare of a snapshot that is forgotten. The removal is not synced: a file that reappears is removed at
/// the next start.
pub(super) fn remove(dir: &Path, id: &SnapshotId) -> Result<()> {
    let path = dir.join(TREES).join(id.to_string());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PackedError::io(&path, "remove the tree")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
