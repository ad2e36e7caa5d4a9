//! Clones of files that change while they are read: a copy of the file at one moment, if its file system can share
//! blocks.
//!
//! A clone has no name, so it is removed with its handle, and the tree looks the same while it exists. It lives as long
//! as its pull, because all parts of a file must come from the same clone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::limits::CLONES_PER_PULL_MAX;
use crate::transfer::FileVersion;

/// A file at one moment.
#[derive(Debug, Clone)]
pub(crate) struct FileClone {
    pub(crate) file: Arc<OwnedFd>,
    /// Its size is that of the clone. Its times were read just before the clone was made, so they show later changes.
    pub(crate) version: FileVersion,
}

/// The clones of one pull, by path; `None` for a file that could not be cloned, no part of which may come from a clone
/// then.
#[derive(Debug, Default)]
pub(crate) struct Clones {
    made: Mutex<BTreeMap<Vec<u8>, Option<FileClone>>>,
}

impl Clones {
    /// The clone of a file that is open as `file`. It is made now, unless that was tried before.
    pub(crate) fn of(
        &self,
        path: &[u8],
        file: &OwnedFd,
        version: FileVersion,
        directory: impl FnOnce() -> Result<Arc<OwnedFd>, Errno>,
    ) -> Option<FileClone> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clone) = made.get(path) {
            return clone.clone();
        }
        let count = made.values().filter(|clone| clone.is_some()).count();
        let clone = (count < CLONES_PER_PULL_MAX && version.size > 0)
            .then(|| directory().and_then(|directory| make(&directory, file, version)).ok())
            .flatten();
        made.insert(path.to_vec(), clone.clone());
        clone
    }
}

fn make(directory: &OwnedFd, file: &OwnedFd, version: FileVersion) -> Result<FileClone, Errno> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::EXCL | OFlags::CLOEXEC;
    let clone = rustix::fs::openat(directory, c".", flags, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::ioctl_ficlone(&clone, file)?;
    let size = u64::try_from(rustix::fs::fstat(&clone)?.st_size).unwrap_or(0);
    Ok(FileClone { file: Arc::new(clone), version: FileVersion { size, ..version } })
}
