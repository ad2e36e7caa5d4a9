//! All costs of a comparison, their medians, and the table and the JSON made of them. The targets decide whether a
//! number is good enough.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::data_set::Size;
use crate::measure::Cost;
use crate::peers::Peer;
use crate::service::Service;
use crate::targets;

const MEGABYTE: f64 = 1e6;
const MEBIBYTE: f64 = 1_048_576.0;

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) cases: Vec<Case>,
    pub(crate) service: Option<Service>,
    /// Whether the loopback interface carried only measured traffic.
    pub(crate) is_network_own: bool,
}

/// One way to send one data set.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    size: Size,
    costs: Vec<(&'static str, Cost)>,
}

/// The runs of one program in one case.
#[derive(Debug)]
pub(crate) struct Runs<'a>(Vec<&'a Cost>);

impl Report {
    pub(crate) fn add(&mut self, case: &str, size: Size, program: &'static str, cost: Cost) {
        let known = self.cases.iter_mut().find(|candidate| candidate.name == case);
        match known {
            Some(known) => known.costs.push((program, cost)),
            None => {
                let costs = vec![(program, cost)];
                self.cases.push(Case { name: case.to_owned(), size, costs });
            }
        }
    }

    /// The runs of a program, if there were any.
    pub(crate) fn runs(&self, case: &str, program: &str) -> Option<Runs<'_>> {
        self.cases.iter().find(|candidate| candidate.name == case)?.runs(program)
    }

    pub(crate) fn to_table(&self, has_targets: bool) -> String {
        let mut table = String::from(
            "case     program                 runs   wall s  on disk s   CPU s    MB/s  files/s  peak MiB  wire MB  \
             stored MB  x ours  spread s\n",
        );
        for case in &self.cases {
            for program in case.programs() {
                case.write_row(&mut table, program);
            }
        }
        table.push_str("x ours: wall time, in times that of orbit copy\n");
        if !self.is_network_own {
            table.push_str(
                "The loopback interface is the machine's; its bytes may include traffic of others.\n",
            );
        }
        self.write_processes(&mut table);
        self.write_service(&mut table);
        if has_targets {
            table.push_str(&targets::to_table(&targets::judge(self)));
        }
        table
    }

    /// Memory and processor time of each process of the grid.
    fn write_processes(&self, table: &mut String) {
        let mut lines = String::new();
        for case in &self.cases {
            let Some(runs) = case.runs(Peer::Grid.name()) else { continue };
            for role in runs.roles() {
                let cpu =
                    runs.median(|cost| seconds(cost.cpu_by_role.get(role).copied().unwrap_or_default()));
                let peak = runs.peak(role) / MEBIBYTE;
                // Writing to a String cannot fail.
                let _ = writeln!(lines, "{:<8} {role:<12} {cpu:>7.2} {peak:>9.1}", case.name);
            }
        }
        if !lines.is_empty() {
            let _ =
                write!(table, "\norbit grid, by process\ncase     process        CPU s  peak MiB\n{lines}");
        }
    }

    fn write_service(&self, table: &mut String) {
        if let Some(service) = &self.service {
            let idle = service.idle_star_bytes as f64 / MEBIBYTE;
            let first = service.first_byte_seconds() * 1e3;
            let _ = writeln!(
                table,
                "\na Star without work: {idle:.1} MiB; a small job's first byte: {first:.1} ms"
            );
        }
    }

    pub(crate) fn to_json(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let service = self.service.as_ref().map(|service| {
            let first: Vec<f64> = service.first_bytes.iter().copied().map(seconds).collect();
            json!({ "idle_star_bytes": service.idle_star_bytes, "first_byte_s": first })
        });
        let cases: Vec<Value> = self.cases.iter().map(Case::to_json).collect();
        let targets: Vec<Value> = targets::judge(self).iter().map(targets::Verdict::to_json).collect();
        let whole = json!({
            "cores": cores,
            "network_is_own": self.is_network_own,
            "cases": cases,
            "service": service,
            "targets": targets,
        });
        format!("{whole:#}\n")
    }
}

