//! One pull: requests what is missing from the source, passes what arrives to writers, and hands over what is complete.
//!
//! The loop owns all state. Blocking work is done by jobs, which get what they need and return their results. The loop
//! never waits for a job while it could read, except when the maximum number of writers runs. That slows the source
//! down.

mod arrivals;

use std::sync::Arc;

use orbit_shared::session::{Failure, FailureCause, Fault};
use rustix::io::Errno;
use tokio::task::JoinSet;

use crate::failures::source_unavailable;
use crate::limits::WRITE_JOBS_MAX;
use crate::sink::basis::{Assembled, Basis};
use crate::sink::delivery::Delivery;
use crate::sink::files::{BasisState, FileState, Queues};
use crate::sink::line::{Line, broken_by, unopened};
use crate::sink::plan::Wanted;
use crate::sink::pull_core::Event;
use crate::sink::work::{Work, Written};
use crate::sink::write::{PieceDone, remove};
use crate::sink::{Cancelled, Sink};
use crate::transfer::{Fetch, Range};

/// Pulls files, and tells `delivery` of each that is written or has failed. Returns those that changed while they were read,
/// as they are to be pulled once more.
pub(super) async fn run(
    sink: &Sink,
    work: &Arc<Work>,
    wanted: Vec<Wanted>,
    accepts_changes: bool,
    delivery: &mut Delivery<'_, Arc<Work>>,
) -> Result<Vec<Wanted>, Cancelled> {
    let mut puller = Puller::new(work, wanted, accepts_changes, delivery);
    let result = puller.run(sink).await;
    // The jobs of a cancelled assignment must have ended before its temporaries are removed.
    puller.line.close();
    puller.end_jobs(result.is_err()).await;
    result.map(|()| puller.changed)
}

/// The result of a job.
enum Done {
    Wrote(Vec<PieceDone>),
    OpenedBasis { file: usize, basis: Option<Basis> },
    Assembled { file: usize, result: Result<Assembled, Failure> },
    Retouched { file: usize, result: Result<Written, Errno> },
    Finished { file: usize, result: Result<Written, Failure> },
    Removed { file: usize },
}

/// A pull in progress.
struct Puller<'run, 'report> {
    work: Arc<Work>,
    delivery: &'run mut Delivery<'report, Arc<Work>>,
    line: Line,
    /// Why there is no pull any more.
    broken: Option<Failure>,
    /// Files that changed while they were read.
    changed: Vec<Wanted>,
    files: Vec<FileState>,
    /// Number of files without a result.
    unsettled: usize,
    queues: Queues,
    jobs: JoinSet<Done>,
    writers: usize,
}

impl<'run, 'report> Puller<'run, 'report> {
    fn new(
        work: &Arc<Work>,
        wanted: Vec<Wanted>,
        accepts_changes: bool,
        delivery: &'run mut Delivery<'report, Arc<Work>>,
    ) -> Self {
        let state = |wanted: Wanted| {
            let scanned_size = work.item(wanted.item).entry.size();
            FileState::new(wanted, scanned_size, accepts_changes)
        };
        let files: Vec<FileState> = wanted.into_iter().map(state).collect();
        Self {
            work: Arc::clone(work),
            delivery,
            line: Line::default(),
            broken: None,
            changed: Vec::new(),
            unsettled: files.len(),
            files,
            queues: Queues::default(),
            jobs: JoinSet::new(),
            writers: 0,
        }
    }

    async fn run(&mut self, sink: &Sink) -> Result<(), Cancelled> {
        let cancel = self.work.cancel.clone();
        let opening = self.line.open(&sink.connections, &sink.star_id, &self.work.assignment);
        if let Err(error) = self.delivery.beside(&cancel, opening).await? {
            self.break_off(&unopened(&self.work.assignment, &error));
        }
        if self.line.is_open() {
            self.ask_for_all();
        }
        if self.pull_all().await? == Connection::Broken {
            sink.connections.forget(&self.work.assignment.source_address);
        }
        Ok(())
    }

    /// Small files are all requested at once. The others wait for their turn.
    fn ask_for_all(&mut self) {
        for file in 0..self.files.len() {
            match self.queues.of(self.files[file].lane) {
                Some(queue) => queue.waiting.push_back(file),
                None => self.ask_for_next(file),
            }
        }
    }

