//! Preserves the modification times of directories into which an entry is put.
//!
//! Normally directories come last and get their times then. An item that is retried after its job's directories were
//! done would change their times, so an assignment of such items restores them. Assignments that work in one directory
//! at once share the times that it had before the first of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use orbit_shared::time::WallTime;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::sink::work::modified_at;
use crate::transfer::modified_time;

/// Device and inode.
type DirectoryKey = (u64, u64);

/// The original times of directories, for all assignments of a sink.
#[derive(Debug, Default)]
pub(super) struct KeptTimes {
    known: Mutex<BTreeMap<DirectoryKey, Kept>>,
}

#[derive(Debug)]
struct Kept {
    handle: Arc<OwnedFd>,
    modified: WallTime,
    users: usize,
}

/// The directories of one assignment. Dropping it restores their times, and forgets those that no other assignment
/// uses.
#[derive(Debug)]
pub(super) struct KeepsTimes {
    kept: Arc<KeptTimes>,
    is_on: bool,
    mine: Mutex<BTreeSet<DirectoryKey>>,
}

impl KeepsTimes {
    /// For an assignment that preserves times, or one that does not.
    pub(super) fn new(kept: &Arc<KeptTimes>, is_on: bool) -> Self {
        Self { kept: Arc::clone(kept), is_on, mine: Mutex::default() }
    }

    /// Records the time of a directory before an entry is put into it.
    pub(super) fn note(&self, directory: &Arc<OwnedFd>) -> Result<(), Errno> {
        if !self.is_on {
            return Ok(());
        }
        let stat = rustix::fs::fstat(&**directory)?;
        let key = (stat.st_dev, stat.st_ino);
        if self.mine.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
            let mut known = self.kept.known.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = known.entry(key).or_insert_with(|| Kept {
                handle: Arc::clone(directory),
                modified: modified_time(&stat),
                users: 0,
            });
            kept.users += 1;
        }
        Ok(())
    }

    /// Restores the times of all recorded directories.
    pub(super) fn restore(&self) -> Result<(), Errno> {
        let mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.kept.known.lock().unwrap_or_else(PoisonError::into_inner);
        mine.iter()
            .filter_map(|key| known.get(key))
            .try_for_each(|kept| rustix::fs::futimens(&*kept.handle, &modified_at(kept.modified)))
    }
}

impl Drop for KeepsTimes {
    fn drop(&mut self) {
        // After publishing, the times are restored already; this is for temporaries that were removed.
        if let Err(error) = self.restore() {
            tracing::warn!(%error, "a directory has lost its modification time");
        }
        let mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = self.kept.known.lock().unwrap_or_else(PoisonError::into_inner);
        for key in mine.iter() {
            if let Some(kept) = known.get_mut(key) {
                kept.users -= 1;
            }
        }
        known.retain(|_, kept| kept.users > 0);
    }
}
