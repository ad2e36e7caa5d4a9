//! The durable part of a job: what was asked, how far it is, and how it ended.

use std::collections::{BTreeMap, BTreeSet};

use orbit_shared::capability::{FILTER_BYTES_MAX, ReadFilter};
use orbit_shared::filter::FileLimits;
use orbit_shared::penalization::PenaltyConfig;
use orbit_shared::prioritizer::PrioritizerKind;
use orbit_shared::time::WallTime;
use orbit_shared::trace_context::TraceContext;
use orbit_shared::words::{JobId, Layout, SnapshotId, StarId};
use serde::{Deserialize, Serialize};

use super::mounts::SkippedMounts;
use super::sweep::{MirrorPolicy, SweepRecord};
use crate::core::rate::BandwidthWindow;

/// A place on a Star.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The Star.
    pub star_id: StarId,
    /// Absolute path on it.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
}

/// What an operator asked for, with defaults filled in. Stored by the order of its fields: a new one goes to the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Where the tree is read.
    pub source: Location,
    /// Where it goes.
    pub destinations: Vec<Location>,
    /// Globs to include; empty for everything.
    pub include: Vec<String>,
    /// Globs to leave out.
    pub exclude: Vec<String>,
    /// The order of dispatch.
    pub prioritizers: Vec<PrioritizerKind>,
    /// Waits and retries.
    pub penalty: PenaltyConfig,
    /// Bytes a second for all destinations together; 0 for no limit.
    pub max_bytes_per_second: u64,
    /// Number of dead letters at which the job pauses.
    pub dead_letter_max: u64,
    /// In which form the destinations keep it.
    #[serde(default)]
    pub layout: Layout,
    /// The snapshot in the source Star's vault that is read; without it, the source is a directory.
    #[serde(default)]
    pub snapshot: Option<SnapshotId>,
    /// Words for the snapshots that the job makes.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Which regular files it wants.
    #[serde(default)]
    pub limits: FileLimits,
    /// Other limits of bandwidth at some times of the day.
    #[serde(default)]
    pub bandwidth_windows: Vec<BandwidthWindow>,
    /// The caller's span; that of the job is a part of it.
    #[serde(default)]
    pub caller: Option<TraceContext>,
    /// What is deleted at the destinations of what the source has not; nothing if this is no mirror.
    #[serde(default)]
    pub mirror: Option<MirrorPolicy>,
    /// Paths below the source that are moved too.
    #[serde(default)]
    pub paths: Vec<serde_bytes::ByteBuf>,
    /// Whether content is compared, instead of size, time and mode.
    #[serde(default)]
    pub compares_content: bool,
    /// Whether directories on another file system than the source are not entered.
    #[serde(default)]
    pub is_one_file_system: bool,
}

impl JobSpec {
    /// Whether another specification asks for the same. The caller's span differs with each call and asks for nothing.
    pub fn is_same_request(&self, other: &Self) -> bool {
        let without_caller = |spec: &Self| Self { caller: None, ..spec.clone() };
        without_caller(self) == without_caller(other)
    }

    /// Bytes a second that may cross at a time; 0 for no limit.
    pub fn bandwidth_at(&self, time: WallTime) -> u64 {
        let window = self.bandwidth_windows.iter().find(|window| window.contains(time));
        window.map_or(self.max_bytes_per_second, |window| window.max_bytes_per_second)
    }
}

impl JobSpec {
    /// The listed paths, as a scan takes them.
    pub(in crate::core) fn listed_paths(&self) -> Vec<Vec<u8>> {
        self.paths.iter().map(|path| path.to_vec()).collect()
    }

    /// The globs to leave out, and with them the trash of a mirror: it is neither mirrored nor swept.
    pub(in crate::core) fn all_excluded(&self) -> Vec<String> {
        let trash = self.mirror.iter().filter_map(|mirror| mirror.trash.as_ref());
        self.exclude.iter().cloned().chain(trash.map(|name| format!("/{name}"))).collect()
    }
}

impl JobSpec {
    /// What of the source its grants name, as far as a token has room. What may not be read comes first; what may be read,
    /// by globs or by paths, is named whole or not at all. A grant without a part is wider, and never refuses what the job lists.
    pub(in crate::core) fn read_filter(&self) -> Option<ReadFilter> {
        let mut filter = ReadFilter::default();
        let parts = [
            ReadFilter { exclude: self.all_excluded(), ..ReadFilter::default() },
            ReadFilter { include: self.include.clone(), paths: self.listed_paths(), ..ReadFilter::default() },
        ];
        for part in parts {
            if filter.len() + part.len() <= FILTER_BYTES_MAX {
                filter.exclude.extend(part.exclude);
                filter.include.extend(part.include);
                filter.paths.extend(part.paths);
            }
        }
        (!filter.is_empty()).then_some(filter)
    }
}

