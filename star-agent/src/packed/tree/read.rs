//! Reads trees: from a path on, in order. The nodes that were used last are cached.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orbit_shared::chunk_hash::ChunkHash;

use super::{Child, LEVELS_MAX, Node};
use crate::packed::error::{PackedError, Result};
use crate::packed::types::{ChunkRef, TreeEntry};

/// Maximum memory of the cached nodes, in bytes: some four hundred leaves of usual size.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where nodes are read from.
pub(in crate::packed) trait NodeSource {
    /// The node with this hash.
    fn node(&self, hash: &ChunkHash) -> Result<Arc<Node>>;
}

/// A cache of the nodes that were used last.
#[derive(Debug, Default)]
pub(in crate::packed) struct NodeCache {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// With the time of the last use.
    nodes: BTreeMap<ChunkHash, (u64, Arc<Node>)>,
    bytes: usize,
    /// The number of uses, which serves as time.
    time: u64,
}

impl NodeCache {
    /// The node, from the cache or from `load`.
    pub(in crate::packed) fn node(
        &self,
        hash: &ChunkHash,
        load: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Arc<Node>> {
        if let Some(node) = self.lock().find(hash) {
            return Ok(node);
        }
        let problem = "it is a chunk of a tree and does not read like one".to_owned();
        let node = Node::decode(load()?).ok_or(PackedError::DamagedChunk { hash: *hash, problem })?;
        let node = Arc::new(node);
        self.lock().keep(hash, &node);
        Ok(node)
    }

    /// Removes all nodes: some may not be stored any more.
    pub(in crate::packed) fn clear(&self) {
        *self.lock() = Kept::default();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn find(&mut self, hash: &ChunkHash) -> Option<Arc<Node>> {
        self.time += 1;
        let (used, node) = self.nodes.get_mut(hash)?;
        *used = self.time;
        Some(Arc::clone(node))
    }

    /// Caches a node, and removes those that were not used for the longest time.
    fn keep(&mut self, hash: &ChunkHash, node: &Arc<Node>) {
        self.bytes += node.memory_bytes();
        if let Some((_, same)) = self.nodes.insert(*hash, (self.time, Arc::clone(node))) {
            self.bytes -= same.memory_bytes();
        }
        while self.bytes > KEPT_BYTES_MAX
            && let Some(oldest) = self.nodes.iter().min_by_key(|(_, (used, _))| *used).map(|(hash, _)| *hash)
            && let Some((_, gone)) = self.nodes.remove(&oldest)
        {
            self.bytes -= gone.memory_bytes();
        }
    }
}

/// A step of a walk.
pub(in crate::packed) enum Step<'a> {
    /// An entry, and whether its chunks contain lists.
    Entry(TreeEntry, bool),
    /// A node that cannot be read: its reference, and the error.
    Gap(&'a Child, PackedError),
}

/// Walks the entries whose paths are not before `from`, until `visit` returns that it is enough.
pub(in crate::packed) fn walk(
    source: &impl NodeSource,
    root: &ChunkRef,
    from: &[u8],
    visit: &mut dyn FnMut(Step<'_>) -> Result<bool>,
) -> Result<bool> {
    let root = Child { first_path: Vec::new(), node: *root, entry_count: 0 };
    walk_below(source, &root, from, visit, LEVELS_MAX)
}

fn walk_below(
    source: &impl NodeSource,
    child: &Child,
    from: &[u8],
    visit: &mut dyn FnMut(Step<'_>) -> Result<bool>,
    levels_left: usize,
) -> Result<bool> {
    let node = match source.node(&child.node.hash) {
        Ok(node) if levels_left > 0 => node,
        Ok(_) => {
            let problem = "the tree is deeper than any".to_owned();
            return visit(Step::Gap(child, PackedError::DamagedChunk { hash: child.node.hash, problem }));
        }
        Err(error) => return visit(Step::Gap(child, error)),
    };
    match &*node {
        Node::Leaf(leaf) => {
            for index in leaf.first_from(from)..leaf.len() {
                let (entry, is_listed) = leaf.entry(index);
                if !visit(Step::Entry(entry, is_listed))? {
                    return Ok(false);
                }
            }
        }
        Node::Inner(children) => {
            let behind = children.partition_point(|child| child.first_path.as_slice() <= from);
            for child in &children[behind.saturating_sub(1)..] {
                if !walk_below(source, child, from, visit, levels_left - 1)? {
                    return Ok(false);
                }
            }
        }
        Node::List(_) => {
            let problem = "it lists a file's content where entries should be".to_owned();
            return visit(Step::Gap(child, PackedError::DamagedChunk { hash: child.node.hash, problem }));
        }
    }
    Ok(true)
}

/// The entry with all of its chunks.
pub(in crate::packed) fn resolve(
    source: &impl NodeSource,
    entry: TreeEntry,
    is_listed: bool,
) -> Result<TreeEntry> {
    if !is_listed {
        return Ok(entry);
    }
    let mut chunks = Vec::new();
    for list in &entry.chunks {
        match &*source.node(&list.hash)? {
            Node::List(listed) => chunks.extend_from_slice(listed),
            Node::Leaf(_) | Node::Inner(_) => {
                let problem = "it should list a file's content".to_owned();
                return Err(PackedError::DamagedChunk { hash: list.hash, problem });
            }
        }
    }
    Ok(TreeEntry { entry: entry.entry, chunks })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use orbit_shared::entry::{Entry, EntryKind};
    use orbit_shared::time::WallTime;

    use super::super::TreeBuilder;
    use super::*;

    #[derive(Default)]
    struct Memory(RefCell<BTreeMap<ChunkHash, Vec<u8>>>);

    impl NodeSource for Memory {
        fn node(&self, hash: &ChunkHash) -> Result<Arc<Node>> {
            let bytes = self.0.borrow();
            let bytes = bytes.get(hash).ok_or(PackedError::UnknownChunk { hash: *hash })?;
            Ok(Arc::new(Node::decode(bytes.clone()).expect("what was built can be read")))
        }
    }

    impl Memory {
        fn build(&self, entries: &[TreeEntry]) -> ChunkRef {
            let mut builder = TreeBuilder::new(|bytes: &[u8]| {
                let hash = ChunkHash::of(bytes);
                self.0.borrow_mut().insert(hash, bytes.to_vec());
                Ok(ChunkRef { hash, length: bytes.len() as u32 })
            });
            entries.iter().for_each(|entry| builder.push(entry).unwrap());
            let built = builder.finish().unwrap();
            assert_eq!(built.entry_count, entries.len() as u64);
            built.root
        }

        fn read(&self, root: &ChunkRef, from: &[u8]) -> Vec<TreeEntry> {
            let mut found = Vec::new();
            walk(self, root, from, &mut |step| {
                let Step::Entry(entry, is_listed) = step else { panic!("a gap") };
                found.push(resolve(self, entry, is_listed)?);
                Ok(true)
            })
            .unwrap();
            found
        }
    }

    fn file(number: usize, chunk_count: usize) -> TreeEntry {
        let path = format!("directory-{}/file-{number:06}", number / 100).into_bytes();
        let entry = Entry {
            path,
            kind: EntryKind::File { size: 1 },
            mode: 0o644,
            modified: WallTime::default(),
            rank: 0,
        };
        let chunk = |index: usize| ChunkHash::of(&[number, index].map(usize::to_le_bytes).concat());
        let chunks = (0..chunk_count).map(|index| ChunkRef { hash: chunk(index), length: 9 }).collect();
        TreeEntry { entry, chunks }
    }

    #[test]
    fn a_tree_is_read_from_any_path_on() {
        for count in [0, 1, 2, 500, 20_000] {
            let memory = Memory::default();
            let mut entries: Vec<_> = (0..count).map(|number| file(number, number % 3)).collect();
            entries.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
            let root = memory.build(&entries);
            assert_eq!(memory.read(&root, b""), entries);
            for at in [0, count / 3, count / 2, count.saturating_sub(1)] {
                let Some(entry) = entries.get(at) else { continue };
                assert_eq!(memory.read(&root, &entry.entry.path), entries[at..]);
            }
            assert!(memory.read(&root, b"z").is_empty());
        }
    }

    #[test]
    fn a_changed_entry_changes_few_nodes() {
        let memory = Memory::default();
        let mut entries: Vec<_> = (0..30_000).map(|number| file(number, 1)).collect();
        entries.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
        memory.build(&entries);
        let before = memory.0.borrow().len();
        entries.remove(15_000);
        entries[7].entry.mode = 0o600;
        memory.build(&entries);
        let new = memory.0.borrow().len() - before;
        assert!(before > 50 && new <= 8, "{new} new nodes beside {before}");
    }

    #[test]
    fn the_content_of_a_large_file_is_in_list_nodes() {
        let memory = Memory::default();
        let entries = [file(1, 512), file(2, 513), file(3, 20_000)];
        let root = memory.build(&entries);
        assert_eq!(memory.read(&root, b""), entries);
        assert!(memory.0.borrow().len() > 10);
    }

    #[test]
    fn the_cache_keeps_the_last_used_nodes_within_its_limit() {
        let cache = NodeCache::default();
        let name = |number: u32| ChunkHash::of(&number.to_le_bytes());
        // Lists of a quarter of the cache's limit.
        let chunk = [7; 36];
        let count = KEPT_BYTES_MAX / 4 / chunk.len();
        let list = Node::encode(super::super::LIST, count as u32, &chunk.repeat(count));
        let loads = RefCell::new(Vec::new());
        let get = |number: u32| {
            let load = || {
                loads.borrow_mut().push(number);
                Ok(list.clone())
            };
            cache.node(&name(number), load).unwrap();
        };
        for number in [1, 2, 3, 4, 1, 2, 5, 1, 2, 4, 3] {
            get(number);
        }
        // The fifth one replaced the third, which then replaced the fifth.
        assert_eq!(*loads.borrow(), [1, 2, 3, 4, 5, 3]);
        assert!(cache.lock().bytes <= KEPT_BYTES_MAX);
        assert_eq!(cache.lock().nodes.len(), 4);
    }
}
