//! The cost of one item when there are more of them, which should stay the same.

use std::time::Duration;

use orbit_benches::core_alone;

use crate::{Cost, whole};

/// Work with up to this many items is too short for a single measurement.
const SHORT_ITEMS: u64 = 100_000;
/// Number of measurements of short work, of which the median counts. Must be odd.
const RUNS: usize = 5;

/// The measurements for one number of items.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) items: u64,
    /// Wall time of the core alone.
    pub(crate) core: Duration,
    /// Wall time through gRPC, durable.
    pub(crate) whole: Duration,
    /// Processor time and memory of the coordinator during that.
    pub(crate) cost: Cost,
}

impl Point {
    /// The share of one item in a time for all, in microseconds.
    pub(crate) fn microseconds(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.items as f64
    }
}

/// Measures each number of items.
pub(crate) async fn measure(stars: u64, items: &[u64]) -> Vec<Point> {
    let mut points = Vec::new();
    for &items in items {
        let runs = if items <= SHORT_ITEMS { RUNS } else { 1 };
        let mut cores: Vec<_> = (0..runs).map(|_| core_alone::measure(items)).collect();
        cores.sort_unstable();
        let mut wholes = Vec::new();
        for _ in 0..runs {
            wholes.push(whole::measure(stars, items).await);
        }
        wholes.sort_unstable_by_key(|(wall, _)| *wall);
        let (whole, cost) = wholes[runs / 2];
        points.push(Point { items, core: cores[runs / 2], whole, cost });
    }
    points
}

/// The points as a table.
pub(crate) fn table(points: &[Point]) -> String {
    let mut table =
        "| Items | Core alone, µs an item | x first | Through gRPC, durable, µs an item | x first \
        | Coordinator CPU, µs an item | x first | its peak memory |\n|---|---|---|---|---|---|---|---|"
            .to_owned();
    for point in points {
        let times =
            [|point: &Point| point.core, |point: &Point| point.whole, |point: &Point| point.cost.processor];
        table += &format!("\n| {} |", point.items);
        for time in times {
            let cost = point.microseconds(time(point));
            table += &format!(" {cost:.2} | {:.2} |", ratio(points, point, time));
        }
        table += &format!(" {} MiB |", point.cost.peak_mebibytes);
    }
    table
}

/// The cost of an item at a point, relative to the first point.
pub(crate) fn ratio(points: &[Point], point: &Point, time: fn(&Point) -> Duration) -> f64 {
    let first = points.first().unwrap_or(point);
    point.microseconds(time(point)) / first.microseconds(time(first))
}

/// Two points with different costs of an item.
#[cfg(test)]
pub(crate) fn points() -> Vec<Point> {
    let point = |items, milliseconds, peak_mebibytes| Point {
        items,
        core: Duration::from_millis(milliseconds),
        whole: Duration::from_millis(10 * milliseconds),
        cost: Cost { processor: Duration::from_millis(5 * milliseconds), peak_mebibytes },
    };
    vec![point(10_000, 10, 20), point(100_000, 150, 30)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cost_is_shown_relative_to_the_first_point() {
        let table = table(&points());
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| 10000 | 1.00 | 1.00 | 10.00 | 1.00 | 5.00 | 1.00 | 20 MiB |",
                "| 100000 | 1.50 | 1.50 | 15.00 | 1.50 | 7.50 | 1.50 | 30 MiB |",
            ]
        );
    }
}