/// The number of the destination at an index.
pub(in crate::core) fn destination_number(index: usize) -> u32 {
    u32::try_from(index).expect("a job has no more destinations than a request can name")
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobState {
    /// The source is still being listed; items already move.
    Scanning,
    /// The listing is complete.
    Running,
    /// Nothing new is dispatched.
    Paused,
    /// Ended; everything is at the destinations.
    Completed,
    /// Ended; some items are dead letters.
    PartiallyCompleted,
    /// Ended; could not be done.
    Failed,
    /// Ended by an operator.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Scanning,
        Self::Running,
        Self::Paused,
        Self::Completed,
        Self::PartiallyCompleted,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Whether a job in this state has ended.
    pub fn is_end(self) -> bool {
        match self {
            Self::Scanning | Self::Running | Self::Paused => false,
            Self::Completed | Self::PartiallyCompleted | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// One of the end states.
    pub state: JobState,
    /// When.
    pub time: WallTime,
    /// Why.
    pub reason: String,
}

/// How far the listing of the source is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRecord {
    /// Whether the listing is complete.
    pub is_done: bool,
    /// Path of the last entry that is in the store; a new scan goes on after it.
    pub cursor: Option<serde_bytes::ByteBuf>,
    /// Sequence number of the next entry.
    pub next_sequence: u64,
    /// Which globs and listed paths have matched something, as the Star numbers them; absent where that was not noted.
    #[serde(default)]
    pub matched: Option<BTreeSet<u32>>,
    /// What could not be listed and is to be listed again. While there is any of it, the scan is for this only.
    #[serde(default)]
    pub again: Vec<ListedAgain>,
    /// Bytes of the paths and link targets that were listed.
    #[serde(default)]
    pub listed_bytes: u64,
    /// Mount points that were not entered, because the job stays in one file system.
    #[serde(default)]
    pub skipped_mounts: SkippedMounts,
}

/// An entry that could not be listed or looked at, whose dead letters are retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedAgain {
    /// Its path.
    pub path: serde_bytes::ByteBuf,
    /// The sequence number of its item, until it is found.
    pub sequence: Option<u64>,
}

/// Counts of one destination. At every commit `total = stored + skipped + dead + open_files + open_directories`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Items found.
    pub total: u64,
    /// Items stored.
    pub stored: u64,
    /// Items that were there already.
    pub skipped: u64,
    /// Items given up.
    pub dead: u64,
    /// Items other than directories that have not ended.
    pub open_files: u64,
    /// Directories that have not ended. They go last: writing into a directory changes its times.
    pub open_directories: u64,
    /// Bytes of the files found.
    pub bytes_total: u64,
    /// Bytes of the files that are stored or were there already.
    pub bytes_stored: u64,
    /// Bytes that crossed from the source.
    pub bytes_transferred: u64,
    /// Bytes that did not have to.
    pub bytes_deduplicated: u64,
    /// Of the items given up, those that had vanished from the source.
    #[serde(default)]
    pub vanished: u64,
    /// Of the items stored, those that changed while they were read.
    #[serde(default)]
    pub changed: u64,
}

impl Tally {
    /// Items that have not ended.
    pub fn open(&self) -> u64 {
        self.open_files + self.open_directories
    }

    /// The sum of two tallies. Bytes saturate, since Stars name them.
    pub fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            stored: self.stored + other.stored,
            skipped: self.skipped + other.skipped,
            dead: self.dead + other.dead,
            open_files: self.open_files + other.open_files,
            open_directories: self.open_directories + other.open_directories,
            bytes_total: self.bytes_total.saturating_add(other.bytes_total),
            bytes_stored: self.bytes_stored.saturating_add(other.bytes_stored),
            bytes_transferred: self.bytes_transferred.saturating_add(other.bytes_transferred),
            bytes_deduplicated: self.bytes_deduplicated.saturating_add(other.bytes_deduplicated),
            vanished: self.vanished + other.vanished,
            changed: self.changed + other.changed,
        }
    }

    /// The count of unfinished items of one phase.
    pub fn open_mut(&mut self, is_directory: bool) -> &mut u64 {
        if is_directory { &mut self.open_directories } else { &mut self.open_files }
    }
}

