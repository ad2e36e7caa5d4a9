//! One exported root. It is opened by its path each time it is needed, as other programs do.
//!
//! So the next job sees a directory that was replaced, a disk that was mounted or changed, or a root that has come
//! back, and an idle Star keeps no file system busy. But a job must not continue in another file system than the one in
//! which it began: [`Pins`] remember that for each job and path.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use orbit_shared::words::JobId;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::limits::PINS_MAX;

/// The identity of a file system, which is the same after it was unmounted and mounted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileSystem {
    kind: u64,
    /// The id that the file system reports; 0 if it has none, as network file systems.
    id: u64,
}

/// Why a root cannot be used now. Any of these can end by itself, so the next job checks again.
#[derive(Debug)]
pub(crate) enum Absence {
    /// It cannot be opened as a directory.
    Unopened(std::io::Error),
    /// It was given with `:mounted`, and no file system is mounted there.
    NotMounted,
    /// It is another file system than when the job began.
    Replaced { job: JobId },
}

impl Absence {
    /// Whether the path, or what should be mounted there, is missing. The Star does not decide whether to wait for it.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Unopened(error) => {
                matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
            }
            Self::NotMounted => true,
            Self::Replaced { .. } => false,
        }
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unopened(error) => {
                write!(f, "cannot be opened as a directory ({error}): create it, or mount its disk")
            }
            Self::NotMounted => {
                f.write_str("has nothing mounted on it, and was given with :mounted: mount its disk")
            }
            Self::Replaced { job } => write!(
                f,
                "is another file system than when job {job} began: mount that one again, or cancel the job and create a \
                 new one"
            ),
        }
    }
}

/// Opens the root at `path`. With `is_mount_required` a file system must be mounted there. Blocks.
pub(super) fn open(path: &[u8], is_mount_required: bool) -> Result<Dir, Absence> {
    let ambient = Path::new(OsStr::from_bytes(path));
    let dir = Dir::open_ambient_dir(ambient, ambient_authority()).map_err(Absence::Unopened)?;
    if is_mount_required && !is_mount_point(&dir).map_err(|errno| Absence::Unopened(errno.into()))? {
        return Err(Absence::NotMounted);
    }
    Ok(dir)
}

fn is_mount_point(dir: &Dir) -> Result<bool, Errno> {
    let found = rustix::fs::statx(dir.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
    if let Ok(found) = found
        && found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
    {
        return Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    // On an older kernel, a mount of another file system is still noticed.
    let (here, above) = (rustix::fs::fstat(dir)?, rustix::fs::statat(dir, "..", AtFlags::empty())?);
    Ok((here.st_dev, here.st_ino) == (above.st_dev, above.st_ino) || here.st_dev != above.st_dev)
}

/// The file system of an open directory. Blocks.
pub(super) fn file_system(directory: impl AsFd) -> Result<FileSystem, Errno> {
    let kind = rustix::fs::fstatfs(&directory)?.f_type as u64;
    Ok(FileSystem { kind, id: rustix::fs::fstatvfs(&directory)?.f_fsid })
}

/// The file systems in which jobs began, by job and path. Those of the oldest jobs are dropped first.
#[derive(Debug, Default)]
pub(super) struct Pins(Mutex<BTreeMap<(JobId, Vec<u8>), FileSystem>>);

impl Pins {
    /// Records the file system in which a job works at a path, or compares it with the recorded one. `is_begun` says
    /// that the job has only begun, so that an earlier record does not apply. Plans, which have job number 0, use the
    /// current file system.
    pub(super) fn check(
        &self,
        job: JobId,
        path: &[u8],
        found: FileSystem,
        is_begun: bool,
    ) -> Result<(), Absence> {
        if job == JobId(0) {
            return Ok(());
        }
        let mut pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (job, path.to_vec());
        match pins.get(&key) {
            Some(pinned) if !is_begun && *pinned != found => return Err(Absence::Replaced { job }),
            Some(_) | None => pins.insert(key, found),
        };
        while pins.len() > PINS_MAX {
            pins.pop_first();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_stays_in_the_file_system_that_it_began_in() {
        let pins = Pins::default();
        let (one, other) = (FileSystem { kind: 1, id: 1 }, FileSystem { kind: 1, id: 2 });
        assert!(pins.check(JobId(1), b"/a", one, true).is_ok());
        assert!(pins.check(JobId(1), b"/a", one, false).is_ok());
        assert!(matches!(
            pins.check(JobId(1), b"/a", other, false),
            Err(Absence::Replaced { job: JobId(1) })
        ));
        // The job goes on. Another path, another job, a job that begins and a plan are not affected.
        assert!(pins.check(JobId(1), b"/a", one, false).is_ok());
        assert!(pins.check(JobId(1), b"/b", other, false).is_ok());
        assert!(pins.check(JobId(2), b"/a", other, false).is_ok());
        assert!(pins.check(JobId(1), b"/a", other, true).is_ok());
        assert!(pins.check(JobId(0), b"/a", one, false).is_ok());
        assert!(pins.check(JobId(0), b"/a", other, false).is_ok());
    }

    #[test]
    fn pins_are_limited_and_those_of_the_oldest_jobs_are_dropped_first() {
        let pins = Pins::default();
        let one = FileSystem { kind: 1, id: 1 };
        for job in 1..=PINS_MAX as u64 + 5 {
            assert!(pins.check(JobId(job), b"/a", one, false).is_ok());
        }
        let kept = pins.0.lock().unwrap();
        assert_eq!((kept.len(), kept.keys().next().unwrap().0), (PINS_MAX, JobId(6)));
    }

    #[test]
    fn a_directory_is_no_mount_point_and_the_root_directory_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().as_os_str().as_bytes();
        assert!(open(path, false).is_ok());
        assert!(matches!(open(path, true), Err(Absence::NotMounted)));
        assert!(open(b"/", true).is_ok());
        assert!(open(b"/no/such/place", false).unwrap_err().is_missing());
    }
}
