//! The receiving side of the data plane: executes assignments. It pulls what is missing, verifies every chunk, writes
//! under temporary names, syncs, publishes by renaming, and only then reports an item as stored.
//!
//! Invariants: a reader never sees a partial file; the failure of an item does not affect others; every item gets
//! exactly one outcome, unless the assignment is cancelled, after which no outcome is sent.
//!
//! Files get the source's permission bits without setuid and setgid, since owners are not copied. Directories keep
//! setgid, which only passes on the group.

mod basis;
pub mod claims;
mod compare;
mod delivery;
mod directories;
mod fetching;
mod files;
mod grain;
mod kept_times;
mod line;
pub mod packed;
mod plan;
mod publish;
mod pull;
pub mod pull_core;
mod resume;
mod spelling;
mod syncers;
mod work;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use orbit_shared::session::{Assignment, Failure, FailureCause, Fault, ItemOutcome, ItemResult};
use orbit_shared::words::{JobId, StarId};
use orbit_telemetry::Spans;
use rustix::io::Errno;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::checkpoints::Checkpoints;
use crate::failures::{at_destination, destination_failed, permanent};
use crate::grpc::transfer_client::Connections;
use crate::limits::{BASES_MAX, COMPARISONS_MAX};
use crate::meters::Meters;
use crate::roots::{PathError, Roots};
use crate::sink::claims::{Claims, item_id, leftovers};
use crate::sink::delivery::Delivery;
use crate::sink::grain::Grains;
use crate::sink::kept_times::{KeepsTimes, KeptTimes};
use crate::sink::plan::Wanted;
use crate::sink::pull_core::{Event, PullCore, RoundLimits, Target};
use crate::sink::spelling::Spellings;
use crate::sink::syncers::{Syncers, WorkSyncers};
pub(crate) use crate::sink::work::modified_at;
use crate::sink::work::{Work, temporary_prefix};
use orbit_identity::network::Network;

/// Executes the assignments of one Star.
pub struct Sink {
    star_id: StarId,
    identity: Uuid,
    roots: Arc<Roots>,
    meters: Arc<Meters>,
    connections: Connections,
    bases: Arc<Semaphore>,
    syncers: Arc<Syncers>,
    claims: Claims,
    checkpoints: Checkpoints,
    kept_times: Arc<KeptTimes>,
    comparing: Arc<Semaphore>,
    grains: Arc<Grains>,
    spellings: Arc<Spellings>,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("star_id", &self.star_id).finish_non_exhaustive()
    }
}

/// The assignment was cancelled, or the receiver of its outcomes is gone.
#[derive(Debug)]
struct Cancelled;

impl Sink {
    /// A sink below `roots`. `identity` distinguishes the temporary names of this Star from those of another one that
    /// writes to the same file system.
    pub fn new(
        star_id: StarId,
        identity: Uuid,
        roots: Arc<Roots>,
        meters: Arc<Meters>,
        checkpoints: Checkpoints,
        network: Arc<dyn Network>,
        spans: Spans,
    ) -> Arc<Self> {
        Arc::new(Self {
            star_id,
            identity,
            roots,
            meters,
            connections: Connections::new(network, spans),
            bases: Arc::new(Semaphore::new(BASES_MAX)),
            syncers: Arc::default(),
            claims: Claims::default(),
            checkpoints,
            kept_times: Arc::default(),
            comparing: Arc::new(Semaphore::new(COMPARISONS_MAX)),
            grains: Arc::default(),
            spellings: Arc::default(),
        })
    }

