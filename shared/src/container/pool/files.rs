//! Whether the files of a pool are still those that were written.
//!
//! A check costs one `stat` for each container and reads no content. A file is the same if its device, inode, length and
//! time of modification are; one that is being appended to may have become longer.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::super::ContainerError;
use super::{ContainerPool, PooledContainer};

/// The identity of a file at the last check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMark {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileMark {
    /// That of a file with this metadata.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Whether it is the same file, regardless of its content.
    fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

fn look_at(path: &Path) -> Result<Option<FileMark>, ContainerError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(FileMark::of(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ContainerError::io(path, "look at the file")(error)),
    }
}

impl ContainerPool {
    /// Containers whose files have changed since the last check; `None` if the directory is not the one that was opened,
    /// so that nothing is known about its content. `active` is the open one, with the number of bytes that were written
    /// to it before this call.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn changed(&self, active: Option<(u32, u64)>) -> Result<Option<BTreeSet<u32>>, ContainerError> {
        // If the directory was unmounted, nothing is known about its content.
        if !look_at(&self.dir)?.is_some_and(|found| found.is_same_file(&self.dir_mark)) {
            return Ok(None);
        }
        let mut changed = BTreeSet::new();
        for (number, known) in self.snapshot() {
            let found = look_at(&self.path(&known.id))?;
            // It may have been sealed or removed since the list was made.
            let Some(known) = self.known(number) else { continue };
            let is_same = match (found, known.mark) {
                (Some(found), Some(mark)) if known.is_sealed => found == mark,
                (Some(found), Some(mark)) => {
                    let written = active.filter(|(growing, _)| *growing == number).map_or(0, |(_, end)| end);
                    found.is_same_file(&mark) && found.bytes >= written
                }
                (_, _) => false,
            };
            if !is_same {
                changed.insert(number);
            }
        }
        Ok(Some(changed))
    }

    /// Total size of the container files in bytes, as far as they were written.
    pub fn total_bytes(&self) -> u64 {
        let active = self.lock_appender().active_end();
        let grown = |number: u32| active.filter(|(growing, _)| *growing == number).map(|(_, end)| end);
        let known = self.lock_known_to_read();
        let size = |(&number, known): (&u32, &PooledContainer)| {
            grown(number).unwrap_or_else(|| known.mark.map_or(0, |mark| mark.bytes))
        };
        known.iter().map(size).sum()
    }

    /// Checks that the file of a container that is being written still has its name.
    ///
    /// # Errors
    /// It has not, or the operating system reports an error.
    pub fn check_file(&self, number: u32) -> Result<(), ContainerError> {
        let known = self.known(number);
        let path = known.as_ref().map_or_else(|| self.dir.clone(), |known| self.path(&known.id));
        let found = look_at(&path)?;
        let is_there = known
            .and_then(|known| known.mark)
            .zip(found)
            .is_some_and(|(mark, found)| found.is_same_file(&mark));
        if is_there {
            return Ok(());
        }
        let gone = io::ErrorKind::NotFound.into();
        Err(ContainerError::io(&path, "find the container that is being written")(gone))
    }

    /// Lengths of all files whose metadata can be read.
    pub fn lengths(&self) -> std::collections::BTreeMap<u32, u64> {
        let all = self.snapshot().into_iter();
        all.filter_map(|(number, known)| Some((number, fs::metadata(self.path(&known.id)).ok()?.len())))
            .collect()
    }
}
