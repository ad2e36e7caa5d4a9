//! The order of a comparison: which program sends which tree when. Programs take turns, each copy is verified before
//! its cost counts, and sources are read once before the first copy. If there is a fresh disk, every copy gets a new
//! file system. Otherwise copies are removed only at the end of a round, and the file system is then left alone for a
//! while: ext4 avoids inodes that were deleted recently, and skipping tens of thousands of them makes every new file
//! several times as expensive for the next program.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::data_set::{DataSet, Recipe, Trees, read_through};
use crate::fresh_disk::FreshDisk;
use crate::limits;
use crate::measure::{Cost, now};
use crate::peers::{Peer, check};
use crate::programs::Programs;
use crate::report::Report;
use crate::service;

/// What is compared.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sets: Vec<DataSet>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) runs: u32,
    pub(crate) recipe: Recipe,
    pub(crate) has_limits: bool,
    /// How long the file system is left alone after many files were removed.
    pub(crate) rest: Duration,
    /// Size of the disk that is made for every copy, in GiB; `None` if copies are kept side by side.
    pub(crate) disk_gibibytes: Option<u64>,
}

/// Runs everything, with all data below `directory`.
pub(crate) fn run(plan: &Plan, programs: &Programs, directory: &Path) -> Result<Report, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    let mut report = Report::default();
    let disk = plan.disk_gibibytes.map(|size| FreshDisk::create(directory, size)).transpose()?;
    let mut copies = Copies::new(directory, disk);
    for &set in &plan.sets {
        progress(&format!("{set:?}: the data set is made and read"));
        let source = directory.join(format!("{set:?}"));
        let trees = set.provide(&source, &plan.recipe)?;
        for tree in &trees.versions {
            read_through(tree).map_err(failed)?;
        }
        for round in 0..plan.runs {
            for &peer in &in_turn(&plan.peers, round) {
                progress(&format!("{set:?}, run {} of {}: {}", round + 1, plan.runs, peer.name()));
                run_peer(peer, set, &trees, programs, &copies.next()?, &mut report)?;
            }
            if plan.has_limits {
                for (name, cost) in limits::measure(set, trees.size, &source, &copies.next()?)? {
                    report.add(&format!("{set:?}"), trees.size, name, cost);
                }
            }
            if copies.clear() {
                rest(plan.rest);
            }
        }
        if source.exists() {
            std::fs::remove_dir_all(&source).map_err(failed)?;
        }
    }
    if plan.peers.contains(&Peer::Grid) {
        progress("a grid without work, and small jobs");
        report.service = Some(service::measure(programs, &copies.next()?)?);
    }
    Ok(report)
}

/// The places of copies.
struct Copies {
    top: PathBuf,
    count: u32,
    disk: Option<FreshDisk>,
}

impl Copies {
    fn new(directory: &Path, disk: Option<FreshDisk>) -> Self {
        Self { top: directory.join("copies"), count: 0, disk }
    }

