//! Typed provenance: what happened to a chunk, file, job or Star, as events that can be queried.
//!
//! The event and its filter are here; the log format, one line of JSON with a checksum for each event, is in `log`. The
//! owner of the log decides to which file an event is written, and when that is synced and rotated.

mod log;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::log::{
    BadLine, LineFault, PROVENANCE_LINE_BYTES_MAX, ProvenanceReadError, ProvenanceReader, ProvenanceWriter,
    parse, parse_line, recover_tail,
};
use crate::chunk_hash::ChunkHash;
use crate::time::WallTime;
use crate::words::{ItemId, JobId, StarId};

/// The group of the taxonomy that an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvenanceCategory {
    /// About one chunk.
    Chunk,
    /// About one file.
    File,
    /// About one job.
    Job,
    /// About a Star; such events need no job.
    Grid,
}

/// Everything that can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvenanceType {
    /// Chunks were stored that the vault did not have before.
    ChunkCreated,
    /// Chunks were already there and needed no transfer.
    ChunkDeduplicated,
    /// Chunks were received.
    ChunkTransferred,
    /// Chunks were compared with their hashes and are right.
    ChunkVerified,
    /// A damaged chunk was replaced by a good copy.
    ChunkHealed,
    /// A transfer failed and waits for its penalty to end.
    ChunkPenalized,
    /// A transfer was given up and quarantined.
    ChunkDeadLettered,
    /// Chunks were written into a container.
    ChunkPacked,
    /// A file was found under a new path, and its content was not stored again.
    FileRenamed,
    /// A file needed no transfer.
    FileSkipped,
    /// A file's transfer began.
    FileStarted,
    /// A file is stored at its destination.
    FileCompleted,
    /// A job was accepted.
    JobCreated,
    /// A job went on after a pause or a restart.
    JobResumed,
    /// A job ended with everything stored, except for its dead letters.
    JobCompleted,
    /// A job ended without having done its work.
    JobFailed,
    /// A Star joined the grid.
    StarRegistered,
    /// A Star began to receive work.
    StarScheduled,
    /// A Star receives no more work.
    StarDraining,
    /// A Star left the grid.
    StarDeregistered,
}

impl ProvenanceType {
    /// All types.
    pub const ALL: [Self; 20] = [
        Self::ChunkCreated,
        Self::ChunkDeduplicated,
        Self::ChunkTransferred,
        Self::ChunkVerified,
        Self::ChunkHealed,
        Self::ChunkPenalized,
        Self::ChunkDeadLettered,
        Self::ChunkPacked,
        Self::FileRenamed,
        Self::FileSkipped,
        Self::FileStarted,
        Self::FileCompleted,
        Self::JobCreated,
        Self::JobResumed,
        Self::JobCompleted,
        Self::JobFailed,
        Self::StarRegistered,
        Self::StarScheduled,
        Self::StarDraining,
        Self::StarDeregistered,
    ];

