//! One file of a pull into a vault: what of it is stored, and what must still be requested.

use std::collections::BTreeMap;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::session::{ChunkCounts, Failure};

use crate::limits::{SEGMENT_BYTES, SMALL_FILE_BYTES_MAX};
use crate::packed::{ChunkRef, TreeEntry};
use crate::transfer::{Chunk, FileVersion, Range};

/// See the module.
#[derive(Debug)]
pub(super) struct File {
    /// Index into the assignment's items.
    pub(super) item: usize,
    /// Whether it is requested completely, together with all other small files.
    pub(super) is_small: bool,
    /// The version that all its parts must have.
    pub(super) version: Option<FileVersion>,
    /// Why it will not be stored.
    pub(super) failure: Option<Failure>,
    pub(super) bytes_transferred: u64,
    /// Chunks that were received and stored. Those that were there already are counted when the file is complete.
    pub(super) counts: ChunkCounts,
    /// Number of fetches and jobs that have not ended.
    pub(super) busy: usize,
    /// Whether it has its outcome, or waits to be made durable.
    pub(super) is_settled: bool,
    /// Whether it is accepted although it changes while it is read, because it did so in an earlier pull.
    pub(super) accepts_changes: bool,
    /// Whether it changed while this pull read it.
    pub(super) is_changed: bool,
    /// The end of the file if it was truncated meanwhile.
    cut: Option<u64>,
    scanned_size: u64,
    next_offset: u64,
    /// The chunks that are in the store, by offset.
    chunks: BTreeMap<u64, ChunkRef>,
}

impl File {
    pub(super) fn new(item: usize, scanned_size: u64, accepts_changes: bool) -> Self {
        Self {
            item,
            is_small: scanned_size <= SMALL_FILE_BYTES_MAX as u64,
            version: None,
            failure: None,
            bytes_transferred: 0,
            counts: ChunkCounts::default(),
            busy: 0,
            is_settled: false,
            accepts_changes,
            is_changed: false,
            cut: None,
            scanned_size,
            next_offset: 0,
            chunks: BTreeMap::new(),
        }
    }

    /// Whether further parts of it can be requested. The version that is read counts, not the one that was scanned, so
    /// even an empty file is requested. If the file is in motion, all parts must be of one version, which the first
    /// part determines.
    pub(super) fn has_more(&self) -> bool {
        let size = match self.version {
            Some(version) => self.size_of(version),
            None if self.accepts_changes && self.next_offset > 0 => 0,
            None => self.scanned_size.max(1),
        };
        self.failure.is_none() && self.next_offset < size
    }

    /// The size that a version has in the end.
    fn size_of(&self, version: FileVersion) -> u64 {
        self.cut.unwrap_or(u64::MAX).min(version.size)
    }

    /// Records that a part of it ended early.
    pub(super) fn cut_at(&mut self, end: u64) {
        self.cut = Some(self.cut.unwrap_or(u64::MAX).min(end));
    }

    /// The next part to request.
    pub(super) fn next_range(&mut self) -> Range {
        if self.is_small {
            self.next_offset = u64::MAX;
            return Range::WHOLE;
        }
        let range = Range { offset: self.next_offset, length: SEGMENT_BYTES };
        self.next_offset += SEGMENT_BYTES;
        range
    }

    /// Records the version of a part. Parts of different versions are never combined.
    pub(super) fn is_of_version(&mut self, version: FileVersion) -> bool {
        *self.version.get_or_insert(version) == version
    }

    /// Only the first failure is reported.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// Records that a chunk is in the store.
    pub(super) fn has(&mut self, offset: u64, chunk: &Chunk) {
        self.chunks.insert(offset, ChunkRef { hash: ChunkHash(chunk.hash), length: chunk.length });
    }

    /// Whether it waits for nothing any more.
    pub(super) fn is_done(&self) -> bool {
        self.busy == 0 && !self.is_settled && !self.has_more()
    }

    /// Its entry in the tree, if its chunks cover it without gap or overlap. Size and time are those of the version
    /// that was read.
    pub(super) fn tree_entry(&self, entry: &Entry) -> Option<TreeEntry> {
        let version = self.version?;
        let size = self.size_of(version);
        let mut end = 0;
        for (&offset, chunk) in self.chunks.range(..size) {
            if offset != end {
                return None;
            }
            end += u64::from(chunk.length);
        }
        let entry = Entry {
            kind: EntryKind::File { size },
            modified: version.modified,
            mode: version.mode,
            ..entry.clone()
        };
        let chunks = || self.chunks.range(..size).map(|(_, chunk)| *chunk).collect();
        (end == size).then(|| TreeEntry { entry, chunks: chunks() })
    }
}

#[cfg(test)]
mod tests {
    use orbit_shared::time::WallTime;

    use super::*;

    fn entry() -> Entry {
        let kind = EntryKind::File { size: 1 };
        Entry { path: b"a".to_vec(), kind, mode: 0o600, modified: WallTime::UNIX_EPOCH, rank: 50 }
    }

    fn version(size: u64) -> FileVersion {
        let time = WallTime { seconds: 7, nanos: 0 };
        FileVersion { size, modified: time, changed: time, mode: 0o644 }
    }

    #[test]
    fn a_file_is_complete_when_its_chunks_cover_it_without_gaps() {
        let mut file = File::new(0, 1, false);
        assert!(file.is_of_version(version(9)));
        let chunk = |length| Chunk { hash: [1; 32], length };
        file.has(4, &chunk(5));
        assert_eq!(file.tree_entry(&entry()), None, "its start is missing");
        file.has(0, &chunk(4));
        let whole = file.tree_entry(&entry()).unwrap();
        assert_eq!((whole.chunks.len(), whole.entry.size(), whole.entry.mode), (2, 9, 0o644));
        file.cut_at(4);
        assert_eq!(file.tree_entry(&entry()).unwrap().entry.size(), 4, "it was cut meanwhile");
        let mut file = File::new(0, 1, false);
        assert!(file.is_of_version(version(9)));
        file.has(0, &chunk(4));
        file.has(4, &chunk(5));
        file.has(6, &chunk(3));
        assert_eq!(file.tree_entry(&entry()), None, "two chunks overlap");
    }

    #[test]
    fn a_large_file_is_requested_in_segments_up_to_the_end_of_the_version_read() {
        let mut file = File::new(0, SEGMENT_BYTES + 1, false);
        assert_eq!(file.next_range(), Range { offset: 0, length: SEGMENT_BYTES });
        assert!(file.has_more());
        assert!(file.is_of_version(version(SEGMENT_BYTES)) && !file.has_more(), "it shrank");
        assert!(!file.is_of_version(version(1)));
    }

    #[test]
    fn the_first_part_of_a_file_in_motion_determines_the_version_of_the_others() {
        let mut file = File::new(0, 3 * SEGMENT_BYTES, true);
        file.next_range();
        assert!(!file.has_more());
        assert!(file.is_of_version(version(2 * SEGMENT_BYTES)) && file.has_more());
        file.cut_at(SEGMENT_BYTES);
        assert!(!file.has_more());
    }
}
