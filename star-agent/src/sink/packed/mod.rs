//! The receiving end of the data plane for a vault: executes packed assignments. What an earlier snapshot of the same
//! source has unchanged is not even read; of the rest, hashes are asked for first, unless the vault has no snapshot that
//! could have any of it. What is missing comes in chunks, is verified, and is told of when it is durable.
//!
//! There is nothing to clean up after it: what an attempt has stored serves the next one, and goes with its stage.

mod compare;
mod file;
mod plan;
mod pull;
mod write;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use orbit_shared::entry::display_path;
use orbit_shared::session::{Assignment, Failure, FailureCause, Fault, ItemOutcome, ItemResult};
use orbit_shared::words::StarId;
use orbit_telemetry::Spans;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::grpc::transfer_client::Connections;
use crate::limits::PULLS_MAX;
use crate::meters::Meters;
use crate::net::Network;
use crate::packed::{PackedError, PackedStore, SourceName, StageId, TreeEntry};
use crate::sink::claims::Claims;
use crate::sink::{Cancelled, Reporter};

/// Executes packed assignments of one Star.
pub struct PackedSink {
    star_id: StarId,
    store: Arc<PackedStore>,
    meters: Arc<Meters>,
    connections: Connections,
    pulls: Semaphore,
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
}

/// An item whose content is in the store and that waits to be made durable.
#[derive(Debug)]
struct Ready {
    /// Index into the assignment's items.
    item: usize,
    entry: TreeEntry,
    bytes_transferred: u64,
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
            pulls: Semaphore::new(PULLS_MAX),
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
            started: crate::clock::now(),
            progress,
            cancel,
        });
        // Cancelled: what was stored stays for the next attempt.
        let _ = self.run(&work, &reporter).await;
    }

    async fn run(&self, work: &Arc<Work>, reporter: &Reporter) -> Result<(), Cancelled> {
        let plan = plan::plan(work).await?;
        reporter.send(plan.finished).await?;
        pull::run(self, work, plan.wanted, plan.ready, reporter).await
    }
}

impl Work {
    fn outcome(&self, index: usize, result: ItemResult) -> ItemOutcome {
        ItemOutcome { sequence: self.assignment.items[index].sequence, result }
    }

    /// Makes items durable and says how that went. Blocks.
    fn commit(&self, ready: Vec<Ready>) -> Vec<ItemOutcome> {
        let told: Vec<(usize, u64, u64)> = ready
            .iter()
            .map(|ready| (ready.item, ready.entry.entry.size(), ready.bytes_transferred))
            .collect();
        let entries: Vec<TreeEntry> = ready.into_iter().map(|ready| ready.entry).collect();
        let committed = self.store.commit(self.stage, &entries).map_err(|error| at_vault(&error, b""));
        let duration = self.started.elapsed();
        let outcomes = told.into_iter().map(|(item, size, bytes_transferred)| {
            self.outcome(
                item,
                match &committed {
                    Ok(_) => ItemResult::Stored {
                        size,
                        bytes_transferred,
                        bytes_deduplicated: size.saturating_sub(bytes_transferred),
                        duration,
                    },
                    Err(failure) => ItemResult::Failed(failure.clone()),
                },
            )
        });
        outcomes.collect()
    }
}

/// What an error of the store means for an item that is written to it.
fn at_vault(error: &PackedError, path: &[u8]) -> Failure {
    let message = match path {
        b"" => error.to_string(),
        path => format!("cannot store {}: {error}", display_path(path)),
    };
    let (cause, fault) = match error {
        PackedError::WrongBytes { .. } => (FailureCause::ChecksumMismatch, Fault::Item),
        // It was collected or lost between the look and the commit; the next attempt asks for it.
        PackedError::MissingChunk { .. } => (FailureCause::Transient, Fault::Item),
        PackedError::EntryTooLarge { .. } => (FailureCause::Permanent, Fault::Item),
        _ => (FailureCause::DestinationError, Fault::Destination),
    };
    Failure { cause, fault, message }
}
