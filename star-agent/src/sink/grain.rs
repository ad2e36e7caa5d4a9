//! The resolution in which a file system stores times and modes, determined by a probe.
//!
//! Some store whole seconds, or multiples of two, or no modes, or no times before 1980 or after 2038. A copy there
//! would look changed at each run. So if a file looks nearly right, its file system is probed once with a file that is
//! removed at once, and times are compared in the resolution that the probe has shown.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use orbit_shared::entry::TEMPORARY_PREFIX;
use orbit_shared::time::WallTime;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::sink::work::modified_at;
use crate::transfer::modified_time;

/// The coarsest resolution that is considered, in nanoseconds.
const GRAIN_NANOS_MAX: i128 = 2_000_000_000;
/// The time of a probe: an odd second, with non-zero digits down to the nanosecond.
const PROBE_TIME: WallTime = WallTime { seconds: 1_000_000_001, nanos: 123_456_789 };
const PROBE_MODE: u32 = 0o604;
/// Seconds to either side of 1970 that no file system with a limited range can store.
const PROBE_FAR: i64 = 1 << 40;
/// Range of seconds that every file system can store: from 1980 to 2038.
const KEPT_BY_ALL: std::ops::Range<i64> = 315_792_000..2_147_300_000;

/// What one file system stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grain {
    /// Times that differ by less than this are equal.
    nanos: i128,
    keeps_modes: bool,
    /// The first and the last second that it can store; other times are clamped to these.
    range: (i64, i64),
}

/// The results of probes, by device.
#[derive(Debug, Default)]
pub(super) struct Grains {
    known: Mutex<BTreeMap<u64, Grain>>,
    /// Whether it was logged that some times cannot be stored.
    is_said: AtomicBool,
}

impl Grain {
    const EXACT: Self = Self { nanos: 1, keeps_modes: true, range: (i64::MIN, i64::MAX) };

    /// The result of a probe that was read back like this.
    fn of(kept: WallTime, mode: u32) -> Self {
        let nanos = match kept {
            PROBE_TIME => 1,
            WallTime { seconds, .. } if seconds != PROBE_TIME.seconds => GRAIN_NANOS_MAX,
            WallTime { nanos, .. } => {
                let grains = [100_i128, 1_000, 1_000_000, 10_000_000, 1_000_000_000];
                let is_multiple = |grain: &i128| i128::from(nanos) % grain == 0;
                grains.into_iter().rfind(is_multiple).unwrap_or(1)
            }
        };
        Self { nanos, keeps_modes: mode == PROBE_MODE, ..Self::EXACT }
    }

    /// The stored form of a time.
    fn kept(self, time: WallTime) -> WallTime {
        match time.seconds.clamp(self.range.0, self.range.1) {
            seconds if seconds == time.seconds => time,
            seconds => WallTime { seconds, nanos: 0 },
        }
    }

    fn is_same(self, stat: &Stat, modified: WallTime, mode: u32) -> bool {
        let is_same_mode = stat.st_mode & 0o7777 == mode;
        distance(modified_time(stat), self.kept(modified)) < self.nanos && (is_same_mode || !self.keeps_modes)
    }
}

impl Grains {
    /// Whether an entry has this time and mode, as far as the file system of its parent directory stores them.
    pub(super) fn is_same(&self, parent: &OwnedFd, stat: &Stat, modified: WallTime, mode: u32) -> bool {
        if Grain::EXACT.is_same(stat, modified, mode) {
            return true;
        }
        // Not even the coarsest file system would explain the difference. Usually no probe is needed.
        let is_near = distance(modified_time(stat), modified) < GRAIN_NANOS_MAX;
        let is_far = !KEPT_BY_ALL.contains(&modified.seconds);
        if !is_near && !is_far {
            return false;
        }
        let grain = self.of(parent);
        let is_same = grain.is_same(stat, modified, mode);
        if is_same && grain.kept(modified) != modified && !self.is_said.swap(true, Ordering::Relaxed) {
            let (first, last) = grain.range;
            tracing::warn!(
                "the file system of the destination keeps times from {first} to {last} s since 1970 only; files from before or \
                 after have the nearest of these times there, and count as unchanged"
            );
        }
        is_same
    }

    fn of(&self, directory: &OwnedFd) -> Grain {
        let Ok(device) = rustix::fs::fstat(directory).map(|stat| stat.st_dev) else { return Grain::EXACT };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(grain) = known.get(&device) {
            return *grain;
        }
        // If no probe can be made, everything is compared exactly.
        let Ok(grain) = probe(directory) else { return Grain::EXACT };
        known.insert(device, grain);
        grain
    }
}

