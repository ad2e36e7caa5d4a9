//! The files of one pull, and in which order parts of them are asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use orbit_shared::session::Failure;

use crate::checkpoints::Covered;
use crate::limits::{BASES_IN_FLIGHT_MAX, SEGMENT_BYTES, SEGMENTS_IN_FLIGHT_MAX, SMALL_FILE_BYTES_MAX};
use crate::sink::basis::Basis;
use crate::sink::plan::Wanted;
use crate::sink::work::Written;
use crate::sink::write::Target;
use crate::transfer::{FileVersion, Range};

/// How a file is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// In one go, all such files at once.
    Whole,
    /// Small, hashes first.
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
    /// The version that all its parts must be of.
    pub(super) version: Option<FileVersion>,
    /// Why nothing of it will be published.
    pub(super) failure: Option<Failure>,
    /// Set when the target had the right content already.
    pub(super) retouched: Option<Written>,
    pub(super) bytes_transferred: u64,
    pub(super) bytes_deduplicated: u64,
    /// Fetches and jobs that have not ended.
    pub(super) busy: usize,
    /// Whether its last job has begun.
    pub(super) is_ending: bool,
    scanned_size: u64,
    next_offset: u64,
    /// What an earlier attempt has of it; the rest is asked for.
    resumed: Covered,
}

impl FileState {
    pub(super) fn new(wanted: Wanted, scanned_size: u64) -> Self {
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
        let target = wanted.resumed.map(Target::resumed).unwrap_or_default();
        let mut file = Self {
            item: wanted.item,
            lane,
            target: Arc::new(target),
            basis: if wanted.has_basis { BasisState::Wanted } else { BasisState::None },
            version,
            failure: None,
            retouched: None,
            bytes_transferred: 0,
            bytes_deduplicated: resumed.bytes(),
            busy: 0,
            is_ending: false,
            scanned_size,
            next_offset: 0,
            resumed,
        };
        file.skip_resumed();
        file
    }

    /// Goes on to the next segment of which something is missing.
    fn skip_resumed(&mut self) {
        while self.has_more() && self.next_missing().is_empty() {
            self.next_offset += SEGMENT_BYTES;
        }
    }

    /// What is missing of the next segment. Of a file that nothing is there of, all of it, also beyond its end, since it
    /// may have grown.
    fn next_missing(&self) -> Vec<Range> {
        if self.resumed.bytes() == 0 {
            return vec![Range { offset: self.next_offset, length: SEGMENT_BYTES }];
        }
        let size = self.version.map_or(self.scanned_size, |version| version.size);
        self.resumed.missing(self.next_offset, (self.next_offset + SEGMENT_BYTES).min(size))
    }

    /// Whether parts of it have not been asked for yet. The version that is read decides over the one that was scanned.
    pub(super) fn has_more(&self) -> bool {
        let size = self.version.map_or(self.scanned_size, |version| version.size);
        self.failure.is_none() && self.next_offset < size
    }

    /// The next part to ask for.
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

    /// Notes the version that a part is of; parts of different versions never make a file.
    pub(super) fn is_of_version(&mut self, version: FileVersion) -> bool {
        *self.version.get_or_insert(version) == version
    }

    /// The file's version if its only segment holds all of it.
    pub(super) fn sole_segment(&self) -> Option<&FileVersion> {
        self.version.as_ref().filter(|version| version.size <= SEGMENT_BYTES)
    }

    /// Only the first failure is told.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// Whether nothing more will happen to it by itself.
    pub(super) fn is_done(&self) -> bool {
        self.busy == 0 && !self.is_ending && !self.has_more()
    }
}

/// Files that wait for their turn, and how many parts of such files may be in flight.
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

/// The two queues; files that are fetched whole need none.
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

    /// The next file that may have another part in flight.
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
