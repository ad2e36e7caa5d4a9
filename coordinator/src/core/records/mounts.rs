//! Mount points that a scan did not enter, because its job stays in one file system. A bulletin names some of them once the
//! source is listed.
//!
//! A mirror deletes nothing below them at a destination (`sweeps.rs`), whatever is mounted at the source by then. So the paths are
//! kept up to a bound; beyond it the mirror deletes nothing at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use orbit_shared::entry::display_path;
use orbit_shared::session::limits::{SKIPPED_MOUNTS_BYTES_MAX, SKIPPED_MOUNTS_KEPT_MAX};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

/// Paths that are named as examples.
const EXAMPLES_MAX: usize = 10;

/// The mount points of one listing that were not entered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedMounts {
    /// Number of them.
    pub count: u64,
    /// Paths below the source, of all of them up to the bound. A mount point that a scan reports again after a break is counted
    /// once if its path is kept. Shared, because a record is copied each time that it changes.
    #[serde(serialize_with = "write_paths", deserialize_with = "read_paths")]
    kept: Arc<BTreeSet<ByteBuf>>,
    /// How many a bulletin has told of.
    #[serde(default)]
    pub(in crate::core) said: u64,
}

fn write_paths<S: Serializer>(paths: &Arc<BTreeSet<ByteBuf>>, serializer: S) -> Result<S::Ok, S::Error> {
    paths.as_ref().serialize(serializer)
}

fn read_paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<BTreeSet<ByteBuf>>, D::Error> {
    BTreeSet::deserialize(deserializer).map(Arc::new)
}

impl SkippedMounts {
    /// Counts mount points that were not counted before.
    pub(in crate::core) fn note(&mut self, paths: &[Vec<u8>]) {
        for path in paths {
            if self.kept.contains(Bytes::new(path)) {
                continue;
            }
            self.count += 1;
            let bytes: usize = self.kept.iter().map(|path| path.len()).sum();
            if self.kept.len() < SKIPPED_MOUNTS_KEPT_MAX && bytes + path.len() <= SKIPPED_MOUNTS_BYTES_MAX {
                Arc::make_mut(&mut self.kept).insert(ByteBuf::from(path.clone()));
            }
        }
    }

    /// Their paths, below the source; none if more were counted than are kept.
    pub(in crate::core) fn paths(&self) -> Option<Vec<Vec<u8>>> {
        let is_all = self.count == self.kept.len() as u64;
        is_all.then(|| self.kept.iter().map(|path| path.to_vec()).collect())
    }

    /// Why a mirror deletes nothing, if their paths are not known.
    pub(in crate::core) fn sweep_problem(&self) -> String {
        let bound = match self.kept.len() {
            SKIPPED_MOUNTS_KEPT_MAX.. => format!("{SKIPPED_MOUNTS_KEPT_MAX} paths"),
            _ => format!("paths of {} KiB together", SKIPPED_MOUNTS_BYTES_MAX / 1024),
        };
        format!(
            "the source has {} mount points that were not entered, and only {} of them are remembered (at most {bound}), so it is not known what to keep below the others: exclude the directories above them with --exclude, such as /var/lib/docker (findmnt lists mounts)",
            self.count,
            self.kept.len()
        )
    }

    /// Paths of the first of them.
    pub fn examples(&self) -> Vec<String> {
        self.kept.iter().take(EXAMPLES_MAX).map(|path| display_path(path)).collect()
    }

    /// Says how many were not entered, and which; empty if there are none.
    pub(in crate::core) fn words(&self) -> String {
        let examples = self.examples();
        let more = match self.count - examples.len() as u64 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        match self.count {
            0 => String::new(),
            1 => format!("1 mount point was not entered: {}", examples.join(", ")),
            count => format!("{count} mount points were not entered: {}{more}", examples.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_that_is_reported_twice_counts_once() {
        let mut mounts = SkippedMounts::default();
        assert_eq!(mounts.words(), "");
        mounts.note(&[b"mnt".to_vec()]);
        mounts.note(&[b"mnt".to_vec()]);
        assert_eq!(mounts.words(), "1 mount point was not entered: mnt");
        assert_eq!(mounts.paths(), Some(vec![b"mnt".to_vec()]));
        let many: Vec<Vec<u8>> = (0..300).map(|number| format!("m{number:03}").into_bytes()).collect();
        mounts.note(&many);
        assert_eq!((mounts.count, mounts.kept.len()), (301, SKIPPED_MOUNTS_KEPT_MAX));
        assert_eq!((mounts.examples().len(), mounts.paths()), (EXAMPLES_MAX, None));
        assert!(
            mounts.words().starts_with("301 mount points were not entered: m000, m001"),
            "{}",
            mounts.words()
        );
        let stored = rmp_serde::to_vec(&mounts).expect("it can be written");
        assert_eq!(rmp_serde::from_slice::<SkippedMounts>(&stored).expect("it can be read"), mounts);
        assert!(mounts.words().ends_with("m009 and 291 more"), "{}", mounts.words());
    }

    #[test]
    fn the_bound_that_was_passed_is_named() {
        let said = |count: usize, length: usize| {
            let mut mounts = SkippedMounts::default();
            mounts.note(
                &(0..count).map(|number| format!("{number:0length$}").into_bytes()).collect::<Vec<_>>(),
            );
            mounts.sweep_problem()
        };
        let many = said(257, 3);
        for part in ["257 mount points", "only 256 of them", "at most 256 paths", "/var/lib/docker"] {
            assert!(many.contains(part), "{part}: {many}");
        }
        let long = said(70, 4000);
        for part in ["70 mount points", "only 65 of them", "paths of 256 KiB together"] {
            assert!(long.contains(part), "{part}: {long}");
        }
        assert!(
            !many.contains("--one-file-system"),
            "without it, what is below the mounts would be mirrored"
        );
    }
}
