//! The cost of sending a tree: time, processor time of all processes that took part, the peak memory of each, and the
//! bytes that crossed the loopback interface. The report compares the costs.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the memory of the processes is read. The kernel keeps the peak, so little is missed in between.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The cost of sending one tree, or several one after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cost {
    /// From the start of the program to its end.
    pub(crate) wall: Duration,
    /// From the start of the program until its result is on the disk.
    pub(crate) synced: Duration,
    /// Processor time in user and kernel mode.
    pub(crate) cpu: Duration,
    /// Processor time by role, of processes that outlive the sending of a tree.
    pub(crate) cpu_by_role: BTreeMap<&'static str, Duration>,
    /// Peak of the resident memory, by role; the largest if several processes have one role.
    pub(crate) peaks: BTreeMap<&'static str, u64>,
    /// Bytes on the loopback interface, including headers.
    pub(crate) wire: u64,
    /// The program's own count of moved bytes.
    pub(crate) counted: Option<u64>,
    /// Size of the result on the disk, in bytes.
    pub(crate) stored: u64,
}

impl Cost {
    /// Adds a later cost: times and traffic are added, the larger memory counts, and the last stored size.
    pub(crate) fn add(&mut self, next: &Self) {
        self.wall += next.wall;
        self.synced += next.synced;
        self.cpu += next.cpu;
        self.wire += next.wire;
        self.stored = next.stored;
        if let Some(counted) = next.counted {
            *self.counted.get_or_insert_default() += counted;
        }
        for (role, cpu) in &next.cpu_by_role {
            *self.cpu_by_role.entry(role).or_default() += *cpu;
        }
        for (role, peak) in &next.peaks {
            let known = self.peaks.entry(role).or_default();
            *known = (*known).max(*peak);
        }
    }

    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peaks.values().copied().max().unwrap_or_default()
    }
}

/// Measures from its creation on.
#[derive(Debug)]
pub(crate) struct Meter {
    started: Instant,
    cpu_before: Duration,
    wire_before: u64,
    peaks: BTreeMap<u32, (&'static str, u64)>,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self {
            cpu_before: children_cpu(),
            wire_before: loopback_bytes(),
            peaks: BTreeMap::new(),
            started: now(),
        }
    }

    /// Waits for programs, and meanwhile records the memory of them, of `others`, and of all their children.
    pub(crate) fn follow(
        &mut self,
        children: &mut [(&'static str, Child)],
        others: &[(&'static str, u32)],
    ) -> std::io::Result<()> {
        let watched: Vec<(&'static str, u32)> =
            children.iter().map(|(role, child)| (*role, child.id())).chain(others.iter().copied()).collect();
        let has_ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut peaks = BTreeMap::new();
                while !has_ended.load(Ordering::Relaxed) {
                    watched.iter().for_each(|&(role, process)| look(&mut peaks, role, process));
                    std::thread::park_timeout(LOOK_INTERVAL);
                }
                peaks
            });
            let ended = children.iter_mut().try_for_each(|(_, child)| child.wait().map(|_| ()));
            has_ended.store(true, Ordering::Relaxed);
            watcher.thread().unpark();
            self.peaks.append(&mut watcher.join().unwrap_or_default());
            ended
        })
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The cost, with the current size of `result` on the disk.
    pub(crate) fn finish(self, wall: Duration, synced: Duration, result: &Path) -> Cost {
        let mut cost = Cost {
            wall,
            synced,
            cpu: children_cpu().saturating_sub(self.cpu_before),
            wire: loopback_bytes().saturating_sub(self.wire_before),
            stored: disk_bytes(result),
            ..Cost::default()
        };
        for (role, peak) in self.peaks.into_values() {
            let known = cost.peaks.entry(role).or_default();
            *known = peak.max(*known);
        }
        cost
    }
}

fn look(peaks: &mut BTreeMap<u32, (&'static str, u64)>, role: &'static str, process: u32) {
    if let Some(peak) = peak_bytes(process) {
        let (_, known) = peaks.entry(process).or_insert((role, 0));
        *known = peak.max(*known);
    }
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    for child in children.unwrap_or_default().split_whitespace().filter_map(|text| text.parse().ok()) {
        look(peaks, role, child);
    }
}

/// The clock. Measuring time is what this program is for.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Writes everything to the disk of `path`.
pub(crate) fn sync(path: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(std::fs::File::open(path)?)?)
}

/// The size of a tree on the disk. What cannot be read is ignored: a program may be cleaning up.
pub(crate) fn disk_bytes(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    let below = match std::fs::read_dir(path) {
        Ok(entries) if metadata.is_dir() => entries.flatten().map(|entry| disk_bytes(&entry.path())).sum(),
        Ok(_) | Err(_) => 0,
    };
    below + metadata.blocks() * 512
}

/// Processor time of all children of this process that were waited for, and of their children.
fn children_cpu() -> Duration {
    ticks("/proc/self/stat", 13, 2)
}

/// Processor time of a running process.
pub(crate) fn process_cpu(process: u32) -> Duration {
    ticks(&format!("/proc/{process}/stat"), 11, 2)
}

fn ticks(path: &str, first: usize, count: usize) -> Duration {
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    // The fields are counted after the name, which may contain anything but ends with the last parenthesis.
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
    let texts = fields.split(' ').skip(first).take(count);
    let ticks: u64 = texts.filter_map(|text| text.parse::<u64>().ok()).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Peak of the resident memory of a process.
pub(crate) fn peak_bytes(process: u32) -> Option<u64> {
    status_bytes(process, "VmHWM:")
}

/// Resident memory of a process now.
pub(crate) fn resident_bytes(process: u32) -> Option<u64> {
    status_bytes(process, "VmRSS:")
}

/// Resets the peak of a process, so that it is that of what comes next.
pub(crate) fn forget_peak(process: u32) -> std::io::Result<()> {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5")
}

fn status_bytes(process: u32, key: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1024)
}

/// The bytes of the loopback interface: only our own traffic if this program has its own network.
fn loopback_bytes() -> u64 {
    let interfaces = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let counters = interfaces.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    counters.and_then(|counters| counters.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_add_up() {
        let one = Cost {
            wall: Duration::from_secs(1),
            peaks: BTreeMap::from([("copy", 5)]),
            wire: 10,
            counted: Some(7),
            stored: 100,
            ..Cost::default()
        };
        let two = Cost { peaks: BTreeMap::from([("copy", 3), ("other", 4)]), stored: 90, ..one.clone() };
        let mut sum = Cost::default();
        sum.add(&one);
        sum.add(&two);
        assert_eq!((sum.wall.as_secs(), sum.wire, sum.counted, sum.stored), (2, 20, Some(14), 90));
        assert_eq!((sum.peaks["copy"], sum.peaks["other"], sum.peak_bytes()), (5, 4, 5));
    }

    #[test]
    fn the_kernel_returns_the_measured_values() {
        let own = std::process::id();
        assert!(peak_bytes(own) >= resident_bytes(own) && resident_bytes(own) > Some(0));
        let mut meter = Meter::start();
        let child = std::process::Command::new("sleep").arg("0.05").spawn().unwrap();
        meter.follow(&mut [("sleep", child)], &[]).unwrap();
        assert!(meter.elapsed() >= Duration::from_millis(50));
        assert!(meter.peaks.values().any(|&(role, peak)| role == "sleep" && peak > 0));
    }
}
