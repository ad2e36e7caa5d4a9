//! A source tree, and its changes while it is read. A file's version is its modification time in seconds, so that an
//! entry at a destination shows its version.

use std::collections::BTreeMap;

use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::time::WallTime;

use super::chance::Chance;

/// An entry of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceNode {
    /// Its kind.
    pub kind: EntryKind,
    /// Number of its version, from 1.
    pub version: u64,
    /// Its rank in the semantic registry.
    pub rank: u8,
}

impl SourceNode {
    /// Bytes of content.
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size } => size,
            EntryKind::Directory
            | EntryKind::Symlink { .. }
            | EntryKind::Fifo
            | EntryKind::Socket
            | EntryKind::CharacterDevice
            | EntryKind::BlockDevice
            | EntryKind::Unreadable { .. } => 0,
        }
    }
}

/// The version of an entry when it was scanned.
pub fn version_of(entry: &Entry) -> u64 {
    u64::try_from(entry.modified.seconds).unwrap_or(0)
}

/// A tree by path, in the order in which a scan walks it.
#[derive(Debug, Clone, Default)]
pub struct SourceTree {
    nodes: BTreeMap<Vec<u8>, SourceNode>,
}

impl SourceTree {
    /// A tree with this many entries below its root.
    pub fn grow(chance: &mut Chance, entries: u64) -> Self {
        let mut tree = Self::default();
        let mut directories = vec![Vec::new()];
        tree.add(Vec::new(), EntryKind::Directory, 50);
        for number in 0..entries {
            let above: &Vec<u8> = &directories[chance.index(directories.len())];
            let mut path = above.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(format!("e{number:02}").into_bytes());
            let rank = chance.pick(&[10, 50, 50, 90]);
            let kind = match chance.below(20) {
                0..=3 => EntryKind::Directory,
                4 => EntryKind::Symlink { target: b"there".to_vec() },
                5 if chance.percent(30) => EntryKind::Fifo,
                6 => EntryKind::File { size: 0 },
                7 => EntryKind::File { size: chance.between(1_000_000, 100_000_000) },
                _ => EntryKind::File { size: chance.between(1, 20_000) },
            };
            if kind == EntryKind::Directory {
                directories.push(path.clone());
            }
            tree.add(path, kind, rank);
        }
        tree
    }

    fn add(&mut self, path: Vec<u8>, kind: EntryKind, rank: u8) {
        self.nodes.insert(path, SourceNode { kind, version: 1, rank });
    }

    /// The current entry at a path.
    pub fn node(&self, path: &[u8]) -> Option<&SourceNode> {
        self.nodes.get(path)
    }

    /// Every path.
    pub fn paths(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.nodes.keys()
    }

    /// The next entries of a walk, and whether it ends with them.
    pub fn walk(&self, after: Option<&[u8]>, limit: usize) -> (Vec<Entry>, bool) {
        let mut rest =
            self.nodes.iter().filter(|(path, _)| after.is_none_or(|after| path.as_slice() > after));
        let entries = rest.by_ref().take(limit).map(|(path, node)| Entry {
            path: path.clone(),
            kind: node.kind.clone(),
            mode: 0o644,
            modified: WallTime { seconds: node.version as i64, nanos: 0 },
            rank: node.rank,
        });
        let entries = entries.collect();
        (entries, rest.next().is_none())
    }

    /// A random file is written or removed.
    pub fn change(&mut self, chance: &mut Chance) -> Option<Vec<u8>> {
        let is_file = |node: &SourceNode| matches!(node.kind, EntryKind::File { .. });
        let files: Vec<Vec<u8>> =
            self.nodes.iter().filter(|(_, node)| is_file(node)).map(|(path, _)| path.clone()).collect();
        if files.is_empty() {
            return None;
        }
        let path = files[chance.index(files.len())].clone();
        if chance.percent(20) {
            self.nodes.remove(&path);
        } else if let Some(node) = self.nodes.get_mut(&path) {
            node.version += 1;
            node.kind = EntryKind::File { size: chance.between(0, 20_000) };
        }
        Some(path)
    }
}