    /// Its name in logs, filters and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChunkCreated => "chunk_created",
            Self::ChunkDeduplicated => "chunk_deduplicated",
            Self::ChunkTransferred => "chunk_transferred",
            Self::ChunkVerified => "chunk_verified",
            Self::ChunkHealed => "chunk_healed",
            Self::ChunkPenalized => "chunk_penalized",
            Self::ChunkDeadLettered => "chunk_dead_lettered",
            Self::ChunkPacked => "chunk_packed",
            Self::FileRenamed => "file_renamed",
            Self::FileSkipped => "file_skipped",
            Self::FileStarted => "file_started",
            Self::FileCompleted => "file_completed",
            Self::JobCreated => "job_created",
            Self::JobResumed => "job_resumed",
            Self::JobCompleted => "job_completed",
            Self::JobFailed => "job_failed",
            Self::StarRegistered => "star_registered",
            Self::StarScheduled => "star_scheduled",
            Self::StarDraining => "star_draining",
            Self::StarDeregistered => "star_deregistered",
        }
    }

    /// Its group.
    pub const fn category(self) -> ProvenanceCategory {
        match self {
            Self::ChunkCreated
            | Self::ChunkDeduplicated
            | Self::ChunkTransferred
            | Self::ChunkVerified
            | Self::ChunkHealed
            | Self::ChunkPenalized
            | Self::ChunkDeadLettered
            | Self::ChunkPacked => ProvenanceCategory::Chunk,
            Self::FileRenamed | Self::FileSkipped | Self::FileStarted | Self::FileCompleted => {
                ProvenanceCategory::File
            }
            Self::JobCreated | Self::JobResumed | Self::JobCompleted | Self::JobFailed => {
                ProvenanceCategory::Job
            }
            Self::StarRegistered | Self::StarScheduled | Self::StarDraining | Self::StarDeregistered => {
                ProvenanceCategory::Grid
            }
        }
    }

    /// Whether it is about a chunk.
    pub fn is_chunk_event(self) -> bool {
        self.category() == ProvenanceCategory::Chunk
    }

    /// Whether it is about a file.
    pub fn is_file_event(self) -> bool {
        self.category() == ProvenanceCategory::File
    }

    /// Whether it is about a job.
    pub fn is_job_event(self) -> bool {
        self.category() == ProvenanceCategory::Job
    }

    /// Whether it is about a Star.
    pub fn is_grid_event(self) -> bool {
        self.category() == ProvenanceCategory::Grid
    }
}

impl fmt::Display for ProvenanceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a text does not name an event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a provenance event type, such as chunk_transferred or file_completed")]
pub struct ProvenanceTypeError {
    /// The text.
    pub text: String,
}

impl FromStr for ProvenanceType {
    type Err = ProvenanceTypeError;

    fn from_str(text: &str) -> Result<Self, ProvenanceTypeError> {
        let found = Self::ALL.into_iter().find(|event_type| event_type.as_str() == text);
        found.ok_or_else(|| ProvenanceTypeError { text: text.to_owned() })
    }
}

/// An event. Fields that do not apply are absent, in the log as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenanceEvent {
    /// Its number in its log, ascending; 0 until the log's owner has assigned one.
    #[serde(default)]
    pub event_id: u64,
    /// What happened.
    pub event_type: ProvenanceType,
    /// The time, by the clock of the machine that saw it.
    pub time: WallTime,
    /// In which job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// To which item; written as its key, `job/destination/sequence`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "item_key")]
    pub item: Option<ItemId>,
    /// At which Star.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub star_id: Option<StarId>,
    /// To which chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_hash: Option<ChunkHash>,
    /// The source, for display: a path that is not UTF-8 has replacement characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The destination, for display as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// How many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The duration in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Anything else, in the order of its keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, String>,
}

impl ProvenanceEvent {
    /// An event of a job, or of the grid for `None`. Its time is the start of 1970 until
    /// [`ProvenanceEvent::with_time`].
    pub fn new(event_type: ProvenanceType, job_id: impl Into<Option<JobId>>) -> Self {
        Self {
            event_id: 0,
            event_type,
            time: WallTime::UNIX_EPOCH,
            job_id: job_id.into(),
            item: None,
            star_id: None,
            chunk_hash: None,
            source: None,
            destination: None,
            bytes: None,
            duration_ms: None,
            error: None,
            context: BTreeMap::new(),
        }
    }

    /// Sets its number in its log.
    pub fn with_event_id(mut self, event_id: u64) -> Self {
        self.event_id = event_id;
        self
    }

    /// Sets when it happened.
    pub fn with_time(mut self, time: WallTime) -> Self {
        self.time = time;
        self
    }

    /// Sets the item, and the job if there is none yet.
    pub fn with_item(mut self, item: ItemId) -> Self {
        self.job_id.get_or_insert(item.job);
        self.item = Some(item);
        self
    }

    /// Sets the Star.
    pub fn with_star(mut self, star_id: StarId) -> Self {
        self.star_id = Some(star_id);
        self
    }

