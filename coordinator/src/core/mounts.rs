//! Mount points that a scan did not enter, because its job stays in one file system. They are counted, and said with examples
//! once the source is listed, so that what is left out is never left out in silence.

use std::collections::BTreeSet;

use orbit_shared::bulletin::Severity;
use orbit_shared::entry::display_path;
use orbit_shared::words::JobId;
use serde::{Deserialize, Serialize};

use super::{Core, Turn};

/// Category of these bulletins.
const CATEGORY: &str = "mounts";
/// Paths that are kept. Only among these a mount point that is told twice, by a listing that went on after a break, is known.
const KEPT_MAX: usize = 64;
/// Paths that are named as examples.
const EXAMPLES_MAX: usize = 10;

/// The mount points of one listing that were not entered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedMounts {
    /// Number of them.
    pub count: u64,
    /// Paths of some, below the source.
    kept: BTreeSet<serde_bytes::ByteBuf>,
}

impl SkippedMounts {
    /// Counts mount points that were not counted before.
    pub(super) fn note(&mut self, paths: &[Vec<u8>]) {
        for path in paths {
            let path = serde_bytes::ByteBuf::from(path.clone());
            if self.kept.contains(&path) {
                continue;
            }
            self.count += 1;
            if self.kept.len() < KEPT_MAX {
                self.kept.insert(path);
            }
        }
    }

    /// Paths of the first of them.
    pub fn examples(&self) -> Vec<String> {
        self.kept.iter().take(EXAMPLES_MAX).map(|path| display_path(path)).collect()
    }

    /// Says how many were not entered, and which; empty if there are none.
    pub(super) fn words(&self) -> String {
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

impl Core {
    /// Says which mount points of a job's source were not entered, when the source is listed.
    pub(super) fn say_skipped_mounts(&mut self, turn: &mut Turn, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (source, words) = (&job.record.spec.source, job.record.scan.skipped_mounts.words());
        if words.is_empty() {
            return;
        }
        let message = format!(
            "job {id} stays in the file system of {}:{}: {words}",
            source.star_id,
            display_path(&source.path)
        );
        let star = source.star_id.clone();
        self.post(turn, (Severity::Info, star.as_str(), CATEGORY), Some(id), &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_that_is_told_twice_counts_once() {
        let mut mounts = SkippedMounts::default();
        assert_eq!(mounts.words(), "");
        mounts.note(&[b"mnt".to_vec()]);
        mounts.note(&[b"mnt".to_vec()]);
        assert_eq!(mounts.words(), "1 mount point was not entered: mnt");
        let many: Vec<Vec<u8>> = (0..100).map(|number| format!("m{number:03}").into_bytes()).collect();
        mounts.note(&many);
        assert_eq!((mounts.count, mounts.kept.len(), mounts.examples().len()), (101, KEPT_MAX, EXAMPLES_MAX));
        assert!(
            mounts.words().starts_with("101 mount points were not entered: m000, m001"),
            "{}",
            mounts.words()
        );
        assert!(mounts.words().ends_with("m009 and 91 more"), "{}", mounts.words());
    }
}
