//! The tree that `orbit demo` moves: some hundred files of mixed sizes, the same at every run, and the proof that a copy
//! is equal to it.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// Files with content of their own.
const FILES: usize = 240;
/// Files that are copies of others, which have to cross only once.
const DUPLICATES: usize = 24;
const FILES_PER_DIRECTORY: usize = 30;

/// What a tree holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TreeSize {
    /// Regular files.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// Writes the tree below `root`, which must exist.
pub(super) fn generate(root: &Path) -> io::Result<TreeSize> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut written = TreeSize::default();
    let mut contents = Vec::new();
    for index in 0..FILES + DUPLICATES {
        let content = match index.checked_sub(FILES) {
            None => noise.content(size_of(index)),
            Some(duplicate) => fs::read(&contents[duplicate * FILES / DUPLICATES])?,
        };
        let path = root.join(format!("set-{:02}", index / FILES_PER_DIRECTORY)).join(name_of(index));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &content)?;
        if index % 17 == 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        written.files += 1;
        written.bytes += content.len() as u64;
        contents.push(path);
    }
    symlink("set-00", root.join("newest"))?;
    fs::create_dir(root.join("empty"))?;
    Ok(written)
}

/// Empty files, many small ones, some of medium size and a few large ones.
fn size_of(index: usize) -> usize {
    match index % 40 {
        0 => 0,
        1..=27 => 500 + index * 61,
        28..=37 => 60_000 + index * 300,
        _ => 1_200_000 + index * 1000,
    }
}

fn name_of(index: usize) -> String {
    let extension = ["txt", "jpg", "db", "log", "mkv", "toml"][index % 6];
    match index % 50 {
        7 => format!("naïve 写真 {index}.{extension}"),
        _ => format!("file-{index:03}.{extension}"),
    }
}

/// Bytes that do not compress and do not repeat: xorshift64.
struct Noise(u64);

impl Noise {
    fn content(&mut self, length: usize) -> Vec<u8> {
        let mut content = Vec::with_capacity(length + 8);
        while content.len() < length {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            content.extend_from_slice(&self.0.to_le_bytes());
        }
        content.truncate(length);
        content
    }
}

/// The first difference between two trees in names, kinds, content, permissions and modification times, or how much is
/// the same.
pub(super) fn compare(original: &Path, copy: &Path) -> io::Result<Result<TreeSize, String>> {
    let mut same = TreeSize::default();
    let mut pending = vec![PathBuf::new()];
    while let Some(below) = pending.pop() {
        let names = names(&original.join(&below))?;
        if names != self::names(&copy.join(&below))? {
            return Ok(Err(format!("{} does not hold the same names", copy.join(&below).display())));
        }
        for name in names {
            let path = below.join(name);
            let (from, to) = (original.join(&path), copy.join(&path));
            let (meta, meta_of_copy) = (fs::symlink_metadata(&from)?, fs::symlink_metadata(&to)?);
            let is_same_meta = meta.file_type() == meta_of_copy.file_type()
                && meta.mode() == meta_of_copy.mode()
                && (meta.mtime(), meta.mtime_nsec()) == (meta_of_copy.mtime(), meta_of_copy.mtime_nsec());
            let is_same = is_same_meta
                && if meta.is_dir() {
                    pending.push(path);
                    true
                } else if meta.is_symlink() {
                    fs::read_link(&from)? == fs::read_link(&to)?
                } else {
                    same.files += 1;
                    same.bytes += meta.len();
                    is_same_content(&from, &to)?
                };
            if !is_same {
                return Ok(Err(format!("{} differs from its original", to.display())));
            }
        }
    }
    Ok(Ok(same))
}

fn names(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    let mut names: Vec<_> = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

fn is_same_content(one: &Path, other: &Path) -> io::Result<bool> {
    let read = |path: &Path| -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        fs::File::open(path)?.read_to_end(&mut content)?;
        Ok(content)
    };
    Ok(read(one)? == read(other)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_the_same_at_every_run_but_for_its_times() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let size = generate(one.path()).unwrap();
        assert_eq!(size, generate(other.path()).unwrap());
        assert!(size.files >= 200 && (10 << 20..40 << 20).contains(&size.bytes), "{size:?}");
        let first = one.path().join("set-00/file-001.jpg");
        assert_eq!(fs::read(&first).unwrap(), fs::read(other.path().join("set-00/file-001.jpg")).unwrap());
    }

    #[test]
    fn a_tree_equals_itself_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let size = generate(dir.path()).unwrap();
        assert_eq!(compare(dir.path(), dir.path()).unwrap(), Ok(size));
        let other = tempfile::tempdir().unwrap();
        assert!(compare(dir.path(), other.path()).unwrap().unwrap_err().contains("same names"));
    }
}
