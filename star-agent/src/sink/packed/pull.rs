//! One pull into a vault. The loop owns all state. Blocking work is done by jobs, which get what they need and return
//! their results, as in the pull of plain files.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use orbit_shared::entry::{display_path, join_path};
use orbit_shared::session::Failure;
use tokio::task::{JoinError, JoinSet};

use super::compare::{Compared, Named, compare};
use super::file::File;
use super::write::{Piece, Put, put_all};
use super::{PackedSink, Ready, Work};
use crate::failures::{changed_while_read, source_unavailable};
use crate::grpc::transfer_client::PullError;
use crate::limits::{SEGMENTS_IN_FLIGHT_MAX, WRITE_JOBS_MAX};
use crate::sink::Cancelled;
use crate::sink::delivery::{Delivery, PullOrder};
use crate::sink::fetching::Fetching;
use crate::sink::line::{Line, broken_by, unopened};
use crate::sink::pull_core::{Event, Failed};
use crate::transfer::{Fetch, Frame, FrameEnd, Parcel, Range};

/// Pulls items, and tells `delivery` of each whose content is stored or that has failed.
pub(super) async fn run(
    sink: &PackedSink,
    work: &Arc<Work>,
    pull: PullOrder,
    delivery: &mut Delivery<'_, Arc<Work>>,
) -> Result<(), Cancelled> {
    let mut puller = Puller::new(work, pull, delivery);
    let result = puller.run(sink).await;
    // Jobs outlive a dropped future. The next attempt at these items must not meet them.
    puller.line.close();
    while puller.jobs.join_next().await.is_some() {}
    result
}

/// The result of a job.
enum Done {
    Put(Vec<Put>),
    Compared(Result<Vec<Compared>, (Failure, Vec<usize>)>),
}

struct Puller<'run, 'report> {
    work: Arc<Work>,
    delivery: &'run mut Delivery<'report, Arc<Work>>,
    line: Line,
    /// Why there is no pull any more.
    broken: Option<Failure>,
    /// Whether the vault may have wanted chunks, so that hashes are requested before content.
    asks_first: bool,
    files: Vec<File>,
    /// Number of files without a result.
    unsettled: usize,
    /// Large files with segments that were not requested.
    large: VecDeque<usize>,
    segments: usize,
    jobs: JoinSet<Done>,
    writers: usize,
}

impl<'run, 'report> Puller<'run, 'report> {
    fn new(work: &Arc<Work>, pull: PullOrder, delivery: &'run mut Delivery<'report, Arc<Work>>) -> Self {
        let size = |item: usize| work.assignment.items[item].entry.size();
        let file = |item| File::new(item, size(item), pull.accepts_changes);
        let files: Vec<File> = pull.items.into_iter().map(file).collect();
        Self {
            work: Arc::clone(work),
            delivery,
            line: Line::default(),
            broken: None,
            asks_first: !work.store.snapshots().is_empty(),
            unsettled: files.len(),
            files,
            large: VecDeque::new(),
            segments: 0,
            jobs: JoinSet::new(),
            writers: 0,
        }
    }

    async fn run(&mut self, sink: &PackedSink) -> Result<(), Cancelled> {
        let cancel = self.work.cancel.clone();
        let opening = self.line.open(&sink.connections, &sink.star_id, &self.work.assignment);
        if let Err(error) = self.delivery.beside(&cancel, opening).await? {
            self.break_off(&unopened(&self.work.assignment, &error));
        }
        self.ask_for_all();
        if self.pull_all().await? {
            sink.connections.forget(&self.work.assignment.source_address);
        }
        Ok(())
    }

    /// Small files are all requested at once. Segments of the others wait for their turn.
    fn ask_for_all(&mut self) {
        for index in 0..self.files.len() {
            if self.files[index].is_settled {
                continue;
            }
            match self.files[index].is_small {
                true => self.ask_for_next(index),
                false => self.large.push_back(index),
            }
        }
    }

    fn ask_for_next(&mut self, index: usize) {
        let range = self.files[index].next_range();
        self.ask_for(index, vec![range], self.asks_first);
    }

    fn ask_for(&mut self, index: usize, ranges: Vec<Range>, is_hashes_only: bool) {
        let file = &mut self.files[index];
        file.busy += 1;
        let fetch = Fetch {
            path: self.work.assignment.items[file.item].entry.path.clone(),
            ranges,
            is_hashes_only,
            is_cut_by_content: true,
            accepts_changes: file.accepts_changes,
            as_of: file.version.filter(|_| file.accepts_changes),
            ..Fetch::default()
        };
        self.line.ask_for(index, fetch);
    }