impl Case {
    /// The programs in the order in which they were first run; limits last.
    pub(crate) fn programs(&self) -> Vec<&'static str> {
        let mut programs = Vec::new();
        for (program, _) in &self.costs {
            if !programs.contains(program) {
                programs.push(*program);
            }
        }
        programs.sort_by_key(|program| (program.starts_with('('), !program.starts_with("orbit")));
        programs
    }

    pub(crate) fn runs(&self, program: &str) -> Option<Runs<'_>> {
        let own = self.costs.iter().filter(|(candidate, _)| *candidate == program);
        let costs: Vec<&Cost> = own.map(|(_, cost)| cost).collect();
        (!costs.is_empty()).then_some(Runs(costs))
    }

    fn write_row(&self, table: &mut String, program: &str) {
        let Some(runs) = self.runs(program) else { return };
        let wall = runs.wall();
        let walls = runs.sorted(|cost| seconds(cost.wall));
        let (low, high) = (walls.first().copied(), walls.last().copied());
        let ours = self
            .runs(Peer::Orbit.name())
            .map_or_else(String::new, |ours| format!("{:.2}", wall / ours.wall()));
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{:<8} {program:<22} {:>5} {wall:>8.2} {:>10.2} {:>7.2} {:>7.0} {:>8.0} {:>9.0} {:>8.1} {:>10.1} {ours:>7}  \
             {:.2}-{:.2}",
            self.name,
            walls.len(),
            runs.synced(),
            runs.cpu(),
            self.size.bytes as f64 / MEGABYTE / wall,
            self.size.files as f64 / wall,
            runs.median(|cost| cost.peak_bytes() as f64) / MEBIBYTE,
            runs.wire() / MEGABYTE,
            runs.median(|cost| cost.stored as f64) / MEGABYTE,
            low.unwrap_or_default(),
            high.unwrap_or_default(),
        );
    }

    fn to_json(&self) -> Value {
        let programs: BTreeMap<&str, Value> = self.programs().into_iter().filter_map(|program| {
            let runs = self.runs(program)?;
            let all: Vec<Value> = runs.0.iter().map(|cost| cost_to_json(cost)).collect();
            let counted = runs.0.iter().all(|cost| cost.counted.is_some());
            let median = json!({
                "wall_s": runs.wall(),
                "on_disk_s": runs.synced(),
                "cpu_s": runs.cpu(),
                "peak_bytes": runs.median(|cost| cost.peak_bytes() as f64),
                "wire_bytes": runs.wire(),
                "counted_bytes": counted.then(|| runs.median(|cost| cost.counted.unwrap_or_default() as f64)),
                "stored_bytes": runs.median(|cost| cost.stored as f64),
            });
            Some((program, json!({ "runs": all, "median": median })))
        }).collect();
        json!({ "case": self.name, "files": self.size.files, "bytes": self.size.bytes, "programs": programs })
    }

    pub(crate) fn gigabytes(&self) -> f64 {
        self.size.bytes as f64 / 1e9
    }
}

impl Runs<'_> {
    fn sorted(&self, value: impl Fn(&Cost) -> f64) -> Vec<f64> {
        let mut values: Vec<f64> = self.0.iter().map(|cost| value(cost)).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The median of each value separately.
    pub(crate) fn median(&self, value: impl Fn(&Cost) -> f64) -> f64 {
        median(&self.sorted(value))
    }

    pub(crate) fn wall(&self) -> f64 {
        self.median(|cost| seconds(cost.wall))
    }

    pub(crate) fn synced(&self) -> f64 {
        self.median(|cost| seconds(cost.synced))
    }

    pub(crate) fn cpu(&self) -> f64 {
        self.median(|cost| seconds(cost.cpu))
    }

    pub(crate) fn wire(&self) -> f64 {
        self.median(|cost| cost.wire as f64)
    }

    pub(crate) fn peak(&self, role: &str) -> f64 {
        self.median(|cost| cost.peaks.get(role).copied().unwrap_or_default() as f64)
    }

    fn roles(&self) -> Vec<&'static str> {
        self.0.first().map(|cost| cost.peaks.keys().copied().collect()).unwrap_or_default()
    }
}

impl Service {
    pub(crate) fn first_byte_seconds(&self) -> f64 {
        median(&self.first_bytes.iter().copied().map(seconds).collect::<Vec<f64>>())
    }
}

fn cost_to_json(cost: &Cost) -> Value {
    let cpu: BTreeMap<&str, f64> =
        cost.cpu_by_role.iter().map(|(role, cpu)| (*role, seconds(*cpu))).collect();
    json!({
        "wall_s": seconds(cost.wall),
        "on_disk_s": seconds(cost.synced),
        "cpu_s": seconds(cost.cpu),
        "cpu_s_by_process": cpu,
        "peak_bytes_by_process": cost.peaks,
        "wire_bytes": cost.wire,
        "counted_bytes": cost.counted,
        "stored_bytes": cost.stored,
    })
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// The median of sorted values: the middle one, or the mean of the two in the middle.
pub(crate) fn median(sorted: &[f64]) -> f64 {
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

    #[test]
    fn every_program_has_its_row_and_its_ratio() {
        let mut report = Report::default();
        let size = Size { files: 1, bytes: 1_000_000 };
        let cost = |seconds| Cost { wall: Duration::from_secs(seconds), ..Cost::default() };
        for run in [2, 4, 6] {
            report.add("L", size, "cp -a", cost(2 * run));
            report.add("L", size, Peer::Orbit.name(), cost(run));
        }
        let table = report.to_table(false);
        let row = table.lines().find(|line| line.contains("cp -a")).unwrap();
        assert!(row.contains(" 8.00 ") && row.contains(" 2.00 ") && row.contains("4.00-12.00"), "{row}");
        let json: Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["cases"][0]["programs"]["cp -a"]["median"]["wall_s"], 8.0);
        assert_eq!(json["cases"][0]["programs"]["cp -a"]["runs"].as_array().unwrap().len(), 3);
    }
}
