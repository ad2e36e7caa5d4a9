//! The tree of a snapshot. Its nodes are stored as chunks.
//!
//! A leaf lists entries in order of paths, and an inner node its children by their first paths. The path of the last
//! item decides whether a node ends, so an added or removed entry changes one leaf and the nodes above it, and all
//! other nodes are the same chunks as in an earlier snapshot. The content of a large file is listed in list nodes.

mod build;
mod leaf;
mod read;

use orbit_shared::chunk_hash::ChunkHash;

use super::codec::{Decoder, Encoder};
use super::types::ChunkRef;
use super::universe::Children;

pub(super) use self::build::{Built, TreeBuilder};
pub(super) use self::leaf::Leaf;
pub(super) use self::read::{NodeCache, NodeSource, Step, resolve, walk};

const MAGIC: &[u8; 4] = b"ORBN";
const VERSION: u8 = 1;
/// Level byte of a node that lists the content of a file.
const LIST: u8 = 255;
/// Maximum number of levels of a tree.
const LEVELS_MAX: usize = 16;

/// A child of an inner node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) first_path: Vec<u8>,
    pub(super) node: ChunkRef,
    /// Number of entries below it.
    pub(super) entry_count: u64,
}

/// A decoded node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Vec<Child>),
    List(Vec<ChunkRef>),
}

impl Node {
    /// The bytes of a node with these encoded items.
    fn encode(level: u8, count: u32, items: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder(Vec::with_capacity(10 + items.len()));
        encoder.0.extend_from_slice(MAGIC);
        encoder.u8(VERSION);
        encoder.u8(level);
        encoder.u32(count);
        encoder.0.extend_from_slice(items);
        encoder.0
    }

    /// Decodes a node from bytes whose hash was checked, so this fails only for a chunk that is not a node.
    pub(super) fn decode(bytes: Vec<u8>) -> Option<Self> {
        let mut decoder = Decoder(&bytes);
        if decoder.array::<4>()? != *MAGIC || decoder.u8()? != VERSION {
            return None;
        }
        let (level, count) = (decoder.u8()?, decoder.u32()?);
        // The minimum size of an item limits the number of items for which memory is allocated.
        if count as usize > bytes.len() / 25 {
            return None;
        }
        let node = match level {
            0 => {
                let header = bytes.len() - decoder.0.len();
                return Leaf::decode(bytes, header, count).map(Self::Leaf);
            }
            LIST => Self::List((0..count).map(|_| decoder.chunk()).collect::<Option<_>>()?),
            _ => Self::Inner((0..count).map(|_| decode_child(&mut decoder)).collect::<Option<_>>()?),
        };
        decoder.is_at_end().then_some(node)
    }

    /// The level of a leaf or an inner node, from its bytes; `None` for a list.
    pub(super) fn level(bytes: &[u8]) -> Option<u8> {
        let [_, _, _, _, _, level, ..] = bytes else { return None };
        Some(*level).filter(|level| *level != LIST)
    }

    /// Approximate memory use, in bytes.
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.memory_bytes(),
            Self::Inner(children) => {
                children.iter().map(|child| size_of::<Child>() + child.first_path.len()).sum()
            }
            Self::List(chunks) => size_of_val(chunks.as_slice()),
        }
    }

    /// Its children and chunks, each once.
    pub(super) fn children(&self) -> Children {
        let mut children = Children::default();
        match self {
            Self::Leaf(leaf) => {
                for entry in leaf.views() {
                    let kind = if entry.is_listed { &mut children.nodes } else { &mut children.chunks };
                    kind.extend(entry.hashes());
                }
            }
            Self::Inner(inner) => children.nodes.extend(inner.iter().map(|child| child.node.hash)),
            Self::List(chunks) => children.chunks.extend(chunks.iter().map(|chunk| chunk.hash)),
        }
        for kind in [&mut children.nodes, &mut children.chunks] {
            kind.sort_unstable();
            kind.dedup();
        }
        children
    }
}

fn decode_child(decoder: &mut Decoder<'_>) -> Option<Child> {
    let first_path = decoder.bytes()?.to_vec();
    Some(Child { first_path, node: decoder.chunk()?, entry_count: decoder.u64()? })
}

fn encode_child(encoder: &mut Encoder, child: &Child) {
    encoder.bytes(&child.first_path);
    encoder.chunk(&child.node);
    encoder.u64(child.entry_count);
}

/// The first bytes of the hash of a path, which decide whether a node ends after it.
fn path_bits(path: &[u8]) -> u32 {
    hash_bits(&ChunkHash::of(path))
}

fn hash_bits(hash: &ChunkHash) -> u32 {
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d])
}