    /// Works on a whole assignment and sends the outcome of every item exactly once. `progress` counts received bytes.
    /// Waits for the end of an earlier attempt at any of its items. After `cancel` it removes its temporaries and sends
    /// no more outcomes. Even then it must be run to its end and not dropped, since its jobs outlive a dropped future.
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
        let work = match self.begin(&assignment, progress, cancel).await {
            Ok(work) => Arc::new(work),
            Err(failure) => {
                let failed = |sequence| ItemOutcome { sequence, result: ItemResult::Failed(failure.clone()) };
                let all = assignment.items.iter().map(|item| failed(item.sequence)).collect();
                // Cancelled: nothing was begun, and nothing is left.
                let _ = reporter.send(all).await;
                return;
            }
        };
        let core = PullCore::new(Target::Files, RoundLimits::default(), assignment);
        let mut delivery = Delivery::new(core, Arc::clone(&work), &reporter);
        if self.run(&work, &mut delivery).await.is_err() && delivery.cancel().await {
            clean(Arc::clone(&work)).await;
        }
        // Held only after a panic in a round.
        work.end_publication();
        // If a sync has failed, it is repeated now, not when the next job comes.
        work.syncers.settle_own_doubts().await;
    }

    /// Removes the temporaries of an assignment that a killed process, a panic or a withdrawn attempt has left, except
    /// those of large files with a checkpoint. If another attempt at an item is under way, its temporaries belong to
    /// that attempt and are kept. Returns whether it could look for them, which it cannot while the root is away.
    /// Blocks.
    pub fn clean_temporaries(&self, assignment: &Assignment) -> bool {
        let is_single = work::is_single(assignment);
        let opened =
            self.roots.open_destination(&assignment.destination_path, assignment.job, is_single, false);
        let place = match opened {
            Ok(place) => place,
            Err(PathError::RootAway { .. }) => return false,
            Err(_) => return true,
        };
        let syncers = WorkSyncers::new(&self.syncers);
        let prefix = temporary_prefix(self.identity, assignment);
        let leftovers = leftovers(assignment, |id| self.checkpoints.has(id));
        for (index, item) in assignment.items.iter().enumerate() {
            let Some(_claim) = self.claims.try_claim(item_id(assignment, item)) else { continue };
            // It may have got a checkpoint since.
            if leftovers.contains(&index) && !self.checkpoints.has(item_id(assignment, item)) {
                work::remove_temporary(&place, &prefix, item);
            }
            // It may have been published and not synced.
            if let Ok(device) = work::parent_of(&place, item).and_then(|parent| syncers.know(&parent)) {
                syncers.doubt(device);
            }
        }
        syncers.settle_doubts_now();
        true
    }

    /// Removes what is kept of large files of a job that has ended. Without a job, removes what is so old that its job
    /// must have ended. Blocks.
    pub fn clean_checkpoints(&self, job: Option<JobId>) {
        for (item, checkpoint) in self.checkpoints.ended(job) {
            let Some(_claim) = self.claims.try_claim(item) else { continue };
            // An empty path is that of a single file, whose directory is opened as the destination.
            let is_single = checkpoint.path.is_empty();
            let path = &checkpoint.destination_path;
            match self.roots.open_destination(path, item.job, is_single, false) {
                Ok(place) => work::remove_kept(&place, &checkpoint),
                // The next call finds it.
                Err(PathError::RootAway { .. }) => continue,
                Err(_) => {}
            }
            self.checkpoints.remove(item);
        }
    }

    /// Opens the destination path.
    async fn begin(
        &self,
        assignment: &Arc<Assignment>,
        progress: Arc<AtomicU64>,
        cancel: CancellationToken,
    ) -> Result<Work, Failure> {
        let (roots, opened) = (Arc::clone(&self.roots), Arc::clone(assignment));
        let is_single = work::is_single(assignment);
        let open = move || roots.open_destination(&opened.destination_path, opened.job, is_single, true);
        let place = tokio::task::spawn_blocking(open)
            .await
            .map_err(|error| {
                destination_failed(format!("opening the destination path did not end: {error}"))
            })?
            .map_err(|error| base_failure(&error))?;
        Ok(Work {
            place,
            prefix: temporary_prefix(self.identity, assignment),
            assignment: Arc::clone(assignment),
            syncers: WorkSyncers::new(&self.syncers),
            grains: Arc::clone(&self.grains),
            spellings: Arc::clone(&self.spellings),
            ways: Mutex::default(),
            meters: Arc::clone(&self.meters),
            bases: Arc::clone(&self.bases),
            checkpoints: self.checkpoints.clone(),
            started: orbit_program::clock::now(),
            progress,
            cancel,
            keeps_times: KeepsTimes::new(&self.kept_times, assignment.keeps_directory_times),
            publishing: Mutex::default(),
        })
    }

    async fn run(&self, work: &Arc<Work>, delivery: &mut Delivery<'_, Arc<Work>>) -> Result<(), Cancelled> {
        let plan = plan::plan(work).await?;
        let mut known: BTreeMap<usize, Wanted> =
            plan.fetches.into_iter().map(|wanted| (wanted.item, wanted)).collect();
        delivery.step(Event::Planned(plan.planned));
        while let Some(pull) = delivery.next_pull(&work.cancel).await? {
            let wanted =
                pull.items.iter().map(|item| known.remove(item).expect("only what is wanted is pulled"));
            let wanted = wanted.collect();
            let changed = pull::run(self, work, wanted, pull.accepts_changes, delivery).await?;
            known.extend(changed.into_iter().map(|wanted| (wanted.item, wanted)));
            delivery.step(Event::PullEnded);
        }
        Ok(())
    }
}

