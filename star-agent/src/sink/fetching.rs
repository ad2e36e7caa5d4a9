//! One fetch in progress: checks that the data that arrives is what was requested, without gaps or overlaps.

use std::collections::VecDeque;

use crate::limits::SEGMENT_CHUNKS_MAX;
use crate::transfer::{Chunk, Frame, Range};

/// A fetch that was sent and has not ended.
#[derive(Debug)]
pub(super) struct Fetching {
    /// Index of its file.
    pub(super) file: usize,
    pub(super) is_hashes_only: bool,
    /// With `is_hashes_only`: the chunks so far, with their offsets.
    pub(super) named: Vec<(u64, Chunk)>,
    /// The ranges that have not arrived.
    ranges: VecDeque<Range>,
}

impl Fetching {
    pub(super) fn new(file: usize, ranges: &[Range], is_hashes_only: bool) -> Self {
        Self { file, is_hashes_only, named: Vec::new(), ranges: ranges.iter().copied().collect() }
    }

    /// Checks and adds the chunks of a frame of a file of `size`. An error says what is wrong with them.
    pub(super) fn accept(&mut self, frame: &Frame, size: u64) -> Result<(), String> {
        if frame.chunks.is_empty() {
            return Ok(());
        }
        self.drop_finished(size);
        let Some(range) = self.ranges.front_mut() else {
            return Err(format!("chunks at byte {} were not asked for", frame.offset));
        };
        let length = frame.length();
        if frame.offset != range.offset || length > range.end(size) - range.offset {
            return Err(format!(
                "{length} bytes came for byte {}, {} were expected for byte {}",
                frame.offset,
                range.end(size) - range.offset,
                range.offset
            ));
        }
        if self.is_hashes_only {
            if self.named.len() + frame.chunks.len() > SEGMENT_CHUNKS_MAX {
                return Err(format!("more than {SEGMENT_CHUNKS_MAX} chunks in one segment"));
            }
            let mut offset = frame.offset;
            for chunk in &frame.chunks {
                self.named.push((offset, *chunk));
                offset += u64::from(chunk.length);
            }
        }
        range.offset += length;
        range.length = range.length.saturating_sub(length);
        Ok(())
    }

    /// How far the data of a file of `size` goes, if not all that was requested has arrived.
    pub(super) fn reached(&mut self, size: u64) -> Option<u64> {
        self.drop_finished(size);
        self.ranges.front().map(|range| range.offset)
    }

    /// Whether all that was requested, and that a file of `size` has, has arrived.
    pub(super) fn is_complete(&mut self, size: u64) -> bool {
        self.drop_finished(size);
        self.ranges.is_empty()
    }

    fn drop_finished(&mut self, size: u64) {
        while self.ranges.front().is_some_and(|range| range.end(size) <= range.offset) {
            self.ranges.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::FrameEnd;

    fn frame(offset: u64, lengths: &[u32]) -> Frame {
        let chunks = lengths.iter().map(|&length| Chunk { hash: [0; 32], length }).collect();
        Frame { fetch: 1, version: None, offset, chunks, end: FrameEnd::More, looked: None }
    }

    #[test]
    fn a_fetch_is_complete_when_every_range_came_up_to_the_end_of_the_file() {
        let ranges = [Range { offset: 0, length: 10 }, Range { offset: 50, length: 100 }];
        let mut fetching = Fetching::new(0, &ranges, true);
        assert!(fetching.accept(&frame(0, &[4, 6]), 60).is_ok());
        assert!(!fetching.is_complete(60));
        assert_eq!(fetching.reached(60), Some(50));
        assert!(fetching.accept(&frame(50, &[10]), 60).is_ok());
        assert!(fetching.is_complete(60) && fetching.reached(60).is_none());
        assert_eq!(fetching.named.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [0, 4, 50]);
    }

    #[test]
    fn gaps_repeats_and_surplus_are_refused() {
        for bad in [frame(1, &[5]), frame(0, &[11]), frame(5, &[5])] {
            let mut fetching = Fetching::new(0, &[Range { offset: 0, length: 10 }], false);
            assert!(fetching.accept(&bad, 100).is_err(), "{bad:?}");
        }
        let mut fetching = Fetching::new(0, &[Range { offset: 0, length: 10 }], false);
        assert!(fetching.accept(&frame(0, &[5]), 100).is_ok());
        assert!(fetching.accept(&frame(0, &[5]), 100).is_err());
        assert!(!fetching.is_complete(100));
    }

    #[test]
    fn more_names_than_a_segment_can_have_are_refused() {
        let mut fetching = Fetching::new(0, &[Range::WHOLE], true);
        let many = vec![1; SEGMENT_CHUNKS_MAX + 1];
        assert!(fetching.accept(&frame(0, &many), 1 << 30).is_err());
    }
}
