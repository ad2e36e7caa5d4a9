//! Serves one pull: takes fetches, and answers them on blocking threads, a limited number at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::limits::{
    FETCHES_PENDING_BYTES_MAX, FETCHES_PENDING_MAX, FETCHES_PER_READ_JOB_MAX, FRAMES_PER_SMALL_FILE_MAX,
    IDLE_PULL_TIMEOUT, READ_JOBS_PER_PULL_MAX, SMALL_FILE_BYTES_MAX,
};
use crate::meters::Meters;
use crate::source::buffers::Buffers;
use crate::source::origin::Origin;
use crate::source::packer::{Gone, Packer};
use crate::source::read::answer;
use crate::source::slots::PullSlot;
use crate::transfer::{Fetch, Parcel, Range};

/// How a pull ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All fetches were answered, and the destination has ended the requests.
    Complete,
    /// The destination is gone or accepts no more data.
    Gone,
    /// The destination sent no request for too long.
    Idle,
    /// The destination has more unanswered fetches than are allowed.
    Overrun,
    /// This Star stops.
    Stopping,
}

/// What serving needs besides the fetches.
pub(crate) struct Serving {
    pub(crate) origin: Arc<Origin>,
    pub(crate) meters: Arc<Meters>,
    /// Limits the reading jobs of all pulls together.
    pub(crate) jobs: Arc<Semaphore>,
    /// The buffers to read into.
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) shutdown: CancellationToken,
    /// The place of the pull.
    pub(crate) slot: PullSlot,
}

/// Answers `fetches` through `out` until they end and all are answered.
pub(crate) async fn serve(
    serving: Serving,
    fetches: impl Stream<Item = Vec<Fetch>> + Send,
    out: mpsc::Sender<Parcel>,
) -> End {
    let mut fetches = std::pin::pin!(fetches);
    let mut pending = Pending::default();
    let mut is_open = true;
    let mut reading: JoinSet<Result<(), Gone>> = JoinSet::new();
    loop {
        while reading.len() < READ_JOBS_PER_PULL_MAX && !pending.fetches.is_empty() {
            start_job(&serving, pending.take_job(), &out, &mut reading);
        }
        if !is_open && reading.is_empty() {
            return End::Complete;
        }
        serving.slot.set_idle(reading.is_empty());
        let idle_timeout = if reading.is_empty() { IDLE_PULL_TIMEOUT } else { std::time::Duration::MAX };
        tokio::select! {
            () = serving.shutdown.cancelled() => return End::Stopping,
            () = out.closed() => return End::Gone,
            Some(ended) = reading.join_next() => match ended {
                Ok(Ok(())) => {}
                Ok(Err(Gone)) | Err(_) => return End::Gone,
            },
            more = tokio::time::timeout(idle_timeout, fetches.next()), if is_open => match more {
                Ok(Some(more)) => if !pending.add(more) { return End::Overrun },
                Ok(None) => is_open = false,
                Err(_) => return End::Idle,
            },
        }
    }
}

fn start_job(
    serving: &Serving,
    fetches: Vec<Fetch>,
    out: &mpsc::Sender<Parcel>,
    reading: &mut JoinSet<Result<(), Gone>>,
) {
    let (origin, meters, out) = (Arc::clone(&serving.origin), Arc::clone(&serving.meters), out.clone());
    let (jobs, buffers) = (Arc::clone(&serving.jobs), Arc::clone(&serving.buffers));
    reading.spawn(async move {
        // The semaphore is never closed.
        let Ok(permit) = jobs.acquire_owned().await else { return Err(Gone) };
        let runtime = Handle::current();
        let job = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut packer = Packer::new(out, runtime, meters, buffers);
            fetches.iter().try_for_each(|fetch| answer(&origin, fetch, &mut packer))?;
            packer.flush()
        });
        job.await.unwrap_or(Err(Gone))
    });
}

/// Fetches that wait for a job.
#[derive(Default)]
struct Pending {
    fetches: VecDeque<Fetch>,
    bytes: usize,
}

impl Pending {
    /// Adds fetches. Returns whether there was room.
    fn add(&mut self, more: Vec<Fetch>) -> bool {
        self.bytes += more.iter().map(weight).sum::<usize>();
        self.fetches.extend(more);
        self.fetches.len() <= FETCHES_PENDING_MAX && self.bytes <= FETCHES_PENDING_BYTES_MAX
    }

    /// The next fetches for one job: several whole files, lookups and small parts, or a single large part.
    fn take_job(&mut self) -> Vec<Fetch> {
        let mut job: Vec<Fetch> = Vec::new();
        while let Some(fetch) = self.fetches.pop_front() {
            let is_small = is_small(&fetch);
            if !is_small && !job.is_empty() {
                self.fetches.push_front(fetch);
                break;
            }
            self.bytes -= weight(&fetch);
            job.push(fetch);
            if !is_small || job.len() == FETCHES_PER_READ_JOB_MAX {
                break;
            }
        }
        job
    }
}

/// Whether a fetch is answered quickly. Whole files are requested at once only if they were small when they were
/// listed.
fn is_small(fetch: &Fetch) -> bool {
    if fetch.is_look_only || fetch.ranges.as_slice() == [Range::WHOLE] {
        return true;
    }
    let bytes = fetch.ranges.iter().map(|range| range.length).fold(0, u64::saturating_add);
    bytes <= SMALL_FILE_BYTES_MAX as u64 && fetch.ranges.len() <= FRAMES_PER_SMALL_FILE_MAX
}

fn weight(fetch: &Fetch) -> usize {
    size_of::<Fetch>() + fetch.path.len() + fetch.ranges.len() * size_of::<Range>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(id: u64, ranges: Vec<Range>) -> Fetch {
        Fetch {
            id,
            path: b"a".to_vec(),
            ranges,
            is_hashes_only: false,
            is_cut_by_content: false,
            is_look_only: false,
            accepts_changes: false,
            as_of: None,
            is_one_file_system: false,
        }
    }

    #[test]
    fn what_is_small_is_answered_in_groups_and_large_parts_one_by_one() {
        let (small, large) = (Range { offset: 9, length: 5 }, Range { offset: 0, length: 32 << 20 });
        let mut pending = Pending::default();
        assert!(pending.add(vec![
            fetch(1, vec![Range::WHOLE]),
            fetch(2, vec![small, small]),
            fetch(3, vec![large]),
            fetch(4, vec![small; FRAMES_PER_SMALL_FILE_MAX + 1]),
            fetch(5, vec![Range::WHOLE]),
        ]));
        let mut jobs = Vec::new();
        while !pending.fetches.is_empty() {
            jobs.push(pending.take_job().iter().map(|fetch| fetch.id).collect::<Vec<_>>());
        }
        assert_eq!(jobs, [vec![1, 2], vec![3], vec![4], vec![5]]);
        assert_eq!(pending.bytes, 0);
    }

    #[test]
    fn more_fetches_than_allowed_are_an_overrun() {
        let mut pending = Pending::default();
        assert!(pending.add((0..FETCHES_PENDING_MAX as u64).map(|id| fetch(id, vec![])).collect()));
        assert!(!pending.add(vec![fetch(0, vec![])]));
    }
}
