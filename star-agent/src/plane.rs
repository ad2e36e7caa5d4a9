//! The interface of the data plane to the driver, which tests implement as well.

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
    /// Operations that have ended, with or without an error.
    pub operations: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Pulls that are served now.
    pub served_pulls: u64,
}

/// Moves data and lists trees.
pub trait DataPlane: Send + Sync + 'static {
    /// Works on an assignment. Sends each item's outcome once, unless `cancel` fires before. `progress` counts bytes.
    fn execute(
        &self,
        assignment: Assignment,
        outcomes: mpsc::Sender<Vec<ItemOutcome>>,
        progress: Arc<AtomicU64>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, ()>;

    /// Lists a tree. Each batch uses up one of `credits`.
    fn scan(
        &self,
        request: ScanRequest,
        batches: mpsc::Sender<ScanBatch>,
        credits: Arc<Semaphore>,
        cancel: CancellationToken,
    ) -> BoxFuture<'static, ()>;

    /// Returns which entries of a listing a destination already has.
    fn compare(&self, comparison: Comparison) -> BoxFuture<'static, Unchanged>;

    /// Removes the partly written files of an assignment that will not go on, except large files that the next attempt
    /// can continue. Returns whether it could look for them, which it cannot while the root is away. Blocks.
    fn clean_temporaries(&self, assignment: &Assignment) -> bool;

    /// Removes the partly written large files of a job that has ended. Blocks.
    fn end_job(&self, job: JobId);

    /// Removes partly written large files that no job has used for so long that their job must have ended. Blocks.
    fn clean_ended(&self);

    /// Executes a call of the vault.
    fn call_vault(&self, call: VaultCall) -> BoxFuture<'static, Result<VaultReply, VaultProblem>>;

    /// Its counters.
    fn counts(&self) -> PlaneCounts;
}