/// Removes the temporaries of an assignment whose Star will not come back. Returns whether it could look for them.
/// Blocks.
pub(crate) fn remove_temporaries(roots: &Roots, identity: Uuid, assignment: &Assignment) -> bool {
    let is_single = work::is_single(assignment);
    match roots.open_destination(&assignment.destination_path, JobId(0), is_single, false) {
        Ok(place) => {
            let prefix = temporary_prefix(identity, assignment);
            for index in leftovers(assignment, |_| false) {
                work::remove_temporary(&place, &prefix, &assignment.items[index]);
            }
            true
        }
        Err(PathError::RootAway { .. }) => false,
        // The destination was removed with its content.
        Err(_) => true,
    }
}

/// Removes what a cancelled assignment left, except large files with a checkpoint: their items come again. All its jobs
/// have ended.
async fn clean(work: Arc<Work>) {
    let removing = move || {
        for index in leftovers(&work.assignment, |id| work.checkpoints.has(id)) {
            work::remove_temporary(&work.place, &work.prefix, work.item(index));
        }
    };
    // Only a panic or the end of the process can interrupt it. Both leave the rest to `clean_temporaries`.
    let _ = tokio::task::spawn_blocking(removing).await;
}

/// Sends outcomes and counts them.
struct Reporter {
    outcomes: mpsc::Sender<Vec<ItemOutcome>>,
    meters: Arc<Meters>,
    cancel: CancellationToken,
}

impl Reporter {
    async fn send(&self, outcomes: Vec<ItemOutcome>) -> Result<(), Cancelled> {
        if self.cancel.is_cancelled() {
            return Err(Cancelled);
        }
        if outcomes.is_empty() {
            return Ok(());
        }
        for outcome in &outcomes {
            match &outcome.result {
                ItemResult::Failed(failure) => self.meters.add_failure(failure),
                ItemResult::Stored { .. } | ItemResult::Skipped => self.meters.add_success(),
            }
        }
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Cancelled),
            sent = self.outcomes.send(outcomes) => sent.map_err(|_| Cancelled),
        }
    }
}

/// The failure of every item if the destination path cannot be used.
fn base_failure(error: &PathError) -> Failure {
    match error {
        PathError::Malformed { .. }
        | PathError::OutsideRoots { .. }
        | PathError::ReadOnly { .. }
        | PathError::Own { .. }
        | PathError::IsRoot { .. } => permanent(error.to_string()),
        PathError::RootAway { .. } => Failure {
            cause: FailureCause::DestinationError,
            fault: Fault::Destination,
            message: error.to_string(),
        },
        PathError::System { path, action, error: system } => {
            let errno = Errno::from_io_error(system).unwrap_or(Errno::ACCESS);
            let failure = at_destination(errno, action, path);
            // A root that is gone or broken is the Star's fault. A path that one job may not use is that job's.
            let is_of_path = matches!(
                errno,
                Errno::ACCESS
                    | Errno::PERM
                    | Errno::NOTDIR
                    | Errno::EXIST
                    | Errno::LOOP
                    | Errno::NAMETOOLONG
                    | Errno::ISDIR
            );
            let fault = if is_of_path { failure.fault } else { Fault::Destination };
            Failure { fault, message: error.to_string(), ..failure }
        }
    }
}
