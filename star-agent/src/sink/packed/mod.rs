//! The receiving side of the data plane for a vault: executes packed assignments. A file that is unchanged since an
//! earlier snapshot of the same source is not read. For the others, hashes are requested first, unless the vault has no
//! snapshot that could contain any of their chunks. Missing chunks are received, verified, stored, and reported once
//! they are durable.
//!
//! No cleaning is needed afterwards: the next attempt uses what an attempt has stored, and it is removed with its
//! stage.

mod compare;
mod file;
mod plan;
mod pull;
mod write;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use orbit_shared::entry::display_path;
use orbit_shared::session::{Assignment, ChunkCounts, Failure, FailureCause, Fault, ItemOutcome, ItemResult};
use orbit_shared::words::StarId;
use orbit_telemetry::Spans;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::grpc::transfer_client::Connections;
use crate::meters::Meters;
use crate::packed::{PackedError, PackedStore, SourceName, StageId, TreeEntry};
use crate::sink::claims::Claims;
use crate::sink::delivery::{Delivery, Destination};
use crate::sink::pull_core::{Effect, Event, Failed, PullCore, RoundLimits, Target, WrittenItem};
use crate::sink::{Cancelled, Reporter};
use orbit_identity::network::Network;

/// Executes packed assignments of one Star.
pub struct PackedSink {
    star_id: StarId,
    store: Arc<PackedStore>,
    meters: Arc<Meters>,
    connections: Connections,
    claims: Claims,
}

impl fmt::Debug for PackedSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedSink").field("star_id", &self.star_id).finish_non_exhaustive()
    }
}

/// One packed assignment under way.
struct Work {
    assignment: Arc<Assignment>,
    store: Arc<PackedStore>,
    stage: StageId,
    source: SourceName,
    meters: Arc<Meters>,
    started: Instant,
    progress: Arc<AtomicU64>,
    cancel: CancellationToken,
    /// Whether a chunk could not be put because the disk is full.
    met_full_disk: AtomicBool,
    /// How often the vault had given up chunks on a full disk when the work began.
    losses_before: u64,
}

/// An item whose content is in the store and that is not yet durable.
#[derive(Debug)]
struct Ready {
    /// Index into the assignment's items.
    item: usize,
    entry: TreeEntry,
    bytes_transferred: u64,
    chunks: ChunkCounts,
    /// Whether the file changed while it was read.
    is_changed: bool,
}

impl WrittenItem for Ready {
    fn item(&self) -> usize {
        self.item
    }

    fn bytes(&self) -> u64 {
        self.bytes_transferred
    }

    fn result(&self, elapsed: Duration) -> ItemResult {
        let size = self.entry.entry.size();
        ItemResult::Stored {
            size,
            bytes_transferred: self.bytes_transferred,
            bytes_deduplicated: size.saturating_sub(self.bytes_transferred),
            duration: elapsed,
            is_changed: self.is_changed,
            chunks: ChunkCounts {
                deduplicated: (self.entry.chunks.len() as u64).saturating_sub(self.chunks.transferred),
                ..self.chunks
            },
        }
    }
}

impl PackedSink {
    /// A sink for one vault.
    pub fn new(
        star_id: StarId,
        store: Arc<PackedStore>,
        meters: Arc<Meters>,
        network: Arc<dyn Network>,
        spans: Spans,
    ) -> Arc<Self> {
        Arc::new(Self {
            star_id,
            store,
            meters,
            connections: Connections::new(network, spans),
            claims: Claims::default(),
        })
    }

    /// Works on a whole assignment, as [`Sink::execute`](crate::sink::Sink::execute) does.
    pub async fn execute(
        &self,
        assignment: Assignment,
        outcomes: mpsc::Sender<Vec<ItemOutcome>>,
        progress: Arc<AtomicU64>,
        cancel: CancellationToken,
    ) {
        let reporter = Reporter { outcomes, meters: Arc::clone(&self.meters), cancel: cancel.clone() };
        let assignment = Arc::new(assignment);
        let _claim = tokio::select! {
            () = cancel.cancelled() => return,
            claim = self.claims.claim(&assignment) => claim,
        };
        let work = Arc::new(Work {
            store: Arc::clone(&self.store),
            stage: StageId { job: assignment.job, destination: assignment.destination },
            source: SourceName { star: assignment.source_star.clone(), path: assignment.source_path.clone() },
            assignment,
            meters: Arc::clone(&self.meters),
            started: orbit_program::clock::now(),
            progress,
            cancel,
            met_full_disk: AtomicBool::new(false),
            losses_before: self.store.losses_to_full_disk(),
        });
        let core = PullCore::new(Target::Vault, RoundLimits::default(), Arc::clone(&work.assignment));
        let mut delivery = Delivery::new(core, Arc::clone(&work), &reporter);
        if self.run(&work, &mut delivery).await.is_err() {
            // What was stored is kept for the next attempt.
            delivery.cancel().await;
        }
    }

    async fn run(&self, work: &Arc<Work>, delivery: &mut Delivery<'_, Arc<Work>>) -> Result<(), Cancelled> {
        delivery.step(Event::Planned(plan::plan(work).await?));
        while let Some(pull) = delivery.next_pull(&work.cancel).await? {
            pull::run(self, work, pull, delivery).await?;
            delivery.step(Event::PullEnded);
        }
        Ok(())
    }
}

