//! Lists a tree for the coordinator: every entry with its kind, mode, time and priority, in a fixed order.
//!
//! The walk visits a directory before its content, and the names of a directory in byte order. The order depends on the
//! tree only, so a scan can continue after any path of an earlier one. Directories are listed ahead of the walk on
//! blocking threads, a limited number at a time, without changing the order of the output.
//!
//! The walk follows no symbolic link, except on the way to the base path, and skips the temporary names under which a
//! destination writes. It crosses file systems, unless the job stays in one: then it emits a directory on another
//! device than the base, does not enter it, and reports that.

mod batch;
mod classify;
mod listing;
mod rules;
mod snapshot;
mod walk;

use std::sync::Arc;

use orbit_shared::session::{Failure, FailureCause, Fault, ScanBatch, ScanRequest};
use orbit_shared::words::SnapshotId;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::failures::permanent;
use crate::packed::PackedStore;
use crate::roots::{PathError, Place, Roots};
use crate::scan::batch::{Batches, Interrupted};
use crate::scan::snapshot::SnapshotWalk;
use crate::scan::walk::Walk;
pub use classify::Classifier;
use orbit_shared::filter::Filter;
pub use rules::RulesError;

/// Runs one scan to its end and sends its batches; the last has `is_last` or a failure.
///
/// Every batch uses up one of `credits`. The receiver of the batches gives them back one by one as the batches become
/// safe. When `cancel` fires or the receiver is gone, the scan ends without a further batch.
pub async fn run(
    request: ScanRequest,
    roots: Arc<Roots>,
    classifier: Classifier,
    out: mpsc::Sender<ScanBatch>,
    credits: Arc<Semaphore>,
    cancel: CancellationToken,
) {
    let mut batches = Batches::new(request.scan, out, credits);
    let scanning = async {
        let failure = match prepare(&request, roots).await {
            Ok((place, filter)) => {
                let filter = Arc::new(filter);
                batches.watch(&filter);
                let walk = Walk::new(Arc::new(place), filter, classifier, &mut batches);
                let walk = if request.is_one_file_system { walk.within_one_file_system() } else { walk };
                walk.run(request.resume_after.as_deref()).await?;
                None
            }
            Err(failure) => Some(failure),
        };
        batches.finish(failure).await
    };
    until_cancelled(request.scan, scanning, &cancel).await;
}

/// As [`run`], for the tree of a snapshot in this Star's vault.
pub async fn run_snapshot(
    request: ScanRequest,
    snapshot: SnapshotId,
    store: Option<Arc<PackedStore>>,
    classifier: Classifier,
    (out, credits): (mpsc::Sender<ScanBatch>, Arc<Semaphore>),
    cancel: CancellationToken,
) {
    let mut batches = Batches::new(request.scan, out, credits);
    let scanning = async {
        let failure = match SnapshotWalk::prepare(&request, snapshot, store, classifier).await {
            Ok(walk) => walk.run(request.resume_after.as_deref(), &mut batches).await?,
            Err(failure) => Some(failure),
        };
        batches.finish(failure).await
    };
    until_cancelled(request.scan, scanning, &cancel).await;
}

async fn until_cancelled(
    scan: u64,
    scanning: impl Future<Output = Result<(), Interrupted>>,
    cancel: &CancellationToken,
) {
    tokio::select! {
        () = cancel.cancelled() => tracing::debug!(scan, "scan cancelled"),
        ended = scanning => if let Err(Interrupted) = ended {
            tracing::debug!(scan, "the receiver of the scan's batches is gone");
        },
    }
}

/// Opens the base and compiles the globs. If either fails, the scan ends before it begins.
async fn prepare(request: &ScanRequest, roots: Arc<Roots>) -> Result<(Place, Filter), Failure> {
    let filter = filter_of(request)?;
    let (path, job) = (request.path.clone(), request.job);
    // The scan of a sweep has no number: its job began long ago.
    let is_begun = request.scan != 0 && request.resume_after.is_none();
    match tokio::task::spawn_blocking(move || roots.open_source(&path, job, is_begun)).await {
        Ok(opened) => opened.map(|place| (place, filter)).map_err(|error| base_failure(&error)),
        Err(error) => Err(Failure {
            cause: FailureCause::Transient,
            fault: Fault::Source,
            message: format!("opening the source path did not end: {error}"),
        }),
    }
}

/// The filter of a request.
fn filter_of(request: &ScanRequest) -> Result<Filter, Failure> {
    let filter = Filter::new(&request.include, &request.exclude, request.limits).map_err(permanent)?;
    Ok(filter.with_paths(&request.paths))
}

/// The failure of a scan whose base path cannot be listed.
fn base_failure(error: &PathError) -> Failure {
    let cause = match error {
        PathError::Malformed { .. }
        | PathError::OutsideRoots { .. }
        | PathError::ReadOnly { .. }
        | PathError::Own { .. }
        | PathError::IsRoot { .. } => FailureCause::Permanent,
        PathError::RootAway { absence, .. } if absence.is_missing() => FailureCause::SourceMissing,
        PathError::RootAway { .. } => FailureCause::Transient,
        PathError::System { error, .. } => match error.kind() {
            std::io::ErrorKind::NotFound => FailureCause::SourceMissing,
            std::io::ErrorKind::PermissionDenied => FailureCause::Permanent,
            _ => FailureCause::Transient,
        },
    };
    let fault = if cause == FailureCause::Transient { Fault::Source } else { Fault::Item };
    Failure { cause, fault, message: error.to_string() }
}
