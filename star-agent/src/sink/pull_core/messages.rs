//! The events and effects of the machine for the items of an assignment.

use std::time::Duration;

use orbit_shared::session::{Failure, ItemOutcome, ItemResult};

use crate::limits::{PUBLISH_BYTES, PUBLISH_ITEMS};

/// An item whose content is complete at the destination, and not durable there.
pub trait WrittenItem {
    /// Index into the assignment's items.
    fn item(&self) -> usize;
    /// Number of bytes that count towards a round.
    fn bytes(&self) -> u64;
    /// Its result when it is durable, that long after the assignment was begun.
    fn result(&self, elapsed: Duration) -> ItemResult;
}

/// The kind of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Plain files: temporaries that get their final names.
    Files,
    /// A vault, which makes a group of items durable at once.
    Vault,
}

/// When a round begins before the pull has ended.
#[derive(Debug, Clone, Copy)]
pub struct RoundLimits {
    /// Number of written items.
    pub items: usize,
    /// Number of written bytes.
    pub bytes: u64,
}

impl Default for RoundLimits {
    fn default() -> Self {
        Self { items: PUBLISH_ITEMS, bytes: PUBLISH_BYTES }
    }
}

/// An item that failed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Index into the assignment's items.
    pub item: usize,
    /// Why.
    pub failure: Failure,
}

/// What planning has found. Directories of plain files are not in it.
#[derive(Debug)]
pub struct Planned<W> {
    /// They cannot be stored.
    pub failed: Vec<Failed>,
    /// They are at the destination. In a vault they are durable there.
    pub unchanged: Vec<usize>,
    /// They are written without a pull.
    pub written: Vec<W>,
    /// They must be pulled.
    pub wanted: Vec<usize>,
}

impl<W> Default for Planned<W> {
    fn default() -> Self {
        Self { failed: Vec::new(), unchanged: Vec::new(), written: Vec::new(), wanted: Vec::new() }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event<W> {
    /// All items were looked at.
    Planned(Planned<W>),
    /// Answers [`Effect::SettleDoubts`].
    DoubtsSettled {
        /// They are durable.
        durable: Vec<usize>,
        /// Whether they are, is not known.
        failed: Vec<Failed>,
    },
    /// A pulled item is complete.
    ItemWritten(W),
    /// A pulled item failed, and nothing of it is left that it does not need for its next attempt.
    ItemFailed(Failed),
    /// The source is gone: what is not complete fails, and is not pulled once more.
    PullBroken,
    /// Answers [`Effect::Pull`]: every item of it is written or has failed.
    PullEnded,
    /// Answers [`Effect::SyncContent`].
    ContentSynced {
        /// Their content is durable.
        synced: Vec<W>,
        /// Whether it is, is not known.
        failed: Vec<Failed>,
    },
    /// Answers [`Effect::Rename`].
    Renamed {
        /// They have their final names.
        renamed: Vec<W>,
        /// They have not.
        failed: Vec<Failed>,
    },
    /// Answers [`Effect::Discard`].
    Discarded(Vec<Failed>),
    /// Answers [`Effect::SyncDirectories`] and [`Effect::Commit`].
    Durable {
        /// They are durable.
        durable: Vec<W>,
        /// Whether they are, is not known.
        failed: Vec<Failed>,
        /// Since the assignment was begun.
        elapsed: Duration,
    },
    /// Answers [`Effect::MakeDirectories`].
    DirectoriesMade {
        /// They were made or changed.
        made: Vec<W>,
        /// They were as they should be.
        unchanged: Vec<usize>,
        /// They could not be made.
        failed: Vec<Failed>,
    },
    /// Answers [`Effect::SyncMade`].
    MadeSynced {
        /// They are durable.
        durable: Vec<W>,
        /// So are these, which were not changed.
        unchanged: Vec<usize>,
        /// Whether they are, is not known.
        failed: Vec<Failed>,
        /// Since the assignment was begun.
        elapsed: Duration,
    },
    /// The assignment was withdrawn, or its outcomes have no receiver. The pull has ended with it.
    Cancelled,
}

/// What to do. Everything but `Report`, `Clean` and `Finish` is answered with an event.
#[derive(Debug)]
pub enum Effect<W> {
    /// Make sure that what is at the destination is durable: an attempt whose sync failed may have written it.
    SettleDoubts(Vec<usize>),
    /// Pull these items, and report each of them.
    Pull {
        /// Indices into the assignment's items.
        items: Vec<usize>,
        /// Whether they are accepted although they change while they are read.
        accepts_changes: bool,
    },
    /// Make content durable under temporary names.
    SyncContent(Vec<W>),
    /// Give items their final names.
    Rename(Vec<W>),
    /// Make final names durable.
    SyncDirectories(Vec<W>),
    /// Make items of a vault durable.
    Commit {
        /// The items.
        items: Vec<W>,
        /// Whether nothing follows, so that what other items have stored may be given up on a full disk.
        is_last: bool,
    },
    /// Remove what was written of items that failed in a round.
    Discard(Vec<Failed>),
    /// Make the directories of the assignment, the deepest first, and set their times.
    MakeDirectories(Vec<usize>),
    /// Make directories and their names durable.
    SyncMade {
        /// They were made or changed.
        made: Vec<W>,
        /// They were not.
        unchanged: Vec<usize>,
    },
    /// Send outcomes.
    Report(Vec<ItemOutcome>),
    /// Remove all temporaries of a cancelled assignment.
    Clean,
    /// Every item has its outcome.
    Finish,
}
