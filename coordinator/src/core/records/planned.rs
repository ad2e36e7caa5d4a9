//! What a job would do, as a plan finds it.

use orbit_shared::sweep::SweepInfo;

use super::job::Location;
use super::mounts::SkippedMounts;

/// What a job would find and do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Planned {
    /// Entries of the source.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Entries that cannot be moved, and why, for the first few.
    pub uncarried: u64,
    /// The first few of those, in words.
    pub uncarried_examples: Vec<String>,
    /// What would be done for each destination.
    pub places: Vec<PlannedPlace>,
    /// Mount points that are not entered, because the job stays in one file system.
    pub skipped_mounts: SkippedMounts,
}

/// What a job would do for one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPlace {
    /// The place.
    pub place: Location,
    /// Items that would be moved.
    pub moved: u64,
    /// Bytes of their files: as many cross the network at most.
    pub moved_bytes: u64,
    /// Items that are there already, unchanged.
    pub unchanged: u64,
    /// Bytes of their files.
    pub unchanged_bytes: u64,
    /// Whether the destination has said for every entry what it has. Otherwise what it did not say counts as moved.
    pub is_compared: bool,
    /// The first few paths that would be moved.
    pub examples: Vec<String>,
    /// Bytes that may be written there now, if that is known.
    pub available_bytes: Option<u64>,
    /// Bytes a second that the Star moved lately when it moved something.
    pub bytes_per_second: Option<u64>,
    /// What would hold the job up there now.
    pub held: Option<String>,
    /// What a mirror would delete there, if the destination has said that.
    pub deletion: Option<SweepInfo>,
}
