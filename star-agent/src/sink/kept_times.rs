//! Directories that keep their modification times although something is put into them.
//!
//! Usually directories come last and get their times then. An item that is tried again after its job's directories were
//! done would leave them with the time of its own arrival, so an assignment of such items puts the times back. Assignments
//! that work in one directory at once share what it had before the first of them came.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use orbit_shared::time::WallTime;
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::sink::work::modified_at;
use crate::transfer::modified_time;

/// Device and inode.
type DirectoryKey = (u64, u64);

/// What directories had before, for all assignments of a sink.
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

/// The directories of one assignment. Dropping it puts their times back and forgets those that nobody else uses.
#[derive(Debug)]
pub(super) struct KeepsTimes {
    kept: Arc<KeptTimes>,
    is_on: bool,
    mine: Mutex<BTreeSet<DirectoryKey>>,
}

impl KeepsTimes {
    /// Of an assignment that keeps times, or of one that does not.
    pub(super) fn new(kept: &Arc<KeptTimes>, is_on: bool) -> Self {
        Self { kept: Arc::clone(kept), is_on, mine: Mutex::default() }
    }

    /// Notes a directory before anything is put into it.
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

    /// Puts the times of all noted directories back.
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
        // What was published has its times back already; this is for temporaries that were removed.
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
