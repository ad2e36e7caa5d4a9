//! The files of one pull, and the order in which parts of them are requested.

use std::collections::VecDeque;
use std::sync::Arc;

use orbit_shared::session::{ChunkCounts, Failure};

use crate::checkpoints::Covered;
use crate::limits::{
    BASES_IN_FLIGHT_MAX, SAME_CHUNKS_MAX, SEGMENT_BYTES, SEGMENTS_IN_FLIGHT_MAX, SMALL_FILE_BYTES_MAX,
};
use crate::sink::basis::Basis;
use crate::sink::plan::Wanted;
use crate::sink::write::Target;
use crate::transfer::{Chunk, FileVersion, Range};

/// How a file is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Completely, all such files at once.
    Whole,
    /// Small files: hashes first.
    SmallWithBasis,
    /// In segments.
    Segments,
}

/// Whether there is an older version to take chunks from.
#[derive(Debug)]
pub(super) enum BasisState {
    None,
    /// Not opened yet.
    Wanted,
    Opening,
    Open(Arc<Basis>),
}

/// One file of a pull.
#[derive(Debug)]
pub(super) struct FileState {
    pub(super) item: usize,
    pub(super) lane: Lane,
    pub(super) target: Arc<Target>,
    pub(super) basis: BasisState,
    /// The version that all its parts must have.
    pub(super) version: Option<FileVersion>,
    /// Why it will not be published.
    pub(super) failure: Option<Failure>,
    /// Segments that are in the basis unchanged, and were not copied.
    pub(super) same: Vec<Vec<(u64, Chunk)>>,
    /// Whether any part differs from the basis, so that the file is written.
    pub(super) differs: bool,
    pub(super) bytes_transferred: u64,
    pub(super) bytes_deduplicated: u64,
    pub(super) chunks: ChunkCounts,
    /// Number of fetches and jobs that have not ended.
    pub(super) busy: usize,
    /// Whether its last job has begun.
    pub(super) is_ending: bool,
    /// Whether it is accepted although it changes while it is read, because it did so in an earlier pull.
    pub(super) accepts_changes: bool,
    /// Whether it changed while this pull read it.
    pub(super) is_changed: bool,
    /// The end of the file if it was truncated meanwhile.
    pub(super) cut: Option<u64>,
    /// Whether the target may be an older version.
    has_basis: bool,
    scanned_size: u64,
    next_offset: u64,
    /// What an earlier attempt has written; the rest is requested.
    resumed: Covered,
}

impl FileState {
    pub(super) fn new(wanted: Wanted, scanned_size: u64, accepts_changes: bool) -> Self {
        let is_small = scanned_size <= SMALL_FILE_BYTES_MAX as u64;
        let lane = match (is_small, wanted.has_basis) {
            (true, false) => Lane::Whole,
            (true, true) => Lane::SmallWithBasis,
            (false, _) => Lane::Segments,
        };
        let (version, resumed) = match &wanted.resumed {
            Some(resumed) => (Some(resumed.version), resumed.covered.clone()),
            None => (None, Covered::default()),
        };
        let (item, has_basis) = (wanted.item, wanted.has_basis);
        let target = wanted.resumed.map(Target::resumed).unwrap_or_default();
        let mut file = Self {
            item,
            lane,
            target: Arc::new(target),
            basis: if has_basis { BasisState::Wanted } else { BasisState::None },
            version,
            failure: None,
            same: Vec::new(),
            differs: false,
            bytes_transferred: 0,
            bytes_deduplicated: resumed.bytes(),
            chunks: ChunkCounts::default(),
            busy: 0,
            is_ending: false,
            accepts_changes,
            is_changed: false,
            cut: None,
            has_basis,
            scanned_size,
            next_offset: 0,
            resumed,
        };
        file.skip_resumed();
        file
    }

    /// Advances to the next segment of which something is missing.
    fn skip_resumed(&mut self) {
        while self.has_more() && self.next_missing().is_empty() {
            self.next_offset += SEGMENT_BYTES;
        }
    }

    /// The missing part of the next segment. If nothing of the file is there, the request reaches beyond its end, since
    /// it may have grown.
    fn next_missing(&self) -> Vec<Range> {
        if self.resumed.bytes() == 0 {
            return vec![Range { offset: self.next_offset, length: SEGMENT_BYTES }];
        }
        let size = self.version.map_or(self.scanned_size, |version| version.size);
        self.resumed.missing(self.next_offset, (self.next_offset + SEGMENT_BYTES).min(size))
    }