fn probe(directory: &OwnedFd) -> Result<Grain, Errno> {
    let before = rustix::fs::fstat(directory)?;
    let prefix = String::from_utf8_lossy(TEMPORARY_PREFIX);
    let name = format!("{prefix}{:016x}-0-0-{}", before.st_ino, std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, &name, flags, Mode::RUSR | Mode::WUSR)?;
    let tried = || {
        // A file system that refuses modes stores none.
        let _ = rustix::fs::fchmod(&file, Mode::from_raw_mode(PROBE_MODE));
        rustix::fs::futimens(&file, &modified_at(PROBE_TIME))?;
        let stat = rustix::fs::fstat(&file)?;
        let far = |seconds| {
            rustix::fs::futimens(&file, &modified_at(WallTime { seconds, nanos: 0 }))?;
            let kept = modified_time(&rustix::fs::fstat(&file)?).seconds;
            Ok::<_, Errno>(if kept == seconds { None } else { Some(kept) })
        };
        // If it refuses such times, their items fail with that error.
        let first = far(-PROBE_FAR).ok().flatten().unwrap_or(i64::MIN);
        let last = far(PROBE_FAR).ok().flatten().unwrap_or(i64::MAX);
        let grain = Grain::of(modified_time(&stat), stat.st_mode & 0o7777);
        // If it only takes the lower bits, a time is not clamped to the nearest one.
        let range = if first < last { (first, last) } else { Grain::EXACT.range };
        Ok(Grain { range, ..grain })
    };
    let grain = tried();
    // A file system in user space keeps an open file under another name, and removes it when it is closed. That would
    // change the directory's time after it was restored.
    drop(file);
    rustix::fs::unlinkat(directory, &name, AtFlags::empty())?;
    rustix::fs::futimens(directory, &modified_at(modified_time(&before)))?;
    grain
}

fn distance(a: WallTime, b: WallTime) -> i128 {
    let nanos = |time: WallTime| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    (nanos(a) - nanos(b)).abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolution_is_what_a_probe_has_lost() {
        let kept = |seconds, nanos| Grain::of(WallTime { seconds, nanos }, PROBE_MODE).nanos;
        let second = PROBE_TIME.seconds;
        assert_eq!(kept(second, 123_456_789), 1);
        assert_eq!(kept(second, 123_456_700), 100);
        assert_eq!(kept(second, 123_456_000), 1_000);
        assert_eq!(kept(second, 120_000_000), 10_000_000);
        assert_eq!(kept(second, 0), 1_000_000_000);
        assert_eq!(kept(second - 1, 0), 2_000_000_000);
        assert!(!Grain::of(PROBE_TIME, 0o777).keeps_modes);
    }

    #[test]
    fn an_exact_file_system_is_compared_exactly_and_not_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "x").unwrap();
        let handle = OwnedFd::from(std::fs::File::open(directory.path()).unwrap());
        let stat = rustix::fs::stat(&path).unwrap();
        let before = modified_time(&rustix::fs::fstat(&handle).unwrap());
        let (time, mode) = (modified_time(&stat), stat.st_mode & 0o7777);
        let grains = Grains::default();
        assert!(grains.is_same(&handle, &stat, time, mode));
        assert!(grains.known.lock().unwrap().is_empty(), "nothing had to be tried");
        let later = WallTime { nanos: time.nanos ^ 1, ..time };
        assert!(!grains.is_same(&handle, &stat, later, mode));
        assert!(!grains.is_same(&handle, &stat, time, mode ^ 0o100));
        assert_eq!(grains.known.lock().unwrap().values().map(|grain| grain.nanos).collect::<Vec<_>>(), [1]);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(modified_time(&rustix::fs::fstat(&handle).unwrap()), before);
    }

    #[test]
    fn a_time_that_cannot_be_stored_equals_the_nearest_one_that_can() {
        let directory = tempfile::tempdir().unwrap();
        let mut stat = rustix::fs::stat(directory.path()).unwrap();
        (stat.st_mtime, stat.st_mtime_nsec, stat.st_mode) = (i64::from(i32::MAX), 0, 0o100_644);
        let narrow = Grain { range: (i64::from(i32::MIN), i64::from(i32::MAX)), ..Grain::EXACT };
        let later = WallTime { seconds: 4_000_000_000, nanos: 5 };
        assert!(narrow.is_same(&stat, later, 0o644) && !Grain::EXACT.is_same(&stat, later, 0o644));
        assert!(!narrow.is_same(&stat, WallTime { seconds: 1000, nanos: 0 }, 0o644));
    }

    #[test]
    fn whole_seconds_without_modes_are_equal_within_their_resolution() {
        let directory = tempfile::tempdir().unwrap();
        let mut stat = rustix::fs::stat(directory.path()).unwrap();
        (stat.st_mtime, stat.st_mtime_nsec, stat.st_mode) = (1000, 0, 0o100_777);
        let coarse = Grain { nanos: 1_000_000_000, keeps_modes: false, ..Grain::EXACT };
        assert!(coarse.is_same(&stat, WallTime { seconds: 1000, nanos: 999_999_999 }, 0o644));
        assert!(!coarse.is_same(&stat, WallTime { seconds: 1001, nanos: 0 }, 0o644));
        assert!(!Grain { keeps_modes: true, ..coarse }.is_same(
            &stat,
            WallTime { seconds: 1000, nanos: 5 },
            0o644
        ));
    }
}
