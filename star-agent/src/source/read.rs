//! Answers one fetch: opens what it names, reads each range once, and makes sure that it held still.
//!
//! A file that changes while it is read would arrive as a mixture of two versions that nobody ever saw. Its size,
//! modification and change times are compared before and after; if they differ, the fetch fails and the destination
//! throws away what it got. All of this blocks, so it runs on blocking threads.

use orbit_shared::session::Failure;

use crate::chunker;
use crate::limits::{
    CHUNK_MAX_BYTES, FRAMES_PER_SMALL_FILE_MAX, HASHES_PER_FRAME_MAX, PARCEL_BYTES, SMALL_FILE_BYTES_MAX,
};
use crate::source::origin::{Origin, Readable};
use crate::source::packer::{Gone, Packer};
use crate::transfer::{Chunk, Fetch, FileVersion, Frame, FrameEnd, Range};

/// Why reading stopped.
enum Stop {
    /// The fetch failed; the pull goes on.
    Failed(Failure),
    /// The destination is gone.
    Gone,
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Answers `fetch` with frames up to its end or failure.
pub(crate) fn answer(origin: &Origin, fetch: &Fetch, packer: &mut Packer) -> Result<(), Gone> {
    let start = packer.buffer.len();
    match try_answer(origin, fetch, packer) {
        Ok(()) => Ok(()),
        Err(Stop::Gone) => Err(Gone),
        Err(Stop::Failed(failure)) => {
            // What was read of a small file and not yet announced must not be taken for another file's content.
            packer.buffer.truncate(start);
            packer.push(Frame {
                fetch: fetch.id,
                version: None,
                offset: 0,
                chunks: Vec::new(),
                end: FrameEnd::Failed(failure),
            })
        }
    }
}

fn try_answer(origin: &Origin, fetch: &Fetch, packer: &mut Packer) -> Result<(), Stop> {
    if fetch.is_look_only {
        origin.look(&fetch.path).map_err(Stop::Failed)?;
        let (version, chunks, end) = (None, Vec::new(), FrameEnd::Complete);
        return Ok(packer.push(Frame { fetch: fetch.id, version, offset: 0, chunks, end })?);
    }
    let reading = Reading::open(origin, fetch)?;
    let wanted = reading.ranges.iter().map(|range| range.length).sum::<u64>();
    let is_small = wanted <= SMALL_FILE_BYTES_MAX as u64 && reading.ranges.len() <= FRAMES_PER_SMALL_FILE_MAX;
    if is_small && !fetch.is_hashes_only {
        reading.send_small(packer, wanted as usize)
    } else {
        reading.send_in_windows(packer)
    }
}

/// A file that is being read for one fetch.
struct Reading<'fetch> {
    fetch: &'fetch Fetch,
    path: Vec<u8>,
    content: Readable,
    version: FileVersion,
    /// The fetch's ranges, ending at the end of the file.
    ranges: Vec<Range>,
}

impl<'fetch> Reading<'fetch> {
    fn open(origin: &Origin, fetch: &'fetch Fetch) -> Result<Self, Stop> {
        let (content, version) = origin.open(&fetch.path).map_err(Stop::Failed)?;
        let ranges = fetch.ranges.iter().map(|range| Range {
            offset: range.offset,
            length: range.end(version.size).saturating_sub(range.offset),
        });
        let path = origin.path(&fetch.path);
        Ok(Self { fetch, content, version, ranges: ranges.collect(), path })
    }

    fn frame(&self, version: Option<FileVersion>, offset: u64, chunks: Vec<Chunk>, end: FrameEnd) -> Frame {
        Frame { fetch: self.fetch.id, version, offset, chunks, end }
    }

    /// Reads everything into the packer's buffer and announces it only once the file has proved to have held still.
    fn send_small(&self, packer: &mut Packer, wanted: usize) -> Result<(), Stop> {
        packer.make_room(wanted)?;
        let mut frames = Vec::with_capacity(self.ranges.len().max(1));
        for range in &self.ranges {
            let start = packer.buffer.len();
            let end = start + range.length as usize;
            while packer.buffer.len() < end {
                let offset = range.offset + (packer.buffer.len() - start) as u64;
                self.read_some(&mut packer.buffer, offset)?;
            }
            packer.buffer.truncate(end);
            let content = &packer.buffer[start..end];
            let cuts = match self.fetch.is_cut_by_content {
                true => chunker::cut(content, true),
                false => chunker::cut_anywhere(content),
            };
            let chunks = cuts.iter().map(|cut| chunker::name(content, cut)).collect();
            frames.push(self.frame(None, range.offset, chunks, FrameEnd::More));
        }
        self.check_unchanged()?;
        if frames.is_empty() {
            frames.push(self.frame(None, 0, Vec::new(), FrameEnd::More));
        }
        if let Some(first) = frames.first_mut() {
            first.version = Some(self.version);
        }
        if let Some(last) = frames.last_mut() {
            last.end = FrameEnd::Complete;
        }
        Ok(packer.push_all(frames)?)
    }

