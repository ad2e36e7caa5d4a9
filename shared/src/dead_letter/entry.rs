//! An item that was given up, and the filter for such items.

use serde::{Deserialize, Serialize};

use crate::bulletin::truncate_visibly;
use crate::time::WallTime;
use crate::words::{JobId, StarId};

use super::{FailureKind, FailureReason};

/// Maximum length of an error text, in bytes. A longer one is cut with a mark.
pub const ERROR_BYTES_MAX: usize = 4096;
/// Maximum number of earlier deaths in an entry. Beyond it the oldest ones are only counted.
pub const HISTORY_MAX: usize = 16;

/// One item that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterEntry {
    /// The id of this death, not of the item: an item that dies again gets a new one. 0 until the queue assigns it.
    pub dead_letter_id: u64,
    /// The item. It names one item within its job.
    pub item_key: String,
    /// The job that wanted it moved.
    pub job_id: JobId,
    /// The Star at which it failed last, if it got that far.
    pub star_id: Option<StarId>,
    /// Why it was given up.
    pub failure_reason: FailureReason,
    /// Attempts made before it was given up.
    pub attempts: u32,
    /// The message of the last failure.
    pub last_error: String,
    /// When it first failed.
    pub first_failed_at: WallTime,
    /// When it last failed.
    pub last_failed_at: WallTime,
    /// Where it was to be read from, as the bytes that the file system uses.
    pub source_path: Option<Vec<u8>>,
    /// Where it was to be written to, as the bytes that the file system uses.
    pub dest_path: Option<Vec<u8>>,
    /// Its earlier deaths, oldest first.
    pub history: Vec<PastDeath>,
    /// Earlier deaths that did not fit into `history`.
    pub history_dropped: u64,
}

/// An earlier death of an item that was retried and died again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastDeath {
    /// The id that this death had.
    pub dead_letter_id: u64,
    /// The Star at which it failed last.
    pub star_id: Option<StarId>,
    /// Why it was given up.
    pub failure_reason: FailureReason,
    /// Attempts made before it was given up.
    pub attempts: u32,
    /// What the last failure said.
    pub last_error: String,
    /// When it first failed.
    pub first_failed_at: WallTime,
    /// When it last failed.
    pub last_failed_at: WallTime,
}

impl DeadLetterEntry {
    /// An entry with the required fields. The caller fills in the others.
    pub fn new(
        job_id: JobId,
        item_key: impl Into<String>,
        failure_reason: FailureReason,
        last_error: &str,
        failed_at: WallTime,
    ) -> Self {
        let attempts = match failure_reason {
            FailureReason::RetriesExhausted { attempts } => attempts,
            FailureReason::PermanentError
            | FailureReason::ChecksumMismatch
            | FailureReason::SourceMissing
            | FailureReason::DestinationError
            | FailureReason::DataCorruption => 1,
        };
        Self {
            dead_letter_id: 0,
            item_key: item_key.into(),
            job_id,
            star_id: None,
            failure_reason,
            attempts,
            last_error: truncate_visibly(last_error, ERROR_BYTES_MAX),
            first_failed_at: failed_at,
            last_failed_at: failed_at,
            source_path: None,
            dest_path: None,
            history: Vec::new(),
            history_dropped: 0,
        }
    }

    /// Number of deaths including this one.
    pub fn deaths(&self) -> u64 {
        self.history_dropped.saturating_add(self.history.len() as u64).saturating_add(1)
    }

    /// Puts the earlier deaths of the same item, the last of which is `before`, in front of this one's history.
    pub(super) fn inherit(&mut self, before: Self) {
        let mut history = before.history;
        history.push(PastDeath {
            dead_letter_id: before.dead_letter_id,
            star_id: before.star_id,
            failure_reason: before.failure_reason,
            attempts: before.attempts,
            last_error: before.last_error,
            first_failed_at: before.first_failed_at,
            last_failed_at: before.last_failed_at,
        });
        history.append(&mut self.history);
        self.history = history;
        self.history_dropped = self.history_dropped.saturating_add(before.history_dropped);
        self.bound();
    }

    /// Cuts what exceeds the limits, with a mark.
    pub(super) fn bound(&mut self) {
        if self.last_error.len() > ERROR_BYTES_MAX {
            self.last_error = truncate_visibly(&self.last_error, ERROR_BYTES_MAX);
        }
        let surplus = self.history.len().saturating_sub(HISTORY_MAX);
        self.history.drain(..surplus);
        self.history_dropped = self.history_dropped.saturating_add(surplus as u64);
    }
}

/// Conditions that an entry must all meet. The default matches every entry.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Of exactly this job.
    pub job_id: Option<JobId>,
    /// For this kind of reason.
    pub reason: Option<FailureKind>,
    /// Failed last at exactly this Star.
    pub star_id: Option<StarId>,
    /// Of exactly this item.
    pub item_key: Option<String>,
    /// With a greater id than this: the next page.
    pub after_id: Option<u64>,
}

impl DeadLetterFilter {
    /// Every entry of `job`.
    pub fn for_job(job: JobId) -> Self {
        Self { job_id: Some(job), ..Self::default() }
    }

    /// Whether `entry` meets every condition.
    pub fn matches(&self, entry: &DeadLetterEntry) -> bool {
        self.job_id.is_none_or(|job| entry.job_id == job)
            && self.reason.is_none_or(|kind| entry.failure_reason.kind() == kind)
            && self.star_id.as_ref().is_none_or(|star| entry.star_id.as_ref() == Some(star))
            && self.item_key.as_deref().is_none_or(|key| entry.item_key == key)
            && self.after_id.is_none_or(|id| entry.dead_letter_id > id)
    }
}
