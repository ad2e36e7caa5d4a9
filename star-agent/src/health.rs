//! Health samples: disk space, throughput and failures, and the advisories of the monitor.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use orbit_shared::bulletin::truncate_visibly;
use orbit_shared::health_monitor::{Advisory, AdvisoryKind, HealthConfig, HealthMonitor, HealthSample};
use orbit_shared::session::{AdvisoryNotice, Root, RootSpace};
use orbit_shared::time::Monotonic;

use crate::core::Sampled;
use crate::meters::Meters;
use crate::packed::PackedStore;
use crate::plane::PlaneCounts;
use crate::roots::{RootWatch, Roots};

/// Maximum length of an advisory about a vault, in bytes.
const ADVISORY_BYTES_MAX: usize = 2048;

/// Samples one Star. A call to a file system can block for long (a dead network mount), so this runs outside of the
/// driver.
#[derive(Debug)]
pub struct HealthProbe {
    writable: Vec<PathBuf>,
    monitor: HealthMonitor,
    /// The previous sample, from which the displayed rate is computed.
    before: Option<Before>,
    /// The last sample that the monitor judged, from which the judged rate is computed.
    judged: Option<Before>,
    advisories: Vec<AdvisoryNotice>,
    /// The packed store, whose files are checked with each sample.
    store: Option<Arc<PackedStore>>,
    /// The kinds of the newest failures.
    meters: Option<Arc<Meters>>,
    /// The exported directories, and their state at the last check.
    roots: Option<(Arc<Roots>, RootWatch)>,
}

#[derive(Debug, Clone, Copy)]
struct Before {
    at: Monotonic,
    bytes_moved: u64,
    was_busy: bool,
}

/// Space of one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    available_bytes: u64,
    total_bytes: u64,
}

impl HealthProbe {
    /// A probe of the disks below the writable roots.
    pub fn new(roots: &[Root], config: HealthConfig) -> Self {
        let writable = roots.iter().filter(|root| !root.is_read_only);
        let writable = writable.map(|root| PathBuf::from(OsStr::from_bytes(&root.path))).collect();
        let monitor = HealthMonitor::new(config);
        Self {
            writable,
            monitor,
            before: None,
            judged: None,
            advisories: Vec::new(),
            store: None,
            meters: None,
            roots: None,
        }
    }