    async fn pull_all(&mut self) -> Result<Connection, Cancelled> {
        let cancel = self.work.cancel.clone();
        let mut connection = Connection::Whole;
        while self.unsettled > 0 {
            self.begin_parts();
            let asked = self.delivery.beside(&cancel, self.line.send()).await?;
            if let Err(error) = asked {
                connection = Connection::Broken;
                self.break_off(&broken_by(&self.work.assignment, &error));
            }
            self.delivery.execute().await?;
            if self.unsettled == 0 {
                break;
            }
            let can_read = !self.line.is_answered() && self.writers < WRITE_JOBS_MAX;
            if !can_read && self.jobs.is_empty() && !self.delivery.is_busy() {
                self.end_stranded();
                continue;
            }
            tokio::select! {
                () = cancel.cancelled() => return Err(Cancelled),
                Some(done) = self.jobs.join_next() => self.end_job(done)?,
                answered = self.delivery.answer() => answered?,
                parcel = self.line.next_parcel(), if can_read => {
                    if let Err(error) = parcel.and_then(|parcel| self.receive(parcel)) {
                        connection = Connection::Broken;
                        self.break_off(&broken_by(&self.work.assignment, &error));
                    }
                }
            }
        }
        self.line.finish();
        Ok(connection)
    }

    /// Begins the parts that can begin.
    fn begin_parts(&mut self) {
        while let Some(file) = self.queues.next() {
            self.begin_part(file);
        }
    }

    /// Begins the next part of a file whose turn it is: opens its basis, or requests a segment.
    fn begin_part(&mut self, index: usize) {
        let file = &mut self.files[index];
        if !file.has_more() {
            return;
        }
        let lane = file.lane;
        match file.basis {
            BasisState::Wanted => {
                file.basis = BasisState::Opening;
                self.open_basis(index);
            }
            BasisState::Opening | BasisState::None | BasisState::Open(_) => self.ask_for_next(index),
        }
        let has_more = self.files[index].has_more();
        let is_opening = matches!(self.files[index].basis, BasisState::Opening);
        if let Some(queue) = self.queues.of(lane) {
            queue.in_flight += 1;
            if has_more && !is_opening {
                queue.waiting.push_front(index);
            }
        }
    }

    fn ask_for_next(&mut self, index: usize) {
        let ranges = self.files[index].next_ranges();
        let is_hashes_only = matches!(self.files[index].basis, BasisState::Open(_));
        self.ask_for(index, ranges, is_hashes_only);
    }

    fn ask_for(&mut self, index: usize, ranges: Vec<Range>, is_hashes_only: bool) {
        let file = &mut self.files[index];
        file.busy += 1;
        let fetch = Fetch {
            path: self.work.item(file.item).entry.path.clone(),
            ranges,
            is_hashes_only,
            accepts_changes: file.accepts_changes,
            as_of: file.version.filter(|_| file.accepts_changes),
            ..Fetch::default()
        };
        self.line.ask_for(index, fetch);
    }

    fn open_basis(&mut self, index: usize) {
        self.files[index].busy += 1;
        let (work, item) = (Arc::clone(&self.work), self.files[index].item);
        self.spawn_bounded(move || Done::OpenedBasis { file: index, basis: Basis::open(&work, item).ok() });
    }

    /// Runs a job that reads an older version. The number of such jobs is limited, over all assignments.
    fn spawn_bounded(&mut self, job: impl FnOnce() -> Done + Send + 'static) {
        let bases = Arc::clone(&self.work.bases);
        self.jobs.spawn(async move {
            // The semaphore is never closed, and a blocking job ends unless it panics. Either is passed on as a panic.
            let permit = bases.acquire_owned().await;
            let run = move || {
                let _permit = permit;
                job()
            };
            tokio::task::spawn_blocking(run).await.expect("a job on a basis does not panic")
        });
    }

