//! Making the changes of a turn durable, off the thread that steps the core.

use std::future::Future;
use std::sync::Arc;

use super::DriverError;
use crate::core::{Change, Noted};
use crate::meters::Meters;
use crate::provenance_log::ProvenanceLog;
use crate::store::{Store, StoreError};
use crate::turns::Commit;

/// The log first, then the store with the number of the last event: whatever the store has committed is in the log, and
/// what the log has beyond that never happened. Only the order of the two syncs matters, so the changes are written down
/// while the log is written.
pub(super) async fn make_durable(
    store: Arc<dyn Store>,
    provenance: Arc<ProvenanceLog>,
    commit: Commit,
) -> Result<(), DriverError> {
    let Commit { changes, notes: events } = commit;
    if events.is_empty() {
        return off_thread(move || store.commit(&changes)).await;
    }
    let log = provenance.clone();
    let logging = off_thread(move || log.append(events.into_iter().map(Noted::into_event)));
    let writing = off_thread(move || store.begin(&changes));
    let (last_event, transaction) = tokio::try_join!(logging, writing)?;
    off_thread(move || {
        transaction.commit(&[Change::PutLastEvent(last_event)])?;
        provenance.publish();
        Ok::<_, StoreError>(())
    })
    .await
}

/// Measures a commit.
pub(super) async fn timed<T>(meters: Arc<Meters>, commit: impl Future<Output = T>) -> T {
    let began = tokio::time::Instant::now();
    let outcome = commit.await;
    meters.commit.observe(began.elapsed().as_secs_f64());
    outcome
}

/// Runs something that waits for a disk where it holds up nothing else.
pub(super) async fn off_thread<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, DriverError>
where
    DriverError: From<E>,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down; nobody is left to be told anything.
            Err(_) => std::future::pending().await,
        },
    }
}
