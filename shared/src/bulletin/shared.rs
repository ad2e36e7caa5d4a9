//! One board for many threads.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::time::Now;
use crate::words::JobId;

use super::{Bulletin, BulletinBoard, BulletinCounts, BulletinFilter, Posted, Severity};

/// A [`BulletinBoard`] behind a lock; clones are handles to the same board.
///
/// It has the board's methods, but returns copies because the lock is released on return. The board's methods leave it
/// consistent at every point where they could panic, so a poisoned lock is still used, and a panic does not lose the
/// alerts.
#[derive(Debug, Clone)]
pub struct SharedBulletinBoard {
    board: Arc<RwLock<BulletinBoard>>,
}

impl SharedBulletinBoard {
    /// An empty board for at most `capacity` bulletins.
    pub fn new(capacity: usize) -> Self {
        Self::from(BulletinBoard::new(capacity))
    }

    /// See [`BulletinBoard::post`].
    pub fn post(
        &self,
        now: Now,
        severity: Severity,
        source: &str,
        category: &str,
        job: Option<JobId>,
        message: &str,
    ) -> Posted {
        self.write().post(now, severity, source, category, job, message)
    }

    /// See [`BulletinBoard::follow`].
    pub fn follow(&self, bulletin: Bulletin) {
        self.write().follow(bulletin);
    }

    /// See [`BulletinBoard::forget`].
    pub fn forget(&self, id: u64) {
        self.write().forget(id);
    }

    /// Reads the board at one moment; it does not change meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&BulletinBoard) -> T) -> T {
        look(&self.read())
    }

    /// See [`BulletinBoard::recent`].
    pub fn recent(&self, count: usize) -> Vec<Bulletin> {
        copied(self.read().recent(count))
    }

    /// See [`BulletinBoard::by_severity`].
    pub fn by_severity(&self, least: Severity) -> Vec<Bulletin> {
        copied(self.read().by_severity(least))
    }

    /// See [`BulletinBoard::by_source`].
    pub fn by_source(&self, source: &str) -> Vec<Bulletin> {
        copied(self.read().by_source(source))
    }

    /// See [`BulletinBoard::by_category`].
    pub fn by_category(&self, category: &str) -> Vec<Bulletin> {
        copied(self.read().by_category(category))
    }

    /// See [`BulletinBoard::by_job`].
    pub fn by_job(&self, job: JobId) -> Vec<Bulletin> {
        copied(self.read().by_job(job))
    }

    /// See [`BulletinBoard::issues`].
    pub fn issues(&self) -> Vec<Bulletin> {
        copied(self.read().issues())
    }

    /// See [`BulletinBoard::query`].
    pub fn query(&self, filter: &BulletinFilter, limit: usize) -> Vec<Bulletin> {
        copied(self.read().query(filter, limit))
    }

    /// See [`BulletinBoard::acknowledge`].
    pub fn acknowledge(&self, ids: &[u64]) -> Vec<u64> {
        self.write().acknowledge(ids)
    }

    /// See [`BulletinBoard::counts`].
    pub fn counts(&self) -> BulletinCounts {
        self.read().counts()
    }

    /// See [`BulletinBoard::clear`].
    pub fn clear(&self) {
        self.write().clear();
    }

    /// See [`BulletinBoard::len`].
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// See [`BulletinBoard::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    fn read(&self) -> RwLockReadGuard<'_, BulletinBoard> {
        self.board.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A test also uses this to panic while it holds the lock.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, BulletinBoard> {
        self.board.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<BulletinBoard> for SharedBulletinBoard {
    fn from(board: BulletinBoard) -> Self {
        Self { board: Arc::new(RwLock::new(board)) }
    }
}

fn copied(bulletins: Vec<&Bulletin>) -> Vec<Bulletin> {
    bulletins.into_iter().cloned().collect()
}
