//! The medians side by side, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::data_set::{DataSet, Size};
use crate::measure::Cost;
use crate::peers::{ORBIT, RSYNC};

/// The costs of all copies, by set and program.
#[derive(Debug, Default)]
pub(crate) struct Report {
    sets: Vec<SetReport>,
}

#[derive(Debug)]
struct SetReport {
    set: DataSet,
    size: Size,
    costs: Vec<(&'static str, Cost)>,
}

/// Medians, each taken by itself.
struct Medians {
    wall: f64,
    synced: f64,
    cpu: f64,
    peak_bytes: f64,
}

impl Report {
    pub(crate) fn begin(&mut self, set: DataSet, size: Size) {
        self.sets.push(SetReport { set, size, costs: Vec::new() });
    }

    pub(crate) fn add(&mut self, name: &'static str, cost: Cost) {
        let current = self.sets.last_mut().expect("a cost belongs to a set that was begun");
        current.costs.push((name, cost));
    }

    pub(crate) fn to_table(&self) -> String {
        let mut table = String::from(
            "set  program      runs   wall s  on disk s    CPU s     MB/s   files/s  peak MiB  spread s\n",
        );
        for one in &self.sets {
            for name in [RSYNC, ORBIT] {
                let (medians, walls) = (one.medians(name), one.walls(name));
                let (low, high) = (walls.first().copied(), walls.last().copied());
                // Writing to a String cannot fail.
                let _ = writeln!(
                    table,
                    "{:<4} {name:<11} {:>5} {:>8.2} {:>10.2} {:>8.2} {:>8.0} {:>9.0} {:>9.0}  {:.2}-{:.2}",
                    format!("{:?}", one.set),
                    walls.len(),
                    medians.wall,
                    medians.synced,
                    medians.cpu,
                    one.size.bytes as f64 / 1e6 / medians.wall,
                    one.size.files as f64 / medians.wall,
                    medians.peak_bytes / 1_048_576.0,
                    low.unwrap_or_default(),
                    high.unwrap_or_default(),
                );
            }
            let (rsync, orbit) = (one.medians(RSYNC), one.medians(ORBIT));
            let _ = writeln!(
                table,
                "{:<4} orbit/rsync        {:>8.2} {:>10.2} {:>8.2}   (times; below 1 Orbit Grid is faster)",
                format!("{:?}", one.set),
                orbit.wall / rsync.wall,
                orbit.synced / rsync.synced,
                orbit.cpu / rsync.cpu,
            );
        }
        table
    }

    pub(crate) fn to_json(&self) -> String {
        let sets: Vec<Value> = self.sets.iter().map(SetReport::to_json).collect();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!("{:#}\n", json!({ "cores": cores, "sets": sets }))
    }
}

impl SetReport {
    fn values(&self, name: &str, value: impl Fn(&Cost) -> f64) -> Vec<f64> {
        let own = self.costs.iter().filter(|(candidate, _)| *candidate == name);
        let mut values: Vec<f64> = own.map(|(_, cost)| value(cost)).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    fn walls(&self, name: &str) -> Vec<f64> {
        self.values(name, |cost| cost.wall.as_secs_f64())
    }

    fn medians(&self, name: &str) -> Medians {
        let of = |value: fn(&Cost) -> f64| median(&self.values(name, value));
        let seconds = |duration: Duration| duration.as_secs_f64();
        Medians {
            wall: median(&self.values(name, |cost| seconds(cost.wall))),
            synced: median(&self.values(name, |cost| seconds(cost.synced))),
            cpu: median(&self.values(name, |cost| seconds(cost.cpu))),
            peak_bytes: of(|cost| cost.peak_bytes as f64),
        }
    }

    fn to_json(&self) -> Value {
        let of = |name: &str| {
            let medians = self.medians(name);
            json!({
                "wall_s": medians.wall,
                "on_disk_s": medians.synced,
                "cpu_s": medians.cpu,
                "peak_bytes": medians.peak_bytes,
                "all_wall_s": self.walls(name),
            })
        };
        let (rsync, orbit) = (self.medians(RSYNC), self.medians(ORBIT));
        json!({
            "set": format!("{:?}", self.set),
            "files": self.size.files,
            "bytes": self.size.bytes,
            "rsync": of(RSYNC),
            "orbit": of(ORBIT),
            "wall_ratio": orbit.wall / rsync.wall,
            "on_disk_ratio": orbit.synced / rsync.synced,
            "cpu_ratio": orbit.cpu / rsync.cpu,
        })
    }
}

/// The middle of sorted values; the mean of the two in the middle when there is an even number of them.
fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
