//! Healing: a good copy replaces a damaged chunk. Also finds the paths that a damaged or lost chunk affects.

use std::collections::{BTreeMap, BTreeSet};

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::Entry;
use orbit_shared::vault_call::FilePart;

use super::PackedStore;
use super::error::{PackedError, Result};
use super::tree::{Node, NodeSource as _};
use super::types::{Affected, ChunkRef, ContainerInfo, DamagedChunk, PackedTotals, SnapshotId, TreeEntry};
use orbit_shared::time::WallTime;

impl PackedStore {
    /// Chunks that are known to be damaged or lost.
    pub fn damaged(&self) -> Vec<DamagedChunk> {
        self.memory().damaged.values().cloned().collect()
    }

    /// Durably replaces a damaged or lost chunk by a good copy. An intact chunk is kept.
    ///
    /// # Errors
    /// The bytes are not those of the chunk, the chunk is not needed here, or the disk reports an error.
    pub fn replace(&self, hash: &ChunkHash, bytes: &[u8]) -> Result<()> {
        if ChunkHash::of(bytes) != *hash {
            return Err(PackedError::WrongBytes { hash: *hash });
        }
        match self.read_chunk(hash) {
            Ok(_) => return Ok(()),
            Err(PackedError::DamagedChunk { .. }) => {}
            Err(error) => return Err(error),
        }
        let losses = self.memory().losses();
        self.append(None, *hash, bytes, true)?;
        self.make_durable()?;
        self.flush()?;
        if self.memory().losses() != losses {
            return Err(PackedError::DamagedChunk {
                hash: *hash,
                problem: "its new copy was lost".to_owned(),
            });
        }
        // The children of a tree node could not be counted while it was damaged.
        self.universe.write(|tables| tables.expand(hash, &|hash| self.children(hash))).map(|_| ())
    }

    /// The paths that need some of these chunks, by snapshot, newest first: at most `count_max` for each chunk. Reads
    /// the trees until `is_enough`. Also returns whether all trees were read to their ends.
    ///
    /// # Errors
    /// The disk reports an error. Damaged parts of trees are skipped.
    pub fn affected(
        &self,
        hashes: &BTreeSet<ChunkHash>,
        count_max: usize,
        is_enough: &dyn Fn() -> bool,
    ) -> Result<(BTreeMap<ChunkHash, Vec<Affected>>, bool)> {
        let mut search =
            Search { hashes, count_max, is_enough, found: BTreeMap::new(), clean: BTreeSet::new() };
        let mut records = self.snapshots();
        records.sort_by_key(|record| std::cmp::Reverse((record.sealed, record.id)));
        let mut is_complete = true;
        for record in records {
            if is_enough() {
                is_complete = false;
                break;
            }
            self.search(&record.root, record.id, &[], &mut search)?;
        }
        is_complete &= search.found.values().all(|found| found.len() < count_max);
        Ok((search.found, is_complete))
    }

    /// Looks for the chunks in and below a node. Returns whether it has none of them.
    fn search(
        &self,
        node: &ChunkRef,
        snapshot: SnapshotId,
        first_path: &[u8],
        search: &mut Search<'_>,
    ) -> Result<bool> {
        if search.hashes.contains(&node.hash) {
            search.add(node.hash, Affected { snapshot, path: first_path.to_vec(), part: None });
            return Ok(false);
        }
        if search.clean.contains(&node.hash) {
            return Ok(true);
        }
        let read = match self.node(&node.hash) {
            Ok(read) => read,
            Err(PackedError::DamagedChunk { .. } | PackedError::UnknownChunk { .. }) => return Ok(true),
            Err(error) => return Err(error),
        };
        let mut is_clean = true;
        match &*read {
            Node::Inner(children) => {
                for child in children {
                    if (search.is_enough)() {
                        return Ok(false);
                    }
                    is_clean &= self.search(&child.node, snapshot, &child.first_path, search)?;
                }
            }
            Node::Leaf(leaf) => {
                for index in 0..leaf.len() {
                    let (entry, is_listed) = leaf.entry(index);
                    is_clean &= self.search_file(&entry, is_listed, snapshot, search)?;
                }
            }
            Node::List(_) => {}
        }
        if is_clean {
            search.clean.insert(node.hash);
        }
        Ok(is_clean)
    }

    /// Looks for the chunks in one entry, whose chunks may contain lists of chunks.
    fn search_file(
        &self,
        entry: &TreeEntry,
        is_listed: bool,
        snapshot: SnapshotId,
        search: &mut Search<'_>,
    ) -> Result<bool> {
        let (mut is_clean, mut offset) = (true, 0);
        for chunk in &entry.chunks {
            if !is_listed {
                is_clean &= search.look(chunk, &entry.entry, snapshot, &mut offset);
                continue;
            }
            if search.hashes.contains(&chunk.hash) {
                let path = entry.entry.path.clone();
                search.add(chunk.hash, Affected { snapshot, path, part: None });
                // Without it the positions of the chunks after it are not known.
                return Ok(false);
            }
            let list = match self.node(&chunk.hash) {
                Ok(list) => list,
                Err(PackedError::DamagedChunk { .. } | PackedError::UnknownChunk { .. }) => {
                    return Ok(is_clean);
                }
                Err(error) => return Err(error),
            };
            if let Node::List(listed) = &*list {
                for chunk in listed {
                    is_clean &= search.look(chunk, &entry.entry, snapshot, &mut offset);
                }
            }
        }
        Ok(is_clean)
    }

    /// All containers, by number.
    ///
    /// # Errors
    /// The universe cannot be read, or the disk reports an error.
    pub fn containers(&self) -> Result<Vec<ContainerInfo>> {
        let rows: BTreeMap<_, _> = self.universe.containers()?.into_iter().collect();
        let mut found = Vec::new();
        for (number, known) in self.containers.snapshot() {
            // It can be removed at this moment.
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
    /// The universe cannot be read, or the disk reports an error.
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

/// The chunks that are looked for in trees.
struct Search<'a> {
    hashes: &'a BTreeSet<ChunkHash>,
    count_max: usize,
    is_enough: &'a dyn Fn() -> bool,
    found: BTreeMap<ChunkHash, Vec<Affected>>,
    /// Nodes without any of them. Other trees share these nodes.
    clean: BTreeSet<ChunkHash>,
}

impl Search<'_> {
    fn add(&mut self, hash: ChunkHash, hit: Affected) {
        let found = self.found.entry(hash).or_default();
        if found.len() < self.count_max {
            found.push(hit);
        }
    }

    /// Looks at the next chunk of a file. Returns whether it is none of them.
    fn look(&mut self, chunk: &ChunkRef, entry: &Entry, snapshot: SnapshotId, offset: &mut u64) -> bool {
        let is_clean = !self.hashes.contains(&chunk.hash);
        if !is_clean {
            let part = FilePart {
                path: entry.path.clone(),
                offset: *offset,
                length: chunk.length,
                size: entry.size(),
                modified: entry.modified,
            };
            self.add(chunk.hash, Affected { snapshot, path: entry.path.clone(), part: Some(part) });
        }
        *offset += u64::from(chunk.length);
        is_clean
    }
}