    /// Whether further parts of it can be requested. The version that is read counts, not the one that was scanned. If
    /// the file is in motion, all parts must be of one version, which the first part determines.
    pub(super) fn has_more(&self) -> bool {
        let size = match self.version {
            Some(version) => self.cut.unwrap_or(u64::MAX).min(version.size),
            None if self.accepts_changes && self.next_offset > 0 => 0,
            None => self.scanned_size,
        };
        self.failure.is_none() && self.next_offset < size
    }

    /// The version that the target will have.
    pub(super) fn final_version(&self) -> Option<FileVersion> {
        let size = |size: u64| self.cut.unwrap_or(u64::MAX).min(size);
        self.version.map(|version| FileVersion { size: size(version.size), ..version })
    }

    /// Records that a part of it ended early.
    pub(super) fn cut_at(&mut self, end: u64) {
        self.cut = Some(self.cut.unwrap_or(u64::MAX).min(end));
    }

    /// It changed while it was read, and is to be requested once more.
    pub(super) fn in_motion(&self) -> Wanted {
        Wanted { item: self.item, has_basis: self.has_basis, resumed: None }
    }

    /// The next part to request.
    pub(super) fn next_ranges(&mut self) -> Vec<Range> {
        if self.lane == Lane::Whole {
            self.next_offset = u64::MAX;
            return vec![Range::WHOLE];
        }
        let ranges = self.next_missing();
        self.next_offset += SEGMENT_BYTES;
        self.skip_resumed();
        ranges
    }

    /// Records the version of a part. Parts of different versions are never combined.
    pub(super) fn is_of_version(&mut self, version: FileVersion) -> bool {
        *self.version.get_or_insert(version) == version
    }

    /// Whether it can turn out to be equal to the basis.
    pub(super) fn may_be_same(&self, basis: &Basis) -> bool {
        let is_whole = self.cut.is_none() && self.resumed.bytes() == 0;
        let count: usize = self.same.iter().map(Vec::len).sum();
        is_whole
            && !self.differs
            && count < SAME_CHUNKS_MAX
            && self.version.is_some_and(|version| basis.has_size(version.size))
    }

    /// The basis and its version, if all of it was found to be equal.
    pub(super) fn unchanged(&self) -> Option<(Arc<Basis>, FileVersion)> {
        let BasisState::Open(basis) = &self.basis else { return None };
        let length = self.same.iter().flatten().map(|(_, chunk)| u64::from(chunk.length)).sum::<u64>();
        let version = self.version.filter(|version| version.size == length)?;
        let is_same = !self.differs && self.cut.is_none() && !self.same.is_empty();
        is_same.then(|| (Arc::clone(basis), version))
    }

    /// Only the first failure is reported.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// Whether it waits for nothing any more.
    pub(super) fn is_done(&self) -> bool {
        self.busy == 0 && !self.is_ending && !self.has_more()
    }
}

/// Files that wait for their turn, with a limit on the parts of such files in flight.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) waiting: VecDeque<usize>,
    pub(super) in_flight: usize,
    in_flight_max: usize,
}

impl Queue {
    pub(super) fn has_room(&self) -> bool {
        self.in_flight < self.in_flight_max
    }

    pub(super) fn release(&mut self) {
        assert!(self.in_flight > 0, "a slot is given back once");
        self.in_flight -= 1;
    }
}

/// The two queues. Files that are fetched completely need none.
#[derive(Debug)]
pub(super) struct Queues {
    small: Queue,
    segments: Queue,
}

impl Default for Queues {
    fn default() -> Self {
        let queue = |in_flight_max| Queue { waiting: VecDeque::new(), in_flight: 0, in_flight_max };
        Self { small: queue(BASES_IN_FLIGHT_MAX), segments: queue(SEGMENTS_IN_FLIGHT_MAX) }
    }
}

impl Queues {
    pub(super) fn of(&mut self, lane: Lane) -> Option<&mut Queue> {
        match lane {
            Lane::Whole => None,
            Lane::SmallWithBasis => Some(&mut self.small),
            Lane::Segments => Some(&mut self.segments),
        }
    }

    pub(super) fn release(&mut self, lane: Lane) {
        if let Some(queue) = self.of(lane) {
            queue.release();
        }
    }

    /// The next file of which another part can be requested.
    pub(super) fn next(&mut self) -> Option<usize> {
        [&mut self.small, &mut self.segments]
            .into_iter()
            .filter(|queue| queue.has_room())
            .find_map(|queue| queue.waiting.pop_front())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