    /// Begins the end of a file that waits for nothing any more.
    fn settle(&mut self, index: usize) {
        let file = &mut self.files[index];
        if !file.is_done() {
            // It turned out to be larger than when it was scanned.
            if file.busy == 0
                && file.has_more()
                && let Some(queue) = self.queues.of(file.lane)
                && !queue.waiting.contains(&index)
            {
                queue.waiting.push_back(index);
            }
            return;
        }
        if file.failure.is_some() {
            return self.remove_target(index);
        }
        if let Some((basis, version)) = file.unchanged() {
            file.busy += 1;
            let (work, item) = (Arc::clone(&self.work), file.item);
            self.jobs.spawn_blocking(move || Done::Retouched {
                file: index,
                result: basis.retouch(&work, item, &version),
            });
            return;
        }
        if !file.same.is_empty() {
            // It was truncated after it was found to be the same.
            return self.copy_same(index);
        }
        file.is_ending = true;
        let Some(version) = file.final_version() else {
            file.fail(source_unavailable("the source ended a file before it began".to_owned()));
            return self.remove_target(index);
        };
        let (work, item) = (Arc::clone(&self.work), file.item);
        let target = std::mem::take(&mut file.target);
        file.basis = BasisState::None;
        let is_cut = file.cut.is_some();
        self.jobs.spawn_blocking(move || {
            let cut = if is_cut { target.cut(&work, item, version.size) } else { Ok(()) };
            let result = cut.and_then(|()| target.finish(&work, item, &version));
            Done::Finished { file: index, result }
        });
    }

    fn remove_target(&mut self, index: usize) {
        let file = &mut self.files[index];
        file.is_ending = true;
        file.target = Arc::default();
        file.basis = BasisState::None;
        let (work, item) = (Arc::clone(&self.work), file.item);
        // What a lost source has sent is valid, and the next attempt continues from there.
        let is_kept = file.failure.as_ref().is_some_and(|failure| {
            failure.cause == FailureCause::Transient && failure.fault == Fault::Source
        });
        self.jobs.spawn_blocking(move || {
            if !(is_kept && work.checkpoints.has(work.item_id(item))) {
                remove(&work, item);
            }
            Done::Removed { file: index }
        });
    }

    /// A file is written and waits to be published.
    fn complete(&mut self, index: usize, mut written: Written) {
        let file = &self.files[index];
        written.bytes_transferred = file.bytes_transferred;
        written.bytes_deduplicated += file.bytes_deduplicated;
        written.chunks = file.chunks;
        // Those of a file that was left in place.
        written.chunks.deduplicated += file.same.iter().map(|chunks| chunks.len() as u64).sum::<u64>();
        written.is_changed = file.is_changed;
        self.unsettled -= 1;
        self.delivery.step(Event::ItemWritten(written));
    }

    /// The source sends nothing more: what is not complete fails.
    fn break_off(&mut self, failure: &Failure) {
        self.broken = Some(failure.clone());
        self.delivery.step(Event::PullBroken);
        self.queues.clear();
        for index in self.line.close() {
            let file = &mut self.files[index];
            file.busy -= 1;
            file.fail(failure.clone());
        }
        for index in 0..self.files.len() {
            let file = &mut self.files[index];
            // What has arrived completely is still written and published.
            if file.version.is_none() || file.has_more() {
                file.fail(failure.clone());
            }
            self.settle(index);
        }
    }

    /// Waits until all jobs have ended. A round that has begun goes on meanwhile, because a publication keeps other
    /// assignments waiting; a cancelled assignment begins no new one.
    async fn end_jobs(&mut self, is_cancelled: bool) {
        if is_cancelled {
            self.delivery.step(Event::Cancelled);
        }
        while !self.jobs.is_empty() {
            tokio::select! {
                _ = self.jobs.join_next() => {}
                _ = self.delivery.answer() => {}
            }
        }
    }

    /// Files that wait for nothing would wait for ever. That is a bug, which must not hold an assignment's lease.
    fn end_stranded(&mut self) {
        tracing::error!(assignment = %self.work.assignment.id, files = self.unsettled, "files wait for nothing");
        for index in 0..self.files.len() {
            if !self.files[index].is_ending {
                self.files[index].fail(source_unavailable("the pull lost track of the file".to_owned()));
                self.remove_target(index);
            }
        }
    }
}

/// Whether the connection can be used for the next pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    Whole,
    Broken,
}
