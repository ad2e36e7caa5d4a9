//! Verifies chunks and writes them under a temporary name. All calls block, so they run on blocking threads.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use orbit_shared::entry::display_path;
use orbit_shared::session::{ChunkCounts, Failure, FailureCause, Fault};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::content::Content;
use crate::failures::at_destination;
use crate::limits::SEGMENT_BYTES;
use crate::roots::grant_owner_access;
use crate::sink::plan::parent_failure;
use crate::sink::resume::{Resumed, Tracker};
use crate::sink::work::{FILE_MODE_MASK, Work, Written, modified_at};
use crate::transfer::{Chunk, FileVersion};

/// A file that is written under its temporary name. It is created when the first chunk arrives.
#[derive(Debug, Default)]
pub(super) struct Target {
    opened: OnceLock<Result<Temporary, Failure>>,
    tracker: Tracker,
    /// Held while bytes are written to the file: the kernel admits one writer at a time to a file, and waiting writers
    /// spin on cores that have chunks to verify.
    writing: Mutex<()>,
}

/// An open temporary.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) file: OwnedFd,
    pub(super) device: u64,
}

/// Consecutive chunks that arrived for one file.
pub(super) struct Piece {
    pub(super) file: usize,
    pub(super) item: usize,
    pub(super) target: Arc<Target>,
    pub(super) offset: u64,
    pub(super) chunks: Vec<Chunk>,
    pub(super) content: Content,
    /// Set if this is the whole file: then it is finished at once.
    pub(super) whole: Option<FileVersion>,
}

/// The result for a piece.
pub(super) struct PieceDone {
    pub(super) file: usize,
    pub(super) result: Result<Option<Written>, Failure>,
}

/// Verifies and writes pieces, in order.
pub(super) fn write_pieces(work: &Work, pieces: Vec<Piece>) -> Vec<PieceDone> {
    pieces
        .into_iter()
        .map(|piece| PieceDone { file: piece.file, result: write_piece(work, &piece) })
        .collect()
}

fn write_piece(work: &Work, piece: &Piece) -> Result<Option<Written>, Failure> {
    verify(work, piece)?;
    let written = write_content(work, piece).and_then(|()| match piece.whole {
        Some(version) => piece.target.finish(work, piece.item, &version).map(Some),
        None => Ok(None),
    });
    if written.is_err() && piece.whole.is_some() {
        remove(work, piece.item);
    }
    written
        .map(|written| written.map(|file| Written { bytes_transferred: piece.content.len() as u64, ..file }))
}

fn write_content(work: &Work, piece: &Piece) -> Result<(), Failure> {
    let mut offset = piece.offset;
    for bytes in piece.content.pieces() {
        piece.target.write(work, piece.item, offset, bytes)?;
        offset += bytes.len() as u64;
    }
    Ok(())
}

fn verify(work: &Work, piece: &Piece) -> Result<(), Failure> {
    let mut rest = piece.content.clone();
    for chunk in &piece.chunks {
        let offset = piece.offset + (piece.content.len() - rest.len()) as u64;
        if rest.split_to(chunk.length as usize).hash() != chunk.hash {
            return Err(mismatch(work, piece.item, offset));
        }
    }
    assert!(rest.is_empty(), "the chunks of a piece are its content");
    Ok(())
}

fn mismatch(work: &Work, item: usize, offset: u64) -> Failure {
    Failure {
        cause: FailureCause::ChecksumMismatch,
        fault: Fault::Source,
        message: format!(
            "the chunk at byte {offset} of {} from Star {} does not match its BLAKE3 hash; nothing was published",
            display_path(&work.target_path(item)),
            work.assignment.source_star
        ),
    }
}

impl Target {
    /// Continues what an earlier attempt has written.
    pub(super) fn resumed(resumed: Resumed) -> Self {
        let tracker = Tracker::new(resumed.version, resumed.covered);
        Self { opened: OnceLock::from(Ok(resumed.temporary)), tracker, writing: Mutex::default() }
    }

