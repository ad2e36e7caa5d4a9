//! A tree that does not exist: small files in directories of a thousand.

use orbit_shared::entry::{Entry, EntryKind};
use orbit_shared::session::{ChunkCounts, ItemOutcome, ItemResult, Report, ScanBatch, limits};
use orbit_shared::time::WallTime;
use orbit_shared::words::AssignmentId;

/// Size of each file, in bytes.
pub const FILE_BYTES: u64 = 4096;

/// Returns the batches of a scan.
#[derive(Debug)]
pub struct Scan {
    scan: u64,
    next: u64,
    end: u64,
    number: u64,
}

impl Scan {
    /// A scan with a number of the coordinator and this many entries.
    pub fn new(scan: u64, entries: u64) -> Self {
        Self { scan, next: 0, end: entries, number: 0 }
    }

    /// The number of the last batch.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next batch; `None` after the last one.
    pub fn batch(&mut self) -> Option<ScanBatch> {
        if self.number > 0 && self.next == self.end {
            return None;
        }
        let to = self.end.min(self.next + limits::SCAN_BATCH_ENTRIES_MAX as u64);
        let entries = (self.next..to).map(entry).collect();
        self.next = to;
        self.number += 1;
        let is_last = to == self.end;
        Some(ScanBatch {
            scan: self.scan,
            number: self.number,
            entries,
            is_last,
            failure: None,
            matched: Vec::new(),
            skipped_mounts: Vec::new(),
        })
    }
}

/// One of the files, by its number.
pub fn entry(number: u64) -> Entry {
    Entry {
        path: format!("archive/{:05}/photograph-{number:08}.jpg", number / 1000).into_bytes(),
        kind: EntryKind::File { size: FILE_BYTES },
        mode: 0o644,
        modified: WallTime::UNIX_EPOCH,
        rank: 50,
    }
}

/// The report of an assignment whose items were all stored.
pub fn all_stored(number: u64, assignment: AssignmentId, sequences: impl Iterator<Item = u64>) -> Report {
    let stored = |sequence| ItemOutcome {
        sequence,
        result: ItemResult::Stored {
            size: FILE_BYTES,
            bytes_transferred: FILE_BYTES,
            bytes_deduplicated: 0,
            chunks: ChunkCounts::default(),
            duration: std::time::Duration::from_millis(1),
            is_changed: false,
        },
    };
    Report { number, assignment, outcomes: sequences.map(stored).collect() }
}
