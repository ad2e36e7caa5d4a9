//! Health samples: disk space, throughput and failures, and the advisories of the monitors.
//!
//! One monitor judges the work of the Star, and one each file system below a writable root or the vault. Of the same
//! kind, only the advisory about the fullest disk is sent, and it names the directories that are on that disk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orbit_shared::bulletin::truncate_visibly;
use orbit_shared::entry::display_path;
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
    /// Judges the throughput and the failures.
    monitor: HealthMonitor,
    /// Judges the space of each file system, by its device number.
    disks: BTreeMap<u64, HealthMonitor>,
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

/// Bytes that the current work may still write.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// Below the roots.
    pub files_bytes: u64,
    /// In the vault.
    pub vault_bytes: u64,
}

/// Space of one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    available_bytes: u64,
    total_bytes: u64,
}

impl Space {
    /// Whether a smaller share of it is available, compared without division.
    fn cmp_by_share(&self, other: &Self) -> std::cmp::Ordering {
        let share =
            |space: &Self, other: &Self| u128::from(space.available_bytes) * u128::from(other.total_bytes);
        share(self, other).cmp(&share(other, self))
    }

    fn sample(self) -> HealthSample {
        HealthSample {
            disk_available_bytes: self.available_bytes,
            disk_total_bytes: self.total_bytes,
            ..HealthSample::default()
        }
    }
}

/// A directory whose file system was looked at.
struct Measured {
    /// Its name for an operator.
    name: String,
    /// Whether it is the vault, and not a root.
    is_vault: bool,
    /// The number of the file system.
    device: u64,
    space: Space,
}

/// One file system and the directories on it.
struct Disk {
    names: Vec<String>,
    space: Space,
    reserved_bytes: u64,
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
            disks: BTreeMap::new(),
            before: None,
            judged: None,
            advisories: Vec::new(),
            store: None,
            meters: None,
            roots: None,
        }
    }

    /// Also checks the files of this store, and the space on its disk.
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
            vault_of(store).display()
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

    /// Takes a sample, and once every check interval lets the monitors judge one. Returns the last advisories, worst
    /// first. Heartbeats are too frequent to judge a rate: a single sync can take as long. `reserved` is what the
    /// current work may still write; the forecast counts it as written. Blocks.
    pub fn sample(
        &mut self,
        now: Monotonic,
        counts: PlaneCounts,
        is_busy: bool,
        reserved: Reserved,
    ) -> Sampled {
        let roots: Vec<(&PathBuf, Measured)> =
            self.writable.iter().filter_map(|path| Some((path, measure(path, false)?))).collect();
        let root_space = roots.iter().map(|(path, measured)| RootSpace {
            path: path.as_os_str().as_bytes().to_vec(),
            available_bytes: measured.space.available_bytes,
        });
        let root_space = root_space.collect();
        // Nothing is written into a read-only vault.
        let vault = self.store.as_ref().filter(|store| !store.is_read_only());
        let vault = vault.and_then(|store| measure(vault_of(store), true));
        let vault_sample = vault.as_ref().map(|vault| vault.space.sample());
        let space = fullest(roots.iter().map(|(_, measured)| measured.space));
        let (throughput, was_busy) = since(self.before.as_ref(), now, counts.bytes_moved);
        let present = Before { at: now, bytes_moved: counts.bytes_moved, was_busy: is_busy };
        let sample = HealthSample {
            throughput_bytes_per_sec: throughput,
            // If work began or ended between the two samples, the rate says nothing about speed.
            is_transferring: is_busy && was_busy,
            error_count: counts.errors,
            total_operations: counts.operations,
            reserved_bytes: reserved.files_bytes,
            ..space.map_or_else(HealthSample::default, Space::sample)
        };
        let interval = self.monitor.config().check_interval;
        if self.judged.as_ref().is_none_or(|judged| now.since(judged.at) >= interval) {
            let (throughput, was_busy) = since(self.judged.as_ref(), now, counts.bytes_moved);
            let judged = HealthSample {
                throughput_bytes_per_sec: throughput,
                is_transferring: is_busy && was_busy,
                // Each disk has a monitor of its own.
                disk_total_bytes: 0,
                ..sample
            };
            let disks = disks(roots.into_iter().map(|(_, measured)| measured).chain(vault), reserved);
            self.advisories = self.judge(now, &judged, &disks);
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
        Sampled { sample, advisories, root_space, vault_bytes, vault_sample, notices }
    }

    /// The advisories about the work and the disks, worst first; of each kind that about the fullest disk.
    fn judge(
        &mut self,
        now: Monotonic,
        work: &HealthSample,
        disks: &BTreeMap<u64, Disk>,
    ) -> Vec<AdvisoryNotice> {
        let is_finding = |advisory: &Advisory| *advisory != Advisory::Healthy;
        let found = self.monitor.check(now, work).into_iter().filter(is_finding);
        let mut notices: Vec<AdvisoryNotice> = found.map(|advisory| self.notice(&advisory)).collect();
        self.disks.retain(|device, _| disks.contains_key(device));
        let mut by_kind: BTreeMap<AdvisoryKind, (&Disk, Advisory)> = BTreeMap::new();
        for (device, disk) in disks {
            let new = || HealthMonitor::new(self.monitor.config().clone());
            let monitor = self.disks.entry(*device).or_insert_with(new);
            let sample = HealthSample { reserved_bytes: disk.reserved_bytes, ..disk.space.sample() };
            for advisory in monitor.check(now, &sample).into_iter().filter(is_finding) {
                let worst = by_kind.entry(advisory.kind()).or_insert((disk, advisory));
                if disk.space.cmp_by_share(&worst.0.space).is_lt() {
                    *worst = (disk, advisory);
                }
            }
        }
        notices.extend(by_kind.values().map(|(disk, advisory)| {
            let notice = notice(advisory);
            let message = format!("{}: {}", disk.names.join(", "), notice.message);
            AdvisoryNotice { message: truncate_visibly(&message, ADVISORY_BYTES_MAX), ..notice }
        }));
        notices.sort_by_key(|notice| notice.kind);
        if notices.is_empty() {
            notices.push(notice(&Advisory::Healthy));
        }
        notices
    }
}

