//! One file of a pull into a vault: what of it is known, and what is still to be asked for.

use std::collections::BTreeMap;

use orbit_shared::chunk_hash::ChunkHash;
use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::session::Failure;

use crate::limits::{SEGMENT_BYTES, SMALL_FILE_BYTES_MAX};
use crate::packed::{ChunkRef, TreeEntry};
use crate::transfer::{Chunk, FileVersion, Range};

/// See the module.
#[derive(Debug)]
pub(super) struct File {
    /// Index into the assignment's items.
    pub(super) item: usize,
    /// Asked for in one go, beside all others of its kind.
    pub(super) is_small: bool,
    /// The version that all its parts must be of.
    pub(super) version: Option<FileVersion>,
    /// Why nothing of it will be kept.
    pub(super) failure: Option<Failure>,
    pub(super) bytes_transferred: u64,
    /// Fetches and jobs that have not ended.
    pub(super) busy: usize,
    /// Whether it has its outcome, or waits to be made durable.
    pub(super) is_settled: bool,
    /// Whether it is wanted although it changes while it is read, which an earlier pull has found.
    pub(super) accepts_changes: bool,
    /// Whether it changed while this pull read it.
    pub(super) is_changed: bool,
    /// Where it ends before the end of its version, because it was cut meanwhile.
    cut: Option<u64>,
    scanned_size: u64,
    next_offset: u64,
    /// The chunks that are in the store, by where they begin.
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

    /// Whether parts of it may be asked for that were not yet. The version that is read decides over the one that was scanned;
    /// even of an empty file that is asked. In motion all parts must be asked for as of one version, which the first tells.
    pub(super) fn has_more(&self) -> bool {
        let size = match self.version {
            Some(version) => self.size_of(version),
            None if self.accepts_changes && self.next_offset > 0 => 0,
            None => self.scanned_size.max(1),
        };
        self.failure.is_none() && self.next_offset < size
    }

    /// How many bytes there are of a version in the end.
    fn size_of(&self, version: FileVersion) -> u64 {
        self.cut.unwrap_or(u64::MAX).min(version.size)
    }

    /// Notes that a part of it ended before it should have.
    pub(super) fn cut_at(&mut self, end: u64) {
        self.cut = Some(self.cut.unwrap_or(u64::MAX).min(end));
    }

    /// The next part to ask for.
    pub(super) fn next_range(&mut self) -> Range {
        if self.is_small {
            self.next_offset = u64::MAX;
            return Range::WHOLE;
        }
        let range = Range { offset: self.next_offset, length: SEGMENT_BYTES };
        self.next_offset += SEGMENT_BYTES;
        range
    }

    /// Notes the version that a part is of; parts of different versions never make a file.
    pub(super) fn is_of_version(&mut self, version: FileVersion) -> bool {
        *self.version.get_or_insert(version) == version
    }

    /// Only the first failure is told.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// Notes that a chunk is in the store.
    pub(super) fn has(&mut self, offset: u64, chunk: &Chunk) {
        self.chunks.insert(offset, ChunkRef { hash: ChunkHash(chunk.hash), length: chunk.length });
    }

    /// Whether nothing more will happen to it by itself.
    pub(super) fn is_done(&self) -> bool {
        self.busy == 0 && !self.is_settled && !self.has_more()
    }

    /// What the tree will have of it, if its chunks cover it without gap or overlap. Its size and time are those of the
    /// version that was read.
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
    fn a_file_is_whole_when_its_chunks_meet_and_end_where_it_ends() {
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
    fn a_large_file_is_asked_for_in_segments_up_to_the_end_of_what_is_read() {
        let mut file = File::new(0, SEGMENT_BYTES + 1, false);
        assert_eq!(file.next_range(), Range { offset: 0, length: SEGMENT_BYTES });
        assert!(file.has_more());
        assert!(file.is_of_version(version(SEGMENT_BYTES)) && !file.has_more(), "it shrank");
        assert!(!file.is_of_version(version(1)));
    }

    #[test]
    fn of_a_file_in_motion_the_first_part_tells_as_of_which_version_the_others_are() {
        let mut file = File::new(0, 3 * SEGMENT_BYTES, true);
        file.next_range();
        assert!(!file.has_more());
        assert!(file.is_of_version(version(2 * SEGMENT_BYTES)) && file.has_more());
        file.cut_at(SEGMENT_BYTES);
        assert!(!file.has_more());
    }
}
