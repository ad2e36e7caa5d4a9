//! Sweeping: the last step of a mirror. What a destination has and the source has not is deleted there.
//!
//! The destination does it by itself and asks the source Star about each entry, once when it lists what is to be deleted
//! and once more right before it deletes. So an entry goes only if it was absent at the source twice, and only if all
//! that are to go together stay within the job's bound. The coordinator says when, and remembers what came of it.

use crate::session::ScanRequest;
use crate::vault_call::Progress;
use crate::words::StarId;

/// Paths that are named as examples of what is, or would be, deleted.
pub const SWEEP_EXAMPLES_MAX: usize = 10;

/// What is to be swept. Asked again with the same job, destination and operation, it is the same sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepRequest {
    /// What is looked at: the destination, with the globs and limits of the job. What they leave out stays. Its job is 0
    /// for a plan.
    pub scan: ScanRequest,
    /// Index of the destination within the job.
    pub destination: u32,
    /// Tells this sweep from one of another grid's job, or of another plan, with the same numbers.
    pub operation: u64,
    /// Count what would go, and delete nothing.
    pub is_plan: bool,
    /// Name of the directory below the destination that takes what would be deleted; without one it is deleted.
    pub trash: Option<String>,
    /// Nothing is deleted if more than this share of what the destination has would be.
    pub max_delete_percent: u32,
    /// The Star that is mirrored.
    pub source_star: StarId,
    /// Its data plane, `host:port`.
    pub source_address: String,
    /// The path that is mirrored.
    pub source_path: Vec<u8>,
    /// Signed by the coordinator.
    pub token: String,
}

/// How far a sweep is, or what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepInfo {
    /// Where it stands.
    pub progress: Progress,
    /// Entries that the destination has, of those that the job is about.
    pub found: u64,
    /// Those among them that the source has not.
    pub extra: u64,
    /// Bytes of their files.
    pub extra_bytes: u64,
    /// Entries that were deleted, or moved to the trash.
    pub deleted: u64,
    /// Bytes of their files.
    pub deleted_bytes: u64,
    /// Entries that were to go and could not be deleted.
    pub failed: u64,
    /// Whether too many would have gone, so that none did.
    pub is_refused: bool,
    /// The first few paths that the source has not.
    pub examples: Vec<Vec<u8>>,
    /// Why it failed, or why the first of the entries that could not be deleted could not, or which mount points were not
    /// entered.
    pub problem: String,
}

impl SweepInfo {
    /// A sweep that has just begun.
    pub const BEGUN: Self = Self {
        progress: Progress::Running,
        found: 0,
        extra: 0,
        extra_bytes: 0,
        deleted: 0,
        deleted_bytes: 0,
        failed: 0,
        is_refused: false,
        examples: Vec::new(),
        problem: String::new(),
    };

    /// Whether so many would go that the bound forbids it.
    pub fn is_above(&self, max_delete_percent: u32) -> bool {
        u128::from(self.extra) * 100 > u128::from(self.found) * u128::from(max_delete_percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_a_share_of_what_is_there() {
        let sweep = |extra, found| SweepInfo { extra, found, ..SweepInfo::BEGUN };
        assert!(!sweep(25, 100).is_above(25));
        assert!(sweep(26, 100).is_above(25));
        assert!(sweep(1, 1).is_above(99) && !sweep(1, 1).is_above(100));
        assert!(sweep(1, 1000).is_above(0) && !sweep(0, 0).is_above(0));
        assert!(sweep(u64::MAX, u64::MAX).is_above(99));
    }
}