    /// From now on the progress of the file, which has this version, is recorded from time to time.
    pub(super) fn track(&self, version: FileVersion) {
        self.tracker.track(version);
    }

    /// Writes verified content.
    pub(super) fn write(&self, work: &Work, item: usize, offset: u64, content: &[u8]) -> Result<(), Failure> {
        let file = &self.open(work, item)?.file;
        let turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < content.len() {
            match rustix::io::pwrite(file, &content[done..], offset + done as u64) {
                Ok(0) => return Err(failed(work, item, "write", Errno::IO)),
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(failed(work, item, "write", errno)),
            }
        }
        drop(turn);
        self.tracker
            .wrote(work, item, file, offset, content.len() as u64)
            .map_err(|errno| failed(work, item, "sync", errno))
    }

    /// Truncates the file where its source ended: later parts may have arrived before.
    pub(super) fn cut(&self, work: &Work, item: usize, size: u64) -> Result<(), Failure> {
        let file = &self.open(work, item)?.file;
        let length = rustix::fs::fstat(file).map(|stat| u64::try_from(stat.st_size).unwrap_or(0));
        match length.and_then(|length| if length > size { rustix::fs::ftruncate(file, size) } else { Ok(()) })
        {
            Ok(()) => Ok(()),
            Err(errno) => Err(failed(work, item, "cut", errno)),
        }
    }

    /// Sets the file's mode and time, and creates it if it is empty. Its size is that of `version`.
    pub(super) fn finish(&self, work: &Work, item: usize, version: &FileVersion) -> Result<Written, Failure> {
        let temporary = self.open(work, item)?;
        let mode = Mode::from_raw_mode(version.mode & FILE_MODE_MASK);
        rustix::fs::fchmod(&temporary.file, mode)
            .and_then(|()| rustix::fs::futimens(&temporary.file, &modified_at(version.modified)))
            .map_err(|errno| failed(work, item, "set the mode and time of", errno))?;
        Ok(Written {
            item,
            is_temporary: true,
            has_content: true,
            device: temporary.device,
            size: version.size,
            bytes_transferred: 0,
            bytes_deduplicated: 0,
            chunks: ChunkCounts::default(),
            is_untouched: false,
            is_changed: false,
        })
    }

    fn open(&self, work: &Work, item: usize) -> Result<&Temporary, Failure> {
        self.opened.get_or_init(|| create(work, item)).as_ref().map_err(Clone::clone)
    }
}

fn create(work: &Work, item: usize) -> Result<Temporary, Failure> {
    let path = work.target_path(item);
    let (parent, _) = work.create_parent(item).map_err(|errno| parent_failure(errno, &path))?;
    let name = work.temporary_name(item);
    if work.item(item).entry.size() > SEGMENT_BYTES {
        // If there is a record, it is not about the file that is made now.
        work.checkpoints.remove(work.item_id(item));
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(&parent, &name, flags, Mode::RUSR | Mode::WUSR);
    let opened = match open() {
        // Left by an attempt that was killed: the name belongs to this item.
        Err(Errno::EXIST) => rustix::fs::unlinkat(&parent, &name, AtFlags::empty()).and_then(|()| open()),
        Err(Errno::ACCESS) => grant_owner_access(&parent).and_then(|()| open()),
        other => other,
    };
    let failed = |errno| failed(work, item, "create a temporary file for", errno);
    let file = opened.map_err(failed)?;
    let device = work.syncers.know(&parent).map_err(failed)?;
    Ok(Temporary { file, device })
}

/// Removes what was written of an item that failed.
pub(super) fn remove(work: &Work, item: usize) {
    work.checkpoints.remove(work.item_id(item));
    crate::sink::work::remove_temporary(&work.place, &work.prefix, work.item(item));
}

fn failed(work: &Work, item: usize, action: &str, errno: Errno) -> Failure {
    at_destination(errno, action, &work.target_path(item))
}
