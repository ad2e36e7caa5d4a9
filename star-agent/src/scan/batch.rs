//! Gathers entries into batches, each of which uses up one credit. The first batch is small, so that dispatch starts
//! early.

use std::collections::BTreeSet;
use std::sync::Arc;

use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::filter::Filter;
use orbit_shared::session::limits::{SCAN_BATCH_BYTES_MAX, SCAN_BATCH_ENTRIES_MAX};
use orbit_shared::session::{Failure, ScanBatch};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::limits::{FIRST_SCAN_BATCH_ENTRIES, SCAN_BATCH_AGE_MAX, SCAN_SILENCE_MAX};
use orbit_program::clock;

/// The receiver of the batches is gone.
#[derive(Debug)]
pub(super) struct Interrupted;

/// The batches of one scan.
pub(super) struct Batches {
    scan: u64,
    number: u64,
    entries: Vec<Entry>,
    bytes: usize,
    entries_max: usize,
    begun: Instant,
    out: mpsc::Sender<ScanBatch>,
    credits: Arc<Semaphore>,
    /// The filter of the scan. The batches report which parts of it have matched.
    filter: Option<Arc<Filter>>,
    matched: BTreeSet<u32>,
    /// Mount points that were not entered and not reported yet.
    skipped_mounts: Vec<Vec<u8>>,
}

impl Batches {
    pub(super) fn new(scan: u64, out: mpsc::Sender<ScanBatch>, credits: Arc<Semaphore>) -> Self {
        Self {
            scan,
            number: 0,
            entries: Vec::new(),
            bytes: 0,
            entries_max: FIRST_SCAN_BATCH_ENTRIES,
            begun: clock::now(),
            out,
            credits,
            filter: None,
            matched: BTreeSet::new(),
            skipped_mounts: Vec::new(),
        }
    }

    /// From now on reports which parts of a filter have matched.
    pub(super) fn watch(&mut self, filter: &Arc<Filter>) {
        self.filter = Some(Arc::clone(filter));
    }

    /// Adds an entry. Sends the batch if it is full or old enough.
    pub(super) async fn push(&mut self, entry: Entry) -> Result<(), Interrupted> {
        self.make_room(weight(&entry)).await?;
        self.entries.push(entry);
        self.send_if_due().await
    }

    /// Adds a mount point that is not entered. Its entry, if it has one, comes afterwards.
    pub(super) async fn note_mount(&mut self, path: Vec<u8>) -> Result<(), Interrupted> {
        self.make_room(path.len()).await?;
        self.skipped_mounts.push(path);
        self.send_if_due().await
    }

    /// Makes room for the next entry, in a new batch if this one is full.
    async fn make_room(&mut self, bytes: usize) -> Result<(), Interrupted> {
        let is_empty = self.entries.is_empty() && self.skipped_mounts.is_empty();
        if self.bytes + bytes > SCAN_BATCH_BYTES_MAX && !is_empty {
            self.send(false, None).await?;
        }
        self.bytes += bytes;
        Ok(())
    }

    async fn send_if_due(&mut self) -> Result<(), Interrupted> {
        let is_full = self.entries.len().max(self.skipped_mounts.len()) >= self.entries_max;
        let is_old = self.begun.elapsed() >= SCAN_BATCH_AGE_MAX;
        if is_full || is_old { self.send(false, None).await } else { Ok(()) }
    }

    /// Sends a batch, even an empty one, if none was sent for a long time: a scan of many excluded entries is still
    /// alive.
    pub(super) async fn keep_alive(&mut self) -> Result<(), Interrupted> {
        if self.begun.elapsed() >= SCAN_SILENCE_MAX { self.send(false, None).await } else { Ok(()) }
    }

    /// Sends the last batch.
    pub(super) async fn finish(&mut self, failure: Option<Failure>) -> Result<(), Interrupted> {
        self.send(true, failure).await
    }

    async fn send(&mut self, is_last: bool, failure: Option<Failure>) -> Result<(), Interrupted> {
        // A closed semaphore means, like a closed channel, that the receiver is gone.
        self.credits.acquire().await.map_err(|_| Interrupted)?.forget();
        self.number += 1;
        self.bytes = 0;
        self.entries_max = (self.entries_max * 2).min(SCAN_BATCH_ENTRIES_MAX);
        let entries = std::mem::take(&mut self.entries);
        let matched = self.filter.as_ref().map(|filter| filter.matched()).unwrap_or_default();
        let matched = matched.into_iter().filter(|index| self.matched.insert(*index)).collect();
        let skipped_mounts = std::mem::take(&mut self.skipped_mounts);
        let (scan, number) = (self.scan, self.number);
        let batch = ScanBatch { scan, number, entries, is_last, failure, matched, skipped_mounts };
        self.out.send(batch).await.map_err(|_| Interrupted)?;
        self.begun = clock::now();
        Ok(())
    }
}

/// The bytes that an entry counts against the limit of a batch.
fn weight(entry: &Entry) -> usize {
    let target = match &entry.kind {
        EntryKind::Symlink { target } => target.len(),
        EntryKind::File { .. }
        | EntryKind::Directory
        | EntryKind::Fifo
        | EntryKind::Socket
        | EntryKind::CharacterDevice
        | EntryKind::BlockDevice
        | EntryKind::Unreadable { .. } => 0,
    };
    entry.path.len() + target
}
