//! The older version of a file at the destination: which of the wanted chunks it has, and where.

use std::sync::Arc;

use orbit_shared::session::{ChunkCounts, Failure};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::chunker;
use crate::limits::{BASIS_BYTES_MAX, CHUNK_MAX_BYTES, PARCEL_BYTES, SEGMENT_BYTES};
use crate::sink::work::{FILE_MODE_MASK, Work, Written, modified_at};
use crate::sink::write::Target;
use crate::transfer::{Chunk, ChunkHash, FileVersion, Range, modified_time};

/// Maximum distance from its position at which a chunk is looked for in a file that is too large to be indexed
/// completely.
const SHIFT_BYTES: u64 = 1 << 20;

/// An older version of a file, open, with the places of its chunks.
#[derive(Debug)]
pub(super) struct Basis {
    file: OwnedFd,
    size: u64,
    device: u64,
    /// The state of the file before any of it was read.
    seen: Seen,
    /// An index of the whole file, if it is not too large.
    index: Option<Index>,
}

/// Which file it is, and what changes when it is written.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    device: u64,
    inode: u64,
    size: i64,
    /// In seconds and nanoseconds, when its content was written.
    modified: (i64, u64),
    /// The same for its state: who writes a file can set `modified`, but not this.
    changed: (i64, u64),
}

impl Seen {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// What an open file is now, if it was not written since, and still has this name. Fails with `ESTALE` otherwise.
    fn still_at(&self, file: &OwnedFd, parent: impl AsFd, name: &[u8]) -> Result<Stat, Errno> {
        let stat = rustix::fs::fstat(file)?;
        let named = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_named = (named.st_dev, named.st_ino) == (self.device, self.inode);
        if is_named && Self::of(&stat) == *self { Ok(stat) } else { Err(Errno::STALE) }
    }
}

/// Places of chunks, sorted by hash.
#[derive(Debug, Default)]
struct Index(Vec<(ChunkHash, u64)>);

/// What a basis has of one segment.
#[derive(Debug)]
pub(super) enum Assembled {
    /// All of it is in the basis, at the same positions. Nothing was copied.
    Same(Vec<(u64, Chunk)>),
    /// The chunks that it had were copied; the rest is missing.
    Partly { missing: Vec<Range>, bytes_deduplicated: u64, chunks_deduplicated: u64 },
}

impl Basis {
    /// Opens and indexes the target of an item. Fails if it is not a file that can be read; then everything is fetched.
    /// Blocks while the file is hashed.
    pub(super) fn open(work: &Work, item: usize) -> Result<Self, Errno> {
        let (parent, name) = work.parent(item)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let device = work.syncers.know(&parent)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut basis = Self { file, size, device, seen: Seen::of(&stat), index: None };
        if basis.size <= BASIS_BYTES_MAX {
            basis.index = Some(basis.index(0, basis.size, work)?);
        }
        Ok(basis)
    }

    /// The names of the chunks between two positions. Each segment is cut separately, as the source does.
    fn index(&self, start: u64, end: u64, work: &Work) -> Result<Index, Errno> {
        let mut places = Vec::new();
        let mut segment = start;
        let mut window = Vec::with_capacity(PARCEL_BYTES);
        while segment < end {
            let segment_end = (segment / SEGMENT_BYTES + 1).saturating_mul(SEGMENT_BYTES).min(end);
            let mut offset = segment;
            window.clear();
            while offset < segment_end {
                if work.cancel.is_cancelled() {
                    return Err(Errno::CANCELED);
                }
                let wanted = (segment_end - offset).min(PARCEL_BYTES as u64) as usize;
                read_exact(&self.file, &mut window, wanted, offset)?;
                let cuts = chunker::cut(&window, offset + window.len() as u64 == segment_end);
                for cut in &cuts {
                    places.push((chunker::hash(&window[cut.clone()]), offset + cut.start as u64));
                }
                let cut_to = cuts.last().map_or(window.len(), |cut| cut.end);
                window.drain(..cut_to);
                offset += cut_to as u64;
            }
            segment = segment_end;
        }
        places.sort_unstable();
        Ok(Index(places))
    }

    /// Whether a file of this size can be equal to the basis.
    pub(super) fn has_size(&self, size: u64) -> bool {
        self.size == size
    }

    /// Copies the parts of a segment that the basis has to the target. If `may_be_same`, an unchanged segment is not
    /// copied: if the whole file turns out to be unchanged, it is left in place.
    pub(super) fn assemble(
        &self,
        work: &Work,
        item: usize,
        target: &Arc<Target>,
        chunks: Vec<(u64, Chunk)>,
        may_be_same: bool,
    ) -> Result<Assembled, Failure> {
        let nearby;
        let index = match &self.index {
            Some(index) => index,
            None => {
                let start = chunks.first().map_or(0, |(offset, _)| *offset);
                let end = chunks.last().map_or(0, |(offset, chunk)| offset + u64::from(chunk.length));
                // Begins at a segment start, so that cuts are the same as those of the source.
                let end = end.saturating_add(SHIFT_BYTES).min(self.size);
                nearby = self.index(start.min(end), end, work).unwrap_or_default();
                &nearby
            }
        };
        if may_be_same && chunks.iter().all(|(offset, chunk)| index.has(&chunk.hash, *offset)) {
            return Ok(Assembled::Same(chunks));
        }
        let mut missing: Vec<Range> = Vec::new();
        let (mut bytes_deduplicated, mut chunks_deduplicated) = (0, 0);
        let mut buffer = Vec::with_capacity(CHUNK_MAX_BYTES);
        for (offset, chunk) in &chunks {
            if self.read_chunk(index, chunk, &mut buffer) {
                target.write(work, item, *offset, &buffer)?;
                bytes_deduplicated += u64::from(chunk.length);
                chunks_deduplicated += 1;
            } else {
                add_range(&mut missing, Range { offset: *offset, length: chunk.length.into() });
            }
        }
        Ok(Assembled::Partly { missing, bytes_deduplicated, chunks_deduplicated })
    }