/// The directory of the vault that has this store.
fn vault_of(store: &PackedStore) -> &Path {
    store.path().parent().unwrap_or(store.path())
}

/// The file systems of these directories, by their device numbers.
fn disks(measured: impl Iterator<Item = Measured>, reserved: Reserved) -> BTreeMap<u64, Disk> {
    let mut disks: BTreeMap<u64, Disk> = BTreeMap::new();
    for Measured { name, is_vault, device, space } in measured {
        let disk = disks.entry(device).or_insert(Disk { names: Vec::new(), space, reserved_bytes: 0 });
        // What is promised below the roots is promised once, whichever root it is for.
        if is_vault {
            disk.reserved_bytes += reserved.vault_bytes;
        } else if disk.names.is_empty() {
            disk.reserved_bytes = reserved.files_bytes;
        }
        disk.names.push(name);
    }
    disks
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

/// The space of a directory. `None` if its file system gives no answer now (unmounted, for example): what is to be
/// written there will fail with that error.
fn measure(path: &Path, is_vault: bool) -> Option<Measured> {
    let (found, device) = (rustix::fs::statvfs(path).ok()?, std::fs::metadata(path).ok()?.dev());
    let space = Space {
        available_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
    };
    let path = display_path(path.as_os_str().as_bytes());
    Some(Measured { name: if is_vault { format!("vault {path}") } else { path }, is_vault, device, space })
}

/// The file system with the smallest available share.
fn fullest(spaces: impl Iterator<Item = Space>) -> Option<Space> {
    spaces.filter(|space| space.total_bytes > 0).min_by(Space::cmp_by_share)
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
            probe
                .sample(Monotonic::from_ms(0), counts(500), true, Reserved::default())
                .sample
                .throughput_bytes_per_sec,
            0
        );
        let sample = probe
            .sample(Monotonic::from_ms(2000), counts(4500), true, Reserved { files_bytes: 7, vault_bytes: 1 })
            .sample;
        assert_eq!((sample.throughput_bytes_per_sec, sample.reserved_bytes), (2000, 7));
        assert!(sample.is_transferring);
        let sample = probe.sample(Monotonic::from_ms(3000), counts(4500), false, Reserved::default()).sample;
        assert!(!sample.is_transferring);
    }

    #[test]
    fn a_stall_is_judged_over_the_check_interval_and_not_over_one_heartbeat() {
        let config = HealthConfig { check_interval: Duration::from_secs(5), ..HealthConfig::default() };
        let mut probe = HealthProbe::new(&[], config);
        let mut advise = |ms, bytes_moved| {
            let counts = PlaneCounts { bytes_moved, ..PlaneCounts::default() };
            probe.sample(Monotonic::from_ms(ms), counts, true, Reserved::default()).advisories[0].kind
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
            let advisories =
                probe.sample(Monotonic::from_ms(second * 1000), counts, true, Reserved::default()).advisories;
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

    /// The advisories of a Star with a root and a vault on these disks, which are not those of this machine.
    fn judged(probe: &mut HealthProbe, second: u64, spaces: [(u64, Space); 3]) -> Vec<AdvisoryNotice> {
        let names = [("/a", false), ("/b", false), ("vault /v", true)];
        let measured = names.into_iter().zip(spaces).map(|((name, is_vault), (device, space))| Measured {
            name: name.to_owned(),
            is_vault,
            device,
            space,
        });
        let disks = disks(measured, Reserved::default());
        probe.judge(Monotonic::from_ms(second * 1000), &HealthSample::default(), &disks)
    }

    #[test]
    fn each_disk_is_judged_and_the_fullest_of_a_kind_is_named() {
        let mut probe = HealthProbe::new(&[], HealthConfig::default());
        let space = |available_bytes| Space { available_bytes, total_bytes: 1000 };
        let mut say = |second, spaces: [(u64, Space); 3]| {
            let notices = judged(&mut probe, second, spaces);
            notices.into_iter().map(|notice| notice.message).collect::<Vec<_>>()
        };
        assert_eq!(say(0, [(1, space(500)), (2, space(500)), (3, space(500))]), ["healthy"]);
        assert_eq!(
            say(10, [(1, space(500)), (2, space(500)), (3, space(1))]),
            ["vault /v: disk critical: 99% used, 1 of 1000 bytes available; free space on it"]
        );
        // Its disk stays critical within the margin, and the other ones are not affected.
        let said = say(20, [(1, space(130)), (2, space(120)), (3, space(55))]);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("vault /v: disk critical: 94%"), "{said:?}");
        assert!(said[1].starts_with("/b: disk filling up: 88%"), "{said:?}");
        // All on one disk.
        let said = say(30, [(1, space(100)), (1, space(100)), (1, space(100))]);
        assert_eq!(said, ["/a, /b, vault /v: disk filling up: 90% used, 100 of 1000 bytes available"]);
    }

    #[test]
    fn what_is_promised_counts_for_the_disk_that_it_is_promised_on() {
        let reserved = Reserved { files_bytes: 5, vault_bytes: 7 };
        let space = Space { available_bytes: 1, total_bytes: 2 };
        let measured =
            |name: &str, is_vault, device| Measured { name: name.to_owned(), is_vault, device, space };
        let of = |vault| {
            let all = [measured("/a", false, 1), measured("/b", false, 1), measured("vault /v", true, vault)];
            let disks = disks(all.into_iter(), reserved);
            disks.values().map(|disk| disk.reserved_bytes).collect::<Vec<_>>()
        };
        assert_eq!(of(2), [5, 7]);
        assert_eq!(of(1), [12]);
    }

    #[test]
    fn a_writable_root_is_measured_and_a_read_only_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().as_os_str().as_bytes().to_vec();
        let sample = |is_read_only| {
            let roots = [Root { path: path.clone(), is_read_only }];
            let mut probe = HealthProbe::new(&roots, HealthConfig::default());
            probe.sample(Monotonic::ZERO, PlaneCounts::default(), false, Reserved::default())
        };
        let known = sample(false);
        assert!(known.sample.disk_total_bytes > 0);
        assert_eq!(known.root_space.len(), 1);
        assert_eq!(known.root_space[0].available_bytes, known.sample.disk_available_bytes);
        let unknown = sample(true);
        assert_eq!((unknown.sample.disk_total_bytes, unknown.root_space), (0, Vec::new()));
        assert_eq!(unknown.advisories[0].kind, AdvisoryKind::Healthy);
        assert_eq!(unknown.vault_sample, None, "nothing is known of a vault");
    }
}
