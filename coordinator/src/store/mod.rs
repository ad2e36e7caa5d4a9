//! Magnetar: the coordinator's durable job store.
//!
//! A store takes all changes of a turn in one commit and can give back the state they add up to. It decides nothing.
//! [`embedded`] keeps it in one file beside the coordinator; the trait leaves room for an engine that several
//! coordinators share.

mod blocks;
mod codec;
mod copy;
pub mod embedded;
mod guarded;
#[cfg(test)]
mod tests;
mod verify;
mod watched;

use std::path::{Path, PathBuf};

use orbit_shared::entry::Entry;
use orbit_shared::words::{ItemId, JobId};

use crate::core::{Change, ItemEndRecord, QueueKey, Recovered};

pub use embedded::EmbeddedStore;
pub use guarded::Guarded;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("cannot open the store {}: {problem}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the engine said, and what to do.
        problem: String,
    },
    /// The engine failed.
    #[error("the store failed while it {doing}: {problem}")]
    Engine {
        /// What was being done.
        doing: &'static str,
        /// What the engine said.
        problem: String,
    },
    /// The store's file was removed or replaced while it was open.
    #[error(
        "the store {} is not where it was opened: {problem}. Nothing is promised any more; stop the coordinator, bring its --data-dir back (mount it, or restore a backup) and start it again",
        path.display()
    )]
    Lost {
        /// Which file.
        path: PathBuf,
        /// How it shows.
        problem: String,
    },
    /// The engine panicked, which it does on some damage.
    #[error(
        "the store failed in {doing}: its engine found what makes no sense ({problem}); restore the data directory from a backup"
    )]
    Panicked {
        /// What was being done.
        doing: &'static str,
        /// What the engine said.
        problem: String,
    },
    /// A record is not what was written.
    #[error(
        "a record of the store's table {table} is damaged ({problem}); restore the data directory from a backup"
    )]
    Damaged {
        /// In which table.
        table: &'static str,
        /// How it shows.
        problem: String,
    },
}

/// A stretch of a lane's queue.
#[derive(Debug, Default)]
pub struct QueuePage {
    /// Key, sequence number and entry, by key.
    pub items: Vec<(QueueKey, u64, Entry)>,
    /// Whether nothing follows.
    pub is_end: bool,
}

/// One item as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredItem {
    /// Which.
    pub id: ItemId,
    /// What the scan found.
    pub entry: Entry,
    /// How it ended, if it has.
    pub end: Option<ItemEndRecord>,
}

/// Changes that are written down and that nobody sees yet. Dropping it undoes them.
pub trait Transaction: Send {
    /// Makes them durable, and `more` with them. When it returns, they survive the loss of power.
    fn commit(self: Box<Self>, more: &[Change]) -> Result<(), StoreError>;
}

/// The durable state of a coordinator.
pub trait Store: Send + Sync + 'static {
    /// Writes changes down, to be made durable or dropped together. One transaction at a time.
    fn begin(&self, changes: &[Change]) -> Result<Box<dyn Transaction>, StoreError>;

    /// Makes changes durable, all or none. When it returns, they survive the loss of power.
    fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.begin(changes)?.commit(&[])
    }

    /// Whether the store still is where it was opened.
    fn check(&self) -> Result<(), StoreError>;

    /// Reads everything that a core needs to go on.
    fn recover(&self) -> Result<Recovered, StoreError>;

    /// Copies everything, as of one moment between two commits, to a file that is not there yet. Commits go on meanwhile.
    fn copy_to(&self, path: &Path) -> Result<(), StoreError>;

    /// Reads on in the queue of a lane, after a key.
    fn queue_page(
        &self,
        job: JobId,
        destination: u32,
        after: &[u8],
        limit: usize,
    ) -> Result<QueuePage, StoreError>;

    /// One item; `None` if the scan never found it.
    fn item(&self, id: ItemId) -> Result<Option<StoredItem>, StoreError>;

    /// Entries of a job with their ends at each of `destinations`, in the order of the scan, starting with a sequence
    /// number; at most `limit` entries.
    fn items(
        &self,
        job: JobId,
        destinations: u32,
        start: u64,
        limit: usize,
    ) -> Result<Vec<(Entry, Vec<StoredItem>)>, StoreError>;

    /// Returns whether everything was verified when the store was opened. If not, [`Store::verify`] does it.
    fn is_verified(&self) -> bool;

    /// Reads every record beside commits, as long as `goes_on` says so, and returns how many there were.
    ///
    /// # Errors
    /// The first damage that was found.
    fn verify(&self, goes_on: &dyn Fn() -> bool) -> Result<u64, StoreError>;
}
