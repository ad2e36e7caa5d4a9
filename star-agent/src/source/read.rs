//! Answers one fetch: opens the file, reads each range once, and checks that it did not change.
//!
//! A file that changes while it is read would arrive as a mixture of two versions that never existed. Its size,
//! modification time and change time are compared before and after. If they differ, the fetch fails and the destination
//! discards what it got. The file is then requested again by a fetch that accepts changes. Then a clone of it is read
//! if one can be made. Otherwise the content up to its size at the first opening is read, and the last frame says that
//! it changed. All calls block, so they run on blocking threads.

use orbit_shared::session::Failure;

use crate::chunker;
use crate::failures::changed_while_read;
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
            // What was read of a small file and not announced must not be taken for another file's content.
            packer.buffer.truncate(start);
            packer.push(Frame {
                fetch: fetch.id,
                version: None,
                offset: 0,
                chunks: Vec::new(),
                end: FrameEnd::Failed(failure),
                looked: None,
            })
        }
    }
}

fn try_answer(origin: &Origin, fetch: &Fetch, packer: &mut Packer) -> Result<(), Stop> {
    if fetch.is_look_only {
        let looked = Some(origin.look(&fetch.path, fetch.is_one_file_system).map_err(Stop::Failed)?);
        let (version, chunks, end) = (None, Vec::new(), FrameEnd::Complete);
        return Ok(packer.push(Frame { fetch: fetch.id, version, offset: 0, chunks, end, looked })?);
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
    /// The fetch's ranges, cut at the end of the file.
    ranges: Vec<Range>,
}

impl<'fetch> Reading<'fetch> {
    fn open(origin: &Origin, fetch: &'fetch Fetch) -> Result<Self, Stop> {
        let (content, now) = origin.open(&fetch.path, fetch.accepts_changes).map_err(Stop::Failed)?;
        let version = fetch.as_of.filter(|_| fetch.accepts_changes && !content.is_still()).unwrap_or(now);
        let ranges = fetch.ranges.iter().map(|range| Range {
            offset: range.offset,
            length: range.end(version.size).saturating_sub(range.offset),
        });
        let path = origin.path(&fetch.path);
        Ok(Self { fetch, content, version, ranges: ranges.collect(), path })
    }

    fn frame(&self, version: Option<FileVersion>, offset: u64, chunks: Vec<Chunk>, end: FrameEnd) -> Frame {
        Frame { fetch: self.fetch.id, version, offset, chunks, end, looked: None }
    }

    /// Reads everything into the packer's buffer, and announces it only after checking that the file did not change.
    fn send_small(&self, packer: &mut Packer, wanted: usize) -> Result<(), Stop> {
        packer.make_room(wanted)?;
        let mut frames = Vec::with_capacity(self.ranges.len().max(1));
        let mut is_whole = true;
        for range in &self.ranges {
            let start = packer.buffer.len();
            let end = start + range.length as usize;
            while is_whole && packer.buffer.len() < end {
                let offset = range.offset + (packer.buffer.len() - start) as u64;
                is_whole = self.read_some(&mut packer.buffer, offset)?;
            }
            packer.buffer.truncate(end);
            let content = &packer.buffer[start..];
            let cuts = match self.fetch.is_cut_by_content {
                true => chunker::cut(content, true),
                false => chunker::cut_anywhere(content),
            };
            let chunks = cuts.iter().map(|cut| chunker::name(content, cut)).collect();
            frames.push(self.frame(None, range.offset, chunks, FrameEnd::More));
        }
        let ended = self.end(is_whole)?;
        if frames.is_empty() {
            frames.push(self.frame(None, 0, Vec::new(), FrameEnd::More));
        }
        if let Some(first) = frames.first_mut() {
            first.version = Some(self.version);
        }
        if let Some(last) = frames.last_mut() {
            last.end = ended;
        }
        Ok(packer.push_all(frames)?)
    }

    fn send_in_windows(&self, packer: &mut Packer) -> Result<(), Stop> {
        if !self.fetch.is_hashes_only {
            // Content of the small files before this one is sent first. Names have no content and are sent together.
            packer.flush()?;
        }
        let mut version = Some(self.version);
        let mut ranges = self.ranges.iter();
        let is_whole = loop {
            let Some(range) = ranges.next() else { break true };
            let is_whole = if self.fetch.is_hashes_only {
                self.send_names(packer, &mut version, range)?
            } else if self.fetch.is_cut_by_content {
                self.send_chunks(packer, &mut version, range)?
            } else {
                self.send_content(packer, &mut version, range)?
            };
            if !is_whole {
                break false;
            }
        };
        let ended = self.end(is_whole)?;
        Ok(packer.push(self.frame(version.take(), 0, Vec::new(), ended))?)
    }

    /// Sends a range in windows, each as one message. Returns whether the file had all of it, as the next two functions
    /// do.
    fn send_content(
        &self,
        packer: &mut Packer,
        version: &mut Option<FileVersion>,
        range: &Range,
    ) -> Result<bool, Stop> {
        let wanted = range.offset + range.length;
        let (mut offset, mut end) = (range.offset, wanted);
        while offset < end {
            let mut window = packer.buffers.take(window_bytes(end - offset));
            end = self.fill(&mut window, offset, end)?;
            if window.is_empty() {
                break;
            }
            let cuts = chunker::cut_anywhere(&window);
            let chunks = cuts.iter().map(|cut| chunker::name(&window, cut)).collect();
            let frame = self.frame(version.take(), offset, chunks, FrameEnd::More);
            offset += window.len() as u64;
            packer.push_with(frame, window)?;
        }
        Ok(end == wanted)
    }

    /// Sends a range in content-defined chunks. The uncut rest of a window is continued in the next one.
    fn send_chunks(
        &self,
        packer: &mut Packer,
        version: &mut Option<FileVersion>,
        range: &Range,
    ) -> Result<bool, Stop> {
        let wanted = range.offset + range.length;
        let (mut offset, mut end) = (range.offset, wanted);
        let mut window = packer.buffers.take(window_bytes(range.length));
        while offset < end {
            end = self.fill(&mut window, offset, end)?;
            if window.is_empty() {
                break;
            }
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
        Ok(end == wanted)
    }

    /// Sends the names of a range's chunks, through a window that always holds more than one of them.
    fn send_names(
        &self,
        packer: &mut Packer,
        version: &mut Option<FileVersion>,
        range: &Range,
    ) -> Result<bool, Stop> {
        let wanted = range.offset + range.length;
        let (mut offset, mut names_from, mut end) = (range.offset, range.offset, wanted);
        let mut names = Vec::new();
        let mut window = packer.buffers.take(PARCEL_BYTES);
        while offset < end {
            end = self.fill(&mut window, offset, end)?;
            if window.is_empty() {
                break;
            }
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
        Ok(end == wanted)
    }

    /// Fills the window, whose first byte is at `offset`, up to its capacity or `end`. Returns `end`, or the end of the
    /// file if that is before.
    fn fill(&self, window: &mut Vec<u8>, offset: u64, end: u64) -> Result<u64, Stop> {
        while window.len() < PARCEL_BYTES && offset + (window.len() as u64) < end {
            if !self.read_some(window, offset + window.len() as u64)? {
                return Ok(offset + window.len() as u64);
            }
        }
        window.truncate(usize::try_from(end - offset).unwrap_or(usize::MAX));
        Ok(end)
    }

    /// Reads from `offset` into the free space at the end of `buffer`. May read more than is wanted. Returns whether
    /// there was any content; that there is none is accepted only for fetches that accept changes.
    fn read_some(&self, buffer: &mut Vec<u8>, offset: u64) -> Result<bool, Stop> {
        let has_read = self.content.read_some(buffer, offset, &self.path).map_err(Stop::Failed)?;
        if has_read || self.fetch.accepts_changes { Ok(has_read) } else { Err(self.changed()) }
    }

    /// The end of a fetch whose ranges were read as far as the file goes.
    fn end(&self, is_whole: bool) -> Result<FrameEnd, Stop> {
        let is_unchanged = self.content.is_unchanged(&self.version, &self.path).map_err(Stop::Failed)?;
        match (is_whole && is_unchanged, self.fetch.accepts_changes) {
            (true, _) => Ok(FrameEnd::Complete),
            (false, true) => Ok(FrameEnd::Changed),
            (false, false) => Err(self.changed()),
        }
    }

    fn changed(&self) -> Stop {
        Stop::Failed(changed_while_read(&self.path))
    }
}

/// Size of a window for content of which `left` bytes remain.
fn window_bytes(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(PARCEL_BYTES)
}
