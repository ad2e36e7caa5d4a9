//! Syncs file systems. One sync serves all who wait for it.
//!
//! A file system is held open only while an assignment writes to it, or while the durability of an assignment's files
//! is in doubt.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::RwLock;

/// One syncer for each file system that is written to.
#[derive(Debug, Default)]
pub(super) struct Syncers {
    known: Mutex<BTreeMap<u64, Weak<Syncer>>>,
    doubts: Mutex<Doubts>,
    /// Held for reading while an item has its final name and its directory is not synced.
    publishing: Arc<RwLock<()>>,
}

/// The syncers of one assignment, which hold its file systems open until it is dropped.
#[derive(Debug)]
pub(super) struct WorkSyncers {
    all: Arc<Syncers>,
    mine: Mutex<BTreeMap<u64, Arc<Syncer>>>,
}

/// File systems on which an item has its final name, or its final mode and time, and was not synced after that: a sync
/// failed, or an earlier process was killed. Nothing there counts as stored before a sync.
#[derive(Debug, Default)]
struct Doubts {
    /// When each of them was last put in doubt.
    devices: BTreeMap<u64, Doubt>,
    raised: u64,
}

#[derive(Debug, Clone)]
struct Doubt {
    raised: u64,
    syncer: Arc<Syncer>,
}

/// Syncs one file system. One sync serves all who wait.
#[derive(Debug)]
struct Syncer {
    /// Opened before anything was written through it, so that it gets every writeback error.
    handle: Arc<OwnedFd>,
    requested: AtomicU64,
    rounds: tokio::sync::Mutex<Rounds>,
}

/// Requests are numbered. A round covers all that were made before it began.
#[derive(Debug, Default)]
struct Rounds {
    covered: u64,
    /// The last request that a failed round covered, with its error. All requests up to it fail.
    failed: Option<(u64, Errno)>,
}

impl Syncers {
    /// The syncer of the file system of a directory, and its device.
    fn of(&self, directory: &OwnedFd) -> Result<(u64, Arc<Syncer>), Errno> {
        let device = rustix::fs::fstat(directory)?.st_dev;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(syncer) = known.get(&device).and_then(Weak::upgrade) {
            return Ok((device, syncer));
        }
        known.retain(|_, syncer| syncer.strong_count() > 0);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = Arc::new(rustix::fs::openat(directory, ".", flags, Mode::empty())?);
        let syncer =
            Arc::new(Syncer { handle, requested: AtomicU64::new(0), rounds: tokio::sync::Mutex::default() });
        known.insert(device, Arc::downgrade(&syncer));
        Ok((device, syncer))
    }

    /// Returns when nothing is in doubt that was so before the call. Usually nothing is.
    pub(super) async fn settle_doubts(&self) -> Result<(), Errno> {
        drop(self.publishing.write().await);
        for (device, doubt) in self.doubted() {
            doubt.syncer.sync().await?;
            self.settled(device, doubt.raised);
        }
        Ok(())
    }

    fn doubted(&self) -> BTreeMap<u64, Doubt> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner).devices.clone()
    }

    fn settled(&self, device: u64, raised: u64) {
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        if doubts.devices.get(&device).is_some_and(|doubt| doubt.raised == raised) {
            doubts.devices.remove(&device);
        }
    }
}

impl WorkSyncers {
    pub(super) fn new(all: &Arc<Syncers>) -> Self {
        Self { all: Arc::clone(all), mine: Mutex::default() }
    }

    /// Registers the file system of a directory, before anything is written there. Returns its device.
    pub(super) fn know(&self, directory: &OwnedFd) -> Result<u64, Errno> {
        let (device, syncer) = self.all.of(directory)?;
        self.mine.lock().unwrap_or_else(PoisonError::into_inner).entry(device).or_insert(syncer);
        Ok(device)
    }

    fn known(&self, device: u64) -> Option<Arc<Syncer>> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner).get(&device).cloned()
    }

    /// Records that an item on a known file system looks right and may not be durable.
    pub(super) fn doubt(&self, device: u64) {
        let Some(syncer) = self.known(device) else { return };
        let mut doubts = self.all.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        doubts.raised += 1;
        let raised = doubts.raised;
        doubts.devices.insert(device, Doubt { raised, syncer });
    }

    /// Returns when all that was written to a known file system before the call is durable.
    pub(super) async fn sync(&self, device: u64) -> Result<(), Errno> {
        match self.known(device) {
            Some(syncer) => syncer.sync().await,
            None => Err(Errno::INVAL),
        }
    }

    /// As [`Syncers::settle_doubts`].
    pub(super) async fn settle_doubts(&self) -> Result<(), Errno> {
        self.all.settle_doubts().await
    }

    /// Syncs what is in doubt on the file systems of this assignment, if it can. What cannot be synced stays in doubt.
    pub(super) async fn settle_own_doubts(&self) {
        if self.all.doubted().keys().any(|device| self.known(*device).is_some()) {
            // The next attempt reports the error.
            let _ = self.all.settle_doubts().await;
        }
    }

    /// As [`Self::settle_own_doubts`]. Blocks.
    pub(super) fn settle_doubts_now(&self) {
        for (device, doubt) in self.all.doubted() {
            if self.known(device).is_some() && rustix::fs::syncfs(&*doubt.syncer.handle).is_ok() {
                self.all.settled(device, doubt.raised);
            }
        }
    }

    /// The lock to hold for reading while an item has its final name and its directory is not synced.
    pub(super) fn publishing(&self) -> Arc<RwLock<()>> {
        Arc::clone(&self.all.publishing)
    }
}

impl Syncer {
    async fn sync(&self) -> Result<(), Errno> {
        let request = self.requested.fetch_add(1, Ordering::SeqCst) + 1;
        let mut rounds = self.rounds.lock().await;
        if rounds.covered < request {
            let covers = self.requested.load(Ordering::SeqCst);
            let handle = Arc::clone(&self.handle);
            let synced = tokio::task::spawn_blocking(move || rustix::fs::syncfs(&*handle)).await;
            rounds.covered = covers;
            if let Err(errno) = synced.unwrap_or(Err(Errno::IO)) {
                rounds.failed = Some((covers, errno));
            }
        }
        match rounds.failed {
            Some((up_to, errno)) if request <= up_to => Err(errno),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_held_open_only_while_it_is_written_or_in_doubt() {
        let all = Arc::new(Syncers::default());
        let directory = OwnedFd::from(std::fs::File::open(std::env::temp_dir()).unwrap());
        let work = WorkSyncers::new(&all);
        let device = work.know(&directory).unwrap();
        let handle = Arc::downgrade(&work.known(device).unwrap().handle);
        work.doubt(device);
        drop(work);
        assert_eq!(handle.strong_count(), 1, "what is in doubt stays open");
        let next = WorkSyncers::new(&all);
        assert_eq!(next.know(&directory).unwrap(), device);
        next.settle_doubts_now();
        assert!(all.doubted().is_empty());
        drop(next);
        assert_eq!(handle.strong_count(), 0);
    }
}