    /// A new directory; on a fresh disk, the only one.
    fn next(&mut self) -> Result<PathBuf, String> {
        self.count += 1;
        let top = match &mut self.disk {
            Some(disk) => disk.renew()?,
            None => &self.top,
        };
        let path = top.join(self.count.to_string());
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// Removes copies that are kept side by side, at the end of a round. Returns whether there were any.
    fn clear(&mut self) -> bool {
        // What cannot be removed now is removed with the directory of the whole comparison.
        self.disk.is_none() && std::fs::remove_dir_all(&self.top).is_ok()
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.clear();
    }
}

#[expect(clippy::disallowed_methods, reason = "a file system does not say when it has forgotten")]
fn rest(time: Duration) {
    if !time.is_zero() {
        progress(&format!("the file system rests for {} s", time.as_secs()));
        std::thread::sleep(time);
    }
}

/// A program that runs later finds a warmer machine, so every program has every position once.
fn in_turn(peers: &[Peer], round: u32) -> Vec<Peer> {
    let mut order = peers.to_vec();
    if !order.is_empty() {
        let first = round as usize % order.len();
        order.rotate_left(first);
    }
    order
}

fn run_peer(
    peer: Peer,
    set: DataSet,
    trees: &Trees,
    programs: &Programs,
    directory: &Path,
    report: &mut Report,
) -> Result<(), String> {
    let case = format!("{set:?}");
    let (Some(first), Some(last)) = (trees.versions.first(), trees.versions.last()) else {
        return Err(format!("data set {case} is empty"));
    };
    let root = first.parent().unwrap_or(first);
    let mut session = peer.begin(programs, root, directory)?;
    let mut cost = session.send(first)?;
    let restored = session.restore()?;
    check(peer.name(), session.as_ref(), first)?;
    if first != last {
        // Only the later versions are measured; the first one is the basis.
        cost = Cost::default();
        for version in &trees.versions[1..] {
            cost.add(&session.send(version)?);
            // A whole version would have to be restored from a repository each time.
            if !session.is_repository() || version == last {
                session.restore()?;
                check(peer.name(), session.as_ref(), version)?;
            }
        }
    }
    report.add(&case, trees.size, peer.name(), cost);
    if let Some(restored) = restored.filter(|_| first == last) {
        report.add(&case, trees.size, peer.restore_name(), restored);
    }
    if matches!(set, DataSet::S | DataSet::S1M) {
        let again = session.send(first)?;
        session.restore()?;
        check(peer.name(), session.as_ref(), first)?;
        report.add(&format!("{case} again"), trees.size, peer.name(), again);
    }
    session.end();
    Ok(())
}

/// Progress is printed to standard error, so that standard output has the result only.
pub(crate) fn progress(text: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    let seconds = START.get_or_init(now).elapsed().as_secs();
    let _ = writeln!(std::io::stderr(), "{seconds:>5} s  {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_first_once() {
        let peers = [Peer::Orbit, Peer::Rsync, Peer::Cp];
        let firsts: Vec<Peer> = (0..3).map(|round| in_turn(&peers, round)[0]).collect();
        assert_eq!(firsts, peers);
    }

    #[test]
    fn a_tiny_comparison_measures_everything_for_every_program() {
        let directory = tempfile::tempdir().unwrap();
        let peers = vec![Peer::Orbit, Peer::Grid, Peer::Rsync, Peer::Cp, Peer::Tar];
        let tree = directory.path().join("real");
        orbit_tests::tree::plant_files(&tree, 5, 1000, 1);
        let plan = Plan {
            sets: vec![DataSet::S, DataSet::L, DataSet::D, DataSet::M],
            peers: peers.clone(),
            runs: 1,
            recipe: Recipe { scale: 0.001, keeps_times: false, tree: Some(tree) },
            has_limits: true,
            rest: Duration::ZERO,
            disk_gibibytes: None,
        };
        let programs = Programs::find(None).unwrap();
        let report = run(&plan, &programs, directory.path()).unwrap();
        let cases: Vec<&str> = report.cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(cases, ["S", "S again", "L", "D", "M"]);
        for case in &report.cases {
            for peer in &peers {
                assert!(case.runs(peer.name()).is_some(), "{} did not run {}", peer.name(), case.name);
            }
        }
        let again = report.runs("S again", Peer::Grid.name()).unwrap();
        assert_eq!(again.median(|cost| cost.counted.map_or(-1.0, |count| count as f64)), 0.0);
        let changed = report.runs("D", Peer::Rsync.name()).unwrap();
        assert!(changed.wire() > 0.0 && changed.median(|cost| cost.stored as f64) > 0.0);
        let table = report.to_table(true);
        assert!(
            table.contains("orbit grid, by process") && table.contains("L: CPU seconds per GB"),
            "{table}"
        );
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().collect();
        assert!(left.len() == 1 && left[0].file_name() == "real", "{left:?}");
    }
}
