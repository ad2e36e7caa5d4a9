//! Gathers entries into batches, each of which costs one credit: the first is small so that dispatch starts early.

use std::sync::Arc;

use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::session::limits::{SCAN_BATCH_BYTES_MAX, SCAN_BATCH_ENTRIES_MAX};
use orbit_shared::session::{Failure, ScanBatch};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::clock;
use crate::limits::{FIRST_SCAN_BATCH_ENTRIES, SCAN_BATCH_AGE_MAX, SCAN_SILENCE_MAX};

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
        }
    }

    /// Adds an entry, and sends the batch when it is full or has waited long enough.
    pub(super) async fn push(&mut self, entry: Entry) -> Result<(), Interrupted> {
        let bytes = weight(&entry);
        if self.bytes + bytes > SCAN_BATCH_BYTES_MAX && !self.entries.is_empty() {
            self.send(false, None).await?;
        }
        self.bytes += bytes;
        self.entries.push(entry);
        let is_old = self.begun.elapsed() >= SCAN_BATCH_AGE_MAX;
        if self.entries.len() >= self.entries_max || is_old { self.send(false, None).await } else { Ok(()) }
    }

    /// Sends what there is, be it nothing, if nothing was sent for long: a walk over much that is excluded still lives.
    pub(super) async fn keep_alive(&mut self) -> Result<(), Interrupted> {
        if self.begun.elapsed() >= SCAN_SILENCE_MAX { self.send(false, None).await } else { Ok(()) }
    }

    /// Sends the last batch.
    pub(super) async fn finish(&mut self, failure: Option<Failure>) -> Result<(), Interrupted> {
        self.send(true, failure).await
    }

    async fn send(&mut self, is_last: bool, failure: Option<Failure>) -> Result<(), Interrupted> {
        // A closed semaphore means, like a closed channel, that nobody listens any more.
        self.credits.acquire().await.map_err(|_| Interrupted)?.forget();
        self.number += 1;
        self.bytes = 0;
        self.entries_max = (self.entries_max * 2).min(SCAN_BATCH_ENTRIES_MAX);
        let entries = std::mem::take(&mut self.entries);
        let batch = ScanBatch { scan: self.scan, number: self.number, entries, is_last, failure };
        self.out.send(batch).await.map_err(|_| Interrupted)?;
        self.begun = clock::now();
        Ok(())
    }
}

/// What counts against the bytes of a batch.
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