    fn send_in_windows(&self, packer: &mut Packer) -> Result<(), Stop> {
        if !self.fetch.is_hashes_only {
            // Content of the small files before this one goes ahead. Names, which have none, travel with their like.
            packer.flush()?;
        }
        let mut version = Some(self.version);
        for range in &self.ranges {
            if self.fetch.is_hashes_only {
                self.send_names(packer, &mut version, range)?;
            } else if self.fetch.is_cut_by_content {
                self.send_chunks(packer, &mut version, range)?;
            } else {
                self.send_content(packer, &mut version, range)?;
            }
        }
        self.check_unchanged()?;
        Ok(packer.push(self.frame(version.take(), 0, Vec::new(), FrameEnd::Complete))?)
    }

    /// Sends a range window by window, each of them a message.
    fn send_content(
        &self,
        packer: &mut Packer,
        version: &mut Option<FileVersion>,
        range: &Range,
    ) -> Result<(), Stop> {
        let end = range.offset + range.length;
        let mut offset = range.offset;
        while offset < end {
            let mut window = packer.buffers.take(window_bytes(end - offset));
            self.fill(&mut window, offset, end)?;
            let cuts = chunker::cut_anywhere(&window);
            let chunks = cuts.iter().map(|cut| chunker::name(&window, cut)).collect();
            let frame = self.frame(version.take(), offset, chunks, FrameEnd::More);
            offset += window.len() as u64;
            packer.push_with(frame, window)?;
        }
        Ok(())
    }

    /// Sends a range in the chunks that it has by its content; what is left uncut of a window goes on in the next.
    fn send_chunks(
        &self,
        packer: &mut Packer,
        version: &mut Option<FileVersion>,
        range: &Range,
    ) -> Result<(), Stop> {
        let end = range.offset + range.length;
        let mut offset = range.offset;
        let mut window = packer.buffers.take(window_bytes(range.length));
        while offset < end {
            self.fill(&mut window, offset, end)?;
            let cuts = chunker::cut(&window, offset + window.len() as u64 == end);
            let cut_to = cuts.last().map_or(0, |cut| cut.end);
            assert!(cut_to > 0, "a window of {} bytes holds a whole chunk", window.len());
            let chunks = cuts.iter().map(|cut| chunker::name(&window, cut)).collect();
            let frame = self.frame(version.take(), offset, chunks, FrameEnd::More);
            offset += cut_to as u64;
            let mut next = packer.buffers.take(window_bytes(end - offset));
            next.extend_from_slice(&window[cut_to..]);
            window.truncate(cut_to);
            packer.push_with(frame, std::mem::replace(&mut window, next))?;
        }
        Ok(())
    }

    /// Sends the names of a range's chunks, through a window that always holds more than one of them.
    fn send_names(
        &self,
        packer: &mut Packer,
        version: &mut Option<FileVersion>,
        range: &Range,
    ) -> Result<(), Stop> {
        let end = range.offset + range.length;
        let (mut offset, mut names_from) = (range.offset, range.offset);
        let mut names = Vec::new();
        let mut window = packer.buffers.take(PARCEL_BYTES);
        while offset < end {
            self.fill(&mut window, offset, end)?;
            let cuts = chunker::cut(&window, offset + window.len() as u64 == end);
            let cut_to = cuts.last().map_or(0, |cut| cut.end);
            assert!(cut_to > 0, "a window of {} bytes holds a whole chunk", window.len());
            names.extend(cuts.iter().map(|cut| chunker::name(&window, cut)));
            assert!(window.len() - cut_to < CHUNK_MAX_BYTES);
            window.drain(..cut_to);
            offset += cut_to as u64;
            if names.len() >= HASHES_PER_FRAME_MAX {
                let chunks = std::mem::take(&mut names);
                packer.push(self.frame(version.take(), names_from, chunks, FrameEnd::More))?;
                names_from = offset;
            }
        }
        packer.buffers.take_back(window);
        if !names.is_empty() {
            packer.push(self.frame(version.take(), names_from, names, FrameEnd::More))?;
        }
        Ok(())
    }

    /// Fills the window, whose first byte is at `offset`, up to its capacity or `end`.
    fn fill(&self, window: &mut Vec<u8>, offset: u64, end: u64) -> Result<(), Stop> {
        while window.len() < PARCEL_BYTES && offset + (window.len() as u64) < end {
            self.read_some(window, offset + window.len() as u64)?;
        }
        window.truncate(usize::try_from(end - offset).unwrap_or(usize::MAX));
        Ok(())
    }

    /// Reads at least one byte at `offset` to the end of `buffer`, which has room. May read more than is wanted.
    fn read_some(&self, buffer: &mut Vec<u8>, offset: u64) -> Result<(), Stop> {
        self.content.read_some(buffer, offset, &self.path).map_err(Stop::Failed)
    }

    fn check_unchanged(&self) -> Result<(), Stop> {
        self.content.check_unchanged(&self.version, &self.path).map_err(Stop::Failed)
    }
}

/// Size of a window on content of which so many bytes are left.
fn window_bytes(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(PARCEL_BYTES)
}
