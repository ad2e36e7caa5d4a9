//! A destination's disk: what a reader sees now, and what a power loss would leave.
//!
//! A name and a content become durable separately: a name when its directory is synced, a content when the file is.
//! Until then a power loss keeps the new one, restores the old one or, for a content, leaves a part of it. Each name
//! and each content is decided separately, which no real file system does to this extent. The removal of a temporary
//! counts as durable at once.

use std::collections::{BTreeMap, BTreeSet};

use super::chance::Chance;

/// The version of a directory whose time was changed by an entry that was put into it.
const TOUCHED: u64 = 0;

/// The entry of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    inode: u64,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// The version of its source; for a directory, the version that its time is from.
    pub version: u64,
    /// Size in bytes.
    pub size: u64,
    /// Whether the content is complete.
    pub is_whole: bool,
}

impl Node {
    /// Whether an entry was put into the directory after its time was set.
    pub fn is_touched(&self) -> bool {
        self.version == TOUCHED
    }
}

/// The current fault of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskTrouble {
    /// Nothing can be written: ENOSPC.
    Full,
    /// Writes fail: EIO.
    WritesFail,
    /// Syncs fail: EIO.
    SyncsFail,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Disk {
    visible: BTreeMap<Vec<u8>, Node>,
    durable: BTreeMap<Vec<u8>, Node>,
    /// The last synced contents.
    synced: BTreeMap<u64, Node>,
    /// Directories with names that are not durable.
    unsynced: BTreeSet<Vec<u8>>,
    next_inode: u64,
    /// The current fault.
    pub trouble: Option<DiskTrouble>,
}

/// The parent directory of a path.
pub fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(b"", |at| &path[..at])
}

impl Disk {
    /// What a reader sees at a path.
    pub fn node(&self, path: &[u8]) -> Option<&Node> {
        self.visible.get(path)
    }

    /// What a power loss would leave at a path in the worst case; `None` if that may be nothing, or a partial file.
    pub fn durable_node(&self, path: &[u8]) -> Option<&Node> {
        let mut above = parent_of(path);
        while above != b"/data" && !above.is_empty() {
            self.durable.get(above)?;
            above = parent_of(above);
        }
        let old = self.synced.get(&self.durable.get(path)?.inode)?;
        // Later entries of the name may be there as well.
        let new = self.synced.get(&self.visible.get(path)?.inode)?;
        Some(if new.version < old.version { new } else { old }).filter(|node| node.is_whole)
    }

    /// Every path below a base, and the base itself.
    pub fn below<'disk>(
        &'disk self,
        base: &'disk [u8],
    ) -> impl Iterator<Item = (&'disk Vec<u8>, &'disk Node)> {
        self.visible.iter().filter(move |(path, _)| {
            path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    }

    /// Every path.
    pub fn paths(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.visible.keys()
    }

    /// Writes a new file.
    pub fn write(&mut self, path: &[u8], version: u64, size: u64) {
        self.next_inode += 1;
        let node = Node { inode: self.next_inode, is_directory: false, version, size, is_whole: true };
        self.visible.insert(path.to_vec(), node);
        self.touch(parent_of(path));
    }

    /// Makes the content of a file, or the time of a directory, durable.
    pub fn sync_content(&mut self, path: &[u8]) {
        if let Some(node) = self.visible.get(path) {
            self.synced.insert(node.inode, *node);
        }
    }

    /// Gives a file its final name. Only its writer may have removed it meanwhile.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) {
        let node = self.visible.remove(from);
        let node = node.unwrap_or_else(|| panic!("a temporary is there: {}", String::from_utf8_lossy(from)));
        self.visible.insert(to.to_vec(), node);
        self.touch(parent_of(to));
    }

    /// Removes a temporary.
    pub fn remove(&mut self, path: &[u8]) {
        self.visible.remove(path);
        self.durable.remove(path);
    }

    /// Makes a directory and its parents, without changing the times of others. Returns the directories with new names.
    pub fn make_directories(&mut self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut changed = Vec::new();
        let mut at = path;
        while at != b"/data" && !at.is_empty() && !self.visible.contains_key(at) {
            self.next_inode += 1;
            let inode = self.next_inode;
            let node = Node { inode, is_directory: true, version: TOUCHED, size: 0, is_whole: true };
            self.visible.insert(at.to_vec(), node);
            self.synced.insert(inode, node);
            at = parent_of(at);
            self.unsynced.insert(at.to_vec());
            changed.push(at.to_vec());
        }
        changed
    }

    /// Gives a directory the time of a version of its source.
    pub fn set_directory(&mut self, path: &[u8], version: u64) {
        if let Some(node) = self.visible.get_mut(path) {
            node.version = version;
        }
    }

    /// Makes the names in a directory durable.
    pub fn sync_directory(&mut self, directory: &[u8]) {
        if !self.unsynced.remove(directory) {
            return;
        }
        self.durable.retain(|path, _| parent_of(path) != directory);
        let names = self.visible.iter().filter(|(path, _)| parent_of(path) == directory);
        self.durable.extend(names.map(|(path, node)| (path.clone(), *node)));
    }

    /// A power loss: each unsynced part is kept, lost or torn.
    pub fn lose_power(&mut self, chance: &mut Chance) {
        let mut left = BTreeMap::new();
        let names: BTreeSet<Vec<u8>> = self.visible.keys().chain(self.durable.keys()).cloned().collect();
        for path in names {
            let (old, new) = (self.durable.get(&path), self.visible.get(&path));
            let kept = match (old, new) {
                (Some(old), Some(new)) if old.inode == new.inode => Some(*new),
                (old, new) => if chance.percent(50) { new } else { old }.copied(),
            };
            let above = parent_of(&path);
            let has_parent = above == b"/data" || left.contains_key(above);
            if let Some(node) = kept.filter(|_| has_parent) {
                left.insert(path, self.after_loss(node, chance));
            }
        }
        self.synced = left.values().map(|node| (node.inode, *node)).collect();
        self.durable = left.clone();
        self.visible = left;
        self.unsynced.clear();
    }

    fn after_loss(&self, node: Node, chance: &mut Chance) -> Node {
        match self.synced.get(&node.inode) {
            Some(synced) if *synced == node => node,
            Some(synced) => {
                if chance.percent(50) {
                    node
                } else {
                    *synced
                }
            }
            None => Node { is_whole: chance.percent(50), ..node },
        }
    }

    fn touch(&mut self, directory: &[u8]) {
        self.unsynced.insert(directory.to_vec());
        if let Some(node) = self.visible.get_mut(directory) {
            node.version = TOUCHED;
        }
    }
}