    /// Sets the chunk.
    pub fn with_chunk_hash(mut self, chunk_hash: ChunkHash) -> Self {
        self.chunk_hash = Some(chunk_hash);
        self
    }

    /// Sets the source.
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets the destination.
    pub fn with_destination(mut self, destination: impl Into<String>) -> Self {
        self.destination = Some(destination.into());
        self
    }

    /// Sets the number of bytes.
    pub fn with_bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// Sets the duration.
    pub fn with_duration_ms(mut self, duration_ms: u64) -> Self {
        self.duration_ms = Some(duration_ms);
        self
    }

    /// Sets the error.
    pub fn with_error(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }

    /// Adds a detail. The last value of a key is kept.
    pub fn with_context(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.context.insert(key.into(), value.into());
        self
    }
}

/// Which events a query selects: those that match every part that is given.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ProvenanceFilter {
    /// Of this job.
    pub job_id: Option<JobId>,
    /// Of this item: the lineage of one file.
    pub item: Option<ItemId>,
    /// Of this chunk.
    pub chunk_hash: Option<ChunkHash>,
    /// At this Star.
    pub star_id: Option<StarId>,
    /// Of any of these types; empty means all.
    pub event_types: BTreeSet<ProvenanceType>,
    /// At this time or later.
    pub from: Option<WallTime>,
    /// Before this time.
    pub until: Option<WallTime>,
    /// With a higher number: the position of a reader.
    pub after_event_id: Option<u64>,
    /// With exactly this number.
    pub event_id: Option<u64>,
    /// With exactly this source.
    pub source: Option<String>,
    /// With exactly this destination.
    pub destination: Option<String>,
    /// About a number of bytes within these bounds. An event without a number of bytes is not selected by either.
    pub bytes: Bounds,
    /// With a duration within these bounds. An event without a duration is not selected by either.
    pub duration_ms: Bounds,
    /// With this text in its error.
    pub error: Option<String>,
    /// With an error, or without one.
    pub has_error: Option<bool>,
}

/// The bounds of a number, each of which may be absent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// At least.
    pub min: Option<u64>,
    /// At most.
    pub max: Option<u64>,
}

impl Bounds {
    /// Whether a number is within the bounds. Without bounds, a missing number is.
    fn contains(&self, number: Option<u64>) -> bool {
        let is_within = |number: u64| {
            self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max)
        };
        *self == Self::default() || number.is_some_and(is_within)
    }
}

impl ProvenanceFilter {
    /// Whether the event is wanted.
    pub fn matches(&self, event: &ProvenanceEvent) -> bool {
        let agrees = self.job_id.is_none_or(|job_id| event.job_id == Some(job_id))
            && self.item.is_none_or(|item| event.item == Some(item))
            && self.chunk_hash.is_none_or(|hash| event.chunk_hash == Some(hash))
            && self.star_id.as_ref().is_none_or(|star_id| event.star_id.as_ref() == Some(star_id))
            && (self.event_types.is_empty() || self.event_types.contains(&event.event_type));
        agrees
            && self.from.is_none_or(|from| event.time >= from)
            && self.until.is_none_or(|until| event.time < until)
            && self.after_event_id.is_none_or(|after| event.event_id > after)
            && self.event_id.is_none_or(|event_id| event.event_id == event_id)
            && (self.source.is_none() || self.source == event.source)
            && (self.destination.is_none() || self.destination == event.destination)
            && self.bytes.contains(event.bytes)
            && self.duration_ms.contains(event.duration_ms)
            && self.has_error.is_none_or(|has_error| event.error.is_some() == has_error)
            && self
                .error
                .as_ref()
                .is_none_or(|text| event.error.as_ref().is_some_and(|error| error.contains(text)))
    }
}

/// The key of an item, the form in which the API names it.
mod item_key {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::words::ItemId;

    pub(super) fn serialize<S: Serializer>(item: &Option<ItemId>, serializer: S) -> Result<S::Ok, S::Error> {
        match item {
            Some(item) => serializer.collect_str(item),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ItemId>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}
