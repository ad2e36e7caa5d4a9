//! Large files that outlive an attempt: while one is written, it is synced from time to time and its progress recorded.
//! The next attempt at the same item continues from there, if the source still has the same version.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::checkpoints::{Checkpoint, Covered};
use crate::limits::{CHECKPOINT_BYTES, PARCEL_BYTES, UNRECORDED_BYTES_MAX};
use crate::sink::work::{Work, remove_temporary};
use crate::sink::write::Temporary;
use crate::transfer::FileVersion;

/// What an earlier attempt has of a file.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) temporary: Temporary,
    /// The version of the source file.
    pub(super) version: FileVersion,
    /// The ranges that are verified, written and synced.
    pub(super) covered: Covered,
}

impl Resumed {
    /// Looks for what an earlier attempt has of an item. What does not fit is left to be overwritten. Blocks.
    pub(super) fn find(work: &Work, index: usize) -> Option<Self> {
        let checkpoint = work.checkpoints.load(work.item_id(index))?;
        let name = work.temporary_name(index);
        if !checkpoint.is_of(&work.assignment, index) || checkpoint.temporary != name {
            return None;
        }
        let (parent, _) = work.parent(index).ok()?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, &name, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !is_file || stat.st_ino != checkpoint.inode {
            return None;
        }
        let device = work.syncers.know(&parent).ok()?;
        let version = checkpoint.version();
        let mut covered = Covered::new(checkpoint.synced);
        // Something is always requested: the answer shows whether the source still has this version.
        covered.cut(version.size.saturating_sub(PARCEL_BYTES as u64));
        tracing::info!(
            bytes = covered.bytes(),
            of = version.size,
            item = %work.item_id(index),
            "going on with a file of an earlier attempt"
        );
        Some(Self { temporary: Temporary { file, device }, version, covered })
    }
}

/// Removes what an earlier attempt has of an item, and its record.
pub(super) fn discard(work: &Work, index: usize) {
    let item = work.item_id(index);
    if work.checkpoints.has(item) {
        remove_temporary(&work.place, &work.prefix, work.item(index));
        work.checkpoints.remove(item);
    }
}

/// The progress of one file.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    state: Mutex<State>,
    /// Held while a checkpoint is made.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Set once it is known. Nothing is recorded before.
    version: Option<FileVersion>,
    written: Covered,
    /// Bytes written that no checkpoint covers.
    unrecorded: u64,
}

impl Tracker {
    pub(super) fn new(version: FileVersion, written: Covered) -> Self {
        let state = State { version: Some(version), written, unrecorded: 0 };
        Self { state: Mutex::new(state), turn: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn track(&self, version: FileVersion) {
        self.state().version.get_or_insert(version);
    }

    /// Adds a verified and written range, and makes a checkpoint if one is due. If too much of the file is not covered
    /// by a checkpoint, waits for the one that is being made.
    pub(super) fn wrote(
        &self,
        work: &Work,
        item: usize,
        file: &OwnedFd,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        let mut state = self.state();
        if state.version.is_none() {
            return Ok(());
        }
        state.written.add(offset, offset + length);
        state.unrecorded += length;
        let unrecorded = state.unrecorded;
        drop(state);
        if unrecorded < CHECKPOINT_BYTES {
            return Ok(());
        }
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if unrecorded < UNRECORDED_BYTES_MAX => return Ok(()),
            Err(TryLockError::WouldBlock) => self.turn.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let made = self.checkpoint(work, item, file);
        drop(turn);
        made
    }

    /// Syncs what is written, and then records it. An error is one of syncing: then it is not known what is on the
    /// disk.
    fn checkpoint(&self, work: &Work, item: usize, file: &OwnedFd) -> Result<(), Errno> {
        let (version, covered, recorded) = {
            let state = self.state();
            match state.version {
                Some(version) if state.unrecorded >= CHECKPOINT_BYTES => {
                    (version, state.written.clone(), state.unrecorded)
                }
                Some(_) | None => return Ok(()),
            }
        };
        rustix::fs::fdatasync(file)?;
        let checkpoint = Checkpoint {
            source_star: work.assignment.source_star.clone(),
            source_path: work.assignment.source_path.clone(),
            destination_path: work.assignment.destination_path.clone(),
            path: work.item(item).entry.path.clone(),
            temporary: work.temporary_name(item),
            inode: rustix::fs::fstat(file)?.st_ino,
            size: version.size,
            modified: version.modified,
            changed: version.changed,
            mode: version.mode,
            synced: covered.ranges().to_vec(),
        };
        if let Err(error) = work.checkpoints.save(work.item_id(item), &checkpoint) {
            // The file itself is not affected.
            tracing::warn!(%error, item = %work.item_id(item), "cannot write down how far a large file has come");
        }
        self.state().unrecorded -= recorded;
        Ok(())
    }
}
