//! Builds a tree from entries in order of paths, with one node of each level in memory.

use super::{Child, LEVELS_MAX, LIST, Node, encode_child, hash_bits, path_bits};
use crate::packed::codec::Encoder;
use crate::packed::error::Result;
use crate::packed::types::{ChunkRef, TreeEntry};

/// Minimum size of a node, in bytes, except for the last one of a level.
const NODE_BYTES_MIN: usize = 16 * 1024;
/// Size at which a node ends in any case, in bytes. Its last item can exceed it.
const NODE_BYTES_MAX: usize = 128 * 1024;
/// Between the two, a node ends after one path in this many on average, which the hash of the path decides.
const PATHS_PER_END: u32 = 256;
/// Maximum number of chunks in an entry. A file with more has them in list nodes.
const CHUNKS_PER_ENTRY_MAX: usize = 512;
/// Minimum number of chunks in a list node, except for the last one.
const CHUNKS_PER_LIST_MIN: usize = 128;
/// Maximum number of chunks in a list node.
const CHUNKS_PER_LIST_MAX: usize = 2048;
/// Between the two, a list node ends after one chunk in this many on average, which the chunk's hash decides.
const CHUNKS_PER_END: u32 = 256;

/// What was built.
#[derive(Debug, Clone, Copy)]
pub(in crate::packed) struct Built {
    pub(in crate::packed) root: ChunkRef,
    pub(in crate::packed) entry_count: u64,
}

#[derive(Debug, Default)]
struct Level {
    items: Encoder,
    count: u32,
    first_path: Vec<u8>,
    entry_count: u64,
    /// The only item of the level, while there is one: the root need not be an inner node with a single child.
    single: Option<ChunkRef>,
}

/// Accepts entries and stores nodes with `put`.
pub(in crate::packed) struct TreeBuilder<P> {
    put: P,
    levels: Vec<Level>,
}

impl<P: FnMut(&[u8]) -> Result<ChunkRef>> TreeBuilder<P> {
    pub(in crate::packed) fn new(put: P) -> Self {
        Self { put, levels: vec![Level::default()] }
    }

    pub(in crate::packed) fn push(&mut self, entry: &TreeEntry) -> Result<()> {
        let lists = self.list(&entry.chunks)?;
        let level = &mut self.levels[0];
        if level.count == 0 {
            level.first_path.clone_from(&entry.entry.path);
        }
        level.items.entry(&entry.entry, lists.as_deref().unwrap_or(&entry.chunks), lists.is_some());
        level.count += 1;
        level.entry_count += 1;
        self.end_node_behind(0, &entry.entry.path)
    }

    /// Makes list nodes for the chunks of a large file.
    fn list(&mut self, chunks: &[ChunkRef]) -> Result<Option<Vec<ChunkRef>>> {
        if chunks.len() <= CHUNKS_PER_ENTRY_MAX {
            return Ok(None);
        }
        let mut lists = Vec::new();
        let (mut items, mut count) = (Encoder::default(), 0);
        for (index, chunk) in chunks.iter().enumerate() {
            items.chunk(chunk);
            count += 1;
            let is_end =
                hash_bits(&chunk.hash).is_multiple_of(CHUNKS_PER_END) && count >= CHUNKS_PER_LIST_MIN;
            if is_end || count == CHUNKS_PER_LIST_MAX || index + 1 == chunks.len() {
                lists.push((self.put)(&Node::encode(LIST, count as u32, &items.0))?);
                items.0.clear();
                count = 0;
            }
        }
        Ok(Some(lists))
    }

    fn end_node_behind(&mut self, level: usize, path: &[u8]) -> Result<()> {
        let size = self.levels[level].items.0.len();
        let is_end =
            size >= NODE_BYTES_MAX || size >= NODE_BYTES_MIN && path_bits(path).is_multiple_of(PATHS_PER_END);
        if is_end { self.end_node(level) } else { Ok(()) }
    }

    fn end_node(&mut self, level: usize) -> Result<()> {
        let done = std::mem::take(&mut self.levels[level]);
        let node = (self.put)(&Node::encode(level as u8, done.count, &done.items.0))?;
        let child = Child { first_path: done.first_path, node, entry_count: done.entry_count };
        if self.levels.len() == level + 1 {
            self.levels.push(Level::default());
        }
        // Each level is hundreds of times smaller than the one below.
        assert!(self.levels.len() <= LEVELS_MAX, "a tree of {} levels", self.levels.len());
        let above = &mut self.levels[level + 1];
        if above.count == 0 {
            above.first_path.clone_from(&child.first_path);
        }
        above.single = (above.count == 0).then_some(child.node);
        encode_child(&mut above.items, &child);
        above.count += 1;
        above.entry_count += child.entry_count;
        self.end_node_behind(level + 1, &child.first_path)
    }

    /// Completes the tree.
    pub(in crate::packed) fn finish(mut self) -> Result<Built> {
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.levels.len();
            let top = &self.levels[level];
            if is_top
                && level > 0
                && let Some(root) = top.single
            {
                return Ok(Built { root, entry_count: top.entry_count });
            }
            if top.count > 0 || is_top {
                self.end_node(level)?;
            }
            level += 1;
        }
    }
}
