//! What a turn of the core makes durable. All changes of one turn are committed together or not at all.

use std::sync::Arc;

use orbit_shared::bulletin::Bulletin;
use orbit_shared::dead_letter::DeadLetterEntry;
use orbit_shared::entry::Entry;
use orbit_shared::penalization::PenaltyRecord;
use orbit_shared::words::{AssignmentId, ItemId, JobId, SnapshotId, StarId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::records::{AnswerRecord, JobRecord, ScheduleRecord, SnapshotRecord, StarRecord};

/// Orders the items of a lane: its place in the store's queue.
pub type QueueKey = Vec<u8>;

/// How an item ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemEnd {
    /// Stored.
    Stored,
    /// Was there already.
    Skipped,
    /// Given up.
    Dead,
}

/// An item's end, and after how many failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemEndRecord {
    /// How it ended.
    pub end: ItemEnd,
    /// Failed attempts before.
    pub attempts: u32,
}

/// A penalized item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PenalizedRecord {
    /// Its failures.
    pub record: PenaltyRecord,
    /// What the scan found.
    pub entry: Entry,
}

/// A dead letter with what is needed to queue its item again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadItem {
    /// The dead letter.
    pub letter: DeadLetterEntry,
    /// What the scan found.
    pub entry: Entry,
    /// Whether it is being tried again.
    pub is_retrying: bool,
}

/// A live assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentRecord {
    /// Its number.
    pub id: AssignmentId,
    /// Who holds it.
    pub star: StarId,
    /// Its job.
    pub job: JobId,
    /// Its destination within the job.
    pub destination: u32,
    /// Its items.
    pub sequences: Vec<u64>,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A job is new or its record is different.
    PutJob(Box<JobRecord>),
    /// A job is forgotten, with all its items.
    ForgetJob(JobId),
    /// Nothing of a job waits any more.
    ClearQueue(JobId),
    /// Items of a job are forgotten, with how they ended. Both numbers lie between blocks of the store, or the second is the
    /// job's last.
    RemoveItems {
        /// The job.
        job: JobId,
        /// How many destinations it has.
        destinations: u32,
        /// The first sequence number.
        from: u64,
        /// The sequence number behind the last.
        until: u64,
    },
    /// The scan found an entry.
    PutEntry {
        /// The job.
        job: JobId,
        /// Its sequence number.
        sequence: u64,
        /// The entry.
        entry: Arc<Entry>,
    },
    /// An item waits in its lane's queue.
    Enqueue {
        /// The item.
        item: ItemId,
        /// Its place.
        key: QueueKey,
    },
    /// An item has left the queue.
    Dequeue {
        /// The item.
        item: ItemId,
        /// Its place.
        key: QueueKey,
    },
    /// An item has ended.
    PutEnd {
        /// The item.
        item: ItemId,
        /// How.
        record: ItemEndRecord,
    },
    /// An item that had ended is to be tried again.
    RemoveEnd(ItemId),
    /// An item is penalized.
    PutPenalty {
        /// The item.
        item: ItemId,
        /// Its record.
        record: Box<PenalizedRecord>,
    },
    /// An item is penalized no more.
    RemovePenalty(ItemId),
    /// An item is a dead letter.
    PutDeadLetter(Box<DeadItem>),
    /// A dead letter was retried or forgotten.
    RemoveDeadLetter(u64),
    /// A Star holds an assignment.
    PutAssignment(AssignmentRecord),
    /// Nobody holds it any more.
    RemoveAssignment(AssignmentId),
    /// A Star is new or its record is different.
    PutStar(Box<StarRecord>),
    /// A Star is forgotten.
    RemoveStar(StarId),
    /// A bulletin is new, repeated or acknowledged.
    PutBulletin(Bulletin),
    /// A bulletin had to make room.
    RemoveBulletin(u64),
    /// A snapshot is new or its record is different.
    PutSnapshot(Box<SnapshotRecord>),
    /// A snapshot is forgotten.
    RemoveSnapshot(SnapshotId),
    /// A schedule is new or its record is different.
    PutSchedule(Box<ScheduleRecord>),
    /// A schedule is forgotten.
    RemoveSchedule(u64),
    /// The result of a request is to be remembered.
    PutAnswer(Box<AnswerRecord>),
    /// An answer had to make room.
    RemoveAnswer(u64),
    /// The next number of each kind.
    PutCounters(Counters),
    /// The grid has its name.
    PutGrid(Uuid),
    /// The number of the last event in the provenance log.
    PutLastEvent(u64),
}

/// The next numbers; none is ever given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Next job.
    pub job: u64,
    /// Next assignment.
    pub assignment: u64,
    /// Next scan.
    pub scan: u64,
    /// Next dead letter.
    pub dead_letter: u64,
    /// Next bulletin.
    pub bulletin: u64,
    /// Next schedule.
    #[serde(default = "first")]
    pub schedule: u64,
}

/// The number of a kind of which there was none.
fn first() -> u64 {
    1
}

impl Default for Counters {
    fn default() -> Self {
        Self { job: 1, assignment: 1, scan: 1, dead_letter: 1, bulletin: 1, schedule: first() }
    }
}

/// All that a core needs to go on where another stopped.
#[derive(Debug, Default)]
pub struct Recovered {
    /// All jobs, those that have ended too.
    pub jobs: Vec<JobRecord>,
    /// All Stars.
    pub stars: Vec<StarRecord>,
    /// Live assignments, without the items that have ended, and the entries of the others in the same order.
    pub assignments: Vec<(AssignmentRecord, Vec<Entry>)>,
    /// Penalized items.
    pub penalties: Vec<(ItemId, PenalizedRecord)>,
    /// Dead letters.
    pub dead_letters: Vec<DeadItem>,
    /// Bulletins.
    pub bulletins: Vec<Bulletin>,
    /// The catalogue of snapshots.
    pub snapshots: Vec<SnapshotRecord>,
    /// All schedules.
    pub schedules: Vec<ScheduleRecord>,
    /// The results of requests.
    pub answers: Vec<AnswerRecord>,
    /// The next numbers.
    pub counters: Counters,
    /// The name of the grid; `None` in a store that is new or of an earlier build.
    pub grid: Option<Uuid>,
    /// The number of the last event whose turn was committed; `None` if there was none.
    pub last_event: Option<u64>,
}
