//! Watches: a stream that shows something now and again whenever it has changed, at a bounded pace.
//!
//! Nothing is queued for a slow reader but what one round found: each round looks at the present. What shows a state
//! then shows the latest and leaves out what was overtaken; what shows a sequence goes on where the reader is, or ends
//! with a status that says what is gone. Who does not read at all is cut off by [`super::reader`].

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use orbit_shared::words::JobId;
use tokio_stream::Stream;
use tonic::Status;

use super::Faces;
use super::reader::{Watched, reader};
use super::status::stopping;
use crate::driver::EndOfJob;

/// A server stream.
pub(super) type Watch<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a round of a watch came to.
pub(super) enum Round<T> {
    /// Send these and look again after a change.
    Continue(Vec<T>),
    /// Send these and look again at once, since there is more.
    More(Vec<T>),
    /// Send these; there will be no more.
    End(Vec<T>),
}

/// When a watch looks again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Not before this time has passed, and then once a turn has ended,
    pub(super) least: Duration,
    /// or at the latest after this time more although no turn has ended,
    pub(super) refresh: Option<Duration>,
    /// but at once when this job ends.
    pub(super) until_end_of: Option<JobId>,
}

impl Pace {
    /// Whenever something has changed, but not sooner than this.
    pub(super) const fn at_most_every(least: Duration) -> Self {
        Self { least, refresh: None, until_end_of: None }
    }
}

/// Looks, sends, waits as long as `pace` says, and looks again, with a state that is handed from round to round. The
/// reader has everything up to `position`.
pub(super) fn watch<T, S, F, Fut>(faces: &Faces, pace: Pace, position: u64, state: S, look: F) -> Watch<T>
where
    T: Watched,
    S: Send + 'static,
    F: Fn(Faces, S) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(Round<T>, S), Status>> + Send,
{
    let (feeder, reader) = reader(position);
    let faces = faces.clone();
    tokio::spawn(async move {
        let stop = faces.stop.clone();
        let rounds = async {
            let mut turns = faces.inbox.turns();
            let mut end = pace.until_end_of.map(|job| faces.inbox.end_of(job));
            let mut state = state;
            loop {
                turns.mark_unchanged();
                let (round, next) = match look(faces.clone(), state).await {
                    Ok(done) => done,
                    Err(status) => return feeder.end(status),
                };
                state = next;
                let (items, is_end, is_more) = match round {
                    Round::Continue(items) => (items, false, false),
                    Round::More(items) => (items, false, true),
                    Round::End(items) => (items, true, false),
                };
                for item in items {
                    if feeder.put(item).await.is_err() {
                        return;
                    }
                }
                if is_end {
                    return;
                }
                if is_more {
                    continue;
                }
                let due = async {
                    tokio::time::sleep(pace.least).await;
                    tokio::select! {
                        changed = turns.changed() => changed.is_ok(),
                        () = wait(pace.refresh) => true,
                    }
                };
                let goes_on = tokio::select! {
                    () = feeder.gone() => false,
                    () = ended(end.as_mut()) => true,
                    is_running = due => is_running,
                };
                if !goes_on {
                    return;
                }
            }
        };
        tokio::select! {
            () = rounds => {}
            () = stop.cancelled() => feeder.end(stopping()),
        }
    });
    Box::pin(reader)
}

async fn ended(end: Option<&mut EndOfJob>) {
    match end {
        Some(end) => end.wait().await,
        None => std::future::pending().await,
    }
}

async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use orbit_proto::v1;
    use orbit_proto::v1::job_service_server::JobService as _;
    use orbit_telemetry::Spans;
    use tokio::time::Instant;
    use tokio_stream::StreamExt as _;
    use tokio_util::sync::CancellationToken;
    use tonic::Request;

    use super::*;
    use crate::core::{Change, CoreConfig};
    use crate::driver::{Driver, GrantKeys, test_job};
    use crate::keep::Backups;
    use crate::meters::Meters;
    use crate::provenance_log::ProvenanceLog;
    use crate::store::{EmbeddedStore, Store as _};

    /// The clock stands still but for timers that are waited for, so this says whether one was.
    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_job_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(EmbeddedStore::open(&dir.path().join("store")).unwrap());
        store.commit(&[Change::PutJob(Box::new(test_job(7, None)))]).unwrap();
        let provenance = Arc::new(ProvenanceLog::open(&dir.path().join("events"), u64::MAX).unwrap());
        let (meters, stop) = (Arc::new(Meters::new()), CancellationToken::new());
        let (driver, inbox) = Driver::recover(
            CoreConfig::default(),
            store.clone(),
            provenance.clone(),
            GrantKeys::open(dir.path()).unwrap(),
            meters.clone(),
            Spans::default(),
        )
        .unwrap();
        let backups = Arc::new(Backups { directory: dir.path().to_owned(), count_max: 0 });
        let faces = Faces { inbox, store, provenance, backups, meters, identities: None, stop: stop.clone() };
        let driver = tokio::spawn(driver.run(stop.clone()));

        let watched = faces.watch_job(Request::new(v1::WatchJobRequest { job_id: 7 })).await;
        let mut states = watched.unwrap().into_inner().map(|message| message.unwrap().job.unwrap().state());
        assert_eq!(states.next().await, Some(v1::JobState::Scanning));
        let began = Instant::now();
        let cancel = v1::CancelJobRequest { job_id: 7, ..Default::default() };
        faces.cancel_job(Request::new(cancel)).await.unwrap();
        assert_eq!(states.next().await, Some(v1::JobState::Cancelled));
        assert_eq!(began.elapsed(), Duration::ZERO, "a timer was waited for");
        assert_eq!(states.next().await, None);
        stop.cancel();
        driver.await.unwrap().unwrap();
    }
}
