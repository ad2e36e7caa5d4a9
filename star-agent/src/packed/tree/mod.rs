//! The tree of a snapshot: nodes that are chunks themselves.
//!
//! A leaf lists entries in the order of their paths, and an inner node its children by their first paths. Where a node ends
//! depends on the path that is last in it, so that an entry which comes or goes changes one leaf and those above it, and all
//! others are the chunks that an earlier snapshot has stored. The content of a large file is listed in nodes of its own.

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
/// Stands in the place of the level of a node that lists the content of a file.
const LIST: u8 = 255;
/// No tree is deeper.
const LEVELS_MAX: usize = 16;

/// A child of an inner node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) first_path: Vec<u8>,
    pub(super) node: ChunkRef,
    /// Entries below it.
    pub(super) entry_count: u64,
}

/// A node as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Vec<Child>),
    List(Vec<ChunkRef>),
}

impl Node {
    /// The bytes of a node whose items are encoded.
    fn encode(level: u8, count: u32, items: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder(Vec::with_capacity(10 + items.len()));
        encoder.0.extend_from_slice(MAGIC);
        encoder.u8(VERSION);
        encoder.u8(level);
        encoder.u32(count);
        encoder.0.extend_from_slice(items);
        encoder.0
    }

    /// A node from its bytes, which are those of its hash; so this fails only for a chunk that is no node.
    pub(super) fn decode(bytes: Vec<u8>) -> Option<Self> {
        let mut decoder = Decoder(&bytes);
        if decoder.array::<4>()? != *MAGIC || decoder.u8()? != VERSION {
            return None;
        }
        let (level, count) = (decoder.u8()?, decoder.u32()?);
        // No item is shorter than this, so memory is never taken for more than there is.
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

    /// The level of a leaf or an inner node, from its bytes; nothing for a list.
    pub(super) fn level(bytes: &[u8]) -> Option<u8> {
        let [_, _, _, _, _, level, ..] = bytes else { return None };
        Some(*level).filter(|level| *level != LIST)
    }

    /// How much memory it takes, nearly.
    fn memory_bytes(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.memory_bytes(),
            Self::Inner(children) => {
                children.iter().map(|child| size_of::<Child>() + child.first_path.len()).sum()
            }
            Self::List(chunks) => size_of_val(chunks.as_slice()),
        }
    }

    /// What it holds, each once.
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

/// The first bytes of the hash of a path, which say whether a node ends behind it.
fn path_bits(path: &[u8]) -> u32 {
    hash_bits(&ChunkHash::of(path))
}

fn hash_bits(hash: &ChunkHash) -> u32 {
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d])
}
