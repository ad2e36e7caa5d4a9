//! The results of a mirror's sweeps in the record of its job, and what they mean for the end of the job.

use serde::{Deserialize, Serialize};

use super::job::{JobRecord, JobState};

/// What a mirror may delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorPolicy {
    /// Nothing is deleted if more than this share of what a destination has would be.
    pub max_delete_percent: u32,
    /// Name of the directory below each destination that takes what would be deleted; without one it is deleted.
    pub trash: Option<String>,
}

impl MirrorPolicy {
    /// What is used where nothing is given.
    pub const DEFAULT_MAX_DELETE_PERCENT: u32 = 25;
}

/// The durable result of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepRecord {
    /// Entries that were deleted, or moved to the trash.
    pub deleted: u64,
    /// Entries that could not be deleted.
    pub failed: u64,
    /// Why nothing was deleted, or why the first of those that failed did, or where nothing was to be deleted; empty if all
    /// went well.
    pub problem: String,
    /// Whether nothing was deleted, because too much would have gone, or because it is not known what to keep.
    pub is_refused: bool,
}

impl JobRecord {
    /// Tells its sweeps that count from those of a job of another grid with the same number, and from its own that do not
    /// count any more. A Star joins what it knows under the same number, and answers with the result of that.
    pub(in crate::core) fn sweep_operation(&self) -> u64 {
        (self.create_time.as_nanos() as u64).wrapping_add(self.sweeps_voided)
    }

    /// Whether nothing is left to be swept.
    pub(in crate::core) fn is_swept(&self) -> bool {
        self.spec.mirror.is_none() || (0..self.tallies.len()).all(|i| self.swept(i).is_some())
    }

    /// The result of the sweep of one destination, once there is one.
    pub(in crate::core) fn swept(&self, index: usize) -> Option<&SweepRecord> {
        self.sweeps.get(index)?.as_ref()
    }

    /// How a job that is done ends, as far as its sweeps go, and what is to be said of them behind how its items fared;
    /// nothing if it was no mirror.
    pub(in crate::core) fn sweep_end(&self) -> Option<(JobState, String)> {
        self.spec.mirror.as_ref()?;
        let swept: Vec<&SweepRecord> = self.sweeps.iter().flatten().collect();
        let deleted = self.deleted();
        let failed: u64 = swept.iter().map(|sweep| sweep.failed).fold(0, u64::saturating_add);
        let problems = || {
            let problems = swept.iter().map(|sweep| sweep.problem.as_str()).filter(|text| !text.is_empty());
            problems.collect::<Vec<_>>().join("; ")
        };
        Some(if swept.iter().any(|sweep| sweep.is_refused) {
            (JobState::Failed, format!(", but {}", problems()))
        } else if failed > 0 {
            let text = format!(
                "; {deleted} entries that the source does not have were deleted, {failed} could not be: {}",
                problems()
            );
            (JobState::PartiallyCompleted, text)
        } else {
            let mut text = match deleted {
                0 => "; nothing had to be deleted".to_owned(),
                _ => format!("; {deleted} entries that the source does not have were deleted"),
            };
            let problems = problems();
            if !problems.is_empty() {
                text.push_str(&format!("; {problems}"));
            }
            (JobState::Completed, text)
        })
    }

    /// Why something was left that the source does not have; empty if nothing was.
    pub fn deletion_problem(&self) -> String {
        let swept = self.sweeps.iter().flatten().filter(|sweep| !sweep.problem.is_empty());
        swept.map(|sweep| sweep.problem.as_str()).collect::<Vec<_>>().join("; ")
    }

    /// Entries that were deleted at all destinations.
    pub fn deleted(&self) -> u64 {
        let swept = self.sweeps.iter().flatten().map(|sweep| sweep.deleted);
        swept.fold(self.deleted_before, u64::saturating_add)
    }
}
