//! Compares two trees: names, kinds, bytes, modes, modification times to the nanosecond, targets of links.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Maximum number of differences that are listed; the first ones are enough.
const DIFFERENCES_MAX: usize = 50;
/// Prefix of unpublished files at a destination; none may be left.
const TEMPORARY_PREFIX: &[u8] = b".orbit-tmp-";

/// The kind of an entry.
#[derive(Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file, with its size in bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link to a target.
    Symlink(Vec<u8>),
    /// A FIFO, a socket or a device.
    Special,
}

impl fmt::Debug for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(size) => write!(f, "file of {size} bytes"),
            Self::Directory => f.write_str("directory"),
            Self::Symlink(target) => write!(f, "link to {:.80}", target.escape_ascii().to_string()),
            Self::Special => f.write_str("special file"),
        }
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its kind.
    pub kind: NodeKind,
    /// Permission bits; 0 for a link, which has none.
    pub mode: u32,
    /// Modification time in seconds and nanoseconds.
    pub modified: (i64, i64),
}

/// Everything below and including a directory, by the path below it.
pub fn inventory(root: &Path) -> BTreeMap<Vec<u8>, Node> {
    let mut nodes = BTreeMap::new();
    visit(root, root, &mut nodes);
    nodes
}

fn visit(root: &Path, path: &Path, nodes: &mut BTreeMap<Vec<u8>, Node>) {
    let metadata = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file_type = metadata.file_type();
    let kind = if file_type.is_symlink() {
        NodeKind::Symlink(path.read_link().expect("a link has a target").as_os_str().as_bytes().to_vec())
    } else if file_type.is_dir() {
        NodeKind::Directory
    } else if file_type.is_fifo() || file_type.is_socket() || !file_type.is_file() {
        NodeKind::Special
    } else {
        NodeKind::File(metadata.len())
    };
    let mode = if file_type.is_symlink() { 0 } else { metadata.mode() & 0o7777 };
    let is_directory = kind == NodeKind::Directory;
    let node = Node { kind, mode, modified: (metadata.mtime(), metadata.mtime_nsec()) };
    let relative = path.strip_prefix(root).expect("the walk stays below the root");
    nodes.insert(relative.as_os_str().as_bytes().to_vec(), node);
    if is_directory {
        for entry in std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())) {
            visit(root, &entry.expect("a directory can be read").path(), nodes);
        }
    }
}

/// The differences between two trees, one line each; empty if they are equal.
pub fn differences(left: &Path, right: &Path) -> Vec<String> {
    let (lefts, rights) = (inventory(left), inventory(right));
    let mut found = Vec::new();
    for (path, node) in &lefts {
        let shown = format!("{:.200}", path.escape_ascii().to_string());
        match rights.get(path) {
            None => found.push(format!("{shown}: is missing")),
            Some(other) if other != node => found.push(format!("{shown}: {node:?} became {other:?}")),
            Some(_) if matches!(node.kind, NodeKind::File(_)) => {
                if !is_same_content(&below(left, path), &below(right, path)) {
                    found.push(format!("{shown}: the bytes differ"));
                }
            }
            Some(_) => {}
        }
    }
    for path in rights.keys() {
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        if name.starts_with(TEMPORARY_PREFIX) {
            found.push(format!("{}: was left behind", path.escape_ascii()));
        } else if !lefts.contains_key(path) {
            found.push(format!("{}: is too much", path.escape_ascii()));
        }
    }
    let count = found.len();
    if count > DIFFERENCES_MAX {
        found.truncate(DIFFERENCES_MAX);
        found.push(format!("... {count} in all"));
    }
    found
}

/// The root itself may be a file, which has nothing below it.
fn below(root: &Path, path: &[u8]) -> PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(path)) }
}

fn is_same_content(left: &Path, right: &Path) -> bool {
    let open = |path: &Path| File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut left, mut right) = (open(left), open(right));
    let (mut left_bytes, mut right_bytes) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = left.read(&mut left_bytes).expect("a file can be read");
        if count == 0 {
            return right.read(&mut right_bytes).expect("a file can be read") == 0;
        }
        if right.read_exact(&mut right_bytes[..count]).is_err() || left_bytes[..count] != right_bytes[..count]
        {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;
    use crate::tree::plant_odd_tree;

    fn twins() -> (TempDir, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let (left, right) = (directory.path().join("left"), directory.path().join("right"));
        plant_odd_tree(&left, 1);
        plant_odd_tree(&right, 1);
        (directory, left, right)
    }

    #[test]
    fn the_same_seed_plants_the_same_tree() {
        let (_directory, left, right) = twins();
        assert_eq!(differences(&left, &right), Vec::<String>::new());
        assert!(inventory(&left).len() > 50);
    }

    /// The text that a comparison must return, and the change to the tree.
    type Touch = (&'static str, fn(&Path));

    #[test]
    fn every_kind_of_difference_is_found() {
        let touch: [Touch; 8] = [
            ("size-1: is missing", |tree| std::fs::remove_file(tree.join("size-1")).unwrap()),
            ("size-4096: the bytes differ", |tree| {
                let time = tree.join("size-4096").metadata().unwrap().modified().unwrap();
                std::fs::write(tree.join("size-4096"), [7; 4096]).unwrap();
                File::options().write(true).open(tree.join("size-4096")).unwrap().set_modified(time).unwrap();
            }),
            ("size-0: Node", |tree| std::fs::write(tree.join("size-0"), "x").unwrap()),
            ("modes/644: Node", |tree| {
                let mode = std::fs::Permissions::from_mode(0o640);
                std::fs::set_permissions(tree.join("modes/644"), mode).unwrap();
            }),
            ("times/epoch: Node", |tree| {
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(123_456_788);
                File::options()
                    .write(true)
                    .open(tree.join("times/epoch"))
                    .unwrap()
                    .set_modified(time)
                    .unwrap();
            }),
            ("links/dangling: Node", |tree| {
                std::fs::remove_file(tree.join("links/dangling")).unwrap();
                std::os::unix::fs::symlink("/nowhere/at/al", tree.join("links/dangling")).unwrap();
            }),
            ("extra: is too much", |tree| std::fs::write(tree.join("extra"), "").unwrap()),
            (".orbit-tmp-1: was left behind", |tree| std::fs::write(tree.join(".orbit-tmp-1"), "").unwrap()),
        ];
        for (expected, touch) in touch {
            let (_directory, left, right) = twins();
            touch(&right);
            let found = differences(&left, &right);
            assert!(found.iter().any(|line| line.contains(expected)), "{expected:?} must be in {found:?}");
        }
    }
}
