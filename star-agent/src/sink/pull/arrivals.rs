//! Handles what arrives at a pull: messages of the source, and results of jobs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use orbit_shared::entry::{display_path, join_path};
use orbit_shared::session::Failure;
use rustix::io::Errno;
use tokio::task::JoinError;

use crate::content::Content;
use crate::failures::{changed_while_read, is_of_change, source_unavailable};
use crate::grpc::transfer_client::PullError;
use crate::limits::SEGMENT_BYTES;
use crate::sink::Cancelled;
use crate::sink::basis::{Assembled, Basis};
use crate::sink::fetching::Fetching;
use crate::sink::files::{BasisState, FileState, Lane};
use crate::sink::pull::{Done, Puller};
use crate::sink::pull_core::{Event, Failed};
use crate::sink::work::{Work, Written};
use crate::sink::write::{Piece, PieceDone, Target, write_pieces};
use crate::transfer::{Chunk, Frame, FrameEnd, Parcel};

impl Puller<'_, '_> {
    /// Handles a message of the source. The whole message is checked before any of it is used.
    pub(super) fn receive(&mut self, parcel: Parcel) -> Result<(), PullError> {
        let lengths = self.line.lengths(&parcel)?;
        let mut payload = parcel.payload;
        let received = payload.len() as u64;
        let mut pieces = Vec::new();
        for (frame, length) in parcel.frames.into_iter().zip(lengths) {
            let content = payload.split_to(length as usize);
            self.take_frame(frame, content, &mut pieces);
        }
        self.work.meters.add_bytes(received);
        self.work.progress.fetch_add(received, Ordering::Relaxed);
        if !pieces.is_empty() {
            self.writers += 1;
            let work = Arc::clone(&self.work);
            self.jobs.spawn_blocking(move || Done::Wrote(write_pieces(&work, pieces)));
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: Frame, content: Content, pieces: &mut Vec<Piece>) {
        let Some(fetching) = self.line.fetch_mut(frame.fetch) else { return };
        let index = fetching.file;
        let file = &mut self.files[index];
        if let FrameEnd::Failed(failure) = frame.end {
            file.fail(failure);
            return self.end_fetch(frame.fetch);
        }
        if let Err(failure) = check(fetching, file, &frame, &self.work) {
            file.fail(failure);
        }
        if let Some(version) = file.version.filter(|version| version.size > SEGMENT_BYTES) {
            file.target.track(version);
        }
        let is_end = matches!(frame.end, FrameEnd::Complete | FrameEnd::Changed);
        file.is_changed |= frame.end == FrameEnd::Changed;
        let whole = file.version.filter(|version| {
            file.lane == Lane::Whole && is_end && frame.offset == 0 && content.len() as u64 == version.size
        });
        if file.failure.is_none() && (!content.is_empty() || whole.is_some()) {
            file.busy += 1;
            file.bytes_transferred += content.len() as u64;
            file.chunks.transferred += frame.chunks.len() as u64;
            // A file that is completed at once keeps no handle open.
            let target = if whole.is_some() { Arc::new(Target::default()) } else { Arc::clone(&file.target) };
            let (offset, chunks) = (frame.offset, frame.chunks);
            pieces.push(Piece { file: index, item: file.item, target, offset, chunks, content, whole });
        }
        if is_end {
            self.end_fetch(frame.fetch);
        }
    }

    /// Ends a fetch. Hashes that arrived are then compared with the basis.
    fn end_fetch(&mut self, fetch: u64) {
        let Some(fetching) = self.line.end_fetch(fetch) else { return };
        let index = fetching.file;
        let file = &mut self.files[index];
        file.busy -= 1;
        let basis = match &file.basis {
            BasisState::Open(basis) if fetching.is_hashes_only && file.failure.is_none() => Arc::clone(basis),
            BasisState::Open(_) | BasisState::None | BasisState::Wanted | BasisState::Opening => {
                let lane = file.lane;
                self.queues.release(lane);
                return self.settle(index);
            }
        };
        self.assemble(index, basis, fetching.named);
    }

    fn assemble(&mut self, index: usize, basis: Arc<Basis>, chunks: Vec<(u64, Chunk)>) {
        let file = &mut self.files[index];
        file.busy += 1;
        let (work, item, target) = (Arc::clone(&self.work), file.item, Arc::clone(&file.target));
        let may_be_same = file.may_be_same(&basis);
        self.spawn_bounded(move || {
            let result = basis.assemble(&work, item, &target, chunks, may_be_same);
            Done::Assembled { file: index, result }
        });
    }

    /// Part of a file differs from its basis, so all of it is written: the unchanged segments are copied now.
    pub(super) fn copy_same(&mut self, index: usize) {
        let file = &mut self.files[index];
        file.differs = true;
        let (lane, segments) = (file.lane, std::mem::take(&mut file.same));
        let BasisState::Open(basis) = &file.basis else { return };
        let basis = Arc::clone(basis);
        for chunks in segments {
            if let Some(queue) = self.queues.of(lane)
                && self.line.is_open()
            {
                // An additional slot, which is given back like any other.
                queue.in_flight += 1;
            }
            self.assemble(index, Arc::clone(&basis), chunks);
        }
    }

    fn end_retouch(&mut self, index: usize, result: Result<Written, Errno>) {
        let file = &mut self.files[index];
        file.busy -= 1;
        match result {
            Ok(written) => {
                file.is_ending = true;
                self.complete(index, written);
            }
            // It cannot be left in place.
            Err(_) => self.copy_same(index),
        }
    }

    pub(super) fn end_job(&mut self, done: Result<Done, JoinError>) -> Result<(), Cancelled> {
        // A panic in a job is a bug: the assignment is given up instead of reporting half of it.
        let done = done.map_err(|error| {
            tracing::error!(assignment = %self.work.assignment.id, %error, "a job of an assignment panicked");
            Cancelled
        })?;
        match done {
            Done::Wrote(pieces) => {
                self.writers -= 1;
                pieces.into_iter().for_each(|piece| self.end_piece(piece));
            }
            Done::OpenedBasis { file: index, basis } => {
                let file = &mut self.files[index];
                file.busy -= 1;
                file.basis = basis.map_or(BasisState::None, |basis| BasisState::Open(Arc::new(basis)));
                if let Some(queue) = self.queues.of(file.lane)
                    && self.line.is_open()
                {
                    queue.release();
                    queue.waiting.push_front(index);
                }
                self.settle(index);
            }
            Done::Assembled { file, result } => self.end_assembly(file, result),
            Done::Retouched { file, result } => self.end_retouch(file, result),
            Done::Finished { file, result: Ok(written) } => self.complete(file, written),
            Done::Finished { file, result: Err(failure) } => {
                self.files[file].fail(failure);
                self.remove_target(file);
            }
            Done::Removed { file: index } => {
                let file = &mut self.files[index];
                self.unsettled -= 1;
                let failure = file.failure.take().expect("a file whose target is removed has failed");
                if is_of_change(&failure) {
                    self.changed.push(file.in_motion());
                }
                self.delivery.step(Event::ItemFailed(Failed { item: file.item, failure }));
            }
        }
        Ok(())
    }

    fn end_piece(&mut self, piece: PieceDone) {
        let file = &mut self.files[piece.file];
        file.busy -= 1;
        match piece.result {
            Ok(Some(written)) if file.failure.is_none() => {
                file.is_ending = true;
                self.complete(piece.file, written);
            }
            Ok(_) => self.settle(piece.file),
            Err(failure) => {
                file.fail(failure);
                self.settle(piece.file);
            }
        }
    }

    fn end_assembly(&mut self, index: usize, result: Result<Assembled, Failure>) {
        let file = &mut self.files[index];
        file.busy -= 1;
        match result {
            Ok(Assembled::Same(chunks)) => {
                file.same.push(chunks);
                if file.differs {
                    self.copy_same(index);
                }
            }
            Ok(Assembled::Partly { missing, bytes_deduplicated, chunks_deduplicated }) => {
                file.bytes_deduplicated += bytes_deduplicated;
                file.chunks.deduplicated += chunks_deduplicated;
                let may_go_on = file.failure.is_none();
                if may_go_on {
                    self.copy_same(index);
                }
                match (&self.broken, missing.is_empty()) {
                    (Some(broken), false) => self.files[index].fail(broken.clone()),
                    // The segment keeps its slot.
                    (None, false) if may_go_on => return self.ask_for(index, missing, false),
                    (None, false) | (_, true) => {}
                }
            }
            Err(failure) => file.fail(failure),
        }
        if self.line.is_open() {
            let lane = self.files[index].lane;
            self.queues.release(lane);
        }
        self.settle(index);
    }
}

/// Checks a frame against its fetch and its file.
fn check(fetching: &mut Fetching, file: &mut FileState, frame: &Frame, work: &Work) -> Result<(), Failure> {
    let path = join_path(&work.assignment.source_path, &work.item(file.item).entry.path);
    let is_same = frame.version.is_none_or(|version| file.is_of_version(version));
    if !is_same {
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