/// The durable part of a job. Stored by the order of its fields: a new one goes to the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its number.
    pub id: JobId,
    /// What was asked for.
    pub spec: JobSpec,
    /// The caller's name for the request; empty for none.
    pub request_id: String,
    /// When it was created.
    pub create_time: WallTime,
    /// Why it is paused, if it is.
    pub pause: Option<String>,
    /// The listing.
    pub scan: ScanRecord,
    /// One tally for each destination.
    pub tallies: Vec<Tally>,
    /// How it ended, if it has.
    pub end: Option<JobEnd>,
    /// The snapshots that are sealed, by destination.
    #[serde(default)]
    pub snapshots: Vec<Option<SnapshotId>>,
    /// The results of a mirror's sweeps, by destination.
    #[serde(default)]
    pub sweeps: Vec<Option<SweepRecord>>,
    /// Why the snapshots that cannot be made cannot be made, by destination.
    #[serde(default)]
    pub seal_failures: BTreeMap<u32, String>,
    /// Who created it, for example `operator:alice`; empty for one of an earlier version.
    #[serde(default)]
    pub created_by: String,
    /// Its items with lower sequence numbers are not in the store any more; `None` where none is to be removed.
    #[serde(default)]
    pub removed_before: Option<u64>,
    /// Whether it is forgotten: it is hidden, and its record is removed with the last of its items.
    #[serde(default)]
    pub is_forgotten: bool,
    /// How often the sweeps of a mirror were made void, because dead letters were retried.
    #[serde(default)]
    pub sweeps_voided: u64,
    /// The schedule of which it was made by hand, if it was.
    #[serde(default)]
    pub run_of: Option<u64>,
    /// Entries that sweeps of a mirror deleted before they were made void.
    #[serde(default)]
    pub deleted_before: u64,
}

/// Globs that are named as having matched nothing.
const UNMATCHED_SHOWN_MAX: usize = 5;

impl JobRecord {
    /// Whether a part of the scan's filter has matched nothing: include globs count from 0, exclude globs go on behind them (with
    /// the trash of a mirror as the last), the listed paths behind those.
    fn is_unmatched(&self, index: usize) -> bool {
        let matched = self.scan.matched.as_ref();
        matched.is_some_and(|matched| u32::try_from(index).is_ok_and(|index| !matched.contains(&index)))
    }

    /// Number of parts of the scan's filter.
    pub(in crate::core) fn filter_parts(&self) -> u64 {
        let spec = &self.spec;
        (spec.include.len() + spec.all_excluded().len() + spec.paths.len()) as u64
    }

    /// Listed paths that are not at the source, after all of it was listed.
    pub(in crate::core) fn missing_paths(&self) -> Vec<Vec<u8>> {
        let first = self.spec.include.len() + self.spec.all_excluded().len();
        let paths = self.spec.paths.iter().enumerate();
        paths.filter(|(index, _)| self.is_unmatched(first + index)).map(|(_, path)| path.to_vec()).collect()
    }

    /// Which globs have matched nothing, once the source is listed.
    pub fn unmatched_globs(&self) -> Vec<String> {
        if !self.scan.is_done {
            return Vec::new();
        }
        let first_exclude = self.spec.include.len();
        let include = self.spec.include.iter().enumerate().map(|(index, glob)| (index, "include", glob));
        let exclude = self.spec.exclude.iter().enumerate();
        let exclude = exclude.map(|(index, glob)| (first_exclude + index, "exclude", glob));
        let unmatched = include.chain(exclude).filter(|(index, _, _)| self.is_unmatched(*index));
        unmatched.map(|(_, which, glob)| format!("{which} {glob:?}")).collect()
    }

    /// The same in words that go behind how the job has ended; empty if all have matched something.
    pub(in crate::core) fn unmatched_words(&self) -> String {
        let unmatched = self.unmatched_globs();
        let shown = &unmatched[..unmatched.len().min(UNMATCHED_SHOWN_MAX)];
        match unmatched.len() - shown.len() {
            _ if shown.is_empty() => String::new(),
            0 => format!("; nothing matched {}", shown.join(", ")),
            more => format!("; nothing matched {} and {more} more", shown.join(", ")),
        }
    }

    /// Where it stands.
    pub fn state(&self) -> JobState {
        match (&self.end, &self.pause, self.scan.is_done) {
            (Some(end), _, _) => end.state,
            (None, Some(_), _) => JobState::Paused,
            (None, None, false) => JobState::Scanning,
            (None, None, true) => JobState::Running,
        }
    }

    /// The span of the whole job: part of its caller's, or the first one of a trace that no other job has.
    pub fn trace(&self) -> TraceContext {
        let number = self.id.0;
        match self.spec.caller {
            Some(caller) => caller.child("job", number),
            None => TraceContext::root(format!("job {number} {}", self.create_time.as_nanos()).as_bytes()),
        }
    }

    /// The counts of all destinations together.
    pub fn tally(&self) -> Tally {
        self.tallies.iter().fold(Tally::default(), |sum, &tally| sum.plus(tally))
    }
}