impl Destination for Arc<Work> {
    type Written = Ready;

    fn begin(&self, effect: Effect<Ready>, jobs: &mut JoinSet<Event<Ready>>) {
        let work = Self::clone(self);
        match effect {
            Effect::Commit { items, is_last } => {
                jobs.spawn_blocking(
                    move || if is_last { work.commit_last(items) } else { work.commit(items) },
                );
            }
            Effect::SettleDoubts(_)
            | Effect::Pull { .. }
            | Effect::SyncContent(_)
            | Effect::Rename(_)
            | Effect::SyncDirectories(_)
            | Effect::Discard(_)
            | Effect::MakeDirectories(_)
            | Effect::SyncMade { .. }
            | Effect::Report(_)
            | Effect::Clean
            | Effect::Finish => unreachable!("a vault commits"),
        }
    }
}

impl Work {
    /// Makes the last items of a pull durable, as [`Work::commit`] does. If the disk is full, the space of other items'
    /// content is released first. Blocks.
    fn commit_last(&self, ready: Vec<Ready>) -> Event<Ready> {
        if self.met_full_disk.load(Ordering::Relaxed) {
            let entries: Vec<&TreeEntry> = ready.iter().map(|ready| &ready.entry).collect();
            self.store.give_up_unneeded(&entries);
        }
        self.commit(ready)
    }

    /// Makes items durable. Blocks.
    fn commit(&self, ready: Vec<Ready>) -> Event<Ready> {
        let mut entries = Vec::with_capacity(ready.len());
        let mut rests = Vec::with_capacity(ready.len());
        for Ready { item, entry, bytes_transferred, chunks, is_changed } in ready {
            entries.push(entry);
            rests.push((item, bytes_transferred, chunks, is_changed));
        }
        let committed = if entries.is_empty() { Vec::new() } else { self.commit_entries(&entries) };
        let (mut durable, mut failed) = (Vec::with_capacity(entries.len()), Vec::new());
        for ((entry, (item, bytes_transferred, chunks, is_changed)), committed) in
            entries.into_iter().zip(rests).zip(committed)
        {
            match committed {
                Ok(()) => durable.push(Ready { item, entry, bytes_transferred, chunks, is_changed }),
                Err(failure) => failed.push(Failed { item, failure }),
            }
        }
        Event::Durable { durable, failed, elapsed: self.started.elapsed() }
    }

    /// Commits entries, and returns the result for each. On a full disk, or if chunks are lost, as few of them fail as
    /// possible.
    fn commit_entries(&self, entries: &[TreeEntry]) -> Vec<Result<(), Failure>> {
        let Err(error) = self.store.commit(self.stage, entries) else {
            return entries.iter().map(|_| Ok(())).collect();
        };
        let failure = self.commit_failure(&error);
        let mut results: Vec<Result<(), Failure>> = entries.iter().map(|_| Err(failure.clone())).collect();
        let is_divisible = error.is_full() || matches!(error, PackedError::MissingChunk { .. });
        if entries.len() < 2 || !is_divisible || self.cancel.is_cancelled() {
            return results;
        }
        let is_there = |&index: &usize| self.store.has_all_of(self.stage, &entries[index]);
        let there: Vec<usize> = (0..entries.len()).filter(is_there).collect();
        // If all content is there, tries halves, so that only entries without space in the log of the stage fail.
        let middle = if there.len() == entries.len() { there.len() / 2 } else { there.len() };
        for part in [&there[..middle], &there[middle..]].into_iter().filter(|part| !part.is_empty()) {
            let chosen: Vec<TreeEntry> = part.iter().map(|&index| entries[index].clone()).collect();
            for (&index, result) in part.iter().zip(self.commit_entries(&chosen)) {
                results[index] = result;
            }
        }
        results
    }

    /// The failure of an item whose commit failed. Chunks that were given up because the disk is full do not count
    /// against it.
    fn commit_failure(&self, error: &PackedError) -> Failure {
        let failure = at_vault(error, b"");
        let is_missing = matches!(error, PackedError::MissingChunk { .. });
        if !is_missing || self.store.losses_to_full_disk() == self.losses_before {
            return failure;
        }
        let message = format!("{}: its chunks were given up, because the disk is full", failure.message);
        Failure { cause: FailureCause::DestinationError, fault: Fault::Destination, message }
    }
}

/// The failure of an item if the store reports this error.
fn at_vault(error: &PackedError, path: &[u8]) -> Failure {
    let message = match path {
        b"" => error.to_string(),
        path => format!("cannot store {}: {error}", display_path(path)),
    };
    let (cause, fault) = match error {
        PackedError::WrongBytes { .. } => (FailureCause::ChecksumMismatch, Fault::Item),
        // It was collected or lost between the check and the commit. The next attempt requests it.
        PackedError::MissingChunk { .. } => (FailureCause::Transient, Fault::Item),
        error if error.is_too_large() => (FailureCause::DestinationError, Fault::Item),
        PackedError::EntryTooLarge { .. } => (FailureCause::Permanent, Fault::Item),
        _ => (FailureCause::DestinationError, Fault::Destination),
    };
    Failure { cause, fault, message }
}