    /// Also checks the files of this store.
    #[must_use]
    pub fn with_store(mut self, store: Arc<PackedStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Also describes the kinds of failures, from these meters.
    #[must_use]
    pub(crate) fn with_meters(self, meters: Arc<Meters>) -> Self {
        Self { meters: Some(meters), ..self }
    }

    /// An advisory with the details that an operator needs.
    fn notice(&self, advisory: &Advisory) -> AdvisoryNotice {
        let mut notice = notice(advisory);
        if let (&Advisory::ErrorRateHigh { error_count, .. }, Some(meters)) = (advisory, &self.meters)
            && let Some(kinds) = meters.describe_failures(error_count)
        {
            let told = format!(
                "{}: {kinds}; `orbit penalties ls` and `orbit dead-letters ls` list the items",
                notice.message
            );
            notice.message = truncate_visibly(&told, ADVISORY_BYTES_MAX);
        }
        notice
    }

    /// An advisory if the vault is read-only.
    fn read_only_advisory(&self) -> Option<AdvisoryNotice> {
        let store = self.store.as_ref().filter(|store| store.is_read_only())?;
        let message = format!(
            "the vault {} is on a file system that cannot be written to: it serves restores, and nothing is stored on this Star; \
             mount it writable and restart the Star",
            store.path().parent().unwrap_or(store.path()).display()
        );
        Some(AdvisoryNotice { kind: AdvisoryKind::VaultReadOnly, message, predicted_seconds: None })
    }

    /// An advisory if parts of the vault are missing.
    fn vault_advisory(&self) -> Option<AdvisoryNotice> {
        let store = self.store.as_ref()?;
        let message = match store.check_presence() {
            Ok(_) => store.tell_missing()?,
            Err(error) => error.to_string(),
        };
        let message = truncate_visibly(&message, ADVISORY_BYTES_MAX);
        Some(AdvisoryNotice { kind: AdvisoryKind::VaultIncomplete, message, predicted_seconds: None })
    }

    /// Also checks whether the roots are there, and reports changes.
    #[must_use]
    pub(crate) fn watching(self, roots: Arc<Roots>) -> Self {
        Self { roots: Some((roots, RootWatch::default())), ..self }
    }

    /// Takes a sample, and once every check interval lets the monitor judge one. Returns the last advisories, worst
    /// first. Heartbeats are too frequent to judge a rate: a single sync can take as long. `reserved_bytes` is what the
    /// current work may still write; the forecast counts it as written. Blocks.
    pub fn sample(
        &mut self,
        now: Monotonic,
        counts: PlaneCounts,
        is_busy: bool,
        reserved_bytes: u64,
    ) -> Sampled {
        let spaces: Vec<(&PathBuf, Space)> =
            self.writable.iter().filter_map(|path| Some((path, space(path)?))).collect();
        let root_space = spaces.iter().map(|(path, space)| RootSpace {
            path: path.as_os_str().as_bytes().to_vec(),
            available_bytes: space.available_bytes,
        });
        let root_space = root_space.collect();
        let space = fullest(spaces.iter().map(|(_, space)| *space));
        let (throughput, was_busy) = since(self.before.as_ref(), now, counts.bytes_moved);
        let present = Before { at: now, bytes_moved: counts.bytes_moved, was_busy: is_busy };
        let sample = HealthSample {
            disk_available_bytes: space.map_or(0, |space| space.available_bytes),
            disk_total_bytes: space.map_or(0, |space| space.total_bytes),
            throughput_bytes_per_sec: throughput,
            // If work began or ended between the two samples, the rate says nothing about speed.
            is_transferring: is_busy && was_busy,
            error_count: counts.errors,
            total_operations: counts.operations,
            reserved_bytes,
        };
        let interval = self.monitor.config().check_interval;
        if self.judged.as_ref().is_none_or(|judged| now.since(judged.at) >= interval) {
            let (throughput, was_busy) = since(self.judged.as_ref(), now, counts.bytes_moved);
            let is_transferring = is_busy && was_busy;
            let judged = HealthSample { throughput_bytes_per_sec: throughput, is_transferring, ..sample };
            let found = self.monitor.check(now, &judged);
            self.advisories = found.iter().map(|advisory| self.notice(advisory)).collect();
            self.judged = Some(present);
        }
        self.before = Some(present);
        let mut advisories = self.advisories.clone();
        for found in [self.read_only_advisory(), self.vault_advisory()].into_iter().flatten() {
            advisories.retain(|advisory| advisory.kind != AdvisoryKind::Healthy);
            advisories.insert(0, found);
        }
        let notices = self.roots.as_mut().map(|(roots, watch)| watch.look(roots)).unwrap_or_default();
        let vault_bytes = self.store.as_ref().map(|store| store.container_bytes());
        Sampled { sample, advisories, root_space, vault_bytes, notices }
    }
}

/// The rate since an earlier sample, and whether there was work then.
fn since(before: Option<&Before>, now: Monotonic, bytes_moved: u64) -> (u64, bool) {
    before.map_or((0, false), |before| (rate(before, now, bytes_moved), before.was_busy))
}

fn rate(before: &Before, now: Monotonic, bytes_moved: u64) -> u64 {
    let nanos = now.since(before.at).as_nanos().max(1);
    let bytes = u128::from(bytes_moved.saturating_sub(before.bytes_moved));
    u64::try_from(bytes * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// A root whose file system gives no answer now (unmounted, for example) is left out. Its items will fail with that
/// error.
fn space(path: &PathBuf) -> Option<Space> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(Space {
        available_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

/// The file system with the smallest available share, compared without division.
fn fullest(spaces: impl Iterator<Item = Space>) -> Option<Space> {
    let known = spaces.filter(|space| space.total_bytes > 0);
    known.min_by(|left, right| {
        let share =
            |space: &Space, other: &Space| u128::from(space.available_bytes) * u128::from(other.total_bytes);
        share(left, right).cmp(&share(right, left))
    })
}

fn notice(advisory: &Advisory) -> AdvisoryNotice {
    let predicted_seconds = match *advisory {
        Advisory::DiskExhaustionPredicted { seconds_remaining } => Some(seconds_remaining),
        Advisory::Healthy
        | Advisory::DiskCritical { .. }
        | Advisory::DiskWarning { .. }
        | Advisory::ThroughputLow { .. }
        | Advisory::ErrorRateHigh { .. } => None,
    };
    AdvisoryNotice { kind: advisory.kind(), message: advisory.to_string(), predicted_seconds }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::io::Errno;

    use super::*;
    use crate::failures::at_source;

    #[test]
    fn the_fullest_file_system_is_the_one_with_the_smallest_share_left() {
        let space = |available_bytes, total_bytes| Space { available_bytes, total_bytes };
        let spaces = [space(50, 100), space(900, 10_000), space(0, 0), space(20, 100)];
        assert_eq!(fullest(spaces.into_iter()), Some(space(900, 10_000)));
        assert_eq!(fullest([space(0, 0)].into_iter()), None);
    }

    #[test]
    fn throughput_is_computed_from_the_previous_sample() {
        let mut probe = HealthProbe::new(&[], HealthConfig::default());
        let counts = |bytes_moved| PlaneCounts { bytes_moved, ..PlaneCounts::default() };
        assert_eq!(
            probe.sample(Monotonic::from_ms(0), counts(500), true, 0).sample.throughput_bytes_per_sec,
            0
        );
        let sample = probe.sample(Monotonic::from_ms(2000), counts(4500), true, 7).sample;
        assert_eq!((sample.throughput_bytes_per_sec, sample.reserved_bytes), (2000, 7));
        assert!(sample.is_transferring);
        let sample = probe.sample(Monotonic::from_ms(3000), counts(4500), false, 0).sample;
        assert!(!sample.is_transferring);
    }

    #[test]
    fn a_stall_is_judged_over_the_check_interval_and_not_over_one_heartbeat() {
        let config = HealthConfig { check_interval: Duration::from_secs(5), ..HealthConfig::default() };
        let mut probe = HealthProbe::new(&[], config);
        let mut advise = |ms, bytes_moved| {
            let counts = PlaneCounts { bytes_moved, ..PlaneCounts::default() };
            probe.sample(Monotonic::from_ms(ms), counts, true, 0).advisories[0].kind
        };
        assert_eq!(advise(0, 0), AdvisoryKind::Healthy);
        assert_eq!(advise(1000, 90_000_000), AdvisoryKind::Healthy);
        assert_eq!(advise(2000, 90_000_000), AdvisoryKind::Healthy);
        assert_eq!(advise(5000, 90_000_000), AdvisoryKind::Healthy);
        assert_eq!(advise(10_000, 90_000_000), AdvisoryKind::ThroughputLow);
    }

    #[test]
    fn many_errors_are_named_by_kind() {
        let meters = Arc::new(Meters::default());
        for _ in 0..200 {
            meters.add_failure(&at_source(Errno::ACCESS, "open", b"/data/secret"));
        }
        let mut probe = HealthProbe::new(&[], HealthConfig::default()).with_meters(Arc::clone(&meters));
        let mut said = None;
        for second in 0..600 {
            let counts = PlaneCounts {
                operations: meters.operations(),
                errors: meters.errors(),
                ..PlaneCounts::default()
            };
            let advisories = probe.sample(Monotonic::from_ms(second * 1000), counts, true, 0).advisories;
            said = said.or(advisories.into_iter().find(|found| found.kind == AdvisoryKind::ErrorRateHigh));
            meters.add_failure(&at_source(Errno::ACCESS, "open", b"/data/secret"));
        }
        let said = said.expect("every operation fails").message;
        assert!(
            said.contains(" permanent; the newest: cannot open /data/secret: Permission denied"),
            "{said}"
        );
        assert!(said.contains("`orbit dead-letters ls`"), "{said}");
    }

    #[test]
    fn a_writable_root_is_measured_and_a_read_only_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().as_os_str().as_bytes().to_vec();
        let sample = |is_read_only| {
            let roots = [Root { path: path.clone(), is_read_only }];
            let mut probe = HealthProbe::new(&roots, HealthConfig::default());
            probe.sample(Monotonic::ZERO, PlaneCounts::default(), false, 0)
        };
        let known = sample(false);
        assert!(known.sample.disk_total_bytes > 0);
        assert_eq!(known.root_space.len(), 1);
        assert_eq!(known.root_space[0].available_bytes, known.sample.disk_available_bytes);
        let unknown = sample(true);
        assert_eq!((unknown.sample.disk_total_bytes, unknown.root_space), (0, Vec::new()));
        assert_eq!(unknown.advisories[0].kind, AdvisoryKind::Healthy);
    }
}
