//! Healing, and what damage means: a good copy takes the place of a bad one, and who is hit by a chunk that is lost.

use std::collections::BTreeMap;

use orbit_shared::chunk_hash::ChunkHash;

use super::PackedStore;
use super::error::{PackedError, Result};
use super::tree::{Node, NodeSource as _};
use super::types::{Affected, ChunkRef, ContainerInfo, DamagedChunk, PackedTotals, SnapshotId};
use orbit_shared::time::WallTime;

impl PackedStore {
    /// Chunks that are known to be damaged or lost.
    pub fn damaged(&self) -> Vec<DamagedChunk> {
        self.memory().damaged.values().cloned().collect()
    }

    /// Stores a good copy of a chunk that is damaged or lost in its place, durably. One that is whole stays as it is.
    ///
    /// # Errors
    /// The bytes are not those of the chunk, nobody here needs it, or the disk refuses.
    pub fn replace(&self, hash: &ChunkHash, bytes: &[u8]) -> Result<()> {
        if ChunkHash::of(bytes) != *hash {
            return Err(PackedError::WrongBytes { hash: *hash });
        }
        match self.read_chunk(hash) {
            Ok(_) => return Ok(()),
            Err(PackedError::DamagedChunk { .. }) => {}
            Err(error) => return Err(error),
        }
        self.append(None, *hash, bytes, true)?;
        let losses = self.memory().losses();
        self.make_durable()?;
        self.flush()?;
        if self.memory().losses() != losses {
            return Err(PackedError::DamagedChunk {
                hash: *hash,
                problem: "its new copy was lost".to_owned(),
            });
        }
        // What a part of a tree holds could not be counted while it was damaged.
        self.universe.write(|tables| tables.expand(hash, &|hash| self.children(hash))).map(|_| ())
    }

    /// Which paths of which snapshots need a chunk, in that order. Reads all trees, and each part of them once.
    ///
    /// # Errors
    /// The disk refuses. Parts that are damaged themselves are passed over.
    pub fn affected(&self, hash: &ChunkHash) -> Result<Vec<Affected>> {
        let mut found = Vec::new();
        let mut seen = BTreeMap::new();
        for record in self.snapshots() {
            let hits = self.hits(&record.root, &[], hash, &mut seen)?;
            found.extend(hits.iter().map(|(path, is_tree)| hit(record.id, path, *is_tree)));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The paths below a node that need the chunk, and whether it is a part of the tree there.
    fn hits(
        &self,
        node: &ChunkRef,
        first_path: &[u8],
        hash: &ChunkHash,
        seen: &mut BTreeMap<ChunkHash, Vec<(Vec<u8>, bool)>>,
    ) -> Result<Vec<(Vec<u8>, bool)>> {
        if node.hash == *hash {
            return Ok(vec![(first_path.to_vec(), true)]);
        }
        if let Some(hits) = seen.get(&node.hash) {
            return Ok(hits.clone());
        }
        let mut hits = Vec::new();
        let read = match self.node(&node.hash) {
            Ok(read) => read,
            Err(PackedError::DamagedChunk { .. } | PackedError::UnknownChunk { .. }) => return Ok(hits),
            Err(error) => return Err(error),
        };
        match &*read {
            Node::Inner(children) => {
                for child in children {
                    hits.extend(self.hits(&child.node, &child.first_path, hash, seen)?);
                }
            }
            Node::Leaf(entries) => {
                for (entry, is_listed) in entries {
                    let has = |chunks: &[ChunkRef]| chunks.iter().any(|chunk| chunk.hash == *hash);
                    let lists = |list: &ChunkRef| match self.node(&list.hash).as_deref() {
                        Ok(Node::List(listed)) => has(listed),
                        Ok(_) | Err(_) => false,
                    };
                    if has(&entry.chunks) || *is_listed && entry.chunks.iter().any(lists) {
                        hits.push((entry.entry.path.clone(), false));
                    }
                }
            }
            Node::List(_) => {}
        }
        seen.insert(node.hash, hits.clone());
        Ok(hits)
    }

    /// All containers, in the order of their numbers.
    ///
    /// # Errors
    /// The universe gives no answer, or the disk refuses.
    pub fn containers(&self) -> Result<Vec<ContainerInfo>> {
        let rows: BTreeMap<_, _> = self.universe.containers()?.into_iter().collect();
        let mut found = Vec::new();
        for (number, known) in self.containers.snapshot() {
            // It may go in this moment.
            let path = self.containers.path(&known.id);
            let Ok(metadata) = std::fs::metadata(path) else { continue };
            let checked = rows.get(&number).map_or(0, |row| row.checked);
            let seconds = i64::try_from(checked).unwrap_or(0);
            found.push(ContainerInfo {
                container_id: known.id,
                file_bytes: metadata.len(),
                is_sealed: known.is_sealed,
                is_damaged: known.is_damaged,
                checked: (checked > 0).then_some(WallTime { seconds, nanos: 0 }),
            });
        }
        Ok(found)
    }

    /// Totals over the store.
    ///
    /// # Errors
    /// The universe gives no answer, or the disk refuses.
    pub fn totals(&self) -> Result<PackedTotals> {
        let containers = self.containers()?;
        let (recent, damaged) = {
            let memory = self.memory();
            let frozen = memory.frozen.as_ref().map_or(0, |frozen| frozen.len());
            ((memory.recent.len() + frozen) as u64, memory.damaged.len() as u64)
        };
        Ok(PackedTotals {
            chunk_count: self.universe.chunk_count()? + recent,
            container_count: containers.len() as u64,
            container_bytes: containers.iter().map(|container| container.file_bytes).sum(),
            snapshot_count: self.shelf().records().len() as u64,
            stage_count: self.stages().len() as u64,
            damaged_count: damaged,
        })
    }
}

fn hit(snapshot: SnapshotId, path: &[u8], is_tree: bool) -> Affected {
    Affected { snapshot, path: path.to_vec(), is_tree }
}