    /// Reads a chunk and checks that it is unchanged since it was indexed.
    fn read_chunk(&self, index: &Index, chunk: &Chunk, buffer: &mut Vec<u8>) -> bool {
        let Some(place) = index.place(&chunk.hash) else { return false };
        buffer.clear();
        read_exact(&self.file, buffer, chunk.length as usize, place).is_ok()
            && chunker::hash(buffer) == chunk.hash
    }

    /// Sets mode and time of a file whose content is right. Fails if the file was written since it was opened, if its
    /// name now belongs to another file, or if it has other names, which may be outside of the destination. Then the
    /// file must be written under a temporary name, like any other.
    pub(super) fn retouch(&self, work: &Work, item: usize, version: &FileVersion) -> Result<Written, Errno> {
        let (parent, name) = work.parent(item)?;
        let stat = self.seen.still_at(&self.file, &parent, name)?;
        let mode = version.mode & FILE_MODE_MASK;
        let is_untouched = stat.st_mode & 0o7777 == mode && modified_time(&stat) == version.modified;
        if !is_untouched && stat.st_nlink > 1 {
            return Err(Errno::MLINK);
        }
        if !is_untouched {
            rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))?;
            rustix::fs::futimens(&self.file, &modified_at(version.modified))?;
        }
        Ok(Written {
            item,
            is_temporary: false,
            has_content: true,
            device: self.device,
            size: version.size,
            bytes_transferred: 0,
            bytes_deduplicated: version.size,
            chunks: ChunkCounts::default(),
            is_untouched,
            is_changed: false,
        })
    }
}

impl Index {
    /// The offset of a chunk.
    fn place(&self, hash: &ChunkHash) -> Option<u64> {
        self.0.binary_search_by_key(hash, |(hash, _)| *hash).ok().map(|at| self.0[at].1)
    }

    /// Whether a chunk is at this offset.
    fn has(&self, hash: &ChunkHash, offset: u64) -> bool {
        self.0.binary_search(&(*hash, offset)).is_ok()
    }
}

/// Adds a range after those before it. If it follows directly, it extends the last one.
fn add_range(ranges: &mut Vec<Range>, range: Range) {
    match ranges.last_mut() {
        Some(last) if last.offset + last.length == range.offset => last.length += range.length,
        Some(_) | None => ranges.push(range),
    }
}

/// Fills `buffer` up to `length` bytes, from `offset` on.
fn read_exact(file: &OwnedFd, buffer: &mut Vec<u8>, length: usize, offset: u64) -> Result<(), Errno> {
    while buffer.len() < length {
        let from = offset + buffer.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(buffer), from) {
            Ok(0) => return Err(Errno::IO),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    buffer.truncate(length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adjacent_ranges_are_merged() {
        let mut ranges = Vec::new();
        for (offset, length) in [(0, 5), (5, 3), (10, 1)] {
            add_range(&mut ranges, Range { offset, length });
        }
        assert_eq!(ranges, [Range { offset: 0, length: 8 }, Range { offset: 10, length: 1 }]);
    }

    #[test]
    fn a_file_that_was_written_or_replaced_is_not_what_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("file"), directory.path().join("other"));
        std::fs::write(&path, b"as it was").unwrap();
        let open = |path| OwnedFd::from(std::fs::File::options().read(true).write(true).open(path).unwrap());
        let (parent, file) = (OwnedFd::from(std::fs::File::open(directory.path()).unwrap()), open(&path));
        let seen = |file: &OwnedFd| Seen::of(&rustix::fs::fstat(file).unwrap());
        let before = seen(&file);
        assert!(before.still_at(&file, &parent, b"file").is_ok());
        // Other content of the same size, under the same time.
        let times = std::fs::metadata(&path).unwrap().modified().unwrap();
        while seen(&file).changed == before.changed {
            rustix::io::pwrite(&file, b"as it IS.", 0).unwrap();
            std::fs::File::from(file.try_clone().unwrap()).set_modified(times).unwrap();
        }
        assert_eq!(before.still_at(&file, &parent, b"file").unwrap_err(), Errno::STALE);
        // Another file under its name.
        let before = seen(&file);
        std::fs::write(&other, b"as it was").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(before.still_at(&file, &parent, b"file").unwrap_err(), Errno::STALE);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(before.still_at(&file, &parent, b"file").unwrap_err(), Errno::NOENT);
    }
}
