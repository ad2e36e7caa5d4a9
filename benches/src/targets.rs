//! The targets of Orbit Grid, and whether a comparison meets them. `orbit copy` and a grid of processes are judged
//! separately. A target whose values were not measured is left out, not met.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::limits;
use crate::peers::{COORDINATOR, DESTINATION, Peer, SOURCE};
use crate::report::{Report, Runs};

const MEBIBYTE: f64 = 1_048_576.0;

/// One target and the measured value.
#[derive(Debug)]
pub(crate) struct Verdict {
    name: &'static str,
    program: &'static str,
    measured: f64,
    at_most: f64,
}

/// A value of ours as a multiple of another program's value in the same case.
struct Multiple {
    name: &'static str,
    case: &'static str,
    figure: fn(&Runs<'_>) -> f64,
    other: &'static str,
    other_figure: fn(&Runs<'_>) -> f64,
    at_most: f64,
}

fn multiples() -> [Multiple; 7] {
    let (rsync, cp) = (Peer::Rsync.name(), Peer::Cp.name());
    let wall = |name, case, other, at_most| Multiple {
        name,
        case,
        figure: |runs| runs.wall(),
        other,
        other_figure: |runs| runs.wall(),
        at_most,
    };
    [
        wall("L: wall, times rsync daemon", "L", rsync, 1.0),
        wall("L: wall, times writing it + one fsync", "L", limits::WRITE, 1.3),
        wall("S: wall, times rsync daemon", "S", rsync, 0.45),
        Multiple {
            other_figure: |runs| runs.synced(),
            ..wall("S: wall, times cp -a then sync -f", "S", cp, 1.0)
        },
        wall("S again: wall, times rsync daemon", "S again", rsync, 0.5),
        Multiple {
            figure: |runs| runs.wire(),
            other_figure: |runs| runs.wire(),
            ..wall("D: bytes on the wire, times rsync daemon", "D", rsync, 1.0)
        },
        wall("D: wall, times rsync daemon", "D", rsync, 0.5),
    ]
}

const CPU_SECONDS_PER_GIGABYTE: f64 = 1.8;
const STAR_MEBIBYTES: f64 = 96.0;
const COORDINATOR_MEBIBYTES: f64 = 64.0;
const IDLE_STAR_MEBIBYTES: f64 = 20.0;
const FIRST_BYTE_MILLISECONDS: f64 = 50.0;

/// Every target for which the report has the values.
pub(crate) fn judge(report: &Report) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for one in multiples() {
        let Some(other) = report.runs(one.case, one.other) else { continue };
        for peer in [Peer::Orbit, Peer::Grid] {
            let Some(ours) = report.runs(one.case, peer.name()) else { continue };
            verdicts.push(Verdict {
                name: one.name,
                program: peer.name(),
                measured: (one.figure)(&ours) / (one.other_figure)(&other),
                at_most: one.at_most,
            });
        }
    }
    for peer in [Peer::Orbit, Peer::Grid] {
        let large = report.cases.iter().find(|case| case.name == "L");
        if let Some((case, runs)) = large.and_then(|case| Some((case, case.runs(peer.name())?))) {
            verdicts.push(Verdict {
                name: "L: CPU seconds per GB",
                program: peer.name(),
                measured: runs.cpu() / case.gigabytes(),
                at_most: CPU_SECONDS_PER_GIGABYTE,
            });
        }
    }
    judge_grid(report, &mut verdicts);
    verdicts
}

/// The targets that only a grid of processes can show.
fn judge_grid(report: &Report, verdicts: &mut Vec<Verdict>) {
    let mut add = |name, measured, at_most| {
        verdicts.push(Verdict { name, program: Peer::Grid.name(), measured, at_most });
    };
    let peak = |roles: &[&str]| {
        let runs = report.cases.iter().filter_map(|case| case.runs(Peer::Grid.name()));
        runs.flat_map(|runs| roles.iter().map(move |role| runs.peak(role) / MEBIBYTE)).reduce(f64::max)
    };
    if let Some(peak) = peak(&[SOURCE, DESTINATION]) {
        add("peak memory of a Star, MiB", peak, STAR_MEBIBYTES);
    }
    if let Some(peak) = peak(&[COORDINATOR]) {
        add("peak memory of the coordinator, MiB", peak, COORDINATOR_MEBIBYTES);
    }
    if let Some(service) = &report.service {
        add(
            "memory of a Star without work, MiB",
            service.idle_star_bytes as f64 / MEBIBYTE,
            IDLE_STAR_MEBIBYTES,
        );
        add(
            "small job, request to first byte, ms",
            service.first_byte_seconds() * 1e3,
            FIRST_BYTE_MILLISECONDS,
        );
    }
}

impl Verdict {
    fn is_met(&self) -> bool {
        self.measured <= self.at_most
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "target": self.name,
            "program": self.program,
            "measured": self.measured,
            "at_most": self.at_most,
            "is_met": self.is_met(),
        })
    }
}

/// The targets as a table.
pub(crate) fn to_table(verdicts: &[Verdict]) -> String {
    let mut table =
        String::from("\ntarget                                     program       at most  measured\n");
    for verdict in verdicts {
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{:<42} {:<12} {:>8.2} {:>9.2}  {}",
            verdict.name,
            verdict.program,
            verdict.at_most,
            verdict.measured,
            if verdict.is_met() { "met" } else { "missed" }
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::data_set::Size;
    use crate::measure::Cost;

    #[test]
    fn a_target_is_met_or_missed_or_left_out_if_not_measured() {
        let mut report = Report::default();
        let size = Size { files: 1, bytes: 1_000_000_000 };
        let cost =
            |wall| Cost { wall: Duration::from_secs(wall), cpu: Duration::from_secs(1), ..Cost::default() };
        report.add("L", size, Peer::Rsync.name(), cost(2));
        report.add("L", size, Peer::Orbit.name(), cost(2));
        report.add("L", size, limits::WRITE, cost(1));
        let verdicts = judge(&report);
        let shown: Vec<_> = verdicts.iter().map(|verdict| (verdict.measured, verdict.is_met())).collect();
        assert_eq!(shown, [(1.0, true), (2.0, false), (1.0, true)]);
        let table = to_table(&verdicts);
        assert!(table.contains("missed") && !table.contains("S again"), "{table}");
    }
}
