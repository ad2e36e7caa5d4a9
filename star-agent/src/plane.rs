//! What the driver needs of the data plane, so that it can be driven against another one in tests.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::future::BoxFuture;
use orbit_shared::comparison::{Comparison, Unchanged};
use orbit_shared::session::{Assignment, ItemOutcome, ScanBatch, ScanRequest};
use orbit_shared::vault_call::{VaultCall, VaultProblem, VaultReply};
use orbit_shared::words::JobId;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Counters of the data plane since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlaneCounts {
    /// Bytes of content sent and received.
    pub bytes_moved: u64,
    /// Operations that ended, well or badly.
    pub operations: u64,
    /// Those that failed.
    pub errors: u64,
    /// Pulls that are served now.
    pub served_pulls: u64,
}

/// Moves data and lists trees.
pub trait DataPlane: Send + Sync + 'static {
    /// Works on an assignment: each item's outcome is sent once, unless `cancel` fires before. `progress` counts bytes.
    fn execute(
        &self,
        assignment: Assignment,
        outcomes: mpsc::Sender<Vec<ItemOutcome>>,
        progress: Arc<AtomicU64>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, ()>;

    /// Lists a tree; each batch takes one of `credits`.
    fn scan(
        &self,
        request: ScanRequest,
        batches: mpsc::Sender<ScanBatch>,
        credits: Arc<Semaphore>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, ()>;

    /// Says which entries of a listing a destination has already.
    fn compare(&self, comparison: Comparison) -> BoxFuture<'static, Unchanged>;

    /// Removes what an assignment that will not go on has left half written, except large files from which the next
    /// attempt can go on. Answers whether it could be looked for: not while the root is away. Blocks.
    fn clean_temporaries(&self, assignment: &Assignment) -> bool;

    /// Removes what a job that has ended has left of large files. Blocks.
    fn end_job(&self, job: JobId);

    /// Removes what nobody came back to for so long that its job must have ended. Blocks.
    fn clean_ended(&self);

    /// Does what is asked of the vault.
    fn call_vault(&self, call: VaultCall) -> BoxFuture<'static, Result<VaultReply, VaultProblem>>;

    /// What it counts.
    fn counts(&self) -> PlaneCounts;
}
