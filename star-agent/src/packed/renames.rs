//! Finds files that a snapshot has under other paths than the previous snapshot of the same source.
//!
//! Both trees are compared from the root down. Nodes that both have are skipped, so the cost follows what has changed. A file
//! counts as renamed if its path is new, another path is gone, and both have the same chunks. If a name was copied and the old one
//! stays, the file is not renamed. Trees that differ in too many entries are not searched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::EntryKind;
use orbit_shared::vault_call::limits::RENAMES_MAX;
use orbit_shared::vault_call::{Rename, Renames};

use super::PackedStore;
use super::error::{PackedError, Result};
use super::tree::{Node, NodeSource as _};
use super::types::SnapshotRecord;

/// Maximum number of entries of both trees that are compared by their paths.
const DIFFERENT_MAX: usize = 200_000;

/// The content of a file: its size, and the hash of its chunks' hashes.
type Content = (u64, ChunkHash);

impl PackedStore {
    /// The renamed files of a snapshot. None if a part of either tree cannot be read, because no decision depends on them.
    pub fn renames(&self, record: &SnapshotRecord) -> Renames {
        let previous = self.shelf().previous_of(record).map(|previous| previous.root.hash);
        let Some(previous) = previous else { return Renames::default() };
        self.compare_trees(previous, record.root.hash).unwrap_or_else(|error| {
            tracing::debug!(snapshot = %record.id, %error, "renamed files are not searched for");
            Renames::default()
        })
    }

    fn compare_trees(&self, old: ChunkHash, new: ChunkHash) -> Result<Renames> {
        let (mut gone, mut added) = (BTreeMap::new(), BTreeMap::new());
        let mut old = vec![old];
        let mut new = vec![new];
        while !(old.is_empty() && new.is_empty()) {
            let (known, found): (BTreeSet<_>, BTreeSet<_>) =
                (old.iter().copied().collect(), new.iter().copied().collect());
            old = self.descend(&old, &found, &mut gone)?;
            new = self.descend(&new, &known, &mut added)?;
            if gone.len() + added.len() > DIFFERENT_MAX {
                return Ok(Renames::default());
            }
        }
        let moved: Vec<_> = added.iter().filter(|(path, _)| !gone.contains_key(*path)).collect();
        let mut sources: BTreeMap<Content, VecDeque<&[u8]>> = BTreeMap::new();
        for (path, content) in gone.iter().filter(|(path, _)| !added.contains_key(*path)) {
            if let Some(content) = content {
                sources.entry(*content).or_default().push_back(path);
            }
        }
        let mut renames = Renames::default();
        for (to, content) in moved {
            let Some(content) = content else { continue };
            let Some(from) = sources.get_mut(content).and_then(VecDeque::pop_front) else { continue };
            renames.count += 1;
            renames.bytes = renames.bytes.saturating_add(content.0);
            if renames.first.len() < RENAMES_MAX {
                renames.first.push(Rename { from: from.to_vec(), to: to.clone(), bytes: content.0 });
            }
        }
        Ok(renames)
    }

    /// The children of the nodes that the other tree does not have. Entries of leaves are added to `entries`, with their content
    /// if they are files with any.
    fn descend(
        &self,
        nodes: &[ChunkHash],
        other: &BTreeSet<ChunkHash>,
        entries: &mut BTreeMap<Vec<u8>, Option<Content>>,
    ) -> Result<Vec<ChunkHash>> {
        let mut below = Vec::new();
        for hash in nodes.iter().filter(|hash| !other.contains(hash)) {
            match &*self.node(hash)? {
                Node::Inner(children) => below.extend(children.iter().map(|child| child.node.hash)),
                Node::Leaf(leaf) => {
                    for index in 0..leaf.len() {
                        let (entry, _) = leaf.entry(index);
                        let content = match entry.entry.kind {
                            EntryKind::File { size } if size > 0 => {
                                let hashes: Vec<u8> =
                                    entry.chunks.iter().flat_map(|chunk| *chunk.hash.as_bytes()).collect();
                                Some((size, ChunkHash::of(&hashes)))
                            }
                            _ => None,
                        };
                        entries.insert(entry.entry.path, content);
                    }
                }
                Node::List(_) => {
                    let problem = "it lists a file's content where entries should be".to_owned();
                    return Err(PackedError::DamagedChunk { hash: *hash, problem });
                }
            }
            if entries.len() > DIFFERENT_MAX {
                return Ok(Vec::new());
            }
        }
        Ok(below)
    }
}
