//! A job: what was asked, how far it is, and what of it waits, is penalized or has ended.
//!
//! [`JobRecord`] is the durable part and is all that is kept of a job that has ended. [`Job::live`] exists while there
//! is something left to do; it can be rebuilt from the record and the store at any time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use orbit_shared::filter::FileLimits;
use orbit_shared::penalization::{PenaltyBox, PenaltyConfig};
use orbit_shared::prioritizer::{ComposablePrioritizer, PrioritizerKind};
use orbit_shared::time::{Monotonic, WallTime};
use orbit_shared::trace_context::TraceContext;
use orbit_shared::words::{ItemId, JobId, Layout, SnapshotId, StarId};
use serde::{Deserialize, Serialize};

use super::comparing::{Attention, Listed};
use super::lane::{Lane, Queued, queue_key};
use super::notices::Way;
use super::rate::{BandwidthWindow, Budget, Rate};
use super::seals::Seal;
use super::sweeps::{MirrorPolicy, Sweep, SweepRecord};

/// A place on a Star.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The Star.
    pub star_id: StarId,
    /// Absolute path on it.
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
}

/// What an operator asked for, with defaults filled in.
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
    /// The job pauses when it has so many dead letters.
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
    /// The span of whoever asked, of which the job's is a part.
    #[serde(default)]
    pub caller: Option<TraceContext>,
    /// What is deleted at the destinations of what the source has not; nothing if this is no mirror.
    #[serde(default)]
    pub mirror: Option<MirrorPolicy>,
}

impl JobSpec {
    /// Bytes a second that may cross at a time; 0 for no limit.
    pub fn bandwidth_at(&self, time: WallTime) -> u64 {
        let window = self.bandwidth_windows.iter().find(|window| window.contains(time));
        window.map_or(self.max_bytes_per_second, |window| window.max_bytes_per_second)
    }
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
}

impl Tally {
    /// Items that have not ended.
    pub fn open(&self) -> u64 {
        self.open_files + self.open_directories
    }

    /// The sum of two tallies.
    pub fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            stored: self.stored + other.stored,
            skipped: self.skipped + other.skipped,
            dead: self.dead + other.dead,
            open_files: self.open_files + other.open_files,
            open_directories: self.open_directories + other.open_directories,
            bytes_total: self.bytes_total + other.bytes_total,
            bytes_stored: self.bytes_stored + other.bytes_stored,
            bytes_transferred: self.bytes_transferred + other.bytes_transferred,
            bytes_deduplicated: self.bytes_deduplicated + other.bytes_deduplicated,
        }
    }

    /// The count of unfinished items of one phase.
    pub fn open_mut(&mut self, is_directory: bool) -> &mut u64 {
        if is_directory { &mut self.open_directories } else { &mut self.open_files }
    }
}

/// The durable part of a job.
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
    /// What the sweeps of a mirror came to, by destination.
    #[serde(default)]
    pub sweeps: Vec<Option<SweepRecord>>,
}

impl JobRecord {
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

/// A scan that runs on a Star for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningScan {
    /// Its number.
    pub id: u64,
    /// The last batch that was taken.
    pub last_batch: u64,
    /// When it last came on.
    pub progress_at: Monotonic,
    /// Whether it was reported as stalled.
    pub is_stalled: bool,
    /// Batches that came and are not taken, because the destinations are still to say what they have of them.
    pub listed: VecDeque<Listed>,
}

/// What is in memory while a job has something to do.
#[derive(Debug)]
pub struct Live {
    /// One lane for each destination.
    pub lanes: Vec<Lane>,
    /// Who waits out a penalty.
    pub penalties: PenaltyBox<ItemId>,
    /// The items behind the penalties.
    pub penalized: BTreeMap<ItemId, Queued>,
    /// Items that wait until their destination's disk has room for them.
    pub parked: BTreeMap<ItemId, Queued>,
    /// How many sessions ended while Stars worked on an item, by its destination and sequence number.
    pub strikes: BTreeMap<(u32, u64), u32>,
    /// The scan, while it runs.
    pub scan: Option<RunningScan>,
    /// When a listing that broke off may start again, and the wait that led there.
    pub scan_pause: Option<(Monotonic, Duration)>,
    /// How far the seals are, by destination.
    pub seals: BTreeMap<u32, Seal>,
    /// How far the sweeps are, by destination.
    pub sweeps: BTreeMap<u32, Sweep>,
    /// Which destinations are asked what they have already.
    pub attention: Vec<Attention>,
    /// What of the bandwidth limit is left.
    pub budget: Budget,
    /// What moved lately.
    pub rate: Rate,
    /// The order of dispatch.
    pub order: ComposablePrioritizer,
    /// The way to each destination.
    pub ways: Vec<Arc<Way>>,
}

/// A job.
#[derive(Debug)]
pub struct Job {
    /// What survives a restart.
    pub record: JobRecord,
    /// What is rebuilt after one; `None` once the job has ended.
    pub live: Option<Live>,
    /// Whether the record differs from what the store has.
    pub is_dirty: bool,
}

impl Job {
    /// A job that has just been created or recovered.
    pub fn new(record: JobRecord, now: Monotonic, seed: u64) -> Self {
        let live = record.end.is_none().then(|| Live::new(&record, now, seed));
        Self { record, live, is_dirty: false }
    }

    /// Puts an ended job back to work.
    pub fn revive(&mut self, now: Monotonic, seed: u64) -> &mut Live {
        self.record.end = None;
        self.record.sweeps.clear();
        self.is_dirty = true;
        let record = &self.record;
        self.live.get_or_insert_with(|| Live::new(record, now, seed))
    }
}

impl Live {
    /// An item waits in its lane, at the place that its order and its failures so far give it.
    pub(super) fn wait(&mut self, item: ItemId, queued: Queued) {
        let retry_count = self.penalties.penalty_count(&item);
        let key = queue_key(&self.order, item.sequence, &queued.entry, retry_count);
        self.lanes[item.destination as usize].insert(key, queued);
    }

    fn new(record: &JobRecord, now: Monotonic, seed: u64) -> Self {
        Self {
            lanes: record.spec.destinations.iter().map(|_| Lane::new()).collect(),
            penalties: PenaltyBox::with_seed(record.spec.penalty.clone(), seed ^ record.id.0),
            penalized: BTreeMap::new(),
            parked: BTreeMap::new(),
            strikes: BTreeMap::new(),
            scan: None,
            scan_pause: None,
            seals: BTreeMap::new(),
            sweeps: BTreeMap::new(),
            attention: vec![Attention::default(); record.spec.destinations.len()],
            budget: Budget::new(record.spec.max_bytes_per_second, now),
            rate: Rate::default(),
            order: ComposablePrioritizer::from_kinds(&record.spec.prioritizers),
            ways: record.spec.destinations.iter().map(|to| Way::new(&record.spec.source, to)).collect(),
        }
    }
}

/// How long the rest of a job takes at a rate, if that can be told.
pub(super) fn estimate(bytes_left: u64, bytes_per_second: u64) -> Option<Duration> {
    (bytes_per_second > 0).then(|| Duration::from_secs(bytes_left.div_ceil(bytes_per_second)))
}
