//! Sweeping: the last step of a mirror. It deletes what a destination has and the source does not have.
//!
//! The destination does it by itself and asks the source Star about each entry, once when it lists what is to be
//! deleted and once more right before it deletes. So an entry is deleted only if it was absent at the source twice, and
//! only if the number of deletions stays within the job's limit. The coordinator decides when, and stores the result.

use crate::session::ScanRequest;
use crate::vault_call::Progress;
use crate::words::StarId;

/// Maximum number of example paths of what is, or would be, deleted.
pub const SWEEP_EXAMPLES_MAX: usize = 10;

/// The request of a sweep. Requests with the same job, destination and operation are for the same sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepRequest {
    /// The scope: the destination path, with the globs and limits of the job. What they leave out is kept. Its job is 0
    /// for a plan.
    pub scan: ScanRequest,
    /// Index of the destination within the job.
    pub destination: u32,
    /// Tells this sweep from one of another grid's job, or of another plan, with the same numbers, and from an earlier one of
    /// the same job, which ends when this one begins.
    pub operation: u64,
    /// Only count what would be deleted.
    pub is_plan: bool,
    /// Name of the directory below the destination to which entries are moved; `None` if they are deleted.
    pub trash: Option<String>,
    /// Nothing is deleted if more than this percentage of the destination's entries would be.
    pub max_delete_percent: u32,
    /// The Star that is mirrored.
    pub source_star: StarId,
    /// Its data plane, `host:port`.
    pub source_address: String,
    /// The path that is mirrored.
    pub source_path: Vec<u8>,
    /// The token, signed by the coordinator.
    pub token: String,
    /// Mount points of the source that its scan did not enter. Nothing below them is deleted at the destination, even
    /// if they are no longer mounted at the source.
    pub skipped_mounts: Vec<Vec<u8>>,
}

impl SweepRequest {
    /// Whether an entry is kept because of a mount point of the source that was not entered: it is below one, or it is
    /// a directory that is one or contains one.
    pub fn is_kept(&self, path: &[u8], is_directory: bool) -> bool {
        self.skipped_mounts.iter().any(|mount| {
            let is_below = is_at_or_below(mount, path) && path != mount;
            is_below || is_directory && is_at_or_below(path, mount)
        })
    }
}

fn is_at_or_below(base: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(base).is_some_and(|rest| base.is_empty() || rest.is_empty() || rest.starts_with(b"/"))
}

/// The progress of a sweep, or its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepInfo {
    /// Its state.
    pub progress: Progress,
    /// Entries of the destination within the scope of the job.
    pub found: u64,
    /// Entries among them that the source does not have.
    pub extra: u64,
    /// Total size of their files in bytes.
    pub extra_bytes: u64,
    /// Entries that were deleted, or moved to the trash.
    pub deleted: u64,
    /// Total size of their files in bytes.
    pub deleted_bytes: u64,
    /// Entries that could not be deleted.
    pub failed: u64,
    /// Whether too many would have been deleted, so that none was.
    pub is_refused: bool,
    /// The first few paths that the source does not have.
    pub examples: Vec<Vec<u8>>,
    /// Why it failed, why the first entry with an error could not be deleted, or which mount points were not entered.
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

    /// Whether the number of deletions exceeds the limit.
    pub fn is_above(&self, max_delete_percent: u32) -> bool {
        u128::from(self.extra) * 100 > u128::from(self.found) * u128::from(max_delete_percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::FileLimits;
    use crate::words::JobId;

    #[test]
    fn entries_below_a_mount_point_of_the_source_are_kept_with_the_directories_above() {
        let path = |path: &str| path.as_bytes().to_vec();
        let request = SweepRequest {
            scan: ScanRequest {
                scan: 0,
                job: JobId(1),
                path: path("/data"),
                include: Vec::new(),
                exclude: Vec::new(),
                paths: Vec::new(),
                resume_after: None,
                snapshot: None,
                limits: FileLimits::default(),
                is_one_file_system: true,
                trace: None,
            },
            destination: 0,
            operation: 0,
            is_plan: false,
            trash: None,
            max_delete_percent: 25,
            source_star: StarId::new("star-1".to_owned()).expect("a name"),
            source_address: String::new(),
            source_path: path("/data"),
            token: String::new(),
            skipped_mounts: vec![path("a/mnt"), path("proc")],
        };
        for kept in ["a", "a/mnt", "a/mnt/x", "a/mnt/x/y", "proc", "proc/1"] {
            assert!(request.is_kept(kept.as_bytes(), true), "{kept}");
        }
        assert!(request.is_kept(b"a/mnt/file", false));
        for free in ["a/mnt2", "a/x", "process", "b"] {
            assert!(!request.is_kept(free.as_bytes(), true), "{free}");
        }
        assert!(!request.is_kept(b"a/mnt", false), "a file is in the way of the directory");
    }

    #[test]
    fn the_limit_is_a_share_of_the_entries_at_the_destination() {
        let sweep = |extra, found| SweepInfo { extra, found, ..SweepInfo::BEGUN };
        assert!(!sweep(25, 100).is_above(25));
        assert!(sweep(26, 100).is_above(25));
        assert!(sweep(1, 1).is_above(99) && !sweep(1, 1).is_above(100));
        assert!(sweep(1, 1000).is_above(0) && !sweep(0, 0).is_above(0));
        assert!(sweep(u64::MAX, u64::MAX).is_above(99));
    }
}
