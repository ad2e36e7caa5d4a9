//! What a copy costs: time, processor time of all processes it ran, and the peak memory of each.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How often the memory of the processes is read. The kernel keeps the peak, so little is missed between.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The cost of one copy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// From the start of the program to its end.
    pub(crate) wall: Duration,
    /// From the start of the program until its result is on the disk.
    pub(crate) synced: Duration,
    /// Processor time in user and kernel mode.
    pub(crate) cpu: Duration,
    /// Peak of the resident memory of the process that used most.
    pub(crate) peak_bytes: u64,
}

/// Measures from its creation.
#[derive(Debug)]
pub(crate) struct Meter {
    started: Instant,
    cpu_before: Duration,
    peaks: BTreeMap<u32, u64>,
}

impl Meter {
    #[expect(clippy::disallowed_methods, reason = "measuring time is what this program is for")]
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), cpu_before: children_cpu(), peaks: BTreeMap::new() }
    }

    /// Waits for a program, and meanwhile follows the memory of it, of `others`, and of all their children.
    #[expect(clippy::disallowed_methods, reason = "memory has no event to wait for")]
    pub(crate) fn follow(&mut self, child: &mut Child, others: &[u32]) -> std::io::Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            for &root in others.iter().chain([&child.id()]) {
                self.look(root);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    fn look(&mut self, process: u32) {
        if let Some(peak) = peak_bytes(process) {
            let known = self.peaks.entry(process).or_default();
            *known = peak.max(*known);
        }
        let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        for child in children.unwrap_or_default().split_whitespace().filter_map(|text| text.parse().ok()) {
            self.look(child);
        }
    }

    /// The time so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The cost, when every process has been waited for.
    pub(crate) fn finish(self, wall: Duration, synced: Duration) -> Cost {
        let cpu = children_cpu().saturating_sub(self.cpu_before);
        Cost { wall, synced, cpu, peak_bytes: self.peaks.values().copied().max().unwrap_or_default() }
    }
}

/// Writes everything to the disk that `path` lies on.
pub(crate) fn sync(path: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(std::fs::File::open(path)?)?)
}

/// Processor time of all children of this process that have ended and were waited for, and of theirs.
fn children_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields are counted after the name, which may contain anything but ends with the last parenthesis.
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
    let ticks: u64 = fields.split(' ').skip(13).take(2).filter_map(|text| text.parse::<u64>().ok()).sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn peak_bytes(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1024)
}