    /// Returns whether the connection broke.
    async fn pull_all(&mut self) -> Result<bool, Cancelled> {
        let cancel = self.work.cancel.clone();
        let mut is_broken = false;
        while self.unsettled > 0 {
            self.begin_parts();
            let asked = self.delivery.beside(&cancel, self.line.send()).await?;
            if let Err(error) = asked {
                is_broken = true;
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
                        is_broken = true;
                        self.break_off(&broken_by(&self.work.assignment, &error));
                    }
                }
            }
        }
        self.line.finish();
        Ok(is_broken)
    }

    /// Begins the segments that can begin.
    fn begin_parts(&mut self) {
        while self.segments < SEGMENTS_IN_FLIGHT_MAX {
            let Some(index) = self.large.pop_front() else { break };
            if !self.files[index].has_more() {
                continue;
            }
            self.segments += 1;
            self.ask_for_next(index);
            self.large.push_front(index);
        }
    }

    /// Handles a message of the source. The whole message is checked before any of it is used.
    fn receive(&mut self, parcel: Parcel) -> Result<(), PullError> {
        let lengths = self.line.lengths(&parcel)?;
        let mut payload = parcel.payload;
        let received = payload.len() as u64;
        let (mut pieces, mut named) = (Vec::new(), Vec::new());
        for (frame, length) in parcel.frames.into_iter().zip(lengths) {
            let content = payload.split_to(length as usize);
            self.take_frame(frame, content, &mut pieces, &mut named);
        }
        self.work.meters.add_bytes(received);
        self.work.progress.fetch_add(received, Ordering::Relaxed);
        if !pieces.is_empty() {
            self.writers += 1;
            let work = Arc::clone(&self.work);
            self.jobs.spawn_blocking(move || Done::Put(put_all(&work, pieces)));
        }
        if !named.is_empty() {
            let work = Arc::clone(&self.work);
            self.jobs.spawn_blocking(move || Done::Compared(compare(&work, named)));
        }
        Ok(())
    }

    fn take_frame(
        &mut self,
        frame: Frame,
        content: crate::content::Content,
        pieces: &mut Vec<Piece>,
        named: &mut Vec<Named>,
    ) {
        let Some(fetching) = self.line.fetch_mut(frame.fetch) else { return };
        let index = fetching.file;
        let file = &mut self.files[index];
        let is_end = match frame.end {
            FrameEnd::Failed(ref failure) => {
                file.fail(failure.clone());
                true
            }
            FrameEnd::Complete | FrameEnd::Changed => true,
            FrameEnd::More => false,
        };
        file.is_changed |= frame.end == FrameEnd::Changed;
        if file.failure.is_none()
            && let Err(failure) = check(fetching, file, &frame, &self.work)
        {
            file.fail(failure);
        }
        if file.failure.is_none() && !content.is_empty() {
            file.busy += 1;
            file.bytes_transferred += content.len() as u64;
            file.counts.transferred += frame.chunks.len() as u64;
            let (offset, chunks, item) = (frame.offset, frame.chunks, file.item);
            pieces.push(Piece { file: index, item, offset, chunks, content });
        }
        if is_end {
            self.end_fetch(frame.fetch, named);
        }
    }

    /// Ends a fetch. Hashes that arrived are then compared with the vault.
    fn end_fetch(&mut self, fetch: u64, named: &mut Vec<Named>) {
        let Some(fetching) = self.line.end_fetch(fetch) else { return };
        let file = &mut self.files[fetching.file];
        if fetching.is_hashes_only && file.failure.is_none() && !fetching.named.is_empty() {
            // It stays busy, and its segment open, until its missing part has arrived.
            return named.push(Named { file: fetching.file, chunks: fetching.named });
        }
        self.end_part(fetching.file);
    }

    /// A part of a file has arrived, or will not arrive.
    fn end_part(&mut self, index: usize) {
        let file = &mut self.files[index];
        file.busy -= 1;
        if !file.is_small && self.line.is_open() {
            self.segments -= 1;
        }
        self.settle(index);
    }

    fn end_job(&mut self, done: Result<Done, JoinError>) -> Result<(), Cancelled> {
        // A panic in a job is a bug: the assignment is given up instead of reporting half of it.
        let done = done.map_err(|error| {
            tracing::error!(assignment = %self.work.assignment.id, %error, "a job of an assignment panicked");
            Cancelled
        })?;
        match done {
            Done::Put(puts) => {
                self.writers -= 1;
                for put in puts {
                    let file = &mut self.files[put.file];
                    file.busy -= 1;
                    file.counts.packed += put.packed;
                    file.counts.packed_bytes += put.packed_bytes;
                    let mut offset = put.offset;
                    for chunk in &put.chunks {
                        file.has(offset, chunk);
                        offset += u64::from(chunk.length);
                    }
                    if let Err(failure) = put.result {
                        file.fail(failure);
                    }
                    self.settle(put.file);
                }
            }
            Done::Compared(Ok(all)) => all.into_iter().for_each(|compared| self.end_comparison(compared)),
            Done::Compared(Err((failure, files))) => {
                for index in files {
                    self.files[index].fail(failure.clone());
                    self.end_part(index);
                }
            }
        }
        Ok(())
    }

    fn end_comparison(&mut self, compared: Compared) {
        let file = &mut self.files[compared.file];
        compared.known.iter().for_each(|(offset, chunk)| file.has(*offset, chunk));
        match (&self.broken, compared.missing.is_empty()) {
            (Some(broken), false) => file.fail(broken.clone()),
            (None, false) if file.failure.is_none() => {
                file.busy -= 1;
                return self.ask_for(compared.file, compared.missing, false);
            }
            (None, false) | (_, true) => {}
        }
        self.end_part(compared.file);
    }

    /// Ends a file that waits for nothing any more.
    fn settle(&mut self, index: usize) {
        let file = &mut self.files[index];
        if !file.is_done() {
            // It turned out to be larger than when it was scanned.
            if file.busy == 0 && file.has_more() && !file.is_small && !self.large.contains(&index) {
                self.large.push_back(index);
            }
            return;
        }
        file.is_settled = true;
        self.unsettled -= 1;
        let item = file.item;
        let entry = &self.work.assignment.items[item].entry;
        let whole = match file.failure.take() {
            Some(failure) => Err(failure),
            None => file.tree_entry(entry).ok_or_else(|| {
                let path = display_path(&join_path(&self.work.assignment.source_path, &entry.path));
                source_unavailable(format!("of {path} not all has come that was asked for"))
            }),
        };
        let (bytes_transferred, chunks, is_changed) = (file.bytes_transferred, file.counts, file.is_changed);
        self.delivery.step(match whole {
            Ok(entry) => Event::ItemWritten(Ready { item, entry, bytes_transferred, chunks, is_changed }),
            Err(failure) => Event::ItemFailed(Failed { item, failure }),
        });
    }

    /// The source sends nothing more: what is not complete fails.
    fn break_off(&mut self, failure: &Failure) {
        self.broken = Some(failure.clone());
        self.delivery.step(Event::PullBroken);
        self.large.clear();
        for index in self.line.close() {
            let file = &mut self.files[index];
            file.busy -= 1;
            file.fail(failure.clone());
        }
        for index in 0..self.files.len() {
            let file = &mut self.files[index];
            // What has arrived completely is still stored.
            if !file.is_settled && (file.version.is_none() || file.has_more()) {
                file.fail(failure.clone());
            }
            if !file.is_settled {
                self.settle(index);
            }
        }
    }

    /// Files that wait for nothing would wait for ever. That is a bug, which must not hold an assignment's lease.
    fn end_stranded(&mut self) {
        tracing::error!(assignment = %self.work.assignment.id, files = self.unsettled, "files wait for nothing");
        for index in 0..self.files.len() {
            let file = &mut self.files[index];
            if !file.is_settled {
                file.busy = 0;
                file.fail(source_unavailable("the pull lost track of the file".to_owned()));
                self.settle(index);
            }
        }
    }
}

/// Checks a frame against its fetch and its file.
fn check(fetching: &mut Fetching, file: &mut File, frame: &Frame, work: &Work) -> Result<(), Failure> {
    let path = join_path(&work.assignment.source_path, &work.assignment.items[file.item].entry.path);
    if !frame.version.is_none_or(|version| file.is_of_version(version)) {
        return Err(changed_while_read(&path));
    }
    let broken = |text: String| {
        let star = &work.assignment.source_star;
        source_unavailable(format!("Star {star} sent {} wrongly: {text}", display_path(&path)))
    };
    let version = file.version.ok_or_else(|| broken("content came before its version".to_owned()))?;
    fetching.accept(frame, version.size).map_err(broken)?;
    match frame.end {
        FrameEnd::Complete if !fetching.is_complete(version.size) => {
            Err(broken("it ended too early".to_owned()))
        }
        FrameEnd::Changed => {
            if let Some(end) = fetching.reached(version.size) {
                file.cut_at(end);
            }
            Ok(())
        }
        FrameEnd::Complete | FrameEnd::More | FrameEnd::Failed(_) => Ok(()),
    }
}
